/**
 * What a batch is to others: a node of the graph of waits, and where it is in the queue of its scheduler.
 */
import type * as Fiber from "effect/Fiber"
import type { Job } from "../scheduler/engine.js"
import type { Edge, Inside, Node } from "../waits/waits.js"

/** See the module. */
export class Batch implements Node {
  readonly kind = "batch"
  readonly outer = undefined
  /** Dropped when it has ended: the contexts of what it left behind still hold the batch. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** Requests may be joined; false from the moment it ends or everybody left. */
  open = true
  ended = false
  /** It is out of the queue. */
  started = false
  /** What it asks for is settled. */
  sent = false
  /** Whether more may come to travel in it while it is in the queue. */
  collects: boolean
  /** Whether it asks anew for what one that may wait for it asks for. */
  anew = false
  callers = 0
  /** How many distinct requests somebody waits for. */
  size = 0
  /** It in the queue of its scheduler. */
  job: Job | undefined = undefined
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  inside: Inside | undefined = undefined
  mark = 0

  constructor(fiber: Fiber.Fiber<unknown, unknown>, collects: boolean) {
    this.fiber = fiber
    this.collects = collects
  }
}
