import { assert, describe, it } from "@effect/vitest"
import { Batcher, RateLimiter, Scheduler } from "effect-funnel"
import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
import * as RedisLayer from "effect-funnel/redis/Redis"
import * as Array from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redis from "effect/persistence/Redis"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type * as Tracer from "effect/Tracer"
import { fork as start, settle, unbounded } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"
import * as Lookups from "./support/lookups.ts"
import { Broken, live, store } from "./support/lookups.ts"

class NotFound extends Data.TaggedError("NotFound")<{ readonly id: number }> {}

interface User {
  readonly id: number
  readonly name: string
}

class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, User, NotFound | Broken> {}

const user = (id: number): User => ({ id, name: `user ${id}` })
const missing = (request: GetUser) => Exit.fail(new NotFound({ id: request.id }))
const get = (id: number) => new GetUser({ id })

type UserOptions =
  & Partial<Batcher.FindByIdOptions<GetUser, number, User, never> & Batcher.ResolverOptions<GetUser, []>>
  & {
    readonly gate?: Effect.Effect<void, Broken> | undefined
  }

/** A resolver that notes its calls; ids from 1,000 on do not exist. */
const users = ({ gate = Effect.void, ...options }: UserOptions = {}) =>
  Effect.gen(function*() {
    const calls: Array<ReadonlyArray<number>> = []
    const interrupted: Array<ReadonlyArray<number>> = []
    const made = yield* Batcher.findById(GetUser, {
      id: (_) => _.id,
      execute: (ids) =>
        Effect.suspend(() => {
          calls.push(ids)
          return Effect.as(gate, ids.filter((id) => id < 1_000).map(user)).pipe(
            Effect.onInterrupt(() => Effect.sync(() => interrupted.push(ids)))
          )
        }),
      resultId: (_) => _.id,
      missing,
      ...options
    })
    // Sound: only tests that give `cache` use its operations.
    const resolver = made as Batcher.CachedResolver<GetUser>
    const load = (id: number) => Effect.request(get(id), resolver)
    const startAll = (...ids: ReadonlyArray<number>) => Effect.forEach(ids, (id) => start(load(id)))
    return { calls, interrupted, load, resolver, startAll }
  })

describe("B1 rounds", () => {
  it.effect("B1 independent look-ups make one call, their results go where they belong", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const loaded = yield* Effect.forEach([3, 1, 2], load, unbounded)
      assert.deepStrictEqual(loaded, [3, 1, 2].map(user))
      assert.deepStrictEqual(calls, [[3, 1, 2]])
    }).pipe(Effect.provide(live())))

  it.effect("B1 look-ups from promise callbacks join the call of their round", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const run = Effect.runPromiseWith(yield* Effect.context<never>())
      const after = (ticks: number, id: number): Promise<User> =>
        ticks === 0 ? run(load(id)) : Promise.resolve().then(() => after(ticks - 1, id))
      const loaded = yield* Effect.promise(() => Promise.all([after(0, 1), after(1, 2), after(7, 3), after(30, 4)]))
      assert.deepStrictEqual(loaded, [1, 2, 3, 4].map(user))
      assert.deepStrictEqual(calls, [[1, 2, 3, 4]])
    }).pipe(Effect.provide(live())))

  it.effect("B1 N + 1 look-ups are two calls, a chain of 11 is 11, a tree of 32 leaves is one", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      yield* Effect.flatMap(load(1), () => Effect.forEach(Array.range(2, 11), load, unbounded))
      assert.strictEqual(calls.splice(0).length, 2)
      yield* Effect.forEach(Array.range(1, 11), load)
      assert.strictEqual(calls.splice(0).length, 11)
      const tree = (depth: number, at: number): Effect.Effect<number, NotFound | Broken> =>
        depth === 0
          ? Effect.map(load(at), (_) => _.id)
          : Effect.map(
            Effect.all([tree(depth - 1, 2 * at), tree(depth - 1, 2 * at + 1)], unbounded),
            ([left, right]) => left + right
          )
      assert.strictEqual(yield* tree(5, 0), 31 * 16)
      assert.deepStrictEqual(calls, [Array.range(0, 31)])
    }).pipe(Effect.provide(live())))

  it.effect("B1 a resolver whose layer was built by runSync waits in turns of its callers' event loop", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const { calls, load, modes } = yield* Effect.gen(function*() {
        const modes: Array<string> = []
        const mode = Effect.withFiber((fiber) => Effect.sync(() => modes.push(fiber.cache.scheduler.executionMode)))
        const context = Effect.runSync(Layer.buildWithScope(live(), scope))
        const fixture = Effect.runSync(
          users({ gate: Effect.asVoid(mode) }).pipe(
            Effect.provideContext(Context.add(context, Scope.Scope, scope))
          )
        )
        return { ...fixture, modes }
      })
      yield* Effect.forEach(Array.range(1, 5), (id) =>
        Effect.andThen(
          Effect.forEach(Array.range(1, id), () => Effect.promise(() => Promise.resolve())),
          load(id)
        ), unbounded)
      assert.deepStrictEqual(calls.map((ids) => ids.length), [5])
      assert.deepStrictEqual(modes, ["async"])
    }))

  it.effect("B1 a fiber that yields once before its look-up joins the batch", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      yield* Effect.all([load(1), Effect.andThen(Effect.yieldNow, load(2))], unbounded)
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live())))

  it.effect("B1 look-ups that never stop coming are sent after 16 turns", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const stream = Effect.gen(function*() {
        for (let id = 1; calls.length === 0 && id < 200; id++) {
          yield* start(load(id))
          yield* Effect.yieldNow
        }
      })
      yield* stream
      const size = calls[0]!.length
      assert.isAtLeast(size, 15)
      assert.isAtMost(size, 18)
    }).pipe(Effect.provide(live())))

  it.effect("B1 a window is timed by the clock of the resolver, whatever clock its first look-up has", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const stopped = yield* TestClock.make()
      const first = yield* start(Effect.provideService(load(1), Clock.Clock, stopped))
      const second = yield* start(load(2))
      yield* TestClock.adjust("10 millis")
      yield* Fiber.joinAll([first, second])
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live({ window: "10 millis" }))))

  it.effect("B1 a window that is a duration is measured by the clock", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const first = yield* start(load(1))
      yield* TestClock.adjust("4 millis")
      const second = yield* start(load(2))
      yield* TestClock.adjust("5 millis")
      assert.deepStrictEqual(calls, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.joinAll([first, second]), [user(1), user(2)])
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live({ window: "10 millis" }))))

  it.effect("B1 the window of a resolver overrides that of its Batcher", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users({ window: "idle" })
      yield* load(1)
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live({ window: "1 hour" }))))

  it.effect("B1 100,000 look-ups are one call, and a chain of 10,000 that are sent at once does not overflow the stack", () =>
    Effect.gen(function*() {
      const wide = yield* users()
      yield* Effect.forEach(Array.range(1, 100_000), (id) => wide.load(id % 900), { ...unbounded, discard: true })
      assert.strictEqual(wide.calls.length, 1)
      const deep = yield* users({ maxBatchSize: 1 })
      const chain = (n: number): Effect.Effect<number, NotFound | Broken> =>
        n === 0 ? Effect.succeed(0) : Effect.flatMap(deep.load(n % 900), () => Effect.map(chain(n - 1), (_) => _ + 1))
      assert.strictEqual(yield* chain(10_000), 10_000)
      assert.strictEqual(deep.calls.length, 10_000)
    }).pipe(Effect.provide(live())))
})

