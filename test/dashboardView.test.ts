/**
 * What the page says of a frame, without a browser.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Exit, Fiber, Layer, Metric, Request, Scope } from "effect"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Inspector from "effect-funnel/Inspector"
import * as Metrics from "effect-funnel/Metrics"
import { TestClock } from "effect/testing"
import { encode, type Frame, points } from "../src/internal/dashboard/frame.ts"
import type { Card } from "../src/internal/dashboard/page/cards.ts"
import { type View, Viewer } from "../src/internal/dashboard/page/view.ts"
import { Members } from "../src/internal/inspect/roll.ts"
import { Roll } from "../src/internal/seen/seen.ts"
import * as Guard from "../src/internal/store/guard.ts"
import { StoreError } from "../src/internal/store/storeError.ts"
import { fork, settle } from "./support/fibers.ts"
import { withRegistry } from "./support/metrics.ts"

class Backend extends Scheduler.Service<Backend>()("app/Backend", {
  concurrency: 1,
  rate: { limit: 100, window: "1 second" },
  maxQueued: 30
}) {}
class Users extends Reducer.Service<Users>()("app/Users") {}
class Api extends RateLimiter.Service<Api>()("app/Api", { limit: 10, window: "1 second" }) {}

const services = Layer.mergeAll(Backend.layer, Users.layer, Api.layer).pipe(
  Layer.provide(Metrics.layer),
  Layer.provideMerge(Inspector.layer())
)

/** A page that gets a frame a second. */
const page = Effect.gen(function*() {
  const context = yield* Effect.context<never>()
  const roll = Context.get(context, Roll)
  const members = roll instanceof Members ? roll.all : []
  const viewer = new Viewer()
  const see = (since = 1) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const options = { showKeys: false, most: 20, every: 1000, since }
      return viewer.see(JSON.parse(encode(members, context, options, now)) as Frame)
    })
  /** The view after some seconds. */
  const after = Effect.fn(function*(seconds: number) {
    let view = yield* see()
    for (let i = 0; i < seconds; i++) {
      yield* TestClock.adjust("1 second")
      view = yield* see()
    }
    return view
  })
  return { see, after }
})

const headline = ({ headline }: View) => headline.map(([text]) => text).join("")

const card = (view: View, name: string): Card => view.cards.find((card) => card.name === name)!

const test = (
  title: string,
  program: () => Generator<Effect.Effect<unknown, unknown, Layer.Success<typeof services> | Scope.Scope>, void, never>
) => it.effect(title, () => Effect.gen(program).pipe(Effect.provide(services), Effect.scoped, withRegistry))

