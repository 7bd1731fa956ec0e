/**
 * Bounds how many jobs run at once and how many start a second, behind one queue.
 *
 * The effect of a job runs in the fiber that scheduled it: its services, its interruption and its spans are the caller's.
 *
 * **Details**
 *
 * - Only the head of the highest priority may start. No other job overtakes it, however heavy it is.
 * - The head takes permits and rate in the step in which it starts, so no permit is idle while its job waits for the rate.
 * - A job lends its weight to the jobs inside it, and to those of runs and batches that it waits for, so it never waits
 *   for its own permit.
 * - Every step costs O(1) however many jobs wait, and O(log n) with n priorities, keys of `share`, or jobs with a `maxWait`.
 *
 * **Gotchas**
 *
 * - `effect` exports a module `Scheduler` too, which runs fibers. Rename one of the two where you need both.
 * - Two layers of one tag merge to the last one. `layer(…)` written twice is two schedulers. `Effect.provide(layer)` around
 *   each call limits nothing.
 * - Two schedulers deadlock if jobs of each schedule on the other while all permits are taken. Schedule in one order.
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
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type { Pipeable } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import type * as Scope from "effect/Scope"
import type { Quota, RateLimiter } from "./RateLimiter.js"
import * as Accessor from "./internal/scheduler/accessors.js"
import { build } from "./internal/scheduler/build.js"
import type { Settled } from "./internal/limiter/settling.js"
import type { SchedulerError } from "./internal/scheduler/error.js"
import * as Handle from "./internal/scheduler/handle.js"
import * as Registry from "./internal/scheduler/keyed.js"
import { withMany } from "./internal/scheduler/many/many.js"
import { effectFirstOrLast } from "./internal/scheduler/operations.js"
import type { Operations } from "./internal/scheduler/operations.js"
import type { WidthPolicy } from "./internal/scheduler/width.js"
import {
  check,
  type Checked,
  type QueueOptions,
  type ScheduleOptions,
  type SettleOptions,
  unbounded
} from "./internal/scheduler/options.js"

export { InsufficientCapacity } from "./internal/data/insufficientCapacity.js"
export { Draining, Overloaded, QueueFull, SchedulerError, WaitExceeded } from "./internal/scheduler/error.js"
export type { SchedulerErrorReason } from "./internal/scheduler/error.js"
export { TypeId } from "./internal/scheduler/handle.js"
export { AllFailed, FirstSuccessError, NothingToTry } from "./internal/scheduler/many/collect.js"
export type { Progress } from "./internal/scheduler/many/progress.js"
export type {
  AllOptions,
  DrainOptions,
  ForEachOptions,
  PenalizeOptions,
  ScheduleOptions,
  SettleOptions,
  ShareKey,
  ShedOptions,
  StreamOptions
} from "./internal/scheduler/options.js"
export type { Stats } from "./internal/scheduler/stats.js"
export { StoreError } from "./internal/store/storeError.js"

/**
 * The limits of a scheduler.
 *
 * **Details**
 *
 * - `concurrency`: how much weight may run at once, an integer from 1 or `"unbounded"`. A job weighs 1 by default. Or
 *   `Adaptive.latency({ min, max })` of `effect-funnel/Adaptive`: the width then follows the latency of the jobs.
 * - `rate`: the pace at which jobs start; none by default. One quota, several that must all conform, or the tag of a
 *   `RateLimiter`, which the layer then requires: schedulers with the same tag share one pace.
 * - `maxQueued`: how many jobs may wait, an integer from 0; no bound by default. Jobs inside a job count in a queue of
 *   their own, with the same bound.
 * - `maxWait`: how long a job may wait for its start; no bound by default. See {@link ScheduleOptions}. The items that
 *   `forEach`, `all` and `stream` pull are exempt, because their source waits instead, and so are the batches of a `Batcher`.
 * - `shed`: refuses jobs with `Overloaded` while the queue is a standing one: once all jobs that started in an `interval`
 *   had waited longer than `target` for width, until the queue is empty or an interval passes without a refusal. Jobs that
 *   have waited more than twice the target are then refused at their turn.
 *   `true` means a target of 5 ms and an interval of 100 ms or, with a `maxWait`, of a twentieth and the half of it. Exempt
 *   are the items of `forEach` and its kind, the batches of a `Batcher`, and jobs that start in the width of the job around.
 * - `drain`: on close, how long the jobs that wait and run may go on, while new ones are refused with `Draining`; 0 by
 *   default. The rest is interrupted then.
 * - `name`: the name in errors, metrics and logs; the id of the tag by default.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<out Limiter = never> extends QueueOptions {
  readonly concurrency: number | "unbounded" | WidthPolicy
  readonly rate?: Quota | ReadonlyArray<Quota> | Context.Key<Limiter, RateLimiter> | undefined
}

/**
 * The handle of a scheduler. `toJSON` returns its name and {@link stats}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scheduler extends Operations<never>, Pipeable {
  readonly [Handle.TypeId]: Handle.TypeId
  toJSON(): unknown
}

// The tag under its public name brings the operations on many items. This one serves the functions that need none of them.
const Tag = /*#__PURE__*/ Context.Service<Scheduler>("effect-funnel/Scheduler")