describe("B2 equal requests", () => {
  it.effect("B2 equal requests of a batch reach the backend once, in order of arrival", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const loaded = yield* Effect.forEach([2, 1, 2, 2, 1], load, unbounded)
      assert.deepStrictEqual(loaded.map((_) => _.id), [2, 1, 2, 2, 1])
      assert.deepStrictEqual(calls, [[2, 1]])
    }).pipe(Effect.provide(live())))

  it.effect("B2 requests with the same fields are equal, whatever the order of the fields", () =>
    Effect.gen(function*() {
      class Get extends Request.Class<{ readonly id: number; readonly _tag: "Get" }, number> {}
      const calls: Array<ReadonlyArray<number>> = []
      const resolver = yield* Batcher.ordered(Get, {
        execute: (all) => Effect.sync(() => (calls.push(all.map(({ id }) => id)), all.map(({ id }) => id)))
      })
      const requests = [1, 2].flatMap((id) => [new Get({ id, _tag: "Get" }), new Get({ _tag: "Get", id })])
      for (const all of [requests, requests.toReversed()]) {
        const asked = yield* Effect.forEach(all, (request) => Effect.request(request, resolver), unbounded)
        assert.deepStrictEqual(asked, all.map(({ id }) => id))
      }
      assert.deepStrictEqual(calls, [[1, 2], [2, 1]])
    }).pipe(Effect.provide(live())))

  it.effect("B2 a request joins an equal one in flight, and starts a new batch if there is none", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load } = yield* users({ gate: Deferred.await(gate) })
      const first = yield* start(load(1))
      yield* settle
      const second = yield* start(load(1))
      const third = yield* start(load(2))
      yield* settle
      assert.deepStrictEqual(calls, [[1], [2]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll([first, second, third]), [user(1), user(1), user(2)])
      assert.deepStrictEqual(yield* load(1), user(1))
      assert.strictEqual(calls.length, 3)
    }).pipe(Effect.provide(live())))

  for (const wrapped of [false, true]) {
    it.effect(`B2 equal requests count once against maxBatchSize, and a full batch is sent at once${wrapped ? ", where core collects too" : ""}`, () =>
      Effect.gen(function*() {
        const { calls, resolver } = yield* users({ maxBatchSize: 3 })
        const used = wrapped ? RequestResolver.around(resolver, () => Effect.void, () => Effect.void) : resolver
        const ask = (id: number) => start(Effect.request(get(id), used))
        const fibers = yield* Effect.forEach([1, 1, 2, 1, 2, 2, 1], ask)
        yield* Effect.yieldNow
        yield* Fiber.interrupt(fibers[2]!)
        assert.deepStrictEqual(calls, [])
        const last = yield* ask(3)
        assert.deepStrictEqual(calls, [[1, 2, 3]])
        yield* Fiber.joinAll([last, fibers[0]!, fibers[6]!])
      }).pipe(Effect.provide(live())))
  }

  it.effect("B2 26 requests in batches of 3 at most are 9 calls; one that leaves makes room", () =>
    Effect.gen(function*() {
      const { calls, load, startAll } = yield* users({ maxBatchSize: 3 })
      yield* Effect.forEach(Array.range(1, 26), load, unbounded)
      assert.deepStrictEqual(calls.map((_) => _.length), [3, 3, 3, 3, 3, 3, 3, 3, 2])
      calls.length = 0
      const fibers = yield* startAll(1, 2)
      yield* Fiber.interrupt(fibers[0]!)
      const more = yield* startAll(3)
      assert.deepStrictEqual(calls, [])
      yield* start(load(4))
      assert.deepStrictEqual(calls, [[2, 3, 4]])
      yield* Fiber.joinAll([fibers[1]!, ...more])
    }).pipe(Effect.provide(live())))

  it.effect("B2 requests are equal if their fields are: plain data by structure, instances of classes by identity", () =>
    Effect.gen(function*() {
      class Session {
        readonly #user: string
        constructor(user: string) {
          this.#user = user
        }
        get user() {
          return this.#user
        }
      }
      class GetDoc extends Request.Class<{ readonly path: ReadonlyArray<string>; readonly session: Session }, string> {}
      const sizes: Array<number> = []
      const resolver = yield* Batcher.ordered(GetDoc, {
        execute: (requests) =>
          Effect.sync(() => {
            sizes.push(requests.length)
            return requests.map((_) => `${_.path.join("/")} of ${_.session.user}`)
          })
      })
      const ann = new Session("Ann")
      const bob = new Session("Bob")
      const docs = yield* Effect.forEach(
        [ann, bob, ann],
        (session) => Effect.request(new GetDoc({ path: ["a", "b"], session }), resolver),
        unbounded
      )
      assert.deepStrictEqual(docs, ["a/b of Ann", "a/b of Bob", "a/b of Ann"])
      assert.deepStrictEqual(sizes, [2])
    }).pipe(Effect.provide(live())))

  it.effect("B2 the same value in different fields, or 1 and \"1\", are different requests", () =>
    Effect.gen(function*() {
      class Find extends Request.Class<
        { readonly id?: string | number | undefined; readonly email?: string | undefined },
        string
      > {}
      const resolver = yield* Batcher.ordered(Find, {
        execute: (requests) => Effect.succeed(requests.map((_) => JSON.stringify(_)))
      })
      const found = yield* Batcher.loadMany(
        [new Find({ id: "a" }), new Find({ email: "a" }), new Find({ id: 1 }), new Find({ id: "1" })],
        resolver
      )
      assert.deepStrictEqual(found, ["{\"id\":\"a\"}", "{\"email\":\"a\"}", "{\"id\":1}", "{\"id\":\"1\"}"])
    }).pipe(Effect.provide(live())))

  it.effect("B2 a request that holds another request differs from that one, and a tag belongs to the key", () =>
    Effect.gen(function*() {
      class Inner extends Request.Class<{ readonly of: number; readonly and: number }, string> {}
      class Outer extends Request.Class<{ readonly of: Inner }, string> {}
      class Tagged extends Request.TaggedClass("Tagged")<{ readonly of: number }, string> {}
      class Bare extends Request.TaggedClass("Bare")<{}, string> {}
      const resolver = yield* Batcher.ordered<Inner | Outer | Tagged | Bare>(Request.of<any>(), {
        execute: (requests) => Effect.succeed(requests.map((_) => JSON.stringify(_)))
      })
      const inner = new Inner({ of: 1, and: 2 })
      const requests = [new Outer({ of: inner }), inner, new Tagged({ of: 1 }), new Bare(), new Bare()]
      assert.deepStrictEqual(yield* Batcher.loadMany(requests, resolver), requests.map((_) => JSON.stringify(_)))
    }).pipe(Effect.provide(live())))

  it.effect("B2 requests of two classes are different, and fields named by symbols count, also beside one field alone", () =>
    Effect.gen(function*() {
      const tenant = Symbol("tenant")
      class User extends Request.Class<{ readonly id: number; readonly [tenant]?: string }, string> {}
      class Post extends Request.Class<{ readonly id: number; readonly [tenant]?: string }, string> {}
      const resolver = yield* Batcher.ordered<User | Post>(Request.of<any>(), {
        execute: (requests) => Effect.succeed(requests.map((_) => `${_.constructor.name} of ${_[tenant]}`))
      })
      const requests = [
        new User({ id: 1 }),
        new Post({ id: 1 }),
        new User({ id: 1, [tenant]: "a" }),
        new User({ id: 1, [tenant]: "b" })
      ]
      const expected = ["User of undefined", "Post of undefined", "User of a", "User of b"]
      assert.deepStrictEqual(yield* Batcher.loadMany(requests, resolver), expected)
      assert.deepStrictEqual(yield* Effect.forEach(requests, (_) => Effect.request(_, resolver), unbounded), expected)
    }).pipe(Effect.provide(live())))

  it.effect("B2 unequal requests with the same id ask for it once, and each has its own exit if the row is missing", () =>
    Effect.gen(function*() {
      class Named extends Request.Class<{ readonly id: number; readonly orElse: string }, string> {}
      const calls: Array<ReadonlyArray<number>> = []
      const resolver = yield* Batcher.findById(Named, {
        id: (_) => _.id,
        execute: (ids) => Effect.sync((): Array<string> => (calls.push(ids), [])),
        resultId: () => 0,
        missing: (_) => Exit.succeed(_.orElse)
      })
      const names = yield* Batcher.loadMany(
        [new Named({ id: 1, orElse: "a" }), new Named({ id: 1, orElse: "b" })],
        resolver
      )
      assert.deepStrictEqual(names, ["a", "b"])
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live())))
})

