/**
 * Single flight by key: calls with an equal key that run at the same time share one run and its result.
 *
 * **When to use**
 *
 * Use in front of a backend that many callers ask the same thing at once: a popular page, a token about to be refreshed, a
 * file that is read on demand.
 *
 * **Details**
 *
 * - While a run of a key is in flight, calls with an equal key join it. It executes once, and all callers get its exit:
 *   success, typed failure or defect.
 * - Nothing is kept. After the run has ended, the next call starts another. To keep results, use `Cache`.
 * - Interrupting one caller, the first included, does not affect the others. Interrupting the last one interrupts the run,
 *   and returns when its finalizers are done. A call that comes meanwhile waits for that end and then runs anew; it never
 *   gets the exit of the interrupted run.
 * - The run has the context of the call that started it. The current spans of the other callers get a link to its span.
 * - A call that would wait for itself dies with a `ReducerCycle`.
 *
 * Equality of keys: plain objects, arrays, dates, maps, sets, requests, and values that implement `Equal` are equal by
 * structure. Values with hidden state, such as functions and instances of other classes, are equal to themselves alone.
 * -1 and -2, 1 and true and "1" are different keys; NaN is equal to itself, and 0 to -0.
 *
 * **Gotchas**
 *
 * - The compiler does not check plain keys: two effects under an equal key must ask the same question. Put what makes them
 *   differ, such as the tenant, into the key. A `Request` as key carries its types, and a misfit does not compile.
 * - Two layers of one tag merge to the last one. A `layer(…)` written twice is two reducers, which share nothing, and
 *   `Effect.provide(layer)` around each call reduces nothing.
 * - `effect` itself exports a module `Reducer`, a fold: where you need both, rename one import.
 *
 * **Example** (Asking once for many callers)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * let queries = 0
 * const findUser = (id: string) =>
 *   Effect.gen(function*() {
 *     queries++
 *     yield* Effect.yieldNow
 *     return { id, name: "Ada" }
 *   })
 *
 * const page = (id: string) => Reducer.reduce(["user", id], findUser(id))
 *
 * const program = Effect.all([page("7"), page("7"), page("7")], { concurrency: "unbounded" })
 *
 * const users = await Effect.runPromise(Effect.provide(program, Reducer.layer()))
 * users.map((user) => user.name) // => ["Ada", "Ada", "Ada"]
 * queries // => 1
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Request from "effect/Request"
import * as Scope from "effect/Scope"
import type { Hooks } from "./Hooks.js"
import { dispatcherIn } from "./internal/data/dispatcher.js"
import { type InFlight, ReducerFlights } from "./internal/reducer/flights.js"
import { Run, type Space } from "./internal/reducer/run.js"
import { formatSteps, stepsOf } from "./internal/waits/cycle.js"
import { CurrentNode, type Node, nodeOf } from "./internal/waits/waits.js"

export type { InFlight } from "./internal/reducer/flights.js"

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
 * What a call can be identified by.
 *
 * @category models
 * @since 0.1.0
 */
export type Key = string | number | bigint | boolean | symbol | null | undefined | object

// Helper types are aliases, none an interface: the declarations of a program that exports a reduced function spell them out.

/** Turns a misuse into a compile error: no value has this type, and its parameter says what is wrong. */
type Misuse<out Reason extends string> = { readonly "~effect-funnel/Reducer/Misuse": Reason }

/** `unknown` for an effect that may run under the key, otherwise a `Misuse` that says why it may not. */
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

/** What a call under this key succeeds with: a request's own type, otherwise that of the effect. */
type Success<K, A> = [K] extends [Request.Request<infer A0, unknown, unknown>] ? A0 : A

/** What a call under this key fails with: a request's own type, otherwise that of the effect. */
type Failure<K, E> = [K] extends [Request.Request<unknown, infer E0, unknown>] ? E0 : E

