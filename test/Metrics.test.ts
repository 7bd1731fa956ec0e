import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Metric, Request, Scope } from "effect"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Adaptive from "effect-funnel/Adaptive"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import * as RetryBudget from "effect-funnel/RetryBudget"
import { TestClock } from "effect/testing"
import { enrolled } from "../src/internal/seen/seen.js"
import * as Guard from "../src/internal/store/guard.js"
import { StoreError } from "../src/internal/store/storeError.js"
import { fork } from "./support/fibers.ts"
import { countOf, histogram, ids, read, withRegistry } from "./support/metrics.ts"

/** A law in a registry of its own. */
const law = <A, E>(title: string, body: () => Effect.Effect<A, E, Scope.Scope>) =>
  it.effect(title, () => withRegistry(Effect.scoped(Effect.suspend(body))))

class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 2, maxQueued: 2 }) {}

const seen = <A, E, R>(layer: Layer.Layer<A, E, R>) => Layer.provide(layer, Metrics.layer)

const github = { name: "app/GitHub" }

describe("Metrics of a Scheduler", () => {
  law("gauges read the scheduler when they are exported, and agree with `stats`", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 4; i++) yield* fork(GitHub.schedule(Effect.never))
      yield* TestClock.adjust("3 seconds")
      const stats = yield* GitHub.stats
      assert.strictEqual(yield* read("scheduler.limit", github), stats.concurrency)
      assert.strictEqual(yield* read("scheduler.running", github), stats.running)
      assert.strictEqual(yield* read("scheduler.weight", github), stats.weight)
      assert.strictEqual(yield* read("scheduler.queued", github), stats.queued)
      assert.strictEqual(yield* read("scheduler.oldest_wait", github), Duration.toSeconds(stats.oldestWait))
      assert.deepStrictEqual([stats.running, stats.queued], [2, 2])
      yield* GitHub.resize(3)
      assert.strictEqual(yield* read("scheduler.limit", github), 3)
    }).pipe(Effect.provide(seen(GitHub.layer))))

  law("`wait_time` has each job once, by how its wait ended", () =>
    Effect.gen(function*() {
      const running = yield* Effect.all([fork(GitHub.schedule(Effect.never)), fork(GitHub.schedule(Effect.never))])
      const starts = yield* fork(GitHub.schedule(Effect.void))
      const leaves = yield* fork(GitHub.schedule(Effect.void))
      const refused = yield* Effect.exit(GitHub.schedule(Effect.void))
      assert(Exit.isFailure(refused))
      yield* TestClock.adjust("300 millis")
      yield* Fiber.interrupt(leaves)
      yield* Fiber.interrupt(running[0])
      yield* Fiber.join(starts)
      const started = yield* histogram("scheduler.wait_time", { ...github, outcome: "started" })
      assert.deepInclude(started, { count: 3, sum: 0.3, min: 0, max: 0.3 })
      const left = yield* histogram("scheduler.wait_time", { ...github, outcome: "interrupt" })
      assert.deepInclude(left, { count: 1, sum: 0.3 })
      const sent = yield* histogram("scheduler.wait_time", { ...github, outcome: "refused" })
      assert.deepInclude(sent, { count: 1, sum: 0 })
    }).pipe(Effect.provide(seen(GitHub.layer))))

  law("the bounds of times are 5 ms to 10 s, and a bucket has all that took no longer", () =>
    Effect.gen(function*() {
      for (const millis of [5, 6, 10_000, 20_000]) {
        const fiber = yield* fork(GitHub.schedule(Effect.sleep(millis)))
        yield* TestClock.adjust(millis)
        yield* Fiber.join(fiber)
      }
      const { buckets, count } = yield* histogram("scheduler.use_time", { ...github, outcome: "success" })
      assert.deepStrictEqual(
        buckets,
        [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10].map((bound, i) =>
          [bound, i === 0 ? 1 : i === 13 ? 3 : 2] as [number, number]
        )
      )
      assert.strictEqual(count, 4)
    }).pipe(Effect.provide(seen(GitHub.layer))))

  law("`use_time` has each job that ran once, by its exit", () =>
    Effect.gen(function*() {
      const slow = yield* fork(GitHub.schedule(Effect.sleep("2 seconds")))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(slow)
      yield* Effect.exit(GitHub.schedule(Effect.fail("no")))
      yield* Effect.exit(GitHub.schedule(Effect.die("no")))
      const fiber = yield* fork(GitHub.schedule(Effect.never))
      yield* Fiber.interrupt(fiber)
      yield* GitHub.forEach([1, 2, 3], () => Effect.void)
      const counts = yield* Effect.forEach(["success", "failure", "interrupt"], (outcome) =>
        read("scheduler.use_time", { ...github, outcome }))
      assert.deepStrictEqual(counts, [4, 2, 1])
      assert.strictEqual((yield* histogram("scheduler.use_time", { ...github, outcome: "success" })).sum, 2)
    }).pipe(Effect.provide(seen(GitHub.layer))))

  law("`refused` counts each reason, as `stats` does", () =>
    Effect.gen(function*() {
      yield* Effect.exit(GitHub.schedule(Effect.void, { weight: 3 }))
      const running = yield* Effect.all([fork(GitHub.schedule(Effect.never)), fork(GitHub.schedule(Effect.never))])
      const impatient = yield* fork(GitHub.schedule(Effect.void, { maxWait: "1 second" }))
      yield* fork(GitHub.schedule(Effect.void))
      yield* Effect.exit(GitHub.schedule(Effect.void))
      yield* TestClock.adjust("1 second")
      yield* Fiber.await(impatient)
      const drain = yield* fork(GitHub.drain())
      yield* Effect.exit(GitHub.schedule(Effect.void))
      const { refused } = yield* GitHub.stats
      assert.deepStrictEqual(refused, { InsufficientCapacity: 1, QueueFull: 1, WaitExceeded: 1, Draining: 1 })
      const reasons = ["capacity", "queue_full", "wait_exceeded", "draining", "overloaded", "store"]
      const counts = yield* Effect.forEach(reasons, (reason) => read("scheduler.refused", { ...github, reason }))
      assert.deepStrictEqual(counts, [1, 1, 1, 1, 0, 0])
      const waits = yield* histogram("scheduler.wait_time", { ...github, outcome: "refused" })
      assert.deepInclude(waits, { count: 4, sum: 1 })
      yield* Fiber.interruptAll([...running, drain])
    }).pipe(Effect.provide(seen(GitHub.layer))))

  law("a scheduler without a bound has no `limit`, until `resize` gives it one", () =>
    Effect.gen(function*() {
      const name = { name: "effect-funnel/Scheduler" }
      assert.strictEqual(yield* read("scheduler.limit", name), undefined)
      yield* Scheduler.resize(3)
      assert.strictEqual(yield* read("scheduler.limit", name), 3)
      yield* Scheduler.resize("unbounded")
      assert.strictEqual(yield* read("scheduler.limit", name), undefined)
    }).pipe(Effect.provide(seen(Scheduler.layer({ concurrency: "unbounded" })))))

  law("nor have schedulers of keys without a bound, nor what is left when those with a bound have gone", () => {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
      lookup: (host: string) => ({ concurrency: host === "bounded" ? 3 : "unbounded" })
    }) {}
    const name = { name: "app/Hosts" }
    return Effect.gen(function*() {
      assert.strictEqual(yield* read("scheduler.limit", name), undefined)
      yield* fork(Hosts.schedule("unbounded", Effect.never))
      assert.strictEqual(yield* read("scheduler.limit", name), undefined)
      yield* fork(Hosts.schedule("bounded", Effect.never))
      assert.strictEqual(yield* read("scheduler.limit", name), 3)
      const scope = yield* Scope.make()
      const make = (concurrency: number | "unbounded") =>
        Effect.provide(Scheduler.make({ concurrency, name: "twin" }), Metrics.layer)
      yield* make("unbounded")
      yield* Scope.provide(make(2), scope)
      assert.strictEqual(yield* read("scheduler.limit", { name: "twin" }), 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* read("scheduler.limit", { name: "twin" }), undefined)
    }).pipe(Effect.provide(seen(Hosts.layer)))
  })

  law(
    "the limit of a scheduler that adapts is the width of this moment, and its bound after `resize`",
    () =>
      Effect.gen(function*() {
        const { concurrency } = yield* Scheduler.stats
        assert.isBelow(concurrency, 200)
        assert.strictEqual(yield* read("scheduler.limit", {}), concurrency)
        yield* Scheduler.resize(7)
        assert.strictEqual(yield* read("scheduler.limit", {}), 7)
      }).pipe(Effect.provide(seen(Scheduler.layer({ concurrency: Adaptive.latency({ max: 200 }) }))))
  )

  law("the times of a scheduler that adapts are exact, also after `resize`", () =>
    Effect.gen(function*() {
      const first = yield* fork(Scheduler.schedule(Effect.sleep("2 seconds")))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(first)
      const second = yield* fork(Scheduler.schedule(Effect.sleep("4 seconds")))
      yield* TestClock.adjust("1 second")
      yield* Scheduler.resize(3)
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(second)
      const { count, max, sum } = yield* histogram("scheduler.use_time", { outcome: "success" })
      assert.deepStrictEqual([count, max, sum], [2, 4, 6])
    }).pipe(Effect.provide(seen(Scheduler.layer({ concurrency: Adaptive.latency({ max: 10 }) })))))

  law("the times of jobs with a share are exact", () =>
    Effect.gen(function*() {
      const jobs = yield* Effect.forEach([1, 2, 3], () =>
        fork(GitHub.schedule(Effect.sleep("2 seconds"), { share: "ada" })))
      yield* TestClock.adjust("1 second")
      yield* GitHub.resize(1)
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.joinAll(jobs)
      const times = yield* Effect.all([
        histogram("scheduler.wait_time", { outcome: "started" }),
        histogram("scheduler.use_time", { outcome: "success" })
      ])
      assert.deepStrictEqual(times.map(({ count, max, sum }) => [count, max, sum]), [[3, 2, 2], [3, 2, 6]])
    }).pipe(Effect.provide(seen(GitHub.layer))))

  law("keyed schedulers share the series of their service, which outlive the keys", () => {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
      lookup: (_: string) => ({ concurrency: 2 })
    }) {}
    const name = { name: "app/Hosts" }
    return Effect.gen(function*() {
      yield* Hosts.schedule("a", Effect.void)
      assert.strictEqual(yield* Hosts.size, 0)
      const fibers = yield* Effect.all([
        fork(Hosts.schedule("b", Effect.never)),
        fork(Hosts.schedule("c", Effect.never))
      ])
      assert.strictEqual(yield* read("scheduler.running", name), 2)
      assert.strictEqual(yield* read("scheduler.limit", name), 4)
      yield* Fiber.interruptAll(fibers)
      assert.strictEqual(yield* read("scheduler.use_time", { ...name, outcome: "success" }), 1)
      assert.strictEqual(yield* read("scheduler.use_time", { ...name, outcome: "interrupt" }), 2)
    }).pipe(Effect.provide(seen(Hosts.layer)))
  })
})

