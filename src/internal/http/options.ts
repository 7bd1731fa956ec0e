/**
 * What the functions take: a service as a tag or a handle, options that may depend on the request, and those of its job.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { jobOptions, type ScheduleOptions } from "../scheduler/options.js"

/** A service's tag, or the service itself. */
export type Target<Self, S> = Context.Key<Self, S> | S

export const withService = <Self, S, A, E, R>(
  target: Target<Self, S>,
  f: (service: S) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | Self> => Context.isKey(target) ? Effect.flatMap(target, f) : f(target)

/** An option that may depend on the request. No other option is a function. */
export type PerRequest<A, Request> = A | ((request: Request) => A)

export const resolve = <A, Request>(value: PerRequest<A, Request>, request: Request): A =>
  Predicate.isFunction(value) ? (value as (request: Request) => A)(request) : value

/** What is there before a request is. */
export const fixed = <A, Request>(value: PerRequest<A, Request>): A | undefined =>
  Predicate.isFunction(value) ? undefined : value as A

/**
 * What a request costs as a job, and how long it may wait. Each option is a value, or a function of the request.
 *
 * **Details**
 *
 * - `tokens`: what a request costs of the rate; 1 by default, 0 for none.
 * - `weight`: what it costs of the concurrency; 1 by default.
 * - `priority`: a larger number goes first; 0 by default.
 * - `maxWait`: how long it may wait for its start; no bound by default.
 * - `share`: the key of a caller, such as a tenant, or `{ key, weight }`: keys get turns.
 *
 * @category models
 * @since 0.1.0
 */
export interface JobOptions<in Request> {
  readonly tokens?: PerRequest<number, Request> | undefined
  readonly weight?: PerRequest<number, Request> | undefined
  readonly priority?: PerRequest<number, Request> | undefined
  readonly maxWait?: PerRequest<Duration.Input, Request> | undefined
  readonly share?: PerRequest<NonNullable<ScheduleOptions["share"]>, Request> | undefined
}

/** Returns the options of the job of a request. Throws where one is invalid for all requests. */
export const jobOf = <Request>(
  caller: string,
  { maxWait, priority, share, tokens, weight }: JobOptions<Request>
): (request: Request) => ScheduleOptions => {
  jobOptions(caller, {
    weight: fixed(weight),
    tokens: fixed(tokens),
    priority: fixed(priority),
    maxWait: fixed(maxWait),
    share: fixed(share)
  })
  return (request) => ({
    weight: resolve(weight, request),
    tokens: resolve(tokens, request),
    priority: resolve(priority, request),
    maxWait: resolve(maxWait, request),
    share: resolve(share, request)
  })
}

/** The scheduler of a request: the one that is given, or that of the request's key. */
export const schedulerOf = <K, S extends object>(
  given: S | { readonly get: (key: K) => S },
  key: () => K
): S => "get" in given ? given.get(key()) : given
