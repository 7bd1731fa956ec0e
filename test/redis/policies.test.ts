import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Persistable from "effect/persistence/Persistable"
import * as Redis from "effect/persistence/Redis"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import * as RateLimiter from "../../src/RateLimiter.js"
import * as RedisRateLimiter from "../../src/redis/RateLimiter.js"
import * as RedisLayer from "../../src/redis/Redis.js"
import * as RedisReducer from "../../src/redis/Reducer.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Reducer from "../../src/Reducer.js"
import { reduceShared } from "../../src/SharedReducer.js"
import * as Scheduler from "../../src/Scheduler.js"
import { settle } from "../support/fibers.ts"
import { live } from "../support/live.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, redisServer } from "../support/redisServer.js"

class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
  primaryKey: (_) => _.id,
  success: Schema.Number
}) {}

const refused = new Redis.RedisError({ cause: new Error("connection refused") })
const nowhere = RedisLayer.layerBackground(Layer.effect(Redis.Redis, Effect.fail(refused)))

describe("policies while Redis is away", () => {
  it.live("`local` runs in this process, logs each outage once and counts each call", () =>
    Effect.gen(function*() {
      const messages: Array<unknown> = []
      const logger = Logger.make(({ message }) => void messages.push(message))
      const count = Metric.value(Metric.withAttributes(
        Metric.counter("effect_funnel.store.policy", {
          description: "How often onStoreError took the place of the store",
          incremental: true
        }),
        { service: "effect-funnel/Reducer", policy: "local" }
      ))
      const before = yield* count
      const call = reduceShared(new GetUser({ id: "1" }), ({ fence }) => Effect.succeed(fence))
      const results = yield* Effect.all([call, call, call]).pipe(
        Effect.provide(RedisReducer.layer({ outageBudget: 0 }).pipe(Layer.provide(nowhere))),
        Effect.provide(Logger.layer([logger]))
      )
      expect(results).toEqual([0, 0, 0])
      expect((yield* count).count - before.count).toBe(3)
      expect(messages.filter((_) => String(_).includes("the store is away"))).toHaveLength(1)
    }))

  it.live("`fail` fails each service with a typed error that holds the operation and the cause", () =>
    Effect.gen(function*() {
      const reducer = yield* Effect.flip(
        reduceShared(new GetUser({ id: "1" }), () => Effect.succeed(1)).pipe(
          Effect.provide(RedisReducer.layer({ outageBudget: 0, onStoreError: "fail" }))
        )
      )
      expect(reducer).toMatchObject({ _tag: "ReducerError", reason: { _tag: "StoreError", operation: "join" } })
      const quota = { limit: 1, window: "1 second" } as const
      for (const onExceeded of ["delay", "fail"] as const) {
        const limiter = yield* Effect.flip(
          RateLimiter.consume({ onExceeded }).pipe(
            Effect.provide(RedisRateLimiter.layer({ rate: quota, outageBudget: 0 }))
          )
        )
        expect(limiter).toMatchObject({ _tag: "RateLimiterError", reason: { _tag: "StoreError", operation: "take" } })
      }
      const scheduler = yield* Effect.flip(
        Scheduler.schedule(Effect.void).pipe(
          Effect.provide(RedisScheduler.layer({ concurrency: 1, outageBudget: 0 }))
        )
      )
      expect(scheduler).toMatchObject({ _tag: "SchedulerError", reason: { _tag: "StoreError", operation: "acquire" } })
    }).pipe(Effect.provide(nowhere)))

  it.live("A limiter continues locally at its share of the pace, or admits every call", () =>
    Effect.gen(function*() {
      const quota = { limit: 100, window: "1 second" } as const
      const all = Effect.forEach(Array.from({ length: 5 }), () => RateLimiter.consume(), {
        concurrency: "unbounded"
      }).pipe(Effect.timed)
      const layer = (options: RedisRateLimiter.StoreOptions) =>
        RedisRateLimiter.layer({ rate: quota, outageBudget: 0, ...options })
      const [local] = yield* Effect.provide(all, layer({ onStoreError: "local", expectedProcesses: 4 }))
      expect(Duration.toMillis(local)).toBeGreaterThan(130)
      const [allowed] = yield* Effect.provide(all, layer({ onStoreError: "allow" }))
      expect(Duration.toMillis(allowed)).toBeLessThan(150)
      const error = yield* Effect.andThen(RateLimiter.consume(), RateLimiter.consume({ onExceeded: "fail" })).pipe(
        Effect.provide(layer({ onStoreError: "local", expectedProcesses: 4 })),
        Effect.flip
      )
      expect(error.reason._tag).toBe("RateLimitExceeded")
    }).pipe(Effect.provide(nowhere), Effect.provide(Logger.layer([]))))

  it.live("The local limiter does not make up the time spent waiting for the store", () =>
    Effect.gen(function*() {
      const times: Array<number> = []
      yield* Effect.forEach(
        Array.from({ length: 5 }),
        () => Effect.tap(RateLimiter.consume(), () => Effect.sync(() => times.push(performance.now()))),
        { concurrency: "unbounded" }
      )
      expect(times[4]! - times[0]!).toBeGreaterThan(140)
    }).pipe(
      Effect.provide(RedisRateLimiter.layer({
        rate: { limit: 100, window: "1 second" },
        outageBudget: "150 millis",
        onStoreError: "local",
        expectedProcesses: 4
      })),
      Effect.provide(nowhere),
      Effect.provide(Logger.layer([]))
    ))

  it.effect("layerBackground fails commands until it is connected, and then hands them on with all words", () =>
    Effect.gen(function*() {
      const client = Redis.Redis.of({
        ...({} as Redis.Redis["Service"]),
        send: <A>(...words: ReadonlyArray<string>) => Effect.succeed(words as A)
      })
      const services = yield* Layer.build(RedisLayer.layerBackground(Layer.succeed(Redis.Redis, client)))
      const redis = yield* Effect.provideContext(Redis.Redis, services)
      expect(String((yield* Effect.flip(redis.send("PING"))).cause)).toContain("not connected yet")
      yield* settle
      expect(yield* redis.send("SET", "k", "1")).toEqual(["SET", "k", "1"])
    }).pipe(Effect.scoped))

  it("Invalid options are RangeErrors that name function, field, rule and value", () => {
    const rate = { limit: 1, window: "1 second" } as const
    const cases: ReadonlyArray<readonly [() => unknown, string]> = [
      [
        () => RedisReducer.layer({ prefix: "}" }),
        "Reducer.layer: prefix must be a text that does not begin with }, got \"}\""
      ],
      [() => RedisReducer.layer({ lease: 0 }), "Reducer.layer: lease must be a finite duration > 0, got 0"],
      [
        () => RedisReducer.layer({ lease: "2 seconds", storeTimeout: 2001 }),
        "Reducer.layer: lease must be at least storeTimeout (2001 ms), got \"2 seconds\""
      ],
      [() => RedisReducer.layer({ lease: NaN }), "Reducer.layer: lease must be a finite duration > 0, got NaN"],
      [() => RedisReducer.layer({ retain: 0 }), "Reducer.layer: retain must be a finite duration > 0, got 0"],
      [
        () => RedisReducer.layer({ storeTimeout: 0 }),
        "Reducer.layer: storeTimeout must be a finite duration > 0, got 0"
      ],
      [
        () => RedisReducer.layer({ outageBudget: -1 }),
        "Reducer.layer: outageBudget must be a finite duration >= 0, got -1"
      ],
      ...[0, -1, 1.5, NaN, Infinity].map((maxResultBytes) =>
        [
          () => RedisReducer.layer({ maxResultBytes }),
          `Reducer.layer: maxResultBytes must be an integer >= 1, got ${maxResultBytes}`
        ] as const
      ),
      [
        // @ts-expect-error a policy that this service does not have
        () => RedisReducer.layer({ onStoreError: "allow" }),
        `Reducer.layer: onStoreError must be "local" or "fail", got "allow"`
      ],
      [
        () => RedisRateLimiter.layer({ rate: { ...rate, limit: 0 } }),
        "RateLimiter.layer: rate.limit must be an integer >= 1, got 0"
      ],
      [
        () => RedisRateLimiter.layer({ rate, expectedProcesses: 1.5 }),
        "RateLimiter.layer: expectedProcesses must be an integer >= 1, got 1.5"
      ],
      [
        () => RedisScheduler.layer({ concurrency: Infinity }),
        "Scheduler.layer: concurrency must be an integer >= 1, got Infinity"
      ],
      [
        () => RedisScheduler.layer({ concurrency: 1, expectedProcesses: 0 }),
        "Scheduler.layer: expectedProcesses must be an integer >= 1, got 0"
      ]
    ]
    for (const [make, message] of cases) expect(make).toThrow(new RangeError(message))
  })
})

