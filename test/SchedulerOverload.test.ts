/**
 * The laws of overload: a job that would wait too long is refused, load beyond the width is shed, and callers get fair turns.
 */
import { describe, expect, it } from "@effect/vitest"
import {
  type Cause,
  Clock,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Queue,
  References,
  Scope,
  Stream
} from "effect"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import { makeStarts } from "./support/starts.ts"
import { fork, settle } from "./support/fibers.ts"
import { ManualClock } from "./support/manualClock.ts"
import { simulate } from "./support/simulation.js"
import { interruptionSweep, yieldSweep } from "./support/sweep.ts"

/** The reason of a refusal, its durations in milliseconds; undefined while the fiber runs. */
const refusal = (fiber: Fiber.Fiber<unknown, unknown>) => {
  const exit = fiber.pollUnsafe()
  if (exit === undefined || Exit.isSuccess(exit)) return exit?._tag
  const error = exit.cause.reasons[0] as { readonly error?: Scheduler.SchedulerError }
  const reason = error.error?.reason as Record<string, unknown> | undefined
  if (reason === undefined) return exit.cause.reasons[0]?._tag
  const fields = Object.entries(reason).filter(([name]) => name !== "_tag" && name !== "name" && name !== "stack")
  return [
    reason["_tag"],
    Object.fromEntries(
      fields.map(([name, value]) => [name, Duration.isDuration(value) ? Duration.toMillis(value) : value])
    )
  ]
}

const sleep = (millis: number) => Effect.sleep(millis)

/** A scheduler whose next start is due in 100 ms, and whose jobs may wait for 250. */
const tenASecond = Effect.gen(function*() {
  const scheduler = yield* Scheduler.make({
    concurrency: "unbounded",
    rate: { limit: 10, window: "1 second" },
    maxWait: "250 millis"
  })
  yield* scheduler.schedule(Effect.void)
  return scheduler
})

