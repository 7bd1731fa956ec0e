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
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Cookies from "effect/http/Cookies"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import type * as RateLimiter from "./RateLimiter.js"
import type * as Reducer from "./Reducer.js"
import type * as Scheduler from "./Scheduler.js"
import { refuse } from "./internal/data/refuse.js"
import { BufferedResponse, errorOf } from "./internal/http/bufferedResponse.js"
import { jobOptions } from "./internal/scheduler/options.js"

type Request = HttpClientRequest.HttpClientRequest
type Response = HttpClientResponse.HttpClientResponse

type Client<E, R> = HttpClient.HttpClient.With<E, R>

type PerRequest<A> = A | ((request: Request) => A)

const resolve = <A extends number | string>(value: PerRequest<A> | undefined, request: Request): A | undefined =>
  Predicate.isFunction(value) ? value(request) : value

const isDataFirst = (args: IArguments): boolean => HttpClient.isHttpClient(args[0])

/**
 * How requests go through a scheduler.
 *
 * **Details**
 *
 * - `hold`: how long a request holds its permit. `"headers"`, the default: until its response has begun. `"body"`: until
 *   its body has been read into memory.
 * - `tokens`: what a request costs of the rate; 1 by default, 0 for none.
 * - `weight`: what it costs of the concurrency; 1 by default.
 * - `priority`: a larger number goes first; 0 by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScheduleOptions<Hold extends "headers" | "body" = "headers" | "body"> {
  readonly hold?: Hold | undefined
  readonly tokens?: PerRequest<number> | undefined
  readonly weight?: PerRequest<number> | undefined
  readonly priority?: PerRequest<number> | undefined
}

type ScheduleError<Hold> =
  | Scheduler.SchedulerError
  | (Hold extends "body" ? HttpClientError.HttpClientError : never)

/**
 * Sends every request through the scheduler of a tag, so that all clients of a backend stay within its limits together.
 *
 * **Details**
 *
 * A request waits after it has been prepared (`mapRequest`) and before it is sent. The client fails with `SchedulerError`
 * where the scheduler refuses a request. For a scheduler a host use
 * `HttpClient.transform((effect, request) => Hosts.schedule(new URL(request.url).host, effect))` with a `Scheduler.Keyed`.
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
 *   Funnel.schedule(Users, { hold: "body" }),
 *   HttpClient.retryTransient({ times: 3 })
 * )
 *
 * const program = client.get("http://users.test/7").pipe(Effect.flatMap((response) => response.text))
 *
 * await Effect.runPromise(Effect.provide(program, Users.layer)) // => "you asked for /7"
 * ```
 *
 * @see {@link penalize} for a backend that says when to come back
 * @category combinators
 * @since 0.1.0
 */
export const schedule: {
  /** Sends every request through the scheduler of a tag, so that all clients of a backend stay within its limits together. */
  <Self, Hold extends "headers" | "body" = "headers">(
    scheduler: Context.Key<Self, Scheduler.Scheduler>,
    options?: ScheduleOptions<Hold> | undefined
  ): <E, R>(self: Client<E, R>) => Client<E | ScheduleError<Hold>, R | Self>
  /** Sends every request through the scheduler of a tag, so that all clients of a backend stay within its limits together. */
  <E, R, Self, Hold extends "headers" | "body" = "headers">(
    self: Client<E, R>,
    scheduler: Context.Key<Self, Scheduler.Scheduler>,
    options?: ScheduleOptions<Hold> | undefined
  ): Client<E | ScheduleError<Hold>, R | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self>(
    self: Client<E, R>,
    tag: Context.Key<Self, Scheduler.Scheduler>,
    options: ScheduleOptions = {}
  ): Client<E | ScheduleError<"body">, R | Self> => {
    const { hold = "headers", priority, tokens, weight } = options
    if (hold !== "headers" && hold !== "body") refuse("http.schedule", "hold", `"headers" or "body"`, hold)
    jobOptions("http.schedule", { tokens: given(tokens), weight: given(weight), priority: given(priority) })
    return HttpClient.transform(self, (effect, request) => {
      const held = hold === "body" ? Effect.flatMap(effect, (response) => buffered(response, request)) : effect
      return Effect.flatMap(tag, (scheduler) =>
        scheduler.schedule(held, {
          tokens: resolve(tokens, request),
          weight: resolve(weight, request),
          priority: resolve(priority, request)
        }))
    })
  }
)

// A function is checked once there is a request.
const given = (value: PerRequest<number> | undefined): number | undefined =>
  Predicate.isFunction(value) ? undefined : value

