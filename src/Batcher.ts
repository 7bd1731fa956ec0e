/**
 * Request resolvers whose look-ups travel together: independent look-ups make one backend call, equal ones ask once, and
 * the calls go through a `Scheduler`.
 *
 * **When to use**
 *
 * Use for whatever is looked up one by one and can be fetched many at a time: rows by id, records behind an API that
 * takes a list of ids, keys of a store. Callers write `Effect.request` where they need one; the N + 1 queries of a page
 * become two.
 *
 * **Details**
 *
 * - A batch collects for a `window`. `"idle"`, the default, sends it after two turns of the event loop in a row in which
 *   no look-up joined it, after 16 at the latest: about 12 µs for a lone one where there is `setImmediate`. Look-ups that
 *   are made in promise callbacks join as those of fibers do.
 * - Equal requests of a batch reach the backend once and count once against `maxBatchSize`. One whose equal is already
 *   in flight joins it. Nothing is kept after that, unless `cache` asks for it.
 * - A caller that is interrupted leaves. Its request is taken out of a batch that collects or queues. A batch that runs
 *   goes on while any of its requests has a caller, and is interrupted when the last one is gone.
 * - Batches are jobs of a `Scheduler`: bounded in number and pace, and waiting for room where its queue is bounded. A
 *   batch that a running job of that scheduler waits for may run within that job's width, so jobs that load do not wait
 *   for themselves.
 * - A batch in the queue of its scheduler goes on collecting until it is admitted, up to `maxBatchSize`: the busier the
 *   scheduler, the larger the batches. It fails, and is interrupted, for those who joined as for those who came first.
 *   Look-ups that are made inside a batch neither join one that waits nor are joined, so that no batch comes to wait for
 *   itself.
 * - `execute` sees distinct requests in order of arrival. It has the services of the place where the resolver was made,
 *   except those in `isolate`, and runs in the span of the batch's first caller. A `Scope` it asks for ends with the batch.
 *
 * Requests are equal when all their fields are: primitives by value, arrays, plain objects, dates, maps and sets by
 * structure, other objects by their own `Equal` or else by identity.
 *
 * Core's combinators (`RequestResolver.batchN`, `setDelay`, `around`, `withCache`, `withSpan`, `race`) work on these
 * resolvers. What they return keeps its own batches: these do not go on collecting in the queue.
 *
 * **Gotchas**
 *
 * - Make a resolver once, as a service or in a layer. One that is made for each call never batches; `Scope` in its
 *   requirements shows that mistake at the edge of the program.
 * - A fiber that yields twice or more before its look-up may miss the batch, and after I/O or a timer it is a new round.
 *   Give those a `window` in time.
 * - Where there is no `setImmediate`, as in browsers, a turn is a timer's, and browsers make nested timers wait about
 *   4 ms: a lone look-up then takes 8 ms or so.
 * - `RequestResolver.grouped` takes the place of what tells these resolvers that a caller left: a batch then runs to its
 *   end. Use `isolate` to keep callers apart. `RequestResolver.withCache` knows nothing of `isolate`, and does not keep
 *   what joins an equal look-up that was made without it; the option `cache` does.
 * - Two layers of one tag merge to the last one, and `layer(…)` written twice is two Batchers. That costs nothing but a
 *   watcher: batches belong to resolvers.
 *
 * **Example** (Loading users together)
 *
 * ```ts import.meta.vitest
 * import { Data, Effect, Exit, Layer, Request } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
 *
 * class UserNotFound extends Data.TaggedError("UserNotFound")<{ readonly id: number }> {}
 *
 * class GetUser extends Request.TaggedClass("GetUser")<
 *   { readonly id: number },
 *   { readonly id: number; readonly name: string },
 *   UserNotFound
 * > {}
 *
 * const calls: Array<ReadonlyArray<number>> = []
 *
 * class Users extends Batcher.Service<Users>()(
 *   "app/Users",
 *   Batcher.findById(GetUser, {
 *     id: (request) => request.id,
 *     execute: (ids) => {
 *       calls.push(ids)
 *       return Effect.succeed(ids.map((id) => ({ id, name: `user ${id}` })))
 *     },
 *     resultId: (user) => user.id,
 *     missing: (request) => Exit.fail(new UserNotFound({ id: request.id }))
 *   })
 * ) {}
 *
 * const name = (id: number) => Effect.map(Effect.request(new GetUser({ id }), Users), (user) => user.name)
 *
 * const program = Effect.all([name(1), name(2), name(1)], { concurrency: "unbounded" })
 *
 * const layer = Users.layer.pipe(
 *   Layer.provide(Batcher.layer()),
 *   Layer.provide(Scheduler.layer({ concurrency: 4 }))
 * )
 *
 * await Effect.runPromise(Effect.provide(program, layer)) // => ["user 1", "user 2", "user 1"]
 * calls // => [[1, 2]]
 * ```
 *
 * @since 0.1.0
 */
