/**
 * The stores through which several processes share: what one has to promise, and services over one of your own.
 *
 * **When to use**
 *
 * Use it to bring a store. For Redis there is `effect-funnel/redis/*`, for PostgreSQL `effect-funnel/postgres/*`.
 *
 * **Details**
 *
 * A service needs little of its store: a `Reducer` a {@link ReducerStore}, a `RateLimiter` a {@link GcraStore}, a `Scheduler` a
 * {@link PermitStore} and, for its rate, a {@link GcraStore}. Queues, effects and schemas stay in the process, and so do
 * retries, timeouts and what happens while the store is away. The laws of `effect-funnel/stores/laws` test a store, and
 * `docs/stores.md` leads through one.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as RateLimiter from "./RateLimiter.js"
import * as Reducer from "./Reducer.js"
import type * as Scheduler from "./Scheduler.js"
import { oneOf, refuse } from "./internal/data/refuse.js"
import type { Rate } from "./internal/limiter/gcra.js"
import * as Quotas from "./internal/limiter/quota.js"
import { attach } from "./internal/reducer/reduceShared.js"
import * as Build from "./internal/scheduler/build.js"
import { handleOf } from "./internal/scheduler/handle.js"
import { withMany } from "./internal/scheduler/many/many.js"
import * as KeyedSchedulers from "./internal/scheduler/keyed.js"
import * as Checks from "./internal/scheduler/options.js"
import { enrolled } from "./internal/seen/seen.js"
import * as SharedLimiter from "./internal/shared/limiter.js"
import * as Checked from "./internal/shared/options.js"
import { PermitPool } from "./internal/shared/permitPool.js"
import { Pulse } from "./internal/shared/pulse.js"
import { longestLease } from "./internal/store/bounds.js"
import * as Foreign from "./internal/store/foreign.js"
import type { Cell, GcraStore } from "./internal/store/gcraStore.js"
import * as Guard from "./internal/store/guard.js"
import type { PermitStore } from "./internal/store/permitStore.js"
import type { ReducerStore } from "./internal/store/reducerStore.js"

export type { Cell, GcraStore, Taken } from "./internal/store/gcraStore.js"
export type { Acquired, Held, PermitStore } from "./internal/store/permitStore.js"
export type { Joined, Party, ReducerStore, Signal } from "./internal/store/reducerStore.js"
export { StoreError } from "./internal/store/storeError.js"

/**
 * How a service asks its store.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends Checked.GuardOptions {
  /**
   * Whether the store itself bounds the time of a command, and how many are on their way; false by default. Otherwise the
   * service does: a command may take `storeTimeout`, and 256 are on their way at most.
   */
  readonly isBounded?: boolean | undefined
}

/**
 * Options of a reducer over a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReducerOptions extends Reducer.Options, StoreOptions, Checked.FlightOptions {}

/**
 * Options of a rate limiter over a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface RateLimiterOptions extends StoreOptions, Checked.RateOptions, RateLimiter.NameOptions {
  /** One quota, or several that all have to conform. */
  readonly rate: RateLimiter.Options
}

/**
 * The limits of a scheduler over a store. All processes keep `concurrency` and `rate` together, and give the same ones; the
 * others hold in each process. They are those of `Scheduler.layer`, and a job always waits for its permit: a `maxQueued` or
 * a `maxWait` of 0 is refused.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits<out Limiter = never> extends Checks.QueueOptions {
  readonly concurrency: number
  readonly rate?:
    | RateLimiter.Quota
    | ReadonlyArray<RateLimiter.Quota>
    | Context.Key<Limiter, RateLimiter.RateLimiter>
    | undefined
}

/**
 * How a scheduler uses its stores.
 *
 * @category models
 * @since 0.1.0
 */
export interface SchedulerStoreOptions extends StoreOptions, Checked.PermitOptions {}

/**
 * Options of a scheduler over stores.
 *
 * @category models
 * @since 0.1.0
 */
export interface SchedulerOptions<out Limiter = never> extends SchedulerStoreOptions, Limits<Limiter> {}

/**
 * Options of schedulers by key over stores: the limits of each key, and the name of a key by which processes meet. Keys that
 * are not strings need `keyOf`.
 *
 * @category models
 * @since 0.1.0
 */
