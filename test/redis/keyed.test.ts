/**
 * One scheduler a key over Redis: its limits and its penalty hold for all processes.
 */
import { afterAll, beforeAll, describe, expect } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as Metrics from "../../src/Metrics.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Scheduler from "../../src/Scheduler.js"
import { fork } from "../support/fibers.ts"
import { live, until } from "../support/live.js"
import { read } from "../support/metrics.ts"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, type RedisServer, redisServer, redisServerOfFile } from "../support/redisServer.js"

const emptied = redisServerOfFile({ afterAll, beforeAll })

class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}

type Limits = RedisScheduler.Limits

const one: Limits = { concurrency: 1 }

/** The schedulers of a process of its own. */
const processOn = (
  server: RedisServer,
  limits: Limits | ((key: string) => Limits) = one,
  options: RedisScheduler.StoreOptions = {}
) => {
  const lookup = typeof limits === "function" ? limits : () => limits
  const layer = Layer.fresh(RedisScheduler.layerKeyed(Hosts, { ...options, lookup })).pipe(
    Layer.provide(Layer.fresh(layerClient(server.url)))
  )
  return Effect.flatMap(Layer.build(layer), (context) => Effect.provideContext(Hosts, context))
}

const millisOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, () => performance.now() - began)
  })

const held = (server: RedisServer, key: string) =>
  Effect.promise(() => server.command("ZCARD", `{effect-funnel:1:p:app/Hosts}:h:${key}`))

const queues = (scheduler: Scheduler.Scheduler, jobs: number) =>
  until(Effect.map(scheduler.stats, ({ queued }) => queued === jobs))

const runs = (scheduler: Scheduler.Scheduler, jobs: number) =>
  until(Effect.map(scheduler.stats, ({ running }) => running === jobs))

const isPenalized = (scheduler: Scheduler.Scheduler) =>
  until(Effect.map(scheduler.stats, ({ waitingFor }) => waitingFor === "penalty"))

const hidden = Effect.provide(Logger.layer([]))

