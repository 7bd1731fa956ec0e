import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Schema } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as Scheduler from "effect-funnel/Scheduler"
import { TestClock } from "effect/testing"
import * as Gcra from "../src/internal/limiter/gcra.js"
import { limiterOf } from "../src/internal/limiter/limiter.js"
import { fork } from "./support/fibers.ts"
import { exceeded, onClock } from "./support/limiters.ts"
import { ManualClock } from "./support/manualClock.js"
import { interruptionSweep } from "./support/sweep.ts"

/** Notes when each effect starts. */
const recorder = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const starts: Array<readonly [number, unknown]> = []
  return {
    starts,
    times: () => starts.map(([at]) => at),
    start: (name: unknown) => Effect.sync(() => starts.push([clock.currentTimeMillisUnsafe(), name]))
  }
})

describe("pace", () => {
  it("the message of a refusal rounds the wait up to a millisecond, which the wait itself is not", () => {
    const retryAfter = Duration.nanos(5_999_500_557n)
    const error = new RateLimiter.RateLimitExceeded({ key: undefined, limit: 10, remaining: 0, retryAfter })
    expect(error.message).toBe("rate limit exceeded: 0 of 10 left, retry after 6s")
    expect(error.retryAfter).toBe(retryAfter)
  })

  it.effect("L1 starts are evenly spaced by default", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 5, window: "1 second" })
      const { start, times } = yield* recorder
      const fiber = yield* Effect.forkChild(
        Effect.forEach([0, 1, 2, 3, 4], (i) => limiter.withLimit(start(i)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      expect(times()).toEqual([0, 200, 400, 600, 800])
    }))

  it.effect("L1 a burst goes at once after a rest", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 3 })
      const { start, times } = yield* recorder
      yield* TestClock.adjust("1 hour")
      yield* Effect.forkChild(
        Effect.forEach([0, 1, 2, 3, 4], (i) => limiter.withLimit(start(i)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 second")
      expect(times().map((at) => at - 3_600_000)).toEqual([0, 0, 0, 100, 200])
    }))

  it.effect("L1 strict: no window exceeds the limit when many starts follow one", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 100, window: "1 second", burst: 2, strict: true })
      const { start, times } = yield* recorder
      yield* limiter.withLimit(start(0))
      yield* TestClock.adjust("900 millis")
      yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 199 }), (_, i) => limiter.withLimit(start(i)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("3 seconds")
      const starts = times()
      expect(starts.length).toBe(200)
      for (let i = 0; i + 100 < 200; i++) expect(starts[i + 100]! - starts[i]!).toBeGreaterThanOrEqual(1000)
      // 197 intervals of 10 ms behind the two at once: being strict costs no pace.
      expect(starts.at(-1)! - 900).toBe(1970)
    }))

  it.effect("L1 a call that one quota holds back takes the tokens of the others when it starts, and not when it came", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make([
        { limit: 10, window: "1 second" },
        { limit: 20, window: "1 second", burst: 2 }
      ])
      const { start, starts } = yield* recorder
      yield* limiter.withLimit(start("first"), { tokens: [1, 0] })
      yield* Effect.forkChild(limiter.withLimit(start("both"), { tokens: [1, 2] }), { startImmediately: true })
      yield* TestClock.adjust("100 millis")
      // Two tokens of the second quota have just gone.
      yield* Effect.forkChild(limiter.withLimit(start("next"), { tokens: [0, 1] }), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      expect(starts).toEqual([[0, "first"], [100, "both"], [150, "next"]])
    }))

  it.effect("L1 all quotas must conform", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make([
        { limit: 10, window: "1 second", burst: 2 },
        { limit: 3, window: "1 minute", burst: 3 }
      ])
      const { start, times } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach([0, 1, 2, 3], (i) => limiter.withLimit(start(i)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 minute")
      expect(times()).toEqual([0, 0, 100, 20_000])
    }))

  for (const way of ["withLimit", "schedule", "forEach"] as const) {
    it.effect(`L1 strict: a process that stands still as a start begins makes its window longer, not shorter (${way})`, () =>
      Effect.gen(function*() {
        const clock = new ManualClock()
        const limiter = yield* onClock(clock, { limit: 1, window: "1 second", strict: true })
        const scheduler = yield* Effect.provideService(
          Scheduler.make({ concurrency: "unbounded", rate: RateLimiter.RateLimiter }),
          RateLimiter.RateLimiter,
          limiter
        )
        const starts: Array<number> = []
        // The process stops after the last step of the limiter and before the first one of the effect.
        const effect = Effect.sync(() => {
          clock.block(30 - 10 * starts.length)
          starts.push(clock.now / 1e6)
          if (starts.length === 2 && way !== "forEach") throw new Error("throws")
        })
        const call = way === "withLimit"
          ? Effect.exit(limiter.withLimit(effect))
          : Effect.exit(scheduler.schedule(effect))
        const calls = Effect.all([call, call, call], { concurrency: "unbounded" })
        yield* fork(
          way === "forEach" ? Effect.asVoid(scheduler.forEach([1, 2, 3], () => effect)) : Effect.asVoid(calls)
        )
        clock.advance(5000)
        expect(starts.length).toBe(3)
        for (const i of [0, 1]) expect(starts[i + 1]! - starts[i]!).toBeGreaterThanOrEqual(1000)
      }))
  }

  it.effect("L1 strict: a call with `fail` counts from its begin, after the waiters with a late timer", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, { limit: 2, window: "1 second", burst: 2, strict: true })
      const starts: Array<number> = []
      const call = (onExceeded: "delay" | "fail") =>
        fork(
          limiter.withLimit(
            Effect.sync(() => {
              if (starts.length < 2) clock.block(30)
              starts.push(clock.now / 1e6)
            }),
            { onExceeded }
          )
        )
      yield* limiter.consume({ tokens: 2 })
      yield* call("delay")
      clock.block(1500)
      yield* call("fail")
      yield* Effect.repeat(call("delay"), { times: 3 })
      clock.advance(5000)
      expect(starts.slice(0, 2)).toEqual([1530, 1560])
      expect(starts.length).toBe(6)
      for (let i = 0; i < 4; i++) expect(starts[i + 2]! - starts[i]!).toBeGreaterThanOrEqual(1000)
    }))

  it.effect("L4 a limiter uses the clock it was made with", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, { limit: 1, window: "1 second" })
      yield* limiter.consume()
      const fiber = yield* fork(limiter.consume())
      yield* TestClock.adjust("1 hour")
      expect(fiber.pollUnsafe()).toBe(undefined)
      clock.advance(1000)
      expect(Duration.toMillis((yield* Fiber.join(fiber)).waited)).toBe(1000)
    }))
})

