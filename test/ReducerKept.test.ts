import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import { Reducer } from "effect-funnel"
import { Run } from "../src/internal/reducer/run.js"

import { type Node, nodeOf } from "../src/internal/waits/waits.js"
import { fork } from "./support/fibers.ts"

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

describe("memory after a run has ended", () => {
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
      let caller = yield* fork(call)
      for (const gate of gates.slice(1)) {
        const leaving = yield* fork(Fiber.interrupt(caller))
        caller = yield* fork(call)
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

  it.effect("a fiber that outlives a run keeps neither its result nor the span of its caller", () =>
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
        ).pipe(Effect.withSpan("caller"))
        expect(value).toBe(result)
        // The caller goes on in the step that resumes it, in which the run is not over yet.
        yield* Effect.yieldNow
        const [run] = runsFrom(left, left!.context)
        expect(run!.ended).toBe(true)
        expect(Exit.getSuccess(run!.exit!)).toEqual(Option.some(undefined))
        expect(run!.span).toBe(undefined)
      }
    }))
})
