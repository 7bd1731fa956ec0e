import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Tracer } from "effect"
import { TestClock } from "effect/testing"
import * as RateLimiter from "../src/RateLimiter.js"
import * as Scheduler from "../src/Scheduler.js"
import type { TurnClock } from "./support/simulation.ts"
import { interruptionSweep, yieldSweep } from "./support/sweep.ts"

describe("strict windows", () => {
  it.effect("L1 to ask what is left, in the moment the last start leaves its window, admits nothing more afterwards", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ limit: 3, window: "1 second", burst: 3, strict: true })
      let admitted = 0
      const calls = (count: number) =>
        Effect.forEach(Array.from({ length: count }), () =>
          Effect.map(
            Effect.exit(limiter.withLimit(Effect.void, { maxWait: 0 })),
            (exit) => void (admitted += Exit.isSuccess(exit) ? 1 : 0)
          ))
      yield* calls(3)
      yield* TestClock.adjust(1000)
      yield* calls(2)
      yield* TestClock.adjust(1000)
      expect((yield* limiter.peek()).remaining).toBe(3)
      admitted = 0
      for (let millis = 0; millis < 1000; millis += 10) {
        yield* calls(1)
        yield* TestClock.adjust(10)
      }
      expect(admitted).toBe(3)
    }))

  it.effect("S8 O1 a job whose first operation asks how long others wait hears a time, although its own start is not counted yet", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 3,
        rate: { limit: 1, window: "1 second", strict: true }
      })
      const services = yield* Effect.context()
      const job = scheduler.schedule(Effect.sync(() => {
        const { nextStart } = Effect.runSync(scheduler.stats)
        const other = scheduler.schedule(Effect.succeed("in time"), { maxWait: "3 seconds" })
        return { nextStart, other: Effect.runForkWith(services)(other) }
      }))
      const jobs = yield* Effect.forkChild(Effect.all([job, job, job], { concurrency: "unbounded" }))
      yield* TestClock.adjust("10 seconds")
      const [, second] = yield* Fiber.join(jobs)
      expect(second.nextStart).toEqual(Duration.seconds(1))
      expect(yield* Fiber.join(second.other)).toBe("in time")
    }))
})

describe("the first operation of an admitted effect", () => {
  it.effect("runs in the context of the tracer, as all others do", () =>
    Effect.gen(function*() {
      const seen = new Set<unknown>()
      const tracer = Tracer.make({
        span: (options) => new Tracer.NativeSpan(options),
        context: (primitive, fiber) => {
          seen.add(primitive)
          return primitive["~effect/Effect/evaluate"](fiber)
        }
      })
      const limiter = yield* RateLimiter.make({ limit: 10, window: "1 second" })
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const [limited, scheduled] = [Effect.sync(() => 1), Effect.sync(() => 2)]
      const program = Effect.all([limiter.withLimit(limited), scheduler.schedule(scheduled)])
      expect(yield* Effect.withTracer(program, tracer)).toEqual([1, 2])
      expect([seen.has(limited), seen.has(scheduled)]).toEqual([true, true])
    }))
})

it("L3 L5 a call that is granted in the step in which it comes to wait, and is interrupted before it begins, costs nothing", () => {
  for (let stepMillis = 50; stepMillis < 1000; stepMillis += 50) {
    const subject = {
      make: Effect.gen(function*() {
        // Sound: it is the clock of the simulation.
        const clock = (yield* Clock.Clock) as TurnClock
        // Time passes with each look at it.
        clock.monotonicTimeNanosUnsafe = () => clock.now += BigInt(stepMillis * 1e6)
        const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second", strict: true })
        yield* limiter.withLimit(Effect.void)
        return { clock, limiter }
      }),
      subject: ({ limiter }: { readonly limiter: RateLimiter.RateLimiter }) =>
        Effect.andThen(
          limiter.withLimit(Effect.void),
          limiter.withLimit(Effect.succeed("done"), { maxWait: "1 minute" })
        ),
      expected: "done",
      check: ({ clock, limiter }: { readonly clock: TurnClock; readonly limiter: RateLimiter.RateLimiter }) =>
        Effect.gen(function*() {
          clock.now += BigInt(3600e9)
          expect(yield* limiter.peek()).toMatchObject({ remaining: 1, resetAfter: Duration.zero })
        })
    }
    yieldSweep(subject)
    interruptionSweep(subject)
  }
})
