/**
 * What is left of a call on many items, and how much of its end one step does.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import * as Scheduler from "effect-funnel/Scheduler"
import { simulate } from "./support/simulation.ts"

const many = 3000
const items = Array.from({ length: many }, (_, i) => i)

/** How many of the jobs of a call that has ended were interrupted in one turn, at most. */
const mostInATurn = (
  concurrency: number | "unbounded",
  end: (parts: {
    readonly scope: Scope.Closeable
    readonly first: Deferred.Deferred<void, string>
    readonly call: Fiber.Fiber<unknown, unknown>
  }) => Effect.Effect<unknown>,
  way: "forEach" | "stream"
): ReadonlyArray<number> => {
  const { exit } = simulate((turns) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency }), scope)
      const first = yield* Deferred.make<void, string>()
      const counts = new Map<number, number>()
      const job = (i: number) =>
        Effect.onInterrupt(i === 0 ? Deferred.await(first) : Effect.never, () =>
          Effect.sync(() => counts.set(turns.turns, (counts.get(turns.turns) ?? 0) + 1)))
      const call = yield* Effect.forkDetach(
        way === "forEach"
          ? scheduler.forEach(items, job, { discard: true })
          : Stream.runDrain(scheduler.stream(items, job))
      )
      while ((yield* scheduler.stats).running < many) {
        yield* Effect.yieldNow
      }
      yield* end({ scope, first, call })
      yield* Fiber.await(call)
      expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      return [...counts.values()]
    })
  )
  if (exit === undefined) throw new Error("hangs")
  if (exit._tag === "Failure") throw new Error(Cause.pretty(exit.cause))
  return exit.value
}

describe("a call on many items that ends does a part of its work in each turn of the event loop", () => {
  const ends: Record<string, Parameters<typeof mostInATurn>[1]> = {
    "is interrupted": ({ call }) => Fiber.interrupt(call),
    "fails": ({ first }) => Deferred.fail(first, "no"),
    "is closed": ({ scope }) => Scope.close(scope, Exit.void)
  }
  for (const way of ["forEach", "stream"] as const) {
    for (const concurrency of [many, "unbounded"] as const) {
      for (const [how, end] of Object.entries(ends)) {
        it(`${way} of ${concurrency} jobs that ${how}`, () => {
          const counts = mostInATurn(concurrency, end, way)
          expect(counts.reduce((sum, n) => sum + n, 0)).toBe(how === "fails" ? many - 1 : many)
          expect(Math.max(...counts)).toBeLessThanOrEqual(256)
        })
      }
    }
  }
})

describe("a resize that refuses several waiting items of a call", () => {
  it.effect("S8 ends the call with the first refusal, and counts each item once", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 6 })
      yield* scheduler.pause
      const told: Array<{ readonly queued: number; readonly failed: number; readonly running: number }> = []
      const call = yield* Effect.forkChild(
        Effect.flip(scheduler.forEach([1, 2, 3], () => Effect.void, {
          weight: 2,
          onProgress: (progress) => {
            told.push(progress)
          }
        })),
        { startImmediately: true }
      )
      expect(yield* scheduler.stats).toMatchObject({ queued: 3 })
      yield* scheduler.resize(1)
      expect(yield* Fiber.join(call)).toMatchObject({ reason: { _tag: "InsufficientCapacity", asked: 2, most: 1 } })
      expect(told.at(-1)).toMatchObject({ queued: 0, running: 0, failed: 1 })
    }))
})
