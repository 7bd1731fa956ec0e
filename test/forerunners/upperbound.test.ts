/**
 * What upperbound's users rely on, as far as it is the rate: exact gaps under virtual time, cancellation, a live interval.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as Scheduler from "effect-funnel/Scheduler"
import { TestClock } from "effect/testing"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import { limiterOf } from "../../src/internal/limiter/limiter.js"

const every200 = RateLimiter.make({ limit: 5, window: "1 second" })

const recorder = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const starts: Array<number> = []
  return {
    gaps: () => starts.slice(1).map((at, i) => at - starts[i]!),
    job: (millis: number) =>
      Effect.andThen(Effect.sync(() => starts.push(clock.currentTimeMillisUnsafe())), Effect.sleep(millis))
  }
})

describe("upperbound", () => {
  it.effect("a backlog starts at gaps of exactly 200 ms, whatever a job takes", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { gaps, job } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach([0, 100, 300, 1000, 50, 0], (millis) => limiter.withLimit(job(millis)), {
          concurrency: "unbounded"
        })
      )
      yield* TestClock.adjust("10 seconds")
      expect(gaps()).toEqual([200, 200, 200, 200, 200])
    }))

  it.effect("with a bound on how many run, starts wait for room: 50, 50, 200, 50, 50, 200, …", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({ concurrency: 3, rate: { limit: 20, window: "1 second" } })
      const { gaps, job } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 10 }), () => limiter.schedule(job(300)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("10 seconds")
      expect(gaps()).toEqual([50, 50, 200, 50, 50, 200, 50, 50, 200])
    }))

  it.effect("jobs that come slower than the rate are not held up, and do not save up", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { gaps, job } = yield* recorder
      for (const pause of [300, 250, 1000, 50, 50]) {
        yield* Effect.forkChild(limiter.withLimit(job(0)))
        yield* TestClock.adjust(pause)
      }
      yield* TestClock.adjust("1 second")
      expect(gaps()).toEqual([300, 250, 1000, 200])
    }))

  it.effect("a job cancelled in the queue costs nothing", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { gaps, job } = yield* recorder
      const fibers = yield* Effect.forEach([0, 1, 2, 3], () => Effect.forkChild(limiter.withLimit(job(0))))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(fibers[1]!)
      yield* TestClock.adjust("1 second")
      expect(gaps()).toEqual([200, 200])
    }))

  it.effect("a job cancelled while it runs costs its slot", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { gaps, job } = yield* recorder
      const fibers = yield* Effect.forEach(
        [1000, 1000, 0],
        (millis) => Effect.forkChild(limiter.withLimit(job(millis)))
      )
      yield* TestClock.adjust("250 millis")
      yield* Fiber.interrupt(fibers[1]!)
      yield* TestClock.adjust("1 second")
      expect(gaps()).toEqual([200, 200])
    }))

  it.effect("a changed interval takes hold for the backlog", () =>
    Effect.gen(function*() {
      const limiter = yield* every200
      const { gaps, job } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 6 }), () => limiter.withLimit(job(0)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("400 millis")
      limiterOf(limiter)!.setQuotas([Gcra.rate(2, 1_000_000_000, 1, false)])
      yield* TestClock.adjust("1 second")
      limiterOf(limiter)!.setQuotas([Gcra.rate(10, 1_000_000_000, 1, false)])
      yield* TestClock.adjust("1 second")
      expect(gaps()).toEqual([200, 200, 500, 500, 100])
    }))
})