describe("maxWait", () => {
  it.effect("O1 a job that waits for width is refused when its maxWait is over, though nothing ends and nothing starts", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "100 millis" })
      yield* fork(scheduler.schedule(Effect.never))
      const waiting = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("99 millis")
      expect(refusal(waiting)).toBe(undefined)
      yield* TestClock.adjust("1 millis")
      expect(refusal(waiting)).toEqual(["WaitExceeded", { waited: 100, maxWait: 100, expected: undefined }])
      expect((yield* scheduler.stats).queued).toBe(0)
    }))

  it.effect("O1 a job whose turn comes in time runs to its end", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "100 millis" })
      yield* fork(scheduler.schedule(sleep(100)))
      const waiting = yield* fork(scheduler.schedule(sleep(500)))
      yield* TestClock.adjust("1 seconds")
      expect(refusal(waiting)).toBe("Success")
    }))

  it.effect("O1 the smaller one of the job's and the scheduler's maxWait holds", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "100 millis" })
      yield* fork(scheduler.schedule(Effect.never))
      const sooner = yield* fork(scheduler.schedule(Effect.void, { maxWait: "50 millis" }))
      const later = yield* fork(scheduler.schedule(Effect.void, { maxWait: "200 millis" }))
      yield* TestClock.adjust("50 millis")
      expect([refusal(sooner)?.[0], refusal(later)]).toEqual(["WaitExceeded", undefined])
      yield* TestClock.adjust("50 millis")
      expect(refusal(later)).toEqual(["WaitExceeded", { waited: 100, maxWait: 100, expected: undefined }])
    }))

  it.effect("O1 with a maxWait of 0 a job starts now or not at all", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const first = yield* fork(scheduler.schedule(sleep(10), { maxWait: 0 }))
      const second = yield* fork(scheduler.schedule(Effect.void, { maxWait: 0 }))
      expect(refusal(second)).toEqual(["WaitExceeded", { waited: 0, maxWait: 0, expected: undefined }])
      yield* TestClock.adjust("10 millis")
      expect(refusal(first)).toBe("Success")
    }))

  it.effect("O1 a job that the rate cannot start in time is refused on arrival, and spends nothing", () =>
    Effect.gen(function*() {
      const scheduler = yield* tenASecond
      const jobs = yield* Effect.forEach([1, 2, 3, 4], () => fork(scheduler.schedule(Effect.void)))
      expect(jobs.map((job) => refusal(job)?.[0])).toEqual([undefined, undefined, "WaitExceeded", "WaitExceeded"])
      expect(refusal(jobs[2]!)).toEqual(["WaitExceeded", { waited: 0, maxWait: 250, expected: 300 }])
      yield* TestClock.adjust("200 millis")
      expect(jobs.slice(0, 2).map(refusal)).toEqual(["Success", "Success"])
      const next = yield* fork(scheduler.schedule(Clock.currentTimeMillis))
      yield* TestClock.adjust("100 millis")
      expect(yield* Fiber.join(next)).toBe(300)
    }))

  it.effect("O1 a job of a higher priority does not count the tokens of lower ones", () =>
    Effect.gen(function*() {
      const scheduler = yield* tenASecond
      yield* fork(scheduler.schedule(Effect.void))
      yield* fork(scheduler.schedule(Effect.void))
      const urgent = yield* fork(scheduler.schedule(Effect.void, { priority: 1 }))
      expect(refusal(urgent)).toBe(undefined)
      yield* TestClock.adjust("100 millis")
      expect(refusal(urgent)).toBe("Success")
    }))

  it.effect("O1 O3 a job counts the tokens of its own share, and not those of others", () =>
    Effect.gen(function*() {
      const scheduler = yield* tenASecond
      const of = (share: string) => fork(scheduler.schedule(Effect.void, { share }))
      const [a1, a2, a3, b] = [yield* of("a"), yield* of("a"), yield* of("a"), yield* of("b")]
      expect([a1, a2, a3, b].map((job) => refusal(job)?.[0])).toEqual([undefined, undefined, "WaitExceeded", undefined])
      yield* Fiber.interrupt(a2)
      expect(refusal(yield* of("a"))).toBe(undefined)
      yield* TestClock.adjust("250 millis")
      expect([refusal(a1), refusal(b)]).toEqual(["Success", "Success"])
    }))

  it.effect("O1 O3 the first job with a share does not count the tokens of jobs without one", () =>
    Effect.gen(function*() {
      const scheduler = yield* tenASecond
      const plain = yield* Effect.forEach([1, 2, 3, 4], () => fork(scheduler.schedule(Effect.void, { maxWait: 1000 })))
      yield* Effect.forEach([1, 2], () => fork(scheduler.forEach([1, 2], () => Effect.void)))
      const first = yield* fork(scheduler.schedule(Effect.void, { share: "a" }))
      expect([...plain.map(refusal).map((refusal) => refusal?.[0]), refusal(first)])
        .toEqual([undefined, undefined, "WaitExceeded", "WaitExceeded", undefined])
      // One without a share still counts them.
      expect(refusal(yield* fork(scheduler.schedule(Effect.void, { maxWait: 1000 })))?.[0]).toBe("WaitExceeded")
      yield* TestClock.adjust("200 millis")
      expect([refusal(plain[0]!), refusal(first)]).toEqual(["Success", "Success"])
    }))

  it.effect("O1 a job made in a run counts the tokens of those in front, and one made in a running job does not", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 10,
        rate: { limit: 10, window: "1 second", burst: 1 },
        maxWait: "250 millis"
      })
      const reducer = yield* Reducer.make()
      const begun = yield* Deferred.make<void>()
      const inner = Effect.andThen(Deferred.await(begun), scheduler.schedule(Effect.void))
      const job = yield* fork(scheduler.schedule(inner))
      for (let i = 0; i < 2; i++) yield* fork(scheduler.schedule(Effect.void))
      const inRun = yield* fork(reducer.reduce("key", scheduler.schedule(Effect.void)))
      expect(refusal(inRun)).toEqual(["WaitExceeded", { waited: 0, maxWait: 250, expected: 300 }])
      yield* Deferred.succeed(begun, undefined)
      yield* settle
      expect(refusal(job)).toBe(undefined)
      yield* TestClock.adjust("100 millis")
      expect(refusal(job)).toBe("Success")
    }))

  it.effect("O1 a late timer starts no job after its maxWait: the job in front is refused when its turn comes", () =>
    Effect.gen(function*() {
      let ran = false
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "100 millis" })
      const gate = yield* Latch.make()
      yield* fork(scheduler.schedule(gate.await))
      const waiting = yield* fork(scheduler.schedule(Effect.sync(() => ran = true)))
      // The clock goes on, and no timer fires: the event loop was blocked.
      const clock = yield* Clock.Clock
      const blocked = clock.monotonicTimeNanosUnsafe() + 150_000_000n
      clock.monotonicTimeNanosUnsafe = () => blocked
      yield* gate.open
      yield* Effect.yieldNow
      const late = { waited: 150, maxWait: 100, expected: undefined }
      expect([refusal(waiting), ran]).toEqual([["WaitExceeded", late], false])
    }))

  it.effect("O1 a job is refused in time though the refusals of many others before it take theirs", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const scheduler = yield* Effect.provideService(Scheduler.make({ concurrency: 1 }), Clock.Clock, clock)
      yield* fork(scheduler.schedule(Effect.never))
      const wait = (maxWait: number) => Effect.exit(scheduler.schedule(Effect.void, { maxWait }))
      yield* fork(Effect.map(wait(10), () => clock.block(5)))
      // More than one turn of the event loop refuses.
      for (let i = 0; i < 3000; i++) yield* fork(wait(10))
      const last = yield* fork(wait(20))
      clock.advance(10)
      yield* settle
      expect([clock.now / 1e6, clock.pending, last.pollUnsafe()]).toEqual([15, 1, undefined])
      clock.advance(5)
      yield* settle
      expect(last.pollUnsafe()).not.toBe(undefined)
    }))

  it.effect("O1 a layer's maxWait exempts what forEach pulls, and its own maxWait does not", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "100 millis" })
      yield* fork(scheduler.schedule(sleep(500)))
      const all = yield* fork(scheduler.forEach([1, 2], (n) => Effect.succeed(n)))
      const bounded = yield* fork(scheduler.forEach([1, 2], (n) => Effect.succeed(n), { maxWait: "200 millis" }))
      yield* TestClock.adjust("500 millis")
      expect([refusal(all), refusal(bounded)?.[0]]).toEqual(["Success", "WaitExceeded"])
    }))

  it.effect("O1 a penalty refuses at once the jobs that would wait for longer than they may, and no other", () =>
    Effect.gen(function*() {
      for (const rate of [undefined, { limit: 100, window: 1000 }]) {
        const scheduler = yield* Scheduler.make({ concurrency: 1, rate })
        yield* fork(scheduler.schedule(sleep(200)))
        const short = yield* fork(scheduler.schedule(Effect.void, { maxWait: "500 millis" }))
        const long = yield* fork(scheduler.schedule(Effect.void, { maxWait: "2 seconds" }))
        yield* scheduler.penalize({ for: "1 second" })
        yield* Effect.yieldNow
        expect([refusal(short)?.[0], refusal(long)]).toEqual(["WaitExceeded", undefined])
        const late = yield* fork(scheduler.schedule(Effect.void, { maxWait: "500 millis" }))
        expect(refusal(late)?.[0]).toBe("WaitExceeded")
        yield* TestClock.adjust("999 millis")
        expect(refusal(long)).toBe(undefined)
        yield* TestClock.adjust("1 millis")
        expect(refusal(long)).toBe("Success")
      }
    }))

  it.effect("L4 a rate that is set in a penalty makes up for no slot before its end", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10 })
      const { job, times } = yield* Effect.sync(makeStarts)
      yield* scheduler.penalize({ for: "100 millis" })
      for (let i = 0; i < 4; i++) yield* fork(scheduler.schedule(job))
      yield* scheduler.setRate({ limit: 100, window: "1 second" })
      yield* TestClock.adjust("1 second")
      expect(times).toEqual([100, 110, 120, 130])
    }))

  it.effect("O1 a penalty refuses no job for those behind it, nor for those that it refuses with it", () =>
    Effect.gen(function*() {
      for (const share of [undefined, "a"]) {
        const scheduler = yield* Scheduler.make({ concurrency: "unbounded", rate: { limit: 10, window: "1 second" } })
        yield* scheduler.schedule(Effect.void)
        const wait = (maxWait: number, tokens?: number) =>
          fork(scheduler.schedule(Effect.void, { share, maxWait, tokens, priority: maxWait === 420 ? -1 : 0 }))
        const first = yield* wait(200)
        const hopeless = yield* wait(220)
        const second = yield* wait(300)
        const low = yield* wait(420)
        yield* Effect.forEach([1, 2, 3], () => fork(scheduler.schedule(Effect.void, { share, priority: -2 })))
        yield* scheduler.penalize({ for: "160 millis" })
        yield* Effect.yieldNow
        expect([first, hopeless, second, low].map((job) => refusal(job)?.[0]))
          .toEqual([undefined, "WaitExceeded", undefined, undefined])
        yield* TestClock.adjust("420 millis")
        expect([first, second, low].map(refusal)).toEqual(["Success", "Success", "Success"])
      }
    }))

  it("O1 a job that leaves, one that starts, and a scheduler that closes leave no timer behind", () => {
    let pending: ReadonlyArray<number> = []
    const { exit } = simulate((_, clock) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const scheduler = yield* Scope.provide(
          Scheduler.make({ concurrency: 1, maxWait: "1 minute", shed: true }),
          scope
        )
        const gate = yield* Latch.make()
        yield* fork(scheduler.schedule(gate.await))
        const leaves = yield* fork(scheduler.schedule(Effect.void))
        const starts = yield* fork(scheduler.schedule(Effect.never))
        yield* fork(scheduler.schedule(Effect.void))
        yield* Fiber.interrupt(leaves)
        const waiting = clock.pending
        yield* gate.open
        yield* Effect.yieldNow
        const blocked = clock.pending
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.await(starts)
        pending = [waiting, blocked, clock.pending]
      })
    )
    expect(exit?._tag).toBe("Success")
    expect(pending).toEqual([2, 2, 0])
  })

  it("O1 when the last job with a maxWait starts, its timer is gone", () => {
    let pending = -1
    simulate((_, clock) =>
      Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "1 minute" })
        const gate = yield* Latch.make()
        yield* fork(scheduler.schedule(gate.await))
        const starts = yield* fork(scheduler.schedule(Effect.void))
        yield* gate.open
        yield* Fiber.await(starts)
        pending = clock.pending
      }))
    )
    expect(pending).toBe(0)
  })

  it("O1 when the last job with a maxWait leaves, its timer is gone", () => {
    let pending = -1
    simulate((_, clock) =>
      Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "1 minute" })
        yield* fork(scheduler.schedule(Effect.never))
        yield* Fiber.interrupt(yield* fork(scheduler.schedule(Effect.void)))
        pending = clock.pending
      }))
    )
    expect(pending).toBe(0)
  })

  it.effect("O1 a job that the rate starts exactly at the end of its maxWait is not refused", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 10, window: "1 second" } })
      yield* scheduler.schedule(Effect.void)
      const just = yield* fork(scheduler.schedule(Effect.void, { maxWait: "100 millis" }))
      const late = yield* fork(scheduler.schedule(Effect.void, { maxWait: "199 millis" }))
      expect(refusal(late)).toEqual(["WaitExceeded", { waited: 0, maxWait: 199, expected: 200 }])
      yield* TestClock.adjust("100 millis")
      expect(refusal(just)).toBe("Success")
    }))

  it("maxWait has to be a finite duration from 0", () => {
    for (const maxWait of [NaN, Infinity, -1]) {
      expect(() => Scheduler.layer({ concurrency: 1, maxWait })).toThrow(
        `Scheduler.layer: maxWait must be a finite duration >= 0`
      )
      expect(() => Scheduler.schedule(Effect.void, { maxWait })).toThrow(
        `Scheduler.schedule: maxWait must be a finite duration >= 0`
      )
    }
  })
})

