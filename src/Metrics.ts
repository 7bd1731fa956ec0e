/**
 * Shows what the services do, in metrics, on spans and in logs.
 *
 * **When to use**
 *
 * Use it in every service that runs in production: the metrics tell at one glance what stands in the way. Export them as
 * those of your own program, with core's `PrometheusMetrics` or `OtlpMetrics`.
 *
 * **Details**
 *
 * Provide {@link layer} to the layers of the services. A service that is built below it has series, under the id of its tag or the
 * `name` in its options, for as long as its scope is open. Services of one name share their series. Keys, shares and tenants are
 * never attributes. `docs/observability.md` lists the metrics, with panels and alerts.
 *
 * | name, after `effect_funnel.`                                          | kind           | attributes besides `name` |
 * | ---------------------------------------------------------------------- | -------------- | ------------------------- |
 * | `scheduler.limit`, `.running`, `.weight`, `.queued`, `.oldest_wait`    | gauge          |                           |
 * | `scheduler.wait_time`                                                  | histogram      | `outcome`                 |
 * | `scheduler.use_time`                                                   | histogram      | `outcome`                 |
 * | `scheduler.refused`                                                    | counter        | `reason`                  |
 * | `scheduler.penalties`, `ratelimiter.penalties`                         | counter        |                           |
 * | `ratelimiter.decisions`                                                | counter        | `outcome`                 |
 * | `ratelimiter.wait_time`, `ratelimiter.penalty`                         | histogram, gauge |                         |
 * | `reducer.calls`, `reducer.run_time`                                    | counter, histogram | `outcome`             |
 * | `reducer.in_flight`                                                    | gauge          |                           |
 * | `batcher.requests`                                                     | counter        | `outcome`                 |
 * | `batcher.batch_size`, `.wait_time`, `.run_time`                        | histogram      |                           |
 * | `retry_budget.tokens`, `retry_budget.denied`                           | gauge, counter |                           |
 * | `store.commands`, `store.errors` (`service` instead of `name`)         | histogram, counter | `operation`           |
 * | `store.policy` (`service` instead of `name`; also without the layer)   | counter        | `policy`                  |
 *
 * Gauges are read when they are exported. Times are in seconds. Within a turn of the event loop the time may stand still, so
 * a job that ends in the step in which it started has a time of 0.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import { logs } from "./internal/seen/logs.js"
import { meter } from "./internal/seen/meter.js"
import { Meter } from "./internal/seen/seen.js"
import { spans } from "./internal/seen/spans.js"
import { Logging, Tracing } from "./internal/seen/tell.js"

/**
 * Keeps the metrics of all services that are built below it.
 *
 * **Details**
 *
 * The series are in core's `Metric.MetricRegistry` of the place where a service is built, with the attributes of
 * `Metric.CurrentMetricAttributes` there; where two have the same name, that of the table above counts. Without the layer
 * nothing is counted. With it a job costs a few additions.
 *
 * **Gotchas**
 *
 * A limiter or a retry budget from `make` has series only in a scope: while that scope is open.
 *
 * **Example** (Seeing a scheduler)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Metrics from "effect-funnel/Metrics"
 * import { PrometheusMetrics } from "effect/observability"
 *
 * class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 10 }) {}
 *
 * const program = GitHub.schedule(PrometheusMetrics.format())
 *
 * const page = await Effect.runPromise(Effect.provide(program, Layer.provide(GitHub.layer, Metrics.layer)))
 * const lines = page.split("\n")
 * lines.includes(`effect_funnel_scheduler_running{name="app/GitHub"} 1`) // => true
 * lines.includes(`effect_funnel_scheduler_limit{name="app/GitHub"} 10`) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = /*#__PURE__*/ Layer.succeed(Meter, meter)

/**
 * Puts the waits of callers on their spans, and gives each run and each batch a span of its own.
 *
 * **Details**
 *
 * - A caller of `Scheduler.schedule`, `RateLimiter.withLimit` or `consume` that had to wait gets an event
 *   `effect_funnel.wait` on its span. Its attributes are the `name` of the service, the milliseconds that it `waited`, what it
 *   waited `for` the longest (`width`, `rate`, `penalty` or `pause`), and the milliseconds of each of these.
 * - The run of `Reducer.reduce` has a span named after its service, as the run of a function has: it links to the spans of
 *   the callers that join it, 128 at most, and these link to it.
 * - A batch has a span that links to its callers, also where its resolver has no name.
 *
 * **Example** (Seeing why a call was slow)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Tracer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Metrics from "effect-funnel/Metrics"
 *
 * const seen: Array<unknown> = []
 * const tracer = Tracer.make({
 *   span(options) {
 *     const span = new Tracer.NativeSpan(options)
 *     span.event = (name, _, attributes) => void seen.push([name, attributes?.for])
 *     return span
 *   }
 * })
 *
 * const call = Effect.withSpan(Scheduler.schedule(Effect.sleep("1 millis")), "call")
 * const program = Effect.all([call, call], { concurrency: "unbounded", discard: true })
 *
 * await Effect.runPromise(program.pipe(
 *   Effect.provide(Layer.provide(Scheduler.layer({ concurrency: 1 }), Metrics.tracing)),
 *   Effect.provideService(Tracer.Tracer, tracer)
 * ))
 * seen // => [["effect_funnel.wait", "width"]]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const tracing: Layer.Layer<never> = /*#__PURE__*/ Layer.succeed(Tracing, spans)

/**
 * Logs a line for each penalty, and for the beginning and the end of an overload, with the name of the service.
 *
 * **Details**
 *
 * A penalty and the beginning of an overload are warnings, the end of an overload is information. Keys are not logged. A
 * policy that takes over for a store logs its line without this layer.
 *
 * **Example** (Logging a penalty)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Logger } from "effect"
 * import { RateLimiter } from "effect-funnel"
 * import * as Metrics from "effect-funnel/Metrics"
 *
 * const lines: Array<unknown> = []
 * const logger = Logger.make<unknown, void>(({ message }) => void lines.push(message))
 *
 * const limits = RateLimiter.layer({ limit: 10, window: "1 second" }, { name: "github" })
 * const program = RateLimiter.penalize({ for: "3 seconds" })
 *
 * await Effect.runPromise(program.pipe(
 *   Effect.provide(Layer.provide(limits, Metrics.logging)),
 *   Effect.provide(Logger.layer([logger]))
 * ))
 * lines.flat() // => ["github: penalized for 3000 ms"]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const logging: Layer.Layer<never> = /*#__PURE__*/ Layer.succeed(Logging, logs)
