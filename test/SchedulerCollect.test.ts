import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Latch, Logger, Ref, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Scheduler from "effect-funnel/Scheduler"
import { Job } from "../src/internal/scheduler/job.js"
import { engineOf } from "../src/internal/scheduler/handle.js"
import { oneJob } from "../src/internal/scheduler/options.js"
import { fork, settle } from "./support/fibers.ts"
import { simulate } from "./support/simulation.ts"

/** Counts what runs, so that a test can ask for the most at once. */
const meter = () => {
  let running = 0
  const self = {
    started: [] as Array<unknown>,
    ended: [] as Array<unknown>,
    most: 0,
    track: <A, E, R>(name: unknown, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() => {
        self.started.push(name)
        self.most = Math.max(self.most, ++running)
        return Effect.onExit(effect, () =>
          Effect.sync(() => {
            running--
            self.ended.push(name)
          }))
      })
  }
  return self
}

/** An iterable that tells how far it was pulled and whether it was closed. */
const pulls = (length: number, throwAt = -1) => {
  const self = {
    pulled: 0,
    returned: 0,
    [Symbol.iterator](): Iterator<number> {
      return {
        next: () => {
          if (self.pulled === throwAt) throw new Error("iterator")
          return self.pulled < length ? { done: false, value: self.pulled++ } : { done: true, value: undefined }
        },
        return: () => {
          self.returned++
          return { done: true, value: undefined }
        }
      }
    }
  }
  return self
}

const provide = (options: Scheduler.Options) => Effect.provide(Scheduler.layer(options))

/** Nothing of a call is left behind: what it held is free again. */
const expectIdle = Effect.gen(function*() {
  const stats = yield* Scheduler.stats
  expect(stats.running).toBe(0)
  expect(stats.queued).toBe(0)
  yield* Scheduler.awaitIdle
})

