/** The rate of a scheduler while its jobs wait for it, as others see it. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import { fork, settle } from "./support/fibers.ts"

describe("jobs that wait for the rate", () => {
  it.effect("a job that leaves the queue takes its place in the rate with it, before the next job begins", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second" })
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: RateLimiter.RateLimiter }).pipe(
        Effect.provideService(RateLimiter.RateLimiter, limiter)
      )
      yield* limiter.consume()
      const leaves = yield* fork(scheduler.schedule(Effect.void))
      const next = yield* fork(scheduler.schedule(limiter.peek(), { tokens: 0 }))
      expect((yield* limiter.peek()).retryAfter).toEqual(Duration.seconds(2))
      yield* Fiber.interrupt(leaves)
      expect((yield* Fiber.join(next)).retryAfter).toEqual(Duration.seconds(1))
    }))

  it.effect("a job of no tokens starts at once in the width of the job around it, while one in another job waits for the rate", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 4, rate: { limit: 1, window: "1 second" } })
      const other = yield* Scheduler.make({ concurrency: 1 })
      const outer = { weight: 2, tokens: 0 }
      const [first, second, third] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>()
      ]
      const free = yield* fork(
        scheduler.schedule(
          Effect.gen(function*() {
            yield* fork(other.schedule(Effect.never))
            yield* scheduler.schedule(Deferred.await(second), { tokens: 0 })
            yield* Deferred.await(third)
            return yield* scheduler.schedule(Effect.succeed("free"), { tokens: 0 })
          }),
          outer
        )
      )
      const paid = scheduler.schedule(Effect.void)
      const waits = yield* fork(
        scheduler.schedule(Effect.andThen(Deferred.await(first), Effect.andThen(paid, paid)), outer)
      )
      yield* Deferred.succeed(first, undefined)
      yield* settle
      expect(yield* scheduler.stats).toMatchObject({ running: 3, queued: 1 })
      yield* Deferred.succeed(second, undefined)
      yield* settle
      yield* Deferred.succeed(third, undefined)
      yield* settle
      expect(free.pollUnsafe()).toEqual(Exit.succeed("free"))
      expect(waits.pollUnsafe()).toBe(undefined)
      yield* TestClock.adjust(1000)
      yield* Fiber.join(waits)
    }))
})