/**
 * The tag of the default scheduler. A program with several backends names each with {@link Service}.
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
export const Scheduler: Context.Service<Scheduler, Scheduler> = /*#__PURE__*/ withMany(Tag)

/**
 * Checks whether a value is the handle of a scheduler.
 *
 * **Example** (Telling a handle from its options)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const options = { concurrency: 1 }
 *
 * await Effect.runPromise(Effect.scoped(Effect.map(Scheduler.make(options), Scheduler.isScheduler))) // => true
 * Scheduler.isScheduler(options) // => false
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isScheduler = (u: unknown): u is Scheduler => hasProperty(u, withMany(Handle.TypeId))

/**
 * Makes a scheduler that closes with the scope.
 *
 * **When to use**
 *
 * Use for a scheduler that lives as long as a resource of yours. For one that a program shares, use {@link layer}.
 *
 * **Details**
 *
 * Invalid options throw a `RangeError` in this call. A scheduler has no fiber. Its timers run only while a job waits, or with
 * `shed` while a job waits or runs.
 *
 * **Gotchas**
 *
 * Closing the scope interrupts all jobs and returns once they have ended, except those that it is called from. A call of
 * {@link forEach} and its kind that waits for its next item is interrupted, too. A job that is scheduled later is interrupted
 * at once.
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
  fromPlan(check("Scheduler.make", withMany(Tag).key, options))

const fromPlan = <Limiter>(plan: Checked<Limiter>): Effect.Effect<Scheduler, never, Limiter | Scope.Scope> =>
  Effect.map(build(plan), Handle.handleOf)

const layerOf = <Self, Limiter>(
  tag: Context.Key<Self, Scheduler>,
  plan: Checked<Limiter>
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope>> => Layer.effect(tag, fromPlan(plan))

/**
 * Provides a scheduler under the default tag, as {@link make} makes it: it closes with the layer's scope.
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
 * @see {@link Service} for a tag of your own.
 * @category layers
 * @since 0.1.0
 */
export const layer = <Limiter = never>(
  options: Options<Limiter>
): Layer.Layer<Scheduler, never, Exclude<Limiter, Scope.Scope>> =>
  layerOf(Tag, check("Scheduler.layer", Tag.key, options))

const noop = <Self>(tag: Context.Key<Self, Scheduler>): Layer.Layer<Self> =>
  Layer.effect(
    tag,
    Effect.map(build(unbounded(tag.key)), (engine) => Handle.limitless(Handle.handleOf(engine)))
  )

/**
 * Provides a scheduler without limits under the default tag, for tests.
 *
 * **Details**
 *
 * It starts every job at once. `resize`, `setRate`, `penalize`, `pause` and `resume` do nothing; `stats`, `awaitIdle` and
 * `drain` work.
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
export const layerNoop: Layer.Layer<Scheduler> = /*#__PURE__*/ noop(Tag)

