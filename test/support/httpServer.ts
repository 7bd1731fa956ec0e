/**
 * A real HTTP server on the loopback address, and a client with connections of its own.
 */
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import { Reducer } from "effect-funnel"
import { HttpClient, HttpClientRequest, HttpRouter, HttpServer } from "effect/http"
import type { HttpServerRequest, HttpServerResponse } from "effect/http"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"

type Client = HttpClient.HttpClient
type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

/** A real server that answers with `handler`, a client with its own connections, and a Reducer. */
export const withServer = <Eff extends Effect.Effect<any, any, any>, A>(
  handler: (request: Request) => Effect.Effect<Response>,
  use: (client: Client) => Generator<Eff, A, never>,
  transport: Layer.Layer<Client> = NodeHttpClient.layerUndici
) =>
  HttpServer.addressFormattedWith((url) =>
    HttpClient.HttpClient.use((client) =>
      Effect.gen(() => use(HttpClient.mapRequest(client, HttpClientRequest.prependUrl(url))))
    ).pipe(Effect.provide([transport, Reducer.layer()]))
  ).pipe(
    Effect.provide(
      HttpRouter.serve(HttpRouter.add("*", "/*", handler), { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
      )
    )
  )