describe("results and refusals", () => {
  it.effect("consume returns the time it waited and the remaining tokens", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 3 })
      expect(yield* limiter.consume({ tokens: 2 })).toEqual({
        waited: Duration.zero,
        limit: 10,
        remaining: 1,
        resetAfter: Duration.millis(200)
      })
      const fiber = yield* fork(limiter.consume({ tokens: 3 }))
      yield* TestClock.adjust("200 millis")
      expect(yield* Fiber.join(fiber)).toEqual({
        waited: Duration.millis(200),
        limit: 10,
        remaining: 0,
        resetAfter: Duration.millis(300)
      })
    }))

  it.effect("consume returns the quota with the fewest tokens left", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make([
        { limit: 10, window: "1 second", burst: 10 },
        { limit: 100, window: "1 minute", burst: 5 }
      ])
      const { limit, remaining, resetAfter } = yield* limiter.consume({ tokens: 2 })
      expect({ limit, remaining }).toEqual({ limit: 100, remaining: 3 })
      expect(Duration.toMillis(resetAfter)).toBe(1200)
    }))

  it.effect("L2 a refusal holds key, limit, remaining tokens and retryAfter, and consumes nothing", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 3 })
      yield* limiter.consume({ key: "k", tokens: 2 })
      for (let i = 0; i < 3; i++) {
        const reason = yield* exceeded(limiter.consume({ key: "k", tokens: 3, onExceeded: "fail" }))
        expect(reason).toMatchObject({ key: "k", limit: 10, remaining: 1, retryAfter: Duration.millis(200) })
        expect(reason.message).toBe("rate limit exceeded for \"k\": 1 of 10 left, retry after 200ms")
      }
    }))

  const int = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
  const quota = Schema.Struct({ limit: int(1, 1000), windowMicros: int(1000, 10_000_000), burst: int(1, 10) })
  const calls = Schema.Array(Schema.Struct({ gap: int(0, 2000), tokens: int(1, 10) })).check(Schema.isMaxLength(20))

  for (const strict of [false, true]) {
    it.effect.prop(
      `L2 retryAfter is exact${strict ? " when strict" : ""}: refused a nanosecond before it, admitted at it`,
      { quotas: Schema.NonEmptyArray(quota), calls },
      ({ calls, quotas: given }) =>
        Effect.gen(function*() {
          const clock = new ManualClock()
          const quotas = given.slice(0, 3).map((_) => ({
            limit: _.limit,
            window: Duration.micros(BigInt(_.windowMicros)),
            burst: Math.min(_.burst, _.limit),
            strict
          }))
          const burst = Math.min(...quotas.map((_) => _.burst))
          const limiter = yield* onClock(clock, quotas)
          for (const { gap, tokens: asked } of calls) {
            clock.block(gap / 1000)
            const tokens = Math.min(asked, burst)
            const attempt = limiter.consume({ tokens, onExceeded: "fail" })
            const first = yield* Effect.result(attempt)
            if (first._tag === "Success") continue
            const reason = first.failure.reason
            if (reason._tag !== "RateLimitExceeded") return expect.fail(reason._tag)
            expect(reason.remaining).toBeLessThan(tokens)
            clock.block((Number(Duration.toNanosUnsafe(reason.retryAfter)) - 1) / 1e6)
            expect((yield* exceeded(attempt)).retryAfter).toEqual(Duration.nanos(1n))
            clock.block(0.000001)
            expect((yield* attempt).waited).toEqual(Duration.zero)
          }
        })
    )
  }

  it.effect("L2 resetAfter is exact: the whole burst is free then, and not a nanosecond before", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, { limit: 3, window: "1 second", burst: 4 })
      const { resetAfter } = yield* limiter.consume({ tokens: 3 })
      clock.block((Number(Duration.toNanosUnsafe(resetAfter)) - 1) / 1e6)
      yield* exceeded(limiter.consume({ tokens: 4, onExceeded: "fail" }))
      clock.block(0.000001)
      yield* limiter.consume({ tokens: 4, onExceeded: "fail" })
    }))

  it.effect("L2 retryAfter holds while others wait, also when their timer is late", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, { limit: 50, window: "1 second" })
      yield* limiter.consume()
      const waiting = yield* fork(limiter.consume())
      const { retryAfter } = yield* exceeded(limiter.consume({ onExceeded: "fail" }))
      expect(retryAfter).toEqual(Duration.millis(40))
      clock.block(39.999999)
      yield* exceeded(limiter.consume({ onExceeded: "fail" }))
      clock.block(0.000001)
      yield* limiter.consume({ onExceeded: "fail" })
      expect(waiting.pollUnsafe()).not.toBe(undefined)
    }))
})

