/**
 * What users of Python's async-reduce rely on, and what it gets wrong.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import { Hooks, Reducer } from "effect-funnel"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Counts how often a coroutine of theirs would have been executed. */
const counted = () => {
  const job = { executed: 0, gate: Latch.makeUnsafe(false) }
  return Object.assign(job, {
    of: <A>(value: A) =>
      Effect.suspend(() => {
        job.executed++
        return Effect.as(job.gate.await, value)
      })
  })
}

describe("async-reduce, what it offers", () => {
  for (const fanIn of [1, 2, 5, 10, 100, 1000]) {
    it.effect(`a fan-in of ${fanIn} executes once, and a second wave once more`, () =>
      Effect.gen(function*() {
        const job = counted()
        for (const wave of [1, 2]) {
          job.gate.closeUnsafe()
          const fibers = yield* Effect.forEach(
            Array.from({ length: fanIn }),
            () => fork(Reducer.reduce("ident", job.of("result")))
          )
          yield* job.gate.open
          expect(new Set(yield* Fiber.joinAll(fibers))).toEqual(new Set(["result"]))
          expect(job.executed).toBe(wave)
        }
      }).pipe(Effect.provide(Reducer.layer())))
  }

  it.effect("the identity of a call is the function and its arguments", () =>
    Effect.gen(function*() {
      const job = counted()
      const foo = Reducer.fn("foo")((a: number, options: { readonly b?: number }) => job.of(a + (options.b ?? 0)))
      const bar = Reducer.fn("foo")((a: number, options: { readonly b?: number }) => job.of(-a - (options.b ?? 0)))
      const fibers = [
        yield* fork(foo(1, { b: 2 })),
        yield* fork(foo(1, { b: 2 })),
        yield* fork(foo(1, { b: 3 })),
        yield* fork(bar(1, { b: 2 }))
      ]
      yield* job.gate.open
      expect(yield* Fiber.joinAll(fibers)).toEqual([3, 3, 4, -3])
      expect(job.executed).toBe(3)
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("each reducer is a namespace of its own", () =>
    Effect.gen(function*() {
      const job = counted()
      const one = yield* Reducer.make()
      const two = yield* Reducer.make()
      yield* fork(one.reduce("ident", job.of(1)))
      yield* fork(two.reduce("ident", job.of(1)))
      expect(job.executed).toBe(2)
      yield* job.gate.open
    }))

  for (const detail of [undefined, "key", "name"] as const) {
    it.effect(`golden counts: 4 calls, 2 executed, 1 reduced, 1 error (${detail ?? "overall"})`, () =>
      Effect.gen(function*() {
        const statistics = Hooks.statistics(detail && { by: (event) => event[detail] })
        const reducer = yield* Reducer.make({ hooks: Hooks.combine(Hooks.debug, statistics) })
        const job = counted()
        const foo = reducer.fn("foo")((n: number) => n < 0 ? Effect.fail("error") : job.of(n))
        const fibers = [yield* fork(foo(1)), yield* fork(foo(1)), yield* fork(foo(2))]
        yield* Effect.exit(foo(-1))
        yield* job.gate.open
        yield* Fiber.joinAll(fibers)
        const { calls, failed, joined, succeeded } = yield* statistics.overall
        expect({ calls, executed: succeeded, reduced: joined, errors: failed }).toEqual({
          calls: 4,
          executed: 2,
          reduced: 1,
          errors: 1
        })
        // Both statistics count the same.
        const rows = yield* statistics.groups
        const sum = (field: keyof Hooks.Counts) => rows.reduce((total, [, counts]) => total + counts[field], 0)
        expect(rows.length).toBe(detail === undefined ? 0 : detail === "key" ? 3 : 1)
        if (detail !== undefined) {
          expect([sum("calls"), sum("succeeded"), sum("joined"), sum("failed")]).toEqual([4, 2, 1, 1])
        }
      }))
  }
})

describe("async-reduce, what goes wrong there", () => {
  it.effect("keys are not compared by hash: -1 and -2, 1 and True and 1.0", () =>
    Effect.gen(function*() {
      const foo = Reducer.fn("foo")((n: unknown) => Effect.as(Effect.yieldNow, [n]))
      const values = [-1, -2, 1, true, "1", 1n, null, undefined]
      const results = yield* Effect.forEach(values, (n) => foo(n), { concurrency: "unbounded" })
      expect(results).toEqual(values.map((n) => [n]))
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("a hook that raises does not poison the key", () =>
    Effect.gen(function*() {
      const raise = (): never => {
        throw new Error("hook")
      }
      const reducer = yield* Reducer.make({
        hooks: { onCall: raise, onStart: raise, onJoin: raise, onSuccess: raise, onFailure: raise, onInterrupt: raise }
      })
      for (let i = 0; i < 3; i++) {
        const calls = [1, 2].map((n) => reducer.reduce("key", Effect.as(Effect.yieldNow, n)))
        expect(yield* Effect.all(calls, { concurrency: "unbounded" })).toEqual([1, 1])
      }
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("no failure hangs those who wait", () =>
    Effect.gen(function*() {
      const ends = [
        Effect.fail("error"),
        Effect.die("defect"),
        Effect.interrupt,
        Effect.sync((): never => {
          throw new Error("thrown")
        })
      ]
      for (const end of ends) {
        const call = Effect.exit(Reducer.reduce("key", Effect.andThen(Effect.yieldNow, end)))
        const exits = yield* Effect.all([call, call, call], { concurrency: "unbounded" })
        expect(exits.map(Exit.isFailure)).toEqual([true, true, true])
      }
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("re-entry does not deadlock", () =>
    Effect.gen(function*() {
      const foo: (n: number) => Effect.Effect<number, never, Reducer.Reducer> = Reducer.fn("foo")((n: number) => foo(n))
      expect(Exit.hasDies(yield* Effect.exit(foo(1)))).toBe(true)
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("when all callers are gone the run does not go on unseen", () =>
    Effect.gen(function*() {
      let interrupted = false
      const call = Reducer.reduce(
        "key",
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => void (interrupted = true)))
      )
      const fibers = yield* Effect.forEach([1, 2, 3], () => fork(call))
      yield* Fiber.interruptAll(fibers)
      expect(interrupted).toBe(true)
    }).pipe(Effect.provide(Reducer.layer())))
})
