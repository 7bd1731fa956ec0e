/**
 * Collects look-ups once, from the one that opens a batch until the batch is admitted, and runs it.
 *
 *     ask → an equal is in flight: join it                     (`leave` takes a caller out, in any state)
 *         → a batch collects: add an item; the batch is in its window, or in the queue of its scheduler
 *         → open a batch: one fiber for window, queue and execution, which tells the callers in the end
 */
import { isReadonlyArrayNonEmpty } from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { constVoid } from "effect/Function"
import { hasProperty } from "effect/Predicate"
import type * as Request from "effect/Request"
import { Scheduler } from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { KeyMap } from "../data/keyMap.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import { firstStepOf } from "../scheduler/schedule.js"
import { stepsOf } from "../waits/cycle.js"
import { above, closes, CurrentNode, cycleOf, endUnsafe, isAbove, liveNode, nodeOf } from "../waits/waits.js"
import type { Node } from "../waits/waits.js"
import { Memory } from "./cache.js"
import type { MemoryOptions } from "./cache.js"
import { BatcherError, LookupCycle } from "./error.js"
import { hashOf, RequestKeys } from "./key.js"
import { Batch, Groups, isInBatch, Item } from "./parts.js"
import type { Bulk, Caller, Group, Result, Slot } from "./parts.js"
import { admit, release } from "./queue.js"
import { inTurns, most } from "./turns.js"
import type { Turns } from "./window.js"

export interface CollectorOptions<Req extends Request.Any, R> {
  /** Sets the exit of every item, or fails. */
  readonly resolve: (items: NonEmptyReadonlyArray<Item<Req>>) => Effect.Effect<void, Request.Error<Req>, R>
  readonly onRejected: ((error: SchedulerError, request: Req) => Result<Req>) | undefined
  readonly isolate: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly maxBatchSize: number
  /** `undefined`: no batches, each look-up is a call of its own. */
  readonly turns: Turns | undefined
  readonly window: "idle" | Duration.Duration
  readonly engine: Engine | undefined
  /** The service that the resolver is, as errors name it. */
  readonly service: string | undefined
  /** Of the span that each batch is run in. */
  readonly name: string | undefined
  readonly cache: MemoryOptions<Req> | undefined
  /** Of the place where the resolver is made. */
  readonly context: Context.Context<never>
}

/** What core collects, or has collected, in a window of its own. */
export interface Late<Req extends Request.Any> {
  /** Its batches, which go to the queue at once; `undefined` while core collects, which may join what is in flight. */
  readonly batches: Array<Batch<Req>> | undefined
  /** Whether core collects it for our resolver itself, and not for one that wraps it. */
  readonly direct: boolean
}

export class Collector<Req extends Request.Any, R> {
  readonly options: CollectorOptions<Req, R>
  readonly groups: Groups<Req>
  closed = false
  readonly closing = Deferred.makeUnsafe<void>()
  readonly keys = new RequestKeys()
  private readonly memory: Memory<Req> | undefined
  /** What every batch is run with. */
  private readonly base: Context.Context<never>
  private readonly running = new Set<Batch<Req>>()
  /** The context seen last and what was found in it: those who look up together mostly share one. */
  private seen: Context.Context<never> | undefined = undefined
  private seenGroup: Group<Req> | undefined = undefined
  private seenNode: Node | undefined = undefined

  constructor(options: CollectorOptions<Req, R>) {
    this.options = options
    this.base = Context.omit(Tracer.ParentSpan, Scheduler, ...options.isolate)(options.context)
    this.memory = options.cache === undefined ? undefined : new Memory(options.cache, this.clock)
    this.groups = new Groups(this, options.isolate, (group) => {
      if (this.seenGroup === group) this.forget()
    })
  }

  /** Windows are timed by the clock of the place where the resolver was made, whatever clock the first look-up has. */
  get clock(): Clock.Clock {
    return Context.get(this.options.context, Clock.Clock)
  }

  /** What errors call the resolver. */
  nameFor(request: Request.Any): string {
    const { name, service } = this.options
    return name ?? service ?? (hasProperty(request, "_tag") ? String(request._tag) : request.constructor.name)
  }

  // ------------------------------------------------------------------------------------------------------ who comes, who goes

  private kept(memory: Memory<Req>, context: Context.Context<never>, key: unknown, hash: number) {
    const { now } = memory
    const exit = memory.get(this.look(context), key, hash, now)
    // No batch will end that drops what was seen.
    if (exit !== undefined && this.running.size === 0) this.forget()
    return exit
  }