describe.skipIf(!hasRedis)("Scheduler.Keyed over Redis", () => {
  live("the processes together keep the concurrency of each key, and keys do not wait for each other", function*() {
    const server = yield* emptied
    const processes = yield* Effect.all(Array.from({ length: 3 }, () => processOn(server, { concurrency: 2 })))
    const running = new Map<string, number>()
    let most = 0
    let all = 0
    let mostOfAll = 0
    const job = (key: string) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          running.set(key, (running.get(key) ?? 0) + 1)
          most = Math.max(most, running.get(key)!)
          mostOfAll = Math.max(mostOfAll, ++all)
        }),
        () => Effect.sleep(5),
        () =>
          Effect.sync(() => {
            running.set(key, running.get(key)! - 1)
            all--
          })
      )
    yield* Effect.forEach(
      processes,
      (process) =>
        Effect.forEach(
          Array.from({ length: 60 }, (_, i) => `host ${i % 3}`),
          (key) => process.get(key).schedule(job(key)),
          { concurrency: "unbounded" }
        ),
      { concurrency: "unbounded" }
    )
    expect([most, mostOfAll]).toEqual([2, 6])
  })

  live("keys that Redis could not tell apart are different keys", function*() {
    const process = yield* processOn(yield* emptied)
    yield* fork(process.get("\ud800").schedule(Effect.never))
    expect(yield* process.get("\ud801").schedule(Effect.succeed("other")).pipe(Effect.timeout("5 seconds"))).toBe(
      "other"
    )
  })

  live("an idle key is dropped in every process and leaves nothing in Redis", function*() {
    const server = yield* emptied
    const processes = yield* Effect.all([processOn(server), processOn(server)])
    for (const process of processes) {
      yield* Effect.forEach([1, 2, 3], (i) => process.get(`${i}`).schedule(Effect.void), { concurrency: 3 })
      const waiting = yield* fork(process.get("1").schedule(Effect.never))
      const second = yield* fork(process.get("1").schedule(Effect.never))
      yield* Effect.sleep(20)
      expect(yield* process.size).toBe(3)
      yield* Fiber.interruptAll([second, waiting])
    }
    yield* until(
      Effect.map(Effect.all(processes.map((process) => process.size)), (sizes) => sizes.every((size) => size === 0))
    )
    expect(yield* Effect.promise(() => server.command("DBSIZE"))).toBe(":0\r\n")
    expect(yield* processes[0].get("1").schedule(Effect.succeed("again"))).toBe("again")
  })

  live("the rate of a key is one for all processes, and outlasts the process that used it", function*() {
    const server = yield* emptied
    const paced = { concurrency: 10, rate: { limit: 1, window: "2 seconds" } } as const
    const scope = yield* Scope.make()
    const first = yield* Scope.provide(processOn(server, paced), scope)
    yield* first.get("a").schedule(Effect.void)
    yield* Scope.close(scope, Exit.void)
    const second = yield* processOn(server, paced)
    expect(yield* millisOf(second.get("b").schedule(Effect.void))).toBeLessThan(500)
    const wait = yield* millisOf(second.get("a").schedule(Effect.void))
    expect(wait).toBeGreaterThan(1000)
    expect(wait).toBeLessThan(2200)
  })

  live("a rate that is set for a key at run time is shared, and keeps the key", function*() {
    const server = yield* emptied
    const [a, b] = yield* Effect.all([processOn(server, { concurrency: 10 }), processOn(server, { concurrency: 10 })])
    const rate = { limit: 20, window: "1 second" } as const
    yield* Effect.all([a.get("k").setRate(rate), b.get("k").setRate(rate)])
    const took = yield* millisOf(Effect.forEach(
      [a, b, a, b, a, b],
      (process) => process.get("k").schedule(Effect.void),
      { concurrency: "unbounded" }
    ))
    expect(took).toBeGreaterThanOrEqual(249)
    expect(took).toBeLessThan(600)
    yield* Effect.sleep(2500)
    expect(yield* a.size).toBe(1)
  })

  live("a waiting job that is interrupted leaves the queue of its key, and the next process is served", function*() {
    const server = yield* emptied
    const [a, b, c] = yield* Effect.all([processOn(server), processOn(server), processOn(server)])
    const gate = yield* Deferred.make<void>()
    const running = yield* fork(a.get("k").schedule(Deferred.await(gate)))
    yield* runs(a.get("k"), 1)
    const waiting = yield* fork(b.get("k").schedule(Effect.void))
    yield* queues(b.get("k"), 1)
    const last = yield* fork(c.get("k").schedule(Effect.succeed("c")))
    yield* queues(c.get("k"), 1)
    yield* Fiber.interrupt(waiting)
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.join(running)
    expect(yield* millisOf(Fiber.join(last))).toBeLessThan(300)
  })

  live("a scope that closes interrupts the jobs of all keys and returns their permits at once", function*() {
    const server = yield* emptied
    const scope = yield* Scope.make()
    const a = yield* Scope.provide(processOn(server), scope)
    const b = yield* processOn(server)
    const keys = ["1", "2", "3"]
    const jobs = yield* Effect.forEach(keys, (key) => Effect.forkDetach(a.get(key).schedule(Effect.never)))
    for (const key of keys) yield* runs(a.get(key), 1)
    const waiting = yield* Effect.forEach(keys, (key) => fork(b.get(key).schedule(Effect.void)))
    for (const key of keys) yield* queues(b.get(key), 1)
    yield* Scope.close(scope, Exit.void)
    expect(yield* millisOf(Fiber.joinAll(waiting))).toBeLessThan(300)
    const late = yield* Effect.forkDetach(a.get("1").schedule(Effect.void))
    for (const job of [...jobs, late]) {
      const exit = yield* Fiber.await(job)
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
    }
  })

  live("a drain lets the jobs of a key end in its process, and no other process waits for it", function*() {
    const server = yield* emptied
    const scope = yield* Scope.make()
    const a = yield* Scope.provide(processOn(server, { concurrency: 2, drain: "2 seconds" }), scope)
    const b = yield* processOn(server, { concurrency: 2 })
    yield* a.get("gone").drain()
    expect(yield* Effect.flip(a.get("gone").schedule(Effect.void))).toMatchObject({ reason: { _tag: "Draining" } })
    expect(yield* b.get("gone").schedule(Effect.succeed("b"))).toBe("b")
    const jobs = yield* Effect.forEach([1, 2, 3], () => Effect.forkDetach(a.get("k").schedule(Effect.sleep(200))))
    yield* Effect.sleep(30)
    yield* Scope.close(scope, Exit.void)
    for (const job of jobs) expect((yield* Fiber.await(job))._tag).toBe("Success")
  })

  live("a lookup or a name that throws, or is invalid, is a defect of the call and leaves no entry", function*() {
    const server = yield* emptied
    const bad = { lookup: () => ({ concurrency: 0 }), name: () => "k" }
    const fails = <K>(options: { lookup: (key: K) => Limits; keyOf: (key: K) => string }, key: K) =>
      Effect.gen(function*() {
        class Any extends Scheduler.Keyed<Any>()("app/Any", { lookup: (_: K) => one }) {}
        const layer = RedisScheduler.layerKeyed<Any, K>(Any, options as never).pipe(
          Layer.provide(layerClient(server.url))
        )
        return yield* Effect.gen(function*() {
          const exit = yield* Effect.exit(Any.schedule(key, Effect.void))
          expect(yield* Any.size).toBe(0)
          return Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "succeeds"
        }).pipe(Effect.provide(layer))
      })
    expect(yield* fails({ lookup: bad.lookup, keyOf: bad.name }, 1)).toBe(
      "RangeError: Scheduler.layerKeyed: concurrency must be an integer >= 1, got 0"
    )
    const die = () => {
      throw "no such key"
    }
    expect(yield* fails({ lookup: die, keyOf: bad.name }, 1)).toBe("no such key")
    expect(yield* fails({ lookup: () => one, keyOf: die }, 1)).toBe("no such key")
    expect(yield* fails({ lookup: () => one, keyOf: (_) => undefined as never }, {})).toBe(
      "TypeError: Scheduler.layerKeyed: keyOf must return a string, got undefined"
    )
    expect(yield* fails({ lookup: () => one, keyOf: undefined as never }, 7)).toBe(
      "TypeError: Scheduler.layerKeyed: keyOf must return a string, got 7"
    )
  })

  live("keys with structure meet by the name that keyOf gives them", function*() {
    const server = yield* emptied
    interface Tenant {
      readonly tenant: string
      readonly region: string
    }
    class Tenants extends Scheduler.Keyed<Tenants>()("app/Tenants", { lookup: (_: Tenant) => one }) {}
    const layer = RedisScheduler.layerKeyed(Tenants, {
      lookup: () => one,
      keyOf: ({ region, tenant }) => `${region}/${tenant}`
    }).pipe(Layer.provide(layerClient(server.url)))
    yield* Effect.gen(function*() {
      yield* Tenants.schedule(
        { tenant: "a", region: "e}u\n" },
        Effect.gen(function*() {
          const key = "{effect-funnel:1:p:app/Tenants}:h:e}u\n/a"
          expect(yield* Effect.promise(() => server.command("ZCARD", key))).toBe(":1\r\n")
          const same = yield* Effect.flatMap(Tenants.get({ region: "e}u\n", tenant: "a" }), (_) => _.stats)
          expect(same.running).toBe(1)
        })
      )
    }).pipe(Effect.provide(layer))
  })

  live("a job inside a job of its key does not wait for its own permit", function*() {
    const server = yield* emptied
    const a = yield* processOn(server)
    const nested = a.get("k").schedule(a.get("k").forEach([1, 2], (i) => Effect.succeed(i)))
    expect(yield* nested).toEqual([1, 2])
  })

  live("errors name the scheduler and never the key", function*() {
    const server = yield* emptied
    const a = yield* processOn(server, (key) => ({ concurrency: 1, name: key === "s" ? "named" : undefined }))
    for (const [key, name] of [["secret", "app/Hosts"], ["s", "named"]] as const) {
      const running = yield* fork(a.get(key).schedule(Effect.never))
      yield* until(Effect.map(held(server, key), (_) => _ === ":1\r\n"))
      const tooHeavy = yield* Effect.flip(a.get(key).schedule(Effect.void, { weight: 2 }))
      expect(tooHeavy).toMatchObject({ scheduler: name, reason: { _tag: "InsufficientCapacity" } })
      yield* Fiber.interrupt(running)
    }
  })
})