const buffered = (response: Response, request: Request): Effect.Effect<Response, HttpClientError.HttpClientError> =>
  Effect.map(response.arrayBuffer, (bytes) => new BufferedResponse(request, response, Exit.succeed(bytes)))

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
  <Self>(
    reducer: Context.Key<Self, Reducer.Reducer>,
    options?: ReduceOptions | undefined
  ): <E, R>(
    self: Client<E, R> & Reducer.NoScope<R>
  ) => Client<E | HttpClientError.HttpClientError, R | Self>
  /** Lets equal requests that are under way at the same time share one response. */
  <E, R, Self>(
    self: Client<E, R> & Reducer.NoScope<R>,
    reducer: Context.Key<Self, Reducer.Reducer>,
    options?: ReduceOptions | undefined
  ): Client<E | HttpClientError.HttpClientError, R | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self>(
    self: Client<E, R>,
    tag: Context.Key<Self, Reducer.Reducer>,
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
        let role: "joined" | "leads" | "left" = "joined"
        const run = Effect.suspend(() => {
          role = "leads"
          return readOnce(self.postprocess(Effect.succeed(sent)), sent, () => role === "left")
        })
        // Sound: `reduce` requires the same of the client, whose R it is.
        const scopeless = run as typeof run & Reducer.NoScope<R>
        const alone = Effect.flatMap(effect, (response) => buffered(response, request))
        return Effect.flatMap(tag, (reducer) =>
          reducer.reduce([client, asked, ...transportOf(fiber.context)], scopeless).pipe(
            Effect.onInterrupt(() =>
              Effect.sync(() => void (role = "left"))
            ),
            Effect.matchEffect({
              onSuccess: (response): Effect.Effect<Response, E | HttpClientError.HttpClientError, R> => {
                const own = shareOf(response, request)
                return own !== undefined ? Effect.succeed(own) : role === "leads" ? buffered(response, request) : alone
              },
              onFailure: (error) => {
                if (!HttpClientError.isHttpClientError(error)) return Effect.fail(error)
                if (error.response === undefined) return Effect.fail(errorOf(error, request))
                const own = shareOf(error.response, request)
                if (own !== undefined) return Effect.fail(errorOf(error, request, own))
                return role === "leads" ? Effect.fail(error) : alone
              }
            })
          ))
      }))
  }
)

// These select which part of the resource is sent, or whether it is sent at all, so every list of headers contains them.
const selecting = ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"]

/** A request as text; `undefined` for one that is never equal to another. */
const textOf = (request: Request, names: ReadonlyArray<string> | undefined): string | undefined => {
  if ((request.method !== "GET" && request.method !== "HEAD") || request.body._tag !== "Empty") return undefined
  const { accept, upgrade } = request.headers
  if (upgrade !== undefined || accept?.includes("text/event-stream") === true) return undefined
  const url = HttpClientRequest.toUrl(request)
  if (Option.isNone(url)) return undefined
  url.value.hash = ""
  const matter = names ?? Object.keys(request.headers).toSorted()
  return JSON.stringify([request.method, url.value.href, matter.map((name) => [name, request.headers[name]])])
}

/** References that clients of core and of its platforms read in the context of the caller: the answer depends on them. */
const transport: ReadonlyArray<Context.Key<never, unknown> | Context.Key<FetchHttpClient.RequestInit, unknown>> = [
  FetchHttpClient.Fetch,
  FetchHttpClient.RequestInit,
  HttpIncomingMessage.MaxBodySize,
  // By its name: only users of this platform have the package.
  Context.Reference("@effect/platform-node/NodeHttpClient/UndiciOptions", { defaultValue: () => undefined })
]

const transportOf = (context: Context.Context<never>): ReadonlyArray<unknown> =>
  transport.map((key) => Context.getOrUndefined(context, key))

/**
 * Reads the body of a response, or of the response that an error carries, if all callers may have it. Otherwise the caller
 * whose request was sent reads it, so that the others do not wait for it; if that caller has left, it is aborted.
 */
const readOnce = <E, R>(
  effect: Effect.Effect<Response, E, R>,
  sent: Request,
  left: () => boolean
): Effect.Effect<Response, E | HttpClientError.HttpClientError, R> => {
  const unread = (response: Response) =>
    Effect.suspend(() => left() ? Effect.exit(Effect.raceFirst(response.arrayBuffer, Effect.yieldNow)) : Effect.void)
  return effect.pipe(
    Effect.flatMap((response) => isForAll(response) ? buffered(response, sent) : Effect.as(unread(response), response)),
    Effect.catch((error): Effect.Effect<never, E | HttpClientError.HttpClientError> => {
      if (!HttpClientError.isHttpClientError(error) || error.response === undefined) return Effect.fail(error)
      const response = error.response
      return isForAll(response)
        ? Effect.flatMap(
          Effect.exit(response.arrayBuffer),
          (bytes) => Effect.fail(errorOf(error, sent, new BufferedResponse(sent, response, bytes)))
        )
        : Effect.andThen(unread(response), Effect.fail(error))
    })
  )
}

/** Whether a response may be handed to callers whose request was not sent. */
const isForAll = ({ cookies, headers }: Response): boolean =>
  Cookies.isEmpty(cookies) && headers["set-cookie"] === undefined &&
  !namesOf(headers["cache-control"]).some((directive) => directive === "private" || directive === "no-store") &&
  !namesOf(headers["vary"]).includes("*")