describe("peek", () => {
  it.effect("peek takes nothing: it tells what is left, and a key that nobody uses stays unknown", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make([
        { limit: 10, window: "1 second", burst: 5 },
        { limit: 60, window: "1 minute", burst: 60 }
      ])
      const rested = { limit: 10, remaining: 5, resetAfter: Duration.zero, retryAfter: Duration.zero }
      expect(yield* limiter.peek({ key: "k" })).toEqual(rested)
      expect(JSON.stringify(limiter)).toContain(`"keys":0`)
      yield* limiter.consume({ key: "k", tokens: 5 })
      const spent = {
        limit: 10,
        remaining: 0,
        resetAfter: Duration.millis(5000),
        retryAfter: Duration.millis(100)
      }
      expect(yield* limiter.peek({ key: "k" })).toEqual(spent)
      expect(yield* limiter.peek({ key: "k" })).toEqual(spent)
      expect(yield* limiter.peek()).toEqual(rested)
    }))

  it.effect("L2 the retryAfter of a peek is exact, behind waiters, a penalty and a late timer", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      for (const strict of [false, true]) {
        const limiter = yield* onClock(clock, { limit: 50, window: "1 second", burst: 2, strict })
        yield* limiter.withLimit(Effect.void, { tokens: 2 })
        yield* limiter.penalize({ for: "1 second" })
        yield* fork(limiter.withLimit(Effect.void))
        const { remaining, retryAfter } = yield* limiter.peek()
        expect(remaining).toBe(0)
        clock.block((Number(Duration.toNanosUnsafe(retryAfter)) - 1) / 1e6)
        yield* Effect.yieldNow
        expect((yield* limiter.peek()).retryAfter).toEqual(Duration.nanos(1n))
        yield* exceeded(limiter.consume({ onExceeded: "fail" }))
        clock.block(0.000001)
        expect((yield* limiter.peek()).retryAfter).toEqual(Duration.zero)
        yield* limiter.consume({ onExceeded: "fail" })
      }
    }))

  it.effect("the module, a tag and the limiter without limits have it", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 3, window: "1 second" }) {}
      expect((yield* Effect.provide(Api.peek(), Api.layer)).remaining).toBe(1)
      const { limit, remaining, retryAfter } = yield* Effect.provide(RateLimiter.peek(), RateLimiter.layerNoop)
      expect([limit, remaining, retryAfter]).toEqual([Infinity, Infinity, Duration.zero])
    }))
})

