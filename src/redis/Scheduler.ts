/**
 * One concurrency and one rate for several processes: the layers of `Scheduler` over Redis.
 *
 * **When to use**
 *
 * Use it where the limits of a backend hold for all processes together.
 *
 * **Details**
 *
 * Jobs queue in their process, by priority and arrival; processes are served in order of arrival. A process holds permits for
 * its running jobs. A permit is a lease that is renewed while it is held: when a process dies, its permits are free once the
 * lease ends. {@link layerKeyed} does this for each key. `docs/distributed.md` has the promises, the costs, and a table of the
 * options: which of them hold for all processes, and which for one.
 *
 * `penalize` holds back the jobs of all processes: those of its own at once, those of another one when it asks for a permit.
 * A permit goes from job to job for up to 50 milliseconds before that.
 *
 * A process that was frozen, or cut off from Redis, for longer than the lease loses its permits. Its jobs are interrupted and
 * fail with a `StoreError`, so that they overlap with their successors only for as long as they take to stop.
 *
 * **Gotchas**
 *
 * - At most `concurrency` runs while leases hold and Redis keeps its state. A frozen process overshoots by its running jobs,
 *   between the end of its lease and its waking.
 * - With a rate, the first jobs hold their permits while they wait for their slots. This delays a job with `tokens: 0` in another
 *   process, and the first job of a process that comes later.
 * - `resize` and `setRate` change the limits that this process asks for: call them with the same values in all processes. If
 *   there was no rate, `setRate` begins a shared one.
 * - Priorities order the jobs of a process; between processes nobody overtakes.
 * - Each job waits for its permit while Redis is asked, so a `maxWait` or a `maxQueued` of 0 is refused.
 * - A job inside a job runs in the weight of the outer one where that is free, and takes no permit then.
 * - Redis must run with `maxmemory-policy noeviction`. A Redis Cluster needs `layerCluster`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import type * as RateLimiter from "../RateLimiter.js"
import * as Scheduler from "../Scheduler.js"
import * as Stores from "../stores.js"
import * as RedisGcraStore from "../internal/redis/gcraStore.js"
import * as Inbox from "../internal/redis/inbox.js"
import * as Orders from "../internal/redis/orders.js"
import * as RedisPermitStore from "../internal/redis/permitStore.js"
import * as Checked from "../internal/shared/options.js"
import { keyName, owner } from "../internal/store/bounds.js"

/**
 * How a scheduler uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.LeaseOptions, Checked.PermitOptions {}

/**
 * The limits of a scheduler over Redis.
 *
 * **Details**
 *
 * They are those of `Scheduler.layer`. All processes keep `concurrency` and `rate` together, and give the same ones. The
 * others hold in each process, for the jobs of that process.
 *
 * - `concurrency`: an integer from 1.
 * - `rate`: none by default. If it is a tag, that limiter may be one over Redis or one of this process.
 * - `maxQueued`: how many jobs may wait, an integer from 1; no bound by default. A job waits while Redis is asked for its
 *   permit.
 * - `maxWait`: how long a job may wait for its start; no bound by default. It is more than 0, because a permit takes a command
 *   to Redis. A job with a `maxWait` of 0 is refused.
 * - `shed`: as in memory; off by default. Choose a `target` of several times the answer of Redis.
 * - `drain`: on close, how long the jobs of this process may go on; 0 by default.
 * - `name`: the name in errors, metrics and logs; the id of the tag by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits<out Limiter = never> extends Stores.Limits<Limiter> {}

/**
 * Options of a scheduler over Redis: its limits, and how it uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out Limiter = never> extends StoreOptions, Limits<Limiter> {}

/**
 * Options of schedulers by key over Redis: the limits of each key, and how all of them use Redis.
 *
 * **Details**
 *
 * - `lookup`: the limits of a key's scheduler. Keep it pure: it is called again when the key comes back, and in each process.
 * - `keyOf`: the name of a key in Redis, by which processes meet. Keys that are not strings need it. Keys with the same name
 *   share their permits and their rate.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyedOptions<K, Limiter = never> = StoreOptions & Stores.KeyedOptions<K, Limiter>

const check = (caller: string, name: string, options: StoreOptions) => ({
  name: owner(name),
  prefix: Checked.prefix(caller, options),
  storeTimeoutMillis: Checked.guard(caller, options).storeTimeoutMillis,
  leaseMillis: Checked.lease(caller, options)
})

type Plan = ReturnType<typeof check>

const inboxOf = (plan: Plan) => Inbox.layer(`${plan.prefix}inbox:`)

/** One connection and one subscription for all schedulers of a layer. */
const stores = Effect.fnUntraced(function*({ leaseMillis, name, prefix, storeTimeoutMillis }: Plan) {
  const redis = yield* Redis.Redis
  const inbox = yield* Inbox.RedisInbox
  const permits = yield* Orders.make(RedisPermitStore.kind, redis, storeTimeoutMillis)
  const tokens = yield* Orders.make(RedisGcraStore.kind, redis, storeTimeoutMillis)
  return {
    permits: (key: string | undefined, onWake: () => void) =>
      RedisPermitStore.make(permits, inbox, { prefix: `${prefix}p:`, name, key, leaseMillis, onWake }),
    rates: (key: string | undefined, cells: ReadonlyArray<Stores.Cell>) =>
      RedisGcraStore.make(tokens, { prefix: `${prefix}r:${name}:${keyName(key)}`, cells })
  }
})

