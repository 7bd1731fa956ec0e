/**
 * The calls of a rate limiter before they reach its state, wherever that is.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Quotas from "./quota.js"
import { refuse } from "../data/refuse.js"

interface ConsumeOptions {
  readonly key?: string | undefined
  readonly tokens?: number | undefined
  readonly onExceeded?: "delay" | "fail" | undefined
}

export const check = (caller: string, options: ConsumeOptions | undefined): void => {
  if (options === undefined) return
  if (options.tokens !== undefined) Quotas.count(caller, "tokens", options.tokens)
  const onExceeded = options.onExceeded
  if (onExceeded !== undefined && onExceeded !== "delay" && onExceeded !== "fail") {
    refuse(caller, "onExceeded", `"delay" or "fail"`, onExceeded)
  }
}

/** The nanoseconds of a penalty. */
export const penalty = (options: { readonly for: Duration.Input }): number =>
  Quotas.nanos("RateLimiter.penalize", "for", options.for, 0)

/**
 * `withLimit` in its two spellings. Whoever calls this says that it is of that type: no implementation can be checked
 * against a conditional type, whose two branches are the two cases here.
 */
export const dataFirstOrLast = <Error, Self>(
  f: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: ConsumeOptions | undefined
  ) => Effect.Effect<A, E | Error, R | Self>
): unknown =>
(first?: Effect.Effect<unknown, unknown, unknown> | ConsumeOptions, options?: ConsumeOptions) => {
  if (Effect.isEffect(first)) {
    check("RateLimiter.withLimit", options)
    return f(first, options)
  }
  check("RateLimiter.withLimit", first)
  return <A, E, R>(effect: Effect.Effect<A, E, R>) => f(effect, first)
}