/** The response of a run for this request; `undefined` if the request has to be sent by itself. */
const shareOf = (response: Response, request: Request): BufferedResponse | undefined =>
  response instanceof BufferedResponse && isForAll(response) &&
    namesOf(response.headers["vary"]).every((name) => response.request.headers[name] === request.headers[name])
    ? response.of(request)
    : undefined

/** The names in a list such as `private="set-cookie", max-age=60`. */
const namesOf = (list: string | undefined): ReadonlyArray<string> =>
  list === undefined
    ? []
    : list.replace(/"(?:[^"\\]|\\.)*"/g, "").split(",").map((item) => item.split("=")[0]!.trim().toLowerCase())

/**
 * What a response with `Retry-After` costs.
 *
 * **Details**
 *
 * - `key`: the key of the limiter that pays; the default key by default.
 * - `atMost`: the longest penalty, whatever the response asks for; 1 hour by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface PenalizeOptions {
  readonly key?: PerRequest<string> | undefined
  readonly atMost?: Duration.Input | undefined
}

/**
 * Has all users of a limiter wait for as long as the `Retry-After` of a 429 or 503 response says.
 *
 * **Details**
 *
 * All that take their pace from the limiter wait: `schedule` with a scheduler whose rate it is, or
 * `HttpClient.transform((effect) => Api.withLimit(effect))`. Requests that have been sent are not called back. The longest
 * of several penalties counts.
 *
 * `Retry-After` is read as seconds or as an HTTP date; an invalid one is ignored. A `StatusCodeError` with such a response
 * counts too, so `penalize` works behind `filterStatusOk`. Response and error are passed on: to send the request again, put
 * `HttpClient.retryTransient` behind it.
 *
 * **Example** (Coming back when told to)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 * import * as Funnel from "effect-funnel/http"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 *
 * class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 100, window: "1 second", burst: 10 }) {}
 *
 * const backend = HttpClient.make((request) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, new Response("", { status: 429, headers: { "retry-after": "60" } })))
 * )
 *
 * const client = backend.pipe(
 *   Funnel.penalize(Api),
 *   HttpClient.transform((effect) => Api.withLimit(effect, { onExceeded: "fail" }))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const { status } = yield* client.get("http://api.test/")
 *   const refused = yield* Effect.flip(client.get("http://api.test/"))
 *   return [status, refused._tag]
 * })
 *
 * await Effect.runPromise(Effect.provide(program, Api.layer)) // => [429, "RateLimiterError"]
 * ```
 *
 * @see {@link schedule} for requests that wait their turn
 * @category combinators
 * @since 0.1.0
 */
export const penalize: {
  /** Has all users of a limiter wait for as long as the `Retry-After` of a 429 or 503 response says. */
  <Self>(
    limiter: Context.Key<Self, RateLimiter.RateLimiter>,
    options?: PenalizeOptions | undefined
  ): <E, R>(self: Client<E, R>) => Client<E | RateLimiter.RateLimiterError, R | Self>
  /** Has all users of a limiter wait for as long as the `Retry-After` of a 429 or 503 response says. */
  <E, R, Self>(
    self: Client<E, R>,
    limiter: Context.Key<Self, RateLimiter.RateLimiter>,
    options?: PenalizeOptions | undefined
  ): Client<E | RateLimiter.RateLimiterError, R | Self>
} = /*#__PURE__*/ dual(
  isDataFirst,
  <E, R, Self>(
    self: Client<E, R>,
    tag: Context.Key<Self, RateLimiter.RateLimiter>,
    options: PenalizeOptions = {}
  ): Client<E | RateLimiter.RateLimiterError, R | Self> => {
    const atMost = Option.filter(
      Duration.fromInput(options.atMost ?? Duration.hours(1)),
      (duration) => Duration.isGreaterThan(duration, Duration.zero)
    )
    if (Option.isNone(atMost)) {
      return refuse("http.penalize", "atMost", "a duration > 0", options.atMost)
    }
    return HttpClient.transform(self, (effect, request) => {
      const heed = (response: Response | undefined) => {
        const retryAfter = retryAfterOf(response)
        return retryAfter === undefined ? Effect.void : Effect.flatMap(tag, (limiter) =>
          Clock.clockWith((clock) => {
            const delay = Headers.retryAfterDelay(retryAfter, clock.currentTimeMillisUnsafe())
            return Duration.isZero(delay)
              ? Effect.void
              : limiter.penalize({ key: resolve(options.key, request), for: Duration.min(delay, atMost.value) })
          }))
      }
      return effect.pipe(
        Effect.tap(heed),
        Effect.tapError((error) => heed(HttpClientError.isHttpClientError(error) ? error.response : undefined))
      )
    })
  }
)

const retryAfterOf = (response: Response | undefined): Headers.RetryAfter | undefined => {
  if (response === undefined || (response.status !== 429 && response.status !== 503)) return undefined
  const value = response.headers["retry-after"]
  return value === undefined ? undefined : Result.getOrUndefined(Headers.parseRetryAfter(value))
}
