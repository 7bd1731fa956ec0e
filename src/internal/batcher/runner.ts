/**
 * Runs what core has collected: as a batch of its own, or with the one that still waits in the queue of its scheduler.
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
import { hasProperty } from "effect/Predicate"
import type * as Request from "effect/Request"
import { Scheduler } from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { Groups } from "./groups.js"
import { RequestKeys } from "./key.js"
import { Memory } from "./memory.js"
import type { MemoryOptions } from "./memory.js"
import { admit, release } from "./queue.js"
import { mayJoin, Run } from "./run.js"
import type { Caller, Group, Item, Part, Result, Ride } from "./state.js"
import { andThen, inTurns, most } from "./turns.js"
import type { Turns } from "./window.js"
import { KeyMap } from "../data/keyMap.js"
import { firstStepOf } from "../scheduler/schedule.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import { above, CurrentNode, endUnsafe, nodeOf } from "../waits/waits.js"
import type { Node } from "../waits/waits.js"

export interface RunnerOptions<Req extends Request.Any, R> {
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

/** Where we keep what we know of an entry: core hands the same object to every hook. */
export const callerOf = Symbol("effect-funnel/Batcher/caller")

export interface Entry<Req extends Request.Any> extends Request.Entry<Req> {
  [callerOf]?: Caller<Req>
}

export class Runner<Req extends Request.Any, R> {
  protected readonly options: RunnerOptions<Req, R>
  protected readonly keys = new RequestKeys()
  protected readonly groups: Groups<Req>
  protected readonly memory: Memory<Req> | undefined
  /** What every batch is run with. */
  protected readonly base: Context.Context<never>
  protected readonly running = new Set<Run<Req>>()
  /** Of each group the batch that goes on collecting while it is in the queue. */
  protected readonly waiting = new Map<Group<Req>, Run<Req>>()
  protected readonly closing = Deferred.makeUnsafe<void>()
  protected closed = false
  /** The look-up that core is asking about. */
  protected current: Caller<Req> | undefined = undefined
  /** The context seen last and what was found in it: those who look up together mostly share one. */
  protected seen: Context.Context<never> | undefined = undefined
  protected seenGroup: Group<Req> | undefined = undefined
  protected seenNode: Node | undefined = undefined

  /** The resolver's. */
  get name(): string | undefined {
    return this.options.name
  }

  constructor(options: RunnerOptions<Req, R>) {
    this.options = options
    this.base = Context.omit(Tracer.ParentSpan, Scheduler, ...options.isolate)(options.context)
    this.memory = options.cache === undefined
      ? undefined
      : new Memory(options.cache, Context.get(options.context, Clock.Clock))
    this.groups = new Groups(this, options.isolate, (group) => {
      if (this.seenGroup === group) this.seen = this.seenGroup = this.seenNode = undefined
    })
  }

  // ----------------------------------------------------------------------------------------------------- a batch's way

  /** Those that core has collected go with the batch that still waits, as far as there is room, and make one of the rest. */
  protected travel(
    all: ReadonlyArray<Caller<Req>>,
    fiber: Fiber.Fiber<unknown, unknown>
  ): Effect.Effect<void, Request.Error<Req>> {
    const group = this.groups.registered(all[0]!.group)
    const open = this.waiting.get(group)
    const callers = all.filter((caller) => !caller.left || caller.item?.collected === true)
    if (callers.length === 0) {
      group.checkRest()
      return Effect.interrupt
    }
    if (this.closed || open === undefined || !callers.every(mayJoin)) return this.run(callers, group)
    return this.join(open, callers, fiber)
  }