describe("order", () => {
  it.effect("L3 callers start in order of arrival, and keys do not delay each other", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second" })
      const { start, starts } = yield* recorder
      yield* Effect.forkChild(
        Effect.forEach(["a1", "a2", "b1", "a3", "b2"], (name) => limiter.withLimit(start(name), { key: name[0]! }), {
          concurrency: "unbounded"
        })
      )
      yield* TestClock.adjust("10 seconds")
      expect(starts).toEqual([[0, "a1"], [0, "b1"], [1000, "a2"], [1000, "b2"], [2000, "a3"]])
    }))

  it.effect("L3 an interrupted caller costs nothing and those behind it move up", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second" })
      const { start, starts } = yield* recorder
      yield* limiter.consume()
      const fibers = yield* Effect.forEach(
        [1, 2, 3, 4, 5],
        (i) => fork(limiter.withLimit(start(i)))
      )
      yield* TestClock.adjust("500 millis")
      yield* Fiber.interrupt(fibers[0]!)
      yield* Fiber.interrupt(fibers[2]!)
      yield* TestClock.adjust("10 seconds")
      expect(starts).toEqual([[1000, 2], [2000, 4], [3000, 5]])
    }))

  it.effect("the tokens of an effect that fails or is interrupted are spent, and its failure is its own", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second", burst: 2 })
      const fiber = yield* fork(limiter.withLimit(Effect.never))
      yield* Fiber.interrupt(fiber)
      expect(yield* Effect.flip(limiter.withLimit(Effect.fail("no")))).toBe("no")
      expect((yield* exceeded(limiter.consume({ onExceeded: "fail" }))).retryAfter).toEqual(Duration.seconds(1))
    }))

  // A subject that is interrupted wherever: alone at a key at rest, or behind another.
  for (const strict of [false, true]) {
    for (const ahead of [0, 1]) {
      for (const kind of ["consume", "withLimit", "schedule", "forEach"] as const) {
        const name = `${kind}${strict ? ", strict" : ""}, ${ahead === 0 ? "at once" : "after a wait"}`
        it(`L3 a call that is interrupted at any operation spends its slot if and only if it began (${name})`, () => {
          const seen = { spent: 0, unspent: 0 }
          interruptionSweep({
            make: Effect.gen(function*() {
              const clock = new ManualClock()
              const limiter = yield* onClock(clock, { limit: 1, window: "1 second", strict })
              const scheduler = yield* Scheduler.make({ concurrency: 2, rate: RateLimiter.RateLimiter }).pipe(
                Effect.provideService(RateLimiter.RateLimiter, limiter)
              )
              if (ahead === 1) yield* Effect.orDie(limiter.consume())
              return { clock, limiter, scheduler, began: false }
            }),
            subject: (fixture): Effect.Effect<unknown, unknown> => {
              const { limiter, scheduler } = fixture
              const begin = Effect.sync(() => {
                fixture.began = true
              })
              if (kind === "consume") {
                return Effect.map(limiter.consume(), () => {
                  fixture.began = true
                })
              }
              if (kind === "withLimit") return limiter.withLimit(begin)
              if (kind === "schedule") return scheduler.schedule(begin)
              return scheduler.forEach([1], () => begin, { discard: true })
            },
            meanwhile: ({ clock }) =>
              Effect.andThen(
                Effect.yieldNow,
                Effect.sync(() => {
                  clock.block(1000)
                  clock.fire()
                })
              ),
            expected: undefined,
            check: ({ began, clock, limiter }) =>
              Effect.gen(function*() {
                seen[began ? "spent" : "unspent"]++
                const since = clock.now
                const next = yield* Effect.forkScoped(limiter.consume(), { startImmediately: true })
                // A call that began did so a second ago at most.
                if (!began) expect(next.pollUnsafe()).toBeDefined()
                clock.advance(1000)
                yield* Fiber.join(next)
                expect(clock.now - since).toBeLessThanOrEqual(1e9)
                expect(clock.pending).toBe(0)
              })
          })
          expect(seen.spent).toBeGreaterThan(0)
          expect(seen.unspent).toBeGreaterThan(0)
        })
      }
    }
  }
})

