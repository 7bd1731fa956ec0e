/**
 * Asks quotes-server.ts 2,000 times, politely: at most 100 requests at once and 1,000 a second. Draws a progress bar at
 * most every 0.1 s, and prints how many quotes came from where, in the order in which they were first seen.
 *
 *     node examples/quotes-client.ts [url]
 */
import { NodeHttpClient, NodeRuntime } from "@effect/platform-node"
import cliProgress from "cli-progress"
import { Array, Console, Effect, Schema } from "effect"
import { Scheduler } from "effect-funnel"
import { HttpClient, HttpClientResponse } from "effect/http"

const url = `${process.argv[2] ?? "http://127.0.0.1:8080"}/quote`
const Quote = Schema.Struct({ from: Schema.String, text: Schema.String })

const Bar = Effect.acquireRelease(
  Effect.sync(() => {
    const bar = new cliProgress.SingleBar({ format: "{bar} {value}/{total}  {rate}/s", fps: 10, gracefulExit: false })
    bar.start(2000, 0, { rate: 0 })
    return bar
  }),
  (bar) => Effect.sync(() => bar.stop())
)

const program = Effect.gen(function*() {
  const client = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
  const ask = Effect.flatMap(client.get(url), HttpClientResponse.schemaBodyJson(Quote))

  const quotes = yield* Effect.scoped(Effect.flatMap(Bar, (bar) =>
    Scheduler.forEach(Array.range(1, 2000), () => ask, {
      onProgress: ({ done, rate }) => bar.update(done, { rate: rate.toFixed(0) })
    })))

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