describe("the headline", () => {
  test("says how many calls came in the last minute, and how many they became", function*() {
    const { after } = yield* page
    assert.strictEqual(headline(yield* after(0)), "Waiting for the second frame.")
    assert.strictEqual(headline(yield* after(1)), "In the last 1 second no call came.")
    const call = Users.reduce("key", Effect.sleep("100 millis"))
    yield* fork(Effect.all([call, call, call, call], { concurrency: "unbounded" }))
    assert.strictEqual(headline(yield* after(2)), "In the last 3 seconds, 4 calls became 1: 3 saved, 75 %.")
    assert.strictEqual(headline(yield* after(56)), "In the last minute, 4 calls became 1: 3 saved, 75 %.")
    const view = yield* after(3)
    assert.strictEqual(headline(view), "In the last minute no call came.")
    assert.include(view.since, "4 calls in, 1 out")
  })

  test("counts each call once where services of one name are in places with other attributes", function*() {
    const { after } = yield* page
    const reducers = yield* Effect.forEach(["eu", "us"], (region) =>
      Layer.build(Layer.fresh(Users.layer)).pipe(
        Effect.provide(Metrics.layer),
        Effect.provideService(Metric.CurrentMetricAttributes, { region })
      ))
    const [eu, us] = reducers.map((context) => Effect.provide(Users.reduce("key", Effect.void), context))
    for (let i = 0; i < 10; i++) yield* eu!
    yield* us!
    yield* after(1)
    yield* us!
    assert.strictEqual(headline(yield* after(1)), "In the last 2 seconds, 1 call became 1: 0 saved, 0 %.")
  })

  test("counts on where one of these places goes", function*() {
    const { after } = yield* page
    const scopes = [yield* Scope.make(), yield* Scope.make()]
    const [eu, us] = yield* Effect.forEach(
      ["eu", "us"],
      (region, i) =>
        Effect.map(
          Layer.buildWithScope(Layer.fresh(Users.layer), scopes[i]!),
          (context) => Effect.provide(Users.reduce("key", Effect.void), context)
        ).pipe(
          Effect.provide(Metrics.layer),
          Effect.provideService(Metric.CurrentMetricAttributes, { region })
        )
    )
    for (let i = 0; i < 10; i++) yield* Effect.andThen(eu!, us!)
    yield* after(2)
    yield* Scope.close(scopes[0]!, Exit.void)
    assert.strictEqual(headline(yield* after(1)), "In the last 3 seconds no call came.")
    yield* us!
    const view = yield* after(1)
    assert.strictEqual(headline(view), "In the last 4 seconds, 1 call became 1: 0 saved, 0 %.")
    assert.include(view.since, "21 calls in, 21 out")
  })

  it.effect("asks for Metrics where there are none", () =>
    Effect.gen(function*() {
      const { after } = yield* page
      assert.include(headline(yield* after(1)), "Provide Metrics.layer")
    }).pipe(Effect.provide(Inspector.layer()), Effect.scoped, withRegistry))

  test("begins anew with another program", function*() {
    const { after, see } = yield* page
    yield* after(5)
    yield* Users.reduce("key", Effect.void)
    assert.strictEqual(headline(yield* see(2)), "Waiting for the second frame.")
  })

  test("begins anew where the clock is set back, so that nothing is news for an hour", function*() {
    const { after, see } = yield* page
    yield* TestClock.setTime(3_600_000)
    yield* after(1)
    const job = Effect.exit(Backend.schedule(Effect.sleep("1 millis")))
    yield* fork(Effect.all(Array.from({ length: 33 }, () => job), { concurrency: "unbounded" }))
    assert.strictEqual(card(yield* after(1), "app/Backend").state, "refusing: queue_full")
    yield* TestClock.setTime(10_000)
    assert.strictEqual(headline(yield* see()), "Waiting for the second frame.")
    const view = yield* after(20)
    assert.strictEqual(headline(view), "In the last 20 seconds no call came.")
    assert.strictEqual(card(view, "app/Backend").state, "fine")
  })
})

