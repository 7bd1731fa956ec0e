/**
 * Bounds how many jobs run at once and how many start a second, behind one queue.
 *
 * A scheduler bounds the weight of the jobs that run at one time and the pace at which they start. What has to wait does so
 * in one queue, in order of arrival; what is interrupted there costs nothing. The effect of a job runs in the fiber
 * that scheduled it: its services, its interruption and its spans are the caller's.
 *
 * **Details**
 *
 * - Only the head of the highest priority that anybody waits with may start. It is never overtaken, however heavy it is.
 * - The rate is taken in the step in which the head starts, and only once its permits are free: neither waits for the other.
 * - A job lends its weight to the jobs inside it, and to the jobs of runs and batches that it waits for, so that it cannot
 *   wait for its own permit. Such a job starts in free width or in what is lent to it, whichever comes first.
 * - Every step costs O(1), whatever the number of those who wait, and O(log p) with p priorities in use.
 *
 * **Gotchas**
 *
 * - `effect` itself exports a module `Scheduler`, which runs fibers. Rename one of the two where you need both.
 * - Two layers of one tag merge to the last one; `layer(…)` written out twice is two schedulers; and `Effect.provide(layer)`
 *   around each call is a scheduler each time, and limits nothing.
 * - Two schedulers that cross can wait for each other: jobs of the one that schedule on the other, and the reverse, each with
 *   all permits taken. They wait until `Effect.timeout` ends one of them. Schedule on them in one order.
 * - A `SchedulerError` carries no stack: it costs a few microseconds to refuse a job. `Cause.pretty` shows the span around it.
 *
 * **Example** (Running two at a time)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * let running = 0
 * let most = 0
 * const download = (n: number) =>
 *   Effect.gen(function*() {
 *     most = Math.max(most, ++running)
 *     yield* Effect.sleep("1 millis")
 *     running--
 *     return n * n
 *   })
 *
 * const program = Effect.forEach([1, 2, 3, 4, 5], (n) => Scheduler.schedule(download(n)), {
 *   concurrency: "unbounded"
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 2 }))) // => [1, 4, 9, 16, 25]
 * most // => 2
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Many from "./internal/scheduler/many/collections.js"
import * as Registry from "./internal/scheduler/keyed.js"
import { jobOptions, schedule as scheduleIn } from "./internal/scheduler/schedule.js"
import type { JobOptions } from "./internal/scheduler/schedule.js"
import type { Engine } from "./internal/scheduler/engine.js"
import type { SchedulerError } from "./internal/scheduler/error.js"
import * as Handle from "./internal/scheduler/handle.js"
import type { Quota, RateLimiter } from "./RateLimiter.js"

export { InsufficientCapacity } from "./internal/data/insufficientCapacity.js"
export { QueueFull, SchedulerError } from "./internal/scheduler/error.js"
export type { SchedulerErrorReason } from "./internal/scheduler/error.js"
export { AllFailed, FirstSuccessError, NothingToTry } from "./internal/scheduler/many/collect.js"
export type {
  AllOptions,
  AllReturn,
  ForEachOptions,
  ItemOptions,
  Items,
  ProgressOptions,
  StreamOptions
} from "./internal/scheduler/many/collect.js"
export type { Collections, KeyedCollections } from "./internal/scheduler/many/collections.js"
export type { Progress, ProgressServices } from "./internal/scheduler/many/progress.js"
export { StoreError } from "./internal/store/storeError.js"

/**
 * Identifies scheduler handles at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/Scheduler"

/**
 * Identifies scheduler handles in types.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/Scheduler"

/**
 * Describes a scheduler.
 *
 * **Details**
 *
 * - `concurrency`: how much weight may run at one time, an integer of at least 1 or `"unbounded"`. A job weighs 1 unless it
 *   says otherwise.
 * - `rate`: at which pace jobs start; none by default. One quota, several that have to conform all at once, or the tag of a
 *   `RateLimiter`, which the layer then requires: two schedulers that name the same tag start at one pace between them.
 * - `maxQueued`: how many may wait, an integer of at least 0; without it there is no bound. Each job's own queue of jobs
 *   inside it has the same bound.
 * - `name`: what the errors of the scheduler call it, the id of its tag by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out Limiter = never> {
  readonly concurrency: number | "unbounded"
  readonly rate?: Quota | ReadonlyArray<Quota> | Context.Key<Limiter, RateLimiter> | undefined
  readonly maxQueued?: number | undefined
  readonly name?: string | undefined
}

/**
 * Says what a job costs and how urgent it is.
 *
 * **Details**
 *
 * - `weight`: how much of the concurrency it takes while it runs, an integer of at least 1; 1 by default.
 * - `tokens`: how much of the rate its start takes, an integer of at least 0; 1 by default, and 0 starts at any pace.
 * - `priority`: a finite number, 0 by default. A larger one goes first. There is no aging: a low priority waits for as long
 *   as higher ones keep coming.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScheduleOptions {
  readonly weight?: number | undefined
  readonly tokens?: number | undefined
  readonly priority?: number | undefined
}

/**
 * Tells what a scheduler does at one moment: out of date the instant after it was read.
 *
 * **Details**
 *
 * - `concurrency`: how much weight may run; `Infinity` when it has no bound.
 * - `running`: how many jobs run, those inside others included.
 * - `weight`: how much weight runs. What a job lends to the jobs inside it counts once.
 * - `queued`: how many wait.
 * - `paused`: whether anything may start.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  readonly concurrency: number
  readonly running: number
  readonly weight: number
  readonly queued: number
  readonly paused: boolean
}

/**
 * Lists what a scheduler does. `Self` is what each operation requires: nothing on a handle, the tag on an accessor.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> extends Many.Collections<Self> {
  /** Runs an effect once there is width and rate for it, in the fiber that calls. */
  readonly schedule: <
    Arg extends Effect.Effect<any, any, any> | ScheduleOptions | undefined = ScheduleOptions
  >(
    effectOrOptions?: Arg,
    options?: ScheduleOptions | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | SchedulerError, R | Self>
    : <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SchedulerError, R | Self>
  /** Changes how much weight may run at one time; what runs goes on. */
  readonly resize: (concurrency: number | "unbounded") => Effect.Effect<void, never, Self>
  /** Changes the pace at which jobs start, or gives one to a scheduler that had none. */
  readonly setRate: (rate: Quota | ReadonlyArray<Quota>) => Effect.Effect<void, never, Self>
  /** Lets nothing start until `resume`; what runs goes on. */
  readonly pause: Effect.Effect<void, never, Self>
  /** Starts again what `pause` held back. */
  readonly resume: Effect.Effect<void, never, Self>
  /** Waits until nothing runs and nothing waits, but for the jobs that it is called from. */
  readonly awaitIdle: Effect.Effect<void, never, Self>
  /** Reads what runs and what waits at this moment. */
  readonly stats: Effect.Effect<Stats, never, Self>
}