export type KeyedOptions<K, Limiter = never> =
  & SchedulerStoreOptions
  & { readonly lookup: (key: K) => Limits<Limiter> }
  & ([K] extends [string] ? { readonly keyOf?: ((key: K) => string) | undefined }
    : { readonly keyOf: (key: K) => string })

/**
 * The stores of a scheduler, or of all keys of a keyed one: what makes the permits of one, and the rate.
 *
 * @category models
 * @since 0.1.0
 */
export interface SchedulerStores {
  /**
   * The permits of a key, or of the scheduler if it has none. `onWake` is to be called when a permit may be free. It may be
   * called more than once for a key, and stores of a key share its permits.
   */
  readonly permits: (key: string | undefined, onWake: () => void) => PermitStore
  /** The rate. A scheduler without a rate makes none until `setRate`. */
  readonly rates: (key: string | undefined, cells: ReadonlyArray<Cell>) => GcraStore
}

const guardOf = (service: string, options: StoreOptions | undefined, times: ReturnType<typeof Checked.guard>) =>
  Effect.map(
    enrolled("store", service, times),
    (watch) => Guard.make({ service, watch, isBounded: options?.isBounded === true, ...times })
  )

/** The lease of a store that is not ours. */
const checkLease = <A extends { readonly leaseMillis: number }>(
  caller: string,
  store: A,
  options: StoreOptions | undefined
): A => {
  const { leaseMillis } = store
  const field = "leaseMillis of the store"
  if (!(leaseMillis > 0 && leaseMillis * 1000 <= longestLease)) {
    refuse(caller, field, "a number > 0 and at most 1 hour", leaseMillis)
  }
  Checked.checkTimeout(caller, field, leaseMillis, options)
  return store
}

const reducer = <R>(
  caller: string,
  id: string,
  store: Effect.Effect<ReducerStore, never, R>,
  options?: ReducerOptions
) => {
  const onStoreError = oneOf(caller, "onStoreError", options?.onStoreError ?? "local", ["local", "fail"])
  const maxResultBytes = Quotas.count(caller, "maxResultBytes", options?.maxResultBytes ?? 4 * 1024 * 1024)
  const times = Checked.guard(caller, options)
  return Effect.gen(function*() {
    const made = Foreign.reducerStore(checkLease(caller, yield* store, options))
    const handle = yield* Reducer.fromOptions(id, options)
    const guard = yield* guardOf(options?.name ?? id, options, times)
    const scope = yield* Effect.scope
    return attach(handle, { store: made, guard, onStoreError, maxResultBytes, ended: new Map(), scope })
  })
}

/**
 * Makes a reducer over a store that closes with the scope. `reduceShared` of `effect-funnel/SharedReducer` shares its runs.
 *
 * **Example** (Sharing through a store of one's own)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<Stores.ReducerStore> = Effect.die("your connection")
 *
 * Effect.isEffect(Stores.makeReducer(connect, { onStoreError: "fail" })) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeReducer = <R>(
  store: Effect.Effect<ReducerStore, never, R>,
  options?: ReducerOptions | undefined
): Effect.Effect<Reducer.Reducer, never, R | Scope.Scope> =>
  reducer("Reducer.make", Reducer.Reducer.key, store, options)

/**
 * Provides a reducer tag, `Reducer.Reducer` or one of your own, over a store.
 *
 * **Example** (Providing the default reducer)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Reducer } from "effect-funnel"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<Stores.ReducerStore> = Effect.die("your connection")
 *
 * Layer.isLayer(Stores.layerReducer(Reducer.Reducer, connect)) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerReducer = <Self, R>(
  tag: Context.Service<Self, Reducer.Reducer>,
  store: Effect.Effect<ReducerStore, never, R>,
  options?: ReducerOptions | undefined
): Layer.Layer<Self, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(tag, reducer("Reducer.layer", tag.key, store, options))

/** Makes the store of a rate for some quotas. */
type Rates = (cells: ReadonlyArray<Cell>) => GcraStore

