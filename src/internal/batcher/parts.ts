/**
 * Who waits for what: callers wait for items (distinct requests), items travel in batches, batches belong to groups.
 *
 * - An item has its batch from the beginning, a caller its item: who waits for whom is known in every step.
 * - `batch.callers` is the sum of `item.callers` over its items; `batch.size` counts the items that have any.
 * - An item is listed for as long as its equals may join it: in its group, or, apart from an equal that is in flight
 *   already, in its batch.
 * - What is left stays in `batch.items` until that is compacted, in amortized O(1).
 */
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Request from "effect/Request"
import * as Tracer from "effect/Tracer"
import { hashKey, KeyMap, native } from "../data/keyMap.js"
import type { Keyed } from "../data/keyMap.js"
import type { Job } from "../scheduler/engine.js"
import { Edge, isAbove, liveNode } from "../waits/waits.js"
import type { Inside, Node } from "../waits/waits.js"
import { Isolation } from "./key.js"
import type { Budget } from "./turns.js"

export type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>

/** Where an exit goes: an entry of core, or one place of many. */
export interface Target<Req extends Request.Any> {
  completeUnsafe(exit: Result<Req>, index: number): void
}

/** Whether a batch waits for what a node does: that batch would wait for all that comes to travel with the node's look-up. */
export const isInBatch = (node: Node | undefined): boolean => {
  const live = liveNode(node)
  return live !== undefined && isAbove(live, (node) => node.kind === "batch")
}

/** One look-up. There are many: each field counts. */
export class Caller<Req extends Request.Any> {
  readonly target: Target<Req>
  readonly index: number
  readonly context: Context.Context<never>
  item: Item<Req> | undefined = undefined
  /** What the look-up is made inside of. */
  node: Node | undefined = undefined
  edge: Edge | undefined = undefined
  left = false
  prev: Caller<Req> | undefined = undefined
  next: Caller<Req> | undefined = undefined

  constructor(target: Target<Req>, context: Context.Context<never>, index = 0) {
    this.target = target
    this.context = context
    this.index = index
  }

  /** Ends it before it waits for anything. */
  answer(exit: Result<Req>): false {
    this.target.completeUnsafe(exit, this.index)
    return false
  }

  end(exit: Result<Req>): void {
    this.edge?.remove()
    this.edge = undefined
    this.target.completeUnsafe(exit, this.index)
  }
}

/** Look-ups of one fiber that come, travel and leave together: one caller of many items. */
export class Bulk<Req extends Request.Any> {
  readonly target: Target<Req>
  readonly context: Context.Context<never>
  readonly items: Array<Item<Req>> = []
  /** Of each item: which of the fiber's look-ups it answers. */
  readonly indices: Array<number> = []
  batch: Batch<Req> | undefined = undefined
  node: Node | undefined = undefined
  edge: Edge | undefined = undefined
  left = false

  constructor(target: Target<Req>, context: Context.Context<never>) {
    this.target = target
    this.context = context
  }

  end(): void {
    this.edge?.remove()
    this.edge = undefined
    this.items.forEach((item, i) => this.target.completeUnsafe(item.exit!, this.indices[i]!))
  }
}

/** A distinct request, with all who wait for it in order of arrival. */
export class Item<Req extends Request.Any> implements Keyed<Item<Req>> {
  readonly key: unknown
  readonly hash: number
  chain: Item<Req> | undefined = undefined
  readonly request: Req
  readonly batch: Batch<Req>
  exit: Result<Req> | undefined = undefined
  /** Whether what was told about this request meanwhile is newer than what its exit will say. */
  stale = false
  callers = 0
  first: Caller<Req> | undefined = undefined
  private last: Caller<Req> | undefined = undefined
  private listed: KeyMap<Item<Req>> | undefined = undefined

  constructor(key: unknown, hash: number, request: Req, batch: Batch<Req>) {
    this.key = key
    this.hash = hash
    this.request = request
    this.batch = batch
    batch.items.push(this)
  }

  /** What compares keys may have ended its batch since it was found. */
  get joinable(): boolean {
    return this.listed !== undefined && this.batch.open
  }

  add(caller: Caller<Req>, node: Node | undefined): void {
    caller.item = this
    caller.prev = this.last
    if (this.last === undefined) this.first = caller
    else this.last.next = caller
    this.last = caller
    this.retain()
    this.batch.waitedForBy(caller, node)
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
    if (this.callers++ === 0) this.batch.size++
    this.batch.callers++
  }

  /** What nobody waits for is not asked for: before its batch is sent, it goes out of others' sight. */
  release(): void {
    this.batch.callers--
    if (--this.callers > 0) return
    this.batch.size--
    if (!this.batch.sent) this.unlist()
  }

  /** What it ends with whose batch ended so. */
  resultOf(exit: Exit.Exit<void, Request.Error<Req>>): Result<Req> | undefined {
    return Exit.isFailure(exit) ? Exit.failCause(exit.cause) : this.exit
  }

