/**
 * Batches single look-ups: independent ones make one backend call, and equal ones ask once.
 *
 * **When to use**
 *
 * Use for records that you look up one by one and that a backend can fetch many at a time: rows by id, or keys of a store.
 *
 * **Details**
 *
 * - `fn` makes a function of an id. `findById`, `ordered` and `grouped` make resolvers for `Effect.request`.
 * - A batch collects for a `window`. `"idle"`, the default, ends after two turns of the event loop in a row in which no
 *   look-up joined, and after 16 turns at the latest: about 12 µs for a lone look-up, or 8 ms without `setImmediate`.
 * - Equal requests reach the backend once, and count once against `maxBatchSize`. A request joins an equal one in flight.
 * - An interrupted caller returns at once. A running batch goes on while any of its requests has a caller.
 * - With the option `scheduler`, batches are jobs of that scheduler, and a queued batch goes on collecting.
 * - `execute` has the services of the place where the resolver was made, except those in `isolate`, and runs in the span of
 *   the batch's first caller. Its `Scope` closes with the batch.
 *
 * Requests of one class are equal when all their fields are: primitives by value; arrays, plain objects, dates, maps and
 * sets by structure; other objects by their own `Equal` or else by identity.
 *
 * **Gotchas**
 *
 * - Make a resolver once, as a service or in a layer: one that is made for each call batches nothing.
 * - A fiber that yields twice before its look-up, or a look-up after I/O, may miss the batch. Give those a `window` in time.
 * - Core's combinators, such as `RequestResolver.batchN`, return resolvers with batches of their own. Write a wrapper as they
 *   do, from a spread: `RequestResolver.makeWith({ ...resolver, … })`. Instead of `RequestResolver.grouped` use `isolate`,
 *   and instead of `RequestResolver.withCache` use `cache`: these two miss callers that leave or join.
 *
 * **Example** (Loading users together)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * const queries: Array<string> = []
 * const select = (ids: ReadonlyArray<number>) => {
 *   queries.push(`SELECT … WHERE id IN (${ids.join(", ")})`)
 *   return Effect.succeed(ids.map((id) => ({ id, name: `user ${id}` })))
 * }
 *
 * const program = Effect.gen(function*() {
 *   const getUser = yield* Batcher.fn("users")(select, { resultId: (user) => user.id })
 *   return yield* Effect.forEach([1, 2, 1], getUser, { concurrency: "unbounded" })
 * })
 *
 * const users = await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Batcher.layer())))
 * users.map((user) => user.name) // => ["user 1", "user 2", "user 1"]
 * queries // => ["SELECT … WHERE id IN (1, 2)"]
 * ```
 *
 * @since 0.1.0
 */
import type { NonEmptyArray } from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { BaseProto } from "effect/Inspectable"
import type { Inspectable } from "effect/Inspectable"
import * as Layer from "effect/Layer"
import { Prototype } from "effect/Pipeable"
import type { Pipeable } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import * as Request from "effect/Request"
import type * as RequestResolver from "effect/RequestResolver"
import type * as Scope from "effect/Scope"
import type { Scheduler } from "./Scheduler.js"
import { NotFoundError } from "./internal/batcher/error.js"
import { checkOptions, refuseNonsense } from "./internal/batcher/options.js"
import type {
  AnyOptions,
  CachedResolver,
  Isolating,
  ResolverOptions,
  Result,
  Settings
} from "./internal/batcher/options.js"
import { byGroup, byId, inOrder, type Plan } from "./internal/batcher/plan.js"
import { each, makeResolver, ServiceName } from "./internal/batcher/resolver.js"
import { engineOf } from "./internal/scheduler/handle.js"
import { observers } from "./internal/seen/seen.js"

export { BatcherError, LookupCycle, NotFoundError, ResultLengthMismatch } from "./internal/batcher/error.js"
export type { CachedResolver, CacheOptions, ResolverOptions, Result } from "./internal/batcher/options.js"

