import type { NonEmptyArray } from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { Loader } from "./internal/batchLoader.js"
import { each } from "./internal/batchMany.js"
import { byGroup, byId, inOrder, toResult } from "./internal/batchPlan.js"
import type { Plan } from "./internal/batchPlan.js"
import { Turns } from "./internal/batchWindow.js"
import type { Engine } from "./internal/scheduler.js"
import { engineOf } from "./internal/schedulerHandle.js"
import * as Scheduler from "./Scheduler.js"

export type TypeId = "~effect-funnel/Batcher"
export const TypeId: TypeId = "~effect-funnel/Batcher"

export type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>

export interface Options<I = Scheduler.Scheduler> {
  readonly window?: "idle" | Duration.Input | undefined
  readonly maxBatchSize?: number | undefined
  readonly scheduler?: Context.Key<I, Scheduler.Scheduler> | undefined
}

export type Constructor<Req extends Request.Any> = (new(args: never) => Req) | ((args: never) => Req)

export interface CacheOptions<Req extends Request.Any> {
  readonly capacity: number
  readonly timeToLive: (exit: Result<Req>, request: Req) => Duration.Input
}

export type Isolating<Req extends Request.Any> = ReadonlyArray<Context.Key<Request.Services<Req>, any>>

export interface ResolverOptions<
  Req extends Request.Any,
  Isolate extends Isolating<Req>,
  Cache extends CacheOptions<Req> | undefined
> {
  readonly isolate?: Isolate | undefined
  readonly maxBatchSize?: number | undefined
  readonly window?: "idle" | Duration.Input | undefined
  readonly name?: string | undefined
  readonly cache?: Cache | undefined
  readonly onRejected?: ((error: Scheduler.SchedulerError, request: Req) => Result<Req>) | undefined
}

export interface CachedResolver<Req extends Request.Any> extends RequestResolver.RequestResolver<Req> {
  readonly prime: (
    request: Req,
    result: Request.Success<Req> | Result<Req>
  ) => Effect.Effect<void, never, Request.Services<Req>>
  readonly clear: (request: Req) => Effect.Effect<void, never, Request.Services<Req>>
  readonly clearAll: Effect.Effect<void>
}

export type Resolver<Req extends Request.Any, Cache> = [Cache] extends [undefined]
  ? RequestResolver.RequestResolver<Req>
  : CachedResolver<Req>

export type Make<Self, Req extends Request.Any, R, Isolate extends Isolating<Req>, Cache> = Effect.Effect<
  Resolver<Req, Cache>,
  never,
  Self | Scope.Scope | Exclude<R, Context.Service.Identifier<Isolate[number]>>
>

/** What a list consists of, where the list may be of any length. */
export type RowOf<List> = List extends ReadonlyArray<infer A> ? Array<A> extends List ? A : never : never

export interface FindByIdOptions<Req extends Request.Any, Id, Row extends Request.Success<Req>, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
  readonly missing: (request: Req) => Result<Req>
}

export interface OrderedOptions<Req extends Request.Any, R> {
  readonly execute: (
    requests: NonEmptyArray<Req>
  ) => Effect.Effect<ReadonlyArray<Request.Success<Req> | Result<Req>>, Request.Error<Req>, R>
}

export interface GroupedOptions<Req extends Request.Any, Id, Row, R> {
  readonly id: (request: Req) => Id
  readonly execute: (ids: NonEmptyArray<Id>) => Effect.Effect<Iterable<Row>, Request.Error<Req>, R>
  readonly resultId: (row: NoInfer<Row>) => NoInfer<Id>
}

export interface Operations<Self> {
  readonly findById: <
    Req extends Request.Any,
    Id,
    Row extends Request.Success<Req>,
    R = never,
    const Isolate extends Isolating<Req> = [],
    Cache extends CacheOptions<Req> | undefined = undefined
  >(
    request: Constructor<Req>,
    options: FindByIdOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate, Cache>
  ) => Make<Self, Req, R, Isolate, Cache>
  readonly ordered: <
    Req extends Request.Any,
    R = never,
    const Isolate extends Isolating<Req> = [],
    Cache extends CacheOptions<Req> | undefined = undefined
  >(
    request: Constructor<Req>,
    options: OrderedOptions<Req, R> & ResolverOptions<Req, Isolate, Cache>
  ) => Make<Self, Req, R, Isolate, Cache>
  readonly grouped: <
    Req extends Request.Any,
    Id,
    Row extends RowOf<Request.Success<Req>>,
    R = never,
    const Isolate extends Isolating<Req> = [],
    Cache extends CacheOptions<Req> | undefined = undefined
  >(
    request: Constructor<Req>,
    options: GroupedOptions<Req, Id, Row, R> & ResolverOptions<Req, Isolate, Cache>
  ) => Make<Self, Req, R, Isolate, Cache>
}

