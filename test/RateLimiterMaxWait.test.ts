import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber } from "effect"
import * as Metrics from "effect-funnel/Metrics"
import * as RateLimiter from "effect-funnel/RateLimiter"
import { TestClock } from "effect/testing"
import { fork, settle } from "./support/fibers.ts"
import { exceeded, onClock } from "./support/limiters.ts"
import { ManualClock } from "./support/manualClock.js"
import { read, withRegistry } from "./support/metrics.ts"
import { interruptionSweep, scheduleSweep, yieldSweep } from "./support/sweep.ts"

const tenPerSecond = { limit: 10, window: "1 second" } as const

describe("O1 maxWait of a limiter", () => {
  const quotas: ReadonlyArray<readonly [string, RateLimiter.Options]> = [
    ["one quota", tenPerSecond],
    ["a strict one", { ...tenPerSecond, limit: 1, window: "100 millis", strict: true }],
    ["several", [{ limit: 1000, window: "1 second", burst: 3 }, tenPerSecond]]
  ]
  for (const [name, quota] of quotas) {
    it.effect(`a call is refused on arrival if it is due later than maxWait, with its exact due time (${name})`, () =>
      Effect.gen(function*() {
        const clock = new ManualClock()
        const limiter = yield* onClock(clock, quota)
        yield* limiter.consume()
        yield* fork(limiter.consume({ maxWait: 100 }))
        const late = yield* exceeded(limiter.consume({ maxWait: Duration.nanos(199_999_999n) }))
        expect([late.retryAfter, late.remaining]).toEqual([Duration.millis(200), 0])
        const waits = yield* fork(limiter.consume({ maxWait: 200 }))
        expect(waits.pollUnsafe()).toBe(undefined)
        clock.advance(199.999999)
        yield* Effect.yieldNow
        yield* exceeded(limiter.consume({ maxWait: 100 }))
        clock.advance(0.000001)
        expect((yield* Fiber.join(waits)).waited).toEqual(Duration.millis(200))
        expect(clock.pending).toBe(0)
      }))
  }

  it.effect("a refusal spends nothing, and other keys do not count", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenPerSecond)
      yield* limiter.consume({ key: "a" })
      for (let i = 0; i < 50; i++) yield* exceeded(limiter.withLimit(Effect.void, { key: "a", maxWait: 99 }))
      yield* limiter.consume({ key: "b", maxWait: 0 })
      yield* TestClock.adjust(100)
      yield* limiter.consume({ key: "a", maxWait: 0 })
    }))

  it.effect("with 0, and with onExceeded fail, a call is admitted now or not at all", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenPerSecond)
      expect((yield* limiter.consume({ maxWait: 0 })).waited).toEqual(Duration.zero)
      expect((yield* exceeded(limiter.consume({ maxWait: 0 }))).retryAfter).toEqual(Duration.millis(100))
      yield* exceeded(limiter.consume({ maxWait: "1 hour", onExceeded: "fail" }))
    }))

  it.effect("a call that is held up is refused when maxWait is over, by one timer, and those behind it move up", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, { ...tenPerSecond, burst: 5 })
      yield* limiter.consume({ tokens: 5 })
      const heavy = yield* fork(limiter.consume({ tokens: 5, maxWait: 500 }))
      const others = yield* Effect.forEach(
        Array.from({ length: 500 }),
        () => fork(limiter.consume({ maxWait: "70 seconds" }))
      )
      const patient = yield* fork(limiter.consume())
      expect(clock.pending).toBe(2)
      yield* limiter.penalize({ for: "1 second" })
      clock.advance(499.999999)
      expect(heavy.pollUnsafe()).toBe(undefined)
      clock.advance(0.000001)
      // Behind the 501 others, after the penalty.
      expect((yield* exceeded(Fiber.join(heavy))).retryAfter).toEqual(Duration.millis(500 + 100 * (501 + 5 - 1)))
      expect(clock.pending).toBe(2)
      clock.advance(499)
      expect(others[0]!.pollUnsafe()).toBe(undefined)
      clock.advance(1)
      expect((yield* Fiber.join(others[0]!)).waited).toEqual(Duration.seconds(1))
      clock.advance(100 * 500)
      expect((yield* Fiber.join(patient)).waited).toEqual(Duration.seconds(51))
      expect(clock.pending).toBe(0)
    }))

  it.effect("a call is refused in time however long its clock has run", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      // Nanoseconds beyond those that a number can tell apart.
      for (let i = 0; i < 1000; i++) clock.block(Number.MAX_SAFE_INTEGER * 1e6)
      const limiter = yield* onClock(clock, tenPerSecond)
      yield* limiter.consume()
      const call = yield* fork(limiter.consume({ maxWait: 150 }))
      yield* limiter.penalize({ for: "1 second" })
      clock.advance(149)
      expect(call.pollUnsafe()).toBe(undefined)
      clock.advance(1)
      expect((yield* exceeded(Fiber.join(call))).retryAfter).toEqual(Duration.millis(850))
    }))

  it.effect("strict: behind a start that has not begun, a call waits for its time and is refused then", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second", strict: true })
      const backend = yield* fork(limiter.withLimit(Effect.never))
      yield* exceeded(limiter.withLimit(Effect.void, { maxWait: 999 }))
      const waits = yield* fork(limiter.withLimit(Effect.void, { maxWait: 1000 }))
      yield* limiter.penalize({ for: 1500 })
      yield* TestClock.adjust(1000)
      expect((yield* exceeded(Fiber.join(waits))).retryAfter).toEqual(Duration.millis(500))
      yield* Fiber.interrupt(backend)
    }))

  it.effect("a call whose timer is late does not start after maxWait, and spends nothing", () =>
    Effect.gen(function*() {
      for (const strict of [false, true]) {
        const clock = new ManualClock()
        const limiter = yield* onClock(clock, { ...tenPerSecond, strict })
        yield* limiter.withLimit(Effect.void)
        let began = false
        const late = yield* fork(limiter.withLimit(Effect.sync(() => began = true), { maxWait: 150 }))
        const next = yield* fork(limiter.consume())
        clock.block(151)
        clock.fire()
        // The next call has its slot, and is late by as much as is made up.
        expect((yield* exceeded(Fiber.join(late))).retryAfter).toEqual(Duration.millis(50))
        expect((yield* Fiber.join(next)).waited).toEqual(Duration.millis(151))
        expect(began).toBe(false)
        expect(clock.pending).toBe(0)
      }
    }))

  it.effect("with several quotas and a long queue too, most calls that would wait too long are refused on arrival", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make([tenPerSecond, { limit: 1, window: "1 millis", burst: 5 }])
      yield* Effect.forEach(Array.from({ length: 1000 }), () => fork(limiter.consume()))
      expect((yield* exceeded(limiter.consume({ maxWait: "90 seconds" }))).retryAfter).toEqual(Duration.seconds(100))
      const waits = yield* fork(limiter.consume({ maxWait: "100 seconds" }))
      yield* TestClock.adjust("100 seconds")
      expect((yield* Fiber.join(waits)).waited).toEqual(Duration.seconds(100))
    }))

  it("ten thousand calls whose time is over at once are all refused", async () => {
    const clock = new ManualClock()
    const program = Effect.gen(function*() {
      const limiter = yield* onClock(clock, { limit: 1, window: "1 hour", burst: 1 })
      yield* limiter.penalize({ for: "1 milli" })
      const calls = yield* Effect.forEach(
        Array.from({ length: 10_000 }, (_, i) => `${i % 100}`),
        (key) => fork(Effect.exit(limiter.consume({ key, maxWait: "200 hours" })))
      )
      for (let i = 0; i < 100; i++) yield* limiter.penalize({ key: `${i}`, for: "300 hours" })
      clock.advance(200 * 3_600_000)
      const exits = yield* Effect.forEach(calls, Fiber.join)
      expect(exits.filter(Exit.isFailure).length).toBe(9900)
      // That of the keys.
      expect(clock.pending).toBe(1)
    })
    await Effect.runPromise(program)
  })

  it.effect("a call is refused in time though the refusals of many others before it take theirs", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, { limit: 1, window: "1 milli" })
      yield* limiter.consume()
      const wait = (maxWait: number) => Effect.exit(limiter.consume({ maxWait }))
      yield* fork(Effect.map(wait(10_000), () => clock.block(5)))
      // More than one turn of the event loop refuses.
      for (let i = 0; i < 3000; i++) yield* fork(wait(10_000))
      const last = yield* fork(wait(10_010))
      yield* limiter.penalize({ for: "1 hour" })
      clock.advance(10_000)
      yield* settle
      expect([clock.now / 1e6, last.pollUnsafe()]).toEqual([10_005, undefined])
      clock.advance(5)
      yield* settle
      expect(last.pollUnsafe()).not.toBe(undefined)
    }))

  it("a call that is interrupted at any operation waits no more, and leaves no timer", () => {
    for (const sweep of [interruptionSweep, scheduleSweep]) {
      sweep({
        make: Effect.gen(function*() {
          const limiter = yield* RateLimiter.make({ limit: 1, window: "10 millis" })
          yield* Effect.orDie(limiter.consume())
          return limiter
        }),
        subject: (limiter) =>
          Effect.andThen(
            Effect.exit(limiter.withLimit(Effect.void, { maxWait: 9 })),
            limiter.withLimit(Effect.succeed(1), { maxWait: 10 })
          ),
        expected: 1,
        check: (limiter) => Effect.andThen(limiter.consume({ maxWait: 10 }), limiter.consume({ maxWait: 10 }))
      })
    }
  })

  // The time of both calls is over at once. The second one is due then, as soon as the first one has left.
  const twoLate = (limiter: RateLimiter.RateLimiter) => ({
    first: fork(limiter.consume({ tokens: 2, maxWait: 3000 })),
    second: limiter.withLimit(Effect.succeed("ran"), { maxWait: 3000 }),
    heldUp: Effect.andThen(Effect.sleep(100), limiter.penalize({ for: 2400 }))
  })
  const spent = RateLimiter.make({ limit: 1, window: "1 second", burst: 2 }).pipe(
    Effect.tap((limiter) => limiter.consume({ tokens: 2 }))
  )

  it("L1 a call that goes first because the time of another is over keeps its tokens, wherever it yields", () => {
    const make = Effect.tap(spent, (limiter) => twoLate(limiter).first)
    yieldSweep({
      make,
      subject: (limiter) => twoLate(limiter).second,
      meanwhile: (limiter) => twoLate(limiter).heldUp,
      expected: "ran",
      check: (limiter) => Effect.map(limiter.peek(), ({ remaining }) => expect(remaining).toBe(0))
    })
  })

  it.effect("each call is counted once: as delayed where it goes first because the time of another is over, or as refused", () =>
    Effect.gen(function*() {
      const limiter = yield* spent
      yield* twoLate(limiter).first
      const second = yield* fork(twoLate(limiter).second)
      yield* fork(twoLate(limiter).heldUp)
      yield* TestClock.adjust(3000)
      expect(yield* Fiber.join(second)).toBe("ran")
      const count = (outcome: string) => read("ratelimiter.decisions", { outcome })
      expect([yield* count("admitted"), yield* count("delayed"), yield* count("refused")]).toEqual([1, 1, 1])
    }).pipe(Effect.provide(Metrics.layer), Effect.scoped, withRegistry))

  it("an invalid maxWait throws a RangeError that names function, rule and value", () => {
    for (const maxWait of [-1, NaN, Infinity]) {
      const rule = `maxWait must be a finite duration >= 0, got ${maxWait}`
      expect(() => RateLimiter.consume({ maxWait })).toThrow(new RangeError(`RateLimiter.consume: ${rule}`))
      expect(() => RateLimiter.withLimit({ maxWait })).toThrow(new RangeError(`RateLimiter.withLimit: ${rule}`))
    }
  })
})