/**
 * Identifies Batcher handles at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/Batcher"

/**
 * Identifies Batcher handles in types.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/Batcher"

/**
 * Options of a Batcher.
 *
 * **Details**
 *
 * - `window`: how long a batch collects before it is sent, or goes to the scheduler: `"idle"`, or a duration by the clock of
 *   the place where the resolver was made. Default `"idle"`.
 * - `maxBatchSize`: the most distinct requests in a batch. A full batch is sent at once. Default: no bound.
 * - `scheduler`: the tag of the scheduler whose jobs the batches are. Default: none.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<I = never> {
  readonly window?: "idle" | Duration.Input | undefined
  readonly maxBatchSize?: number | undefined
  readonly scheduler?: Context.Key<I, Scheduler> | undefined
}

/** A request class, or a constructor of `Request.tagged` or `Request.of`: types are inferred from it. */
type Constructor<Req extends Request.Any> = (new(args: never) => Req) | ((args: never) => Req)

/**
 * Options of `fn`.
 *
 * **Details**
 *
 * - `resultId`: the id of a row.
 * - `missing`: the exit of a look-up that has no row. Default: it fails with a `NotFoundError`.
 *
 * @category models
 * @since 0.1.0
 */
export interface FnOptions<Id, Row, A, E> {
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
  readonly missing?: ((id: NoInfer<Id>) => Exit.Exit<A, E>) | undefined
}

/**
 * Options of `findById`.
 *
 * **Details**
 *
 * `execute` gets distinct ids: primitives, or data that is compared by structure. Rows of other ids are ignored. The first
 * of two rows with the same id counts. `missing` returns the exit of a request without a row.
 *
 * @category models
 * @since 0.1.0
 */
export interface FindByIdOptions<Req extends Request.Any, Id, Row extends Request.Success<Req>, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
  readonly missing: (request: Req) => Result<Req>
}

/**
 * Options of `ordered`: `execute` returns a value or an `Exit` for each request, in their order.
 *
 * @category models
 * @since 0.1.0
 */
export interface OrderedOptions<Req extends Request.Any, R> {
  readonly execute: (
    requests: NonEmptyArray<Req>
  ) => Effect.Effect<ReadonlyArray<Request.Success<Req> | Result<Req>>, Request.Error<Req>, R>
}

/**
 * Options of `grouped`.
 *
 * @category models
 * @since 0.1.0
 */
export interface GroupedOptions<Req extends Request.Any, Id, Row, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
}

/** An effect that makes a resolver. It needs what `execute` needs, except the services that come from callers. */
type Make<Self, Resolver, Req extends Request.Any, R, Isolate extends Isolating<Req>> = Effect.Effect<
  Resolver,
  never,
  Self | Scope.Scope | Exclude<R, Context.Service.Identifier<Isolate[number]>>
>

/** Options with one that is certainly there: one that may be `undefined` does not fit. */
type With<Options, Key extends keyof Options> = Options & { readonly [_ in Key]: {} }

/** The row type of a list of any length. */
type RowOf<List> = List extends ReadonlyArray<infer A> ? Array<A> extends List ? A : never : never

/**
 * The operations of the Batcher under the tag `Self`, or with `never` those of a handle. Of two overloads, the first is for an
 * option that is there, and the second for one that is not, or may not be.
 */
