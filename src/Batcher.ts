/**
 * Batches single look-ups: independent ones make one backend call, and equal ones ask once.
 *
 * **When to use**
 *
 * Use for whatever is looked up one by one and can be fetched many at a time: rows by id, records behind an API that
 * takes a list of ids, keys of a store. The `N + 1` queries of a page become two.
 *
 * **Details**
 *
 * - `fn` makes a function of an id. `findById`, `ordered` and `grouped` make resolvers for `Effect.request`.
 * - A batch collects for a `window`. `"idle"`, the default, sends it after two turns of the event loop in a row in which
 *   no look-up joined, after 16 at the latest. A lone look-up waits about 12 µs where there is `setImmediate`.
 * - Equal requests of a batch reach the backend once, and count once against `maxBatchSize`. A request whose equal is in
 *   flight joins it. Results are kept only with the option `cache`.
 * - An interrupted caller returns at once. A batch that has not started loses the request. A running batch goes on while
 *   any of its requests has a caller, and the last caller to leave interrupts it.
 * - Without the option `scheduler`, any number of batches run at once. With it, batches are jobs of that scheduler. A
 *   queued batch goes on collecting until it is admitted, up to `maxBatchSize`, and waits for room where the queue is
 *   bounded. A job that loads does not wait for itself: the batch may run within that job's width.
 * - Look-ups made inside a batch neither join a queued batch nor are joined, so that no batch waits for itself.
 * - `execute` gets distinct requests in order of arrival. It has the services of the place where the resolver was made,
 *   except those in `isolate`, and runs in the span of the batch's first caller. Its `Scope` closes with the batch.
 *
 * Requests are equal when all their fields are: primitives by value, arrays, plain objects, dates, maps and sets by
 * structure, other objects by their own `Equal` or else by identity.
 *
 * Core's combinators (`RequestResolver.batchN`, `setDelay`, `around`, `withCache`, `withSpan`, `race`) work on these
 * resolvers. The resolvers they return have batches of their own, which do not go on collecting in the queue. Make a wrapper
 * of your own as they do, from a spread of the resolver (`RequestResolver.makeWith({ ...resolver, … })`).
 *
 * **Gotchas**
 *
 * - Make a resolver once, as a service or in a layer: one that is made for each call batches nothing. `Scope` in its
 *   requirements shows that mistake at the edge of the program.
 * - A fiber that yields twice or more before its look-up may miss the batch. A look-up after I/O or a timer is a new
 *   round. Give those a `window` in time.
 * - Where there is no `setImmediate`, as in browsers, a turn is a timer's, and a lone look-up takes about 8 ms.
 * - `RequestResolver.grouped` hides from these resolvers that a caller left, so a batch runs to its end: use `isolate`.
 *   `RequestResolver.withCache` ignores `isolate` and misses what joins an equal look-up: use `cache`.
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
import { each } from "./internal/batcher/hooks.js"
import { byGroup, byId, inOrder } from "./internal/batcher/plan.js"
import { checkOptions, makeResolver, refuseNonsense, ServiceName } from "./internal/batcher/resolver.js"
import type {
  AnyOptions,
  CachedResolver,
  Isolating,
  ResolverOptions,
  Result,
  Settings
} from "./internal/batcher/resolver.js"
import { Turns } from "./internal/batcher/window.js"
import { engineOf } from "./internal/scheduler/handle.js"

export { BatcherError, LookupCycle, NotFoundError, ResultLengthMismatch } from "./internal/batcher/error.js"
export type { CachedResolver, CacheOptions, ResolverOptions, Result } from "./internal/batcher/resolver.js"

/**
 * Identifies values of this module at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/Batcher"

/**
 * The type of `TypeId`.
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
 * - `window`: how long a batch collects before it is sent, or before it goes to the scheduler: `"idle"`, or a duration by
 *   the clock of the place where the resolver was made. Default `"idle"`.
 * - `maxBatchSize`: how many distinct requests a batch holds. A full batch is sent at once. Default: no bound.
 * - `scheduler`: the tag of the scheduler whose jobs the batches are. Default: none, so any number of batches run at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<I = never> {
  readonly window?: "idle" | Duration.Input | undefined
  readonly maxBatchSize?: number | undefined
  readonly scheduler?: Context.Key<I, Scheduler> | undefined
}

/** A request class, or a constructor made by `Request.tagged` or `Request.of`: it says what the resolver answers. */
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
 * `execute` gets distinct ids. Rows of other ids are ignored, and of two rows of one id the first counts. Ids are
 * primitives, or data that is compared by structure. `missing` is the exit of a request that has no row.
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
 * Options of `ordered`: `execute` returns one result for each request, in their order. A result that is an `Exit` ends its
 * request so.
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

