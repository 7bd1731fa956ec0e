/**
 * Single flight across processes: the layers of `Reducer` whose shared calls meet in Redis.
 *
 * **When to use**
 *
 * Use it where several processes would ask a backend for the same thing at the same time. `reduceShared` of
 * `effect-funnel/SharedReducer` is the call, and this layer takes the place of `Reducer.layer`.
 *
 * **Details**
 *
 * The calls of a process share a local flight first, so a process is one party however many callers it has. One party leads:
 * it holds a lease, renews it while its run goes on, and publishes the result to the followers. When the leader is gone, its
 * lease ends and a follower leads; a leader that is interrupted hands over at once. Each lease has a fence that only grows.
 * A leader that lost its lease drops its result and takes the one that the others got.
 *
 * The promise: one run a key and process, always. Among processes at most one run a key while leases hold and Redis keeps
 * its state. Runs overlap only when a leader is frozen for longer than its lease, when Redis loses its state, or when the
 * clock of its server steps forward by more than a lease. Make effects idempotent, or let the backend refuse their writes by
 * the fence. Plain `Reducer.reduce` stays in the process.
 *
 * **Gotchas**
 *
 * Redis must run with `maxmemory-policy noeviction`. Redis Cluster is not supported. While a follower waits, the result lies
 * in Redis, readable, for as long as `retain`.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import * as Reducer from "../Reducer.js"
import * as Inbox from "../internal/redis/inbox.js"
import * as Checked from "../internal/redis/options.js"
import * as RedisReducerStore from "../internal/redis/reducerStore.js"
import { attach } from "../internal/reducer/reduceShared.js"
import * as Guard from "../internal/store/guard.js"

/**
 * How a reducer uses Redis.
 *
 * **Details**
 *
 * - `prefix`: the beginning of the names of its keys, `"effect-funnel"` by default. Processes that are to meet have the same;
 *   give a new one to a release whose requests have other schemas.
 * - `lease`: for how long a silent leader keeps its key, 10 seconds by default. It is renewed three times as often. A dead
 *   process holds up the others that long; a live one that pauses for longer causes a second run.
 * - `retain`: for how long a result that others wait for stays to be fetched, 10 seconds by default.
 * - `onStoreError`: the answer to a call when Redis is away: `"local"`, the default, runs its effect in this process, with a
 *   line in the log and a count in the metric `effect_funnel_store_policy`; `"fail"` fails with a `StoreError`.
 * - `storeTimeout`: how long a command may take, 1 second by default.
 * - `outageBudget`: how long Redis is asked again before `onStoreError` applies, 1 second by default; zero applies it at
 *   once. It is spent once an outage, not by each call.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.StoreOptions {
  readonly lease?: Duration.Input | undefined
  readonly retain?: Duration.Input | undefined
  readonly onStoreError?: "local" | "fail" | undefined
}

/**
 * Options of a reducer over Redis: those of `Reducer.layer`, and how it uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Reducer.Options, StoreOptions {}

const check = (caller: string, options: StoreOptions | undefined) => ({
  ...Checked.store(caller, "f", options),
  leaseMillis: Checked.millis(caller, "lease", options?.lease ?? "10 seconds", 1),
  retainMillis: Checked.millis(caller, "retain", options?.retain ?? "10 seconds", 1),
  onStoreError: Checked.oneOf(caller, "onStoreError", options?.onStoreError ?? "local", ["local", "fail"])
})

const build = Effect.fnUntraced(function*(checked: ReturnType<typeof check>, options: Reducer.Options | undefined) {
  const redis = yield* Redis.Redis
  const inbox = yield* Inbox.RedisInbox
  const handle = yield* Reducer.make(options)
  return attach(handle, {
    store: RedisReducerStore.make(redis, inbox, checked),
    guard: Guard.make({ service: "Reducer", ...checked }),
    onStoreError: checked.onStoreError
  })
})

/**
 * Makes a reducer over Redis that lives as long as the scope.
 *
 * **When to use**
 *
 * Use it inside a service that has calls of its own to share. In an application, provide {@link layer}.
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
  const checked = check("Reducer.make", options)
  return Effect.flatMap(
    Layer.build(Inbox.layer),
    (context) => Effect.provideContext(build(checked, options), context)
  )
}

/**
 * Provides the default reducer, over Redis.
 *
 * **Details**
 *
 * It takes the place of `Reducer.layer`. Make the client as in the example: its commands then fail at once without a connection,
 * and `storeTimeout` alone bounds their time.
 *
 * **Gotchas**
 *
 * Give the client no `socketTimeout`: it closes the client for good.
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
 * Provides a reducer tag of one's own, over Redis.
 *
 * **Details**
 *
 * The id of the tag becomes part of the keys, so that two reducers with one prefix do not meet.
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
  const checked = check("Reducer.layer", options)
  const prefix = `${checked.prefix}${tag.key}:`
  return Layer.effect(tag, build({ ...checked, prefix }, options)).pipe(Layer.provide(Inbox.layer))
}
