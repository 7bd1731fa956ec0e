/**
 * The laws of a retry budget (O5).
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Schedule } from "effect"
import * as RetryBudget from "effect-funnel/RetryBudget"
import { TestClock } from "effect/testing"
import { fork } from "./support/fibers.ts"

const failing = () => {
  const calls = { count: 0 }
  return [calls, Effect.suspend(() => Effect.fail(++calls.count))] as const
}

describe("RetryBudget", () => {
  it.effect("O5 a failure takes one token, and a retry needs more than half of them", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 10 })
      const [calls, call] = failing()
      expect(yield* Effect.flip(budget.retry(call))).toBe(5)
      expect(calls.count).toBe(5)
      expect(yield* budget.stats).toEqual({ tokens: 5, limit: 10, denied: 1 })
    }))

  it.effect("O5 out of budget, a call fails at once with its own failure", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 2 })
      const [calls, call] = failing()
      expect(yield* Effect.flip(budget.retry(call))).toBe(1)
      expect(yield* Effect.flip(budget.retry(call))).toBe(2)
      expect(calls.count).toBe(2)
      expect(yield* budget.stats).toEqual({ tokens: 0, limit: 2, denied: 2 })
    }))

  it.effect("O5 a success gives the ratio back, ten tenths one token, up to the limit", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 10, ratio: 0.1 })
      const [, call] = failing()
      yield* Effect.exit(budget.retry(call, { times: 3 }))
      expect((yield* budget.stats).tokens).toBe(6)
      for (let i = 0; i < 10; i++) yield* budget.retry(Effect.void)
      expect((yield* budget.stats).tokens).toBe(7)
      for (let i = 0; i < 100; i++) yield* budget.retry(Effect.void)
      expect((yield* budget.stats).tokens).toBe(10)
    }))

  it.effect("O5 a call whose own options end its retries is not denied", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 10 })
      const [calls, call] = failing()
      expect(yield* Effect.flip(budget.retry(call, { times: 2 }))).toBe(3)
      expect(yield* Effect.flip(budget.retry(call, { times: 0 }))).toBe(4)
      expect(calls.count).toBe(4)
      expect(yield* budget.stats).toEqual({ tokens: 6, limit: 10, denied: 0 })
    }))

  it.effect("O5 nor is one whose schedule ends its retries, also where the budget is out", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 2 })
      const [, call] = failing()
      const schedule = Schedule.upTo(Schedule.forever, { times: 0 })
      expect(yield* Effect.flip(budget.retry(call, { schedule }))).toBe(1)
      expect(yield* budget.stats).toEqual({ tokens: 1, limit: 2, denied: 0 })
      expect(yield* Effect.flip(budget.retry(call, { schedule: Schedule.forever }))).toBe(2)
      expect(yield* budget.stats).toEqual({ tokens: 0, limit: 2, denied: 1 })
    }))

  it.effect("O5 a failure that is not to be retried, a defect and an interruption take nothing", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 10 })
      yield* Effect.exit(budget.retry(Effect.fail("gone"), { while: (error) => error === "busy" }))
      yield* Effect.exit(budget.retry(Effect.die("defect")))
      const fiber = yield* fork(budget.retry(Effect.never))
      yield* Fiber.interrupt(fiber)
      expect((yield* budget.stats).tokens).toBe(10)
    }))

  it.effect("O5 the schedule spaces the retries, and its end is the end of them", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: 100 })
      const [calls, call] = failing()
      const policy = Schedule.upTo(Schedule.spaced("1 second"), { times: 2 })
      const fiber = yield* fork(budget.retry(call, { schedule: policy }))
      expect(calls.count).toBe(1)
      yield* TestClock.adjust("1 second")
      expect(calls.count).toBe(2)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Effect.exit(Fiber.join(fiber))).toEqual(Exit.fail(3))
    }))

  it.effect("O5 an interruption between two attempts ends the call, and no attempt follows", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make()
      const [calls, call] = failing()
      const fiber = yield* fork(budget.retry(call, { schedule: Schedule.spaced("1 second") }))
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 minute")
      expect(calls.count).toBe(1)
    }))

  it.effect("O5 the failures of one caller end the retries of all, and its own tag keeps a backend apart", () =>
    Effect.gen(function*() {
      class Other extends RetryBudget.Service<Other>()("Other") {}
      const [, call] = failing()
      yield* Effect.exit(RetryBudget.retry(call))
      const [calls, another] = failing()
      yield* Effect.exit(RetryBudget.retry(another, { times: 5 }))
      expect(calls.count).toBe(1)
      yield* Effect.exit(another.pipe(Other.retry({ times: 2 })))
      expect(calls.count).toBe(4)
      expect(yield* Other.stats).toEqual({ tokens: 7, limit: 10, denied: 0 })
    }).pipe((program) => {
      class Other extends RetryBudget.Service<Other>()("Other") {}
      return Effect.provide(program, [RetryBudget.layer(), Other.layer])
    }))

  it.effect("layerNoop allows every retry", () =>
    Effect.gen(function*() {
      const [calls, call] = failing()
      yield* Effect.exit(RetryBudget.retry(call, { times: 50 }))
      expect(calls.count).toBe(51)
    }).pipe(Effect.provide(RetryBudget.layerNoop)))

  it.effect("a `while` that throws is a defect of its call", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make()
      const exit = yield* Effect.exit(budget.retry(Effect.fail("busy"), {
        while: () => {
          throw new Error("bad predicate")
        }
      }))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
    }))

  it("is recognized, works in a pipe, and has its state as JSON", () => {
    const budget = Effect.runSync(RetryBudget.make({ tokens: 4, ratio: 0 }))
    expect([budget, {}, undefined].map(RetryBudget.isRetryBudget)).toEqual([true, false, false])
    expect(budget.pipe((_) => _ === budget)).toBe(true)
    expect(JSON.parse(JSON.stringify(budget))).toEqual({
      _id: "effect-funnel/RetryBudget",
      tokens: 4,
      limit: 4,
      denied: 0
    })
  })

  it.effect("is finite with the largest numbers: JSON keeps its state", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ tokens: Number.MAX_VALUE, ratio: Number.MAX_VALUE })
      yield* Effect.exit(budget.retry(Effect.fail("busy"), { times: 3 }))
      yield* budget.retry(Effect.void)
      const stats = yield* budget.stats
      expect(JSON.parse(JSON.stringify(stats))).toEqual(stats)
      expect(stats.denied).toBe(0)
    }))

  it("refuses nonsense with a RangeError that names the rule", () => {
    for (const tokens of [0, -1, NaN, Infinity]) {
      expect(() => RetryBudget.layer({ tokens })).toThrow(
        new RangeError(`RetryBudget.layer: tokens must be a finite number > 0, got ${tokens}`)
      )
    }
    for (const ratio of [-1, NaN, Infinity]) {
      expect(() => RetryBudget.make({ ratio })).toThrow(
        new RangeError(`RetryBudget.make: ratio must be a finite number >= 0, got ${ratio}`)
      )
    }
    for (const times of [-1, NaN, 1.5]) {
      expect(() => RetryBudget.retry(Effect.void, { times })).toThrow(
        new RangeError(`RetryBudget.retry: times must be an integer >= 0, got ${times}`)
      )
    }
  })
})
