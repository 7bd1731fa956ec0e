/**
 * The metrics as a backend gets them: scraped from a real Prometheus endpoint, and sent over OTLP to a real server.
 */
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Queue } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Metrics from "effect-funnel/Metrics"
import { HttpClient, HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import type { HttpServerRequest } from "effect/http"
import { OtlpExporter, OtlpMetrics, OtlpSerialization, PrometheusMetrics } from "effect/observability"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { fork } from "./support/fibers.ts"
import { withRegistry } from "./support/metrics.ts"

class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 4, maxQueued: 50 }) {}
class Users extends Reducer.Service<Users>()("app/Users") {}
class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 1000, window: "1 second", burst: 1000 }) {}

const services = Layer.mergeAll(GitHub.layer, Users.layer, Api.layer).pipe(Layer.provide(Metrics.layer))

const serve = <A, E, R>(routes: Layer.Layer<A, E, R>) =>
  HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
  )

/** The samples of a page of Prometheus, by name and labels. */
const samplesOf = (page: string): ReadonlyMap<string, number> =>
  new Map(
    page.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
      const at = line.lastIndexOf(" ")
      return [line.slice(0, at), Number(line.slice(at + 1))]
    })
  )

describe("Metrics, exported", () => {
  it.live("a Prometheus endpoint has under load what `stats` and `inFlight` tell", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const scrape = HttpServer.addressFormattedWith((url) =>
        HttpClient.get(`${url}/metrics`).pipe(Effect.flatMap((_) => _.text), Effect.map(samplesOf))
      )
      const work = (i: number) =>
        Api.withLimit(Users.reduce(i % 10, Effect.andThen(Effect.sleep("1 millis"), Deferred.await(gate))))
      const jobs = yield* Effect.forEach(Array.from({ length: 60 }, (_, i) => i), (i) =>
        fork(Effect.exit(GitHub.schedule(work(i)))))
      yield* Effect.sleep("20 millis")
      const stats = yield* GitHub.stats
      const samples = yield* scrape
      const github = (id: string) =>
        samples.get(`effect_funnel_scheduler_${id}{name="app/GitHub"}`)
      assert.strictEqual(github("limit"), stats.concurrency)
      assert.strictEqual(github("running"), stats.running)
      assert.strictEqual(github("weight"), stats.weight)
      assert.strictEqual(github("queued"), stats.queued)
      assert.isAtLeast(github("oldest_wait")!, Duration.toSeconds(stats.oldestWait))
      assert.deepStrictEqual([stats.running, stats.queued], [4, 50])
      assert.strictEqual(samples.get(`effect_funnel_scheduler_refused{name="app/GitHub",reason="queue_full"}`), 6)
      assert.strictEqual(
        samples.get(`effect_funnel_reducer_in_flight{name="app/Users"}`),
        (yield* Users.inFlight).length
      )

      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.joinAll(jobs)
      const after = yield* scrape
      const at = (labels: string) => after.get(`effect_funnel_${labels}`)
      assert.strictEqual(at(`scheduler_running{name="app/GitHub"}`), 0)
      assert.strictEqual(at(`scheduler_use_time_count{name="app/GitHub",outcome="success"}`), 54)
      assert.strictEqual(at(`scheduler_use_time_bucket{name="app/GitHub",outcome="success",le="+Inf"}`), 54)
      assert.strictEqual(at(`scheduler_wait_time_count{name="app/GitHub",outcome="started"}`), 54)
      assert.strictEqual(at(`scheduler_wait_time_count{name="app/GitHub",outcome="refused"}`), 6)
      assert.strictEqual(at(`ratelimiter_decisions{name="app/Api",outcome="admitted"}`), 54)
      const [started, joined] = ["started", "joined"].map((_) => at(`reducer_calls{name="app/Users",outcome="${_}"}`)!)
      assert.strictEqual(started! + joined!, 54)
      assert.strictEqual(at(`reducer_run_time_count{name="app/Users",outcome="success"}`), started)
      assert.isBelow(at(`scheduler_use_time_sum{name="app/GitHub",outcome="success"}`)!, 60)
    }).pipe(
      Effect.provide([services, serve(PrometheusMetrics.layerHttp()), NodeHttpClient.layerUndici]),
      withRegistry
    ))

  it.live("a server of OTLP receives each metric with its kind, its bounds and its attributes", () =>
    Effect.gen(function*() {
      const received = yield* Queue.unbounded<any>()
      const collector = HttpRouter.add(
        "POST",
        "/v1/metrics",
        (request: HttpServerRequest.HttpServerRequest) =>
          Effect.gen(function*() {
            yield* Queue.offer(received, yield* request.json)
            return HttpServerResponse.empty()
          })
      )
      yield* HttpServer.addressFormattedWith((url) =>
        Effect.gen(function*() {
          yield* GitHub.schedule(Effect.sleep("2 millis"))
          yield* fork(GitHub.schedule(Effect.never))
          const body = yield* Queue.take(received)
          const metrics: ReadonlyArray<any> = body.resourceMetrics[0].scopeMetrics[0].metrics
          const named = (id: string) => metrics.find(({ name }) => name === `effect_funnel.${id}`)
          assert.strictEqual(named("scheduler.running").gauge.dataPoints[0].asDouble, 1)
          assert.strictEqual(named("scheduler.limit").gauge.dataPoints[0].asDouble, 4)
          assert.isTrue(named("scheduler.refused").sum.isMonotonic)
          const used = named("scheduler.use_time").histogram.dataPoints.find((point: any) =>
            point.attributes.some((_: any) => _.key === "outcome" && _.value.stringValue === "success")
          )
          assert.deepInclude(used.attributes, { key: "name", value: { stringValue: "app/GitHub" } })
          assert.strictEqual(used.count, 1)
          assert.strictEqual(used.bucketCounts.length, used.explicitBounds.length + 1)
          assert.deepStrictEqual([used.explicitBounds[0], used.explicitBounds.at(-1)], [0.005, 10])
          // OTLP has no number for what is infinite or no number.
          assert.notInclude(JSON.stringify(body), "null")
        }).pipe(Effect.provide(
          OtlpMetrics.layer({
            resource: { serviceName: "test" },
            url: `${url}/v1/metrics`,
            exportInterval: "50 millis"
          }).pipe(
            Layer.provide([OtlpSerialization.layerJson, NodeHttpClient.layerUndici, OtlpExporter.layerFlusher]),
            Layer.provideMerge(services)
          )
        ))
      ).pipe(Effect.provide(serve(collector)))
    }).pipe(withRegistry))
})

