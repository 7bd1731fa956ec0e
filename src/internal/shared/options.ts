/**
 * The options of every service over a store, and their checks.
 */
import type * as Duration from "effect/Duration"
import { refuse } from "../data/refuse.js"
import * as Quota from "../limiter/quota.js"
import { longestLease } from "../store/bounds.js"

export interface GuardOptions {
  /** How long a command may take, at most `lease`. 1 second by default, or the `lease` if that is shorter. */
  readonly storeTimeout?: Duration.Input | undefined
  /**
   * How long the store is asked again before `onStoreError` applies, 1 second by default. The budget is spent once an outage,
   * not by each call. Zero applies `onStoreError` at once.
   */
  readonly outageBudget?: Duration.Input | undefined
}

export interface StoreOptions extends GuardOptions {
  /**
   * The beginning of all keys and channels, `"effect-funnel"` by default, not a `}` first. Processes meet if their prefix
   * is the same, and an ACL can keep prefixes apart.
   */
  readonly prefix?: string | undefined
}

export interface LeaseOptions extends StoreOptions {
  /**
   * How long a silent process keeps its keys or permits, 10 seconds by default and 1 hour at most. It is renewed three times
   * in its length.
   */
  readonly lease?: Duration.Input | undefined
}

export interface FlightOptions {
  /**
   * The most bytes of a result as JSON, 4 MiB by default. A larger one is a `CodecError` in all processes, also if no other
   * process waits for it.
   */
  readonly maxResultBytes?: number | undefined
  /**
   * The answer to a call while the store is away. `"local"`, the default, runs its effect in this process; it logs a warning
   * once an outage and counts in the metric `effect_funnel.store.policy`. `"fail"` fails with a `StoreError`.
   */
  readonly onStoreError?: "local" | "fail" | undefined
}

export interface ReducerOptions extends LeaseOptions, FlightOptions {
  /** How long a result that others wait for can be fetched, 10 seconds by default. */
  readonly retain?: Duration.Input | undefined
}

export interface ProcessOptions {
  /** How many processes share the limits, 1 by default. Only the policy `"local"` uses it. */
  readonly expectedProcesses?: number | undefined
}

export interface RateOptions extends ProcessOptions {
  /**
   * The answer to a call while the store is away. `"fail"`, the default, fails with a `StoreError`. `"local"` admits at the
   * pace divided by `expectedProcesses`, counted in this process. `"allow"` admits. The last two log a warning once an outage
   * and count in the metric `effect_funnel.store.policy`.
   */
  readonly onStoreError?: "fail" | "local" | "allow" | undefined
}

export interface PermitOptions extends ProcessOptions {
  /**
   * The answer to waiting jobs while the store is away. `"fail"`, the default, fails them with a `StoreError`. `"local"` goes
   * on with concurrency and rate divided by `expectedProcesses`; it logs a warning once an outage and counts in the metric
   * `effect_funnel.store.policy`.
   */
  readonly onStoreError?: "fail" | "local" | undefined
}

/** The version of the data in a store. Processes of different versions do not meet. */
const version = 1

export const millis = (caller: string, field: string, input: Duration.Input, least: 0 | 1): number =>
  Quota.nanos(caller, field, input, least) / 1e6

/** The names of what processes share, without the sign of what kind it is. */
export const prefix = (caller: string, options: StoreOptions | undefined): string => {
  const { prefix = "effect-funnel" } = options ?? {}
  // It stands in braces. A cluster keeps keys together that have the same text there, but none for `{}`.
  if (typeof prefix !== "string" || prefix.startsWith("}")) {
    refuse(caller, "prefix", "a text that does not begin with }", prefix)
  }
  return `${prefix}:${version}:`
}

/** An answer that is slower than the lease comes when that is over, and the process would ask again and again. */
const timeoutOf = (caller: string, { lease, storeTimeout }: LeaseOptions): number =>
  storeTimeout !== undefined
    ? millis(caller, "storeTimeout", storeTimeout, 1)
    : lease === undefined
    ? 1000
    : Math.min(1000, millis(caller, "lease", lease, 1))

export const guard = (caller: string, options: LeaseOptions | undefined) => ({
  storeTimeoutMillis: timeoutOf(caller, options ?? {}),
  outageBudgetMillis: millis(caller, "outageBudget", options?.outageBudget ?? "1 second", 0)
})

/** The length of a lease in milliseconds. */
export const lease = (caller: string, options: LeaseOptions | undefined): number => {
  const length = options?.lease ?? "10 seconds"
  const checked = millis(caller, "lease", length, 1)
  if (checked * 1000 > longestLease) refuse(caller, "lease", "at most 1 hour", length)
  checkTimeout(caller, "lease", checked, options, length)
  return checked
}

/** Refuses a lease that is shorter than a `storeTimeout` that is given. */
export const checkTimeout = (
  caller: string,
  field: string,
  leaseMillis: number,
  options: LeaseOptions | undefined,
  got: unknown = leaseMillis
): void => {
  const { storeTimeoutMillis } = guard(caller, options)
  if (options?.storeTimeout !== undefined && leaseMillis < storeTimeoutMillis) {
    refuse(caller, field, `at least storeTimeout (${storeTimeoutMillis} ms)`, got)
  }
}

export const processes = (caller: string, options: ProcessOptions): number =>
  Quota.count(caller, "expectedProcesses", options.expectedProcesses ?? 1)
