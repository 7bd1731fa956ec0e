/** What the laws of cats-effect's memoize say of callers that are cancelled: the same of `Reducer.reduce`. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch } from "effect"
import { Reducer } from "effect-funnel"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** An effect that counts where it gets to. */
const counted = () => {
  const job = { started: 0, completed: 0, gate: Latch.makeUnsafe() }
  return Object.assign(job, {
    call: Reducer.reduce(
      "key",
      Effect.andThen(
        Effect.andThen(Effect.sync(() => job.started++), job.gate.await),
        Effect.sync(() => ++job.completed)
      )
    )
  })
}

const orders = [
  { title: "the first, then the second", leave: [0, 1] },
  { title: "the second, then the first", leave: [1, 0] },
  { title: "both at the same time", leave: [[0, 1]] }
] as const

describe("cats-effect memoize", () => {
  for (const { leave, title } of orders) {
    it.effect(`cancelled by ${title}: the run is cancelled with the last, and runs anew when asked for again`, () =>
      Effect.gen(function*() {
        const job = counted()
        const fibers = [yield* fork(job.call), yield* fork(job.call)]
        for (const step of leave) {
          expect((yield* Reducer.inFlight).length).toBe(1)
          yield* Fiber.interruptAll((typeof step === "number" ? [step] : step).map((i) => fibers[i]!))
        }
        for (const fiber of fibers) expect(Exit.hasInterrupts(yield* Fiber.await(fiber))).toBe(true)
        expect([job.started, job.completed, (yield* Reducer.inFlight).length]).toEqual([1, 0, 0])

        yield* job.gate.open
        expect(yield* job.call).toBe(1)
        expect([job.started, job.completed]).toEqual([2, 1])
      }).pipe(Effect.provide(Reducer.layer())))
  }

  for (const leaver of [0, 1, 2]) {
    it.effect(`caller ${leaver} of 3 is cancelled: the others get the value of the one run`, () =>
      Effect.gen(function*() {
        const job = counted()
        const fibers = [yield* fork(job.call), yield* fork(job.call), yield* fork(job.call)]
        yield* Fiber.interrupt(fibers[leaver]!)
        yield* job.gate.open
        const rest = fibers.filter((_, i) => i !== leaver)
        expect(yield* Fiber.joinAll(rest)).toEqual([1, 1])
        expect([job.started, job.completed]).toEqual([1, 1])
      }).pipe(Effect.provide(Reducer.layer())))
  }

  it.effect("unlike memoize nothing is kept: a call after the end runs anew", () =>
    Effect.gen(function*() {
      const job = counted()
      yield* job.gate.open
      expect([yield* job.call, yield* job.call]).toEqual([1, 2])
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("an uncancelable caller waits for the value, and keeps the run going for it", () =>
    Effect.gen(function*() {
      const job = counted()
      const fiber = yield* fork(Effect.uninterruptible(job.call))
      const interrupting = yield* fork(Fiber.interrupt(fiber))
      yield* Effect.yieldNow
      expect(job.completed).toBe(0)
      yield* job.gate.open
      yield* Fiber.join(interrupting)
      expect([job.started, job.completed]).toEqual([1, 1])
    }).pipe(Effect.provide(Reducer.layer())))
})