describe("B3 interruption", () => {
  it.effect("canary: core asks for an entry's batch key again when its caller leaves, and only then", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const name = (entry: Request.Entry<GetUser>) => `${entry.request.id}`
      const resolver = RequestResolver.makeWith<GetUser>({
        preCheck: (entry) => {
          asked.push(`check ${name(entry)}`)
          return entry.request.id !== 9
        },
        batchKey: (entry) => {
          asked.push(`key ${name(entry)}`)
          return "all"
        },
        delay: Effect.suspend(() => {
          asked.push("delay")
          return Effect.yieldNow
        }),
        collectWhile: (entries) => {
          asked.push(`collect ${entries.size}`)
          return true
        },
        runAll: (entries, key) => {
          asked.push(`run ${entries.map(name).join()} ${String(key)}`)
          return Effect.andThen(
            Deferred.await(gate),
            Effect.sync(() => entries.forEach((_) => _.completeUnsafe(Exit.succeed(user(_.request.id)))))
          )
        }
      })
      const fibers = yield* Effect.forEach([1, 2, 3, 9], (id) => start(Effect.request(get(id), resolver)))
      assert.deepStrictEqual(asked.splice(0), [
        "check 1",
        "key 1",
        "delay",
        "collect 1",
        "check 2",
        "key 2",
        "collect 2",
        "check 3",
        "key 3",
        "collect 3",
        "check 9"
      ])
      yield* Fiber.interrupt(fibers[0]!)
      assert.deepStrictEqual(asked.splice(0), ["key 1"])
      yield* settle
      assert.deepStrictEqual(asked.splice(0), ["run 2,3 all"])
      yield* Fiber.interrupt(fibers[1]!)
      yield* Fiber.interrupt(fibers[3]!)
      assert.deepStrictEqual(asked.splice(0), ["key 2", "key 9"])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(fibers[2]!), user(3))
      assert.deepStrictEqual(asked, [])
    }))

  it.effect("B3 a caller that leaves takes its request out of a pending batch; a pending batch without callers is not sent", () =>
    Effect.gen(function*() {
      const { calls, load, startAll } = yield* users()
      const fibers = yield* startAll(1, 2, 2, 3)
      yield* Fiber.interruptAll([fibers[0]!, fibers[1]!])
      yield* Fiber.joinAll([fibers[2]!, fibers[3]!])
      assert.deepStrictEqual(calls, [[2, 3]])
      const alone = yield* start(load(4))
      yield* Fiber.interrupt(alone)
      yield* settle
      assert.strictEqual(calls.length, 1)
    }).pipe(Effect.provide(live())))

  it.effect("B3 a running batch goes on while any request has a caller, and its other requests can still be joined", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, interrupted, load, startAll } = yield* users({ gate: Deferred.await(gate) })
      const fibers = yield* startAll(1, 2, 1)
      yield* settle
      const joined = yield* start(load(1))
      yield* Fiber.interruptAll([fibers[0]!, fibers[2]!, joined])
      const again = yield* start(load(1))
      yield* settle
      assert.deepStrictEqual(interrupted, [])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll([fibers[1]!, again]), [user(2), user(1)])
      assert.deepStrictEqual(calls, [[1, 2]])
    }).pipe(Effect.provide(live())))

  it.effect("B3 a running batch is interrupted when all callers of all its requests are gone, joiners included", () =>
    Effect.gen(function*() {
      const { calls, interrupted, load, startAll } = yield* users({ gate: Effect.never })
      const fibers = yield* startAll(1, 2)
      yield* settle
      const joined = yield* start(load(2))
      yield* Fiber.interruptAll(fibers)
      yield* settle
      assert.deepStrictEqual(interrupted, [])
      yield* Fiber.interrupt(joined)
      yield* settle
      assert.deepStrictEqual(interrupted, [[1, 2]])
      const next = yield* start(load(2))
      yield* settle
      assert.deepStrictEqual(calls, [[1, 2], [2]])
      yield* Fiber.interrupt(next)
    }).pipe(Effect.provide(live())))

  it.effect("B3 the last caller returns at once, while the batch's finalizers still run, and a newcomer never gets the dying batch", () =>
    Effect.gen(function*() {
      const closing = yield* Deferred.make<void>()
      const log: Array<string> = []
      const resolver = yield* Batcher.ordered(GetUser, {
        execute: (requests) => {
          log.push(`call ${requests.map((_) => _.id).join()}`)
          return log.length > 1
            ? Effect.succeed(requests.map((_) => user(_.id)))
            : Effect.onInterrupt(
              Effect.never,
              () => Effect.andThen(Deferred.await(closing), Effect.sync(() => log.push("closed")))
            )
        }
      })
      const first = yield* start(Effect.request(get(1), resolver))
      yield* settle
      yield* Fiber.interrupt(first)
      assert.deepStrictEqual(log, ["call 1"])
      assert.deepStrictEqual(yield* Effect.request(get(1), resolver), user(1))
      assert.deepStrictEqual(log, ["call 1", "call 1"])
      yield* Deferred.succeed(closing, undefined)
      yield* settle
      assert.deepStrictEqual(log, ["call 1", "call 1", "closed"])
    }).pipe(Effect.provide(live())))

  it.effect("B3 closing the resolver's scope interrupts running and pending batches, and later look-ups at once", () =>
    Effect.gen(function*() {
      for (const window of ["idle", "1 hour"] as const) {
        const scope = yield* Scope.make()
        const { interrupted, load } = yield* users({ gate: Effect.never, window }).pipe(Scope.provide(scope))
        const running = yield* start(load(1))
        yield* TestClock.adjust("1 hour")
        yield* settle
        const pending = yield* start(load(2))
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(interrupted, [[1]])
        for (const exit of [yield* Fiber.await(running), yield* Fiber.await(pending), yield* Effect.exit(load(3))]) {
          assert.isTrue(Exit.hasInterrupts(exit))
        }
      }
    }).pipe(Effect.provide(live())))

  it.effect("B3 a batch that closes its own resolver does not wait for itself", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { load } = yield* users({
        execute: () => Effect.as(Scope.close(scope, Exit.void), [])
      }).pipe(Scope.provide(scope))
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(load(1))))
    }).pipe(Effect.provide(live())))

  it.effect("B3 closing the scheduler interrupts a batch, and its callers see it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(live(), scope)
      const { interrupted, load } = yield* users({ gate: Effect.never }).pipe(Effect.provide(context))
      const fiber = yield* start(load(1))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.deepStrictEqual(interrupted, [[1]])
    }))
})