/**
 * Lists what a reducer can do. `Self` is what the operations require: nothing for a handle, the tag for accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> {
  /** Runs the effect, or joins the run of an equal key that is in flight. */
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
  /** Makes a function whose equal calls share one run while it is in flight. */
  readonly fn: {
    /** Makes a function whose equal calls share one run while it is in flight; its arguments are the key. */
    (name: string): <Args extends ReadonlyArray<unknown>, A, E, R>(
      f: (...args: Args) => Effect.Effect<A, E, R> & NoScope<R>
    ) => (...args: Exactly<Args>) => Effect.Effect<A, E, R | Self>
    /** Makes a function whose equal calls share one run while it is in flight; the option says what their key is. */
    <KeyArgs extends ReadonlyArray<unknown>>(
      name: string,
      options: { readonly key: (...args: KeyArgs) => Key }
    ): <Args extends KeyArgs, A, E, R>(
      f: (...args: Args) => Effect.Effect<A, E, R> & NoScope<R>
    ) => (...args: Exactly<Args>) => Effect.Effect<A, E, R | Self>
  }
  /** Lets the next call with the key run anew, whatever is in flight. */
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
  readonly inFlight: Effect.Effect<ReadonlyArray<InFlight>, never, Self>
}

/**
 * Reduces equal calls that happen at the same time to one. Its methods require nothing beyond what the effects require.
 *
 * `toJSON` returns its name and how many runs are in flight.
 *
 * @see {@link make} for making one
 * @see {@link layer} for providing one
 * @category models
 * @since 0.1.0
 */
export interface Reducer extends Operations<never>, Pipeable, Inspectable.Inspectable {
  readonly [TypeId]: TypeId
}

/**
 * Checks whether a value is a `Reducer`.
 *
 * **Example** (Telling a Reducer from its options)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const options = { name: "users" }
 *
 * await Effect.runPromise(Effect.scoped(Effect.map(Reducer.make(options), Reducer.isReducer))) // => true
 * Reducer.isReducer(options) // => false
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isReducer = (u: unknown): u is Reducer => Predicate.hasProperty(u, TypeId)

/**
 * The tag of the default reducer.
 *
 * **Example** (Taking the handle)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const reducer = yield* Reducer.Reducer
 *   return yield* reducer.reduce("key", Effect.succeed(1))
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => 1
 * ```
 *
 * @see {@link Service} for tags of one's own
 * @category services
 * @since 0.1.0
 */
export const Reducer: Context.Service<Reducer, Reducer> = /*#__PURE__*/ Context.Service<Reducer>(
  "effect-funnel/Reducer"
)

/**
 * Configures a reducer.
 *
 * **Details**
 *
 * - `name`: names it to hooks.
 * - `hooks`: are told of calls and runs; see the module `Hooks`. None by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly name?: string | undefined
  readonly hooks?: Hooks | undefined
}

/** What `fn` made a function from, so that `forget` finds its calls. */
interface Source {
  readonly f: object
  /** The `key` option, or else that of all functions without one. */
  readonly selector: object
  readonly keyOf: (args: ReadonlyArray<unknown>) => unknown
}

const sources = /*#__PURE__*/ new WeakMap<object, Source>()

// Sound: the compiler refuses a call with more arguments. Where it was not asked, they are handed over as they are.
const handOver = <Args extends ReadonlyArray<unknown>>(args: Exactly<Args>): Args =>
  args as ReadonlyArray<unknown> as Args

// A lone primitive needs no array around it. A lone array does: f([1, 2]) is another call than f(1, 2).
const argumentsOf = (args: ReadonlyArray<unknown>): unknown =>
  args.length === 1 && ((typeof args[0] !== "object" && typeof args[0] !== "function") || args[0] === null)
    ? args[0]
    : args

