/**
 * What p-throttle's users rely on, and what its windowed mode gets wrong.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import { TestClock } from "effect/testing"

const recorder = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const starts: Array<number> = []
  return { starts, start: Effect.sync(() => starts.push(clock.currentTimeMillisUnsafe())) }
})

const mostWithin = (starts: ReadonlyArray<number>, window: number) =>
  Math.max(...starts.map((from) => starts.filter((at) => at >= from && at < from + window).length))

describe("p-throttle", () => {
  it.effect("strict: a window that rolls never holds more than the limit", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 100, window: "1 second", burst: 20, strict: true })
      const { start, starts } = yield* recorder
      // One at first and many at the end of its window: theirs starts 199 within 990 ms unless it is strict.
      yield* limiter.withLimit(start)
      yield* TestClock.adjust("900 millis")
      yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 199 }), () => limiter.withLimit(start), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("5 seconds")
      expect(starts.length).toBe(200)
      expect(mostWithin(starts, 1000)).toBe(100)
    }))

  it.effect("the limit as the burst: so many at once, then one for each that comes back", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 5, window: "1 second", burst: 5 })
      const { start, starts } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 8 }), () => limiter.withLimit(start), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 second")
      expect(starts).toEqual([0, 0, 0, 0, 0, 200, 400, 600])
    }))

  it.effect("signal: a call aborted before its start gives its slot back", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "100 millis" })
      const { start, starts } = yield* recorder
      const fibers = yield* Effect.forEach(
        Array.from({ length: 5 }),
        () => Effect.forkChild(limiter.withLimit(start), { startImmediately: true })
      )
      yield* Fiber.interruptAll(fibers.slice(1, 4))
      yield* TestClock.adjust("1 second")
      expect(starts).toEqual([0, 100])
    }))

  it.effect("weight: a call takes as many tokens as it weighs, up to the burst", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 10 })
      const { start, starts } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach([10, 1, 4, 10], (tokens) => limiter.withLimit(start, { tokens }), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("5 seconds")
      expect(starts).toEqual([0, 100, 500, 1500])
      expect((yield* Effect.flip(limiter.consume({ tokens: 11 }))).reason._tag).toBe("InsufficientCapacity")
    }))

  it.effect("onDelay: whether and how long a call waited is told", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "100 millis" })
      const delayed: Array<number> = []
      const call = Effect.map(limiter.consume(), ({ waited }) => delayed.push(Duration.toMillis(waited)))
      yield* Effect.forkChild(Effect.all([call, call, call], { concurrency: "unbounded" }))
      yield* TestClock.adjust("1 second")
      expect(delayed).toEqual([0, 100, 200])
    }))

  it.effect("isEnabled: a limiter that is switched off is another layer", () =>
    Effect.gen(function*() {
      const { start, starts } = yield* recorder
      yield* Effect.forEach([1, 2, 3], () => RateLimiter.withLimit(start)).pipe(Effect.provide(RateLimiter.layerNoop))
      expect(starts).toEqual([0, 0, 0])
    }))

  it.effect("a call's value and error are its own", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 3 })
      expect(yield* limiter.withLimit(Effect.succeed("value"))).toBe("value")
      expect(yield* Effect.flip(limiter.withLimit(Effect.fail("error")))).toBe("error")
    }))
})
