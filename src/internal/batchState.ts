/**
 * Who waits for what: callers of look-ups, the distinct requests they ask for, and the batches these travel in.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
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
  /** Windows that are open, requests that core collects and that others may join, batches that run. */
  open = 0
  collected = 0
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
    if (this.open === 0 && this.collected === 0 && this.running === 0 && this.kept === 0) this.onRest(this)
  }
}

/** One look-up. There are many: each field counts. */
export class Caller<Req extends Request.Any> {
  readonly entry: Request.Entry<Req>
  /** The batch that this look-up is made for, if it is made inside one. */
  readonly origin: Batch | undefined
  /** What it waits for; `undefined` while core collects the bulk that it brought. */
  item: Item<Req> | undefined = undefined
  /** The look-ups that travel with it. */
  readonly bulk: Bulk<Req> | undefined
  /** Whether its batch key was asked: core asks again when the caller leaves. */
  asked = false
  left = false
  /** Those who came in one batch of core's, where they travel in another. */
  part: Part | undefined = undefined
  /** Inside which job its batch has a place because of it. */
  lender: Job | undefined = undefined
  prev: Caller<Req> | undefined = undefined
  next: Caller<Req> | undefined = undefined

  constructor(entry: Request.Entry<Req>, origin: Batch | undefined, bulk: Bulk<Req> | undefined) {
    this.entry = entry
    this.origin = origin
    this.bulk = bulk
  }

