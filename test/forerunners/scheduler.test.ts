/**
 * Figures from the tests of aiometer, p-limit and Netflix's concurrency-limits. The rule of the last is a few lines of the
 * program's own, the ones of docs/coming-from.md: here `resize` changes the width.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import { fork } from "../support/fibers.ts"
import { makeStarts } from "../support/starts.ts"

const jobs = Array.from({ length: 30 }, (_, i) => i)

describe("aiometer", () => {
  it.effect.each([1, 2, 5, 10, 20])(
    "max_at_once: 30 jobs run %i at once, in rounds",
    (limit) =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: limit })
        const fiber = yield* fork(
          scheduler.forEach(jobs, () => Effect.andThen(Effect.sleep(10), Clock.currentTimeMillis))
        )
        expect((yield* scheduler.stats).running).toBe(limit)
        yield* TestClock.adjust(10 * Math.ceil(30 / limit))
        expect(yield* Fiber.join(fiber)).toEqual(jobs.map((i) => 10 * (Math.floor(i / limit) + 1)))
      })
  )

  it.effect.each([5, 10, 20, 50, 100])(
    "max_per_second: at %i a second 30 jobs are evenly spaced",
    (limit) =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: "unbounded", rate: { limit, window: "1 second" } })
        const { job, times } = makeStarts()
        yield* fork(scheduler.forEach(jobs, () => job))
        yield* TestClock.adjust("30 seconds")
        expect(times).toEqual(jobs.map((i) => i * (1000 / limit)))
      })
  )

  it.effect.each([5, 10, 20, 50, 100])(
    "at %i a second and 5 at once no permit idles while its job waits",
    (limit) =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 5, rate: { limit, window: "1 second" } })
        const { job, times } = makeStarts()
        yield* fork(scheduler.forEach(jobs, () => Effect.andThen(job, Effect.sleep(100))))
        yield* TestClock.adjust("30 seconds")
        // Five jobs of 100 ms are 50 a second: above that the width is scarce, below it the rate.
        expect(times.at(-1)).toBeCloseTo(Math.max(29 * (1000 / limit), 500 + 4 * (1000 / limit)), 6)
      })
  )
})

describe("p-limit", () => {
  it.effect("activeCount and pendingCount are right at every step: 0/0, 5/0, 5/3, 3/0, 0/0", () =>
    Effect.gen(function*() {
      const limit = yield* Scheduler.make({ concurrency: 5 })
      const counts = Effect.map(limit.stats, (_) => `${_.running}/${_.queued}`)
      const steps = [yield* counts]
      const start = (count: number) =>
        Effect.forEach(Array.from({ length: count }), () => fork(limit.schedule(Effect.yieldNow)))
      const running = yield* start(5)
      steps.push(yield* counts)
      const waiting = yield* start(3)
      steps.push(yield* counts)
      yield* Fiber.joinAll(running)
      steps.push(yield* counts)
      yield* Fiber.joinAll(waiting)
      steps.push(yield* counts)
      expect(steps).toEqual(["0/0", "5/0", "5/3", "3/0", "0/0"])
    }))
})

/** A backend that bears eight at once and refuses more. */
const backend = () => {
  const state = { running: 0, most: 0, refused: 0, bears: 8 }
  const call = Effect.suspend(() => {
    if (state.running >= state.bears) {
      state.refused++
      return Effect.fail("overloaded" as const)
    }
    state.most = Math.max(state.most, ++state.running)
    return Effect.ensuring(Effect.sleep(10), Effect.sync(() => state.running--))
  })
  return { call, state }
}

/** Additive increase, multiplicative decrease: one wider for each width of successes, half as wide for a refusal. */
const adaptive = (scheduler: Scheduler.Scheduler, most: number) => {
  let width = 1
  let successes = 0
  const change = (to: number) =>
    Effect.suspend(() => {
      width = Math.min(Math.max(Math.floor(to), 1), most)
      successes = 0
      return scheduler.resize(width)
    })
  return <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    scheduler.schedule(effect).pipe(
      Effect.tap(() => ++successes >= width ? change(width + 1) : Effect.void),
      Effect.tapError(() => change(width / 2))
    )
}

describe("concurrency-limits", () => {
  it.effect("AIMD: the width finds what the backend bears, and follows when that changes", () =>
    Effect.gen(function*() {
      const { call, state } = backend()
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const limited = adaptive(scheduler, 100)
      const widths: Array<number> = []

      const clients = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.forkChild(Effect.forever(Effect.ignore(limited(call))))
      )
      for (let step = 0; step < 200; step++) {
        if (step === 100) state.bears = 4
        yield* TestClock.adjust(10)
        widths.push((yield* scheduler.stats).concurrency)
      }
      yield* Fiber.interruptAll(clients)

      expect(state.most).toBe(8)
      expect(Math.max(...widths.slice(50, 100))).toBe(8)
      expect(Math.max(...widths.slice(150))).toBe(4)
      expect(state.refused).toBeGreaterThan(0)
      expect(yield* scheduler.stats).toMatchObject({ running: 0, queued: 0 })
    }))
})
