/**
 * The counters of penalties: each one that lengthens a pause, once in each metric and in each process.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer } from "effect"
import type { Scope } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import * as Metrics from "effect-funnel/Metrics"
import * as Stores from "effect-funnel/stores"
import { TestClock } from "effect/testing"
import { fork } from "./support/fibers.ts"
import { grantedAtOnce, taking } from "./support/gcraStoreModel.ts"
import { read, withRegistry } from "./support/metrics.ts"

const law = <A, E>(title: string, body: () => Effect.Effect<A, E, Scope.Scope>) =>
  it.effect(title, () => withRegistry(Effect.scoped(Effect.suspend(body))))

const seen = <A, E, R>(layer: Layer.Layer<A, E, R>) => Layer.provide(layer, Metrics.layer)

const ofScheduler = (name: string) => read("scheduler.penalties", { name })
const ofLimiter = (name: string) => read("ratelimiter.penalties", { name })

class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 10, window: "1 second" }) {}
const paced = { rate: { limit: 10, window: "1 second" } } as const

describe("Metrics of penalties", () => {
  for (const [what, rate] of [["without", {}], ["with", paced]] as const) {
    law(`a scheduler ${what} a rate counts each penalty that lengthens its pause`, () =>
      Effect.gen(function*() {
        const GitHub = yield* Scheduler.make({ concurrency: 2, name: "github", ...rate })
        const count = ofScheduler("github")
        assert.strictEqual(yield* count, 0)
        yield* GitHub.penalize({ for: "5 seconds" })
        assert.strictEqual(yield* count, 1)
        yield* GitHub.penalize({ for: "3 seconds" })
        yield* GitHub.penalize({ for: "5 seconds" })
        assert.strictEqual(yield* count, 1)
        yield* TestClock.adjust("3 seconds")
        yield* GitHub.penalize({ for: "3 seconds" })
        assert.strictEqual(yield* count, 2)
        yield* TestClock.adjust("1 minute")
        yield* GitHub.penalize({ for: 0 })
        assert.strictEqual(yield* count, 2)
        yield* GitHub.penalize({ for: "1 second" })
        assert.strictEqual(yield* count, 3)
      }).pipe(Effect.provide(Metrics.layer)))
  }

  law(
    "a penalty from before a scheduler had a rate is one that a later one has to exceed",
    () =>
      Effect.gen(function*() {
        const GitHub = yield* Scheduler.make({ concurrency: 2, name: "github" })
        yield* GitHub.penalize({ for: "5 seconds" })
        yield* GitHub.setRate(paced.rate)
        yield* GitHub.penalize({ for: "3 seconds" })
        assert.strictEqual(yield* ofScheduler("github"), 1)
        yield* GitHub.penalize({ for: "6 seconds" })
        assert.strictEqual(yield* ofScheduler("github"), 2)
      }).pipe(Effect.provide(Metrics.layer))
  )

  law("keyed schedulers count those of each key together, also when the key has gone", () => {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 2 }) }) {}
    return Effect.gen(function*() {
      const [a, b] = [yield* Hosts.get("a"), yield* Hosts.get("b")]
      yield* Effect.all([a.penalize({ for: "2 seconds" }), b.penalize({ for: "1 second" })])
      assert.strictEqual(yield* ofScheduler("app/Hosts"), 2)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Hosts.size, 0)
      assert.strictEqual(yield* ofScheduler("app/Hosts"), 2)
    }).pipe(Effect.provide(seen(Hosts.layer)))
  })

  law("a limiter counts those that lengthen the penalty of their key; a reset ends it", () =>
    Effect.gen(function*() {
      const count = ofLimiter("app/Api")
      yield* Api.penalize({ for: "5 seconds" })
      yield* Api.penalize({ key: "ada", for: "3 seconds" })
      assert.strictEqual(yield* count, 2)
      yield* Api.penalize({ key: "ada", for: "2 seconds" })
      yield* Api.penalize({ key: "bob", for: 0 })
      assert.strictEqual(yield* count, 2)
      yield* Api.reset({ key: "ada" })
      yield* Api.penalize({ key: "ada", for: "2 seconds" })
      assert.strictEqual(yield* count, 3)
    }).pipe(Effect.provide(seen(Api.layer))))

  law(
    "a penalty through a limiter that schedulers share counts once for the scheduler and once for the limiter",
    () => {
      class Shared extends Scheduler.Service<Shared>()("app/Shared", { concurrency: 2, rate: Api }) {}
      return Effect.gen(function*() {
        const counts = Effect.all([ofScheduler("app/Shared"), ofLimiter("app/Api")])
        yield* Shared.penalize({ for: "5 seconds" })
        assert.deepStrictEqual(yield* counts, [1, 1])
        yield* Shared.penalize({ for: "4 seconds" })
        assert.deepStrictEqual(yield* counts, [1, 1])
        // The scheduler did not give this one.
        yield* Api.penalize({ for: "9 seconds" })
        assert.deepStrictEqual(yield* counts, [1, 2])
        yield* Shared.penalize({ for: "8 seconds" })
        assert.deepStrictEqual(yield* counts, [1, 2])
      }).pipe(Effect.provide(seen(Layer.provideMerge(Shared.layer, Api.layer))))
    }
  )
})

const gcra: Stores.GcraStore = taking((_, tokens) => Effect.succeed({ ...grantedAtOnce, waits: tokens.map(() => 0) }))

/**
 * Permits without a bound. A penalty is longer on its way than a question, so the store's end of it is later than that of the
 * process which gave it.
 */
