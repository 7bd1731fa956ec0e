/**
 * An API gateway in front of an upstream that answers 20 requests a second, and 429 to all others. 200 clients ask for the
 * weather of 30 cities at once: first the upstream itself, then the gateway, which sends one request for each city, and no more
 * than 20 in any second.
 *
 * Recorded: the upstream alone answers 20 of the 200 clients and refuses 180. Through the gateway all are answered, by 30
 * requests.
 *
 * `npm run example -- gateway` prints:
 *
 *     upstream alone:    … answered, … refused, 200 requests upstream
 *     with the gateway:  200 answered, 0 refused, … requests upstream
 */
import { NodeHttpClient } from "@effect/platform-node"
import { Array, Clock, Console, Effect, Layer } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpClient, HttpRouter, HttpServerResponse } from "effect/http"
import { serve } from "./support/serve.ts"

// The upstream. Its limit is a budget for each second, as of many APIs.
let requests = 0
let recent: ReadonlyArray<number> = []
const Upstream = HttpRouter.add(
  "GET",
  "/weather/:city",
  Effect.gen(function*() {
    const { city } = yield* HttpRouter.params
    const now = yield* Clock.currentTimeMillis
    requests++
    recent = recent.filter((at) => at > now - 1000)
    if (recent.length >= 20) return HttpServerResponse.empty({ status: 429, headers: { "retry-after": "1" } })
    recent = [...recent, now]
    yield* Effect.sleep("200 millis")
    return HttpServerResponse.jsonUnsafe({ city, weather: "fair" })
  })
)

// The gateway. A burst of 5 and 15 a second are at most 20 in any second.
class Rate extends RateLimiter.Service<Rate>()("app/Rate", { limit: 15, window: "1 second", burst: 5 }) {}
class Weather
  extends Scheduler.Service<Weather>()("app/Weather", { concurrency: 5, rate: Rate, maxWait: "10 seconds" })
{}

const gateway = (upstream: string) =>
  Layer.unwrap(Effect.gen(function*() {
    const client = (yield* HttpClient.HttpClient).pipe(
      Funnel.penalize(Rate), // a 429 that comes nevertheless holds all callers back
      Funnel.schedule(Weather),
      HttpClient.retryTransient({ times: 3 }),
      Funnel.reduce(Reducer.Reducer) // equal requests in flight share one answer
    )
    const services = yield* Effect.context<Rate | Weather | Reducer.Reducer>()
    const forward = Effect.gen(function*() {
      const { city = "" } = yield* HttpRouter.params
      const response = yield* client.get(`${upstream}/weather/${city}`)
      return HttpServerResponse.text(yield* response.text, { status: response.status })
    }).pipe(
      Effect.catchTag(
        ["HttpClientError", "SchedulerError", "RateLimiterError"],
        () => Effect.succeed(HttpServerResponse.empty({ status: 503 }))
      ),
      Effect.provideContext(services)
    )
    return HttpRouter.add("GET", "/weather/:city", forward)
  })).pipe(Layer.provide([Layer.provideMerge(Weather.layer, Rate.layer), Reducer.layer()]))

// The clients.
const ask = Effect.fnUntraced(function*(title: string, url: string) {
  requests = 0
  const client = yield* HttpClient.HttpClient
  const responses = yield* Effect.forEach(
    Array.range(1, 200),
    (n) => client.get(`${url}/weather/city-${n % 30}`),
    { concurrency: "unbounded" }
  )
  const answered = responses.filter((response) => response.status === 200).length
  const refused = responses.length - answered
  yield* Console.log(`${title} ${answered} answered, ${refused} refused, ${requests} requests upstream`)
})

const program = Effect.gen(function*() {
  const upstream = yield* serve(Upstream)
  yield* ask("upstream alone:   ", upstream)
  yield* Effect.sleep("1 second") // the next second's budget
  yield* ask("with the gateway: ", yield* serve(gateway(upstream)))
})

await Effect.runPromise(program.pipe(Effect.provide(NodeHttpClient.layerUndici), Effect.scoped))