describe.skipIf(!hasRedis)("layers over Redis", () => {
  live("layerConfig reads the options and policies from the configuration", function*() {
    const server = yield* redisServer()
    const client = layerClient(server.url)
    const store = {
      prefix: Config.String("FUNNEL_PREFIX"),
      lease: Config.Duration("FUNNEL_LEASE"),
      onStoreError: Config.Literals(["local", "fail"], "FUNNEL_POLICY")
    }
    const layers = Layer.mergeAll(
      RedisReducer.layerConfig(store, { name: "shared" }),
      RedisScheduler.layerConfig({ ...store, concurrency: Config.Int("FUNNEL_CONCURRENCY") }),
      RedisRateLimiter.layerConfig({
        prefix: store.prefix,
        rate: { limit: Config.Int("FUNNEL_LIMIT"), window: Config.Duration("FUNNEL_WINDOW") }
      })
    ).pipe(
      Layer.provide(client),
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({
        FUNNEL_PREFIX: "app",
        FUNNEL_LEASE: "5 seconds",
        FUNNEL_POLICY: "fail",
        FUNNEL_CONCURRENCY: "3",
        FUNNEL_LIMIT: "10",
        FUNNEL_WINDOW: "1 second"
      })))
    )
    yield* Effect.gen(function*() {
      expect((yield* Scheduler.stats).concurrency).toBe(3)
      expect((yield* RateLimiter.consume()).limit).toBe(10)
      const keys = yield* reduceShared(new GetUser({ id: "1" }), () =>
        Effect.promise(async () => {
          const names = await server.command("KEYS", "{app:1:f:effect-funnel/Reducer:*")
          const ttl = await server.command("PTTL", `{app:1:f:effect-funnel/Reducer:["GetUser","1"]}:f`)
          expect(Number(ttl.slice(1))).toBeGreaterThan(9000)
          return Number(names.slice(1, 2))
        }))
      expect(keys).toBe(1)
    }).pipe(Effect.provide(layers))
  })

  it.live("A Redis that becomes available later is used from then on", () =>
    Effect.gen(function*() {
      const server = yield* redisServer()
      yield* Effect.promise(() => server.stop())
      const layer = RedisReducer.layer({ outageBudget: 0 }).pipe(
        Layer.provide(RedisLayer.layerBackground(layerClient(server.url)))
      )
      const call = reduceShared(new GetUser({ id: "1" }), ({ fence }) => Effect.succeed(fence))
      yield* Effect.gen(function*() {
        expect(yield* call).toBe(0)
        yield* Effect.promise(() => server.start())
        let fence = 0
        for (let i = 0; i < 100 && fence === 0; i++) {
          yield* Effect.sleep(50)
          fence = yield* call
        }
        expect(fence).toBeGreaterThan(0)
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))

  live("The documented ACL account suffices for the layers, and permits nothing else", function*() {
    const page = readFileSync(new URL("../../docs/distributed.md", import.meta.url), "utf8")
    const command = /^ACL SETUSER[^`]*/m.exec(page)![0].replaceAll("\\\n", " ").trim().split(/\s+/)
    const server = yield* redisServer()
    expect(yield* Effect.promise(() => server.command(...command))).toBe("+OK\r\n")
    const url = server.url.replace("redis://", "redis://funnel:password@")
    const layers = Layer.mergeAll(
      RedisReducer.layer({ onStoreError: "fail" }),
      RedisRateLimiter.layer({ rate: { limit: 1000, window: "1 second" } }),
      RedisScheduler.layer({ concurrency: 1 })
    ).pipe(Layer.provideMerge(layerClient(url)))
    yield* Effect.gen(function*() {
      const slow = reduceShared(new GetUser({ id: "1" }), () => Effect.delay(Effect.succeed(1), "50 millis"))
      const other = yield* Layer.build(Layer.fresh(RedisReducer.layer({ onStoreError: "fail" })))
      yield* Effect.sleep(100)
      expect(yield* Effect.all([slow, Effect.provideContext(slow, other)], { concurrency: 2 })).toEqual([1, 1])
      yield* RateLimiter.consume()
      yield* RateLimiter.penalize({ for: 1 })
      yield* RateLimiter.reset()
      yield* Effect.all([Scheduler.schedule(Effect.sleep(20)), Scheduler.schedule(Effect.void)], { concurrency: 2 })
      const redis = yield* Redis.Redis
      expect(String((yield* Effect.flip(redis.send("GET", "secret"))).cause)).toContain("NOPERM")
      expect(String((yield* Effect.flip(redis.send("FLUSHALL"))).cause)).toContain("NOPERM")
      // Another prefix is another application.
      expect(String((yield* Effect.flip(redis.send("PUBLISH", "other:1:inbox:x", ""))).cause)).toContain("NOPERM")
      const foreign = yield* Layer.build(RedisScheduler.layer({ prefix: "other", concurrency: 1, outageBudget: 0 }))
      expect(yield* Effect.flip(Effect.provideContext(Scheduler.schedule(Effect.void), foreign))).toMatchObject({
        reason: { _tag: "StoreError" }
      })
    }).pipe(Effect.provide(layers))
  })

  live("Two reducers on one Redis share runs only if they have the same tag", function*() {
    const server = yield* redisServer()
    class One extends Reducer.Service<One>()("app/One") {}
    class Two extends Reducer.Service<Two>()("app/Two") {}
    const layers = Layer.mergeAll(RedisReducer.layerService(One), RedisReducer.layerService(Two)).pipe(
      Layer.provide(layerClient(server.url))
    )
    let runs = 0
    const f = () => Effect.delay(Effect.sync(() => ++runs), "50 millis")
    yield* Effect.all([
      Effect.provideServiceEffect(reduceShared(new GetUser({ id: "1" }), f), Reducer.Reducer, One),
      Effect.provideServiceEffect(reduceShared(new GetUser({ id: "1" }), f), Reducer.Reducer, Two)
    ], { concurrency: "unbounded" }).pipe(Effect.provide(layers))
    expect(runs).toBe(2)
  })
})

describe.skipIf(!hasRedis)("RateLimiter over Redis, call by call", () => {
  const limiters = (options: RedisRateLimiter.Options) =>
    Effect.gen(function*() {
      const server = yield* redisServer()
      const make = Effect.gen(function*() {
        const redis = yield* Layer.build(Layer.fresh(layerClient(server.url)))
        return yield* Effect.provideContext(RedisRateLimiter.make(options), redis)
      })
      return [yield* make, yield* make] as const
    })

  live(
    "L2 Tokens taken by one process are refused to another, with the time to wait; a refusal consumes nothing",
    function*() {
      const [a, b] = yield* limiters({ rate: { limit: 10, window: "5 seconds", burst: 2 } })
      expect(yield* a.consume({ key: "k" })).toMatchObject({ limit: 10, remaining: 1 })
      expect(yield* b.consume({ key: "k", onExceeded: "fail" })).toMatchObject({ remaining: 0 })
      yield* b.consume({ key: "other", onExceeded: "fail" })
      const error = yield* Effect.flip(a.consume({ key: "k", onExceeded: "fail" }))
      if (error.reason._tag !== "RateLimitExceeded") throw error
      expect(error.reason).toMatchObject({ key: "k", limit: 10, remaining: 0 })
      const wait = Duration.toMillis(error.reason.retryAfter)
      expect(wait).toBeLessThanOrEqual(500)
      for (let i = 0; i < 10; i++) yield* Effect.flip(b.consume({ key: "k", onExceeded: "fail" }))
      yield* Effect.sleep(Math.ceil(wait) + 1)
      yield* b.consume({ key: "k", onExceeded: "fail" })
    }
  )

  live("L3 Waiters start in order of arrival, and an interrupted one does not delay those behind it", function*() {
    const [a] = yield* limiters({ rate: { limit: 10, window: "1 second" } })
    const order: Array<number> = []
    const waiters = yield* Effect.forEach(
      Array.from({ length: 6 }, (_, i) => i),
      (i) => Effect.forkChild(Effect.map(a.consume(), () => void order.push(i)))
    )
    const began = performance.now()
    yield* Effect.sleep(30)
    yield* Effect.forEach([1, 2, 3], (i) => Fiber.interrupt(waiters[i]!))
    yield* Effect.forEach([0, 4, 5], (i) => Fiber.join(waiters[i]!))
    expect(order).toEqual([0, 4, 5])
    expect(performance.now() - began).toBeLessThan(200 + 190)
  })

  live("penalize delays every process, reset clears the debt, withLimit runs the effect once admitted", function*() {
    const [a, b] = yield* limiters({ rate: { limit: 1000, window: "1 second" } })
    yield* a.penalize({ key: "k", for: "10 seconds" })
    const error = yield* Effect.flip(b.consume({ key: "k", onExceeded: "fail" }))
    if (error.reason._tag !== "RateLimitExceeded") throw error
    expect(Duration.toMillis(error.reason.retryAfter)).toBeGreaterThan(9000)
    const waiting = yield* Effect.forkChild(b.withLimit(Effect.succeed("ran"), { key: "k" }))
    yield* Effect.sleep(30)
    expect(waiting.pollUnsafe()).toBeUndefined()
    yield* b.reset({ key: "k" })
    expect(yield* Fiber.join(waiting)).toBe("ran")
    expect(yield* a.withLimit({ key: "k" })(Effect.exit(Effect.fail("no")))).toEqual(Exit.fail("no"))
  })
})
