/**
 * Applies the services to an `HttpClient`: each function takes a client and returns one, as those of `HttpClient` do.
 *
 * The order in a pipe matters: each function wraps the client before it. `client.pipe(schedule(GitHub),
 * HttpClient.retryTransient(…))` queues every attempt anew; the other way round a request keeps its permit while it waits
 * for its next attempt.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as RateLimiter from "./RateLimiter.js"
import type * as Reducer from "./Reducer.js"
import type * as RetryBudget from "./RetryBudget.js"
import type * as Scheduler from "./Scheduler.js"
import { duration } from "./internal/data/duration.js"
import { oneOf, refuse } from "./internal/data/refuse.js"
import { errorOf } from "./internal/http/bufferedResponse.js"
import * as Limit from "./internal/http/limit.js"
import type { JobOptions, PerRequest, Target } from "./internal/http/options.js"
import { fixed, jobOf, resolve, schedulerOf, withService } from "./internal/http/options.js"
import { retry, retryAfterOf } from "./internal/http/retry.js"
import { buffered, Lead, readOnce, selecting, shareOf, textOf, transportOf } from "./internal/http/sharing.js"
import { nanos } from "./internal/limiter/quota.js"

export type { JobOptions } from "./internal/http/options.js"

type Request = HttpClientRequest.HttpClientRequest
type Response = HttpClientResponse.HttpClientResponse

type Client<E, R> = HttpClient.HttpClient.With<E, R>

const isDataFirst = (args: IArguments): boolean => HttpClient.isHttpClient(args[0])

/** A scheduler, or a `Keyed` of keys `K`; `never` without keys. */
type Schedulers<Self, K> = Target<Self, Scheduler.Scheduler> | Target<Self, Scheduler.KeyedScheduler<K>>

/** The options of schedulers: with `key` where there are keys. It may be left out where they are strings. */
type Arguments<K, Options> = [K] extends [never] ? [options?: Options | undefined]
  : [string] extends [K] ? [options?: Options & { readonly key?: ((request: Request) => K) | undefined } | undefined]
  : [options: Options & { readonly key: (request: Request) => K }]

const hostOf = (request: Request): string => {
  const url = HttpClientRequest.toUrl(request)
  return Option.isSome(url) ? url.value.host : request.url
}

/**
 * How requests go through a scheduler.
 *
 * **Details**
 *
 * - `hold`: how long a request holds its permit. `"headers"`, the default: until its response has begun. `"body"`: until
 *   its body, or that of the response which an error carries, has been read into memory.
 *
 * @see {@link JobOptions} for the others
 * @category models
 * @since 0.1.0
 */
export interface ScheduleOptions<Hold extends "headers" | "body" = "headers" | "body"> extends JobOptions<Request> {
  readonly hold?: Hold | undefined
}

type ScheduleError<Hold> =
  | Scheduler.SchedulerError
  | (Hold extends "body" ? HttpClientError.HttpClientError : never)

/**
 * Sends every request through a scheduler, so that all clients of a backend stay within its limits together.
 *
 * **Details**
 *
 * The scheduler is a tag or a handle. With a `Scheduler.Keyed`, each request goes through the scheduler of its `key`, which
 * is a function of the request: by default its host with the port.
 *
 * A request waits after it has been prepared (`mapRequest`) and before it is sent. The client fails with `SchedulerError`
 * where the scheduler refuses a request.
 *
 * **Gotchas**
 *
 * With `hold: "headers"` more bodies than `concurrency` can be in flight. With `hold: "body"` a response without end, such
 * as a stream of events, holds its permit for ever. A request interrupted in the queue is never sent and costs nothing. One
 * that has been sent is aborted; its permit comes back, and its slot in the rate is spent.
 *
 * **Example** (Asking a backend for ten things at once at most)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 *
 * class Users extends Scheduler.Service<Users>()("app/Users", {
 *   concurrency: 10,
 *   rate: { limit: 1000, window: "1 second" }
 * }) {}
 *
 * // Stands for FetchHttpClient.layer or a client of the platform.
 * const backend = HttpClient.make((request, url) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, new Response(`you asked for ${url.pathname}`)))
 * )
 *
 * const client = backend.pipe(
 *   Funnel.schedule(Users, { hold: "body", maxWait: "2 seconds" }),
 *   HttpClient.retryTransient({ times: 3 })
 * )
 *
 * const program = client.get("http://users.test/7").pipe(Effect.flatMap((response) => response.text))
 *
 * await Effect.runPromise(Effect.provide(program, Users.layer)) // => "you asked for /7"
 * ```
 *
 * **Example** (Bounding every host by itself)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 *
 * class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
 *   lookup: (_host: string) => ({ concurrency: 1, maxWait: 0 })
 * }) {}
 *
 * const backend = HttpClient.make((request) =>
 *   Effect.as(Effect.yieldNow, HttpClientResponse.fromWeb(request, new Response("")))
 * )
 * const client = backend.pipe(Funnel.schedule(Hosts))
 *
 * const status = (url: string) =>
 *   client.get(url).pipe(
 *     Effect.map((response) => response.status),
 *     Effect.catchReason("SchedulerError", "WaitExceeded", () => Effect.succeed("busy"))
 *   )
 * const program = Effect.forEach(["http://a.test/1", "http://a.test/2", "http://b.test/"], status, {
 *   concurrency: "unbounded"
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Hosts.layer)) // => [200, "busy", 200]
 * ```
 *
 * @see {@link penalize} for a backend that says when to come back
 * @category combinators
 * @since 0.1.0
 */
