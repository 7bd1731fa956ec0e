/**
 * Whatever is interrupted, and wherever: each job and each run is in the metrics once, and nothing goes on.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Metric } from "effect"
import type { Context } from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import { fork } from "./support/fibers.ts"
import { ids, read } from "./support/metrics.ts"
import { interruptionSweep, yieldSweep } from "./support/sweep.ts"
import type { Subject } from "./support/sweep.ts"

const services = Layer.mergeAll(
  Scheduler.layer({ concurrency: 1, rate: { limit: 1000, window: "1 second", burst: 1000 } }),
  Reducer.layer(),
  RateLimiter.layer({ limit: 1000, window: "1 second", burst: 1000 })
).pipe(
  Layer.provide([Metrics.layer, Metrics.tracing, Metrics.logging]),
  Layer.provideMerge(Inspector.layer())
)

const total = (id: string, outcomes: ReadonlyArray<string>) =>
  Effect.map(
    Effect.forEach(outcomes, (outcome) => read(id, { outcome })),
    (counts) => counts.reduce<number>((sum, count) => sum + count!, 0)
  )

const exits = ["success", "failure", "interrupt"]

type Services = Layer.Success<typeof services>

/** Three jobs for one permit, around runs that callers share. */
const subject: Subject<Context.Context<Services>, ReadonlyArray<number>, unknown> = {
  make: Layer.build(services),
  subject: (context) =>
    Effect.forEach(
      [1, 1, 2],
      (key) =>
        Effect.withSpan(
          Scheduler.schedule(RateLimiter.withLimit(Reducer.reduce(key, Effect.as(Effect.yieldNow, key)))),
          "call"
        ),
      { concurrency: "unbounded" }
    ).pipe(Effect.provideContext(context)),
  expected: [1, 1, 2],
  check: (context) =>
    Effect.gen(function*() {
      const snapshot = yield* Inspector.snapshot
      const [scheduler] = snapshot.schedulers.first
      assert.deepStrictEqual([scheduler!.running.total, scheduler!.queued.total], [0, 0])
      assert.deepStrictEqual([snapshot.reducers[0]!.inFlight.total, snapshot.waits.total], [0, 0])
      for (const id of ["scheduler.running", "scheduler.queued", "reducer.in_flight"]) {
        assert.strictEqual(yield* read(id, {}), 0)
      }
      // What started has ended.
      const started = yield* total("scheduler.wait_time", ["started"])
      assert.strictEqual(yield* total("scheduler.use_time", exits), started)
      assert.isAtMost(yield* total("scheduler.wait_time", ["started", "refused", "interrupt"]), 3)
      assert.strictEqual(yield* total("reducer.run_time", exits), yield* total("reducer.calls", ["started"]))
      assert.isAtMost(yield* total("ratelimiter.decisions", ["admitted", "delayed", "refused"]), started)
    }).pipe(Effect.provideContext(context))
}

describe("what is seen", () => {
  it("a fiber that yields at any operation is counted once", () => {
    assert.isAbove(yieldSweep(subject), 10)
  })

  it("a fiber that is interrupted at any operation is counted once, and nothing goes on", () => {
    assert.isAbove(interruptionSweep(subject), 10)
  })

  it.effect("nothing is left in the registry when the scopes have closed", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(
        Effect.provide(Scheduler.schedule(Effect.never), services)
      )
      assert.isNotEmpty(yield* ids)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* ids, [])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})
