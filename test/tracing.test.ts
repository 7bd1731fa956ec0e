import { assert, describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Fiber, Layer, Logger, Option, Request, Tracer } from "effect"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Metrics from "effect-funnel/Metrics"
import { TestClock } from "effect/testing"
import { fork } from "./support/fibers.ts"
import { simulate } from "./support/simulation.ts"

/** Runs a test with a tracer, and gives it the spans that began. */
const traced = <A, E, R>(body: (spans: ReadonlyArray<Tracer.NativeSpan>) => Effect.Effect<A, E, R>) => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return Effect.provideService(Effect.suspend(() => body(spans)), Tracer.Tracer, tracer)
}

const seen = <A, E, R>(layer: Layer.Layer<A, E, R>) => Layer.provide(layer, Metrics.tracing)

/** A call in a span of its own, which runs until it waits. */
const call = <A, E, R>(effect: Effect.Effect<A, E, R>, name = "call") => fork(Effect.withSpan(effect, name))

const waitsOf = (spans: ReadonlyArray<Tracer.NativeSpan>) =>
  spans.flatMap(({ events }) => events.map(([name, , attributes]) => [name, attributes] as const))

class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 1 }) {}

describe("Metrics.tracing", () => {
  it.effect("a job that waited has an event with how long and for what, on the span of its caller", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* call(GitHub.schedule(Effect.sleep("1 second")))
        const second = yield* call(GitHub.schedule(Effect.void))
        yield* TestClock.adjust("300 millis")
        const third = yield* call(GitHub.schedule(Effect.void))
        yield* TestClock.adjust("100 millis")
        yield* GitHub.pause
        yield* TestClock.adjust("900 millis")
        yield* GitHub.resume
        yield* Fiber.join(second)
        yield* Fiber.join(third)
        assert.deepStrictEqual(waitsOf(spans), [
          ["effect_funnel.wait", { name: "app/GitHub", waited: 1300, for: "pause", width: 400, pause: 900 }],
          ["effect_funnel.wait", { name: "app/GitHub", waited: 1000, for: "pause", width: 100, pause: 900 }]
        ])
        assert.strictEqual(spans[1]!.events.length, 1)
      }).pipe(Effect.provide(seen(GitHub.layer)))
    ))

  it.effect("a wait for the rate and one for a penalty are told apart", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* GitHub.setRate({ limit: 1, window: "1 second" })
        yield* call(GitHub.schedule(Effect.void))
        const second = yield* call(GitHub.schedule(Effect.void))
        yield* TestClock.adjust("250 millis")
        yield* GitHub.penalize({ for: "2 seconds" })
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(second)
        assert.deepStrictEqual(waitsOf(spans).map(([, attributes]) => attributes), [
          { name: "app/GitHub", waited: 2250, for: "penalty", rate: 250, penalty: 2000 }
        ])
      }).pipe(Effect.provide(seen(GitHub.layer)))
    ))

  it.effect("also where others penalize the limiter of a scheduler, or a limiter, while callers wait for it", () => {
    class Quota extends RateLimiter.Service<Quota>()("app/Quota", { limit: 1, window: "1 second" }) {}
    class Api extends Scheduler.Service<Api>()("app/Api", { concurrency: 1, rate: Quota }) {}
    return traced((spans) =>
      Effect.gen(function*() {
        const waits: ReadonlyArray<readonly [Effect.Effect<void, unknown, Api | Quota>, string, string | undefined]> = [
          [Api.schedule(Effect.void), "app/Api", undefined],
          [Quota.withLimit(Effect.void, { key: "ada" }), "app/Quota", "ada"]
        ]
        for (const [wait, name, key] of waits) {
          const before = waitsOf(spans).length
          yield* wait
          const waiting = yield* call(wait)
          yield* TestClock.adjust("250 millis")
          yield* Quota.penalize({ key, for: "2 seconds" })
          yield* TestClock.adjust("1 second")
          // A shorter one changes nothing, and one of another key is not that of the caller.
          yield* Quota.penalize({ key, for: "500 millis" })
          yield* Quota.penalize({ key: "bob", for: "1 minute" })
          yield* TestClock.adjust("2 seconds")
          yield* Fiber.join(waiting)
          assert.deepStrictEqual(waitsOf(spans).slice(before).map(([, attributes]) => attributes), [
            { name, waited: 2250, for: "penalty", rate: 250, penalty: 2000 }
          ])
          yield* TestClock.adjust("1 minute")
        }
        // It ends early where the key is reset, and that of another key does not.
        yield* Quota.withLimit(Effect.void)
        const waiting = yield* call(Quota.consume())
        for (const key of [undefined, "ada"]) yield* Quota.penalize({ key, for: "1 minute" })
        yield* TestClock.adjust("5 seconds")
        yield* Quota.reset({ key: "ada" })
        yield* TestClock.adjust("5 seconds")
        yield* Quota.reset()
        yield* Fiber.join(waiting)
        assert.deepInclude(waitsOf(spans).at(-1)![1], { waited: 10_000, penalty: 10_000 })
      }).pipe(Effect.provide(seen(Layer.provideMerge(Api.layer, Quota.layer))))
    )
  })

  it.effect("of many penalties in one wait the last 32 are told, and the others count as a wait for the rate", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* RateLimiter.consume()
        const waiting = yield* call(RateLimiter.consume())
        for (let i = 0; i < 40; i++) {
          yield* RateLimiter.penalize({ for: "10 millis" })
          yield* TestClock.adjust("20 millis")
        }
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(waiting)
        assert.deepInclude(waitsOf(spans)[0]![1], { waited: 1000, for: "rate", rate: 680, penalty: 320 })
      }).pipe(Effect.provide(seen(RateLimiter.layer({ limit: 1, window: "1 second" }))))
    ))

  it.effect("a wait that was for two things equally long is told as one for the width", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* call(GitHub.schedule(Effect.sleep("1 second")))
        const second = yield* call(GitHub.schedule(Effect.void))
        yield* TestClock.adjust("500 millis")
        yield* GitHub.pause
        yield* TestClock.adjust("500 millis")
        yield* GitHub.resume
        yield* Fiber.join(second)
        assert.deepInclude(waitsOf(spans)[0]![1], { waited: 1000, for: "width", width: 500, pause: 500 })
      }).pipe(Effect.provide(seen(GitHub.layer)))
    ))

  it.effect("a call that a limiter refuses after a wait has an event, too", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* RateLimiter.consume()
        yield* call(RateLimiter.consume())
        const second = yield* call(Effect.flip(RateLimiter.consume({ maxWait: "2500 millis" })))
        yield* TestClock.adjust("500 millis")
        yield* RateLimiter.penalize({ for: "1 minute" })
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(second)
        assert.strictEqual(waitsOf(spans).length, 1)
        const { waited, rate, penalty } = waitsOf(spans)[0]![1]!
        assert.strictEqual(Number(rate ?? 0) + Number(penalty), waited)
      }).pipe(Effect.provide(seen(RateLimiter.layer({ limit: 1, window: "1 second" }))))
    ))

  it.effect("a job that starts at once, one that leaves, and a caller without a span have no event", () =>
    traced((spans) =>
      Effect.gen(function*() {
        const first = yield* call(GitHub.schedule(Effect.never))
        yield* Fiber.interrupt(yield* call(GitHub.schedule(Effect.void)))
        const bare = yield* fork(GitHub.schedule(Effect.void))
        yield* Fiber.interrupt(first)
        yield* Fiber.join(bare)
        assert.deepStrictEqual(waitsOf(spans), [])
      }).pipe(Effect.provide(seen(GitHub.layer)))
    ))

  it.effect("nor has a caller that is refused at once, by a scheduler or by a limiter", () => {
    class Narrow extends Scheduler.Service<Narrow>()("app/Narrow", { concurrency: 1, maxQueued: 0 }) {}
    return traced((spans) =>
      Effect.gen(function*() {
        yield* call(Narrow.schedule(Effect.never))
        yield* call(Effect.flip(Narrow.schedule(Effect.void)))
        yield* call(Effect.flip(Narrow.schedule(Effect.void, { weight: 2 })))
        yield* RateLimiter.consume()
        for (const options of [{ maxWait: "1 milli" }, { onExceeded: "fail" }, { tokens: 2 }] as const) {
          yield* call(Effect.flip(RateLimiter.consume(options)))
        }
        assert.deepStrictEqual(waitsOf(spans), [])
      }).pipe(
        Effect.provide(seen(Layer.merge(Narrow.layer, RateLimiter.layer({ limit: 1, window: "1 second" }))))
      )
    )
  })

  it.effect("a tracer that throws costs no job", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* call(GitHub.schedule(Effect.sleep("1 second")))
        const second = yield* call(GitHub.schedule(Effect.succeed("done")))
        spans[1]!.event = () => {
          throw new Error("broken tracer")
        }
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(second), "done")
      }).pipe(Effect.provide(seen(GitHub.layer)))
    ))

  it.effect("a call that waited for a limiter has an event; without the layer there is none", () => {
    const limits = RateLimiter.layer({ limit: 1, window: "1 second" }, { name: "api" })
    const calls = (spans: ReadonlyArray<Tracer.NativeSpan>) =>
      Effect.gen(function*() {
        yield* call(RateLimiter.withLimit(Effect.void))
        yield* RateLimiter.penalize({ key: "ada", for: "2 seconds" })
        const fibers = [
          yield* call(RateLimiter.withLimit(Effect.void)),
          yield* call(RateLimiter.consume({ key: "ada" }))
        ]
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.joinAll(fibers)
        return waitsOf(spans).map(([, attributes]) => attributes)
      })
    return Effect.gen(function*() {
      assert.deepStrictEqual(yield* traced((spans) => Effect.provide(calls(spans), seen(limits))), [
        { name: "api", waited: 1000, for: "rate", rate: 1000 },
        { name: "api", waited: 2000, for: "penalty", penalty: 2000 }
      ])
      assert.deepStrictEqual(yield* traced((spans) => Effect.provide(calls(spans), limits)), [])
    })
  })

  it.effect("a call that a limiter lets go in the moment it came has waited for the rate, too", () => {
    const quota = RateLimiter.layer({ limit: 1, window: "1 second" }, { name: "quota" })
    return traced((spans) =>
      Effect.gen(function*() {
        yield* RateLimiter.consume()
        const waits = yield* call(RateLimiter.consume())
        yield* RateLimiter.reset()
        yield* Fiber.join(waits)
        assert.deepStrictEqual(waitsOf(spans), [["effect_funnel.wait", { name: "quota", waited: 0, for: "rate" }]])
      }).pipe(Effect.provide(seen(quota)))
    )
  })

  it.effect("a run has a span of its own, which links to the callers that join, and they to it", () =>
    traced((spans) =>
      Effect.gen(function*() {
        const answer = yield* Deferred.make<number>()
        const run = Reducer.reduce("key", Effect.withSpan(Deferred.await(answer), "inside"))
        const fibers = [yield* call(run, "first"), yield* call(run, "second")]
        yield* Deferred.succeed(answer, 1)
        yield* Fiber.joinAll(fibers)
        const named = (name: string) => spans.find((span) => span.name === name)!
        const own = named("users.reduce")
        assert.deepStrictEqual(own.links.map(({ span }) => span), [named("second")])
        assert.deepStrictEqual(named("second").links.map(({ span }) => span), [own])
        assert.strictEqual(Option.getOrUndefined(named("inside").parent), own)
        assert.strictEqual(Option.getOrUndefined(own.parent), named("first"))
        assert.strictEqual(own.status._tag, "Ended")
      }).pipe(Effect.provide(seen(Reducer.layer({ name: "users" }))))
    ))

  it.effect("the span of a run links to 128 callers at most, and each caller to it", () =>
    traced((spans) =>
      Effect.gen(function*() {
        const answer = yield* Deferred.make<number>()
        const run = Reducer.reduce("key", Deferred.await(answer))
        const fibers = yield* Effect.forEach(Array.from({ length: 201 }), () => call(run))
        yield* Deferred.succeed(answer, 1)
        yield* Fiber.joinAll(fibers)
        const [own] = spans.filter(({ name }) => name === "users.reduce")
        const callers = spans.filter(({ name }) => name === "call")
        assert.deepStrictEqual(own!.links.map(({ span }) => span), callers.slice(1, 129))
        assert.deepStrictEqual(callers.map(({ links }) => links.length), [0, ...Array(200).fill(1)])
      }).pipe(Effect.provide(seen(Reducer.layer({ name: "users" }))))
    ))

  it.effect("a caller that joins before the run has its span links to that of the first caller, be it of another process", () =>
    traced((spans) =>
      Effect.gen(function*() {
        const lines: Array<unknown> = []
        const remote = Tracer.externalSpan({ spanId: "1", traceId: "2" })
        const run = Reducer.reduce("key", Effect.yieldNow)
        // A run that is nested so deep starts one turn later.
        let nested: Effect.Effect<void, never, Reducer.Reducer> = Effect.withParentSpan(run, remote)
        for (let i = 0; i < 64; i++) nested = Reducer.reduce(i, nested)
        const first = yield* fork(nested)
        const second = yield* call(run, "second").pipe(
          Effect.provide(Logger.layer([Logger.make(({ message }) => void lines.push(message))]))
        )
        yield* Fiber.joinAll([first, second])
        assert.deepStrictEqual(spans.find(({ name }) => name === "second")!.links.map(({ span }) => span), [remote])
        assert.deepStrictEqual(lines, [])
      }).pipe(Effect.provide(seen(Reducer.layer({ name: "users" }))))
    ))

  it.effect("a batch has a span that links to its callers, also where its resolver has no name", () =>
    traced((spans) =>
      Effect.gen(function*() {
        class Get extends Request.Class<{ readonly id: number }, number> {}
        const resolver = yield* Batcher.ordered(Get, { execute: (all) => Effect.succeed(all.map(({ id }) => id)) })
        const get = (id: number) => Effect.withSpan(Effect.request(new Get({ id }), resolver), "caller")
        yield* Effect.all([get(1), get(2)], { concurrency: "unbounded" })
        const batch = spans.find((span) => span.name === "effect-funnel/Batcher")!
        assert.deepStrictEqual(
          batch.links.map(({ span }) => span),
          spans.filter(({ name }) => name === "caller")
        )
      }).pipe(Effect.scoped, Effect.provide(seen(Batcher.layer())))
    ))
})

