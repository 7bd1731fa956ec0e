import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Formatter } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as Scheduler from "effect-funnel/Scheduler"
import { TestClock } from "effect/testing"
import { fork } from "./support/fibers.ts"
import { exceeded, onClock, tenAtOnce } from "./support/limiters.ts"
import * as Gcra from "../src/internal/limiter/gcra.js"
import { LimiterMemory } from "../src/internal/limiter/memory.js"
import { ManualClock } from "./support/manualClock.js"
import { interruptionSweep, scheduleSweep } from "./support/sweep.ts"

const settle = (cost: number) => cost

const remaining = (limiter: RateLimiter.RateLimiter, key?: string) =>
  Effect.map(limiter.peek({ key }), ({ remaining }) => remaining)

describe("O4 settle", () => {
  it.effect("the tokens are charged at the start, and what a success cost less is given back", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const cost = yield* Deferred.make<number>()
      const call = yield* fork(limiter.withLimit(Deferred.await(cost), { tokens: 8, settle }))
      expect(yield* remaining(limiter)).toBe(2)
      yield* Deferred.succeed(cost, 3)
      expect(yield* Fiber.join(call)).toBe(3)
      expect(yield* remaining(limiter)).toBe(7)
    }))

  it.effect("what a success cost more is owed, also beyond the burst", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      yield* limiter.withLimit(Effect.succeed(25), { tokens: 1, settle })
      expect((yield* exceeded(limiter.consume({ maxWait: 0 }))).retryAfter).toEqual(Duration.millis(1600))
      yield* TestClock.adjust(1600)
      yield* limiter.consume({ maxWait: 0 })
    }))

  it.effect("a failure, a defect and an interruption cost the estimate", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      let settled = 0
      const options = { tokens: 2, settle: () => settled++ }
      yield* Effect.exit(limiter.withLimit(Effect.fail("no"), options))
      yield* Effect.exit(limiter.withLimit(Effect.die("no"), options))
      yield* Fiber.interrupt(yield* fork(limiter.withLimit(Effect.never, options)))
      expect([yield* remaining(limiter), settled]).toEqual([4, 0])
    }))

  it("a call that settles after a change of the quotas gives back no more than was left when later starts came, which may not have begun", () => {
    const clock = new ManualClock()
    const limiter = new LimiterMemory([Gcra.rate(10, 1e9, 10, false)], clock.context, clock)
    const start = () => ({ link: undefined })
    const left = () => limiter.standingUnsafe("k", limiter.now()).remaining
    limiter.takeUnsafe("k", 5, 0)
    const call = limiter.chargeUnsafe("k", 5, {})
    clock.advance(400)
    // One token of the five has not come back yet.
    const [first, second] = [start(), start()]
    for (const each of [first, second]) expect(limiter.takeUnsafe("k", 3, limiter.now(), each)).toBe(true)
    limiter.setQuotas([Gcra.rate(20, 1e9, 10, false)])
    expect(left()).toBe(3)
    limiter.settleUnsafe(call, 0)
    expect(left()).toBe(4)
    limiter.beginUnsafe(first)
    limiter.beginUnsafe(second)
    expect(left()).toBe(4)
    clock.advance(10_000)
    expect([limiter.size, clock.pending]).toEqual([0, 0])
  })

  it.effect("a refund wakes the callers who wait, as far as it goes", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const cost = yield* Deferred.make<number>()
      const call = yield* fork(limiter.withLimit(Deferred.await(cost), { tokens: 10, settle }))
      const waits = yield* Effect.forEach([4, 5, 1], (tokens) => fork(limiter.consume({ tokens })))
      yield* Deferred.succeed(cost, 2)
      yield* Fiber.join(call)
      expect(waits.map((_) => _.pollUnsafe() !== undefined)).toEqual([true, false, false])
      yield* TestClock.adjust(100)
      expect(waits.map((_) => _.pollUnsafe() !== undefined)).toEqual([true, true, false])
    }))

  it.effect("L1 tokens that had come back by themselves are not given back once more", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const cost = yield* Deferred.make<number>()
      const early = yield* fork(limiter.withLimit(Deferred.await(cost), { tokens: 10, settle }))
      yield* TestClock.adjust(700)
      // Had the first call cost nothing, this one would leave 3 of 10.
      yield* limiter.consume({ tokens: 7 })
      yield* Deferred.succeed(cost, 0)
      yield* Fiber.join(early)
      expect(yield* remaining(limiter)).toBe(3)
      const later = yield* fork(limiter.withLimit(Effect.delay(Effect.succeed(0), 5000), { tokens: 3, settle }))
      yield* TestClock.adjust(5000)
      yield* Fiber.join(later)
      yield* limiter.consume({ tokens: 10, maxWait: 0 })
      yield* exceeded(limiter.consume({ maxWait: 0 }))
    }))

  it.effect("L1 tokens that had come back before a granted call began are not given back once more", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, tenAtOnce)
      yield* limiter.consume({ tokens: 10 })
      // Each reading of the clock takes a nanosecond: the call finds no tokens, and has them when it begins to wait.
      let now = 999_999_999n
      clock.monotonicTimeNanosUnsafe = () => now++
      const call = yield* fork(limiter.withLimit(Effect.as(Effect.yieldNow, 0), { tokens: 10, settle }))
      expect(call.pollUnsafe()).toBe(undefined)
      now = 1_200_000_000n
      clock.monotonicTimeNanosUnsafe = () => now
      yield* limiter.consume({ tokens: 2, maxWait: 0 })
      yield* Fiber.join(call)
      expect(yield* remaining(limiter)).toBe(8)
    }))

  it("L1 tokens of a call that left before it began are not given back once more by a call behind it", () => {
    const ms = 1e6
    const clock = new ManualClock()
    const limiter = new LimiterMemory([Gcra.rate(10, 320 * ms, 9, false)], clock.context, clock)
    const take = (tokens: number, at: number, granted?: object) => {
      clock.advance(at - limiter.now() / ms)
      expect(limiter.takeUnsafe(undefined, tokens, limiter.now(), granted)).toBe(true)
    }
    const leaves = {}
    take(2, 107)
    limiter.chargeUnsafe(undefined, 2, {})
    take(1, 170, leaves)
    take(3, 184)
    const charge = limiter.chargeUnsafe(undefined, 3, {})
    take(8, 267)
    limiter.refundUnsafe(leaves)
    limiter.settleUnsafe(charge, 0)
    // Alone at 267, eight tokens of 32 ms each come back until then.
    expect(limiter.now() + limiter.dueInUnsafe(undefined, 9)).toBeGreaterThanOrEqual((267 + 8 * 32) * ms)
  })

  it.effect("L1 calls that run at once do not give back the same tokens twice", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const cost = yield* Deferred.make<number>()
      const call = limiter.withLimit(Deferred.await(cost), { tokens: 5, settle })
      const both = [yield* fork(call), yield* fork(call)]
      yield* TestClock.adjust(800)
      yield* limiter.consume({ tokens: 8 })
      yield* Deferred.succeed(cost, 0)
      yield* Effect.forEach(both, Fiber.join)
      expect(yield* remaining(limiter)).toBe(2)
    }))

  it.effect("L1 a penalty that is over has taken the tokens that were charged before it", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const costs = yield* Effect.forEach([0, 0], () => Deferred.make<number>())
      const calls = yield* Effect.forEach(costs, (cost) =>
        fork(limiter.withLimit(Deferred.await(cost), { tokens: 5, settle })))
      yield* limiter.penalize({ for: 1000 })
      yield* Deferred.succeed(costs[0]!, 0)
      yield* Fiber.join(calls[0]!)
      expect((yield* limiter.peek()).retryAfter).toEqual(Duration.seconds(1))
      yield* TestClock.adjust(1000)
      yield* limiter.consume({ maxWait: 0 })
      yield* Deferred.succeed(costs[1]!, 0)
      yield* Fiber.join(calls[1]!)
      expect((yield* exceeded(limiter.consume({ maxWait: 0 }))).retryAfter).toEqual(Duration.millis(100))
    }))

  it.effect("a call with a maxWait whose limiter holds it up does not run settle", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      yield* limiter.consume({ tokens: 10 })
      const never = () => expect.fail("settles")
      const call = yield* fork(limiter.withLimit(Effect.void, { maxWait: 100, settle: never }))
      yield* limiter.penalize({ for: 150 })
      yield* TestClock.adjust(100)
      yield* exceeded(Fiber.join(call))
      yield* TestClock.adjust(900)
      expect(yield* remaining(limiter)).toBe(9)
    }))

  it.effect("a key with a call that is not settled is not forgotten, nor is its debt; after that it takes no memory", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const limiter = yield* onClock(clock, tenAtOnce)
      const cost = yield* Deferred.make<number>()
      const call = yield* fork(limiter.withLimit(Deferred.await(cost), { key: "k", settle }))
      clock.advance(3_600_000)
      expect(JSON.stringify(limiter)).toContain(`"keys":1`)
      yield* Deferred.succeed(cost, 36_000 + 30)
      yield* Fiber.join(call)
      // The debt is as old as the call: an hour of it is paid.
      expect((yield* limiter.peek({ key: "k" })).retryAfter).toEqual(Duration.millis(2100))
      clock.advance(10_000)
      expect([JSON.stringify(limiter).includes(`"keys":0`), clock.pending]).toEqual([true, 0])
    }))

  it.effect("a reset forgets what the calls that run then will have cost", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const costs = yield* Effect.forEach([0, 90], () => Deferred.make<number>())
      const calls = yield* Effect.forEach(costs, (cost) =>
        fork(limiter.withLimit(Deferred.await(cost), { tokens: 5, settle })))
      yield* limiter.reset()
      yield* fork(limiter.withLimit(Effect.never, {
        tokens: 6,
        settle: () =>
          0
      }))
      yield* Effect.forEach([0, 90], (cost, i) => Deferred.succeed(costs[i]!, cost))
      yield* Effect.forEach(calls, Fiber.join)
      expect(yield* remaining(limiter)).toBe(4)
    }))

  it.effect("strict: the window holds what calls have cost, by their starts, and no more than that was owed", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ ...tenAtOnce, strict: true })
      const cost = yield* Deferred.make<number>()
      const call = yield* fork(limiter.withLimit(Deferred.await(cost), { tokens: 10, settle }))
      yield* TestClock.adjust(200)
      yield* Deferred.succeed(cost, 4)
      yield* Fiber.join(call)
      yield* limiter.withLimit(Effect.succeed(9), { tokens: 6, maxWait: 0, settle })
      yield* TestClock.adjust(799)
      yield* exceeded(limiter.withLimit(Effect.void, { maxWait: 0 }))
      yield* TestClock.adjust(1)
      yield* limiter.withLimit(Effect.void, { maxWait: 0 })
      yield* exceeded(limiter.withLimit(Effect.void, { maxWait: 0 }))
      yield* TestClock.adjust(200)
      yield* limiter.withLimit(Effect.void, { tokens: 8, maxWait: 0 })
    }))

  it.effect("a settle that throws, or returns no number from 0, fails its own caller and leaves the estimate", () =>
    Effect.gen(function*() {
      for (const strict of [false, true]) {
        for (const cost of [NaN, -1, Infinity, "2" as never, undefined as never, Promise.resolve(1) as never]) {
          const limiter = yield* RateLimiter.make({ ...tenAtOnce, strict })
          const waits = yield* fork(limiter.withLimit(Effect.void, { tokens: 10 }))
          yield* Fiber.join(waits)
          const other = yield* fork(limiter.withLimit(Effect.succeed("other")))
          const call = yield* fork(Effect.exit(limiter.withLimit(Effect.succeed(cost), { settle })))
          yield* TestClock.adjust(2000)
          const exit = yield* Fiber.join(call)
          if (Exit.isSuccess(exit)) return expect.fail("succeeds")
          const [reason] = exit.cause.reasons
          expect(Cause.isDieReason(reason!) ? reason.defect : reason).toEqual(
            new RangeError(
              `RateLimiter.withLimit: what settle returns must be a number >= 0, got ${Formatter.format(cost)}`
            )
          )
          expect(yield* Fiber.join(other)).toBe("other")
        }
      }
      const limiter = yield* RateLimiter.make(tenAtOnce)
      const bug = new Error("bug")
      const exit = yield* Effect.exit(limiter.withLimit(Effect.succeed(1), {
        tokens: 4,
        settle: () => {
          throw bug
        }
      }))
      expect(exit).toEqual(Exit.die(bug))
      expect(yield* remaining(limiter)).toBe(6)
    }))

  it.effect("part of a token counts as one", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(tenAtOnce)
      yield* limiter.withLimit(Effect.succeed(1.01), { tokens: 5, settle })
      expect(yield* remaining(limiter)).toBe(8)
    }))

  it.effect("a limiter without limits runs settle, and refuses what it may not return", () =>
    Effect.gen(function*() {
      expect(yield* RateLimiter.withLimit(Effect.succeed(3), { settle })).toBe(3)
      expect(Exit.isFailure(yield* Effect.exit(RateLimiter.withLimit(Effect.succeed(NaN), { settle })))).toBe(true)
    }).pipe(Effect.provide(RateLimiter.layerNoop)))

  it("settle must be a function", () => {
    const limiter = Effect.runSync(RateLimiter.make(tenAtOnce))
    expect(() => limiter.withLimit(Effect.void, { settle: 3 as never })).toThrow(
      new RangeError("RateLimiter.withLimit: settle must be a function, got 3")
    )
  })

  for (const strict of [false, true]) {
    for (const ahead of [0, 10]) {
      const name = `${strict ? "strict, " : ""}${ahead === 0 ? "at once" : "after a wait"}`
      it(`a call that is interrupted at any operation costs what it cost, its estimate, or nothing (${name})`, () => {
        const seen = new Set<number>()
        // A clock that a test turns does not wait for a timer that another order of tasks sets later.
        for (const sweep of ahead > 0 ? [interruptionSweep] : [interruptionSweep, scheduleSweep]) {
          sweep({
            make: Effect.gen(function*() {
              const clock = new ManualClock()
              const limiter = yield* onClock(clock, { ...tenAtOnce, strict })
              if (ahead > 0) yield* Effect.orDie(limiter.withLimit(Effect.void, { key: "k", tokens: ahead }))
              return { clock, limiter, began: false, ended: false }
            }),
            subject: (fixture) => {
              const work = Effect.suspend(() => {
                fixture.began = true
                return Effect.as(Effect.yieldNow, 2)
              })
              const cost = (value: number) => {
                fixture.ended = true
                return value
              }
              return fixture.limiter.withLimit(work, { key: "k", tokens: 5, settle: cost })
            },
            meanwhile: ({ clock }) =>
              Effect.andThen(
                Effect.yieldNow,
                Effect.sync(() => {
                  clock.block(ahead * 100)
                  clock.fire()
                })
              ),
            expected: 2,
            check: ({ began, clock, ended, limiter }) =>
              Effect.gen(function*() {
                yield* Effect.yieldNow
                const left = yield* remaining(limiter, "k")
                const cost = ended ? 2 : began ? 5 : 0
                seen.add(cost)
                expect(left).toBe(10 - cost)
                // The timer of the key may have been set late.
                for (let i = 0; i < 2; i++) {
                  clock.advance(10_000)
                  yield* Effect.sleep(1)
                }
                expect(JSON.stringify(limiter)).toContain(`"keys":0`)
                expect(clock.pending).toBe(0)
              })
          })
        }
        expect(seen.size).toBeGreaterThan(1)
      })
    }
  }
})

