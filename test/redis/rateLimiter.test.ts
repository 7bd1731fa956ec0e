import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RedisLimiter from "../../src/redis/RateLimiter.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import { live } from "../support/live.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, redisServer } from "../support/redisServer.js"

const processOn = (url: string, options: RedisLimiter.Options) =>
  Effect.gen(function*() {
    const redis = yield* Layer.build(Layer.fresh(layerClient(url)))
    return yield* Effect.provideContext(RedisLimiter.make(options), redis)
  })

/** The starts of `count` admissions in each process, and the common beginning, in milliseconds of one monotonic clock. */
const starts = (url: string, options: RedisLimiter.Options, processes: number, count: number) =>
  Effect.gen(function*() {
    const limiters = yield* Effect.all(Array.from({ length: processes }, () => processOn(url, options)))
    const began = performance.now()
    const all: Array<number> = []
    yield* Effect.forEach(
      limiters,
      (limiter) =>
        Effect.forEach(
          Array.from({ length: count }),
          () => Effect.map(limiter.consume(), () => void all.push(performance.now())),
          {
            concurrency: "unbounded",
            discard: true
          }
        ),
      { concurrency: "unbounded", discard: true }
    )
    return { began, all: all.sort((a, b) => a - b) }
  })

describe.skipIf(!hasRedis)("RateLimiter over Redis", () => {
  for (
    const [limit, window, burst, count] of [[50, "1 second", 1, 10], [1000, "1 second", 1, 150], [
      10_000,
      "1 second",
      50,
      1000
    ]] as const
  ) {
    live(`Four processes together keep ${limit} in ${window} with a burst of ${burst}, at the full pace`, function*() {
      const server = yield* redisServer()
      const { all, began } = yield* starts(server.url, { rate: { limit, window, burst } }, 4, count)
      expect(all.length).toBe(4 * count)
      const interval = 1000 / limit
      // No start is early: at any time, no more have started than were due.
      all.forEach((at, i) => expect(i + 1).toBeLessThanOrEqual(burst + (at - began) / interval + 1e-6))
      const ideal = (4 * count - burst) * interval
      expect(all.at(-1)! - began).toBeLessThan(ideal * 1.25 + 300)
    })
  }

  live("Limiters with different names have each a quota of their own, and those with one name share it", function*() {
    const server = yield* redisServer()
    const rate = { limit: 1, window: "1 hour" } as const
    const [a, b, other, none] = yield* Effect.all(
      [{ name: "a:=}%" }, { name: "a:=}%" }, { name: "b" }, {}].map((named) =>
        processOn(server.url, { ...named, rate })
      )
    )
    yield* a!.consume()
    yield* a!.consume({ key: "k" })
    for (const options of [{}, { key: "k" }]) {
      expect(yield* b!.peek(options)).toMatchObject({ remaining: 0 })
      for (const limiter of [other!, none!]) expect(yield* limiter.peek(options)).toMatchObject({ remaining: 1 })
    }
    const redis = yield* Layer.build(Layer.fresh(layerClient(server.url)))
    const scheduler = yield* Effect.provideContext(
      RedisScheduler.make({ name: "a:=}%", concurrency: 1, rate }),
      redis
    )
    expect(yield* Effect.timeoutOption(scheduler.schedule(Effect.succeed(1)), "5 seconds")).toMatchObject({ value: 1 })
  })

  live("Keys that Redis could not tell apart are different keys", function*() {
    const server = yield* redisServer()
    const limiter = yield* processOn(server.url, { rate: { limit: 1, window: "1 hour" } })
    const keys = ["\ud800", "\ud801", "\ufffd", JSON.stringify("\ud800"), "~\"\\ud800\"", ""]
    for (const key of keys) expect(yield* limiter.peek({ key })).toMatchObject({ remaining: 1 })
    for (const key of keys) {
      expect(yield* limiter.peek({ key }), JSON.stringify(key)).toMatchObject({ remaining: 1 })
      yield* limiter.consume({ key })
      expect(yield* limiter.peek({ key })).toMatchObject({ remaining: 0 })
    }
  })
})