interface Operations<Self> {
  /** Makes a function that looks rows up by id: the smallest way in. */
  readonly fn: (name: string) => {
    <Id, Row, E = never, R = never, A = never, E2 = never>(
      execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, E, R>,
      options: With<FnOptions<Id, Row, A, E2>, "missing">
    ): Effect.Effect<(id: Id) => Effect.Effect<Row | A, E | E2>, never, Self | Scope.Scope | R>
    <Id, Row, E = never, R = never, A = never, E2 = never>(
      execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, E, R>,
      options: FnOptions<Id, Row, A, E2>
    ): Effect.Effect<(id: Id) => Effect.Effect<Row | A, E | E2 | NotFoundError<Id>>, never, Self | Scope.Scope | R>
  }
  readonly findById: {
    /** Makes a resolver of requests that have an id each, from a backend that finds rows by a list of ids. */
    <
      Req extends Request.Any,
      Id,
      Row extends Request.Success<Req>,
      R = never,
      const Isolate extends Isolating<Req> = []
    >(
      request: Constructor<Req>,
      options: With<FindByIdOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate>, "cache">
    ): Make<Self, CachedResolver<Req>, Req, R, Isolate>
    /** Makes a resolver of requests that have an id each, from a backend that finds rows by a list of ids. */
    <
      Req extends Request.Any,
      Id,
      Row extends Request.Success<Req>,
      R = never,
      const Isolate extends Isolating<Req> = []
    >(
      request: Constructor<Req>,
      options: FindByIdOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate>
    ): Make<Self, RequestResolver.RequestResolver<Req>, Req, R, Isolate>
  }
  readonly ordered: {
    /** Makes a resolver from a backend that answers a list of requests with a list of results in the same order. */
    <Req extends Request.Any, R = never, const Isolate extends Isolating<Req> = []>(
      request: Constructor<Req>,
      options: With<OrderedOptions<Req, R> & ResolverOptions<Req, Isolate>, "cache">
    ): Make<Self, CachedResolver<Req>, Req, R, Isolate>
    /** Makes a resolver from a backend that answers a list of requests with a list of results in the same order. */
    <Req extends Request.Any, R = never, const Isolate extends Isolating<Req> = []>(
      request: Constructor<Req>,
      options: OrderedOptions<Req, R> & ResolverOptions<Req, Isolate>
    ): Make<Self, RequestResolver.RequestResolver<Req>, Req, R, Isolate>
  }
  readonly grouped: {
    /** Makes a resolver of requests that each ask for all rows of an id. */
    <
      Req extends Request.Any,
      Id,
      Row extends RowOf<Request.Success<Req>>,
      R = never,
      const Isolate extends Isolating<Req> = []
    >(
      request: Constructor<Req>,
      options: With<GroupedOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate>, "cache">
    ): Make<Self, CachedResolver<Req>, Req, R, Isolate>
    /** Makes a resolver of requests that each ask for all rows of an id. */
    <
      Req extends Request.Any,
      Id,
      Row extends RowOf<Request.Success<Req>>,
      R = never,
      const Isolate extends Isolating<Req> = []
    >(
      request: Constructor<Req>,
      options: GroupedOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate>
    ): Make<Self, RequestResolver.RequestResolver<Req>, Req, R, Isolate>
  }
}

/**
 * A handle that makes resolvers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Batcher extends Operations<never>, Pipeable, Inspectable {
  readonly [TypeId]: TypeId
}

/**
 * The tag of the default Batcher.
 *
 * **Example** (Using the handle)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const batcher = yield* Batcher.Batcher
 *   const upper = yield* batcher.fn("upper")(
 *     (codes: ReadonlyArray<string>) => Effect.succeed(codes.map((code) => ({ code, name: code.toUpperCase() }))),
 *     { resultId: (row) => row.code }
 *   )
 *   return yield* upper("zrh")
 * })
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer())) // => { code: "zrh", name: "ZRH" }
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Batcher: Context.Service<Batcher, Batcher> = /*#__PURE__*/ Context.Service<Batcher>(
  "effect-funnel/Batcher"
)

/**
 * Checks whether a value is a `Batcher`.
 *
 * **Example** (Telling a Batcher from its options)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * Batcher.isBatcher(Effect.runSync(Batcher.make())) // => true
 * Batcher.isBatcher({ maxBatchSize: 10 }) // => false
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isBatcher = (u: unknown): u is Batcher => hasProperty(u, TypeId)

interface Lookup<Id, A, E> extends Request.Request<A, E> {
  readonly id: Id
}

const fromSettings = (settings: Settings): Batcher => {
  const operation = <Req extends Request.Any, R, Options extends AnyOptions<Req>>(
    name: string,
    planOf: (options: Options) => Plan<Req, R>
  ) =>
  (_: Constructor<Req>, options: Options) =>
    makeResolver(settings, planOf(options), checkOptions(`Batcher.${name}`, options))
  const fn = (name: string) =>
  <Id, Row, E, R, A, E2>(
    execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, E, R>,
    { missing, resultId }: FnOptions<Id, Row, A, E2>
  ) => {
    type Req = Lookup<Id, Row | A, E | E2 | NotFoundError<Id>>
    const lookup = Request.of<Req>()
    const plan = byId<Req, Id, Row, R>({
      id: ({ id }) => id,
      execute,
      resultId,
      missing: ({ id }) => missing === undefined ? Exit.fail(new NotFoundError({ resolver: name, id })) : missing(id)
    })
    return Effect.map(
      makeResolver(settings, plan, { name }),
      (resolver) => (id: Id) => Effect.request(lookup({ id }), resolver)
    )
  }
  return {
    ...Prototype,
    ...BaseProto,
    [TypeId]: TypeId,
    toJSON: () => ({ _id: "effect-funnel/Batcher", window: settings.window, maxBatchSize: settings.maxBatchSize }),
    // Sound: the public types add which options make which of the two resolvers, which services callers bring, and that
    // only `fn` without `missing` fails with a NotFoundError.
    fn: fn as Operations<never>["fn"],
    findById: operation("findById", byId) as Operations<never>["findById"],
    ordered: operation("ordered", inOrder) as Operations<never>["ordered"],
    grouped: operation("grouped", byGroup) as Operations<never>["grouped"]
  }
}

/**
 * Makes a Batcher.
 *
 * **Details**
 *
 * Invalid options throw a `RangeError` when `make` is called. A scheduler of another library is a defect.
 *
 * **Example** (Collecting for some time)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const batcher = yield* Batcher.make({ window: "5 millis" })
 *   const half = yield* batcher.fn("half")(
 *     (ids: ReadonlyArray<number>) => Effect.succeed(ids.map((id) => ({ id, half: id / 2 }))),
 *     { resultId: (row) => row.id }
 *   )
 *   return yield* half(4)
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => { id: 4, half: 2 }
 * ```
 *
 * @see {@link layer} for the same as a layer
 * @category constructors
 * @since 0.1.0
 */
