/**
 * Who waits for what: callers of look-ups, and the distinct requests they ask for.
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import type { Batch } from "./batch.js"
import type { Cached, Shelf } from "./cache.js"
import { KeyMap } from "../data/keyMap.js"
import type { Keyed } from "../data/keyMap.js"
import type { Slot } from "./tally.js"
import { Edge, isAbove, liveNode } from "../waits/waits.js"
import type { Node } from "../waits/waits.js"

export type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>
/** What errors ask of a resolver. */
export interface Owner {
  nameFor(request: Request.Any): string
}

/** Callers that may share: all of a resolver, or those whose isolating services are equal. */
export class Group<Req extends Request.Any> implements Shelf<Request.Success<Req>, Request.Error<Req>> {
  /** Whose it is: a resolver made of two may hand the entries of one to the other. */
  readonly owner: Owner
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
  cached = new KeyMap<Cached<Request.Success<Req>, Request.Error<Req>>>()
  kept = 0
  private readonly onRest: (group: Group<Req>) => void

  constructor(
    owner: Owner,
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

/** The batch that an item travels in, to those who wait for the item. */
export interface Ride<Req extends Request.Any> extends Batch {
  readonly group: Group<Req>
  /** Lets one of its callers go. */
  drop(caller: Caller<Req>): void
  /** Nobody can join any more. */
  unlist(): void
}

/** One look-up. There are many: each field counts. */
export class Caller<Req extends Request.Any> {
  readonly entry: Request.Entry<Req>
  /** What the look-up is made inside of, and that it waits for the batch. */
  readonly node: Node | undefined
  edge: Edge | undefined = undefined
  /** What it waits for; `undefined` while core collects the bulk that it brought. */
  item: Item<Req> | undefined = undefined
  /** The look-ups that travel with it. */
  readonly bulk: Bulk<Req> | undefined
  /** Whether its batch key was asked: core asks again when the caller leaves. */
  asked = false
  left = false
  /** Those who came in one batch of core's, where they travel in another. */
  part: Part | undefined = undefined
  prev: Caller<Req> | undefined = undefined
  next: Caller<Req> | undefined = undefined

  constructor(entry: Request.Entry<Req>, node: Node | undefined, bulk: Bulk<Req> | undefined) {
    this.entry = entry
    this.node = node
    this.bulk = bulk
  }

  get group(): Group<Req> {
    // Sound: what brings no bulk waits for an item from the beginning.
    return this.bulk === undefined ? this.item!.group : this.bulk.group
  }

  /** Whether no batch waits for it: one that does would wait for all that comes to travel with it. */
  get independent(): boolean {
    const node = liveNode(this.node)
    return node === undefined || !isAbove(node, isBatch)
  }

  waitFor(batch: Batch): void {
    const node = liveNode(this.node)
    if (node !== undefined && this.edge === undefined) this.edge = new Edge(node, batch)
  }

  waitNoMore(): void {
    this.edge?.remove()
    this.edge = undefined
  }

  end(exit: Result<Req>): void {
    this.waitNoMore()
    const part = this.part
    if (part === undefined) return this.entry.completeUnsafe(exit)
    this.part = undefined
    try {
      this.entry.completeUnsafe(exit)
    } finally {
      if (--part.pending === 0) Deferred.doneUnsafe(part.ended, Exit.void)
    }
  }
}

const isBatch = (node: Node): boolean => node.kind === "batch"

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
  /** The batch in flight that it does not join, as that may wait for it. It travels apart, and is joined by nobody. */
  anew: Batch | undefined = undefined
  /** `undefined` while core collects. */
  batch: Ride<Req> | undefined = undefined
  /** It among the distinct requests that core's batch counts. */
  slot: Slot | undefined = undefined
  /** What core holds of it, and where: the entry of the first, whoever of them is still there. */
  held: Request.Entry<Req> | undefined = undefined
  pending: Set<Request.Entry<Req>> | undefined = undefined
  exit: Result<Req> | undefined = undefined
  /** Whether what was told about this request meanwhile is newer than what its exit will say. */
  stale = false
  callers = 0
  first: Caller<Req> | undefined = undefined
  private last: Caller<Req> | undefined = undefined
  /** Whether one who waits for it may be inside a run, a job or a batch. Nearly always nobody is, and nobody needs to be asked. */
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
  board(batch: Ride<Req>): void {
    if (this.collected) this.group.collected--
    this.batch = batch
    batch.callers += this.callers
    if (this.callers > 0) batch.size++
    if (this.tied) this.forEach((caller) => caller.waitFor(batch))
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

  /** The same, where no batch will ask for it. */
  abandon(exit: Result<Req>, most: number): number {
    let told = 0
    for (let caller = this.first; caller !== undefined && told < most; caller = this.first) {
      this.remove(caller)
      caller.left = true
      told++
      caller.end(exit)
    }
    return told
  }

  add(caller: Caller<Req>): void {
    caller.item = this
    caller.prev = this.last
    if (this.last === undefined) this.first = caller
    else this.last.next = caller
    this.last = caller
    this.retain()
    if (this.batch !== undefined) caller.waitFor(this.batch)
  }

  remove(caller: Caller<Req>): void {
    if (caller.prev === undefined) this.first = caller.next
    else caller.prev.next = caller.next
    if (caller.next === undefined) this.last = caller.prev
    else caller.next.prev = caller.prev
    caller.prev = caller.next = undefined
    caller.waitNoMore()
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
      this.slot?.release()
      this.slot = undefined
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
  readonly requests: ReadonlyArray<Req>
  readonly keys: ReadonlyArray<unknown>
  readonly hashes: ReadonlyArray<number>
  /** Where they stand among all look-ups of the fiber, if others travel by themselves. */
  readonly indices: ReadonlyArray<number> | undefined
  /** What each of them waits for, once their batch runs. */
  readonly items: Array<Item<Req>> = []
  /** Whether core collects it for our resolver as it was made, not for one that wraps it. */
  direct = false

  constructor(
    group: Group<Req>,
    requests: ReadonlyArray<Req>,
    keys: ReadonlyArray<unknown>,
    hashes: ReadonlyArray<number>,
    indices?: ReadonlyArray<number>
  ) {
    this.group = group
    this.requests = requests
    this.keys = keys
    this.hashes = hashes
    this.indices = indices
  }
}
