import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as RequestResolver from "effect/RequestResolver"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { fork as start, settle, unbounded } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"
import { Broken, type Get, get, jobs, live, store, Tenant, valueOf, valuesOf } from "./support/lookups.ts"

/** Two resolvers: the outer one asks the inner one for 3 once it may go, and the inner one asks the outer for 1 to answer 2. */
const nested = Effect.gen(function*() {
  const go = yield* Deferred.make<void>()
  const context = yield* Effect.context<Tenant>()
  const resolvers: Array<RequestResolver.RequestResolver<Get>> = []
  const inner = yield* store({
    // The answer to 2 needs what the outer batch is about to answer.
    execute: (requests) =>
      Effect.provideContext(
        Effect.forEach(
          requests,
          (_) => _.id === 2 ? Effect.request(get(1), resolvers[0]!) : Effect.succeed(valueOf(_.id)),
          unbounded
        ),
        context
      )
  })
  const outer = yield* store({
    execute: () =>
      Effect.provideContext(
        Effect.andThen(Deferred.await(go), Effect.map(inner.load(3), (_) => [_])),
        context
      )
  })
  resolvers.push(outer.resolver)
  return { go, inner, outer }
})

const queued = Effect.map(Scheduler.stats, (_) => _.queued)

describe("B5 collecting until admitted", () => {
  it.effect("B5 a batch that waits to be admitted goes on collecting, up to maxBatchSize", () =>
    Effect.gen(function*() {
      const { calls, round } = yield* store({ maxBatchSize: 5 })
      yield* Scheduler.pause
      const fibers = [
        ...(yield* round(1, 2)),
        ...(yield* round(3, 2)),
        // Two of them find room, the others are the next batch, which goes on collecting in turn.
        ...(yield* round(4, 5, 6, 7)),
        ...(yield* round(8, 1)),
        ...(yield* round(9))
      ]
      assert.strictEqual(yield* queued, 2)
      assert.deepStrictEqual(calls, [])
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), valuesOf(1, 2, 3, 2, 4, 5, 6, 7, 8, 1, 9))
      assert.deepStrictEqual(calls, [[1, 2, 3, 4, 5], [6, 7, 8, 9]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 look-ups that come one by one while the scheduler is busy share one call", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, round } = yield* store({ gate: Deferred.await(gate) })
      const fibers = yield* Effect.forEach(Array.range(1, 20), (id) => round(id))
      assert.deepStrictEqual(calls, [[1]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers.flat()), Array.range(1, 20).map(valueOf))
      assert.deepStrictEqual(calls, [[1], Array.range(2, 20)])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 a look-up joins a queued batch without a window, and starts a window once that batch has started", () =>
    Effect.gen(function*() {
      const { calls, load, round } = yield* store()
      yield* Scheduler.pause
      const fibers = [...(yield* round(1))]
      yield* TestClock.adjust("10 millis")
      fibers.push(...(yield* round(2)))
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), valuesOf(1, 2))
      assert.deepStrictEqual(calls, [[1, 2]])
      const late = yield* start(load(4))
      yield* settle
      assert.deepStrictEqual(calls, [[1, 2]])
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* Fiber.join(late), valueOf(4))
    }).pipe(Effect.provide(live({ concurrency: 1, window: "10 millis" }))))

  it.effect("B5 the requests of loadMany join the queued batch, and merge with its requests", () =>
    Effect.gen(function*() {
      const { calls, resolver, round } = yield* store()
      yield* Scheduler.pause
      const first = yield* round(1, 2)
      const many = yield* start(Batcher.loadMany([3, 2, 3, 4].map(get), resolver))
      const left = yield* start(Batcher.loadMany([5, 1].map(get), resolver))
      yield* settle
      yield* Fiber.interrupt(left)
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.join(many), valuesOf(3, 2, 3, 4))
      assert.deepStrictEqual(yield* Fiber.joinAll(first), valuesOf(1, 2))
      assert.deepStrictEqual(calls, [[1, 2, 3, 4]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 a sent batch takes no new request: equal look-ups join it, others open another batch", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, round } = yield* store({ gate: Deferred.await(gate) })
      const fibers = [...(yield* round(1)), ...(yield* round(1, 2))]
      assert.deepStrictEqual(calls, [[1], [2]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), valuesOf(1, 1, 2))
    }).pipe(Effect.provide(live({ concurrency: 2 }))))
})