/**
 * A tag made by {@link Service}, with its layers and accessors.
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
 * Makes a tag of your own, with its layers and accessors.
 *
 * **When to use**
 *
 * Use in a program with several backends: each is a requirement of its own, so no call can go to the wrong one. Invalid
 * options throw a `RangeError` when the class is defined.
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
 * @category services
 * @since 0.1.0
 */
export const Service = <Self>() =>
<const Id extends string, Limiter = never>(
  id: Id,
  options: Options<Limiter>
): ServiceClass<Self, Id, Exclude<Limiter, Scope.Scope>> => {
  const plan = check("Scheduler.Service", id, options)
  const Tag = withMany(Context.Service<Self, Scheduler>()(id))
  return Object.assign(Tag, Accessor.operations<Self>(Tag), { layer: layerOf(Tag, plan), layerNoop: noop(Tag) })
}

/**
 * Runs an effect once there is width and rate for it, in the fiber that calls.
 *
 * **Details**
 *
 * A job starts in the same step if its permits are free, the rate has a cell for it and no job waits before it. Otherwise
 * it waits behind the jobs of its priority. From its start until its end, however it ends, it holds its weight.
 *
 * A job that is scheduled inside a job, also in a fiber that the outer one forked, starts in free permits or in the weight
 * of the outer job. There it counts as that weight at most, and takes the rate ahead of the queue. Once the outer job has
 * ended, its fibers queue as any other caller does.
 *
 * **Gotchas**
 *
 * - A job that is interrupted in the queue never runs and costs neither rate nor permits. One that is interrupted while it
 *   runs gives its permits back; its cell of the rate is spent.
 * - `QueueFull` if the job would have to wait while `maxQueued` jobs wait already; `InsufficientCapacity` if its weight
 *   exceeds the concurrency or its tokens exceed the burst. Both fail at once, without a stack, in about 5 µs.
 * - A job that awaits a job which waits behind it, or for its permit, waits for ever.
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
 * @see {@link SchedulerError} for what it can fail with.
 * @category operations
 * @since 0.1.0
 */
export const schedule: Operations<Scheduler>["schedule"] = /*#__PURE__*/ Accessor.schedule(Tag)

/**
 * Changes how much weight may run at one time.
 *
 * **Details**
 *
 * More width starts at once the jobs that fit into it. Less interrupts nothing, but a waiting job whose weight exceeds it
 * fails with `InsufficientCapacity`. An invalid width throws a `RangeError`.
 *
 * **Example** (Narrowing while a backend is in trouble)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.andThen(Scheduler.resize(2), Scheduler.stats)
 *
 * const { concurrency } = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 10 })))
 * concurrency // => 2
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const resize: Operations<Scheduler>["resize"] = /*#__PURE__*/ Accessor.resize(Tag)

/**
 * Changes the pace at which jobs start, or gives one to a scheduler that had none.
 *
 * **Details**
 *
 * It also holds for the jobs that wait; one whose tokens exceed the new burst fails with `InsufficientCapacity`. Consumed
 * tokens stay consumed. Invalid quotas throw a `RangeError`.
 *
 * **Gotchas**
 *
 * If the rate is a `RateLimiter`'s, this changes the pace of everything that shares it.
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
export const setRate: Operations<Scheduler>["setRate"] = /*#__PURE__*/ Accessor.setRate(Tag)

/**
 * Lets no job start until {@link resume}. Running jobs go on, and new ones queue.
 *
 * **Gotchas**
 *
 * A running job that schedules another waits for it, so it does not end before `resume` either.
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
export const pause: Operations<Scheduler>["pause"] = /*#__PURE__*/ Tag.use((_) => _.pause)

