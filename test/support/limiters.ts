/** What tests of limiters share. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as RateLimiter from "effect-funnel/RateLimiter"

/** A limiter on a clock. */
export const onClock = (clock: Clock.Clock, quota: RateLimiter.Options) =>
  Effect.provideService(RateLimiter.make(quota), Clock.Clock, clock)

/** The reason of a call that exceeds the rate. */
export const exceeded = <A, E, R>(effect: Effect.Effect<A, E | RateLimiter.RateLimiterError, R>) =>
  Effect.flip(effect).pipe(
    Effect.filterOrFail((error) => error instanceof RateLimiter.RateLimiterError),
    Effect.map((error) => error.reason),
    Effect.filterOrFail((reason) => reason._tag === "RateLimitExceeded")
  )

export const tenAtOnce = { limit: 10, window: "1 second", burst: 10 } as const
