import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { TestClock } from "effect/testing"
import * as Guard from "../src/internal/store/guard.js"
import { StoreError } from "../src/internal/store/storeError.js"
import { fork } from "./support/fibers.ts"
import { interruptionSweep, scheduleSweep } from "./support/sweep.ts"

const gone = new StoreError({ operation: "take", cause: "gone" })

const setup = () => {
  const guard = Guard.make({ service: "test", storeTimeoutMillis: 100, outageBudgetMillis: 1000 })
  const store = { attempts: 0, away: true }
  const take = guard.run("take", Effect.suspend(() => (store.attempts++, store.away ? Effect.fail(gone) : Effect.void)))
  return { guard, store, take }
}

describe("the guard of a store", () => {
  it.effect("An outage has its whole budget, whenever it begins, and one attempt a call after that", () =>
    Effect.gen(function*() {
      const { store, take } = setup()
      for (let outage = 0; outage < 2; outage++) {
        yield* TestClock.adjust("1 hour")
        store.away = true
        const call = yield* fork(Effect.flip(take))
        yield* TestClock.adjust(999)
        expect(call.pollUnsafe()).toBeUndefined()
        yield* TestClock.adjust(250)
        expect(yield* Fiber.join(call)).toBe(gone)
        store.attempts = 0
        expect(yield* Effect.flip(take)).toBe(gone)
        expect(store.attempts).toBe(1)
        store.away = false
        yield* take
      }
    }))

  it.effect("Each outage is logged once", () =>
    Effect.gen(function*() {
      const { guard, store, take } = setup()
      const messages: Array<unknown> = []
      const applied = Effect.provide(
        guard.applied("local", gone),
        Logger.layer([Logger.make(({ message }) => void messages.push(message))])
      )
      for (let outage = 1; outage <= 2; outage++) {
        store.away = true
        const call = yield* fork(Effect.flip(take))
        yield* TestClock.adjust(1250)
        yield* Fiber.join(call)
        yield* applied
        yield* Effect.flip(take)
        yield* applied
        expect(messages.length).toBe(outage)
        store.away = false
        yield* take
        yield* TestClock.adjust(1200)
      }
    }))

  it.effect("What fails for some keys, while the calls of others are answered, is logged once", () =>
    Effect.gen(function*() {
      const { guard } = setup()
      const messages: Array<unknown> = []
      const applied = Effect.provide(
        guard.applied("local", gone),
        Logger.layer([Logger.make(({ message }) => void messages.push(message))])
      )
      const failed = Effect.flip(guard.once("take", Effect.fail(gone)))
      const fails = Effect.andThen(failed, applied)
      for (let i = 0; i < 20; i++) {
        yield* i < 10 ? fails : failed
        yield* guard.once("take", Effect.void)
        if (i < 10) yield* applied
        yield* TestClock.adjust(500)
      }
      yield* fails
      expect(messages.length).toBe(1)
      yield* TestClock.adjust(1101)
      yield* fails
      expect(messages.length).toBe(2)
    }))

  it.effect("A command that was sent without the guard and failed has what is left of its budget", () =>
    Effect.gen(function*() {
      const { guard, store } = setup()
      const attempt = Effect.suspend(() => (store.attempts++, Effect.fail(gone)))
      yield* TestClock.adjust("1 hour")
      expect(yield* Effect.flip(guard.run("take", attempt, 1000))).toBe(gone)
      expect(store.attempts).toBe(1)
      yield* TestClock.adjust("1 hour")
      const call = yield* fork(Effect.flip(guard.run("take", attempt, 900)))
      yield* TestClock.adjust(74)
      expect(call.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust(101)
      expect(yield* Fiber.join(call)).toBe(gone)
    }))

  it.effect("What fails for one call alone has the budget too, while the calls of others are answered", () =>
    Effect.gen(function*() {
      const { guard, store, take } = setup()
      const call = yield* fork(Effect.flip(take))
      for (let i = 0; i < 13; i++) {
        yield* guard.run("take", Effect.void)
        yield* TestClock.adjust(100)
      }
      expect(yield* Fiber.join(call)).toBe(gone)
      store.away = false
      yield* take
    }))

  it.effect("A failure that is older than the budget and an answer is no outage any more", () =>
    Effect.gen(function*() {
      const { guard } = setup()
      yield* Effect.flip(guard.once("renew", Effect.fail(gone)))
      yield* TestClock.adjust("8 seconds")
      const calls = yield* fork(
        Effect.forEach(Array.from({ length: 100 }), () => guard.run("take", Effect.sleep(10)), {
          concurrency: "unbounded"
        })
      )
      yield* TestClock.adjust(10)
      expect((yield* Fiber.join(calls)).length).toBe(100)
    }))

  it.effect("A failure that is as old as the budget and an answer is of the same outage", () =>
    Effect.gen(function*() {
      const { store, take } = setup()
      yield* fork(Effect.flip(take))
      yield* TestClock.adjust(1250)
      yield* Effect.flip(take)
      yield* TestClock.adjust(1100)
      store.attempts = 0
      expect(yield* Effect.flip(take)).toBe(gone)
      expect(store.attempts).toBe(1)
    }))

  it.effect("A crowd of commands goes a part at a time, and each has its whole time from when it goes", () =>
    Effect.gen(function*() {
      const { guard } = setup()
      const seen = { now: 0, most: 0, done: 0 }
      const command = Effect.suspend(() => {
        seen.most = Math.max(seen.most, ++seen.now)
        return Effect.ensuring(Effect.sleep(90), Effect.sync(() => void seen.now--))
      })
      const calls = yield* fork(
        Effect.forEach(Array.from({ length: 1000 }), () => guard.once("take", command), {
          concurrency: "unbounded",
          discard: true
        })
      )
      const gone = yield* fork(guard.once("take", command))
      yield* Fiber.interrupt(gone)
      for (let i = 0; i < 4; i++) yield* TestClock.adjust(90)
      yield* Fiber.join(calls)
      expect([seen.most, seen.now]).toEqual([256, 0])
    }))

  it.effect("In an outage those who wait for their turn fail as soon as the budget is spent", () =>
    Effect.gen(function*() {
      const { guard } = setup()
      const calls = yield* fork(
        Effect.forEach(Array.from({ length: 5000 }), () => Effect.flip(guard.run("take", Effect.never)), {
          concurrency: "unbounded",
          discard: true
        })
      )
      // An answer that does not come, the budget from then on, and the attempt in which it ends.
      yield* TestClock.adjust(100 + 1000 + 250 + 100)
      yield* Fiber.join(calls)
    }))

  it.effect("In an outage each call fails with its own operation and the cause of the last failure", () =>
    Effect.gen(function*() {
      const { guard, take } = setup()
      const call = yield* fork(Effect.flip(take))
      yield* TestClock.adjust(1250)
      yield* Fiber.join(call)
      const probe = yield* fork(Effect.exit(guard.run("take", Effect.never)))
      const failure = yield* Effect.flip(guard.run("acquire", Effect.void))
      expect(failure).toMatchObject({ operation: "acquire", cause: "gone" })
      yield* TestClock.adjust(100)
      yield* Fiber.join(probe)
    }))

  for (const ahead of [0, 1, 2]) {
    it(`A command that is interrupted with ${ahead} ahead of it leaves the turn to those behind it`, () => {
      for (const sweep of [interruptionSweep, scheduleSweep]) {
        sweep({
          make: Effect.gen(function*() {
            const inTurn = Guard.turns(1)
            const seen = { now: 0, done: 0 }
            const command = inTurn(Effect.acquireUseRelease(
              Effect.sync(() => expect(++seen.now).toBe(1)),
              () => Effect.sleep(10),
              () => Effect.sync(() => void seen.now--)
            ))
            for (let i = 0; i < ahead; i++) yield* Effect.forkScoped(command, { startImmediately: true })
            return { command, seen }
          }),
          subject: ({ command }) => Effect.as(command, "done"),
          meanwhile: ({ command, seen }) =>
            Effect.forEach([1, 2, 3], () => Effect.andThen(command, Effect.sync(() => void seen.done++)), {
              concurrency: "unbounded"
            }),
          expected: "done",
          check: ({ command, seen }) => Effect.map(command, () => expect([seen.now, seen.done]).toEqual([0, 3]))
        })
      }
    })
  }

  it("In an outage whose one attempt is interrupted anywhere, the next call makes one", () => {
    const subject = {
      make: Effect.gen(function*() {
        const guard = Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 0 })
        yield* Effect.flip(guard.run("take", Effect.fail(gone)))
        return guard
      }),
      subject: (guard: Guard.Guard) => guard.run("take", Effect.void),
      expected: undefined,
      check: (guard: Guard.Guard) => guard.run("take", Effect.void)
    }
    expect(interruptionSweep(subject)).toBeGreaterThan(5)
  })

  it("The message of a StoreError has the operation and, if it is known, the reason", () => {
    const messageOf = (cause: unknown) => new StoreError({ operation: "take", cause }).message
    expect([new Error("gone"), "gone", { code: 7 }].map(messageOf)).toEqual([
      "store command `take` failed: gone",
      "store command `take` failed: gone",
      "store command `take` failed"
    ])
  })
})
