/**
 * The table of options in `docs/distributed.md`: what holds for all processes, what for one, and what is refused.
 */
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Scope from "effect/Scope"
import * as Adaptive from "../../src/Adaptive.js"
import * as RateLimiter from "../../src/RateLimiter.js"
import * as RedisRateLimiter from "../../src/redis/RateLimiter.js"
import * as RedisLayer from "../../src/redis/Redis.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Scheduler from "../../src/Scheduler.js"
import { fork } from "../support/fibers.ts"
import { live, until } from "../support/live.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, type RedisServer, redisServerOfFile } from "../support/redisServer.js"

const emptied = redisServerOfFile({ afterAll, beforeAll })

class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}

const runs = (scheduler: Scheduler.Scheduler, jobs: number) =>
  until(Effect.map(scheduler.stats, ({ running }) => running === jobs))

const nowhere = RedisLayer.layerBackground(
  Layer.effect(Redis.Redis, Effect.fail(new Redis.RedisError({ cause: "refused" })))
)

/** A scheduler over Redis, and one of a key, each in a process of its own: what is true of one is true of the other. */
const ways = {
  "over Redis": (server: RedisServer, limits: RedisScheduler.Limits) =>
    Effect.flatMap(
      Layer.build(Layer.fresh(layerClient(server.url))),
      (redis) => Effect.provideContext(RedisScheduler.make({ ...limits, name: "s" }), redis)
    ),
  "Keyed over Redis": (server: RedisServer, limits: RedisScheduler.Limits) =>
    Layer.fresh(RedisScheduler.layerKeyed(Hosts, { lookup: () => limits })).pipe(
      Layer.provide(Layer.fresh(layerClient(server.url))),
      Layer.build,
      Effect.flatMap((context) => Effect.provideContext(Hosts, context)),
      Effect.map((hosts) => hosts.get("k"))
    )
}

