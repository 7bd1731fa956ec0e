/**
 * Groups of callers that may share have batches, batches have items (distinct requests), and items have callers that wait.
 *
 * - An item has its batch, and a caller its item, from the start: the graph of who waits for whom is always complete.
 * - `batch.callers` is the sum of `item.callers`; `batch.size` counts the items that have callers.
 * - An item is listed while equal look-ups may join it: in its group or, if an equal is in flight already, in its batch.
 * - Items without callers stay in `batch.items` until the array is compacted, in amortized O(1).
 */
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"
import type * as Request from "effect/Request"
import * as Tracer from "effect/Tracer"
import { hashKey, type Keyed, KeyMap, native } from "../data/keyMap.js"
import { append, type List, type Member, remove } from "../data/list.js"
import type { ClientJob } from "../scheduler/clientJob.js"
import { CurrentNode, Edge, findAbove, type Inside, isAbove, type Node } from "../waits/waits.js"
import { Isolation } from "./key.js"
import type { Result } from "./options.js"
import { budget } from "./turns.js"

const isBatch = (node: Node): boolean => node.kind === "batch"

/** Whether a batch waits for what a live node does, and so for everything that travels with the node's look-up. */
export const isInBatch = (node: Node | undefined): boolean => node !== undefined && isAbove(node, isBatch)

/** The groups of a resolver that hold something, found by the isolating services of a context. */
export class Groups<Req extends Request.Any> {
  /** The only group, where nothing is isolated. */
  readonly all: Group<Req> | undefined
  closed = false
  private readonly name: string | undefined
  private readonly isolate: ReadonlyArray<Context.Key<unknown, unknown>>
  private readonly known = new KeyMap<Group<Req>>()
  /** The context of the last look-up, and what it led to: look-ups that come together mostly share it. */
  private seen: Context.Context<never> | undefined = undefined
  private seenGroup: Group<Req> | undefined = undefined
  seenNode: Node | undefined = undefined

  constructor(name: string | undefined, isolate: ReadonlyArray<Context.Key<unknown, unknown>>) {
    this.name = name
    this.isolate = isolate
    if (isolate.length > 0) return
    this.all = new Group(this, undefined, native, Context.empty())
    this.all.listed = true
  }

  /** The name of the resolver in errors. */
  nameFor(request: Request.Any): string {
    return this.name ?? (hasProperty(request, "_tag") ? String(request._tag) : request.constructor.name)
  }

  /** The group of a context. Its node is in `seenNode` then. */
  look(context: Context.Context<never>): Group<Req> {
    if (context !== this.seen) {
      // Comparing the isolating services may throw, and may look up in turn: `seen` is set last.
      const group = this.all ?? this.find(context)
      this.seenGroup = group
      this.seenNode = Context.getOrUndefined(context, CurrentNode)
      this.seen = context
    }
    return this.seenGroup!
  }

  /** Drops the last context, so that a look-up that has ended keeps nothing. */
  forget(): void {
    this.seen = this.seenGroup = this.seenNode = undefined
  }

  private find(context: Context.Context<never>): Group<Req> {
    let services = Context.empty()
    const values = this.isolate.map((tag) => {
      const value = Context.getOption(context, tag)
      services = Context.addOrOmit(services, tag, value)
      return value._tag === "None" ? undefined : value.value
    })
    const key = new Isolation(values)
    return this.registered(new Group(this, key, hashKey(key), services))
  }

  /** The group that stands for these callers now: another one, where this one was dropped. */
  registered(group: Group<Req>): Group<Req> {
    const known = this.known.get(group.key, group.hash)
    if (known === undefined) this.add(group)
    return known ?? group
  }

  add(group: Group<Req>): void {
    if (group.listed) return
    group.listed = true
    this.known.add(group)
  }

  drop(group: Group<Req>): void {
    if (group.listed && group !== this.all) {
      group.listed = false
      this.known.remove(group)
    }
    if (this.seenGroup === group) this.forget()
  }

  values(): ReadonlyArray<Group<Req>> {
    return this.all === undefined ? this.known.values() : [this.all]
  }
}

/** Callers that may share: all of a resolver, or those whose isolating services are equal. */
export class Group<Req extends Request.Any> implements Keyed<Group<Req>> {
  readonly groups: Groups<Req>
  readonly key: unknown
  readonly hash: number
  chain: Group<Req> | undefined = undefined
  /** The isolating services. */
  readonly context: Context.Context<never>
  listed = false
  /** Grows with each look-up, so that a window can tell when it is quiet. */
  joins = 0
  /** The windows of core that are open, and the batches that have not ended. */
  windows = 0
  batches = 0
  /** Hold the batch that collects, and that of look-ups made inside batches, which do not join a queued batch. */
  readonly main: Slot<Req> = { batch: undefined }
  readonly inner: Slot<Req> = { batch: undefined }
  inFlight = new KeyMap<Item<Req>>()
  cached = new KeyMap<Cached<Req>>()
  /** The size of `cached`. */
  kept = 0

