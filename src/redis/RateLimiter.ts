/**
 * One rate for several processes: the layers of `RateLimiter` whose state is in Redis.
 *
 * **When to use**
 *
 * Use it where a quota belongs to an account and not to a process. This layer takes the place of `RateLimiter.layer`, the
 * program stays as it is, and a `Scheduler` whose `rate` is the tag takes from it as well.
 *
 * **Details**
 *
 * The state of a key is a debt, counted by the clock of the Redis server; the clocks of the processes play no part. In any
 * interval of length Δ all processes together take at most `burst + Δ · limit / window` tokens, by the times at which
 * they are due. Calls wait in their process: one command at a time asks on behalf of the first ones, up to 50 milliseconds
 * ahead, so that neither the network nor a stall of that length costs pace. The calls of a process go in order of arrival;
 * between processes the first to ask is the first served.
 *
 * **Gotchas**
 *
 * - An interrupted caller costs nothing while others wait behind it. With nobody behind, the tokens that were taken ahead for
 *   it are given back, unless other processes have been granted tokens since: then they are lost.
 * - `strict` spaces due times, by the clock of the server. The other processes do not make up for a start that a timer or the
 *   network has made late: a window of actual starts can hold as many more as are due in 10 milliseconds, and in the time by
 *   which an answer of Redis was late. Where the other side counts to the last call, ask for a little less.
 * - After `penalize`, other processes use the tokens that they hold already, up to 50 milliseconds' worth.
 * - When the clock of the server steps back, a key is denied for as long as its debt, not for the step.
 * - Redis must run with `maxmemory-policy noeviction`. Redis Cluster is not supported.
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
import * as Quotas from "../internal/limiter/quota.js"
import * as RedisGcraStore from "../internal/redis/gcraStore.js"
import * as LimiterRedis from "../internal/redis/limiter.js"
import * as Checked from "../internal/redis/options.js"
import * as Guard from "../internal/store/guard.js"

/**
 * How a rate limiter uses Redis.
 *
 * **Details**
 *
 * - `prefix`: the beginning of the names of its keys, `"effect-funnel"` by default.
 * - `onStoreError`: the answer to a call when Redis is away: `"fail"`, the default, fails with a `StoreError`; `"local"`
 *   admits at the pace divided by `expectedProcesses`, counted here; `"allow"` admits. The last two leave a line in the
 *   log and a count in the metric `effect_funnel_store_policy`.
 * - `expectedProcesses`: how many processes share the rate, 1 by default; used by `"local"` alone.
 * - `storeTimeout`: how long a command may take, 1 second by default.
 * - `outageBudget`: how long Redis is asked again before `onStoreError` applies, 1 second by default; zero applies it at
 *   once. It is spent once an outage, not by each call.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.StoreOptions {
  readonly onStoreError?: "fail" | "local" | "allow" | undefined
  readonly expectedProcesses?: number | undefined
}

/**
 * Options of a rate limiter over Redis: its pace, and how it uses Redis.
 *
 * **Details**
 *
 * - `rate`: one quota, or several that have to conform all at once.
 * - `name`: what its errors call it, the id of its tag by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends StoreOptions, RateLimiter.NameOptions {
  readonly rate: RateLimiter.Options
}

const check = (caller: string, name: string, { rate, ...store }: Options) => ({
  name: store.name ?? name,
  ...Checked.store(caller, "r", store),
  rates: Quotas.rates(caller, "rate", rate),
  onStoreError: Checked.oneOf(caller, "onStoreError", store.onStoreError ?? "fail", ["fail", "local", "allow"]),
  expectedProcesses: Quotas.count(caller, "expectedProcesses", store.expectedProcesses ?? 1)
})

type Plan = ReturnType<typeof check>

const build = Effect.fnUntraced(function*(plan: Plan) {
  const redis = yield* Redis.Redis
  const limiter = yield* Effect.acquireRelease(
    LimiterRedis.make(plan.rates, {
      store: (cells) => RedisGcraStore.make(redis, { prefix: plan.prefix, cells }),
      guard: Guard.make({ service: "RateLimiter", ...plan }),
      onStoreError: plan.onStoreError,
      expectedProcesses: plan.expectedProcesses
    }),
    (limiter) => limiter.close
  )
  return RateLimiter.fromLimiter(limiter, plan.name)
})

/**
 * Makes a rate limiter over Redis that lives as long as the scope.
 *
 * **When to use**
 *
 * Use it inside a service that has a quota of its own to share. In an application, provide {@link layer}.
 *
 * **Example** (Sharing a quota inside a service)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
 *
 * const client = Effect.gen(function*() {
 *   const limiter = yield* RedisRateLimiter.make({ rate: { limit: 100, window: "1 minute" } })
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
  build(check("RateLimiter.make", RateLimiter.RateLimiter.key, options))

/**
 * Provides the default rate limiter, over Redis.
 *
 * **Details**
 *
 * It takes the place of `RateLimiter.layer`. Make the client as in the example: its commands then fail at once without a connection,
 * and `storeTimeout` alone bounds their time.
 *
 * **Gotchas**
 *
 * Give the client no `socketTimeout`: it closes the client for good.
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
 * Provides the default rate limiter over Redis, with options from the configuration.
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
 * Provides a rate limiter tag of one's own, over Redis.
 *
 * **Details**
 *
 * The id of the tag becomes part of the keys, so that two limiters with one prefix do not meet.
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
): Layer.Layer<Self, never, Redis.Redis> => {
  const plan = check("RateLimiter.layer", tag.key, options)
  return Layer.effect(tag, build({ ...plan, prefix: `${plan.prefix}${tag.key}:` }))
}