/**
 * Describes a scheduler: a width, a pace, and those who wait for them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scheduler extends Operations<never> {
  readonly [TypeId]: TypeId
}

/**
 * Serves as the tag of the default scheduler.
 *
 * **When to use**
 *
 * Use it in a program with one backend. A program with several names each with {@link Service}.
 *
 * **Example** (Using the handle)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const scheduler = yield* Scheduler.Scheduler
 *   return yield* scheduler.schedule(Effect.succeed("done"))
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 10 }))) // => "done"
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Scheduler: Context.Service<Scheduler, Scheduler> = /*#__PURE__*/ Context.Service<Scheduler>(
  "effect-funnel/Scheduler"
)

/** How the operations of a handle reach the engine under it. */
interface Access extends Many.Access<Engine, never> {
  /** As `effect`, for what changes the engine's options. */
  readonly change: (f: (engine: Engine) => Effect.Effect<void>) => Effect.Effect<void>
}

const fromAccess = (access: Access): Scheduler => ({
  ...Many.handle(access),
  [TypeId]: TypeId,
  schedule: effectFirstOrLast((effect, options) => access.effect((engine) => scheduleIn(engine, effect, options))),
  resize: (concurrency) => {
    const width = Handle.checkWidth("Scheduler.resize", concurrency)
    return access.change((engine) => Effect.sync(() => engine.resizeUnsafe(width)))
  },
  setRate: (rate) => {
    Handle.checkRate("Scheduler.setRate", rate)
    return access.change((engine) => Handle.setRate(engine, rate))
  },
  pause: access.effect((engine) => Effect.sync(() => engine.pauseUnsafe())),
  resume: access.effect((engine) => Effect.sync(() => engine.resumeUnsafe())),
  awaitIdle: access.effect(Handle.awaitIdle),
  stats: access.effect((engine) =>
    Effect.sync(() => ({
      concurrency: engine.limit,
      running: engine.running,
      weight: engine.main.used,
      queued: engine.queued,
      paused: engine.paused
    }))
  )
})

/** @internal */
export const fromEngine = (engine: Engine): Scheduler =>
  Handle.register(
    fromAccess({ effect: (f) => f(engine), stream: (f) => f(engine), change: (f) => f(engine) }),
    engine
  )

/** `schedule` with the effect first, or last: called with options it waits for the effect. */
const effectFirstOrLast = <Self>(
  body: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: JobOptions
  ) => Effect.Effect<A, E | SchedulerError, R | Self>
): Operations<Self>["schedule"] => {
  const dual = <A, E, R>(first?: Effect.Effect<A, E, R> | ScheduleOptions, second?: ScheduleOptions) => {
    if (Effect.isEffect(first)) return body(first, jobOptions("Scheduler.schedule", second))
    const options = jobOptions("Scheduler.schedule", first)
    return <A, E, R>(effect: Effect.Effect<A, E, R>) => body(effect, options)
  }
  // The two branches return what the two sides of the conditional type say, which no implementation can be checked against.
  return dual as Operations<Self>["schedule"]
}

