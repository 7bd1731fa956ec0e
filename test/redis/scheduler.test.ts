import { describe, expect } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { MixedScheduler } from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { engineOf } from "../../src/internal/scheduler/handle.js"
import * as RateLimiter from "../../src/RateLimiter.js"
import * as RedisRateLimiter from "../../src/redis/RateLimiter.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Scheduler from "../../src/Scheduler.js"
import { live, until } from "../support/live.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, redisServer } from "../support/redisServer.js"

const processOn = (url: string, options: RedisScheduler.Options) =>
  Effect.gen(function*() {
    const redis = yield* Layer.build(Layer.fresh(layerClient(url)))
    return yield* Effect.provideContext(RedisScheduler.make({ ...options, name: "s" }), redis)
  })

const makeLoad = () => {
  const seen = { now: 0, most: 0, done: 0, interrupted: 0 }
  const job = (millis: number, weight = 1) =>
    Effect.suspend(() => {
      seen.now += weight
      seen.most = Math.max(seen.most, seen.now)
      return Effect.sleep(millis)
    }).pipe(
      Effect.tap(() => Effect.sync(() => seen.done++)),
      Effect.onInterrupt(() => Effect.sync(() => seen.interrupted++)),
      Effect.ensuring(Effect.sync(() => seen.now -= weight))
    )
  return { seen, job }
}

