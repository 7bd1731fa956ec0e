/** Jobs that wait for others on the same scheduler: directly, through runs, and with room beside them. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Scope } from "effect"
import { Reducer, Scheduler } from "effect-funnel"

const now = { startImmediately: true } as const

describe("jobs that wait for others", () => {
  it.effect("S5 a call over many items inside a job is as wide as there is room", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10 })
      let running = 0
      let most = 0
      const work = Effect.gen(function*() {
        most = Math.max(most, ++running)
        yield* Effect.yieldNow
        running--
      })
      yield* scheduler.schedule(scheduler.forEach(Array.from({ length: 20 }), () => work))
      expect(most).toBe(10)
    }))

  it.effect("S5 a recursion never runs more than the width, and ends", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 3 })
      let working = 0
      let most = 0
      const leaf = Effect.gen(function*() {
        most = Math.max(most, ++working)
        yield* Effect.yieldNow
        working--
      })
      const tree = (depth: number): Effect.Effect<void, Scheduler.SchedulerError> =>
        scheduler.schedule(
          depth === 0
            ? leaf
            : Effect.forEach([1, 2], () => tree(depth - 1), { concurrency: "unbounded", discard: true })
        )
      yield* tree(6)
      expect(most).toBe(3)
    }))

  it.effect("S5 R7 a job that joins a run which waits in the queue of its scheduler lends it its width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const reducer = yield* Reducer.make()
      const gate = yield* Deferred.make<void>()
      const call = reducer.reduce("key", scheduler.schedule(Effect.succeed("done")))
      const job = yield* Effect.forkChild(scheduler.schedule(Effect.andThen(Deferred.await(gate), call)), now)
      const outside = yield* Effect.forkChild(call, now)
      expect(yield* Effect.map(scheduler.stats, ({ queued }) => queued)).toBe(1)
      yield* Deferred.succeed(gate, undefined)
      expect(yield* Fiber.join(job)).toBe("done")
      expect(yield* Fiber.join(outside)).toBe("done")
    }))

  it.live("S1 a scheduler that is built under runSync gives the event loop its turns", () =>
    Effect.gen(function*() {
      const scheduler = Effect.runSync(Scope.provide(Scheduler.make({ concurrency: 1 }), Scope.makeUnsafe()))
      yield* scheduler.pause
      const jobs = yield* Effect.forEach(Array.from({ length: 2_000 }), () =>
        Effect.forkChild(scheduler.schedule(Effect.void), now))
      let turns = 0
      const turn = () => {
        turns++
        if (turns < 100) {
          setImmediate(turn)
        }
      }
      setImmediate(turn)
      yield* scheduler.resume
      yield* Fiber.awaitAll(jobs)
      expect(turns).toBeGreaterThan(3)
    }))
})