/**
 * Makes a scheduler that closes with the scope.
 *
 * **When to use**
 *
 * Use it for a scheduler that lives as long as something of yours does. For one that a program shares, use {@link layer}.
 *
 * **Details**
 *
 * Nonsense options throw a `RangeError` when `make` is called. There is no fiber behind it; a timer runs only while a job
 * waits for the rate.
 *
 * **Gotchas**
 *
 * When the scope closes, what waits is interrupted and so are the fibers whose jobs run. Closing returns once their jobs
 * have ended, except those that it is called from. What is scheduled later is interrupted at once.
 *
 * **Example** (Bounding what a loop does at once)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const scheduler = yield* Scheduler.make({ concurrency: 3 })
 *   return yield* Effect.forEach([1, 2, 3, 4], (n) => scheduler.schedule(Effect.succeed(n + 1)))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => [2, 3, 4, 5]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Limiter = never>(
  options: Options<Limiter>
): Effect.Effect<Scheduler, never, Limiter | Scope.Scope> =>
  fromPlan(Handle.plan("Scheduler.make", Scheduler.key, options))

const fromPlan = <Limiter>(plan: Handle.Plan<Limiter>): Effect.Effect<Scheduler, never, Limiter | Scope.Scope> =>
  Effect.map(Handle.build(plan), fromEngine)

const layerOf = <Self, Limiter>(
  tag: Context.Key<Self, Scheduler>,
  plan: Handle.Plan<Limiter>
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope>> => Layer.effect(tag, fromPlan(plan))

/**
 * Provides a scheduler under the default tag.
 *
 * **Details**
 *
 * Nonsense options throw a `RangeError` when `layer` is called. The scheduler closes when the layer's scope does, as
 * {@link make} describes.
 *
 * **Gotchas**
 *
 * A layer is built once where it is provided: written out twice, or provided around each call, it is a scheduler each time,
 * and limits nothing. Two layers of one tag merge to the last.
 *
 * **Example** (Bounding width and pace)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const backend = Scheduler.layer({
 *   concurrency: 10,
 *   rate: { limit: 1000, window: "1 second" },
 *   maxQueued: 500
 * })
 *
 * const program = Scheduler.schedule(Effect.succeed("sent"))
 *
 * await Effect.runPromise(Effect.provide(program, backend)) // => "sent"
 * ```
 *
 * **Example** (Sharing a pace)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { RateLimiter, Scheduler } from "effect-funnel"
 *
 * class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 100, window: "1 second", burst: 2 }) {}
 * class Reads extends Scheduler.Service<Reads>()("app/Reads", { concurrency: 20, rate: Api }) {}
 * class Writes extends Scheduler.Service<Writes>()("app/Writes", { concurrency: 2, rate: Api }) {}
 *
 * const program = Effect.all([Reads.schedule(Effect.succeed("read")), Writes.schedule(Effect.succeed("written"))])
 * const layer = Layer.provide(Layer.mergeAll(Reads.layer, Writes.layer), Api.layer)
 *
 * await Effect.runPromise(Effect.provide(program, layer)) // => ["read", "written"]
 * ```
 *
 * @see {@link Service} for a tag of one's own.
 * @category layers
 * @since 0.1.0
 */
export const layer = <Limiter = never>(
  options: Options<Limiter>
): Layer.Layer<Scheduler, never, Exclude<Limiter, Scope.Scope>> =>
  layerOf(Scheduler, Handle.plan("Scheduler.layer", Scheduler.key, options))

/** Nothing that is asked of it makes anything wait. */
const limitless = (scheduler: Scheduler): Scheduler => ({
  ...scheduler,
  resize: (concurrency) => {
    Handle.checkWidth("Scheduler.resize", concurrency)
    return Effect.void
  },
  setRate: (rate) => {
    Handle.checkRate("Scheduler.setRate", rate)
    return Effect.void
  },
  pause: Effect.void,
  resume: Effect.void
})

const noop = <Self>(tag: Context.Key<Self, Scheduler>): Layer.Layer<Self> =>
  Layer.effect(
    tag,
    Effect.map(Handle.build(Handle.unbounded(tag.key)), (engine) =>
      Handle.register(limitless(fromEngine(engine)), engine))
  )

/**
 * Provides a scheduler that starts everything at once and never lets anything wait, under the default tag.
 *
 * **When to use**
 *
 * Use it in tests of code that is not about its width or its pace.
 *
 * **Details**
 *
 * `resize`, `setRate` and `pause` do nothing; `stats` and `awaitIdle` tell what runs.
 *
 * **Example** (Taking the bounds away)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Scheduler.schedule(Effect.succeed("at once"), { weight: 1000 })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layerNoop)) // => "at once"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<Scheduler> = /*#__PURE__*/ noop(Scheduler)

/**
 * Describes a tag made by {@link Service}: the tag, its layers and its accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceClass<in out Self, in out Id extends string, out Limiter>
  extends Context.ServiceClass<Self, Id, Scheduler>, Operations<Self>
{
  /** Provides the scheduler under this tag, with the options of the class. */
  readonly layer: Layer.Layer<Self, never, Limiter>
  /** Provides one that lets nothing wait, for tests. */
  readonly layerNoop: Layer.Layer<Self>
}

