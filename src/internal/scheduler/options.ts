/**
 * The options of a scheduler, of a job and of many items: their types, and the checks that they pass before anything runs.
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import { isObjectKeyword } from "effect/Predicate"
import type * as Stream from "effect/Stream"
import { integer, oneOf, refuse } from "../data/refuse.js"
import type { Rate, Tokens } from "../limiter/gcra.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import * as Quota from "../limiter/quota.js"
import { checkSettle, type Settle } from "../limiter/settling.js"
import type { Share } from "./fairQueue.js"
import type { Progress } from "./many/progress.js"
import type { WidthPolicy } from "./width.js"

// ----------------------------------------------------------------------------------------------------- of a scheduler

/** One quota, or a list of quotas. */
export type Quotas = Parameters<typeof Quota.rates>[2]

/** The options of a scheduler that bound its queue and its end. `Scheduler.Options` has their meaning. */
export interface QueueOptions {
  readonly maxQueued?: number | undefined
  readonly maxWait?: Duration.Input | undefined
  readonly shed?: boolean | ShedOptions | undefined
  readonly drain?: Duration.Input | undefined
  readonly name?: string | undefined
}

/**
 * When a scheduler sheds load.
 *
 * **Details**
 *
 * - `target`: the wait for width that the scheduler aims at.
 * - `interval`: for how long all jobs must have waited longer; ten targets by default.
 *
 * **Example** (Aiming at a wait of 20 milliseconds)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const scheduler = yield* Scheduler.make({ concurrency: 10, shed: { target: "20 millis" } })
 *   return yield* scheduler.schedule(Effect.succeed("in time"))
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => "in time"
 * ```
 *
 * @category options
 * @since 0.1.0
 */
export interface ShedOptions {
  readonly target?: Duration.Input | undefined
  readonly interval?: Duration.Input | undefined
}

/**
 * How long no job may start.
 *
 * **Example** (Obeying a `Retry-After`)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const scheduler = yield* Scheduler.make({ concurrency: 1, maxWait: "1 second" })
 *   yield* scheduler.penalize({ for: "30 seconds" })
 *   return yield* Effect.flip(scheduler.schedule(Effect.succeed("sent")))
 * })
 *
 * const { reason } = await Effect.runPromise(Effect.scoped(program))
 * reason._tag // => "WaitExceeded"
 * ```
 *
 * @category options
 * @since 0.1.0
 */
export interface PenalizeOptions {
  readonly for: Duration.Input
}

/**
 * How long the jobs may go on.
 *
 * **Details**
 *
 * - `timeout`: after this the jobs are interrupted; by default they may take as long as they need.
 *
 * **Example** (Ending without losing a job)
 *
 * ```ts import.meta.vitest
 * import { Effect, Fiber } from "effect"
 * import { Scheduler } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const scheduler = yield* Scheduler.make({ concurrency: 1 })
 *   const job = yield* Effect.forkChild(scheduler.schedule(Effect.as(Effect.yieldNow, "sent")), {
 *     startImmediately: true
 *   })
 *   yield* scheduler.drain({ timeout: "10 seconds" })
 *   const late = yield* Effect.flip(scheduler.schedule(Effect.succeed("sent")))
 *   return [yield* Fiber.join(job), late.reason._tag]
 * })
 *
 * await Effect.runPromise(Effect.scoped(program)) // => ["sent", "Draining"]
 * ```
 *
 * @category options
 * @since 0.1.0
 */
export interface DrainOptions {
  readonly timeout?: Duration.Input | undefined
}

export const checkPenalty = (options: PenalizeOptions): number =>
  Quota.nanos("Scheduler.penalize", "for", options.for, 0)

export const checkDrain = (options: DrainOptions | undefined): number =>
  checkWait("Scheduler.drain", "timeout", options?.timeout)

/** The checked options that an engine keeps. Durations in nanoseconds. */
export interface Limits {
  /** The name in errors. */
  readonly name: string
  readonly concurrency: number
  readonly maxQueued: number
  readonly maxWait: number
  readonly shed: { readonly target: number; readonly interval: number } | undefined
  readonly drain: number
  /** How the concurrency follows the other side, if it does. */
  readonly adaptive: WidthPolicy | undefined
}

