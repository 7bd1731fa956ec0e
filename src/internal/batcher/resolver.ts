/**
 * From options to a resolver of core.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import type * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { refuse } from "../data/refuse.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import { Collector } from "./collector.js"
import { makeHooks } from "./hooks.js"
import { toResult } from "./plan.js"
import type { Plan } from "./plan.js"
import type { Turns } from "./window.js"

/**
 * What a request ends with.
 *
 * @category models
 * @since 0.1.0
 */
export type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>

/**
 * Says what a resolver keeps, and for how long.
 *
 * **Details**
 *
 * `capacity` is the number of results; the least recently used goes first. `timeToLive` is asked once for each result: a
 * duration of zero keeps nothing, so failures are kept only where it says so. Interruptions are never kept, and it is
 * not asked about them.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheOptions<Req extends Request.Any, Capacity extends number = number> {
  readonly capacity: Capacity
  readonly timeToLive: (exit: Result<Req>, request: Req) => Duration.Input
}

/**
 * Services that keep callers apart. They have to be among the services that the request declares.
 *
 * @category models
 * @since 0.1.0
 */
export type Isolating<Req extends Request.Any> = ReadonlyArray<Context.Key<Request.Services<Req>, any>>

/**
 * Options that every resolver takes.
 *
 * **Details**
 *
 * - `isolate`: callers whose values of these services differ never share a batch, a request in flight or a cached result,
 *   and `execute` gets these services from its callers. Values are the same by `Object.is`, or by `Equal` where they
 *   implement it themselves. The services are in the request's requirements: declare them there.
 * - `maxBatchSize`: how many distinct requests a batch holds; a full one is sent at once. Default: that of the `Batcher`.
 * - `window`: how long a batch collects. Default: that of the `Batcher`.
 * - `name`: opens a span of that name for each batch when it is admitted, linked to the spans of those who are in it then,
 *   with the number of their look-ups as `batchSize`.
 * - `cache`: keeps results; the resolver is then a `CachedResolver`.
 * - `onRejected`: what a request ends with whose batch the scheduler refuses. Batches wait for room in a full queue, so
 *   only a rate that is kept in a store can refuse one, with a `StoreError`. Default: the error is a defect.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResolverOptions<Req extends Request.Any, Isolate extends Isolating<Req>, Capacity extends number> {
  readonly isolate?: Isolate | undefined
  readonly maxBatchSize?: number | undefined
  readonly window?: "idle" | Duration.Input | undefined
  readonly name?: string | undefined
  readonly cache?: CacheOptions<Req, Capacity> | undefined
  readonly onRejected?: ((error: SchedulerError, request: Req) => Result<Req>) | undefined
}

/**
 * A resolver that keeps results.
 *
 * **Details**
 *
 * - `prime` says what a request's result is: a value, or an exit. It replaces what is kept, and lives as long as
 *   `timeToLive` says.
 * - `clear` forgets what is kept of a request. The next look-up asks again, even if an equal one is in flight.
 * - `clearAll` does so for all requests, of all callers.
 *
 * What was in flight when `prime` or `clear` came goes to those who wait for it and is not kept: it may be older. With
 * `isolate`, `prime` and `clear` concern the callers that have the same services.
 *
 * **Gotchas**
 *
 * Core's combinators, such as `RequestResolver.batchN`, return plain resolvers: keep this one to call its operations.
 *
 * @category models
 * @since 0.1.0
 */
export interface CachedResolver<Req extends Request.Any> extends RequestResolver.RequestResolver<Req> {
  readonly prime: (
    request: Req,
    result: Request.Success<Req> | Result<Req>
  ) => Effect.Effect<void, never, Request.Services<Req>>
  readonly clear: (request: Req) => Effect.Effect<void, never, Request.Services<Req>>
  readonly clearAll: Effect.Effect<void>
}

export interface AnyOptions<Req extends Request.Any> extends ResolverOptions<Req, Isolating<Req>, number> {}

export interface Settings {
  readonly window: "idle" | Duration.Duration
  readonly maxBatchSize: number
  /** `undefined`: nothing is batched. */
  readonly turns: Turns | undefined
  readonly engine: Engine | undefined
}

const checkSize = (name: string, field: string, value: number): number =>
  Number.isSafeInteger(value) && value >= 1 ? value : refuse(name, field, "an integer >= 1", value)