export interface Batcher extends Operations<never> {
  readonly [TypeId]: TypeId
}

export const Batcher: Context.Service<Batcher, Batcher> = /*#__PURE__*/ Context.Service<Batcher>(
  "effect-funnel/Batcher"
)

export class ResultLengthMismatch extends Data.TaggedError("ResultLengthMismatch")<{
  readonly expected: number
  readonly actual: number
}> {
  override get message(): string {
    return `execute answered ${this.expected} requests with ${this.actual} results`
  }
}

export class LookupCycle extends Data.TaggedError("LookupCycle")<{
  readonly request: Request.Any
}> {
  override get message(): string {
    return "a look-up waits for the batch that it is made for"
  }
}

export class BatcherError extends Data.TaggedError("BatcherError")<{
  readonly reason: ResultLengthMismatch | LookupCycle
}> {
  override get message(): string {
    return this.reason.message
  }
}

const checkSize = (name: string, field: string, value: number): number => {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`${name}: ${field} must be an integer >= 1, got ${value}`)
  }
  return value
}

const checkWindow = (name: string, window: "idle" | Duration.Input): "idle" | Duration.Duration => {
  if (window === "idle") return window
  const duration = typeof window === "number" && !(window >= 0) ? undefined : Duration.fromInput(window)
  const value = duration === undefined || duration._tag === "None" ? undefined : duration.value
  if (value === undefined || !Duration.isFinite(value) || Duration.isNegative(value)) {
    throw new RangeError(`${name}: window must be "idle" or a finite duration >= 0, got ${String(window)}`)
  }
  return value
}

interface AnyOptions<Req extends Request.Any>
  extends ResolverOptions<Req, Isolating<Req>, CacheOptions<Req> | undefined>
{}

interface Checked<Req extends Request.Any> extends AnyOptions<Req> {
  readonly window?: "idle" | Duration.Duration | undefined
}

const checkOptions = <Req extends Request.Any>(name: string, options: AnyOptions<Req>): Checked<Req> => {
  if (options.cache !== undefined) checkSize(name, "cache.capacity", options.cache.capacity)
  if (options.maxBatchSize !== undefined) checkSize(name, "maxBatchSize", options.maxBatchSize)
  return { ...options, window: options.window === undefined ? undefined : checkWindow(name, options.window) }
}

interface Settings {
  readonly window: "idle" | Duration.Duration
  readonly maxBatchSize: number
  /** `undefined`: nothing is batched. */
  readonly turns: Turns | undefined
  readonly engine: Engine | undefined
}

const makeResolver = <Req extends Request.Any, R>(
  settings: Settings,
  plan: Plan<Req, R>,
  options: Checked<Req>
): Effect.Effect<RequestResolver.RequestResolver<Req> | CachedResolver<Req>, never, Scope.Scope | R> =>
  Effect.flatMap(Effect.context<Scope.Scope | R>(), (context) => {
    const loader = new Loader<Req, R>({
      resolve: plan,
      onRejected: options.onRejected,
      isolate: options.isolate ?? [],
      maxBatchSize: settings.turns === undefined ? 1 : options.maxBatchSize ?? settings.maxBatchSize,
      turns: settings.turns,
      window: options.window ?? settings.window,
      engine: settings.engine,
      cache: options.cache,
      context,
      cycle: (request) => new BatcherError({ reason: new LookupCycle({ request }) })
    })
    const plain = RequestResolver.makeWith<Req>({
      batchKey: (entry) => loader.batchKey(entry),
      preCheck: (entry) => loader.preCheck(entry),
      delay: loader.delay,
      collectWhile: (entries) => loader.collectWhile(entries),
      runAll: (entries, key) => loader.runAll(entries, key)
    })
    const resolver = options.name === undefined ? plain : RequestResolver.withSpan(plain, options.name)
    return Effect.as(
      Scope.addFinalizer(Context.get(context, Scope.Scope), loader.close),
      options.cache === undefined ? resolver : Object.assign(resolver, cacheOperations(loader))
    )
  })