describe("penalize and reset", () => {
  it.effect("a penalty of zero changes nothing: the burst stays, and the key stays unknown", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 10 })
      yield* limiter.penalize({ key: "k", for: 0 })
      expect(JSON.stringify(limiter)).toContain(`"keys":0`)
      yield* limiter.consume({ key: "k", tokens: 9 })
      yield* limiter.penalize({ key: "k", for: 0 })
      yield* limiter.consume({ key: "k", onExceeded: "fail" })
      const { retryAfter } = yield* exceeded(limiter.consume({ key: "k", onExceeded: "fail" }))
      expect(retryAfter).toEqual(Duration.millis(100))
    }))

  it.effect("no call of a penalized key is admitted before the time is over", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 5 })
      const { start, starts } = yield* recorder
      yield* limiter.penalize({ key: "k", for: "30 seconds" })
      yield* Effect.forkChild(
        Effect.forEach(["k1", "k2", "free"], (name) => limiter.withLimit(start(name), { key: name.slice(0, 1) }), {
          concurrency: "unbounded"
        })
      )
      yield* TestClock.adjust("1 minute")
      expect(starts).toEqual([[0, "free"], [30_000, "k1"], [30_100, "k2"]])
    }))

  it.effect("a reset gives waiting calls the burst at once", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 minute", burst: 2 })
      yield* limiter.consume({ tokens: 2 })
      const fiber = yield* fork(limiter.consume())
      yield* TestClock.adjust("1 second")
      yield* limiter.reset()
      expect(yield* Fiber.join(fiber)).toMatchObject({ waited: Duration.seconds(1), remaining: 1 })
    }))
})

describe("capacity", () => {
  it.effect("L6 more tokens than the burst fail at once, waiting or not, and consume nothing", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make([
        { limit: 10, window: "1 second", burst: 5 },
        { limit: 100, window: "1 minute", burst: 3 }
      ])
      for (const onExceeded of ["delay", "fail"] as const) {
        const { message, reason } = yield* Effect.flip(limiter.consume({ tokens: 4, onExceeded }))
        expect(reason).toMatchObject({ _tag: "InsufficientCapacity", what: "tokens", asked: 4, most: 3 })
        expect(message).toBe("effect-funnel/RateLimiter: 4 tokens exceed the burst of 3")
      }
      yield* limiter.consume({ tokens: 3, onExceeded: "fail" })
      expect((yield* Effect.flip(limiter.withLimit(Effect.void, { tokens: 4 }))).reason._tag)
        .toBe("InsufficientCapacity")
    }))

  it.effect("a waiting call fails when the burst becomes too small for it", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second", burst: 3 })
      yield* limiter.consume({ tokens: 3 })
      const fiber = yield* fork(Effect.flip(limiter.consume({ tokens: 3 })))
      limiterOf(limiter)!.setQuotas([Gcra.rate(1, 1_000_000_000, 2, false)])
      const { reason } = yield* Fiber.join(fiber)
      expect(reason).toMatchObject({ _tag: "InsufficientCapacity", what: "tokens", asked: 3, most: 2 })
    }))

  it.effect("reasons are caught by their name", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second" })
      const attempt = (tokens: number) =>
        limiter.consume({ tokens, onExceeded: "fail" }).pipe(
          Effect.as("passed"),
          Effect.catchReason("RateLimiterError", "RateLimitExceeded", (_) => Effect.succeed("exceeded")),
          Effect.catchReason("RateLimiterError", "InsufficientCapacity", (_) => Effect.succeed("insufficient"))
        )
      expect(yield* attempt(2)).toBe("insufficient")
      expect(yield* attempt(1)).toBe("passed")
      expect(yield* attempt(1)).toBe("exceeded")
      const lost = new RateLimiter.RateLimiterError({
        limiter: "app/GitHub",
        reason: new RateLimiter.StoreError({ operation: "take", cause: "gone" })
      })
      expect(lost.message).toBe("app/GitHub: store command `take` failed: gone")
    }))
})