describe.skipIf(!hasRedis)("Scheduler over Redis", () => {
  live("Four processes together never exceed the concurrency, and all jobs run", function*() {
    const server = yield* redisServer()
    const processes = yield* Effect.all(Array.from({ length: 4 }, () => processOn(server.url, { concurrency: 10 })))
    const { job, seen } = makeLoad()
    const began = performance.now()
    yield* Effect.forEach(
      processes,
      (scheduler) =>
        Effect.forEach(Array.from({ length: 100 }), () => scheduler.schedule(job(10)), { concurrency: "unbounded" }),
      {
        concurrency: "unbounded"
      }
    )
    expect(seen).toMatchObject({ done: 400, most: 10, now: 0 })
    expect(performance.now() - began).toBeLessThan(1500)
    yield* Effect.sleep(50)
    expect(
      yield* Effect.promise(() => server.command("ZCARD", "{effect-funnel:1:p:s}:h"))
    ).toBe(":0\r\n")
    expect(yield* Effect.promise(() => server.command("ZCARD", "{effect-funnel:1:p:s}:q"))).toBe(":0\r\n")
  })

  live(
    "Services of one program over two servers: each one subscribes at its own, and those of one server share a subscription",
    function*() {
      class Printer extends Scheduler.Service<Printer>()("app/Printer", { concurrency: 1 }) {}
      class Scanner extends Scheduler.Service<Scanner>()("app/Scanner", { concurrency: 1 }) {}
      class Plotter extends Scheduler.Service<Plotter>()("app/Plotter", { concurrency: 1 }) {}
      const servers = yield* Effect.all([redisServer(), redisServer()])
      const [one, other] = servers
      yield* Layer.build(Layer.mergeAll(
        Layer.mergeAll(
          RedisScheduler.layerService(Printer, { concurrency: 1 }),
          RedisScheduler.layerService(Scanner, { concurrency: 1 })
        ).pipe(Layer.provide(layerClient(one.url))),
        RedisScheduler.layerService(Plotter, { concurrency: 1 }).pipe(Layer.provide(layerClient(other.url)))
      ))
      for (const server of servers) {
        yield* until(Effect.promise(async () => (await server.command("PUBSUB", "CHANNELS")).startsWith("*1\r\n")))
      }
    }
  )

  live("Heavy jobs of two processes do not block each other, nor forEach", function*() {
    const server = yield* redisServer()
    const [a, b] = yield* Effect.all([
      processOn(server.url, { concurrency: 3 }),
      processOn(server.url, { concurrency: 3 })
    ])
    const { job, seen } = makeLoad()
    const heavy = Array.from({ length: 20 }, (_, i) => 1 + i % 3)
    yield* Effect.all([
      Effect.forEach(heavy, (weight) => a.schedule(job(2, weight), { weight }), { concurrency: "unbounded" }),
      Effect.forEach(heavy, (weight) => b.schedule(job(2, weight), { weight }), { concurrency: "unbounded" }),
      a.forEach(heavy, () => job(2))
    ], { concurrency: "unbounded" })
    expect(seen).toMatchObject({ done: 60, most: 3, now: 0 })
    const error = yield* Effect.flip(a.schedule(Effect.void, { weight: 4 }))
    expect(error).toMatchObject({ reason: { _tag: "InsufficientCapacity", what: "weight", asked: 4, most: 3 } })
  })

  live("A job that schedules inside itself does not wait for its own permit", function*() {
    const server = yield* redisServer()
    const a = yield* processOn(server.url, { concurrency: 1 })
    expect(yield* a.schedule(a.schedule(Effect.succeed("inner")))).toBe("inner")
  })

  live("A waiting job that is interrupted also leaves the shared queue", function*() {
    const server = yield* redisServer()
    const [a, b, c] = yield* Effect.all([
      processOn(server.url, { concurrency: 1 }),
      processOn(server.url, { concurrency: 1 }),
      processOn(server.url, { concurrency: 1 })
    ])
    const gate = yield* Deferred.make<void>()
    const running = yield* Effect.forkChild(a.schedule(Deferred.await(gate)))
    yield* Effect.sleep(30)
    const waiting = yield* Effect.forkChild(b.schedule(Effect.void))
    yield* Effect.sleep(30)
    const last = yield* Effect.forkChild(c.schedule(Effect.succeed("c")))
    yield* Effect.sleep(30)
    yield* Fiber.interrupt(waiting)
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.join(running)
    const began = performance.now()
    expect(yield* Fiber.join(last)).toBe("c")
    expect(performance.now() - began).toBeLessThan(500)
  })

  live(
    "A place that a process could not leave, as its connection was cut, holds nobody up for the rest of its lease",
    function*() {
      const server = yield* redisServer()
      const make = processOn(server.url, { concurrency: 1, lease: "1 minute" })
      const [a, b, c] = yield* Effect.all([make, make, make])
      const queued = (n: number) =>
        until(Effect.promise(async () => (await server.command("ZCARD", "{effect-funnel:1:p:s}:q")) === `:${n}\r\n`))
      const gate = yield* Deferred.make<void>()
      yield* Effect.forkChild(c.schedule(Deferred.await(gate)))
      yield* until(Effect.promise(async () => (await server.command("ZCARD", "{effect-funnel:1:p:s}:h")) === ":1\r\n"))
      const leaving = yield* Effect.forkChild(a.schedule(Effect.void))
      yield* queued(1)
      const waiting = yield* Effect.forkChild(b.schedule(Effect.succeed("b")))
      yield* queued(2)
      yield* Effect.promise(() => server.command("CLIENT", "KILL", "TYPE", "normal"))
      yield* Fiber.interrupt(leaving)
      yield* Deferred.succeed(gate, undefined)
      expect(yield* Effect.timeoutOption(Fiber.join(waiting), "10 seconds")).toMatchObject({ value: "b" })
    }
  )

  live("A scope that closes returns its permits at once", function*() {
    const server = yield* redisServer()
    const scope = yield* Scope.make()
    const a = yield* Scope.provide(processOn(server.url, { concurrency: 1 }), scope)
    const b = yield* processOn(server.url, { concurrency: 1 })
    yield* Effect.forkChild(a.schedule(Effect.never))
    yield* Effect.sleep(30)
    const waiting = yield* Effect.forkChild(b.schedule(Effect.succeed("b")))
    yield* Effect.sleep(30)
    const began = performance.now()
    yield* Scope.close(scope, Exit.void)
    expect(yield* Fiber.join(waiting)).toBe("b")
    expect(performance.now() - began).toBeLessThan(500)
  })

  live("A job whose permit was lost to another fails with a StoreError, and its caller continues", function*() {
    const server = yield* redisServer()
    const a = yield* processOn(server.url, { concurrency: 1, lease: "300 millis" })
    const { job, seen } = makeLoad()
    const running = yield* Effect.forkChild(Effect.flip(a.schedule(job(5000))))
    yield* Effect.sleep(50)
    // As after a freeze: another process now holds the permit. In one step, or a renewal may come in between.
    const taken = "redis.call('DEL', KEYS[1]) redis.call('ZADD', KEYS[1], '9e15', 'other') " +
      "return redis.call('HSET', KEYS[2], 'other', '1 10000000')"
    const keys = ["{effect-funnel:1:p:s}:h", "{effect-funnel:1:p:s}:n"]
    yield* Effect.promise(() => server.command("EVAL", taken, "2", ...keys))
    expect(yield* Fiber.join(running)).toMatchObject({ reason: { _tag: "StoreError", operation: "renew" } })
    expect(seen).toMatchObject({ interrupted: 1, now: 0 })
  })

  live(
    "While Redis is unavailable, jobs fail with a typed error or use this process's share; they use Redis again when it returns",
    function*() {
      const server = yield* redisServer()
      const options = { concurrency: 4, outageBudget: 0, storeTimeout: "200 millis", lease: "500 millis" } as const
      const strict = yield* processOn(server.url, options)
      const local = yield* processOn(server.url, {
        ...options,
        onStoreError: "local",
        expectedProcesses: 2
      })
      yield* strict.schedule(Effect.void)
      yield* Effect.promise(() => server.stop())
      const error = yield* Effect.flip(strict.schedule(Effect.void))
      expect(error).toMatchObject({ _tag: "SchedulerError", reason: { _tag: "StoreError", operation: "acquire" } })
      const { job, seen } = makeLoad()
      yield* Effect.forEach(Array.from({ length: 10 }), () => local.schedule(job(5)), { concurrency: "unbounded" })
      expect(seen).toMatchObject({ done: 10, most: 2 })
      yield* local.schedule(Effect.void, { weight: 4 })
      yield* Effect.promise(() => server.start())
      yield* Effect.sleep(2500)
      yield* Effect.forEach(Array.from({ length: 10 }), () => local.schedule(job(5)), { concurrency: "unbounded" })
      expect(seen).toMatchObject({ done: 20, most: 4 })
      yield* strict.schedule(Effect.void)
    }
  )

  live("Four processes together keep concurrency and rate", function*() {
    const server = yield* redisServer()
    const processes = yield* Effect.all(
      Array.from(
        { length: 4 },
        () => processOn(server.url, { concurrency: 5, rate: { limit: 200, window: "1 second" } })
      )
    )
    const { job, seen } = makeLoad()
    const began = performance.now()
    yield* Effect.forEach(
      processes,
      (scheduler) =>
        Effect.forEach(Array.from({ length: 30 }), () => scheduler.schedule(job(3)), { concurrency: "unbounded" }),
      {
        concurrency: "unbounded"
      }
    )
    expect(seen.done).toBe(120)
    expect(seen.most).toBeLessThanOrEqual(5)
    expect(performance.now() - began).toBeGreaterThanOrEqual(119 * 5)
    expect(performance.now() - began).toBeLessThan(119 * 5 * 1.5 + 300)
  })

  live("A first rate set at run time is shared, also under a custom tag", function*() {
    const server = yield* redisServer()
    class Jobs extends Scheduler.Service<Jobs>()("s", { concurrency: 1 }) {}
    const a = yield* processOn(server.url, { concurrency: 10 })
    const began = performance.now()
    yield* Effect.gen(function*() {
      const quota = { limit: 50, window: "1 second" } as const
      yield* a.setRate(quota)
      yield* Jobs.setRate(quota)
      yield* Effect.all([
        Effect.forEach(Array.from({ length: 10 }), () => a.schedule(Effect.void), { concurrency: "unbounded" }),
        Jobs.forEach(Array.from({ length: 10 }), () => Effect.void)
      ], { concurrency: "unbounded" })
      expect(performance.now() - began).toBeGreaterThanOrEqual(19 * 20)
      expect(() => Jobs.setRate({ limit: 0, window: "1 second" })).toThrow(
        new RangeError("Scheduler.setRate: limit must be an integer >= 1, got 0")
      )
    }).pipe(
      Effect.provide(
        RedisScheduler.layerService(Jobs, { concurrency: 10 }).pipe(
          Layer.provide(Layer.fresh(layerClient(server.url)))
        )
      )
    )
  })

  live("Two first rates set at once become one, wherever the first fiber yields", function*() {
    const server = yield* redisServer()
    for (let operation = 1; operation <= 6; operation++) {
      const scheduler = yield* processOn(server.url, { prefix: `p${operation}`, concurrency: 10 })
      const engine = engineOf(scheduler)!
      const adopted: Array<unknown> = []
      const adopt = engine.adoptLimiterUnsafe.bind(engine)
      engine.adoptLimiterUnsafe = (limiter) => {
        adopted.push(limiter)
        adopt(limiter)
      }
      let seen = 0
      class YieldsOnce extends MixedScheduler {
        override shouldYield(fiber: Fiber.Fiber<unknown, unknown>) {
          return ++seen === operation || super.shouldYield(fiber)
        }
      }
      const setRate = scheduler.setRate({ limit: 20, window: "1 second" })
      const context = yield* Effect.context<never>()
      const first = Effect.runForkWith(context)(setRate, { scheduler: new YieldsOnce() })
      yield* setRate
      yield* Fiber.join(first)
      expect(adopted).toEqual([engine.limiter])
      const began = performance.now()
      yield* Effect.forEach([1, 2, 3], () => scheduler.schedule(Effect.void), { concurrency: "unbounded" })
      expect(performance.now() - began).toBeGreaterThanOrEqual(99)
    }
  })

  live(
    "A rate set again applies to waiting jobs, and other jobs still find the scheduler behind the handle",
    function*() {
      const server = yield* redisServer()
      const a = yield* processOn(server.url, { concurrency: 10 })
      expect(engineOf(a)).toBeDefined()
      yield* a.setRate({ limit: 4, window: "1 second" })
      const limiter = engineOf(a)?.limiter
      expect(limiter).toBeDefined()
      const began = performance.now()
      const all = yield* Effect.forkChild(a.forEach([1, 2, 3, 4], () => Effect.void))
      yield* Effect.sleep(50)
      yield* a.setRate({ limit: 100, window: "1 second" })
      // A second limiter would leave the first open forever.
      expect(engineOf(a)?.limiter).toBe(limiter)
      yield* Fiber.join(all)
      const took = performance.now() - began
      expect(took).toBeGreaterThanOrEqual(249)
      expect(took).toBeLessThan(700)
    }
  )

  live("resize and a limiter of another tag apply to waiting jobs", function*() {
    const server = yield* redisServer()
    const quota = { limit: 50, window: "1 second" } as const
    class Api extends RateLimiter.Service<Api>()("app/Api", quota) {}
    class Jobs extends Scheduler.Service<Jobs>()("app/Jobs", { concurrency: 1 }) {}
    const layers = RedisScheduler.layerService(Jobs, { concurrency: 1, rate: Api }).pipe(
      Layer.provideMerge(RedisRateLimiter.layerService(Api, { rate: quota })),
      Layer.provide(layerClient(server.url))
    )
    const { job, seen } = makeLoad()
    yield* Effect.gen(function*() {
      const began = performance.now()
      const all = yield* Effect.forkChild(Jobs.forEach(Array.from({ length: 12 }), () => job(50)))
      while (seen.done < 2) yield* Effect.sleep(10)
      expect(seen.most).toBe(1)
      yield* Jobs.resize(4)
      yield* Fiber.join(all)
      expect(seen).toMatchObject({ done: 12, now: 0 })
      expect(seen.most).toBeGreaterThan(1)
      expect(seen.most).toBeLessThanOrEqual(4)
      expect(performance.now() - began).toBeGreaterThanOrEqual(11 * 20)
      expect((yield* Jobs.stats).concurrency).toBe(4)
      // The same rate, consumed through the tag itself.
      const error = yield* Effect.flip(Effect.andThen(Api.consume(), Api.consume({ onExceeded: "fail" })))
      expect(error.reason._tag).toBe("RateLimitExceeded")
    }).pipe(Effect.provide(layers))
  })
})