const cacheOperations = <Req extends Request.Any, R>(
  loader: Loader<Req, R>
): Pick<CachedResolver<Req>, "prime" | "clear" | "clearAll"> => ({
  prime: (request, result) =>
    Effect.withFiber((fiber) => Effect.sync(() => loader.primeUnsafe(request, toResult<Req>(result), fiber.context))),
  clear: (request) => Effect.withFiber((fiber) => Effect.sync(() => loader.clearUnsafe(request, fiber.context))),
  clearAll: Effect.sync(() => loader.clearAllUnsafe())
})

const fromSettings = (settings: Settings): Batcher => {
  const findById = <Req extends Request.Any, Id, Row extends Request.Success<Req>, R>(
    _: Constructor<Req>,
    options: FindByIdOptions<Req, Id, Row, R> & AnyOptions<Req>
  ) => makeResolver(settings, byId(options), checkOptions("Batcher.findById", options))
  const ordered = <Req extends Request.Any, R>(
    _: Constructor<Req>,
    options: OrderedOptions<Req, R> & AnyOptions<Req>
  ) => makeResolver(settings, inOrder(options, mismatch), checkOptions("Batcher.ordered", options))
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

const mismatch = (expected: number, actual: number) =>
  new BatcherError({ reason: new ResultLengthMismatch({ expected, actual }) })

export const make = <I = Scheduler.Scheduler>(options: Options<I> = {}): Effect.Effect<Batcher, never, I> => {
  const maxBatchSize = options.maxBatchSize === undefined
    ? Infinity
    : checkSize("Batcher.make", "maxBatchSize", options.maxBatchSize)
  const window = checkWindow("Batcher.make", options.window ?? "idle")
  // Sound: without the option, I is what it defaults to.
  const tag = (options.scheduler ?? Scheduler.Scheduler) as Context.Key<I, Scheduler.Scheduler>
  return Effect.flatMap(tag, (scheduler) => {
    const engine = engineOf(scheduler)
    if (engine === undefined) return Effect.die(new TypeError("Batcher.make: scheduler must be one of Scheduler.make"))
    return Effect.withFiber((fiber) =>
      Effect.succeed(
        fromSettings({ maxBatchSize, window, engine, turns: new Turns(fiber.cache.scheduler.makeDispatcher()) })
      )
    )
  })
}

export const layer = <I = Scheduler.Scheduler>(options?: Options<I>): Layer.Layer<Batcher, never, I> =>
  Layer.effect(Batcher, make(options))

export const layerNoop: Layer.Layer<Batcher> = /*#__PURE__*/ Layer.sync(
  Batcher,
  () => fromSettings({ maxBatchSize: 1, window: "idle", engine: undefined, turns: undefined })
)

export const operations = <Self>(tag: Context.Service<Self, Batcher>): Operations<Self> => {
  const findById = <Req extends Request.Any, Id, Row extends Request.Success<Req>, R>(
    request: Constructor<Req>,
    options: FindByIdOptions<Req, Id, Row, R> & AnyOptions<Req>
  ) => {
    checkOptions("Batcher.findById", options)
    return tag.use((_) => _.findById(request, options))
  }
  const ordered = <Req extends Request.Any, R>(
    request: Constructor<Req>,
    options: OrderedOptions<Req, R> & AnyOptions<Req>
  ) => {
    checkOptions("Batcher.ordered", options)
    return tag.use((_) => _.ordered(request, options))
  }
  const grouped = <Req extends Request.Any, Id, Row extends RowOf<Request.Success<Req>>, R>(
    request: Constructor<Req>,
    options: GroupedOptions<Req, Id, Row, R> & AnyOptions<Req>
  ) => {
    checkOptions("Batcher.grouped", options)
    return tag.use((_) => _.grouped(request, options))
  }
  return {
    // Sound: as in `fromSettings`.
    findById: findById as Operations<Self>["findById"],
    ordered: ordered as Operations<Self>["ordered"],
    grouped: grouped as Operations<Self>["grouped"]
  }
}

const ops: Operations<Batcher> = /*#__PURE__*/ operations(Batcher)

export const findById: Operations<Batcher>["findById"] = ops.findById
export const ordered: Operations<Batcher>["ordered"] = ops.ordered
export const grouped: Operations<Batcher>["grouped"] = ops.grouped

export interface ServiceClass<Self, Id extends string, Shape, R> extends Context.ServiceClass<Self, Id, Shape> {
  readonly layer: Layer.Layer<Self, never, Exclude<R, Scope.Scope>>
  readonly layerNoop: Layer.Layer<Self, never, Exclude<Exclude<R, Scope.Scope>, Batcher>>
}

export const Service = <Self>() =>
<const Id extends string, Shape extends RequestResolver.RequestResolver<never>, R>(
  id: Id,
  resolver: Effect.Effect<Shape, never, R>
): ServiceClass<Self, Id, Shape, R> => {
  const tag = Context.Service<Self, Shape>()(id)
  const layer = Layer.effect(tag, resolver)
  return Object.assign(tag, { layer, layerNoop: Layer.provide(layer, layerNoop) })
}

type Loaded<Reqs extends Iterable<Request.Any>, A> = [Reqs] extends [readonly [unknown, ...ReadonlyArray<unknown>]]
  ? NonEmptyArray<A>
  : Array<A>

type RequestOf<Reqs> = Reqs extends Iterable<infer Req extends Request.Any> ? Req : never

type AnyResolver<Req extends Request.Any, EX, RX> =
  | RequestResolver.RequestResolver<Req>
  | Effect.Effect<RequestResolver.RequestResolver<Req>, EX, RX>

export const loadMany = <const Reqs extends Iterable<Request.Any>, EX = never, RX = never>(
  requests: Reqs,
  resolver: AnyResolver<RequestOf<Reqs>, EX, RX>
): Effect.Effect<
  Loaded<Reqs, Request.Success<RequestOf<Reqs>>>,
  Request.Error<RequestOf<Reqs>> | EX,
  Request.Services<RequestOf<Reqs>> | RX
> =>
  withResolver(resolver, (resolver) =>
    Effect.suspend(() => {
      const all = arrayOf(requests)
      const values = new Array<Request.Success<RequestOf<Reqs>>>(all.length)
      return Effect.as(
        each(all, resolver, (i, exit) => {
          if (Exit.isFailure(exit)) return false
          values[i] = exit.value
          return true
        }),
        // Sound: as many values as there are requests.
        values as Loaded<Reqs, Request.Success<RequestOf<Reqs>>>
      )
    }))

export const loadManyExit = <const Reqs extends Iterable<Request.Any>, EX = never, RX = never>(
  requests: Reqs,
  resolver: AnyResolver<RequestOf<Reqs>, EX, RX>
): Effect.Effect<Loaded<Reqs, Result<RequestOf<Reqs>>>, EX, Request.Services<RequestOf<Reqs>> | RX> =>
  withResolver(resolver, (resolver) =>
    Effect.suspend(() => {
      const all = arrayOf(requests)
      const exits = new Array<Result<RequestOf<Reqs>>>(all.length)
      return Effect.as(
        // Sound: it fails only where `set` is false.
        each(all, resolver, (i, exit) => {
          exits[i] = exit
          return true
        }) as Effect.Effect<void, never, Request.Services<RequestOf<Reqs>>>,
        exits as Loaded<Reqs, Result<RequestOf<Reqs>>>
      )
    }))

const arrayOf = <Reqs extends Iterable<Request.Any>>(requests: Reqs): ReadonlyArray<RequestOf<Reqs>> =>
  // Sound: `RequestOf` is the type of its items.
  (Array.isArray(requests) ? requests : Array.from(requests)) as ReadonlyArray<RequestOf<Reqs>>

const withResolver = <Req extends Request.Any, A, E, R, EX, RX>(
  resolver: AnyResolver<Req, EX, RX>,
  f: (resolver: RequestResolver.RequestResolver<Req>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | EX, R | RX> => Effect.isEffect(resolver) ? Effect.flatMap(resolver, f) : f(resolver)
