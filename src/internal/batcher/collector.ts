/**
 * Takes look-ups in and out: answers one from the cache, lets it join an equal in flight, or adds it to a batch.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import { hashKey, KeyMap } from "../data/keyMap.js"
import { stepsOf } from "../waits/cycle.js"
import { closes, cycleOf, isAbove, liveNode, type Node } from "../waits/waits.js"
import { Cache } from "./cache.js"
import { BatcherError, LookupCycle } from "./error.js"
import { RequestKeys } from "./key.js"
import type { Result } from "./options.js"
import { type Asker, Batch, type Bulk, type Caller, type Group, Groups, isInBatch, Item, type Slot } from "./parts.js"
import { type Recipe, Runner } from "./run.js"

/** A look-up that core collects in a window of its own, because the resolver is wrapped. */
interface Late<Req extends Request.Any> {
  /** The batches made of what core collected; `undefined` while core collects, when it may join an equal in flight. */
  readonly batches: Array<Batch<Req>> | undefined
  /** Whether it was made with our resolver, and not with one that wraps it. */
  readonly direct: boolean
}

export class Collector<Req extends Request.Any, R> {
  readonly recipe: Recipe<Req, R>
  readonly groups: Groups<Req>
  readonly keys = new RequestKeys()
  readonly runner: Runner<Req, R>
  private readonly cache: Cache<Req> | undefined

  constructor(recipe: Recipe<Req, R>) {
    const { cache, context, isolate = [], name, service } = recipe
    // Not the clock of a look-up: it may be another one for each.
    const clock = Context.get(context, Clock.Clock)
    this.recipe = recipe
    this.groups = new Groups(name ?? service, isolate)
    this.cache = cache === undefined ? undefined : new Cache(cache, clock)
    this.runner = new Runner(recipe, clock, this.groups, this.cache)
  }

  /**
   * Asks for a request. Returns false if it was answered at once, and `undefined` if core goes on collecting it. Requests,
   * services and clocks belong to the user: they may throw, look up in turn, or end the batch that is found. So they are
   * called before anything changes.
   */
  ask(request: Req, asker: Asker<Req>, late?: Late<Req>): boolean | undefined {
    const { cache, groups, runner } = this
    if (groups.closed) return asker.answer(Exit.interrupt())
    const { context } = asker
    const key = this.keys.of(request)
    const hash = hashKey(key)
    if (cache !== undefined) {
      const { now } = cache
      const kept = cache.get(groups.look(context), key, hash, now)
      if (kept !== undefined) {
        groups.forget()
        this.recipe.watch?.asked("cached")
        return asker.answer(kept)
      }
    }
    // Again: if the result had expired, its group may have been dropped.
    const group = groups.look(context)
    const node = liveNode(groups.seenNode)
    const { batches, maxBatchSize } = this.recipe
    const item = joinable(group.inFlight, key, hash)
    let cycle = false
    if (item !== undefined) {
      cycle = node !== undefined && closes(node, item.batch)
      // Its fiber alone knows whether anybody waits for it, so it is asked anew. If somebody does, the batch that was asked
      // anew makes the same look-up.
      if (cycle && isAbove(node!, wasAskedAnew)) return asker.answer(Exit.die(this.cycle(request, node!, item.batch)))
      // A look-up from a window of core does not wait for a window of ours.
      const waits = late?.direct === false && item.batch.phase === "collecting"
      if (!cycle && !waits) return this.join(item, asker, node)
    }
    let slot: Slot<Req> | undefined
    let open: Batch<Req> | undefined
    if (late !== undefined) {
      if (late.batches === undefined) return undefined
      if (late.direct && !cycle) {
        const { batch } = group.main
        if (batch === undefined || batch.phase === "queued") slot = group.main
        if (batch?.phase === "queued" && batch.hasRoom(maxBatchSize) && !isInBatch(node)) open = batch
      }
      open ??= late.batches.findLast((_) => _.group === group && _.anew === cycle && _.hasRoom(maxBatchSize))
    } else if (batches) {
      slot = cycle ? item!.batch.again : slotFor(group, node)
      open = slot.batch
    }
    if (item !== undefined) {
      const twin = open?.apart === undefined ? undefined : joinable(open.apart, key, hash)
      if (twin !== undefined) return this.join(twin, asker, node)
    }
    if (open?.hasRoom(maxBatchSize) === false) open = undefined
    const batch = open ?? runner.open(group, slot, cycle)
    if (late !== undefined) batch.phase = "queued"
    const fresh = new Item(key, hash, request, batch)
    if (batches && item === undefined) fresh.list(group.inFlight)
    else if (batches || cache !== undefined) fresh.list(batch.apart ??= new KeyMap())
    group.joins++
    this.recipe.watch?.asked("sent")
    asker.wait(fresh, node)
    if (open === undefined) {
      if (late?.batches === undefined) runner.launch(batch, context)
      else late.batches.push(batch)
    } else if (batch.size >= maxBatchSize) {
      batch.hurry?.()
    }
    return true
  }