  /** Tells those who wait for it, `most` of them at most, and returns how many. What runs in them may throw: each goes first. */
  end(exit: Result<Req>, most: number): number {
    let told = 0
    for (let caller = this.first; caller !== undefined && told < most; caller = this.first) {
      const next = this.first = caller.next
      if (next === undefined) this.last = undefined
      else next.prev = caller.next = undefined
      told++
      caller.end(exit)
    }
    return told
  }

  /** What is known of its request is newer than what was asked for before; what is yet to be asked for will be newer still. */
  outdate(primed: boolean): void {
    const { sent } = this.batch
    if (sent) this.unlist()
    this.stale = sent || primed
  }

  list(map: KeyMap<Item<Req>>): void {
    this.listed = map
    map.add(this)
  }

  unlist(): void {
    this.listed?.remove(this)
    this.listed = undefined
  }
}

/** Where a batch stands that others may come to travel in. */
export interface Slot<Req extends Request.Any> {
  batch: Batch<Req> | undefined
}

/** What one call of the backend asks for. Its life is one fiber: window, queue, execution. */
export class Batch<Req extends Request.Any> implements Node {
  readonly kind = "batch"
  readonly outer = undefined
  readonly group: Group<Req>
  /** Where others find it while it collects: in its window, and in the queue of its scheduler. */
  readonly slot: Slot<Req> | undefined
  /** Dropped when it has ended: the contexts of what it left behind still hold the batch. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** In order of arrival. */
  items: Array<Item<Req>> = []
  readonly bulks = new Set<Bulk<Req>>()
  callers = 0
  /** How many distinct requests somebody waits for. */
  size = 0
  /** Requests may be joined; false from the moment it ends or everybody left. */
  open = true
  /** Its window has passed. */
  queued = false
  /** It is out of the queue. */
  started = false
  /** What it asks for is settled. */
  sent = false
  ended = false
  /** Whether somebody in it may be inside a run, a job or a batch. Nearly always nobody is, and nobody needs to be asked. */
  private tied = false
  /** Whether it asks anew for what one that may wait for it asks for. */
  anew = false
  /** The one that asks anew for what this one asks for. */
  readonly again: Slot<Req> = { batch: undefined }
  /** What is in flight in another batch nevertheless. */
  apart: KeyMap<Item<Req>> | undefined = undefined
  /** Ends its window, while that lasts. */
  hurry: (() => void) | undefined = undefined
  /** It in the queue of its scheduler. */
  job: Job | undefined = undefined
  /** What `execute` came to, whatever a tracer or an interruption made of it. */
  answer: Exit.Exit<void, Request.Error<Req>> | undefined = undefined
  /** What it ended with, if it failed. */
  failure: Exit.Failure<void, Request.Error<Req>> | undefined = undefined
  /** How many of the items all callers have been told of. */
  told = 0
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  inside: Inside | undefined = undefined
  mark = 0

  constructor(group: Group<Req>, slot: Slot<Req> | undefined) {
    this.group = group
    this.slot = slot
    if (slot !== undefined) slot.batch = this
  }

  /** Messages name the resolver and what is asked of it. */
  get name(): string | undefined {
    const first = this.items[0]
    return first === undefined ? undefined : this.group.owner.nameFor(first.request)
  }

  get key(): unknown {
    const { items } = this
    const keys = items.slice(0, 3).map((_) => _.key)
    if (items.length > 3) keys.push(`and ${items.length - 3} more`)
    return keys.length < 2 ? keys[0] : keys
  }

  /** Whether it takes one more. */
  hasRoom(most: number): boolean {
    return this.open && !this.sent && this.size < most
  }

  waitedForBy(waiter: Caller<Req> | Bulk<Req>, node: Node | undefined): void {
    if (node === undefined) return
    this.tied = true
    waiter.node = node
    waiter.edge = new Edge(node, this)
  }

  /** Whether no batch waits for it. */
  get independent(): boolean {
    if (!this.tied) return true
    let independent = true
    this.forEach(({ node }) => {
      if (independent && isInBatch(node)) independent = false
    })
    return independent
  }

  forEach(f: (waiter: Caller<Req> | Bulk<Req>) => void): void {
    for (const item of this.items) {
      for (let caller = item.first; caller !== undefined; caller = caller.next) f(caller)
    }
    this.bulks.forEach(f)
  }

  /** What somebody waits for. */
  get wanted(): Array<Item<Req>> {
    return this.items.filter((item) => item.callers > 0)
  }

  /** While it waits many may come and go. */
  compact(): void {
    if (!this.sent && this.items.length > 2 * this.size + 16) this.items = this.wanted
  }

  /** It collects no more. */
  close(): void {
    if (this.slot?.batch === this) this.slot.batch = undefined
  }

  /** What it asks for is settled: others can join its requests, and add none. */
  seal(): void {
    this.sent = true
    this.close()
  }

  /** Those who asked, as a span knows them. */
  get links(): ReadonlyArray<Tracer.SpanLink> {
    const spans = new Set<Tracer.AnySpan>()
    this.forEach(({ context }) => {
      const span = Context.getOrUndefined(context, Tracer.ParentSpan)
      if (span !== undefined) spans.add(span)
    })
    return Array.from(spans, (span) => ({ span, attributes: {} }))
  }

