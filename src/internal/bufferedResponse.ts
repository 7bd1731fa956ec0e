/**
 * A response whose body was read once and can be read by many, each as often as it likes, and by each in its own way.
 */
import type * as Effect from "effect/Effect"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Inspectable from "effect/Inspectable"
import { pipeArguments } from "effect/Pipeable"

type Response = HttpClientResponse.HttpClientResponse

export class BufferedResponse extends Inspectable.Class implements Response {
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: typeof HttpClientResponse.TypeId

  /** The caller's own, not that of the caller whose request was sent. */
  readonly request: HttpClientRequest
  private readonly original: Response
  private readonly bytes: ArrayBuffer

  constructor(request: HttpClientRequest, original: Response, bytes: ArrayBuffer) {
    super()
    this[HttpIncomingMessage.TypeId] = HttpIncomingMessage.TypeId
    this[HttpClientResponse.TypeId] = HttpClientResponse.TypeId
    this.request = request
    this.original = original
    this.bytes = bytes
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
    return this.body.text
  }

  get json(): Response["json"] {
    return this.body.json
  }

  get urlParamsBody(): Response["urlParamsBody"] {
    return this.body.urlParamsBody
  }

  get formData(): Effect.Effect<FormData, HttpClientError> {
    return this.body.formData
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError> {
    return this.body.arrayBuffer
  }

  get stream(): Response["stream"] {
    return this.body.stream
  }

  get upgrade(): Response["upgrade"] {
    return this.original.upgrade
  }

  /** A copy, made when it is asked for: what one caller does to the bytes is not seen by another. */
  private get body(): Response {
    const contentType = this.headers["content-type"]
    return HttpClientResponse.fromWeb(
      this.request,
      new globalThis.Response(
        this.bytes.byteLength === 0 ? null : this.bytes,
        contentType === undefined ? {} : { headers: { "content-type": contentType } }
      )
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