/**
 * Makes a reducer that lives as long as the scope.
 *
 * **When to use**
 *
 * Use inside a service that reduces calls of its own. In an application, provide `layer`.
 *
 * **Details**
 *
 * When the scope closes, all runs and their callers are interrupted, and closing waits until the finalizers of the runs are
 * done. Later calls are interrupted at once. A run that closes the scope of its own reducer does not wait for itself.
 *
 * **Example** (Reducing inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const reducer = yield* Reducer.make({ name: "prices" })
 *   return yield* reducer.reduce("EUR", Effect.succeed(1.08))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => 1.08
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: Options): Effect.Effect<Reducer, never, Scope.Scope> =>
  Effect.withFiber((fiber) => {
    const flights = new ReducerFlights(options, dispatcherIn(fiber.context), cycleOf)
    // Not `acquireRelease`: it would close from the node in which the reducer is made, whoever closes it.
    return Effect.as(
      Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizer(scope, flights.close)),
      fromFlights(flights)
    )
  })

// A pending run is told together with the run of the same key that it waits behind.
const cycleOf = (path: ReadonlyArray<Node>): ReducerCycle =>
  new ReducerCycle({ path: stepsOf(path, (node, next) => !(node instanceof Run) || node.predecessor !== next) })

const handle = (name: string | undefined, inFlight: () => number, operations: Operations<never>): Reducer => ({
  ...operations,
  ...Inspectable.BaseProto,
  [TypeId]: TypeId,
  toJSON: () => ({ _id: "effect-funnel/Reducer", name, inFlight: inFlight() }),
  pipe() {
    return pipeArguments(this, arguments)
  }
})

const fromFlights = (flights: ReducerFlights): Reducer => {
  const plain = flights.space()
  const spaces = new WeakMap<object, WeakMap<object, Space>>()
  const spaceOf = (source: Source, name: string): Space => {
    let byFunction = spaces.get(source.selector)
    if (byFunction === undefined) {
      spaces.set(source.selector, byFunction = new WeakMap())
    }
    let space = byFunction.get(source.f)
    if (space === undefined) {
      byFunction.set(source.f, space = flights.space(name))
    }
    return space
  }

  const fn =
    (name: string, options?: { readonly key: (...args: ReadonlyArray<never>) => Key }) =>
    <Args extends ReadonlyArray<unknown>, A, E, R>(f: (...args: Args) => Effect.Effect<A, E, R>) => {
      const source = sourceOf(f, options)
      const space = spaceOf(source, name)
      const reduced = (...args: Exactly<Args>): Effect.Effect<A, E, R> =>
        Effect.suspend(() => flights.call(space, source.keyOf(args), withRunSpan(name, () => f(...handOver(args)))))
      sources.set(reduced, source)
      return reduced
    }

  const forget = (key: Key, ...args: ReadonlyArray<unknown>) =>
    Effect.sync(() => {
      const source = typeof key === "function" ? sources.get(key) : undefined
      if (source === undefined) {
        flights.forget(plain, key)
      } else if (args.length === 0) {
        flights.forgetAll(spaceOf(source, ""))
      } else {
        flights.forget(spaceOf(source, ""), source.keyOf(args))
      }
    })

  return handle(flights.name, () => flights.inFlight(0).length, {
    reduce: reduceWith((key, effect) => flights.call(plain, key, effect)),
    fn,
    forget,
    inFlight: Effect.clockWith((clock) => Effect.succeed(flights.inFlight(clock.currentTimeMillisUnsafe())))
  })
}

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
  f: object,
  options: { readonly key: (...args: ReadonlyArray<never>) => unknown } | undefined
): Source =>
  options === undefined
    ? { f, selector: argumentsOf, keyOf: argumentsOf }
    // Sound: the overloads of `fn` give the key function the arguments of the function that it belongs to.
    : { f, selector: options.key, keyOf: (args) => options.key(...(args as ReadonlyArray<never>)) }

// The run of a function has a span of the function's name, and that is what those who join link to.
const withRunSpan = <A, E, R>(name: string, evaluate: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() =>
    Effect.useSpan(name, (span) =>
      Effect.withFiber((fiber) => {
        const run = nodeOf(fiber.context)
        if (run instanceof Run) run.span = span
        return Effect.withParentSpan(evaluate(), span)
      }))
  )

/**
 * Provides the default reducer while the layer's scope is open.
 *
 * **Gotchas**
 *
 * Each `layer(…)` is a reducer of its own: keep it in a constant and provide that. `make` says what closing does.
 *
 * **Example** (Providing a reducer)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Hooks, Reducer } from "effect-funnel"
 *
 * const ReducerLive = Reducer.layer({ name: "app", hooks: Hooks.debug })
 *
 * const program = Reducer.reduce("greeting", Effect.succeed("hello"))
 *
 * await Effect.runPromise(Effect.provide(program, ReducerLive)) // => "hello"
 * ```
 *
 * @see {@link layerNoop} for tests
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Reducer> => Layer.effect(Reducer, make(options))

/**
 * Provides a reducer that reduces nothing: every call runs its own effect in its own fiber. Use it in tests.
 *
 * **Example** (Running every call)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * let runs = 0
 * const call = Reducer.reduce("key", Effect.sync(() => ++runs))
 *
 * const program = Effect.all([call, call, call], { concurrency: "unbounded" })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layerNoop)) // => [1, 2, 3]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<Reducer> = /*#__PURE__*/ Layer.suspend(() => Layer.succeed(Reducer, makeNoop()))