/**
 * Makes a tag of one's own, with its layers and accessors.
 *
 * **When to use**
 *
 * Use it in a program with several backends: each has its own requirement, so the one cannot be taken for the other.
 *
 * **Details**
 *
 * Nonsense options throw a `RangeError` when the class is defined.
 *
 * **Example** (Naming the scheduler of a backend)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", {
 *   concurrency: 10,
 *   rate: { limit: 5000, window: "1 hour", burst: 100 }
 * }) {}
 *
 * const program = GitHub.schedule(Effect.succeed("effect-funnel"))
 *
 * await Effect.runPromise(Effect.provide(program, GitHub.layer)) // => "effect-funnel"
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Service = <Self>() =>
<const Id extends string, Limiter = never>(
  id: Id,
  options: Options<Limiter>
): ServiceClass<Self, Id, Exclude<Limiter, Scope.Scope>> => {
  const plan = Handle.plan("Scheduler.Service", id, options)
  const Tag = Context.Service<Self, Scheduler>()(id)
  return Object.assign(Tag, operations(Tag), { layer: layerOf(Tag, plan), layerNoop: noop(Tag) })
}

/**
 * Builds the accessors of a tag: each operation of the scheduler under it, with the tag in its requirements.
 *
 * **When to use**
 *
 * Use it to extend a tag that {@link Service} did not make.
 *
 * **Example** (Building accessors for a tag)
 *
 * ```ts import.meta.vitest
 * import { Context, Effect, Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * class Mail extends Context.Service<Mail, Scheduler.Scheduler>()("app/Mail") {}
 * const { schedule } = Scheduler.operations(Mail)
 *
 * const layer = Layer.effect(Mail, Scheduler.make({ concurrency: 5 }))
 *
 * await Effect.runPromise(Effect.provide(schedule(Effect.succeed("sent")), layer)) // => "sent"
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const operations = <Self>(tag: Context.Service<Self, Scheduler>): Operations<Self> => ({
  ...Many.accessors(tag),
  schedule: scheduleThrough(tag),
  resize: resizeThrough(tag),
  setRate: setRateThrough(tag),
  pause: tag.use((_) => _.pause),
  resume: tag.use((_) => _.resume),
  awaitIdle: tag.use((_) => _.awaitIdle),
  stats: tag.use((_) => _.stats)
})

// One by one, so that a bundle holds those that a program calls and no other.
const scheduleThrough = <Self>(tag: Context.Service<Self, Scheduler>): Operations<Self>["schedule"] =>
  effectFirstOrLast((effect, options) => tag.use((_) => _.schedule(effect, options)))

const resizeThrough = <Self>(tag: Context.Service<Self, Scheduler>): Operations<Self>["resize"] => (concurrency) => {
  Handle.checkWidth("Scheduler.resize", concurrency)
  return tag.use((_) => _.resize(concurrency))
}

const setRateThrough = <Self>(tag: Context.Service<Self, Scheduler>): Operations<Self>["setRate"] => (rate) => {
  Handle.checkRate("Scheduler.setRate", rate)
  return tag.use((_) => _.setRate(rate))
}

const collections: Many.Collections<Scheduler> = /*#__PURE__*/ Many.accessors(Scheduler)

/**
 * Runs an effect once there is width and rate for it, in the fiber that calls.
 *
 * **When to use**
 *
 * Use it for each single thing that is asked of a backend, from wherever in the program it is asked.
 *
 * **Details**
 *
 * A job that finds its permits free, its cell due and nobody before it starts in the same step, without a fiber and without
 * waiting. Otherwise it takes its place behind those of its priority; the step in which permits and rate are taken is the
 * step in which it starts. Then it holds its weight until it ends, however it ends.
 *
 * A job lends its weight: what is scheduled inside it, in its fiber or in one that it forked, runs within that weight, a
 * heavier job as if it weighed no more than that, and what does not fit beside the others waits for them. Such jobs
 * take the rate ahead of the queue. Once the job has ended, what it left behind counts for itself, and what is scheduled
 * there queues like any other.
 *
 * **Gotchas**
 *
 * - Interrupted in the queue, it never runs and costs neither rate nor width. Interrupted while it runs, its permits
 *   come back and its cell is spent.
 * - It fails with `QueueFull` when it would have to wait and `maxQueued` wait already, and with `InsufficientCapacity` when
 *   it weighs more than the concurrency or costs more tokens than the burst: at once, as it could never start.
 *   These errors carry no stack, so that a refusal costs about 3 µs.
 * - A job that awaits one which waits behind it, or for its permit, waits for ever.
 *
 * **Example** (Spelling it three ways)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const send = Effect.succeed("sent")
 *
 * const program = Effect.all([
 *   Scheduler.schedule(send),
 *   send.pipe(Scheduler.schedule),
 *   send.pipe(Scheduler.schedule({ weight: 2, priority: 1 }))
 * ])
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 2 }))) // => ["sent", "sent", "sent"]
 * ```
 *
 * **Example** (Shedding load)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.forEach([1, 2, 3], (n) =>
 *   Effect.as(Effect.yieldNow, `answered ${n}`).pipe(
 *     Scheduler.schedule,
 *     Effect.catchReason("SchedulerError", "QueueFull", (_) => Effect.succeed(`busy, ${_.queued} wait`))
 *   ), { concurrency: "unbounded" })
 *
 * const layer = Scheduler.layer({ concurrency: 1, maxQueued: 1 })
 *
 * await Effect.runPromise(Effect.provide(program, layer)) // => ["answered 1", "answered 2", "busy, 1 wait"]
 * ```
 *
 * @see {@link SchedulerError} for what it can fail with.
 * @category operations
 * @since 0.1.0
 */