describe("services", () => {
  class GitHub extends RateLimiter.Service<GitHub>()("test/GitHub", { limit: 1, window: "1 second" }) {}
  class Mail extends RateLimiter.Service<Mail>()("test/Mail", { limit: 1, window: "1 minute", burst: 2 }) {}

  it.effect("the default tag has the accessors of the module", () =>
    Effect.gen(function*() {
      expect((yield* RateLimiter.consume({ key: "k" })).remaining).toBe(1)
      expect(yield* RateLimiter.withLimit(Effect.succeed(1))).toBe(1)
      yield* RateLimiter.penalize({ key: "k", for: "1 hour" })
      yield* exceeded(RateLimiter.consume({ key: "k", onExceeded: "fail" }))
      yield* RateLimiter.reset({ key: "k" })
      expect((yield* RateLimiter.consume({ key: "k" })).remaining).toBe(1)
    }).pipe(Effect.provide(RateLimiter.layer({ limit: 1, window: "1 second", burst: 2 }))))

  it.effect("withLimit is the same in every spelling", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.RateLimiter
      const one = Effect.succeed(1)
      const options = { key: "k", tokens: 2 }
      const spellings = [
        limiter.withLimit(one, options),
        one.pipe(limiter.withLimit(options)),
        RateLimiter.withLimit(one, options),
        one.pipe(RateLimiter.withLimit(options))
      ]
      for (const effect of spellings) expect(yield* effect).toBe(1)
      const { resetAfter } = yield* limiter.consume({ key: "k" })
      expect(resetAfter).toEqual(Duration.millis(90))
      for (const effect of [limiter.withLimit(one), one.pipe(limiter.withLimit), one.pipe(RateLimiter.withLimit)]) {
        expect(yield* effect).toBe(1)
      }
      expect(yield* one.pipe(RateLimiter.withLimit())).toBe(1)
      expect((yield* limiter.consume()).resetAfter).toEqual(Duration.millis(50))
    }).pipe(Effect.provide(RateLimiter.layer({ limit: 100, window: "1 second", burst: 20 }))))

  it.effect("each tag has its own limiter", () =>
    Effect.gen(function*() {
      yield* GitHub.consume()
      yield* Mail.consume()
      yield* exceeded(GitHub.withLimit(Effect.void, { onExceeded: "fail" }))
      yield* Mail.withLimit(Effect.void)
      yield* exceeded(Mail.consume({ onExceeded: "fail" }))
      yield* Mail.reset()
      yield* Mail.penalize({ for: "1 second" })
      expect((yield* exceeded(Mail.consume({ onExceeded: "fail" }))).retryAfter).toEqual(Duration.seconds(1))
      expect(yield* GitHub).not.toBe(yield* Mail)
    }).pipe(Effect.provide(Layer.mergeAll(GitHub.layer, Mail.layer))))

  it.effect("a layer is one limiter for the whole program it is provided to", () =>
    Effect.gen(function*() {
      const attempt = GitHub.consume({ onExceeded: "fail" })
      yield* Effect.gen(function*() {
        yield* attempt
        yield* exceeded(attempt)
      }).pipe(Effect.provide(GitHub.layer))
    }))

  it.effect("layerNoop admits everything at once, and still refuses invalid options", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 100; i++) {
        expect((yield* GitHub.consume({ tokens: 1000, onExceeded: "fail" })).waited).toEqual(Duration.zero)
        yield* RateLimiter.withLimit(Effect.void, { tokens: 1000 })
      }
      yield* RateLimiter.penalize({ for: "1 hour" })
      yield* RateLimiter.reset()
      expect((yield* RateLimiter.consume()).remaining).toBe(Infinity)
      const limiter = yield* RateLimiter.RateLimiter
      expect(() => limiter.consume({ tokens: 0 })).toThrow(RangeError)
    }).pipe(Effect.provide([GitHub.layerNoop, RateLimiter.layerNoop])))

  it.effect("a scheduler finds the limiter of a handle", () =>
    Effect.gen(function*() {
      const limiter = yield* GitHub
      const engine = limiterOf(limiter)!
      expect(engine.takeUnsafe(undefined, 1, engine.now())).toBe(true)
      yield* exceeded(limiter.consume({ onExceeded: "fail" }))
      const noop = yield* RateLimiter.RateLimiter
      expect(limiterOf(noop)!.takeUnsafe(undefined, 1e9, 0)).toBe(true)
    }).pipe(Effect.provide([GitHub.layer, RateLimiter.layerNoop])))

  it.effect("isRateLimiter knows a handle, which has pipe, and its name and number of keys in toJSON", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second" }, { name: "mail" })
      yield* limiter.consume({ key: "k" })
      expect(JSON.parse(JSON.stringify(limiter))).toEqual({ _id: "effect-funnel/RateLimiter", name: "mail", keys: 1 })
      expect(limiter.pipe((self) => self === limiter)).toBe(true)
      const [noop] = yield* Effect.all([RateLimiter.RateLimiter]).pipe(Effect.provide(RateLimiter.layerNoop))
      expect([limiter, noop, {}, null, "k"].map(RateLimiter.isRateLimiter)).toEqual([true, true, false, false, false])
    }))
})

