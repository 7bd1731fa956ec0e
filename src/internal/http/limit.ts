/**
 * The answers of a server to requests beyond its limits.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as HttpEffect from "effect/http/HttpEffect"
import { ClientAbort } from "effect/http/HttpServerError"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Predicate from "effect/Predicate"
import type { RateLimiterError } from "../limiter/error.js"
import type { SchedulerError, SchedulerErrorReason } from "../scheduler/error.js"

type Response = HttpServerResponse.HttpServerResponse

/** Whole seconds, never too few. */
const seconds = (duration: Duration.Duration): number => Math.ceil(Duration.toSeconds(duration))

/** What a client is told of a quota. */
interface Standing {
  readonly limit: number
  readonly remaining: number
  readonly resetAfter: Duration.Duration
}

/** Adds the fields of a quota. A response may have those of another one: then the old fields tell of the tighter one. */
const withFields = (response: Response, policy: string | undefined, standing: Standing): Response => {
  const { limit, resetAfter } = standing
  if (limit === Infinity) return response
  const reset = seconds(resetAfter)
  // A burst may be more than the limit.
  const remaining = Math.min(standing.remaining, limit)
  const { headers } = response
  const add = (field: string, item: string) => headers[field] === undefined ? item : `${headers[field]}, ${item}`
  const name = policy ?? String(limit)
  return HttpServerResponse.setHeaders(response, {
    "ratelimit-policy": add("ratelimit-policy", `"${name}";q=${limit}`),
    "ratelimit": add("ratelimit", `"${name}";r=${remaining};t=${reset}`),
    ...(Number(headers["ratelimit-remaining"]) <= remaining ? undefined : {
      "ratelimit-limit": String(limit),
      "ratelimit-remaining": String(remaining),
      "ratelimit-reset": String(reset)
    })
  })
}

/** Around a server core sends these as they come, without the handlers of their requests. */
const refusals = /*#__PURE__*/ new WeakSet<Response>()

const refusal = (response: Response): Response => {
  refusals.add(response)
  return response
}

const answer = (status: number, retryAfter?: Duration.Duration, headers?: Record<string, string>): Response =>
  refusal(HttpServerResponse.empty({
    status,
    headers: retryAfter === undefined ? undefined : { "retry-after": String(seconds(retryAfter)), ...headers }
  }))

/** The server is about to go: a client that kept its connection would keep the server, and not find another one. */
const leaving = { connection: "close" }

interface Answers {
  /** The name of the quota in the fields. */
  readonly policy: string | undefined
  /** Where an error has no figure. */
  readonly retryAfter: Duration.Duration
}

/** Runs the app once its tokens are consumed, or answers the request where the limiter refuses them. */
export const byRate = <E, R>(
  app: Effect.Effect<Response, E, R>,
  consumed: Effect.Effect<Standing, RateLimiterError>,
  { policy, retryAfter }: Answers
): Effect.Effect<Response, E, R> =>
  Effect.matchEffect(consumed, {
    onSuccess: (standing) =>
      Effect.withFiber<Response, E, R>((fiber) => {
        let told = false
        // Not on what the app returns: around `HttpRouter.serve` that has been sent already.
        HttpEffect.appendPreResponseHandlerUnsafe(
          fiber.context,
          (_, response) => Effect.succeed(told ? response : withFields(response, policy, standing))
        )
        return Effect.map(app, (response) => {
          if (!refusals.has(response)) return response
          told = true
          return refusal(withFields(response, policy, standing))
        })
      }),
    onFailure: ({ reason }) => {
      switch (reason._tag) {
        case "RateLimitExceeded": {
          const { limit, remaining, retryAfter } = reason
          const standing = { limit, remaining, resetAfter: retryAfter }
          return Effect.succeed(refusal(withFields(answer(429, retryAfter), policy, standing)))
        }
        case "InsufficientCapacity":
          return Effect.succeed(answer(413))
        case "StoreError":
          return Effect.succeed(answer(503, retryAfter))
      }
    }
  })

/**
 * Runs the app as a job, or answers the request where the scheduler refuses it.
 *
 * Core runs middlewares of a server uninterruptibly. A request waits interruptibly all the same, so that it leaves the queue
 * with its client; the app has the region that it was given.
 */
export const byJob = <E, R>(
  app: Effect.Effect<Response, E, R>,
  schedule: (job: Effect.Effect<Response, E, R>) => Effect.Effect<Response, E | SchedulerError, R>,
  { retryAfter }: Answers
): Effect.Effect<Response, E, R> =>
  Effect.suspend(() => {
    let own: Exit.Exit<Response, E> | undefined
    const job = Effect.onExit(app, (exit) => Effect.sync(() => void (own = exit)))
    const scheduled = Effect.interruptibleMask((restore) => schedule(restore(job)))
    return Effect.catchCause(scheduled, (cause): Effect.Effect<Response, E> => {
      const refusal = cause.reasons.find(isRefusal)?.error
      // What the app itself fails with is its own affair, also if it is the error of another scheduler.
      const isOwn = own !== undefined &&
        (own._tag === "Success" || own.cause.reasons.some((_) => _._tag === "Fail" && _.error === refusal))
      if (refusal !== undefined && !isOwn) return Effect.succeed(refused(refusal.reason, retryAfter))
      // It has ended, also where an interruption came meanwhile.
      if (own !== undefined) return own
      // A scheduler that is closed interrupts, as does a client that leaves. All else are defects.
      const hasLeft = cause.reasons.some((_) => _.annotations.has(ClientAbort.key))
      return Cause.hasInterruptsOnly(cause) && !hasLeft
        ? Effect.succeed(answer(503, retryAfter, leaving))
        : Effect.failCause(cause as Cause.Cause<never>)
    })
  })

const isRefusal = (reason: Cause.Reason<unknown>): reason is Cause.Fail<SchedulerError> =>
  reason._tag === "Fail" && Predicate.isTagged(reason.error, "SchedulerError")

const refused = (reason: SchedulerErrorReason, retryAfter: Duration.Duration): Response => {
  switch (reason._tag) {
    case "InsufficientCapacity":
      return answer(413)
    case "WaitExceeded":
      return answer(503, reason.expected ?? retryAfter)
    default:
      return answer(503, retryAfter, reason._tag === "Draining" ? leaving : undefined)
  }
}
