/** What DataLoader, Haxl and ZIO Query promise their users, and what they ask for in vain. */
import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"

class Failed extends Data.TaggedError("Failed")<{ readonly key: string | number }> {}
class Load extends Request.Class<{ readonly key: string | number }, string, Failed> {}
const load = (key: string | number) => new Load({ key })
const unbounded = { concurrency: "unbounded" } as const

const live = Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
  Layer.provideMerge(Scheduler.layer({ concurrency: "unbounded" }))
)

type Keys = ReadonlyArray<string | number>

/** An identity loader that notes its calls; a key of "bad" fails alone. */
const loader = (
  options: { readonly maxBatchSize?: number; readonly cache?: boolean; readonly gate?: Effect.Effect<void> } = {}
) =>
  Effect.gen(function*() {
    const calls: Array<Keys> = []
    const common = {
      maxBatchSize: options.maxBatchSize,
      execute: (requests: ReadonlyArray<Load>) =>
        Effect.suspend(() => {
          calls.push(requests.map((_) => _.key))
          return Effect.as(
            options.gate ?? Effect.void,
            requests.map((_) => _.key === "bad" ? Exit.fail(new Failed({ key: _.key })) : `value of ${_.key}`)
          )
        })
    }
    const resolver = yield* Batcher.ordered(Load, {
      ...common,
      cache: { capacity: 1_000, timeToLive: () => options.cache === true ? Infinity : 0 }
    })
    return { calls, resolver, get: (key: string | number) => Effect.request(load(key), resolver) }
  })

describe("DataLoader", () => {
  it.effect("a really simple loader: one call, one key", () =>
    Effect.gen(function*() {
      const { calls, get } = yield* loader()
      assert.strictEqual(yield* get(1), "value of 1")
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live)))

  it.effect("many keys in one call, in order, also through loadMany, also the empty list", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* loader()
      assert.deepStrictEqual(yield* Batcher.loadMany([load(1), load(2)], resolver), ["value of 1", "value of 2"])
      assert.deepStrictEqual(yield* Batcher.loadMany([], resolver), [])
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live)))

  it.effect("loadMany with errors in the list: loadManyExit", () =>
    Effect.gen(function*() {
      const { resolver } = yield* loader()
      assert.deepStrictEqual(yield* Batcher.loadManyExit(["a", "b", "bad"].map(load), resolver), [
        Exit.succeed("value of a"),
        Exit.succeed("value of b"),
        Exit.fail(new Failed({ key: "bad" }))
      ])
    }).pipe(Effect.provide(live)))

  it.effect("26 keys at a maximum of 3 are 9 calls, the last of 2", () =>
    Effect.gen(function*() {
      const { calls, get } = yield* loader({ maxBatchSize: 3 })
      yield* Effect.forEach(Array.range(1, 26), get, unbounded)
      assert.strictEqual(calls.length, 9)
      assert.deepStrictEqual(calls[8], [25, 26])
    }).pipe(Effect.provide(live)))

  it.effect("equal keys are one even without a cache: theirs reach the backend twice", () =>
    Effect.gen(function*() {
      const { calls, get } = yield* loader()
      yield* Effect.forEach(["A", "B", "A"], get, unbounded)
      yield* get("A")
      assert.deepStrictEqual(calls, [["A", "B"], ["A"]])
    }).pipe(Effect.provide(live)))

  it.effect("with a cache: loaded once, cleared once, all cleared, primed", () =>
    Effect.gen(function*() {
      const { calls, get, resolver } = yield* loader({ cache: true })
      const both = Effect.forEach(["A", "B"], get, unbounded)
      yield* both
      yield* both
      assert.deepStrictEqual(calls.splice(0), [["A", "B"]])
      yield* resolver.clear(load("A"))
      yield* both
      assert.deepStrictEqual(calls.splice(0), [["A"]])
      yield* resolver.clearAll
      yield* both
      assert.deepStrictEqual(calls.splice(0), [["A", "B"]])
      yield* resolver.prime(load("A"), "primed")
      assert.deepStrictEqual(yield* both, ["primed", "value of B"])
      yield* resolver.prime(load("C"), Exit.fail(new Failed({ key: "C" })))
      assert.deepStrictEqual(yield* Effect.exit(get("C")), Exit.fail(new Failed({ key: "C" })))
      assert.deepStrictEqual(calls, [])
    }).pipe(Effect.provide(live)))

  it.effect("a failing key fails alone; a failing batch fails its keys, and no later one", () =>
    Effect.gen(function*() {
      const { get } = yield* loader()
      const exits = yield* Effect.forEach([1, "bad"], (key) => Effect.exit(get(key)), unbounded)
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false])
      let calls = 0
      const broken = yield* Batcher.ordered(Load, {
        execute: (requests) =>
          ++calls === 1 ? Effect.fail(new Failed({ key: "all" })) : Effect.succeed(requests.map(() => "fine"))
      })
      const all = yield* Batcher.loadManyExit([load(1), load(2)], broken)
      assert.deepStrictEqual(all, [Exit.fail(new Failed({ key: "all" })), Exit.fail(new Failed({ key: "all" }))])
      assert.strictEqual(yield* Effect.request(load(1), broken), "fine")
    }).pipe(Effect.provide(live)))

  it.effect("keys that are objects are found by their contents: theirs need a cacheKeyFn", () =>
    Effect.gen(function*() {
      class At extends Request.Class<{ readonly point: { readonly x: number; readonly y: number } }, string> {}
      let asked = 0
      const resolver = yield* Batcher.ordered(At, {
        execute: (requests) => {
          asked += requests.length
          return Effect.succeed(requests.map((_) => `${_.point.x}/${_.point.y}`))
        }
      })
      const points = [{ x: 1, y: 2 }, { y: 2, x: 1 }, { x: 2, y: 1 }].map((point) => new At({ point }))
      assert.deepStrictEqual(yield* Batcher.loadMany(points, resolver), ["1/2", "1/2", "2/1"])
      assert.strictEqual(asked, 2)
    }).pipe(Effect.provide(live)))

  it.effect("loads that other loads lead to are batched with each other: two loaders, two calls each", () =>
    Effect.gen(function*() {
      const a = yield* loader()
      const b = yield* loader()
      yield* Effect.forEach(["1", "2"], (key) => Effect.flatMap(a.get(key), (value) => b.get(value)), unbounded)
      assert.deepStrictEqual(a.calls, [["1", "2"]])
      assert.deepStrictEqual(b.calls, [["value of 1", "value of 2"]])
    }).pipe(Effect.provide(live)))

  it.effect("a batch of the wrong length fails with both numbers", () =>
    Effect.gen(function*() {
      const resolver = yield* Batcher.ordered(Load, { execute: () => Effect.succeed([]) })
      const exit = yield* Effect.exit(Effect.request(load(1), resolver))
      assert.include(String(Exit.isFailure(exit) && exit.cause), "1 requests with 0 results")
    }).pipe(Effect.provide(live)))
})