  /**
   * Asks for a request; false if it was answered at once, `undefined` if core goes on collecting it. Requests, services
   * and clocks are the user's: they may throw, look up in turn, or end what is found. So they are asked before anything
   * changes.
   */
  ask(request: Req, caller: Caller<Req>, late?: Late<Req>): boolean | undefined {
    if (this.closed) return caller.answer(Exit.interrupt())
    const { context } = caller
    const key = this.keys.of(request)
    const hash = hashOf(key)
    const kept = this.memory === undefined ? undefined : this.kept(this.memory, context, key, hash)
    if (kept !== undefined) return caller.answer(kept)
    // Not before: where what was kept has expired, its group may have come to rest.
    const group = this.look(context)
    const node = liveNode(this.seenNode)
    const { maxBatchSize, turns } = this.options
    const merges = turns !== undefined
    let item = merges ? group.inFlight.get(key, hash) : undefined
    if (item?.joinable === false) item = undefined
    // It may be that nobody waits for this look-up, as only its fiber knows. Asked anew it does not close the cycle; if it
    // was part of one, what it asks for comes here again, in a batch that was asked anew.
    const cycle = node !== undefined && item !== undefined && closes(node, item.batch)
    if (cycle && isAbove(node!, wasAskedAnew)) return caller.answer(Exit.die(this.cycle(request, node!, item!.batch)))
    // What comes late does not wait for a window that is not its own.
    const waits = late?.direct === false && item?.batch.queued === false
    if (item !== undefined && !cycle && !waits) return this.join(item, caller, node)
    let slot: Slot<Req> | undefined
    let open: Batch<Req> | undefined
    if (late !== undefined) {
      if (late.batches === undefined) return undefined
      if (late.direct && !cycle) {
        const { batch } = group.main
        if (batch === undefined || batch.queued) slot = group.main
        if (batch?.queued === true && batch.hasRoom(maxBatchSize) && !isInBatch(node)) open = batch
      }
      open ??= late.batches.findLast((_) => _.group === group && _.anew === cycle && _.hasRoom(maxBatchSize))
    } else if (merges) {
      slot = cycle ? item!.batch.again : group.main.batch?.queued === true && isInBatch(node) ? group.inner : group.main
      open = slot.batch
    }
    if (item !== undefined) {
      const twin = open?.apart?.get(key, hash)
      if (twin?.joinable === true) return this.join(twin, caller, node)
    }
    if (open?.hasRoom(maxBatchSize) === false) open = undefined
    const batch = open ?? this.open(group, slot, cycle)
    if (late !== undefined) batch.queued = true
    const fresh = new Item(key, hash, request, batch)
    if (merges) fresh.list(item === undefined ? group.inFlight : batch.apart ??= new KeyMap())
    group.joins++
    fresh.add(caller, node)
    if (open !== undefined) this.hurryFull(batch)
    else if (late?.batches !== undefined) late.batches.push(batch)
    else this.launch(batch, context)
    return true
  }

  private join(item: Item<Req>, caller: Caller<Req>, node: Node | undefined): boolean {
    const { batch } = item
    batch.group.joins++
    // It collects no more: what came to travel in it might wait for the batch that now waits for it.
    if (node !== undefined && batch.queued && !batch.sent && isInBatch(node)) batch.close()
    item.add(caller, node)
    return true
  }

  /**
   * Asks for those of many look-ups that can travel together, from one of them on, and returns the others: what has its
   * answer or is in flight already, or what came when their batch had gone.
   */
  askMany(requests: ReadonlyArray<Req>, from: number, to: number, bulk: Bulk<Req>): ReadonlyArray<number> {
    const { context } = bulk
    const others: Array<number> = []
    for (let i = from; i < to; i++) {
      if (this.closed) {
        others.push(i)
        continue
      }
      const request = requests[i]!
      const key = this.keys.of(request)
      const hash = hashOf(key)
      const group = this.look(context)
      const node = liveNode(this.seenNode)
      let item = group.inFlight.get(key, hash)
      if (item?.joinable === false) item = undefined
      const slot = group.main.batch?.queued === true && isInBatch(node) ? group.inner : group.main
      let batch = bulk.batch ?? slot.batch
      if (batch?.hasRoom(Infinity) === false) batch = undefined
      const known = item === undefined
        ? group.kept > 0 && group.cached.get(key, hash) !== undefined
        : item.batch !== batch
      if (known || (batch === undefined && bulk.batch !== undefined)) {
        others.push(i)
        continue
      }
      const fresh = batch === undefined
      batch ??= this.open(group, slot, false)
      if (bulk.batch === undefined) {
        bulk.batch = batch
        batch.bulks.add(bulk)
        batch.waitedForBy(bulk, node)
      }
      if (item === undefined) {
        item = new Item(key, hash, request, batch)
        item.list(group.inFlight)
      }
      item.retain()
      bulk.items.push(item)
      bulk.indices.push(i)
      group.joins++
      if (fresh) this.launch(batch, context)
    }
    return others
  }

