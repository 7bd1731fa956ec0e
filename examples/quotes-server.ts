/**
 * Answers `GET /quote` with a random proverb after 10 to 60 ms, until Ctrl-C. The client is quotes-client.ts. The server
 * prints its address, and at the end the number of its answers and the most requests at once.
 *
 *     npm run example -- quotes-server [port]
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Random } from "effect"
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

let given = 0
let open = 0
let mostOpen = 0

const Quote = HttpRouter.add(
  "GET",
  "/quote",
  Effect.gen(function*() {
    mostOpen = Math.max(mostOpen, ++open)
    yield* Effect.sleep(yield* Random.nextIntBetween(10, 60))
    const quote = yield* Random.choice(quotes)
    given++
    return yield* HttpServerResponse.json(quote)
  }).pipe(Effect.ensuring(Effect.sync(() => open--)))
)

const Tally = Layer.effectDiscard(
  Effect.addFinalizer(() => Console.log(`${given} quotes, at most ${mostOpen} at once`))
)

HttpRouter.serve(Layer.merge(Quote, Tally), { disableLogger: true, disableListenLog: true }).pipe(
  Layer.merge(Layer.effectDiscard(HttpServer.addressFormattedWith((url) => Console.log(`Listening on ${url}`)))),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(process.argv[2] ?? 8080) })),
  Layer.launch,
  NodeRuntime.runMain
)