describe("O4 lists of tokens", () => {
  /** Requests and tokens of a model. */
  const quotas = [
    { limit: 2, window: "1 second", burst: 2 },
    { limit: 1000, window: "1 second", burst: 1000 }
  ] as const

  for (const strict of [false, true]) {
    const both = quotas.map((quota) => ({ ...quota, strict }))
    const name = strict ? " (strict)" : ""

    it.effect(`each quota is charged, and settled, with its own number${name}`, () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make(both)
        yield* limiter.withLimit(Effect.succeed([1, 100]), { tokens: [1, 900], settle: (cost) => cost })
        const { limit, remaining } = yield* limiter.peek()
        expect([limit, remaining]).toEqual([2, 1])
        yield* limiter.withLimit(Effect.void, { tokens: [1, 900], maxWait: 0 })
        expect((yield* limiter.peek()).remaining).toBe(0)
        yield* exceeded(limiter.withLimit(Effect.void, { tokens: [0, 1], maxWait: 0 }))
      }))

    it.effect(`a call is not delayed by a quota of which it takes nothing, except by a penalty${name}`, () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make(both)
        yield* limiter.withLimit(Effect.void, { tokens: [2, 0] })
        yield* limiter.withLimit(Effect.void, { tokens: [0, 1000], maxWait: 0 })
        yield* limiter.reset()
        yield* limiter.penalize({ for: 300 })
        const { retryAfter } = yield* exceeded(limiter.withLimit(Effect.void, { tokens: [0, 1], maxWait: 0 }))
        expect(retryAfter).toEqual(Duration.millis(300))
      }))

    it.effect(`waiting calls with lists start in order, each when all quotas allow it${name}`, () =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make(both)
        const started: Array<string> = []
        const call = (name: string, tokens: number | ReadonlyArray<number>) =>
          fork(limiter.withLimit(Effect.sync(() => started.push(name)), { tokens }))
        yield* call("a", [1, 1000])
        yield* call("b", [1, 500])
        yield* call("c", [0, 1])
        yield* call("d", 1)
        expect(started).toEqual(["a"])
        const late = yield* exceeded(limiter.withLimit(Effect.void, { tokens: [1, 1], maxWait: 499 }))
        yield* TestClock.adjust(strict ? 999 : 499)
        expect(started).toEqual(["a"])
        yield* TestClock.adjust(1)
        expect(started.slice(0, 2)).toEqual(["a", "b"])
        yield* TestClock.adjust(Duration.toMillis(late.retryAfter))
        expect(started).toEqual(["a", "b", "c", "d"])
      }))

    it.effect(`jobs with lists are paced, settled and refused by their lists${name}`, () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 5, rate: both })
        const settle = (cost: ReadonlyArray<number>) => cost
        yield* scheduler.schedule(Effect.succeed([1, 100]), { tokens: [1, 1000], settle })
        yield* scheduler.forEach([1], () => Effect.void, { tokens: () => [0, 100] })
        yield* scheduler.schedule(Effect.void, { tokens: [1, 800], maxWait: 0 })
        const started: Array<string> = []
        for (const [name, tokens] of [["a", [0, 500]], ["b", [0, 500]], ["c", [1, 0]]] as const) {
          yield* fork(scheduler.schedule(Effect.sync(() => started.push(name)), { tokens }))
        }
        yield* TestClock.adjust(strict ? 999 : 499)
        expect(started).toEqual([])
        yield* TestClock.adjust(1)
        expect(started[0]).toBe("a")
        yield* TestClock.adjust(500)
        expect(started).toEqual(["a", "b", "c"])
        const { reason } = yield* Effect.flip(scheduler.schedule(Effect.void, { tokens: [1, 1001] }))
        expect(reason).toMatchObject({ _tag: "InsufficientCapacity", asked: 1001, most: 1000 })
        const waits = yield* fork(Effect.flip(scheduler.schedule(Effect.void, { tokens: [2, 1000] })))
        yield* scheduler.setRate([{ ...both[0]!, burst: 1 }, both[1]!])
        expect((yield* Fiber.join(waits)).reason).toMatchObject({ _tag: "InsufficientCapacity", asked: 2, most: 1 })
      }))
  }

  it.effect("more quotas than before take the last number of the lists that wait", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 5, rate: quotas })
      yield* scheduler.schedule(Effect.void, { tokens: [1, 1000] })
      const waits = yield* fork(scheduler.schedule(Effect.void, { tokens: [1, 400] }))
      yield* scheduler.setRate([...quotas, { limit: 4000, window: "1 second", burst: 500 }])
      yield* TestClock.adjust(400)
      yield* Fiber.join(waits)
      yield* scheduler.setRate(quotas[0])
      yield* TestClock.adjust(500)
      yield* scheduler.schedule(Effect.void, { maxWait: 0 })
    }))

  it("strict: a start that takes nothing of a quota pushes none out of its window that holds a debt", () => {
    const clock = new ManualClock()
    const rates = [Gcra.rate(2, 1e9, 1, true), Gcra.rate(1000, 1e9, 1000, false)]
    const limiter = new LimiterMemory(rates, clock.context, clock)
    const take = (tokens: ReadonlyArray<number>, granted?: object) =>
      limiter.takeUnsafe(undefined, tokens, limiter.now(), granted)
    const late = {}
    expect(take([1, 0], late)).toBe(true)
    clock.advance(500)
    expect(take([1, 0])).toBe(true)
    const owes = {}
    clock.advance(500)
    expect(take([0, 1], owes)).toBe(true)
    limiter.settleUnsafe(limiter.chargeUnsafe(undefined, [0, 1], owes), [1, 1])
    limiter.beginUnsafe(owes)
    expect(take([0, 1])).toBe(true)
    // The first one may begin at any time.
    clock.advance(60_000)
    expect(take([1, 0])).toBe(false)
    limiter.beginUnsafe(late)
    clock.advance(999)
    expect(take([1, 0])).toBe(false)
    clock.advance(1)
    expect(take([1, 0])).toBe(true)
  })

  it.effect("L2 retryAfter is exact behind lists that wait since there were several quotas", () =>
    Effect.gen(function*() {
      const first = { limit: 10, window: "1 second", burst: 5 } as const
      const layer = RateLimiter.layer([first, { limit: 1000, window: "1 second", burst: 1000 }])
      yield* Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 5, rate: RateLimiter.RateLimiter })
        yield* RateLimiter.consume({ tokens: [5, 1] })
        const waits = yield* fork(RateLimiter.consume({ tokens: [3, 0] }))
        yield* scheduler.setRate(first)
        const { retryAfter } = yield* RateLimiter.peek()
        expect(Duration.toMillis(retryAfter)).toBe(400)
        expect((yield* exceeded(RateLimiter.consume({ maxWait: 0 }))).retryAfter).toEqual(retryAfter)
        yield* TestClock.adjust(399)
        yield* Fiber.join(waits)
        yield* exceeded(RateLimiter.consume({ maxWait: 0 }))
        yield* TestClock.adjust(1)
        yield* RateLimiter.consume({ maxWait: 0 })
      }).pipe(Effect.provide(layer))
    }))

  it.effect("a list exceeds a burst, has not one number a quota, or is settled by nonsense: a clear error", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(quotas)
      const { reason } = yield* Effect.flip(limiter.consume({ tokens: [1, 1001] }))
      expect(reason).toMatchObject({ _tag: "InsufficientCapacity", asked: 1001, most: 1000 })
      const rule = "tokens must be a list of 2, a number for each quota, got [1]"
      expect(() => limiter.withLimit(Effect.void, { tokens: [1] })).toThrow(
        new RangeError(`RateLimiter.withLimit: ${rule}`)
      )
      for (const tokens of [[], [0, 0], [1, -1], [1.5, 1], [NaN, 1]]) {
        expect(() => limiter.consume({ tokens })).toThrow(
          new RangeError(
            `RateLimiter.consume: tokens must be a list of integers >= 0, not all of them 0, got ${
              Formatter.format(tokens)
            }`
          )
        )
      }
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: quotas })
      expect(() => scheduler.schedule(Effect.void, { tokens: [1] })).toThrow(
        new RangeError(`Scheduler.schedule: ${rule}`)
      )
      for (
        const [cost, got] of [[[1], "a list of 2, a number for each quota, got [1]"], [
          [1, -1],
          "a number >= 0, got -1"
        ]] as const
      ) {
        const exit = yield* Effect.exit(limiter.withLimit(Effect.succeed(cost), { settle: (cost) => cost }))
        expect(exit).toEqual(Exit.die(new RangeError(`RateLimiter.withLimit: what settle returns must be ${got}`)))
      }
    }))

  it.effect("a list with holes is refused, and one that changes after its check counts as it was", () =>
    Effect.gen(function*() {
      const rule = "tokens must be a list of integers >= 0, not all of them 0, got [undefined,1]"
      const holes: Array<number> = []
      holes[1] = 1
      const limiter = yield* RateLimiter.make(quotas)
      const scheduler = yield* Scheduler.make({ concurrency: 5, rate: quotas })
      expect(() => limiter.consume({ tokens: holes })).toThrow(new RangeError(`RateLimiter.consume: ${rule}`))
      expect(() => scheduler.schedule(Effect.void, { tokens: holes })).toThrow(
        new RangeError(`Scheduler.schedule: ${rule}`)
      )
      const settle = () => holes
      for (
        const exit of [
          yield* Effect.exit(limiter.withLimit(Effect.void, { settle })),
          yield* Effect.exit(scheduler.schedule(Effect.void, { settle }))
        ]
      ) expect(String(exit)).toContain("what settle returns must be a number >= 0")
      const tokens = [1, 1]
      const consumed = limiter.consume({ tokens })
      const limited = limiter.withLimit(Effect.void, { tokens, settle: () => 1 })
      const scheduled = scheduler.schedule(Effect.void, { tokens })
      const byTag = Effect.provideService(RateLimiter.consume({ tokens }), RateLimiter.RateLimiter, limiter)
      tokens.fill(NaN)
      yield* fork(consumed)
      yield* fork(limited)
      yield* fork(scheduled)
      const called = yield* fork(byTag)
      yield* TestClock.adjust("1 minute")
      expect(called.pollUnsafe()?._tag).toBe("Success")
      const admitted = { limiter: 0, scheduler: 0 }
      for (let i = 0; i < 10; i++) {
        yield* Effect.ignore(limiter.withLimit(Effect.sync(() => admitted.limiter++), { maxWait: 0 }))
        yield* Effect.ignore(scheduler.schedule(Effect.sync(() => admitted.scheduler++), { maxWait: 0 }))
      }
      expect(admitted).toEqual({ limiter: 2, scheduler: 2 })
    }))
})
