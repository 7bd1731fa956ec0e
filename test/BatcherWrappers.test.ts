import { assert, describe, it } from "@effect/vitest"
import { Batcher } from "effect-funnel"
import * as Array from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { fork as start, settle, unbounded } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"
import { type Get, get, jobs, live, store, Tenant, valueOf, valuesOf } from "./support/lookups.ts"

type Resolver = RequestResolver.RequestResolver<Get>

const cache: Batcher.CacheOptions<Get> = { capacity: 10, timeToLive: () => "1 hour" }

const wrappers: Record<string, (self: Resolver) => Effect.Effect<Resolver>> = {
  around: (self) => Effect.succeed(RequestResolver.around(self, () => Effect.void, () => Effect.void)),
  batchN: (self) => Effect.succeed(RequestResolver.batchN(self, 3)),
  setDelay: (self) => Effect.succeed(RequestResolver.setDelay(self, "5 millis")),
  withSpan: (self) => Effect.succeed(RequestResolver.withSpan(self, "look-ups")),
  withCache: (self) => RequestResolver.withCache(self, { capacity: 10 }),
  grouped: (self) => Effect.succeed(RequestResolver.grouped(self, () => "all")),
  race: (self) => Effect.succeed(RequestResolver.race(self, RequestResolver.never as Resolver))
}

/** Lets everything go on, for 5 milliseconds as well. */
const pass = Effect.andThen(settle, Effect.andThen(TestClock.adjust("5 millis"), settle))