describe("Metrics of a Reducer", () => {
  law("`calls` counts starts and joins, and `in_flight` is the length of `inFlight`", () =>
    Effect.gen(function*() {
      const name = { name: "app/Users" }
      const answer = yield* Deferred.make<number>()
      const callers = yield* Effect.forEach([1, 2, 3], () => fork(Users.reduce("key", Deferred.await(answer))))
      yield* Users.reduce("other", Effect.void)
      assert.strictEqual(yield* read("reducer.in_flight", name), 1)
      assert.lengthOf(yield* Users.inFlight, 1)
      yield* TestClock.adjust("2 seconds")
      yield* Deferred.succeed(answer, 1)
      yield* Fiber.joinAll(callers)
      assert.strictEqual(yield* read("reducer.in_flight", name), 0)
      assert.strictEqual(yield* read("reducer.calls", { ...name, outcome: "started" }), 2)
      assert.strictEqual(yield* read("reducer.calls", { ...name, outcome: "joined" }), 2)
      const { count, sum } = yield* histogram("reducer.run_time", { ...name, outcome: "success" })
      assert.deepStrictEqual([count, sum], [2, 2])
    }).pipe(Effect.provide(seen(Users.layer))))

  law("`run_time` has each run once, by its exit, without the wait for a run in front", () =>
    Effect.gen(function*() {
      yield* Effect.exit(Users.reduce("key", Effect.fail("no")))
      const ends = yield* Deferred.make<void>()
      const first = yield* fork(
        Users.reduce("key", Effect.onInterrupt(Effect.never, () => Effect.uninterruptible(Deferred.await(ends))))
      )
      const left = yield* fork(Fiber.interrupt(first))
      const second = yield* fork(Users.reduce("key", Effect.sleep("1 second")))
      yield* TestClock.adjust("5 seconds")
      yield* Deferred.succeed(ends, undefined)
      yield* Fiber.join(left)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(second)
      const sums = yield* Effect.forEach(["failure", "interrupt", "success"], (outcome) =>
        histogram("reducer.run_time", { outcome }))
      assert.deepStrictEqual(sums.map(({ count, sum }) => [count, sum]), [[1, 0], [1, 5], [1, 1]])
    }).pipe(Effect.provide(seen(Users.layer))))

  law(
    "`run_time` has no run whose caller leaves while it waits for the run in front: it never started",
    () =>
      Effect.gen(function*() {
        const ends = yield* Deferred.make<void>()
        const first = yield* fork(Users.reduce("key", Effect.onInterrupt(Effect.never, () => Deferred.await(ends))))
        const left = yield* fork(Fiber.interrupt(first))
        yield* Fiber.interrupt(yield* fork(Users.reduce("key", Effect.void)))
        yield* Deferred.succeed(ends, undefined)
        yield* Fiber.join(left)
        const { count } = yield* histogram("reducer.run_time", { outcome: "interrupt" })
        assert.strictEqual(count, 1)
      }).pipe(Effect.provide(seen(Users.layer)))
  )
})