describe("Metrics.logging", () => {
  const logged = <A, E, R, L, EL, RL>(layer: Layer.Layer<L, EL, RL>, body: Effect.Effect<A, E, R>) => {
    const lines: Array<unknown> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push([logLevel, message].flat()))
    return Effect.as(
      body.pipe(
        Effect.provide(Layer.provide(layer, Metrics.logging)),
        Effect.provide(Logger.layer([logger]))
      ),
      lines
    )
  }

  it.effect("a penalty logs one line with the name of the service and without the key", () =>
    Effect.gen(function*() {
      const lines = yield* logged(
        Layer.merge(GitHub.layer, RateLimiter.layer({ limit: 1, window: "1 second" })),
        Effect.all([
          GitHub.penalize({ for: "3 seconds" }),
          RateLimiter.penalize({ key: "secret", for: "1500 millis" }),
          RateLimiter.penalize({ for: "1 second" })
        ])
      )
      assert.deepStrictEqual(lines, [
        ["Warn", "app/GitHub: penalized for 3000 ms"],
        ["Warn", "effect-funnel/RateLimiter: a key is penalized for 1500 ms"],
        ["Warn", "effect-funnel/RateLimiter: penalized for 1000 ms"]
      ])
    }))

  it.effect("an overload logs a line when it begins and one when it ends, however many jobs it sheds", () =>
    Effect.gen(function*() {
      const lines = yield* logged(
        Scheduler.layer({ concurrency: 1, shed: { target: "10 millis", interval: "100 millis" } }),
        Effect.gen(function*() {
          for (let i = 0; i < 100; i++) {
            for (let j = 0; j < 3; j++) {
              yield* Effect.forkChild(Effect.exit(Scheduler.schedule(Effect.sleep("20 millis"))))
            }
            yield* TestClock.adjust("20 millis")
          }
          for (let i = 0; i < 300; i++) yield* TestClock.adjust("20 millis")
          assert.isAbove((yield* Scheduler.stats).refused.Overloaded ?? 0, 10)
        })
      )
      assert.deepStrictEqual(lines.map((line) => String(line).replace(/\d+ ms/, "… ms")), [
        "Warn,effect-funnel/Scheduler: overloaded, jobs are shed",
        "Info,effect-funnel/Scheduler: the overload is over, it lasted … ms"
      ])
    }))

  it("O2 S3 a logger may interrupt the jobs that wait, also the one that is about to be shed", () => {
    const { exit, timers } = simulate(() => {
      let jobs: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = []
      const logger = Logger.make(() => jobs.forEach((job) => job.interruptUnsafe()))
      return Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: "5 millis" } })
        const job = scheduler.schedule(Effect.sleep("9 millis"))
        jobs = yield* Effect.forEach(Array.from({ length: 40 }), () => fork(job))
        const exits = yield* Effect.forEach(jobs, Fiber.await)
        assert.deepStrictEqual(exits.filter((exit) => exit._tag === "Failure" && Cause.hasDies(exit.cause)), [])
        assert.isAbove((yield* scheduler.stats).refused.Overloaded ?? 0, 0)
        expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      })).pipe(Effect.provide(Layer.mergeAll(Metrics.logging, Logger.layer([logger]))))
    })
    expect([exit?._tag, timers]).toEqual(["Success", 0])
  })
})