  constructor(groups: Groups<Req>, key: unknown, hash: number, context: Context.Context<never>) {
    this.groups = groups
    this.key = key
    this.hash = hash
    this.context = context
  }

  /** Forgets a group that holds nothing. */
  checkRest(): void {
    if (this.windows === 0 && this.batches === 0 && this.kept === 0) this.groups.drop(this)
  }
}

/** An exit that is kept. */
export interface Cached<Req extends Request.Any> extends Keyed<Cached<Req>>, Member<Cached<Req>> {
  readonly group: Group<Req>
  readonly exit: Result<Req>
  readonly expires: number
  /** That of the cache, while it is kept there. */
  era: object | undefined
}

/** Where look-ups find the batch that collects. */
export interface Slot<Req extends Request.Any> {
  batch: Batch<Req> | undefined
}

/** One call of the backend. It lives in one fiber: window, queue, execution. */
export class Batch<Req extends Request.Any> implements Node {
  readonly kind = "batch"
  readonly outer = undefined
  readonly group: Group<Req>
  /** Holds it while it collects: in its window, and in the queue of its scheduler. */
  readonly slot: Slot<Req> | undefined
  /** Whether it asks again for what another batch asks for, which may wait for it. */
  readonly anew: boolean
  /** Dropped at the end: the contexts of fibers that it left behind hold the batch. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** In order of arrival. */
  items: Array<Item<Req>> = []
  readonly bulks = new Set<Bulk<Req>>()
  callers = 0
  /** The number of items that have callers. */
  size = 0
  /**
   * It is `collecting` in its window, `queued` until its scheduler admits it, `running` once its items are final, `ending`
   * from the step in which its last caller leaves, and `over` in the end.
   */
  phase: "collecting" | "queued" | "running" | "ending" | "over" = "collecting"
  /** When it began to wait, and then to execute, where something observes its resolver. */
  since = 0
  /** Holds the batch that asks anew for its items. */
  readonly again: Slot<Req> = { batch: undefined }
  /** Items whose equals are, or may be, in flight in another batch. */
  apart: KeyMap<Item<Req>> | undefined = undefined
  /** Ends its window. */
  hurry: (() => void) | undefined = undefined
  /** Its job in the queue of its scheduler. */
  job: ClientJob | undefined = undefined
  /** The exit of `execute`, before a tracer or an interruption changed it. */
  answer: Exit.Exit<void, Request.Error<Req>> | undefined = undefined
  /** Its exit, if it failed. */
  failure: Exit.Failure<void, Request.Error<Req>> | undefined = undefined
  /** How many items have told all their callers. */
  private told = 0
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  inside: Inside | undefined = undefined
  mark = 0

  constructor(group: Group<Req>, slot: Slot<Req> | undefined, anew: boolean) {
    this.group = group
    this.slot = slot
    this.anew = anew
    if (slot !== undefined) slot.batch = this
  }

  /** Messages name the resolver, and the requests as its key. */
  get name(): string | undefined {
    const first = this.items[0]
    return first === undefined ? undefined : this.group.groups.nameFor(first.request)
  }

  get key(): unknown {
    const { items } = this
    const keys = items.slice(0, 3).map((_) => _.key)
    if (items.length > 3) keys.push(`and ${items.length - 3} more`)
    return keys.length < 2 ? keys[0] : keys
  }

  get ended(): boolean {
    return this.phase === "over"
  }

  /** Whether its items may be joined. */
  get open(): boolean {
    return this.phase !== "ending" && this.phase !== "over"
  }

  /** Whether items may be added. */
  get collects(): boolean {
    return this.phase === "collecting" || this.phase === "queued"
  }

  /** Whether one more item may be added. */
  hasRoom(most: number): boolean {
    return this.collects && this.size < most
  }

  waitedForBy(waiter: Caller<Req> | Bulk<Req>, node: Node | undefined): void {
    if (node !== undefined) waiter.edge = new Edge(node, this)
  }

  /** Whether no batch waits for it. */
  get independent(): boolean {
    return this.waiters === undefined || !findAbove(this, isBatch)
  }

  /** The items that have callers. */
  get wanted(): Array<Item<Req>> {
    return this.size === this.items.length ? this.items : this.items.filter((item) => item.callers > 0)
  }

  /** Drops items without callers, where these are more than half. */
  compact(): void {
    if (this.collects && this.items.length > 2 * this.size + 16) this.items = this.wanted
  }

  /** Ends collecting. */
  close(): void {
    if (this.slot?.batch === this) this.slot.batch = undefined
  }

  /** Makes its items final: they can still be joined. */
  seal(): void {
    if (this.collects) this.phase = "running"
    this.close()
  }

  /** Lets nobody join any more. The only batch of a group, or one of a closed resolver, unlists all its items at once. */
  shut(): void {
    if (this.open) this.phase = "ending"
    this.close()
    const { groups, batches } = this.group
    if (groups.closed || (batches === 1 && this.items.length > 16)) this.group.inFlight = new KeyMap()
    else for (const item of this.items) item.unlist()
  }

