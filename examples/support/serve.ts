/**
 * Starts the servers that the examples call.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"

/** Serves routes on a free port of the loopback interface until the scope closes, and returns the address. */
export const serve = <E, R>(routes: Layer.Layer<never, E, R>) =>
  HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
    // A router of its own for each server.
    Layer.fresh,
    Layer.build,
    Effect.flatMap((server) => Effect.provideContext(HttpServer.addressFormattedWith(Effect.succeed), server))
  )