export const schedule: {
  /** Sends every request through a scheduler, so that all clients of a backend stay within its limits together. */
  <Self = never, K = never, Hold extends "headers" | "body" = "headers">(
    scheduler: Schedulers<Self, K>,
    ...options: Arguments<NoInfer<K>, ScheduleOptions<Hold>>
  ): <E, R>(self: Client<E, R>) => Client<E | ScheduleError<Hold>, R | Self>
  /** Sends every request through a scheduler, so that all clients of a backend stay within its limits together. */
  <E, R, Self = never, K = never, Hold extends "headers" | "body" = "headers">(
    self: Client<E, R>,
    scheduler: Schedulers<Self, K>,
    ...options: Arguments<NoInfer<K>, ScheduleOptions<Hold>>
  ): Client<E | ScheduleError<Hold>, R | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self>(
    self: Client<E, R>,
    target: Schedulers<Self, unknown>,
    options: ScheduleOptions & { readonly key?: ((request: Request) => unknown) | undefined } = {}
  ): Client<E | ScheduleError<"body">, R | Self> => {
    const { hold = "headers", key = hostOf } = options
    oneOf("http.schedule", "hold", hold, ["headers", "body"])
    const job = jobOf("http.schedule", options)
    return HttpClient.transform(self, (effect, request) => {
      const sent = hold === "body" ? readOnce(effect, request) : effect
      return withService(target, (given) => schedulerOf(given, () => key(request)).schedule(sent, job(request)))
    })
  }
)

