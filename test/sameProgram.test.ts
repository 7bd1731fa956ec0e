/**
 * One program in memory, over Redis and over PostgreSQL: only the layer changes.
 */
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Persistable from "effect/persistence/Persistable"
import * as Schema from "effect/Schema"
import * as PostgresRateLimiter from "../src/postgres/RateLimiter.js"
import * as PostgresReducer from "../src/postgres/Reducer.js"
import * as PostgresScheduler from "../src/postgres/Scheduler.js"
import * as RateLimiter from "../src/RateLimiter.js"
import * as RedisRateLimiter from "../src/redis/RateLimiter.js"
import * as RedisReducer from "../src/redis/Reducer.js"
import * as RedisScheduler from "../src/redis/Scheduler.js"
import * as Reducer from "../src/Reducer.js"
import * as Scheduler from "../src/Scheduler.js"
import { reduceShared } from "../src/SharedReducer.js"
import { layerPg } from "./support/postgresClient.js"
import { hasPostgres, postgresServerOfFile } from "./support/postgresServer.js"
import { layerClient } from "./support/redisClient.js"
import { hasRedis, redisServerOfFile } from "./support/redisServer.js"

class GetPrice extends Persistable.Class<{ payload: { readonly item: string } }>()("GetPrice", {
  primaryKey: (_) => _.item,
  success: Schema.Number
}) {}

/** Four callers ask for two prices. */
const program = Effect.gen(function*() {
  let runs = 0
  let now = 0
  let most = 0
  const fetch = Effect.gen(function*() {
    runs++
    most = Math.max(most, ++now)
    yield* Effect.sleep(40)
    now--
    return 7
  })
  const price = (item: string) =>
    reduceShared(new GetPrice({ item }), () => Effect.orDie(Scheduler.schedule(RateLimiter.withLimit(fetch))))
  const prices = yield* Effect.forEach(["tea", "tea", "nut", "nut"], price, { concurrency: "unbounded" })
  const refused = yield* Effect.flip(RateLimiter.consume({ onExceeded: "fail" }))
  return { prices, runs, most, refused: refused.reason._tag }
})

const rate = { limit: 2, window: "1 hour", burst: 2 } as const
const width = { concurrency: 1 }

const inMemory = Layer.mergeAll(Reducer.layer(), RateLimiter.layer(rate), Scheduler.layer(width))
const overRedis = Layer.mergeAll(RedisReducer.layer(), RedisRateLimiter.layer({ rate }), RedisScheduler.layer(width))
const overPostgres = Layer.mergeAll(
  PostgresReducer.layer(),
  PostgresRateLimiter.layer({ rate }),
  PostgresScheduler.layer(width)
)

const outcome = { prices: [7, 7, 7, 7], runs: 2, most: 1, refused: "RateLimitExceeded" }

describe("the same program", () => {
  const redis = redisServerOfFile({ afterAll, beforeAll })
  const postgres = postgresServerOfFile({ afterAll, beforeAll })

  it.live("runs in memory", () => Effect.map(Effect.provide(program, inMemory), (_) => expect(_).toEqual(outcome)))

  it.live.skipIf(!hasRedis)("runs over Redis", () =>
    Effect.flatMap(redis, ({ url }) =>
      Effect.map(
        Effect.provide(program, Layer.provide(overRedis, layerClient(url))),
        (_) => expect(_).toEqual(outcome)
      )))

  it.live.skipIf(!hasPostgres)("runs over PostgreSQL", () =>
    Effect.flatMap(postgres, (server) =>
      Effect.map(
        Effect.provide(program, Layer.provide(overPostgres, layerPg(server))),
        (_) => expect(_).toEqual(outcome)
      )))
})