for (const [way, make] of Object.entries(ways)) {
  describe.skipIf(!hasRedis)(`options ${way}`, () => {
    live("maxWait holds in each process, by a timer, and a job that cannot wait is refused", function*() {
      const server = yield* emptied
      const [a, b] = yield* Effect.all([
        make(server, { concurrency: 1, maxWait: "200 millis" }),
        make(server, { concurrency: 1 })
      ])
      yield* fork(b.schedule(Effect.never))
      yield* runs(b, 1)
      const patient = yield* fork(b.schedule(Effect.never))
      const error = yield* Effect.flip(a.schedule(Effect.void))
      if (error.reason._tag !== "WaitExceeded") throw error
      expect(Duration.toMillis(error.reason.waited)).toBeGreaterThanOrEqual(199)
      expect(Duration.toMillis(error.reason.waited)).toBeLessThan(2000)
      expect(patient.pollUnsafe()).toBeUndefined()
      const other = yield* Effect.flip(b.schedule(Effect.void, { maxWait: 0 }))
      expect(other).toMatchObject({ reason: { _tag: "WaitExceeded" } })
    })

    live("shed holds in each process: it refuses the jobs of its own standing queue", function*() {
      const server = yield* emptied
      const limits = { concurrency: 1, shed: { target: "20 millis", interval: "60 millis" } } as const
      const [a, b] = yield* Effect.all([make(server, limits), make(server, { concurrency: 1 })])
      const tags = (scheduler: Scheduler.Scheduler) =>
        Effect.forEach(Array.from({ length: 30 }), () =>
          Effect.match(scheduler.schedule(Effect.sleep(10)), {
            onSuccess: () => "served",
            onFailure: ({ reason }) => reason._tag
          }), { concurrency: "unbounded" })
      const [shed, served] = yield* Effect.all([tags(a), tags(b)], { concurrency: 2 })
      expect(new Set(shed)).toEqual(new Set(["served", "Overloaded"]))
      expect(new Set(served)).toEqual(new Set(["served"]))
      expect((yield* a.stats).refused.Overloaded ?? 1).toBeGreaterThan(0)
    })

    live("share holds in each process: its keys take turns there", function*() {
      const server = yield* emptied
      const a = yield* make(server, { concurrency: 1 })
      const order: Array<string> = []
      const job = (tenant: string) =>
        a.schedule(Effect.andThen(Effect.sync(() => order.push(tenant)), Effect.sleep(10)), { share: tenant })
      const jobs = []
      for (const tenant of ["big", "big", "big", "big", "small"]) jobs.push(yield* fork(job(tenant)))
      yield* Fiber.joinAll(jobs)
      expect(order.indexOf("small")).toBeLessThan(3)
    })

    live("pause, stats and awaitIdle are of one process", function*() {
      const server = yield* emptied
      const [a, b] = yield* Effect.all([make(server, { concurrency: 2 }), make(server, { concurrency: 2 })])
      yield* a.pause
      const held = yield* fork(a.schedule(Effect.succeed("a")))
      const running = yield* fork(b.schedule(Effect.never))
      yield* runs(b, 1)
      expect(yield* a.stats).toMatchObject({ concurrency: 2, running: 0, queued: 1, paused: true, waitingFor: "pause" })
      expect(yield* b.stats).toMatchObject({ concurrency: 2, running: 1, queued: 0, paused: false })
      yield* a.resume
      expect(yield* Fiber.join(held)).toBe("a")
      yield* a.awaitIdle
      expect(running.pollUnsafe()).toBeUndefined()
      yield* Fiber.interrupt(running)
    })

    live("resize holds for what its process asks for, without a bound too", function*() {
      const server = yield* emptied
      const [a, b] = yield* Effect.all([make(server, { concurrency: 1 }), make(server, { concurrency: 1 })])
      const run = (scheduler: Scheduler.Scheduler, weight: number) => fork(scheduler.schedule(Effect.never, { weight }))
      yield* a.resize(3)
      yield* run(a, 1)
      yield* run(a, 1)
      yield* runs(a, 2)
      yield* run(b, 1)
      yield* until(Effect.map(b.stats, ({ queued }) => queued === 1))
      yield* Effect.sleep(50)
      expect([(yield* a.stats).running, (yield* b.stats).running]).toEqual([2, 0])
      yield* a.resize("unbounded")
      yield* run(a, 40)
      yield* runs(a, 3)
      expect(yield* a.stats).toMatchObject({ running: 3, weight: 42, concurrency: Infinity })
    })

    live(
      "drain holds in its process, on demand and on close, and its jobs keep their permits until they end",
      function*() {
        const server = yield* emptied
        const scope = yield* Scope.make()
        const a = yield* Scope.provide(
          make(server, { concurrency: 1, drain: "2 seconds", rate: { limit: 10, window: "1 second" } }),
          scope
        )
        const b = yield* make(server, { concurrency: 1 })
        const jobs = yield* Effect.forEach([1, 2], () => Effect.forkDetach(a.schedule(Effect.sleep(150))))
        yield* Effect.sleep(30)
        const behind = yield* fork(b.schedule(Effect.succeed("b")))
        const closed = yield* fork(Scope.close(scope, Exit.void))
        expect(yield* Effect.flip(a.schedule(Effect.void))).toMatchObject({ reason: { _tag: "Draining" } })
        yield* Fiber.join(closed)
        for (const job of jobs) expect((yield* Fiber.await(job))._tag).toBe("Success")
        expect(yield* Fiber.join(behind)).toBe("b")
        yield* b.drain()
        expect(yield* Effect.flip(b.schedule(Effect.void))).toMatchObject({ reason: { _tag: "Draining" } })
      }
    )

    live("maxQueued counts the waiting jobs of each process", function*() {
      const server = yield* emptied
      const [a, b] = yield* Effect.all([
        make(server, { concurrency: 1, maxQueued: 1 }),
        make(server, { concurrency: 1, maxQueued: 1 })
      ])
      yield* fork(a.schedule(Effect.never))
      yield* runs(a, 1)
      for (const scheduler of [a, b]) {
        yield* fork(scheduler.schedule(Effect.never))
        expect(yield* Effect.flip(scheduler.schedule(Effect.void))).toMatchObject({
          reason: { _tag: "QueueFull", queued: 1, maxQueued: 1 }
        })
      }
    })
  })
}

