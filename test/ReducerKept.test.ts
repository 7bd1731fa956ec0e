import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import { Reducer } from "effect-funnel"
import { Run } from "../src/internal/reducer/run.js"

import { type Node, nodeOf } from "../src/internal/waits/waits.js"

/** The runs that can be reached through properties, items and entries, in no particular order. */
const runsFrom = (...roots: ReadonlyArray<unknown>): ReadonlyArray<Run> => {
  const seen = new Set<unknown>(roots)
  const runs: Array<Run> = []
  for (const value of seen) {
    if ((typeof value !== "object" && typeof value !== "function") || value === null) continue
    if (value instanceof Run) runs.push(value)
    if (value instanceof Map) { for (const entry of value) seen.add(entry[0]).add(entry[1]) }
    if (value instanceof Set) { for (const item of value) seen.add(item) }
    for (const key of Reflect.ownKeys(value)) {
      const property = Reflect.getOwnPropertyDescriptor(value, key)
      if (property !== undefined && "value" in property) seen.add(property.value)
    }
  }
  return runs
}

// Core keeps up to eight values of a reference in the layers of one context.
const layers = 9

describe("what a run leaves behind", () => {
  const links = 2_000
  for (
    const [name, call] of [
      ["reduce", (reducer, n, effect) => reducer.reduce(n, effect)],
      ["fn", (reducer, n, effect) => reducer.fn("link")((_: number) => effect)(n)],
      [
        "reduce of one key that was forgotten",
        (reducer, _, effect) => Effect.andThen(reducer.forget("key"), reducer.reduce("key", effect))
      ]
    ] satisfies ReadonlyArray<
      readonly [
        string,
        (reducer: Reducer.Reducer, n: number, effect: Effect.Effect<unknown>) => Effect.Effect<unknown>
      ]
    >
  ) {
    it.effect(`a chain of runs by ${name}, each of which leaves the next one behind, keeps none that has ended`, () =>
      Effect.gen(function*() {
        const reducer = yield* Reducer.make()
        const last = yield* Deferred.make<Fiber.Fiber<unknown, unknown>>()
        const step = (n: number): Effect.Effect<unknown> =>
          call(
            reducer,
            n,
            n === links
              ? Effect.andThen(Effect.withFiber((fiber) => Deferred.succeed(last, fiber)), Effect.never)
              : Effect.forkDetach(Effect.suspend(() => step(n + 1)))
          )
        yield* step(0)
        const fiber = yield* Deferred.await(last)
        const runs = runsFrom(fiber, fiber.context, reducer)
        expect(runs.length).toBeGreaterThan(0)
        expect(runs.filter((run) => run.ended).length).toBeLessThanOrEqual(layers)
        // What is reached through a context holds on to nothing itself.
        for (const run of runs.filter((run) => run.ended)) {
          expect(runsFrom(...Object.entries(run).flatMap(([key, value]) => key === "space" ? [] : [value]))).toEqual([])
        }
      }))
  }

  it.effect("a chain of runs, each of which waited behind the dying one before it, keeps none that has ended", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const gates = Array.from({ length: 50 }, () => Latch.makeUnsafe(false))
      const runs: Array<Node | undefined> = []
      const call = reducer.reduce(
        "key",
        Effect.withFiber((fiber) => {
          const gate = gates[runs.push(nodeOf(fiber.context)) - 1]!
          return Effect.ensuring(Effect.never, gate.await)
        })
      )
      let caller = yield* Effect.forkChild(call, { startImmediately: true })
      for (const gate of gates.slice(1)) {
        const leaving = yield* Effect.forkChild(Fiber.interrupt(caller), { startImmediately: true })
        caller = yield* Effect.forkChild(call, { startImmediately: true })
        yield* gates[gates.indexOf(gate) - 1]!.open
        yield* Fiber.join(leaving)
      }
      expect(runs.length).toBe(50)
      expect(runs.filter((run) => run!.ended).length).toBe(49)
      // Each is reached from itself only, and the last one, which lives, from the reducer as well.
      for (const [i, run] of runs.entries()) {
        expect(runsFrom(run).filter((other) => other !== run && runs.indexOf(other) < i)).toEqual([])
      }
      yield* gates[49]!.open
    }))

  it.effect("who outlives a run does not keep its result", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      for (const pause of [Effect.void, Effect.yieldNow]) {
        const result = { large: true }
        let left: Fiber.Fiber<unknown> | undefined
        const value = yield* reducer.reduce(
          "key",
          Effect.gen(function*() {
            yield* pause
            left = yield* Effect.forkDetach(Effect.never, { startImmediately: true })
            return result
          })
        )
        expect(value).toBe(result)
        // The caller goes on in the step that resumes it, in which the run is not over yet.
        yield* Effect.yieldNow
        const [run] = runsFrom(left, left!.context)
        expect(run!.ended).toBe(true)
        expect(Exit.getSuccess(run!.exit!)).toEqual(Option.some(undefined))
      }
    }))
})
