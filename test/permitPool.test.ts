/**
 * The permits of a concurrency across processes, over a store that a test answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as PermitPool from "../src/internal/redis/permitPool.js"
import { Engine } from "../src/internal/scheduler/engine.js"
import { unbounded } from "../src/internal/scheduler/options.js"
import { handleOf } from "../src/internal/scheduler/handle.js"
import * as Guard from "../src/internal/store/guard.js"
import { place } from "./support/place.ts"
import { simulate } from "./support/simulation.ts"

const make = Effect.withFiber((fiber) => {
  const site = { ...place, dispatcher: fiber.currentDispatcher }
  const engine = new Engine({ ...unbounded("test"), concurrency: 1 }, site)
  const commands: Array<string> = []
  const held = new Set<string>()
  const answer = <A>(command: string, a: A) => Effect.sync(() => (commands.push(command), a))
  const options: PermitPool.Options = {
    limit: 1,
    engine,
    onStoreError: "fail",
    expectedProcesses: 1,
    guard: Guard.make({ service: "Scheduler", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
    store: {
      leaseMillis: 300,
      node: "test",
      acquire: (groups, limit) => {
        const granted = groups.slice(0, Math.max(0, limit - held.size))
        for (const id of granted.flat()) held.add(id)
        return answer("acquire", { granted: granted.length, pollMillis: 1000 })
      },
      renew: () => answer("renew", []),
      release: (ids) => {
        for (const id of ids) held.delete(id)
        return answer("release", undefined)
      },
      close() {}
    }
  }
  return Effect.map(PermitPool.make(options), (pool) => ({ commands, engine, pool, scheduler: handleOf(engine) }))
})

describe("the permits of several processes", () => {
  it("a job whose permit is lost before its effect has begun ends as one that runs does", () => {
    const ends = new Set<string>()
    let reached = true
    for (let at = 1; reached; at++) {
      reached = false
      const { exit } = simulate((turns, clock) =>
        Effect.gen(function*() {
          const { engine, pool, scheduler } = yield* make
          // The event loop stands for longer than the lease while a fiber has yielded at this operation.
          turns.watch((operation) => {
            if (operation !== at) return false
            reached = true
            turns.scheduleTask(() => clock.pass("1 second"))
            return true
          })
          const job = yield* Effect.forkChild(scheduler.schedule(Effect.sleep("1 hour")), { startImmediately: true })
          yield* Effect.sleep("2 seconds")
          turns.watch(undefined)
          expect(engine.main.used, `at operation ${at}`).toBeLessThanOrEqual(pool.held)
          ends.add(job.pollUnsafe() === undefined ? "runs" : "lost")
          yield* Fiber.interrupt(job)
          expect(engine.main.used).toBe(0)
          yield* pool.close
        })
      )
      if (exit?._tag !== "Success") throw new Error(exit === undefined ? "hangs" : Cause.pretty(exit.cause))
    }
    expect(ends).toEqual(new Set(["runs", "lost"]))
  })

  it.effect("a permit passes to the next job for 50 ms, and then goes back to the store first", () =>
    Effect.gen(function*() {
      for (const millis of [49, 50]) {
        const { commands, pool, scheduler } = yield* make
        const first = yield* Effect.forkChild(scheduler.schedule(Effect.sleep(millis)), { startImmediately: true })
        const second = yield* Effect.forkChild(scheduler.schedule(Effect.sleep(10)), { startImmediately: true })
        commands.length = 0
        yield* TestClock.adjust(millis)
        yield* Fiber.join(first)
        expect(commands.includes("release")).toBe(millis === 50)
        pool.wake()
        yield* TestClock.adjust(10)
        yield* Fiber.join(second)
        yield* pool.close
      }
    }))

  it.effect("a closed pool sends nothing, whatever the jobs do", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler } = yield* make
      const jobs = yield* Effect.forEach([1, 2], () =>
        Effect.forkChild(scheduler.schedule(Effect.sleep("1 second")), { startImmediately: true }))
      yield* pool.close
      commands.length = 0
      yield* Effect.forEach(jobs, Fiber.interrupt)
      yield* scheduler.resize(2)
      yield* Effect.forkChild(scheduler.schedule(Effect.void), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      expect(commands).toEqual([])
    }))
})