/**
 * Starts again what {@link pause} held back. Cells of the rate that passed meanwhile are not made up.
 *
 * **Example** (Going on after a maintenance window)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.andThen(Scheduler.pause, Scheduler.resume).pipe(
 *   Effect.andThen(Scheduler.schedule(Effect.succeed("sent")))
 * )
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 }))) // => "sent"
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const resume: Operations<Scheduler>["resume"] = /*#__PURE__*/ Tag.use((_) => _.resume)

/**
 * Lets no job start for a time, as the `Retry-After` of a response asks. Running jobs go on.
 *
 * **Details**
 *
 * With a rate it is the penalty of the limiter, so that all schedulers with that limiter hold back; a job with `tokens: 0` takes
 * nothing of the rate and starts. A penalty never shortens another one. Jobs of this
 * scheduler whose `maxWait` ends before it are refused at once, those of another one with that limiter when it is over.
 *
 * **Example** (Obeying a backend)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* Scheduler.penalize({ for: "30 seconds" })
 *   return yield* Effect.flip(Scheduler.schedule(Effect.succeed("sent"), { maxWait: "1 second" }))
 * })
 *
 * const { reason } = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 })))
 * reason._tag // => "WaitExceeded"
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const penalize: Operations<Scheduler>["penalize"] = /*#__PURE__*/ Accessor.penalize(Tag)

/**
 * Refuses new jobs with `Draining` from now on, and waits until no job runs and no job waits, except the jobs that it is
 * called from.
 *
 * **Details**
 *
 * Jobs that a running job waits for are still taken. A call of {@link forEach} or its kind that had begun goes on to its last
 * item, and `drain` waits for that, unless it is called from that call. With a `timeout` the jobs that are left then are
 * interrupted, and the scheduler is closed.
 *
 * **Gotchas**
 *
 * An interrupted call leaves the scheduler draining. A paused scheduler with jobs in the queue is drained after {@link resume}.
 *
 * **Example** (Ending without losing a job)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* Scheduler.drain({ timeout: "10 seconds" })
 *   return yield* Effect.flip(Scheduler.schedule(Effect.succeed("sent")))
 * })
 *
 * const { reason } = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 1 })))
 * reason._tag // => "Draining"
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const drain: Operations<Scheduler>["drain"] = /*#__PURE__*/ Accessor.drain(Tag)

/**
 * Waits until no job runs and no job waits, except the jobs that it is called from.
 *
 * **Gotchas**
 *
 * While the scheduler is paused with jobs in the queue, it waits for {@link resume}. A job that calls it keeps its permit: if
 * other jobs need that permit, or call it too, they wait for each other for ever.
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
export const awaitIdle: Operations<Scheduler>["awaitIdle"] = /*#__PURE__*/ Tag.use((_) => _.awaitIdle)

/**
 * Reads what runs and what waits. The snapshot may be out of date the instant after it is read.
 *
 * **Example** (Reading the load)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Scheduler.schedule(Scheduler.stats, { weight: 3 })
 *
 * const { running, weight } = await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 10 })))
 * const load = [running, weight] // => [1, 3]
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const stats: Operations<Scheduler>["stats"] = /*#__PURE__*/ Tag.use((_) => _.stats)

/**
 * Runs a job for each item of an iterable or a stream, and returns the results in the order of the items.
 *
 * **Details**
 *
 * Each item is a job in the context of the call, with a fiber of its own: what it forks ends with it. The call pulls an item
 * when it can run, and queues it in that step behind the jobs that wait already, so no call locks out another.
 *
 * At most `concurrency` items are pulled and have not ended: ten million items with `discard: true` take the memory of so
 * many. With an unbounded concurrency at most 1,024 wait, and after each 1,024 pulled the event loop gets a turn. Where the
 * queue is full, the call waits instead of failing. A `Stream` is pulled with back-pressure.
 *
 * `weight`, `tokens` and `priority` are numbers, or functions of item and index. `onProgress` gets the counts of this call at
 * most every 100 ms, and at its end.
 *
 * **Gotchas**
 *
 * - The first failure or defect interrupts the other items and fails the call once their finalizers are done. Later defects
 *   are logged, later failures are dropped. To collect every outcome, use `Effect.exit` inside the function.
 * - Interrupting the call interrupts its items, as with {@link schedule}.
 * - A call that stops early closes its iterator with `return`. An iterator that throws is a defect of the call. The
 *   finalizers of a stream run after the last job has ended.
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
 * @category collections
 * @since 0.1.0
 */