class Users extends Reducer.Service<Users>()("app/Users") {}

describe("Metrics of a Batcher", () => {
  class GetUser extends Request.Class<{ readonly id: number }, number> {}

  law("`requests` has each look-up once, and batches have their sizes and times", () =>
    Effect.gen(function*() {
      const name = { name: "users" }
      const resolver = yield* Batcher.ordered(GetUser, {
        name: "users",
        cache: { capacity: 10, timeToLive: () => "1 hour" },
        execute: (requests) => Effect.as(Effect.sleep("2 seconds"), requests.map(({ id }) => id)),
        window: "1 second"
      })
      const get = (id: number) => Effect.request(new GetUser({ id }), resolver)
      const fibers = yield* Effect.forEach([1, 2, 2], (id) => fork(get(id)))
      yield* TestClock.adjust("1 second")
      fibers.push(yield* fork(get(1)))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.joinAll(fibers)
      yield* get(2)
      const many = yield* fork(Batcher.loadMany([3, 3, 4].map((id) => new GetUser({ id })), resolver))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(many)
      const counts = yield* Effect.forEach(["sent", "merged", "joined", "cached"], (outcome) =>
        read("batcher.requests", { ...name, outcome }))
      assert.deepStrictEqual(counts, [4, 2, 1, 1])
      const shapes = yield* Effect.forEach(["batch_size", "wait_time", "run_time"], (id) =>
        histogram(`batcher.${id}`, name))
      assert.deepStrictEqual(shapes.map(({ count, sum }) => [count, sum]), [[2, 4], [2, 2], [2, 4]])
    }).pipe(Effect.provide(seen(Batcher.layer()))))

  law("a batch that never executes is no batch", () =>
    Effect.gen(function*() {
      const resolver = yield* Batcher.ordered(GetUser, {
        execute: (requests) => Effect.succeed(requests.map(({ id }) => id)),
        window: "1 second"
      })
      const fiber = yield* fork(Effect.request(new GetUser({ id: 1 }), resolver))
      yield* Fiber.interrupt(fiber)
      const name = { name: "effect-funnel/Batcher" }
      assert.strictEqual(yield* read("batcher.requests", { ...name, outcome: "sent" }), 1)
      assert.strictEqual(yield* read("batcher.batch_size", name), 0)
      assert.strictEqual(yield* read("batcher.run_time", name), 0)
    }).pipe(Effect.provide(seen(Batcher.layer()))))
})

