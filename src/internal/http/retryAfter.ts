/**
 * `Retry-After`, read and written.
 */
import * as Duration from "effect/Duration"
import * as Headers from "effect/http/Headers"
import * as Result from "effect/Result"

/** How long a response asks its client to stay away; `undefined` if it does not, or not in a valid way. */
export const retryAfterOf = (headers: Headers.Headers, now: number): Duration.Duration | undefined => {
  const value = headers["retry-after"]
  const parsed = value === undefined ? undefined : Result.getOrUndefined(Headers.parseRetryAfter(value))
  return parsed === undefined ? undefined : Headers.retryAfterDelay(parsed, now)
}

/** Whole seconds, never too few. */
export const seconds = (duration: Duration.Duration): number => Math.ceil(Duration.toSeconds(duration))
