/**
 * The services that the functions take: a tag, or a handle.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"

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
