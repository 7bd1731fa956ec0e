/**
 * Checks the quotas of a user and converts them to rates.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { refuse } from "../data/refuse.js"
import * as Gcra from "./gcra.js"
import type { Limiter, StoreError } from "./limiter.js"

interface Quota {
  readonly limit: number
  readonly window: Duration.Input
  readonly burst?: number | undefined
  readonly strict?: boolean | undefined
}

export const isList = <A>(value: A | ReadonlyArray<A>): value is ReadonlyArray<A> => Array.isArray(value)

/** `value`, if it is an integer >= 1. */
export const count = (caller: string, field: string, value: number): number =>
  Number.isInteger(value) && value >= 1 ? value : refuse(caller, field, "an integer >= 1", value)

/** Tokens of a call: a number for every quota, or a list with a number for each. */
export const tokens = (caller: string, tokens: Gcra.Tokens, least: 0 | 1): Gcra.Tokens => {
  if (isList(tokens)) {
    // A copy: the caller may change its list later. It has no holes, which no check sees.
    const list = Array.from(tokens)
    return list.every((n) => Number.isInteger(n) && n >= 0) && list.some((n) => n > 0)
      ? list
      : refuse(caller, "tokens", "a list of integers >= 0, not all of them 0", list)
  }
  return Number.isInteger(tokens) && tokens >= least
    ? tokens
    : refuse(caller, "tokens", `an integer >= ${least}`, tokens)
}

/** Refuses a list that has not a number for each quota. */
export const checkList = (
  caller: string,
  tokens: Gcra.Tokens | undefined,
  limiter: Limiter<StoreError> | undefined,
  field = "tokens"
): void => {
  if (tokens === undefined || typeof tokens === "number" || limiter === undefined) return
  const { bursts } = limiter
  if (bursts === undefined) refuse(caller, field, "a number where the rate is in a store", tokens)
  else if (bursts.length > 0 && tokens.length !== bursts.length) {
    refuse(caller, field, `a list of ${bursts.length}, a number for each quota`, tokens)
  }
}

/** Whether it is NaN, or one of its parts is: core takes these for zero. */
const hasNaN = (input: Duration.Input): boolean =>
  typeof input === "object" && input !== null ? Object.values(input).some(Number.isNaN) : Number.isNaN(input)

/** The nanoseconds of a duration, NaN without a number of them. */
const nanosOf = (input: Duration.Input): number => {
  const duration = hasNaN(input) ? undefined : Option.getOrUndefined(Duration.fromInput(input))
  return duration !== undefined && Duration.isFinite(duration) ? Number(Duration.toNanosUnsafe(duration)) : NaN
}

/** The string that was read last: the options of job after job hold the same. */
let known = { input: "", nanos: NaN }

/** The nanoseconds of a duration that is finite and at least `least` nanoseconds. */
export const nanos = (caller: string, field: string, input: Duration.Input, least: 0 | 1): number => {
  if (typeof input === "string" && input !== known.input) known = { input, nanos: nanosOf(input) }
  const nanos = typeof input === "string"
    ? known.nanos
    : Number.isInteger(input)
    ? Number(input) * 1_000_000
    : nanosOf(input)
  // A duration may be finite, and the number of its nanoseconds too large for a number.
  return nanos >= least
    ? Math.min(nanos, Number.MAX_VALUE)
    : refuse(caller, field, least === 0 ? "a finite duration >= 0" : "a finite duration > 0", readable(input))
}

/** A duration as it is shown in an error. */
export const readable = (input: Duration.Input): unknown =>
  Duration.isDuration(input)
    ? { toString: () => Duration.format(input) }
    : typeof input !== "object" || input === null || Array.isArray(input)
    ? input
    : { toString: () => Object.entries(input).map(([unit, n]) => `${n} ${unit}`).join(", ") }

const rate = (caller: string, prefix: string, quota: Quota): Gcra.Rate => {
  const limit = count(caller, `${prefix}limit`, quota.limit)
  const burst = count(caller, `${prefix}burst`, quota.burst ?? 1)
  const strict = quota.strict ?? false
  const window = nanos(caller, `${prefix}window`, quota.window, 1)
  if (strict && burst > limit) {
    refuse(caller, `${prefix}burst`, `<= limit (${limit}) when strict`, burst)
  }
  if (window < limit) {
    refuse(caller, `${prefix}window`, `at least a nanosecond for each of ${limit} tokens`, readable(quota.window))
  }
  const rate = Gcra.rate(limit, window, burst, strict)
  if (burst > 1 && burst * rate.interval > century) {
    refuse(caller, `${prefix}burst`, "what comes back within 100 years", burst)
  }
  return rate
}

/** The longest time to a theoretical arrival time, in nanoseconds: numbers beyond it lose too many of them. */
const century = 100 * 365.25 * 86_400 * 1e9

/** The rates of the quotas. `field` is the name of the option, "" if the quotas are the whole argument. */
export const rates = (
  caller: string,
  field: string,
  options: Quota | ReadonlyArray<Quota>
): ReadonlyArray<Gcra.Rate> => {
  if (!isList(options)) return [rate(caller, field === "" ? "" : `${field}.`, options)]
  const name = field === "" ? "quotas" : field
  if (options.length === 0) refuse(caller, name, "a quota or a list of at least one", options)
  return options.map((quota, i) => rate(caller, `${name}[${i}].`, quota))
}