const checkWindow = (name: string, window: "idle" | Duration.Input): "idle" | Duration.Duration => {
  if (window === "idle") return window
  const duration = looksLikeWindow(window) ? Duration.fromInputUnsafe(window) : undefined
  return duration === undefined || Duration.isNegative(duration) ? refuseWindow(name, window) : duration
}

const refuseWindow = (name: string, window: unknown): never =>
  refuse(name, "window", `"idle" or a finite duration >= 0`, window)

/** As a duration writes itself, and is written. */
const written = /^\d+(?:\.\d+)?\s+(nanos?|micros?|millis?|seconds?|minutes?|hours?|days?|weeks?)$/

/**
 * Judges a window by its looks: `Duration` weighs 2 kB, and whoever calls an accessor would carry it. Left to `checkWindow`,
 * which is asked when the resolver is made, are units of both signs.
 */
const looksLikeWindow = (window: Duration.Input): boolean => {
  if (typeof window === "number" || typeof window === "bigint") return window >= 0 && window < Infinity
  if (written.test(String(window))) return true
  if (typeof window !== "object" || window === null) return false
  const units: ReadonlyArray<unknown> = Object.values(window)
  return units.every((unit) => unit === undefined || Number.isFinite(unit)) &&
    (units.some((unit) => Number(unit) > 0) || !units.some((unit) => Number(unit) < 0))
}

/** Options that are known to make sense. */
export interface Checked<Req extends Request.Any> extends AnyOptions<Req> {
  readonly window?: "idle" | Duration.Duration | undefined
}

/** Refuses what makes no sense in the options of a resolver that is made later. */
export const refuseNonsense = <Req extends Request.Any>(name: string, options: AnyOptions<Req>): void => {
  const { cache, maxBatchSize, window } = options
  if (cache !== undefined) checkSize(name, "cache.capacity", cache.capacity)
  if (maxBatchSize !== undefined) checkSize(name, "maxBatchSize", maxBatchSize)
  if (window !== undefined && window !== "idle" && !looksLikeWindow(window)) refuseWindow(name, window)
}

export const checkOptions = <Req extends Request.Any>(name: string, options: AnyOptions<Req>): Checked<Req> => {
  refuseNonsense(name, options)
  return { ...options, window: options.window === undefined ? undefined : checkWindow(name, options.window) }
}

/** The service that is made of a resolver. */
export const ServiceName: Context.Reference<string | undefined> = /*#__PURE__*/ Context.Reference<string | undefined>(
  "effect-funnel/Batcher/ServiceName",
  { defaultValue: () => undefined }
)

export const makeResolver = <Req extends Request.Any, R>(
  settings: Settings,
  plan: Plan<Req, R>,
  options: Checked<Req>
): Effect.Effect<RequestResolver.RequestResolver<Req> | CachedResolver<Req>, never, Scope.Scope | R> =>
  Effect.flatMap(Effect.context<Scope.Scope | R>(), (context) => {
    const collector = new Collector<Req, R>({
      resolve: plan,
      onRejected: options.onRejected,
      isolate: options.isolate ?? [],
      maxBatchSize: settings.turns === undefined ? 1 : options.maxBatchSize ?? settings.maxBatchSize,
      turns: settings.turns,
      window: options.window ?? settings.window,
      engine: settings.engine,
      service: Context.get(context, ServiceName),
      name: options.name,
      cache: options.cache,
      context
    })
    const resolver = makeHooks(collector)
    return Effect.as(
      Scope.addFinalizer(Context.get(context, Scope.Scope), collector.close),
      options.cache === undefined ? resolver : Object.assign(resolver, cacheOperations(collector))
    )
  })

const cacheOperations = <Req extends Request.Any, R>(
  collector: Collector<Req, R>
): Pick<CachedResolver<Req>, "prime" | "clear" | "clearAll"> => ({
  prime: (request, result) =>
    Effect.contextWith((context: Context.Context<Request.Services<Req>>) =>
      Effect.sync(() => collector.primeUnsafe(request, toResult<Req>(result), context))
    ),
  clear: (request) =>
    Effect.contextWith((context: Context.Context<Request.Services<Req>>) =>
      Effect.sync(() => collector.clearUnsafe(request, context))
    ),
  clearAll: Effect.sync(() => collector.clearAllUnsafe())
})