describe("Metrics of all", () => {
  class GetUser extends Request.Class<{ readonly id: number }, number> {}

  law("services of one name have the times of their own clocks, and one limit", () =>
    Effect.gen(function*() {
      const jobs = Scheduler.make({ concurrency: 1, name: "jobs" })
      const runs = Effect.map(Layer.build(Reducer.layer({ name: "runs" })), (_) => Context.get(_, Reducer.Reducer))
      const here = yield* Effect.all([jobs, runs])
      yield* Effect.gen(function*() {
        yield* TestClock.setTime(5_000_000)
        const [scheduler, reducer] = yield* Effect.all([jobs, runs])
        yield* fork(Effect.all([
          reducer.reduce("key", Effect.sleep("7 seconds")),
          scheduler.schedule(Effect.sleep("7 seconds")),
          scheduler.schedule(Effect.void)
        ], { concurrency: "unbounded" }))
        yield* TestClock.adjust("6 seconds")
        assert.strictEqual(Duration.toSeconds((yield* scheduler.stats).oldestWait), 6)
        assert.strictEqual(yield* read("scheduler.oldest_wait", { name: "jobs" }), 6)
        assert.strictEqual(yield* read("scheduler.limit", { name: "jobs" }), 2)
        yield* scheduler.resize("unbounded")
        yield* TestClock.adjust("1 second")
        assert.deepInclude(yield* histogram("scheduler.wait_time", { name: "jobs", outcome: "started" }), { sum: 6 })
        assert.deepInclude(yield* histogram("scheduler.use_time", { name: "jobs", outcome: "success" }), { sum: 7 })
        assert.deepInclude(yield* histogram("reducer.run_time", { name: "runs", outcome: "success" }), { sum: 7 })
      }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
      assert.strictEqual(yield* read("scheduler.limit", { name: "jobs" }), 1)
      yield* here[0].resize("unbounded")
      assert.strictEqual(yield* countOf("scheduler.limit", { name: "jobs" }), 0)
    }).pipe(Effect.provide(Metrics.layer)))

  law("a clock that is set back makes no time negative", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(60_000)
      const gate = yield* Deferred.make<void>()
      const resolver = yield* Batcher.ordered(GetUser, {
        execute: (requests) => Effect.as(Deferred.await(gate), requests.map(({ id }) => id))
      })
      const call = Users.reduce("key", GitHub.schedule(Effect.request(new GetUser({ id: 1 }), resolver)))
      const fibers = yield* Effect.forEach(
        [call, GitHub.schedule(Deferred.await(gate)), GitHub.schedule(Effect.void)],
        fork
      )
      yield* TestClock.adjust(0)
      yield* TestClock.setTime(10_000)
      const { batchers, reducers, schedulers } = yield* Inspector.snapshot
      const lists = [
        ...schedulers.first.flatMap((_) => [_.running, _.queued]),
        ...reducers.map((_) => _.inFlight),
        ...batchers.map((_) => _.batches)
      ]
      assert.deepStrictEqual(lists.flatMap(({ first }) => first.map(({ millis }) => millis)), [0, 0, 0, 0, 0])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.joinAll(fibers)
      const times = ["scheduler.wait_time", "scheduler.use_time", "reducer.run_time", "batcher.run_time"]
      for (const id of times) {
        assert.deepInclude(yield* histogram(id, {}), { sum: 0, min: 0, max: 0 })
      }
    }).pipe(
      Effect.provide(
        seen(Layer.mergeAll(GitHub.layer, Users.layer, Batcher.layer())).pipe(Layer.provideMerge(Inspector.layer()))
      )
    ))
})