/**
 * Makes a scheduler over Redis that closes with the scope, for a service with a backend of its own.
 *
 * **Details**
 *
 * `name` is part of the keys: schedulers with the same prefix and name are one.
 *
 * **Example** (Protecting a backend inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RedisScheduler from "effect-funnel/redis/Scheduler"
 *
 * const printer = Effect.gen(function*() {
 *   const scheduler = yield* RedisScheduler.make({ name: "printer", concurrency: 1 })
 *   return { print: (page: string) => scheduler.schedule(Effect.succeed(`printed ${page}`)) }
 * })
 *
 * Effect.isEffect(printer) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Limiter = never>(
  options: Options<Limiter> & { readonly name: string }
): Effect.Effect<Scheduler.Scheduler, never, Limiter | Redis.Redis | Scope.Scope> => {
  const plan = check("Scheduler.make", options.name, options)
  const scheduler = Stores.makeScheduler<Redis.Redis | Inbox.RedisInbox, Limiter>(stores(plan), Orders.bounded(options))
  return Effect.flatMap(Layer.build(inboxOf(plan)), (inbox) => Effect.provide(scheduler, inbox))
}

/**
 * Provides the default scheduler, over Redis, in place of `Scheduler.layer`.
 *
 * **Gotchas**
 *
 * Make the client with the options of the example and without `socketTimeout`, which closes it for good. `storeTimeout` then
 * bounds the time of a command.
 *
 * **Example** (Bounding what several processes do at once)
 *
 * ```ts import.meta.vitest
 * import { NodeRedis } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import * as RedisScheduler from "effect-funnel/redis/Scheduler"
 *
 * const RedisLive = NodeRedis.layer({ url: "redis://localhost", disableOfflineQueue: true, commandOptions: { timeout: 0 } })
 *
 * const SchedulerLive = RedisScheduler.layer({
 *   concurrency: 10,
 *   rate: { limit: 100, window: "1 second" }
 * }).pipe(Layer.provide(RedisLive))
 *
 * Layer.isLayer(SchedulerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <Limiter = never>(
  options: Options<Limiter>
): Layer.Layer<Scheduler.Scheduler, never, Exclude<Limiter, Scope.Scope> | Redis.Redis> =>
  layerService(Scheduler.Scheduler, options)

/**
 * Provides the default scheduler over Redis, with options from the configuration; its rate is given in the program.
 *
 * **Example** (Reading the options from the environment)
 *
 * ```ts import.meta.vitest
 * import { Config, Layer } from "effect"
 * import * as RedisScheduler from "effect-funnel/redis/Scheduler"
 *
 * const SchedulerLive = RedisScheduler.layerConfig(
 *   { concurrency: Config.Int("API_CONCURRENCY"), lease: Config.Duration("API_LEASE") },
 *   { rate: { limit: 100, window: "1 second" } }
 * )
 *
 * Layer.isLayer(SchedulerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<StoreOptions & Omit<Limits, "rate" | "shed" | "name">>,
  options?: { readonly rate?: RateLimiter.Quota | ReadonlyArray<RateLimiter.Quota> | undefined } | undefined
): Layer.Layer<Scheduler.Scheduler, Config.ConfigError, Redis.Redis> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), (store) => layer({ ...options, ...store })))

/**
 * Provides a scheduler tag of one's own, over Redis. The id of the tag is part of the keys.
 *
 * **Example** (Providing a tag of one's own)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as RedisScheduler from "effect-funnel/redis/Scheduler"
 *
 * class Printer extends Scheduler.Service<Printer>()("app/Printer", { concurrency: 1 }) {}
 *
 * const PrinterLive = RedisScheduler.layerService(Printer, { concurrency: 1 })
 *
 * Layer.isLayer(PrinterLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = <Self, Limiter = never>(
  tag: Context.Service<Self, Scheduler.Scheduler>,
  options: Options<Limiter>
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope> | Redis.Redis> => {
  const plan = check("Scheduler.layer", tag.key, options)
  return Stores.layerScheduler(tag, stores(plan), Orders.bounded(options)).pipe(Layer.provide(inboxOf(plan)))
}

/**
 * Provides the schedulers of a `Scheduler.Keyed` over Redis: one concurrency and one rate for each key and all processes.
 *
 * **Details**
 *
 * `lookup` takes the place of that of the tag. A process drops a key within two seconds of its last use, once nothing is on
 * its way. Redis keeps the permits, the rate and the penalty of a key, until they end. So a key that comes back, or comes to
 * another process, finds them.
 *
 * One connection, one subscription and one timer serve all keys of a process. The requests of all keys in one turn of the event
 * loop go as one command for each 32 keys, and so do their renewals.
 *
 * **Gotchas**
 *
 * - A `lookup` or a `keyOf` that throws, or returns what is invalid, is a defect of the call and leaves nothing behind.
 * - Keys are readable in Redis. Errors never name them.
 * - `resize` and `setRate` of a key hold in this process, and keep the key until the layer's scope closes.
 *
 * **Example** (Keeping the limits of hosts in all processes)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as RedisScheduler from "effect-funnel/redis/Scheduler"
 *
 * const lookup = (host: string) => ({ concurrency: host === "slow.example" ? 1 : 10 })
 *
 * class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup }) {}
 *
 * const HostsLive = RedisScheduler.layerKeyed(Hosts, { lookup })
 *
 * Layer.isLayer(HostsLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyed = <Self, K, Limiter = never>(
  tag: Context.Service<Self, Scheduler.KeyedScheduler<K>>,
  options: KeyedOptions<K, Limiter>
): Layer.Layer<Self, never, Exclude<Limiter, Scope.Scope> | Redis.Redis> => {
  const plan = check("Scheduler.layerKeyed", tag.key, options)
  return Stores.layerKeyedScheduler(tag, stores(plan), Orders.bounded(options)).pipe(Layer.provide(inboxOf(plan)))
}