/** What makes a resolver: it needs what `execute` needs, except the services that come from its callers. */
type Make<
  Self,
  Req extends Request.Any,
  R,
  Isolate extends Isolating<Req>,
  Capacity extends number
> = Effect.Effect<
  [Capacity] extends [never] ? RequestResolver.RequestResolver<Req> : CachedResolver<Req>,
  never,
  Self | Scope.Scope | Exclude<R, Context.Service.Identifier<Isolate[number]>>
>

/** What a list consists of, where the list may be of any length. */
type RowOf<List> = List extends ReadonlyArray<infer A> ? Array<A> extends List ? A : never : never

/** The operations of a Batcher that is found under `Self`; `never` for those of a handle. */
interface Operations<Self> {
  /** Makes a function that looks rows up by id: the smallest way in. */
  readonly fn: (name: string) => <Id, Row, E = never, R = never, A = never, E2 = NotFoundError<Id>>(
    execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, E, R>,
    options: FnOptions<Id, Row, A, E2>
  ) => Effect.Effect<(id: Id) => Effect.Effect<Row | A, E | E2>, never, Self | Scope.Scope | R>
  /** Makes a resolver of requests that have an id each, from a backend that finds rows by a list of ids. */
  readonly findById: <
    Req extends Request.Any,
    Id,
    Row extends Request.Success<Req>,
    R = never,
    const Isolate extends Isolating<Req> = [],
    Capacity extends number = never
  >(
    request: Constructor<Req>,
    options: FindByIdOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate, Capacity>
  ) => Make<Self, Req, R, Isolate, Capacity>
  /** Makes a resolver from a backend that answers a list of requests with a list of results in the same order. */
  readonly ordered: <
    Req extends Request.Any,
    R = never,
    const Isolate extends Isolating<Req> = [],
    Capacity extends number = never
  >(
    request: Constructor<Req>,
    options: OrderedOptions<Req, R> & ResolverOptions<Req, Isolate, Capacity>
  ) => Make<Self, Req, R, Isolate, Capacity>
  /** Makes a resolver of requests that each ask for all rows of an id. */
  readonly grouped: <
    Req extends Request.Any,
    Id,
    Row extends RowOf<Request.Success<Req>>,
    R = never,
    const Isolate extends Isolating<Req> = [],
    Capacity extends number = never
  >(
    request: Constructor<Req>,
    options: GroupedOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate, Capacity>
  ) => Make<Self, Req, R, Isolate, Capacity>
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
 * **Example** (Making a resolver with a handle)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * const program = Effect.gen(function*() {
 *   const batcher = yield* Batcher.Batcher
 *   const squares = yield* batcher.ordered(Square, {
 *     execute: (requests) => Effect.succeed(requests.map((request) => request.of ** 2))
 *   })
 *   return yield* Effect.request(new Square({ of: 3 }), squares)
 * })
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer())) // => 9
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
 * const options = { maxBatchSize: 10 }
 *
 * Batcher.isBatcher(Effect.runSync(Batcher.make(options))) // => true
 * Batcher.isBatcher(options) // => false
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
  const findById = <Req extends Request.Any, Id, Row extends Request.Success<Req>, R>(
    _: Constructor<Req>,
    options: FindByIdOptions<Req, Id, Row, R> & AnyOptions<Req>
  ) => makeResolver(settings, byId(options), checkOptions("Batcher.findById", options))
  const ordered = <Req extends Request.Any, R>(
    _: Constructor<Req>,
    options: OrderedOptions<Req, R> & AnyOptions<Req>
  ) => makeResolver(settings, inOrder(options), checkOptions("Batcher.ordered", options))
  const grouped = <Req extends Request.Any, Id, Row, R>(
    _: Constructor<Req>,
    options: GroupedOptions<Req, Id, Row, R> & AnyOptions<Req>
  ) => makeResolver(settings, byGroup(options), checkOptions("Batcher.grouped", options))
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
    // Sound: the public types add which of the two resolvers comes of which options, which services callers bring, and
    // that there is a NotFoundError only without `missing`.
    fn: fn as Operations<never>["fn"],
    findById: findById as Operations<never>["findById"],
    ordered: ordered as Operations<never>["ordered"],
    grouped: grouped as Operations<never>["grouped"]
  }
}