/** The checked options of a scheduler. */
export interface Checked<out I> extends Limits {
  readonly rate: ReadonlyArray<Rate> | Context.Key<I, object> | undefined
}

export const checkWidth = (caller: string, concurrency: number | "unbounded"): number =>
  concurrency === "unbounded" ? Infinity : integer(caller, "concurrency", concurrency, 1)

const isPolicy = (concurrency: number | "unbounded" | WidthPolicy): concurrency is WidthPolicy =>
  typeof concurrency === "object" && typeof concurrency?.make === "function"

export const checkRate = (quotas: Quotas): ReadonlyArray<Rate> => Quota.rates("Scheduler.setRate", "", quotas)

/** `caller` is the function that got the options, `id` that of the tag. */
export const check = <I>(
  caller: string,
  id: string,
  options: QueueOptions & {
    readonly concurrency: number | "unbounded" | WidthPolicy
    readonly rate?: Quotas | Context.Key<I, object> | undefined
  }
): Checked<I> => ({
  ...unbounded(options.name ?? id),
  ...(isPolicy(options.concurrency)
    ? { adaptive: options.concurrency, concurrency: options.concurrency.max }
    : { concurrency: checkWidth(caller, options.concurrency) }),
  maxQueued: options.maxQueued === undefined ? Infinity : integer(caller, "maxQueued", options.maxQueued, 0),
  maxWait: checkWait(caller, "maxWait", options.maxWait),
  shed: checkShed(caller, options),
  drain: options.drain === undefined ? 0 : Quota.nanos(caller, "drain", options.drain, 0),
  rate: options.rate === undefined || Context.isKey(options.rate)
    ? options.rate
    : Quota.rates(caller, "rate", options.rate)
})

export const unbounded = (name: string): Checked<never> => ({
  name,
  concurrency: Infinity,
  maxQueued: Infinity,
  maxWait: Infinity,
  shed: undefined,
  drain: 0,
  adaptive: undefined,
  rate: undefined
})

const checkWait = (caller: string, field: string, maxWait: Duration.Input | undefined): number =>
  maxWait === undefined ? Infinity : Quota.nanos(caller, field, maxWait, 0)

/** A wait of a twentieth of the longest one is no sign of an overload that would make jobs late. */
const targetOfWait = 1 / 20
const targetsOfInterval = 10

const checkShed = (caller: string, { maxWait, shed }: QueueOptions): Limits["shed"] => {
  if (shed === undefined || shed === false) return undefined
  const given = shed === true ? {} : shed
  if (!isObjectKeyword(given)) refuse(caller, "shed", "a boolean, or an object", given)
  const longest = checkWait(caller, "maxWait", maxWait)
  const fallback = longest === Infinity ? 5_000_000 : Math.max(1, longest * targetOfWait)
  const target = given.target === undefined ? fallback : Quota.nanos(caller, "shed.target", given.target, 1)
  const interval = given.interval === undefined
    ? longest === Infinity && given.target === undefined ? 100_000_000 : target * targetsOfInterval
    : Quota.nanos(caller, "shed.interval", given.interval, 1)
  return { target, interval }
}

// ----------------------------------------------------------------------------------------------------------- of a job

/**
 * The cost and the priority of a job.
 *
 * **Details**
 *
 * - `weight`: how much of the concurrency it holds while it runs, an integer from 1; 1 by default.
 * - `tokens`: how much of the rate its start consumes, an integer from 0; 1 by default. With 0 the rate does not delay it.
 *   With several quotas, also a list with an integer for each, unless the rate is in a store.
 * - `priority`: a finite number, 0 by default. A larger one starts first. There is no aging: a low priority starves for as
 *   long as higher ones keep coming.
 * - `maxWait`: how long the job may wait for its start; no bound by default. A job that would wait longer is refused with
 *   `WaitExceeded`, at once where that is certain. With 0 it starts now or not at all. If the scheduler has a `maxWait`, too,
 *   the smaller one holds.
 * - `share`: the key of a caller, such as a tenant, or `{ key, weight }`. Keys of one priority get turns in proportion to
 *   their weight, an integer from 1; 1 by default. Jobs without a share have one key together.
 *
 * @category options
 * @since 0.1.0
 */
