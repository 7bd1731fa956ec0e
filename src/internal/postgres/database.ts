/**
 * The commands to PostgreSQL: each one is a call of a function, and a transaction of its own.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Semaphore from "effect/Semaphore"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { refuse } from "../data/refuse.js"
import * as Apart from "../shared/apart.js"
import * as Inbox from "../shared/inbox.js"
import * as Checked from "../shared/options.js"
import { perClient } from "../shared/perClient.js"
import { StoreError } from "../store/storeError.js"
import { migration } from "./tables.js"

export interface SchemaOptions {
  /**
   * The schema of the tables and functions, `"effect_funnel"` by default: lower-case letters, digits and `_`, at most 48. It is
   * made where it is missing. It holds nothing else.
   */
  readonly schema?: string | undefined
}

const schemaName = /^[a-z_][a-z0-9_]{0,47}$/

export const check = (caller: string, options: (SchemaOptions & Checked.StoreOptions) | undefined) => {
  const schema = options?.schema ?? "effect_funnel"
  // What is no text may read as another one when it is asked again.
  if (typeof schema !== "string" || !schemaName.test(schema) || schema.startsWith("pg_")) {
    refuse(caller, "schema", "1 to 48 lower-case letters, digits and _, not first a digit, and no pg_", schema)
  }
  return { schema, prefix: Checked.prefix(caller, options) }
}

/** Text that PostgreSQL can hold, which has no character 0 and no half surrogate pair. */
export const encode = (text: string): string =>
  text.isWellFormed() && !text.includes("\0") ? `=${text}` : `~${JSON.stringify(text)}`

export const decode = (text: string): string => text.startsWith("~") ? JSON.parse(text.slice(1)) : text.slice(1)

export interface Database {
  readonly inbox: Inbox.Inbox
  /**
   * Calls a function with an object and reads its answer. A command that gives `back` waits for the `renewal`s of its key, and
   * for its commands that were interrupted: if it overtook them, they would take again what it gives back.
   */
  readonly call: <A>(
    operation: string,
    name: string,
    args: { readonly key: string; readonly [field: string]: unknown },
    read: (answer: unknown) => A,
    kind?: "back" | "renewal"
  ) => Effect.Effect<A, StoreError>
}

/** The words of the server rather than those of the client, which are the same for all failures. */
const causeOf = (error: SqlError): unknown => {
  const { cause } = error.reason
  return cause instanceof Error && cause.message !== "" ? cause : error
}

/** How long a command that gives back waits for an interrupted one: if its connection is dead, there is no end of it. */
const longestLeave = "500 millis"

const make = Effect.fnUntraced(function*(schema: string) {
  const pg = yield* PgClient.PgClient
  const sql: SqlClient.SqlClient = pg.withoutTransforms()
  const oneAtATime = yield* Semaphore.make(1)
  let made = false
  // Once; again after a failure, which may be that of a database that has lost the schema.
  const migrate = oneAtATime.withPermit(
    Effect.suspend(() => made ? Effect.void : Effect.map(sql.unsafe(migration(schema)), () => void (made = true)))
  )
  const run = (name: string, args: object) =>
    sql.unsafe<{ readonly answer: string | null }>(`SELECT "${schema}".${name}($1) AS answer`, [JSON.stringify(args)])

  // The renewals of a key, and its commands that were interrupted and may still run.
  const leaving = new Map<string, Set<Fiber.Fiber<unknown, unknown>>>()
  const forget = (key: string, fiber: Fiber.Fiber<unknown, unknown>) => {
    const ofKey = leaving.get(key)
    ofKey?.delete(fiber)
    if (ofKey?.size === 0) leaving.delete(key)
  }
  const onLeft = (key: string) => (fiber: Fiber.Fiber<unknown, unknown>) => {
    const ofKey = leaving.get(key) ?? new Set()
    leaving.set(key, ofKey.add(fiber))
    fiber.addObserver(() => forget(key, fiber))
  }
  // On another connection a command may overtake the one whose gain it is to give back, or a renewal, which would take it again.
  const left = (key: string) =>
    Effect.suspend(() => {
      const ofKey = leaving.get(key)
      if (ofKey === undefined) return Effect.void
      const fibers = Array.from(ofKey)
      // Once: a command whose connection is dead must not take the time of each one behind it.
      return Effect.ensuring(
        Effect.timeoutOption(Fiber.awaitAll(fibers), longestLeave),
        Effect.sync(() => fibers.forEach((fiber) => forget(key, fiber)))
      )
    })

  const call: Database["call"] = (operation, name, args, read, kind) =>
    // The client asks the server to cancel a command that is interrupted, and waits for that.
    Apart.run(
      Effect.flatMap(migrate, () => run(name, args)),
      onLeft(args.key),
      kind === "renewal"
    ).pipe(
      (sent) => kind === "back" ? Effect.andThen(left(args.key), sent) : sent,
      // A transaction of the caller would hold the lock of the key until its end.
      Effect.updateContext((context: Context.Context<never>) =>
        Context.omit(sql.transactionService)(context) as Context.Context<never>
      ),
      Effect.matchEffect({
        onFailure: (error) => {
          made = false
          return Effect.fail(new StoreError({ operation, cause: causeOf(error) }))
        },
        onSuccess: (rows) => Effect.sync(() => read(JSON.parse(rows[0]!.answer ?? "null")))
      })
    )

  const inbox = yield* Inbox.make("effect_funnel_", {
    subscribe: (channel) =>
      Effect.map(pg.listen(channel), (queue) => Effect.map(Queue.take(queue), ({ payload }) => payload)),
    publish: (channel, message) => Apart.run(pg.notify(channel, message))
  })
  return { inbox, call }
})

export const Database: Context.Service<Database, Database> = /*#__PURE__*/ Context.Service<Database>(
  "effect-funnel/internal/postgres/Database"
)

/** One subscription for all services of a program with this client and schema. */
export const layer: (schema: string) => Layer.Layer<Database, never, PgClient.PgClient> = /*#__PURE__*/ perClient(
  PgClient.PgClient,
  (schema) => Layer.effect(Database)(make(schema))
)