export const schedule: Operations<Scheduler>["schedule"] = /*#__PURE__*/ scheduleThrough(Scheduler)

/**
 * Changes how much weight may run at one time.
 *
 * **Details**
 *
 * More width starts at once what fits into it. Less interrupts nothing: what runs goes on, and nothing starts until
 * enough of it has ended. Nonsense throws a `RangeError`.
 *
 * **Gotchas**
 *
 * A job that waits and weighs more than the new width fails with `InsufficientCapacity`: it could never start.
 *
 * **Example** (Narrowing while a backend is in trouble)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* Scheduler.resize(2)
 *   return yield* Scheduler.stats
 * })
 *
 * const { concurrency } = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 10 })))
 * concurrency // => 2
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const resize: Operations<Scheduler>["resize"] = /*#__PURE__*/ resizeThrough(Scheduler)

/**
 * Changes the pace at which jobs start, or gives one to a scheduler that had none.
 *
 * **Details**
 *
 * It holds from then on, also for those who wait. What has been consumed stays consumed, so that changing the rate again
 * and again starts nothing early. Nonsense throws a `RangeError`.
 *
 * **Gotchas**
 *
 * A scheduler whose rate is a `RateLimiter`'s changes that one, and with it the pace of all who share it. A job that waits and
 * costs more tokens than the new burst fails with `InsufficientCapacity`.
 *
 * **Example** (Slowing down)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* Scheduler.setRate({ limit: 1, window: "1 minute" })
 *   yield* Scheduler.schedule(Effect.void)
 *   return yield* Effect.timeoutOption(Scheduler.schedule(Effect.succeed("early")), "5 millis")
 * })
 *
 * const result = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 })))
 * result._tag // => "None"
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const setRate: Operations<Scheduler>["setRate"] = /*#__PURE__*/ setRateThrough(Scheduler)

/**
 * Lets nothing start until {@link resume}. What runs goes on, and the queue goes on taking those who come.
 *
 * **Gotchas**
 *
 * A job that runs and schedules another waits for it, so until `resume` it does not end either. Pausing twice is pausing
 * once.
 *
 * **Example** (Holding everything back)
 *
 * ```ts import.meta.vitest
 * import { Effect, Fiber } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* Scheduler.pause
 *   const fiber = yield* Effect.forkChild(Scheduler.schedule(Effect.succeed("late")), { startImmediately: true })
 *   const { queued } = yield* Scheduler.stats
 *   yield* Scheduler.resume
 *   return [queued, yield* Fiber.join(fiber)]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 }))) // => [1, "late"]
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const pause: Operations<Scheduler>["pause"] = /*#__PURE__*/ Scheduler.use((_) => _.pause)

/**
 * Starts again what {@link pause} held back. The cells of the rate that fell in the meantime are not made up.
 *
 * **Example** (Going on after a maintenance window)
 *
 * ```ts import.meta.vitest
 * import { Effect, Fiber } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* Scheduler.pause
 *   const fiber = yield* Effect.forkChild(Scheduler.schedule(Effect.succeed("sent")), { startImmediately: true })
 *   yield* Scheduler.resume
 *   return yield* Fiber.join(fiber)
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 }))) // => "sent"
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const resume: Operations<Scheduler>["resume"] = /*#__PURE__*/ Scheduler.use((_) => _.resume)

/**
 * Waits until nothing runs and nothing waits.
 *
 * **Details**
 *
 * Called inside a job it does not wait for the end of that job, nor for those around it. Interrupting it changes nothing.
 *
 * **Gotchas**
 *
 * Paused with jobs in the queue, it waits for {@link resume}. A job that calls it keeps its permit meanwhile: where the
 * others need that permit, or call it too, they wait for each other, for ever.
 *
 * **Example** (Draining before shutdown)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * let sent = 0
 * const send = Effect.andThen(Effect.yieldNow, Effect.sync(() => sent++))
 *
 * const program = Effect.gen(function*() {
 *   for (let i = 0; i < 10; i++) yield* Effect.forkChild(Scheduler.schedule(send), { startImmediately: true })
 *   yield* Scheduler.awaitIdle
 *   return sent
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 3 }))) // => 10
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const awaitIdle: Operations<Scheduler>["awaitIdle"] = /*#__PURE__*/ Scheduler.use((_) => _.awaitIdle)

/**
 * Reads what runs and what waits. A snapshot: it may be out of date the instant after it is read.
 *
 * **Example** (Reading the load)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Scheduler.schedule(Scheduler.stats, { weight: 3 })
 *
 * const stats = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 10 })))
 * stats // => { concurrency: 10, running: 1, weight: 3, queued: 0, paused: false }
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const stats: Operations<Scheduler>["stats"] = /*#__PURE__*/ Scheduler.use((_) => _.stats)

