/**
 * Sends 2,000 requests to quotes-server.ts, at most 100 at once and 1,000 a second. It draws a progress bar at most every
 * 0.1 s, and prints how many quotes came from each source.
 *
 *     npm run example -- quotes-client [url]
 */
import { NodeHttpClient, NodeRuntime } from "@effect/platform-node"
import cliProgress from "cli-progress"
import { Array, Console, Effect, Schema } from "effect"
import { Scheduler } from "effect-funnel"
import { HttpClient, HttpClientResponse } from "effect/http"

const url = `${process.argv[2] ?? "http://127.0.0.1:8080"}/quote`
const Quote = Schema.Struct({ from: Schema.String, text: Schema.String })

const bar = Effect.acquireRelease(
  Effect.sync(() => {
    const drawn = new cliProgress.SingleBar({ format: "{bar} {value}/{total}  {rate}/s", fps: 10, gracefulExit: false })
    drawn.start(2000, 0, { rate: 0 })
    return drawn
  }),
  (drawn) => Effect.sync(() => drawn.stop())
)

const program = Effect.gen(function*() {
  const client = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
  const ask = Effect.flatMap(client.get(url), HttpClientResponse.schemaBodyJson(Quote))

  const quotes = yield* Effect.scoped(
    Effect.flatMap(bar, (drawn) =>
      Scheduler.forEach(Array.range(1, 2000), () => ask, {
        onProgress: ({ done, rate }) => drawn.update(done, { rate: rate.toFixed(0) })
      }))
  )

  for (const [from, some] of Object.entries(Array.groupBy(quotes, (quote) => quote.from))) {
    yield* Console.log(`${from}: ${some.length}`)
  }
})

program.pipe(
  Effect.provide([
    Scheduler.layer({ concurrency: 100, rate: { limit: 1000, window: "1 second" } }),
    NodeHttpClient.layerUndiciOptions({ connections: 100 })
  ]),
  NodeRuntime.runMain
)