describe("Metrics of a RateLimiter", () => {
  class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 1, window: "1 second" }) {}
  const name = { name: "app/Api" }
  const decisions = Effect.forEach(
    ["admitted", "delayed", "refused"],
    (outcome) => read("ratelimiter.decisions", { ...name, outcome })
  )

  law(
    "`decisions` has each call once, and `wait_time` the waits of those that were delayed",
    () =>
      Effect.gen(function*() {
        yield* Api.consume()
        yield* Effect.exit(Api.consume({ onExceeded: "fail" }))
        yield* Effect.exit(Api.consume({ tokens: 2 }))
        const delayed = yield* fork(Api.withLimit(Effect.void))
        const left = yield* fork(Api.consume())
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(delayed)
        yield* Fiber.interrupt(left)
        yield* Api.consume({ key: "ada" })
        assert.deepStrictEqual(yield* decisions, [2, 1, 2])
        assert.deepInclude(yield* histogram("ratelimiter.wait_time", name), { count: 1, sum: 1 })
      }).pipe(Effect.provide(seen(Api.layer)))
  )

  law("`decisions` has the jobs of schedulers that share the limiter", () =>
    Effect.gen(function*() {
      yield* Scheduler.schedule(Effect.void)
      const second = yield* fork(Scheduler.schedule(Effect.void))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(second)
      assert.deepStrictEqual(yield* decisions, [1, 1, 0])
    }).pipe(
      Effect.provide(seen(Layer.provide(Scheduler.layer({ concurrency: 5, rate: Api }), Api.layer)))
    ))

  law(
    "`decisions` has a job that waited for width, and not for the limiter, as admitted",
    () =>
      Effect.gen(function*() {
        yield* fork(Scheduler.schedule(Effect.sleep("5 seconds")))
        const second = yield* fork(Scheduler.schedule(Effect.void))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(second)
        assert.deepStrictEqual(yield* decisions, [2, 0, 0])
      }).pipe(
        Effect.provide(seen(Layer.provide(Scheduler.layer({ concurrency: 1, rate: Api }), Api.layer)))
      )
  )

  law("`penalty` is the time until the last penalty of any key ends", () =>
    Effect.gen(function*() {
      const left = read("ratelimiter.penalty", name)
      assert.strictEqual(yield* left, 0)
      yield* Api.penalize({ for: "5 seconds" })
      yield* Api.penalize({ key: "ada", for: "10 seconds" })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* left, 9)
      yield* Api.reset({ key: "ada" })
      assert.strictEqual(yield* left, 4)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(yield* left, 0)
    }).pipe(Effect.provide(seen(Api.layer))))

  law(
    "a limiter made with `make` has series while the scope around lasts, and none without a scope",
    () =>
      Effect.gen(function*() {
        const make = RateLimiter.make({ limit: 1, window: "1 second" }).pipe(Effect.provide(Metrics.layer))
        yield* Effect.scoped(
          Effect.andThen(make, Effect.map(ids, (ids) => assert.include(ids, "effect_funnel.ratelimiter.penalty")))
        )
        yield* Effect.updateContext(
          make,
          (context: Context.Context<never>) => Context.omit(Scope.Scope)(context as never)
        )
        assert.deepStrictEqual(yield* ids, [])
      })
  )
})