/**
 * Runs an effect for each item of an iterable or a stream, under the scheduler's limits, and gives the results in the order
 * of the items.
 *
 * **When to use**
 *
 * Use it for many jobs at once, however many: it pulls the items as they can be run. For a job here and there, use
 * {@link schedule}.
 *
 * **Details**
 *
 * Each item is a job of its own, with a fiber, a permit and its tokens of the rate. It enters the queue in the step in
 * which it is pulled, behind whoever waits already, so a call with a million items does not lock out another caller.
 *
 * At most as many items are pulled and not done with as the scheduler's `concurrency` allows to run: with `discard: true`
 * ten million items take the memory of `concurrency` items, without it only the results grow. A scheduler without a bound
 * runs as many as its rate admits, and at most 1,024 wait; as many are pulled at a time, so that what else
 * there is to do gets its turn in between. When `maxQueued` is set the call waits for room instead of failing.
 *
 * `weight`, `tokens` and `priority` are given for all items, or by a function of item and index. `onProgress` is told the
 * counts of this call at most every 100 ms, and once at its end. A `Stream` is pulled with back-pressure.
 *
 * **Gotchas**
 *
 * The first failure, or defect, interrupts the other items and is the failure, once their finalizers are done; what they
 * fail with after that is not reported, but for defects, which are logged. To collect all of them, use `Effect.exit`
 * inside the function. Interrupting the call does the same. Items that wait then never start and cost nothing; those that
 * run have spent their slot.
 *
 * An iterator is closed (`return`) when the call stops early; one that throws is a defect of the call. A stream's finalizers
 * run after the last job has ended. The items run in the context of the call, each in a fiber of its own: what it forks
 * ends with it. Inside a job of the same scheduler the items run within that job's weight.
 *
 * **Example** (Sending many messages)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const send = (to: string, index: number) => Effect.succeed(`${index}: ${to}`)
 *
 * const program = Scheduler.forEach(["ada", "grace"], send)
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 10 }))) // => ["0: ada", "1: grace"]
 * ```
 *
 * @see {@link stream} for results as they complete
 * @see {@link all} for effects that exist already
 *
 * @category collections
 * @since 0.1.0
 */
export const forEach: Operations<Scheduler>["forEach"] = collections.forEach

/**
 * Runs the effects of a tuple, an iterable or a record under the scheduler's limits, and gives the results in the same
 * shape.
 *
 * **When to use**
 *
 * Use it as `Effect.all`, where the effects share a limit.
 *
 * **Details**
 *
 * Takes `discard`, `mode: "result"`, `onProgress`, and `weight`, `tokens` and `priority` for each of the effects. All
 * else is as with {@link forEach}.
 *
 * **Gotchas**
 *
 * The first failure interrupts the others, unless `mode` is `"result"`. An error of the scheduler fails the call in
 * every mode.
 *
 * **Example** (Loading the parts of a page)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Scheduler.all({
 *   user: Effect.succeed("Ada"),
 *   posts: Effect.succeed([1, 2])
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 }))) // => { user: "Ada", posts: [1, 2] }
 * ```
 *
 * @see {@link firstSuccess} for the first that succeeds
 *
 * @category collections
 * @since 0.1.0
 */
export const all: Operations<Scheduler>["all"] = collections.all

/**
 * Runs an effect for each item of an iterable or a stream, under the scheduler's limits, and emits the results as they
 * complete.
 *
 * **When to use**
 *
 * Use it when results are of use one by one, or when they are too many to be kept.
 *
 * **Details**
 *
 * The consumer's pace is the pace of the pulling: items that run, wait, or have completed without being taken are at most
 * `concurrency`, so ten million items take the memory of that many. Results that have completed are taken together, as
 * one chunk. `order: "input"` emits them in the order of the items. All else is as with {@link forEach}.
 *
 * **Gotchas**
 *
 * A consumer that stops early stops the pulling, and what runs is interrupted before the stream has ended. The
 * first failure is the stream's, after what had completed before it. A result that has completed holds no permit while
 * it waits for the consumer.
 *
 * **Example** (Taking the first results)
 *
 * ```ts import.meta.vitest
 * import { Effect, Stream } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * function* pages() {
 *   for (let page = 1;; page++) yield page
 * }
 *
 * const program = Scheduler.stream(pages(), (page) => Effect.succeed(`page ${page}`)).pipe(
 *   Stream.take(3),
 *   Stream.runCollect
 * )
 *
 * const taken = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 2 })))
 * taken // => ["page 1", "page 2", "page 3"]
 * ```
 *
 * @see {@link mapEffect} for a step of a pipe
 *
 * @category collections
 * @since 0.1.0
 */
export const stream: Operations<Scheduler>["stream"] = collections.stream