describe("shed", () => {
  /** Offers a job every `gap` ms that takes `takes` ms, and counts the outcomes. */
  const offer = (
    schedule: (effect: Effect.Effect<void>) => Effect.Effect<void, Scheduler.SchedulerError>,
    count: number,
    gap: number,
    takes: number
  ) =>
    Effect.gen(function*() {
      const outcomes: Record<string, number> = {}
      const note = (name: string) => void (outcomes[name] = (outcomes[name] ?? 0) + 1)
      for (let i = 0; i < count; i++) {
        yield* fork(Effect.matchEffect(schedule(sleep(takes)), {
          onSuccess: () => Effect.sync(() => note("done")),
          onFailure: (error) => Effect.sync(() => note(error.reason._tag))
        }))
        yield* TestClock.adjust(gap)
      }
      yield* TestClock.adjust("1 minute")
      return outcomes
    })

  it.effect("O2 a load that the width can serve is never shed", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: true })
      expect(yield* offer((effect) => scheduler.schedule(effect), 500, 11, 10)).toEqual({ done: 500 })
    }))

  it.effect("O2 of twice the load, half is refused as Overloaded, and the width stays busy", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: true })
      const { done = 0, Overloaded = 0 } = yield* offer((effect) => scheduler.schedule(effect), 1000, 5, 10)
      expect(done + Overloaded).toBe(1000)
      expect(done).toBeGreaterThan(490)
      expect(done).toBeLessThan(540)
    }))

  it.effect("O2 the error says how long the job has waited, and the target", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      const jobs = yield* Effect.forEach(Array.from({ length: 20 }), () => fork(scheduler.schedule(sleep(20))))
      yield* TestClock.adjust("1 minute")
      const refusals = jobs.map(refusal).filter((outcome) => outcome !== "Success")
      expect(refusals[0]).toEqual(["Overloaded", { waited: 80, target: 10 }])
    }))

  const defaults: ReadonlyArray<readonly [Partial<Scheduler.Options>, number, number]> = [
    [{ shed: true }, 120, 5],
    [{ shed: { target: 20 } }, 240, 20],
    [{ shed: { interval: 70 } }, 90, 5],
    [{ shed: true, maxWait: "2 seconds" }, 1120, 100],
    [{ shed: { target: 20 }, maxWait: "2 seconds" }, 240, 20]
  ]
  it.effect("O2 the target is 5 ms and the interval 100 ms, or a twentieth of maxWait, and ten targets", () =>
    Effect.gen(function*() {
      for (const [options, waited, target] of defaults) {
        const scheduler = yield* Scheduler.make({ concurrency: 1, ...options })
        const jobs = yield* Effect.forEach(Array.from({ length: 130 }), () => fork(scheduler.schedule(sleep(10))))
        yield* TestClock.adjust("1 minute")
        expect(jobs.map(refusal).find((outcome) => outcome !== "Success")).toEqual(["Overloaded", { waited, target }])
      }
    }))

  it.effect("O2 time in a pause does not count as a wait for width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      yield* scheduler.pause
      const jobs = yield* Effect.forEach([1, 2, 3], () => fork(scheduler.schedule(sleep(1))))
      yield* TestClock.adjust("10 seconds")
      yield* scheduler.resume
      yield* TestClock.adjust("10 seconds")
      expect(jobs.map(refusal)).toEqual(["Success", "Success", "Success"])
    }))

  it.effect("O2 time in which the rate holds the queue does not count as a wait for width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 10,
        rate: { limit: 1, window: "1 second" },
        shed: { target: 10, interval: 50 }
      })
      const jobs = yield* Effect.forEach(Array.from({ length: 20 }), () => fork(scheduler.schedule(sleep(1))))
      yield* TestClock.adjust("1 minute")
      expect(jobs.map(refusal)).toEqual(jobs.map(() => "Success"))
    }))

  it.effect("O2 time in which the rate holds a job that waited for width before does not count as a wait for width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 1,
        rate: { limit: 10, window: "1 second", burst: 1 },
        shed: { target: 10, interval: 50 }
      })
      const jobs = yield* Effect.forEach(Array.from({ length: 5 }), () => fork(scheduler.schedule(sleep(1))))
      yield* TestClock.adjust("1 minute")
      expect(jobs.map(refusal)).toEqual(jobs.map(() => "Success"))
    }))

  it.effect("O2 the items of forEach, and jobs inside jobs, are never shed", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      const items = yield* fork(scheduler.forEach(Array.from({ length: 50 }), () => sleep(20), { discard: true }))
      yield* TestClock.adjust("1 minute")
      expect(refusal(items)).toBe("Success")
      const inside = yield* fork(
        scheduler.schedule(
          Effect.forEach(Array.from({ length: 50 }), () => scheduler.schedule(sleep(20)), { concurrency: "unbounded" })
        )
      )
      yield* TestClock.adjust("1 minute")
      expect(refusal(inside)).toBe("Success")
    }))

  it("O2 time in which the event loop stood still counts neither as a wait nor in an interval", () => {
    const refusedWith = (stalls: boolean) => {
      let refused = 0
      const { exit, timers } = simulate((_, clock) =>
        Effect.scoped(Effect.gen(function*() {
          const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 2, interval: 50 } })
          const job = (takes: number) =>
            Effect.forkChild(Effect.catch(scheduler.schedule(sleep(takes)), () => Effect.sync(() => void refused++)))
          yield* job(4)
          yield* sleep(1)
          for (const takes of [45, 20, 1, 1]) yield* job(takes)
          yield* sleep(4)
          if (stalls) clock.pass(80)
          else yield* sleep(80)
          yield* sleep(200)
        }))
      )
      expect([exit?._tag, timers]).toEqual(["Success", 0])
      return refused
    }
    expect(refusedWith(true)).toBe(0)
    expect(refusedWith(false)).toBeGreaterThan(0)
  })

  it("O2 an event loop that stands still again and again does not keep an overload from being noticed", () => {
    let refused = 0
    const { exit } = simulate((_, clock) =>
      Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1, shed: true })
        const job = Effect.catch(scheduler.schedule(sleep(10)), () => Effect.sync(() => void refused++))
        for (let i = 0; i < 1000; i++) {
          yield* Effect.forkChild(job)
          yield* sleep(5)
          if (i % 10 === 0) clock.pass(25)
        }
      }))
    )
    expect(exit?._tag).toBe("Success")
    expect(refused).toBeGreaterThan(200)
  })

  it.effect("O2 a queue that never empties is no overload while each job waits for less than the target", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      for (let i = 0; i < 2; i++) yield* fork(scheduler.schedule(sleep(4)))
      expect(yield* offer((effect) => scheduler.schedule(effect), 100, 4, 4)).toEqual({ done: 100 })
    }))

  it.effect("O2 a queue that empties with each start is no overload, however late its jobs start", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 2, interval: 50 } })
      yield* fork(scheduler.schedule(sleep(15)))
      yield* TestClock.adjust(5)
      expect(yield* offer((effect) => scheduler.schedule(effect), 100, 10, 10)).toEqual({ done: 100 })
    }))

  it.effect("O2 jobs that start in lent width do not end an overload", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: true })
      const { Overloaded = 0 } = yield* offer((effect) => scheduler.schedule(scheduler.schedule(effect)), 1000, 5, 10)
      expect(Overloaded).toBeGreaterThan(450)
    }))

  it.effect("O2 a job that starts without a wait ends an overload", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      const crowd = yield* Effect.forEach(Array.from({ length: 20 }), () => fork(scheduler.schedule(sleep(20))))
      yield* TestClock.adjust("1 minute")
      expect(crowd.map(refusal).some((outcome) => outcome !== "Success")).toBe(true)
      yield* scheduler.schedule(Effect.void)
      const later = yield* Effect.forEach([1, 2, 3], () => fork(scheduler.schedule(sleep(25))))
      yield* TestClock.adjust("1 minute")
      expect(later.map(refusal)).toEqual(["Success", "Success", "Success"])
    }))

  it("target and interval have to be durations above 0", () => {
    expect(() => Scheduler.layer({ concurrency: 1, shed: { target: 0 } })).toThrow(
      "Scheduler.layer: shed.target must be a finite duration > 0, got 0"
    )
    expect(() => Scheduler.layer({ concurrency: 1, shed: { interval: NaN } })).toThrow(
      "Scheduler.layer: shed.interval must be a finite duration > 0, got NaN"
    )
    for (const shed of [null, "true", 5]) {
      expect(() => Scheduler.layer({ concurrency: 1, shed: shed as never })).toThrow(
        `Scheduler.layer: shed must be a boolean, or an object, got ${JSON.stringify(shed)}`
      )
    }
  })
})

