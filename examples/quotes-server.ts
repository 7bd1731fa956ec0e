/**
 * A server that answers `GET /quote` with a random proverb after 10 to 60 ms, until Ctrl-C.
 * It prints its address; ask it with quotes-client.ts.
 *
 *     npm run build && node examples/quotes-server.ts [port]
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Random } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

const quotes = [
  { from: "Japan", text: "Fall seven times, stand up eight." },
  { from: "Italy", text: "Between saying and doing lies the sea." },
  { from: "Ethiopia", text: "When spiders unite, they can tie down a lion." },
  { from: "Germany", text: "One swallow does not make a summer." },
  { from: "China", text: "Distant water does not put out a near fire." },
  { from: "Poland", text: "A guest sees more in an hour than the host in a year." }
] as const

const Quote = HttpRouter.add(
  "GET",
  "/quote",
  Effect.gen(function*() {
    yield* Effect.sleep(yield* Random.nextIntBetween(10, 60))
    return yield* HttpServerResponse.json(yield* Random.choice(quotes))
  })
)

HttpRouter.serve(Quote, { disableLogger: true, disableListenLog: true }).pipe(
  HttpServer.withLogAddress,
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(process.argv[2] ?? 8080) })),
  Layer.launch,
  NodeRuntime.runMain
)
