/** asynq: batches that are flushed when nothing else can advance. */
import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Order from "effect/Order"
import * as Request from "effect/Request"

class Bad extends Data.TaggedError("Bad")<{ readonly key: number }> {}
class Get extends Request.Class<{ readonly key: number }, number, Bad> {}
const unbounded = { concurrency: "unbounded" } as const

const live = Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
  Layer.provideMerge(Scheduler.layer({ concurrency: "unbounded" }))
)

/** A store that answers with ten times the key; negative keys fail. */
const store = Effect.gen(function*() {
  const flushes: Array<ReadonlyArray<number>> = []
  const resolver = yield* Batcher.ordered(Get, {
    execute: (requests) =>
      Effect.sync(() => {
        flushes.push(requests.map((_) => _.key))
        return requests.map(({ key }) => key < 0 ? Exit.fail(new Bad({ key })) : key * 10)
      })
  })
  return { flushes, get: (key: number) => Effect.request(new Get({ key }), resolver) }
})

describe("asynq", () => {
  it.effect("a chain of 11 dependent look-ups is 11 batches", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const chain = (n: number): Effect.Effect<number, Bad> =>
        n === 0 ? get(0) : Effect.flatMap(chain(n - 1), () => get(n))
      assert.strictEqual(yield* chain(10), 100)
      assert.strictEqual(flushes.length, 11)
    }).pipe(Effect.provide(live)))

  it.effect("a tree of 2^5 leaves is one flush", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const tree = (depth: number, at: number): Effect.Effect<ReadonlyArray<number>, Bad> =>
        depth === 0
          ? Effect.map(get(at), Array.of)
          : Effect.map(Effect.all([tree(depth - 1, 2 * at), tree(depth - 1, 2 * at + 1)], unbounded), Array.flatten)
      assert.deepStrictEqual(yield* tree(5, 0), Array.makeBy(32, (i) => i * 10))
      assert.deepStrictEqual(flushes, [Array.range(0, 31)])
    }).pipe(Effect.provide(live)))

  it.effect("tuples, lists and records of look-ups, nested, are one flush", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const result = yield* Effect.all({
        pair: Effect.all([get(1), get(2)], unbounded),
        list: Effect.forEach([3, 1], get, unbounded),
        value: Effect.succeed(7)
      }, unbounded)
      assert.deepStrictEqual(result, { pair: [10, 20], list: [30, 10], value: 7 })
      assert.deepStrictEqual(flushes, [[1, 2, 3]])
    }).pipe(Effect.provide(live)))

  it.effect("siblings finish before the first error is seen, where their exits are asked for", () =>
    Effect.gen(function*() {
      const { get } = yield* store
      const done: Array<number> = []
      const error = yield* Effect.flip(Effect.flatMap(
        Effect.forEach(
          [-1, 1, 2],
          (key) => Effect.exit(Effect.tap(Effect.map(get(key), () => key), (key) => Effect.sync(() => done.push(key)))),
          unbounded
        ),
        (exits) => Effect.all(exits)
      ))
      assert.deepStrictEqual(error, new Bad({ key: -1 }))
      assert.deepStrictEqual(done, [1, 2])
    }).pipe(Effect.provide(live)))

  it.effect("batches of several resolvers run side by side: theirs are flushed one after another", () =>
    Effect.gen(function*() {
      let running = 0
      let most = 0
      const slow = Batcher.ordered(Get, {
        execute: (requests) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            yield* Effect.yieldNow
            running--
            return requests.map((_) => _.key)
          })
      })
      const [a, b] = [yield* slow, yield* slow]
      yield* Effect.all([Effect.request(new Get({ key: 1 }), a), Effect.request(new Get({ key: 1 }), b)], unbounded)
      assert.strictEqual(most, 2)
    }).pipe(Effect.provide(live)))

  it.effect("identical items reach the backend once: theirs twice", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      yield* Effect.forEach([1, 1, 2, 1], get, unbounded)
      assert.deepStrictEqual(flushes, [[1, 2]])
    }).pipe(Effect.provide(live)))

  it.effect("batching works under promises: theirs does not under asyncio", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const run = Effect.runPromiseWith(yield* Effect.context<never>())
      const program = async (key: number): Promise<number> => {
        await Promise.resolve()
        return await run(get(key))
      }
      assert.deepStrictEqual(yield* Effect.promise(() => Promise.all([1, 2, 3].map(program))), [10, 20, 30])
      assert.deepStrictEqual(flushes, [[1, 2, 3]])
    }).pipe(Effect.provide(live)))

  it.effect("amap, afilter, afilterfalse, asift, asorted, amax and amin take one round each", () =>
    Effect.gen(function*() {
      const { flushes, get } = yield* store
      const keys = [2, 3, 1]
      const score = (key: number) => Effect.map(get(key), (value) => value % 30)
      const one = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.map(effect, (result) => {
          assert.strictEqual(flushes.splice(0).length, 1)
          return result
        })
      const keyed = Effect.forEach(keys, (key) => Effect.map(score(key), (score) => ({ key, score })), unbounded)
      const byScore = Order.mapInput(Order.Number, (_: { readonly score: number }) => _.score)

      assert.deepStrictEqual(yield* one(Effect.forEach(keys, score, unbounded)), [20, 0, 10])
      const positive = (key: number) => Effect.map(score(key), (_) => _ > 0)
      assert.deepStrictEqual(yield* one(Effect.filter(keys, positive, unbounded)), [2, 1])
      const nonPositive = (key: number) => Effect.map(positive(key), (_) => !_)
      assert.deepStrictEqual(yield* one(Effect.filter(keys, nonPositive, unbounded)), [3])
      const sifted = Effect.map(keyed, (all) => [all.filter((_) => _.score > 0), all.filter((_) => _.score <= 0)])
      assert.deepStrictEqual((yield* one(sifted)).map((_) => _.map((_) => _.key)), [[2, 1], [3]])
      const sorted = Effect.map(keyed, (all) => Array.sort(all, byScore).map((_) => _.key))
      assert.deepStrictEqual(yield* one(sorted), [3, 1, 2])
      const pick = (choose: typeof Array.max) =>
        Effect.map(keyed, (all) => Array.isArrayNonEmpty(all) ? choose(all, byScore).key : undefined)
      assert.strictEqual(yield* one(pick(Array.max)), 2)
      assert.strictEqual(yield* one(pick(Array.min)), 3)
    }).pipe(Effect.provide(live)))
})
