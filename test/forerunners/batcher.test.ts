/** Figures from the tests of asynq and DataLoader. Those of chains, trees and 26 keys in batches of 3 are in Batcher.test.ts. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Latch, Layer, Request } from "effect"
import { Batcher, Scheduler } from "effect-funnel"
import { fork, unbounded } from "../support/fibers.ts"

class Get extends Request.Class<{ readonly key: number }, number> {}

const live = (concurrency: number | "unbounded") =>
  Batcher.layer().pipe(Layer.provideMerge(Scheduler.layer({ concurrency })))

const store = Effect.gen(function*() {
  const calls: Array<ReadonlyArray<number>> = []
  const resolver = yield* Batcher.ordered(Get, {
    execute: (requests) =>
      Effect.sync(() => {
        calls.push(requests.map((_) => _.key))
        return requests.map((_) => _.key * 10)
      })
  })
  return { calls, get: (key: number) => Effect.request(new Get({ key }), resolver) }
})

describe("asynq", () => {
  it.effect("a batch goes by the priority of the job that waits for it", () =>
    Effect.gen(function*() {
      const { calls, get } = yield* store
      const gate = Latch.makeUnsafe()
      yield* fork(Scheduler.schedule(gate.await))
      const later = yield* fork(Scheduler.schedule(get(1), { priority: 0 }))
      const sooner = yield* fork(Scheduler.schedule(get(2), { priority: 1 }))
      yield* gate.open
      yield* Fiber.joinAll([later, sooner])
      expect(calls).toEqual([[2], [1]])
    }).pipe(Effect.provide(live(1))))

  it.effect("a scoped value is its fiber's own across a batch: 3 pages in 2 languages are 1 call", () =>
    Effect.gen(function*() {
      const Locale = Context.Reference("test/Locale", { defaultValue: () => "en" })
      const { calls, get } = yield* store
      const page = (key: number) => Effect.flatMap(get(key), (value) => Effect.map(Locale, (_) => `${value} ${_}`))
      const pages = yield* Effect.all([page(1), Effect.provideService(page(2), Locale, "de"), page(3)], unbounded)
      expect(pages).toEqual(["10 en", "20 de", "30 en"])
      expect(calls).toEqual([[1, 2, 3]])
    }).pipe(Effect.provide(live("unbounded"))))
})

describe("DataLoader", () => {
  it.effect("loads that other loads lead to are batched with each other: 2 loaders, 1 call each", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* store, yield* store]
      yield* Effect.forEach([1, 2], (key) => Effect.flatMap(a.get(key), b.get), unbounded)
      expect([a.calls, b.calls]).toEqual([[[1, 2]], [[10, 20]]])
    }).pipe(Effect.provide(live("unbounded"))))
})
