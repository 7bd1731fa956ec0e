/** Figures from the tests of async-reduce, Go's singleflight and cats-effect's memoize. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { Hooks, Reducer } from "effect-funnel"
import { fork, unbounded } from "../support/fibers.ts"

describe("async-reduce", () => {
  it.effect("of 4 calls 2 are executed, 1 is reduced and 1 fails, in each of the statistics", () =>
    Effect.gen(function*() {
      for (const detail of [undefined, "key", "name"] as const) {
        const statistics = Hooks.statistics(detail && { by: (event) => event[detail] })
        const reducer = yield* Reducer.make({ hooks: Hooks.combine(Hooks.debug, statistics) })
        const gate = Latch.makeUnsafe()
        const foo = reducer.fn("foo")((n: number) => n < 0 ? Effect.fail("error") : Effect.as(gate.await, n))
        const fibers = [yield* fork(foo(1)), yield* fork(foo(1)), yield* fork(foo(2))]
        yield* Effect.exit(foo(-1))
        yield* gate.open
        yield* Fiber.joinAll(fibers)
        const counts = { calls: 4, succeeded: 2, joined: 1, failed: 1 }
        expect(yield* statistics.overall).toMatchObject(counts)
        const rows = yield* statistics.groups
        expect(rows.length).toBe(detail === undefined ? 0 : detail === "key" ? 3 : 1)
        for (const [field, count] of rows.length === 0 ? [] : Object.entries(counts)) {
          expect(rows.reduce((sum, [, group]) => sum + group[field as keyof typeof counts], 0)).toBe(count)
        }
      }
    }))

  it.effect("foo(-1) does not get the result of foo(-2), though their hashes are equal there, nor foo(1) that of foo(true)", () =>
    Effect.gen(function*() {
      const foo = Reducer.fn("foo")((n: unknown) => Effect.as(Effect.yieldNow, [n]))
      const values = [-1, -2, 1, true, "1", 1n, null, undefined]
      expect(yield* Effect.forEach(values, (n) => foo(n), unbounded)).toEqual(values.map((n) => [n]))
    }).pipe(Effect.provide(Reducer.layer())))
})

describe("cats-effect memoize", () => {
  it.effect.each([[0, 1], [1, 0], [[0, 1]]] as const)(
    "when callers leave in the order %j the run is started 2 times and completed once",
    (order) =>
      Effect.gen(function*() {
        const gate = Latch.makeUnsafe()
        let started = 0
        let completed = 0
        const call = Reducer.reduce(
          "key",
          Effect.andThen(Effect.andThen(Effect.sync(() => started++), gate.await), Effect.sync(() => ++completed))
        )
        const fibers = [yield* fork(call), yield* fork(call)]
        for (const step of order) {
          expect((yield* Reducer.inFlight).length).toBe(1)
          yield* Fiber.interruptAll([step].flat().map((i) => fibers[i]!))
        }
        expect(yield* Reducer.inFlight).toEqual([])
        yield* gate.open
        expect(yield* call).toBe(1)
        expect([started, completed]).toEqual([2, 1])
      }).pipe(Effect.provide(Reducer.layer()))
  )
})