describe("a frame", () => {
  it.effect("sums the series of one service in several places, and forgets one that is in no place any more", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const registry = yield* Metric.MetricRegistry
      const add = (region: string, sizes: ReadonlyArray<number>, refused: number) =>
        Effect.gen(function*() {
          const before = new Set(registry.keys())
          const attributes = { name: "pages", region }
          const size = Metric.histogram("effect_funnel.batcher.batch_size", { boundaries: [1, 2, 5], attributes })
          const time = Metric.histogram("effect_funnel.batcher.run_time", { boundaries: [1, 2], attributes })
          for (const n of sizes) yield* Effect.andThen(Metric.update(size, n), Metric.update(time, n / 10))
          const count = Metric.counter("effect_funnel.scheduler.refused", {
            attributes,
            bigint: true,
            incremental: true
          })
          yield* Metric.update(count, BigInt(refused))
          return Array.from(registry.keys()).filter((key) => !before.has(key))
        })
      const places = [yield* add("eu", [1, 2, 5], 3), yield* add("us", [2], 1)]
      // Those of others, and gauges, are not in it.
      yield* Metric.update(Metric.gauge("effect_funnel.scheduler.running"), 7)
      yield* Metric.update(Metric.counter("shop.orders"), 7)
      yield* Metric.update(Metric.gauge("shop.stock"), 7)
      const read = () => points(context).map(({ buckets, count, id, sum }) => [id, count, sum, buckets] as const)
      const told: ReturnType<typeof read> = [
        ["batcher.batch_size", 4, 10, [[1, 1], [2, 3], [5, 4]]],
        ["batcher.run_time", 4, 1, undefined],
        ["scheduler.refused", 4, undefined, undefined]
      ]
      assert.deepStrictEqual(read(), told)
      for (const key of places[0]!) registry.delete(key)
      for (let i = 0; i < 2; i++) assert.deepStrictEqual(read(), told)
      for (const key of places[1]!) registry.delete(key)
      assert.deepStrictEqual(read(), [])
      yield* add("us", [5], 1)
      assert.deepStrictEqual(read(), [
        ["batcher.batch_size", 1, 5, [[1, 0], [2, 0], [5, 1]]],
        ["batcher.run_time", 1, 0.5, undefined],
        ["scheduler.refused", 1, undefined, undefined]
      ])
    }).pipe(withRegistry))

  it.effect("has long texts up to 120 characters, and lists of any length", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const names = ["x".repeat(120), "y".repeat(121), ...Array.from({ length: 200 }, (_, i) => String(i))]
      for (const name of names) {
        yield* Metric.update(Metric.counter("effect_funnel.reducer.calls", { attributes: { name } }), 1)
      }
      const frame: Frame = JSON.parse(encode([], context, { showKeys: false, most: 20, every: 1000, since: 1 }, 0))
      assert.deepStrictEqual(frame.points.map(({ name }) => name), [
        names[0]!,
        `${"y".repeat(120)}…`,
        ...names.slice(2)
      ])
    }).pipe(withRegistry))

  it.effect("names each series by our own attributes, not by those of the place", () =>
    Effect.gen(function*() {
      const guard = Guard.make({ service: "app/Store", storeTimeoutMillis: 5000, outageBudgetMillis: 0 })
      yield* guard.applied("local", new StoreError({ operation: "take", cause: "away" }))
      const context = yield* Effect.context<never>()
      const seen = Effect.sync(() => points(context).map(({ id, label, name }) => `${id} ${name} ${label}`))
      const told = yield* Effect.provide(seen, Layer.provide(Layer.merge(Backend.layer, Api.layer), Metrics.layer))
      assert.includeMembers([...told], [
        "store.policy app/Store local",
        "scheduler.use_time app/Backend failure",
        "scheduler.refused app/Backend queue_full",
        "ratelimiter.wait_time app/Api "
      ])
    }).pipe(
      Effect.provideService(Metric.CurrentMetricAttributes, {
        name: "shop",
        service: "shop",
        outcome: "shop",
        reason: "shop"
      }),
      Effect.scoped,
      withRegistry
    ))
})

