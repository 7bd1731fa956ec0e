/**
 * Who waits for what: callers of look-ups, the distinct requests they ask for, and the batches these travel in.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import * as Tracer from "effect/Tracer"
import type { Cached, Shelf } from "./batchCache.js"
import { KeyMap } from "./keyMap.js"
import type { Keyed } from "./keyMap.js"
import type { Tally } from "./batchTally.js"
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
  /** Whether core collects it for our resolver as it was made, not for one that wraps it. */
  direct = false
  /** Those who came in one batch of core's, where they travel in another. */
  part: Part | undefined = undefined
  /** Inside which job its batch has a place because of it. */
  lender: Job | undefined = undefined
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

  /** Whether no batch waits for it: one that does would wait for all that comes to travel with it. */
  get independent(): boolean {
    return this.origin === undefined || !this.origin.open
  }

  end(exit: Result<Req>): void {
    this.origin?.waits.delete(this)
    this.entry.completeUnsafe(exit)
    const part = this.part
    if (part !== undefined && --part.pending === 0) Deferred.doneUnsafe(part.ended, Exit.void)
  }
}

/** A batch of core's whose look-ups travel in others: it lasts until the last of them has ended. */
export interface Part {
  pending: number
  readonly ended: Deferred.Deferred<void>
}

/** A distinct request of a batch, with all who wait for it in order of arrival. */
export class Item<Req extends Request.Any> implements Keyed<Item<Req>> {
  readonly key: unknown
  readonly hash: number
  chain: Item<Req> | undefined = undefined
  readonly request: Req
  readonly batch: Run<Req>
  exit: Result<Req> | undefined = undefined
  /** Until when its exit is kept, in milliseconds; 0 is not at all. */
  expires = 0
  /** Whether what was told about this request meanwhile is newer than what its exit will say. */
  stale = false
  callers = 0
  first: Caller<Req> | undefined = undefined
  private last: Caller<Req> | undefined = undefined
  /** Where others find and join it. */
  private listed: KeyMap<Item<Req>> | undefined = undefined

  constructor(key: unknown, hash: number, request: Req, batch: Run<Req>) {
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
    this.retain()
    caller.origin?.waits.add(caller)
  }

  remove(caller: Caller<Req>): void {
    if (caller.prev === undefined) this.first = caller.next
    else caller.prev.next = caller.next
    if (caller.next === undefined) this.last = caller.prev
    else caller.next.prev = caller.prev
    caller.prev = caller.next = undefined
    this.release()
  }

  retain(): void {
    this.batch.callers++
    if (this.callers++ === 0) this.batch.size++
  }

  /** One caller less. Before the batch is sent, what nobody waits for goes out of others' sight: it will not be asked for. */
  release(): void {
    this.batch.callers--
    if (--this.callers > 0) return
    this.batch.size--
    if (!this.batch.sent) this.unlist()
  }

  /** What is known of its request is newer than what was asked for before; what is yet to be asked for will be newer still. */
  outdate(primed: boolean): void {
    if (this.batch.sent) this.unlist()
    this.stale = this.batch.sent || primed
  }

  list(map: KeyMap<Item<Req>>): void {
    this.listed = map
    map.add(this)
  }

  unlist(): void {
    if (this.listed === undefined) return
    this.listed.remove(this)
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
  readonly waits = new Set<{ readonly item: { readonly batch: Batch } | undefined }>()
  /**
   * Its places in the queue of its scheduler until it starts: one inside each running job that waits for it, and one of
   * its own if anybody else does. The first to come through takes the others out.
   */
  readonly tickets = new Map<Job | undefined, Ticket>()
  /** The one that came through. */
  job: Job | undefined = undefined
  /** What the scheduler says to it. */
  answer: (answer: Answer, job: Job) => void = constVoid

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
  /** How many look-ups wait for the batch there. */
  count: number
  readonly job: Job
}

/** A batch from the moment core has collected it: which requests it asks for, and for whom. */
export class Run<Req extends Request.Any> extends Batch {
  readonly group: Group<Req>
  /** In order of arrival. */
  items: Array<Item<Req>> = []
  /** Those who brought many look-ups. */
  readonly carriers = new Set<Caller<Req>>()
  /** `false`: equal look-ups are not merged. */
  private readonly merges: boolean
  /** What is in flight in another batch nevertheless: it came in flight there while it was collected here. */
  private apart: KeyMap<Item<Req>> | undefined = undefined