describe("B4 failures", () => {
  it.effect("B4 a batch that fails fails its own requests, typed, and no others", () =>
    Effect.gen(function*() {
      const { load } = yield* users({
        maxBatchSize: 2,
        execute: (ids) => ids.includes(3) ? Effect.fail(new Broken()) : Effect.succeed(ids.map(user))
      })
      const exits = yield* Effect.forEach([1, 2, 3, 4, 5], (id) => Effect.exit(load(id)), unbounded)
      const broken = Exit.fail(new Broken())
      assert.deepStrictEqual(exits, [
        Exit.succeed(user(1)),
        Exit.succeed(user(2)),
        broken,
        broken,
        Exit.succeed(user(5))
      ])
    }).pipe(Effect.provide(live())))

  it.effect("B4 callers are told in the step in which execute ends, whatever batches ended before", () =>
    Effect.gen(function*() {
      for (const n of [8_192, 1]) {
        const gate = yield* Deferred.make<void>()
        const { resolver } = yield* users({ gate: Deferred.await(gate) })
        let told = 0
        for (let id = 1; id <= n; id++) {
          Effect.requestUnsafe(get(id), { resolver, context: Context.empty(), onExit: () => told++ })
        }
        yield* settle
        Deferred.doneUnsafe(gate, Exit.void)
        if (n === 1) assert.strictEqual(told, n)
        yield* settle
        assert.strictEqual(told, n)
      }
    }).pipe(Effect.provide(live())))

  it.effect("B4 a request without a row ends as `missing` says; unknown rows are ignored, the first of two rows counts", () =>
    Effect.gen(function*() {
      const { load } = yield* users({
        execute: () => Effect.succeed([user(77), user(1), { id: 1, name: "another" }])
      })
      const exits = yield* Effect.forEach([1, 2], (id) => Effect.exit(load(id)), unbounded)
      assert.deepStrictEqual(exits, [Exit.succeed(user(1)), Exit.fail(new NotFound({ id: 2 }))])
    }).pipe(Effect.provide(live())))

  it.effect("B4 an item of an ordered result can fail alone", () =>
    Effect.gen(function*() {
      const resolver = yield* Batcher.ordered(GetUser, {
        execute: (requests) =>
          Effect.succeed(requests.map((_) => _.id === 2 ? Exit.fail(new NotFound({ id: 2 })) : user(_.id)))
      })
      assert.deepStrictEqual(yield* Batcher.loadManyExit([1, 2, 3].map(get), resolver), [
        Exit.succeed(user(1)),
        Exit.fail(new NotFound({ id: 2 })),
        Exit.succeed(user(3))
      ])
    }).pipe(Effect.provide(live())))

  it.effect("B4 a result of the wrong length names both numbers", () =>
    Effect.gen(function*() {
      const resolver = yield* Batcher.ordered(GetUser, { execute: () => Effect.succeed([user(1)]) })
      const exits = yield* Batcher.loadManyExit([1, 2].map(get), resolver)
      for (const exit of exits) {
        const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(defect, Batcher.BatcherError)
        assert.deepInclude(defect.reason, { _tag: "ResultLengthMismatch", expected: 2, actual: 1 })
        assert.strictEqual(defect.message, "GetUser: execute answered 2 requests with 1 results")
      }
    }).pipe(Effect.provide(live())))

  it.effect("B4 a synchronous throw in any option fails its batch only", () =>
    Effect.gen(function*() {
      const bug = new Error("bug")
      const fail = (): never => {
        throw bug
      }
      const parts = { execute: fail, id: fail, resultId: fail, missing: fail }
      for (const part of ["execute", "id", "resultId", "missing"] as const) {
        let calls = 0
        const broken = { [part]: () => ++calls === 1 ? parts[part]() : fixed[part] }
        const fixed = { execute: Effect.succeed([]), id: 2, resultId: 2, missing: Exit.fail(new NotFound({ id: 2 })) }
        const { load } = yield* users(broken as {})
        const joined = yield* Effect.forEach([1_001, 1, 1_001], (id) => Effect.exit(load(id)), unbounded)
        for (const exit of joined) assert.deepStrictEqual(exit, Exit.die(bug), part)
        assert.isFalse(Exit.hasDies(yield* Effect.exit(load(2))), part)
      }
    }).pipe(Effect.provide(live())))

  it.effect("B4 a batch that looks up its own request dies instead of waiting for ever", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Batcher.Batcher | Scope.Scope>()
      const resolvers: Array<RequestResolver.RequestResolver<GetUser>> = []
      const through = (next: (id: number) => readonly [resolver: number, id: number]) =>
        Batcher.ordered(GetUser, {
          execute: (requests) =>
            Effect.forEach(requests, (request) => {
              const [resolver, id] = next(request.id)
              return Effect.exit(Effect.request(get(id), resolvers[resolver]!))
            }, unbounded)
        }).pipe(Effect.provide(context))
      // 0 asks itself; 1 and 2 ask each other.
      resolvers.push(yield* through((id) => [0, id]), yield* through((id) => [2, id]), yield* through((id) => [1, id]))
      const cycle = (exit: Exit.Exit<unknown, unknown>) => {
        const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(defect, Batcher.BatcherError)
        assert.strictEqual(defect.reason._tag, "LookupCycle")
      }
      cycle(yield* Effect.exit(Effect.request(get(1), resolvers[0]!)))
      cycle(yield* Effect.exit(Effect.request(get(1), resolvers[1]!)))
      const both = yield* Effect.forEach([1, 2], (i) => Effect.exit(Effect.request(get(1), resolvers[i]!)), unbounded)
      both.forEach(cycle)
      const many = yield* Batcher.loadManyExit([get(1), get(2)], resolvers[1]!)
      many.forEach(cycle)
    }).pipe(Effect.provide(live())))
})

describe("B5 admission", () => {
  it.effect("B5 batches run within the width of the scheduler", () =>
    Effect.gen(function*() {
      const gates = yield* Effect.forEach(Array.range(0, 4), () => Deferred.make<void>())
      let running = 0
      let most = 0
      const { load } = yield* users({
        maxBatchSize: 1,
        execute: (ids) =>
          Effect.suspend(() => {
            most = Math.max(most, ++running)
            return Effect.as(Deferred.await(gates[ids[0]!]!), ids.map(user))
          }).pipe(Effect.ensuring(Effect.sync(() => running--)))
      })
      const fiber = yield* start(Effect.forEach(Array.range(0, 4), load, unbounded))
      for (const gate of gates) {
        yield* settle
        assert.isAtMost(running, 2)
        yield* Deferred.succeed(gate, undefined)
      }
      yield* Fiber.join(fiber)
      assert.strictEqual(most, 2)
    }).pipe(Effect.provide(live({ concurrency: 2 }))))

  it.effect("B5 jobs that load do not deadlock, however many and however narrow the scheduler", () =>
    Effect.gen(function*() {
      const { load } = yield* users()
      for (const width of [1, 2]) {
        yield* Scheduler.resize(width)
        const ids = yield* Effect.forEach(
          Array.range(1, 5),
          (id) => Scheduler.schedule(Effect.flatMap(load(id), () => load(1))),
          unbounded
        )
        assert.deepStrictEqual(ids, Array.makeBy(5, () => user(1)))
      }
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 a job that joins a batch in the queue takes it into its own width", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      const gate = yield* Deferred.make<void>()
      const job = yield* start(Scheduler.schedule(Effect.andThen(Deferred.await(gate), load(1))))
      const other = yield* start(load(1))
      yield* settle
      assert.strictEqual((yield* Scheduler.stats).queued, 1)
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll([job, other]), [user(1), user(1)])
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 a batch queues like any other if the width of its job is full", () =>
    Effect.gen(function*() {
      const leave = yield* Deferred.make<void>()
      const { calls, load } = yield* users()
      const job = Scheduler.schedule(Effect.gen(function*() {
        yield* start(Scheduler.schedule(Effect.never))
        yield* Effect.raceFirst(load(1), Deferred.await(leave))
        return yield* Effect.never
      }))
      const first = yield* start(job)
      const filler = yield* start(Scheduler.schedule(Effect.never))
      yield* settle
      assert.deepStrictEqual([calls, (yield* Scheduler.stats).queued], [[], 1])
      const other = yield* start(load(1))
      yield* Deferred.succeed(leave, undefined)
      yield* settle
      assert.deepStrictEqual([calls, (yield* Scheduler.stats).queued], [[], 1])
      yield* Fiber.interrupt(filler)
      assert.deepStrictEqual(yield* Fiber.join(other), user(1))
      yield* Fiber.interrupt(first)
      assert.strictEqual((yield* Scheduler.stats).running, 0)
    }).pipe(Effect.provide(live({ concurrency: 2 }))))

  it.effect("B5 a job and a job inside it can wait for the same batch", () =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      const { calls, load } = yield* users()
      const both = yield* start(Scheduler.schedule(Effect.gen(function*() {
        const inner = yield* start(Scheduler.schedule(Effect.andThen(Deferred.await(go), load(1))))
        return yield* Effect.all([load(1), Fiber.join(inner)], unbounded)
      })))
      yield* settle
      assert.deepStrictEqual(calls, [])
      yield* Deferred.succeed(go, undefined)
      assert.deepStrictEqual(yield* Fiber.join(both), [user(1), user(1)])
      assert.deepStrictEqual(calls, [[1]])
      const { queued, running } = yield* Scheduler.stats
      assert.deepStrictEqual([queued, running], [0, 0])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 a batch does not wait for the job of another scheduler that waits for it", () =>
    Effect.gen(function*() {
      const outer = yield* Scheduler.make({ concurrency: 1 })
      const { load } = yield* users({
        execute: (ids) => Effect.orDie(outer.schedule(Effect.succeed(ids.map(user))))
      })
      assert.deepStrictEqual(yield* outer.schedule(load(1)), user(1))
      assert.deepStrictEqual(yield* outer.schedule(Scheduler.schedule(load(1))), user(1))
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B5 batches wait for room where the queue is bounded", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users({ maxBatchSize: 1 })
      yield* Effect.forEach([1, 2, 3, 4], load, unbounded)
      assert.strictEqual(calls.length, 4)
    }).pipe(
      Effect.provide(live({ concurrency: 1, maxQueued: 0 }))
    ))

  it.live("B5 the requests of a refused batch end with the exit that onRejected returns, by default with a defect", () =>
    Effect.gen(function*() {
      const { load } = yield* users()
      const exit = yield* Effect.exit(load(1))
      assert.instanceOf(Exit.isFailure(exit) && Cause.squash(exit.cause), Scheduler.SchedulerError)
      const own = yield* users({ onRejected: (_, request) => missing(request) })
      const exits = yield* Effect.forEach([1, 2], (id) => Effect.exit(own.load(id)), unbounded)
      assert.deepStrictEqual(exits, [1, 2].map((id) => missing(get(id))))
      assert.deepStrictEqual(own.calls, [])
    }).pipe(Effect.provide(
      Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
        Layer.provide(Scheduler.layer({ concurrency: 1, rate: RateLimiter.RateLimiter })),
        Layer.provide(RedisRateLimiter.layer({ rate: { limit: 1, window: "1 second" }, outageBudget: 0 })),
        Layer.provide(RedisLayer.layerBackground(
          Layer.effect(Redis.Redis, Effect.fail(new Redis.RedisError({ cause: "away" })))
        ))
      )
    )))

  it.effect("B5 a Batcher uses the scheduler it is given", () => {
    class Backend extends Context.Service<Backend, Scheduler.Scheduler>()("test/Backend") {}
    return Effect.gen(function*() {
      const { load } = yield* users({
        execute: (ids) =>
          Effect.map(Backend.use((_) => _.stats), (stats) => {
            assert.strictEqual(stats.running, 1)
            return ids.map(user)
          }) as Effect.Effect<Array<User>>
      })
      yield* load(1)
    }).pipe(Effect.provide(
      Batcher.layer({ scheduler: Backend }).pipe(
        Layer.provideMerge(Layer.effect(Backend, Scheduler.make({ concurrency: 1 })))
      )
    ))
  })
})