const rateLimiter = <R>(
  caller: string,
  id: string,
  store: Effect.Effect<Rates, never, R>,
  options: RateLimiterOptions
) => {
  const name = options.name ?? id
  const times = Checked.guard(caller, options)
  const rates = Quotas.rates(caller, "rate", options.rate)
  const onStoreError = oneOf(caller, "onStoreError", options.onStoreError ?? "fail", ["fail", "local", "allow"])
  const expectedProcesses = Checked.processes(caller, options)
  return Effect.gen(function*() {
    const made = yield* store
    const guard = yield* guardOf(name, options, times)
    const limiter = yield* Effect.acquireRelease(
      SharedLimiter.make(rates, {
        store: (cells) => Foreign.gcraStore(made(cells), cells),
        guard,
        onStoreError,
        expectedProcesses
      }),
      (limiter) => limiter.close
    )
    return yield* RateLimiter.seenLimiter(limiter, name)
  })
}

/**
 * Makes a rate limiter over a store that closes with the scope. The store is made anew when the `setRate` of a scheduler that
 * takes from it changes the quotas.
 *
 * **Example** (Sharing a quota through a store of one's own)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<(cells: ReadonlyArray<Stores.Cell>) => Stores.GcraStore> = Effect.die("your connection")
 *
 * Effect.isEffect(Stores.makeRateLimiter(connect, { rate: { limit: 100, window: "1 minute" } })) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeRateLimiter = <R>(
  store: Effect.Effect<(cells: ReadonlyArray<Cell>) => GcraStore, never, R>,
  options: RateLimiterOptions
): Effect.Effect<RateLimiter.RateLimiter, never, R | Scope.Scope> =>
  rateLimiter("RateLimiter.make", RateLimiter.RateLimiter.key, store, options)

/**
 * Provides a rate limiter tag, `RateLimiter.RateLimiter` or one of your own, over a store.
 *
 * **Example** (Providing the default rate limiter)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { RateLimiter } from "effect-funnel"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<(cells: ReadonlyArray<Stores.Cell>) => Stores.GcraStore> = Effect.die("your connection")
 * const rate = { limit: 100, window: "1 minute" } as const
 *
 * Layer.isLayer(Stores.layerRateLimiter(RateLimiter.RateLimiter, connect, { rate })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRateLimiter = <Self, R>(
  tag: Context.Service<Self, RateLimiter.RateLimiter>,
  store: Effect.Effect<(cells: ReadonlyArray<Cell>) => GcraStore, never, R>,
  options: RateLimiterOptions
): Layer.Layer<Self, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(tag, rateLimiter("RateLimiter.layer", tag.key, store, options))

const waits = "(a job waits for its permit)"

const checkLimits = <Limiter>(caller: string, name: string, options: Limits<Limiter>) => {
  const { concurrency, maxQueued, maxWait } = options
  // For callers without types.
  if (typeof concurrency === "object") {
    const rule = "an integer >= 1 over a store (no process knows the latency of all jobs)"
    refuse(caller, "concurrency", rule, { toString: () => "a width that adapts" })
  }
  Quotas.count(caller, "concurrency", concurrency)
  if (maxQueued === 0) refuse(caller, "maxQueued", `an integer >= 1 over a store ${waits}`, maxQueued)
  const checked = Checks.check<Limiter>(caller, name, options)
  if (checked.maxWait === 0) refuse(caller, "maxWait", `a finite duration > 0 over a store ${waits}`, maxWait)
  return checked
}

/** What the schedulers of a layer have together: the stores, one guard, and one timer. */
const sharing = <R>(
  caller: string,
  name: string,
  stores: Effect.Effect<SchedulerStores, never, R>,
  options: SchedulerStoreOptions
) => {
  const times = Checked.guard(caller, options)
  const onStoreError = oneOf(caller, "onStoreError", options.onStoreError ?? "fail", ["fail", "local"])
  const expectedProcesses = Checked.processes(caller, options)
  return Effect.gen(function*() {
    const { permits, rates } = yield* stores
    const site = yield* Build.site<never>()
    const guard = yield* guardOf(name, options, times)
    const pulse = new Pulse(site)
    return (key: string | undefined): Build.Share => (engine) => {
      // The store may wake it before it is there.
      let pool: PermitPool | undefined = undefined
      const store = Foreign.permitStore(checkLease(caller, permits(key, () => pool?.wake()), options))
      const limiterOf = (quotas: ReadonlyArray<Rate>) =>
        new SharedLimiter.SharedLimiter(
          quotas,
          { store: (cells) => Foreign.gcraStore(rates(key, cells), cells), guard, onStoreError, expectedProcesses },
          site.context,
          site.clock
        )
      return pool = new PermitPool({ engine, store, guard, pulse, onStoreError, expectedProcesses, limiterOf })
    }
  })
}

