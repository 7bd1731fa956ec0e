/**
 * What aiometer and trimeter do, and where they fail: each test is a row of the table in `docs/coming-from.md`.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Latch, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Scheduler from "effect-funnel/Scheduler"

const provide = (options: Scheduler.Options) => Effect.provide(Scheduler.layer(options))

const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

const now = Effect.clockWith((clock) => clock.currentTimeMillis)

const jobs = Array.from({ length: 30 }, (_, i) => i)

describe("aiometer: max_at_once", () => {
  for (const limit of [1, 2, 5, 10, 20]) {
    it.effect(`at a limit of ${limit}, 30 jobs run ${limit} at once and end in ${Math.ceil(30 / limit)} rounds`, () =>
      Effect.gen(function*() {
        let running = 0
        let most = 0
        const job = Effect.gen(function*() {
          most = Math.max(most, ++running)
          yield* Effect.sleep(10)
          running--
          return yield* now
        })
        const fiber = yield* Effect.forkChild(Scheduler.forEach(jobs, () => job))
        const rounds = Math.ceil(30 / limit)
        yield* TestClock.adjust(10 * rounds - 1)
        expect(fiber.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust(1)
        expect(yield* Fiber.join(fiber)).toEqual(jobs.map((i) => 10 * (Math.floor(i / limit) + 1)))
        expect(most).toBe(limit)
      }).pipe(provide({ concurrency: limit })))
  }
})

describe("aiometer: max_per_second", () => {
  for (const rate of [5, 10, 20, 50, 100]) {
    it.effect(`at ${rate} a second, 30 jobs start ${1000 / rate} ms apart, the first at once`, () =>
      Effect.gen(function*() {
        const starts: Array<number> = []
        const fiber = yield* Scheduler.forEach(jobs, () => Effect.map(now, (at) => starts.push(at)), {
          discard: true
        }).pipe(Effect.forkChild)
        yield* TestClock.adjust(29 * (1000 / rate))
        yield* Fiber.join(fiber)
        expect(starts).toEqual(jobs.map((i) => i * (1000 / rate)))
      }).pipe(provide({ concurrency: "unbounded", rate: { limit: rate, window: "1 second" } })))

    it.effect(`at ${rate} a second and 5 at once, no permit idles while its job waits for the rate`, () =>
      Effect.gen(function*() {
        const starts: Array<number> = []
        const fiber = yield* Scheduler.forEach(
          jobs,
          () => Effect.andThen(Effect.map(now, (at) => starts.push(at)), Effect.sleep(100)),
          { discard: true }
        ).pipe(Effect.forkChild)
        yield* TestClock.adjust("30 seconds")
        yield* Fiber.join(fiber)
        // Five jobs of 100 ms are 50 a second: above that the width is scarce, below it the rate.
        const ideal = Math.max(29 * (1000 / rate), 500 + 4 * (1000 / rate))
        expect(starts.at(-1)).toBeCloseTo(ideal, 6)
      }).pipe(provide({ concurrency: 5, rate: { limit: rate, window: "1 second" } })))
  }
})

describe("aiometer: its functions", () => {
  it.effect("run_on_each is forEach with discard", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const result = yield* Scheduler.forEach([1, 2, 3], (i) => Effect.sync(() => seen.push(i)), { discard: true })
      expect(result).toBeUndefined()
      expect(seen).toEqual([1, 2, 3])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("run_all is all or forEach: results in order", () =>
    Effect.gen(function*() {
      const late = Effect.as(Effect.yieldNow, "late")
      expect(yield* Scheduler.all([late, Effect.succeed("early")])).toEqual(["late", "early"])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("amap is stream: results as they become available", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.stream([3, 1, 2], (s) => Effect.as(Effect.sleep(s), s)).pipe(
        Stream.runCollect,
        Effect.forkChild
      )
      yield* TestClock.adjust(1)
      yield* TestClock.adjust(2)
      expect(Array.from(yield* Fiber.join(fiber))).toEqual([1, 2, 3])
    }).pipe(provide({ concurrency: 3 })))

  it.effect("amap with _include_index is Stream.zipWithIndex, or the second argument", () =>
    Effect.gen(function*() {
      const zipped = Stream.make("a", "b").pipe(
        Stream.zipWithIndex,
        Scheduler.mapEffect(([item, index]) => Effect.succeed(`${index}${item}`))
      )
      expect(Array.from(yield* Stream.runCollect(zipped))).toEqual(["0a", "1b"])
      expect(yield* Scheduler.forEach(["a", "b"], (item, index) => Effect.succeed(`${index}${item}`))).toEqual([
        "0a",
        "1b"
      ])
    }).pipe(provide({ concurrency: 1 })))

  it.effect("run_any is firstSuccess", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.firstSuccess([
        Effect.as(Effect.sleep(20), "slow"),
        Effect.as(Effect.sleep(10), "quick")
      ]).pipe(Effect.forkChild)
      yield* TestClock.adjust(10)
      expect(yield* Fiber.join(fiber)).toBe("quick")
    }).pipe(provide({ concurrency: 2 })))
})

describe("trimeter", () => {
  it.effect("async input is a Stream", () =>
    Effect.gen(function*() {
      const items = Stream.fromAsyncIterable(
        (async function*() {
          yield 1
          yield 2
        })(),
        (cause) => cause
      )
      expect(yield* Scheduler.forEach(items, (i) => Effect.succeed(i * 10))).toEqual([10, 20])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("max_burst is burst", () =>
    Effect.gen(function*() {
      const starts: Array<number> = []
      const fiber = yield* Scheduler.forEach([0, 1, 2, 3, 4], () => Effect.map(now, (at) => starts.push(at)), {
        discard: true
      }).pipe(Effect.forkChild)
      yield* TestClock.adjust(200)
      yield* Fiber.join(fiber)
      expect(starts).toEqual([0, 0, 0, 100, 200])
    }).pipe(provide({ concurrency: 10, rate: { limit: 10, window: "1 second", burst: 3 } })))

  it.effect("captured outcomes are Effect.exit inside the function", () =>
    Effect.gen(function*() {
      const exits = yield* Scheduler.forEach(
        [1, 2],
        (i) => Effect.exit(i === 1 ? Effect.fail("no") : Effect.succeed(i))
      )
      expect(exits).toEqual([Exit.fail("no"), Exit.succeed(2)])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a bounded buffer is back-pressure: a slow consumer holds the jobs back", () =>
    Effect.gen(function*() {
      let started = 0
      const gate = Latch.makeUnsafe()
      const fiber = yield* Scheduler.stream(jobs, () => Effect.sync(() => started++)).pipe(
        Stream.runForEach(() => gate.await),
        Effect.forkChild
      )
      yield* settle
      expect(started).toBeLessThanOrEqual(4)
      yield* gate.open
      yield* Fiber.join(fiber)
      expect(started).toBe(30)
    }).pipe(provide({ concurrency: 2 })))
})

describe("what fails in aiometer and holds here", () => {
  it.effect("its limits are of one call: here two calls share the width and the rate", () =>
    Effect.gen(function*() {
      const starts: Array<number> = []
      const call = Scheduler.forEach([1, 2], () => Effect.map(now, (at) => starts.push(at)), { discard: true })
      const fibers = [yield* Effect.forkChild(call), yield* Effect.forkChild(call)]
      yield* TestClock.adjust(300)
      yield* Fiber.joinAll(fibers)
      expect(starts).toEqual([0, 100, 200, 300])
    }).pipe(provide({ concurrency: 10, rate: { limit: 10, window: "1 second" } })))

  it("its NaN hangs: here it is a RangeError", () => {
    expect(() => Scheduler.layer({ concurrency: NaN })).toThrow(RangeError)
    expect(() => Scheduler.layer({ concurrency: 1, rate: { limit: NaN, window: "1 second" } })).toThrow(RangeError)
  })

  it.effect("its input needs a length: here any iterable will do, one without end too", () =>
    Effect.gen(function*() {
      function* naturals() {
        for (let i = 0;; i++) yield i
      }
      const first = yield* Scheduler.stream(naturals(), (i) => Effect.succeed(i)).pipe(
        Stream.take(3),
        Stream.runCollect
      )
      expect(Array.from(first)).toEqual([0, 1, 2])
    }).pipe(provide({ concurrency: 1 })))

  it.effect("its break waits for all jobs: here a consumer that stops early interrupts them", () =>
    Effect.gen(function*() {
      const interrupted: Array<number> = []
      const first = yield* Scheduler.stream(jobs, (i) =>
        i === 0
          ? Effect.as(Effect.yieldNow, i)
          : Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted.push(i)))).pipe(
          Stream.take(1),
          Stream.runCollect
        )
      expect(Array.from(first)).toEqual([0])
      expect(interrupted.slice(0, 2)).toEqual([1, 2])
      expect(yield* now).toBe(0)
    }).pipe(provide({ concurrency: 3 })))

  it.effect("its run_any leaves the losers running: here they are interrupted, and those that wait never start", () =>
    Effect.gen(function*() {
      const started: Array<string> = []
      const ended: Array<string> = []
      const loser = (name: string) =>
        Effect.andThen(
          Effect.sync(() => started.push(name)),
          Effect.onInterrupt(Effect.never, () => Effect.sync(() => ended.push(name)))
        )
      const winner = yield* Scheduler.firstSuccess([
        loser("running"),
        Effect.as(Effect.yieldNow, "winner"),
        loser("waiting")
      ])
      expect([winner, started, ended]).toEqual(["winner", ["running"], ["running"]])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("its run_any lets a late failure replace the winner: here the winner stays", () =>
    Effect.gen(function*() {
      const fiber = yield* Scheduler.firstSuccess([
        Effect.succeed("winner"),
        Effect.uninterruptible(Effect.andThen(Effect.sleep(10), Effect.fail("late")))
      ]).pipe(Effect.forkChild)
      yield* TestClock.adjust(10)
      expect(yield* Fiber.join(fiber)).toBe("winner")
    }).pipe(provide({ concurrency: 2 })))

  it.effect("its run_any of nothing leaks StopAsyncIteration: here it is a typed error", () =>
    Effect.gen(function*() {
      const tag = yield* Scheduler.firstSuccess([]).pipe(
        Effect.catchReason("FirstSuccessError", "NothingToTry", (reason) => Effect.succeed(reason._tag))
      )
      expect(tag).toBe("NothingToTry")
    }).pipe(provide({ concurrency: 2 })))

  it.effect("a failing job ends the call with its own failure, not with a group of errors", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Scheduler.forEach(jobs, (i) => i === 7 ? Effect.fail("seven") : Effect.yieldNow))
      expect(exit).toEqual(Exit.fail("seven"))
      expect(Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)).toBe(false)
    }).pipe(provide({ concurrency: 5 })))
})
