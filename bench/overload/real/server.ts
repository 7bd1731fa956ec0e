/**
 * A real HTTP server with ten workers and a queue without end, in a process of its own. It tells its parent the port, and ends
 * with it.
 *
 *     GET /work?takes=40      is answered by a worker after so many milliseconds
 *     GET /silence?for=1000   from now on, and for so long, all requests get a 429 with Retry-After: 1
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Clock, Effect, Layer, Semaphore } from "effect"
import { HttpRouter, HttpServer, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import { width } from "../callers.ts"

const workers = Semaphore.makeUnsafe(width)
let silentUntil = 0

const parameter = (request: HttpServerRequest.HttpServerRequest, name: string) =>
  Number(new URL(request.url, "http://server").searchParams.get(name))

const routes = Layer.merge(
  HttpRouter.add("GET", "/work", (request) =>
    Effect.gen(function*() {
      if ((yield* Clock.currentTimeMillis) < silentUntil) {
        return HttpServerResponse.empty({ status: 429, headers: { "retry-after": "1" } })
      }
      yield* workers.withPermit(Effect.sleep(parameter(request, "takes")))
      return HttpServerResponse.empty()
    })),
  HttpRouter.add("GET", "/silence", (request) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      silentUntil = now + parameter(request, "for")
      return HttpServerResponse.empty()
    }))
)

const tellPort = Effect.map(HttpServer.HttpServer, ({ address }) => {
  if (address._tag !== "UnixPathAddress") process.send!(address.port)
})

process.on("disconnect", () => process.exit(0))
NodeRuntime.runMain(Layer.launch(
  Layer.mergeAll(
    HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }),
    Layer.effectDiscard(tellPort)
  )
    .pipe(Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })))
))
