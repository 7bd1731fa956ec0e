/**
 * One rate for several processes: the layers of `RateLimiter` over Redis.
 *
 * **When to use**
 *
 * Use it where a quota belongs to an account and not to a process. A `Scheduler` whose `rate` is the tag takes from it too.
 *
 * **Details**
 *
 * The state of a key is a debt by the clock of the Redis server. In any interval of length Δ all processes together take at
 * most `burst + Δ · limit / window` tokens, by the times at which they are due. Calls wait in their process, in order of
 * arrival. One command at a time asks for the first ones, up to 50 milliseconds ahead, so that neither the network nor a
 * short stall costs pace. `docs/distributed.md` has the promises and the costs.
 *
 * **Gotchas**
 *
 * - An interrupted caller costs nothing while others wait behind it. Otherwise the tokens taken ahead for it are given back,
 *   or are lost if another process has been granted tokens since.
 * - `strict` spaces due times, not starts: a window of actual starts can hold a few more. If the other side counts to the
 *   last call, ask for a little less.
 * - After `penalize`, other processes use the tokens that they hold already, up to 50 milliseconds' worth.
 * - `settle`, and lists of `tokens`, throw a `RangeError`. A `maxWait` is kept by a timer of the process, and the `retryAfter` of
 *   its refusals is an estimate.
 * - If the clock of the server steps back, a key is denied for as long as its debt, not for the step.
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
import * as RateLimiter from "../RateLimiter.js"
import * as Stores from "../stores.js"
import * as RedisGcraStore from "../internal/redis/gcraStore.js"
import * as Orders from "../internal/redis/orders.js"
import * as Checked from "../internal/shared/options.js"
import { limiterName, owner } from "../internal/store/bounds.js"

/**
 * How a rate limiter uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.StoreOptions, Checked.RateOptions {}

/**
 * Options of a rate limiter over Redis: its pace, and how it uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends StoreOptions, RateLimiter.NameOptions {
  /** One quota, or several that all have to conform. */
  readonly rate: RateLimiter.Options
}

const store = (caller: string, options: Options, name: string) => {
  const { storeTimeoutMillis } = Checked.guard(caller, options)
  const prefix = `${Checked.prefix(caller, options)}r:${name}`
  return Effect.gen(function*() {
    const orders = yield* Orders.make(RedisGcraStore.kind, yield* Redis.Redis, storeTimeoutMillis)
    return (cells: ReadonlyArray<Stores.Cell>) => RedisGcraStore.make(orders, { prefix, cells })
  })
}

/**
 * Makes a rate limiter over Redis that closes with the scope, for a service with a quota of its own.
 *
 * **Details**
 *
 * `name` is part of the keys: limiters with the same prefix and name are one, and so are those without a name.
 *
 * **Example** (Sharing a quota inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
 *
 * const client = Effect.gen(function*() {
 *   const limiter = yield* RedisRateLimiter.make({ name: "app/client", rate: { limit: 100, window: "1 minute" } })
 *   return { get: (url: string) => limiter.withLimit(Effect.succeed(`GET ${url}`)) }
 * })
 *
 * Effect.isEffect(client) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<RateLimiter.RateLimiter, never, Redis.Redis | Scope.Scope> =>
  Stores.makeRateLimiter(store("RateLimiter.make", options, limiterName(options.name)), Orders.bounded(options))

/**
 * Provides the default rate limiter, over Redis, in place of `RateLimiter.layer`.
 *
 * **Gotchas**
 *
 * Make the client with the options of the example and without `socketTimeout`, which closes it for good. `storeTimeout` then
 * bounds the time of a command.
 *
 * **Example** (Sharing a quota among processes)
 *
 * ```ts import.meta.vitest
 * import { NodeRedis } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
 *
 * const RedisLive = NodeRedis.layer({ url: "redis://localhost", disableOfflineQueue: true, commandOptions: { timeout: 0 } })
 *
 * const RateLimiterLive = RedisRateLimiter.layer({
 *   rate: { limit: 100, window: "1 minute", burst: 10 },
 *   onStoreError: "local",
 *   expectedProcesses: 4
 * }).pipe(Layer.provide(RedisLive))
 *
 * Layer.isLayer(RateLimiterLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<RateLimiter.RateLimiter, never, Redis.Redis> =>
  layerService(RateLimiter.RateLimiter, options)

/**
 * Provides the default rate limiter over Redis, with options from the configuration: one quota, and how it uses Redis.
 *
 * **Example** (Reading the quota from the environment)
 *
 * ```ts import.meta.vitest
 * import { Config, Layer } from "effect"
 * import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
 *
 * const RateLimiterLive = RedisRateLimiter.layerConfig({
 *   rate: { limit: Config.Int("API_LIMIT"), window: Config.Duration("API_WINDOW") }
 * })
 *
 * Layer.isLayer(RateLimiterLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<StoreOptions & { readonly rate: RateLimiter.Quota }>
): Layer.Layer<RateLimiter.RateLimiter, Config.ConfigError, Redis.Redis> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))

/**
 * Provides a rate limiter tag of one's own, over Redis. The id of the tag is part of the keys.
 *
 * **Example** (Providing a tag of one's own)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import { RateLimiter } from "effect-funnel"
 * import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
 *
 * const rate = { limit: 5000, window: "1 hour" } as const
 *
 * class GitHub extends RateLimiter.Service<GitHub>()("app/GitHub", rate) {}
 *
 * const GitHubLive = RedisRateLimiter.layerService(GitHub, { rate })
 *
 * Layer.isLayer(GitHubLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = <Self>(
  tag: Context.Service<Self, RateLimiter.RateLimiter>,
  options: Options
): Layer.Layer<Self, never, Redis.Redis> =>
  Stores.layerRateLimiter(tag, store("RateLimiter.layer", options, `${owner(tag.key)}:`), Orders.bounded(options))
