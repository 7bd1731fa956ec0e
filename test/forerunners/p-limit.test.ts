import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch } from "effect"
import { Scheduler } from "effect-funnel"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const counts = (scheduler: Scheduler.Scheduler) => Effect.map(scheduler.stats, (_) => [_.running, _.queued])

describe("p-limit: what its users rely on", () => {
  it.effect("activeCount and pendingCount are right at every step on the way", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 5 })
      expect(yield* counts(limit)).toEqual([0, 0])
      const running = yield* Effect.forEach([1, 2, 3, 4, 5], () => fork(limit.schedule(Effect.yieldNow)))
      expect(yield* counts(limit)).toEqual([5, 0])
      const waiting = yield* Effect.forEach([1, 2, 3], () => fork(limit.schedule(Effect.yieldNow)))
      expect(yield* counts(limit)).toEqual([5, 3])
      yield* Fiber.joinAll(running)
      expect(yield* counts(limit)).toEqual([3, 0])
      yield* Fiber.joinAll(waiting)
      expect(yield* counts(limit)).toEqual([0, 0])
    }))

  it.effect("the limit can be changed while jobs wait: more start at once, fewer as those that run end", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 4 })
      const gates = Array.from({ length: 10 }, () => Latch.makeUnsafe())
      yield* Effect.forEach(gates, (gate) => fork(limit.schedule(gate.await)))
      expect(yield* counts(limit)).toEqual([4, 6])
      yield* limit.resize(8)
      expect(yield* counts(limit)).toEqual([8, 2])
      yield* limit.resize(2)
      expect(yield* counts(limit)).toEqual([8, 2])
      for (const gate of gates.slice(0, 6)) yield* gate.open
      yield* Effect.repeat(Effect.yieldNow, { times: 5 })
      expect(yield* counts(limit)).toEqual([2, 2])
      for (const gate of gates) yield* gate.open
      yield* limit.awaitIdle
    }))

  it.effect("a job that fails, throws or dies leaves the others and the limit as they were", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 1 })
      const bad = [
        Effect.fail("no"),
        Effect.die("defect"),
        Effect.sync(() => {
          throw new Error("thrown")
        }),
        Effect.interrupt
      ]
      const fibers = yield* Effect.forEach([...bad, Effect.succeed("good")], (effect) => fork(limit.schedule(effect)))
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      expect(exits.map((_) => _._tag)).toEqual(["Failure", "Failure", "Failure", "Failure", "Success"])
      expect(yield* counts(limit)).toEqual([0, 0])
    }))

  it.effect("clearing the queue: interrupting those who wait drops them, and none of them hangs", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 1 })
      const gate = Latch.makeUnsafe()
      let ran = 0
      const first = yield* fork(limit.schedule(Effect.as(gate.await, "ran")))
      const pending = yield* Effect.forEach([1, 2, 3], () => fork(limit.schedule(Effect.sync(() => ran++))))
      yield* Fiber.interruptAll(pending)
      expect(yield* counts(limit)).toEqual([1, 0])
      yield* gate.open
      expect(yield* Fiber.join(first)).toBe("ran")
      expect(ran).toBe(0)
      const exits = yield* Effect.forEach(pending, Fiber.await)
      expect(exits.every(Exit.hasInterrupts)).toBe(true)
    }))

  it.effect("a job that limits inside the same limit of 1 does not deadlock, as limit(() => limit(f)) does", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 1 })
      expect(yield* limit.schedule(limit.schedule(Effect.succeed("through")))).toBe("through")
    }))

  it.effect("jobs run in order of arrival, whatever each of them takes", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 1 })
      const order: Array<number> = []
      yield* Effect.forEach([3, 0, 2, 1], (turns, i) =>
        limit.schedule(
          Effect.andThen(Effect.repeat(Effect.yieldNow, { times: turns }), Effect.sync(() => order.push(i)))
        ), { concurrency: "unbounded" })
      expect(order).toEqual([0, 1, 2, 3])
    }))
})
