import { assert, describe, it } from "@effect/vitest"
import { Batcher, Reducer } from "effect-funnel"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { format } from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import { fork as start, settle, unbounded } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"
import { jobs, live } from "./support/lookups.ts"

class Get extends Request.TaggedClass("Get")<{ readonly id: number }, string> {}
const get = (id: number) => new Get({ id })

const both = (concurrency: number) => Layer.mergeAll(live({ concurrency }), Reducer.layer())

/** A resolver that notes its calls, and does what the test says before it answers. */
const store = (
  name: string,
  before: (
    ids: ReadonlyArray<number>,
    load: (id: number) => Effect.Effect<string>,
    call: number
  ) => Effect.Effect<unknown, never, Reducer.Reducer>
) =>
  Effect.gen(function*() {
    const calls: Array<ReadonlyArray<number>> = []
    const load = (id: number): Effect.Effect<string> => Effect.suspend(() => Effect.request(get(id), resolver))
    const resolver: RequestResolver<Get> = yield* Batcher.ordered(Get, {
      name,
      execute: (requests) => {
        const ids = requests.map((_) => _.id)
        calls.push(ids)
        return Effect.as(before(ids, load, calls.length), ids.map((id) => `${name} ${id}`))
      }
    })
    return { calls, load, resolver }
  })

type Store = Effect.Success<ReturnType<typeof store>>

const defect = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined

const idle = Effect.map(jobs, (_) => assert.deepStrictEqual(_, { running: 0, queued: 0 }))

/** Forks what nobody waits for, from within a batch, once. */
const once = (fork: Effect.Effect<Fiber.Fiber<string>>) => {
  const fibers: Array<Fiber.Fiber<string>> = []
  return {
    fibers,
    fork: Effect.suspend(() => fibers.length > 0 ? Effect.void : Effect.map(fork, (_) => fibers.push(_)))
  }
}

describe("B4 cycles", () => {
  for (const width of [1, 2]) {
    it.effect(`B4 a batch that waits for its own request asks once more and dies, with concurrency ${width}`, () =>
      Effect.gen(function*() {
        for (const wait of ["itself", "a child", "a detached fiber"] as const) {
          const { calls, load, resolver } = yield* store("users", ([id], load) =>
            wait === "itself"
              ? load(id!)
              : wait === "a child"
              ? Effect.flatMap(Effect.forkChild(load(id!)), Fiber.join)
              : Effect.flatMap(Effect.forkDetach(load(id!)), (fiber) => Effect.andThen(settle, Fiber.join(fiber))))
          const died = defect(yield* Effect.exit(load(7)))
          assert.instanceOf(died, Batcher.BatcherError, wait)
          assert.deepInclude(died.reason, { _tag: "LookupCycle", resolver: "users" })
          assert.strictEqual(
            died.message,
            `users: the look-up of ${format(get(7))} would wait for itself: users 7 -> users 7 -> users 7`
          )
          assert.deepStrictEqual(calls, [[7], [7]], wait)
          assert.strictEqual(leftIn(resolver), "")
          yield* idle
        }
      }).pipe(Effect.provide(both(width))))

    it.effect(`B4 a detached look-up in a batch gets its answer, joined or not, with concurrency ${width}`, () =>
      Effect.gen(function*() {
        for (const joined of [false, true]) {
          const { calls, load, resolver } = yield* store("users", ([id], load, call) => {
            detached ??= once(Effect.forkDetach(load(id!)))
            const self = detached
            return Effect.andThen(
              self.fork,
              joined && call === 1
                ? Effect.andThen(settle, Effect.suspend(() => Fiber.join(self.fibers[0]!)))
                : settle
            )
          })
          let detached: ReturnType<typeof once> | undefined
          assert.strictEqual(yield* load(1), "users 1")
          assert.strictEqual(yield* Fiber.join(detached!.fibers[0]!), "users 1")
          assert.deepStrictEqual(calls, [[1], [1]])
          yield* settle
          assert.strictEqual(leftIn(resolver), "")
          yield* idle
        }
      }).pipe(Effect.provide(both(width))))
  }

  it.effect("B4 requests of loadMany that close a cycle are asked anew together, and the others join", () =>
    Effect.gen(function*() {
      const { calls, resolver }: Store = yield* store("users", (ids, _, call): Effect.Effect<unknown> =>
        call > 1
          ? Effect.void
          : Effect.flatMap(Effect.forkDetach(Batcher.loadMany([...ids, 9].map(get), resolver)), Fiber.join))
      assert.deepStrictEqual(yield* Batcher.loadMany([1, 2].map(get), resolver), ["users 1", "users 2"])
      assert.deepStrictEqual(calls.map((ids) => ids.join()).sort(), ["1,2", "1,2", "9"])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(both(1))))

  it.effect("B4 a cycle names three requests of a batch, and how many more it has", () =>
    Effect.gen(function*() {
      const { load } = yield* store("users", ([id], load) => load(id!))
      const [exit] = yield* Effect.forEach([1, 2, 3, 4, 5], (id) => Effect.exit(load(id)), unbounded)
      assert.include(String(defect(exit!)), "users 1 -> users [1,2,3,\"and 2 more\"] -> users 1")
    }).pipe(Effect.provide(both(2))))

  it.effect("B4 a request that is asked anew is not joined, and a caller that leaves it takes no other along", () =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      const forks: Array<Fiber.Fiber<string>> = []
      const { calls, load, resolver } = yield* store(
        "users",
        ([id], load, call) =>
          call > 1 ? Deferred.await(go) : Effect.andThen(
            Effect.forEach([1, 2], () => Effect.map(Effect.forkDetach(load(id!)), (_) => forks.push(_))),
            Deferred.await(go)
          )
      )
      const first = yield* start(load(1))
      yield* settle
      const joiner = yield* start(load(1))
      yield* settle
      assert.deepStrictEqual(calls, [[1], [1]])
      yield* Fiber.interrupt(forks[0]!)
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(go, undefined)
      assert.strictEqual(yield* Fiber.join(joiner), "users 1")
      assert.strictEqual(yield* Fiber.join(forks[1]!), "users 1")
      yield* settle
      assert.strictEqual(leftIn(resolver), "")
      yield* idle
    }).pipe(Effect.provide(both(1))))

  it.effect("B4 a look-up inside Reducer.detached belongs to no batch, and joins the batch around it", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* store(
        "users",
        ([id], load) => Effect.andThen(detached ??= once(Effect.forkDetach(Reducer.detached(load(id!)))).fork, settle)
      )
      let detached: Effect.Effect<unknown> | undefined
      assert.strictEqual(yield* load(1), "users 1")
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(both(1))))
})