describe("contexts", () => {
  class Tenant extends Context.Service<Tenant, { readonly name: string }>()("test/Tenant") {}
  const Locale = Context.Reference<string>("test/Locale", { defaultValue: () => "en" })

  class GetDoc extends Request.TaggedClass("GetDoc")<{ readonly id: number }, string, never, Tenant> {}

  const docs = (isolated: boolean) =>
    Effect.gen(function*() {
      const calls: Array<string> = []
      const common = {
        execute: (requests: ReadonlyArray<GetDoc>) =>
          Effect.gen(function*() {
            const tenant = (yield* Tenant).name
            const locale = yield* Locale
            calls.push(`${tenant} ${locale}: ${requests.map((_) => _.id).join()}`)
            return requests.map((_) => `${tenant}/${locale}/${_.id}`)
          })
      }
      const resolver = yield* isolated
        ? Batcher.ordered(GetDoc, { ...common, isolate: [Tenant, Locale] })
        : Batcher.ordered(GetDoc, common)
      return { calls, load: (id: number) => Effect.request(new GetDoc({ id }), resolver), resolver }
    })

  const a = { name: "a" }
  const b = { name: "b" }

  it.effect("B7 callers whose isolating services differ share neither a batch nor each other's requests", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* docs(true)
      const results = yield* Effect.all([
        load(1).pipe(Effect.provideService(Tenant, a)),
        load(1).pipe(Effect.provideService(Tenant, b)),
        load(2).pipe(Effect.provideService(Tenant, a)),
        load(1).pipe(Effect.provideService(Locale, "de"), Effect.provideService(Tenant, a)),
        load(1).pipe(Effect.provideService(Tenant, { name: "a" }))
      ], unbounded)
      assert.deepStrictEqual(results, ["a/en/1", "b/en/1", "a/en/2", "a/de/1", "a/en/1"])
      assert.deepStrictEqual(calls.sort(), ["a de: 1", "a en: 1", "a en: 1,2", "b en: 1"])
    }).pipe(Effect.provideService(Tenant, { name: "made here" }), Effect.provide(live())))

  it.effect("B7 a look-up joins one in flight of an equal tenant, and of no other", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load } = yield* store({ isolate: [Lookups.Tenant], gate: Deferred.await(gate) })
      const ask = (name: string) =>
        Effect.tap(start(Effect.provideService(load(1), Lookups.Tenant, Option.some(name))), () => settle)
      const fibers = [yield* ask("a"), yield* ask("b"), yield* ask("a")]
      assert.deepStrictEqual(calls, [[1], [1]])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.joinAll(fibers)
    }).pipe(Effect.provide(live())))

  it.effect("B7 loadMany and the cache keep tenants apart", () =>
    Effect.gen(function*() {
      const calls: Array<string> = []
      const resolver = yield* Batcher.ordered(GetDoc, {
        isolate: [Tenant],
        cache: { capacity: 10, timeToLive: () => "1 hour" },
        execute: (requests) =>
          Effect.map(Tenant, (tenant) => {
            calls.push(`${tenant.name} ${requests.length}`)
            return requests.map(() => tenant.name)
          })
      })
      const requests = [new GetDoc({ id: 1 }), new GetDoc({ id: 2 })]
      const load = (tenant: { readonly name: string }) =>
        Effect.provideService(Batcher.loadMany(requests, resolver), Tenant, tenant)
      for (let i = 0; i < 2; i++) {
        assert.deepStrictEqual(yield* Effect.all([load(a), load(b)], unbounded), [["a", "a"], ["b", "b"]])
      }
      assert.deepStrictEqual(calls.sort(), ["a 2", "b 2"])
      const c = { name: "c" }
      for (const tenant of [a, c]) yield* Effect.provideService(resolver.prime(requests[0]!, "primed"), Tenant, tenant)
      assert.deepStrictEqual(yield* Effect.all([load(a), load(b), load(c)]), [["primed", "a"], ["b", "b"], [
        "primed",
        "c"
      ]])
    }).pipe(Effect.provide(live())))

  it.effect("B7 callers stay isolated when core's grouped replaces the batch key", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* docs(true)
      const grouped = RequestResolver.grouped(resolver, () => "all")
      const results = yield* Effect.forEach(
        [a, b],
        (tenant) => Effect.provideService(Effect.request(new GetDoc({ id: 1 }), grouped), Tenant, tenant),
        unbounded
      )
      assert.deepStrictEqual(results, ["a/en/1", "b/en/1"])
      assert.strictEqual(calls.length, 2)
    }).pipe(Effect.provideService(Tenant, { name: "made here" }), Effect.provide(live())))

  it.effect("execute has the services of the place where the resolver was made, not its callers'", () =>
    Effect.gen(function*() {
      const { load } = yield* docs(false).pipe(
        Effect.provideService(Tenant, { name: "made here" }),
        Effect.provideService(Locale, "fr")
      )
      const result = yield* Effect.provideService(Effect.provideService(load(1), Tenant, a), Locale, "de")
      assert.strictEqual(result, "made here/fr/1")
    }).pipe(Effect.provide(live())))

  it.effect("a batch runs in its first caller's span, not in the span where the resolver was made", () =>
    Effect.gen(function*() {
      const spans: Array<string> = []
      const { load } = yield* users({
        execute: (ids) =>
          Effect.map(Effect.exit(Effect.currentSpan), (span) => {
            spans.push(Exit.isSuccess(span) ? span.value.name : "none")
            return ids.map(user)
          })
      }).pipe(Effect.withSpan("made"))
      yield* load(1)
      yield* Effect.all([Effect.withSpan(load(1), "one"), Effect.withSpan(load(2), "two")], unbounded)
      assert.deepStrictEqual(spans, ["none", "one"])
    }).pipe(Effect.provide(live())))

  it.effect("a name opens a span for each batch, linked to the spans of its callers", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.Span> = []
      const { load } = yield* users({
        name: "users",
        execute: (ids) =>
          Effect.map(Effect.orDie(Effect.currentSpan), (_) => {
            spans.push(_)
            return ids.map(user)
          })
      })
      yield* Effect.all([Effect.withSpan(load(1), "one"), Effect.withSpan(load(2), "two")], unbounded)
      assert.deepStrictEqual(spans.map((_) => [_.name, _.attributes.get("batchSize")]), [["users", 2]])
      assert.deepStrictEqual(spans[0]!.links.map((_) => _.span._tag === "Span" && _.span.name), ["one", "two"])
    }).pipe(Effect.provide(live())))

  it.effect("the span of a batch counts the look-ups that loadMany brought", () =>
    Effect.gen(function*() {
      const sizes: Array<unknown> = []
      const { load, resolver } = yield* users({
        name: "users",
        execute: (ids) =>
          Effect.map(Effect.orDie(Effect.currentSpan), (_) => {
            sizes.push(_.attributes.get("batchSize"))
            return ids.map(user)
          })
      })
      yield* Effect.all([Batcher.loadMany([1, 2, 2].map(get), resolver), load(3)], unbounded)
      assert.deepStrictEqual(sizes, [4])
    }).pipe(Effect.provide(live())))

  it.effect("a Scope that execute asks for is closed with the batch", () =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const { load } = yield* users({
        execute: (ids) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              log.push("open")
              return ids.map(user)
            }),
            () => Effect.sync(() => log.push("close"))
          ) as Effect.Effect<Array<User>>
      })
      yield* load(1)
      assert.deepStrictEqual(log, ["open", "close"])
    }).pipe(Effect.provide(live())))
})