describe("Scheduler.forEach", () => {
  it.effect("S7 results are in the order of the items, whatever order the jobs end in", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.forEach(
        [30, 10, 20],
        (ms, index) => Effect.as(Effect.sleep(ms), `${index}:${ms}`)
      ).pipe(Effect.forkChild)
      yield* TestClock.adjust(30)
      expect(yield* Fiber.join(fiber)).toEqual(["0:30", "1:10", "2:20"])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("an empty input succeeds with an empty array, and with nothing when discarding", () =>
    Effect.gen(function*() {
      expect(yield* Scheduler.forEach([], () => Effect.succeed(1))).toEqual([])
      expect(yield* Scheduler.forEach(Stream.empty, () => Effect.succeed(1))).toEqual([])
      expect(yield* Scheduler.forEach([], () => Effect.succeed(1), { discard: true })).toBeUndefined()
      expect(yield* Scheduler.forEach([1, 2], () => Effect.succeed(1), { discard: true })).toBeUndefined()
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S1 never runs more than the width, and always as many as it allows", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const fiber = yield* Scheduler.forEach(
        Array.from({ length: 30 }, (_, i) => i),
        (i) => jobs.track(i, Effect.sleep(10)),
        { discard: true }
      ).pipe(Effect.forkChild)
      yield* TestClock.adjust(10)
      expect(jobs.ended.length).toBe(4)
      yield* TestClock.adjust(70)
      yield* Fiber.join(fiber)
      expect(jobs.most).toBe(4)
      expect(jobs.started).toEqual(Array.from({ length: 30 }, (_, i) => i))
    }).pipe(provide({ concurrency: 4 })))

  it.effect("S6 pulls an item only when one that was pulled before has ended", () =>
    Effect.gen(function*() {
      const items = pulls(Infinity)
      const gates = Array.from({ length: 3 }, () => Latch.makeUnsafe())
      const fiber = yield* Scheduler.forEach(items, (i) => gates[i]?.await ?? Effect.never, { discard: true }).pipe(
        Effect.forkChild
      )
      yield* settle
      expect(items.pulled).toBe(3)
      yield* gates[1]!.open
      yield* settle
      expect(items.pulled).toBe(4)
      yield* Fiber.interrupt(fiber)
      expect(items.pulled).toBe(4)
      expect(items.returned).toBe(1)
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S6 counts its waiting items as pulled: behind other callers it pulls no more than the width", () =>
    Effect.gen(function*() {
      const items = pulls(Infinity)
      const gate = Latch.makeUnsafe()
      const other = yield* Effect.forkChild(Scheduler.schedule(gate.await, { weight: 3 }))
      yield* settle
      const fiber = yield* Effect.forkChild(Scheduler.forEach(items, () => Effect.never, { discard: true }))
      yield* settle
      expect(items.pulled).toBe(3)
      expect((yield* Scheduler.stats).queued).toBe(3)
      yield* Fiber.interrupt(fiber)
      expect((yield* Scheduler.stats).queued).toBe(0)
      yield* gate.open
      yield* Fiber.join(other)
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S6 an iterator is closed once when the call stops early, and never when it is exhausted", () =>
    Effect.gen(function*() {
      const failing = pulls(Infinity)
      const exit = yield* Effect.exit(
        Scheduler.forEach(failing, (i) => i === 5 ? Effect.fail("boom") : Effect.void, { discard: true })
      )
      expect(exit).toEqual(Exit.fail("boom"))
      expect(failing.returned).toBe(1)
      const whole = pulls(10)
      yield* Scheduler.forEach(whole, () => Effect.yieldNow, { discard: true })
      expect(whole.returned).toBe(0)
      const last = pulls(2)
      yield* Effect.exit(
        Scheduler.forEach(last, (i) => Effect.andThen(settle, i === 1 ? Effect.fail("boom") : Effect.void))
      )
      expect(last.returned).toBe(0)
    }).pipe(provide({ concurrency: 3 })))

  it.effect("a throwing iterator is a defect, which is logged nowhere: running items are interrupted, and no caller hangs", () => {
    const logged: Array<unknown> = []
    return Effect.gen(function*() {
      const items = pulls(10, 2)
      const jobs = meter()
      const exit = yield* Effect.exit(Scheduler.forEach(items, (i) => jobs.track(i, Effect.never)))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      expect(jobs.started).toEqual([0, 1])
      expect(jobs.ended).toEqual([0, 1])
      expect([items.returned, logged]).toEqual([0, []])
      yield* expectIdle
    }).pipe(
      provide({ concurrency: 3 }),
      Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(message))]))
    )
  })

  it.effect("an iterator of code without types ends as in a for loop, by any value that counts as true", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      let pulled = 0
      const items: Iterable<number> = {
        // As JavaScript may give it.
        [Symbol.iterator]: () => ({
          next: () => ({ done: (++pulled > 3 ? 1 : 0) as unknown as false, value: pulled })
        })
      }
      const job = (n: number) => n > 9 ? Effect.die("endless") : Effect.succeed(n)
      expect(yield* Effect.exit(scheduler.forEach(items, job))).toEqual(Exit.succeed([1, 2, 3]))
    }))

  it.effect("an iterator that throws when it is made or closed hurts no other caller", () =>
    Effect.gen(function*() {
      const unmade: Iterable<number> = {
        [Symbol.iterator]: () => {
          throw new Error("no iterator")
        }
      }
      const exit = yield* Effect.exit(Scheduler.forEach(unmade, () => Effect.void))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      const unclosable: Iterable<number> = {
        [Symbol.iterator]: () => ({
          next: () => ({ done: false, value: 1 }),
          return: () => {
            throw new Error("not closed")
          }
        })
      }
      expect(yield* Effect.exit(Scheduler.forEach(unclosable, () => Effect.fail("boom")))).toEqual(Exit.fail("boom"))
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("a function that throws is a defect of the call, and its permits are freed", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Scheduler.forEach([1, 2, 3], (i) => {
        if (i === 2) throw new Error("f")
        return Effect.never
      }))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("S7 the first failure interrupts the siblings, waits for their finalizers and is the failure", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const finalizer = Latch.makeUnsafe()
      const boom = Latch.makeUnsafe()
      const fiber = yield* Scheduler.forEach([0, 1, 2, 3, 4], (i) =>
        jobs.track(
          i,
          i === 1
            ? Effect.andThen(boom.await, Effect.fail("first"))
            : Effect.onInterrupt(Effect.never, () => finalizer.await)
        )).pipe(Effect.exit, Effect.forkChild)
      yield* settle
      yield* boom.open
      yield* settle
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* finalizer.open
      expect(yield* Fiber.join(fiber)).toEqual(Exit.fail("first"))
      expect(jobs.started).toEqual([0, 1, 2])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S7 a later failure does not replace the first one", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Scheduler.forEach([0, 1, 2], (i) =>
        i === 0
          ? Effect.fail("first")
          : i === 1
          ? Effect.onInterrupt(Effect.never, () => Effect.die("late"))
          : Effect.uninterruptible(Effect.fail("second"))))
      expect(exit).toEqual(Exit.fail("first"))
      const slow = yield* Scheduler.forEach([0, 1, 2], (i) =>
        i === 2
          ? Effect.andThen(Effect.yieldNow, Effect.fail("first"))
          : Effect.uninterruptible(Effect.andThen(Effect.sleep(10), Effect.fail(`late ${i}`)))).pipe(
          Effect.exit,
          Effect.forkChild
        )
      yield* settle
      yield* TestClock.adjust(10)
      expect(yield* Fiber.join(slow)).toEqual(Exit.fail("first"))
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S7 a defect ends the call like a failure; Effect.exit inside collects them all", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Scheduler.forEach([0, 1], (i) => i === 0 ? Effect.die("bug") : Effect.never))
      expect(exit).toEqual(Exit.die("bug"))
      const exits = yield* Scheduler.forEach(
        [0, 1, 2],
        (i) => Effect.exit(i === 1 ? Effect.fail("one") : Effect.succeed(i))
      )
      expect(exits).toEqual([Exit.succeed(0), Exit.fail("one"), Exit.succeed(2)])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a job that interrupts itself ends the call as interrupted", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Scheduler.forEach([0, 1], (i) => i === 0 ? Effect.interrupt : Effect.never))
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("interrupting the call interrupts every job and returns when their finalizers are done", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const finalizer = Latch.makeUnsafe()
      const fiber = yield* Scheduler.forEach(
        pulls(Infinity),
        (i) => jobs.track(i, Effect.onInterrupt(Effect.never, () => finalizer.await))
      ).pipe(Effect.forkChild)
      yield* settle
      const interrupt = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* settle
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* finalizer.open
      yield* Fiber.join(interrupt)
      expect(jobs.ended).toEqual([0, 1, 2])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S3 an item whose pulling ends the call never runs, and its iterator is closed once", () =>
    Effect.gen(function*() {
      for (const endedBy of ["next", "weight"] as const) {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        const gate = Deferred.makeUnsafe<void, string>()
        const ran: Array<number> = []
        let closed = 0
        const items = function*() {
          try {
            yield 0
            if (endedBy === "next") Deferred.doneUnsafe(gate, Exit.fail("boom"))
            yield 1
            yield 2
          } finally {
            closed++
          }
        }
        const call = scheduler.forEach(
          items(),
          (i) => i === 0 ? Deferred.await(gate) : Effect.sync(() => void ran.push(i)),
          {
            weight: (i) => {
              if (i === 1) Deferred.doneUnsafe(gate, Exit.fail("boom"))
              return 1
            }
          }
        )
        expect(yield* Effect.exit(call)).toEqual(Exit.fail("boom"))
        expect(ran).toEqual([])
        expect(closed).toBe(1)
        expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      }
    }))

  it("S7 a job of another caller that throws when the end of an item starts it hurts neither that item nor its call", () => {
    const thrown: Array<unknown> = []
    const { exit } = simulate(() =>
      Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        const gates = [0, 1, 2, 3].map(() => Deferred.makeUnsafe<number>())
        const call = yield* fork(scheduler.forEach([0, 1, 2, 3], (i) => Deferred.await(gates[i]!)))
        class Throws extends Job {
          onStart() {
            engine.releaseUnsafe(this)
            throw "not ours"
          }
          onFailure() {}
          onClose() {}
        }
        const engine = engineOf(scheduler)!
        engine.submitUnsafe(new Throws({ ...oneJob, priority: 1 }, undefined, false))
        for (const [i, gate] of gates.entries()) {
          yield* Deferred.succeed(gate, i)
          yield* Effect.yieldNow
        }
        return yield* Fiber.join(call)
      })), { onThrow: (error) => void thrown.push(error) })
    expect(exit).toEqual(Exit.succeed([0, 1, 2, 3]))
    expect(thrown).toEqual(["not ours"])
  })

  it.effect("S3 items of the call that still wait never run when it fails or is interrupted", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const gate = Latch.makeUnsafe()
      const first = yield* Effect.forkChild(Scheduler.schedule(gate.await))
      yield* settle
      const fiber = yield* Scheduler.forEach([0, 1, 2], (i) => jobs.track(i, Effect.fail("boom"))).pipe(
        Effect.exit,
        Effect.forkChild
      )
      const interrupted = yield* Effect.forkChild(Scheduler.forEach([3, 4], (i) => jobs.track(i, Effect.void)))
      yield* settle
      expect((yield* Scheduler.stats).queued).toBe(2)
      yield* Fiber.interrupt(interrupted)
      expect((yield* Scheduler.stats).queued).toBe(1)
      yield* gate.open
      yield* Fiber.join(first)
      expect(yield* Fiber.join(fiber)).toEqual(Exit.fail("boom"))
      expect(jobs.started).toEqual([0])
      yield* expectIdle
    }).pipe(provide({ concurrency: 1 })))

  it.effect("S3 an item that waits does not get the permit of the one whose failure ends the call", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const other = yield* Effect.forkChild(Scheduler.schedule(Effect.never))
      yield* settle
      const boom = Latch.makeUnsafe()
      const fiber = yield* Scheduler.forEach(
        [0, 1],
        (i) => jobs.track(i, Effect.andThen(boom.await, Effect.fail("boom")))
      ).pipe(Effect.exit, Effect.forkChild)
      yield* settle
      expect((yield* Scheduler.stats).queued).toBe(1)
      yield* boom.open
      expect(yield* Fiber.join(fiber)).toEqual(Exit.fail("boom"))
      expect(jobs.started).toEqual([0])
      yield* Fiber.interrupt(other)
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("S6 waits for room when maxQueued is set, where schedule fails with QueueFull", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const runner = yield* Effect.forkChild(Scheduler.schedule(gate.await))
      yield* settle
      const queued = yield* Effect.forkChild(Scheduler.schedule(Effect.void))
      yield* settle
      const full = yield* Effect.flip(Scheduler.schedule(Effect.void))
      expect(full.reason._tag).toBe("QueueFull")
      const order: Array<number> = []
      const one = yield* Effect.forkChild(
        Scheduler.forEach([1, 2, 3], (i) => Effect.andThen(Effect.yieldNow, Effect.sync(() => order.push(i))))
      )
      const two = yield* Effect.forkChild(
        Scheduler.forEach([4, 5, 6], (i) => Effect.andThen(Effect.yieldNow, Effect.sync(() => order.push(i))))
      )
      yield* settle
      expect((yield* Effect.flip(Scheduler.schedule(Effect.void))).reason._tag).toBe("QueueFull")
      yield* gate.open
      yield* Fiber.join(runner)
      yield* Fiber.join(queued)
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      expect(order.toSorted()).toEqual([1, 2, 3, 4, 5, 6])
      yield* expectIdle
    }).pipe(provide({ concurrency: 1, maxQueued: 1 })))

  it.effect("S6 a call that waits for room can be interrupted, and another gets the room", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const runner = yield* Effect.forkChild(Scheduler.schedule(gate.await))
      yield* settle
      const queued = yield* Effect.forkChild(Scheduler.schedule(Effect.void))
      yield* settle
      const waiting = yield* Effect.forkChild(Scheduler.forEach([1, 2, 3], () => Effect.die("never")))
      const next = yield* Effect.forkChild(Scheduler.forEach([1, 2, 3], (i) => Effect.succeed(i)))
      yield* settle
      yield* Fiber.interrupt(waiting)
      yield* gate.open
      expect(yield* Fiber.join(next)).toEqual([1, 2, 3])
      yield* Fiber.join(runner)
      yield* Fiber.join(queued)
      yield* expectIdle
    }).pipe(provide({ concurrency: 1, maxQueued: 1 })))

  it.effect("S2 an item that waits for room in a full queue goes before the jobs of a lower priority in it", () =>
    Effect.gen(function*() {
      const { ended, started, track } = meter()
      const gate = Latch.makeUnsafe()
      const fibers = [
        yield* fork(Scheduler.schedule(track("running", gate.await))),
        yield* fork(Scheduler.schedule(track("job", Effect.void))),
        yield* fork(Scheduler.forEach(["item"], (name) => track(name, Effect.void), { priority: 10 }))
      ]
      yield* gate.open
      for (const exit of yield* Fiber.awaitAll(fibers)) expect(Exit.isSuccess(exit)).toBe(true)
      expect(started).toEqual(["running", "item", "job"])
      expect(ended).toEqual(started)
      yield* expectIdle
    }).pipe(provide({ concurrency: 1, maxQueued: 1 })))

  it.effect("maxQueued 0 leaves forEach the free permits and nothing else", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const fiber = yield* Effect.forkChild(
        Scheduler.forEach([1, 2, 3, 4, 5], (i) => jobs.track(i, Effect.as(Effect.sleep(10), i)))
      )
      yield* TestClock.adjust(50)
      expect(yield* Fiber.join(fiber)).toEqual([1, 2, 3, 4, 5])
      expect(jobs.most).toBe(2)
    }).pipe(provide({ concurrency: 2, maxQueued: 0 })))

  it.effect("S2 a forEach without end does not lock out another caller's job", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const fiber = yield* Scheduler.forEach(
        pulls(Infinity),
        () => Effect.andThen(Effect.sleep(10), Effect.sync(() => order.push("item"))),
        { discard: true }
      ).pipe(Effect.forkChild)
      yield* settle
      const other = yield* Effect.forkChild(Scheduler.schedule(Effect.sync(() => order.push("other"))))
      yield* TestClock.adjust(10)
      yield* Fiber.join(other)
      expect(order).toEqual(["item", "other", "item"].slice(0, order.length))
      expect(order).toContain("other")
      yield* Fiber.interrupt(fiber)
    }).pipe(provide({ concurrency: 2 })))

  it.effect("S2 two calls share the width: neither waits for the other to end", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const call = (name: string) =>
        Scheduler.forEach(
          [1, 2, 3],
          () => Effect.andThen(Effect.sleep(10), Effect.sync(() => order.push(name))),
          { discard: true }
        )
      const a = yield* Effect.forkChild(call("a"))
      const b = yield* Effect.forkChild(call("b"))
      yield* TestClock.adjust(60)
      yield* Fiber.join(a)
      yield* Fiber.join(b)
      expect(order).toEqual(["a", "b", "a", "b", "a", "b"])
    }).pipe(provide({ concurrency: 1 })))

  it.effect("S5 forEach inside a job of the same scheduler runs within that job's weight and does not deadlock", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const inner = Scheduler.forEach(
        [1, 2, 3],
        (i) => jobs.track(i, Effect.as(Effect.yieldNow, i))
      )
      expect(yield* Scheduler.schedule(inner)).toEqual([1, 2, 3])
      expect(jobs.most).toBe(1)
      expect(yield* Scheduler.forEach([1, 2], () => inner)).toEqual([[1, 2, 3], [1, 2, 3]])
      const deep: Effect.Effect<unknown, Scheduler.SchedulerError, Scheduler.Scheduler> = Scheduler.forEach(
        [1, 2],
        () => inner
      )
      yield* Scheduler.forEach([1, 2], () => deep)
      yield* expectIdle
    }).pipe(provide({ concurrency: 1 })))

  it.effect("S5 a forEach that a job left behind queues like any other call once the job has ended", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const start = Latch.makeUnsafe()
      const child = yield* Scheduler.forEach(
        [0],
        () =>
          Effect.forkDetach(
            Effect.andThen(start.await, Scheduler.forEach([1, 2, 3], (i) => jobs.track(i, Effect.yieldNow)))
          )
      )
      const gate = Latch.makeUnsafe()
      const holder = yield* Effect.forkChild(Scheduler.schedule(gate.await))
      yield* settle
      yield* start.open
      yield* settle
      expect(jobs.started).toEqual([])
      yield* gate.open
      yield* Fiber.join(holder)
      yield* Fiber.join(child[0])
      expect(jobs.most).toBe(1)
    }).pipe(provide({ concurrency: 1 })))

  it.effect("an unbounded scheduler runs items that wait for one another, also those that a rate keeps in the queue", () =>
    Effect.gen(function*() {
      const count = 2000
      const all = Latch.makeUnsafe()
      let arrived = 0
      const scheduler = yield* Scheduler.make({ concurrency: "unbounded", rate: { limit: 1000, window: "1 second" } })
      const fiber = yield* Effect.forkChild(scheduler.forEach(Array.from({ length: count }), () => {
        if (++arrived === count) all.openUnsafe()
        return all.await
      }, { discard: true }))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("100 millis")
      expect(arrived).toBe(count)
      yield* Fiber.join(fiber)
      expect((yield* scheduler.stats).running).toBe(0)
    }))

  it.effect("an unbounded scheduler pulls in rounds, so that other fibers run in between", () =>
    Effect.gen(function*() {
      const items = pulls(10_000_000)
      const fiber = yield* Effect.forkChild(Scheduler.forEach(items, () => Effect.never, { discard: true }))
      yield* Effect.yieldNow
      yield* Effect.yieldNow
      expect(items.pulled).toBeGreaterThan(0)
      expect(items.pulled).toBeLessThan(10_000)
      yield* Fiber.interrupt(fiber)
      expect(items.returned).toBe(1)
      yield* expectIdle
    }).pipe(provide({ concurrency: "unbounded" })))

  it.effect("an unbounded scheduler takes in no more items ahead than 1,024 that wait for the rate", () =>
    Effect.gen(function*() {
      const items = pulls(5000)
      const fiber = yield* Effect.forkChild(Scheduler.forEach(items, () => Effect.never, { discard: true }))
      yield* settle
      expect(items.pulled).toBe(1 + 1024)
      yield* TestClock.adjust("2 seconds")
      expect(items.pulled).toBe(3 + 1024)
      yield* Fiber.interrupt(fiber)
      yield* expectIdle
    }).pipe(provide({ concurrency: "unbounded", rate: { limit: 1, window: "1 second" } })))

  it.effect("items that end synchronously do not keep other fibers from running", () =>
    Effect.gen(function*() {
      const items = pulls(Infinity)
      const fiber = yield* Effect.forkChild(Scheduler.forEach(items, () => Effect.void, { discard: true }))
      yield* settle
      expect(items.pulled).toBeGreaterThan(100)
      yield* Fiber.interrupt(fiber)
      expect(items.returned).toBe(1)
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a width that grows during the call is used at once, one that shrinks as jobs end", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const fiber = yield* Scheduler.forEach(pulls(Infinity), (i) => jobs.track(i, Effect.sleep(10)), {
        discard: true
      }).pipe(Effect.forkChild)
      yield* settle
      expect(jobs.started.length).toBe(1)
      yield* Scheduler.resize(3)
      yield* settle
      expect(jobs.started.length).toBe(3)
      yield* Scheduler.resize(1)
      yield* TestClock.adjust(10)
      expect(jobs.started.length).toBe(4)
      yield* Fiber.interrupt(fiber)
    }).pipe(provide({ concurrency: 1 })))

  it.effect("tokens, weight and priority are given for all items or for each", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const heavy = yield* Effect.forkChild(
        Scheduler.forEach([1, 2, 3], (i) => jobs.track(i, Effect.sleep(10)), { weight: 2 })
      )
      yield* TestClock.adjust(30)
      yield* Fiber.join(heavy)
      expect(jobs.most).toBe(2)
      const weights: Array<[number, number]> = []
      const each = yield* Effect.forkChild(Scheduler.forEach([1, 4, 1], (i) => jobs.track(i, Effect.sleep(10)), {
        weight: (item, index) => {
          weights.push([item, index])
          return item
        }
      }))
      yield* TestClock.adjust(30)
      yield* Fiber.join(each)
      expect(weights).toEqual([[1, 0], [4, 1], [1, 2]])
      const error = yield* Effect.flip(Scheduler.forEach([1, 5, 1], () => Effect.void, { weight: (item) => item }))
      expect(error.reason._tag).toBe("InsufficientCapacity")
      const tokens = yield* Effect.flip(Scheduler.forEach([1], () => Effect.void, { tokens: 2 }))
      expect(tokens.reason._tag).toBe("InsufficientCapacity")
      yield* TestClock.adjust(10)
      yield* expectIdle
    }).pipe(provide({ concurrency: 4, rate: { limit: 1000, window: "1 second" } })))

  it.effect("an invalid weight, tokens or priority is a RangeError, also when a function returns it for an item", () =>
    Effect.gen(function*() {
      const invalid = { weight: [NaN, 0, -1, 1.5, Infinity], tokens: [NaN, -1, 1.5, Infinity], priority: [NaN] }
      for (const [field, values] of Object.entries(invalid)) {
        for (const given of values.flatMap((value) => [value, () => value])) {
          const call = Effect.suspend(() => Scheduler.forEach([1], () => Effect.void, { [field]: given }))
          const exit = yield* Effect.exit(call)
          expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBeInstanceOf(RangeError)
        }
      }
      yield* expectIdle
    }).pipe(provide({ concurrency: 4 })))

  it.effect("a job has the services of the call and a fiber of its own: its children end with it", () =>
    Effect.gen(function*() {
      const ended: Array<number> = []
      yield* Scheduler.forEach(
        [1, 2],
        (i) => fork(Effect.onInterrupt(Effect.never, () => Effect.sync(() => ended.push(i))))
      )
      expect(ended).toEqual([1, 2])
    }).pipe(provide({ concurrency: 1 })))

  it.effect("in an uninterruptible region the jobs are uninterruptible too, as with Effect.forEach", () =>
    Effect.gen(function*() {
      const done: Array<number> = []
      const fiber = yield* Scheduler.forEach(
        [0, 1],
        (i) => i === 1 ? Effect.fail("boom") : Effect.andThen(Effect.sleep(10), Effect.sync(() => done.push(i)))
      ).pipe(
        Effect.uninterruptible,
        Effect.exit,
        Effect.forkChild
      )
      yield* settle
      yield* TestClock.adjust(10)
      expect(yield* Fiber.join(fiber)).toEqual(Exit.fail("boom"))
      expect(done).toEqual([0])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("S7 a job that makes a sibling fail in the step in which it starts is interrupted too", () =>
    Effect.gen(function*() {
      let fail = () => {}
      const ended: Array<number> = []
      const exit = yield* Effect.exit(Scheduler.forEach([0, 1], (i) =>
        i === 0
          ? Effect.callback<never, string>((resume) => {
            fail = () => resume(Effect.fail("boom"))
          })
          : Effect.andThen(Effect.sync(() => fail()), Effect.never).pipe(
            Effect.onInterrupt(() => Effect.sync(() => ended.push(i)))
          )))
      expect(exit).toEqual(Exit.fail("boom"))
      expect(ended).toEqual([1])
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("when the layer's scope closes, the call ends as interrupted and nothing hangs", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const fiber = yield* Deferred.make<Fiber.Fiber<unknown, unknown>>()
      yield* Effect.gen(function*() {
        const child = yield* Effect.forkDetach(
          Scheduler.forEach(pulls(Infinity), (i) => jobs.track(i, Effect.never))
        )
        yield* settle
        yield* Deferred.succeed(fiber, child)
      }).pipe(provide({ concurrency: 2 }))
      const exit = yield* Fiber.await(yield* Deferred.await(fiber))
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      expect(jobs.ended).toEqual([0, 1])
    }))
})

describe("Scheduler.forEach of a Stream", () => {
  it.effect("results are in the order of the stream's elements", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(
        Scheduler.forEach(Stream.make(30, 10, 20), (ms, i) => Effect.as(Effect.sleep(ms), [i, ms]))
      )
      yield* TestClock.adjust(30)
      expect(yield* Fiber.join(fiber)).toEqual([[0, 30], [1, 10], [2, 20]])
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S6 the stream is pulled with back-pressure", () =>
    Effect.gen(function*() {
      let pulled = 0
      const source = Stream.fromEffectRepeat(Effect.sync(() => pulled++))
      const fiber = yield* Effect.forkChild(Scheduler.forEach(source, () => Effect.never, { discard: true }))
      yield* settle
      expect(pulled).toBe(3)
      yield* Fiber.interrupt(fiber)
      expect(pulled).toBe(3)
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("the stream's failure is the call's, after the jobs are interrupted", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const exit = yield* Effect.exit(
        Scheduler.forEach(
          Stream.concat(Stream.make(1, 2), Stream.fail("source")),
          (i) => jobs.track(i, Effect.never)
        )
      )
      expect(exit).toEqual(Exit.fail("source"))
      expect(jobs.ended).toEqual([1, 2])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("the stream's finalizers run once, after the last job has ended", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const source = Stream.make(1, 2).pipe(Stream.ensuring(Effect.sync(() => log.push("pulled"))))
      const resource = Stream.unwrap(
        Effect.as(
          Effect.acquireRelease(Effect.sync(() => log.push("open")), () => Effect.sync(() => log.push("close"))),
          source
        )
      )
      const fiber = yield* Effect.forkChild(
        Scheduler.forEach(resource, (i) => Effect.andThen(Effect.sleep(10), Effect.sync(() => log.push(`job ${i}`))))
      )
      yield* TestClock.adjust(10)
      yield* Fiber.join(fiber)
      expect(log[0]).toBe("open")
      expect(log.filter((entry) => entry === "close").length).toBe(1)
      expect(log.at(-1)).toBe("close")
    }).pipe(provide({ concurrency: 3 })))

  it.effect("a failing job interrupts a pull that waits, and the stream's finalizers run", () =>
    Effect.gen(function*() {
      const closed = yield* Ref.make(0)
      const boom = Latch.makeUnsafe()
      const source = Stream.concat(Stream.make(1), Stream.never).pipe(Stream.ensuring(Ref.update(closed, (n) => n + 1)))
      const fiber = yield* Scheduler.forEach(source, () => Effect.andThen(boom.await, Effect.fail("boom"))).pipe(
        Effect.exit,
        Effect.forkChild
      )
      yield* settle
      yield* boom.open
      expect(yield* Fiber.join(fiber)).toEqual(Exit.fail("boom"))
      expect(yield* Ref.get(closed)).toBe(1)
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("interrupting the call interrupts a pull that waits and runs the finalizers", () =>
    Effect.gen(function*() {
      const closed = yield* Ref.make(0)
      const fiber = yield* Effect.forkChild(
        Scheduler.forEach(Stream.never.pipe(Stream.ensuring(Ref.update(closed, (n) => n + 1))), () => Effect.void)
      )
      yield* settle
      yield* Fiber.interrupt(fiber)
      expect(yield* Ref.get(closed)).toBe(1)
    }).pipe(provide({ concurrency: 3 })))

  it.effect("a stream that dies is a defect of the call", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Scheduler.forEach(Stream.die("bug"), () => Effect.void))
      expect(exit).toEqual(Exit.die("bug"))
    }).pipe(provide({ concurrency: 3 })))
})

describe("Scheduler.all", () => {
  it.effect("keeps the shape of a tuple, an iterable and a record", () =>
    Effect.gen(function*() {
      expect(yield* Scheduler.all([Effect.succeed(1), Effect.succeed("a")])).toEqual([1, "a"])
      expect(yield* Scheduler.all(new Set([Effect.succeed(1), Effect.succeed(2)]))).toEqual([1, 2])
      const record = yield* Scheduler.all({
        z: Effect.as(Effect.yieldNow, 1),
        a: Effect.succeed("a")
      })
      expect(record).toEqual({ z: 1, a: "a" })
      expect(Object.keys(record)).toEqual(["z", "a"])
      expect(yield* Scheduler.all([])).toEqual([])
      expect(yield* Scheduler.all({})).toEqual({})
      expect(yield* Scheduler.all([Effect.succeed(1)], { discard: true })).toBeUndefined()
      expect(yield* Scheduler.all({ a: Effect.succeed(1) }, { discard: true })).toBeUndefined()
    }).pipe(provide({ concurrency: 2 })))

  it.effect("S7 fails with the first failure; mode result runs them all and collects", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const exit = yield* Effect.exit(
        Scheduler.all([jobs.track(0, Effect.never), jobs.track(1, Effect.fail("boom")), jobs.track(2, Effect.void)])
      )
      expect(exit).toEqual(Exit.fail("boom"))
      expect(jobs.started).toEqual([0, 1])
      const results = yield* Scheduler.all({ a: Effect.fail("boom"), b: Effect.succeed(1) }, { mode: "result" })
      expect([results.a._tag, results.b._tag]).toEqual(["Failure", "Success"])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("an effect named like an array's key stays its own", () =>
    Effect.gen(function*() {
      const record = yield* Scheduler.all({ ["__proto__"]: Effect.succeed(1), length: Effect.succeed(2) })
      expect(Object.entries(record)).toEqual([["__proto__", 1], ["length", 2]])
    }).pipe(provide({ concurrency: 2 })))
})

describe("Scheduler.stream", () => {
  it.effect("emits results as they complete", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.stream([30, 10, 20], (ms) => Effect.as(Effect.sleep(ms), ms)).pipe(
        Stream.runCollect,
        Effect.forkChild
      )
      yield* TestClock.adjust(10)
      yield* TestClock.adjust(20)
      expect(Array.from(yield* Fiber.join(fiber))).toEqual([10, 20, 30])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("order input keeps the order of the items", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.stream([30, 10, 20, 1], (ms) => Effect.as(Effect.sleep(ms), ms), {
        order: "input"
      }).pipe(Stream.runCollect, Effect.forkChild)
      yield* TestClock.adjust(30)
      yield* TestClock.adjust(20)
      expect(Array.from(yield* Fiber.join(fiber))).toEqual([30, 10, 20, 1])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("S6 pulls nothing before it is consumed, and stays fewer than twice the width ahead of the consumer", () =>
    Effect.gen(function*() {
      const items = pulls(Infinity)
      const gate = Latch.makeUnsafe()
      const results = Scheduler.stream(items, (i) => Effect.succeed(i))
      yield* settle
      expect(items.pulled).toBe(0)
      const seen: Array<number> = []
      const fiber = yield* results.pipe(
        Stream.runForEach((i) => Effect.andThen(Effect.sync(() => seen.push(i)), gate.await)),
        Effect.forkChild
      )
      yield* settle
      expect(seen).toEqual([0])
      // The chunk that the consumer is at, and as many again behind it.
      expect(items.pulled).toBeLessThanOrEqual(6)
      yield* gate.open
      while (seen.length < 100) yield* Effect.yieldNow
      gate.closeUnsafe()
      yield* settle
      expect(items.pulled - seen.length).toBeLessThan(6)
      expect((yield* Scheduler.stats).running).toBe(0)
      yield* Fiber.interrupt(fiber)
      expect(items.returned).toBe(1)
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S6 a consumer that stops early stops the pulling and interrupts the running items", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const items = pulls(Infinity)
      const taken = yield* Scheduler.stream(
        items,
        (i) => jobs.track(i, i % 3 === 0 ? Effect.as(Effect.yieldNow, i) : Effect.never)
      ).pipe(Stream.take(1), Stream.runCollect)
      expect(Array.from(taken)).toEqual([0])
      expect(items.returned).toBe(1)
      const pulled = items.pulled
      expect(jobs.ended.length).toBe(jobs.started.length)
      yield* settle
      expect(items.pulled).toBe(pulled)
      expect(pulled).toBeLessThanOrEqual(4)
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("S7 emits the completed results, then the first failure, once the siblings are interrupted", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const seen: Array<number> = []
      const exit = yield* Scheduler.stream(
        [0, 1, 2],
        (i) => jobs.track(i, i === 0 ? Effect.succeed(0) : i === 1 ? Effect.never : Effect.fail("boom"))
      ).pipe(
        Stream.runForEach((i) => Effect.sync(() => seen.push(i))),
        Effect.exit
      )
      expect(exit).toEqual(Exit.fail("boom"))
      expect(seen).toEqual([0])
      expect(jobs.ended.toSorted()).toEqual([0, 1, 2])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("takes a stream, whose failure and finalizers come in", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const source = Stream.concat(Stream.make(1, 2), Stream.fail("source")).pipe(
        Stream.ensuring(Effect.sync(() => log.push("closed")))
      )
      const exit = yield* Scheduler.stream(source, () => Effect.never).pipe(Stream.runDrain, Effect.exit)
      expect(exit).toEqual(Exit.fail("source"))
      expect(log).toEqual(["closed"])
      expect(Array.from(yield* Stream.runCollect(Scheduler.stream(Stream.empty, () => Effect.void)))).toEqual([])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("left early, the source's finalizers run after the jobs have ended", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const source = Stream.unwrap(
        Effect.as(
          Effect.acquireRelease(Effect.void, () => Effect.sync(() => log.push("closed"))),
          Stream.make(1, 2, 3)
        )
      )
      yield* Scheduler.stream(
        source,
        (i) =>
          i === 3 ? Effect.yieldNow : Effect.onInterrupt(Effect.never, () => Effect.sync(() => log.push(`job ${i}`)))
      ).pipe(Stream.take(1), Stream.runDrain)
      expect(log).toEqual(["job 1", "job 2", "closed"])
    }).pipe(provide({ concurrency: 3 })))

  it.effect("a stream can be run twice: each run pulls anew", () =>
    Effect.gen(function*() {
      const results = Scheduler.stream([1, 2, 3], (i) => Effect.succeed(i), { order: "input" })
      expect(Array.from(yield* Stream.runCollect(results))).toEqual([1, 2, 3])
      expect(Array.from(yield* Stream.runCollect(results))).toEqual([1, 2, 3])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("ten thousand results reach the consumer once each", () =>
    Effect.gen(function*() {
      const count = 10_000
      const seen = yield* Scheduler.stream(pulls(count), (i) =>
        i % 3 === 0 ? Effect.as(Effect.yieldNow, i) : Effect.succeed(i)).pipe(
          Stream.runFold(() =>
            new Set<number>(), (set, i) => set.add(i))
        )
      expect(seen.size).toBe(count)
    }).pipe(provide({ concurrency: 7 })))
})

describe("Scheduler.mapEffect", () => {
  it.effect("is stream for a pipe", () =>
    Effect.gen(function*() {
      const fiber = yield* Stream.make(20, 10).pipe(
        Scheduler.mapEffect((ms, index) => Effect.as(Effect.sleep(ms), `${index}:${ms}`)),
        Stream.runCollect,
        Effect.forkChild
      )
      yield* TestClock.adjust(20)
      expect(Array.from(yield* Fiber.join(fiber))).toEqual(["1:10", "0:20"])
    }).pipe(provide({ concurrency: 2 })))
})

describe("Scheduler.firstSuccess", () => {
  it.effect("the first to succeed wins, the rest are interrupted and their finalizers awaited", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const win = Latch.makeUnsafe()
      const finalizer = Latch.makeUnsafe()
      const fiber = yield* Scheduler.firstSuccess([
        jobs.track(0, Effect.fail("no")),
        jobs.track(1, Effect.onInterrupt(Effect.never, () => finalizer.await)),
        jobs.track(2, Effect.as(win.await, "yes"))
      ]).pipe(Effect.forkChild)
      yield* settle
      yield* win.open
      yield* settle
      expect(fiber.pollUnsafe()).toBeUndefined()
      yield* finalizer.open
      expect(yield* Fiber.join(fiber)).toBe("yes")
      expect(jobs.ended.toSorted()).toEqual([0, 1, 2])
      yield* expectIdle
    }).pipe(provide({ concurrency: 3 })))

  it.effect("queued losers never start, and an iterable is pulled no further", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const items = pulls(Infinity)
      const endless: Iterable<Effect.Effect<number>> = {
        *[Symbol.iterator]() {
          for (const i of items) yield jobs.track(i, Effect.as(Effect.yieldNow, i))
        }
      }
      expect(yield* Scheduler.firstSuccess(endless)).toBe(0)
      expect(jobs.started.length).toBeLessThanOrEqual(2)
      expect(items.returned).toBe(1)
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a loser that waits does not get the winner's permit", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const other = yield* Effect.forkChild(Scheduler.schedule(Effect.never))
      yield* settle
      const win = Latch.makeUnsafe()
      const fiber = yield* Effect.forkChild(
        Scheduler.firstSuccess([jobs.track(0, Effect.as(win.await, "winner")), jobs.track(1, Effect.never)])
      )
      yield* settle
      expect((yield* Scheduler.stats).queued).toBe(1)
      yield* win.open
      expect(yield* Fiber.join(fiber)).toBe("winner")
      expect(jobs.started).toEqual([0])
      yield* Fiber.interrupt(other)
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a late loser's failure or success never replaces the winner", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.firstSuccess([
        Effect.succeed("winner"),
        Effect.uninterruptible(Effect.andThen(Effect.sleep(10), Effect.fail("late"))),
        Effect.uninterruptible(Effect.andThen(Effect.sleep(10), Effect.succeed("later"))),
        Effect.onInterrupt(Effect.never, () => Effect.die("finalizer"))
      ]).pipe(Effect.forkChild)
      yield* TestClock.adjust(10)
      expect(yield* Fiber.join(fiber)).toBe("winner")
      const slow = yield* Scheduler.firstSuccess([
        Effect.uninterruptible(Effect.andThen(Effect.sleep(10), Effect.fail("late"))),
        Effect.as(Effect.yieldNow, "winner")
      ]).pipe(Effect.forkChild)
      yield* settle
      yield* TestClock.adjust(10)
      expect(yield* Fiber.join(slow)).toBe("winner")
    }).pipe(provide({ concurrency: 4 })))

  it.effect("an empty list is a typed, named error at once", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Scheduler.firstSuccess([]))
      expect(error._tag).toBe("FirstSuccessError")
      expect(error.reason._tag).toBe("NothingToTry")
      expect(error.message).toContain("no effects")
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))

  it.effect("all failing is a typed, named error with the failures in the order of the input", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.firstSuccess([
        Effect.andThen(Effect.sleep(20), Effect.fail("slow")),
        Effect.fail("quick")
      ]).pipe(
        Effect.catchReason("FirstSuccessError", "AllFailed", (reason) => Effect.succeed(reason.errors)),
        Effect.forkChild
      )
      yield* TestClock.adjust(20)
      expect(yield* Fiber.join(fiber)).toEqual(["slow", "quick"])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a defect does not end the race, and is the exit when no effect succeeds", () =>
    Effect.gen(function*() {
      expect(yield* Scheduler.firstSuccess([Effect.die("bug"), Effect.succeed(1)])).toBe(1)
      const exit = yield* Effect.exit(Scheduler.firstSuccess([Effect.fail("no"), Effect.die("bug")]))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBe("bug")
    }).pipe(provide({ concurrency: 1 })))

  it.effect("interrupting the call interrupts them all", () =>
    Effect.gen(function*() {
      const jobs = meter()
      const fiber = yield* Effect.forkChild(
        Scheduler.firstSuccess([jobs.track(0, Effect.never), jobs.track(1, Effect.never), jobs.track(2, Effect.never)])
      )
      yield* settle
      yield* Fiber.interrupt(fiber)
      expect(jobs.started).toEqual([0, 1])
      expect(jobs.ended).toEqual([0, 1])
      yield* expectIdle
    }).pipe(provide({ concurrency: 2 })))
})
