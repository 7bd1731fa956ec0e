/**
 * The operations of a reducer: their types, how those of a tag find a handle, and how those of a handle reach its flights.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import { isObjectKeyword } from "effect/Predicate"
import type * as Request from "effect/Request"
import type * as Scope from "effect/Scope"
import { nodeOf } from "../waits/waits.js"
import * as Flights from "./flights.js"
import * as Run from "./run.js"

/**
 * Identifies values of this module at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/Reducer"

/**
 * The type of `TypeId`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/Reducer"

/**
 * A value that identifies a call.
 *
 * @category models
 * @since 0.1.0
 */
export type Key = string | number | bigint | boolean | symbol | null | undefined | object

// Helper types are aliases, none an interface: the declarations of a program that exports a reduced function spell them out.

/** Turns a misuse into a compile error: no value has this type, and its parameter names the mistake. */
type Misuse<out Reason extends string> = { readonly "~effect-funnel/Reducer/Misuse": Reason }

/** `unknown` for an effect that may run under the key, otherwise a `Misuse` with the reason. */
type Fits<K, A, E, R> = (
  [unknown] extends [K] ? Sound<R>
    // Nothing is inferred from what is no effect.
    : [K, unknown, unknown, unknown] extends [Effect.Effect<unknown, unknown, unknown>, A, E, R]
      ? Checked<"The arguments are swapped: the key comes first, then the effect">
    : [K] extends [Request.Request<infer A0, infer E0, unknown>] ? Sound<
        R,
        [A] extends [A0]
          ? [E] extends [E0] ? Checked : Checked<"The effect fails with an error that the request does not declare">
          : Checked<"The effect succeeds with a value that is not the request's">
      >
    : Sound<R>
)["~misuse"]

/**
 * `unknown` unless the requirements are unknown or contain `Scope`, which would close under the callers that joined.
 *
 * @category utility types
 * @since 0.1.0
 */
export type NoScope<R> = Sound<R>["~misuse"]

type Sound<R, Otherwise = Checked> = 0 extends 1 & R ? Otherwise
  : [unknown] extends [R]
    ? Checked<"This is not an effect, or its requirements are unknown: annotate what it is made from">
  : [Exclude<Scope.Scope, R>] extends [never]
    ? Checked<"The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside">
  : Otherwise

// The verdict is looked up in an object, because the compiler takes such a look-up for passed as long as a type parameter
// leaves it open: a generic wrapper compiles, and the check happens where it is called. A bare conditional type would not.
type Checked<out Reason extends string = never> = {
  readonly "~misuse": [Reason] extends [never] ? unknown : Misuse<Reason>
}

/** The parameters of a reduced function: all of them are its key, so any more are a compile error. */
type Exactly<Args extends ReadonlyArray<unknown>> = [
  ...Args,
  ...ReadonlyArray<
    Misuse<"An argument that the function does not declare would be part of the key: write (id) => f(id)">
  >
]

/** The success of a call with this key: that of the request, otherwise that of the effect. */
type Success<K, A> = [K] extends [Request.Request<infer A0, unknown, unknown>] ? A0 : A

/** The failure of a call with this key: that of the request, otherwise that of the effect. */
type Failure<K, E> = [K] extends [Request.Request<unknown, infer E0, unknown>] ? E0 : E