describe("R7 cycles through batches", () => {
  it.effect("R7 a batch that waits for a run that looks up the same dies, and names both", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store("users", ([id], load) => Reducer.reduce("k", load(id!)))
      const died = defect(yield* Effect.exit(load(7)))
      assert.match(String(died), /: users 7 -> a job of effect-funnel\/Scheduler -> "k" -> users 7$/)
      assert.isAtMost(calls.length, 2)
      assert.strictEqual(leftIn(resolver), "")
      assert.deepStrictEqual(yield* Reducer.inFlight, [])
    }).pipe(Effect.provide(both(1))))

  it.effect("B4 a run joins a batch that no longer waits for the run", () =>
    Effect.gen(function*() {
      const leave = yield* Deferred.make<void>()
      const look = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const { calls, load } = yield* store("users", ([id], load) =>
        Effect.andThen(
          Effect.raceFirst(
            Reducer.reduce("w", Effect.andThen(Deferred.await(look), load(id!))),
            Deferred.await(leave)
          ),
          Deferred.await(go)
        ))
      const first = yield* start(load(1))
      yield* settle
      const outside = yield* start(Reducer.reduce("w", Effect.succeed("own")))
      yield* Deferred.succeed(leave, undefined)
      yield* settle
      yield* Deferred.succeed(look, undefined)
      yield* settle
      yield* Deferred.succeed(go, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll([first, outside]), ["users 1", "users 1"])
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(both(1))))
})

describe("the name of a resolver in errors", () => {
  class Users extends Batcher.Resolver<Users>()(
    "app/Users",
    Batcher.ordered(Get, { execute: () => Effect.succeed([]) })
  ) {}

  it.effect("B4 errors name a resolver by its name, else its service, else its requests", () =>
    Effect.gen(function*() {
      const message = (load: Effect.Effect<unknown>) => Effect.map(Effect.exit(load), (exit) => String(defect(exit)))
      const named = yield* Batcher.ordered(Get, { name: "users", execute: () => Effect.succeed([]) })
      const bare = yield* Batcher.ordered(Get, { execute: () => Effect.succeed([]) })
      const users = yield* Users
      assert.deepStrictEqual(
        yield* Effect.forEach([named, users, bare], (resolver) => message(Effect.request(get(1), resolver))),
        ["users", "app/Users", "Get"].map((name) => `BatcherError: ${name}: execute answered 1 requests with 0 results`)
      )
    }).pipe(Effect.provide(Users.layer.pipe(Layer.provideMerge(both(1))))))
})