export const make = <I = never>(options: Options<I> = {}): Effect.Effect<Batcher, never, I> =>
  fromOptions("Batcher.make", options)

const fromOptions = <I>(name: string, options: Options<I>): Effect.Effect<Batcher, never, I> => {
  const { maxBatchSize = Infinity, window = "idle" } = checkOptions(name, options)
  const from = (engine: Settings["engine"]) =>
    Effect.map(observers, (observers) => fromSettings({ maxBatchSize, window, engine, batches: true, observers }))
  if (options.scheduler === undefined) return from(undefined)
  return Effect.flatMap(options.scheduler, (scheduler) => {
    const engine = engineOf(scheduler)
    if (engine === undefined) return Effect.die(new TypeError(`${name}: scheduler must be one of Scheduler.make`))
    return from(engine)
  })
}

/**
 * Provides the default Batcher.
 *
 * **Details**
 *
 * It stands under the layers of the resolvers. Resolvers with another scheduler need another `layer`.
 *
 * **Example** (Bounding the calls of one backend)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
 *
 * class RatesApi extends Scheduler.Service<RatesApi>()("app/RatesApi", { concurrency: 1 }) {}
 *
 * const program = Effect.gen(function*() {
 *   const sizes: Array<number> = []
 *   const getRate = yield* Batcher.fn("rates")(
 *     (currencies: ReadonlyArray<string>) => Effect.sync(() => (sizes.push(currencies.length), currencies)),
 *     { resultId: (currency) => currency }
 *   )
 *   yield* Effect.forEach(["EUR", "USD", "CHF"], getRate, { concurrency: "unbounded" })
 *   return sizes
 * })
 *
 * const layer = Layer.provide(Batcher.layer({ scheduler: RatesApi, maxBatchSize: 2 }), RatesApi.layer)
 *
 * await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(layer))) // => [2, 1]
 * ```
 *
 * @see {@link layerNoop} for one that batches nothing
 * @category layers
 * @since 0.1.0
 */
export const layer = <I = never>(options: Options<I> = {}): Layer.Layer<Batcher, never, I> =>
  Layer.effect(Batcher, fromOptions("Batcher.layer", options))

/**
 * Provides a Batcher that batches nothing, for tests.
 *
 * **Details**
 *
 * Each look-up is its own call, made at once. Equal look-ups are not merged, and `window` and `maxBatchSize` have no effect.
 * `cache` and `isolate` do.
 *
 * **Example** (Seeing each call)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const calls: Array<ReadonlyArray<number>> = []
 *   const getUser = yield* Batcher.fn("users")(
 *     (ids: ReadonlyArray<number>) => Effect.sync(() => (calls.push(ids), ids)),
 *     { resultId: (id) => id }
 *   )
 *   yield* Effect.forEach([1, 1, 2], getUser, { concurrency: "unbounded" })
 *   return calls
 * })
 *
 * await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Batcher.layerNoop))) // => [[1], [1], [2]]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<Batcher> = /*#__PURE__*/ Layer.sync(
  Batcher,
  () => fromSettings({ maxBatchSize: 1, window: "idle", engine: undefined, batches: false, observers: Context.empty() })
)

