import { describe, expect, it } from "@effect/vitest"
import { Clock, Context, Deferred, Duration, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Scheduler from "effect-funnel/Scheduler"
import { fork, settle } from "./support/fibers.ts"

const provide = (options: Scheduler.Options) => Effect.provide(Scheduler.layer(options))

const brief = ({ done, failed, queued, running }: Scheduler.Progress) => [done, failed, running, queued]

describe("onProgress", () => {
  it.effect("counts each item once when the scheduler closes while items run and wait", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 4 }), scope)
      const told: Array<ReadonlyArray<number>> = []
      yield* fork(scheduler.schedule(Effect.never, { weight: 2 }))
      const finalized = Deferred.makeUnsafe<void>()
      const call = yield* fork(
        scheduler.forEach([1, 2, 3, 4, 5], () => Effect.onExit(Effect.never, () => Deferred.await(finalized)), {
          onProgress: (progress) => void told.push(brief(progress))
        })
      )
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(100)
      expect(told).toEqual([[0, 0, 2, 0]])
      yield* Deferred.succeed(finalized, undefined)
      yield* Fiber.join(closing)
      expect(Exit.hasInterrupts(yield* Fiber.await(call))).toBe(true)
      expect(told.at(-1)).toEqual([0, 2, 0, 0])
    }))

  it.effect("reports the counts of the call at most every 100 ms, and once at its end", () =>
    Effect.gen(function*() {
      const told: Array<[number, ReadonlyArray<number>]> = []
      const fiber = yield* Scheduler.forEach(
        Array.from({ length: 10 }, (_, i) => i),
        () => Effect.sleep(50),
        {
          onProgress: (progress) =>
            Effect.clockWith((clock) => Effect.map(clock.currentTimeMillis, (at) => told.push([at, brief(progress)])))
        }
      ).pipe(Effect.forkChild)
      for (let i = 0; i < 50; i++) yield* TestClock.adjust(10)
      yield* Fiber.join(fiber)
      expect(told.map(([at]) => at)).toEqual([100, 200, 250])
      expect(told.map(([_, counts]) => counts).at(-1)).toEqual([10, 0, 0, 0])
      expect(told[0]![1][0]! + told[0]![1][2]!).toBeLessThanOrEqual(6)
    }).pipe(provide({ concurrency: 2 })))

  it.effect("reports nothing while no count changes", () =>
    Effect.gen(function*() {
      const told: Array<ReadonlyArray<number>> = []
      const fiber = yield* Scheduler.forEach([1], () => Effect.sleep(1000), {
        onProgress: (progress) => void told.push(brief(progress))
      }).pipe(Effect.forkChild)
      yield* TestClock.adjust(1000)
      yield* Fiber.join(fiber)
      expect(told).toEqual([[0, 0, 1, 0], [1, 0, 0, 0]])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("has the total, the rate and the time that is left", () =>
    Effect.gen(function*() {
      const told: Array<Scheduler.Progress> = []
      const onProgress = (progress: Scheduler.Progress) => void told.push(progress)
      const fiber = yield* Scheduler.forEach(new Set([1, 2, 3, 4]), () => Effect.sleep(75), { onProgress }).pipe(
        Effect.forkChild
      )
      yield* TestClock.adjust(100)
      expect(told[0]).toMatchObject({ total: 4, done: 1, running: 1, queued: 0 })
      expect(told[0]!.rate).toBeCloseTo(10)
      expect(Duration.toMillis(told[0]!.eta!)).toBeCloseTo(300)
      yield* TestClock.adjust(200)
      yield* Fiber.join(fiber)
      expect(told.at(-1)).toMatchObject({ total: 4, done: 4, failed: 0, running: 0, queued: 0 })
      expect(Duration.toMillis(told.at(-1)!.eta!)).toBe(0)
    }).pipe(provide({ concurrency: 1 })))

  it.effect("has neither a rate nor a time left before any time has passed", () =>
    Effect.gen(function*() {
      const told: Array<Scheduler.Progress> = []
      yield* Scheduler.forEach([1, 2], () => Effect.void, { onProgress: (progress) => void told.push(progress) })
      expect(told.map(({ done, eta, rate }) => [done, rate, eta])).toEqual([[2, 0, undefined]])
    }).pipe(provide({ concurrency: 1 })))

  it.effect("a total is not invented: a stream has none unless it is given", () =>
    Effect.gen(function*() {
      const totals: Array<number | undefined> = []
      const onProgress = (progress: Scheduler.Progress) => void totals.push(progress.total, progress.eta && 0)
      yield* Scheduler.forEach(Stream.make(1, 2), () => Effect.void, { onProgress })
      expect(totals).toEqual([undefined, undefined])
      yield* Scheduler.forEach(Stream.make(1, 2), () => Effect.void, { onProgress, total: 2 })
      expect(totals[2]).toBe(2)
    }).pipe(provide({ concurrency: 1 })))

  it.effect("the total is how many an array, a set, a map or a record holds, and unknown for any other iterable", () =>
    Effect.gen(function*() {
      const totals: Array<number | undefined> = []
      const onProgress = ({ total }: Scheduler.Progress) => void totals.push(total)
      const iterable = { [Symbol.iterator]: () => [1, 2][Symbol.iterator]() }
      const noNumbers = { ...iterable, length: "2", size: "2" }
      for (const items of [[1, 2, 3], new Set([1, 2]), new Map([[1, 2]]), iterable, noNumbers]) {
        yield* Scheduler.forEach<Iterable<unknown>, void, never, never>(items, () => Effect.void, { onProgress })
      }
      yield* Scheduler.all([Effect.void, Effect.void], { onProgress })
      yield* Scheduler.all({ a: Effect.void, b: Effect.void, c: Effect.void }, { onProgress })
      expect(totals).toEqual([3, 2, 1, undefined, undefined, 2, 3])
    }).pipe(provide({ concurrency: 1 })))

  it.effect("a callback that throws, dies or fails is logged, and the call goes on", () =>
    Effect.gen(function*() {
      const onProgress = [
        () => {
          throw new Error("bar")
        },
        () => Effect.die("bar"),
        () => Effect.fail("bar"),
        () => Effect.interrupt
      ]
      for (const one of onProgress) {
        const fiber = yield* Scheduler.forEach([1, 2, 3], (i) => Effect.as(Effect.sleep(100), i), {
          onProgress: one
        }).pipe(Effect.forkChild)
        yield* TestClock.adjust(300)
        expect(yield* Fiber.join(fiber)).toEqual([1, 2, 3])
      }
    }).pipe(provide({ concurrency: 1 })))

  it.effect("reports at the end also when the call fails or is interrupted", () =>
    Effect.gen(function*() {
      const told: Array<ReadonlyArray<number>> = []
      const onProgress = (progress: Scheduler.Progress) => void told.push(brief(progress))
      const exit = yield* Effect.exit(
        Scheduler.forEach([1, 2], (i) => i === 2 ? Effect.fail("no") : Effect.never, { onProgress })
      )
      expect(exit).toEqual(Exit.fail("no"))
      expect(told).toEqual([[0, 2, 0, 0]])
      const fiber = yield* Effect.forkChild(Scheduler.forEach([1, 2, 3], () => Effect.never, { onProgress }))
      yield* settle
      yield* Fiber.interrupt(fiber)
      expect(told).toEqual([[0, 2, 0, 0], [0, 2, 0, 0]])
    }).pipe(provide({ concurrency: 2 })))

  it.effect("an effect that the callback returns has the call's services", () =>
    Effect.gen(function*() {
      const bars: Array<string> = []
      yield* Scheduler.forEach([1], () => Effect.void, {
        onProgress: () => Effect.map(Effect.service(Bar), (name) => bars.push(name))
      })
      expect(bars).toEqual(["bar"])
    }).pipe(Effect.provideService(Bar, "bar"), provide({ concurrency: 2 })))

  it.effect("stream and all report as well", () =>
    Effect.gen(function*() {
      const told: Array<ReadonlyArray<number>> = []
      const onProgress = (progress: Scheduler.Progress) => void told.push(brief(progress))
      yield* Stream.runDrain(Scheduler.stream([1, 2], () => Effect.void, { onProgress }))
      yield* Scheduler.all({ a: Effect.void }, { onProgress })
      yield* Stream.make(1, 2, 3).pipe(
        Scheduler.mapEffect((i) => Effect.succeed(i), { onProgress }),
        Stream.take(1),
        Stream.runDrain
      )
      expect(told.slice(0, 2)).toEqual([[2, 0, 0, 0], [1, 0, 0, 0]])
      expect(told.length).toBe(3)
    }).pipe(provide({ concurrency: 2 })))

  it.effect("no timer is left when the call has ended", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let slept = 0
      let sleeping = 0
      const counting: Clock.Clock = {
        currentTimeMillis: clock.currentTimeMillis,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
        currentTimeNanos: clock.currentTimeNanos,
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        sleep: (duration) =>
          Effect.suspend(() => {
            slept++
            sleeping++
            return Effect.ensuring(clock.sleep(duration), Effect.sync(() => sleeping--))
          })
      }
      yield* Scheduler.forEach([1], () => Effect.yieldNow, { onProgress: () => {} }).pipe(
        Effect.provideService(Clock.Clock, counting)
      )
      expect([slept, sleeping]).toEqual([1, 0])
    }).pipe(provide({ concurrency: 2 })))
})

class Bar extends Context.Service<Bar, string>()("test/Bar") {}