const makeNoop = (): Reducer =>
  handle(undefined, () => 0, {
    reduce: reduceWith((_, effect) => effect),
    fn:
      () =>
      <Args extends ReadonlyArray<unknown>, A, E, R>(f: (...args: Args) => Effect.Effect<A, E, R>) =>
      (...args: Exactly<Args>) => f(...handOver(args)),
    forget: () => Effect.void,
    inFlight: Effect.succeed([])
  })

// The operations of a tag: those of the reducer under it, with the tag in their requirements.
const operations = <Self>(tag: Context.Service<Self, Reducer>): Operations<Self> => {
  const fn =
    <KeyArgs extends ReadonlyArray<unknown>>(name: string, options?: { readonly key: (...args: KeyArgs) => Key }) =>
    <Args extends KeyArgs, A, E, R>(f: (...args: Args) => Effect.Effect<A, E, R> & NoScope<R>) => {
      const bind = (reducer: Reducer): (...args: Exactly<Args>) => Effect.Effect<A, E, R> =>
        options === undefined ? reducer.fn(name)(f) : reducer.fn(name, options)(f)
      // Nearly every function meets one reducer in its life. Binding it anew is cheap, and finds the same runs.
      let known: { readonly reducer: Reducer; readonly bound: ReturnType<typeof bind> } | undefined
      const reduced = (...args: Exactly<Args>): Effect.Effect<A, E, R | Self> =>
        tag.use((reducer) => {
          if (known?.reducer !== reducer) known = { reducer, bound: bind(reducer) }
          return known.bound(...args)
        })
      sources.set(reduced, sourceOf(f, options))
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

const accessors = /*#__PURE__*/ operations(Reducer)

/**
 * Runs an effect, or shares the run that a call with an equal key has in flight.
 *
 * **Details**
 *
 * - Joining and leaving cost the same for any number of callers. A run resumes its callers in the order in which they came:
 *   up to 1,024 in the step in which it ends, and as many in each later turn of the event loop.
 * - Where the key is a `Request`, the result has the types of the request, and an effect that does not fit is a compile
 *   error.
 * - An effect that requires `Scope` is a compile error: write `Effect.scoped` inside.
 * - A run starts interruptible, whatever its caller is.
 *
 * **Gotchas**
 *
 * - Interrupted, a caller returns at once while others wait; the last one returns when the run's finalizers are done.
 * - The effect runs with the services and references of the call that started the run. A resource that ends with that
 *   caller, such as a transaction, belongs inside the effect or into the key.
 * - Inside a run, a call for which the run would wait in turn dies with `ReducerCycle`.
 * - A run that takes a permit of a `Semaphore` which one of its callers holds waits for ever: take the permit around
 *   `reduce`. A `Scheduler` sees the wait, and lends the run the width of its callers.
 *
 * **Example** (Sharing one request)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * let fetches = 0
 * const fetchRate = (currency: string) =>
 *   Effect.sync(() => {
 *     fetches++
 *     return `${currency} 1.08`
 *   }).pipe(
 *     Effect.delay("10 millis"),
 *     Reducer.reduce(["rate", currency])
 *   )
 *
 * const program = Effect.forEach(["EUR", "EUR", "CHF"], fetchRate, { concurrency: "unbounded" })
 *
 * const rates = await Effect.runPromise(Effect.provide(program, Reducer.layer()))
 * rates // => ["EUR 1.08", "EUR 1.08", "CHF 1.08"]
 * fetches // => 2
 * ```
 *
 * @see {@link fn} for functions
 * @category operations
 * @since 0.1.0
 */
export const reduce: Operations<Reducer>["reduce"] = accessors.reduce

/**
 * Makes a function whose calls with equal arguments share one run while it is in flight.
 *
 * **Details**
 *
 * The key is the function `f` with its arguments, compared by structure, or with the result of the `key` option. The name
 * is not part of the key: it names the span of the run, and the function to hooks and snapshots.
 *
 * **Gotchas**
 *
 * - A function that is written in place is another one each time: make the reduced function once, outside its callers.
 * - All arguments of a call are its key. `Effect.forEach(ids, findUser)` would hand over an index as well and reduce nothing,
 *   so it does not compile: write `Effect.forEach(ids, (id) => findUser(id))`. Without the compiler's check the index counts,
 *   and so does an index passed to an optional number: give such a function a `key`.
 * - An exception that `f` throws is a defect of the run.
 *
 * **Example** (Reducing a function)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * let queries = 0
 * const findUser = Reducer.fn("findUser")((query: { readonly id: string }) =>
 *   Effect.gen(function*() {
 *     queries++
 *     yield* Effect.yieldNow
 *     return `user ${query.id}`
 *   })
 * )
 *
 * const program = Effect.all([findUser({ id: "7" }), findUser({ id: "7" })], { concurrency: "unbounded" })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => ["user 7", "user 7"]
 * queries // => 1
 * ```
 *
 * @see {@link reduce} for keys of one's own
 * @category operations
 * @since 0.1.0
 */
export const fn: Operations<Reducer>["fn"] = accessors.fn

/**
 * Forgets a key: the next call with it starts a run at once. Callers in flight keep theirs.
 *
 * **When to use**
 *
 * Use after a write, when the run in flight may have read the old value.
 *
 * **Details**
 *
 * For a function made with `fn`, give the function and the arguments of the call, or the function alone to forget all of
 * its calls. Forgetting a key that is not in flight does nothing.
 *
 * **Gotchas**
 *
 * Until the forgotten run has ended, two runs of the key exist.
 *
 * **Example** (Reading again after a write)
 *
 * ```ts import.meta.vitest
 * import { Deferred, Effect, Fiber } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const slow = yield* Deferred.make<string>()
 *   const before = yield* Effect.forkChild(Reducer.reduce("price", Deferred.await(slow)), { startImmediately: true })
 *   yield* Reducer.forget("price")
 *   const after = yield* Reducer.reduce("price", Effect.succeed("new"))
 *   yield* Deferred.succeed(slow, "old")
 *   return [yield* Fiber.join(before), after]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => ["old", "new"]
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const forget: Operations<Reducer>["forget"] = accessors.forget

/**
 * Lists the runs in flight, the oldest first.
 *
 * **Details**
 *
 * Runs whose key was forgotten are listed until they end. The list costs time in the number of runs. It is a snapshot, out
 * of date the instant after it is read.
 *
 * **Example** (Seeing who waits)
 *
 * ```ts import.meta.vitest
 * import { Effect, Fiber } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const fiber = yield* Effect.forkChild(Reducer.reduce("slow", Effect.never), { startImmediately: true })
 *   const runs = yield* Reducer.inFlight
 *   yield* Fiber.interrupt(fiber)
 *   const rest = yield* Reducer.inFlight
 *   return [runs.map((run) => [run.key, run.callers, run.phase]), rest]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => [[["slow", 1, "running"]], []]
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const inFlight: Operations<Reducer>["inFlight"] = accessors.inFlight

/**
 * Detaches an effect from the run that it is started from, for the detection of cycles.
 *
 * **When to use**
 *
 * Use for work that a run starts and does not wait for, such as a refresh in the background that reduces the same key.
 *
 * **Details**
 *
 * Fibers that a run forks belong to it until it has ended, so a call of theirs that would wait for the run dies with
 * `ReducerCycle`. A detached effect belongs to no run.
 *
 * **Gotchas**
 *
 * A run that waits for a detached effect which waits for the run hangs.
 *
 * **Example** (Asking again in the background)
 *
 * ```ts import.meta.vitest
 * import { Effect, Fiber } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * let background: Fiber.Fiber<string> | undefined
 *
 * const rates: Effect.Effect<string, never, Reducer.Reducer> = Reducer.reduce(
 *   "rates",
 *   Effect.gen(function*() {
 *     // Not detached, this call would die: it joins the run that it is started from.
 *     background = yield* Effect.forkDetach(Reducer.detached(Effect.suspend(() => rates)))
 *     yield* Effect.yieldNow
 *     return "EUR 1.08"
 *   })
 * )
 *
 * const program = Effect.gen(function*() {
 *   const here = yield* rates
 *   const there = background === undefined ? "" : yield* Fiber.join(background)
 *   return [here, there]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => ["EUR 1.08", "EUR 1.08"]
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const detached = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, CurrentNode, undefined)

/**
 * A reducer's tag class with its layers and every operation attached.
 *
 * @see {@link Service} for making one
 * @category services
 * @since 0.1.0
 */
export interface ServiceClass<Self, Id extends string>
  extends Context.ServiceClass<Self, Id, Reducer>, Operations<Self>
{
  /** Provides the reducer, with the options of the class. */
  readonly layer: Layer.Layer<Self>
  /** Provides a reducer that reduces nothing. */
  readonly layerNoop: Layer.Layer<Self>
}

/**
 * Makes a tag of one's own, with its layers and every operation, for programs that have several reducers.
 *
 * **When to use**
 *
 * Use where keys of different subsystems should not meet, or where each needs its own hooks.
 *
 * **Example** (Defining a reducer of one's own)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * class Prices extends Reducer.Service<Prices>()("app/Prices", { name: "prices" }) {}
 *
 * const program = Prices.reduce("EUR", Effect.succeed(1.08))
 *
 * await Effect.runPromise(Effect.provide(program, Prices.layer)) // => 1.08
 * ```
 *
 * @see {@link Reducer} for the default tag
 * @category services
 * @since 0.1.0
 */
export const Service = <Self>() => <const Id extends string>(id: Id, options?: Options): ServiceClass<Self, Id> => {
  const tag = Context.Service<Self, Reducer>()(id)
  return Object.assign(tag, operations(tag), {
    layer: Layer.effect(tag, make(options)),
    layerNoop: Layer.succeed(tag, makeNoop())
  })
}

/**
 * The defect of a call that would wait for itself, with the path from its run back to that run.
 *
 * **Details**
 *
 * `path` begins and ends with the run, or the batch, that made the call. Each step waits for the next one: runs, by their
 * `key` and the `name` of their function; jobs, by the `name` of their scheduler; batches, by the `name` of their resolver.
 * It is a defect, not a typed error, since no caller can recover from it. `Effect.exit` and `Effect.catchDefect` show it.
 *
 * **Example** (Reducing a key inside of itself)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const inner = Reducer.reduce("a", Effect.succeed(1))
 * const program = Reducer.reduce("a", Effect.andThen(Effect.yieldNow, inner)).pipe(
 *   Effect.catchDefect((defect) => Effect.succeed(String(defect)))
 * )
 *
 * const message = await Effect.runPromise(Effect.provide(program, Reducer.layer()))
 * message // => 'ReducerCycle: the run would wait for itself: "a" -> "a"'
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class ReducerCycle extends Data.TaggedError("ReducerCycle")<{
  readonly path: ReadonlyArray<{
    readonly kind: "run" | "job" | "batch"
    readonly name: string | undefined
    readonly key: unknown
  }>
}> {
  override get message(): string {
    return `the run would wait for itself: ${formatSteps(this.path)}`
  }
}