import type { NonEmptyArray } from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Request from "effect/Request"
import type * as RequestResolver from "effect/RequestResolver"
import type * as Scope from "effect/Scope"
import { each } from "./internal/batcher/many.js"
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
import * as Scheduler from "./Scheduler.js"

export { BatcherError, LookupCycle, ResultLengthMismatch } from "./internal/batcher/error.js"
export type { CachedResolver, CacheOptions, Isolating, ResolverOptions, Result } from "./internal/batcher/resolver.js"

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
 * - `window`: how long a batch collects before it is sent to the scheduler, where it goes on collecting for as long as it
 *   has to wait: `"idle"`, or a duration by the clock of its first caller. Default `"idle"`.
 * - `maxBatchSize`: how many distinct requests a batch holds; a full one is sent at once. Default: no bound.
 * - `scheduler`: the tag of the scheduler whose jobs the batches are. Default `Scheduler.Scheduler`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<I = Scheduler.Scheduler> {
  readonly window?: "idle" | Duration.Input | undefined
  readonly maxBatchSize?: number | undefined
  readonly scheduler?: Context.Key<I, Scheduler.Scheduler> | undefined
}

/**
 * A request class, or a constructor made by `Request.tagged` or `Request.of`: it says what the resolver answers.
 *
 * @category models
 * @since 0.1.0
 */
export type Constructor<Req extends Request.Any> = (new(args: never) => Req) | ((args: never) => Req)

/**
 * What `findById` needs to know of the backend.
 *
 * **Details**
 *
 * `execute` gets distinct ids. Of its rows, those of other ids are ignored, and of two rows of one id the first counts. Ids may be primitives, or data that is compared by
 * structure.
 *
 * @category models
 * @since 0.1.0
 */
export interface FindByIdOptions<Req extends Request.Any, Id, Row extends Request.Success<Req>, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
  /** What a request ends with that has no row. */
  readonly missing: (request: Req) => Result<Req>
}

/**
 * What `ordered` needs to know of the backend.
 *
 * **Details**
 *
 * One result for each request, in the order of the requests. A result that is an `Exit` is what its request ends with.
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
 * What `grouped` needs to know of the backend.
 *
 * @category models
 * @since 0.1.0
 */
export interface GroupedOptions<Req extends Request.Any, Id, Row, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
}

/**
 * The resolver that options make: with a cache of some capacity, one that can be told what to keep.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Resolver<Req extends Request.Any, Capacity extends number> = [Capacity] extends [never]
  ? RequestResolver.RequestResolver<Req>
  : CachedResolver<Req>

/**
 * What makes a resolver: it needs what `execute` needs, except the services that come from its callers.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Make<
  Self,
  Req extends Request.Any,
  R,
  Isolate extends Isolating<Req>,
  Capacity extends number
> = Effect.Effect<
  Resolver<Req, Capacity>,
  never,
  Self | Scope.Scope | Exclude<R, Context.Service.Identifier<Isolate[number]>>
>

/**
 * What a list consists of, where the list may be of any length.
 *
 * @category utility types
 * @since 0.1.0
 */
export type RowOf<List> = List extends ReadonlyArray<infer A> ? Array<A> extends List ? A : never : never

/**
 * The operations of a Batcher that is found under `Self`; `never` for those of a handle.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> {
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
 * Makes resolvers that share a scheduler, a window and a watcher of the event loop.
 *
 * @category models
 * @since 0.1.0
 */
export interface Batcher extends Operations<never> {
  readonly [TypeId]: TypeId
}