for (const [name, wrap] of Object.entries(wrappers)) {
  describe(`a resolver wrapped by core's ${name}`, () => {
    it.effect("B6 reads kept results, and its results are kept", () =>
      Effect.gen(function*() {
        const { calls, resolver } = yield* store({ cache })
        const wrapped = yield* wrap(resolver)
        const ask = (id: number, resolver: Resolver) =>
          Effect.tap(start(Effect.request(get(id), resolver)), () => pass).pipe(Effect.flatMap(Fiber.join))
        assert.strictEqual(yield* ask(1, resolver), valueOf(1))
        assert.strictEqual(yield* ask(1, wrapped), valueOf(1))
        assert.deepStrictEqual(calls, [[1]])
        assert.strictEqual(yield* ask(2, wrapped), valueOf(2))
        assert.strictEqual(yield* ask(2, wrapped), valueOf(2))
        assert.strictEqual(yield* ask(2, resolver), valueOf(2))
        assert.deepStrictEqual(calls, [[1], [2]])
        const both = yield* start(Effect.forEach([1, 3], (id) => Effect.request(get(id), wrapped), unbounded))
        yield* pass
        assert.deepStrictEqual(yield* Fiber.join(both), valuesOf(1, 3))
        assert.deepStrictEqual(calls, [[1], [2], [3]])
        assert.strictEqual(leftIn(resolver), "")
      }).pipe(Effect.provide(live({ concurrency: 2 }))))

    it.effect("B2 joins requests in flight, and its requests are joined", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const { calls, resolver } = yield* store({ gate: Deferred.await(gate) })
        const wrapped = yield* wrap(resolver)
        const first = [yield* start(Effect.request(get(1), resolver)), yield* start(Effect.request(get(2), wrapped))]
        yield* pass
        const asked = calls.flat()
        assert.deepStrictEqual([...asked].sort(), [1, 2])
        const second = [yield* start(Effect.request(get(1), wrapped)), yield* start(Effect.request(get(2), resolver))]
        yield* pass
        assert.deepStrictEqual(calls.flat(), asked)
        yield* Deferred.succeed(gate, undefined)
        yield* pass
        assert.deepStrictEqual(yield* Fiber.joinAll([...first, ...second]), valuesOf(1, 2, 1, 2))
        assert.strictEqual(leftIn(resolver), "")
        assert.deepStrictEqual(yield* jobs, { running: 0, queued: 0 })
      }).pipe(Effect.provide(live({ concurrency: 2 }))))

    it.effect("B3 a caller that leaves returns at once, and takes no other along", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const { calls, interrupted, resolver } = yield* store({ gate: Deferred.await(gate) })
        const wrapped = yield* wrap(resolver)
        const leaver = yield* start(Effect.request(get(1), wrapped))
        const other = yield* start(Effect.request(get(2), wrapped))
        yield* pass
        const joiner = yield* start(Effect.request(get(1), resolver))
        yield* settle
        yield* Fiber.interrupt(leaver)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(leaver)))
        yield* Fiber.interrupt(other)
        yield* settle
        assert.deepStrictEqual([calls.length, interrupted.length], [1, 0])
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* Fiber.join(joiner), valueOf(1))
        yield* settle
        assert.strictEqual(leftIn(resolver), "")
        assert.deepStrictEqual(yield* jobs, { running: 0, queued: 0 })
      }).pipe(Effect.provide(live({ concurrency: 2 }))))

    it.effect("B2 loadMany asks once for equal requests", () =>
      Effect.gen(function*() {
        const { calls, resolver } = yield* store()
        const wrapped = yield* wrap(resolver)
        // Core's batchN makes batches of three, one after the other.
        const ids = [1, 2, 1]
        const all = yield* start(Batcher.loadMany(ids.map(get), wrapped))
        yield* pass
        assert.deepStrictEqual(yield* Fiber.join(all), valuesOf(...ids))
        assert.deepStrictEqual(calls, [[1, 2]])
        assert.strictEqual(leftIn(resolver), "")
      }).pipe(Effect.provide(live({ concurrency: 2 }))))

    it.effect("B3 closing resolver or scheduler while core collects or delays a batch leaves no caller behind", () =>
      Effect.gen(function*() {
        for (const closes of ["resolver", "scheduler"] as const) {
          for (let turns = 0; turns < 12; turns++) {
            const scopes = { resolver: yield* Scope.make(), scheduler: yield* Scope.make() }
            const context = yield* Layer.buildWithScope(live({ concurrency: 2 }), scopes.scheduler)
            yield* Effect.gen(function*() {
              const { calls, resolver } = yield* Scope.provide(store({ gate: Effect.never }), scopes.resolver)
              const wrapped = yield* wrap(resolver)
              const fibers = yield* Effect.forEach([1, 2, 2, 3], (id) => start(Effect.request(get(id), wrapped)))
              yield* Effect.forEach(Array.range(0, turns), () => Effect.yieldNow)
              yield* Scope.close(scopes[closes], Exit.void)
              const asked = calls.length
              yield* pass
              for (const fiber of fibers) {
                const exit = fiber.pollUnsafe()
                assert.isTrue(exit !== undefined && Exit.hasInterrupts(exit), `${closes} after ${turns} turns`)
              }
              assert.strictEqual(calls.length, asked)
              assert.strictEqual(leftIn(resolver), "")
            }).pipe(Effect.provide(context))
          }
        }
      }))

    it.effect("B7 keeps callers with different isolating services apart, kept results included", () =>
      Effect.gen(function*() {
        const { calls, resolver } = yield* store({ cache, isolate: [Tenant] })
        const wrapped = name === "withCache" ? resolver : yield* wrap(resolver)
        const ask = (tenant: string) => Effect.provideService(Effect.request(get(1), wrapped), Tenant, tenant)
        for (let i = 0; i < 2; i++) {
          const fibers = yield* Effect.forEach(["a", "b"], (tenant) => start(ask(tenant)))
          yield* pass
          yield* Fiber.joinAll(fibers)
          assert.deepStrictEqual(calls, [[1], [1]])
        }
      }).pipe(Effect.provide(live({ concurrency: 2 }))))
  })
}

describe("windows", () => {
  it.effect("B5 a batch in its window goes on collecting while core hands over look-ups that it collected", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store({ window: "100 millis" })
      void wrappers["around"]!(resolver)
      const early = yield* start(load(1))
      yield* TestClock.adjust("50 millis")
      const many = yield* start(Batcher.loadMany([get(2)], resolver))
      yield* TestClock.adjust("70 millis")
      yield* settle
      assert.deepStrictEqual(calls, [[1]])
      const more = yield* start(Batcher.loadMany([get(3)], resolver))
      yield* TestClock.adjust("30 millis")
      yield* settle
      assert.deepStrictEqual(calls, [[1], [2, 3]])
      assert.deepStrictEqual([yield* Fiber.join(early), yield* Fiber.join(many), yield* Fiber.join(more)], [
        valueOf(1),
        valuesOf(2),
        valuesOf(3)
      ])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live())))
})

