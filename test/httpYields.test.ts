import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Funnel from "effect-funnel/http"
import { HttpClient, HttpClientResponse } from "effect/http"
import { MaxOpsBeforeYield } from "effect/Scheduler"

class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 1000, window: "1 second", burst: 100 }) {}

describe("clients whose fibers yield after every few operations", () => {
  it.live("every request gets its response, scheduled, reduced and penalized", () =>
    Effect.gen(function*() {
      const backend = HttpClient.make((request, url) =>
        Effect.as(Effect.yieldNow, HttpClientResponse.fromWeb(request, new Response(url.pathname)))
      )
      const client = backend.pipe(
        Funnel.penalize(Api),
        Funnel.schedule(Scheduler.Scheduler, { hold: "body" }),
        Funnel.reduce(Reducer.Reducer)
      )
      const paths = ["/a", "/b", "/a", "/c", "/b"]
      const texts = Effect.forEach(
        paths,
        (path) => Effect.flatMap(client.get(`http://test${path}`), (response) => response.text),
        { concurrency: "unbounded" }
      )
      for (let n = 3; n <= 60; n += 3) {
        const got = yield* Effect.timeout(Effect.provideService(texts, MaxOpsBeforeYield, n), "5 seconds")
        expect(got).toEqual(paths)
        expect(yield* Scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
        expect(yield* Reducer.inFlight).toEqual([])
      }
    }).pipe(Effect.provide(Layer.mergeAll(Api.layer, Reducer.layer(), Scheduler.layer({ concurrency: 1 })))))
})