describe("share", () => {
  const run =
    (scheduler: Scheduler.Scheduler, log: Array<string>) =>
    (name: string, takes: number, options?: Scheduler.ScheduleOptions) =>
      fork(scheduler.schedule(
        Effect.suspend(() => {
          log.push(name)
          return sleep(takes)
        }),
        options
      ))

  it.effect("O3 keys take turns, however many jobs one of them has brought before", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const job = run(scheduler, log)
      for (let i = 0; i < 6; i++) yield* job("a", 10, { share: "a" })
      yield* job("b", 10, { share: "b" })
      yield* job("b", 10, { share: "b" })
      yield* job("c", 10, { share: "c" })
      yield* TestClock.adjust("1 second")
      expect(log.join("")).toBe("aabcbaaaa")
    }))

  it.effect("O3 keys get the width in proportion to their weights, by the time that their jobs take", () =>
    Effect.gen(function*() {
      const used: Record<string, number> = { a: 0, b: 0, c: 0 }
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const keep = (key: string, takes: number, weight: number) =>
        fork(
          Effect.forever(Effect.suspend(() =>
            scheduler.schedule(
              Effect.andThen(
                sleep(takes),
                Effect.sync(() => used[key]! += takes)
              ),
              {
                share: { key, weight }
              }
            )
          ))
        )
      for (let i = 0; i < 8; i++) {
        yield* keep("a", 10, 1)
        yield* keep("b", 40, 1)
        yield* keep("c", 20, 2)
      }
      yield* TestClock.adjust("20 seconds")
      const total = used["a"]! + used["b"]! + used["c"]!
      expect(total / 40_000).toBeCloseTo(1, 1)
      expect(used["a"]! / total).toBeCloseTo(0.25, 1)
      expect(used["b"]! / total).toBeCloseTo(0.25, 1)
      expect(used["c"]! / total).toBeCloseTo(0.5, 1)
    }))

  it.effect("O3 a lone key has the whole width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 4 })
      for (let i = 0; i < 100; i++) yield* fork(scheduler.schedule(sleep(10), { share: "a" }))
      yield* TestClock.adjust("250 millis")
      expect((yield* scheduler.stats).running + (yield* scheduler.stats).queued).toBe(0)
    }))

  it.effect("O3 a priority goes before every share", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const job = run(scheduler, log)
      yield* job("first", 10)
      yield* job("low", 10, { share: "a" })
      yield* job("high", 10, { share: "b", priority: 1 })
      yield* job("higher", 10, { priority: 2 })
      yield* TestClock.adjust("1 second")
      expect(log).toEqual(["first", "higher", "high", "low"])
    }))

  it.effect("O3 a heavy job in front is overtaken neither within its key nor by new keys", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const scheduler = yield* Scheduler.make({ concurrency: 3 })
      const job = run(scheduler, log)
      yield* job("run", 10)
      yield* job("heavy", 10, { share: "a", weight: 3 })
      yield* job("light", 10, { share: "a" })
      for (let i = 0; i < 5; i++) yield* job(`new ${i}`, 10, { share: `b${i}` })
      yield* TestClock.adjust("1 second")
      expect(log.slice(0, 2)).toEqual(["run", "heavy"])
    }))

  it.effect("O3 an interrupted job gives its turn to the next one of its key", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const job = run(scheduler, log)
      yield* job("first", 10)
      const leaves = yield* job("a1", 10, { share: "a" })
      yield* job("b1", 10, { share: "b" })
      yield* job("a2", 10, { share: "a" })
      yield* Fiber.interrupt(leaves)
      yield* TestClock.adjust("1 second")
      expect(log[0]).toBe("first")
      expect(log.slice(1).sort()).toEqual(["a2", "b1"])
    }))

  it.effect("O3 a million keys come and go, and nothing stays", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      yield* fork(Effect.forever(scheduler.schedule(sleep(1), { share: "busy" })))
      yield* fork(Effect.forever(scheduler.schedule(sleep(1), { share: "busy, too" })))
      yield* fork(Effect.forever(scheduler.schedule(sleep(1), { share: "always" })))
      for (let i = 0; i < 2000; i++) {
        yield* fork(scheduler.schedule(sleep(1), { share: i }))
        yield* TestClock.adjust("3 millis")
      }
      expect((yield* scheduler.stats).queued).toBeLessThan(10)
    }), 60_000)
})