describe.skipIf(!hasRedis)("many keys over Redis", () => {
  live("keys that run and keys that wait renew and ask again in few commands, whatever their number", function*() {
    const server = yield* emptied
    const options = { lease: "1 second" } as const
    const [a, b] = yield* Effect.all([processOn(server, one, options), processOn(server, one, options)])
    const commands = Effect.promise(async () =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(await server.command("INFO", "commandstats"))?.[1] ?? 0)
    )
    const keys = Array.from({ length: 300 }, (_, i) => `${i}`)
    let running = 0
    const job = Effect.suspend(() => (running++, Effect.never))
    const began = yield* commands
    const jobs = yield* Effect.forEach(keys, (key) => fork(a.get(key).schedule(job)))
    yield* until(Effect.sync(() => running === keys.length))
    // 32 keys a command; the client may have split the turn.
    expect((yield* commands) - began).toBeLessThan(40)
    const waiting = yield* Effect.forEach(keys, (key) => fork(b.get(key).schedule(Effect.void)))
    yield* Effect.sleep(500)
    const before = yield* commands
    yield* Effect.sleep(2000)
    // Two leases: 1,800 renewals and 600 polls.
    expect((yield* commands) - before).toBeLessThan(240)
    yield* Fiber.interruptAll(jobs)
    yield* Fiber.joinAll(waiting)
    yield* until(Effect.map(Effect.all([a.size, b.size]), ([a, b]) => a + b === 0))
    expect(yield* Effect.promise(() => server.command("DBSIZE"))).toBe(":0\r\n")
  })
})