/**
 * The tag of the default Batcher.
 *
 * **Example** (Making a resolver with a handle)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Request } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
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
 * const layer = Layer.provide(Batcher.layer(), Scheduler.layer({ concurrency: 4 }))
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), layer)) // => 9
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Batcher: Context.Service<Batcher, Batcher> = /*#__PURE__*/ Context.Service<Batcher>(
  "effect-funnel/Batcher"
)

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
  return {
    [TypeId]: TypeId,
    // Sound: the public types add which of the two resolvers comes of which options, and which services callers bring.
    findById: findById as Operations<never>["findById"],
    ordered: ordered as Operations<never>["ordered"],
    grouped: grouped as Operations<never>["grouped"]
  }
}

/**
 * Makes a Batcher whose batches are jobs of the scheduler that `scheduler` names.
 *
 * **When to use**
 *
 * Use where a handle is wanted; most programs use `layer`.
 *
 * **Gotchas**
 *
 * Nonsense options throw a `RangeError` when `make` is called. A scheduler that was not made by this library is a defect.
 *
 * **Example** (Collecting for some time)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
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
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Scheduler.layer({ concurrency: 4 }))) // => 16
 * ```
 *
 * @see {@link layer} for the same as a layer
 * @category constructors
 * @since 0.1.0
 */
export const make = <I = Scheduler.Scheduler>(options: Options<I> = {}): Effect.Effect<Batcher, never, I> =>
  fromOptions("Batcher.make", options)

const fromOptions = <I>(name: string, options: Options<I>): Effect.Effect<Batcher, never, I> => {
  const { maxBatchSize = Infinity, window = "idle" } = checkOptions(name, options)
  // Sound: without the option, I is what it defaults to.
  const tag = (options.scheduler ?? Scheduler.Scheduler) as Context.Key<I, Scheduler.Scheduler>
  return Effect.flatMap(tag, (scheduler) => {
    const engine = engineOf(scheduler)
    if (engine === undefined) return Effect.die(new TypeError(`${name}: scheduler must be one of Scheduler.make`))
    return Effect.sync(() => fromSettings({ maxBatchSize, window, engine, turns: new Turns() }))
  })
}

