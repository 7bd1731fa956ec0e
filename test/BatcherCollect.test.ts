import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { fork as start, settle, unbounded } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"

class Broken extends Data.TaggedError("Broken")<{}> {}
class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
class Get extends Request.TaggedClass("Get")<{ readonly id: number }, number, Broken, Tenant> {}
const get = (id: number) => new Get({ id })
const live = (concurrency: number, options?: Batcher.Options) =>
  Layer.mergeAll(
    Batcher.layer({ ...options, scheduler: Scheduler.Scheduler }).pipe(
      Layer.provideMerge(Scheduler.layer({ concurrency }))
    ),
    Layer.succeed(Tenant, "anybody")
  )

type Options = Partial<Parameters<typeof Batcher.ordered<Get, never, [typeof Tenant]>>[1]> & {
  readonly gate?: Effect.Effect<void, Broken> | undefined
}

/** A resolver that notes its calls, and answers with ten times the id. */
const store = ({ gate, ...options }: Options = {}) =>
  Effect.gen(function*() {
    const calls: Array<ReadonlyArray<number>> = []
    const resolver = yield* Batcher.ordered(Get, {
      execute: (requests) =>
        Effect.suspend(() => {
          calls.push(requests.map((_) => _.id))
          return Effect.as(gate ?? Effect.void, requests.map((_) => _.id * 10))
        }),
      ...options
    })
    const load = (id: number) => Effect.request(get(id), resolver)
    /** Look-ups that core collects together, and that have left it when this returns. */
    const round = (...ids: ReadonlyArray<number>) =>
      Effect.tap(Effect.forEach(ids, (id) => start(load(id))), () => settle)
    return { calls, load, resolver, round }
  })

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
          (_) => _.id === 2 ? Effect.request(get(1), resolvers[0]!) : Effect.succeed(_.id * 10),
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
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [10, 20, 30, 20, 40, 50, 60, 70, 80, 10, 90])
      assert.deepStrictEqual(calls, [[1, 2, 3, 4, 5], [6, 7, 8, 9]])
    }).pipe(Effect.provide(live(1))))

  it.effect("B5 look-ups that come one by one while the scheduler is busy are one call when it is free", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, round } = yield* store({ gate: Deferred.await(gate) })
      const fibers = yield* Effect.forEach(Array.range(1, 20), (id) => round(id))
      assert.deepStrictEqual(calls, [[1]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers.flat()), Array.range(1, 20).map((id) => id * 10))
      assert.deepStrictEqual(calls, [[1], Array.range(2, 20)])
    }).pipe(Effect.provide(live(1))))

  it.effect("B5 what finds a batch that waits goes with it, whatever its own window, which it has when that one has started", () =>
    Effect.gen(function*() {
      const { calls, load, round } = yield* store()
      yield* Scheduler.pause
      const fibers = [...(yield* round(1))]
      yield* TestClock.adjust("10 millis")
      fibers.push(...(yield* round(2)))
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [10, 20])
      assert.deepStrictEqual(calls, [[1, 2]])
      const late = yield* start(load(4))
      yield* settle
      assert.deepStrictEqual(calls, [[1, 2]])
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* Fiber.join(late), 40)
    }).pipe(Effect.provide(live(1, { window: "10 millis" }))))

  it.effect("B5 what loadMany brings joins the batch that waits, merged with what is there", () =>
    Effect.gen(function*() {
      const { calls, resolver, round } = yield* store()
      yield* Scheduler.pause
      const first = yield* round(1, 2)
      const many = yield* start(Batcher.loadMany([3, 2, 3, 4].map(get), resolver))
      const left = yield* start(Batcher.loadMany([5, 1].map(get), resolver))
      yield* settle
      yield* Fiber.interrupt(left)
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.join(many), [30, 20, 30, 40])
      assert.deepStrictEqual(yield* Fiber.joinAll(first), [10, 20])
      assert.deepStrictEqual(calls, [[1, 2, 3, 4]])
    }).pipe(Effect.provide(live(1))))

  it.effect("B5 a batch that was sent collects no more: what is left of it is joined, what is new is another batch", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, round } = yield* store({ gate: Deferred.await(gate) })
      const fibers = [...(yield* round(1)), ...(yield* round(1, 2))]
      assert.deepStrictEqual(calls, [[1], [2]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [10, 10, 20])
    }).pipe(Effect.provide(live(2))))

  it.effect("B5 look-ups whose isolating services differ never join one batch that waits", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store({ isolate: [Tenant] })
      yield* Scheduler.pause
      const ask = (tenant: string, id: number) =>
        Effect.tap(start(Effect.provideService(load(id), Tenant, tenant)), () => settle)
      const fibers = [yield* ask("a", 1), yield* ask("b", 1), yield* ask("a", 2), yield* ask("b", 3)]
      assert.strictEqual(yield* queued, 2)
      yield* Scheduler.resume
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(calls, [[1, 2], [1, 3]])
    }).pipe(Effect.provide(live(1))))
})

