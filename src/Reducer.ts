/**
 * Single flight by key: calls with an equal key that run at the same time share one run and its result.
 *
 * **When to use**
 *
 * Use in front of a backend that many callers ask the same thing at once: a popular page, an expired token, a file that is
 * read on demand.
 *
 * **Details**
 *
 * - While a run of a key is in flight, calls with an equal key join it. It executes once, and all callers get its exit:
 *   success, typed failure or defect. After it has ended, the next call starts another. To keep results, use `Cache`.
 * - Interrupting one caller, the first included, does not affect the others. Interrupting the last one interrupts the run.
 *   A call that comes before that run has ended waits for its end and then runs anew.
 * - The run has the context of the call that started it. The current spans of the other callers get a link to its span.
 * - Keys are equal by structure where that is safe: primitives, plain objects, arrays, dates, maps, sets, requests, and
 *   values that implement `Equal`. Functions and other objects with hidden state are equal to themselves alone. -1 and -2,
 *   and 1 and "1", are different keys; NaN is equal to itself, and 0 to -0.
 *
 * **Gotchas**
 *
 * - The compiler does not check plain keys: two effects under an equal key must ask the same question. Put what makes them
 *   differ, such as the tenant, into the key. A `Request` as key carries its types, and a misfit does not compile.
 * - Each `layer(…)` is a reducer of its own, and `effect` exports a module `Reducer` too: see `docs/gotchas.md`.
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
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import type { Hooks } from "./Hooks.js"
import { dispatcherIn } from "./internal/data/dispatcher.js"
import { close } from "./internal/reducer/flights.js"
import { type Handle, handleOf, noop, type Operations, operations, TypeId } from "./internal/reducer/operations.js"
import { Flights } from "./internal/reducer/run.js"
import { enrolled } from "./internal/seen/seen.js"
import { Tracing } from "./internal/seen/tell.js"
import { CurrentNode } from "./internal/waits/waits.js"

export { ReducerCycle } from "./internal/reducer/error.js"
export type { InFlight } from "./internal/reducer/flights.js"
export { type Key, type NoScope, type Operations, TypeId } from "./internal/reducer/operations.js"

/**
 * The handle of a reducer: its operations require nothing beyond what the effects require.
 *
 * `toJSON` returns its name and how many runs are in flight.
 *
 * @see {@link make} for making one
 * @see {@link layer} for providing one
 * @category models
 * @since 0.1.0
 */
export interface Reducer extends Handle {}

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
 * @see {@link Service} for tags of your own
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
 * - `name`: its name in the events of hooks, metrics and spans; the id of the tag by default.
 * - `hooks`: observe calls and runs; none by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly name?: string | undefined
  readonly hooks?: Hooks | undefined
}

/**
 * Makes a reducer that lives as long as the scope.
 *
 * **When to use**
 *
 * Use inside a service that reduces calls of its own. In an application, provide `layer`.
 *
 * **Details**
 *
 * Closing the scope interrupts all runs and their callers, and waits for the finalizers of the runs. Later calls are
 * interrupted at once. A run that closes the scope of its own reducer does not wait for itself.
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
export const make = (options?: Options): Effect.Effect<Reducer, never, Scope.Scope> => fromOptions(Reducer.key, options)

/** @internal */
export const fromOptions = (id: string, options?: Options): Effect.Effect<Reducer, never, Scope.Scope> =>
  Effect.withFiber((fiber) => {
    const name = options?.name ?? id
    const flights = new Flights(name, options?.hooks, dispatcherIn(fiber.context))
    if (fiber.getRef(Tracing) !== undefined) flights.traced = `${name}.reduce`
    return Effect.flatMap(enrolled("reducer", name, flights), (watch) => {
      flights.watch = watch
      // Not `acquireRelease`: it would close from the node in which the reducer is made, whoever closes it.
      return Effect.as(
        Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizer(scope, close(flights))),
        handleOf(flights)
      )
    })
  })

/**
 * Provides the default reducer while the layer's scope is open.
 *
 * **Gotchas**
 *
 * Each `layer(…)` is a reducer of its own: keep it in a constant and provide that. It closes as {@link make} describes.
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
 * Provides a reducer that reduces nothing, for tests: every call runs its own effect in its own fiber.
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
export const layerNoop: Layer.Layer<Reducer> = /*#__PURE__*/ Layer.suspend(() => Layer.succeed(Reducer, noop()))

const accessors = /*#__PURE__*/ operations(Reducer)

/**
 * Runs an effect, or joins the run that a call with an equal key has in flight.
 *
 * **Details**
 *
 * - Joining and leaving cost the same for any number of callers. A run resumes its callers in the order in which they came:
 *   up to 1,024 in the step in which it ends, and as many in each later turn of the event loop.
 * - Where the key is a `Request`, the result has the types of the request, and an effect that does not fit is a compile
 *   error. So is an effect that requires `Scope`: write `Effect.scoped` inside.
 * - Interrupted, a caller returns at once while others wait; the last one returns when the run's finalizers are done. A run
 *   starts interruptible, whatever its caller is.
 *
 * **Gotchas**
 *
 * - The effect runs in the context of the call that started the run. A resource that ends with that caller, such as a
 *   transaction, belongs inside the effect or into the key.
 * - Inside a run, a call for which the run would wait in turn dies with {@link ReducerCycle}. A `Semaphore` is not seen: if
 *   a caller holds a permit that the run takes, both wait for ever. Take the permit around `reduce`.
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
 * The key is the function `f` with its arguments, or with the result of the `key` option. The name is not part of the key:
 * it names the span of the run, and the function in hooks and snapshots. An exception that `f` throws is a defect.
 *
 * **Gotchas**
 *
 * - A function that is written in place is another one each time: make the reduced function once, outside its callers.
 * - All arguments are part of the key. `Effect.forEach(ids, findUser)` would pass an index too, so it does not compile:
 *   write `Effect.forEach(ids, (id) => findUser(id))`, or give a function with an optional number a `key`.
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
 * @see {@link reduce} for keys of your own
 * @category operations
 * @since 0.1.0
 */
export const fn: Operations<Reducer>["fn"] = accessors.fn

/**
 * Forgets a key: the next call with it starts a run at once. Callers in flight keep theirs.
 *
 * **Details**
 *
 * Use it after a write, when the run in flight may have read the old value. Two runs of the key exist until the forgotten
 * one has ended. For a function made with `fn`, give the function and the arguments of the call, or the function alone to
 * forget all of its calls. Forgetting a key that is not in flight does nothing.
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
 * It is a snapshot, and costs time in the number of runs. Runs whose key was forgotten are listed until they end.
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
 * Detaches an effect from the run that starts it, for the detection of cycles.
 *
 * **Details**
 *
 * Fibers that a run forks belong to it until it has ended, so a call of theirs that would wait for the run dies with
 * {@link ReducerCycle}. Detach work that the run does not wait for, such as a refresh of the same key in the background. A
 * run that waits for it all the same hangs. Detached work belongs to no job and to no batch either: a job of a `Scheduler`
 * that waits for it lends it no permit.
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
 * A tag made by {@link Service}, with its layers and every operation.
 *
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
 * Makes a tag of your own, with its layers and every operation, for programs that have several reducers.
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
    layer: Layer.effect(tag, fromOptions(id, options)),
    layerNoop: Layer.succeed(tag, noop())
  })
}
