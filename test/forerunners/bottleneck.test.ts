import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Latch } from "effect"
import { Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const starts = () => {
  const times: Array<number> = []
  return { times, job: Effect.map(Clock.currentTimeMillis, (now) => void times.push(now)) }
}

describe("bottleneck: what its users rely on", () => {
  it.effect("minTime with maxConcurrent: starts are at least that far apart", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({ concurrency: 1, rate: { limit: 1, window: "250 millis" } })
      const { job, times } = starts()
      yield* Effect.repeat(fork(limiter.schedule(job)), { times: 3 })
      yield* TestClock.adjust("2 seconds")
      expect(times).toEqual([0, 250, 500, 750])
    }))

  it.effect("a reservoir with a refresh: so many at once, and no more in any window of that length", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({
        concurrency: 100,
        rate: { limit: 10, window: "1 second", burst: 5, strict: true }
      })
      const { job, times } = starts()
      yield* Effect.repeat(fork(limiter.schedule(job)), { times: 39 })
      yield* TestClock.adjust("10 seconds")
      expect(times.slice(0, 5)).toEqual([0, 0, 0, 0, 0])
      expect(times).toHaveLength(40)
      for (const from of times) {
        expect(times.filter((time) => time >= from && time < from + 1_000).length).toBeLessThanOrEqual(10)
      }
    }))

  it.effect("highWater with OVERFLOW: the newcomer is dropped, and told so", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({ concurrency: 1, maxQueued: 2 })
      const gate = Latch.makeUnsafe()
      const fibers = yield* Effect.forEach([0, 1, 2, 3, 4], (n) =>
        fork(
          limiter.schedule(Effect.as(gate.await, n)).pipe(
            Effect.catchReason("SchedulerError", "QueueFull", () => Effect.succeed(`dropped ${n}`))
          )
        ))
      yield* gate.open
      expect(yield* Fiber.joinAll(fibers)).toEqual([0, 1, 2, "dropped 3", "dropped 4"])
    }))

  it.effect("highWater with BLOCK: many items wait for room, and none is dropped", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({ concurrency: 2, maxQueued: 1 })
      const results = yield* limiter.forEach(Array.from({ length: 50 }, (_, i) => i), (n) =>
        Effect.as(Effect.yieldNow, n))
      expect(results).toEqual(Array.from({ length: 50 }, (_, i) =>
        i))
    }))

  it.effect("priorities: the more urgent first, first come first served among equals", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({ concurrency: 1 })
      const order: Array<string> = []
      yield* limiter.pause
      for (const [name, priority] of [["low", 1], ["high", 9], ["normal", 5], ["high too", 9]] as const) {
        yield* fork(limiter.schedule(Effect.sync(() => order.push(name)), { priority }))
      }
      yield* limiter.resume
      yield* limiter.awaitIdle
      expect(order).toEqual(["high", "high too", "normal", "low"])
    }))

  it.effect("no queue is ever stuck: whatever jobs, interruptions, resizes, pauses and rates do, the last one drains", () =>
    Effect.gen(function*() {
      const limiter = yield* Scheduler.make({ concurrency: 3, rate: { limit: 1_000, window: "1 second", burst: 3 } })
      let seed = 7
      const next = (below: number) => {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
        return Math.floor(seed / 0x1_0000_0000 * below)
      }
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      const kinds: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        Effect.void,
        Effect.yieldNow,
        Effect.sleep("3 millis"),
        Effect.fail("no"),
        Effect.die("defect"),
        Effect.interrupt,
        limiter.schedule(Effect.sleep("1 millis")),
        limiter.schedule(Effect.void, { tokens: 2, weight: 3 }),
        Effect.forkDetach(limiter.schedule(Effect.sleep("2 millis")), { startImmediately: true })
      ]
      for (let step = 0; step < 2_000; step++) {
        const what = next(20)
        if (what < 14) {
          const options = { weight: 1 + next(2), tokens: next(3), priority: next(3) }
          fibers.push(yield* fork(limiter.schedule(kinds[next(kinds.length)]!, options)))
        } else if (what < 16 && fibers.length > 0) fibers[next(fibers.length)]!.interruptUnsafe()
        else if (what === 16) yield* limiter.resize(2 + next(4))
        else if (what === 17) {
          yield* limiter.setRate({ limit: 500 + next(1_000), window: "1 second", burst: 2 + next(3) })
        } else if (what === 18) yield* next(2) === 0 ? limiter.pause : limiter.resume
        else yield* TestClock.adjust("1 millis")
      }
      yield* limiter.resume
      yield* TestClock.adjust("1 minute")
      yield* limiter.awaitIdle
      yield* Effect.forEach(fibers, Fiber.await)
      const { queued, running, weight } = yield* limiter.stats
      expect({ queued, running, weight }).toEqual({ queued: 0, running: 0, weight: 0 })
    }))
})
