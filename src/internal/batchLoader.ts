/**
 * The engine of one resolver, on the hooks that core has for resolvers.
 *
 * Core collects look-ups and says when a batch runs; whoever wraps the resolver changes that at will. Ours is what core
 * asks on the way: `preCheck` (join what is in flight), `batchKey` (who may share, and, asked again, who leaves),
 * `collectWhile` (distinct requests) and `runAll` (merge, queue, run, tell).
 *
 * A batch collects twice: in core, for its window, and then here, for as long as it is in the queue of its scheduler. What
 * core hands on meanwhile travels in it.
 */
import { isReadonlyArrayNonEmpty } from "effect/Array"
import type { NonEmptyArray, NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { BatcherError, LookupCycle } from "./batchError.js"
import { Groups } from "./batchGroups.js"
import { hashOf, RequestKeys } from "./batchKey.js"
import { Memory } from "./batchMemory.js"
import type { MemoryOptions } from "./batchMemory.js"
import { admit, delist, enlist, release } from "./batchQueue.js"
import { Bulk, Caller, CurrentBatch, Group, Item, Run } from "./batchState.js"
import type { Batch, Part, Result } from "./batchState.js"
import { Tally } from "./batchTally.js"
import { pause } from "./batchWindow.js"
import type { Turns } from "./batchWindow.js"
import { KeyMap } from "./keyMap.js"
import { CurrentJob } from "./scheduler.js"
import type { Engine } from "./scheduler.js"
import type { SchedulerError } from "./schedulerError.js"

export interface LoaderOptions<Req extends Request.Any, R> {
  /** Sets the exit of every item, or fails. */
  readonly resolve: (items: NonEmptyReadonlyArray<Item<Req>>) => Effect.Effect<void, Request.Error<Req>, R>
  readonly onRejected: ((error: SchedulerError, request: Req) => Result<Req>) | undefined
  readonly isolate: ReadonlyArray<Context.Key<unknown, unknown>>
  readonly maxBatchSize: number
  /** `undefined`: no batches, each look-up is a call of its own. */
  readonly turns: Turns | undefined
  readonly window: "idle" | Duration.Duration
  readonly engine: Engine | undefined
  /** Of the span that each batch is run in. */
  readonly name: string | undefined
  readonly cache: MemoryOptions<Req> | undefined
  /** Of the place where the resolver is made. */
  readonly context: Context.Context<never>
}

/** Where we keep what we know of an entry: core hands the same object to every hook. */
const callerOf = Symbol("effect-funnel/Batcher/caller")

interface Entry<Req extends Request.Any> extends Request.Entry<Req> {
  [callerOf]?: Caller<Req>
}

export class Loader<Req extends Request.Any, R> {
  private readonly options: LoaderOptions<Req, R>
  private readonly keys = new RequestKeys()
  private readonly groups: Groups<Req>
  private readonly memory: Memory<Req> | undefined
  /** What every batch is run with. */
  private readonly base: Context.Context<never>
  private readonly running = new Set<Run<Req>>()
  /** Of each group the batch that goes on collecting while it is in the queue. */
  private readonly waiting = new Map<Group<Req>, Run<Req>>()
  private readonly closing = Deferred.makeUnsafe<void>()
  private closed = false
  /** The look-up that core is asking about. */
  private current: Caller<Req> | undefined = undefined
  /** What travels with the look-up that is handed to core next. */
  private carrying: Bulk<Req> | undefined = undefined
  private readonly tallies = new WeakMap<object, Tally>()
  /** Ours, as it was made: not wrapped in what has its own idea of a batch. */
  private resolver: RequestResolver<Req> | undefined = undefined
  /** The context seen last and what was found in it: those who look up together mostly share one. */
  private seen: Context.Context<never> | undefined = undefined
  private seenGroup: Group<Req> | undefined = undefined
  private seenBatch: Batch | undefined = undefined
  private seenTie = false

  constructor(options: LoaderOptions<Req, R>) {
    this.options = options
    this.base = Context.omit(Tracer.ParentSpan, ...options.isolate)(options.context)
    this.memory = options.cache === undefined
      ? undefined
      : new Memory(options.cache, Context.get(options.context, Clock.Clock))
    this.groups = new Groups(this, options.isolate, (group) => {
      if (this.seenGroup === group) this.seen = this.seenGroup = undefined
    })
  }

  // ------------------------------------------------------------------------------------------------------- core's hooks

  /**
   * Answers at once, or joins what is in flight; true hands the look-up on to core, to be collected. Core calls it on
   * `resolver`, and so does whoever wraps that.
   */
  preCheck(entry: Entry<Req>, resolver: unknown): boolean {
    if (this.closed) return answer(entry, Exit.interrupt())
    this.look(entry.context)
    let group = this.seenGroup!
    const origin = this.seenBatch
    const bulk = this.carrying
    if (bulk !== undefined) {
      this.carrying = undefined
      this.collect(new Caller(entry, origin, bulk))
      return true
    }
    const key = this.keys.of(entry.request)
    const hash = hashOf(key)
    if (this.memory !== undefined) {
      const exit = this.memory.get(group, key, hash, this.memory.now)
      if (exit !== undefined) return answer(entry, exit)
      if (this.seen === undefined) {
        // What it kept has expired, and it was at rest.
        this.look(entry.context)
        group = this.seenGroup!
      }
    }
    const item = group.inFlight.get(key, hash)
    const caller = new Caller(entry, origin, undefined)
    // What a wrapper collects has a way of its own to go.
    if (item === undefined || (item.batch === undefined && resolver !== this.resolver)) {
      const own = new Item(group, key, hash, entry.request)
      own.tied = this.seenTie
      own.add(caller)
      this.collect(caller)
      return true
    }
    if (this.seenTie) item.tied = true
    const batch = item.batch
    if (batch === undefined) {
      group.joins++
    } else if (!caller.independent) {
      if (batch.waitsFor(origin!)) {
        return answer(entry, Exit.die(new BatcherError({ reason: new LookupCycle({ request: entry.request }) })))
      }
      // It collects no more: what came to travel in it might wait for the batch that now waits for it.
      if (this.waiting.get(group) === batch) this.waiting.delete(group)
    }
    entry[callerOf] = caller
    caller.asked = true
    item.add(caller)
    if (batch?.started === false) enlist(batch, this.options.engine, [caller])
    return false
  }

  private collect(caller: Caller<Req>): void {
    // Sound: core's entry, which goes on to the other hooks.
    const entry = caller.entry as Entry<Req>
    entry[callerOf] = caller
    caller.group.joins++
    this.current = caller
  }

  /** Says who may share. Asked a second time about an entry, its caller is leaving. Core asks `resolver`. */
  batchKey(entry: Entry<Req>, resolver: unknown): unknown {
    const caller = entry[callerOf]
    if (caller === undefined || caller.group.owner !== this) {
      // A wrapper answered before we were asked.
      this.look(entry.context)
      return this.seenGroup
    }
    const { bulk, group, item } = caller
    if (caller.asked) {
      this.leave(caller)
      // No batch of core's has this key: those who joined what core collects still need the entry there.
      if (item?.collected === true) return caller
      if (item?.batch === undefined) item?.withdraw(entry)
    } else if (resolver === this.resolver) {
      if (bulk !== undefined) bulk.direct = true
      else if (this.options.turns !== undefined && group.inFlight.get(item!.key, item!.hash) === undefined) {
        item!.collect()
      }
    }
    caller.asked = true
    return group
  }

  /** Counts distinct requests, core's set holds all of them. */
  collectWhile(entries: ReadonlySet<Request.Entry<Req>>): boolean {
    const max = this.options.maxBatchSize
    const caller = this.current
    // Sound: it is core's own, which core fills and empties.
    if (caller?.item?.collected === true) caller.item.pending ??= entries as Set<Request.Entry<Req>>
    if (max === Infinity) return true
    if (caller?.item === undefined || !entries.has(caller.entry)) return entries.size < max
    // Core uses its sets again: one that holds a single entry belongs to a new batch.
    let tally = entries.size === 1 ? undefined : this.tallies.get(entries)
    if (tally === undefined) this.tallies.set(entries, tally = new Tally())
    tally.add(caller.item.key, caller.item.hash)
    caller.item.tally = tally
    return tally.size < max
  }

  get delay(): Effect.Effect<void> {
    const { turns, window } = this.options
    if (turns === undefined) return Effect.void
    const wait = (group: Group<Req>, window: "idle" | Duration.Duration): Effect.Effect<void> =>
      window === "idle" ? turns.idle(group) : pause(window, this.closing)
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        // Core forks it with the context of the look-up that opens the batch.
        this.look(fiber.context)
        const group = this.seenGroup!
        group.open++
        // If there is one to go with, what is left to wait for is that it starts meanwhile.
        const collect = window === "idle" || !this.waiting.has(group)
          ? wait(group, window)
          : Effect.flatMap(wait(group, "idle"), () => this.waiting.has(group) ? Effect.void : wait(group, window))
        return Effect.onExit(restore(collect), (exit) => {
          group.open--
          if (exit._tag === "Failure") group.checkRest()
          return Effect.void
        })
      })
    )
  }

  runAll(entries: NonEmptyArray<Entry<Req>>, key: unknown): Effect.Effect<void, Request.Error<Req>> {
    if (this.options.isolate.length === 0 || (key instanceof Group && key.owner === this)) return this.travel(entries)
    // A wrapper has put its own key in place of ours; what is isolated stays so.
    return Effect.suspend(() => {
      const parts = new Map<Group<Req>, NonEmptyArray<Entry<Req>>>()
      for (const entry of entries) {
        const group = this.groupOf(entry)
        const part = parts.get(group)
        if (part === undefined) parts.set(group, [entry])
        else part.push(entry)
      }
      return Effect.forEach(parts.values(), (part) => Effect.exit(this.travel(part)), {
        concurrency: "unbounded",
        discard: true
      })
    })
  }

  // ----------------------------------------------------------------------------------------------------- a batch's way

  /** Those that core has collected go with the batch that still waits, as far as there is room, and make one of the rest. */
  private travel(entries: NonEmptyArray<Entry<Req>>): Effect.Effect<void, Request.Error<Req>> {
    return Effect.withFiber((fiber) => {
      const group = this.groups.registered(this.groupOf(entries[0]))
      const open = this.waiting.get(group)
      const callers: Array<Caller<Req>> = []
      for (const entry of entries) {
        const caller = this.callerOf(entry, group)
        if (!caller.left || caller.item?.collected === true) callers.push(caller)
        // It left between two steps of core, which no longer finds the batch to take it out of.
        else caller.end(Exit.interrupt())
      }
      if (callers.length === 0) {
        group.checkRest()
        return Effect.interrupt
      }
      if (this.closed || open === undefined || !callers.every(mayJoin)) return this.run(callers, group)
      return this.join(open, callers, fiber)
    })
  }

  private join(open: Run<Req>, callers: ReadonlyArray<Caller<Req>>, fiber: Fiber.Fiber<unknown, unknown>) {
    const joined: Array<Caller<Req>> = []
    const over: Array<Caller<Req>> = []
    const present = callers.filter((caller) => !caller.left)
    const part: Part = { pending: present.length, ended: Deferred.makeUnsafe() }
    for (const caller of present) caller.part = part
    if (this.options.maxBatchSize === Infinity) open.board(callers)
    for (const caller of callers) {
      const all: Array<Caller<Req>> = []
      if (caller.bulk === undefined) caller.item!.forEach((_) => all.push(_))
      else all.push(caller)
      if (!open.take(caller, this.options.maxBatchSize)) over.push(caller)
      else for (const _ of all) joined.push(_)
    }
    enlist(open, this.options.engine, joined)
    // In a fiber of its own, for it may be interrupted when those in `open` still wait.
    if (over.length > 0) {
      Effect.runForkWith(fiber.context)(this.run(over, open.group), { scheduler: fiber.cache.scheduler })
    }
    return part.pending === 0 ? Effect.void : Deferred.await(part.ended)
  }

  private run(callers: ReadonlyArray<Caller<Req>>, group: Group<Req>): Effect.Effect<void, Request.Error<Req>> {
    return Effect.withFiber((fiber) => {
      let run: Run<Req> | undefined
      return Effect.onExit(
        Effect.suspend(() => {
          if (this.closed) return Effect.interrupt
          const started = run = new Run<Req>(fiber, group, this.options.turns !== undefined)
          this.begin(started, callers)
          // They left between two steps.
          if (started.callers === 0) return Effect.interrupt
          return Effect.flatMap(
            admit(started, this.options.engine),
            (refused) => refused === undefined ? this.execute(started) : this.reject(started, refused)
          )
        }),
        (exit) => {
          if (run !== undefined) this.settle(run, exit)
          if (exit._tag === "Failure") {
            // What it did not come to ask for.
            for (const { entry, item } of callers) {
              if (item === undefined) entry.completeUnsafe(Exit.failCause(exit.cause))
              else if (!item.placed) item.abandon(Exit.failCause(exit.cause))
            }
            group.checkRest()
          }
          return Effect.void
        }
      )
    })
  }

  /** Merges equal look-ups, and lets others join from here on. */
  private begin(run: Run<Req>, callers: ReadonlyArray<Caller<Req>>): void {
    run.group.running++
    this.running.add(run)
    const open = callers.every(mayJoin)
    run.takeAll(callers)
    if (open && this.options.engine !== undefined) this.waiting.set(run.group, run)
  }

  /** What the batch asks for is settled: others can join its requests, and add none. */
  private seal(run: Run<Req>): void {
    run.sent = true
    if (this.waiting.get(run.group) === run) this.waiting.delete(run.group)
  }

  private reject(run: Run<Req>, error: SchedulerError): Effect.Effect<void> {
    const onRejected = this.options.onRejected
    return Effect.sync(() => {
      this.seal(run)
      for (const item of run.items) {
        item.exit = onRejected === undefined ? Exit.die(error) : onRejected(error, item.request)
      }
    })
  }

  private execute(run: Run<Req>): Effect.Effect<void, Request.Error<Req>> {
    return Effect.suspend(() => {
      this.seal(run)
      // Those whose callers left while the batch was in the queue are not asked for.
      const wanted = run.wanted
      if (!isReadonlyArrayNonEmpty(wanted)) return Effect.interrupt
      const { memory } = this
      const execute = Effect.updateContext<void, Request.Error<Req>, Exclude<R, Scope.Scope>, never>(
        Effect.onExit(
          Effect.scoped(Effect.suspend(() => this.options.resolve(wanted))),
          (exit) => memory === undefined ? Effect.void : Effect.sync(() => memory.date(wanted, exit))
        ),
        (caller: Context.Context<never>) => this.contextOf(run, caller)
      )
      const { name } = this.options
      return name === undefined
        ? execute
        : Effect.withSpan(execute, name, { links: run.links, attributes: { batchSize: run.callers } })
    })
  }

  /** Ends a batch: nobody can join it any more, then its callers are told. */
  private settle(run: Run<Req>, exit: Exit.Exit<void, Request.Error<Req>>): void {
    const { group, items } = run
    this.seal(run)
    run.open = false
    // Of the only batch that runs, all goes at once.
    if (--group.running === 0 && group.collected === 0 && items.length > 16) group.inFlight = new KeyMap()
    else run.unlist()
    this.running.delete(run)
    this.seen =
      this.seenGroup =
      this.seenBatch =
      this.current =
        undefined
    release(run, this.options.engine)
    this.memory?.keep(group, items, exit)
    group.checkRest()
    run.tell(exit)
  }

  // ------------------------------------------------------------------------------------------------------ who may leave

  private leave(caller: Caller<Req>): void {
    if (caller.left) return
    caller.left = true
    const { group, item } = caller
    const run = item?.batch
    if (item === undefined || run === undefined) {
      // It was still collected: core takes it out, if nobody else needs it there.
      item?.remove(caller)
      caller.end(Exit.interrupt())
      if (group.open === 0) group.checkRest()
      return
    }
    if (!run.open) return
    // Before anything else, so that a cache around this resolver lets go of it.
    caller.end(Exit.interrupt())
    run.drop(caller)
    if (run.callers === 0) {
      run.open = false
      this.seal(run)
      run.unlist()
      run.fiber.interruptUnsafe()
    } else if (!run.started) {
      delist(run, this.options.engine, caller)
    }
  }

  readonly close: Effect.Effect<void> = Effect.withFiber((fiber) => {
    this.closed = true
    Deferred.doneUnsafe(this.closing, Exit.void)
    // A batch that closes its own resolver does not wait for itself.
    const around = Context.get(fiber.context, CurrentBatch)
    const others: Array<Fiber.Fiber<unknown, unknown>> = []
    for (const batch of this.running) {
      if (batch !== around) others.push(batch.fiber)
      batch.fiber.interruptUnsafe(fiber.id)
    }
    return Effect.asVoid(Fiber.awaitAll(others))
  })

  // -------------------------------------------------------------------------------------------------------------- cache

  /** Tells what a request's exit is: to the cache, and to those who look it up from here on. */
  primeUnsafe(request: Req, result: Result<Req>, context: Context.Context<never>): void {
    const { group, hash, key } = this.outdate(request, context, true)
    if (!this.closed) this.memory!.prime(group, key, hash, request, result)
    group.checkRest()
  }

  clearUnsafe(request: Req, context: Context.Context<never>): void {
    this.outdate(request, context, false).group.checkRest()
  }

  clearAllUnsafe(): void {
    this.memory!.clear()
    for (const group of this.groups.values()) {
      for (const item of group.inFlight.values()) item.outdate(false)
    }
  }

  private outdate(request: Req, context: Context.Context<never>, primed: boolean) {
    this.look(context)
    const group = this.seenGroup!
    const key = this.keys.of(request)
    const hash = hashOf(key)
    this.memory!.delete(group, key, hash)
    group.inFlight.get(key, hash)?.outdate(primed)
    return { group: this.groups.registered(group), key, hash }
  }

  // ----------------------------------------------------------------------------------------------------- many at a time

  /**
   * Those of many look-ups that can travel together, and the others: what has its answer or is in flight already, or,
   * where batches are bounded, all.
   */
  gather(requests: ReadonlyArray<Req>, context: Context.Context<never>): [bulk: Bulk<Req>, others: Array<number>] {
    const others: Array<number> = []
    const collects = !this.closed && this.options.turns !== undefined && this.options.maxBatchSize === Infinity
    this.look(context)
    const group = this.seenGroup!
    if (this.closed) group.checkRest()
    const bulk = new Bulk<Req>(group)
    const alone = group.running === 0 && group.collected === 0 && group.kept === 0
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!
      const key = this.keys.of(request)
      const hash = hashOf(key)
      const known = !alone &&
        (group.inFlight.get(key, hash) !== undefined || group.cached.get(key, hash) !== undefined)
      if (collects && !known) {
        bulk.add(i, request, key, hash)
      } else {
        others.push(i)
      }
    }
    return [bulk, others]
  }

  /** Runs a synchronous step that hands the first look-up of a bulk to core. */
  carry<A>(bulk: Bulk<Req>, step: () => A): A {
    this.carrying = bulk
    const result = step()
    this.carrying = undefined
    return result
  }

  // ------------------------------------------------------------------------------------------------------------- places

  private look(context: Context.Context<never>): void {
    if (context === this.seen) return
    this.seen = context
    this.seenBatch = Context.get(context, CurrentBatch)
    this.seenTie = this.seenBatch !== undefined || Context.get(context, CurrentJob) !== undefined
    this.seenGroup = this.groups.find(context)
  }

  private callerOf(entry: Entry<Req>, group: Group<Req>): Caller<Req> {
    const caller = entry[callerOf]
    if (caller !== undefined && caller.group.owner === this && caller.item?.batch === undefined) return caller
    const key = this.keys.of(entry.request)
    const fresh = new Caller(entry, Context.get(entry.context, CurrentBatch), undefined)
    const item = new Item(group, key, hashOf(key), entry.request)
    item.tied = true
    item.add(fresh)
    return fresh
  }

  private groupOf(entry: Entry<Req>): Group<Req> {
    const caller = entry[callerOf]
    return caller !== undefined && caller.group.owner === this ? caller.group : this.groups.find(entry.context)
  }

  /** The services of the place where the resolver was made, those that isolate, and the span that core runs the batch in. */
  private contextOf(run: Run<Req>, caller: Context.Context<never>): Context.Context<R> {
    const { group, job, outer } = run
    let context = group === this.groups.all ? this.base : Context.merge(this.base, group.context)
    context = Context.add(context, CurrentBatch, run)
    context = Context.add(context, CurrentJob, job ?? outer)
    const span = Context.getOrUndefined(caller, Tracer.ParentSpan)
    if (span !== undefined) context = Context.add(context, Tracer.ParentSpan, span)
    // Sound: what `base` lacks of R are the isolating services, and these are in the group's context.
    return context as Context.Context<R>
  }

  /** Says which resolver this is the loader of, and makes that known to {@link loaderOf}. */
  register(resolver: RequestResolver<Req>): RequestResolver<Req> {
    this.resolver = resolver
    loaders.set(resolver, this)
    return resolver
  }
}

const loaders = /*#__PURE__*/ new WeakMap<object, unknown>()

/** The loader of a resolver that is one of ours, as it was made: not wrapped in what core must be asked about. */
export const loaderOf = <Req extends Request.Any>(resolver: RequestResolver<Req>): Loader<Req, never> | undefined =>
  // Sound: `register` puts there what belongs to the resolver's requests.
  loaders.get(resolver) as Loader<Req, never> | undefined

/** Ends a look-up before anybody collects it. It does not leave: core need not ask. */
const answer = <Req extends Request.Any>(entry: Request.Entry<Req>, exit: Result<Req>): false => {
  entry.uninterruptible = true
  entry.completeUnsafe(exit)
  return false
}

/** Whether what core has collected may travel with others than those that it collected with it. */
const mayJoin = <Req extends Request.Any>(caller: Caller<Req>): boolean => {
  const { bulk, item } = caller
  if (bulk !== undefined) return bulk.direct && caller.independent
  return item!.collected && item!.independent
}
