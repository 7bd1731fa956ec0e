import { assert, describe, it } from "@effect/vitest"
import { Batcher, Scheduler } from "effect-funnel"
import * as Array from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Hash from "effect/Hash"
import * as Layer from "effect/Layer"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { CurrentNode } from "../src/internal/waits/waits.ts"
import type { Node } from "../src/internal/waits/waits.ts"
import { fork as start, settle, unbounded } from "./support/fibers.ts"
import { leftIn } from "./support/leftInResolver.ts"
import { type Broken, Get, get, live, store, Tenant, valuesOf } from "./support/lookups.ts"

const bug = new Error("bug")
const fail = (): never => {
  throw bug
}

/** An id whose comparison and hash are the test's. */
class Id implements Equal.Equal {
  readonly name: string
  readonly equal: () => boolean
  readonly hash: () => number
  constructor(name: string, equal: () => boolean = fail, hash: () => number = () => 1) {
    this.name = name
    this.equal = equal
    this.hash = hash
  }
  [Equal.symbol](): boolean {
    return this.equal()
  }
  [Hash.symbol](): number {
    return this.hash()
  }
  toString(): string {
    return this.name
  }
}

const as = (me: Id) => Effect.provideService(Tenant, me)

const result = <A, E>(exit: Exit.Exit<A, E>) => Exit.isSuccess(exit) ? exit.value : Cause.squash(exit.cause)

/** A request whose own field cannot be read. */
const unreadable = () => Object.defineProperty(get(0), "id", { enumerable: true, get: fail })

