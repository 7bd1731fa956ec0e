/**
 * Every service over Redis that suspends, in fibers that yield after every few operations: no wake-up is lost.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import * as RedisLimiter from "../../src/redis/RateLimiter.js"
import * as RedisReducer from "../../src/redis/Reducer.js"
import * as RedisScheduler from "../../src/redis/Scheduler.js"
import * as Reducer from "../../src/Reducer.js"
import { reduceShared } from "../../src/SharedReducer.js"
import { layerClient } from "../support/redisClient.js"
import { hasRedis, redisServer } from "../support/redisServer.js"

class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
  primaryKey: (_) => _.id,
  success: Schema.String
}) {}

const items = Array.from({ length: 10 }, (_, i) => i)
const both = { concurrency: "unbounded" } as const

const program = (url: string, name: string) =>
  Effect.gen(function*() {
    const process = Effect.gen(function*() {
      const redis = yield* Layer.build(Layer.fresh(layerClient(url)))
      const scheduler = yield* Effect.provideContext(RedisScheduler.make({ name, concurrency: 3 }), redis)
      const limiter = yield* Effect.provideContext(
        RedisLimiter.make({ name, rate: { limit: 1000, window: "1 second" } }),
        redis
      )
      const reducer = yield* Effect.provideContext(RedisReducer.make({ name }), redis)
      return { scheduler, limiter, reducer }
    })
    const processes = [yield* process, yield* process]
    return yield* Effect.forEach(processes, ({ limiter, reducer, scheduler }) =>
      Effect.all([
        Effect.forEach(items, (i) => scheduler.schedule(Effect.as(Effect.yieldNow, i)), both),
        scheduler.forEach(items, (i) => Effect.as(Effect.yieldNow, i)),
        Effect.forEach(items, (i) => Effect.as(limiter.consume(), i), both),
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
        expect(results).toEqual([0, 1].map(() => Array(4).fill(items)))
      }
    }).pipe(Effect.scoped), 60_000)
})