/**
 * Provides the default Batcher.
 *
 * **When to use**
 *
 * Use at the edge of the program, under the layers of the resolvers. To give resolvers another scheduler, provide their
 * layers with a `layer` of their own.
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
 * class Rates extends Batcher.Service<Rates>()(
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
export const layer = <I = Scheduler.Scheduler>(options: Options<I> = {}): Layer.Layer<Batcher, never, I> =>
  Layer.effect(Batcher, fromOptions("Batcher.layer", options))

/**
 * Provides a Batcher that batches nothing: each look-up is its own call, made at once and outside any scheduler.
 *
 * **When to use**
 *
 * Use in tests of what a resolver does with one request, and to see what batching saves.
 *
 * **Details**
 *
 * Equal look-ups are not merged, and `window` and `maxBatchSize` have no meaning. `cache` and `isolate` have.
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
 * class Squares extends Batcher.Service<Squares>()(
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

/**
 * Builds the accessors of a Batcher that is found under a tag of one's own.
 *
 * **Example** (Using a second Batcher)
 *
 * ```ts import.meta.vitest
 * import { Context, Effect, Layer, Request } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
 *
 * class Slow extends Context.Service<Slow, Batcher.Batcher>()("app/Slow") {
 *   static readonly layer = Layer.effect(Slow, Batcher.make({ window: "5 millis" }))
 * }
 * const slow = Batcher.operations(Slow)
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * class Squares extends Batcher.Service<Squares>()(
 *   "app/Squares",
 *   slow.ordered(Square, {
 *     execute: (requests) => Effect.succeed(requests.map((request) => request.of ** 2))
 *   })
 * ) {}
 *
 * const layer = Squares.layer.pipe(Layer.provide(Slow.layer), Layer.provide(Scheduler.layer({ concurrency: 4 })))
 *
 * await Effect.runPromise(Effect.provide(Effect.request(new Square({ of: 5 }), Squares), layer)) // => 25
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const operations = <Self>(tag: Context.Service<Self, Batcher>): Operations<Self> => ({
  findById: through(tag, "findById"),
  ordered: through(tag, "ordered"),
  grouped: through(tag, "grouped")
})

/** One by one, so that a program that uses one accessor bundles no other. */
const through = <Self, Name extends keyof Operations<never>>(
  tag: Context.Service<Self, Batcher>,
  name: Name
): Operations<Self>[Name] => {
  const accessor = <Req extends Request.Any>(request: Constructor<Req>, options: AnyOptions<Req>) => {
    refuseNonsense(`Batcher.${name}`, options)
    // Sound: the options of this operation come in, and its resolver goes out.
    return tag.use((_) => (_[name] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown>)(request, options))
  }
  return accessor as Operations<Self>[Name]
}

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
 * class Cities extends Batcher.Service<Cities>()(
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
export const findById: Operations<Batcher>["findById"] = /*#__PURE__*/ through(Batcher, "findById")

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
 * class Roots extends Batcher.Service<Roots>()(
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
export const ordered: Operations<Batcher>["ordered"] = /*#__PURE__*/ through(Batcher, "ordered")

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
 * class Comments extends Batcher.Service<Comments>()(
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
export const grouped: Operations<Batcher>["grouped"] = /*#__PURE__*/ through(Batcher, "grouped")

/**
 * The class of a resolver: its tag, with the layers that make it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceClass<Self, Id extends string, Shape, R> extends Context.ServiceClass<Self, Id, Shape> {
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
 * When the layer's scope closes, batches that run are interrupted and their callers see it, and so do those of pending
 * ones. A later look-up is interrupted at once. A batch that closes its own layer does not wait for itself.
 *
 * **Example** (Using a resolver as a service)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Request } from "effect"
 * import { Batcher, Scheduler } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * let calls = 0
 * class Squares extends Batcher.Service<Squares>()(
 *   "app/Squares",
 *   Batcher.ordered(Square, {
 *     execute: (requests) => {
 *       calls++
 *       return Effect.succeed(requests.map((request) => request.of ** 2))
 *     }
 *   })
 * ) {}
 *
 * const layer = Squares.layer.pipe(
 *   Layer.provide(Batcher.layer()),
 *   Layer.provide(Scheduler.layer({ concurrency: 4 }))
 * )
 *
 * const sum = Effect.map(
 *   Effect.all([Effect.request(new Square({ of: 3 }), Squares), Effect.request(new Square({ of: 4 }), Squares)], {
 *     concurrency: "unbounded"
 *   }),
 *   ([a, b]) => a + b
 * )
 *
 * await Effect.runPromise(Effect.provide(sum, layer)) // => 25
 * calls // => 1
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const Service = <Self>() =>
<const Id extends string, Shape extends RequestResolver.RequestResolver<never>, R>(
  id: Id,
  resolver: Effect.Effect<Shape, never, R>
): ServiceClass<Self, Id, Shape, R> => {
  const tag = Context.Service<Self, Shape>()(id)
  const layer = Layer.effect(tag, Effect.provideService(resolver, ServiceName, id))
  return Object.assign(tag, { layer, layerNoop: Layer.provide(layer, layerNoop) })
}

/**
 * The request that a list of requests consists of.
 *
 * @category utility types
 * @since 0.1.0
 */
export type RequestOf<Reqs> = Reqs extends Iterable<infer Req extends Request.Any> ? Req : never

/**
 * The services of a list of requests; none for an empty list.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ServicesOf<Reqs> = [RequestOf<Reqs>] extends [never] ? never : Request.Services<RequestOf<Reqs>>

/**
 * A list that is known not to be empty where the list of requests is.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Loaded<Reqs, A> = Reqs extends readonly [] ? []
  : Reqs extends readonly [unknown, ...ReadonlyArray<unknown>] ? NonEmptyArray<A>
  : Array<A>

/**
 * A resolver, or an effect of one such as the tag of a `Batcher.Service`.
 *
 * @category utility types
 * @since 0.1.0
 */
export type ResolverInput<Req extends Request.Any, E, R> =
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
 * import { Batcher, Scheduler } from "effect-funnel"
 *
 * class Square extends Request.Class<{ readonly of: number }, number> {}
 *
 * let calls = 0
 * class Squares extends Batcher.Service<Squares>()(
 *   "app/Squares",
 *   Batcher.ordered(Square, {
 *     execute: (requests) => {
 *       calls++
 *       return Effect.succeed(requests.map((request) => request.of ** 2))
 *     }
 *   })
 * ) {}
 *
 * const layer = Squares.layer.pipe(
 *   Layer.provide(Batcher.layer()),
 *   Layer.provide(Scheduler.layer({ concurrency: 4 }))
 * )
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
 * class Roots extends Batcher.Service<Roots>()(
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
