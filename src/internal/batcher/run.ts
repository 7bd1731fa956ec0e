/**
 * Runs batches, each in one fiber from its first look-up to the last of its callers:
 *
 *     open → launch → window → admit → execute → settle
 */
import { isReadonlyArrayNonEmpty } from "effect/Array"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import type * as Request from "effect/Request"
import { Scheduler } from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Client } from "../scheduler/clientJob.js"
import type { SchedulerError } from "../scheduler/error.js"
import type { BatcherWatch } from "../seen/seen.js"
import { above, CurrentNode, endUnsafe, type Node, nodeOf } from "../waits/waits.js"
import type { Cache } from "./cache.js"
import type { Checked, Settings } from "./options.js"
import { Batch, type Group, type Groups, type Slot } from "./parts.js"
import type { Plan } from "./plan.js"
import { inTurns, most } from "./turns.js"

/** What a resolver is made of. */
export interface Recipe<Req extends Request.Any, R> extends Settings, Omit<Checked<Req>, keyof Settings> {
  readonly plan: Plan<Req, R>
  /** The service that the resolver is. */
  readonly service: string | undefined
  /** The context of the place where the resolver is made. */
  readonly context: Context.Context<never>
  /** The name of the spans of batches. */
  readonly spanName: string | undefined
  /** Hears of look-ups and batches, where something observes them. */
  readonly watch: BatcherWatch | undefined
}

export class Runner<Req extends Request.Any, R> {
  readonly running = new Set<Batch<Req>>()
  /** End windows of core when the resolver closes. */
  readonly onClose = new Set<() => void>()
  private readonly recipe: Recipe<Req, R>
  private readonly clock: Clock.Clock
  private readonly groups: Groups<Req>
  private readonly cache: Cache<Req> | undefined
  /** The services that every batch has. */
  private readonly base: Context.Context<never>

  constructor(recipe: Recipe<Req, R>, clock: Clock.Clock, groups: Groups<Req>, cache: Cache<Req> | undefined) {
    this.recipe = recipe
    this.clock = clock
    this.groups = groups
    this.cache = cache
    this.base = Context.omit(Tracer.ParentSpan, Scheduler, ...recipe.isolate ?? [])(recipe.context)
  }

  open(group: Group<Req>, slot: Slot<Req> | undefined, anew: boolean): Batch<Req> {
    const batch = new Batch(group, slot, anew)
    const { watch } = this.recipe
    if (watch !== undefined) batch.since = watch.now()
    group.batches++
    this.groups.add(group)
    this.running.add(batch)
    return batch
  }

  /** Its fiber is uninterruptible until `settle` is sure to run. */
  launch(batch: Batch<Req>, context: Context.Context<never>): void {
    const life = Effect.withFiber((fiber) => {
      batch.fiber = fiber
      return Effect.onExit(Effect.interruptible(this.travel(batch)), (exit) =>
        // `timeToLive` may use the resolver: until it has been asked, the batch is running.
        this.cache === undefined
          ? this.settle(batch, exit)
          : Effect.flatMap(this.cache.remember(batch, exit), (exit) => this.settle(batch, exit)))
    })
    const fiber = Effect.runForkWith(context)(life, { uninterruptible: true })
    if (batch.ended) return
    batch.fiber = fiber
    // Core ends a fiber without its finalizers where it meets what is no effect, such as the promise of an `execute`.
    fiber.addObserver((exit) => {
      if (!batch.ended) Effect.runForkWith(context)(this.settle(batch, Exit.isSuccess(exit) ? Exit.interrupt() : exit))
    })
  }

  private travel(batch: Batch<Req>): Effect.Effect<void, Request.Error<Req>> {
    return Effect.suspend(() => {
      if (this.groups.closed || batch.callers === 0) return Effect.interrupt
      if (batch.phase === "queued" || batch.size >= this.recipe.maxBatchSize) return this.admit(batch)
      const window = this.window(batch.group, (end) => {
        batch.hurry = end
      })
      return Effect.flatMap(window, () => this.admit(batch))
    })
  }

