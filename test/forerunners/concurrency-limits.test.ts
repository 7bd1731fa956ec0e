/**
 * Netflix's concurrency-limits adapts the width to what the other side bears. Here `resize` changes the width, and the
 * rule is a few lines of the program's own: the ones of docs/coming-from.md.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"

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

  it.effect("a narrower width interrupts nothing that runs", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 4 })
      const fibers = yield* Effect.forEach(
        [1, 2, 3, 4],
        (n) => Effect.forkChild(scheduler.schedule(Effect.as(Effect.sleep(10), n)), { startImmediately: true })
      )
      yield* scheduler.resize(1)
      yield* TestClock.adjust(10)
      expect(yield* Fiber.joinAll(fibers)).toEqual([1, 2, 3, 4])
    }))
})
