/** What asynq has beside its batches, and what stands for it here or in effect. */
import { describe, expect, it } from "@effect/vitest"
import {
  Cache,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  PubSub,
  Request,
  RequestResolver,
  Stream
} from "effect"
import { Batcher, Reducer, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })
const settle = Effect.forEach(Array.from({ length: 40 }), () => Effect.yieldNow, { discard: true })
const unbounded = { concurrency: "unbounded" } as const

class Get extends Request.Class<{ readonly key: number }, number> {}

const live = (options?: Batcher.Options, concurrency: number | "unbounded" = "unbounded") =>
  Batcher.layer({ ...options, scheduler: Scheduler.Scheduler }).pipe(
    Layer.provideMerge(Scheduler.layer({ concurrency }))
  )

const store = Effect.gen(function*() {
  const flushes: Array<ReadonlyArray<number>> = []
  const resolver = yield* Batcher.ordered(Get, {
    execute: (requests) =>
      Effect.sync(() => {
        flushes.push(requests.map((_) => _.key))
        return requests.map((_) => _.key * 10)
      })
  })
  return { flushes, resolver, get: (key: number) => Effect.request(new Get({ key }), resolver) }
})

describe("asynq: batches", () => {
  it.effect("DebugBatch and debug.sync, which line a batch up: a window of TestClock's time", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const fibers = yield* Effect.forEach([1, 2, 3], (key) => fork(Effect.delay(get(key), key * 1_000)))
      yield* TestClock.adjust("59 minutes")
      expect(flushes).toEqual([])
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.joinAll(fibers)).toEqual([10, 20, 30])
      expect(flushes).toEqual([[1, 2, 3]])
    }).pipe(Effect.provide(live({ window: "1 hour" }))))

  it.effect("hooks before and after a flush: RequestResolver.around", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const { resolver } = yield* store
      const hooked = RequestResolver.around(
        resolver,
        (entries) => Effect.sync(() => told.push(`before ${entries.length}`)),
        (entries) => Effect.sync(() => told.push(`after ${entries.length}`))
      )
      yield* Effect.forEach([1, 2], (key) => Effect.request(new Get({ key }), hooked), unbounded)
      yield* settle
      expect(told).toEqual(["before 2", "after 2"])
    }).pipe(Effect.provide(live())))

  it.effect("priorities of batches: those of the jobs that wait for them", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const gate = Latch.makeUnsafe()
      const busy = yield* fork(Scheduler.schedule(gate.await))
      const later = yield* fork(Scheduler.schedule(get(1), { priority: 0 }))
      const sooner = yield* fork(Scheduler.schedule(get(2), { priority: 1 }))
      yield* gate.open
      yield* Fiber.joinAll([later, sooner])
      yield* Fiber.join(busy)
      expect(flushes).toEqual([[2], [1]])
    }).pipe(Effect.provide(live({}, 1))))

  it.effect("_cancel: a batch that nobody waits for any more is not flushed", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const fibers = [yield* fork(get(1)), yield* fork(get(2))]
      yield* Fiber.interruptAll(fibers)
      yield* settle
      expect(flushes).toEqual([])
    }).pipe(Effect.provide(live())))
})

