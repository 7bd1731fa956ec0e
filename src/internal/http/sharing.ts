/**
 * Which requests are equal, and which responses their callers may share.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cookies from "effect/http/Cookies"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Option from "effect/Option"
import { BufferedResponse, errorOf } from "./bufferedResponse.js"

type Request = HttpClientRequest.HttpClientRequest
type Response = HttpClientResponse.HttpClientResponse

export const buffered = (
  response: Response,
  request: Request
): Effect.Effect<Response, HttpClientError.HttpClientError> =>
  Effect.map(response.arrayBuffer, (bytes) => new BufferedResponse(request, response, Exit.succeed(bytes)))

// These select which part of the resource is sent, or whether it is sent at all, so every list of headers contains them.
export const selecting = ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"]

/** A request as text; `undefined` for one that is never equal to another. */
export const textOf = (request: Request, names: ReadonlyArray<string> | undefined): string | undefined => {
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

export const transportOf = (context: Context.Context<never>): ReadonlyArray<unknown> =>
  transport.map((key) => Context.getOrUndefined(context, key))

/** A caller, whose request may be the one that is sent: then a response that the others must not have is its own. */
export class Lead {
  /** Whether its request was sent. */
  leads = false
  private left = false
  private response: Response | undefined = undefined

  give(response: Response): Effect.Effect<void> {
    this.response = response
    return this.left ? this.leave : Effect.void
  }

  /** It does not read its response, which is aborted. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    this.left = true
    return this.response === undefined
      ? Effect.void
      : Effect.asVoid(Effect.exit(Effect.raceFirst(this.response.arrayBuffer, Effect.yieldNow)))
  })
}

/**
 * Reads the body of a response, or of the response that an error carries. With a lead only if all callers may have it:
 * otherwise the caller whose request was sent reads it, so that the others do not wait for it.
 */
export const readOnce = <E, R>(
  effect: Effect.Effect<Response, E, R>,
  sent: Request,
  lead?: Lead
): Effect.Effect<Response, E | HttpClientError.HttpClientError, R> =>
  effect.pipe(
    Effect.flatMap((response) =>
      lead === undefined || isForAll(response)
        ? buffered(response, sent)
        : Effect.as(lead.give(response), response)
    ),
    Effect.catch((error): Effect.Effect<never, E | HttpClientError.HttpClientError> => {
      if (!HttpClientError.isHttpClientError(error) || error.response === undefined) return Effect.fail(error)
      const response = error.response
      if (lead !== undefined && !isForAll(response)) return Effect.andThen(lead.give(response), Effect.fail(error))
      return Effect.flatMap(
        Effect.exit(response.arrayBuffer),
        (bytes) => Effect.fail(errorOf(error, sent, new BufferedResponse(sent, response, bytes)))
      )
    })
  )

/** Whether a response may be handed to callers whose request was not sent. */
const isForAll = ({ cookies, headers }: Response): boolean =>
  Cookies.isEmpty(cookies) && headers["set-cookie"] === undefined &&
  !namesOf(headers["cache-control"]).some((directive) => directive === "private" || directive === "no-store") &&
  !namesOf(headers["vary"]).includes("*")

/** The response of a run for this request; `undefined` if the request has to be sent by itself. */
export const shareOf = (response: Response, request: Request): BufferedResponse | undefined =>
  response instanceof BufferedResponse && isForAll(response) &&
    namesOf(response.headers["vary"]).every((name) => response.request.headers[name] === request.headers[name])
    ? response.of(request)
    : undefined

/** The names in a list such as `private="set-cookie", max-age=60`. */
const namesOf = (list: string | undefined): ReadonlyArray<string> =>
  list === undefined
    ? []
    : list.replace(/"(?:[^"\\]|\\.)*"/g, "").split(",").map((item) => item.split("=")[0]!.trim().toLowerCase())
