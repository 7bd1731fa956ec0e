import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as Scheduler from "effect-funnel/Scheduler"
import { TestClock } from "effect/testing"
import { fork } from "./support/fibers.ts"
import { tenAtOnce } from "./support/limiters.ts"
import { interruptionSweep, scheduleSweep } from "./support/sweep.ts"

const settle = (cost: number) => cost

/** Whether a job of so many tokens starts at once, and not one of a token more. */
const leaves = (scheduler: Scheduler.Scheduler, tokens: number) =>
  Effect.gen(function*() {
    const refused = yield* Effect.flip(scheduler.schedule(Effect.void, { tokens: tokens + 1, maxWait: 0 }))
    if (refused._tag === "SchedulerError") expect(refused.reason._tag).toBe("WaitExceeded")
    if (tokens > 0) yield* scheduler.schedule(Effect.void, { tokens, maxWait: 0 })
  })

class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", {
  lookup: (_: string) => ({ concurrency: 1, rate: tenAtOnce })
}) {}

describe("O4 settle of a job", () => {
  for (const strict of [false, true]) {
    it.effect(`a success costs what settle returns, any other end the estimate${strict ? " (strict)" : ""}`, () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 5, rate: { ...tenAtOnce, strict } })
        yield* scheduler.schedule(Effect.succeed(1), { tokens: 6, settle })
        yield* scheduler.schedule(Effect.succeed(3), { tokens: 1, settle })
        yield* Effect.exit(scheduler.schedule(Effect.fail(9), { tokens: 1, settle }))
        yield* Fiber.interrupt(yield* fork(scheduler.schedule(Effect.never, { tokens: 2, settle })))
        yield* leaves(scheduler, 3)
      }))
  }

  it.effect("O3 O4 a job with a share and settle pays its line for its time, and the rate for what it cost", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 100, window: "1 hour", burst: 100 } })
      const order: Array<string> = []
      const run = (share: string, millis: number) =>
        fork(
          scheduler.schedule(
            Effect.as(Effect.sleep(millis), 2).pipe(Effect.tap(() => Effect.sync(() => order.push(share)))),
            {
              share,
              tokens: 5,
              settle
            }
          )
        )
      const first = yield* run("first", 1)
      for (let i = 0; i < 2; i++) yield* run("long", 25)
      for (let i = 0; i < 4; i++) yield* run("short", 10)
      yield* TestClock.adjust("1 second")
      expect(order).toEqual(["first", "long", "short", "short", "short", "long", "short"])
      yield* Fiber.join(first)
      yield* leaves(scheduler, 86)
    }))

  it.effect("a refund starts the jobs that wait for the rate, and a debt holds them up", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 5, rate: tenAtOnce })
      const { currentTimeMillisUnsafe } = yield* Clock.Clock
      const costs = yield* Effect.forEach([0, 8], () => Deferred.make<number>())
      const calls = yield* Effect.forEach(costs, (cost) =>
        fork(scheduler.schedule(Deferred.await(cost), { tokens: 5, settle })))
      const starts: Array<number> = []
      const start = Effect.sync(() =>
        starts.push(currentTimeMillisUnsafe())
      )
      yield* Effect.forEach([4, 3], (tokens) => fork(scheduler.schedule(start, { tokens })))
      expect(starts).toEqual([])
      yield* Deferred.succeed(costs[0]!, 0)
      yield* Fiber.join(calls[0]!)
      expect(starts).toEqual([0])
      yield* Deferred.succeed(costs[1]!, 8)
      yield* Fiber.join(calls[1]!)
      yield* TestClock.adjust(499)
      expect(starts).toEqual([0])
      yield* TestClock.adjust(1)
      expect(starts).toEqual([0, 500])
    }))

  for (const strict of [false, true]) {
    it.effect(`a change of the rate keeps what a job can give back, and what it owes${strict ? " (strict)" : ""}`, () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 5, rate: { ...tenAtOnce, strict } })
        const costs = yield* Effect.forEach([0, 7], () => Deferred.make<number>())
        const calls = yield* Effect.forEach(
          costs,
          (cost) => fork(scheduler.schedule(Deferred.await(cost), { tokens: 5, settle }))
        )
        yield* scheduler.setRate([
          { limit: 20, window: "1 second", burst: 10, strict },
          { limit: 1000, window: "1 second", burst: 100 }
        ])
        for (const i of [0, 1]) yield* Deferred.succeed(costs[i]!, [0, 7][i]!)
        yield* Effect.forEach(calls, Fiber.join)
        yield* leaves(scheduler, 3)
      }))
  }

  it.effect("a job of no tokens owes what it has cost", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: tenAtOnce })
      yield* scheduler.schedule(Effect.succeed(4), { tokens: 0, settle })
      yield* leaves(scheduler, 6)
    }))

  it.effect("schedulers that share a rate share what is given back", () =>
    Effect.gen(function*() {
      const one = yield* Scheduler.make({ concurrency: 1, rate: RateLimiter.RateLimiter })
      const other = yield* Scheduler.make({ concurrency: 1, rate: RateLimiter.RateLimiter })
      yield* one.schedule(Effect.succeed(2), { tokens: 10, settle })
      yield* leaves(other, 8)
    }).pipe(Effect.provide(RateLimiter.layer(tenAtOnce))))

  it.effect("a scheduler of a key keeps its debt although the key rests", () =>
    Effect.gen(function*() {
      const hosts = yield* Hosts
      yield* hosts.get("a").schedule(Effect.succeed(30), { settle })
      yield* TestClock.adjust("2 seconds")
      const refused = yield* Effect.flip(hosts.get("a").schedule(Effect.void, { maxWait: 99 }))
      expect(refused.reason._tag).toBe("WaitExceeded")
      yield* hosts.get("a").schedule(Effect.void, { maxWait: 100 }).pipe(
        fork,
        Effect.flatMap((fiber) => Effect.andThen(TestClock.adjust(100), Fiber.join(fiber)))
      )
      yield* TestClock.adjust("1 minute")
      expect(yield* hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("a settle that throws or returns no number fails its own caller, whose permit comes back", () =>
    Effect.gen(function*() {
      for (const rate of [undefined, tenAtOnce]) {
        const scheduler = yield* Scheduler.make({ concurrency: 1, rate })
        const first = yield* fork(Effect.exit(scheduler.schedule(Effect.delay(Effect.succeed(NaN), 10), { settle })))
        const second = yield* fork(scheduler.schedule(Effect.succeed("second")))
        yield* TestClock.adjust(10)
        expect(yield* Fiber.join(first)).toEqual(
          Exit.die(new RangeError("Scheduler.schedule: what settle returns must be a number >= 0, got NaN"))
        )
        expect(yield* Fiber.join(second)).toBe("second")
      }
    }))

  it("settle must be a function", () => {
    expect(() => Scheduler.schedule({ settle: 1 as never })).toThrow(
      new RangeError("Scheduler.schedule: settle must be a function, got 1")
    )
  })

  it("a job that is interrupted at any operation costs what it cost, its estimate, or nothing", () => {
    for (const strict of [false, true]) {
      const seen = new Set<number>()
      for (const sweep of [interruptionSweep, scheduleSweep]) {
        sweep({
          make: Effect.gen(function*() {
            const limiter = yield* RateLimiter.make({ ...tenAtOnce, strict })
            const scheduler = yield* Scheduler.make({ concurrency: 1, rate: RateLimiter.RateLimiter }).pipe(
              Effect.provideService(RateLimiter.RateLimiter, limiter)
            )
            return { limiter, scheduler, began: false, ended: false }
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
            // A job in front, so that it waits.
            return Effect.andThen(
              Effect.forkDetach(fixture.scheduler.schedule(Effect.yieldNow, { tokens: 0 }), { startImmediately: true }),
              fixture.scheduler.schedule(work, { tokens: 5, settle: cost })
            )
          },
          expected: 2,
          check: ({ began, ended, limiter, scheduler }) =>
            Effect.gen(function*() {
              yield* scheduler.awaitIdle
              const cost = ended ? 2 : began ? 5 : 0
              seen.add(cost)
              expect((yield* limiter.peek()).remaining).toBe(10 - cost)
              yield* Effect.sleep(10_000)
              expect((yield* limiter.peek()).remaining).toBe(10)
              expect((yield* scheduler.stats).running).toBe(0)
            })
        })
      }
      expect([...seen].sort()).toEqual([0, 2, 5])
    }
  })
})