/** Checks options at the call. The accessors are made one by one, so that a program bundles only those it uses. */
const accessor = <Name extends "findById" | "ordered" | "grouped">(name: Name): Operations<Batcher>[Name] => {
  const make = <Req extends Request.Any>(request: Constructor<Req>, options: AnyOptions<Req>) => {
    refuseNonsense(`Batcher.${name}`, options)
    // Sound: the options of this operation come in, and its resolver goes out.
    return Batcher.use((_) =>
      (_[name] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown>)(request, options)
    )
  }
  return make as Operations<Batcher>[Name]
}

/**
 * Makes a function that looks rows up by id: the smallest way in.
 *
 * **Details**
 *
 * `execute` gets distinct ids, and returns rows in any order. An id without a row fails with a `NotFoundError`, or ends
 * with the exit that `missing` returns. `name` is in errors, and is the name of the span of each batch. Make the function
 * once, as with any resolver. If `execute` fails, all look-ups of that batch fail with its error.
 *
 * **Example** (Looking up cities)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * const cities = [{ code: "ZRH", name: "Zurich" }, { code: "OSL", name: "Oslo" }]
 *
 * const program = Effect.gen(function*() {
 *   const getCity = yield* Batcher.fn("cities")(
 *     (codes: ReadonlyArray<string>) => Effect.succeed(cities.filter((city) => codes.includes(city.code))),
 *     { resultId: (city) => city.code }
 *   )
 *   const [oslo, error] = yield* Effect.all([getCity("OSL"), Effect.flip(getCity("ATL"))], { concurrency: "unbounded" })
 *   return [oslo.name, error.message]
 * })
 *
 * const result = await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Batcher.layer())))
 * result // => ["Oslo", 'cities: no row with id "ATL"']
 * ```
 *
 * @see {@link findById} for requests of `Effect.request`
 * @category resolvers
 * @since 0.1.0
 */
export const fn: Operations<Batcher>["fn"] = (name) => (execute, options) =>
  Batcher.use((_) => _.fn(name)(execute, options))

/**
 * Makes a resolver of requests that have an id each, from a backend that finds rows by a list of ids.
 *
 * **When to use**
 *
 * Use for `SELECT … WHERE id IN (…)` and the like: rows may come in any order, and some may be missing.
 *
 * **Details**
 *
 * The rows and the errors of `execute` have the types of the request. A request without a row ends with the exit that
 * `missing` returns. If `execute` fails, all requests of that batch fail with its error. A function that throws is a defect.
 *
 * **Example** (Finding cities)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class GetCity extends Request.Class<{ readonly code: string }, { readonly code: string; readonly name: string }, "unknown"> {}
 *
 * const cities = [{ code: "ZRH", name: "Zurich" }, { code: "OSL", name: "Oslo" }]
 *
 * const program = Effect.gen(function*() {
 *   const resolver = yield* Batcher.findById(GetCity, {
 *     id: (request) => request.code,
 *     execute: (codes) => Effect.succeed(cities.filter((city) => codes.includes(city.code))),
 *     resultId: (city) => city.code,
 *     missing: () => Exit.fail("unknown" as const)
 *   })
 *   return yield* Batcher.loadManyExit(["OSL", "ATL"].map((code) => new GetCity({ code })), resolver)
 * })
 *
 * const exits = await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer()))
 * exits // => [Exit.succeed({ code: "OSL", name: "Oslo" }), Exit.fail("unknown")]
 * ```
 *
 * @see {@link ordered} for a backend that answers in the order of the requests
 * @see {@link grouped} for several rows of one id
 * @category resolvers
 * @since 0.1.0
 */
export const findById: Operations<Batcher>["findById"] = /*#__PURE__*/ accessor("findById")

/**
 * Makes a resolver from a backend that answers a list of requests with a list of results in the same order.
 *
 * **Details**
 *
 * A result is a value, or an `Exit` for a request that fails alone. A list of the wrong length is a defect of the batch.
 *
 * **Example** (Failing one item)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Root extends Request.Class<{ readonly of: number }, number, "negative"> {}
 *
 * const program = Effect.gen(function*() {
 *   const roots = yield* Batcher.ordered(Root, {
 *     execute: (requests) =>
 *       Effect.succeed(requests.map(({ of }) => of < 0 ? Exit.fail("negative" as const) : Math.sqrt(of)))
 *   })
 *   return yield* Effect.flip(Effect.request(new Root({ of: -1 }), roots))
 * })
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer())) // => "negative"
 * ```
 *
 * @see {@link findById} for rows that come in any order
 * @category resolvers
 * @since 0.1.0
 */
