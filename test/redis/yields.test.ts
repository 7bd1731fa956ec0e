/**
 * Every service over Redis that suspends, in fibers that yield after every few operations: no wake-up is lost. The calls of a
 * scheduler by key, interrupted at each operation: nothing is left.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import { MaxOpsBeforeYield, MixedScheduler } from "effect/Scheduler"
import * as RedisLimiter from "../../src/redis/RateLimiter.js"
import * as RedisReducer from "../../src/redis/Reducer.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Reducer from "../../src/Reducer.js"
import * as Scheduler from "../../src/Scheduler.js"
import { reduceShared } from "../../src/SharedReducer.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, redisServer } from "../support/redisServer.js"

class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
  primaryKey: (_) => _.id,
  success: Schema.String
}) {}

class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup: (_: string) => ({ concurrency: 1 }) }) {}

const lookup = (key: string): RedisScheduler.Limits => ({
  concurrency: 2,
  rate: key === "paced" ? { limit: 1000, window: "1 second", burst: 5 } : undefined
})

const hostsOn = (url: string, prefix: string) =>
  RedisScheduler.layerKeyed(Hosts, { lookup, prefix }).pipe(
    Layer.fresh,
    Layer.provide(Layer.fresh(layerClient(url))),
    Layer.build,
    Effect.flatMap((context) => Effect.provideContext(Hosts, context))
  )

const items = Array.from({ length: 10 }, (_, i) => i)
const both = { concurrency: "unbounded" } as const

const program = (url: string, name: string) =>
  Effect.gen(function*() {
    const process = Effect.gen(function*() {
      const redis = yield* Layer.build(Layer.fresh(layerClient(url)))
      const scheduler = yield* Effect.provideContext(RedisScheduler.make({ name, concurrency: 3 }), redis)
      const limiter = yield* Effect.provideContext(
        RedisLimiter.make({ name, rate: { limit: 1000, window: "1 second", burst: 100 } }),
        redis
      )
      const reducer = yield* Effect.provideContext(RedisReducer.make({ name }), redis)
      const hosts = yield* hostsOn(url, name)
      return { scheduler, limiter, reducer, hosts }
    })
    const processes = [yield* process, yield* process]
    return yield* Effect.forEach(processes, ({ hosts, limiter, reducer, scheduler }) =>
      Effect.all([
        Effect.forEach(items, (i) => scheduler.schedule(Effect.as(Effect.yieldNow, i)), both),
        scheduler.forEach(items, (i) => Effect.as(Effect.yieldNow, i)),
        Effect.forEach(items, (i) => hosts.get(`${i % 3}`).schedule(Effect.as(Effect.yieldNow, i)), both),
        Effect.forEach(items, (i) => Effect.as(hosts.get("penalized").penalize({ for: i }), i), both),
        hosts.get("paced").forEach(items, (i) => Effect.as(Effect.yieldNow, i)),
        Effect.forEach(items, (i) => Effect.as(limiter.consume(), i), both),
        Effect.forEach(items, (i) => Effect.as(limiter.consume({ key: `${i}` }), i), both),
        Effect.forEach(items, (i) => Effect.as(limiter.consume({ key: `${i}`, onExceeded: "fail" }), i), both),
        Effect.forEach(items, (i) =>
          Effect.as(
            Effect.provideService(
              reduceShared(new GetUser({ id: "1" }), () => Effect.as(Effect.yieldNow, "row")),
              Reducer.Reducer,
              reducer
            ),
            i
          ), both)
      ], both), both)
  }).pipe(Effect.scoped)

describe.skipIf(!hasRedis)("services over Redis whose fibers yield after every few operations", () => {
  it.live("Every call ends with its own value", () =>
    Effect.gen(function*() {
      const server = yield* redisServer()
      for (const n of [3, 4, 5, 7, 11, 16, 23, 31, 43, 60]) {
        const results = yield* program(server.url, `yields-${n}`).pipe(
          Effect.provideService(MaxOpsBeforeYield, n),
          Effect.timeout("15 seconds")
        )
        expect(results).toEqual([0, 1].map(() => Array(9).fill(items)))
      }
    }).pipe(Effect.scoped), 60_000)

  it.live(
    "A call of a scheduler by key that is interrupted at any operation leaves no permit, no place and no key",
    () =>
      Effect.gen(function*() {
        const server = yield* redisServer()
        const [a, b] = yield* Effect.all([hostsOn(server.url, "p"), hostsOn(server.url, "p")])
        const call = Effect.all([
          a.get("k").schedule(Effect.yieldNow),
          a.get("paced").schedule(Effect.yieldNow),
          a.get("paced").forEach([1, 2, 3], () => Effect.yieldNow),
          a.get("k").penalize({ for: 1 }),
          a.get("k").schedule(a.get("k").schedule(Effect.yieldNow))
        ])
        for (const yields of [false, true]) {
          let reached = true
          for (let at = 1; reached; at++) {
            reached = false
            let operation = 0
            let fiber: Fiber.Fiber<unknown, unknown> | undefined
            class Interrupts extends MixedScheduler {
              override shouldYield(self: Fiber.Fiber<unknown, unknown>) {
                if (self !== fiber || ++operation !== at) return super.shouldYield(self)
                reached = true
                self.interruptUnsafe()
                return yields
              }
            }
            const context = yield* Effect.context<never>()
            const gate = Effect.withFiber((self) => {
              fiber = self
              return call
            })
            yield* Fiber.await(Effect.runForkWith(context)(gate, { scheduler: new Interrupts() }))
            // The other process gets the whole concurrency, twice.
            yield* Effect.forEach(items.slice(0, 4), () => b.get("k").schedule(Effect.yieldNow), both).pipe(
              Effect.timeout("5 seconds")
            )
          }
        }
        for (const { size } of [a, b]) {
          yield* Effect.repeat(Effect.delay(size, 50), { until: (size) => size === 0 }).pipe(
            Effect.timeout("10 seconds")
          )
        }
        yield* Effect.repeat(Effect.delay(Effect.promise(() => server.command("KEYS", "{p:1:p:*")), 50), {
          until: (keys) => keys === "*0\r\n"
        }).pipe(Effect.timeout("10 seconds"))
      }).pipe(Effect.scoped),
    120_000
  )
})
