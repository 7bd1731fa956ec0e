/**
 * What is left of a call on many items, and how much of its end one step does.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import type * as RateLimiter from "effect-funnel/RateLimiter"
import * as Scheduler from "effect-funnel/Scheduler"
import { piecesPerTurn } from "../src/internal/data/slices.js"
import { CurrentNode } from "../src/internal/waits/waits.js"
import { fork, settle } from "./support/fibers.ts"
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
          expect(Math.max(...counts)).toBeLessThanOrEqual(piecesPerTurn)
        })
      }
    }
  }
})

describe("a call on many items that has failed", () => {
  for (const close of [true, false]) {
    it.effect(`keeps its failure while its items end, ${close ? "though its scheduler closes" : "and closes its source once"}`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 2 }), scope)
        const [fails, finalized] = [yield* Deferred.make<never, string>(), yield* Deferred.make<void>()]
        let closed = 0
        const source = {
          [Symbol.iterator]: () => {
            let next = 0
            return { next: () => ({ done: false, value: next++ }), return: () => ({ done: ++closed > 0, value: 0 }) }
          }
        }
        const call = yield* fork(
          scheduler.forEach(
            source,
            (i) => i === 0 ? Deferred.await(fails) : Effect.onExit(Effect.never, () => Deferred.await(finalized))
          )
        )
        yield* Deferred.fail(fails, "no")
        const closing = yield* fork(close ? Scope.close(scope, Exit.void) : Effect.void)
        yield* settle
        expect(call.pollUnsafe()).toBe(undefined)
        yield* Deferred.succeed(finalized, undefined)
        expect(yield* Fiber.await(call)).toEqual(Exit.fail("no"))
        yield* Fiber.join(closing)
        expect(closed).toBe(1)
      }))
  }
})

describe("a call on many items that wait", () => {
  const queueAll = Effect.fnUntraced(function*(rate?: RateLimiter.Quota) {
    const scheduler = yield* Scheduler.make({ concurrency: many, rate })
    let started = 0
    yield* scheduler.pause
    const call = yield* Effect.forkChild(
      scheduler.forEach(items, () => Effect.sync(() => started++), { discard: true })
    )
    while ((yield* scheduler.stats).queued < many) yield* Effect.yieldNow
    const end = yield* fork(Fiber.interrupt(call))
    return { scheduler, end, started: () => started }
  })

  it.effect("withdraws a part of them in each turn of the event loop when it is interrupted", () =>
    Effect.gen(function*() {
      const { end, scheduler, started } = yield* queueAll()
      const left: Array<number> = [many]
      while (left.at(-1)! > 0) {
        const { queued } = yield* scheduler.stats
        expect(left.at(-1)! - queued).toBeLessThanOrEqual(piecesPerTurn)
        left.push(queued)
        yield* Effect.yieldNow
      }
      expect(left[1]).toBeGreaterThan(0)
      yield* Fiber.join(end)
      expect(started()).toBe(0)
    }))

  it.effect("S3 begins none of them that is admitted after its end, and spends neither width nor rate on it", () =>
    Effect.gen(function*() {
      const { end, scheduler, started } = yield* queueAll({ limit: 1, window: "1 minute" })
      expect((yield* scheduler.stats).queued).toBeGreaterThan(0)
      yield* scheduler.resume
      yield* Fiber.join(end)
      expect(started()).toBe(0)
      expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      expect(yield* scheduler.schedule(Effect.succeed("at once"))).toBe("at once")
    }))
})

/** Whether one value can be reached from another. */
const reaches = (from: object, to: unknown): boolean => {
  const been = new Set<unknown>([from])
  for (const at of been) {
    if (at === to && at !== from) return true
    if (typeof at !== "object" || at === null) continue
    for (const value of Object.values(at)) been.add(value)
  }
  return false
}

