/**
 * A response whose body was read once. Many callers can read it, each as often and in the way it likes.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import {
  DecodeError,
  EmptyBodyError,
  EncodeError,
  HttpClientError,
  InvalidUrlError,
  StatusCodeError,
  TransportError
} from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Inspectable from "effect/Inspectable"
import { pipeArguments } from "effect/Pipeable"
import * as Stream from "effect/Stream"

type Response = HttpClientResponse.HttpClientResponse

export class BufferedResponse extends Inspectable.Class implements Response {
  // Computed fields would keep the class, and all that it imports, in programs that never make one.
  declare readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId
  declare readonly [HttpClientResponse.TypeId]: typeof HttpClientResponse.TypeId

  /** The caller's own, not that of the caller whose request was sent. */
  readonly request: HttpClientRequest
  private readonly original: Response
  /** Fails where the body broke off. */
  private readonly bytes: Exit.Exit<ArrayBuffer, HttpClientError>

  constructor(request: HttpClientRequest, original: Response, bytes: Exit.Exit<ArrayBuffer, HttpClientError>) {
    super()
    this[HttpIncomingMessage.TypeId] = HttpIncomingMessage.TypeId
    this[HttpClientResponse.TypeId] = HttpClientResponse.TypeId
    this.request = request
    this.original = original
    this.bytes = bytes
  }

  /** The same response to the request of another caller. */
  of(request: HttpClientRequest): BufferedResponse {
    return new BufferedResponse(request, this.original, this.bytes)
  }

  get url(): string {
    return this.original.url
  }

  get status(): number {
    return this.original.status
  }

  get headers(): Response["headers"] {
    return this.original.headers
  }

  get cookies(): Response["cookies"] {
    return this.original.cookies
  }

  get remoteAddress(): Response["remoteAddress"] {
    return this.original.remoteAddress
  }

  get text(): Effect.Effect<string, HttpClientError> {
    return this.read((body) => body.text)
  }

  get json(): Response["json"] {
    return this.read((body) => body.json)
  }

  get urlParamsBody(): Response["urlParamsBody"] {
    return this.read((body) => body.urlParamsBody)
  }

  get formData(): Effect.Effect<FormData, HttpClientError> {
    return this.read((body) => body.formData)
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError> {
    return this.read((body) => body.arrayBuffer)
  }

  get stream(): Response["stream"] {
    return Stream.unwrap(
      this.read((body) =>
        Effect.map(
          body.arrayBuffer,
          (bytes) => bytes.byteLength === 0 ? Stream.empty : Stream.make(new Uint8Array(bytes))
        )
      )
    )
  }

  get upgrade(): Response["upgrade"] {
    return this.original.upgrade
  }

  /** Reads from a new copy each time, so that no caller sees how another one changes the bytes. */
  private read<A>(f: (body: Response) => Effect.Effect<A, HttpClientError>): Effect.Effect<A, HttpClientError> {
    const init = { headers: { "content-type": this.headers["content-type"] ?? "" } }
    return this.bytes.pipe(
      Effect.flatMap((bytes) => f(HttpClientResponse.fromWeb(this.request, new globalThis.Response(bytes, init)))),
      // The copy has the bytes and nothing else: an error carries this response.
      Effect.mapError((error) => errorOf(error, this.request, this))
    )
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "effect-funnel/BufferedResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }

  pipe() {
    return pipeArguments(this, arguments)
  }
}

// One by one: the module as a whole keeps its schema, and with it all of `effect/Schema`.
const withoutResponse = { TransportError, EncodeError, InvalidUrlError }
const withResponse = { StatusCodeError, DecodeError, EmptyBodyError }

/** The error with the request, and the response if there is one, of the caller that gets it. */
export const errorOf = (error: HttpClientError, request: HttpClientRequest, response?: Response): HttpClientError => {
  const { cause, description } = error.reason
  const details = {
    request,
    ...(cause === undefined ? {} : { cause }),
    ...(description === undefined ? {} : { description })
  }
  switch (error.reason._tag) {
    case "TransportError":
    case "EncodeError":
    case "InvalidUrlError":
      return new HttpClientError({ reason: new withoutResponse[error.reason._tag](details) })
    default:
      return new HttpClientError({
        reason: new withResponse[error.reason._tag]({ ...details, response: response ?? error.reason.response })
      })
  }
}