  get group(): Group<Req> {
    // Sound: what brings no bulk waits for an item from the beginning.
    return this.bulk === undefined ? this.item!.group : this.bulk.group
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

/** Look-ups, by whatever means they are held. */
export interface Callers<Req extends Request.Any> {
  forEach(f: (caller: Caller<Req>) => void): void
}

/** A batch of core's whose look-ups travel in others: it lasts until the last of them has ended. */
export interface Part {
  pending: number
  readonly ended: Deferred.Deferred<void>
}

/**
 * A distinct request, with all who wait for it in order of arrival. Core collects the first of them; of those who come
 * meanwhile it hears nothing, and so the first stays with core when it leaves before the others.
 */
export class Item<Req extends Request.Any> implements Keyed<Item<Req>>, Callers<Req> {
  readonly key: unknown
  readonly hash: number
  chain: Item<Req> | undefined = undefined
  readonly group: Group<Req>
  readonly request: Req
  /** `undefined` while core collects. */
  batch: Run<Req> | undefined = undefined
  /** Where core's batch counts its distinct requests. */
  tally: Tally | undefined = undefined
  /** What core holds of it, and where: the entry of the first, whoever of them is still there. */
  held: Request.Entry<Req> | undefined = undefined
  pending: Set<Request.Entry<Req>> | undefined = undefined
  exit: Result<Req> | undefined = undefined
  /** Until when its exit is kept, in milliseconds; 0 is not at all. */
  expires = 0
  /** Whether what was told about this request meanwhile is newer than what its exit will say. */
  stale = false
  callers = 0
  first: Caller<Req> | undefined = undefined
  private last: Caller<Req> | undefined = undefined
  /** Whether one who waits for it may be inside a batch or a job. Nearly always nobody is, and nobody needs to be asked. */
  tied = false
  /** Whether its batch has its place among what it asks for. */
  placed = false
  /** Where others find and join it. */
  listed: KeyMap<Item<Req>> | undefined = undefined

  constructor(group: Group<Req>, key: unknown, hash: number, request: Req) {
    this.group = group
    this.key = key
    this.hash = hash
    this.request = request
  }

  /** Lets its equals join it while core collects. */
  collect(): void {
    this.held = this.first?.entry
    this.group.collected++
    this.list(this.group.inFlight)
  }

  /** All have left: core, which is about to take out the entry of the last, is to find it where it holds that of the first. */
  withdraw(last: Request.Entry<Req>): void {
    const { held, pending } = this
    if (held !== undefined && held !== last && pending?.delete(held) === true) pending.add(last)
  }

  /** Whether core collects it, and its equals may join. */
  get collected(): boolean {
    return this.batch === undefined && this.listed !== undefined
  }

  /** Whether no batch waits for it. */
  get independent(): boolean {
    if (!this.tied) return true
    for (let caller = this.first; caller !== undefined; caller = caller.next) if (!caller.independent) return false
    return true
  }

  /** From now on it travels in a batch. */
  board(batch: Run<Req>): void {
    if (this.collected) this.group.collected--
    this.batch = batch
    batch.callers += this.callers
    if (this.callers > 0) batch.size++
  }

  /** Takes over those who wait for an equal one that has no batch yet. */
  absorb(that: Item<Req>): void {
    if (that.tied) this.tied = true
    that.unlist()
    that.forEach((caller) => {
      caller.next = undefined
      this.add(caller)
    })
    that.first = that.last = undefined
  }

  /** Whoever is told of may leave, or go elsewhere. */
  forEach(f: (caller: Caller<Req>) => void): void {
    let caller = this.first
    while (caller !== undefined) {
      const next: Caller<Req> | undefined = caller.next
      f(caller)
      caller = next
    }
  }

  end(exit: Result<Req>): void {
    let caller = this.first
    while (caller !== undefined) {
      const next: Caller<Req> | undefined = caller.next
      caller.end(exit)
      caller = next
    }
  }

  /** Ends those who wait for it where no batch will ask for it. */
  abandon(exit: Result<Req>): void {
    this.unlist()
    for (let caller = this.first; caller !== undefined; caller = this.first) {
      this.remove(caller)
      caller.left = true
      caller.end(exit)
    }
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
    const first = this.callers++ === 0
    const batch = this.batch
    if (batch === undefined) return
    batch.callers++
    if (first) batch.size++
  }

  /** One caller less. Before the batch is sent, what nobody waits for goes out of others' sight: it will not be asked for. */
  release(): void {
    const last = --this.callers === 0
    const batch = this.batch
    if (batch !== undefined) {
      batch.callers--
      if (last) batch.size--
    } else if (last) {
      this.tally?.remove(this.key, this.hash)
    }
    if (last && batch?.sent !== true) this.unlist()
  }

  /** What is known of its request is newer than what was asked for before; what is yet to be asked for will be newer still. */
  outdate(primed: boolean): void {
    const sent = this.batch?.sent === true
    if (sent) this.unlist()
    this.stale = sent || primed
  }

  list(map: KeyMap<Item<Req>>): void {
    this.listed = map
    map.add(this)
  }

  unlist(): void {
    if (this.listed === undefined) return
    if (this.collected) this.group.collected--
    this.listed.remove(this)
    this.listed = undefined
  }
}

/** Look-ups of one fiber that come, travel and leave together: core is shown the first of them only. */
export class Bulk<Req extends Request.Any> {
  readonly group: Group<Req>
  readonly indices: Array<number> = []
  readonly requests: Array<Req> = []
  readonly keys: Array<unknown> = []
  readonly hashes: Array<number> = []
  /** What each of them waits for, once their batch runs. */
  readonly items: Array<Item<Req>> = []
  /** Whether core collects it for our resolver as it was made, not for one that wraps it. */
  direct = false

  constructor(group: Group<Req>) {
    this.group = group
  }

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

/** A batch from the moment core has collected it: which requests it asks for, and for whom. */
export class Run<Req extends Request.Any> extends Batch implements Callers<Req> {
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

  /** Takes in what core has collected. Its equals join it from here on. */
  takeAll(callers: ReadonlyArray<Caller<Req>>): void {
    this.board(callers)
    for (const caller of callers) this.take(caller, Infinity)
  }

  /** So that a bulk finds what came after it. */
  board(callers: ReadonlyArray<Caller<Req>>): void {
    for (const { item } of callers) {
      if (item?.collected === true && this.apart?.get(item.key, item.hash) === undefined) item.board(this)
    }
  }

  /** Takes in what core has collected, unless that makes more than `most` distinct requests. */
  take(caller: Caller<Req>, most: number): boolean {
    const { bulk, item } = caller
    if (bulk !== undefined) {
      if (!caller.left) this.takeBulk(caller, bulk)
    } else if (item !== undefined && item.callers > 0) {
      const equal = item.batch === this ? item : this.find(item.key, item.hash)
      if (equal === undefined && this.size >= most) return false
      if (equal === undefined || equal === item) this.place(item)
      else equal.absorb(item)
    }
    return true
  }

  private takeBulk(caller: Caller<Req>, bulk: Bulk<Req>): void {
    for (let i = 0; i < bulk.requests.length; i++) {
      const key = bulk.keys[i]
      const hash = bulk.hashes[i]!
      let item = this.find(key, hash)
      if (item === undefined) {
        item = new Item(this.group, key, hash, bulk.requests[i]!)
        // Told while core collected it.
        item.stale = this.group.cached.get(key, hash) !== undefined
      }
      this.place(item)
      item.retain()
      bulk.items.push(item)
    }
    this.carriers.add(caller)
    caller.item = bulk.items[0]
    caller.origin?.waits.add(caller)
  }

  private find(key: unknown, hash: number): Item<Req> | undefined {
    if (!this.merges) return undefined
    const item = this.group.inFlight.get(key, hash)
    return item?.batch === this ? item : this.apart?.get(key, hash)
  }

  /** Asks for it, after what is asked for already. */
  private place(item: Item<Req>): void {
    if (item.placed) return
    item.placed = true
    this.items.push(item)
    if (item.batch !== this) item.board(this)
    if (!this.merges || item.listed !== undefined) return
    const { inFlight } = this.group
    item.list(inFlight.get(item.key, item.hash) === undefined ? inFlight : this.apart ??= new KeyMap())
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

  forEach(f: (caller: Caller<Req>) => void): void {
    for (const item of this.items) item.forEach(f)
    this.carriers.forEach(f)
  }

  /** Who has to be asked what they are inside of, before it goes into the queue, and how many need not be. */
  get ties(): readonly [tied: Callers<Req>, free: number] {
    if (this.carriers.size > 0 || this.items.every((item) => item.tied)) return [this, 0]
    const tied = this.items.filter((item) => item.tied)
    const free = this.items.reduce((free, item) => item.tied ? free : free + item.callers, 0)
    return [{ forEach: (f) => tied.forEach((item) => item.forEach(f)) }, free]
  }

  /** Those who asked, as a span knows them. */
  get links(): ReadonlyArray<Tracer.SpanLink> {
    const spans = new Set<Tracer.AnySpan>()
    this.forEach(({ entry }) => {
      const span = Context.getOrUndefined(entry.context, Tracer.ParentSpan)
      if (span !== undefined) spans.add(span)
    })
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
      item.end(result)
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