/**
 * Which requests are equal.
 *
 * **Details**
 *
 * - `headers`: the names of the headers that equal requests have in common, in any case; `"all"` by default. `Range` and
 *   the conditions (`If-None-Match`, `If-Modified-Since` and so on) always count.
 *
 * **Gotchas**
 *
 * List every header that the answer depends on. A list without `authorization` or `cookie` gives one user the answer of
 * another.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReduceOptions {
  readonly headers?: "all" | ReadonlyArray<string> | undefined
}

/**
 * Lets equal requests that are under way at the same time share one response.
 *
 * **Details**
 *
 * Requests are equal if method, URL with its query, and headers are equal after every `mapRequest` of the client, and also
 * what the clients of core take from the caller's context: `FetchHttpClient.RequestInit` by its fields,
 * `FetchHttpClient.Fetch`, `MaxBodySize` and undici's options. Only GET and HEAD without a body are shared; requests for an
 * upgrade and for `text/event-stream` are not. Two clients made by two calls of `reduce` share nothing.
 *
 * The body is read into memory once, and every caller gets a response of its own, which can be read more than once and as a
 * stream too. A failure is shared like a response, whatever its status. Errors and responses carry the request of the
 * caller that gets them. Nothing is kept after that.
 *
 * Some responses belong to one caller: those that set cookies, whose `Cache-Control` is `private` or `no-store`, and whose
 * `Vary` is `*` or names a header in which two requests differ. Such a response goes to the caller whose request was sent.
 * Each of the others sends its own request when the headers have arrived, and shares it with nobody.
 *
 * An interrupted caller leaves, the first included, and nobody else notices; the request is aborted when the last one has
 * left.
 *
 * **Gotchas**
 *
 * The request is sent with the other services of the caller that came first, such as its parent span. A response comes when
 * its body is complete: do not use `reduce` for long downloads or endless responses, nor where most responses are private,
 * because callers then wait for the first one in vain. A client that requires `Scope` is a compile error.
 *
 * **Example** (Asking once for ten callers)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 *
 * let sent = 0
 * const backend = HttpClient.make((request) =>
 *   Effect.as(Effect.yieldNow, HttpClientResponse.fromWeb(request, new Response(`answer ${++sent}`)))
 * )
 *
 * const client = backend.pipe(Funnel.reduce(Reducer.Reducer))
 *
 * const program = Effect.forEach(
 *   [1, 2, 3],
 *   () => Effect.flatMap(client.get("http://backend.test/"), (response) => response.text),
 *   { concurrency: "unbounded" }
 * )
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => ["answer 1", "answer 1", "answer 1"]
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const reduce: {
  /** Lets equal requests that are under way at the same time share one response. */
  <Self = never>(
    reducer: Target<Self, Reducer.Reducer>,
    options?: ReduceOptions | undefined
  ): <E, R>(
    self: Client<E, R> & Reducer.NoScope<R>
  ) => Client<E | HttpClientError.HttpClientError, R | Self>
  /** Lets equal requests that are under way at the same time share one response. */
  <E, R, Self = never>(
    self: Client<E, R> & Reducer.NoScope<R>,
    reducer: Target<Self, Reducer.Reducer>,
    options?: ReduceOptions | undefined
  ): Client<E | HttpClientError.HttpClientError, R | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self>(
    self: Client<E, R>,
    target: Target<Self, Reducer.Reducer>,
    options: ReduceOptions = {}
  ): Client<E | HttpClientError.HttpClientError, R | Self> => {
    // Two clients may answer one URL differently, so neither joins the other's requests.
    const client = Symbol("effect-funnel/http")
    const { headers = "all" } = options
    if (headers !== "all" && !Array.isArray(headers)) {
      refuse("http.reduce", "headers", `"all" or a list of names`, headers)
    }
    const names = headers === "all"
      ? undefined
      : [...new Set([...headers.map((name) => name.toLowerCase()), ...selecting])].toSorted()
    return HttpClient.transform(self, (effect, request) =>
      Effect.withFiber((fiber) => {
        const asked = textOf(request, names)
        if (asked === undefined) return effect
        // A copy: a scope around the request of one caller must not abort the request that all of them share.
        const { body, hash, headers, method, url, urlParams } = request
        const sent = HttpClientRequest.makeWith(method, url, urlParams, hash, headers, body)
        const lead = new Lead()
        const run = Effect.suspend(() => {
          lead.leads = true
          return readOnce(self.postprocess(Effect.succeed(sent)), sent, lead)
        })
        // Sound: `reduce` requires the same of the client, whose R it is.
        const scopeless = run as typeof run & Reducer.NoScope<R>
        const alone = Effect.flatMap(effect, (response) => buffered(response, request))
        type Answer = Effect.Effect<Response, E | HttpClientError.HttpClientError, R>
        const onSuccess = (response: Response): Answer => {
          const own = shareOf(response, request)
          return own !== undefined ? Effect.succeed(own) : lead.leads ? buffered(response, request) : alone
        }
        const onFailure = (error: E | HttpClientError.HttpClientError): Answer => {
          if (!HttpClientError.isHttpClientError(error)) return Effect.fail(error)
          if (error.response === undefined) return Effect.fail(errorOf(error, request))
          const own = shareOf(error.response, request)
          if (own !== undefined) return Effect.fail(errorOf(error, request, own))
          return lead.leads ? Effect.fail(error) : alone
        }
        const shared = withService(target, (reducer) =>
          reducer.reduce([client, asked, ...transportOf(fiber.context)], scopeless))
        return Effect.onInterrupt(Effect.matchEffect(shared, { onSuccess, onFailure }), () =>
          lead.leave)
      }))
  }
)