it("O1 S3 the end of the last maxWait ends a timer, in whose code a caller may leave: no permit is lost, and no job runs twice", () => {
  const subject = {
    make: Scheduler.make({ concurrency: 2, maxWait: "1 minute" }),
    subject: (scheduler: Scheduler.Scheduler) => {
      const job = scheduler.schedule(scheduler.schedule(Effect.yieldNow, { weight: 2 }))
      return Effect.as(Effect.all([job, job, job], { concurrency: "unbounded" }), "done")
    },
    expected: "done",
    check: (scheduler: Scheduler.Scheduler) =>
      Effect.map(scheduler.stats, (stats) => expect(stats).toMatchObject({ running: 0, weight: 0, queued: 0 }))
  }
  expect(yieldSweep(subject)).toBeGreaterThan(20)
  expect(interruptionSweep(subject)).toBeGreaterThan(20)
})

describe("drain", () => {
  it.effect("O7 new jobs are refused with Draining, and jobs that wait or run go on to their end", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const running = yield* fork(scheduler.schedule(sleep(100)))
      const waiting = yield* fork(scheduler.schedule(sleep(100)))
      const drained = yield* fork(scheduler.drain())
      const late = yield* fork(scheduler.schedule(Effect.void))
      expect(refusal(late)).toEqual(["Draining", {}])
      const { message } = yield* Effect.flip(scheduler.schedule(Effect.void))
      expect(message).toBe("effect-funnel/Scheduler: draining: no new jobs are accepted")
      yield* TestClock.adjust("199 millis")
      expect(refusal(drained)).toBe(undefined)
      yield* TestClock.adjust("1 millis")
      expect([running, waiting, drained].map(refusal)).toEqual(["Success", "Success", "Success"])
    }))

  it.effect("O7 after its time drain interrupts the jobs that are left, and returns", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const running = yield* fork(scheduler.schedule(Effect.never))
      const waiting = yield* fork(scheduler.schedule(Effect.void))
      const drained = yield* fork(scheduler.drain({ timeout: "1 second" }))
      yield* TestClock.adjust("1 second")
      expect([running, waiting, drained].map(refusal)).toEqual(["Interrupt", "Interrupt", "Success"])
    }))

  it.effect("O7 the option drain lets the jobs go on when the scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1, drain: "1 second" }), scope)
      const short = yield* fork(scheduler.schedule(sleep(500)))
      const long = yield* fork(scheduler.schedule(sleep(5000)))
      const closed = yield* fork(Scope.close(scope, Exit.void))
      const late = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("999 millis")
      expect([short, long, closed, late].map(refusal)).toEqual(["Success", undefined, undefined, ["Draining", {}]])
      yield* TestClock.adjust("1 millis")
      expect([long, closed].map(refusal)).toEqual(["Interrupt", "Success"])
    }))

  it.effect("O7 the scope closes as soon as the jobs have ended, and waits for no timer", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1, drain: "1 second" }), scope)
      yield* fork(scheduler.schedule(sleep(500)))
      const closed = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("499 millis")
      expect(refusal(closed)).toBe(undefined)
      yield* TestClock.adjust("1 millis")
      expect(refusal(closed)).toBe("Success")
    }))

  it.effect("O7 a job that was taken before may still schedule jobs inside itself", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const outer = yield* fork(scheduler.schedule(Effect.andThen(sleep(100), scheduler.schedule(sleep(100)))))
      const drained = yield* fork(scheduler.drain())
      yield* TestClock.adjust("200 millis")
      expect([outer, drained].map(refusal)).toEqual(["Success", "Success"])
    }))

  it.effect("O7 a run that a job has joined may still schedule jobs, and may not once that job has left it", () =>
    Effect.gen(function*() {
      for (const leaves of [false, true]) {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        const reducer = yield* Reducer.make()
        const gate = Latch.makeUnsafe()
        const call = reducer.reduce("key", Effect.andThen(gate.await, scheduler.schedule(Effect.void)))
        const outside = yield* fork(call)
        const job = yield* fork(scheduler.schedule(call))
        const drained = yield* fork(scheduler.drain())
        if (leaves) yield* Fiber.interrupt(job)
        yield* gate.open
        yield* settle
        expect([outside, job, drained].map(refusal)).toEqual(
          leaves ? [["Draining", {}], "Interrupt", "Success"] : ["Success", "Success", "Success"]
        )
      }
    }))

  it.effect("O7 a forEach that came before goes on to pull its items, and one that comes later is refused", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const before = yield* fork(scheduler.forEach([1, 2, 3], () => sleep(100), { discard: true }))
      const drained = yield* fork(scheduler.drain())
      const after = yield* fork(scheduler.forEach([1, 2, 3], () => sleep(100), { discard: true }))
      expect(refusal(after)).toEqual(["Draining", {}])
      yield* TestClock.adjust("300 millis")
      expect([before, drained].map(refusal)).toEqual(["Success", "Success"])
    }))

  it.effect("O7 a call on many items that was made before a drain, and begins after it, comes too late", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops <= 60; ops++) {
        const scheduler = yield* Scheduler.make({ concurrency: 1 })
        let drained = false
        let late = 0
        const job = () => Effect.sync(() => drained && late++)
        const call = yield* fork(
          Effect.provideService(scheduler.forEach([1, 2, 3], job), References.MaxOpsBeforeYield, ops)
        )
        yield* scheduler.drain()
        drained = true
        yield* Fiber.await(call)
        expect(late).toBe(0)
      }
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const pull = yield* Stream.toPull(scheduler.stream([1], () => Effect.void))
      yield* scheduler.drain()
      expect(refusal(yield* fork(pull))).toEqual(["Draining", {}])
    }))

  it.effect("O7 a call that waits for its next item is one of the rest that are interrupted, and of the late no drain waits", () =>
    Effect.gen(function*() {
      const items = Stream.concat(Stream.make(1), Stream.never)
      const ends = {
        drain: (scheduler: Scheduler.Scheduler) => scheduler.drain({ timeout: "1 second" }),
        close: (_: Scheduler.Scheduler, scope: Scope.Closeable) => Scope.close(scope, Exit.void)
      }
      for (const end of [ends.drain, ends.close]) {
        const scope = yield* Scope.make()
        const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 2 }), scope)
        const calls = [
          yield* fork(scheduler.forEach(items, () => Effect.void)),
          yield* fork(Stream.runDrain(scheduler.stream(items, () => Effect.void))),
          yield* fork(Stream.runForEach(scheduler.stream([1, 2, 3], () => Effect.void), () => Effect.never))
        ]
        yield* settle
        const ended = yield* fork(end(scheduler, scope))
        yield* TestClock.adjust("1 second")
        expect([...calls, ended].map(refusal)).toEqual(["Interrupt", "Interrupt", undefined, "Success"])
        const late = yield* fork(scheduler.forEach(Stream.never, () => Effect.void))
        expect(refusal(late)).toBe("Interrupt")
        yield* Fiber.interruptAll(calls)
        expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
      }
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      yield* fork(scheduler.schedule(sleep(100)))
      const drained = yield* fork(scheduler.drain())
      yield* fork(scheduler.forEach(Stream.never, () => Effect.void))
      yield* TestClock.adjust(100)
      expect(refusal(drained)).toBe("Success")
    }))

  it.effect("O7 a drain that a run or a job of another scheduler asks for waits for a call between two items", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const other = yield* Scheduler.make({ concurrency: 1 })
      const ways: Array<(drain: Effect.Effect<void>) => Effect.Effect<void, unknown>> = [
        (drain) => reducer.reduce("key", drain),
        (drain) => other.schedule(drain)
      ]
      for (const way of ways) {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        const items = yield* Queue.make<number, Cause.Done>()
        const call = yield* fork(scheduler.forEach(Stream.fromQueue(items), (item) => Effect.succeed(item)))
        yield* Queue.offer(items, 1)
        yield* settle
        const drained = yield* fork(way(scheduler.drain()))
        yield* settle
        expect([call, drained].map(refusal)).toEqual([undefined, undefined])
        yield* Queue.offer(items, 2)
        yield* Queue.end(items)
        yield* settle
        expect(call.pollUnsafe()).toEqual(Exit.succeed([1, 2]))
        expect(refusal(drained)).toBe("Success")
      }
    }))

  it.effect("O7 a drain waits for no call that waits for it: one of whose items it is part of, or that was made around it", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const ways: Array<(scheduler: Scheduler.Scheduler) => Effect.Effect<unknown, unknown>> = [
        (scheduler) => scheduler.forEach([1], () => reducer.reduce("drain", scheduler.drain())),
        (scheduler) =>
          reducer.reduce("call", scheduler.forEach(Stream.fromEffect(scheduler.drain()), () => Effect.succeed("item")))
      ]
      for (const way of ways) {
        const call = yield* fork(way(yield* Scheduler.make({ concurrency: 2 })))
        yield* settle
        expect(refusal(call)).toBe("Success")
      }
    }))

  it("O7 all who wait for the end hear of it, also where the code of one of them throws", () => {
    const thrown: Array<unknown> = []
    const { exit } = simulate(() =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1, drain: "1 minute" }), scope)
        const job = yield* fork(scheduler.schedule(sleep(10)))
        const waits = [scheduler.awaitIdle, scheduler.awaitIdle, scheduler.drain(), Scope.close(scope, Exit.void)]
        const [first, ...others] = yield* Effect.forEach(waits, (wait) => fork(wait))
        first!.addObserver(() => {
          throw "of one of them"
        })
        yield* sleep(11)
        return [job, ...others].map(refusal)
      }), { onThrow: (error) => void thrown.push(error) })
    expect(exit).toEqual(Exit.succeed(["Success", "Success", "Success", "Success"]))
    expect(thrown).toEqual(["of one of them"])
  })

  it.effect("O7 an interrupted drain leaves the scheduler draining", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const running = yield* fork(scheduler.schedule(sleep(100)))
      const drained = yield* fork(scheduler.drain({ timeout: "1 second" }))
      yield* Fiber.interrupt(drained)
      const late = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("2 seconds")
      expect([running, late].map(refusal)).toEqual(["Success", ["Draining", {}]])
    }))
})

