/**
 * Single flight across processes: the layers of `Reducer` whose shared calls meet in PostgreSQL.
 *
 * **When to use**
 *
 * Use it where there is a PostgreSQL and no Redis. The shared call is `reduceShared` of `effect-funnel/SharedReducer`.
 *
 * **Details**
 *
 * It promises what `effect-funnel/redis/Reducer` promises, and that a committed lease outlasts a crash of the server. A lease
 * is a row that ends by the server's clock; a fence comes from a sequence. A follower is woken by `NOTIFY` and then fetches
 * the result, so a result of any size arrives. `docs/stores.md` has the promises and the costs.
 *
 * **Gotchas**
 *
 * - One connection of the pool is kept for `LISTEN`, and none while a call waits. A pool needs at least two.
 * - A pooler that shares a session among transactions (PgBouncer's transaction mode) loses `LISTEN`: followers then poll.
 * - A fail-over to a replica that is behind loses leases and fences that were committed last. Replicate synchronously if the
 *   fence protects writes.
 * - Results lie in the table in plain text, for as long as `retain`.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Reducer from "../Reducer.js"
import * as Stores from "../stores.js"
import * as Database from "../internal/postgres/database.js"
import * as PostgresReducerStore from "../internal/postgres/reducerStore.js"
import * as Checked from "../internal/shared/options.js"

/**
 * How a reducer uses PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.ReducerOptions, Database.SchemaOptions {}

/**
 * Options of a reducer over PostgreSQL: those of `Reducer.layer`, and how it uses PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Reducer.Options, StoreOptions {}

const check = (caller: string, options: Options | undefined) => ({
  ...Database.check(caller, options),
  leaseMillis: Checked.lease(caller, options),
  retainMillis: Checked.millis(caller, "retain", options?.retain ?? "10 seconds", 1)
})

const store = (plan: ReturnType<typeof check>, name: string) =>
  Effect.map(
    Database.Database,
    (database) => PostgresReducerStore.make(database, { ...plan, prefix: `${plan.prefix}f:${name}` })
  )

/**
 * Makes a reducer over PostgreSQL that closes with the scope.
 *
 * **Example** (Sharing inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as PostgresReducer from "effect-funnel/postgres/Reducer"
 *
 * Effect.isEffect(PostgresReducer.make({ lease: "30 seconds" })) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options | undefined
): Effect.Effect<Reducer.Reducer, never, PgClient.PgClient | Scope.Scope> => {
  const plan = check("Reducer.make", options)
  const reducer = Stores.makeReducer(store(plan, ""), options)
  return Effect.flatMap(Layer.build(Database.layer(plan.schema)), (database) => Effect.provide(reducer, database))
}

/**
 * Provides the default reducer, over PostgreSQL, in place of `Reducer.layer`.
 *
 * **Example** (Sharing the runs of several processes)
 *
 * ```ts import.meta.vitest
 * import { PgClient } from "@effect/sql-pg"
 * import { Layer, Redacted } from "effect"
 * import * as PostgresReducer from "effect-funnel/postgres/Reducer"
 *
 * const PgLive = PgClient.layer({ url: Redacted.make("postgres://localhost/app"), maxConnections: 10 })
 *
 * const ReducerLive = PostgresReducer.layer({ lease: "10 seconds" }).pipe(Layer.provide(PgLive))
 *
 * Layer.isLayer(ReducerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options | undefined): Layer.Layer<Reducer.Reducer, never, PgClient.PgClient> =>
  layerService(Reducer.Reducer, options)

/**
 * Provides a reducer tag of one's own, over PostgreSQL. The id of the tag is part of the keys.
 *
 * **Example** (Providing a tag of one's own)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Reducer } from "effect-funnel"
 * import * as PostgresReducer from "effect-funnel/postgres/Reducer"
 *
 * class Reports extends Reducer.Service<Reports>()("app/Reports") {}
 *
 * Layer.isLayer(PostgresReducer.layerService(Reports, { lease: "1 minute" })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = <Self>(
  tag: Context.Service<Self, Reducer.Reducer>,
  options?: Options | undefined
): Layer.Layer<Self, never, PgClient.PgClient> => {
  const plan = check("Reducer.layer", options)
  return Stores.layerReducer(tag, store(plan, `${tag.key}:`), options).pipe(
    Layer.provide(Database.layer(plan.schema))
  )
}
