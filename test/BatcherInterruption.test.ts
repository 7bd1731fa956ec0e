import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import { interruptionSweep } from "./support/interruptionSweep.ts"

class Get extends Request.TaggedClass("Get")<{ readonly key: number }, string> {}
const get = (key: number) => new Get({ key })

const live = Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
  Layer.provideMerge(Scheduler.layer({ concurrency: 1 }))
)

const turns = Effect.forEach(Array.range(1, 20), () => Effect.yieldNow, { discard: true })

const make = Effect.gen(function*() {
  yield* Scheduler.resume
  const gate = yield* Deferred.make<void>()
  let running = 0
  const resolver = yield* Batcher.ordered(Get, {
    execute: (requests) =>
      Effect.acquireUseRelease(
        Effect.sync(() => running++),
        () => Effect.as(Deferred.await(gate), requests.map((_) => `value of ${_.key}`)),
        () => Effect.sync(() => running--)
      )
  })
  return { gate, resolver, running: () => running }
})

type Fixture = Effect.Success<typeof make>

/** Whatever happened: nothing runs or waits, and the resolver goes on working. */
const check = ({ gate, resolver, running }: Fixture) =>
  Effect.gen(function*() {
    yield* Deferred.succeed(gate, undefined)
    yield* turns
    assert.strictEqual(running(), 0)
    const stats = yield* Scheduler.stats
    assert.deepStrictEqual([stats.running, stats.queued], [0, 0])
    const key = 7
    assert.strictEqual(yield* Effect.request(get(key), resolver), `value of ${key}`)
  })

const meanwhile = ({ gate }: Fixture) => Effect.andThen(turns, Deferred.succeed(gate, undefined))

describe("B3 interrupted at every one of its operations", () => {
  it.effect("B3 a look-up leaves nothing behind", () =>
    Effect.gen(function*() {
      const operations = yield* interruptionSweep({
        make,
        subject: ({ resolver }) => Effect.request(get(1), resolver),
        meanwhile,
        check
      })
      assert.isAtLeast(operations, 3)
    }).pipe(Effect.provide(live)))

  it.effect("B3 a job that loads leaves nothing behind", () =>
    Effect.gen(function*() {
      const operations = yield* interruptionSweep({
        make,
        subject: ({ resolver }) => Scheduler.schedule(Effect.request(get(1), resolver)),
        meanwhile,
        check
      })
      assert.isAbove(operations, 6)
    }).pipe(Effect.provide(live)))

  it.effect("B3 loadMany leaves nothing behind", () =>
    Effect.gen(function*() {
      const operations = yield* interruptionSweep({
        make,
        subject: ({ resolver }) => Batcher.loadMany([1, 2, 1].map(get), resolver),
        meanwhile,
        check
      })
      assert.isAtLeast(operations, 3)
    }).pipe(Effect.provide(live)))

  it.effect("B3 those who wait for the same are not concerned", () =>
    Effect.gen(function*() {
      const operations = yield* interruptionSweep({
        make: Effect.gen(function*() {
          const fixture = yield* make
          const other = yield* Effect.forkScoped(Effect.request(get(1), fixture.resolver), { startImmediately: true })
          return { ...fixture, other }
        }),
        subject: ({ resolver }) => Effect.request(get(1), resolver),
        meanwhile,
        check: ({ other, ...fixture }) =>
          Effect.gen(function*() {
            yield* Deferred.succeed(fixture.gate, undefined)
            assert.deepStrictEqual(yield* Fiber.await(other), Exit.succeed("value of 1"))
            yield* check(fixture)
          })
      })
      assert.isAtLeast(operations, 3)
    }).pipe(Effect.provide(live)))
})
