/**
 * The HTTP server, on the loopback interface and a free port.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { createServer } from "node:http"
import { Api, Statistics } from "./api.ts"
import { Catalog } from "./catalog.ts"
import { Database } from "./database.ts"

const Handlers = HttpApiBuilder.group(
  Api,
  "packages",
  Effect.fn(function*(handlers) {
    const catalog = yield* Catalog
    const database = yield* Database
    return handlers.handleAll({
      find: ({ params }) => catalog.find(params.name).pipe(Effect.catchTag("DatabaseError", Effect.die)),
      authors: ({ params }) => catalog.authors(params.name).pipe(Effect.catchTag("DatabaseError", Effect.die)),
      statistics: () =>
        Effect.zipWith(
          catalog.effects,
          database.statistics,
          (effects, { mostAtOnce, queries }) => new Statistics({ effects, queries, mostQueriesAtOnce: mostAtOnce })
        )
    })
  })
)

/** Serves a catalog over a database, and other routes; the `HttpServer` it provides knows the address. */
export const layerWith = <R>(routes: Layer.Layer<never, never, R>) =>
  HttpRouter.serve(HttpApiBuilder.layer(Api).pipe(Layer.provide(Handlers), Layer.merge(routes)), {
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
  )

export const layer = layerWith(Layer.empty)