export const forEach: Operations<Scheduler>["forEach"] = /*#__PURE__*/ Accessor.forEach(Scheduler)

/**
 * Runs the effects of a tuple, an iterable or a record as jobs, and returns the results in the same shape.
 *
 * **Details**
 *
 * `weight`, `tokens` and `priority` are numbers, for each of the effects. `mode: "result"` runs all effects and collects a
 * `Result` of each; a `SchedulerError` fails the call in every mode. The rest is as with {@link forEach}.
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
 * @category collections
 * @since 0.1.0
 */
export const all: Operations<Scheduler>["all"] = /*#__PURE__*/ Accessor.all(Scheduler)

/**
 * Runs a job for each item of an iterable or a stream, and emits the results as they complete.
 *
 * **Details**
 *
 * At most `concurrency` items run, wait, or have a result that the consumer has not taken: the consumer's pace is the pace of
 * the pulling. A result that waits for the consumer holds no permit; those that wait are taken as one chunk. `order: "input"`
 * emits the results in the order of the items. The rest is as with {@link forEach}.
 *
 * **Gotchas**
 *
 * A consumer that stops early stops the pulling, and the running jobs are interrupted before the stream has ended. The
 * first failure is the stream's, after the results that had completed before it.
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
 * @category collections
 * @since 0.1.0
 */
export const stream: Operations<Scheduler>["stream"] = /*#__PURE__*/ Accessor.stream(Scheduler)

/**
 * Maps the elements of a stream with an effect, as jobs: {@link stream} for a pipe.
 *
 * A failure of the mapped stream interrupts the running jobs. Its finalizers run when the last job has ended.
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
export const mapEffect: Operations<Scheduler>["mapEffect"] = /*#__PURE__*/ Accessor.mapEffect(Scheduler)

/**
 * Returns the value of the first effect that succeeds, and interrupts the others.
 *
 * **Details**
 *
 * The effects start in order, as many at once as the scheduler allows; those that wait when one succeeds never start. The call
 * returns when the losers' finalizers are done. If none succeeds, it fails with a `FirstSuccessError`: `NothingToTry` if there
 * were no effects, else `AllFailed` with their errors in order.
 *
 * **Gotchas**
 *
 * A defect does not end the race; if no effect succeeds, the call dies with it. After a success, defects are logged and
 * failures are dropped.
 *
 * **Example** (Asking two mirrors)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Scheduler.firstSuccess([Effect.fail("down"), Effect.succeed("mirror 2")])
 *
 * await Effect.runPromise(Effect.provide(program, Scheduler.layer({ concurrency: 2 }))) // => "mirror 2"
 * ```
 *
 * @category collections
 * @since 0.1.0
 */
export const firstSuccess: Operations<Scheduler>["firstSuccess"] = /*#__PURE__*/ Accessor.firstSuccess(Scheduler)

/**
 * The handle of a family of schedulers, one for each key.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedScheduler<in K> extends Pipeable {
  /** The scheduler of a key. You may keep it: each use finds, or makes, what is behind the key then. */
  readonly get: (key: K) => Scheduler
  /** How many keys have a scheduler right now; a snapshot. */
  readonly size: Effect.Effect<number>
  toJSON(): unknown
}