export interface ScheduleOptions {
  readonly weight?: number | undefined
  readonly tokens?: number | ReadonlyArray<number> | undefined
  readonly priority?: number | undefined
  readonly maxWait?: Duration.Input | undefined
  readonly share?: ShareKey | { readonly key: ShareKey; readonly weight?: number | undefined } | undefined
}

/**
 * Options of `schedule`.
 *
 * **Details**
 *
 * - `settle`: tells what a success has cost of the rate, a number from 0, or a list of such numbers, one a quota; part of a
 *   token counts as one. Until then the job counts as `tokens`. If it cost less, the difference is given back; if it cost more,
 *   it is owed. A failure or an interruption costs `tokens`. Not with a rate in a store.
 *
 * @category options
 * @since 0.1.0
 */
export interface SettleOptions<in A> extends ScheduleOptions {
  readonly settle?: ((value: A) => number | ReadonlyArray<number>) | undefined
}

/**
 * The key of a share.
 *
 * @category options
 * @since 0.1.0
 */
export type ShareKey = string | number | bigint | boolean | symbol

/** Checked options of a job. */
export interface JobOptions {
  readonly weight: number
  /** What it takes of each quota; of a list, a bound from below that is not 0. */
  readonly tokens: number
  readonly priority: number
  /** Nanoseconds. */
  readonly maxWait: number
  readonly share: Share | undefined
  readonly settle: Settle | undefined
  /** The tokens of each quota, if they were given so. */
  readonly list: ReadonlyArray<number> | undefined
}

/** The options of a job for which none are given. */
export const oneJob: JobOptions = {
  weight: 1,
  tokens: 1,
  priority: 0,
  maxWait: Infinity,
  share: undefined,
  settle: undefined,
  list: undefined
}

export const jobOptions = (caller: string, options: SettleOptions<never> | undefined): JobOptions => {
  if (options === undefined) return oneJob
  const { maxWait, priority = 0, settle, share, tokens = 1, weight = 1 } = options
  if (settle !== undefined) checkSettle(caller, settle)
  integer(caller, "weight", weight, 1)
  const cost = Quota.tokens(caller, tokens, 0)
  if (!Number.isFinite(priority)) refuse(caller, "priority", "a finite number", priority)
  return {
    weight,
    tokens: typeof cost === "number" ? cost : Math.min(...cost) || Number.MIN_VALUE,
    priority,
    maxWait: checkWait(caller, "maxWait", maxWait),
    share: share === undefined ? undefined : checkShare(caller, share),
    settle,
    list: typeof cost === "number" ? undefined : cost
  }
}

const checkShare = (caller: string, share: NonNullable<ScheduleOptions["share"]>): Share =>
  typeof share === "object"
    ? { key: share.key, weight: integer(caller, "share.weight", share.weight ?? 1, 1) }
    : { key: share, weight: 1 }

// --------------------------------------------------------------------------------------------------------- of many items

/** The items of `forEach` and `stream`. */
export type Items = Iterable<unknown> | Stream.Stream<unknown, unknown, unknown>

/** Types of the items of an iterable or a stream. */
export declare namespace Items {
  /** The type of an item. */
  export type Item<S> = S extends Stream.Stream<infer A, any, any> ? A
    : S extends ReadonlyArray<infer A> ? A
    : S extends Iterable<infer A> ? A
    : never
  /** The error of pulling the items. */
  export type Error<S> = S extends Stream.Stream<any, infer E, any> ? E : never
  /** The services that pulling the items needs. */
  export type Services<S> = S extends Stream.Stream<any, any, infer R> ? R : never
  /** The array of results, one an item: not empty if the items are not. */
  export type Results<S, B> = S extends Arr.NonEmptyReadonlyArray<unknown> ? Arr.NonEmptyArray<B> : Array<B>
}

