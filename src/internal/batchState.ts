/**
 * Who waits for what: callers of look-ups, the distinct requests they ask for, and the batches these travel in.
 */
import * as Context from "effect/Context"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import type { Cached, Shelf } from "./batchCache.js"
import { KeyMap } from "./keyMap.js"
import type { Keyed } from "./keyMap.js"
import type { Job } from "./scheduler.js"
import type { SchedulerError } from "./schedulerError.js"

export type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>

/** The batch that the current fiber, or the fiber it was forked from, runs for. It may have ended. */
export const CurrentBatch: Context.Reference<Batch | undefined> = /*#__PURE__*/ Context.Reference<Batch | undefined>(
  "effect-funnel/Batcher/CurrentBatch",
  { defaultValue: () => undefined }
)

/** Callers that may share: all of a resolver, or those whose isolating services are equal. */
export class Group<Req extends Request.Any> implements Shelf<Request.Success<Req>, Request.Error<Req>> {
  /** Whose it is: a resolver made of two may hand the entries of one to the other. */
  readonly owner: object
  readonly key: unknown
  readonly hash: number
  chain: Group<Req> | undefined = undefined
  /** A context with the isolating services. */
  readonly context: Context.Context<never>
  joins = 0
  /** Windows that are open, batches that run. */
  open = 0
  running = 0
  inFlight = new KeyMap<Item<Req>>()
  readonly cached = new KeyMap<Cached<Request.Success<Req>, Request.Error<Req>>>()
  kept = 0
  private readonly onRest: (group: Group<Req>) => void

  constructor(
    owner: object,
    key: unknown,
    hash: number,
    context: Context.Context<never>,
    onRest: (group: Group<Req>) => void
  ) {
    this.owner = owner
    this.key = key
    this.hash = hash
    this.context = context
    this.onRest = onRest
  }

  onEmpty(): void {
    this.checkRest()
  }

  checkRest(): void {
    if (this.open === 0 && this.running === 0 && this.kept === 0) this.onRest(this)
  }
}

/** One look-up. */
export class Caller<Req extends Request.Any> {
  readonly entry: Request.Entry<Req>
  readonly group: Group<Req>
  readonly key: unknown
  readonly hash: number
  /** The batch that this look-up is made for, if it is made inside one. */
  readonly origin: Batch | undefined
  /** What it waits for; `undefined` while its batch collects. */
  item: Item<Req> | undefined = undefined
  /** Whether its batch key was asked: core asks again when the caller leaves. */
  asked = false
  left = false
  /** The look-ups that travel with it. */
  bulk: Bulk<Req> | undefined = undefined
  tally: Tally | undefined = undefined
  prev: Caller<Req> | undefined = undefined
  next: Caller<Req> | undefined = undefined

  constructor(
    entry: Request.Entry<Req>,
    group: Group<Req>,
    key: unknown,
    hash: number,
    origin: Batch | undefined
  ) {
    this.entry = entry
    this.group = group
    this.key = key
    this.hash = hash
    this.origin = origin
  }
}

/** A distinct request of a batch, with all who wait for it in order of arrival. */
export class Item<Req extends Request.Any> implements Keyed<Item<Req>> {
  readonly key: unknown
  readonly hash: number
  chain: Item<Req> | undefined = undefined
  readonly request: Req
  readonly batch: Batch
  exit: Result<Req> | undefined = undefined
  /** Until when its exit is kept, in milliseconds; 0 is not at all. */
  expires = 0
  /** Whether what was told about this request meanwhile is newer than what its exit will say. */
  stale = false
  callers = 0
  first: Caller<Req> | undefined = undefined
  private last: Caller<Req> | undefined = undefined
  /** Where others find and join it. */
  private listed: Group<Req> | undefined = undefined

  constructor(key: unknown, hash: number, request: Req, batch: Batch) {
    this.key = key
    this.hash = hash
    this.request = request
    this.batch = batch
  }

  add(caller: Caller<Req>): void {
    caller.item = this
    caller.prev = this.last
    if (this.last === undefined) this.first = caller
    else this.last.next = caller
    this.last = caller
    this.callers++
    this.batch.callers++
    caller.origin?.waits.add(caller)
  }

  remove(caller: Caller<Req>): void {
    if (caller.prev === undefined) this.first = caller.next
    else caller.prev.next = caller.next
    if (caller.next === undefined) this.last = caller.prev
    else caller.next.prev = caller.prev
    caller.prev = caller.next = undefined
    this.callers--
    this.batch.callers--
    caller.origin?.waits.delete(caller)
  }

  list(group: Group<Req>): void {
    this.listed = group
    group.inFlight.add(this)
  }

  unlist(): void {
    if (this.listed === undefined) return
    this.listed.inFlight.remove(this)
    this.listed = undefined
  }
}

/** Look-ups of one fiber that come, travel and leave together: core is shown the first of them only. */
export class Bulk<Req extends Request.Any> {
  readonly indices: Array<number> = []
  readonly requests: Array<Req> = []
  readonly keys: Array<unknown> = []
  readonly hashes: Array<number> = []
  /** What each of them waits for, once their batch runs. */
  readonly items: Array<Item<Req>> = []

  add(index: number, request: Req, key: unknown, hash: number): void {
    this.indices.push(index)
    this.requests.push(request)
    this.keys.push(key)
    this.hashes.push(hash)
  }
}

/** A scheduler lets a batch start, or closes, or refuses it. */
export type Answer = "start" | "close" | SchedulerError

/** What a batch is to others: those it waits for, those who wait for it. */
export class Batch {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** What its own place in the queue is made in: a job of another scheduler, if its first caller runs in one. */
  outer: Job | undefined = undefined
  /** Requests may be joined; false from the moment it ends or everybody left. */
  open = true
  started = false
  callers = 0
  /** Look-ups made by the batch itself: what it waits for. */
  readonly waits = new Set<{ readonly item: { readonly batch: Batch } | undefined }>()
  /**
   * Its places in the queue of its scheduler until it starts: one inside each running job that waits for it, and if there
   * is none, one of its own. The first to come through takes the others out.
   */
  readonly tickets = new Map<Job | undefined, Ticket>()
  /** The one that came through. */
  job: Job | undefined = undefined
  /** What the scheduler says to it. */
  answer: (answer: Answer, job: Job) => void = constVoid
  /** Takes what nobody waits for any more out of others' sight. */
  unlist: () => void = constVoid

  constructor(fiber: Fiber.Fiber<unknown, unknown>) {
    this.fiber = fiber
  }

  /** Whether this batch cannot end before that one. */
  waitsFor(that: Batch): boolean {
    if (this === that) return true
    const seen = new Set<Batch>([this])
    for (const batch of seen) {
      for (const { item } of batch.waits) {
        if (item === undefined) continue
        if (item.batch === that) return true
        seen.add(item.batch)
      }
    }
    return false
  }
}

interface Ticket {
  /** How many look-ups the lending job waits for here. */
  count: number
  readonly job: Job
}

/** How many distinct requests a pending batch has. */
export class Tally {
  size = 0
  private readonly slots = new KeyMap<Slot>()

  add(key: unknown, hash: number): void {
    const slot = this.slots.get(key, hash)
    if (slot !== undefined) {
      slot.count++
      return
    }
    this.slots.add({ key, hash, chain: undefined, count: 1 })
    this.size++
  }

  remove(key: unknown, hash: number): void {
    const slot = this.slots.get(key, hash)
    if (slot === undefined || --slot.count > 0) return
    this.slots.remove(slot)
    this.size--
  }
}

interface Slot extends Keyed<Slot> {
  count: number
}