describe("penalize", () => {
  it.effect("a job that a penalty keeps for too long is told when it would start, also where there is no rate", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ name: "test", concurrency: 1 })
      yield* scheduler.penalize({ for: "50 millis" })
      const refused = yield* Effect.flip(scheduler.schedule(Effect.void, { maxWait: 10 }))
      expect(refused.message).toBe("test: it starts in 50 ms at the earliest, 10 ms are allowed")
    }))

  it.effect("a penalty of zero changes nothing: the burst of the rate stays", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 9, rate: { limit: 10, window: "1 second", burst: 3 } })
      yield* scheduler.penalize({ for: 0 })
      const jobs = yield* Effect.forEach([1, 2, 3, 4], () => fork(scheduler.schedule(Effect.void)))
      expect(jobs.map((job) => job.pollUnsafe() !== undefined)).toEqual([true, true, true, false])
    }))

  it.effect("O1 holds the jobs of a scheduler back for a time, with a rate or without", () =>
    Effect.gen(function*() {
      for (const rate of [undefined, { limit: 100, window: 1000, burst: 10 }]) {
        const start = yield* Clock.currentTimeMillis
        const scheduler = yield* Scheduler.make({ concurrency: 10, rate })
        yield* scheduler.penalize({ for: "1 second" })
        const job = yield* fork(scheduler.schedule(Clock.currentTimeMillis))
        yield* TestClock.adjust("2 seconds")
        expect((yield* Fiber.join(job)) - start).toBe(1000)
      }
    }))

  it.effect("a penalty of a shared rate holds all its schedulers back", () =>
    Effect.gen(function*() {
      class Rate extends RateLimiter.Service<Rate>()("Rate", { limit: 100, window: "1 second" }) {}
      const program = Effect.gen(function*() {
        const one = yield* Scheduler.make({ concurrency: 1, rate: Rate })
        const two = yield* Scheduler.make({ concurrency: 1, rate: Rate })
        yield* one.penalize({ for: "1 second" })
        const job = yield* fork(two.schedule(Clock.currentTimeMillis))
        yield* TestClock.adjust("2 seconds")
        return yield* Fiber.join(job)
      })
      expect(yield* Effect.provide(program, Rate.layer)).toBe(1000)
    }))
})