/**
 * The key that a `Retry-After` holds back, and the longest time.
 *
 * **Details**
 *
 * - `key`: of a limiter, the key that is held back; the calls without a key by default. Of a `Scheduler.Keyed`, the key whose
 *   scheduler is held back: a function of the request, by default its host.
 * - `atMost`: the longest penalty, whatever the response asks for; 1 hour by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface PenalizeOptions {
  readonly key?: PerRequest<string, Request> | undefined
  readonly atMost?: Duration.Input | undefined
}

/**
 * Has all users of a limiter or a scheduler wait for as long as the `Retry-After` of a 429 or 503 response says.
 *
 * **Details**
 *
 * Of a limiter, all that take their pace from it wait: `schedule` with a scheduler whose rate it is, or
 * `HttpClient.transform((effect) => Api.withLimit(effect))`. Of a scheduler, all its jobs wait. Of a `Scheduler.Keyed`, those
 * of the scheduler of the request's key. Requests that have been sent are not called back. The longest of several penalties
 * counts.
 *
 * A job with a `maxWait` is refused as soon as the penalty makes it too late, also one that waits already.
 *
 * `Retry-After` is read as seconds or as an HTTP date; an invalid one is ignored. A `StatusCodeError` with such a response
 * counts too, so `penalize` works behind `filterStatusOk`. Response and error are passed on: to send the request again, put
 * {@link retryTransient} behind it.
 *
 * **Example** (Coming back when told to)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 *
 * class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
 *   lookup: (_host: string) => ({ concurrency: 10, maxWait: "500 millis" })
 * }) {}
 *
 * const backend = HttpClient.make((request, url) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(
 *     request,
 *     new Response("", url.host === "busy.test" ? { status: 429, headers: { "retry-after": "60" } } : { status: 200 })
 *   ))
 * )
 *
 * const client = backend.pipe(Funnel.penalize(Hosts), Funnel.schedule(Hosts))
 *
 * const program = Effect.gen(function*() {
 *   const { status } = yield* client.get("http://busy.test/")
 *   const refused = yield* Effect.flip(client.get("http://busy.test/"))
 *   const other = yield* client.get("http://idle.test/")
 *   return [status, refused._tag, other.status]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Hosts.layer)) // => [429, "SchedulerError", 200]
 * ```
 *
 * @see {@link schedule} for requests that wait their turn
 * @category combinators
 * @since 0.1.0
 */
export const penalize: {
  /** Has all users of a limiter wait for as long as the `Retry-After` of a 429 or 503 response says. */
  <Self = never>(
    limiter: Target<Self, RateLimiter.RateLimiter>,
    options?: PenalizeOptions | undefined
  ): <E, R>(self: Client<E, R>) => Client<E | RateLimiter.RateLimiterError, R | Self>
  /** Has all users of a scheduler wait for as long as the `Retry-After` of a 429 or 503 response says. */
  <Self = never, K = never>(
    scheduler: Schedulers<Self, K>,
    ...options: Arguments<NoInfer<K>, Omit<PenalizeOptions, "key">>
  ): <E, R>(self: Client<E, R>) => Client<E | Scheduler.SchedulerError, R | Self>
  /** Has all users of a limiter wait for as long as the `Retry-After` of a 429 or 503 response says. */
  <E, R, Self = never>(
    self: Client<E, R>,
    limiter: Target<Self, RateLimiter.RateLimiter>,
    options?: PenalizeOptions | undefined
  ): Client<E | RateLimiter.RateLimiterError, R | Self>
  /** Has all users of a scheduler wait for as long as the `Retry-After` of a 429 or 503 response says. */
  <E, R, Self = never, K = never>(
    self: Client<E, R>,
    scheduler: Schedulers<Self, K>,
    ...options: Arguments<NoInfer<K>, Omit<PenalizeOptions, "key">>
  ): Client<E | Scheduler.SchedulerError, R | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self>(
    self: Client<E, R>,
    target: Target<Self, RateLimiter.RateLimiter> | Schedulers<Self, unknown>,
    options: { readonly key?: PerRequest<unknown, Request>; readonly atMost?: Duration.Input | undefined } = {}
  ): Client<E | RateLimiter.RateLimiterError | Scheduler.SchedulerError, R | Self> => {
    const atMost = Option.filter(
      Duration.fromInput(options.atMost ?? Duration.hours(1)),
      (duration) => Duration.isGreaterThan(duration, Duration.zero)
    )
    if (Option.isNone(atMost)) {
      return refuse("http.penalize", "atMost", "a duration > 0", options.atMost)
    }
    return HttpClient.transform(self, (effect, request) => {
      const heed = (response: Response | undefined) =>
        response === undefined || (response.status !== 429 && response.status !== 503)
          ? Effect.void
          : Clock.clockWith((clock) => {
            const delay = retryAfterOf(response.headers, clock.currentTimeMillisUnsafe())
            if (delay === undefined || Duration.isZero(delay)) return Effect.void
            const penalty = { for: Duration.min(delay, atMost.value) }
            return withService(
              target,
              (given): Effect.Effect<void, RateLimiter.RateLimiterError | Scheduler.SchedulerError> =>
                "consume" in given
                  // Sound: the key of a limiter is a string.
                  ? given.penalize({ ...penalty, key: resolve(options.key, request) as string | undefined })
                  : schedulerOf(given, () => resolve(options.key ?? hostOf, request)).penalize(penalty)
            )
          })
      return effect.pipe(
        Effect.tap(heed),
        Effect.tapError((error) => heed(HttpClientError.isHttpClientError(error) ? error.response : undefined))
      )
    })
  }
)

