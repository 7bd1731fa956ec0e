/**
 * The options of a scheduler, of a job and of many items: their types, and the checks that they pass before anything runs.
 */
import type * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Stream from "effect/Stream"
import { refuse } from "../data/refuse.js"
import type { Rate } from "../limiter/gcra.js"
import * as Quota from "../limiter/quota.js"
import type { Progress } from "./many/progress.js"

const checkCount = (caller: string, field: string, value: number, least: number): number => {
  if (!Number.isSafeInteger(value) || value < least) refuse(caller, field, `an integer >= ${least}`, value)
  return value
}

// ----------------------------------------------------------------------------------------------------- of a scheduler

interface QuotaInput {
  readonly limit: number
  readonly window: Duration.Input
  readonly burst?: number | undefined
  readonly strict?: boolean | undefined
}

export type Quotas = QuotaInput | ReadonlyArray<QuotaInput>

/** The checked options that an engine keeps. */
export interface Limits {
  /** The name in errors. */
  readonly name: string
  readonly concurrency: number
  readonly maxQueued: number
}

/** The checked options of a scheduler. */
export interface Checked<out I> extends Limits {
  readonly rate: ReadonlyArray<Rate> | Context.Key<I, object> | undefined
}

export const checkWidth = (caller: string, concurrency: number | "unbounded"): number =>
  concurrency === "unbounded" ? Infinity : checkCount(caller, "concurrency", concurrency, 1)

export const checkRate = (quotas: Quotas): ReadonlyArray<Rate> => Quota.rates("Scheduler.setRate", "", quotas)

/** `caller` is the function that got the options, `id` that of the tag. */
export const check = <I>(caller: string, id: string, options: {
  readonly name?: string | undefined
  readonly concurrency: number | "unbounded"
  readonly rate?: Quotas | Context.Key<I, object> | undefined
  readonly maxQueued?: number | undefined
}): Checked<I> => ({
  name: options.name ?? id,
  concurrency: checkWidth(caller, options.concurrency),
  maxQueued: options.maxQueued === undefined ? Infinity : checkCount(caller, "maxQueued", options.maxQueued, 0),
  rate: options.rate === undefined || isTag(options.rate) ? options.rate : Quota.rates(caller, "rate", options.rate)
})

export const unbounded = (name: string): Checked<never> => ({
  name,
  concurrency: Infinity,
  maxQueued: Infinity,
  rate: undefined
})

export const isTag = <I>(rate: Quotas | ReadonlyArray<Rate> | Context.Key<I, object>): rate is Context.Key<I, object> =>
  Context.isKey(rate)

// ----------------------------------------------------------------------------------------------------------- of a job

/**
 * The cost and the priority of a job.
 *
 * **Details**
 *
 * - `weight`: how much of the concurrency it holds while it runs, an integer from 1; 1 by default.
 * - `tokens`: how much of the rate its start consumes, an integer from 0; 1 by default. With 0 the rate does not delay it.
 * - `priority`: a finite number, 0 by default. A larger one starts first. There is no aging: a low priority starves for as
 *   long as higher ones keep coming.
 *
 * @category options
 * @since 0.1.0
 */
export interface ScheduleOptions {
  readonly weight?: number | undefined
  readonly tokens?: number | undefined
  readonly priority?: number | undefined
}

export type JobOptions = { readonly [K in keyof ScheduleOptions]-?: number }

const defaults: JobOptions = { weight: 1, tokens: 1, priority: 0 }

export const jobOptions = (caller: string, options: ScheduleOptions | undefined): JobOptions => {
  if (options === undefined) return defaults
  const { priority = 0, tokens = 1, weight = 1 } = options
  checkCount(caller, "weight", weight, 1)
  checkCount(caller, "tokens", tokens, 0)
  if (!Number.isFinite(priority)) refuse(caller, "priority", "a finite number", priority)
  return { weight, tokens, priority }
}

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
export interface ItemOptions<in A> {
  /** How many permits an item takes while it runs; 1 by default. */
  readonly weight?: number | ((item: A, index: number) => number) | undefined
  /** How many tokens of the rate an item takes; 1 by default, 0 for none. */
  readonly tokens?: number | ((item: A, index: number) => number) | undefined
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
  options: ItemOptions<A> & { readonly total?: number | undefined } = {}
): (item: A, index: number) => JobOptions => {
  const { priority, tokens, total, weight } = options
  if (total !== undefined) checkCount(caller, "total", total, 0)
  const given = { weight: fixed(weight), tokens: fixed(tokens), priority: fixed(priority) }
  const all = jobOptions(caller, given)
  if (given.weight === weight && given.tokens === tokens && given.priority === priority) return () => all
  return (item, index) =>
    jobOptions(caller, {
      weight: costOf(weight, item, index),
      tokens: costOf(tokens, item, index),
      priority: costOf(priority, item, index)
    })
}

type Cost<A> = number | ((item: A, index: number) => number) | undefined

const fixed = <A>(cost: Cost<A>): number | undefined => typeof cost === "function" ? undefined : cost

const costOf = <A>(cost: Cost<A>, item: A, index: number): number | undefined =>
  typeof cost === "function" ? cost(item, index) : cost
