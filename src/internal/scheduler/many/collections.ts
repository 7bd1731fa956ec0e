/**
 * What a scheduler does with many items: the types of its handle's and its accessors' members, and both implementations.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Collect from "./collect.js"
import type { AllOptions, AllReturn, FirstSuccessError, ForEachOptions, Items, StreamOptions } from "./collect.js"
import * as CollectStream from "./stream.js"
import type { ProgressServices } from "./progress.js"
import type { Engine } from "../engine.js"
import type { SchedulerError } from "../error.js"

/**
 * The operations of a scheduler on many items, each of which requires `Self`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collections<Self> {
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

/**
 * The operations of keyed schedulers on many items, each of which takes the key first and requires `Self`.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyedCollections<in K, Self> {
  /** Runs an effect for each item by the scheduler of the key; results in the order of the items. */
  readonly forEach: <S extends Items, B, E, R, const Discard extends boolean = false, X = void>(
    key: K,
    items: S,
    f: (item: Items.Item<S>, index: number) => Effect.Effect<B, E, R>,
    options?: ForEachOptions<Items.Item<S>, Discard, X> | undefined
  ) => Effect.Effect<
    Discard extends false ? Items.Results<S, B> : void,
    E | Items.Error<S> | SchedulerError,
    R | Items.Services<S> | ProgressServices<X> | Self
  >
  /** Runs the effects of a tuple, an iterable or a record by the scheduler of the key; results in the same shape. */
  readonly all: <
    const Arg extends Iterable<Effect.Effect<any, any, any>> | Record<string, Effect.Effect<any, any, any>>,
    O extends AllOptions
  >(key: K, arg: Arg, options?: O | undefined) => AllReturn<Arg, O, Self>
  /** Runs an effect for each item by the scheduler of the key, and emits the results as they complete. */
  readonly stream: <S extends Items, B, E, R, X = void>(
    key: K,
    items: S,
    f: (item: Items.Item<S>, index: number) => Effect.Effect<B, E, R>,
    options?: StreamOptions<Items.Item<S>, X> | undefined
  ) => Stream.Stream<
    B,
    E | Items.Error<S> | SchedulerError,
    R | Items.Services<S> | ProgressServices<X> | Self
  >
  /** Maps the elements of a stream by the scheduler of the key, in a pipe; emits the results as they complete. */
  readonly mapEffect: <A, B, E, R, X = void>(
    key: K,
    f: (item: A, index: number) => Effect.Effect<B, E, R>,
    options?: StreamOptions<A, X> | undefined
  ) => <SE, SR>(
    self: Stream.Stream<A, SE, SR>
  ) => Stream.Stream<B, E | SE | SchedulerError, R | SR | ProgressServices<X> | Self>
  /** Gives the value of the first effect that succeeds at the scheduler of the key, and interrupts the others. */
  readonly firstSuccess: <Eff extends Effect.Effect<any, any, any>>(
    key: K,
    effects: Iterable<Eff>
  ) => Effect.Effect<
    Effect.Success<Eff>,
    FirstSuccessError<Effect.Error<Eff> | SchedulerError>,
    Effect.Services<Eff> | Self
  >
}

/** How to reach a scheduler: it is there for the effect, or the stream, that is run on it. */
export interface Access<out Target, out Self> {
  readonly effect: <A, E, R>(f: (target: Target) => Effect.Effect<A, E, R>) => Effect.Effect<A, E, R | Self>
  readonly stream: <A, E, R>(f: (target: Target) => Stream.Stream<A, E, R>) => Stream.Stream<A, E, R | Self>
}

/**
 * The members of a handle, whose engine is reached anew for each run. The types say more than the implementations can:
 * these know what they give by construction.
 */
export const handle = (access: Access<Engine, never>): Collections<never> => ({
  forEach:
    ((items: Items, f: never, options?: ForEachOptions<unknown, boolean, unknown>) =>
      access.effect((engine) => Collect.forEach(engine, items, f, options))) as Collections<never>["forEach"],
  all:
    ((arg: Iterable<never>, options?: AllOptions) =>
      access.effect((engine) => Collect.all(engine, arg, options))) as Collections<never>["all"],
  stream:
    ((items: Items, f: never, options?: StreamOptions<unknown, unknown>) =>
      access.stream((engine) => CollectStream.stream(engine, items, f, options))) as Collections<never>["stream"],
  mapEffect:
    ((f: never, options?: StreamOptions<unknown, unknown>) => (self: Stream.Stream<unknown>) =>
      access.stream((engine) => CollectStream.stream(engine, self, f, options, "Scheduler.mapEffect"))) as Collections<
        never
      >["mapEffect"],
  firstSuccess: (effects) => access.effect((engine) => Collect.firstSuccess(engine, effects))
})

/** The members of what stands for a handle: each is the handle's, reached anew for each run. */
export const through = <Shape extends Collections<never>, Self>(access: Access<Shape, Self>): Collections<Self> => ({
  forEach: (items, f, options) => {
    Collect.checkOptions("Scheduler.forEach", options)
    return access.effect((handle) => handle.forEach(items, f, options))
  },
  // The conditional type of its result is the same on both sides, but for `Self`.
  all: ((arg: Iterable<never>, options?: AllOptions) => {
    Collect.checkOptions("Scheduler.all", options)
    return access.effect((handle) => handle.all(arg, options))
  }) as Collections<Self>["all"],
  stream: (items, f, options) => {
    Collect.checkOptions("Scheduler.stream", options)
    return access.stream((handle) => handle.stream(items, f, options))
  },
  mapEffect: (f, options) => {
    Collect.checkOptions("Scheduler.mapEffect", options)
    return (self) => access.stream((handle) => handle.mapEffect(f, options)(self))
  },
  firstSuccess: (effects) => access.effect((handle) => handle.firstSuccess(effects))
})

/** The members for a tag: each adds it to the requirements. */
export const accessors = <Self, Shape extends Collections<never>>(tag: Context.Key<Self, Shape>): Collections<Self> =>
  through<Shape, Self>({
    effect: (f) => Effect.flatMap(Effect.service(tag), f),
    stream: (f) => Stream.unwrap(Effect.map(Effect.service(tag), f))
  })

/** The members for a tag whose service has a handle for each key. */
export const keyedAccessors = <K, Self, Shape extends Collections<never>>(
  tag: Context.Key<Self, { readonly get: (key: K) => Shape }>
): KeyedCollections<K, Self> => {
  const of = (key: K): Collections<Self> =>
    through<Shape, Self>({
      effect: (f) => Effect.flatMap(Effect.service(tag), (schedulers) => f(schedulers.get(key))),
      stream: (f) => Stream.unwrap(Effect.map(Effect.service(tag), (schedulers) => f(schedulers.get(key))))
    })
  return {
    forEach: (key, items, f, options) => of(key).forEach(items, f, options),
    all: (key, arg, options) => of(key).all(arg, options),
    stream: (key, items, f, options) => of(key).stream(items, f, options),
    mapEffect: (key, f, options) => of(key).mapEffect(f, options),
    firstSuccess: (key, effects) => of(key).firstSuccess(effects)
  }
}