/**
 * Which requests are sent again, and when.
 *
 * **Details**
 *
 * - `retryOn`: `"errors-and-responses"` (default), `"errors-only"` or `"response-only"`.
 * - `while`: which errors are transient besides the network's, the timeouts and the transient statuses.
 * - `times`: the most retries of a request; by default the budget is the only bound.
 * - `schedule`: the delays between the attempts; none by default. A `Retry-After` is their lower bound.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryOptions<in E, in Input, out ES = never, out RS = never> {
  readonly retryOn?: RetryOn | undefined
  readonly while?: ((error: E) => boolean) | undefined
  readonly times?: number | undefined
  readonly schedule?: Schedule.Schedule<unknown, Input, ES, RS> | undefined
}

type RetryOn = "errors-only" | "response-only" | "errors-and-responses"

/**
 * Retries transient responses and errors for as long as a budget allows it.
 *
 * **When to use**
 *
 * Use it instead of `HttpClient.retryTransient` for a backend of many callers: in an outage the retries of all of them stay
 * within the budget.
 *
 * **Details**
 *
 * Its options and its meaning of *transient* are those of `HttpClient.retryTransient`: the responses 408, 429, 500, 502, 503
 * and 504, failures of the network, and timeouts. A transient attempt takes a token of the budget, any other one that
 * succeeds gives `ratio` back. Once half of the tokens are gone, the response or the failure is returned at once.
 *
 * A `Retry-After` of a transient response delays the next attempt for at least as long. Interrupted in that time, the request
 * is not sent again.
 *
 * The body of a response that is followed by another attempt is read, or cancelled if it is long or slow, so that its
 * connection is free. Only the schedule sees such a response, and cannot keep its body.
 *
 * **Gotchas**
 *
 * Put it behind {@link schedule}, so that each attempt queues. A refusal of the scheduler is not transient.
 *
 * **Example** (Giving up early in an outage)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as Funnel from "effect-funnel/http"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 *
 * class Retries extends RetryBudget.Service<Retries>()("app/Retries", { tokens: 10, ratio: 0.1 }) {}
 *
 * let sent = 0
 * const backend = HttpClient.make((request) =>
 *   Effect.sync(() => HttpClientResponse.fromWeb(request, new Response("", { status: (sent++, 503) })))
 * )
 * const client = backend.pipe(Funnel.retryTransient(Retries, { times: 3 }))
 * const status = Effect.map(client.get("http://backend.test/"), (response) => response.status)
 *
 * const program = Effect.all([status, status, status])
 *
 * await Effect.runPromise(Effect.provide(program, Retries.layer)) // => [503, 503, 503]
 * sent // => 6
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const retryTransient: {
  /** Retries transient responses and errors for as long as a budget allows it. */
  <E, Self = never, ES = never, RS = never>(
    budget: Target<Self, RetryBudget.RetryBudget>,
    options?: RetryOptions<NoInfer<E>, Response | NoInfer<E>, ES, RS> | undefined
  ): <R>(self: Client<E, R>) => Client<E | ES, R | RS | Self>
  /** Retries transient responses and errors for as long as a budget allows it. */
  <E, R, Self = never, ES = never, RS = never>(
    self: Client<E, R>,
    budget: Target<Self, RetryBudget.RetryBudget>,
    options?: RetryOptions<NoInfer<E>, Response | NoInfer<E>, ES, RS> | undefined
  ): Client<E | ES, R | RS | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self, ES, RS>(
    self: Client<E, R>,
    target: Target<Self, RetryBudget.RetryBudget>,
    options: RetryOptions<E, Response | E, ES, RS> = {}
  ): Client<E | ES, R | RS | Self> => {
    const { retryOn = "errors-and-responses", schedule = Schedule.forever, times, while: isWorth } = options
    if (!retryOns.includes(retryOn)) {
      refuse("http.retryTransient", "retryOn", retryOns.map((word) => `"${word}"`).join(", "), retryOn)
    }
    if (times !== undefined && times !== Infinity && !(Number.isInteger(times) && times >= 0)) {
      refuse("http.retryTransient", "times", "an integer >= 0", times)
    }
    return HttpClient.transformResponse(
      self,
      (effect) => withService(target, (budget) => retry(effect, budget, { retryOn, schedule, times, while: isWorth }))
    )
  }
)

