/**
 * What governor's users rely on: cells of GCRA by key, a "not until" that is accurate, capacity errors that name the capacity.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import { TestClock } from "effect/testing"
import { ManualClock } from "../support/manualClock.js"

/** Quota::per_second(n).allow_burst(n): theirs has the limit as its burst. */
const perSecond = (limit: number, burst = limit) => RateLimiter.make({ limit, window: "1 second", burst })

const passes = (effect: Effect.Effect<unknown, RateLimiter.RateLimiterError>) => Effect.isSuccess(effect)

describe("governor", () => {
  it.effect("check: accepts the first cell and rejects the one too many", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(4)
      const check = limiter.consume({ onExceeded: "fail" })
      const verdicts = yield* Effect.forEach([1, 2, 3, 4, 5], () => passes(check))
      expect(verdicts).toEqual([true, true, true, true, false])
    }))

  it.effect("check_n: several cells are all or nothing", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(4)
      const check = (tokens: number) => passes(limiter.consume({ tokens, onExceeded: "fail" }))
      expect(yield* check(3)).toBe(true)
      expect(yield* check(2)).toBe(false)
      expect(yield* check(1)).toBe(true)
      yield* TestClock.adjust("500 millis")
      expect(yield* check(3)).toBe(false)
      expect(yield* check(2)).toBe(true)
    }))

  it.effect("NotUntil: the earliest possible time is exact, refused before it and admitted at it", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* perSecond(3).pipe(Effect.provideService(Clock.Clock, clock))
      for (let i = 0; i < 50; i++) {
        const refusal = yield* Effect.result(limiter.consume({ tokens: 1 + i % 3, onExceeded: "fail" }))
        if (refusal._tag === "Success") continue
        const { reason } = refusal.failure
        if (reason._tag !== "RateLimitExceeded") return expect.fail(reason._tag)
        const wait = Number(Duration.toNanosUnsafe(reason.retryAfter))
        clock.block((wait - 1) / 1e6)
        expect(yield* passes(limiter.consume({ tokens: 1 + i % 3, onExceeded: "fail" }))).toBe(false)
        clock.block(0.000001)
        expect(yield* passes(limiter.consume({ tokens: 1 + i % 3, onExceeded: "fail" }))).toBe(true)
      }
    }))

  it.effect("until_ready waits exactly what it told", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(10, 1)
      yield* limiter.consume()
      const { reason } = yield* Effect.flip(limiter.consume({ onExceeded: "fail" }))
      const waiting = yield* Effect.forkChild(limiter.consume())
      yield* TestClock.adjust("1 second")
      const { waited } = yield* Fiber.join(waiting)
      expect(reason._tag === "RateLimitExceeded" && Duration.equals(reason.retryAfter, waited)).toBe(true)
      expect(waited).toEqual(Duration.millis(100))
    }))

  it.effect("InsufficientCapacity: more cells than the burst can never pass, and the error names the capacity", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(5)
      expect((yield* Effect.flip(limiter.consume({ tokens: 6 }))).reason.message).toBe("6 tokens exceed the burst of 5")
      expect(yield* passes(limiter.consume({ tokens: 5, onExceeded: "fail" }))).toBe(true)
    }))

  it.effect("no extra cell after a long rest", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(2)
      const check = limiter.consume({ onExceeded: "fail" })
      for (const rest of ["0 millis", "1 hour", "30 days"] as const) {
        yield* TestClock.adjust(rest)
        expect(yield* Effect.forEach([1, 2, 3], () => passes(check))).toEqual([true, true, false])
        yield* TestClock.adjust("1 second")
      }
    }))

  it.effect("an allowed burst replenishes one cell at a time", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(10, 3)
      const check = limiter.consume({ onExceeded: "fail" })
      expect(yield* Effect.forEach([1, 2, 3, 4], () => passes(check))).toEqual([true, true, true, false])
      yield* TestClock.adjust("100 millis")
      expect(yield* Effect.forEach([1, 2], () => passes(check))).toEqual([true, false])
    }))

  it.effect("keyed: each key has its own cells", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(1)
      const check = (key: string) => passes(limiter.consume({ key, onExceeded: "fail" }))
      expect(yield* Effect.forEach(["a", "b", "a", "b", "c"], check)).toEqual([true, true, false, false, true])
    }))

  it.effect("StateSnapshot: what is left is told with every admission", () =>
    Effect.gen(function*() {
      const limiter = yield* perSecond(4)
      expect((yield* limiter.consume({ tokens: 3 })).remaining).toBe(1)
    }))
})