describe("Haxl and ZIO Query", () => {
  it.effect("15,000 users in one call", () =>
    Effect.gen(function*() {
      const { calls, get } = yield* loader()
      yield* Effect.forEach(Array.range(1, 15_000), get, { ...unbounded, discard: true })
      assert.deepStrictEqual(calls.map((_) => _.length), [15_000])
    }).pipe(Effect.provide(live)))

  it.effect("100,000 look-ups in one list do not overflow the stack", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* loader()
      const loaded = yield* Batcher.loadMany(Array.makeBy(100_000, load), resolver)
      assert.strictEqual(loaded[99_999], "value of 99999")
      assert.strictEqual(calls.length, 1)
    }).pipe(Effect.provide(live)))

  it.effect("a source that fails never fails another", () =>
    Effect.gen(function*() {
      const good = yield* loader()
      const bad = yield* Batcher.ordered(Load, { execute: () => Effect.die("down") })
      const [one, two] = yield* Effect.all(
        [Effect.exit(good.get(1)), Effect.exit(Effect.request(load(1), bad))],
        unbounded
      )
      assert.deepStrictEqual(one, Exit.succeed("value of 1"))
      assert.deepStrictEqual(two, Exit.die("down"))
    }).pipe(Effect.provide(live)))

  it.effect("the loser of a race is interrupted, its backend call with it", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const slow = yield* loader({
        gate: Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      })
      const fast = yield* loader()
      assert.strictEqual(yield* Effect.race(slow.get(1), fast.get(2)), "value of 2")
      yield* Deferred.await(interrupted)
    }).pipe(Effect.provide(live)))

  it.effect("a look-up that is interrupted leaves those who asked for the same alone", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, get } = yield* loader({ gate: Deferred.await(gate) })
      const fibers = yield* Effect.forEach([1, 1], (key) => Effect.forkChild(get(key), { startImmediately: true }))
      yield* Effect.forEach(Array.range(1, 10), () => Effect.yieldNow)
      yield* Fiber.interrupt(fibers[0]!)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(fibers[1]!), "value of 1")
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live)))
})
