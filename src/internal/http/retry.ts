/**
 * Retries of a request that a budget bounds.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"

/** A response that is worth a retry, on its way through the error channel. */
class TransientResponse {
  readonly response: HttpClientResponse
  constructor(response: HttpClientResponse) {
    this.response = response
  }
}

interface Budget {
  readonly retry: <A, E, R, E2, R2>(
    effect: Effect.Effect<A, E, R>,
    options: {
      readonly while: (error: E) => boolean
      readonly times: number | undefined
      readonly schedule: Schedule.Schedule<unknown, E, E2, R2>
      readonly onRetry: (error: E) => Effect.Effect<unknown>
    }
  ) => Effect.Effect<A, E | E2, R | R2>
}

interface Options<E, ES, RS> {
  readonly retryOn: "errors-only" | "response-only" | "errors-and-responses"
  readonly while: ((error: E) => boolean) | undefined
  readonly times: number | undefined
  readonly schedule: Schedule.Schedule<unknown, HttpClientResponse | E, ES, RS>
}

export const retry = <E, R, ES, RS>(
  effect: Effect.Effect<HttpClientResponse, E, R>,
  budget: Budget,
  { retryOn, schedule, times, while: isWorth }: Options<E, ES, RS>
): Effect.Effect<HttpClientResponse, E | ES, R | RS> => {
  const attempt: Effect.Effect<HttpClientResponse, E | TransientResponse, R> = retryOn === "errors-only"
    ? effect
    : Effect.flatMap(
      effect,
      (response) =>
        HttpClient.isTransientResponse(response)
          ? Effect.fail(new TransientResponse(response))
          : Effect.succeed(response)
    )
  const retried = budget.retry(attempt, {
    while: (error) =>
      error instanceof TransientResponse ||
      (retryOn !== "response-only" && (HttpClient.isTransientError(error) || isWorth?.(error) === true)),
    times,
    schedule: delays(schedule),
    onRetry: (error) => {
      const response = responseOf(error)
      return response === undefined ? Effect.void : discard(response)
    }
  })
  return Effect.catch(
    retried,
    (error): Effect.Effect<HttpClientResponse, E | ES> =>
      error instanceof TransientResponse ? Effect.succeed(error.response) : Effect.fail(error)
  )
}

const responseOf = (failure: unknown): HttpClientResponse | undefined =>
  failure instanceof TransientResponse || HttpClientError.isHttpClientError(failure) ? failure.response : undefined

/** The delays of a schedule, but none shorter than the response asks for. It is also asked of failures that are final. */
const delays = <E, ES, RS>(
  schedule: Schedule.Schedule<unknown, HttpClientResponse | E, ES, RS>
): Schedule.Schedule<unknown, E | TransientResponse, ES, RS> =>
  Schedule.fromStep(
    Effect.map(Schedule.toStep(schedule), (step) => (now: number, failure: E | TransientResponse) => {
      const response = responseOf(failure)
      const next = step(now, failure instanceof TransientResponse ? failure.response : failure)
      if (response === undefined) return next
      const least = retryAfterOf(response.headers, now) ?? Duration.zero
      // Where the schedule fails, its error is what the caller gets, and the response is nobody's.
      return next.pipe(
        Effect.tapCause((cause) => Pull.isDoneCause(cause) ? Effect.void : discard(response)),
        Effect.map(([output, delay]) => [output, Duration.max(delay, least)] as const)
      )
    })
  )

/** How long a response asks its client to stay away; `undefined` if it does not, or not in a valid way. */
export const retryAfterOf = (headers: Headers.Headers, now: number): Duration.Duration | undefined => {
  const value = headers["retry-after"]
  const parsed = value === undefined ? undefined : Result.getOrUndefined(Headers.parseRetryAfter(value))
  return parsed === undefined ? undefined : Headers.retryAfterDelay(parsed, now)
}

const mostBytes = 64 * 1024
const patience = Duration.seconds(1)

/**
 * Takes the body of a response that nobody else will: unread, it holds its connection. To read a short one costs less than
 * another connection; one that is long or slow is cancelled. It begins at once: the fiber may end in this step.
 */
const discard = (response: HttpClientResponse): Effect.Effect<unknown> =>
  Effect.forkChild(
    Effect.suspend(() => {
      let left = mostBytes
      const read = Stream.runForEachWhile(
        response.stream,
        (bytes) => Effect.sync(() => (left -= bytes.length) > 0)
      )
      return Effect.exit(Effect.interruptible(Effect.raceFirst(read, Effect.sleep(patience))))
    }),
    { startImmediately: true }
  )