describe.skipIf(!hasRedis)("penalize over Redis", () => {
  live(
    "a penalty holds its key in every process, those that wait and those that start later, and no other key",
    function*() {
      const server = yield* emptied
      const [a, b] = yield* Effect.all([processOn(server), processOn(server)])
      const open = yield* Deferred.make<void>()
      yield* fork(a.get("k").schedule(Deferred.await(open)))
      yield* runs(a.get("k"), 1)
      const began = performance.now()
      const at = Effect.sync(() => performance.now() - began)
      const waiting = yield* fork(b.get("k").schedule(at))
      yield* queues(b.get("k"), 1)
      yield* a.get("k").penalize({ for: "2 seconds" })
      const own = yield* fork(a.get("k").schedule(at))
      yield* isPenalized(b.get("k"))
      yield* isPenalized(a.get("k"))
      yield* Deferred.succeed(open, undefined)
      const late = yield* processOn(server)
      const third = yield* fork(late.get("k").schedule(at))
      expect(yield* late.get("other").schedule(Effect.succeed(1))).toBe(1)
      for (const job of [waiting, own, third]) {
        const start = yield* Fiber.join(job)
        expect(start).toBeGreaterThan(2000)
        expect(start).toBeLessThan(6000)
      }
    }
  )

  live(
    "each process that is told of a penalty counts it once, however often it asks meanwhile and afterwards",
    function*() {
      const server = yield* emptied
      const make = Effect.gen(function*() {
        const registry = new Map()
        const inRegistry = Effect.provideService(Metric.MetricRegistry, registry)
        const hosts = yield* processOn(server).pipe(Effect.provide(Metrics.layer), inRegistry)
        return { host: hosts.get("k"), count: inRegistry(read("scheduler.penalties", { name: "app/Hosts" })) }
      })
      const [giver, told, idle] = [yield* make, yield* make, yield* make]
      yield* giver.host.penalize({ for: 600 })
      const jobs = yield* Effect.forEach(
        [giver, told, giver, told],
        ({ host }) => fork(host.schedule(Effect.sleep("50 millis")))
      )
      yield* Effect.forEach([1, 2, 3], () => giver.host.penalize({ for: 100 }))
      yield* Fiber.joinAll(jobs)
      expect([yield* giver.count, yield* told.count, yield* idle.count]).toEqual([1, 1, 0])
    }
  )

  live("of two penalties that are given at once the longer one holds, in each process", function*() {
    const server = yield* emptied
    const [a, b] = yield* Effect.all([processOn(server), processOn(server)])
    yield* Effect.all([a.get("k").penalize({ for: 200 }), b.get("k").penalize({ for: 600 })], { concurrency: 2 })
    yield* a.get("k").penalize({ for: 50 })
    const waits = yield* Effect.forEach([a, b], (process) => millisOf(process.get("k").schedule(Effect.void)), {
      concurrency: 2
    })
    for (const wait of waits) expect(wait).toBeGreaterThan(500)
  })

  live("a job whose maxWait ends before the penalty of another process is refused at once", function*() {
    const server = yield* emptied
    const [a, b] = yield* Effect.all([processOn(server), processOn(server)])
    yield* fork(a.get("k").schedule(Effect.never))
    yield* runs(a.get("k"), 1)
    const waiting = yield* fork(Effect.flip(b.get("k").schedule(Effect.void, { maxWait: "5 seconds" })))
    yield* queues(b.get("k"), 1)
    yield* a.get("k").penalize({ for: "1 minute" })
    const refused = Effect.flip(b.get("k").schedule(Effect.void, { maxWait: "2 seconds" }))
    expect(yield* millisOf(Fiber.join(waiting))).toBeLessThan(2000)
    expect(yield* refused).toMatchObject({ scheduler: "app/Hosts", reason: { _tag: "WaitExceeded" } })
  })

  live("with a rate, the penalty holds the rate and the permits, also for jobs without tokens", function*() {
    const server = yield* emptied
    const paced = { concurrency: 10, rate: { limit: 10, window: "1 second", burst: 10 } } as const
    const [a, b] = yield* Effect.all([processOn(server, paced), processOn(server, paced)])
    yield* a.get("k").penalize({ for: "600 millis" })
    const began = performance.now()
    const starts: Array<number> = []
    const job = Effect.sync(() => void starts.push(performance.now() - began))
    yield* Effect.all([
      Effect.forEach([1, 2, 3], () => b.get("k").schedule(job), { concurrency: "unbounded" }),
      b.get("k").schedule(job, { tokens: 0 })
    ], { concurrency: "unbounded" })
    expect(Math.min(...starts)).toBeGreaterThan(550)
    // Then one token, and the pace.
    expect(Math.max(...starts)).toBeGreaterThan(750)
  })

  live("a penalized key is not forgotten, and Redis forgets the penalty when it is over", function*() {
    const server = yield* emptied
    const a = yield* processOn(server)
    yield* a.get("k").penalize({ for: "1500 millis" })
    const key = "{effect-funnel:1:p:app/Hosts}:p:k"
    expect(Number((yield* Effect.promise(() => server.command("PTTL", key))).slice(1))).toBeGreaterThan(1500)
    yield* Effect.sleep(1000)
    expect(yield* a.size).toBe(1)
    yield* until(Effect.map(a.size, (size) => size === 0))
    yield* until(Effect.map(Effect.promise(() => server.command("DBSIZE")), (_) => _ === ":0\r\n"))
  })

  live("a scheduler without keys shares its penalty too", function*() {
    const server = yield* emptied
    const make = Effect.flatMap(
      Layer.build(Layer.fresh(layerClient(server.url))),
      (redis) => Effect.provideContext(RedisScheduler.make({ name: "s", concurrency: 1 }), redis)
    )
    const [a, b] = yield* Effect.all([make, make])
    yield* a.penalize({ for: "300 millis" })
    expect(yield* millisOf(b.schedule(Effect.void))).toBeGreaterThan(250)
  })

  live("a server clock that stepped back prolongs a penalty by its own length at most", function*() {
    const server = yield* emptied
    const a = yield* processOn(server)
    const micros = (Date.now() + 60_000) * 1000
    yield* Effect.promise(() => server.command("SET", "{effect-funnel:1:p:app/Hosts}:p:k", `${micros} 300000`))
    const wait = yield* millisOf(a.get("k").schedule(Effect.void))
    expect(wait).toBeGreaterThan(290)
    expect(wait).toBeLessThan(600)
  })
})

