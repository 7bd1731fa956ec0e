/**
 * What a batch is to others: those it waits for, those who wait for it, and where it is in the queue of its scheduler.
 */
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import type { Job } from "./scheduler.js"
import type { SchedulerError } from "./schedulerError.js"

/** The batch that the current fiber, or the fiber it was forked from, runs for. It may have ended. */
export const CurrentBatch: Context.Reference<Batch | undefined> = /*#__PURE__*/ Context.Reference<Batch | undefined>(
  "effect-funnel/Batcher/CurrentBatch",
  { defaultValue: () => undefined }
)

/** A scheduler lets a batch start, or closes, or refuses it. */
export type Answer = "start" | "close" | SchedulerError

/** See the module. */
export class Batch {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** What its own place in the queue is made in: a job of another scheduler, if a caller runs in one. */
  outer: Job | undefined = undefined
  /** Requests may be joined; false from the moment it ends or everybody left. */
  open = true
  /** It is out of the queue. */
  started = false
  /** What it asks for is settled. */
  sent = false
  callers = 0
  /** How many distinct requests somebody waits for. */
  size = 0
  /** Look-ups made by the batch itself: what it waits for. */
  readonly waits = new Set<{ readonly item: { readonly batch: Batch | undefined } | undefined }>()
  /**
   * Its places in the queue of its scheduler until it starts: one inside each running job that waits for it, and one of
   * its own if anybody else does. The first to come through takes the others out.
   */
  readonly tickets = new Map<Job | undefined, Ticket>()
  /** The one that came through. */
  job: Job | undefined = undefined
  /** What the scheduler says to it, from when it comes into the queue. */
  answer: ((answer: Answer, job: Job) => void) | undefined = undefined

  constructor(fiber: Fiber.Fiber<unknown, unknown>) {
    this.fiber = fiber
  }

  /** Whether this batch cannot end before that one. */
  waitsFor(that: Batch): boolean {
    if (this === that) return true
    const seen = new Set<Batch>([this])
    for (const batch of seen) {
      for (const { item } of batch.waits) {
        if (item?.batch === undefined) continue
        if (item.batch === that) return true
        seen.add(item.batch)
      }
    }
    return false
  }
}

interface Ticket {
  /** How many look-ups wait for the batch there. */
  count: number
  readonly job: Job
}