describe("B6 cache", () => {
  const ttl = (exit: Batcher.Result<GetUser>) => Exit.isSuccess(exit) ? "1 minute" : 0
  const cached = (
    options: Partial<Batcher.CacheOptions<GetUser>> = {},
    gate: Effect.Effect<void, Broken> = Effect.void
  ) => users({ gate, cache: { capacity: 100, timeToLive: ttl, ...options } })

  it.effect("B6 nothing is cached unless asked for", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* users()
      yield* Effect.andThen(load(1), load(1))
      assert.deepStrictEqual(calls, [[1], [1]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 a success is kept for its time, a failure only where timeToLive says so", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* cached()
      for (let i = 0; i < 2; i++) yield* Effect.forEach([1, 1_001], (id) => Effect.exit(load(id)), unbounded)
      assert.deepStrictEqual(calls.splice(0), [[1, 1_001], [1_001]])
      yield* TestClock.adjust("59999 millis")
      yield* load(1)
      assert.deepStrictEqual(calls, [])
      yield* TestClock.adjust("1 millis")
      yield* load(1)
      assert.deepStrictEqual(calls, [[1]])
      const failures = yield* cached({ timeToLive: (exit) => Exit.isFailure(exit) ? Infinity : 0 })
      for (let i = 0; i < 2; i++) yield* Effect.forEach([1, 1_001], (id) => Effect.exit(failures.load(id)), unbounded)
      assert.deepStrictEqual(failures.calls, [[1, 1_001], [1]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 an interruption is never cached, of a caller or of the batch", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const timeToLive = (exit: Batcher.Result<GetUser>) => (asked.push(exit._tag), "1 hour" as const)
      const left = yield* cached({ timeToLive }, Effect.never)
      const fiber = yield* start(left.load(1))
      yield* settle
      yield* Fiber.interrupt(fiber)
      yield* settle
      const again = yield* start(left.load(1))
      yield* settle
      assert.deepStrictEqual(left.calls, [[1], [1]])
      yield* Fiber.interrupt(again)
      const self = yield* cached({ timeToLive }, Effect.interrupt)
      yield* Effect.exit(self.load(1))
      yield* Effect.exit(self.load(1))
      assert.deepStrictEqual(self.calls, [[1], [1]])
      assert.deepStrictEqual(asked, [])
    }).pipe(Effect.provide(live())))

  it.effect("B6 the least recently used goes first", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* cached({ capacity: 2 })
      yield* Effect.forEach([1, 2, 1, 3, 1, 2], load)
      assert.deepStrictEqual(calls, [[1], [2], [3], [2]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 a result that is not kept takes no place in the cache", () =>
    Effect.gen(function*() {
      const { calls, load } = yield* cached({ capacity: 1 })
      yield* TestClock.adjust("1 second")
      yield* load(1)
      yield* Effect.exit(load(1_001))
      yield* load(1)
      assert.deepStrictEqual(calls, [[1], [1_001]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 results that are in flight when the cache is cleared are not kept, and later look-ups do not join them", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load, resolver, startAll } = yield* cached({}, Deferred.await(gate))
      const fibers = yield* startAll(1, 2)
      yield* settle
      yield* resolver.clearAll
      fibers.push(...(yield* startAll(1)))
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[1, 2], [1]])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.joinAll(fibers)
      yield* Effect.forEach([1, 2], load)
      assert.deepStrictEqual(calls, [[2]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 later look-ups get the primed result, clear forgets it, and results then in flight are not kept", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load, resolver, startAll } = yield* cached({}, Deferred.await(gate))
      yield* resolver.prime(get(1), { id: 1, name: "primed" })
      yield* resolver.prime(get(2), Exit.fail(new NotFound({ id: 2 })))
      assert.strictEqual((yield* load(1)).name, "primed")
      const fibers = yield* startAll(2, 3)
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[2, 3]])
      yield* resolver.prime(get(2), { id: 2, name: "newer" })
      yield* resolver.clear(get(3))
      yield* resolver.clear(get(1))
      const newcomer = yield* start(load(3))
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[3]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [user(2), user(3)])
      yield* Fiber.join(newcomer)
      assert.strictEqual((yield* load(2)).name, "newer")
      yield* load(1)
      assert.deepStrictEqual(calls.splice(0), [[1]])
      yield* resolver.clearAll
      yield* Effect.forEach([1, 2, 3], load, unbounded)
      assert.deepStrictEqual(calls, [[1, 2, 3]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 prime and clear concern each of several equal look-ups in flight: those that batch nothing", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load, resolver, startAll } = yield* cached({}, Deferred.await(gate))
      const fibers = yield* startAll(1, 1, 2, 2)
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[1], [1], [2], [2]])
      yield* resolver.clear(get(1))
      yield* resolver.prime(get(2), { id: 2, name: "primed" })
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll(fibers), [user(1), user(1), user(2), user(2)])
      assert.strictEqual((yield* load(2)).name, "primed")
      yield* load(1)
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(Batcher.layerNoop)))

  it.effect("B6 prime and clear concern each of several equal look-ups in flight: one that is asked anew", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      let inner: Effect.Effect<unknown, unknown> = Effect.void
      const once = Effect.suspend(() => {
        const first = inner
        inner = Effect.void
        return Effect.forkDetach(first, { startImmediately: true })
      })
      const { calls, load, resolver, startAll } = yield* cached({}, Effect.andThen(once, Deferred.await(gate)))
      inner = load(1)
      const fibers = yield* startAll(1)
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[1], [1]])
      yield* resolver.clear(get(1))
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.joinAll(fibers)
      yield* settle
      yield* load(1)
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 a kept result opens no window, and a closed resolver gives none", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const options = { window: "1 second", cache: { capacity: 10, timeToLive: () => 3_600_000 } } as const
      const { calls, load, resolver } = yield* users(options).pipe(Scope.provide(scope))
      const first = yield* start(load(1))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(first), user(1))
      assert.deepStrictEqual(yield* load(1), user(1))
      yield* settle
      assert.strictEqual(leftIn(resolver), "")
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(load(1))))
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live())))

  it.effect("B6 a timeToLive that throws fails the batch, and no joiner hangs", () =>
    Effect.gen(function*() {
      const bug = new Error("bug")
      const gate = yield* Deferred.make<void>()
      const { load } = yield* cached({
        timeToLive: () => {
          throw bug
        }
      }, Deferred.await(gate))
      const first = yield* start(Effect.exit(load(1)))
      yield* settle
      const second = yield* start(Effect.exit(load(1)))
      yield* Deferred.succeed(gate, undefined)
      for (const exit of yield* Fiber.joinAll([first, second])) assert.deepStrictEqual(exit, Exit.die(bug))
    }).pipe(Effect.provide(live())))
})