const permits = (): Stores.SchedulerStores["permits"] => {
  let until = 0
  let nodes = 0
  const answer = <A>(millis: number, decide: (now: number) => A) =>
    Effect.flatMap(
      Effect.delay(Effect.map(Clock.currentTimeMillis, decide), millis),
      (answer) => Effect.delay(Effect.succeed(answer), 10)
    )
  return () => ({
    leaseMillis: 10_000,
    node: `node ${++nodes}`,
    acquire: (asked) =>
      answer(10, (now) => {
        const penaltyMillis = Math.max(0, until - now)
        return { granted: penaltyMillis > 0 ? 0 : asked.length, pollMillis: 1000, penaltyMillis }
      }),
    renew: () => Effect.succeed([]),
    release: () => Effect.void,
    penalize: (millis) => answer(50, (now) => void (until = Math.max(until, now + millis))),
    close() {}
  })
}

describe("Metrics of penalties over a store", () => {
  for (const [what, rate] of [["without", {}], ["with", paced]] as const) {
    law(
      `a penalty of a scheduler ${what} a rate counts once in each process that is told of it`,
      () =>
        Effect.gen(function*() {
          const stores = Effect.succeed({ permits: permits(), rates: () => gcra })
          const make = (name: string) => Stores.makeScheduler(stores, { name, concurrency: 4, ...rate })
          const [giver, told] = [yield* make("giver"), yield* make("told"), yield* make("idle")]
          const counts = Effect.forEach(["giver", "told", "idle"], ofScheduler)
          const penalty = yield* fork(giver.penalize({ for: "5 seconds" }))
          assert.deepStrictEqual(yield* counts, [1, 0, 0])
          yield* TestClock.adjust(60)
          yield* Fiber.join(penalty)
          for (const scheduler of [giver, told]) {
            for (let job = 0; job < 3; job++) yield* fork(scheduler.schedule(Effect.void))
          }
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* counts, [1, 1, 0])
          // Both have asked again, the giver before the store's end of it.
          yield* TestClock.adjust("5 seconds")
          assert.deepStrictEqual([(yield* giver.stats).queued, (yield* told.stats).queued], [0, 0])
          assert.deepStrictEqual(yield* counts, [1, 1, 0])
          const next = yield* fork(told.penalize({ for: "3 seconds" }))
          yield* TestClock.adjust(60)
          yield* Fiber.join(next)
          yield* fork(giver.schedule(Effect.void))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* counts, [2, 2, 0])
        }).pipe(Effect.provide(Metrics.layer))
    )
  }

  law(
    "a limiter counts in the process that gives the penalty, and nothing where the store refuses it",
    () =>
      Effect.gen(function*() {
        let away = false
        const failing: Stores.GcraStore = {
          ...gcra,
          penalize: () =>
            away ? Effect.fail(new Stores.StoreError({ operation: "penalize", cause: new Error("away") })) : Effect.void
        }
        const make = (name: string) =>
          Stores.makeRateLimiter(Effect.succeed(() => failing), {
            name,
            ...paced,
            outageBudget: 0
          })
        const [giver, other] = [yield* make("giver"), yield* make("other")]
        const counts = Effect.all([ofLimiter("giver"), ofLimiter("other")])
        yield* giver.penalize({ for: "5 seconds" })
        yield* giver.penalize({ for: "3 seconds" })
        yield* other.consume()
        assert.deepStrictEqual(yield* counts, [1, 0])
        away = true
        assert.strictEqual((yield* Effect.exit(giver.penalize({ for: "9 seconds" })))._tag, "Failure")
        assert.deepStrictEqual(yield* counts, [1, 0])
      }).pipe(Effect.provide(Metrics.layer))
  )
})