export const ordered: Operations<Batcher>["ordered"] = /*#__PURE__*/ accessor("ordered")

/**
 * Makes a resolver of requests that each ask for all rows of an id.
 *
 * **Details**
 *
 * The rows of an id keep the order of the backend. An id without rows gets an empty list.
 *
 * **Example** (Loading the comments of posts)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * interface Comment {
 *   readonly post: number
 *   readonly text: string
 * }
 * class GetComments extends Request.Class<{ readonly post: number }, ReadonlyArray<Comment>> {}
 *
 * const stored: ReadonlyArray<Comment> = [{ post: 1, text: "first" }, { post: 1, text: "second" }]
 *
 * const program = Effect.gen(function*() {
 *   const comments = yield* Batcher.grouped(GetComments, {
 *     id: (request) => request.post,
 *     execute: (posts) => Effect.succeed(stored.filter((comment) => posts.includes(comment.post))),
 *     resultId: (comment) => comment.post
 *   })
 *   return yield* Batcher.loadMany([new GetComments({ post: 1 }), new GetComments({ post: 2 })], comments)
 * })
 *
 * const loaded = await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer()))
 * loaded.map((comments) => comments.map((comment) => comment.text)) // => [["first", "second"], []]
 * ```
 *
 * @see {@link findById} for one row of an id
 * @category resolvers
 * @since 0.1.0
 */
export const grouped: Operations<Batcher>["grouped"] = /*#__PURE__*/ accessor("grouped")

/** The tag of a resolver, with the layers that make it. */
interface ResolverClass<Self, Id extends string, Shape, R> extends Context.ServiceClass<Self, Id, Shape> {
  /** Provides the resolver under this tag. */
  readonly layer: Layer.Layer<Self, never, Exclude<R, Scope.Scope>>
  /** Provides a resolver that batches nothing, for tests. */
  readonly layerNoop: Layer.Layer<Self, never, Exclude<Exclude<R, Scope.Scope>, Batcher>>
}

/**
 * Makes a tag for a resolver, which `Effect.request` takes as the resolver.
 *
 * **Details**
 *
 * `layer` makes the resolver. It needs a `Batcher` and the services that `execute` needs. `layerNoop` makes it without
 * batching. When the layer's scope closes, its batches are interrupted, and so are their callers and later look-ups. A batch that
 * closes its own layer does not wait for itself.
 *
 * **Example** (Using a resolver as a service)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * class Squares extends Batcher.Resolver<Squares>()(
 *   "app/Squares",
 *   Batcher.ordered(Square, {
 *     execute: (requests) => Effect.succeed(requests.map((request) => request.of ** 2))
 *   })
 * ) {}
 *
 * const square = (of: number) => Effect.request(new Square({ of }), Squares)
 *
 * const layer = Layer.provide(Squares.layer, Batcher.layer())
 *
 * await Effect.runPromise(Effect.provide(Effect.forEach([3, 4], square, { concurrency: "unbounded" }), layer)) // => [9, 16]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const Resolver = <Self>() =>
<const Id extends string, Shape extends RequestResolver.RequestResolver<never>, R>(
  id: Id,
  resolver: Effect.Effect<Shape, never, R>
): ResolverClass<Self, Id, Shape, R> => {
  const tag = Context.Service<Self, Shape>()(id)
  const layer = Layer.effect(tag, Effect.provideService(resolver, ServiceName, id))
  return Object.assign(tag, { layer, layerNoop: Layer.provide(layer, layerNoop) })
}

/** The request that a list of requests consists of. */
type RequestOf<Reqs> = Reqs extends Iterable<infer Req extends Request.Any> ? Req : never

/** The services of a list of requests; none for an empty list. */
type ServicesOf<Reqs> = [RequestOf<Reqs>] extends [never] ? never : Request.Services<RequestOf<Reqs>>

/** An array that is not empty if the list of requests is not. */
type Loaded<Reqs, A> = Reqs extends readonly [] ? []
  : Reqs extends readonly [unknown, ...ReadonlyArray<unknown>] ? NonEmptyArray<A>
  : Array<A>

/** A resolver, or an effect of one such as the tag of a `Batcher.Resolver`. */
type ResolverInput<Req extends Request.Any, E, R> =
  | RequestResolver.RequestResolver<Req>
  | Effect.Effect<RequestResolver.RequestResolver<Req>, E, R>

