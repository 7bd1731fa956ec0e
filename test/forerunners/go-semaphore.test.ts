import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { Scheduler } from "effect-funnel"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const settle = Effect.repeat(Effect.yieldNow, { times: 10 })

describe("Go's weighted semaphore: what its users rely on", () => {
  it.effect("a large acquire does not starve behind an endless stream of small ones", () =>
    Effect.gen(function*() {
      const n = 8
      const semaphore = yield* Scheduler.make({ concurrency: n })
      const stream = { open: true }
      const small = Effect.gen(function*() {
        while (stream.open) yield* semaphore.schedule(Effect.yieldNow)
      })
      const fibers = yield* Effect.forEach(Array.from({ length: n * 2 }), () => fork(small))
      const large = yield* fork(semaphore.schedule(Effect.succeed("large"), { weight: n }))
      for (let turn = 0; turn < 20 && large.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
      expect(large.pollUnsafe()?._tag).toBe("Success")
      stream.open = false
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("a cancelled large acquire wakes the small ones that waited behind it", () =>
    Effect.gen(function*() {
      const semaphore = yield* Scheduler.make({ concurrency: 2 })
      const hold = Latch.makeUnsafe()
      yield* fork(semaphore.schedule(hold.await))
      const large = yield* fork(semaphore.schedule(Effect.void, { weight: 2 }))
      const small = yield* fork(semaphore.schedule(Effect.succeed("small")))
      yield* settle
      expect(small.pollUnsafe()).toBeUndefined()
      yield* Fiber.interrupt(large)
      expect(yield* Fiber.join(small)).toBe("small")
    }))

  it.effect("an acquire that is cancelled in the moment it is granted returns its token", () =>
    Effect.gen(function*() {
      const semaphore = yield* Scheduler.make({ concurrency: 1 })
      const hold = Latch.makeUnsafe()
      const holder = yield* fork(semaphore.schedule(hold.await))
      const waiters = yield* Effect.forEach([1, 2, 3], () => fork(semaphore.schedule(Effect.never)))
      // The holder's end grants it to the first one, and each interruption to the next.
      holder.interruptUnsafe()
      for (const waiter of waiters) waiter.interruptUnsafe()
      yield* semaphore.awaitIdle
      expect(yield* semaphore.schedule(Effect.succeed("free"))).toBe("free")
    }))

  it.effect("TryAcquire: with no queue a job that would wait is refused at once", () =>
    Effect.gen(function*() {
      const semaphore = yield* Scheduler.make({ concurrency: 2, maxQueued: 0 })
      const hold = Latch.makeUnsafe()
      const tryAcquire = (weight: number) =>
        semaphore.schedule(Effect.succeed(true), { weight }).pipe(
          Effect.catchReason("SchedulerError", "QueueFull", () => Effect.succeed(false))
        )
      const holder = yield* fork(semaphore.schedule(hold.await))
      expect([yield* tryAcquire(1), yield* tryAcquire(2)]).toEqual([true, false])
      yield* hold.open
      yield* Fiber.join(holder)
      expect(yield* tryAcquire(2)).toBe(true)
    }))

  it.effect("an acquire of more than there is fails at once and does not block those behind it", () =>
    Effect.gen(function*() {
      const semaphore = yield* Scheduler.make({ concurrency: 2 })
      const error = yield* Effect.flip(semaphore.schedule(Effect.void, { weight: 3 }))
      expect(error.reason).toMatchObject({ _tag: "InsufficientCapacity", asked: 3, most: 2 })
      expect(yield* semaphore.schedule(Effect.succeed("next"), { weight: 2 })).toBe("next")
    }))
})