describe("loadMany", () => {
  it.effect("loadMany asks for each distinct request once, and returns results in input order", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* users()
      assert.deepStrictEqual(yield* Batcher.loadMany([3, 1, 3, 2].map(get), resolver), [3, 1, 3, 2].map(user))
      assert.deepStrictEqual(calls, [[3, 1, 2]])
      assert.deepStrictEqual(yield* Batcher.loadMany([], resolver), [])
      assert.deepStrictEqual(yield* Batcher.loadManyExit([], resolver), [])
      assert.deepStrictEqual(yield* Batcher.loadMany(new Set([1, 2].map(get)), resolver), [1, 2].map(user))
    }).pipe(Effect.provide(live())))

  it.effect("loadMany shares its call with other look-ups, and joins requests in flight", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load, resolver } = yield* users({ gate: Deferred.await(gate) })
      const fibers = [
        yield* start(Effect.map(load(1), (_) => [_])),
        yield* start(Batcher.loadMany([2, 1].map(get), resolver)),
        yield* start(Batcher.loadMany([4, 2].map(get), resolver)),
        yield* start(Effect.map(load(5), (_) => [_]))
      ]
      yield* settle
      assert.deepStrictEqual(calls, [[1, 2, 4, 5]])
      fibers.push(yield* start(Batcher.loadMany([6, 4, 1].map(get), resolver)))
      yield* settle
      assert.deepStrictEqual(calls, [[1, 2, 4, 5], [6]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(
        (yield* Fiber.joinAll(fibers)).map((_) => _.map((_) => _.id)),
        [[1], [2, 1], [4, 2], [5], [6, 4, 1]]
      )
    }).pipe(Effect.provide(live())))

  it.effect("loadMany fails with the first failure and leaves the others; loadManyExit has them all", () =>
    Effect.gen(function*() {
      const { resolver } = yield* users({
        maxBatchSize: 1,
        execute: (ids) =>
          ids[0] === 2
            ? Effect.fail(new Broken())
            : Effect.onInterrupt(Effect.never, () => Effect.sync(() => gone.push(ids[0]!)))
      })
      const gone: Array<number> = []
      const exit = yield* Effect.exit(Batcher.loadMany([1, 2, 3].map(get), resolver))
      assert.deepStrictEqual(exit, Exit.fail(new Broken()))
      yield* settle
      assert.deepStrictEqual(gone, [1])
      const other = yield* users()
      assert.deepStrictEqual(
        yield* Effect.exit(Batcher.loadMany([1, 1_001, 1_002].map(get), other.resolver)),
        missing(get(1_001))
      )
      assert.deepStrictEqual(
        yield* Batcher.loadManyExit([1, 1_001].map(get), other.resolver),
        [Exit.succeed(user(1)), missing(get(1_001))]
      )
    }).pipe(Effect.provide(live())))

  it.effect("an interrupted loadMany leaves all its requests, pending or running, and no other caller notices", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, interrupted, load, resolver } = yield* users({ gate: Deferred.await(gate) })
      const pending = yield* start(Batcher.loadMany([1, 2].map(get), resolver))
      const single = yield* start(load(2))
      yield* Fiber.interrupt(pending)
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[2]])
      const many = yield* start(Batcher.loadMany([2, 3, 4].map(get), resolver))
      const other = yield* start(load(4))
      yield* settle
      assert.deepStrictEqual(calls.splice(0), [[3, 4]])
      yield* Fiber.interrupt(many)
      yield* settle
      assert.deepStrictEqual(interrupted, [])
      yield* Fiber.interrupt(other)
      yield* settle
      assert.deepStrictEqual(interrupted, [[3, 4]])
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.join(single), user(2))
    }).pipe(Effect.provide(live())))

  it.effect("an interrupted loadMany takes out of the queue the requests that only it made", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* users()
      yield* Scheduler.pause
      const many = yield* start(Batcher.loadMany([1, 2, 1].map(get), resolver))
      const single = yield* start(load(2))
      yield* settle
      yield* Fiber.interrupt(many)
      yield* Scheduler.resume
      assert.deepStrictEqual(yield* Fiber.join(single), user(2))
      assert.deepStrictEqual(calls, [[2]])
    }).pipe(Effect.provide(live())))

  it.effect("loadMany takes any resolver of core, and an effect of one", () =>
    Effect.gen(function*() {
      const resolver = RequestResolver.fromFunction<GetUser>((_) => user(_.request.id))
      assert.deepStrictEqual(yield* Batcher.loadMany([1, 2].map(get), resolver), [1, 2].map(user))
      assert.deepStrictEqual(yield* Batcher.loadMany([1, 2].map(get), Effect.succeed(resolver)), [1, 2].map(user))
    }))
})

describe("core's combinators", () => {
  it.effect("batchN, setDelay, around and withSpan go on working", () =>
    Effect.gen(function*() {
      const { calls, resolver } = yield* users()
      const ask = (resolver: RequestResolver.RequestResolver<GetUser>) =>
        Effect.forEach([1, 2, 3, 4], (id) => Effect.request(get(id), resolver), unbounded)
      yield* ask(RequestResolver.batchN(resolver, 2))
      assert.deepStrictEqual(calls.splice(0), [[1, 2], [3, 4]])
      const delayed = yield* start(ask(RequestResolver.setDelay(resolver, "1 second")))
      yield* settle
      assert.deepStrictEqual(calls, [])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(delayed)
      assert.deepStrictEqual(calls.splice(0), [[1, 2, 3, 4]])
      const log: Array<string> = []
      yield* ask(RequestResolver.around(
        resolver,
        (entries) => Effect.sync(() => log.push(`before ${entries.length}`)),
        () => Effect.sync(() => log.push("after"))
      ))
      yield* settle
      assert.deepStrictEqual(log, ["before 4", "after"])
      yield* ask(RequestResolver.withSpan(resolver, "users"))
      assert.deepStrictEqual(calls, [[1, 2, 3, 4], [1, 2, 3, 4]])
    }).pipe(Effect.provide(live())))

  it.effect("withCache serves no defect after a caller left", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, resolver } = yield* users({ gate: Deferred.await(gate) })
      const cached = yield* RequestResolver.withCache(resolver, { capacity: 10 })
      const load = (id: number) => Effect.request(get(id), cached)
      const first = yield* start(load(1))
      const second = yield* start(load(2))
      yield* settle
      yield* Fiber.interrupt(first)
      const third = yield* start(load(1))
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Fiber.joinAll([second, third]), [user(2), user(1)])
      assert.deepStrictEqual(yield* load(1), user(1))
      // One that joined what was in flight is not known to the cache.
      assert.deepStrictEqual(calls, [[1, 2], [1]])
      assert.deepStrictEqual(yield* load(1), user(1))
      assert.strictEqual(calls.length, 2)
    }).pipe(Effect.provide(live())))
})

describe("layers", () => {
  class Users extends Batcher.Resolver<Users>()(
    "test/Users",
    Batcher.findById(GetUser, {
      id: (_) => _.id,
      execute: (ids) => Effect.sync(() => (sizes.push(ids.length), ids.map(user))),
      resultId: (_) => _.id,
      missing
    })
  ) {}
  const sizes: Array<number> = []
  const three = Effect.forEach([1, 1, 2], (id) => Effect.request(get(id), Users), unbounded)

  it.effect("Resolver is a tag that is itself the resolver, and its layer needs a Batcher", () =>
    Effect.gen(function*() {
      sizes.length = 0
      assert.deepStrictEqual(yield* three, [user(1), user(1), user(2)])
      assert.deepStrictEqual(sizes, [2])
    }).pipe(Effect.provide(Users.layer.pipe(Layer.provide(live())))))

  it.effect("layerNoop batches nothing: each look-up is its own call", () =>
    Effect.gen(function*() {
      sizes.length = 0
      assert.deepStrictEqual(yield* three, [user(1), user(1), user(2)])
      assert.deepStrictEqual(yield* Batcher.loadMany([1, 1].map(get), Users), [user(1), user(1)])
      assert.deepStrictEqual(sizes, [1, 1, 1, 1, 1])
    }).pipe(Effect.provide(Users.layerNoop)))

  it.effect("grouped gives all rows of an id, none included, in the order of the rows", () =>
    Effect.gen(function*() {
      class GetPosts extends Request.Class<{ readonly author: number }, ReadonlyArray<{ by: number; n: number }>> {}
      const resolver = yield* Batcher.grouped(GetPosts, {
        id: (_) => _.author,
        execute: () => Effect.succeed([{ by: 1, n: 1 }, { by: 2, n: 2 }, { by: 1, n: 3 }, { by: 9, n: 4 }]),
        resultId: (_) => _.by
      })
      const posts = yield* Batcher.loadMany([1, 2, 3].map((author) => new GetPosts({ author })), resolver)
      assert.deepStrictEqual(posts.map((_) => _.map((_) => _.n)), [[1, 3], [2], []])
    }).pipe(Effect.provide(live())))
})