const scheduler = <Limiter, R>(
  caller: string,
  id: string,
  stores: Effect.Effect<SchedulerStores, never, R>,
  options: SchedulerOptions<Limiter>
) => {
  const limits = checkLimits(caller, id, options)
  const share = sharing(caller, limits.name, stores, options)
  return Effect.flatMap(
    share,
    (share) => Effect.map(Build.build<Limiter>(limits, share(undefined)), withMany(handleOf))
  )
}

/**
 * Makes a scheduler over stores that closes with the scope.
 *
 * **Example** (Bounding a backend through stores of one's own)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<Stores.SchedulerStores> = Effect.die("your connection")
 *
 * Effect.isEffect(Stores.makeScheduler(connect, { name: "printer", concurrency: 1 })) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeScheduler = <R, Limiter = never>(
  stores: Effect.Effect<SchedulerStores, never, R>,
  options: SchedulerOptions<Limiter> & { readonly name: string }
): Effect.Effect<Scheduler.Scheduler, never, Limiter | R | Scope.Scope> =>
  scheduler("Scheduler.make", options.name, stores, options)

/**
 * Provides a scheduler tag, `Scheduler.Scheduler` or one of your own, over stores.
 *
 * **Example** (Providing the default scheduler)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<Stores.SchedulerStores> = Effect.die("your connection")
 *
 * Layer.isLayer(Stores.layerScheduler(Scheduler.Scheduler, connect, { concurrency: 10 })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerScheduler = <Self, R, Limiter = never>(
  tag: Context.Service<Self, Scheduler.Scheduler>,
  stores: Effect.Effect<SchedulerStores, never, R>,
  options: SchedulerOptions<Limiter>
): Layer.Layer<Self, never, Exclude<Limiter | R, Scope.Scope>> =>
  Layer.effect(tag, scheduler("Scheduler.layer", tag.key, stores, options))

/**
 * Provides the schedulers of a `Scheduler.Keyed` over stores: one concurrency and one rate for each key and all processes.
 *
 * **Details**
 *
 * `lookup` takes the place of that of the tag. A process drops a key within two seconds of its last use, once nothing is on
 * its way. One timer serves all keys.
 *
 * **Gotchas**
 *
 * A `lookup` or a `keyOf` that throws, or returns what is invalid, is a defect of the call and leaves nothing behind.
 *
 * **Example** (Keeping the limits of hosts)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Stores from "effect-funnel/stores"
 *
 * const connect: Effect.Effect<Stores.SchedulerStores> = Effect.die("your connection")
 * const lookup = (host: string) => ({ concurrency: host === "slow.example" ? 1 : 10 })
 *
 * class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", { lookup }) {}
 *
 * Layer.isLayer(Stores.layerKeyedScheduler(Hosts, connect, { lookup })) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyedScheduler = <Self, K, R, Limiter = never>(
  tag: Context.Service<Self, Scheduler.KeyedScheduler<K>>,
  stores: Effect.Effect<SchedulerStores, never, R>,
  options: KeyedOptions<K, Limiter>
): Layer.Layer<Self, never, Exclude<Limiter | R, Scope.Scope>> => {
  const caller = "Scheduler.layerKeyed"
  const share = sharing(caller, tag.key, stores, options)
  const { lookup } = options
  // Sound: the type asks for it unless keys are strings, which `nameOf` checks.
  const keyOf = (options.keyOf ?? identity) as (key: K) => unknown
  const nameOf = (key: K): string => {
    const name = keyOf(key)
    if (typeof name === "string") return name
    throw new TypeError(`${caller}: keyOf must return a string, got ${String(name)}`)
  }
  return Layer.effect(
    tag,
    Effect.flatMap(share, (share) =>
      KeyedSchedulers.make<K, Limiter>(
        tag.key,
        (key) => checkLimits(caller, tag.key, lookup(key)),
        identity,
        (key) => share(nameOf(key))
      ))
  )
}
