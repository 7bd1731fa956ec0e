/**
 * A pool of its own to a server under test, as another process would have it.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Database from "../../src/internal/postgres/database.js"
import type { Inbox } from "../../src/internal/shared/inbox.js"
import type { PostgresServer } from "./postgresServer.js"

export const layerPg = (server: PostgresServer, maxConnections = 4) =>
  PgClient.layer({ url: server.url, maxConnections, minConnections: 0, connectTimeout: "2 seconds" })

/** Connects anew at each use. */
export const database = (server: PostgresServer, schema = "effect_funnel") =>
  Effect.map(
    Layer.build(
      Layer.fresh(Database.layer(schema)).pipe(Layer.provideMerge(Layer.fresh(layerPg(server))))
    ),
    (context) => ({ database: Context.get(context, Database.Database), pg: Context.get(context, PgClient.PgClient) })
  )

/** Returns once the subscription has been made: it wakes every listener. */
export const listening = (inbox: Inbox) =>
  Effect.callback<void>((resume) => {
    const token = inbox.add(() => {
      inbox.remove(token)
      resume(Effect.void)
    })
  })