describe("B3 leaving a batch that others joined", () => {
  it.effect("B3 a caller whose look-up joined takes it out and makes room, and nobody else notices", () =>
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
      assert.deepStrictEqual(yield* Fiber.joinAll([one!, three!, four!]), [10, 30, 40])
      assert.deepStrictEqual(calls, [[1, 3, 4]])
    }).pipe(Effect.provide(live(1))))

  it.effect("B3 a batch whose first callers are all gone goes on for those who joined, and leaves the queue with the last", () =>
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
      assert.deepStrictEqual(yield* Fiber.joinAll(again), [50])
      assert.deepStrictEqual(calls, [[5]])
    }).pipe(Effect.provide(live(1))))

  it.effect("B3 look-ups that core collected together and that travel in two batches leave and end each with its own", () =>
    Effect.gen(function*() {
      const gates = yield* Effect.forEach([0, 1], () => Deferred.make<void>())
      let running = 0
      const interrupted: Array<ReadonlyArray<number>> = []
      const { round } = yield* store({
        maxBatchSize: 2,
        execute: (requests) =>
          Deferred.await(gates[running++]!).pipe(
            Effect.as(requests.map((_) => _.id * 10)),
            Effect.onInterrupt(() => Effect.sync(() => interrupted.push(requests.map((_) => _.id))))
          )
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
      assert.deepStrictEqual(yield* Fiber.joinAll([one!, two!]), [10, 20])
      assert.deepStrictEqual(yield* Effect.map(Scheduler.stats, (_) => [_.running, _.queued]), [0, 0])
    }).pipe(Effect.provide(live(2))))

  it.effect("B3 100,000 callers that join a batch that waits and leave it again cost nobody anything", () =>
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
      assert.strictEqual(yield* Fiber.join(first), 10)
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live(1))))

  it.effect("B3 what found no room in a batch that closes the resolver is interrupted as well, and not asked for", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const calls: Array<ReadonlyArray<number>> = []
      const { load, round } = yield* Scope.provide(
        store({
          maxBatchSize: 2,
          execute: (requests) => {
            calls.push(requests.map((_) => _.id))
            return Effect.as(Scope.close(scope, Exit.void), [])
          }
        }),
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
    }).pipe(Effect.provide(live(1))))
})

describe("B4 failing with a batch that others joined", () => {
  it.effect("B4 a look-up made inside a batch joins no batch that waits, so what it waits for does not grow", () =>
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
      assert.deepStrictEqual(exits, [Exit.succeed(30), Exit.succeed(30)])
    }).pipe(Effect.provide(live(3))))

  it.effect("B4 what a look-up made inside a batch waits for collects no more, so it comes to wait for nothing else", () =>
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
      assert.deepStrictEqual(exits, [Exit.succeed(30), Exit.succeed(30), Exit.succeed(30)])
    }).pipe(Effect.provide(live(3))))
})