  /** Tells callers what they wait for, in order of arrival of what they asked for, and returns whether all have been told. */
  tell(exit: Exit.Exit<void, Request.Error<Req>>, budget: Budget): boolean {
    for (const { items } = this; this.told < items.length; this.told++) {
      const item = items[this.told]!
      item.exit = item.resultOf(exit) ?? Exit.die(new Error("Batcher: a batch ended without an answer"))
      budget.left -= item.end(item.exit, budget.left)
      if (item.first !== undefined) return false
    }
    for (const bulk of this.bulks) {
      if (budget.left <= 0) return false
      this.bulks.delete(bulk)
      budget.left -= bulk.items.length
      bulk.end()
    }
    this.items = []
    this.apart = this.answer = undefined
    return true
  }

  /** Nobody can join any more. Of the only batch of a group, or of a closed resolver, all goes at once. */
  vanish(): void {
    const { batches, owner } = this.group
    if (owner.closed || (batches === 1 && this.items.length > 16)) this.group.inFlight = new KeyMap()
    else for (const item of this.items) item.unlist()
  }
}

/** An exit that is kept. */
export interface Cached<Req extends Request.Any> extends Keyed<Cached<Req>> {
  readonly group: Group<Req>
  readonly exit: Result<Req>
  readonly expires: number
  /** That of the cache while it is kept there. */
  era: object | undefined
  newer: Cached<Req> | undefined
  older: Cached<Req> | undefined
}

/** What errors ask of a resolver. */
export interface Owner {
  readonly closed: boolean
  nameFor(request: Request.Any): string
}

/** Callers that may share: all of a resolver, or those whose isolating services are equal. */
export class Group<Req extends Request.Any> implements Keyed<Group<Req>> {
  readonly owner: Owner
  readonly key: unknown
  readonly hash: number
  chain: Group<Req> | undefined = undefined
  /** A context with the isolating services. */
  readonly context: Context.Context<never>
  /** Grows with each look-up: a window ends when it has not for a while. */
  joins = 0
  /** Windows of core that are open, and batches that have not ended. */
  windows = 0
  batches = 0
  /** The batch that collects, and that of look-ups made inside batches, which do not join one in the queue. */
  readonly main: Slot<Req> = { batch: undefined }
  readonly inner: Slot<Req> = { batch: undefined }
  inFlight = new KeyMap<Item<Req>>()
  /** What is kept of them: what one of them was told is never told to another. */
  cached = new KeyMap<Cached<Req>>()
  kept = 0
  private readonly known: Groups<Req>

  constructor(owner: Owner, known: Groups<Req>, key: unknown, hash: number, context: Context.Context<never>) {
    this.owner = owner
    this.known = known
    this.key = key
    this.hash = hash
    this.context = context
  }

  checkRest(): void {
    if (this.windows === 0 && this.batches === 0 && this.kept === 0) this.known.drop(this)
  }
}

/** The groups that are not at rest, found by the isolating services of a context. */
export class Groups<Req extends Request.Any> {
  /** Everybody, where nothing is isolated. */
  readonly all: Group<Req> | undefined
  private readonly owner: Owner
  private readonly isolate: ReadonlyArray<Context.Key<unknown, unknown>>
  private readonly onDrop: (group: Group<Req>) => void
  private readonly known = new KeyMap<Group<Req>>()
  private readonly listed = new Set<Group<Req>>()

  constructor(
    owner: Owner,
    isolate: ReadonlyArray<Context.Key<unknown, unknown>>,
    onDrop: (group: Group<Req>) => void
  ) {
    this.owner = owner
    this.isolate = isolate
    this.onDrop = onDrop
    if (isolate.length === 0) this.all = new Group(owner, this, undefined, native, Context.empty())
  }

  find(context: Context.Context<never>): Group<Req> {
    if (this.all !== undefined) return this.all
    let services = Context.empty()
    const values = this.isolate.map((tag) => {
      const value = Context.getOption(context, tag)
      services = Context.addOrOmit(services, tag, value)
      return value._tag === "None" ? undefined : value.value
    })
    const key = new Isolation(values)
    return this.registered(new Group(this.owner, this, key, hashKey(key), services))
  }

  /** The group under which these callers are known now: one goes when it is at rest, and another comes. */
  registered(group: Group<Req>): Group<Req> {
    if (group === this.all || this.listed.has(group)) return group
    const known = this.known.get(group.key, group.hash)
    if (known === undefined) this.add(group)
    return known ?? group
  }

  /** Makes sure that a group is known that is not at rest any more. */
  add(group: Group<Req>): void {
    if (group === this.all || this.listed.has(group)) return
    this.listed.add(group)
    this.known.add(group)
  }

  drop(group: Group<Req>): void {
    if (this.listed.delete(group)) this.known.remove(group)
    this.onDrop(group)
  }

  values(): ReadonlyArray<Group<Req>> {
    return this.all === undefined ? Array.from(this.listed) : [this.all]
  }
}