/**
 * Maps the elements of a stream with an effect, under the scheduler's limits: {@link stream} for a pipe.
 *
 * **When to use**
 *
 * Use it where `Stream.mapEffect` would need a `concurrency` of its own.
 *
 * **Details**
 *
 * Results are emitted as they complete; `order: "input"` keeps the order of the elements, as `Stream.mapEffect` does.
 *
 * **Gotchas**
 *
 * The stream's own failures and finalizers come in: a failure interrupts what runs, and the finalizers run when the last
 * job has ended.
 *
 * **Example** (Mapping a stream)
 *
 * ```ts import.meta.vitest
 * import { Effect, Stream } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Stream.make(1, 2, 3).pipe(
 *   Scheduler.mapEffect((n) => Effect.succeed(n * 10), { order: "input" }),
 *   Stream.runCollect
 * )
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 2 }))) // => [10, 20, 30]
 * ```
 *
 * @category collections
 * @since 0.1.0
 */
export const mapEffect: Operations<Scheduler>["mapEffect"] = collections.mapEffect

/**
 * Gives the value of the first effect that succeeds, and interrupts the others.
 *
 * **When to use**
 *
 * Use it to ask several places for the same thing, as many at once as the scheduler allows.
 *
 * **Details**
 *
 * The effects start in order. It returns when the losers' finalizers are done. When none succeeds the error is a
 * `FirstSuccessError`: `NothingToTry` if there were none, else `AllFailed` with what they failed with, in their order.
 *
 * **Gotchas**
 *
 * Losers that wait never start, and an iterable is pulled no further. What a loser ends with after the winner does not
 * matter, but for defects, which are logged. A defect does not end the race; if nobody wins, the call dies with it.
 *
 * **Example** (Asking two mirrors)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Scheduler.firstSuccess([Effect.fail("down"), Effect.succeed("mirror 2")])
 *
 * const nobody = Scheduler.firstSuccess([Effect.fail("down")]).pipe(
 *   Effect.catchReason("FirstSuccessError", "AllFailed", ({ errors }) => Effect.succeed(errors))
 * )
 *
 * const layer = Scheduler.layer({ concurrency: 2 })
 * await Effect.runPromise(Effect.provide(program, layer)) // => "mirror 2"
 * await Effect.runPromise(Effect.provide(nobody, layer)) // => ["down"]
 * ```
 *
 * @category collections
 * @since 0.1.0
 */
export const firstSuccess: Operations<Scheduler>["firstSuccess"] = collections.firstSuccess

/**
 * Describes a family of schedulers, one a key.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedScheduler<in K> {
  /** The scheduler of a key. It may be kept: each use of it finds, or makes, what is behind the key then. */
  readonly get: (key: K) => Scheduler
  /** How many keys have a scheduler right now; a snapshot. */
  readonly size: Effect.Effect<number>
}

/**
 * Describes the accessors of a family of schedulers: those of a scheduler, with the key first.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedOperations<in K, Self> extends Many.KeyedCollections<K, Self> {
  /** Gives the scheduler of a key, to be kept or passed on. */
  readonly get: (key: K) => Effect.Effect<Scheduler, never, Self>
  /** Reads how many keys have a scheduler at this moment. */
  readonly size: Effect.Effect<number, never, Self>
  /** Runs an effect once there is width and rate for it at the scheduler of the key, in the fiber that calls. */
  readonly schedule: <
    Arg extends Effect.Effect<any, any, any> | ScheduleOptions | undefined = ScheduleOptions
  >(
    key: K,
    effectOrOptions?: Arg,
    options?: ScheduleOptions | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | SchedulerError, R | Self>
    : <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SchedulerError, R | Self>
  /** Changes how much weight of a key may run at one time; its scheduler then stays. */
  readonly resize: (key: K, concurrency: number | "unbounded") => Effect.Effect<void, never, Self>
  /** Changes the pace of a key; its scheduler then stays. */
  readonly setRate: (key: K, rate: Quota | ReadonlyArray<Quota>) => Effect.Effect<void, never, Self>
  /** Lets nothing of a key start until `resume`; its scheduler stays till then. */
  readonly pause: (key: K) => Effect.Effect<void, never, Self>
  /** Starts again what `pause` held back of a key. */
  readonly resume: (key: K) => Effect.Effect<void, never, Self>
  /** Waits until nothing of a key runs and nothing waits, but for the jobs that it is called from. */
  readonly awaitIdle: (key: K) => Effect.Effect<void, never, Self>
  /** Reads what of a key runs and waits at this moment. */
  readonly stats: (key: K) => Effect.Effect<Stats, never, Self>
}

/**
 * Describes a tag made by {@link Keyed}: the tag, its layers and its accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedServiceClass<in out Self, in out Id extends string, in out K, out Limiter>
  extends Context.ServiceClass<Self, Id, KeyedScheduler<K>>, KeyedOperations<K, Self>
{
  /** Provides the schedulers under this tag: made by `lookup` as their keys are used. */
  readonly layer: Layer.Layer<Self, never, Limiter>
  /** Provides some that let nothing wait, for tests. */
  readonly layerNoop: Layer.Layer<Self>
}

/** What stands for the scheduler of a key: each use holds the key's entry, and so finds the same one as all who use it. */
const view = <K>(registry: Registry.Registry<K>, key: K): Scheduler =>
  fromAccess({
    effect: (f) => registry.use(key, f),
    stream: (f) => registry.stream(key, f),
    change: (f) => registry.change(key, f)
  })