  leave(caller: Caller<Req>): void {
    const { item } = caller
    if (caller.left || item === undefined || !item.batch.open) return
    caller.left = true
    item.remove(caller)
    item.batch.compact()
    this.lose(item.batch, () => caller.end(Exit.interrupt()))
  }

  leaveAll(bulk: Bulk<Req>): void {
    const { batch } = bulk
    if (bulk.left || batch === undefined || !batch.open) return
    bulk.left = true
    bulk.edge?.remove()
    batch.bulks.delete(bulk)
    if (batch.callers === bulk.items.length) {
      batch.callers = batch.size = 0
    } else {
      for (const item of bulk.items) item.release()
      batch.compact()
    }
    this.lose(batch, constVoid)
  }

  /** The caller ends before its batch does, so that a cache around this resolver lets go of it. */
  private lose(batch: Batch<Req>, end: () => void): void {
    const last = batch.callers === 0
    if (last) {
      batch.open = false
      batch.seal()
      batch.vanish()
    }
    try {
      end()
    } finally {
      if (last) batch.fiber?.interruptUnsafe()
    }
  }

  private cycle(request: Req, from: Node, to: Node): BatcherError {
    const path = stepsOf(cycleOf(from, to), isTold)
    return new BatcherError({ reason: new LookupCycle({ resolver: this.nameFor(request), request, path }) })
  }

  readonly close: Effect.Effect<void> = Effect.withFiber((fiber) => {
    this.closed = true
    Deferred.doneUnsafe(this.closing, Exit.void)
    // A batch that closes its own resolver does not wait for itself.
    const around = new Set<Node>()
    const node = nodeOf(fiber.context)
    if (node !== undefined) above(node, (node) => (around.add(node), true))
    const others: Array<Fiber.Fiber<unknown, unknown>> = []
    for (const batch of this.running) {
      if (batch.fiber === undefined) continue
      if (!around.has(batch)) others.push(batch.fiber)
      batch.fiber.interruptUnsafe(fiber.id)
    }
    return Effect.asVoid(Fiber.awaitAll(others))
  })

  // -------------------------------------------------------------------------------------------------------- a batch's life

  private open(group: Group<Req>, slot: Slot<Req> | undefined, anew: boolean): Batch<Req> {
    const batch = new Batch(group, slot)
    batch.anew = anew
    group.batches++
    this.groups.add(group)
    this.running.add(batch)
    return batch
  }

  /** Its fiber cannot be interrupted before it has come to what settles the batch. */
  launch(batch: Batch<Req>, context: Context.Context<never>): void {
    const life = Effect.withFiber((fiber) => {
      batch.fiber = fiber
      return Effect.onExit(Effect.interruptible(this.way(batch)), (exit) =>
        // That calls what is not ours: for what it does the batch still runs.
        this.memory === undefined
          ? this.settle(batch, exit)
          : Effect.flatMap(this.memory.remember(batch, exit), (exit) => this.settle(batch, exit)))
    })
    const fiber = Effect.runForkWith(context)(life, { uninterruptible: true })
    if (!batch.ended) batch.fiber = fiber
  }

  private way(batch: Batch<Req>): Effect.Effect<void, Request.Error<Req>> {
    const admitted = Effect.suspend(() => {
      batch.queued = true
      batch.hurry = undefined
      const { engine } = this.options
      if (engine !== undefined && !batch.independent) batch.close()
      return Effect.flatMap(admit(batch, engine), (refused) => {
        if (refused !== undefined) return this.reject(batch, refused)
        // What made room for it may have been long.
        return batch.items.length > most
          ? Effect.flatMap(Effect.yieldNow, () => this.execute(batch))
          : this.execute(batch)
      })
    })
    return Effect.suspend(() => {
      if (this.closed || batch.callers === 0) return Effect.interrupt
      const window = batch.queued ? undefined : this.window(batch)
      return window === undefined ? admitted : Effect.andThen(window, admitted)
    })
  }

  private window(batch: Batch<Req>): Effect.Effect<void> | undefined {
    const { maxBatchSize, turns, window } = this.options
    if (turns === undefined || batch.size >= maxBatchSize) return undefined
    const hurried = Effect.callback<void>((resume) => {
      batch.hurry = () => resume(Effect.void)
      return window === "idle" ? turns.watch(batch.group, batch.hurry) : undefined
    })
    return window === "idle" ? hurried : Effect.raceFirst(this.clock.sleep(window), hurried)
  }

  private hurryFull(batch: Batch<Req>): void {
    if (batch.size >= this.options.maxBatchSize) batch.hurry?.()
  }

  private reject(batch: Batch<Req>, error: SchedulerError): Effect.Effect<void> {
    const { onRejected } = this.options
    return Effect.sync(() => {
      batch.seal()
      for (const item of batch.items) {
        item.exit = onRejected === undefined ? Exit.die(error) : onRejected(error, item.request)
      }
    })
  }