describe("B3 leaving a queued batch", () => {
  it.effect("B3 a caller that leaves takes its request out and makes room, and no other caller notices", () =>
    Effect.gen(function*() {
      const { calls, round } = yield* store({ maxBatchSize: 3 })
      yield* Scheduler.pause
      const [one] = yield* round(1)
      const [two, three] = yield* round(2, 3)
      yield* Fiber.interrupt(two!)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(two!)))
      const [four] = yield* round(4)
      assert.strictEqual(yield* queued, 1)
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll([one!, three!, four!]), valuesOf(1, 3, 4))
      assert.deepStrictEqual(calls, [[1, 3, 4]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B3 a batch goes on for later callers when its first have left, and leaves the queue with the last one", () =>
    Effect.gen(function*() {
      const { calls, round } = yield* store()
      yield* Scheduler.pause
      const first = yield* round(1, 2)
      const joined = yield* round(3)
      yield* Fiber.interruptAll(first)
      yield* settle
      assert.strictEqual(yield* queued, 1)
      const last = yield* round(4)
      yield* Fiber.interruptAll(joined)
      yield* Fiber.interruptAll(last)
      yield* settle
      assert.strictEqual(yield* queued, 0)
      const again = yield* round(5)
      assert.strictEqual(yield* queued, 1)
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(again), valuesOf(5))
      assert.deepStrictEqual(calls, [[5]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B3 look-ups that come together and travel in two batches leave and end with their own batch", () =>
    Effect.gen(function*() {
      const gates = yield* Effect.forEach([0, 1], () => Deferred.make<void>())
      let running = 0
      const { interrupted, round } = yield* store({
        maxBatchSize: 2,
        gate: Effect.suspend(() => Deferred.await(gates[running++]!))
      })
      yield* Scheduler.pause
      const [one] = yield* round(1)
      const [two, three] = yield* round(2, 3)
      yield* Scheduler.resume
      yield* settle
      yield* Fiber.interrupt(three!)
      yield* settle
      assert.deepStrictEqual(interrupted, [[3]])
      yield* Deferred.succeed(gates[0]!, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll([one!, two!]), valuesOf(1, 2))
      assert.deepStrictEqual(yield* jobs, { running: 0, queued: 0 })
    }).pipe(Effect.provide(live({ concurrency: 2 }))))

  it.effect("B3 100,000 callers that join a queued batch and leave it again leave nothing behind", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store()
      yield* Scheduler.pause
      const first = yield* start(load(1))
      yield* settle
      for (let round = 0; round < 100; round++) {
        const fibers = yield* Effect.forEach(Array.range(2, 1_001), (id) => start(load(id)))
        yield* settle
        yield* Fiber.interruptAll(fibers)
      }
      assert.strictEqual(yield* queued, 1)
      yield* Scheduler.resume
      assert.strictEqual(yield* Fiber.join(first), valueOf(1))
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B3 look-ups that found no room in a batch are interrupted without a call when that batch closes the resolver", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { calls, load, round } = yield* Scope.provide(
        store({ maxBatchSize: 2, gate: Scope.close(scope, Exit.void) }),
        scope
      )
      const go = yield* Deferred.make<void>()
      const job = yield* start(Scheduler.schedule(
        Effect.andThen(Deferred.await(go), Effect.forEach([2, 3], (id) => Effect.exit(load(id)), unbounded))
      ))
      const first = yield* round(1)
      yield* Deferred.succeed(go, undefined)
      const exits = [...(yield* Fiber.join(job)), ...(yield* Fiber.awaitAll(first))]
      for (const exit of exits) assert.isTrue(Exit.hasInterrupts(exit))
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("B4 batches that look up", () => {
  it.effect("B4 a look-up made inside a batch adds to no queued batch", () =>
    Effect.gen(function*() {
      const { go, inner, outer } = yield* nested
      const first = yield* outer.round(1)
      yield* Scheduler.pause
      const second = yield* inner.round(2)
      yield* Deferred.succeed(go, undefined)
      yield* settle
      assert.strictEqual(yield* queued, 2)
      yield* Scheduler.resume
      const exits = yield* Fiber.awaitAll([...first, ...second])
      for (const exit of exits) if (Exit.isFailure(exit)) assert.fail(Cause.pretty(exit.cause))
      assert.deepStrictEqual(exits, [Exit.succeed(valueOf(3)), Exit.succeed(valueOf(3))])
    }).pipe(Effect.provide(live({ concurrency: 3 }))))

  it.effect("B4 a queued batch collects no more once another batch waits for it", () =>
    Effect.gen(function*() {
      const { go, inner, outer } = yield* nested
      const first = yield* outer.round(1)
      yield* Scheduler.pause
      const equal = yield* inner.round(3)
      yield* Deferred.succeed(go, undefined)
      yield* settle
      const second = yield* inner.round(2)
      assert.strictEqual(yield* queued, 2)
      yield* Scheduler.resume
      const exits = yield* Fiber.awaitAll([...first, ...equal, ...second])
      for (const exit of exits) if (Exit.isFailure(exit)) assert.fail(Cause.pretty(exit.cause))
      assert.deepStrictEqual(exits, [Exit.succeed(valueOf(3)), Exit.succeed(valueOf(3)), Exit.succeed(valueOf(3))])
    }).pipe(Effect.provide(live({ concurrency: 3 }))))

  it.effect("B4 a batch in its window goes on collecting while another batch waits for it", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Tenant>()
      const inner = yield* store({ window: "1 hour" })
      const outer = yield* store({ gate: Effect.provideContext(inner.load(3), context) })
      const equal = yield* inner.round(3)
      const first = yield* outer.round(1)
      const second = yield* inner.round(4)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* Fiber.joinAll([...equal, ...first, ...second]), valuesOf(3, 1, 4))
      assert.deepStrictEqual(inner.calls, [[3, 4]])
    }).pipe(Effect.provide(live())))
})

describe("B5 jobs that join", () => {
  it.effect("B5 a batch starts in the width of any job that waits for it, and not of one that left", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store()
      const gates = yield* Effect.forEach([0, 1, 2], () => Deferred.make<void>())
      // Each job fills the width that it lends until its gate opens.
      const job = (i: number) =>
        Scheduler.schedule(Effect.gen(function*() {
          yield* start(Scheduler.schedule(Deferred.await(gates[i]!)))
          return yield* load(i)
        }))
      const fibers = yield* Effect.forEach([0, 1, 2], (i) => start(job(i)))
      // It is first to get the width that a job leaves.
      const other = yield* start(Scheduler.schedule(Effect.never))
      yield* settle
      assert.deepStrictEqual([yield* queued, calls], [2, []])
      yield* Fiber.interrupt(fibers[0]!)
      yield* settle
      assert.deepStrictEqual([yield* queued, calls], [1, []])
      yield* Deferred.succeed(gates[2]!, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers.slice(1)), valuesOf(1, 2))
      assert.deepStrictEqual(calls, [[1, 2]])
      yield* Fiber.interrupt(other)
      assert.deepStrictEqual(yield* jobs, { running: 0, queued: 0 })
    }).pipe(Effect.provide(live({ concurrency: 3 }))))

  it.effect("B5 a look-up joins a queued batch that needs the permit of the look-up's own job", () =>
    Effect.gen(function*() {
      const outer = yield* Scheduler.make({ concurrency: 1 })
      const { load, round } = yield* store({ gate: Effect.orDie(outer.schedule(Effect.void)) })
      yield* Scheduler.pause
      const first = yield* round(1)
      const job = yield* start(outer.schedule(load(2)))
      yield* settle
      assert.strictEqual(yield* queued, 1)
      yield* Scheduler.resume
      assert.strictEqual(yield* Fiber.join(job), valueOf(2))
      assert.deepStrictEqual(yield* Fiber.joinAll(first), valuesOf(1))
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("the cache and wrappers of a queued batch", () => {
  it.effect("B6 a request cleared or primed while its batch waits is asked for once, and a primed value stays", () =>
    Effect.gen(function*() {
      const { calls, load, resolver, startAll } = yield* store({ cache: { capacity: 10, timeToLive: () => "1 hour" } })
      yield* Scheduler.pause
      const fibers = yield* startAll(1, 2, 3)
      yield* settle
      yield* resolver.clear(get(1))
      yield* resolver.prime(get(2), "primed")
      fibers.push(yield* start(load(1)), yield* start(load(2)))
      yield* settle
      yield* resolver.clearAll
      fibers.push(yield* start(load(3)), yield* start(load(4)))
      yield* settle
      yield* resolver.prime(get(2), "again")
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [...valuesOf(1, 2, 3, 1), "primed", ...valuesOf(3, 4)])
      assert.deepStrictEqual(calls, [[1, 2, 3, 4]])
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3, 4], load, unbounded), [
        valueOf(1),
        "again",
        ...valuesOf(3, 4)
      ])
      assert.strictEqual(calls.length, 1)
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("a resolver made by a combinator of core keeps its own batches in the queue", () =>
    Effect.gen(function*() {
      const { calls, resolver, round } = yield* store()
      const ask = (resolver: RequestResolver.RequestResolver<Get>, ids: ReadonlyArray<unknown>) =>
        Effect.tap(Effect.forEach(ids, (id) => start(Effect.request(get(id), resolver))), () => settle)
      const sizes: Array<number> = []
      const batchN = RequestResolver.batchN(resolver, 2)
      const grouped = RequestResolver.grouped(resolver, (entry) => Number(entry.request.id) % 2)
      const around = RequestResolver.around(
        resolver,
        (entries) => Effect.sync(() => sizes.push(entries.length)),
        () => Effect.void
      )
      yield* Scheduler.pause
      const fibers = [
        yield* ask(batchN, [1]),
        yield* ask(batchN, [2, 3]),
        yield* ask(grouped, [4, 5, 6]),
        yield* round(7),
        yield* ask(around, [8]),
        yield* round(9)
      ].flat()
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), Array.range(1, 9).map(valueOf))
      assert.deepStrictEqual(calls, [[1], [2, 3], [4, 6], [5], [7, 9], [8]])
      assert.deepStrictEqual(sizes, [1])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 requests of one loadMany that come after their batch was sent share another batch", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, resolver, round } = yield* store({ gate: Deferred.await(gate) })
      const busy = yield* start(Scheduler.schedule(Effect.never))
      const first = yield* round(1)
      // Reading its id makes room for the batch, which then starts.
      const sends = Object.defineProperty(get(0), "id", {
        enumerable: true,
        get: () => {
          busy.interruptUnsafe()
          return 3
        }
      })
      const many = yield* start(Batcher.loadMany([get(2), sends, get(4)], resolver))
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(many), valuesOf(2, 3, 4))
      yield* Fiber.joinAll(first)
      assert.deepStrictEqual(calls, [[1, 2], [3, 4]])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 a large loadMany asks for what its list held when it began, whatever becomes of the list", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* store()
      const requests = Array.makeBy(4096 + 2, get)
      const many = yield* start(Batcher.loadMany(requests, resolver))
      requests.splice(4096, 2, get("other"))
      assert.deepStrictEqual((yield* Fiber.join(many)).slice(4096), valuesOf(4096, 4097))
      assert.deepStrictEqual(calls.map((ids) => ids.slice(4096)), [[4096, 4097]])
    }).pipe(Effect.provide(live())))

  it.effect("B2 a loadMany that leaves while its batch tells the results takes no other batch of its resolver along", () =>
    Effect.gen(function*() {
      for (let turns = 0; turns < 4; turns++) {
        const [gate, later] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const large = yield* store({ gate: Deferred.await(gate) })
        const { calls, load, resolver } = yield* store({
          gate: (ids) => Deferred.await(ids.includes("later") ? later : gate)
        })
        // It has more results than are told in one turn.
        const first = yield* Effect.forEach(
          [1, 2],
          () => start(Batcher.loadMany(Array.makeBy(4096, get), large.resolver))
        )
        const many = yield* start(Batcher.loadMany(Array.makeBy(20, get), resolver))
        yield* settle
        const other = yield* start(load("later"))
        yield* settle
        yield* Deferred.succeed(gate, undefined)
        for (let i = 0; i < turns; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(many)
        const equal = yield* start(load("later"))
        yield* settle
        assert.strictEqual(calls.length, 2, `after ${turns} turns`)
        yield* Deferred.succeed(later, undefined)
        yield* Fiber.joinAll([other, equal])
        yield* Fiber.joinAll(first)
        assert.strictEqual(leftIn(resolver), "")
      }
    }).pipe(Effect.provide(live())))

  it.effect("B5 a large loadMany that has failed asks for nothing more", () =>
    Effect.gen(function*() {
      const cache: Batcher.CacheOptions<Get> = { capacity: 10, timeToLive: () => "1 hour" }
      const failure = new Broken()
      const { calls, resolver } = yield* store({ cache, window: 0 })
      assert("prime" in resolver)
      yield* resolver.prime(get(0), Exit.fail(failure))
      const many = yield* start(Effect.flip(Batcher.loadMany(Array.makeBy(5 * 4096, get), resolver)))
      yield* settle
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(many), failure)
      yield* settle
      // The window of 0 may have ended before the failure.
      assert.deepStrictEqual(calls.flat().filter((id) => Number(id) >= 4096), [])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live())))

  it.effect("B5 a large loadMany asks over several turns, and may be interrupted or closed between any two", () =>
    Effect.gen(function*() {
      const most = 4096
      const { calls, resolver } = yield* store()
      const many = (n: number) => start(Effect.exit(Batcher.loadMany(Array.makeBy(n, get), resolver)))
      const turnsUntilAsked = Effect.fn(function*(n: number) {
        const before = calls.length
        const fiber = yield* many(n)
        let turns = 0
        for (; calls.length === before; turns++) yield* Effect.yieldNow
        yield* Fiber.join(fiber)
        return turns
      })
      const few = yield* turnsUntilAsked(1)
      // Three turns more to take in what does not fit the first, and one before it is sent.
      const all = yield* turnsUntilAsked(4 * most)
      assert.isAtLeast(all - few, 4)
      for (const how of ["leave", "close"]) {
        for (let turns = 1; turns < all; turns++) {
          const scope = yield* Scope.make()
          const own = yield* Scope.provide(store(), scope)
          const fiber = yield* start(Batcher.loadMany(Array.makeBy(4 * most, get), own.resolver))
          for (let i = 0; i < turns; i++) yield* Effect.yieldNow
          if (how === "leave") yield* Fiber.interrupt(fiber)
          else yield* Scope.close(scope, Exit.void)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)), `${how} after ${turns} turns`)
          yield* settle
          assert.strictEqual(leftIn(own.resolver), "", `${how} after ${turns} turns`)
          assert.deepStrictEqual(own.calls, [])
        }
      }
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("B2 equal look-ups of a batch that collects", () => {
  it.effect("canary: core calls preCheck on the resolver of the look-up, and ignores a leaving entry whose key has no batch", () =>
    Effect.gen(function*() {
      const asked: Array<unknown> = []
      let away = false
      const ran: Array<ReadonlyArray<unknown>> = []
      const resolver = RequestResolver.makeWith<Get>({
        preCheck(this: unknown) {
          asked.push(this)
          return true
        },
        batchKey: () => away ? "none" : "all",
        delay: Effect.yieldNow,
        collectWhile: () => true,
        runAll: (entries) =>
          Effect.sync(() => {
            ran.push(entries.map((_) => _.request.id))
            for (const entry of entries) entry.completeUnsafe(Exit.succeed("value"))
          })
      })
      const wrapped = RequestResolver.batchN(resolver, 10)
      const first = yield* start(Effect.request(get(1), resolver))
      const second = yield* start(Effect.request(get(2), resolver))
      yield* Effect.request(get(3), wrapped)
      assert.deepStrictEqual(asked.map((_) => _ === resolver ? "resolver" : _ === wrapped ? "wrapped" : "else"), [
        "resolver",
        "resolver",
        "wrapped"
      ])
      ran.length = 0
      away = true
      const third = yield* start(Effect.request(get(1), resolver))
      away = false
      const fourth = yield* start(Effect.request(get(2), resolver))
      yield* Fiber.interrupt(third)
      yield* Fiber.joinAll([first, second, fourth])
      assert.deepStrictEqual(ran, [[1], [2]])
    }).pipe(Effect.provideService(Tenant, "a")))

  it.effect("B2 equal look-ups keep the window open as others do", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store()
      const one = yield* start(load(1))
      for (let i = 0; i < 6; i++) {
        yield* Effect.yieldNow
        yield* start(load(1))
      }
      const two = yield* start(load(2))
      yield* Fiber.joinAll([one, two])
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live())))

  it.effect("B4 a look-up that closes a cycle of batches is asked anew, and dies when it comes back", () =>
    Effect.gen(function*() {
      const inside: Array<Exit.Exit<string, Broken>> = []
      const go = yield* Deferred.make<void>()
      const ask = (id: unknown): Effect.Effect<string, Broken, Tenant> => load(id)
      const { calls, load } = yield* store({
        gate: (ids) =>
          Effect.gen(function*() {
            if (ids.includes(1)) yield* Deferred.await(go)
            inside.push(yield* Effect.exit(Effect.provideService(ask(ids.includes(1) ? 2 : 1), Tenant, "a")))
          })
      })
      const one = yield* start(load(1))
      yield* settle
      const two = yield* start(load(2))
      yield* Deferred.succeed(go, undefined)
      assert.strictEqual(yield* Fiber.join(one), valueOf(1))
      assert.strictEqual(yield* Fiber.join(two), valueOf(2))
      assert.deepStrictEqual(calls, [[1], [2], [1]])
      assert.deepStrictEqual(inside.map(Exit.hasDies), [true, false, false])
    }).pipe(Effect.provide(live({ concurrency: 2 }))))

  it.effect("B5 jobs inside jobs that join the batch of another caller do not wait for their own permits", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store({ isolate: [Tenant] })
      const nested = Scheduler.schedule(Effect.andThen(Scheduler.schedule(load(1)), Scheduler.schedule(load(2))))
      for (let turns = 0; turns < 6; turns++) {
        const first = yield* start(load(1))
        const fibers = yield* Effect.forEach(Array.range(1, 3), () => start(nested))
        for (let i = 0; i < turns; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(first)
        for (const values of yield* Fiber.joinAll(fibers)) assert.strictEqual(values, valueOf(2))
        assert.strictEqual(leftIn(resolver), "")
      }
      assert.isAbove(calls.length, 0)
      assert.deepStrictEqual(yield* jobs, { running: 0, queued: 0 })
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B6 B7 an expired request is asked for once, even if it was the only result of its tenant", () =>
    Effect.gen(function*() {
      const { calls, load, resolver, startAll } = yield* store({
        isolate: [Tenant],
        cache: { capacity: 10, timeToLive: () => "1 minute" }
      })
      yield* load(1)
      yield* TestClock.adjust("1 hour")
      const fibers = yield* startAll(1, 1, 2)
      yield* settle
      assert.deepStrictEqual(calls, [[1], [1, 2]])
      yield* Fiber.joinAll(fibers)
      yield* TestClock.adjust("1 hour")
      yield* Batcher.loadMany([1, 2].map(get), resolver)
      assert.deepStrictEqual(calls, [[1], [1, 2], [1, 2]])
    }).pipe(Effect.provide(live())))

  it.effect("look-ups that a combinator of core collects do not wait for the window of the resolver", () =>
    Effect.gen(function*() {
      const { calls, resolver, startAll } = yield* store()
      const slow = yield* startAll(1, 1)
      const quick = RequestResolver.batchN(resolver, 1)
      assert.strictEqual(yield* Effect.request(get(1), quick), valueOf(1))
      assert.deepStrictEqual(calls, [[1]])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* Fiber.joinAll(slow), valuesOf(1, 1))
      assert.deepStrictEqual(calls, [[1], [1]])
    }).pipe(Effect.provide(live({ window: "1 hour" }))))
})

describe("B3 leaving a batch that collects", () => {
  it.effect("B3 a request that all callers have left is not asked for, and a new caller puts it last", () =>
    Effect.gen(function*() {
      for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2]]) {
        const { calls, load, startAll } = yield* store()
        const fibers = yield* startAll(1, 1, 1)
        const other = yield* start(load(2))
        for (const i of order) yield* Fiber.interrupt(fibers[i]!)
        const back = yield* start(load(1))
        yield* Fiber.joinAll([other, back])
        assert.deepStrictEqual(calls, [[2, 1]])
      }
    }).pipe(Effect.provide(live())))

  it.effect("B3 a caller that comes after all have left has a window of its own", () =>
    Effect.gen(function*() {
      for (const order of [[0, 1, 2], [1, 0, 2], [2, 1, 0]]) {
        const { calls, load, resolver, startAll } = yield* store({ isolate: [Tenant] })
        const fibers = yield* startAll(1, 1, 1)
        yield* TestClock.adjust("30 minutes")
        for (const i of order) yield* Fiber.interrupt(fibers[i]!)
        assert.strictEqual(leftIn(resolver), "")
        const late = yield* start(load(1))
        yield* TestClock.adjust("59 minutes")
        assert.deepStrictEqual(calls, [])
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* Fiber.join(late), valueOf(1))
      }
    }).pipe(Effect.provide(live({ window: "1 hour" }))))

  it.effect("B3 a caller that leaves, and thereby fills the batch, is not asked for", () =>
    Effect.gen(function*() {
      const { calls, resolver, startAll } = yield* store({ maxBatchSize: 3 })
      const context = yield* Effect.context<Tenant>()
      const ask = (id: unknown, onExit: () => void) => Effect.requestUnsafe(get(id), { resolver, context, onExit })
      const leave = ask(1, () => [3, 4].forEach((id) => ask(id, () => {})))
      const [two] = yield* startAll(2)
      leave()
      assert.strictEqual(yield* Fiber.join(two!), valueOf(2))
      assert.deepStrictEqual(calls, [[2, 3, 4]])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ window: "1 hour" }))))

  for (const stays of [[], [4]]) {
    it.effect(`B3 a request that found no room in a batch and is left when that batch starts is not asked for${stays.length === 0 ? "" : ", and a new caller asks anew"}`, () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const { calls, load, resolver, startAll } = yield* store({
          maxBatchSize: 3,
          gate: (ids) => ids.includes(4) ? Deferred.await(gate) : Effect.void
        })
        const go = yield* Deferred.make<void>()
        const over: Array<Fiber.Fiber<string, Broken>> = []
        // The job lends the batch its own width: it runs, and ends, in the step in which the job's look-up joins it.
        const asks = Effect.andThen(load(2), Effect.sync(() => over[0]!.interruptUnsafe()))
        const job = yield* start(Scheduler.schedule(Effect.andThen(Deferred.await(go), asks)))
        const busy = yield* start(Scheduler.schedule(Effect.never))
        const waiting = yield* startAll(1, 5)
        yield* settle
        assert.deepStrictEqual(calls, [])
        yield* Deferred.succeed(go, undefined)
        for (const id of [3, ...stays]) over.push(yield* start(load(id)))
        yield* settle
        yield* Fiber.joinAll([...waiting, job])
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(over[0]!)))
        yield* Fiber.interrupt(busy)
        yield* settle
        assert.deepStrictEqual(calls, stays.length === 0 ? [[1, 5, 2]] : [[1, 5, 2], [4]])
        const back = yield* start(load(3))
        yield* settle
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* Fiber.join(back), valueOf(3))
        yield* settle
        assert.strictEqual(leftIn(resolver), "")
      }).pipe(Effect.provide(live({ concurrency: 2 }))))
  }

  for (const ops of [3, 4, 5, 6, 7]) {
    it.effect(`B3 callers that yield every ${ops - 2} operations come and leave in any step of a batch, and none is lost`, () =>
      Effect.gen(function*() {
        yield* Scheduler.resume
        const { load, resolver } = yield* store({ isolate: [Tenant] })
        const one = (tenant: string) => Effect.provideService(load(1), Tenant, tenant)
        for (let after = 0; after < 40; after++) {
          const stay = yield* Effect.forEach(["a", "b"], (_) => start(one(_)))
          const goes = yield* start(one("a"))
          const many = yield* start(Batcher.loadMany([1, 2].map(get), resolver))
          for (let i = 0; i < after; i++) yield* Effect.yieldNow
          goes.interruptUnsafe()
          many.interruptUnsafe()
          const late = yield* start(one("a"))
          for (const fiber of [...stay, late]) assert.strictEqual(yield* Fiber.join(fiber), valueOf(1))
          for (let i = 0; i < 40; i++) yield* Effect.yieldNow
          assert.strictEqual(leftIn(resolver), "")
        }
        assert.deepStrictEqual(yield* jobs, { running: 0, queued: 0 })
      }).pipe(Effect.provideService(MaxOpsBeforeYield, ops), Effect.provide(live({ concurrency: 1 }))))
  }

  it.effect("B3 loadMany with a closed resolver leaves nothing behind", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { resolver } = yield* Scope.provide(store({ isolate: [Tenant] }), scope)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(Batcher.loadMany([1, 2].map(get), resolver))))
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live())))

  it.effect("B3 loadMany that waits for several batches leaves all of them, and takes no other caller along", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, interrupted, load, resolver } = yield* store({ maxBatchSize: 2, gate: Deferred.await(gate) })
      const other = yield* start(load(1))
      yield* settle
      const many = yield* start(Batcher.loadMany([2, 1, 3, 2, 4, 5, 6, 7].map(get), resolver))
      const same = yield* start(Batcher.loadMany([5, 1, 4].map(get), resolver))
      yield* settle
      assert.deepStrictEqual(calls, [[1], [2, 3], [4, 5], [6, 7]])
      yield* Fiber.interrupt(many)
      yield* settle
      assert.deepStrictEqual(interrupted, [[2, 3], [6, 7]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual([yield* Fiber.join(other), yield* Fiber.join(same)], [valueOf(1), valuesOf(5, 1, 4)])
      yield* settle
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ concurrency: 5 }))))

  it.effect("B3 a caller that leaves twice does not take the others with it", () =>
    Effect.gen(function*() {
      const { calls, resolver, startAll } = yield* store()
      const context = yield* Effect.context<Tenant>()
      const exits: Array<Exit.Exit<string, Broken>> = []
      const leave = Effect.requestUnsafe(get(1), { resolver, context, onExit: (exit) => exits.push(exit) })
      const [other] = yield* startAll(1)
      leave()
      leave()
      assert.strictEqual(yield* Fiber.join(other!), valueOf(1))
      leave()
      assert.deepStrictEqual(calls, [[1]])
      assert.isTrue(exits.length === 1 && Exit.hasInterrupts(exits[0]!))
    }).pipe(Effect.provide(live())))

  it.effect("B3 100,000 callers of one request come and leave in linear time", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store()
      const fibers = yield* Effect.forEach(Array.range(1, 100_000), () => start(load(1)))
      const [stays, ...leavers] = [fibers[50_000]!, ...fibers.slice(0, 50_000), ...fibers.slice(50_001)]
      for (const fiber of leavers) fiber.interruptUnsafe()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(stays!), valueOf(1))
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live({ window: "1 hour" }))))
})