  /** Links to the spans of its callers. */
  get links(): ReadonlyArray<Tracer.SpanLink> {
    const spans = new Set<Tracer.AnySpan>()
    const add = ({ context }: Caller<Req> | Bulk<Req>): void => {
      const span = Context.getOrUndefined(context, Tracer.ParentSpan)
      if (span !== undefined) spans.add(span)
    }
    for (const item of this.items) {
      for (let caller = item.first; caller !== undefined; caller = caller.after) add(caller)
    }
    this.bulks.forEach(add)
    return Array.from(spans, (span) => ({ span, attributes: {} }))
  }

  /** Tells callers their exits, item by item in order of arrival, and returns whether all have been told. */
  tell(exit: Exit.Exit<void, Request.Error<Req>>): boolean {
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
}

/** A distinct request, and a list of its callers in order of arrival. */
export class Item<Req extends Request.Any> implements Keyed<Item<Req>>, List<Caller<Req>> {
  readonly key: unknown
  readonly hash: number
  chain: Item<Req> | undefined = undefined
  readonly request: Req
  readonly batch: Batch<Req>
  exit: Result<Req> | undefined = undefined
  /** A `prime` or `clear` is newer than the exit will be. */
  stale = false
  callers = 0
  first: Caller<Req> | undefined = undefined
  last: Caller<Req> | undefined = undefined
  private listed: KeyMap<Item<Req>> | undefined = undefined

  constructor(key: unknown, hash: number, request: Req, batch: Batch<Req>) {
    this.key = key
    this.hash = hash
    this.request = request
    this.batch = batch
    batch.items.push(this)
  }

  /** False if the keys' own `Equal` ended the batch while the item was searched. */
  get joinable(): boolean {
    return this.listed !== undefined && this.batch.open
  }

  add(caller: Caller<Req>, node: Node | undefined): void {
    caller.item = this
    append(this, caller)
    this.retain()
    this.batch.waitedForBy(caller, node)
  }

  remove(caller: Caller<Req>): void {
    caller.item = undefined
    remove(this, caller)
    this.release()
  }

  retain(): void {
    if (this.callers++ === 0) this.batch.size++
    this.batch.callers++
  }

  /** Before the batch is sent, an item without callers is dropped: nobody joins it. */
  release(): void {
    this.batch.callers--
    if (--this.callers > 0) return
    this.batch.size--
    if (this.batch.collects) this.unlist()
  }

  /** Its exit, in a batch that ended with `exit`. */
  resultOf(exit: Exit.Exit<void, Request.Error<Req>>): Result<Req> | undefined {
    return Exit.isFailure(exit) ? Exit.failCause(exit.cause) : this.exit
  }

  /** Tells at most `most` of its callers, and returns how many. Each is removed first, for what it runs may throw. */
  end(exit: Result<Req>, most: number): number {
    let told = 0
    for (let caller = this.first; caller !== undefined && told < most; caller = this.first) {
      remove(this, caller)
      told++
      caller.end(exit)
    }
    return told
  }

  /** A `prime` or `clear` is newer than the exit of an item that was sent. One that is yet to be sent will be newer than `clear`. */
  outdate(primed: boolean): void {
    const { collects } = this.batch
    if (!collects) this.unlist()
    this.stale = primed || !collects
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

/** One look-up. There are many, so each field counts. */
export class Caller<Req extends Request.Any> implements Member<Caller<Req>> {
  private readonly entry: Pick<Request.Entry<Req>, "completeUnsafe">
  readonly context: Context.Context<never>
  /** `undefined` before it waits, and once it has left. */
  item: Item<Req> | undefined = undefined
  edge: Edge | undefined = undefined
  before: Caller<Req> | undefined = undefined
  after: Caller<Req> | undefined = undefined

  constructor(entry: Pick<Request.Entry<Req>, "completeUnsafe">, context: Context.Context<never>) {
    this.entry = entry
    this.context = context
  }

  /** Ends it before it waits for anything. */
  answer(exit: Result<Req>): false {
    this.entry.completeUnsafe(exit)
    return false
  }

  end(exit: Result<Req>): void {
    this.edge?.remove()
    this.edge = undefined
    this.entry.completeUnsafe(exit)
  }
}

/** Look-ups of `loadMany` that come, travel and leave together: one caller of many items. */
export class Bulk<Req extends Request.Any> {
  private readonly set: (exit: Result<Req>, index: number) => void
  readonly context: Context.Context<never>
  readonly items: Array<Item<Req>> = []
  /** The position in the list of `loadMany`, of each item. */
  readonly indices: Array<number> = []
  batch: Batch<Req> | undefined = undefined
  edge: Edge | undefined = undefined

  constructor(set: (exit: Result<Req>, index: number) => void, context: Context.Context<never>) {
    this.set = set
    this.context = context
  }

  end(): void {
    this.edge?.remove()
    this.edge = undefined
    this.items.forEach((item, i) => this.set(item.exit!, this.indices[i]!))
  }
}
