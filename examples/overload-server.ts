/**
 * A server that stays useful when more is asked than it can do, until SIGTERM or Ctrl-C. A client may ask 60 times a minute,
 * in bursts of 60: beyond that it gets 429. At most 20 requests run at once, and none waits longer than half a second: the
 * others get 503. On SIGTERM newcomers get 503 and all that were accepted get their answer; then the process exits with 0.
 *
 *     npm run example -- overload-server [port]
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Layer } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

class Clients extends RateLimiter.Service<Clients>()("app/Clients", { limit: 60, window: "1 minute", burst: 60 }) {}
class Server extends Scheduler.Service<Server>()("app/Server", {
  concurrency: 20,
  maxWait: "500 millis",
  shed: true
}) {}

const perClient = HttpRouter.middleware(
  Effect.map(
    Clients,
    (clients) => Funnel.limit(clients, { key: (request) => request.headers["x-api-key"] ?? "nobody" })
  )
)
const inAll = HttpRouter.middleware(Effect.map(Server, (server) => Funnel.limit(server)))

let served = 0
const Report = HttpRouter.add(
  "GET",
  "/report",
  Effect.sleep("50 millis").pipe(
    Effect.andThen(Effect.sync(() => HttpServerResponse.text(`report ${++served}`)))
  )
).pipe(Layer.provide(inAll.combine(perClient).layer))

// The last layer to open is the first to close: the server still listens, so newcomers get their 503.
const Goodbye = Layer.effectDiscard(
  Effect.addFinalizer(() =>
    Server.drain({ timeout: "10 seconds" }).pipe(Effect.andThen(() => Console.log(`Served ${served}`)))
  )
)

Layer.effectDiscard(HttpServer.addressFormattedWith((url) => Console.log(`Listening on ${url}`))).pipe(
  Layer.provideMerge(Goodbye),
  Layer.provideMerge(HttpRouter.serve(Report, { disableLogger: true, disableListenLog: true })),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(process.argv[2] ?? 8080) })),
  Layer.provide([Clients.layer, Server.layer]),
  Layer.launch,
  // An end that was asked for is no failure.
  NodeRuntime.runMain({
    teardown: (exit, end) => end(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  })
)