  private join(item: Item<Req>, asker: Asker<Req>, node: Node | undefined): boolean {
    const { batch } = item
    batch.group.joins++
    this.recipe.watch?.asked(batch.collects ? "merged" : "joined")
    // Later look-ups in this batch might wait for the batch that now waits for it.
    if (batch.phase === "queued" && isInBatch(node)) batch.close()
    asker.wait(item, node)
    return true
  }

  leave(caller: Caller<Req>): void {
    const { item } = caller
    if (item === undefined || !item.batch.open) return
    item.remove(caller)
    item.batch.compact()
    this.lose(item.batch, () => caller.end(Exit.interrupt()))
  }

  leaveAll(bulk: Bulk<Req>): void {
    const { batch } = bulk
    if (!batch.open) return
    bulk.leave()
    if (batch.callers === bulk.items.length) {
      batch.callers = batch.size = 0
    } else {
      for (const item of bulk.items) item.release()
      batch.compact()
    }
    this.lose(batch, constVoid)
  }

  /** The caller ends before its batch does, so that a cache around this resolver forgets it first. */
  private lose(batch: Batch<Req>, end: () => void): void {
    const last = batch.callers === 0
    if (last) batch.shut()
    try {
      end()
    } finally {
      if (last) batch.fiber?.interruptUnsafe()
    }
  }

  private cycle(request: Req, from: Node, to: Node): BatcherError {
    const path = stepsOf(cycleOf(from, to), isTold)
    return new BatcherError({ reason: new LookupCycle({ resolver: this.groups.nameFor(request), request, path }) })
  }

  // -------------------------------------------------------------------------------------------------------------- cache

  /** Sets a request's result, for the cache and for later look-ups. */
  primeUnsafe(request: Req, result: Result<Req>, context: Context.Context<never>): void {
    const cache = this.cache!
    const expires = cache.expires(result, request, cache.now)
    const { group, hash, key } = this.outdate(request, context, true)
    if (!this.groups.closed && expires > 0) cache.set(group, key, hash, result, expires)
    group.checkRest()
  }

  clearUnsafe(request: Req, context: Context.Context<never>): void {
    this.outdate(request, context, false).group.checkRest()
  }

  clearAllUnsafe(): void {
    this.cache!.clear(this.groups.values())
    for (const batch of this.runner.running) for (const item of batch.items) item.outdate(false)
  }

  private outdate(request: Req, context: Context.Context<never>, primed: boolean) {
    const { groups } = this
    const key = this.keys.of(request)
    const hash = hashKey(key)
    const group = groups.look(context)
    groups.forget()
    this.cache!.delete(group, key, hash)
    group.inFlight.get(key, hash)?.outdate(primed)
    // An equal may have been in flight, and without batches every look-up is on its own.
    for (const batch of this.runner.running) if (batch.group === group) batch.apart?.get(key, hash)?.outdate(primed)
    return { group: groups.registered(group), key, hash }
  }
}

const joinable = <Req extends Request.Any>(map: KeyMap<Item<Req>>, key: unknown, hash: number) => {
  const item = map.get(key, hash)
  return item?.joinable === true ? item : undefined
}

/** A look-up made inside a batch does not add to a queued batch, which may be waiting for that one. */
const slotFor = <Req extends Request.Any>(group: Group<Req>, node: Node | undefined): Slot<Req> =>
  group.main.batch?.phase === "queued" && isInBatch(node) ? group.inner : group.main

const wasAskedAnew = (node: Node): boolean => node instanceof Batch && node.anew

/** Errors do not mention jobs, which are how a batch runs. */
const isTold = (node: Node): boolean => node.kind !== "job"
