/**
 * One concurrency and one rate for several processes: the layers of `Scheduler` over PostgreSQL.
 *
 * **When to use**
 *
 * Use it where there is a PostgreSQL and no Redis, for jobs that take longer than some tens of milliseconds.
 *
 * **Details**
 *
 * It promises what `effect-funnel/redis/Scheduler` promises, by the clock of the PostgreSQL server. A permit is a row with a
 * lease; processes wait in a queue of rows, in order of arrival, and are woken by `NOTIFY`. No connection is held while a job
 * waits or runs, but the one that listens. `docs/stores.md` has the promises and the costs.
 *
 * **Gotchas**
 *
 * - A command is a transaction, so a permit costs an answer of the disk. Permits and queue are rows that change often: let
 *   autovacuum reach them.
 * - A fail-over to a replica that is behind loses the permits that were granted last, until they are renewed.
 * - The gotchas of the scheduler over Redis hold here too.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Scheduler from "../Scheduler.js"
import * as Stores from "../stores.js"
import * as Database from "../internal/postgres/database.js"
import * as PostgresGcraStore from "../internal/postgres/gcraStore.js"
import * as PostgresPermitStore from "../internal/postgres/permitStore.js"
import * as Checked from "../internal/shared/options.js"
import { keyName, owner } from "../internal/store/bounds.js"

/**
 * How a scheduler uses PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.LeaseOptions, Checked.PermitOptions, Database.SchemaOptions {}

/**
 * Options of a scheduler over PostgreSQL: its limits, and how it uses PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out Limiter = never> extends StoreOptions, Stores.Limits<Limiter> {}

/**
 * Options of schedulers by key over PostgreSQL: the limits of each key, and how all of them use PostgreSQL.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyedOptions<K, Limiter = never> = StoreOptions & Stores.KeyedOptions<K, Limiter>

const check = (caller: string, name: string, options: StoreOptions) => ({
  name: owner(name),
  ...Database.check(caller, options),
  leaseMillis: Checked.lease(caller, options)
})

const stores = ({ leaseMillis, name, prefix }: ReturnType<typeof check>) =>
  Effect.map(Database.Database, (database): Stores.SchedulerStores => ({
    permits: (key, onWake) =>
      PostgresPermitStore.make(database, { prefix: `${prefix}p:`, name, key, leaseMillis, onWake }),
    rates: (key, cells) => PostgresGcraStore.make(database, { prefix: `${prefix}r:${name}:${keyName(key)}`, cells })
  }))

/**
 * Makes a scheduler over PostgreSQL that closes with the scope. Schedulers with the same schema, prefix and name are one.
 *
 * **Example** (Protecting a backend inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as PostgresScheduler from "effect-funnel/postgres/Scheduler"
 *
 * Effect.isEffect(PostgresScheduler.make({ name: "printer", concurrency: 1 })) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Limiter = never>(
  options: Options<Limiter> & { readonly name: string }
): Effect.Effect<Scheduler.Scheduler, never, Limiter | PgClient.PgClient | Scope.Scope> => {
  const plan = check("Scheduler.make", options.name, options)
  const scheduler = Stores.makeScheduler<Database.Database, Limiter>(stores(plan), options)
  return Effect.flatMap(Layer.build(Database.layer(plan.schema)), (database) => Effect.provide(scheduler, database))
}

/**
 * Provides the default scheduler, over PostgreSQL, in place of `Scheduler.layer`.
 *
 * **Example** (Bounding what several processes do at once)
 *
 * ```ts import.meta.vitest
 * import { PgClient } from "@effect/sql-pg"
 * import { Layer, Redacted } from "effect"
 * import * as PostgresScheduler from "effect-funnel/postgres/Scheduler"
 *
 * const PgLive = PgClient.layer({ url: Redacted.make("postgres://localhost/app"), maxConnections: 10 })
 *
 * const SchedulerLive = PostgresScheduler.layer({
 *   concurrency: 10,
 *   rate: { limit: 100, window: "1 second" }
 * }).pipe(Layer.provide(PgLive))
 *
 * Layer.isLayer(SchedulerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <Limiter = never>(
  options: Options<Limiter>
): Layer.Layer<Scheduler.Scheduler, never, Exclude<Limiter, Scope.Scope> | PgClient.PgClient> =>
  layerService(Scheduler.Scheduler, options)

/**
 * Provides a scheduler tag of one's own, over PostgreSQL. The id of the tag is part of the keys.
 *
 * **Example** (Providing a tag of one's own)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as PostgresScheduler from "effect-funnel/postgres/Scheduler"
 *
 * class Printer extends Scheduler.Service<Printer>()("app/Printer", { concurrency: 1 }) {}
 *
 * Layer.isLayer(PostgresScheduler.layerService(Printer, { concurrency: 1 })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = <Self, Limiter = never>(
  tag: Context.Service<Self, Scheduler.Scheduler>,
  options: Options<Limiter>
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope> | PgClient.PgClient> => {
  const plan = check("Scheduler.layer", tag.key, options)
  return Stores.layerScheduler(tag, stores(plan), options).pipe(Layer.provide(Database.layer(plan.schema)))
}

/**
 * Provides the schedulers of a `Scheduler.Keyed` over PostgreSQL: one concurrency and one rate for each key and all processes.
 *
 * **Gotchas**
 *
 * Each key asks for itself, one command each.
 *
 * **Example** (Keeping the limits of hosts in all processes)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as PostgresScheduler from "effect-funnel/postgres/Scheduler"
 *
 * const lookup = (host: string) => ({ concurrency: host === "slow.example" ? 1 : 10 })
 *
 * class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup }) {}
 *
 * Layer.isLayer(PostgresScheduler.layerKeyed(Hosts, { lookup })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyed = <Self, K, Limiter = never>(
  tag: Context.Service<Self, Scheduler.KeyedScheduler<K>>,
  options: KeyedOptions<K, Limiter>
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope> | PgClient.PgClient> => {
  const plan = check("Scheduler.layerKeyed", tag.key, options)
  return Stores.layerKeyedScheduler(tag, stores(plan), options).pipe(Layer.provide(Database.layer(plan.schema)))
}