describe("docs/observability.md", () => {
  const page = readFileSync(new URL("../docs/observability.md", import.meta.url), "utf8")

  it("its table names each metric, and its panels and alerts use no other", () => {
    const table = Array.from(
      page.matchAll(/^\| `((?:scheduler|ratelimiter|reducer|batcher|retry_budget|store)\.\w+)`/gm)
    )
    const named = table.map(([, id]) => `effect_funnel_${id!.replaceAll(".", "_")}`)
    assert.deepStrictEqual(named.map((id) => id.replace("effect_funnel_", "")).sort(), known)
    const used = Array.from(
      page.slice(page.indexOf("## Alerts")).matchAll(/effect_funnel_\w+/g),
      ([id]) => id.replace(/_(bucket|sum|count)$/, "")
    )
    assert.deepStrictEqual(used.filter((id) => !named.includes(id)), [])
  })

  it("the dashboard is JSON with six rows", () => {
    const { panels } = JSON.parse(/```json\n([^]*?)```/.exec(page)![1]!) as { panels: ReadonlyArray<{ type: string }> }
    assert.lengthOf(panels.filter(({ type }) => type === "row"), 6)
  })
})

/** The contract: a name that changes breaks somebody's dashboard. */
const known = [
  "batcher_batch_size",
  "batcher_requests",
  "batcher_run_time",
  "batcher_wait_time",
  "ratelimiter_decisions",
  "ratelimiter_penalties",
  "ratelimiter_penalty",
  "ratelimiter_wait_time",
  "reducer_calls",
  "reducer_in_flight",
  "reducer_run_time",
  "retry_budget_denied",
  "retry_budget_tokens",
  "scheduler_limit",
  "scheduler_oldest_wait",
  "scheduler_penalties",
  "scheduler_queued",
  "scheduler_refused",
  "scheduler_running",
  "scheduler_use_time",
  "scheduler_wait_time",
  "scheduler_weight",
  "store_commands",
  "store_errors",
  "store_policy"
]