describe("an item that has ended keeps nothing in memory", () => {
  it.effect("neither its value, its call, its fiber nor the items before it", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const nodes: Array<object> = []
      const values: Array<object> = []
      const fibers: Array<unknown> = []
      const done = yield* Deferred.make<void>()
      const chain = (left: number): Effect.Effect<unknown, unknown> => {
        const value = { left }
        values.push(value)
        return scheduler.forEach([value], () =>
          Effect.withFiber<unknown, unknown>((fiber) => {
            nodes.push(fiber.getRef(CurrentNode)!)
            fibers.push(fiber)
            return left === 0
              ? Deferred.succeed(done, undefined)
              : Effect.forkDetach(Effect.suspend(() => chain(left - 1)))
          }))
      }
      yield* chain(20)
      yield* Deferred.await(done)
      yield* Effect.yieldNow
      for (const node of nodes) {
        for (const kept of [...values, ...fibers, ...nodes]) expect(reaches(node, kept)).toBe(false)
      }
    }))
})

describe("a resize that refuses several waiting items of a call", () => {
  it.effect("S8 ends the call with the first refusal, and counts each item once", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 6 })
      yield* scheduler.pause
      const told: Array<{ readonly queued: number; readonly failed: number; readonly running: number }> = []
      const call = yield* fork(
        Effect.flip(scheduler.forEach([1, 2, 3], () => Effect.void, {
          weight: 2,
          onProgress: (progress) => {
            told.push(progress)
          }
        }))
      )
      expect(yield* scheduler.stats).toMatchObject({ queued: 3 })
      yield* scheduler.resize(1)
      expect(yield* Fiber.join(call)).toMatchObject({ reason: { _tag: "InsufficientCapacity", asked: 2, most: 1 } })
      expect(told.at(-1)).toMatchObject({ queued: 0, running: 0, failed: 1 })
    }))
})

describe("a call on the items of a stream that closes its scheduler as it starts", () => {
  for (const way of ["forEach", "stream"] as const) {
    it(`S8 is interrupted, and so is the stream: ${way}`, () => {
      const { exit } = simulate(() =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const { forEach, stream } = yield* Scope.provide(Scheduler.make({ concurrency: 2 }), scope)
          const closing = Stream.fromPull(Effect.as(Scope.close(scope, Exit.void), Effect.never))
          const job = () => Effect.void
          return yield* way === "forEach" ? forEach(closing, job) : Stream.runDrain(stream(closing, job))
        })
      )
      expect(exit !== undefined && Exit.hasInterrupts(exit)).toBe(true)
    })
  }
})

describe("a call on many items where code that observes a fiber throws", () => {
  const throws = () => {
    throw new Error("of an observer")
  }

  it.effect("S7 ends with the first failure, and gives back all permits", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 3 })
      const end = Deferred.makeUnsafe<never, string>()
      let observed: Fiber.Fiber<unknown, unknown> | undefined
      const call = yield* fork(
        scheduler.forEach([0, 1, 2], (i) =>
          Effect.withFiber((fiber) => {
            if (i === 0) observed = fiber
            return i === 1 ? Deferred.await(end) : Effect.never
          }))
      )
      observed!.addObserver(throws)
      yield* fork(Deferred.fail(end, "no"))
      yield* settle
      expect(call.pollUnsafe()?._tag).toBe("Failure")
      expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
    }))

  for (const way of ["forEach", "firstSuccess"] as const) {
    it.effect(`O7 a drain hears of its end: ${way}`, () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1 })
        const gate = Deferred.makeUnsafe<number>()
        const job = Deferred.await(gate)
        const call = yield* fork<unknown, unknown, never>(
          way === "forEach" ? scheduler.forEach([1], () => job) : scheduler.firstSuccess([job])
        )
        call.addObserver(throws)
        const drained = yield* fork(scheduler.drain())
        yield* fork(Deferred.succeed(gate, 1))
        yield* settle
        expect(drained.pollUnsafe()?._tag).toBe("Success")
      }))
  }
})