const retryOns: ReadonlyArray<RetryOn> = ["errors-only", "response-only", "errors-and-responses"]

/**
 * Options of `limit` with a limiter: the cost of a request, and the answer to a refused one.
 *
 * **Details**
 *
 * - `key`: the key that pays, such as the user or the address. By default all requests share the quota without a key.
 * - `tokens`: what a request costs, an integer from 1; 1 by default.
 * - `policy`: the name of the quota in the fields; its limit by default. Name it where two quotas have the same limit.
 * - `retryAfter`: the `Retry-After` of a 503, when the limiter's store does not answer; 1 second by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface LimitOptions {
  readonly key?: PerRequest<string, HttpServerRequest> | undefined
  readonly tokens?: PerRequest<number, HttpServerRequest> | undefined
  readonly policy?: string | undefined
  readonly retryAfter?: Duration.Input | undefined
}

/**
 * Options of `limit` with a scheduler: those of a job, and the answer to a refused request.
 *
 * **Details**
 *
 * - `retryAfter`: the `Retry-After` of a 503 whose reason has no figure of its own; 1 second by default.
 *
 * @see {@link JobOptions} for the others
 * @category models
 * @since 0.1.0
 */
export interface LimitJobOptions extends JobOptions<HttpServerRequest> {
  readonly retryAfter?: Duration.Input | undefined
}