describe("Scheduler.Keyed", () => {
  const make = (options: Scheduler.Options) => {
    class Hosts extends Scheduler.Keyed<Hosts>()("Hosts", { lookup: (_: string) => options }) {}
    return Hosts
  }

  it.effect("O1 the options hold for each key, and a penalty outlasts the last job of its key", () => {
    const Hosts = make({ concurrency: 1, maxWait: "100 millis" })
    return Effect.gen(function*() {
      yield* fork(Hosts.schedule("a", Effect.never))
      const waiting = yield* fork(Hosts.schedule("a", Effect.void))
      expect(yield* Hosts.schedule("b", Effect.succeed(1))).toBe(1)
      yield* TestClock.adjust("100 millis")
      expect(refusal(waiting)?.[0]).toBe("WaitExceeded")

      const c = yield* Hosts.get("c")
      yield* c.penalize({ for: "1 second" })
      const refused = yield* fork(Hosts.schedule("c", Effect.void))
      expect(refusal(refused)?.[0]).toBe("WaitExceeded")
      yield* TestClock.adjust("950 millis")
      const late = yield* fork(Hosts.schedule("c", Clock.currentTimeMillis))
      yield* TestClock.adjust("50 millis")
      expect(yield* Fiber.join(late)).toBe(1100)
    }).pipe(Effect.provide(Hosts.layer))
  })

  it.effect("O7 each key drains: on demand, and when the layer closes", () => {
    const Hosts = make({ concurrency: 1, drain: "1 second" })
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Hosts.layer, scope)
      const inContext = <A, E>(effect: Effect.Effect<A, E, InstanceType<typeof Hosts>>) =>
        Effect.provideContext(effect, context)
      yield* inContext(Effect.flatMap(Hosts.get("gone"), (host) => host.drain()))
      const refused = yield* fork(inContext(Hosts.schedule("gone", Effect.void)))
      expect(refusal(refused)).toEqual(["Draining", {}])
      const running = yield* fork(inContext(Hosts.schedule("a", sleep(500))))
      const closed = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("500 millis")
      expect([running, closed].map(refusal)).toEqual(["Success", "Success"])
    })
  })

  it.effect("O7 while the keys drain, a job of a new key is refused with Draining, and is interrupted after that", () => {
    const Hosts = make({ concurrency: 1, drain: "1 second" })
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Hosts.layer, scope)
      const use = (key: string) => fork(Effect.provideContext(Hosts.schedule(key, Effect.void), context))
      yield* fork(Effect.provideContext(Hosts.schedule("a", sleep(500)), context))
      const closed = yield* fork(Scope.close(scope, Exit.void))
      const known = yield* use("a")
      const unknown = yield* use("b")
      yield* TestClock.adjust("500 millis")
      const late = yield* use("c")
      expect([known, unknown, closed, late].map(refusal)).toEqual([
        ["Draining", {}],
        ["Draining", {}],
        "Success",
        "Interrupt"
      ])
    })
  })
})

describe("stats", () => {
  const blocked = (options: Scheduler.Options) =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make(options)
      yield* fork(scheduler.schedule(Effect.never))
      yield* fork(scheduler.schedule(Effect.never))
      return scheduler
    })

  it.effect("say what the job in front waits for, for how long, and when it can start", () =>
    Effect.gen(function*() {
      const idle = yield* Scheduler.make({ concurrency: 1 })
      expect(yield* idle.stats).toMatchObject({
        waitingFor: "nothing",
        oldestWait: Duration.zero,
        nextStart: undefined
      })

      const narrow = yield* blocked({ concurrency: 1 })
      yield* TestClock.adjust("3 seconds")
      expect(yield* narrow.stats).toMatchObject({
        waitingFor: "width",
        oldestWait: Duration.seconds(3),
        nextStart: undefined
      })
      yield* narrow.pause
      expect((yield* narrow.stats).waitingFor).toBe("pause")
      yield* TestClock.adjust("1 seconds")
      yield* fork(narrow.schedule(Effect.never, { priority: 1 }))
      yield* fork(narrow.schedule(Effect.never, { share: "a" }))
      expect((yield* narrow.stats).oldestWait).toEqual(Duration.seconds(4))

      const slow = yield* blocked({ concurrency: 2, rate: { limit: 1, window: "1 minute" } })
      yield* TestClock.adjust("10 seconds")
      const { nextStart, waitingFor } = yield* slow.stats
      expect([waitingFor, nextStart]).toEqual(["rate", Duration.seconds(50)])
      yield* slow.penalize({ for: "2 minutes" })
      const penalized = yield* slow.stats
      expect([penalized.waitingFor, penalized.nextStart]).toEqual(["penalty", Duration.minutes(2)])

      const held = yield* Scheduler.make({ concurrency: 1 })
      yield* held.penalize({ for: "1 minute" })
      yield* fork(held.schedule(Effect.never))
      expect(yield* held.stats).toMatchObject({ waitingFor: "penalty", nextStart: Duration.minutes(1) })
    }))

  it.effect("say when a job inside a job can start, where that one is in front of the queue", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 1, window: "1 second", burst: 5 } })
      yield* scheduler.schedule(Effect.void, { tokens: 4 })
      const outer = yield* fork(scheduler.schedule(scheduler.schedule(Effect.void, { tokens: 2 })))
      yield* fork(scheduler.schedule(Effect.void, { tokens: 5, priority: 1 }))
      expect(yield* scheduler.stats).toMatchObject({ waitingFor: "rate", nextStart: Duration.seconds(2) })
      yield* TestClock.adjust("2 seconds")
      expect(refusal(outer)).toBe("Success")
    }))

  it.effect("do not forget a penalty from before there was a rate", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* scheduler.penalize({ for: "1 minute" })
      yield* scheduler.setRate({ limit: 1, window: "1 second" })
      yield* fork(scheduler.schedule(Effect.void))
      expect(yield* scheduler.stats).toMatchObject({ waitingFor: "penalty", nextStart: Duration.minutes(1) })
    }))

  it.effect("agree with each other, whenever a penalty ends while they are read", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let now = clock.monotonicTimeNanosUnsafe()
      clock.monotonicTimeNanosUnsafe = () => now
      const kinds = new Set<string>()
      for (let left = 1n; left < 20n; left++) {
        const scheduler = yield* blocked({ concurrency: 1 })
        yield* scheduler.penalize({ for: "1 hour" })
        now += 3_600_000_000_000n - left
        // Each reading of the clock takes a nanosecond.
        clock.monotonicTimeNanosUnsafe = () => ++now
        const { nextStart, waitingFor } = yield* scheduler.stats
        clock.monotonicTimeNanosUnsafe = () => now
        kinds.add(`${waitingFor} ${nextStart === undefined ? "" : "and then"}`)
      }
      expect([...kinds]).toEqual(["width ", "penalty and then"])
    }))

  it.effect("count refusals by their reason, and waiting jobs by priority and share", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxQueued: 9 })
      yield* fork(scheduler.schedule(Effect.never))
      yield* fork(scheduler.schedule(Effect.void, { maxWait: 0 }))
      yield* fork(scheduler.schedule(Effect.void, { weight: 2 }))
      yield* fork(scheduler.schedule(Effect.void, { priority: 1 }))
      yield* fork(scheduler.schedule(Effect.void))
      for (let i = 0; i < 6; i++) yield* fork(scheduler.schedule(Effect.void, { share: i % 2 === 0 ? "a" : "b" }))
      yield* fork(scheduler.schedule(Effect.void, { share: "b" }))
      yield* fork(scheduler.schedule(Effect.void))
      expect(yield* scheduler.stats).toMatchObject({
        refused: { WaitExceeded: 1, InsufficientCapacity: 1, QueueFull: 1 },
        byPriority: [{ priority: 1, queued: 1 }, { priority: 0, queued: 8 }],
        byShare: [{ key: "b", queued: 4 }, { key: "a", queued: 3 }, { key: undefined, queued: 2 }]
      })
    }))

  it.effect("name no priority and no share of which no job waits any more", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* fork(scheduler.schedule(Effect.never))
      const waiting = yield* Effect.forEach([3, 0], (priority) =>
        fork(scheduler.schedule(Effect.void, { priority, share: "a" })))
      yield* Fiber.interrupt(waiting[0]!)
      expect(yield* scheduler.stats).toMatchObject({
        byPriority: [{ priority: 0, queued: 1 }],
        byShare: [{ key: "a", queued: 1 }]
      })
      yield* Fiber.interrupt(waiting[1]!)
      expect(yield* scheduler.stats).toMatchObject({ byPriority: [], byShare: [] })
    }))
})