describe("B5 jobs that join", () => {
  it.effect("B5 a batch that several jobs joined starts in the width of any that waits for it, and not of one that left", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store()
      const gates = yield* Effect.forEach([0, 1, 2], () => Deferred.make<void>())
      // Each job fills the width that it lends until its gate opens.
      const job = (i: number) =>
        Scheduler.schedule(Effect.gen(function*() {
          yield* start(Scheduler.schedule(Deferred.await(gates[i]!)))
          return yield* load(i)
        }))
      const jobs = yield* Effect.forEach([0, 1, 2], (i) => start(job(i)))
      // It is first to get the width that a job leaves.
      const other = yield* start(Scheduler.schedule(Effect.never))
      yield* settle
      assert.deepStrictEqual([yield* queued, calls], [2, []])
      yield* Fiber.interrupt(jobs[0]!)
      yield* settle
      assert.deepStrictEqual([yield* queued, calls], [1, []])
      yield* Deferred.succeed(gates[2]!, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(jobs.slice(1)), [10, 20])
      assert.deepStrictEqual(calls, [[1, 2]])
      yield* Fiber.interrupt(other)
      assert.deepStrictEqual(yield* Effect.map(Scheduler.stats, (_) => [_.running, _.queued]), [0, 0])
    }).pipe(Effect.provide(live(3))))

  it.effect("B5 a look-up made in a job of another scheduler, whose permit the batch needs, may join", () =>
    Effect.gen(function*() {
      const outer = yield* Scheduler.make({ concurrency: 1 })
      const { calls, load, round } = yield* store({
        execute: (requests) => Effect.orDie(outer.schedule(Effect.succeed(requests.map((_) => _.id * 10))))
      })
      void calls
      yield* Scheduler.pause
      const first = yield* round(1)
      const job = yield* start(outer.schedule(load(2)))
      yield* settle
      assert.strictEqual(yield* queued, 1)
      yield* Scheduler.resume
      assert.strictEqual(yield* Fiber.join(job), 20)
      assert.deepStrictEqual(yield* Fiber.joinAll(first), [10])
    }).pipe(Effect.provide(live(1))))
})

describe("what goes with a batch that others joined", () => {
  it.effect("B6 what was cleared or primed while its batch waits is asked for once, and what was primed stays", () =>
    Effect.gen(function*() {
      const calls: Array<ReadonlyArray<number>> = []
      const resolver = yield* Batcher.ordered(Get, {
        execute: (requests) =>
          Effect.sync(() => {
            calls.push(requests.map((_) => _.id))
            return requests.map((_) => _.id * 10)
          }),
        cache: { capacity: 10, timeToLive: () => "1 hour" }
      })
      const load = (id: number) => Effect.request(get(id), resolver)
      yield* Scheduler.pause
      const fibers = yield* Effect.forEach([1, 2, 3], (id) => start(load(id)))
      yield* settle
      yield* resolver.clear(get(1))
      yield* resolver.prime(get(2), 7)
      fibers.push(yield* start(load(1)), yield* start(load(2)))
      yield* settle
      yield* resolver.clearAll
      fibers.push(yield* start(load(3)), yield* start(load(4)))
      yield* settle
      yield* resolver.prime(get(2), 8)
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [10, 20, 30, 10, 7, 30, 40])
      assert.deepStrictEqual(calls, [[1, 2, 3, 4]])
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3, 4], load, unbounded), [10, 8, 30, 40])
      assert.strictEqual(calls.length, 1)
    }).pipe(Effect.provide(live(1))))

  it.effect("what a combinator of core makes of a resolver keeps its own batches, in the queue too", () =>
    Effect.gen(function*() {
      const { calls, resolver, round } = yield* store()
      const ask = (resolver: RequestResolver.RequestResolver<Get>, ids: ReadonlyArray<number>) =>
        Effect.tap(Effect.forEach(ids, (id) => start(Effect.request(get(id), resolver))), () => settle)
      const sizes: Array<number> = []
      const batchN = RequestResolver.batchN(resolver, 2)
      const grouped = RequestResolver.grouped(resolver, (entry) => entry.request.id % 2)
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
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), Array.range(1, 9).map((id) => id * 10))
      assert.deepStrictEqual(calls, [[1], [2, 3], [4, 6], [5], [7, 9], [8]])
      assert.deepStrictEqual(sizes, [1])
    }).pipe(Effect.provide(live(1))))

  it.effect("B5 what one loadMany brings is taken in in turns, and may leave or be ended between any two", () =>
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
    }).pipe(Effect.provide(live(1))))
})
