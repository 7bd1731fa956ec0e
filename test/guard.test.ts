import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { TestClock } from "effect/testing"
import * as Guard from "../src/internal/store/guard.js"
import { StoreError } from "../src/internal/store/storeError.js"

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
        const call = yield* Effect.forkChild(Effect.flip(take), { startImmediately: true })
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
        const call = yield* Effect.forkChild(Effect.flip(take), { startImmediately: true })
        yield* TestClock.adjust(1250)
        yield* Fiber.join(call)
        yield* applied
        yield* Effect.flip(take)
        yield* applied
        expect(messages.length).toBe(outage)
        store.away = false
        yield* take
      }
    }))

  it.effect("What fails for one call alone has the budget too, while the calls of others are answered", () =>
    Effect.gen(function*() {
      const { guard, store, take } = setup()
      const call = yield* Effect.forkChild(Effect.flip(take), { startImmediately: true })
      for (let i = 0; i < 13; i++) {
        yield* guard.run("take", Effect.void)
        yield* TestClock.adjust(100)
      }
      expect(yield* Fiber.join(call)).toBe(gone)
      store.away = false
      yield* take
    }))

  it.effect("In an outage each call fails with its own operation and the cause of the last failure", () =>
    Effect.gen(function*() {
      const { guard, take } = setup()
      const call = yield* Effect.forkChild(Effect.flip(take), { startImmediately: true })
      yield* TestClock.adjust(1250)
      yield* Fiber.join(call)
      const probe = yield* Effect.forkChild(Effect.exit(guard.run("take", Effect.never)), { startImmediately: true })
      const failure = yield* Effect.flip(guard.run("acquire", Effect.void))
      expect(failure).toMatchObject({ operation: "acquire", cause: "gone" })
      yield* TestClock.adjust(100)
      yield* Fiber.join(probe)
    }))

  it("The message of a StoreError has the operation and, if it is known, the reason", () => {
    const messageOf = (cause: unknown) => new StoreError({ operation: "take", cause }).message
    expect([new Error("gone"), "gone", { code: 7 }].map(messageOf)).toEqual([
      "store command `take` failed: gone",
      "store command `take` failed: gone",
      "store command `take` failed"
    ])
  })
})