  /** Lasts until the group has been quiet, or for some time. `started` is given a function that ends it. */
  window(group: Group<Req>, started: (end: () => void) => void): Effect.Effect<void> {
    const { window } = this.recipe
    const ended = Effect.callback<void>((resume) => {
      const end = () => resume(Effect.void)
      started(end)
      if (window === "idle") whenQuiet(group, end)
    })
    return window === "idle" ? ended : Effect.raceFirst(this.clock.sleep(window), ended)
  }

  private admit(batch: Batch<Req>): Effect.Effect<void, Request.Error<Req>> {
    const { engine } = this.recipe
    batch.phase = "queued"
    batch.hurry = undefined
    if (engine === undefined) return this.start(batch)
    if (!batch.independent) batch.close()
    return Effect.flatMap(
      Effect.callback<SchedulerError | undefined>((resume) => {
        engine.submitUnsafe(batch.job = engine.jobOf(new Admission(batch, resume), batch))
      }),
      (refused) => {
        if (refused !== undefined) return this.reject(batch, refused)
        const { permits } = engine
        if (permits === undefined) return this.start(batch)
        // Apart from the failures of the batch, which may be errors of a scheduler too: a lost permit.
        return Effect.matchEffect(permits.guard(batch.job!, Effect.exit(this.start(batch))), {
          onFailure: (lost) => this.reject(batch, lost),
          onSuccess: identity
        })
      }
    )
  }

  private reject(batch: Batch<Req>, error: SchedulerError): Effect.Effect<void> {
    const { onRejected } = this.recipe
    return Effect.sync(() => {
      batch.seal()
      for (const item of batch.items) {
        item.exit = onRejected === undefined ? Exit.die(error) : onRejected(error, item.request)
      }
    })
  }

  private start(batch: Batch<Req>): Effect.Effect<void, Request.Error<Req>> {
    const execute = Effect.suspend(() => this.execute(batch))
    // The step that adds the last items of a large batch, or that makes room for it, may itself be long.
    return batch.items.length > most ? Effect.flatMap(Effect.yieldNow, () => execute) : execute
  }

  private execute(batch: Batch<Req>): Effect.Effect<void, Request.Error<Req>> {
    batch.seal()
    const wanted = batch.items = batch.wanted
    if (!isReadonlyArrayNonEmpty(wanted)) return Effect.interrupt
    const { plan, spanName, watch } = this.recipe
    if (watch !== undefined) {
      const now = watch.now()
      watch.executes(wanted.length, now - batch.since)
      batch.since = now
    }
    const execute = Effect.updateContext<void, Request.Error<Req>, Exclude<R, Scope.Scope>, never>(
      Effect.onExit(
        Effect.scoped(Effect.withFiber((fiber) => {
          const ask = () => plan(wanted)
          return batch.job === undefined ? ask() : batch.job.firstStep(ask, fiber)
        })),
        (exit) => {
          batch.answer = exit
          return Effect.void
        }
      ),
      (caller: Context.Context<never>) => this.contextOf(batch, caller)
    )
    return spanName === undefined
      ? execute
      : Effect.withSpan(execute, spanName, { links: batch.links, attributes: { batchSize: batch.callers } })
  }

  /** The services of the place where the resolver was made, the isolating ones, and the span of the first caller. */
  private contextOf(batch: Batch<Req>, caller: Context.Context<never>): Context.Context<R> {
    const { group, job } = batch
    let context = Context.add(Context.merge(this.base, group.context), CurrentNode, job ?? batch)
    // The layer may have been built by `runSync`, whose scheduler has turns of another kind.
    const scheduler = Context.getOrUndefined(caller, Scheduler)
    if (scheduler !== undefined) context = Context.add(context, Scheduler, scheduler)
    const span = Context.getOrUndefined(caller, Tracer.ParentSpan)
    if (span !== undefined) context = Context.add(context, Tracer.ParentSpan, span)
    // Sound: `base` lacks only the isolating services of R, and these are in the group's context.
    return context as Context.Context<R>
  }

