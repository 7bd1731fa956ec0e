/**
 * The options of a Batcher and of its resolvers, and their checks.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import type * as RequestResolver from "effect/RequestResolver"
import { integer, refuse } from "../data/refuse.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"

/**
 * The exit of a request.
 *
 * @category models
 * @since 0.1.0
 */
export type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>

/**
 * Which results a resolver keeps, and for how long.
 *
 * **Details**
 *
 * - `capacity`: the number of results. The least recently used result goes first.
 * - `timeToLive`: called once for each result, a failure included. Zero keeps nothing. Interruptions are never kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheOptions<Req extends Request.Any> {
  readonly capacity: number
  readonly timeToLive: (exit: Result<Req>, request: Req) => Duration.Input
}

/** Services that keep callers apart. The request has to declare them. */
export type Isolating<Req extends Request.Any> = ReadonlyArray<Context.Key<Request.Services<Req>, any>>

/**
 * Options that every resolver takes.
 *
 * **Details**
 *
 * - `isolate`: callers with different values of these services share no batch, no request in flight and no cached result,
 *   and `execute` gets the services from its callers. Values are compared by `Object.is`, or by their own `Equal`.
 * - `maxBatchSize`: the most distinct requests in a batch. A full batch is sent at once. Default: the Batcher's.
 * - `window`: how long a batch collects. Default: the Batcher's.
 * - `name`: opens a span of this name for each batch when it is admitted, with links to the spans of its callers and the
 *   number of its look-ups as `batchSize`.
 * - `cache`: keeps results. The resolver is then a `CachedResolver`, and a plain one where `cache` may be `undefined`.
 * - `onRejected`: the exit of a request whose batch the scheduler refuses, or ends because its permit is lost. Only a rate or
 *   a concurrency in a store does so, with a `StoreError`: a full queue makes a batch wait. Default: the error is a defect.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResolverOptions<Req extends Request.Any, Isolate extends Isolating<Req>> {
  readonly isolate?: Isolate | undefined
  readonly maxBatchSize?: number | undefined
  readonly window?: "idle" | Duration.Input | undefined
  readonly name?: string | undefined
  readonly cache?: CacheOptions<Req> | undefined
  readonly onRejected?: ((error: SchedulerError, request: Req) => Result<Req>) | undefined
}

/**
 * A resolver that keeps results.
 *
 * **Details**
 *
 * - `prime` sets the result of a request to a value or an exit, and keeps it as long as `timeToLive` says.
 * - `clear` forgets the result of a request. The next look-up asks again, even if an equal one is in flight.
 * - `clearAll` forgets all results of all callers.
 *
 * A request that is in flight when `prime` or `clear` comes still answers its callers, but its result is not kept: it may
 * be older. With `isolate`, `prime` and `clear` concern the callers that have the same services.
 *
 * **Gotchas**
 *
 * Core's combinators, such as `RequestResolver.batchN`, return plain resolvers: keep this one to call its operations.
 *
 * **Example** (Forgetting one result)
 *
 * ```ts import.meta.vitest
 * import { Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, string> {}
 *
 * let queries = 0
 * const program = Effect.gen(function*() {
 *   const users = yield* Batcher.ordered(GetUser, {
 *     execute: (requests) => Effect.succeed(requests.map(({ id }) => `user ${id}, query ${++queries}`)),
 *     cache: { capacity: 100, timeToLive: () => "1 minute" }
 *   })
 *   const ada = Effect.request(new GetUser({ id: 1 }), users)
 *   const before = [yield* ada, yield* ada]
 *   yield* users.clear(new GetUser({ id: 1 }))
 *   return [...before, yield* ada]
 * })
 *
 * const answers = await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer()))
 * answers // => ["user 1, query 1", "user 1, query 1", "user 1, query 2"]
 * ```
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

export interface AnyOptions<Req extends Request.Any> extends ResolverOptions<Req, Isolating<Req>> {}

/** What a Batcher gives to its resolvers. */
export interface Settings {
  readonly window: "idle" | Duration.Duration
  readonly maxBatchSize: number
  /** False: each look-up is a call of its own, and `maxBatchSize` is 1. */
  readonly batches: boolean
  readonly engine: Engine | undefined
  /** The observers of the Batcher. */
  readonly observers: Context.Context<never>
}

/** For a window that looks like one. */
const checkWindow = (name: string, window: "idle" | Duration.Input): "idle" | Duration.Duration => {
  if (window === "idle") return window
  const duration = Duration.fromInputUnsafe(window)
  return Duration.isNegative(duration) ? refuseWindow(name, window) : duration
}

const refuseWindow = (name: string, window: unknown): never =>
  refuse(name, "window", `"idle" or a finite duration >= 0`, window)

/** The string form of a duration. */
const written = /^\d+(?:\.\d+)?\s+(nanos?|micros?|millis?|seconds?|minutes?|hours?|days?|weeks?)$/

/**
 * Judges a window without the module `Duration`, which would add 2 kB to every program that calls an accessor. It passes
 * units of both signs, which `checkWindow` judges when the resolver is made.
 */
const looksLikeWindow = (window: Duration.Input): boolean => {
  if (typeof window === "number" || typeof window === "bigint") return window >= 0 && window < Infinity
  if (written.test(String(window))) return true
  if (typeof window !== "object" || window === null) return false
  const units: ReadonlyArray<unknown> = Object.values(window)
  return units.every((unit) => unit === undefined || Number.isFinite(unit)) &&
    (units.some((unit) => Number(unit) > 0) || !units.some((unit) => Number(unit) < 0))
}

/** Checked options. */
export interface Checked<Req extends Request.Any> extends AnyOptions<Req> {
  readonly window?: "idle" | Duration.Duration | undefined
}

/** Checks the options of a resolver that is made later. */
export const refuseNonsense = <Req extends Request.Any>(name: string, options: AnyOptions<Req>): void => {
  const { cache, maxBatchSize, window } = options
  if (cache !== undefined) integer(name, "cache.capacity", cache.capacity, 1)
  if (maxBatchSize !== undefined) integer(name, "maxBatchSize", maxBatchSize, 1)
  if (window !== undefined && window !== "idle" && !looksLikeWindow(window)) refuseWindow(name, window)
}

export const checkOptions = <Req extends Request.Any>(name: string, options: AnyOptions<Req>): Checked<Req> => {
  refuseNonsense(name, options)
  return { ...options, window: options.window === undefined ? undefined : checkWindow(name, options.window) }
}