/**
 * Loads many requests in one fiber. The results come in the order of the requests.
 *
 * **Details**
 *
 * A request costs a fraction of a fiber, and shares batches with other look-ups. Any resolver of core will do. The first
 * failure fails the call and leaves the other requests. An interruption leaves all.
 *
 * **Example** (Loading a list)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * const program = Effect.gen(function*() {
 *   const squares = yield* Batcher.ordered(Square, {
 *     execute: (requests) => Effect.succeed(requests.map((request) => request.of ** 2))
 *   })
 *   return yield* Batcher.loadMany([3, 4, 3].map((of) => new Square({ of })), squares)
 * })
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer())) // => [9, 16, 9]
 * ```
 *
 * @see {@link loadManyExit} for the exits of all
 * @category loading
 * @since 0.1.0
 */
export const loadMany = <Req extends Request.Any, const Reqs extends Iterable<Req>, EX = never, RX = never>(
  requests: Reqs,
  resolver: ResolverInput<Req, EX, RX>
): Effect.Effect<
  Loaded<Reqs, Request.Success<RequestOf<Reqs>>>,
  Request.Error<RequestOf<Reqs>> | EX,
  ServicesOf<Reqs> | RX
> =>
  loadEach<Req, Reqs, Request.Success<RequestOf<Reqs>>, EX, RX>(requests, resolver, (values, i, exit) => {
    if (Exit.isFailure(exit)) return false
    values[i] = exit.value
    return true
  })

/**
 * Loads many requests in one fiber, and gives the exit of each in the order of the requests.
 *
 * **Details**
 *
 * No request can fail the call. An interruption leaves all.
 *
 * **Example** (Keeping the successes)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Root extends Request.Class<{ readonly of: number }, number, "negative"> {}
 *
 * const program = Effect.gen(function*() {
 *   const roots = yield* Batcher.ordered(Root, {
 *     execute: (requests) =>
 *       Effect.succeed(requests.map(({ of }) => of < 0 ? Exit.fail("negative" as const) : Math.sqrt(of)))
 *   })
 *   const exits = yield* Batcher.loadManyExit([4, -1, 9].map((of) => new Root({ of })), roots)
 *   return exits.filter(Exit.isSuccess).map((exit) => exit.value)
 * })
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer())) // => [2, 3]
 * ```
 *
 * @see {@link loadMany} for the values
 * @category loading
 * @since 0.1.0
 */
export const loadManyExit = <Req extends Request.Any, const Reqs extends Iterable<Req>, EX = never, RX = never>(
  requests: Reqs,
  resolver: ResolverInput<Req, EX, RX>
): Effect.Effect<Loaded<Reqs, Result<RequestOf<Reqs>>>, EX, ServicesOf<Reqs> | RX> =>
  // Sound: the call fails only with an exit for which `set` returns false.
  loadEach<Req, Reqs, Result<RequestOf<Reqs>>, EX, RX>(requests, resolver, (exits, i, exit) => {
    exits[i] = exit
    return true
  }) as Effect.Effect<Loaded<Reqs, Result<RequestOf<Reqs>>>, EX, ServicesOf<Reqs> | RX>

const loadEach = <Req extends Request.Any, Reqs extends Iterable<Req>, A, EX, RX>(
  requests: Reqs,
  resolver: ResolverInput<Req, EX, RX>,
  set: (loaded: Array<A>, index: number, exit: Result<RequestOf<Reqs>>) => boolean
): Effect.Effect<Loaded<Reqs, A>, Request.Error<RequestOf<Reqs>> | EX, ServicesOf<Reqs> | RX> => {
  const load = (resolver: RequestResolver.RequestResolver<Req>) =>
    Effect.suspend(() => {
      // Sound: the items are requests of the resolver, and each has one loaded value.
      const all = (Array.isArray(requests) ? requests : Array.from(requests)) as ReadonlyArray<RequestOf<Reqs>>
      const loaded = new Array<A>(all.length)
      const done = each(all, resolver as RequestResolver.RequestResolver<RequestOf<Reqs>>, (i, exit) =>
        set(loaded, i, exit))
      return Effect.as(
        done as Effect.Effect<void, Request.Error<RequestOf<Reqs>>, ServicesOf<Reqs>>,
        loaded as Loaded<Reqs, A>
      )
    })
  return Effect.isEffect(resolver) ? Effect.flatMap(resolver, load) : load(resolver)
}