/**
 * Limits the requests of a server by a limiter, or runs them as jobs of a scheduler.
 *
 * **When to use**
 *
 * Use a limiter for what each client may ask for, and a scheduler for what the server can do.
 *
 * **Details**
 *
 * It is a middleware: a function of an app, for `HttpRouter.middleware` or `HttpRouter.serve`. No request waits for a limiter.
 *
 * | refused by                                                                     | status                                     |
 * | ------------------------------------------------------------------------------ | ------------------------------------------ |
 * | a limiter, because the tokens are spent                                        | 429 with `Retry-After`, the exact time     |
 * | a scheduler: full, too late, overloaded, draining, closed; a store that is away | 503 with `Retry-After`                     |
 * | either, because the request asks for more than there ever is                   | 413                                        |
 *
 * `Retry-After` is in whole seconds, rounded up. With a limiter, every response of the app, and every 429, also has `RateLimit`
 * and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), and `RateLimit-Limit`, `RateLimit-Remaining` and
 * `RateLimit-Reset` (its draft 06), which more clients read. Refusals have no body and cost a few microseconds.
 *
 * Around an app or a route, a job lasts until the response is made; a body that is a stream is sent after that. Around a server,
 * as in `HttpServer.serve(app, limit(Api))`, it lasts until the last byte of the body. A request whose client leaves leaves the
 * queue, and costs nothing.
 *
 * **Gotchas**
 *
 * - `HttpRouter.middleware` takes handles: `HttpRouter.middleware(Effect.map(Api, (api) => limit(api)))`.
 * - Behind a proxy the address of the client is `request.remoteAddress` after `HttpMiddleware.xForwardedHeaders`.
 * - The fields count in whole seconds: give a limiter a `burst`, or careful clients send one request a second.
 *
 * **Example** (Limiting every client)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { RateLimiter } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 *
 * class Clients extends RateLimiter.Service<Clients>()("app/Clients", { limit: 60, window: "1 minute", burst: 1 }) {}
 *
 * const limited = HttpRouter.middleware(
 *   Effect.map(Clients, (clients) => Funnel.limit(clients, { key: (request) => request.headers["x-api-key"] ?? "" }))
 * ).layer
 *
 * const app = HttpRouter.add("GET", "/", HttpServerResponse.text("hello")).pipe(
 *   Layer.provide(limited),
 *   Layer.provide(Clients.layer)
 * )
 *
 * const { dispose, handler } = HttpRouter.toWebHandler(app, { disableLogger: true })
 * const ask = (key: string) => handler(new Request("http://localhost/", { headers: { "x-api-key": key } }))
 * const responses = [await ask("ada"), await ask("ada"), await ask("bob")]
 * await dispose()
 *
 * responses.map((response) => response.status) // => [200, 429, 200]
 * responses.map((response) => response.headers.get("retry-after")) // => [null, "1", null]
 * responses[1]!.headers.get("ratelimit") // => "\"60\";r=0;t=1"
 * ```
 *
 * **Example** (Refusing early)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpServerRequest, HttpServerResponse } from "effect/http"
 *
 * class Server extends Scheduler.Service<Server>()("app/Server", { concurrency: 1, maxWait: 0 }) {}
 *
 * const app = Effect.as(Effect.yieldNow, HttpServerResponse.text("done")).pipe(Funnel.limit(Server))
 *
 * const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
 * const program = Effect.all([app, app], { concurrency: "unbounded" }).pipe(
 *   Effect.provideService(HttpServerRequest.HttpServerRequest, request),
 *   Effect.map((responses) => responses.map(({ headers, status }) => [status, headers["retry-after"]]))
 * )
 *
 * await Effect.runPromise(Effect.provide(program, Server.layer)) // => [[200, undefined], [503, "1"]]
 * ```
 *
 * @category middleware
 * @since 0.1.0
 */
export const limit: {
  /** Limits the requests of a server by a limiter. */
  <Self = never>(limiter: Target<Self, RateLimiter.RateLimiter>, options?: LimitOptions | undefined): Middleware<Self>
  /** Runs the requests of a server as jobs of a scheduler. */
  <Self = never>(scheduler: Target<Self, Scheduler.Scheduler>, options?: LimitJobOptions | undefined): Middleware<Self>
  /** Runs the requests of a server as jobs of the scheduler of their key. */
  <Self = never, K = never>(
    scheduler: Target<Self, Scheduler.KeyedScheduler<K>>,
    options: LimitJobOptions & { readonly key: (request: HttpServerRequest) => K }
  ): Middleware<Self>
} = <Self>(
  target: Target<Self, RateLimiter.RateLimiter> | Schedulers<Self, unknown>,
  options: LimitJobOptions & Pick<LimitOptions, "policy"> & {
    readonly key?: PerRequest<unknown, HttpServerRequest> | undefined
  } = {}
): Middleware<Self> => {
  const { key, policy, tokens } = options
  const job = jobOf("http.limit", options)
  if ("consume" in target && fixed(tokens) === 0) refuse("http.limit", "tokens", "an integer >= 1", 0)
  const retryAfter = duration(nanos("http.limit", "retryAfter", options.retryAfter ?? Duration.seconds(1), 0))
  if (policy !== undefined && !/^[ !#-[\]-~]*$/.test(policy)) {
    refuse("http.limit", "policy", `printable ASCII without " and \\`, policy)
  }
  const answers = { policy, retryAfter }
  return (app) =>
    Effect.flatMap(HttpServerRequest, (request) =>
      withService(target, (given) => {
        if (!("consume" in given)) {
          const scheduler = schedulerOf(given, () => resolve(key, request))
          return Limit.byJob(app, (effect) => scheduler.schedule(effect, job(request)), answers)
        }
        // Sound: the key of a limiter is a string.
        const payer = resolve(key, request) as string | undefined
        const consumed = given.consume({ key: payer, tokens: resolve(tokens, request), onExceeded: "fail" })
        return Limit.byRate(app, consumed, answers)
      }))
}

/** A function of an app. */
type Middleware<Self> = <E, R>(
  app: Effect.Effect<HttpServerResponse, E, R>
) => Effect.Effect<HttpServerResponse, E, R | Self | HttpServerRequest>