/** The cost of each item of a call: a number for all items, or a function. */
export interface ItemOptions<in A> extends Pick<ScheduleOptions, "maxWait" | "share"> {
  /** How many permits an item takes while it runs; 1 by default. */
  readonly weight?: number | ((item: A, index: number) => number) | undefined
  /** How many tokens of the rate an item takes; 1 by default, 0 for none. */
  readonly tokens?: Tokens | ((item: A, index: number) => Tokens) | undefined
  /** A larger number goes first; 0 by default. */
  readonly priority?: number | ((item: A, index: number) => number) | undefined
}

/** Options for the progress of a call. */
export interface ProgressOptions<out X> {
  /**
   * Gets the counts of this call at most every 100 ms, and once at its end, however it ends. An effect that it returns is
   * run. If it throws or fails, this is logged and the call goes on.
   */
  readonly onProgress?: ((progress: Progress) => X) | undefined
  /** The number of items, where it is not known: of a stream, or of an iterable without `length` or `size`. */
  readonly total?: number | undefined
}

/**
 * Options of `forEach`.
 *
 * @category options
 * @since 0.1.0
 */
export interface ForEachOptions<in A, out Discard extends boolean, out X> extends ItemOptions<A>, ProgressOptions<X> {
  /** Keeps no results: the call takes the memory of as many items as run at once. */
  readonly discard?: Discard | undefined
}

/**
 * Options of `stream` and `mapEffect`.
 *
 * @category options
 * @since 0.1.0
 */
export interface StreamOptions<in A, out X> extends ItemOptions<A>, ProgressOptions<X> {
  /**
   * `"completion"`, the default, emits results as they complete. `"input"` emits them in the order of the items: an early
   * result counts as pulled until those before it have come.
   */
  readonly order?: "completion" | "input" | undefined
}

/**
 * Options of `all`.
 *
 * @category options
 * @since 0.1.0
 */
export interface AllOptions extends ScheduleOptions {
  readonly discard?: boolean | undefined
  /** `"result"` runs every effect and collects a `Result` of each. */
  readonly mode?: "default" | "result" | undefined
  readonly onProgress?: ((progress: Progress) => unknown) | undefined
}

/** The job options of each item. Throws, before anything runs, where an option is invalid for all items. */
export const itemOptions = <A>(
  caller: string,
  options:
    & ItemOptions<A>
    & Pick<AllOptions, "mode">
    & Pick<StreamOptions<A, unknown>, "order">
    & { readonly total?: number | undefined } = {},
  limiter?: Limiter<StoreError> | undefined
): (item: A, index: number) => JobOptions => {
  const { maxWait, mode = "default", order = "completion", priority, share, tokens, total, weight } = options
  oneOf(caller, "order", order, ["completion", "input"])
  oneOf(caller, "mode", mode, ["default", "result"])
  if (total !== undefined) integer(caller, "total", total, 0)
  const of = (options: ScheduleOptions): JobOptions => {
    const checked = jobOptions(caller, options)
    Quota.checkList(caller, checked.list, limiter)
    return checked
  }
  const all = of({ maxWait, share, weight: fixed(weight), tokens: fixed(tokens), priority: fixed(priority) })
  if (![weight, tokens, priority].some((cost) => typeof cost === "function")) return () => all
  return (item, index) =>
    of({
      maxWait,
      share,
      weight: costOf(weight, item, index),
      tokens: costOf(tokens, item, index),
      priority: costOf(priority, item, index)
    })
}

type Cost<A, N> = N | ((item: A, index: number) => N) | undefined

const fixed = <A, N extends Tokens>(cost: Cost<A, N>): N | undefined => typeof cost === "function" ? undefined : cost

const costOf = <A, N extends Tokens>(cost: Cost<A, N>, item: A, index: number): N | undefined =>
  typeof cost === "function" ? cost(item, index) : cost
