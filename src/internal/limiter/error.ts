import * as Duration from "effect/Duration"
import type { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { StacklessError } from "../data/stacklessError.js"
import type { StoreError } from "../store/storeError.js"

/**
 * Not enough tokens right now, or not within `maxWait`.
 *
 * **Details**
 *
 * `limit` and `remaining` are those of the quota with the fewest tokens left. `retryAfter` is exact: if nobody else comes, the
 * same call is refused before it and admitted at it. A refusal consumes nothing. Two of them are no more than a bound: that of
 * a call with a `maxWait` behind more than 256 others for several quotas or a strict one, and that of `maxWait` over a store.
 *
 * @category errors
 * @since 0.1.0
 */
export class RateLimitExceeded extends /*#__PURE__*/ StacklessError("RateLimitExceeded")<{
  readonly key: string | undefined
  readonly limit: number
  readonly remaining: number
  readonly retryAfter: Duration.Duration
}> {
  override get message(): string {
    const whose = this.key === undefined ? "" : ` for ${JSON.stringify(this.key)}`
    const wait = Duration.format(Duration.millis(Math.ceil(Duration.toMillis(this.retryAfter))))
    return `rate limit exceeded${whose}: ${this.remaining} of ${this.limit} left, retry after ${wait}`
  }
}

/**
 * The reasons for which a limiter fails.
 *
 * @category errors
 * @since 0.1.0
 */
export type RateLimiterErrorReason = RateLimitExceeded | InsufficientCapacity | StoreError

/**
 * The error of every limiter operation: which limiter, and why.
 *
 * **Details**
 *
 * - `RateLimitExceeded`: not yet, or not within `maxWait`. Try again after `retryAfter`.
 * - `InsufficientCapacity`: the tokens exceed the burst. Waiting does not help.
 * - `StoreError`: the store did not answer. A limiter in memory never fails with it.
 *
 * Handle a reason with `Effect.catchReason("RateLimiterError", "RateLimitExceeded", …)`. The error carries no stack: a span
 * shows in `Cause.pretty` where a call was refused.
 *
 * @category errors
 * @since 0.1.0
 */
export class RateLimiterError extends /*#__PURE__*/ StacklessError("RateLimiterError")<{
  /** The id of the limiter's tag, or the `name` in its options. */
  readonly limiter: string
  readonly reason: RateLimiterErrorReason
}> {
  override get message(): string {
    return `${this.limiter}: ${this.reason.message}`
  }
}