  private execute(batch: Batch<Req>): Effect.Effect<void, Request.Error<Req>> {
    return Effect.suspend(() => {
      batch.seal()
      // Those whose callers left while the batch was in the queue are not asked for.
      const wanted = batch.items = batch.wanted
      if (!isReadonlyArrayNonEmpty(wanted)) return Effect.interrupt
      const execute = Effect.updateContext<void, Request.Error<Req>, Exclude<R, Scope.Scope>, never>(
        Effect.onExit(
          Effect.scoped(Effect.withFiber((fiber) => {
            const { engine } = this.options
            const ask = () => this.options.resolve(wanted)
            return engine === undefined || batch.job === undefined ? ask() : firstStepOf(engine, batch.job, ask, fiber)
          })),
          (exit) => {
            batch.answer = exit
            return Effect.void
          }
        ),
        (caller: Context.Context<never>) => this.contextOf(batch, caller)
      )
      const { name } = this.options
      return name === undefined
        ? execute
        : Effect.withSpan(execute, name, { links: batch.links, attributes: { batchSize: batch.callers } })
    })
  }

  /** Ends a batch: nobody can join it any more, then its callers are told, as the returned effect goes on to do. */
  private settle(batch: Batch<Req>, exit: Exit.Exit<void, Request.Error<Req>>): Effect.Effect<void> {
    const { group } = batch
    batch.seal()
    batch.open = false
    batch.vanish()
    group.batches--
    this.running.delete(batch)
    this.forget()
    batch.ended = true
    batch.fiber = undefined
    if (Exit.isFailure(exit)) batch.failure = exit
    group.checkRest()
    try {
      // Others may start in this step.
      release(batch, this.options.engine)
    } finally {
      endUnsafe(batch)
    }
    return inTurns((budget) => batch.tell(exit, budget))
  }

  // ------------------------------------------------------------------------------------------------------------- places

  look(context: Context.Context<never>): Group<Req> {
    if (context !== this.seen) {
      // The isolating services may throw where they are compared, and look up in turn: nothing is known before.
      const group = this.groups.find(context)
      this.seenGroup = group
      this.seenNode = Context.getOrUndefined(context, CurrentNode)
      this.seen = context
    }
    return this.seenGroup!
  }

  /** Drops what was seen last, so that the context of a look-up that has ended is not kept. */
  private forget(): void {
    this.seen = this.seenGroup = this.seenNode = undefined
  }

  /** The services of the place where the resolver was made, those that isolate, and the span that the batch is run in. */
  private contextOf(batch: Batch<Req>, caller: Context.Context<never>): Context.Context<R> {
    const { group, job } = batch
    let context = group === this.groups.all ? this.base : Context.merge(this.base, group.context)
    context = Context.add(context, CurrentNode, job ?? batch)
    // Whoever built the layer, such as `runSync`, may have turns of another kind.
    const scheduler = Context.getOrUndefined(caller, Scheduler)
    if (scheduler !== undefined) context = Context.add(context, Scheduler, scheduler)
    const span = Context.getOrUndefined(caller, Tracer.ParentSpan)
    if (span !== undefined) context = Context.add(context, Tracer.ParentSpan, span)
    // Sound: what `base` lacks of R are the isolating services, and these are in the group's context.
    return context as Context.Context<R>
  }

  // -------------------------------------------------------------------------------------------------------------- cache

  /** Tells what a request's exit is: to the cache, and to those who look it up from here on. */
  primeUnsafe(request: Req, result: Result<Req>, context: Context.Context<never>): void {
    const memory = this.memory!
    const expires = memory.expires(result, request, memory.now)
    const { group, hash, key } = this.outdate(request, context, true)
    if (!this.closed && expires > 0) memory.set(group, key, hash, result, expires)
    group.checkRest()
  }

  clearUnsafe(request: Req, context: Context.Context<never>): void {
    this.outdate(request, context, false).group.checkRest()
  }

  clearAllUnsafe(): void {
    this.memory!.clear(this.groups.values())
    for (const batch of this.running) for (const item of batch.items) item.outdate(false)
  }

  private outdate(request: Req, context: Context.Context<never>, primed: boolean) {
    const key = this.keys.of(request)
    const hash = hashOf(key)
    const group = this.look(context)
    if (this.running.size === 0) this.forget()
    this.memory!.delete(group, key, hash)
    group.inFlight.get(key, hash)?.outdate(primed)
    return { group: this.groups.registered(group), key, hash }
  }
}

const wasAskedAnew = (node: Node): boolean => node instanceof Batch && node.anew

/** Whether an error tells of a node: jobs are how a batch runs. */
const isTold = (node: Node): boolean => node.kind !== "job"