describe.skipIf(!hasRedis)("Scheduler.Keyed over a Redis that fails", () => {
  live("jobs fail with a typed error while Redis is away, and run again when it returns", function*() {
    const server = yield* redisServer()
    const a = yield* processOn(server, one, { outageBudget: 0, storeTimeout: "300 millis" })
    yield* a.get("k").schedule(Effect.void)
    yield* Effect.promise(() => server.stop())
    const keys = Array.from({ length: 50 }, (_, i) => `${i}`)
    const errors = yield* Effect.forEach(keys, (key) => Effect.flip(a.get(key).schedule(Effect.void)), {
      concurrency: "unbounded"
    })
    for (const error of errors) {
      expect(error).toMatchObject({ scheduler: "app/Hosts", reason: { _tag: "StoreError", operation: "acquire" } })
    }
    const penalty = yield* Effect.flip(a.get("p").penalize({ for: "1 minute" }))
    expect(penalty).toMatchObject({ scheduler: "app/Hosts", reason: { _tag: "StoreError", operation: "penalize" } })
    yield* Effect.promise(() => server.start())
    yield* until(Effect.map(Effect.exit(a.get("k").schedule(Effect.void)), Exit.isSuccess))
    // The process that gave the penalty keeps it all the same.
    expect(yield* Effect.flip(a.get("p").schedule(Effect.void, { maxWait: "1 second" }))).toMatchObject({
      reason: { _tag: "WaitExceeded" }
    })
  })

  live("with the policy local each key has its share, and no fiber is left", function*() {
    const server = yield* redisServer()
    yield* Effect.gen(function*() {
      const a = yield* processOn(server, { concurrency: 4 }, {
        outageBudget: 0,
        storeTimeout: "300 millis",
        onStoreError: "local",
        expectedProcesses: 2
      })
      yield* Effect.promise(() => server.stop())
      let now = 0
      let most = 0
      const job = Effect.acquireUseRelease(
        Effect.sync(() => most = Math.max(most, ++now)),
        () => Effect.sleep(5),
        () => Effect.sync(() => now--)
      )
      yield* Effect.forEach(Array.from({ length: 10 }), () => a.get("k").schedule(job), { concurrency: "unbounded" })
      expect(most).toBe(2)
      yield* a.get("k").penalize({ for: "200 millis" })
      expect(yield* millisOf(a.get("k").schedule(Effect.void))).toBeGreaterThan(190)
      yield* until(Effect.map(a.size, (size) => size === 0))
    }).pipe(hidden)
  })

  live("what is wrong with one key fails its jobs, and no other's", function*() {
    const server = yield* emptied
    const a = yield* processOn(server, one, { outageBudget: "300 millis" })
    yield* Effect.promise(() => server.command("SET", "{effect-funnel:1:p:app/Hosts}:h:bad", "a string"))
    const busy = yield* fork(Effect.forever(Effect.andThen(a.get("good").schedule(Effect.void), Effect.sleep(5))))
    const error = yield* Effect.flip(a.get("bad").schedule(Effect.void)).pipe(Effect.timeout("3 seconds"))
    expect(error).toMatchObject({ reason: { _tag: "StoreError", operation: "acquire" } })
    expect(String(error.message)).not.toContain("bad")
    expect(busy.pollUnsafe()).toBeUndefined()
    yield* Fiber.interrupt(busy)
  })

  live(
    "a Redis that forgets everything gives running jobs their permits back, and ends what does not fit",
    function*() {
      const server = yield* emptied
      const a = yield* processOn(server, one, { lease: "300 millis" })
      const running = yield* fork(a.get("k").schedule(Effect.sleep(800)))
      yield* Effect.sleep(50)
      yield* Effect.promise(() => server.command("FLUSHALL"))
      yield* until(Effect.map(held(server, "k"), (_) => _ === ":1\r\n"))
      yield* Fiber.join(running)
    }
  )

  live("a scope closes although the server is frozen", function*() {
    const server = yield* redisServer()
    const client = yield* Layer.build(layerClient(server.url))
    const scope = yield* Scope.make()
    const a = yield* RedisScheduler.layerKeyed(Hosts, { storeTimeout: "200 millis", lookup: () => one }).pipe(
      Layer.buildWithScope(scope),
      Effect.flatMap((context) => Effect.provideContext(Hosts, context)),
      Effect.provideContext(client)
    )
    const job = yield* Effect.forkDetach(a.get("k").schedule(Effect.never))
    yield* Effect.sleep(100)
    server.signal("SIGSTOP")
    yield* Effect.forkDetach(Effect.delay(Effect.sync(() => server.signal("SIGCONT")), "2 seconds"))
    expect(yield* millisOf(Scope.close(scope, Exit.void))).toBeLessThan(1500)
    expect((yield* Fiber.await(job))._tag).toBe("Failure")
  })

  live("a tag and a key are never another tag and another key, whatever signs they have", function*() {
    const server = yield* emptied
    const names = [["a", "b:=c"], ["a:=b", "c"], ["a", "x}:h"], ["a}:h:x", "y"], ["a%3A%3Db", "c"]] as const
    for (const [tag, key] of names) {
      class Tagged extends Scheduler.Keyed<Tagged>()(tag, { lookup: (_: string) => one }) {}
      const layer = RedisScheduler.layerKeyed(Tagged, {
        lookup: () => ({ concurrency: 1, rate: { limit: 1, window: "1 hour" } }),
        outageBudget: 0
      })
      const context = yield* Layer.build(Layer.fresh(layer).pipe(Layer.provide(Layer.fresh(layerClient(server.url)))))
      const ran = yield* Effect.timeoutOption(Tagged.schedule(key, Effect.succeed("ran")), "5 seconds").pipe(
        Effect.provideContext(context)
      )
      expect([tag, ran]).toMatchObject([tag, { value: "ran" }])
    }
  })
})
