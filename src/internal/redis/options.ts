/**
 * Options that every service over Redis has, checked.
 */
import { refuse } from "../data/refuse.js"
import * as Quota from "../limiter/quota.js"
import type * as Duration from "effect/Duration"

/** What every service over Redis can be told about its store. */
export interface StoreOptions {
  readonly prefix?: string | undefined
  readonly storeTimeout?: Duration.Input | undefined
  readonly outageBudget?: Duration.Input | undefined
}

/** The version of what lies in Redis: processes that read it differently do not meet. */
const version = 1

export const millis = (caller: string, field: string, input: Duration.Input, least: 0 | 1): number =>
  Quota.nanos(caller, field, input, least) / 1e6

export const oneOf = <A extends string>(caller: string, field: string, value: A, values: ReadonlyArray<A>): A =>
  values.includes(value)
    ? value
    : refuse(caller, field, values.map((_) => JSON.stringify(_)).join(" or "), value)

export const store = (caller: string, kind: string, options: StoreOptions | undefined) => ({
  prefix: `${options?.prefix ?? "effect-funnel"}:${version}:${kind}:`,
  storeTimeoutMillis: millis(caller, "storeTimeout", options?.storeTimeout ?? "1 second", 1),
  outageBudgetMillis: millis(caller, "outageBudget", options?.outageBudget ?? "1 second", 0)
})