/**
 * A tag made by {@link Keyed}, with its layers and accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedServiceClass<in out Self, in out Id extends string, in out K, out Limiter>
  extends Context.ServiceClass<Self, Id, KeyedScheduler<K>>
{
  /** Returns the scheduler of a key, to use, to keep or to pass on. */
  readonly get: (key: K) => Effect.Effect<Scheduler, never, Self>
  /** Reads how many keys have a scheduler at this moment. */
  readonly size: Effect.Effect<number, never, Self>
  /** Runs an effect once there is width and rate for it at the scheduler of the key, in the fiber that calls. */
  readonly schedule: <
    Arg extends Effect.Effect<any, any, any> | SettleOptions<never> | undefined = ScheduleOptions
  >(
    key: K,
    effectOrOptions?: Arg,
    options?: SettleOptions<[Arg] extends [Effect.Effect<infer A, any, any>] ? A : never> | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | SchedulerError, R | Self>
    : <A extends Settled<Arg>, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SchedulerError, R | Self>
  /** Provides the schedulers under this tag: made by `lookup` as their keys are used. */
  readonly layer: Layer.Layer<Self, never, Limiter>
  /** Provides some that let nothing wait, for tests. */
  readonly layerNoop: Layer.Layer<Self>
}

/**
 * Makes a tag for one scheduler a key, such as a host or a tenant.
 *
 * **When to use**
 *
 * Use when each of many backends has limits of its own and you learn of them at run time.
 *
 * **Details**
 *
 * The first use of a key calls `lookup` for its options. `schedule` takes the key first; for every other operation, take the
 * scheduler of the key with `get(key)`. Keys are compared as those of a `Reducer`: values without hidden state by structure,
 * all others by identity. If `rate` is the tag of a `RateLimiter`, the keys share its pace.
 *
 * Errors name a scheduler by the id of the tag, never by its key, which may be a secret. `lookup` may return a `name`.
 *
 * A scheduler is dropped when no job uses it and its rate is at rest, that is, when a new one would behave the same. An
 * adaptive width begins anew then. One timer serves all keys and keeps no process alive. A use costs O(1) more than one of a
 * single scheduler.
 *
 * **Gotchas**
 *
 * - A `lookup` that throws, or returns invalid options, is a defect of the call and leaves nothing behind.
 * - A key whose width or rate was changed, or that was drained, stays until the layer's scope closes, and one that was paused
 *   until it is resumed.
 * - When the layer's scope closes, the jobs of all keys are interrupted.
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
 *   const slow = yield* Hosts.get("slow.example")
 *   const { concurrency } = yield* slow.stats
 *   return [page, concurrency]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Hosts.layer)) // => ["page", 1]
 * ```
 *
 * @see {@link Service} for a backend that you know when you write the program
 * @category services
 * @since 0.1.0
 */
export const Keyed = <Self>() =>
<const Id extends string, K, Limiter = never>(
  id: Id,
  options: {
    /** The options of a key's scheduler. Keep it pure: it is called again when the key comes back. */
    readonly lookup: (key: K) => Options<Limiter>
  }
): KeyedServiceClass<Self, Id, K, Exclude<Limiter, Scope.Scope>> => {
  type Class = KeyedServiceClass<Self, Id, K, Exclude<Limiter, Scope.Scope>>
  const Tag = Context.Service<Self, KeyedScheduler<K>>()(id)
  const { lookup } = options
  const schedule = (
    key: K,
    first?: Effect.Effect<unknown, unknown, unknown> | SettleOptions<unknown>,
    second?: SettleOptions<unknown>
  ): unknown =>
    effectFirstOrLast<Self>((effect, _, options) => Tag.use((_) => _.get(key).schedule(effect, options)))(
      first,
      second
    )
  return Object.assign(Tag, {
    get: (key: K) => Tag.useSync((_) => _.get(key)),
    size: Tag.use((_) => _.size),
    // As in `effectFirstOrLast`.
    schedule: schedule as Class["schedule"],
    layer: Layer.effect(Tag, Registry.make(id, (key: K) => check("Scheduler.Keyed", id, lookup(key)), identity)),
    layerNoop: Layer.effect(Tag, Registry.make<K, never>(id, () => unbounded(id), Handle.limitless))
  })
}