/**
 * Makes a Batcher.
 *
 * **When to use**
 *
 * Use where a handle is wanted, such as for a second Batcher under a tag of your own. Most programs use `layer`.
 *
 * **Gotchas**
 *
 * Nonsense options throw a `RangeError` when `make` is called. A scheduler that was not made by this library is a defect.
 *
 * **Example** (Collecting for some time)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * const program = Effect.gen(function*() {
 *   const batcher = yield* Batcher.make({ window: "5 millis" })
 *   const squares = yield* batcher.ordered(Square, {
 *     execute: (requests) => Effect.succeed(requests.map((request) => request.of ** 2))
 *   })
 *   return yield* Effect.request(new Square({ of: 4 }), squares)
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => 16
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
  const from = (engine: Settings["engine"]) => fromSettings({ maxBatchSize, window, engine, turns: new Turns() })
  if (options.scheduler === undefined) return Effect.sync(() => from(undefined))
  return Effect.flatMap(options.scheduler, (scheduler) => {
    const engine = engineOf(scheduler)
    if (engine === undefined) return Effect.die(new TypeError(`${name}: scheduler must be one of Scheduler.make`))
    return Effect.sync(() => from(engine))
  })
}

/**
 * Provides the default Batcher.
 *
 * **When to use**
 *
 * Use at the edge of the program, under the layers of the resolvers. A resolver with another scheduler gets a `layer` of
 * its own.
 *
 * **Example** (Bounding the calls of one backend)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Request } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
 *
 * class GetRate extends Request.Class<{ readonly currency: string }, number> {}
 *
 * class RatesApi extends Scheduler.Service<RatesApi>()("app/RatesApi", { concurrency: 1 }) {}
 *
 * const sizes: Array<number> = []
 *
 * class Rates extends Batcher.Resolver<Rates>()(
 *   "app/Rates",
 *   Batcher.ordered(GetRate, {
 *     execute: (requests) => {
 *       sizes.push(requests.length)
 *       return Effect.succeed(requests.map((request) => request.currency.length))
 *     }
 *   })
 * ) {}
 *
 * const layer = Rates.layer.pipe(
 *   Layer.provide(Batcher.layer({ scheduler: RatesApi, maxBatchSize: 2 })),
 *   Layer.provide(RatesApi.layer)
 * )
 *
 * const program = Batcher.loadMany(["EUR", "USD", "CHF"].map((currency) => new GetRate({ currency })), Rates)
 *
 * await Effect.runPromise(Effect.provide(program, layer)) // => [3, 3, 3]
 * sizes // => [2, 1]
 * ```
 *
 * @see {@link layerNoop} for one that batches nothing
 * @category layers
 * @since 0.1.0
 */
export const layer = <I = never>(options: Options<I> = {}): Layer.Layer<Batcher, never, I> =>
  Layer.effect(Batcher, fromOptions("Batcher.layer", options))

/**
 * Provides a Batcher that batches nothing, for tests: each look-up is its own call, made at once.
 *
 * **When to use**
 *
 * Use in tests of what a resolver does with one request, and to see what batching saves. Equal look-ups are not merged,
 * and `window` and `maxBatchSize` have no meaning. `cache` and `isolate` have.
 *
 * **Example** (Seeing what batching saves)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * let calls = 0
 * class Squares extends Batcher.Resolver<Squares>()(
 *   "app/Squares",
 *   Batcher.ordered(Square, {
 *     execute: (requests) => {
 *       calls++
 *       return Effect.succeed(requests.map((request) => request.of ** 2))
 *     }
 *   })
 * ) {}
 *
 * const program = Effect.forEach([1, 1, 2], (of) => Effect.request(new Square({ of }), Squares), {
 *   concurrency: "unbounded"
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Squares.layerNoop)) // => [1, 1, 4]
 * calls // => 3
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<Batcher> = /*#__PURE__*/ Layer.sync(
  Batcher,
  () => fromSettings({ maxBatchSize: 1, window: "idle", engine: undefined, turns: undefined })
)