describe.skipIf(!hasRedis)("a rate that is a tag", () => {
  live("is the limiter of the tag, for all keys together, and a penalty of one key holds it", function*() {
    const server = yield* emptied
    const quota = { limit: 20, window: "1 second" } as const
    class Api extends RateLimiter.Service<Api>()("app/Api", quota) {}
    const process = Layer.fresh(RedisScheduler.layerKeyed(Hosts, { lookup: () => ({ concurrency: 5, rate: Api }) }))
      .pipe(
        Layer.provide(Layer.fresh(RedisRateLimiter.layerService(Api, { rate: quota }))),
        Layer.provide(Layer.fresh(layerClient(server.url))),
        Layer.build,
        Effect.flatMap((context) => Effect.provideContext(Hosts, context))
      )
    const [a, b] = yield* Effect.all([process, process])
    const began = performance.now()
    const job = Effect.sync(() => performance.now() - began)
    const starts = yield* Effect.forEach(
      [a.get("1"), a.get("2"), b.get("1"), b.get("2"), b.get("3")],
      (scheduler) => scheduler.schedule(job),
      { concurrency: "unbounded" }
    )
    expect(Math.max(...starts)).toBeGreaterThanOrEqual(199)
    yield* a.get("1").penalize({ for: "400 millis" })
    const penalized = performance.now() - began
    expect((yield* b.get("3").schedule(job)) - penalized).toBeGreaterThan(350)
  })
})

describe("options that cannot hold over Redis", () => {
  const refused: ReadonlyArray<readonly [limits: unknown, message: string]> = [
    [
      { concurrency: Adaptive.latency({ min: 1, max: 10 }) },
      "concurrency must be an integer >= 1 over a store (no process knows the latency of all jobs), got a width that adapts"
    ],
    [{ concurrency: "unbounded" }, "concurrency must be an integer >= 1, got \"unbounded\""],
    [
      { concurrency: 1, maxQueued: 0 },
      "maxQueued must be an integer >= 1 over a store (a job waits for its permit), got 0"
    ],
    [
      { concurrency: 1, maxWait: 0 },
      "maxWait must be a finite duration > 0 over a store (a job waits for its permit), got 0"
    ]
  ]

  it("are refused when the layer is made, by an error that names the rule", () => {
    for (const [limits, message] of refused) {
      // Sound for a test of callers without types.
      const options = limits as RedisScheduler.Options
      expect(() => RedisScheduler.layer(options)).toThrow(new RangeError(`Scheduler.layer: ${message}`))
      expect(() => RedisScheduler.make({ ...options, name: "s" })).toThrow(new RangeError(`Scheduler.make: ${message}`))
    }
    expect(() => RedisScheduler.layerKeyed(Hosts, { lookup: () => ({ concurrency: 1 }), lease: 0 })).toThrow(
      new RangeError("Scheduler.layerKeyed: lease must be a finite duration > 0, got 0")
    )
    RedisScheduler.layer({ concurrency: 1, lease: "1 hour" })
    expect(() => RedisScheduler.layer({ concurrency: 1, lease: "61 minutes" })).toThrow(
      new RangeError("Scheduler.layer: lease must be at most 1 hour, got \"61 minutes\"")
    )
  })

  it.effect("are a defect of the first call where the lookup of a key returns them", () =>
    Effect.gen(function*() {
      for (const [limits, message] of refused) {
        // Sound for a test of callers without types.
        const lookup = () => limits as RedisScheduler.Limits
        const layer = RedisScheduler.layerKeyed(Hosts, { lookup })
        const defect = yield* Effect.catchDefect(Hosts.schedule("k", Effect.void), (defect) => Effect.succeed(defect))
          .pipe(Effect.provide(layer), Effect.provide(nowhere))
        expect(String(defect)).toBe(`RangeError: Scheduler.layerKeyed: ${message}`)
      }
    }))
})