describe("Metrics of a store", () => {
  law(
    "`commands` has each command once, by its operation, and `errors` those that failed",
    () =>
      Effect.gen(function*() {
        const watch = yield* enrolled("store", "app/Api", {})
        const guard = Guard.make({ service: "app/Api", storeTimeoutMillis: 5000, outageBudgetMillis: 0, watch })
        const take = yield* fork(guard.run("take", Effect.sleep("2 seconds")))
        const slow = yield* fork(Effect.exit(guard.run("take", Effect.never)))
        yield* Effect.exit(guard.once("give", Effect.fail(new StoreError({ operation: "give", cause: "away" }))))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.joinAll([take, slow])
        // One that the store has answered on a way of its own.
        guard.answered("take", 1000)
        const service = { service: "app/Api" }
        const taken = yield* histogram("store.commands", { ...service, operation: "take" })
        assert.deepStrictEqual([taken.count, taken.sum], [3, 8])
        assert.strictEqual(yield* read("store.errors", { ...service, operation: "take" }), 1)
        assert.strictEqual(yield* read("store.commands", { ...service, operation: "give" }), 1)
        assert.strictEqual(yield* read("store.errors", { ...service, operation: "give" }), 1)
      }).pipe(Effect.provide(Metrics.layer))
  )
})

describe("Metrics of a RetryBudget", () => {
  law("tokens and denied retries are those of `stats`", () =>
    Effect.gen(function*() {
      const name = { name: "effect-funnel/RetryBudget" }
      yield* Effect.exit(RetryBudget.retry(Effect.fail("no")))
      const stats = yield* RetryBudget.stats
      assert.strictEqual(yield* read("retry_budget.tokens", name), stats.tokens)
      assert.strictEqual(yield* read("retry_budget.denied", name), stats.denied)
      assert.strictEqual(stats.denied, 1)
    }).pipe(Effect.provide(seen(RetryBudget.layer()))))
})

