/** What users of p-queue rely on. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Latch } from "effect"
import { Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const settle = Effect.forEach(Array.from({ length: 20 }), () => Effect.yieldNow, { discard: true })

const starts = () => {
  const times: Array<number> = []
  return { times, job: Effect.map(Clock.currentTimeMillis, (now) => void times.push(now)) }
}

describe("p-queue: what its users rely on", () => {
  it.effect("add: a task's value and error are its own", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 1 })
      expect(yield* queue.schedule(Effect.succeed("value"))).toBe("value")
      expect(yield* Effect.flip(queue.schedule(Effect.fail("error")))).toBe("error")
    }))

  it.effect("size, pending and concurrency can be read and changed on the way", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 2 })
      const gate = Latch.makeUnsafe()
      yield* Effect.forEach([1, 2, 3, 4, 5], () => fork(queue.schedule(gate.await)))
      expect(yield* queue.stats).toMatchObject({ concurrency: 2, running: 2, queued: 3 })
      yield* queue.resize(4)
      expect(yield* queue.stats).toMatchObject({ concurrency: 4, running: 4, queued: 1 })
      yield* gate.open
      yield* queue.awaitIdle
      expect(yield* queue.stats).toMatchObject({ running: 0, queued: 0 })
    }))

  it.effect("pause and start: nothing starts in between, and what comes is queued", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 10 })
      let ran = 0
      yield* queue.pause
      yield* Effect.forEach([1, 2, 3], () => fork(queue.schedule(Effect.sync(() => ran++))))
      yield* settle
      expect([ran, (yield* queue.stats).queued]).toEqual([0, 3])
      yield* queue.resume
      yield* queue.awaitIdle
      expect(ran).toBe(3)
    }))

  it.effect("priority: a larger number goes first, negative ones last, first come first served among equals", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 1 })
      const order: Array<number> = []
      yield* queue.pause
      for (const [index, priority] of [0, -1, 1, 1, 0, 2].entries()) {
        yield* fork(queue.schedule(Effect.sync(() => order.push(index)), { priority }))
      }
      yield* queue.resume
      yield* queue.awaitIdle
      expect(order).toEqual([5, 2, 3, 0, 4, 1])
    }))

  it.effect("signal: a task aborted before its start never runs and gives its slot back, one that runs is ended", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 1, rate: { limit: 10, window: "1 second" } })
      const ran: Array<string> = []
      let aborted = false
      const running = yield* fork(
        queue.schedule(Effect.onInterrupt(Effect.never, () => Effect.sync(() => aborted = true)))
      )
      const waiting = yield* fork(queue.schedule(Effect.sync(() => ran.push("aborted"))))
      const next = yield* fork(queue.schedule(Effect.map(Clock.currentTimeMillis, (now) => ran.push(`next at ${now}`))))
      yield* Fiber.interrupt(waiting)
      yield* Fiber.interrupt(running)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(next)
      expect(aborted).toBe(true)
      // The slot at 100 ms is that of the first who starts, not of the one that was aborted.
      expect(ran).toEqual(["next at 100"])
    }))

  it.effect("timeout: a task that takes too long is ended, and the next one starts", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 1 })
      const slow = yield* fork(Effect.exit(queue.schedule(Effect.timeout(Effect.never, 50))))
      const next = yield* fork(queue.schedule(Clock.currentTimeMillis))
      yield* TestClock.adjust(50)
      expect(Exit.isFailure(yield* Fiber.join(slow))).toBe(true)
      expect(yield* Fiber.join(next)).toBe(50)
    }))

  it.effect("intervalCap: no window that rolls ever holds more than the cap", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({
        concurrency: "unbounded",
        rate: { limit: 5, window: "1 second", burst: 3, strict: true }
      })
      const { job, times } = starts()
      yield* fork(queue.schedule(job))
      yield* TestClock.adjust(900)
      yield* Effect.forEach(Array.from({ length: 29 }), () => fork(queue.schedule(job)))
      yield* TestClock.adjust("1 minute")
      expect(times).toHaveLength(30)
      for (const from of times) {
        expect(times.filter((time) => time >= from && time < from + 1_000).length).toBeLessThanOrEqual(5)
      }
    }))

  it.effect("onIdle: it waits for what runs and what waits, at once when there is nothing", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 1 })
      yield* queue.awaitIdle
      const gate = Latch.makeUnsafe()
      yield* Effect.forEach([1, 2], () => fork(queue.schedule(gate.await)))
      const idle = yield* fork(queue.awaitIdle)
      yield* settle
      expect(idle.pollUnsafe()).toBeUndefined()
      yield* gate.open
      yield* Fiber.join(idle)
    }))

  it.effect("onSizeLessThan, for adding without end: forEach pulls no item before there is room for it", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 2 })
      const gate = Latch.makeUnsafe()
      let pulled = 0
      function* items() {
        while (pulled < 1_000) yield pulled++
      }
      const fiber = yield* fork(queue.forEach(items(), () => gate.await, { discard: true }))
      yield* settle
      expect(pulled).toBe(2)
      yield* gate.open
      yield* Fiber.join(fiber)
      expect(pulled).toBe(1_000)
    }))

  it.effect("clear: interrupting those who wait empties the queue, and nobody hangs", () =>
    Effect.gen(function*() {
      const queue = yield* Scheduler.make({ concurrency: 1 })
      const gate = Latch.makeUnsafe()
      const running = yield* fork(queue.schedule(gate.await))
      const waiting = yield* Effect.forEach([1, 2, 3], () => fork(queue.schedule(Effect.never)))
      expect(yield* queue.stats).toMatchObject({ running: 1, queued: 3 })
      yield* Fiber.interruptAll(waiting)
      expect(yield* queue.stats).toMatchObject({ running: 1, queued: 0 })
      yield* gate.open
      yield* Fiber.join(running)
    }))
})
