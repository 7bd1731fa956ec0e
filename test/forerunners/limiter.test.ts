/** Figures from the tests of governor, p-throttle and upperbound. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import { limiterOf } from "../../src/internal/limiter/limiter.js"
import { fork, unbounded } from "../support/fibers.ts"
import { ManualClock } from "../support/manualClock.ts"
import { makeStarts } from "../support/starts.ts"

describe("governor", () => {
  it.effect("NotUntil is exact: a call is refused a nanosecond before it, and admitted at it", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* RateLimiter.make({ limit: 3, window: "1 second", burst: 3 }).pipe(
        Effect.provideService(Clock.Clock, clock)
      )
      for (let i = 0; i < 50; i++) {
        const consume = limiter.consume({ tokens: 1 + i % 3, onExceeded: "fail" })
        const refusal = yield* Effect.result(consume)
        if (refusal._tag === "Success") continue
        const { reason } = refusal.failure
        if (reason._tag !== "RateLimitExceeded") return expect.fail(reason._tag)
        const wait = Number(Duration.toNanosUnsafe(reason.retryAfter))
        clock.block((wait - 1) / 1e6)
        expect(yield* Effect.isSuccess(consume)).toBe(false)
        clock.block(0.000001)
        expect(yield* Effect.isSuccess(consume)).toBe(true)
      }
    }))
})

describe("p-throttle", () => {
  it.effect("a call takes as many tokens as it weighs: weights 10, 1, 4, 10 start at 0, 100, 500, 1500 ms", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 10 })
      const { job, times } = makeStarts()
      yield* fork(Effect.forEach([10, 1, 4, 10], (tokens) => limiter.withLimit(job, { tokens }), unbounded))
      yield* TestClock.adjust("5 seconds")
      expect(times).toEqual([0, 100, 500, 1500])
    }))
})

describe("upperbound", () => {
  const every200 = RateLimiter.make({ limit: 5, window: "1 second" })
  const gaps = (times: ReadonlyArray<number>) => times.slice(1).map((at, i) => at - times[i]!)

  it.effect("with a bound on how many run, starts wait for room: gaps of 50, 50, 200, 50, 50, 200, …", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 3, rate: { limit: 20, window: "1 second" } })
      const { job, times } = makeStarts()
      yield* fork(scheduler.forEach(Array.from({ length: 10 }), () => Effect.andThen(job, Effect.sleep(300))))
      yield* TestClock.adjust("10 seconds")
      expect(gaps(times)).toEqual([50, 50, 200, 50, 50, 200, 50, 50, 200])
    }))

  it.effect("jobs slower than the rate are not held up, and save nothing up: gaps of 300, 250, 1000, 200", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { job, times } = makeStarts()
      for (const pause of [300, 250, 1000, 50, 50]) {
        yield* Effect.forkChild(limiter.withLimit(job))
        yield* TestClock.adjust(pause)
      }
      yield* TestClock.adjust("1 second")
      expect(gaps(times)).toEqual([300, 250, 1000, 200])
    }))

  it.effect.each(
    [
      ["queue", 100, 4, [200, 200]],
      ["run", 250, 3, [200, 200]]
    ] as const
  )(
    "a job cancelled in its %s after %i ms: of %i jobs the gaps are %j",
    ([, after, count, expected]) =>
      Effect.gen(function*() {
        const limiter = yield* every200
        const { job, times } = makeStarts()
        const call = limiter.withLimit(Effect.andThen(job, Effect.sleep(1000)))
        const fibers = yield* Effect.forEach(Array.from({ length: count }), () => fork(call))
        yield* TestClock.adjust(after)
        yield* Fiber.interrupt(fibers[1]!)
        yield* TestClock.adjust("2 seconds")
        expect(gaps(times)).toEqual(expected)
      })
  )

  it.effect("a changed interval takes hold for the backlog: gaps of 200, 200, 500, 500, 100", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { job, times } = makeStarts()
      yield* fork(Effect.forEach(Array.from({ length: 6 }), () => limiter.withLimit(job), unbounded))
      yield* TestClock.adjust("400 millis")
      limiterOf(limiter)!.setQuotas([Gcra.rate(2, 1_000_000_000, 1, false)])
      yield* TestClock.adjust("1 second")
      limiterOf(limiter)!.setQuotas([Gcra.rate(10, 1_000_000_000, 1, false)])
      yield* TestClock.adjust("1 second")
      expect(gaps(times)).toEqual([200, 200, 500, 500, 100])
    }))
})