describe("Metrics", () => {
  const all = Layer.mergeAll(GitHub.layer, Users.layer, RetryBudget.layer(), Batcher.layer())

  law("there are none unless their layer is provided", () =>
    Effect.gen(function*() {
      yield* GitHub.schedule(Users.reduce("key", Effect.void))
      assert.deepStrictEqual(yield* ids, [])
    }).pipe(Effect.provide(all)))

  law("a series goes with the scope of its service", () =>
    Effect.gen(function*() {
      yield* Effect.gen(function*() {
        yield* GitHub.schedule(Users.reduce("key", Effect.void))
        assert.include(yield* ids, "effect_funnel.scheduler.running")
      }).pipe(Effect.provide(seen(all)))
      assert.deepStrictEqual(yield* ids, [])
    }))

  law(
    "services of one name share their series: gauges are summed, and counts stay until the last one goes",
    () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const make = Scheduler.make({ concurrency: 2, name: "twin" }).pipe(Effect.provide(Metrics.layer))
        const one = yield* make
        const two = yield* Scope.provide(make, scope)
        yield* two.schedule(Effect.void)
        yield* fork(one.schedule(Effect.never))
        yield* fork(two.schedule(Effect.never))
        assert.strictEqual(yield* read("scheduler.running", { name: "twin" }), 2)
        assert.strictEqual(yield* read("scheduler.limit", { name: "twin" }), 4)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* read("scheduler.running", { name: "twin" }), 1)
        assert.strictEqual(yield* read("scheduler.limit", { name: "twin" }), 2)
        assert.strictEqual(yield* read("scheduler.use_time", { name: "twin", outcome: "success" }), 1)
        const three = yield* make
        yield* fork(three.schedule(Effect.never))
        assert.strictEqual(yield* read("scheduler.running", { name: "twin" }), 2)
        assert.strictEqual(yield* countOf("scheduler.running", { name: "twin" }), 1)
      })
  )

  law(
    "services of one name share their series also where their places have attributes that are ours to say",
    () =>
      Effect.gen(function*() {
        const make = Scheduler.make({ concurrency: 2, name: "twin" }).pipe(Effect.provide(Metrics.layer))
        const told = Effect.all([
          read("scheduler.limit", { name: "twin" }),
          read("scheduler.use_time", { name: "twin", outcome: "success" })
        ])
        const places: ReadonlyArray<Record<string, string>> = [{}, { name: "shop" }, { outcome: "sale", reason: "web" }]
        const scopes = yield* Effect.forEach(places, (around) =>
          Effect.gen(function*() {
            const scope = yield* Scope.make()
            const scheduler = yield* Scope.provide(make, scope)
            yield* scheduler.schedule(Effect.void)
            return scope
          }).pipe(Effect.provideService(Metric.CurrentMetricAttributes, around)))
        assert.deepStrictEqual(yield* told, [6, 3])
        assert.strictEqual(yield* countOf("scheduler.limit", { name: "twin" }), 1)
        yield* Scope.close(scopes[0]!, Exit.void)
        assert.deepStrictEqual(yield* told, [4, 3])
      })
  )

  law("the attributes of the place where a service is built are on its series", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* read("scheduler.limit", { ...github, region: "eu" }), 2)
    }).pipe(
      Effect.provide(seen(GitHub.layer)),
      Effect.provideService(Metric.CurrentMetricAttributes, { region: "eu" })
    ))

  law(
    "an attribute of the place never takes the place of one of ours, so no two series are one",
    () =>
      Effect.gen(function*() {
        yield* GitHub.schedule(Effect.void)
        yield* Effect.exit(GitHub.schedule(Effect.fail("error")))
        const uses = yield* Effect.forEach(
          ["success", "failure", "interrupt"],
          (outcome) => read("scheduler.use_time", { ...github, outcome })
        )
        assert.deepStrictEqual(uses, [1, 1, 0])
        assert.strictEqual(yield* read("scheduler.limit", { ...github, outcome: "shop", reason: "shop" }), 2)
        assert.strictEqual(yield* read("ratelimiter.penalty", { name: "effect-funnel/RateLimiter" }), 0)
      }).pipe(
        Effect.provide(seen(Layer.merge(GitHub.layer, RateLimiter.layer({ limit: 1, window: "1 second" })))),
        Effect.provideService(Metric.CurrentMetricAttributes, { name: "shop", outcome: "shop", reason: "shop" })
      )
  )

  law("places with the same attributes share the series, whatever their order", () =>
    Effect.gen(function*() {
      const make = (attributes: Record<string, string>) =>
        Scheduler.make({ concurrency: 2, name: "twin" }).pipe(
          Effect.provide(Metrics.layer),
          Effect.provideService(Metric.CurrentMetricAttributes, attributes)
        )
      yield* fork((yield* make({ region: "eu", zone: "b" })).schedule(Effect.never))
      yield* fork((yield* make({ zone: "b", region: "eu" })).schedule(Effect.never))
      assert.strictEqual(yield* read("scheduler.running", { name: "twin" }), 2)
    }))
})
