/**
 * What a scheduler does: the types of the operations on its handle and on a tag, and those of the tag.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { SchedulerError } from "./error.js"
import { checkOptions } from "./many/collect.js"
import type { AllOptions, AllReturn, FirstSuccessError, ForEachOptions, Items, StreamOptions } from "./many/collect.js"
import type { ProgressServices } from "./many/progress.js"
import { checkRate, checkWidth } from "./plan.js"
import type { Quotas } from "./plan.js"
import { jobOptions } from "./schedule.js"
import type { JobOptions } from "./schedule.js"

/**
 * What a job costs and how urgent it is.
 *
 * **Details**
 *
 * - `weight`: how much of the concurrency it holds while it runs, an integer from 1; 1 by default.
 * - `tokens`: how much of the rate its start consumes, an integer from 0; 1 by default. With 0 the rate does not delay it.
 * - `priority`: a finite number, 0 by default. A larger one starts first. There is no aging: a low priority starves for as
 *   long as higher ones keep coming.
 *
 * @category options
 * @since 0.1.0
 */
export interface ScheduleOptions {
  readonly weight?: number | undefined
  readonly tokens?: number | undefined
  readonly priority?: number | undefined
}

/**
 * A snapshot of a scheduler: it may be out of date the instant after it is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  /** How much weight may run; `Infinity` without a bound. */
  readonly concurrency: number
  /** How many jobs run, those inside others included. */
  readonly running: number
  /** How much weight runs. What a job lends to the jobs inside it counts once. */
  readonly weight: number
  /** How many jobs wait. */
  readonly queued: number
  /** Whether `pause` holds the jobs back. */
  readonly paused: boolean
}

/** `Self` is what each operation requires: nothing on a handle, the tag on an accessor. */
export interface Operations<Self> {
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
  readonly setRate: (rate: Quotas) => Effect.Effect<void, never, Self>
  /** Lets nothing start until `resume`; what runs goes on. */
  readonly pause: Effect.Effect<void, never, Self>
  /** Starts again what `pause` held back. */
  readonly resume: Effect.Effect<void, never, Self>
  /** Waits until nothing runs and nothing waits, but for the jobs that it is called from. */
  readonly awaitIdle: Effect.Effect<void, never, Self>
  /** Reads what runs and what waits at this moment. */
  readonly stats: Effect.Effect<Stats, never, Self>
  /** Runs an effect for each item of an iterable or a stream; results in the order of the items. */
  readonly forEach: <S extends Items, B, E, R, const Discard extends boolean = false, X = void>(
    items: S,
    f: (item: Items.Item<S>, index: number) => Effect.Effect<B, E, R>,
    options?: ForEachOptions<Items.Item<S>, Discard, X> | undefined
  ) => Effect.Effect<
    Discard extends false ? Items.Results<S, B> : void,
    E | Items.Error<S> | SchedulerError,
    R | Items.Services<S> | ProgressServices<X> | Self
  >
  /** Runs the effects of a tuple, an iterable or a record; results in the same shape. */
  readonly all: <
    const Arg extends Iterable<Effect.Effect<any, any, any>> | Record<string, Effect.Effect<any, any, any>>,
    O extends AllOptions
  >(arg: Arg, options?: O | undefined) => AllReturn<Arg, O, Self>
  /** Runs an effect for each item of an iterable or a stream, and emits the results as they complete. */
  readonly stream: <S extends Items, B, E, R, X = void>(
    items: S,
    f: (item: Items.Item<S>, index: number) => Effect.Effect<B, E, R>,
    options?: StreamOptions<Items.Item<S>, X> | undefined
  ) => Stream.Stream<
    B,
    E | Items.Error<S> | SchedulerError,
    R | Items.Services<S> | ProgressServices<X> | Self
  >
  /** Maps the elements of a stream with an effect, in a pipe; emits the results as they complete. */
  readonly mapEffect: <A, B, E, R, X = void>(
    f: (item: A, index: number) => Effect.Effect<B, E, R>,
    options?: StreamOptions<A, X> | undefined
  ) => <SE, SR>(
    self: Stream.Stream<A, SE, SR>
  ) => Stream.Stream<B, E | SE | SchedulerError, R | SR | ProgressServices<X> | Self>
  /** Gives the value of the first effect that succeeds, and interrupts the others. */
  readonly firstSuccess: <Eff extends Effect.Effect<any, any, any>>(
    effects: Iterable<Eff>
  ) => Effect.Effect<
    Effect.Success<Eff>,
    FirstSuccessError<Effect.Error<Eff> | SchedulerError>,
    Effect.Services<Eff> | Self
  >
}

/** The tag of a scheduler. */
interface Tag<Self> {
  use<A, E, R>(f: (handle: Operations<never>) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Self>
}

/** `schedule` with the effect first, or last: called with options it waits for the effect. */
export const effectFirstOrLast = <Self>(
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

// One by one, so that a bundle holds those that a program calls and no other. Nonsense throws where they are called.

export const schedule = <Self>(tag: Tag<Self>): Operations<Self>["schedule"] =>
  effectFirstOrLast((effect, options) => tag.use((_) => _.schedule(effect, options)))

export const resize = <Self>(tag: Tag<Self>): Operations<Self>["resize"] => (concurrency) => {
  checkWidth("Scheduler.resize", concurrency)
  return tag.use((_) => _.resize(concurrency))
}

export const setRate = <Self>(tag: Tag<Self>): Operations<Self>["setRate"] => (rate) => {
  checkRate(rate)
  return tag.use((_) => _.setRate(rate))
}

export const forEach = <Self>(tag: Tag<Self>): Operations<Self>["forEach"] => (items, f, options) => {
  checkOptions("Scheduler.forEach", options)
  return tag.use((_) => _.forEach(items, f, options))
}

// The conditional type of its result is the same on both sides, but for `Self`.
export const all = <Self>(tag: Tag<Self>): Operations<Self>["all"] =>
  ((arg: Iterable<never>, options?: AllOptions) => {
    checkOptions("Scheduler.all", options)
    return tag.use((_) => _.all(arg, options))
  }) as Operations<Self>["all"]

const through = <Self, A, E, R>(
  tag: Tag<Self>,
  f: (handle: Operations<never>) => Stream.Stream<A, E, R>
): Stream.Stream<A, E, R | Self> => Stream.unwrap(tag.use((handle) => Effect.succeed(f(handle))))

export const stream = <Self>(tag: Tag<Self>): Operations<Self>["stream"] => (items, f, options) => {
  checkOptions("Scheduler.stream", options)
  return through(tag, (_) => _.stream(items, f, options))
}

export const mapEffect = <Self>(tag: Tag<Self>): Operations<Self>["mapEffect"] => (f, options) => {
  checkOptions("Scheduler.mapEffect", options)
  return (self) => through(tag, (_) => _.mapEffect(f, options)(self))
}

export const firstSuccess = <Self>(tag: Tag<Self>): Operations<Self>["firstSuccess"] => (effects) =>
  tag.use((_) => _.firstSuccess(effects))

export const operations = <Self>(tag: Tag<Self>): Operations<Self> => ({
  schedule: schedule(tag),
  resize: resize(tag),
  setRate: setRate(tag),
  pause: tag.use((_) => _.pause),
  resume: tag.use((_) => _.resume),
  awaitIdle: tag.use((_) => _.awaitIdle),
  stats: tag.use((_) => _.stats),
  forEach: forEach(tag),
  all: all(tag),
  stream: stream(tag),
  mapEffect: mapEffect(tag),
  firstSuccess: firstSuccess(tag)
})