describe("the state of a service", () => {
  test("is fine while nothing waits", function*() {
    const { after } = yield* page
    const view = yield* after(2)
    assert.deepStrictEqual(view.cards.map(({ level, name, state }) => [name, level, state]), [
      ["app/Backend", "fine", "fine"],
      ["app/Api", "fine", "fine"],
      ["app/Users", "fine", "fine"]
    ])
  })

  test("tells what its jobs wait for", function*() {
    const { after } = yield* page
    yield* fork(Backend.schedule(Effect.sleep("3 seconds")))
    yield* fork(Backend.schedule(Effect.void))
    const view = yield* after(1)
    assert.strictEqual(card(view, "app/Backend").state, "waiting for width")
    assert.deepStrictEqual(view.waits.map(({ details, millis, what, where }) => [what, where, millis, details]), [
      ["job 2", "app/Backend", 1000, "for width, priority 0"]
    ])
  })

  test("is that of all keys, also of those that no list has, and each service has a card", function*() {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
      lookup: (host: string) => ({ concurrency: host === "slow" ? 1 : 3 })
    }) {}
    const { after } = yield* page
    const context = yield* Effect.provide(Layer.build(Hosts.layer), Metrics.layer)
    const hosts = Context.get(context, Hosts)
    assert.deepStrictEqual(card(yield* after(0), "app/Hosts").figures.slice(0, 2), [["running", "0"], ["waiting", "0"]])
    for (const host of Array.from({ length: 30 }, (_, i) => `host ${i}`)) {
      for (let i = 0; i < 3; i++) yield* fork(hosts.get(host).schedule(Effect.never))
    }
    yield* fork(hosts.get("slow").schedule(Effect.never))
    yield* fork(hosts.get("slow").schedule(Effect.void))
    const view = yield* after(2)
    assert.deepInclude(card(view, "app/Backend"), { level: "fine", state: "fine" })
    const { figures, notes, state } = card(view, "app/Hosts")
    assert.strictEqual(state, "waiting for width")
    assert.deepStrictEqual(figures.slice(0, 3), [["running", "91 of 91"], ["waiting", "1"], ["oldest wait", "2 s"]])
    assert.strictEqual(notes[0], "31 keys")
    assert.deepStrictEqual(view.waits.map(({ where }) => where), ["app/Hosts"])
  })

  test("is that of the key with the oldest wait, paused where one is, and without a limit where one has none", function*() {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
      lookup: (host: string) => ({ concurrency: host === "free" ? "unbounded" : 1 })
    }) {}
    const { after } = yield* page
    const hosts = Context.get(yield* Effect.provide(Layer.build(Hosts.layer), Metrics.layer), Hosts)
    const told = (
      view: View
    ) => [card(view, "app/Hosts").state, ...card(view, "app/Hosts").figures.map(([, text]) => text)]
    yield* fork(hosts.get("idle").schedule(Effect.never))
    yield* after(0)
    yield* hosts.get("paused").pause
    yield* fork(hosts.get("paused").schedule(Effect.never))
    assert.deepStrictEqual(told(yield* after(0)).slice(0, 4), ["paused", "1 of 2", "1", "0 ms"])
    yield* after(1)
    for (let i = 0; i < 2; i++) yield* fork(hosts.get("busy").schedule(Effect.never))
    const view = yield* after(1)
    assert.deepStrictEqual(told(view).slice(0, 4), ["paused", "2 of 3", "2", "2 s"])
    yield* hosts.get("paused").resume
    assert.strictEqual(told(yield* after(0))[0], "waiting for width")
    yield* fork(hosts.get("free").schedule(Effect.never))
    yield* hosts.get("free").penalize({ for: "2500 millis" })
    const last = yield* after(0)
    assert.strictEqual(told(last)[1], "4")
    assert.deepStrictEqual(card(last, "app/Hosts").plots[1]!.lines.map(({ value }) => value), [1, 2.5])
  })

  it.effect("tells of all keys together what the oldest wait is for, and for how long the oldest job runs", () =>
    Effect.gen(function*() {
      class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
      const roll = yield* Roll
      const context = yield* Effect.context<never>()
      const hosts = Context.get(yield* Layer.build(Hosts.layer), Hosts)
      const read = Effect.map(Clock.currentTimeMillis, (now) => {
        const options = { showKeys: false, most: 1, every: 1000, since: 1 }
        const members = roll instanceof Members ? roll.all : []
        const { services: [service] } = JSON.parse(encode(members, context, options, now)) as Frame
        return [service!.waitingFor, service!.oldestWaitMillis, service!.oldestRunMillis, service!.draining]
      })
      const wait = (host: string) => fork(hosts.get(host).schedule(Effect.never))
      assert.deepStrictEqual(yield* read, ["nothing", 0, 0, false])
      yield* TestClock.adjust("1 second")
      yield* wait("idle")
      yield* wait("late")
      yield* wait("old")
      yield* wait("old")
      assert.deepStrictEqual(yield* read, ["width", 0, 0, false])
      yield* hosts.get("paused").pause
      yield* wait("paused")
      yield* TestClock.adjust("1 second")
      yield* hosts.get("late").pause
      yield* wait("late")
      yield* hosts.get("later").pause
      yield* wait("later")
      yield* TestClock.adjust("1 second")
      yield* fork(hosts.get("later").drain())
      assert.deepStrictEqual(yield* read, ["width", 2000, 2000, true])
    }).pipe(Effect.provide(Inspector.layer()), Effect.scoped, withRegistry))

  test("counts all that wait for a limiter, and all the batches in a queue", function*() {
    const { after } = yield* page
    class Pool extends Scheduler.Service<Pool>()("app/Pool", { concurrency: 25 }) {}
    const batcher = Layer.provide(Batcher.layer({ scheduler: Pool, maxBatchSize: 1 }), Pool.layer)
    const context = yield* Effect.provide(Layer.build(batcher), Metrics.layer)
    const load = yield* Effect.provide(
      Batcher.fn("users")((ids: ReadonlyArray<number>) => Effect.as(Effect.never, ids), { resultId: (id) => id }),
      context
    )
    for (let i = 0; i < 30; i++) {
      yield* fork(load(i))
      yield* fork(Api.consume({ key: String(i), tokens: 1 }))
      yield* fork(Api.consume({ key: String(i), tokens: 1 }))
    }
    yield* settle
    const [now, later] = [yield* after(0), yield* after(3)]
    assert.deepStrictEqual(card(now, "app/Api").figures.slice(0, 2), [["keys held back", "30"], ["waiting", "30"]])
    assert.strictEqual(card(now, "app/Api").state, "waiting for rate")
    assert.deepInclude(card(later, "users"), { level: "wait", state: "a batch waits for its scheduler, 3 s" })
  })

  test("counts batches of every size, also those beyond the last bound", function*() {
    const { after } = yield* page
    const context = yield* Effect.provide(Layer.build(Batcher.layer()), Metrics.layer)
    class Get extends Request.Class<{ readonly id: number }, number> {}
    const resolver = yield* Effect.provide(
      Batcher.ordered(Get, { name: "users", execute: (all) => Effect.succeed(all.map(({ id }) => id)) }),
      context
    )
    for (const size of [1, 3, 10_001]) {
      yield* fork(Batcher.loadMany(Array.from({ length: size }, (_, id) => new Get({ id })), resolver))
      yield* settle
    }
    assert.include(
      card(yield* after(1), "users").notes,
      "Batches by size, since the start: 1: 1, 3–5: 1, over 10000: 1"
    )
  })

  test("is a penalty until it ends, and the card remembers it", function*() {
    const { after } = yield* page
    yield* after(1)
    yield* Backend.penalize({ for: "2500 millis" })
    const during = card(yield* after(1), "app/Backend")
    assert.match(during.state, /^penalty until \d\d:\d\d:\d\d$/)
    assert.strictEqual(during.level, "bad")
    const later = card(yield* after(60), "app/Backend")
    assert.strictEqual(later.state, "fine")
    assert.match(later.notes.join(), /Penalized 1 time, 0 in the last minute: its backend asked to wait/)
    yield* Api.penalize({ key: "ada", for: "2 seconds" })
    const api = card(yield* after(1), "app/Api")
    assert.match(api.state, /^penalty until/)
    assert.match(api.notes.join(), /Penalized 1 time, 1 in the last minute/)
  })

  test("is stuck when its jobs do not end, with the job that is at work for the longest", function*() {
    const { after } = yield* page
    yield* fork(Backend.schedule(Effect.never))
    yield* fork(Backend.schedule(Effect.void))
    assert.strictEqual(card(yield* after(5), "app/Backend").state, "waiting for width")
    const view = yield* after(3)
    assert.deepInclude(card(view, "app/Backend"), { level: "bad", state: "stuck: no job ended for 8 s" })
    assert.include(view.runs[0], { what: "job 1", where: "app/Backend", millis: 8000 })
  })

  test("is stuck where one of its keys is, however busy the others are", function*() {
    class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
    const { after } = yield* page
    const hosts = Context.get(yield* Effect.provide(Layer.build(Hosts.layer), Metrics.layer), Hosts)
    yield* fork(Effect.forever(hosts.get("busy").schedule(Effect.sleep("100 millis"))))
    yield* fork(hosts.get("busy").schedule(Effect.sleep("100 millis")))
    // All its places are taken, and nobody wants one.
    yield* fork(hosts.get("long").schedule(Effect.never))
    assert.strictEqual(card(yield* after(8), "app/Hosts").state, "fine")
    yield* fork(hosts.get("stuck").schedule(Effect.never))
    yield* fork(hosts.get("stuck").schedule(Effect.void))
    assert.strictEqual(card(yield* after(5), "app/Hosts").state, "a job starves, 5 s")
    assert.strictEqual(card(yield* after(1), "app/Hosts").state, "stuck: no job ended for 6 s")
  })

  test("is stuck where no job may wait, and those that come are refused", function*() {
    class Direct extends Scheduler.Service<Direct>()("app/Direct", { concurrency: 1, maxQueued: 0 }) {}
    const { after } = yield* page
    const direct = Context.get(yield* Effect.provide(Layer.build(Direct.layer), Metrics.layer), Direct)
    yield* fork(direct.schedule(Effect.never))
    assert.strictEqual(card(yield* after(8), "app/Direct").state, "fine")
    yield* Effect.exit(direct.schedule(Effect.void))
    assert.strictEqual(card(yield* after(1), "app/Direct").state, "stuck: no job ended for 9 s")
  })

  test("is not stuck while jobs end beside a long one, inside one, or before a heavy one, also without metrics", function*() {
    const { after } = yield* page
    const jobs = yield* Scheduler.make({ concurrency: 2, name: "app/Jobs" })
    const state = (seconds: number) => Effect.map(after(seconds), (view) => card(view, "app/Jobs").state)
    yield* fork(jobs.schedule(Effect.never))
    yield* after(60)
    const inner = Effect.repeat(jobs.schedule(Effect.sleep("4 seconds")), { times: 2 })
    yield* fork(jobs.schedule(Effect.andThen(inner, Effect.sleep("1 second"))))
    yield* fork(jobs.schedule(Effect.never, { weight: 2 }))
    for (let i = 0; i < 3; i++) assert.strictEqual(yield* state(5), "waiting for width")
    assert.strictEqual(yield* state(4), "stuck: no job ended for 6 s")
  })

  test("names the tenant whose jobs starve", function*() {
    const { after } = yield* page
    const busy = Backend.schedule(Effect.sleep("100 millis"), { priority: 1, share: "loud" })
    yield* fork(Effect.forever(busy))
    yield* fork(Effect.forever(busy))
    yield* fork(Backend.schedule(Effect.void, { share: "quiet" }))
    const view = yield* after(10)
    const { notes, state } = card(view, "app/Backend")
    assert.strictEqual(state, "a job starves, 10 s")
    assert.match(notes.join(), /those that started waited \d+ ms on average. It has priority 0, share \d/)
    assert.strictEqual(view.waits[0]!.millis, 10_000)
  })

  test("tells of callers that give up, as those of a tenant do whose jobs never start", function*() {
    const { after } = yield* page
    const busy = Backend.schedule(Effect.sleep("50 millis"), { priority: 1 })
    yield* fork(Effect.forever(busy))
    yield* fork(Effect.forever(busy))
    const quiet = Backend.schedule(Effect.void, { share: "quiet" }).pipe(Effect.timeoutOption("900 millis"))
    const tenant = yield* fork(Effect.forever(quiet))
    const view = yield* after(10)
    const { level, notes, state } = card(view, "app/Backend")
    assert.deepStrictEqual([level, state], ["bad", "callers give up"])
    const said =
      /^11 callers gave up in the last minute, after 900 ms on average; the jobs that started had waited \d+ ms/
    assert.match(notes.join(), said)
    assert.match(notes.join(), /The oldest that waits has priority 0, share \d/)
    yield* Fiber.interrupt(tenant)
    assert.notStrictEqual(card(yield* after(12), "app/Backend").state, "callers give up")
  })
})
