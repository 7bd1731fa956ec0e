/**
 * The flights of several processes over one store that loses wake-ups and answers, checked against the laws of flights.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, type Fiber, Schema } from "effect"
import * as Persistable from "effect/persistence/Persistable"
import { Reducer } from "effect-funnel"
import { TestClock } from "effect/testing"
import { attach, reduceShared } from "../../src/internal/reducer/reduceShared.js"
import * as Guard from "../../src/internal/store/guard.js"
import type { ReducerStore } from "../../src/internal/store/reducerStore.js"
import { StoreError } from "../../src/internal/store/storeError.js"
import { makeMemory } from "../support/memoryReducerStore.js"
import { random } from "../support/random.js"

class Get extends Persistable.Class<{ payload: { readonly id: number } }>()("Get", {
  primaryKey: ({ id }) => String(id),
  success: Schema.Number,
  error: Schema.String
}) {}

interface Run {
  readonly id: number
  ended: number | undefined
}

const simulate = (seed: number) =>
  Effect.gen(function*() {
    const next = random(seed)
    const memory = makeMemory({ leaseMillis: 3000, retainMillis: 10_000 })
    const travel = next(3) * 4
    const lossy = next(3)
    const answer = <A>(operation: string, command: Effect.Effect<A, StoreError>) =>
      Effect.suspend(() => {
        const lost = lossy === 2 && next(8) === 0
        const sent = Effect.andThen(travel === 0 ? Effect.void : Effect.sleep(travel / 2), command)
        // A command whose answer is lost has run all the same.
        return lost
          ? Effect.andThen(sent, Effect.fail(new StoreError({ operation, cause: "the answer is lost" })))
          : Effect.tap(sent, () => travel === 0 ? Effect.void : Effect.sleep(travel / 2))
      })
    const store: ReducerStore = {
      ...memory,
      open: (onSignal) => memory.open((signal) => lossy > 0 && next(4) === 0 ? undefined : onSignal(signal)),
      join: (...args) => answer("join", memory.join(...args)),
      renew: (...args) => answer("renew", memory.renew(...args)),
      complete: (...args) => answer("complete", memory.complete(...args)),
      release: (...args) => answer("release", memory.release(...args))
    }
    const processes: Array<Reducer.Reducer> = []
    for (let i = 0; i < 3; i++) {
      const guard = Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 5000 })
      processes.push(attach(yield* Reducer.make(), { store, guard, onStoreError: "fail", ended: new Map() }))
    }
    let now = 0
    let runs = 0
    const running = new Map<number, number>()
    const byResult = new Map<number, Run>()
    const problems: Array<string> = []
    const effect = (id: number) =>
      Effect.suspend(() => {
        const run: Run = { id: ++runs, ended: undefined }
        byResult.set(run.id, run)
        const beside = running.get(id) ?? 0
        if (beside > 0) problems.push(`R1 ${beside + 1} runs of key ${id} at once`)
        running.set(id, beside + 1)
        const millis = next(120)
        return Effect.andThen(
          millis === 0 ? Effect.void : Effect.sleep(millis),
          next(5) === 0 ? Effect.fail(String(run.id)) : Effect.succeed(run.id)
        ).pipe(Effect.onExit(() =>
          Effect.sync(() => {
            run.ended = now
            running.set(id, running.get(id)! - 1)
          })
        ))
      })
    const fibers: Array<Fiber.Fiber<number, unknown>> = []
    const call = () => {
      const id = next(3)
      const came = now
      const shared = reduceShared(processes[next(3)]!, new Get({ id }), () => effect(id))
      const judged = Effect.onExit(shared, (exit) =>
        Effect.sync(() => {
          if (!Exit.isSuccess(exit)) return
          const { ended = Infinity } = byResult.get(exit.value)!
          // As the docs say: by as long as a result takes to arrive, at the next look where its wake-up is lost.
          if (ended < came - travel - 5 - 1000 * lossy) {
            problems.push(`R1 a caller of ${came} got what had ended at ${ended}`)
          }
        }))
      return judged
    }
    const adjust = (millis: number) => {
      let left = millis
      return Effect.whileLoop({
        while: () => left > 0,
        body: () => {
          const step = Math.min(left, 5)
          left -= step
          return TestClock.adjust(step)
        },
        step: () => void (now += 5)
      })
    }
    const context = yield* Effect.context<never>()
    for (let step = 0; step < 60; step++) {
      const what = next(8)
      if (what < 5) fibers.push(Effect.runForkWith(context)(call()))
      else if (what === 5 && fibers.length > 0) fibers[next(fibers.length)]!.interruptUnsafe()
      else yield* adjust(5 * (1 + next(8)))
    }
    yield* adjust(8000)
    expect(fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length, "callers that hang").toBe(0)
    expect(problems.join("; ")).toBe("")
    expect([...running.values()].every((n) => n === 0)).toBe(true)
    return runs
  })

describe("flights of several processes", () => {
  it.effect("R1 one run of a key at a time, no result from before the call, and nobody hangs, though wake-ups and answers are lost", () =>
    Effect.gen(function*() {
      let runs = 0
      for (let seed = 1; seed <= 30; seed++) {
        runs += yield* Effect.catchCause(simulate(seed), (cause) => Effect.die(new Error(`seed ${seed}: ${cause}`)))
      }
      expect(runs).toBeGreaterThan(300)
    }))
})