describe("asynq: caches, where five misses are five runs", () => {
  it.effect("acached_per_instance and alru_cache: Cache, one run for five misses", () =>
    Effect.gen(function*() {
      let runs = 0
      const lookup = (key: number) => Effect.as(Effect.andThen(Effect.sync(() => runs++), Effect.yieldNow), key)
      const cache = yield* Cache.make({ capacity: 10, timeToLive: "1 minute", lookup })
      expect(yield* Effect.forEach([1, 1, 1, 1, 1], (key) => Cache.get(cache, key), unbounded)).toEqual([1, 1, 1, 1, 1])
      expect(runs).toBe(1)
    }))

  it.effect("alazy_constant with its dirty: cachedInvalidateWithTTL, one run until it is dirty or old", () =>
    Effect.gen(function*() {
      let runs = 0
      const constant = Effect.andThen(Effect.yieldNow, Effect.sync(() => ++runs))
      const [get, dirty] = yield* Effect.cachedInvalidateWithTTL(constant, "1 minute")
      expect(yield* Effect.all([get, get, get], unbounded)).toEqual([1, 1, 1])
      yield* dirty
      expect(yield* get).toBe(2)
      yield* TestClock.adjust("2 minutes")
      expect(yield* get).toBe(3)
    }))

  it.effect("aretry: Effect.retry inside of reduce, one series of attempts for five callers", () =>
    Effect.gen(function*() {
      let attempts = 0
      const flaky = Effect.suspend(() => ++attempts < 3 ? Effect.fail("not yet") : Effect.succeed("there"))
      const call = Reducer.reduce("key", Effect.retry(Effect.andThen(Effect.yieldNow, flaky), { times: 5 }))
      expect(new Set(yield* Effect.all([call, call, call, call, call], unbounded))).toEqual(new Set(["there"]))
      expect(attempts).toBe(3)
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("deduplicate: Reducer.fn; its dirty is forget; a call of itself dies instead of hanging", () =>
    Effect.gen(function*() {
      const ends = [yield* Deferred.make<string>(), yield* Deferred.make<string>()]
      let runs = 0
      const load = Reducer.fn("load")((_: string) => Effect.suspend(() => Deferred.await(ends[runs++]!)))
      const before = [yield* fork(load("a")), yield* fork(load("a"))]
      yield* Reducer.forget(load, "a")
      const after = yield* fork(load("a"))
      yield* Deferred.succeed(ends[0]!, "old")
      yield* Deferred.succeed(ends[1]!, "new")
      expect(yield* Fiber.joinAll([...before, after])).toEqual(["old", "old", "new"])

      const again: (n: number) => Effect.Effect<number, never, Reducer.Reducer> = Reducer.fn("again")((n: number) =>
        Effect.suspend(() => again(n))
      )
      expect(Exit.hasDies(yield* Effect.exit(again(1)))).toBe(true)
    }).pipe(Effect.provide(Reducer.layer())))
})

describe("asynq: contexts, events, generators, mocks", () => {
  it.effect("AsyncScopedValue and async_override: a Context.Reference is its fiber's own, across a batch too", () =>
    Effect.gen(function*() {
      const Locale = Context.Reference("test/Locale", { defaultValue: () => "en" })
      const { flushes, get } = yield* store
      const page = (key: number) => Effect.flatMap(get(key), (value) => Effect.map(Locale, (_) => `${value} ${_}`))
      const pages = yield* Effect.all([page(1), Effect.provideService(page(2), Locale, "de"), page(3)], unbounded)
      expect(pages).toEqual(["10 en", "20 de", "30 en"])
      expect(flushes).toEqual([[1, 2, 3]])
    }).pipe(Effect.provide(live())))

  it.effect("AsyncTimer: Effect.timed", () =>
    Effect.gen(function*() {
      const fiber = yield* fork(Effect.timed(Effect.sleep("3 seconds")))
      yield* TestClock.adjust("3 seconds")
      expect(Duration.toSeconds((yield* Fiber.join(fiber))[0])).toBe(3)
    }))

  it.effect("AsyncEventHook: a PubSub, every subscriber is told", () =>
    Effect.scoped(Effect.gen(function*() {
      const hook = yield* PubSub.unbounded<string>()
      const handlers = [yield* PubSub.subscribe(hook), yield* PubSub.subscribe(hook)]
      yield* PubSub.publish(hook, "changed")
      expect(yield* Effect.forEach(handlers, (handler) => PubSub.take(handler))).toEqual(["changed", "changed"])
    })))

  it.effect("async generators and take_first: a Stream, and no item is made that is not taken", () =>
    Effect.gen(function*() {
      let made = 0
      const naturals = Stream.fromIterable({
        *[Symbol.iterator]() {
          for (;;) yield made++
        }
      }, { chunkSize: 1 })
      const squares = naturals.pipe(Scheduler.mapEffect((n) => Effect.succeed(n * n)), Stream.take(3))
      expect(yield* Stream.runCollect(squares)).toEqual([0, 1, 4])
      expect(made).toBeLessThanOrEqual(5)
    }).pipe(Effect.provide(Scheduler.layer({ concurrency: 1 }))))

  it.effect("mock.patch: another layer of the same tag, Layer.mock where only a part is needed", () =>
    Effect.gen(function*() {
      class Mail extends Context.Service<Mail, {
        readonly send: (to: string) => Effect.Effect<string>
        readonly drop: Effect.Effect<void>
      }>()("test/Mail") {}
      const program = Mail.use((_) => _.send("ada"))
      const mock = Layer.mock(Mail, { send: (to) => Effect.succeed(`to ${to}`) })
      expect(yield* Effect.provide(program, mock)).toBe("to ada")
    }))
})