  constructor(fiber: Fiber.Fiber<unknown, unknown>, group: Group<Req>, merges: boolean) {
    super(fiber)
    this.group = group
    this.merges = merges
  }

  /** Takes a look-up in, unless that makes more than `most` distinct requests. Its equals join it from here on. */
  take(caller: Caller<Req>, most: number): boolean {
    const bulk = caller.bulk
    if (bulk === undefined) {
      const item = this.find(caller.key, caller.hash)
      if (item === undefined && this.size >= most) return false
      ;(item ?? this.make(caller.key, caller.hash, caller.entry.request)).add(caller)
      return true
    }
    for (let i = 0; i < bulk.requests.length; i++) {
      const key = bulk.keys[i]
      const hash = bulk.hashes[i]!
      const item = this.find(key, hash) ?? this.make(key, hash, bulk.requests[i]!)
      item.retain()
      bulk.items.push(item)
    }
    this.carriers.add(caller)
    caller.item = bulk.items[0]
    caller.origin?.waits.add(caller)
    return true
  }

  private find(key: unknown, hash: number): Item<Req> | undefined {
    if (!this.merges) return undefined
    const item = this.group.inFlight.get(key, hash)
    return item === undefined || item.batch === this ? item : this.apart?.get(key, hash)
  }

  private make(key: unknown, hash: number, request: Req): Item<Req> {
    const item = new Item(key, hash, request, this)
    this.items.push(item)
    if (this.merges) {
      const { inFlight } = this.group
      item.list(inFlight.get(key, hash) === undefined ? inFlight : this.apart ??= new KeyMap())
    }
    return item
  }

  /** Lets one of its callers go. */
  drop(caller: Caller<Req>): void {
    if (caller.bulk === undefined) {
      caller.item!.remove(caller)
    } else {
      this.carriers.delete(caller)
      for (const item of caller.bulk.items) item.release()
    }
    // While it waits many may come and go.
    if (!this.sent && this.items.length > 2 * this.size + 16) this.items = this.wanted
  }

  /** What somebody waits for. */
  get wanted(): Array<Item<Req>> {
    return this.items.filter((item) => item.callers > 0)
  }

  /** Those who asked, as a span knows them. */
  get links(): ReadonlyArray<Tracer.SpanLink> {
    const spans = new Set<Tracer.AnySpan>()
    const add = ({ entry }: Caller<Req>) => {
      const span = Context.getOrUndefined(entry.context, Tracer.ParentSpan)
      if (span !== undefined) spans.add(span)
    }
    for (const item of this.items) {
      for (let caller = item.first; caller !== undefined; caller = caller.next) add(caller)
    }
    this.carriers.forEach(add)
    return Array.from(spans, (span) => ({ span, attributes: {} }))
  }

  /** Nobody can join any more. */
  unlist(): void {
    for (const item of this.items) item.unlist()
  }

  /** Tells all callers what they wait for, in order of arrival of what they asked for. */
  tell(exit: Exit.Exit<void, Request.Error<Req>>): void {
    for (const item of this.items) {
      const result = item.exit = resultOf(item, exit) ?? Exit.die(new Error("Batcher: a batch ended without an answer"))
      let caller = item.first
      while (caller !== undefined) {
        const next: Caller<Req> | undefined = caller.next
        caller.end(result)
        caller = next
      }
    }
    // What they are told is what all of their look-ups are told that have no item; these have one.
    for (const caller of this.carriers) caller.end(Exit.interrupt())
  }
}

/** What a request ends with whose batch ended so. */
export const resultOf = <Req extends Request.Any>(
  item: Item<Req>,
  exit: Exit.Exit<void, Request.Error<Req>>
): Result<Req> | undefined => Exit.isFailure(exit) ? Exit.failCause(exit.cause) : item.exit