describe("misuse", () => {
  const quota = { limit: 1, window: "1 second" } as const

  it("an invalid quota throws a RangeError that names function, field, rule and value", () => {
    const cases: ReadonlyArray<readonly [RateLimiter.Options, string]> = [
      ...[0, -1, 1.5, NaN, Infinity].flatMap((n) => [
        [{ ...quota, limit: n }, `limit must be an integer >= 1, got ${n}`] as const,
        [{ ...quota, burst: n }, `burst must be an integer >= 1, got ${n}`] as const
      ]),
      ...[0, -5, NaN, Infinity, Duration.infinity].map((window) =>
        [{ ...quota, window }, `window must be a finite duration > 0, got ${String(window)}`] as const
      ),
      [
        { limit: 1000, window: Duration.nanos(999n) },
        "window must be at least a nanosecond for each of 1000 tokens, got 999 nanos"
      ],
      [{ ...quota, burst: 2, strict: true }, "burst must be <= limit (1) when strict, got 2"],
      [[], "quotas must be a quota or a list of at least one, got []"],
      [[quota, { ...quota, limit: 0 }], "quotas[1].limit must be an integer >= 1, got 0"]
    ]
    for (const [options, message] of cases) {
      for (
        const [name, f] of [
          ["make", RateLimiter.make],
          ["layer", RateLimiter.layer],
          ["Service", (options: RateLimiter.Options) => RateLimiter.Service<never>()("test/X", options)]
        ] as const
      ) {
        expect(() => f(options)).toThrow(new RangeError(`RateLimiter.${name}: ${message}`))
      }
    }
  })

  it("a value that has no text is refused by a RangeError too", () => {
    const throwing = {
      toString() {
        throw new Error("no text")
      }
    }
    for (
      const [nothing, text] of [[Object.create(null), "{}"], [[1n], "[1n]"], [throwing, "[toString threw]"]] as const
    ) {
      expect(() => RateLimiter.layer({ ...quota, limit: nothing })).toThrow(
        new RangeError(`RateLimiter.layer: limit must be an integer >= 1, got ${text}`)
      )
    }
  })

  it.effect("an invalid call throws a RangeError at the call, by handle and by accessor", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(quota)
      for (const { consume, withLimit } of [limiter, RateLimiter]) {
        for (const tokens of [0, -1, 1.5, NaN, Infinity]) {
          const rule = `tokens must be an integer >= 1, got ${tokens}`
          expect(() => consume({ tokens })).toThrow(new RangeError(`RateLimiter.consume: ${rule}`))
          expect(() => withLimit({ tokens })).toThrow(new RangeError(`RateLimiter.withLimit: ${rule}`))
          expect(() => withLimit(Effect.void, { tokens })).toThrow(RangeError)
        }
        // @ts-expect-error: no such mode
        expect(() => consume({ onExceeded: "drop" })).toThrow(
          new RangeError("RateLimiter.consume: onExceeded must be \"delay\" or \"fail\", got \"drop\"")
        )
      }
      for (const { penalize } of [limiter, RateLimiter]) {
        for (const time of [-1, NaN, Infinity]) {
          expect(() => penalize({ for: time })).toThrow(
            new RangeError(`RateLimiter.penalize: for must be a finite duration >= 0, got ${time}`)
          )
        }
        expect(() => penalize({ for: { seconds: NaN } })).toThrow(
          new RangeError("RateLimiter.penalize: for must be a finite duration >= 0, got {\"seconds\":NaN}")
        )
        expect(() => penalize({ for: [1, NaN] })).toThrow(RangeError)
        expect(() => penalize({ for: { minutes: 1, seconds: -61 } })).toThrow("got {\"minutes\":1,\"seconds\":-61}")
      }
    }))

  it("a burst that takes more than a century to come back is refused, and a year is fine", () => {
    for (const burst of [1e12, 1e15, Number.MAX_SAFE_INTEGER]) {
      expect(() => RateLimiter.make({ limit: 100, window: "1 second", burst })).toThrow(
        new RangeError(`RateLimiter.make: burst must be what comes back within 100 years, got ${burst}`)
      )
    }
    expect(RateLimiter.make({ limit: 12, window: "365 days", burst: 12 })).toBeDefined()
    expect(RateLimiter.make({ limit: 1, window: "36500 days" })).toBeDefined()
  })

  it.effect("L1 L2 hold with a burst of a billion: nothing passes in a penalty, then one token and the pace", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 100, window: "1 second", burst: 1e9 })
      const next = Effect.map(
        exceeded(limiter.consume({ onExceeded: "fail" })),
        ({ retryAfter }) => Math.ceil(Duration.toMillis(retryAfter))
      )
      yield* limiter.consume()
      yield* limiter.penalize({ for: "10 seconds" })
      expect(yield* next).toBe(10_000)
      yield* TestClock.adjust(9999)
      expect(yield* next).toBe(1)
      yield* TestClock.adjust(1)
      yield* limiter.consume({ onExceeded: "fail" })
      expect(yield* next).toBe(10)
    }))

  it.effect("L1 a limiter that has been up for years is exact to the nanosecond", () =>
    Effect.gen(function*() {
      for (const days of [51, 53, 110, 3650, 36_500]) {
        const clock = new ManualClock()
        const limiter = yield* onClock(clock, { limit: 1_000_000_000, window: "1 second" })
        const hour = yield* onClock(clock, { limit: 1, window: "1 hour" })
        clock.block(days * 86_400_000 - 1000)
        yield* hour.consume({ key: "k" })
        clock.block(1000)
        let admitted = 0
        for (let i = 0; i < 40; i++) {
          const exit = yield* Effect.exit(limiter.consume({ onExceeded: "fail" }))
          if (Exit.isSuccess(exit)) admitted++
          if (i % 4 === 3) clock.block(1e-6)
        }
        expect([days, admitted]).toEqual([days, 10])
        const { retryAfter } = yield* exceeded(hour.consume({ key: "k", onExceeded: "fail" }))
        expect(Math.round(Duration.toSeconds(retryAfter))).toBe(3599)
      }
    }))

  it.effect("the waited time is complete although the axis starts over in the meantime", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const year = yield* onClock(clock, { limit: 1, window: "365 days" })
      yield* year.consume({ key: "k" })
      const waiting = yield* fork(year.consume({ key: "k" }))
      clock.advance(60 * 86_400_000)
      yield* year.consume({ key: "other" })
      clock.advance(305 * 86_400_000)
      expect((yield* Fiber.join(waiting)).waited).toEqual(Duration.days(365))
    }))

  it.effect("very slow and very fast limits work", () =>
    Effect.gen(function*() {
      const year = yield* RateLimiter.make({ limit: 1, window: "365 days" })
      yield* year.consume()
      expect((yield* exceeded(year.consume({ onExceeded: "fail" }))).retryAfter).toEqual(Duration.days(365))
      const fiber = yield* Effect.forkChild(year.consume())
      yield* TestClock.adjust("365 days")
      expect((yield* Fiber.join(fiber)).waited).toEqual(Duration.days(365))

      const fast = yield* RateLimiter.make({ limit: 1_000_000_000, window: "1 second", burst: 1_000_000 })
      yield* fast.consume({ tokens: 1_000_000 })
      expect((yield* exceeded(fast.consume({ onExceeded: "fail" }))).retryAfter).toEqual(Duration.nanos(1n))
    }))
})