describe("B7 isolating services that throw", () => {
  it.effect("B7 a tenant whose Hash throws never gets a result of the tenant before it", () =>
    Effect.gen(function*() {
      const { load, resolver } = yield* store({
        isolate: [Tenant],
        cache: { capacity: 10, timeToLive: () => "1 hour" },
        execute: (requests) =>
          Effect.map(Tenant, (me) => requests.map(() => `of ${String(me)}`)) as Effect.Effect<Array<string>>
      })
      const ada = new Id("ada", () => true)
      const bob = new Id("bob", fail, fail)
      assert.strictEqual(yield* as(ada)(Effect.andThen(load(1), load(1))), "of ada")
      const operations: Array<Effect.Effect<unknown, Broken, Tenant>> = [
        load(1),
        Batcher.loadMany([get(1), get(2)], resolver),
        resolver.prime(get(1), "of bob"),
        resolver.clear(get(1)),
        load(1)
      ]
      const exits = yield* as(bob)(Effect.forEach(operations, (operation) => Effect.exit(operation)))
      assert.deepStrictEqual(exits, operations.map(() => Exit.die(bug)))
      assert.strictEqual(yield* as(ada)(load(1)), "of ada")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B7 a look-up that dies before it is collected leaves no group behind", () =>
    Effect.gen(function*() {
      const { resolver } = yield* store({ isolate: [Tenant] })
      for (const request of [unreadable(), get(new Id("of no hash", fail, fail))]) {
        const looks: Array<Effect.Effect<unknown, Broken, Tenant>> = [
          Effect.request(request, resolver),
          Batcher.loadMany([get(1), request], resolver)
        ]
        for (const look of looks) {
          assert.deepStrictEqual(yield* as(new Id("ada", () => true))(Effect.exit(look)), Exit.die(bug))
          assert.strictEqual(leftIn(resolver), "")
        }
      }
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("B4 requests that throw", () => {
  it.effect("B4 a request that cannot be read fails its own caller, and the other requests of its loadMany reach no batch", () =>
    Effect.gen(function*() {
      const { calls, load, resolver } = yield* store()
      for (const request of [unreadable(), get(new Id("of no hash", fail, fail))]) {
        const one = yield* start(Effect.exit(Effect.request(request, resolver)))
        const many = yield* start(Effect.exit(Batcher.loadMany([get(7), request, get(8)], resolver)))
        const others = yield* Effect.forEach([1, 2], (id) => start(load(id)))
        assert.deepStrictEqual(yield* Fiber.join(one), Exit.die(bug))
        assert.deepStrictEqual(yield* Fiber.join(many), Exit.die(bug))
        assert.deepStrictEqual(yield* Fiber.joinAll(others), valuesOf(1, 2))
        assert.deepStrictEqual(calls.splice(0), [[1, 2]])
        assert.strictEqual(leftIn(resolver), "")
      }
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B4 an Equal that ends the batch it is found in does not make its caller wait for that batch", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { calls, load, round } = yield* store({ gate: Deferred.await(gate) })
      const ending = () =>
        new Id("ending", () => {
          Deferred.doneUnsafe(gate, Exit.void)
          return true
        })
      const first = yield* round(ending())
      assert.strictEqual(yield* load(ending()), "value of ending")
      assert.deepStrictEqual(yield* Fiber.joinAll(first), ["value of ending"])
      assert.deepStrictEqual(calls, [["ending"], ["ending"]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("B3 comparisons that end look-ups", () => {
  for (const [ends, sent] of Object.entries({ "closes the resolver": [], "takes back the other look-up": [["b"]] })) {
    it.effect(`B3 an Equal that ${ends} while core hands over two asks for no permit for a look-up that nobody waits for`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { calls, resolver } = yield* Scope.provide(store(), scope)
        let handsOver = false
        const wrapped = RequestResolver.around(
          resolver,
          () => Effect.sync(() => void (handsOver = true)),
          () => Effect.void
        )
        const id = (name: string) =>
          new Id(name, () => {
            if (handsOver && ends === "closes the resolver") Effect.runFork(Scope.close(scope, Exit.void))
            else if (handsOver) fibers[0]!.interruptUnsafe()
            return false
          })
        const busy = yield* start(Scheduler.schedule(Effect.never))
        const fibers = yield* Effect.forEach(["a", "b"], (name) => start(Effect.request(get(id(name)), wrapped)))
        yield* settle
        assert.strictEqual((yield* Scheduler.stats).queued, sent.length)
        yield* Fiber.interrupt(busy)
        yield* settle
        assert.deepStrictEqual(calls, sent)
        const exits = yield* Fiber.awaitAll(fibers)
        assert.deepStrictEqual(exits.map(Exit.hasInterrupts), [true, sent.length === 0])
        assert.strictEqual(leftIn(resolver), "")
      }).pipe(Effect.provide(live({ concurrency: 1 }))))
  }
})

describe("B4 callers that throw", () => {
  it.effect("B3 a last caller that throws while it leaves still interrupts the batch", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const { resolver, round } = yield* store({
        gate: Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      })
      yield* round()
      const leave = Effect.requestUnsafe(get(1), {
        resolver,
        context: Context.add(Context.empty(), Tenant, new Id("me", () => true)),
        onExit: fail
      })
      yield* settle
      assert.throws(leave, "bug")
      yield* settle
      assert.strictEqual(interrupted, 1)
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("B6 kept results", () => {
  it.effect("B6 an interruption that comes during timeToLive is not kept", () =>
    Effect.gen(function*() {
      let caller: Fiber.Fiber<unknown, unknown> | undefined
      const { load } = yield* store({
        cache: {
          capacity: 10,
          timeToLive: () => {
            caller?.interruptUnsafe()
            return "1 hour"
          }
        }
      })
      caller = yield* start(load(1))
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(caller)))
      caller = undefined
      yield* settle
      assert.strictEqual(yield* load(1), "value of 1")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  for (const ends of ["succeeds", "fails"] as const) {
    it.effect(`B6 the defect of a tracer is not kept, where the batch ${ends}`, () =>
      Effect.gen(function*() {
        let broken = true
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            const end = span.end.bind(span)
            span.end = (time, exit) => {
              if (broken && span.name === "batch") fail()
              end(time, exit)
            }
            return span
          }
        })
        let calls = 0
        const { load } = yield* store({
          name: "batch",
          cache: { capacity: 10, timeToLive: () => "1 hour" },
          execute: (requests) =>
            Effect.suspend(() => {
              calls++
              return ends === "succeeds" ? Effect.succeed(requests.map(() => "value")) : Effect.die("broken")
            })
        })
        const first = yield* Effect.exit(Effect.withTracer(load(1), tracer))
        assert.isTrue(Exit.hasDies(first))
        broken = false
        const expected = ends === "succeeds" ? "value" : "broken"
        for (let i = 0; i < 2; i++) assert.deepStrictEqual(result(yield* Effect.exit(load(1))), expected)
        assert.strictEqual(calls, 2)
      }).pipe(Effect.provide(live({ concurrency: 1 }))))
  }

  it.effect("B6 timeToLive may look up, prime and clear, and all of it takes effect", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Tenant>()
      const asked: Array<Fiber.Fiber<string, Broken>> = []
      const seen = new Set<unknown>()
      const { calls, load, resolver } = yield* store({
        cache: {
          capacity: 10,
          timeToLive: (_, request) => {
            const run = Effect.runForkWith(context)
            if (!seen.has(request.id)) {
              seen.add(request.id)
              asked.push(run(load(request.id)))
              if (request.id === 1) run(resolver.prime(get(1), "primed"))
              if (request.id === 2) run(resolver.clear(get(2)))
            }
            return "1 hour"
          }
        }
      })
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3], load, unbounded), valuesOf(1, 2, 3))
      for (const value of yield* Fiber.joinAll(asked)) assert.match(value, /^value of \d$/)
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3], load, unbounded), ["primed", "value of 2", "value of 3"])
      assert.deepStrictEqual(calls, [[1, 2, 3], [2]])
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B6 a prime whose timeToLive throws changes nothing", () =>
    Effect.gen(function*() {
      let broken = false
      const { calls, load, resolver } = yield* store({
        cache: { capacity: 10, timeToLive: () => broken ? fail() : "1 hour" }
      })
      yield* load(1)
      broken = true
      const exit = yield* Effect.exit(resolver.prime(get(1), "primed"))
      assert.deepStrictEqual(exit, Exit.die(bug))
      assert.strictEqual(yield* load(1), "value of 1")
      assert.deepStrictEqual(calls, [[1]])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B6 a result whose key clears the cache in the step that keeps it is kept, and found again", () =>
    Effect.gen(function*() {
      let clears = false
      const { calls, load, resolver } = yield* store({
        isolate: [Tenant],
        cache: { capacity: 10, timeToLive: (_, { id }) => (clears = id === other, "1 hour") }
      })
      const other = new Id("other", () => {
        if (clears) Effect.runSync(resolver.clearAll)
        clears = false
        return false
      })
      yield* load(new Id("one", () => false))
      yield* Effect.andThen(load(other), load(other))
      assert.deepStrictEqual(calls, [["one"], ["other"]])
      assert.strictEqual(leftIn(resolver), "1 groups")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("memory of ended batches", () => {
  it.effect("B3 an ended batch holds neither its fiber nor its requests", () =>
    Effect.gen(function*() {
      const nodes: Array<Node | undefined> = []
      const { load } = yield* store({ gate: Effect.map(CurrentNode, (node) => nodes.push(node)) })
      yield* load(1)
      yield* settle
      const job = nodes[0]!
      assert.isTrue(job.ended)
      // Sound: it is the job of a batch, whose client has these fields.
      const { client } = job as unknown as {
        readonly client: { readonly batch: Record<string, unknown>; readonly resume: unknown }
      }
      const { batch, resume } = client
      const { answer, fiber, items } = batch
      assert.deepStrictEqual([answer, fiber, items, resume], [undefined, undefined, [], undefined])
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("long steps", () => {
  const many = Array.range(1, 20_000)

  /** The most that `count` grows by in one turn of the event loop, while `work` runs. */
  const mostInTurn = <A, E, R>(count: () => number, work: Effect.Effect<A, E, R>) =>
    Effect.gen(function*() {
      let most = 0
      let last = count()
      const note = Effect.sync(() => {
        most = Math.max(most, count() - last)
        last = count()
      })
      const watcher = yield* start(Effect.forever(Effect.andThen(note, Effect.yieldNow)))
      yield* work
      yield* note
      yield* Fiber.interrupt(watcher)
      return most
    })

  it.effect("B3 B4 a turn of the event loop tells a bounded number of a batch's callers, however many wait", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Tenant>()
      for (const ids of [(i: number) => i, () => 1]) {
        for (const end of ["answers", "fails", "closes", "closes in the queue"]) {
          const gate = yield* Deferred.make<void>()
          const scope = yield* Scope.make()
          const { resolver } = yield* Scope.provide(store({ gate: Deferred.await(gate) }), scope)
          let told = 0
          if (end === "closes in the queue") yield* Scheduler.pause
          for (const i of many) {
            Effect.requestUnsafe(get(ids(i)), { resolver, context, onExit: () => told++ })
          }
          yield* settle
          assert.strictEqual(told, 0)
          const most = yield* mostInTurn(
            () => told,
            Effect.andThen(
              end === "answers"
                ? Deferred.succeed(gate, undefined)
                : end === "fails"
                ? Deferred.die(gate, bug)
                : Scope.close(scope, Exit.void),
              settle
            )
          )
          assert.deepStrictEqual([told, most <= 10_000], [many.length, true], `${end}: ${told}, ${most}`)
          assert.strictEqual(leftIn(resolver), "")
          yield* Scheduler.resume
        }
      }
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B3 B4 a turn of the event loop tells a bounded number of callers, however many batches end at once", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Tenant>()
      const gate = yield* Deferred.make<void>()
      let told = 0
      for (let batch = 0; batch < 4; batch++) {
        const { resolver } = yield* store({ gate: Deferred.await(gate) })
        for (const i of many) Effect.requestUnsafe(get(i), { resolver, context, onExit: () => told++ })
      }
      yield* settle
      assert.strictEqual(told, 0)
      const most = yield* mostInTurn(() => told, Effect.andThen(Deferred.succeed(gate, undefined), settle))
      assert.deepStrictEqual([told, most <= 10_000], [4 * many.length, true], `${most}`)
    }).pipe(Effect.provide(live({ concurrency: 4 }))))

  it.effect("B1 B3 a turn reads the ids and rows of a bounded number of look-ups, however many there are", () =>
    Effect.gen(function*() {
      let ids = 0
      let rows = 0
      let missing = 0
      const resolver = yield* Batcher.findById(Get, {
        id: ({ id }) => (ids++, id),
        execute: (ids) => Effect.succeed(ids.filter((id) => Number(id) % 2 === 0).map(String)),
        resultId: (row) => (rows++, Number(row)),
        missing: () => (missing++, Exit.succeed("none"))
      })
      const counts: ReadonlyArray<readonly [string, () => number]> = [
        ["ids", () => ids],
        ["rows", () => rows],
        ["missing", () => missing]
      ]
      const context = yield* Effect.context<Tenant>()
      for (const [what, count] of counts) {
        ids = rows = missing = 0
        let told = 0
        for (const i of many) Effect.requestUnsafe(get(i), { resolver, context, onExit: () => told++ })
        const most = yield* mostInTurn(count, settle)
        assert.deepStrictEqual([told, ids, rows, missing], [20_000, 20_000, 10_000, 10_000])
        assert.deepStrictEqual([what, most > 0, most <= 8_192], [what, true, true], String(most))
      }
      assert.strictEqual(leftIn(resolver), "")
    }).pipe(Effect.provide(live({ concurrency: 1 }))))

  it.effect("B3 each caller of a large batch is told once, whether callers leave or join or the resolver closes in any turn", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Tenant>()
      const some = many.slice(0, 9_000)
      for (const what of ["leave and join", "all leave", "closes", "is joined from a batch"]) {
        for (let turns = 0; turns <= 11; turns++) {
          const scope = yield* Scope.make()
          const services = yield* Layer.buildWithScope(live({ concurrency: turns % 2 + 1 }), scope)
          const { resolver } = yield* Effect.provideContext(Scope.provide(store(), scope), services)
          const told = new Map<string, Array<unknown>>()
          const ask = (name: string, i: number) => {
            const exits: Array<unknown> = []
            told.set(`${name} ${i}`, exits)
            const onExit = (exit: Exit.Exit<string, Broken>) =>
              exits.push(Exit.isSuccess(exit) ? exit.value : "interrupted")
            return Effect.requestUnsafe(get(i), { resolver, context, onExit })
          }
          const leave = some.map((i) => ask("first", i))
          for (let i = 0; i < turns; i++) yield* Effect.yieldNow
          const leaving = what === "all leave" ? some : what === "leave and join" ? some.slice(0, 5_000) : []
          for (const i of leaving) leave[i - 1]!()
          if (what === "leave and join") { for (const i of some.slice(2_500)) ask("second", i) }
          if (what === "closes") yield* start(Scope.close(scope, Exit.void))
          const others = some.slice(8_990)
          const other = what === "is joined from a batch"
            ? yield* Batcher.ordered(Get, {
              execute: (requests) => Effect.forEach(requests, (request) => Effect.request(request, resolver), unbounded)
            }).pipe(
              Effect.flatMap((outer) => Batcher.loadMany(others.map(get), outer)),
              Effect.scoped,
              Effect.provideContext(services),
              start
            )
            : undefined
          yield* settle
          const wrong = Array.fromIterable(told).filter(([name, [exit, ...more]]) => {
            const [who, id] = name.split(" ")
            const mayEnd = what === "closes" || (who === "first" && Number(id) <= leaving.length)
            return more.length > 0 || (exit !== `value of ${id}` && !(mayEnd && exit === "interrupted"))
          })
          assert.deepStrictEqual(wrong.slice(0, 3), [], `${what} after ${turns} turns`)
          if (other !== undefined) {
            assert.deepStrictEqual(yield* Fiber.join(other), valuesOf(...others))
          }
          assert.strictEqual(leftIn(resolver), "", `${what} after ${turns} turns`)
          yield* Scope.close(scope, Exit.void)
        }
      }
    }).pipe(Effect.provideService(Tenant, new Id("anybody", () => true))))

  it.effect("B6 a turn dates and keeps a bounded number of results, and clearing them all takes one step", () =>
    Effect.gen(function*() {
      let asked = 0
      const { calls, resolver } = yield* store({
        cache: { capacity: many.length, timeToLive: () => (asked++, "1 hour") }
      })
      const load = Batcher.loadMany(many.map(get), resolver)
      assert.isAtMost(yield* mostInTurn(() => asked, load), 10_000)
      yield* load
      assert.deepStrictEqual([calls.length, asked], [1, many.length])
      yield* resolver.clearAll
      yield* load
      assert.strictEqual(calls.length, 2)
    }).pipe(Effect.provide(live({ concurrency: 1 }))))
})

describe("B4 an execute that is no effect", () => {
  it.effect("B4 is a defect of its look-ups, and gives back its permit: nobody waits for good", () => {
    class Api extends Scheduler.Service<Api>()("test/Api", { concurrency: 1 }) {}
    return Effect.gen(function*() {
      const resolver = yield* Batcher.findById(Get, {
        id: ({ id }) => id,
        // Sound: an async function, as callers without types may write it.
        execute: () => Promise.resolve([]) as never,
        resultId: () => 0,
        missing: () => Exit.succeed("missing")
      })
      const fibers = yield* Effect.forEach([1, 2], (id) => start(as(new Id("any"))(Effect.request(get(id), resolver))))
      yield* settle
      for (const fiber of fibers) assert.include(String(fiber.pollUnsafe()), "Not a valid effect")
      assert.deepInclude(yield* Api.stats, { running: 0, queued: 0 })
    }).pipe(Effect.provide(Layer.provideMerge(Batcher.layer({ scheduler: Api }), Api.layer)))
  })
})