  private join(open: Run<Req>, callers: ReadonlyArray<Caller<Req>>, fiber: Fiber.Fiber<unknown, unknown>) {
    const over: Array<Caller<Req>> = []
    const present = callers.filter((caller) => !caller.left)
    const part: Part = { pending: present.length, ended: Deferred.makeUnsafe() }
    for (const caller of present) caller.part = part
    if (this.options.maxBatchSize === Infinity) { for (const caller of callers) open.board(caller) }
    for (const caller of callers) {
      if (!open.take(caller, this.options.maxBatchSize)) over.push(caller)
    }
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
          const { engine, turns } = this.options
          const started = run = new Run<Req>(fiber, group, turns !== undefined, engine !== undefined)
          return andThen(this.begin(started, callers), () => {
            // They left between two steps.
            if (started.callers === 0) return Effect.interrupt
            if (started.collects) this.waiting.set(group, started)
            return Effect.flatMap(admit(started, engine), (refused) => {
              if (refused !== undefined) return this.reject(started, refused)
              // What made room for it may have been long.
              return started.items.length > most
                ? Effect.flatMap(Effect.yieldNow, () => this.execute(started))
                : this.execute(started)
            })
          })
        }),
        (exit) => {
          const { memory } = this
          const ended = run
          const told = ended === undefined
            ? Effect.void
            : memory === undefined
            ? this.settle(ended, exit)
            // That calls what is not ours: for what it does the batch still runs.
            : Effect.flatMap(memory.remember(ended, exit), (exit) => this.settle(ended, exit))
          return exit._tag === "Success" ? told : Effect.ensuring(told, this.abandon(callers, group, exit))
        }
      )
    })
  }

  /** Ends those for whom a batch that ended did not come to ask. */
  private abandon(
    callers: ReadonlyArray<Caller<Req>>,
    group: Group<Req>,
    { cause }: Exit.Failure<void, Request.Error<Req>>
  ) {
    const exit = Exit.failCause(cause)
    const left = callers.filter(({ item }) => item === undefined || !item.placed)
    for (const { item } of left) item?.unlist()
    group.checkRest()
    let next = 0
    return inTurns((most) => {
      while (next < left.length) {
        if (most === 0) return false
        const { entry, item } = left[next]!
        if (item === undefined) {
          next++
          most--
          entry.completeUnsafe(exit)
        } else {
          most -= item.abandon(exit, most)
          if (item.first !== undefined) return false
          next++
        }
      }
      return true
    })
  }

  /** Merges equal look-ups, and lets others join from here on. */
  private begin(run: Run<Req>, callers: ReadonlyArray<Caller<Req>>): Effect.Effect<void> {
    run.group.running++
    this.running.add(run)
    return run.takeAll(callers)
  }

  /** What the batch asks for is settled: others can join its requests, and add none. */
  private seal(run: Ride<Req>): void {
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
      const wanted = run.items = run.wanted
      if (!isReadonlyArrayNonEmpty(wanted)) return Effect.interrupt
      const execute = Effect.updateContext<void, Request.Error<Req>, Exclude<R, Scope.Scope>, never>(
        Effect.onExit(
          Effect.scoped(Effect.withFiber((fiber) => {
            const { engine } = this.options
            const ask = () => this.options.resolve(wanted)
            return engine === undefined || run.job === undefined ? ask() : firstStepOf(engine, run.job, ask, fiber)
          })),
          (exit) => {
            run.answer = exit
            return Effect.void
          }
        ),
        (caller: Context.Context<never>) => this.contextOf(run, caller)
      )
      const { name } = this.options
      return name === undefined
        ? execute
        : Effect.withSpan(execute, name, { links: run.links, attributes: { batchSize: run.callers } })
    })
  }

  /** Ends a batch: nobody can join it any more, then its callers are told, as the returned effect goes on to do. */
  private settle(run: Run<Req>, exit: Exit.Exit<void, Request.Error<Req>>): Effect.Effect<void> {
    const { group, items } = run
    this.seal(run)
    run.open = false
    // Of the only batch that runs, all goes at once.
    if (--group.running === 0 && group.collected === 0 && items.length > 16) group.inFlight = new KeyMap()
    else run.unlist()
    this.running.delete(run)
    this.forget()
    run.ended = true
    run.fiber = undefined
    group.checkRest()
    try {
      // Others may start in this step.
      release(run, this.options.engine)
    } finally {
      endUnsafe(run)
    }
    return inTurns((most) => run.tell(exit, most))
  }

  // ------------------------------------------------------------------------------------------------------ who may leave

  protected leave(caller: Caller<Req>): void {
    if (caller.left) return
    caller.left = true
    const { group, item } = caller
    const run = item?.batch
    if (item === undefined || run === undefined) {
      // It was still collected: core takes it out, if nobody else needs it there.
      item?.remove(caller)
      if (group.open === 0) group.checkRest()
      if (this.seen === caller.entry.context) this.forget()
      caller.end(Exit.interrupt())
      return
    }
    if (!run.open) return
    run.drop(caller)
    const last = run.callers === 0
    if (last) {
      run.open = false
      this.seal(run)
      run.unlist()
    }
    try {
      // Before the batch ends, so that a cache around this resolver lets go of it.
      caller.end(Exit.interrupt())
    } finally {
      if (last) run.fiber?.interruptUnsafe()
    }
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
      // Sound: it has one until it is settled, and then it is not among those that run.
      const other = batch.fiber!
      if (!around.has(batch)) others.push(other)
      other.interruptUnsafe(fiber.id)
    }
    return Effect.asVoid(Fiber.awaitAll(others))
  })

  // ------------------------------------------------------------------------------------------------------------- places

  /** What errors call the resolver. */
  nameFor(request: Request.Any): string {
    const { name, service } = this.options
    return name ?? service ?? (hasProperty(request, "_tag") ? String(request._tag) : request.constructor.name)
  }

  protected look(context: Context.Context<never>): void {
    if (context === this.seen) return
    // The isolating services may throw where they are compared, and look up in turn: nothing is known before.
    const group = this.groups.find(context)
    this.seenGroup = group
    this.seenNode = Context.getOrUndefined(context, CurrentNode)
    this.seen = context
  }

  /** Drops what was seen last, so that the context of a look-up that has ended is not kept. */
  protected forget(): void {
    this.seen =
      this.seenGroup =
      this.seenNode =
      this.current =
        undefined
  }

  /** The services of the place where the resolver was made, those that isolate, and the span that core runs the batch in. */
  private contextOf(run: Run<Req>, caller: Context.Context<never>): Context.Context<R> {
    const { group, job } = run
    let context = group === this.groups.all ? this.base : Context.merge(this.base, group.context)
    context = Context.add(context, CurrentNode, job ?? run)
    // Whoever built the layer, such as `runSync`, may have turns of another kind.
    const scheduler = Context.getOrUndefined(caller, Scheduler)
    if (scheduler !== undefined) context = Context.add(context, Scheduler, scheduler)
    const span = Context.getOrUndefined(caller, Tracer.ParentSpan)
    if (span !== undefined) context = Context.add(context, Tracer.ParentSpan, span)
    // Sound: what `base` lacks of R are the isolating services, and these are in the group's context.
    return context as Context.Context<R>
  }
}
