import { afterAll, beforeAll, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as GcraStore from "../../src/internal/postgres/gcraStore.js"
import * as PermitStore from "../../src/internal/postgres/permitStore.js"
import * as ReducerStore from "../../src/internal/postgres/reducerStore.js"
import * as Laws from "../../src/stores/laws.js"
import { checked } from "../support/laws.js"
import { database, listening } from "../support/postgresClient.js"
import { hasPostgres, postgresServerOfFile } from "../support/postgresServer.js"

const server = postgresServerOfFile({ afterAll, beforeAll })

const connected = Effect.gen(function*() {
  const made = yield* database(yield* server)
  yield* listening(made.database.inbox)
  return made.database
})

describe.skipIf(!hasPostgres)("the stores over PostgreSQL keep the laws", () => {
  checked(
    "ReducerStore",
    Laws.reducerStore((options) =>
      Effect.map(connected, (database) => ReducerStore.make(database, { prefix: "t:", ...options }))
    )
  )
  checked(
    "GcraStore",
    Laws.gcraStore((cells) => Effect.map(connected, (database) => GcraStore.make(database, { prefix: "t:", cells })))
  )
  checked(
    "PermitStore",
    Laws.permitStore((options) =>
      Effect.map(connected, (database) => PermitStore.make(database, { prefix: "t:", ...options }))
    )
  )
})
