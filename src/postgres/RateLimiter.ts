/**
 * One rate for several processes: the layers of `RateLimiter` over PostgreSQL.
 *
 * **When to use**
 *
 * Use it where there is a PostgreSQL and no Redis, for up to a thousand commands a second. A command decides for all callers of a
 * key that wait.
 *
 * **Details**
 *
 * It promises what `effect-funnel/redis/RateLimiter` promises, by the clock of the PostgreSQL server: in any interval of length
 * Δ all processes together take at most `burst + Δ · limit / window` tokens, by the times at which they are due. One command at a
 * time asks for the first waiters of a key. `docs/stores.md` has the promises and the costs.
 *
 * **Gotchas**
 *
 * - A command is a transaction, so its answer waits for the disk, and each change leaves a dead row to autovacuum.
 * - A fail-over to a replica that is behind grants again what was granted last.
 * - The gotchas of the limiter over Redis hold here too.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as RateLimiter from "../RateLimiter.js"
import * as Stores from "../stores.js"
import * as Database from "../internal/postgres/database.js"
import * as PostgresGcraStore from "../internal/postgres/gcraStore.js"
import type * as Checked from "../internal/shared/options.js"
import { limiterName, owner } from "../internal/store/bounds.js"

/**
 * How a rate limiter uses PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.StoreOptions, Checked.RateOptions, Database.SchemaOptions {}

/**
 * Options of a rate limiter over PostgreSQL: its pace, and how it uses PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends StoreOptions, RateLimiter.NameOptions {
  /** One quota, or several that all have to conform. */
  readonly rate: RateLimiter.Options
}

const store = (prefix: string) =>
  Effect.map(
    Database.Database,
    (database) => (cells: ReadonlyArray<Stores.Cell>) => PostgresGcraStore.make(database, { prefix, cells })
  )

/**
 * Makes a rate limiter over PostgreSQL that closes with the scope, for a service with a quota of its own.
 *
 * **Details**
 *
 * `name` is part of the keys: limiters with the same schema, prefix and name are one, and so are those without a name.
 *
 * **Example** (Sharing a quota inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as PostgresRateLimiter from "effect-funnel/postgres/RateLimiter"
 *
 * Effect.isEffect(PostgresRateLimiter.make({ name: "app/client", rate: { limit: 100, window: "1 minute" } })) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<RateLimiter.RateLimiter, never, PgClient.PgClient | Scope.Scope> => {
  const { prefix, schema } = Database.check("RateLimiter.make", options)
  const limiter = Stores.makeRateLimiter(store(`${prefix}r:${limiterName(options.name)}`), options)
  return Effect.flatMap(Layer.build(Database.layer(schema)), (database) => Effect.provide(limiter, database))
}

/**
 * Provides the default rate limiter, over PostgreSQL, in place of `RateLimiter.layer`.
 *
 * **Example** (Sharing a quota among processes)
 *
 * ```ts import.meta.vitest
 * import { PgClient } from "@effect/sql-pg"
 * import { Layer, Redacted } from "effect"
 * import * as PostgresRateLimiter from "effect-funnel/postgres/RateLimiter"
 *
 * const PgLive = PgClient.layer({ url: Redacted.make("postgres://localhost/app"), maxConnections: 10 })
 *
 * const RateLimiterLive = PostgresRateLimiter.layer({
 *   rate: { limit: 100, window: "1 minute", burst: 10 },
 *   onStoreError: "local",
 *   expectedProcesses: 4
 * }).pipe(Layer.provide(PgLive))
 *
 * Layer.isLayer(RateLimiterLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<RateLimiter.RateLimiter, never, PgClient.PgClient> =>
  layerService(RateLimiter.RateLimiter, options)

/**
 * Provides a rate limiter tag of one's own, over PostgreSQL. The id of the tag is part of the keys.
 *
 * **Example** (Providing a tag of one's own)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { RateLimiter } from "effect-funnel"
 * import * as PostgresRateLimiter from "effect-funnel/postgres/RateLimiter"
 *
 * const rate = { limit: 5000, window: "1 hour" } as const
 *
 * class GitHub extends RateLimiter.Service<GitHub>()("app/GitHub", rate) {}
 *
 * Layer.isLayer(PostgresRateLimiter.layerService(GitHub, { rate })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = <Self>(
  tag: Context.Service<Self, RateLimiter.RateLimiter>,
  options: Options
): Layer.Layer<Self, never, PgClient.PgClient> => {
  const { prefix, schema } = Database.check("RateLimiter.layer", options)
  return Stores.layerRateLimiter(tag, store(`${prefix}r:${owner(tag.key)}:`), options).pipe(
    Layer.provide(Database.layer(schema))
  )
}
