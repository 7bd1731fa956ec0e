import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, Request } from "effect"
import * as Adaptive from "effect-funnel/Adaptive"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import * as RetryBudget from "effect-funnel/RetryBudget"
import * as Stores from "effect-funnel/stores"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { TestClock } from "effect/testing"
import { fork, settle } from "./support/fibers.ts"
import { taking } from "./support/gcraStoreModel.ts"
import { read, withRegistry } from "./support/metrics.ts"
import { random as randomOf } from "./support/random.ts"

class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 2 }) {}
class Users extends Reducer.Service<Users>()("app/Users") {}
class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 1, window: "1 second" }) {}
class Get extends Request.Class<{ readonly id: number }, number> {}

const all = Layer.mergeAll(GitHub.layer, Users.layer, Api.layer, RetryBudget.layer())

const inspected = <A, E, R>(layer: Layer.Layer<A, E, R>, options?: Inspector.Options) =>
  Layer.provideMerge(layer, Inspector.layer(options))

const only = <A>(list: ReadonlyArray<A>): A => {
  assert.lengthOf(list, 1)
  return list[0]!
}

describe("Inspector", () => {
  for (const [how, layer] of [["alone", all], ["with Metrics", Layer.provide(all, Metrics.layer)]] as const) {
    it.effect(`the snapshot, stats, inFlight and the dump agree under a random load, ${how}`, () =>
      Effect.gen(function*() {
        const below = randomOf(7)
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let i = 0; i < 200; i++) {
          const work = GitHub.schedule(Effect.sleep(below(300)), {
            weight: below(10) < 3 ? 2 : 1,
            priority: below(3)
          })
          fibers.push(yield* fork(Users.reduce(below(20), work)))
          if (below(10) < 3) yield* Fiber.interrupt(fibers[below(fibers.length)]!)
          if (below(2) === 0) yield* TestClock.adjust(below(200))
          const stats = yield* GitHub.stats
          const runs = yield* Users.inFlight
          const snapshot = yield* Inspector.snapshot
          const dump = yield* Inspector.dump
          const scheduler = only(snapshot.schedulers.first)
          assert.strictEqual(scheduler.running.total, stats.running)
          assert.strictEqual(scheduler.queued.total, stats.queued)
          assert.strictEqual(scheduler.weight, stats.weight)
          assert.strictEqual(scheduler.limit, stats.concurrency)
          assert.strictEqual(scheduler.waitingFor, stats.waitingFor)
          assert.strictEqual(scheduler.oldestWaitMillis, Duration.toMillis(stats.oldestWait))
          assert.deepStrictEqual(scheduler.byPriority, stats.byPriority)
          const waits = scheduler.queued.first.map(({ millis }) => millis)
          assert.deepStrictEqual(waits, waits.toSorted((a, b) => b - a))
          assert.strictEqual(waits[0] ?? 0, scheduler.oldestWaitMillis)
          const { inFlight } = only(snapshot.reducers)
          assert.deepStrictEqual(
            inFlight.first.map(({ callers, millis, phase }) => [callers, millis, phase]),
            runs.map(({ age, callers, phase }) => [callers, Math.round(Duration.toMillis(age)), phase])
          )
          assert.include(dump, `Scheduler app/GitHub: ${stats.running} running, weight ${stats.weight} of 2`)
          assert.include(dump, `Reducer app/Users: ${runs.length} in flight`)
          assert.deepStrictEqual(JSON.parse(JSON.stringify(snapshot)), snapshot)
        }
      }).pipe(Effect.provide(inspected(layer, { most: 100 }))))
  }

  it.effect("the limit of a scheduler that adapts is the width of this moment, as in stats", () =>
    Effect.gen(function*() {
      const { concurrency } = yield* Scheduler.stats
      assert.isBelow(concurrency, 200)
      assert.strictEqual(only((yield* Inspector.snapshot).schedulers.first).limit, concurrency)
    }).pipe(Effect.provide(inspected(Scheduler.layer({ concurrency: Adaptive.latency({ max: 200 }) })))))

  it.effect("it tells for how long jobs run and wait, the oldest first, and counts those that it does not list", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 6; i++) {
        yield* fork(GitHub.schedule(Effect.never))
        yield* TestClock.adjust("1 second")
      }
      const { queued, running } = only((yield* Inspector.snapshot).schedulers.first)
      assert.deepStrictEqual([running.total, running.first.map(({ millis }) => millis)], [2, [6000, 5000]])
      assert.deepStrictEqual([queued.total, queued.first.map(({ millis }) => millis)], [4, [4000, 3000]])
      const dump = yield* Inspector.dump
      assert.include(dump, "  and 2 more")
      assert.notInclude(dump, "by priority")
    }).pipe(Effect.provide(inspected(GitHub.layer, { most: 2 }))))

  it.effect("it tells who waits for whom, also for jobs that wait", () =>
    Effect.gen(function*() {
      yield* fork(Users.reduce(
        1,
        Effect.all([GitHub.schedule(Effect.never), GitHub.schedule(Effect.never)], {
          concurrency: 2
        })
      ))
      yield* fork(Users.reduce(2, GitHub.schedule(Effect.never)))
      yield* fork(Users.reduce(3, Users.reduce(2, Effect.never)))
      const { waits } = yield* Inspector.snapshot
      const told = waits.first.map(({ from, to }) => `${from.name} -> ${to.name}`).sort()
      assert.deepStrictEqual([waits.total, told], [4, [
        "app/Users -> app/GitHub",
        "app/Users -> app/GitHub",
        "app/Users -> app/GitHub",
        "app/Users -> app/Users"
      ]])
      const [, second, third] = only((yield* Inspector.snapshot).reducers).inFlight.first
      const { first: [queued] } = only((yield* Inspector.snapshot).schedulers.first).queued
      assert.strictEqual(queued!.inside, second!.id)
      const dump = yield* Inspector.dump
      assert.include(dump, `${third!.id} (app/Users) -> ${second!.id} (app/Users)`)
      assert.include(dump, `${second!.id} (app/Users) -> ${queued!.id} (app/GitHub)`)
    }).pipe(Effect.provide(inspected(all))))

  it.effect("it tells that a batch is waited for, and what the batch waits for", () =>
    Effect.gen(function*() {
      const resolver = yield* Batcher.ordered(Get, { name: "users", execute: () => Users.reduce(2, Effect.never) })
      yield* fork(Users.reduce(1, Effect.request(new Get({ id: 1 }), resolver)))
      yield* settle
      const { waits } = yield* Inspector.snapshot
      assert.deepStrictEqual(waits.first.map(({ from, to }) => `${from.name} -> ${to.name}`), [
        "app/Users -> users",
        "users -> app/Users"
      ])
    }).pipe(Effect.scoped, Effect.provide(inspected(Layer.provideMerge(Batcher.layer(), Users.layer)))))

  it.effect("where more wait than it lists, it lists the waits of the oldest jobs", () =>
    Effect.gen(function*() {
      for (const key of [1, 2]) yield* fork(GitHub.schedule(Users.reduce(key, Effect.never)))
      assert.deepStrictEqual((yield* Inspector.snapshot).waits, {
        total: 2,
        first: [{ from: { id: "job 1", name: "app/GitHub" }, to: { id: "run 1", name: "app/Users" } }]
      })
    }).pipe(Effect.provide(inspected(all, { most: 1 }))))

  it.effect("a run that takes a snapshot in its first step has run for 0 ms", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 second")
      const { reducers } = yield* Users.reduce(1, Inspector.snapshot)
      assert.deepStrictEqual(only(reducers).inFlight.first.map(({ millis, phase }) => [millis, phase]), [[
        0,
        "running"
      ]])
    }).pipe(Effect.provide(inspected(all))))

  it.effect("it has no keys unless they are asked for, and then as short text", () => {
    const program = Effect.gen(function*() {
      yield* fork(Users.reduce("secret", Effect.never))
      yield* fork(Users.reduce("secret".repeat(100), Effect.never))
      yield* fork(Users.reduce({
        toJSON: () =>
          (() => {
            throw new Error("no")
          })()
      }, Effect.never))
      yield* Api.penalize({ key: "secret", for: "1 second" })
      yield* fork(Effect.all(Array.from({ length: 3 }, () => GitHub.schedule(Effect.never, { share: "secret" })), {
        concurrency: "unbounded"
      }))
      return [JSON.stringify(yield* Inspector.snapshot), yield* Inspector.dump] as const
    })
    return Effect.gen(function*() {
      for (const text of yield* Effect.provide(program, inspected(all))) {
        assert.notInclude(text, "secret")
        // All jobs of a share have one name.
        assert.include(text, "share 1")
        assert.notInclude(text, "share 2")
      }
      const [json, dump] = yield* Effect.provide(program, inspected(all, { showKeys: true }))
      assert.include(dump, `run 1 "secret", running`)
      assert.include(dump, `key "secret", 0 waiting, penalty of 1.0 s`)
      assert.include(dump, `share "secret"`)
      assert.notInclude(json, "secret".repeat(21))
    })
  })

  it.effect("a key is text on one line, which says nothing to a terminal", () =>
    Effect.gen(function*() {
      yield* fork(Users.reduce({ toString: () => "a\nb\r\u001b[2J\u009b\u2028c" }, Effect.never))
      const { reducers } = yield* Inspector.snapshot
      const key = reducers[0]!.inFlight.first[0]!.key
      assert.strictEqual(key, "a\\u000ab\\u000d\\u001b[2J\\u009b\\u2028c")
      assert.include((yield* Inspector.dump).split("\n"), `  run 1 ${key}, running, 0 ms, 1 caller`)
    }).pipe(Effect.provide(inspected(all, { showKeys: true }))))

  it.effect("a key that meddles with the services when it becomes text changes nothing that the snapshot tells", () =>
    Effect.gen(function*() {
      const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
      class Key {
        toString() {
          for (const fiber of fibers) fiber.interruptUnsafe()
          return "key"
        }
      }
      for (let i = 0; i < 3; i++) {
        fibers.push(yield* fork(Users.reduce(new Key(), GitHub.schedule(Effect.never))))
      }
      const told = yield* Inspector.snapshot
      assert.deepStrictEqual(
        told.reducers[0]!.inFlight.first.map(({ callers, key, phase }) => [callers, key, phase]),
        [[1, "key", "running"], [1, "key", "running"], [1, "key", "running"]]
      )
      const { queued, running } = told.schedulers.first[0]!
      assert.deepStrictEqual([running.total, queued.total, told.waits.total], [2, 1, 3])
      yield* Fiber.awaitAll(fibers)
      assert.strictEqual((yield* Inspector.snapshot).reducers[0]!.inFlight.total, 0)
    }).pipe(Effect.provide(inspected(all, { showKeys: true }))))

  it.effect("a key is at most 120 characters of text, and one that throws says so", () =>
    Effect.gen(function*() {
      const broken = {
        toString: () => {
          throw new Error("no")
        }
      }
      for (const key of ["a".repeat(118), "b".repeat(119), "c".repeat(200), broken]) {
        yield* fork(Users.reduce(key, Effect.never))
      }
      const { inFlight } = only((yield* Inspector.snapshot).reducers)
      assert.deepStrictEqual(inFlight.first.map(({ key }) => key), [
        `"${"a".repeat(118)}"`,
        `"${"b".repeat(119)}…`,
        `"${"c".repeat(119)}…`,
        "[toString threw]"
      ])
    }).pipe(Effect.provide(inspected(all, { showKeys: true }))))

  it.effect("it tells the penalty of a scheduler, the longest wait for a limiter, and the shares with the most jobs", () =>
    Effect.gen(function*() {
      for (const share of ["run", "run", "one", "two", "two"]) yield* fork(GitHub.schedule(Effect.never, { share }))
      yield* GitHub.penalize({ for: "2500 millis" })
      for (const key of ["ada", "grace"]) {
        yield* fork(Effect.andThen(Api.consume({ key }), Api.consume({ key })))
        yield* TestClock.adjust("100 millis")
      }
      const { limiters, schedulers } = yield* Inspector.snapshot
      const { byShare, penaltyMillis } = only(schedulers.first)
      assert.strictEqual(penaltyMillis, 2300)
      assert.deepStrictEqual(byShare, [{ share: `"two"`, queued: 2 }, { share: `"one"`, queued: 1 }])
      assert.deepInclude(only(limiters), { waiting: 2, oldestWaitMillis: 200, penaltyMillis: 0 })
      assert.notInclude(yield* Inspector.dump, "more scheduler")
      yield* Api.penalize({ key: "ada", for: "2 seconds" })
      yield* Api.penalize({ key: "bob", for: "1 second" })
      assert.strictEqual(only((yield* Inspector.snapshot).limiters).penaltyMillis, 2000)
    }).pipe(Effect.provide(inspected(all, { showKeys: true }))))

  it.effect("of many shares it lists those with the most jobs, and of jobs without a share none", () =>
    Effect.gen(function*() {
      yield* GitHub.pause
      for (
        const share of ["one", "three", "two", "three", undefined, "two", undefined, "three", undefined, undefined]
      ) {
        yield* fork(GitHub.schedule(Effect.never, { share }))
      }
      assert.deepStrictEqual(only((yield* Inspector.snapshot).schedulers.first).byShare, [
        { share: `"three"`, queued: 3 },
        { share: `"two"`, queued: 2 }
      ])
    }).pipe(Effect.provide(inspected(GitHub.layer, { showKeys: true, most: 2 }))))

  it.effect("it tells the penalty of a scheduler whose rate is in a store", () => {
    const store = taking(() => Effect.never)
    const rate = Stores.layerRateLimiter(Api, Effect.succeed(() => store), { rate: { limit: 1, window: "1 second" } })
    return Effect.gen(function*() {
      const penalty = Effect.map(Inspector.snapshot, ({ schedulers }) => only(schedulers.first).penaltyMillis)
      assert.strictEqual(yield* penalty, 0)
      yield* Scheduler.penalize({ for: "5 seconds" })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* penalty, 3000)
    }).pipe(Effect.provide(inspected(Layer.provide(Scheduler.layer({ concurrency: 1, rate: Api }), rate))))
  })

  it.effect("it tells the keys that a limiter holds back", () =>
    Effect.gen(function*() {
      // One that neither waits nor has a penalty is not held back.
      yield* Api.consume({ key: "grace" })
      yield* Api.consume({ key: "ada" })
      yield* fork(Api.consume({ key: "ada" }))
      yield* fork(Api.consume({ key: "ada" }))
      yield* Api.penalize({ for: "5 seconds" })
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(only((yield* Inspector.snapshot).limiters).held, {
        total: 2,
        first: [
          { waiting: 0, oldestWaitMillis: 0, penaltyMillis: 4500 },
          { key: `"ada"`, waiting: 2, oldestWaitMillis: 500, penaltyMillis: 0 }
        ]
      })
    }).pipe(Effect.provide(inspected(Api.layer, { showKeys: true }))))

  it.effect("it tells the keys that a limiter over a store holds back, each once, also while the store is away", () => {
    let away = false
    const full = { waits: [], retryMillis: 9000, remaining: 0, resetMillis: 9000, tightest: 0, before: "", after: "" }
    const store = taking(() =>
      away ? Effect.fail(new Stores.StoreError({ operation: "take", cause: "away" })) : Effect.succeed(full)
    )
    const layer = Stores.layerRateLimiter(Api, Effect.succeed(() => store), {
      rate: { limit: 1, window: "1 second" },
      onStoreError: "local",
      expectedProcesses: 1,
      outageBudget: 0
    })
    return Effect.gen(function*() {
      const heldBack = Effect.map(
        Inspector.snapshot,
        ({ limiters }) =>
          only(limiters).held.first.map(({ key, oldestWaitMillis, penaltyMillis, waiting }) =>
            [key, waiting, oldestWaitMillis, penaltyMillis] as const
          )
      )
      const penalty = read("ratelimiter.penalty", { name: "app/Api" })
      assert.deepStrictEqual([yield* heldBack, yield* penalty], [[], 0])
      yield* fork(Api.consume({ key: "ada" }))
      yield* Api.penalize({ key: "ada", for: "6 seconds" })
      yield* Api.penalize({ key: "bob", for: "5 seconds" })
      yield* TestClock.adjust("500 millis")
      assert.sameDeepMembers(Array.from(yield* heldBack), [[`"bob"`, 0, 0, 4500], [`"ada"`, 1, 500, 5500]])
      assert.strictEqual(yield* penalty, 5.5)
      away = true
      for (let i = 0; i < 3; i++) yield* fork(Api.consume({ key: "eve" }))
      yield* TestClock.adjust("250 millis")
      assert.deepInclude(yield* heldBack, [`"eve"`, 2, 250, 0])
    }).pipe(
      Effect.provide(Layer.provide(inspected(layer, { showKeys: true }), Metrics.layer)),
      Effect.provide(Logger.layer([])),
      withRegistry
    )
  })

  it.effect("it tells the batches that collect, queue and run", () =>
    Effect.gen(function*() {
      const resolver = yield* Batcher.ordered(Get, {
        name: "users",
        window: "1 second",
        maxBatchSize: 2,
        execute: () => Effect.never
      })
      const get = (id: number) => fork(Effect.request(new Get({ id }), resolver))
      yield* TestClock.adjust("1 second")
      for (const id of [1, 2]) yield* get(id)
      yield* settle
      yield* TestClock.adjust("100 millis")
      for (const id of [3, 4]) yield* get(id)
      yield* settle
      yield* TestClock.adjust("200 millis")
      yield* get(5)
      yield* TestClock.adjust("500 millis")
      const batcher = only((yield* Inspector.snapshot).batchers)
      assert.deepInclude(batcher, { name: "users", collecting: 1, queued: 1, running: 1, longestQueuedMillis: 700 })
      assert.deepStrictEqual(
        batcher.batches.first.map(({ callers, millis, requests, state }) => [state, requests, callers, millis]),
        [["running", 2, 2, 800], ["queued", 2, 2, 700], ["collecting", 1, 1, 500]]
      )
      assert.include(
        yield* Inspector.dump,
        `
Batcher users: 1 collecting, 1 queued, 1 running
  batch 1, running, 800 ms, 2 requests, 2 callers
  batch 2, queued, 700 ms, 2 requests, 2 callers
  batch 3, collecting, 500 ms, 1 request, 1 caller
`
      )
    }).pipe(
      Effect.scoped,
      Effect.provide(inspected(
        Layer.provideMerge(Batcher.layer({ scheduler: Scheduler.Scheduler }), Scheduler.layer({ concurrency: 1 }))
      ))
    ))

  it.effect("a batch whose callers have left is running until it has cleaned up", () =>
    Effect.gen(function*() {
      const ends = yield* Deferred.make<void>()
      const resolver = yield* Batcher.ordered(Get, {
        name: "users",
        execute: () => Effect.onInterrupt(Effect.never, () => Deferred.await(ends))
      })
      const call = yield* fork(Effect.request(new Get({ id: 1 }), resolver))
      yield* settle
      yield* fork(Fiber.interrupt(call))
      yield* settle
      const batcher = only((yield* Inspector.snapshot).batchers)
      assert.deepInclude(batcher, { collecting: 0, queued: 0, running: 1 })
      assert.deepStrictEqual(batcher.batches.first.map(({ callers, state }) => [callers, state]), [[0, "running"]])
      yield* Deferred.succeed(ends, undefined)
      yield* settle
      assert.strictEqual(only((yield* Inspector.snapshot).batchers).batches.total, 0)
    }).pipe(Effect.scoped, Effect.provide(inspected(Batcher.layer()))))

  it.effect("a resolver is listed once it is made, and no snapshot fails before, wherever the fiber that makes it yields", () =>
    Effect.gen(function*() {
      for (const ops of [3, 4, 5, 6, 7, 8, 9, 10, 11]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const making = yield* Batcher.ordered(Get, { name: "users", execute: () => Effect.never }).pipe(
            Effect.provideService(MaxOpsBeforeYield, ops),
            Effect.forkScoped
          )
          const listed: Array<number> = []
          for (let i = 0; i < 100; i++) {
            listed.push((yield* Inspector.snapshot).batchers.length)
            yield* Effect.yieldNow
          }
          yield* Fiber.join(making)
          assert.deepStrictEqual([listed[0], listed.at(-1)], [0, 1])
        }))
      }
    }).pipe(Effect.provide(inspected(Batcher.layer()))))

  it.effect("the schedulers of keys are listed, those with the most jobs first", () => {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
      lookup: (host: string) => ({ concurrency: host === "b" ? 1 : 2 })
    }) {}
    return Effect.gen(function*() {
      for (const host of ["a", "b", "b", "b", "c", "c"]) yield* fork(Hosts.schedule(host, Effect.never))
      const { first, total } = (yield* Inspector.snapshot).schedulers
      assert.strictEqual(total, 3)
      assert.deepStrictEqual(first.map(({ key, queued, running }) => [key, running.total, queued.total]), [
        [`"b"`, 1, 2],
        [`"c"`, 2, 0]
      ])
    }).pipe(Effect.provide(inspected(Hosts.layer, { showKeys: true, most: 2 })))
  })

  it.effect("a scheduler without a bound has no limit, and its jobs without a share no share", () =>
    Effect.gen(function*() {
      yield* fork(Scheduler.schedule(Effect.never))
      yield* Scheduler.pause
      yield* fork(Scheduler.schedule(Effect.never))
      const scheduler = only((yield* Inspector.snapshot).schedulers.first)
      assert.notProperty(scheduler, "limit")
      assert.deepStrictEqual(scheduler.byShare, [])
      const dump = yield* Inspector.dump
      assert.include(dump, "1 running, weight 1, 1 waiting for pause")
      assert.notInclude(dump, "Who waits")
    }).pipe(Effect.provide(inspected(Scheduler.layer({ concurrency: "unbounded" })))))

  it.effect("the dump is the snapshot in words, with what differs from the rule", () => {
    class Idle extends Scheduler.Service<Idle>()("app/Idle", { concurrency: 1 }) {}
    class Free extends Scheduler.Service<Free>()("app/Free", { concurrency: 1 }) {}
    const program = Effect.gen(function*() {
      const load = Users.fn("load")((_: number) => GitHub.schedule(Effect.never))
      yield* fork(load(7))
      yield* fork(load(7))
      yield* fork(GitHub.schedule(Effect.never, { priority: 3, share: "ada" }))
      yield* TestClock.adjust("1 second")
      yield* fork(GitHub.schedule(Effect.never, { weight: 2, share: "grace" }))
      for (const priority of [0, 1]) yield* fork(GitHub.schedule(Effect.never, { priority, share: "ada" }))
      yield* fork(GitHub.drain())
      yield* Effect.exit(GitHub.schedule(Effect.void))
      yield* GitHub.pause
      yield* fork(Api.consume({ tokens: 1 }))
      yield* fork(Api.consume({ tokens: 1 }))
      yield* TestClock.adjust("20 millis")
      return yield* Inspector.dump
    })
    const services = Layer.mergeAll(all, Idle.layer, Free.layer)
    return Effect.map(
      Effect.provide(program, inspected(services, { showKeys: true, most: 2 })),
      (dump) =>
        assert.strictEqual(
          dump,
          `effect-funnel at 1970-01-01T00:00:01.020Z

Scheduler app/GitHub: 2 running, weight 2 of 2, 3 waiting for pause, the oldest for 20 ms, paused, draining
  refused: 1 Draining
  waiting by priority: 1: 1, 0: 2
  waiting by share: "ada": 2, "grace": 1
  running job 1, 1.0 s, inside run 1
  running job 2, 1.0 s, priority 3, share "ada"
  waiting job 3, 20 ms, weight 2, share "grace"
  waiting job 4, 20 ms, share "ada"
  and 1 more

Scheduler app/Idle: 0 running, weight 0 of 1, 0 waiting

and 1 more scheduler

RateLimiter app/Api: 1 key held back
  key, 1 waiting, the oldest for 20 ms

Reducer app/Users: 1 in flight
  run 1 load 7, running, 1.0 s, 2 callers

RetryBudget effect-funnel/RetryBudget: 10 of 10 tokens, 0 denied

Who waits for whom
  run 1 (app/Users) -> job 1 (app/GitHub)
`
        )
    )
  })

  it.effect("a service is listed as long as its scope is open", () =>
    Effect.gen(function*() {
      yield* Effect.gen(function*() {
        const { reducers, retryBudgets, schedulers } = yield* Inspector.snapshot
        assert.deepStrictEqual([schedulers.total, reducers.length, retryBudgets.length], [1, 1, 1])
      }).pipe(Effect.provide(all))
      const { limiters, reducers, retryBudgets, schedulers } = yield* Inspector.snapshot
      assert.deepStrictEqual([schedulers.total, limiters.length, reducers.length, retryBudgets.length], [0, 0, 0, 0])
    }).pipe(Effect.provide(Inspector.layer())))

  it("`most` is an integer of at least 1", () => {
    for (const most of [0, -1, 1.5, NaN, Infinity]) {
      assert.throws(() => Inspector.layer({ most }), `Inspector.layer: most must be an integer >= 1, got ${most}`)
    }
  })
})
