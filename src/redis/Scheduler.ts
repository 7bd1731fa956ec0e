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
 * lease ends. `docs/distributed.md` has the promises and the costs.
 *
 * A process that was frozen, or cut off from Redis, for longer than the lease loses its permits. Its jobs are interrupted and
 * fail with a `StoreError`, so that they overlap with their successors only for as long as they take to stop.
 *
 * **Gotchas**
 *
 * - At most `concurrency` runs while leases hold and Redis keeps its state. A frozen process overshoots by its running jobs,
 *   between the end of its lease and its waking.
 * - With a rate, the first job holds its permit while it waits for its slot. This delays a job with `tokens: 0` in another
 *   process, and no other start.
 * - `resize` and `setRate` change the limits that this process asks for: call them with the same values in all processes. If
 *   there was no rate, `setRate` begins a shared one.
 * - Priorities order the jobs of a process; between processes nobody overtakes.
 * - A job inside a job runs within the weight of the outer one and takes no permit.
 * - Redis must run with `maxmemory-policy noeviction`. Redis Cluster is not supported.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import type * as RateLimiter from "../RateLimiter.js"
import * as Scheduler from "../Scheduler.js"
import type { Rate } from "../internal/limiter/gcra.js"
import * as Quotas from "../internal/limiter/quota.js"
import * as RedisGcraStore from "../internal/redis/gcraStore.js"
import * as Inbox from "../internal/redis/inbox.js"
import * as LimiterRedis from "../internal/redis/limiter.js"
import * as Checked from "../internal/redis/options.js"
import * as PermitPool from "../internal/redis/permitPool.js"
import * as RedisPermitStore from "../internal/redis/permitStore.js"
import * as Build from "../internal/scheduler/build.js"
import { handleOf } from "../internal/scheduler/handle.js"
import * as SchedulerOptions from "../internal/scheduler/options.js"
import { enrolled } from "../internal/seen/seen.js"
import * as Guard from "../internal/store/guard.js"

/**
 * How a scheduler uses Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.LeaseOptions, Checked.ShareOptions {
  /**
   * The answer to waiting jobs while Redis is away. `"fail"`, the default, fails them with a `StoreError`. `"local"` goes on
   * with concurrency and rate divided by `expectedProcesses`; it logs a warning once an outage and counts in the metric
   * `effect_funnel.store.policy`.
   */
  readonly onStoreError?: "fail" | "local" | undefined
}

/**
 * Options of a scheduler over Redis: its bounds, and how it uses Redis.
 *
 * **Details**
 *
 * `concurrency`, `rate` and `maxQueued` are those of `Scheduler.layer`; `concurrency` is a number, the same in all processes.
 * `maxQueued` counts in each process. A `rate` that is a tag may be a limiter over Redis or one of this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out Limiter = never> extends StoreOptions {
  readonly concurrency: number
  readonly rate?:
    | RateLimiter.Quota
    | ReadonlyArray<RateLimiter.Quota>
    | Context.Key<Limiter, RateLimiter.RateLimiter>
    | undefined
  readonly maxQueued?: number | undefined
}

const check = <Limiter>(caller: string, name: string, options: Options<Limiter>) => ({
  name,
  ...Checked.store(caller, "p", options),
  ratePrefix: Checked.store(caller, "r", options).prefix,
  concurrency: Quotas.count(caller, "concurrency", options.concurrency),
  plan: SchedulerOptions.check<Limiter>(caller, name, options),
  leaseMillis: Checked.lease(caller, options),
  onStoreError: Checked.oneOf(caller, "onStoreError", options.onStoreError ?? "fail", ["fail", "local"]),
  expectedProcesses: Checked.processes(caller, options)
})

type Checks<Limiter> = ReturnType<typeof check<Limiter>>

const build = Effect.fnUntraced(function*<I>(checked: Checks<I>) {
  const redis = yield* Redis.Redis
  const inbox = yield* Inbox.RedisInbox
  const { concurrency, expectedProcesses, leaseMillis, name, onStoreError, plan, prefix, ratePrefix } = checked
  const guard = Guard.make({ service: name, watch: yield* enrolled("store", name, checked), ...checked })

  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock

  // The first finalizer runs last: the engine's jobs end before their permits are given back.
  const made: { pool?: PermitPool.PermitPool; limiter?: LimiterRedis.LimiterRedis } = {}
  yield* Effect.addFinalizer(() => made.pool?.close ?? Effect.void)
  const rates = isRates(plan.rate) ? plan.rate : undefined
  const engine = yield* Build.build<I>(rates === undefined ? plan : { ...plan, rate: undefined })
  yield* Effect.addFinalizer(() => made.limiter?.close ?? Effect.void)
  const shareRate = (rates: ReadonlyArray<Rate>) => {
    made.limiter = new LimiterRedis.LimiterRedis(
      rates,
      {
        store: (cells) => RedisGcraStore.make(redis, { prefix: `${ratePrefix}${name}:`, cells }),
        guard,
        onStoreError,
        expectedProcesses
      },
      context,
      clock
    )
    engine.adoptLimiterUnsafe(made.limiter)
  }
  if (rates !== undefined) shareRate(rates)
  const store = RedisPermitStore.make(redis, inbox, { prefix, name, leaseMillis, onWake: () => made.pool?.wake() })
  made.pool = yield* PermitPool.make({ limit: concurrency, engine, store, guard, onStoreError, expectedProcesses })
  const scheduler = handleOf(engine)
  const { setRate } = scheduler
  return Object.assign(scheduler, {
    // A scheduler without a rate gets a shared one.
    setRate: (quotas: SchedulerOptions.Quotas) => {
      const rates = SchedulerOptions.checkRate(quotas)
      return Effect.suspend(() => {
        if (engine.limiter !== undefined) return setRate(quotas)
        // In one step with the check: a second call finds the limiter of the first.
        shareRate(rates)
        return Effect.void
      })
    }
  })
})

const isRates = (rate: ReadonlyArray<Rate> | object | undefined): rate is ReadonlyArray<Rate> => Array.isArray(rate)

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
  const checked = check("Scheduler.make", options.name, options)
  return Effect.flatMap(
    Layer.build(Inbox.layer),
    (context) => Effect.provide(build(checked), context)
  )
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
 * Provides the default scheduler over Redis, with options from the configuration.
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
  config: Config.Wrap<StoreOptions & { readonly concurrency: number; readonly maxQueued?: number | undefined }>,
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
  const checked = check("Scheduler.layer", tag.key, options)
  return Layer.effect(tag, build(checked)).pipe(Layer.provide(Inbox.layer))
}