/** Refuses nonsense where it is written; the accessors are made one by one, so that a program bundles those it uses. */
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
 * with the exit that `missing` returns. The name is in errors, and is that of the span of each batch.
 *
 * **Gotchas**
 *
 * Make the function once, as with any resolver: its batches belong to it. When `execute` fails, all look-ups of that batch
 * fail with its error.
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
 * Use for `SELECT … WHERE id IN (…)` and what resembles it: rows may come in any order, and some may be missing.
 *
 * **Details**
 *
 * Types are inferred from the request. The rows have to be what it succeeds with, and the error of `execute` one that it
 * declares. A request without a row ends with what `missing` says.
 *
 * **Gotchas**
 *
 * When `execute` fails, all requests of that batch fail with its error, and no others. What throws in one of the
 * functions is a defect of the batch.
 *
 * **Example** (Finding what is there)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class GetCity extends Request.Class<{ readonly code: string }, { readonly code: string; readonly name: string }, "unknown"> {}
 *
 * const cities = [{ code: "ZRH", name: "Zurich" }, { code: "OSL", name: "Oslo" }]
 *
 * class Cities extends Batcher.Resolver<Cities>()(
 *   "app/Cities",
 *   Batcher.findById(GetCity, {
 *     id: (request) => request.code,
 *     execute: (codes) => Effect.succeed(cities.filter((city) => codes.includes(city.code))),
 *     resultId: (city) => city.code,
 *     missing: () => Exit.fail("unknown" as const)
 *   })
 * ) {}
 *
 * const program = Batcher.loadManyExit(["OSL", "ATL"].map((code) => new GetCity({ code })), Cities)
 *
 * const exits = await Effect.runPromise(Effect.provide(program, Cities.layerNoop))
 * exits[0] // => Exit.succeed({ code: "OSL", name: "Oslo" })
 * exits[1] // => Exit.fail("unknown")
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
 * A result is a value, or an `Exit` for a request that fails alone. A list of another length is a defect of the batch that
 * names both numbers.
 *
 * **Example** (Failing one item)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Root extends Request.Class<{ readonly of: number }, number, "negative"> {}
 *
 * class Roots extends Batcher.Resolver<Roots>()(
 *   "app/Roots",
 *   Batcher.ordered(Root, {
 *     execute: (requests) =>
 *       Effect.succeed(
 *         requests.map((request) => request.of < 0 ? Exit.fail("negative" as const) : Math.sqrt(request.of))
 *       )
 *   })
 * ) {}
 *
 * const program = Batcher.loadManyExit([new Root({ of: 9 }), new Root({ of: -1 })], Roots)
 *
 * const exits = await Effect.runPromise(Effect.provide(program, Roots.layerNoop))
 * exits[0] // => Exit.succeed(3)
 * exits[1] // => Exit.fail("negative")
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
 * The rows of an id come in the order in which the backend returned them. An id without rows is answered with an empty list.
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
 * class Comments extends Batcher.Resolver<Comments>()(
 *   "app/Comments",
 *   Batcher.grouped(GetComments, {
 *     id: (request) => request.post,
 *     execute: (posts) => Effect.succeed(stored.filter((comment) => posts.includes(comment.post))),
 *     resultId: (comment) => comment.post
 *   })
 * ) {}
 *
 * const program = Batcher.loadMany([new GetComments({ post: 1 }), new GetComments({ post: 2 })], Comments)
 *
 * const loaded = await Effect.runPromise(Effect.provide(program, Comments.layerNoop))
 * loaded.map((comments) => comments.map((comment) => comment.text)) // => [["first", "second"], []]
 * ```
 *
 * @see {@link findById} for one row of an id
 * @category resolvers
 * @since 0.1.0
 */
export const grouped: Operations<Batcher>["grouped"] = /*#__PURE__*/ accessor("grouped")

/** The class of a resolver: its tag, with the layers that make it. */
interface ResolverClass<Self, Id extends string, Shape, R> extends Context.ServiceClass<Self, Id, Shape> {
  /** Provides the resolver under this tag. */
  readonly layer: Layer.Layer<Self, never, Exclude<R, Scope.Scope>>
  /** Provides one that batches nothing, for tests: each look-up is a call of its own. */
  readonly layerNoop: Layer.Layer<Self, never, Exclude<Exclude<R, Scope.Scope>, Batcher>>
}

/**
 * Makes a tag for a resolver. It is itself an effect of the resolver, so it stands where `Effect.request` expects one.
 *
 * **When to use**
 *
 * Use for every resolver of a program: it is made once, and pending batches belong to it.
 *
 * **Details**
 *
 * `layer` makes the resolver and needs a `Batcher` and what `execute` needs. `layerNoop` makes it without batching.
 *
 * **Gotchas**
 *
 * When the layer's scope closes, its batches are interrupted, those that collect too, and so are their callers. A later
 * look-up is interrupted at once. A batch that closes its own layer does not wait for itself.
 *
 * **Example** (Using a resolver as a service)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * let calls = 0
 * class Squares extends Batcher.Resolver<Squares>()(
 *   "app/Squares",
 *   Batcher.ordered(Square, {
 *     execute: (requests) => {
 *       calls++
 *       return Effect.succeed(requests.map((request) => request.of ** 2))
 *     }
 *   })
 * ) {}
 *
 * const layer = Layer.provide(Squares.layer, Batcher.layer())
 *
 * const squares = Effect.all([Effect.request(new Square({ of: 3 }), Squares), Effect.request(new Square({ of: 4 }), Squares)], {
 *   concurrency: "unbounded"
 * })
 *
 * await Effect.runPromise(Effect.provide(squares, layer)) // => [9, 16]
 * calls // => 1
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

/** A list that is known not to be empty where the list of requests is. */
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
 * **When to use**
 *
 * Use where the requests are there as a list: it costs a fraction of a fiber for each. They travel with the look-ups of
 * others all the same.
 *
 * **Details**
 *
 * Takes any resolver of core. A list that is known not to be empty gives one that is not empty.
 *
 * **Gotchas**
 *
 * The first failure fails the call, and the other requests are left. One interruption leaves all.
 *
 * **Example** (Loading a list)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * let calls = 0
 * class Squares extends Batcher.Resolver<Squares>()(
 *   "app/Squares",
 *   Batcher.ordered(Square, {
 *     execute: (requests) => {
 *       calls++
 *       return Effect.succeed(requests.map((request) => request.of ** 2))
 *     }
 *   })
 * ) {}
 *
 * const layer = Layer.provide(Squares.layer, Batcher.layer())
 *
 * const program = Batcher.loadMany([3, 4, 3].map((of) => new Square({ of })), Squares)
 *
 * await Effect.runPromise(Effect.provide(program, layer)) // => [9, 16, 9]
 * calls // => 1
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
 * **Gotchas**
 *
 * No request can fail the call. One interruption leaves all.
 *
 * **Example** (Keeping what succeeds)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class Root extends Request.Class<{ readonly of: number }, number, "negative"> {}
 *
 * class Roots extends Batcher.Resolver<Roots>()(
 *   "app/Roots",
 *   Batcher.ordered(Root, {
 *     execute: (requests) =>
 *       Effect.succeed(
 *         requests.map((request) => request.of < 0 ? Exit.fail("negative" as const) : Math.sqrt(request.of))
 *       )
 *   })
 * ) {}
 *
 * const program = Batcher.loadManyExit([4, -1, 9].map((of) => new Root({ of })), Roots)
 *
 * const exits = await Effect.runPromise(Effect.provide(program, Roots.layerNoop))
 * exits.filter(Exit.isSuccess).map((exit) => exit.value) // => [2, 3]
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
  // Sound: the call fails only with an exit that is refused.
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
      // Sound: `RequestOf` is the type of the items, which are requests of the resolver, and there is one loaded value for
      // each of them.
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