const keyedLayer = <Self, K, Limiter>(
  tag: Context.Key<Self, KeyedScheduler<K>>,
  plan: (key: K) => Handle.Plan<Limiter>,
  handle: (registry: Registry.Registry<K>, key: K) => Scheduler
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope>> =>
  Layer.effect(
    tag,
    Effect.map(
      Effect.acquireRelease(
        Effect.map(Registry.site<Limiter>(), (site) =>
          new Registry.Registry<K>({
            make: (key) => Registry.engineUnsafe(plan(key), site),
            context: site.context,
            clock: site.clock
          })),
        (registry) => registry.close(Handle.close)
      ),
      (registry): KeyedScheduler<K> => ({
        get: (key) => handle(registry, key),
        size: Effect.sync(() => registry.size)
      })
    )
  )

/**
 * Makes a tag for one scheduler a key, such as a host or a tenant.
 *
 * **When to use**
 *
 * Use it when each of many backends has limits of its own and which they are is known at run time only.
 *
 * **Details**
 *
 * The first use of a key calls `lookup` for its options. Every accessor of a scheduler is there with the key first;
 * `get(key)` gives the scheduler of a key, to be kept or passed on. Keys are compared as those of a `Reducer`: values without
 * hidden state by structure (objects, arrays, dates, maps, sets, core's containers, and what implements `Equal`), all others
 * by identity.
 *
 * Errors call each of the schedulers by the id of the tag and never by its key, which may be a secret; `lookup` may give a
 * `name`.
 *
 * A scheduler goes when nobody uses it and its rate is at rest, that is when a new one would behave the same: a million
 * hosts come and go and nothing stays. There is one timer for all keys, and only while there are rates that remember.
 * A use costs O(1) more than one of a single scheduler.
 *
 * A `rate` that is the tag of a `RateLimiter` is shared by all keys that name it: each has its width, together they have
 * one pace.
 *
 * **Gotchas**
 *
 * A `lookup` that throws, or gives nonsense, is a defect of the call, and leaves nothing behind. A key that was given another
 * width or rate, or was paused, stays until the layer's scope closes, or until it is resumed: else what was set would
 * be forgotten. When the layer's scope closes, what waits and runs is interrupted, whatever its key.
 *
 * The timer is one of the clock's: where the scope stays open, as with a `ManagedRuntime` that is not disposed of, it keeps
 * a process of Node alive until every rate is at rest.
 *
 * **Example** (Scheduling by host)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
 *   lookup: (host: string) => ({
 *     concurrency: host === "slow.example" ? 1 : 10,
 *     rate: { limit: 100, window: "1 second" }
 *   })
 * }) {}
 *
 * const program = Effect.gen(function*() {
 *   const page = yield* Hosts.schedule("slow.example", Effect.succeed("page"))
 *   const { concurrency } = yield* Hosts.stats("slow.example")
 *   return [page, concurrency]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Hosts.layer)) // => ["page", 1]
 * ```
 *
 * @see {@link Service} for a backend that is known when the program is written
 *
 * @category services
 * @since 0.1.0
 */
export const Keyed = <Self>() =>
<const Id extends string, K, Limiter = never>(
  id: Id,
  options: {
    /** The options of a key's scheduler: pure, as it is called again when the key comes back. */
    readonly lookup: (key: K) => Options<Limiter>
  }
): KeyedServiceClass<Self, Id, K, Exclude<Limiter, Scope.Scope>> => {
  const Tag = Context.Service<Self, KeyedScheduler<K>>()(id)
  const { lookup } = options
  const use = <A, E, R>(key: K, f: (scheduler: Scheduler) => Effect.Effect<A, E, R>) =>
    Effect.flatMap(Effect.service(Tag), (schedulers) => f(schedulers.get(key)))
  const schedule = (
    key: K,
    first?: Effect.Effect<unknown, unknown, unknown> | ScheduleOptions,
    second?: ScheduleOptions
  ): unknown =>
    effectFirstOrLast<Self>((effect, options) => use(key, (_) => _.schedule(effect, options)))(first, second)
  const operations: KeyedOperations<K, Self> = {
    ...Many.keyedAccessors<K, Self, Scheduler>(Tag),
    get: (key) => Effect.map(Effect.service(Tag), (schedulers) => schedulers.get(key)),
    size: Effect.flatMap(Effect.service(Tag), (schedulers) => schedulers.size),
    // As in `effectFirstOrLast`.
    schedule: schedule as KeyedOperations<K, Self>["schedule"],
    resize: (key, concurrency) => use(key, (_) => _.resize(concurrency)),
    setRate: (key, rate) => use(key, (_) => _.setRate(rate)),
    pause: (key) => use(key, (_) => _.pause),
    resume: (key) => use(key, (_) => _.resume),
    awaitIdle: (key) => use(key, (_) => _.awaitIdle),
    stats: (key) => use(key, (_) => _.stats)
  }
  return Object.assign(Tag, operations, {
    layer: keyedLayer(Tag, (key: K) => Handle.plan("Scheduler.Keyed", id, lookup(key)), view),
    layerNoop: keyedLayer<Self, K, never>(
      Tag,
      () => Handle.unbounded(id),
      (registry, key) => limitless(view(registry, key))
    )
  })
}
