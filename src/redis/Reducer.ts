/**
 * Single flight across processes: the layers of `Reducer` whose shared calls meet in Redis.
 *
 * **When to use**
 *
 * Use it where several processes would ask a backend for the same thing at the same time. The shared call is `reduceShared`
 * of `effect-funnel/SharedReducer`; plain `reduce` stays in its process.
 *
 * **Details**
 *
 * The calls of a process share a local flight first, so a process is one party however many callers it has. One party leads:
 * it holds a lease, renews it while its run goes on, and publishes the result to the followers. When the leader dies, its
 * lease ends and a follower leads; a leader that is interrupted hands over at once. Each lease has a fence that only grows.
 * A leader that lost its lease drops its result and takes the one that the others got.
 *
 * The promise: one run a key and process, always. Among processes at most one run a key while leases hold and Redis keeps
 * its state. Runs overlap only when a leader is frozen for longer than its lease, when Redis loses its state, or when the
 * clock of its server steps forward by more than a lease. Make effects idempotent, or let the backend refuse their writes by
 * the fence. `docs/distributed.md` has the promises and the costs.
 *
 * **Gotchas**
 *
 * Redis must run with `maxmemory-policy noeviction`. A Redis Cluster needs `layerCluster`. While a follower waits, the result lies
 * in Redis, readable, for as long as `retain`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import * as Reducer from "../Reducer.js"
import * as Stores from "../stores.js"
import * as Inbox from "../internal/redis/inbox.js"
import * as Orders from "../internal/redis/orders.js"
import * as RedisReducerStore from "../internal/redis/reducerStore.js"
import * as Checked from "../internal/shared/options.js"

/**
 * How a reducer uses Redis.
 *
 * **Details**
 *
 * Give a new `prefix` to a release whose requests have other schemas. A dead process holds up the others for its `lease`; a
 * live one that pauses for longer causes a second run. A result of 4 MiB holds up Redis for about 10 milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.ReducerOptions {}

/**
 * Options of a reducer over Redis: those of `Reducer.layer`, and how it uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Reducer.Options, StoreOptions {}

const check = (caller: string, options: StoreOptions | undefined) => ({
  prefix: Checked.prefix(caller, options),
  storeTimeoutMillis: Checked.guard(caller, options).storeTimeoutMillis,
  leaseMillis: Checked.lease(caller, options),
  retainMillis: Checked.millis(caller, "retain", options?.retain ?? "10 seconds", 1)
})

type Plan = ReturnType<typeof check>

const inboxOf = (plan: Plan) => Inbox.layer(`${plan.prefix}inbox:`)

const store = Effect.fnUntraced(function*(plan: Plan, name: string) {
  const orders = yield* Orders.make(RedisReducerStore.kind, yield* Redis.Redis, plan.storeTimeoutMillis)
  return RedisReducerStore.make(orders, yield* Inbox.RedisInbox, { ...plan, prefix: `${plan.prefix}f:${name}` })
})

/**
 * Makes a reducer over Redis that closes with the scope, for a service with calls of its own.
 *
 * **Gotchas**
 *
 * Each `make` subscribes to a channel of its own; the layers of an application share one subscription.
 *
 * **Example** (Sharing inside a service)
 *
 * ```ts import.meta.vitest
 * import { NodeRedis } from "@effect/platform-node"
 * import { Effect, Schema } from "effect"
 * import { Persistable } from "effect/persistence"
 * import { Reducer } from "effect-funnel"
 * import * as RedisReducer from "effect-funnel/redis/Reducer"
 * import { reduceShared } from "effect-funnel/SharedReducer"
 *
 * class GetRate extends Persistable.Class<{ payload: { readonly currency: string } }>()("GetRate", {
 *   primaryKey: (_) => _.currency,
 *   success: Schema.Number
 * }) {}
 *
 * const rates = Effect.gen(function*() {
 *   const reducer = yield* RedisReducer.make({ lease: "30 seconds" })
 *   return (currency: string) =>
 *     reduceShared(new GetRate({ currency }), () => Effect.succeed(1.08)).pipe(
 *       Effect.provideService(Reducer.Reducer, reducer)
 *     )
 * })
 *
 * Effect.isEffect(Effect.provide(rates, NodeRedis.layer({ url: "redis://localhost" }))) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options | undefined
): Effect.Effect<Reducer.Reducer, never, Redis.Redis | Scope.Scope> => {
  const plan = check("Reducer.make", options)
  const reducer = Stores.makeReducer(store(plan, ""), Orders.bounded(options ?? {}))
  return Effect.flatMap(Layer.build(inboxOf(plan)), (inbox) => Effect.provide(reducer, inbox))
}

/**
 * Provides the default reducer, over Redis, in place of `Reducer.layer`.
 *
 * **Gotchas**
 *
 * Make the client with the options of the example and without `socketTimeout`, which closes it for good. `storeTimeout` then
 * bounds the time of a command.
 *
 * **Example** (Sharing the runs of several processes)
 *
 * ```ts import.meta.vitest
 * import { NodeRedis } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import * as RedisReducer from "effect-funnel/redis/Reducer"
 *
 * const RedisLive = NodeRedis.layer({ url: "redis://localhost", disableOfflineQueue: true, commandOptions: { timeout: 0 } })
 *
 * const ReducerLive = RedisReducer.layer({ lease: "10 seconds" }).pipe(Layer.provide(RedisLive))
 *
 * Layer.isLayer(ReducerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options | undefined): Layer.Layer<Reducer.Reducer, never, Redis.Redis> =>
  layerService(Reducer.Reducer, options)

/**
 * Provides the default reducer over Redis, with options from the configuration.
 *
 * **Example** (Reading the options from the environment)
 *
 * ```ts import.meta.vitest
 * import { Config, Layer } from "effect"
 * import * as RedisReducer from "effect-funnel/redis/Reducer"
 *
 * const ReducerLive = RedisReducer.layerConfig({
 *   prefix: Config.String("FUNNEL_PREFIX").pipe(Config.withDefault("app")),
 *   onStoreError: Config.Literals(["local", "fail"], "FUNNEL_ON_STORE_ERROR")
 * })
 *
 * Layer.isLayer(ReducerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<StoreOptions>,
  options?: Reducer.Options | undefined
): Layer.Layer<Reducer.Reducer, Config.ConfigError, Redis.Redis> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), (store) => layer({ ...options, ...store })))

/**
 * Provides a reducer tag of one's own, over Redis. The id of the tag is part of the keys.
 *
 * **Example** (Providing a tag of one's own)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { Reducer } from "effect-funnel"
 * import * as RedisReducer from "effect-funnel/redis/Reducer"
 *
 * class Reports extends Reducer.Service<Reports>()("app/Reports") {}
 *
 * const ReportsLive = RedisReducer.layerService(Reports, { lease: "1 minute" })
 *
 * Layer.isLayer(ReportsLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = <Self>(
  tag: Context.Service<Self, Reducer.Reducer>,
  options?: Options | undefined
): Layer.Layer<Self, never, Redis.Redis> => {
  const plan = check("Reducer.layer", options)
  return Stores.layerReducer(tag, store(plan, `${tag.key}:`), Orders.bounded(options ?? {})).pipe(
    Layer.provide(inboxOf(plan))
  )
}