describe("isolation", () => {
  it.effect("B7 look-ups of one tenant share a batch through a wrapper, wherever they come from", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* store({ isolate: [Tenant] })
      const wrapped = RequestResolver.batchN(resolver, 10)
      const ask = (id: number, tenant: string) =>
        Effect.provideService(Effect.request(get(id), wrapped), Tenant, tenant)
      yield* Effect.all([ask(1, "a"), ask(2, "b"), ask(3, "a")], unbounded)
      assert.deepStrictEqual(calls.map(String).sort(), ["1,3", "2"])
    }).pipe(Effect.provide(live())))
})

describe("race", () => {
  it.effect("B3 a batch that lost a race is interrupted, unless another caller waits for it", () =>
    Effect.gen(function*() {
      for (const joined of [false, true]) {
        const gate = yield* Deferred.make<void>()
        const win = yield* Deferred.make<void>()
        const { calls, interrupted, resolver } = yield* store({ gate: Deferred.await(gate) })
        const fast = RequestResolver.make<Get>((entries) =>
          Effect.map(Deferred.await(win), () => {
            for (const entry of entries) entry.completeUnsafe(Exit.succeed("fast"))
          })
        )
        const racer = yield* start(Effect.request(get(1), RequestResolver.race(resolver, fast)))
        yield* settle
        const joiner = joined ? yield* start(Effect.request(get(1), resolver)) : undefined
        yield* Deferred.succeed(win, undefined)
        assert.strictEqual(yield* Fiber.join(racer), "fast")
        yield* settle
        assert.deepStrictEqual([calls, interrupted.length], [[[1]], joined ? 0 : 1])
        yield* Deferred.succeed(gate, undefined)
        if (joiner !== undefined) assert.strictEqual(yield* Fiber.join(joiner), valueOf(1))
        yield* settle
        assert.strictEqual(leftIn(resolver), "")
      }
    }).pipe(Effect.provide(live({ concurrency: 2 }))))
})

describe("withSpan", () => {
  it.effect("B4 the span of core's withSpan fails where its batch fails", () =>
    Effect.gen(function*() {
      const ended: Array<readonly [string, string]> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          const end = span.end.bind(span)
          span.end = (time, exit) => {
            ended.push([span.name, exit._tag])
            end(time, exit)
          }
          return span
        }
      })
      const { resolver } = yield* store({ gate: Effect.die("broken") })
      const exit = yield* Effect.request(get(1), RequestResolver.withSpan(resolver, "look-ups")).pipe(
        Effect.exit,
        Effect.withTracer(tracer)
      )
      yield* settle
      assert.isTrue(Exit.hasDies(exit))
      assert.deepStrictEqual(ended, [["look-ups", "Failure"]])
    }).pipe(Effect.provide(live({ concurrency: 2 }))))
})

describe("wrappers that answer look-ups themselves", () => {
  const ways: Record<string, (self: Resolver) => Resolver> = {
    "an around that fails before": (self) => RequestResolver.around(self, () => Effect.die("no"), () => Effect.void),
    "a runAll of its own": (self) =>
      RequestResolver.makeWith({
        ...self,
        batchKey: (entry) => self.batchKey(entry),
        preCheck: () => true,
        runAll: (entries) =>
          Effect.sync(() => entries.forEach((entry) => entry.completeUnsafe(Exit.succeed("its own"))))
      })
  }
  for (const [name, wrap] of Object.entries(ways)) {
    it.effect(`B7 ${name} leaves no group behind`, () =>
      Effect.gen(function*() {
        const { calls, resolver } = yield* store({ isolate: [Tenant] })
        const wrapped = wrap(resolver)
        const exits = yield* Effect.forEach(["ada", "bob"], (tenant) =>
          Effect.exit(Effect.request(get(1), wrapped)).pipe(Effect.provideService(Tenant, tenant)), unbounded)
        yield* settle
        assert.deepStrictEqual([exits.length, calls], [2, []])
        assert.strictEqual(leftIn(resolver), "")
      }).pipe(Effect.provide(live({ concurrency: 2 }))))
  }
})
