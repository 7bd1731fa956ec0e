import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { fork as start, settle } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.js"

class Broken extends Data.TaggedError("Broken")<{}> {}
class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
class Get extends Request.TaggedClass("Get")<{ readonly id: number }, string, Broken, Tenant> {}
const get = (id: number) => new Get({ id })
const live = (options?: Batcher.Options, concurrency: number | "unbounded" = "unbounded") =>
  Layer.mergeAll(
    Batcher.layer({ ...options, scheduler: Scheduler.Scheduler }).pipe(
      Layer.provideMerge(Scheduler.layer({ concurrency }))
    ),
    Layer.succeed(Tenant, "a")
  )

type Options = Partial<Parameters<typeof Batcher.ordered<Get, never, [typeof Tenant], number>>[1]> & {
  readonly gate?: Effect.Effect<void, Broken> | undefined
}

/** A resolver that notes its calls. */
const store = ({ gate, ...options }: Options = {}) =>
  Effect.gen(function*() {
    const calls: Array<ReadonlyArray<number>> = []
    const resolver = yield* Batcher.ordered(Get, {
      execute: (requests) =>
        Effect.suspend(() => {
          calls.push(requests.map((_) => _.id))
          return Effect.as(gate ?? Effect.void, requests.map((_) => `value of ${_.id}`))
        }),
      ...options
    })
    const load = (id: number) => Effect.request(get(id), resolver)
    const startAll = (...ids: ReadonlyArray<number>) => Effect.forEach(ids, (id) => start(load(id)))
    return { calls, load, resolver, startAll }
  })

describe("B2 equal look-ups that come while a batch collects", () => {
  it.effect("canary: core asks a resolver on the resolver itself, and leaves an entry whose key has no batch where it is", () =>
    Effect.gen(function*() {
      const asked: Array<unknown> = []
      let away = false
      const ran: Array<ReadonlyArray<number>> = []
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

  it.effect("B2 they keep the window open as others do", () =>
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

  it.effect("B4 a batch that joined what is collected waits for it: what would wait for that batch in turn is asked anew, and dies there", () =>
    Effect.gen(function*() {
      const inside: Array<Exit.Exit<string, Broken>> = []
      const go = yield* Deferred.make<void>()
      const ask = (id: number): Effect.Effect<string, Broken, Tenant> => load(id)
      const { calls, load } = yield* store({
        execute: (requests) =>
          Effect.gen(function*() {
            const ids = requests.map((_) => _.id)
            calls.push(ids)
            if (ids.includes(1)) {
              yield* Deferred.await(go)
              inside.push(yield* Effect.exit(Effect.provideService(ask(2), Tenant, "a")))
            }
            if (ids.includes(2)) inside.push(yield* Effect.exit(Effect.provideService(ask(1), Tenant, "a")))
            return ids.map((id) => `value of ${id}`)
          })
      })
      const one = yield* start(load(1))
      yield* settle
      const two = yield* start(load(2))
      yield* Deferred.succeed(go, undefined)
      assert.strictEqual(yield* Fiber.join(one), "value of 1")
      assert.strictEqual(yield* Fiber.join(two), "value of 2")
      assert.deepStrictEqual(calls, [[1], [2], [1]])
      assert.deepStrictEqual(inside.map(Exit.hasDies), [true, false, false])
    }).pipe(Effect.provide(live({}, 2))))

  it.effect("B5 jobs inside jobs that join what is collected for others do not wait for their own permits", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store({ isolate: [Tenant] })
      const nested = Scheduler.schedule(Effect.andThen(Scheduler.schedule(load(1)), Scheduler.schedule(load(2))))
      for (let turns = 0; turns < 6; turns++) {
        const first = yield* start(load(1))
        const jobs = yield* Effect.forEach(Array.range(1, 3), () => start(nested))
        for (let i = 0; i < turns; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(first)
        for (const values of yield* Fiber.joinAll(jobs)) assert.strictEqual(values, "value of 2")
        assert.strictEqual(leftIn(resolver), "")
      }
      assert.isAbove(calls.length, 0)
      assert.deepStrictEqual(yield* Effect.map(Scheduler.stats, (_) => [_.running, _.queued]), [0, 0])
    }).pipe(Effect.provide(live({}, 1))))

  it.effect("B6 what is primed while it is collected stays, and those who wait get the answer", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* Effect.gen(function*() {
        const calls: Array<number> = []
        const resolver = yield* Batcher.ordered(Get, {
          execute: (requests) => Effect.sync(() => requests.map((_) => `asked ${calls.push(_.id)}`)),
          cache: { capacity: 10, timeToLive: () => "1 hour" }
        })
        return { calls, resolver, load: (id: number) => Effect.request(get(id), resolver) }
      })
      const waiting = yield* Effect.forEach([1, 1], (id) => start(load(id)))
      yield* resolver.prime(get(1), "primed")
      assert.deepStrictEqual(yield* Fiber.joinAll(waiting), ["asked 1", "asked 1"])
      assert.strictEqual(yield* load(1), "primed")
      assert.deepStrictEqual(calls, [1])
    }).pipe(Effect.provide(live())))

  it.effect("B6 B7 what has expired is asked for again, once for all of a tenant, when nothing else is kept for it", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store({
        isolate: [Tenant],
        cache: { capacity: 10, timeToLive: () => "1 minute" }
      })
      yield* load(1)
      yield* TestClock.adjust("1 hour")
      const fibers = yield* Effect.forEach([1, 1, 2], (id) => start(load(id)))
      yield* settle
      assert.deepStrictEqual(calls, [[1], [1, 2]])
      yield* Fiber.joinAll(fibers)
      yield* TestClock.adjust("1 hour")
      yield* Batcher.loadMany([1, 2].map(get), resolver)
      assert.deepStrictEqual(calls, [[1], [1, 2], [1, 2]])
    }).pipe(Effect.provide(live())))

  it.effect("B2 what loadMany and others bring to a batch that waits is one request, which is joined while it runs", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load, resolver } = yield* store({ gate: Deferred.await(gate) })
      yield* Scheduler.pause
      const waiting = yield* start(load(1))
      yield* settle
      const many = yield* start(Batcher.loadMany([2, 3].map(get), resolver))
      const single = yield* start(load(2))
      yield* settle
      yield* Scheduler.resume
      yield* settle
      const late = yield* start(load(2))
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.joinAll([waiting, single, late])
      assert.deepStrictEqual(yield* Fiber.join(many), ["value of 2", "value of 3"])
      assert.deepStrictEqual(calls, [[1, 2, 3]])
    }).pipe(Effect.provide(live())))

  it.effect("what a combinator of core collects does not wait for the window of the resolver itself", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store()
      const slow = yield* Effect.forEach([1, 1], (id) => start(load(id)))
      const quick = RequestResolver.batchN(resolver, 1)
      assert.strictEqual(yield* Effect.request(get(1), quick), "value of 1")
      assert.deepStrictEqual(calls, [[1]])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* Fiber.joinAll(slow), ["value of 1", "value of 1"])
      assert.deepStrictEqual(calls, [[1], [1]])
    }).pipe(Effect.provide(live({ window: "1 hour" }))))
})

