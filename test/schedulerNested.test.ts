/** Jobs that wait for others on the same scheduler: directly, through runs, and with room beside them. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { Reducer, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import { CurrentNode, nodeOf } from "../src/internal/waits/waits.js"
import { fork, settle } from "./support/fibers.ts"

const now = { startImmediately: true } as const

describe("jobs that wait for others", () => {
  it.effect("S5 a call over many items inside a job is as wide as there is room", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10 })
      let running = 0
      let most = 0
      const work = Effect.gen(function*() {
        most = Math.max(most, ++running)
        yield* Effect.yieldNow
        running--
      })
      yield* scheduler.schedule(scheduler.forEach(Array.from({ length: 20 }), () => work))
      expect(most).toBe(10)
    }))

  it.effect("S5 R7 a job that joins a run which waits in the queue of its scheduler lends it its width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const reducer = yield* Reducer.make()
      const gate = yield* Deferred.make<void>()
      const call = reducer.reduce("key", scheduler.schedule(Effect.succeed("done")))
      const job = yield* Effect.forkChild(scheduler.schedule(Effect.andThen(Deferred.await(gate), call)), now)
      const outside = yield* Effect.forkChild(call, now)
      expect(yield* Effect.map(scheduler.stats, ({ queued }) => queued)).toBe(1)
      yield* Deferred.succeed(gate, undefined)
      expect(yield* Fiber.join(job)).toBe("done")
      expect(yield* Fiber.join(outside)).toBe("done")
    }))

  for (const wait of ["awaitIdle", "drain"] as const) {
    it.effect(`S5 R7 a job that joins a run which waits for the end of all jobs is one that it is called from: ${wait}`, () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        const reducer = yield* Reducer.make()
        const gates = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const idle = reducer.reduce("idle", wait === "drain" ? scheduler.drain() : scheduler.awaitIdle)
        const around = reducer.reduce("around", idle)
        const jobs = [
          yield* Effect.forkChild(scheduler.schedule(Effect.andThen(Deferred.await(gates[0]!), idle)), now),
          yield* Effect.forkChild(scheduler.schedule(Effect.andThen(Deferred.await(gates[1]!), around)), now)
        ]
        const outside = yield* Effect.forkChild(around, now)
        yield* Deferred.succeed(gates[0]!, undefined)
        yield* settle
        expect(outside.pollUnsafe()).toBe(undefined)
        yield* Deferred.succeed(gates[1]!, undefined)
        yield* settle
        expect([...jobs, outside].map((fiber) => fiber.pollUnsafe()?._tag)).toEqual(["Success", "Success", "Success"])
        expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      }))
  }

  it.live("S1 a scheduler that is built under runSync gives the event loop its turns", () =>
    Effect.gen(function*() {
      const scheduler = Effect.runSync(Scope.provide(Scheduler.make({ concurrency: 1 }), Scope.makeUnsafe()))
      yield* scheduler.pause
      const jobs = yield* Effect.forEach(Array.from({ length: 2_000 }), () =>
        Effect.forkChild(scheduler.schedule(Effect.void), now))
      let turns = 0
      const turn = () => {
        turns++
        if (turns < 100) {
          setImmediate(turn)
        }
      }
      setImmediate(turn)
      yield* scheduler.resume
      yield* Fiber.awaitAll(jobs)
      expect(turns).toBeGreaterThan(3)
    }))
  it.effect("S1 a call that comes in a turn whose starts are spent starts no others", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1_000 })
      const running = Effect.map(scheduler.stats, (_) => _.running)
      yield* scheduler.pause
      yield* Effect.forEach(Array.from({ length: 700 }), () => Effect.forkChild(scheduler.schedule(Effect.never), now))
      yield* scheduler.resume
      const started = yield* running
      expect(started).toBeLessThan(500)
      yield* Effect.forkChild(scheduler.schedule(Effect.never), now)
      expect(yield* running).toBe(started)
      yield* settle
      expect(yield* running).toBe(701)
    }))

  it.effect("S5 a job that runs in the width of another, and comes to wait for it, lends that width on", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const reducer = yield* Reducer.make()
      const join: Effect.Effect<string, Scheduler.SchedulerError> = Effect.suspend(() =>
        reducer.reduce(
          "outer",
          scheduler.schedule(Effect.gen(function*() {
            yield* Effect.timeoutOption(inner, "1 second")
            return yield* scheduler.schedule(Effect.succeed("done"))
          }))
        )
      )
      const inner = reducer.reduce("inner", scheduler.schedule(Effect.andThen(Effect.sleep("2 seconds"), join)))
      const outer = yield* Effect.forkChild(join, now)
      const other = yield* Effect.forkChild(inner, now)
      yield* TestClock.adjust("3 seconds")
      expect([outer.pollUnsafe(), other.pollUnsafe()]).toEqual([Exit.succeed("done"), Exit.succeed("done")])
    }))

  it.effect("S5 a job that ends leaves those that it began to the job around it, which lends its width to what they wait for", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 6 })
      const other = yield* Scheduler.make({ concurrency: 1 })
      const reducer = yield* Reducer.make()
      const [joins, ends] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const call = reducer.reduce("key", scheduler.schedule(Effect.succeed("done")))
      const inner = Effect.gen(function*() {
        const waiting = yield* Effect.forkDetach(other.schedule(Effect.andThen(Deferred.await(joins), call)), now)
        yield* Effect.forkDetach(scheduler.schedule(Effect.never, { weight: 2 }), now)
        yield* Deferred.await(ends)
        return waiting
      })
      const outer = Effect.gen(function*() {
        yield* Effect.forkChild(scheduler.schedule(Effect.never), now)
        return yield* Effect.flatMap(scheduler.schedule(inner, { weight: 2 }), Fiber.join)
      })
      const job = yield* Effect.forkChild(scheduler.schedule(outer, { weight: 2 }), now)
      yield* Effect.forkChild(scheduler.schedule(Effect.never, { weight: 3 }), now)
      yield* Effect.forkChild(call, now)
      expect(yield* scheduler.stats).toMatchObject({ running: 4, queued: 2 })
      yield* Deferred.succeed(joins, undefined)
      yield* settle
      expect(job.pollUnsafe()).toBe(undefined)
      yield* Deferred.succeed(ends, undefined)
      yield* settle
      expect(job.pollUnsafe()).toEqual(Exit.succeed("done"))
    }))

  for (const comes of ["before", "after"]) {
    it.effect(`S5 a job left behind in free width is charged to the job around it, which has room, and one that comes ${comes} starts`, () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        const other = yield* Scheduler.make({ concurrency: 1 })
        const [lent, middle] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const outer = Effect.gen(function*() {
          yield* Effect.forkChild(scheduler.schedule(Deferred.await(lent)), now)
          const begins = Effect.forkDetach(scheduler.schedule(Effect.never), now)
          yield* other.schedule(Effect.andThen(begins, Deferred.await(middle)))
          return yield* Effect.never
        })
        yield* Effect.forkChild(scheduler.schedule(outer), now)
        const next = Effect.forkChild(scheduler.schedule(Effect.succeed("started")), now)
        const early = comes === "before" ? yield* next : undefined
        yield* Deferred.succeed(lent, undefined)
        yield* settle
        expect(early?.pollUnsafe()).toBe(undefined)
        yield* Deferred.succeed(middle, undefined)
        yield* settle
        const job = early ?? (yield* next)
        yield* settle
        expect(job.pollUnsafe()).toEqual(Exit.succeed("started"))
        expect(yield* scheduler.stats).toMatchObject({ running: 2, weight: 1, queued: 0 })
      }))
  }

  it.effect("S5 S9 a job made in a run that a job waits for starts in the width of that job, though the queue is full", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxQueued: 1 })
      const reducer = yield* Reducer.make()
      const go = yield* Deferred.make<void>()
      const run = reducer.reduce("key", Effect.andThen(Deferred.await(go), scheduler.schedule(Effect.succeed("inner"))))
      const job = yield* Effect.forkChild(scheduler.schedule(run), now)
      yield* Effect.forkChild(scheduler.schedule(Effect.never), now)
      expect((yield* Effect.flip(scheduler.schedule(Effect.void))).reason._tag).toBe("QueueFull")
      yield* Deferred.succeed(go, undefined)
      yield* settle
      expect(job.pollUnsafe()).toEqual(Exit.succeed("inner"))
    }))

  it.effect("S5 what a job leaves behind waits on behalf of the job around it, which lends its width to a job that is made later", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const other = yield* Scheduler.make({ concurrency: 1 })
      const reducer = yield* Reducer.make()
      const go = yield* Deferred.make<void>()
      const run = reducer.reduce("key", Effect.andThen(Deferred.await(go), scheduler.schedule(Effect.succeed("inner"))))
      const outer = Effect.flatMap(other.schedule(Effect.forkDetach(run, now)), Fiber.join)
      const job = yield* Effect.forkChild(scheduler.schedule(outer), now)
      yield* settle
      expect((yield* other.stats).running).toBe(0)
      yield* Deferred.succeed(go, undefined)
      yield* settle
      expect(job.pollUnsafe()).toEqual(Exit.succeed("inner"))
    }))

  it.effect("S5 of two jobs whose room is too small for one job below, the one that does not take it lends its room to those behind", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 4 })
      const reducer = yield* Reducer.make()
      const [joins, ends, more] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>()
      ]
      const call = reducer.reduce(
        "key",
        Effect.gen(function*() {
          yield* Effect.forkChild(scheduler.schedule(Effect.never, { weight: 2 }), now)
          yield* Deferred.await(more)
          return yield* scheduler.schedule(Effect.succeed("done"))
        })
      )
      const lends = (inner: Effect.Effect<void>) =>
        Effect.gen(function*() {
          yield* Effect.forkChild(scheduler.schedule(inner), now)
          yield* Deferred.await(joins)
          return yield* call
        })
      const jobs = [
        yield* Effect.forkChild(scheduler.schedule(lends(Deferred.await(ends)), { weight: 2 }), now),
        yield* Effect.forkChild(scheduler.schedule(lends(Effect.never), { weight: 2 }), now)
      ]
      yield* Effect.forkChild(call, now)
      yield* Effect.forkChild(scheduler.schedule(Effect.never), now)
      yield* Deferred.succeed(joins, undefined)
      yield* settle
      expect(yield* scheduler.stats).toMatchObject({ running: 4, queued: 2 })
      yield* Deferred.succeed(ends, undefined)
      yield* settle
      expect(yield* scheduler.stats).toMatchObject({ running: 4, queued: 1 })
      yield* Deferred.succeed(more, undefined)
      yield* settle
      expect(jobs.map((job) => job.pollUnsafe())).toEqual([Exit.succeed("done"), Exit.succeed("done")])
    }))

  it.effect("S5 a job whose width comes free and is taken in one step lends it to the job behind when it is free again", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const reducer = yield* Reducer.make()
      const gate = Deferred.makeUnsafe<void>
      const [inner, more, next, other] = [gate(), gate(), gate(), gate()]
      const outer = Effect.gen(function*() {
        yield* fork(scheduler.schedule(Deferred.await(inner)))
        yield* fork(reducer.reduce("key", Effect.never))
        yield* Deferred.await(more)
        yield* fork(scheduler.schedule(Deferred.await(next)))
        return yield* scheduler.schedule(Effect.succeed("done"))
      })
      const job = yield* fork(scheduler.schedule(outer))
      yield* fork(scheduler.schedule(Deferred.await(other)))
      // It starts in a step of the scheduler. In that step the inner job ends, and two others come.
      yield* fork(
        scheduler.schedule(Effect.andThen(Deferred.succeed(inner, undefined), Deferred.succeed(more, undefined)))
      )
      yield* fork(scheduler.schedule(Effect.never))
      yield* Deferred.succeed(other, undefined)
      yield* settle
      expect(job.pollUnsafe()).toBe(undefined)
      expect(yield* scheduler.stats).toMatchObject({ running: 3, queued: 1 })
      yield* Deferred.succeed(next, undefined)
      yield* settle
      expect(job.pollUnsafe()).toEqual(Exit.succeed("done"))
    }))

  const ways: Record<
    string,
    (inner: Scheduler.Scheduler, outer: Scheduler.Scheduler) => Effect.Effect<unknown, Scheduler.SchedulerError>
  > = {
    "jobs run in it": (inner) => inner.schedule(Effect.void),
    "a job leaves its queue": (inner) =>
      Effect.andThen(inner.pause, Effect.flatMap(fork(inner.schedule(Effect.void)), Fiber.interrupt)),
    "jobs run in it inside a job": (inner, outer) => outer.schedule(inner.schedule(Effect.void)),
    "a job leaves its queue inside a job": (inner, outer) =>
      outer.schedule(Effect.andThen(inner.pause, Effect.flatMap(fork(inner.schedule(Effect.void)), Fiber.interrupt))),
    "it waits until a job from outside has ended": (inner) =>
      Effect.gen(function*() {
        const ends = yield* Deferred.make<void>()
        yield* fork(Effect.provideService(inner.schedule(Deferred.await(ends)), CurrentNode, undefined))
        const idle = yield* fork(inner.awaitIdle)
        yield* Deferred.succeed(ends, undefined)
        yield* Fiber.join(idle)
      })
  }
  for (const [what, use] of Object.entries(ways)) {
    it.effect(`S5 a run that lasts does not keep the schedulers that came and went in it: ${what}`, () =>
      Effect.gen(function*() {
        const outer = yield* Scheduler.make({ concurrency: 1 })
        const reducer = yield* Reducer.make()
        const kept = yield* reducer.reduce(
          "lasts",
          Effect.gen(function*() {
            for (let i = 0; i < 20; i++) {
              yield* Effect.scoped(Effect.flatMap(Scheduler.make({ concurrency: 1 }), (inner) => use(inner, outer)))
            }
            const node = nodeOf(yield* Effect.context<never>())!
            let lanes = 0
            for (let lane = node.inside; lane !== undefined; lane = lane.sibling) lanes++
            return lanes
          })
        )
        // The last one may stay: it would come and go with each job.
        expect(kept).toBeLessThanOrEqual(2)
      }))
  }
})
