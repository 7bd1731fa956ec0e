import { afterAll, beforeAll, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as GcraStore from "../../src/internal/redis/gcraStore.js"
import * as Orders from "../../src/internal/redis/orders.js"
import * as PermitStore from "../../src/internal/redis/permitStore.js"
import * as ReducerStore from "../../src/internal/redis/reducerStore.js"
import * as Laws from "../../src/stores/laws.js"
import { checked } from "../support/laws.js"
import { listening } from "../support/postgresClient.js"
import { connected } from "../support/redisClient.js"
import { hasRedis, redisServerOfFile } from "../support/redisServer.js"

const server = redisServerOfFile({ afterAll, beforeAll }, { keepsData: true })

const connect = Effect.fnUntraced(function*(kind: Orders.Kind) {
  const { inbox, redis } = yield* connected((yield* server).url)
  yield* listening(inbox)
  return { inbox, orders: yield* Orders.make(kind, redis, 1000) }
})

describe.skipIf(!hasRedis)("the stores over Redis keep the laws", () => {
  checked(
    "ReducerStore",
    Laws.reducerStore((options) =>
      Effect.map(
        connect(ReducerStore.kind),
        ({ inbox, orders }) => ReducerStore.make(orders, inbox, { prefix: "t:", ...options })
      )
    )
  )
  checked(
    "GcraStore",
    Laws.gcraStore((cells) =>
      Effect.map(connect(GcraStore.kind), ({ orders }) => GcraStore.make(orders, { prefix: "t:", cells }))
    )
  )
  checked(
    "PermitStore",
    Laws.permitStore((options) =>
      Effect.map(
        connect(PermitStore.kind),
        ({ inbox, orders }) => PermitStore.make(orders, inbox, { prefix: "t:", ...options })
      )
    )
  )
})