describe("B3 leaving what is collected", () => {
  it.effect("B3 what all have left is not asked for, in whatever order they go; one that comes back comes last", () =>
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

  it.effect("B3 who comes after all have left, the first before the others, has a window of its own", () =>
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
        assert.strictEqual(yield* Fiber.join(late), "value of 1")
      }
    }).pipe(Effect.provide(live({ window: "1 hour" }))))

  it.effect("B3 one that sends the batch while it leaves is not asked for in it", () =>
    Effect.gen(function*() {
      const { calls, resolver, startAll } = yield* store({ maxBatchSize: 3 })
      const context = yield* Effect.context<Tenant>()
      const ask = (id: number, onExit: () => void) => Effect.requestUnsafe(get(id), { resolver, context, onExit })
      const leave = ask(1, () => [3, 4].forEach((id) => ask(id, () => {})))
      const [two] = yield* startAll(2)
      leave()
      assert.strictEqual(yield* Fiber.join(two!), "value of 2")
      assert.deepStrictEqual(calls, [[2, 3, 4]])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ window: "1 hour" }))))

  for (const stays of [[], [4]]) {
    it.effect(`B3 what found no room in a batch, and is left when that one starts, ${stays.length === 0 ? "is nothing to run for" : "is not asked for, and who comes back asks anew"}`, () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const calls: Array<ReadonlyArray<number>> = []
        const { load, resolver, startAll } = yield* store({
          maxBatchSize: 3,
          execute: (requests) =>
            Effect.suspend(() => {
              const ids = requests.map((_) => _.id)
              calls.push(ids)
              return Effect.as(ids.includes(4) ? Deferred.await(gate) : Effect.void, ids.map((id) => `value of ${id}`))
            })
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
        assert.strictEqual(yield* Fiber.join(back), "value of 3")
        yield* settle
        assert.strictEqual(leftIn(resolver), "")
      }).pipe(Effect.provide(live({}, 2))))
  }

  for (const ops of [3, 4, 5, 6, 7]) {
    it.effect(`B3 callers in fibers that yield after ${ops - 2} operations come and leave in any step of a batch, and nobody is lost`, () =>
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
          for (const fiber of [...stay, late]) assert.strictEqual(yield* Fiber.join(fiber), "value of 1")
          for (let i = 0; i < 40; i++) yield* Effect.yieldNow
          assert.strictEqual(leftIn(resolver), "")
        }
        assert.deepStrictEqual(yield* Effect.map(Scheduler.stats, (_) => [_.running, _.queued]), [0, 0])
      }).pipe(Effect.provideService(MaxOpsBeforeYield, ops), Effect.provide(live({}, 1))))
  }

  it.effect("B3 loadMany and a resolver that is closed leave nothing behind", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { resolver } = yield* Scope.provide(store({ isolate: [Tenant] }), scope)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(Batcher.loadMany([1, 2].map(get), resolver))))
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live())))

  it.effect("B3 one that leaves twice does not take the others with it", () =>
    Effect.gen(function*() {
      const { calls, resolver, startAll } = yield* store()
      const context = yield* Effect.context<Tenant>()
      const exits: Array<Exit.Exit<string, Broken>> = []
      const leave = Effect.requestUnsafe(get(1), { resolver, context, onExit: (exit) => exits.push(exit) })
      const [other] = yield* startAll(1)
      leave()
      leave()
      assert.strictEqual(yield* Fiber.join(other!), "value of 1")
      leave()
      assert.deepStrictEqual(calls, [[1]])
      assert.isTrue(exits.length === 1 && Exit.hasInterrupts(exits[0]!))
    }).pipe(Effect.provide(live())))

  it.effect("B3 100,000 who ask for the same come and leave in linear time, the first before the others", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store()
      const fibers = yield* Effect.forEach(Array.range(1, 100_000), () => start(load(1)))
      const [stays, ...leavers] = [fibers[50_000]!, ...fibers.slice(0, 50_000), ...fibers.slice(50_001)]
      for (const fiber of leavers) fiber.interruptUnsafe()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(stays!), "value of 1")
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live({ window: "1 hour" }))))
})