/**
 * The operations of a reducer. They require `Self`: nothing on a handle, the tag on accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> {
  readonly reduce: {
    /** Runs the effect, or joins the run of an equal key that is in flight. */
    <K extends Key>(
      key: K
    ): <A, E, R>(
      effect: Effect.Effect<A, E, R> & Fits<K, A, E, R>
    ) => Effect.Effect<Success<K, A>, Failure<K, E>, R | Self>
    /** Runs the effect, or joins the run of an equal key that is in flight. */
    <K extends Key, A, E, R>(
      key: K,
      effect: Effect.Effect<A, E, R> & Fits<K, A, E, R>
    ): Effect.Effect<Success<K, A>, Failure<K, E>, R | Self>
  }
  readonly fn: {
    /** Makes a function whose equal calls share one run while it is in flight; its arguments are the key. */
    (name: string): <Args extends ReadonlyArray<unknown>, A, E, R>(
      f: (...args: Args) => Effect.Effect<A, E, R> & NoScope<R>
    ) => (...args: Exactly<Args>) => Effect.Effect<A, E, R | Self>
    /** Makes a function whose equal calls share one run while it is in flight; the option makes their key. */
    <KeyArgs extends ReadonlyArray<unknown>>(
      name: string,
      options: { readonly key: (...args: KeyArgs) => Key }
    ): <Args extends KeyArgs, A, E, R>(
      f: (...args: Args) => Effect.Effect<A, E, R> & NoScope<R>
    ) => (...args: Exactly<Args>) => Effect.Effect<A, E, R | Self>
  }
  readonly forget: {
    /** Lets the next call with the key run anew, whatever is in flight. */
    (key: Key): Effect.Effect<void, never, Self>
    /** Lets the next call of a reduced function, with these arguments or with any, run anew. */
    <Args extends ReadonlyArray<unknown>, A, E, R>(
      f: (...args: Args) => Effect.Effect<A, E, R>,
      ...args: NoInfer<Args>
    ): Effect.Effect<void, never, Self>
  }
  /** The runs at this moment; a snapshot. */
  readonly inFlight: Effect.Effect<ReadonlyArray<Flights.InFlight>, never, Self>
}

/** A reducer. `toJSON` returns its name and how many runs are in flight. */
export interface Handle extends Operations<never>, Pipeable, Inspectable.Inspectable {
  readonly [TypeId]: TypeId
}

/** The operations of a tag: those of the handle that it provides. */
export const operations = <Self>(tag: Context.Service<Self, Handle>): Operations<Self> => {
  const fn =
    <KeyArgs extends ReadonlyArray<unknown>>(name: string, options?: { readonly key: (...args: KeyArgs) => Key }) =>
    <Args extends KeyArgs, A, E, R>(f: (...args: Args) => Effect.Effect<A, E, R> & NoScope<R>) => {
      const bind = (reducer: Handle): (...args: Exactly<Args>) => Effect.Effect<A, E, R> =>
        options === undefined ? reducer.fn(name)(f) : reducer.fn(name, options)(f)
      // Nearly every function meets one reducer in its life. Binding it again is cheap, and finds the same runs.
      let known: { readonly reducer: Handle; readonly bound: ReturnType<typeof bind> } | undefined
      const reduced = (...args: Exactly<Args>): Effect.Effect<A, E, R | Self> =>
        tag.use((reducer) => {
          if (known?.reducer !== reducer) known = { reducer, bound: bind(reducer) }
          return known.bound(...args)
        })
      sources.set(reduced, sourceOf(name, f, options))
      return reduced
    }

  const forget = (key: Key, ...args: ReadonlyArray<unknown>): Effect.Effect<void, never, Self> =>
    // Sound: only the overload for functions takes arguments.
    tag.use((_) => _.forget(key as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>, ...args))

  return {
    reduce: reduceWith((key, effect) => tag.use((_) => _.reduce(key, effect))),
    fn,
    forget,
    inFlight: tag.use((_) => _.inFlight)
  }
}

/** The handle of the runs. */
export const handleOf = (flights: Run.Flights): Handle => {
  const plain = Flights.makeSpace(flights)
  const spaces = new WeakMap<object, WeakMap<object, Run.Space>>()
  const spaceOf = (source: Source): Run.Space => {
    let byFunction = spaces.get(source.selector)
    if (byFunction === undefined) spaces.set(source.selector, byFunction = new WeakMap())
    let space = byFunction.get(source.f)
    if (space === undefined) byFunction.set(source.f, space = Flights.makeSpace(flights, source.name))
    return space
  }

  const fn =
    (name: string, options?: { readonly key: (...args: ReadonlyArray<never>) => Key }) =>
    <Args extends ReadonlyArray<unknown>, A, E, R>(f: (...args: Args) => Effect.Effect<A, E, R>) => {
      const source = sourceOf(name, f, options)
      const space = spaceOf(source)
      const reduced = (...args: Exactly<Args>): Effect.Effect<A, E, R> =>
        Effect.suspend(() => Flights.call(space, source.keyOf(args), withRunSpan(name, () => f(...handOver(args)))))
      sources.set(reduced, source)
      return reduced
    }

  const forget = (key: Key, ...args: ReadonlyArray<unknown>) =>
    Effect.sync(() => {
      const source = typeof key === "function" ? sources.get(key) : undefined
      if (source === undefined) {
        Flights.forget(plain, key)
      } else if (args.length === 0) {
        Flights.forgetAll(spaceOf(source))
      } else {
        Flights.forget(spaceOf(source), source.keyOf(args))
      }
    })

  return handle(flights.name, () => flights.inFlight, {
    reduce: reduceWith((key, effect) => {
      const { traced } = flights
      return Flights.call(plain, key, traced === undefined ? effect : withRunSpan(traced, () => effect))
    }),
    fn,
    forget,
    inFlight: Effect.clockWith((clock) => Effect.succeed(Flights.inFlight(flights, clock.currentTimeMillisUnsafe())))
  })
}