describe("fn", () => {
  const rows = (calls: Array<ReadonlyArray<number>>) => (ids: Array.NonEmptyArray<number>) =>
    Effect.sync(() => (calls.push(ids), ids.filter((id) => id < 1_000).map(user).reverse()))
  const resultId = (_: User) => _.id

  it.effect("independent look-ups make one call, with each id once, and every one gets its row", () =>
    Effect.gen(function*() {
      const calls: Array<ReadonlyArray<number>> = []
      const getUser = yield* Batcher.fn("users")(rows(calls), { resultId })
      assert.deepStrictEqual(yield* Effect.forEach([3, 1, 3, 2], getUser, unbounded), [3, 1, 3, 2].map(user))
      assert.deepStrictEqual(calls, [[3, 1, 2]])
    }).pipe(Effect.provide(Batcher.layer())))

  it.effect("an id without a row fails alone, with an error that names the function and the id", () =>
    Effect.gen(function*() {
      const getUser = yield* Batcher.fn("users")(rows([]), { resultId })
      const [found, error] = yield* Effect.all([getUser(1), Effect.flip(getUser(2_000))], unbounded)
      assert.deepStrictEqual(found, user(1))
      assert.instanceOf(error, Batcher.NotFoundError)
      assert.deepStrictEqual([error._tag, error.resolver, error.id], ["NotFoundError", "users", 2_000])
      assert.strictEqual(error.message, "users: no row with id 2000")
    }).pipe(Effect.provide(Batcher.layer())))

  it.effect("an id without a row ends with the exit that `missing` returns", () =>
    Effect.gen(function*() {
      const getUser = yield* Batcher.fn("users")(rows([]), { resultId, missing: (id) => Exit.succeed(-id) })
      assert.deepStrictEqual(yield* Effect.all([getUser(1), getUser(2_000)], unbounded), [user(1), -2_000])
    }).pipe(Effect.provide(Batcher.layer())))

  it.effect("ids that are data are compared by structure", () =>
    Effect.gen(function*() {
      let asked = 0
      const getCell = yield* Batcher.fn("cells")((ids: ReadonlyArray<readonly [number, number]>) =>
        Effect.sync(() => (asked += ids.length, ids.map(([row, column]) => ({ at: [row, column] as const })))), {
        resultId: (_) =>
          _.at
      })
      const cells = yield* Effect.all([getCell([1, 2]), getCell([2, 1]), getCell([1, 2])], unbounded)
      assert.deepStrictEqual(
        cells.map((_) =>
          _.at
        ),
        [[1, 2], [2, 1], [1, 2]]
      )
      assert.strictEqual(asked, 2)
    }).pipe(Effect.provide(Batcher.layer())))
})

describe("without a scheduler", () => {
  it.effect("any number of batches run at once, even if there is a Scheduler that is not named", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, startAll } = yield* users({ gate: Deferred.await(gate), maxBatchSize: 1 })
      yield* startAll(1, 2, 3)
      yield* settle
      assert.strictEqual(calls.length, 3)
      assert.strictEqual((yield* Scheduler.stats).running, 0)
    }).pipe(Effect.provide(Batcher.layer().pipe(Layer.provideMerge(Scheduler.layer({ concurrency: 1 }))))))
})

describe("handle", () => {
  it.effect("isBatcher knows a Batcher, which can be piped and shown", () =>
    Effect.gen(function*() {
      const batcher = yield* Batcher.make({ maxBatchSize: 7 })
      assert.isTrue(Batcher.isBatcher(batcher))
      assert.isTrue(batcher.pipe(Batcher.isBatcher))
      assert.isFalse(Batcher.isBatcher({}))
      assert.isFalse(Batcher.isBatcher(null))
      assert.deepStrictEqual(batcher.toJSON(), { _id: "effect-funnel/Batcher", window: "idle", maxBatchSize: 7 })
      assert.strictEqual(String(batcher), `{"_id":"effect-funnel/Batcher","window":"idle","maxBatchSize":7}`)
    }))
})

describe("misuse", () => {
  const options = {
    id: (_: GetUser) => _.id,
    execute: (ids: ReadonlyArray<number>) => Effect.succeed(ids.map(user)),
    resultId: (_: User) => _.id,
    missing
  }
  for (const value of [0, -1, 1.5, NaN, Infinity]) {
    it(`a maxBatchSize of ${value} is a RangeError at construction`, () => {
      const rule = `maxBatchSize must be an integer >= 1, got ${value}`
      assert.throws(() => Batcher.layer({ maxBatchSize: value }), RangeError, `Batcher.layer: ${rule}`)
      assert.throws(() => Batcher.make({ maxBatchSize: value }), RangeError, `Batcher.make: ${rule}`)
      for (const name of ["findById", "ordered", "grouped"] as const) {
        const make: (request: typeof GetUser, options: any) => unknown = Batcher[name] as any
        assert.throws(() => make(GetUser, { ...options, maxBatchSize: value }), RangeError, `Batcher.${name}: ${rule}`)
      }
    })
    it(`a capacity of ${value} is a RangeError at construction`, () => {
      assert.throws(
        () => Batcher.findById(GetUser, { ...options, cache: { capacity: value, timeToLive: () => 0 } }),
        RangeError,
        `Batcher.findById: cache.capacity must be an integer >= 1, got ${value}`
      )
    })
  }
  for (const value of [-1, -0.5, NaN, Infinity, -Infinity, "soon" as "1 second"]) {
    it(`a window of ${value} is a RangeError at construction`, () => {
      const got = typeof value === "string" ? JSON.stringify(value) : value
      const rule = `window must be "idle" or a finite duration >= 0, got ${got}`
      assert.throws(() => Batcher.make({ window: value }), RangeError, `Batcher.make: ${rule}`)
      assert.throws(() => Batcher.layer({ window: value }), RangeError, `Batcher.layer: ${rule}`)
      assert.throws(
        () => Batcher.findById(GetUser, { ...options, window: value }),
        RangeError,
        `Batcher.findById: ${rule}`
      )
    })
  }

  it.effect("a scheduler that is not one of this library is a defect that names the function", () =>
    Effect.gen(function*() {
      const own = Layer.effect(Scheduler.Scheduler, Effect.map(Scheduler.Scheduler, (_) => ({ ..._ }))).pipe(
        Layer.provide(Scheduler.layer({ concurrency: 1 }))
      )
      const said = (program: Effect.Effect<unknown, never, Scheduler.Scheduler>) =>
        Effect.map(Effect.exit(Effect.provide(program, own)), (exit) => Exit.isFailure(exit) ? String(exit.cause) : "")
      assert.include(
        yield* said(Batcher.make({ scheduler: Scheduler.Scheduler })),
        "Batcher.make: scheduler must be one of Scheduler.make"
      )
      assert.include(
        yield* said(Effect.scoped(Layer.build(Batcher.layer({ scheduler: Scheduler.Scheduler })))),
        "Batcher.layer: scheduler must be one of Scheduler.make"
      )
    }))

  it("an error in the options of a Resolver names the accessor", () => {
    assert.throws(
      () =>
        class extends Batcher.Resolver<any>()(
          "test/Users",
          Batcher.findById(GetUser, { ...options, window: NaN })
        ) {},
      RangeError,
      `Batcher.findById: window must be "idle" or a finite duration >= 0, got NaN`
    )
  })

  it("a window in any form is refused by accessors and by make unless it is a finite duration >= 0", () => {
    const units = ["nano", "micro", "milli", "second", "minute", "hour", "day", "week"] as const
    const windows: ReadonlyArray<Duration.Input> = [
      0,
      1.5,
      1e21,
      BigInt(0),
      BigInt(7),
      ...units.flatMap((unit) => [`1 ${unit}`, `0.5 ${unit}s`, `0 ${unit}`, `12 ${unit}s`] as Array<Duration.Input>),
      ...[[1, 5], [0, 0]] as Array<Duration.Input>,
      {},
      { hours: 1 },
      { hours: 1, minutes: -1 },
      { seconds: 1.5, nanoseconds: 3 },
      { minutes: 2, seconds: undefined },
      ...[0, 1.5, 1e-7].map(Duration.millis),
      ...[BigInt(0), BigInt(3)].map(Duration.nanos)
    ]
    const others: ReadonlyArray<Duration.Input> = [
      -1,
      NaN,
      Infinity,
      BigInt(-7),
      ...units.map((unit) => `-1 ${unit}` as Duration.Input),
      ...["", "5", "5 apples", "1e3 millis", "second", "Infinity", "-Infinity", "1second"] as Array<Duration.Input>,
      ...[[-1, 0], [NaN, 0], [Infinity, 0]] as Array<Duration.Input>,
      ...[{ seconds: -1 }, { millis: NaN }, { hours: Infinity }] as Array<Duration.Input>,
      ...[-1, Infinity, -Infinity].map(Duration.millis),
      Duration.nanos(BigInt(-3))
    ]
    const refusal = (f: () => unknown) => {
      try {
        return void f()
      } catch (error) {
        return error instanceof RangeError ? error.message.replace(/^Batcher.\w+: /, "") : error
      }
    }
    for (const window of [...windows, ...others]) {
      const refused = [
        refusal(() => Batcher.ordered(GetUser, { execute: () => Effect.succeed([]), window })),
        refusal(() => Batcher.make({ window }))
      ]
      assert.strictEqual(refused[0], refused[1])
      assert.strictEqual(refused[0] === undefined, windows.includes(window), String(window))
    }
  })

  it.effect("a window of 0 is the next turn", () =>
    Effect.gen(function*() {
      const { load } = yield* users({ window: 0 })
      const fiber = yield* start(load(1))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* Fiber.join(fiber), user(1))
    }).pipe(Effect.provide(live())))
})
