/**
 * The operations of a scheduler: their types, on a handle and on a tag.
 */
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { Settled } from "../limiter/settling.js"
import type { SchedulerError } from "./error.js"
import type { AllReturn, FirstSuccessError } from "./many/collect.js"
import type { ProgressServices } from "./many/progress.js"
import {
  type AllOptions,
  type DrainOptions,
  type ForEachOptions,
  type Items,
  type JobOptions,
  jobOptions,
  type PenalizeOptions,
  type Quotas,
  type ScheduleOptions,
  type SettleOptions,
  type StreamOptions
} from "./options.js"
import type { Stats } from "./stats.js"

/** Every operation requires `Self`: nothing on a handle, the tag on an accessor. */
export interface Operations<Self> {
  /** Runs an effect once there is width and rate for it, in the fiber that calls. */
  readonly schedule: <
    Arg extends Effect.Effect<any, any, any> | SettleOptions<never> | undefined = ScheduleOptions
  >(
    effectOrOptions?: Arg,
    options?: SettleOptions<[Arg] extends [Effect.Effect<infer A, any, any>] ? A : never> | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | SchedulerError, R | Self>
    : <A extends Settled<Arg>, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SchedulerError, R | Self>
  /** Changes how much weight may run at one time. Running jobs go on. */
  readonly resize: (concurrency: number | "unbounded") => Effect.Effect<void, never, Self>
  /** Changes the pace at which jobs start, or gives one to a scheduler that had none. */
  readonly setRate: (rate: Quotas) => Effect.Effect<void, never, Self>
  /** Lets no job start for a time, as the `Retry-After` of a response asks. Running jobs go on. */
  readonly penalize: (options: PenalizeOptions) => Effect.Effect<void, SchedulerError, Self>
  /** Refuses new jobs from now on, and waits until no job runs and no job waits. */
  readonly drain: (options?: DrainOptions | undefined) => Effect.Effect<void, never, Self>
  /** Lets no job start until `resume`. Running jobs go on. */
  readonly pause: Effect.Effect<void, never, Self>
  /** Ends `pause`. */
  readonly resume: Effect.Effect<void, never, Self>
  /** Waits until no job runs and no job waits, except the jobs that it is called from. */
  readonly awaitIdle: Effect.Effect<void, never, Self>
  /** Reads the load at this moment. */
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

/** `schedule` with the effect first, or last: called with options, it returns a function of the effect. */
export const effectFirstOrLast = <Self>(
  body: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: JobOptions,
    given: SettleOptions<unknown> | undefined
  ) => Effect.Effect<A, E | SchedulerError, R | Self>
): Operations<Self>["schedule"] => {
  // `settle` takes the value of the effect: the type says so.
  type Options = SettleOptions<unknown>
  const dual = <A, E, R>(first?: Effect.Effect<A, E, R> | Options, second?: Options) => {
    if (Effect.isEffect(first)) return body(first, jobOptions("Scheduler.schedule", second), second)
    const options = jobOptions("Scheduler.schedule", first)
    return <A, E, R>(effect: Effect.Effect<A, E, R>) => body(effect, options, first)
  }
  // Sound: each branch returns its side of the conditional type. The compiler cannot check that.
  return dual as Operations<Self>["schedule"]
}