/** The handle of a reducer that reduces nothing. */
export const noop = (): Handle =>
  handle(undefined, () => 0, {
    reduce: reduceWith((_, effect) => effect),
    fn:
      () =>
      <Args extends ReadonlyArray<unknown>, A, E, R>(f: (...args: Args) => Effect.Effect<A, E, R>) =>
      (...args: Exactly<Args>) => Effect.suspend(() => f(...handOver(args))),
    forget: () => Effect.void,
    inFlight: Effect.succeed([])
  })

const handle = (name: string | undefined, inFlight: () => number, operations: Operations<never>): Handle => ({
  ...operations,
  ...Inspectable.BaseProto,
  [TypeId]: TypeId,
  toJSON: () => ({ _id: "effect-funnel/Reducer", name, inFlight: inFlight() }),
  pipe() {
    return pipeArguments(this, arguments)
  }
})

// Both spellings of `reduce` from one function.
const reduceWith = <Self>(
  run: (key: Key, effect: Effect.Effect<unknown, unknown>) => Effect.Effect<unknown, unknown, Self>
): Operations<Self>["reduce"] =>
  // Sound: the result has the types that the key promises, or else those of the effect, and requires what the effect does.
  ((key: Key, effect?: Effect.Effect<unknown, unknown>) =>
    effect === undefined
      ? (effect: Effect.Effect<unknown, unknown>) => run(key, effect)
      : run(key, effect)) as Operations<Self>["reduce"]

const sourceOf = (
  name: string,
  f: object,
  options: { readonly key: (...args: ReadonlyArray<never>) => unknown } | undefined
): Source =>
  options === undefined
    ? { name, f, selector: argumentsOf, keyOf: argumentsOf }
    // Sound: the overloads of `fn` give the key function the arguments of the function that it belongs to.
    : { name, f, selector: options.key, keyOf: (args) => options.key(...(args as ReadonlyArray<never>)) }

// The run of a function has a span of the function's name; joining callers link to that one.
const withRunSpan = <A, E, R>(name: string, evaluate: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.useSpan(name, (span) =>
    Effect.withFiber((fiber) => {
      const run = nodeOf(fiber.context)
      if (run instanceof Run.Run) run.span = span
      return Effect.withParentSpan(evaluate(), span)
    }))

/** The parts that `fn` made a function from: `forget` finds its calls by them. */
interface Source {
  readonly name: string
  readonly f: object
  /** The `key` option; all functions without one have the same. */
  readonly selector: object
  readonly keyOf: (args: ReadonlyArray<unknown>) => unknown
}

const sources = /*#__PURE__*/ new WeakMap<object, Source>()

// Sound: the compiler refuses a call with more arguments. Where it was not asked, they are handed over as they are.
const handOver = <Args extends ReadonlyArray<unknown>>(args: Exactly<Args>): Args =>
  args as ReadonlyArray<unknown> as Args

// A lone primitive needs no array around it. A lone array does: f([1, 2]) is another call than f(1, 2).
const argumentsOf = (args: ReadonlyArray<unknown>): unknown =>
  args.length === 1 && !isObjectKeyword(args[0]) ? args[0] : args