  /** Ends a batch: lets nobody join, gives back its permit, and returns the effect that tells its callers. */
  private settle(batch: Batch<Req>, exit: Exit.Exit<void, Request.Error<Req>>): Effect.Effect<void> {
    const { group, job } = batch
    const { watch } = this.recipe
    // It has executed.
    if (watch !== undefined && batch.answer !== undefined) watch.ended(watch.now() - batch.since)
    batch.shut()
    group.batches--
    this.running.delete(batch)
    this.groups.forget()
    batch.phase = "over"
    batch.fiber = undefined
    if (Exit.isFailure(exit)) batch.failure = exit
    group.checkRest()
    try {
      // Other jobs may start in this step. Sound: a job was submitted to the engine.
      if (job !== undefined) this.recipe.engine!.releaseUnsafe(job, exit)
    } finally {
      endUnsafe(batch)
    }
    // A caller that throws is a defect of this fiber, once all the others have been told.
    const tell: Effect.Effect<void> = Effect.onError(
      Effect.suspend(() => inTurns(() => batch.tell(exit))),
      () => tell
    )
    return tell
  }

  readonly close: Effect.Effect<void> = Effect.withFiber((fiber) => {
    this.groups.closed = true
    for (const end of this.onClose) end()
    // A batch that closes its own resolver does not wait for itself.
    const around = new Set<Node>()
    const node = nodeOf(fiber.context)
    if (node !== undefined) above(node, (node) => around.add(node))
    const others: Array<Fiber.Fiber<unknown, unknown>> = []
    for (const batch of this.running) {
      if (batch.fiber === undefined) continue
      if (!around.has(batch)) others.push(batch.fiber)
      batch.fiber.interruptUnsafe(fiber.id)
    }
    return Effect.asVoid(Fiber.awaitAll(others))
  })
}

/** A batch in the queue of its scheduler. */
class Admission<Req extends Request.Any> implements Client {
  private readonly batch: Batch<Req>
  private resume: ((refused: Effect.Effect<SchedulerError | undefined>) => void) | undefined
  constructor(batch: Batch<Req>, resume: (refused: Effect.Effect<SchedulerError | undefined>) => void) {
    this.batch = batch
    this.resume = resume
  }
  onStart(): void {
    this.answer(Effect.undefined)
  }
  onFailure(error: SchedulerError): void {
    this.answer(Effect.succeed(error))
  }
  onClose(isRunning: boolean): void {
    if (isRunning) this.batch.fiber?.interruptUnsafe()
    else this.answer(Effect.interrupt)
  }
  private answer(refused: Effect.Effect<SchedulerError | undefined>): void {
    const resume = this.resume
    // It holds the fiber.
    this.resume = undefined
    resume?.(refused)
  }
}

/** Two: a fiber that yields once before its look-up comes one turn later. More would only add latency. */
const quietTurns = 2

/** Look-ups that never stop coming must not starve those that wait. */
const mostTurns = 16

/**
 * Calls `end` after two turns of the event loop in a row in which no look-up joined the group, or after 16 turns. A turn is
 * one pass of the fiber's scheduler: `setImmediate` where there is one, else a timer.
 */
const whenQuiet = (group: { readonly joins: number }, end: () => void): void => {
  const dispatcher = Fiber.getCurrent()!.currentDispatcher
  let { joins } = group
  let quiet = 0
  let turns = 0
  const turn = (): void => {
    quiet = group.joins === joins ? quiet + 1 : 0
    joins = group.joins
    if (quiet === quietTurns || ++turns === mostTurns) end()
    else dispatcher.scheduleTask(turn, 0)
  }
  dispatcher.scheduleTask(turn, 0)
}