describe("the queue around a refusal", () => {
  it.effect("O1 a job does not count the tokens of those in front that wait for width: they may leave", () =>
    Effect.gen(function*() {
      const rate = { limit: 10, window: "1 second" } as const
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate })
      yield* fork(scheduler.schedule(sleep(200)))
      const front = yield* Effect.forEach([1, 2, 3, 4, 5], () => fork(scheduler.schedule(Effect.void)))
      const impatient = yield* fork(scheduler.schedule(Effect.void, { maxWait: "300 millis" }))
      expect(refusal(impatient)).toBe(undefined)
      yield* Fiber.interruptAll(front)
      yield* TestClock.adjust("200 millis")
      expect(refusal(impatient)).toBe("Success")
    }))

  it.effect("O1 when a heavy job in front is refused, the light one behind it starts in that moment", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      yield* fork(scheduler.schedule(Effect.never))
      const heavy = yield* fork(scheduler.schedule(Effect.void, { weight: 2, maxWait: "100 millis" }))
      const light = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("99 millis")
      expect([refusal(heavy), refusal(light)]).toEqual([undefined, undefined])
      yield* TestClock.adjust("1 millis")
      expect([refusal(heavy)?.[0], refusal(light)]).toEqual(["WaitExceeded", "Success"])
    }))

  it.effect("O1 every refusal says how long the job has waited, however long the scheduler has been there", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "100 millis" })
      // The times of a scheduler begin with its first job that may not wait for ever.
      yield* fork(scheduler.schedule(sleep(1000)))
      yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("1 seconds")
      const gate = yield* Latch.make()
      yield* fork(scheduler.schedule(gate.await))
      const held = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("40 millis")
      const late = yield* fork(scheduler.schedule(Effect.void))
      yield* scheduler.penalize({ for: "70 millis" })
      yield* Effect.yieldNow
      expect(refusal(held)).toEqual(["WaitExceeded", { waited: 40, maxWait: 100, expected: 70 }])
      const clock = yield* Clock.Clock
      const blocked = clock.monotonicTimeNanosUnsafe() + 150_000_000n
      clock.monotonicTimeNanosUnsafe = () => blocked
      yield* gate.open
      yield* Effect.yieldNow
      expect(refusal(late)).toEqual(["WaitExceeded", { waited: 150, maxWait: 100, expected: undefined }])
    }))

  it.effect("O2 a job that starts without a wait ends an overload, also where an item of forEach left the queue last", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      const crowd = yield* Effect.forEach(Array.from({ length: 20 }), () => fork(scheduler.schedule(sleep(20))))
      const all = yield* fork(scheduler.forEach([1], () => Effect.void))
      yield* TestClock.adjust("1 minute")
      expect(refusal(all)).toBe("Success")
      expect(crowd.map(refusal).some((outcome) => outcome !== "Success")).toBe(true)
      const later = yield* Effect.forEach([1, 2, 3], () => fork(scheduler.schedule(sleep(25))))
      yield* TestClock.adjust("1 minute")
      expect(later.map(refusal)).toEqual(["Success", "Success", "Success"])
    }))

  it.effect("O2 an item of forEach that leaves the queue last ends an overload, also where it runs on", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: { target: 10, interval: 50 } })
      const crowd = yield* Effect.forEach(Array.from({ length: 20 }), () => fork(scheduler.schedule(sleep(20))))
      yield* fork(scheduler.forEach([1], () => sleep(30)))
      yield* TestClock.adjust(80)
      expect(crowd.map(refusal).some((outcome) => outcome !== "Success")).toBe(true)
      expect(yield* scheduler.stats).toMatchObject({ running: 1, queued: 0 })
      const later = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust("1 minute")
      expect(refusal(later)).toBe("Success")
    }))

  it("O1 O2 a scheduler without jobs has no timer, whatever its options, also under a penalty; a closed one neither", () => {
    const pending: Array<number> = []
    const { exit } = simulate((_, clock) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const options = { concurrency: 1, maxWait: "1 minute", shed: true } as const
        const scheduler = yield* Scope.provide(Scheduler.make(options), scope)
        for (let i = 0; i < 2; i++) yield* fork(scheduler.schedule(sleep(1)))
        yield* sleep(100)
        pending.push(clock.pending)
        yield* scheduler.penalize({ for: "1 hour" })
        pending.push(clock.pending)
        const other = yield* Scope.provide(Scheduler.make({ concurrency: 1 }), scope)
        yield* other.penalize({ for: "1 hour" })
        const waits = yield* fork(other.schedule(Effect.void))
        pending.push(clock.pending)
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.await(waits)
        pending.push(clock.pending)
      })
    )
    expect(exit?._tag).toBe("Success")
    expect(pending).toEqual([0, 0, 1, 0])
  })
})

it("S1 O2 a job that starts sets a timer, in whose code another one may come: no more run than may", () => {
  const { exit } = simulate((_, clock) =>
    Effect.scoped(Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, shed: true })
      const job = scheduler.schedule(
        Effect.flatMap(scheduler.stats, ({ running }) => Effect.as(Effect.yieldNow, running))
      )
      const services = yield* Effect.context()
      const fibers: Array<Fiber.Fiber<number, unknown>> = []
      const sleep = clock.sleep.bind(clock)
      clock.sleep = (duration) =>
        Effect.suspend(() => {
          if (fibers.length < 10) fibers.push(Effect.runForkWith(services)(job))
          return sleep(duration)
        })
      fibers.push(...yield* Effect.forEach([1, 2, 3], () => fork(job)))
      yield* Effect.sleep("50 millis")
      expect(new Set(yield* Effect.forEach(fibers, Fiber.join))).toEqual(new Set([1]))
      expect(yield* scheduler.stats).toMatchObject({ running: 0, weight: 0, queued: 0 })
    }))
  )
  expect(exit).toMatchObject({ _tag: "Success" })
})

it("S3 the rate comes in the code of one timer and ends another one, in whose code the caller may leave: it costs no rate", () => {
  const { exit } = simulate((_, clock) =>
    Effect.scoped(Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 1, window: "1 second" } })
      yield* scheduler.schedule(Effect.void)
      const sleep = clock.sleep.bind(clock)
      const leaving: Array<Fiber.Fiber<unknown, unknown>> = []
      clock.sleep = (duration) =>
        Effect.onInterrupt(sleep(duration), () => Effect.sync(() => leaving.forEach((job) => job.interruptUnsafe())))
      const leaves = yield* fork(scheduler.schedule(Effect.void, { maxWait: "1 second" }))
      leaving.push(leaves)
      yield* Effect.sleep("1 second")
      const { _tag } = yield* Fiber.await(leaves)
      expect(yield* scheduler.schedule(Clock.currentTimeMillis)).toBe(_tag === "Success" ? 2000 : 1000)
    }))
  )
  expect(exit).toMatchObject({ _tag: "Success" })
})
