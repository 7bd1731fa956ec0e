/**
 * The interface of a limiter: take tokens now, or be called back when they are due.
 *
 * `handle` makes effects of it. `memory` keeps an `entry` a key: the times of `gcra`, a `startLog` if a quota is strict, the
 * `charge`s that may be taken back, and a `line` of waiters; a `restList` finds the keys at rest. `shared/limiter` asks a store.
 */
import * as Effect from "effect/Effect"
import type * as Timers from "../data/timers.js"
import type { Keys, LimiterWatch } from "../seen/seen.js"
import type { LimiterSpans, Log } from "../seen/tell.js"
import type { StoreError } from "../store/storeError.js"
import { type Rate, type Tokens, tokensOf } from "./gcra.js"

export type { StoreError } from "../store/storeError.js"

/** Has been granted tokens and has not begun yet. */
export interface Granted {
  /** For the limiter only: the place of a waiter, then its grant until it begins. Initially `undefined`. */
  link?: unknown
}

/** Tokens of a call whose true cost is known at its end. */
export interface Charge {
  readonly tokens: Tokens
}

/** Waits for tokens. The limiter calls exactly one of the three callbacks, once. None of them may throw. */
export interface Waiter<E = never> extends Granted {
  readonly key: string | undefined
  readonly tokens: Tokens
  /** Since when it could have started, on the limiter's axis: the limiter makes up for lateness from then on. */
  since: number
  /** How many equal waiters would follow this one: a limiter over a store asks for them in one command. */
  readonly behind?: (() => number) | undefined
  /** Called in the step that takes the tokens. Call `beginUnsafe` or `refundUnsafe` afterwards. */
  onDue(): void
  /** Called if the tokens exceed the burst, which `setQuotas` may have made smaller. */
  onTooLarge(burst: number): void
  /** Only a limiter over a store calls it. */
  onFailure(error: E): void
  /** Called instead by a limiter over a store that has closed; a scheduler ends its own jobs. */
  onClose?(): void
}

/**
 * Keyed rate state with its waiters in order of arrival and one timer for all. `waitUnsafe`, `cancelUnsafe` and `setQuotas`
 * may call back any waiter before they return.
 */
export interface Limiter<E = never> {
  /** The most tokens of one call. */
  readonly burst: number
  /** The most tokens of one call of each quota; `undefined` over a store, which takes the same of each. */
  readonly bursts?: ReadonlyArray<number> | undefined
  /** Nanoseconds on the monotonic axis of this limiter. */
  now(): number
  /** Takes tokens that conform if nobody waits for the key. The call starts in this step, or `later`, as a waiter does. */
  takeUnsafe(key: string | undefined, tokens: Tokens, since: number, later?: Granted, now?: number): boolean
  /** Whether a quota is judged by actual starts. */
  readonly strict: boolean
  /** Call it after the first step of a granted start: strict windows count from then on. */
  beginUnsafe(granted: Granted): void
  /** Gives back the tokens of a granted start that never begins. Does nothing once it has begun. */
  refundUnsafe(granted: Granted): void
  /**
   * Notes tokens in the step in which they were taken, for `settleUnsafe`. In memory only; `undefined` if nothing is counted.
   */
  chargeUnsafe?(key: string | undefined, tokens: Tokens, granted: Granted): Charge | undefined
  /** Charges what the call has cost instead; `undefined` leaves its tokens as they are. */
  settleUnsafe?(charge: Charge, actual: Tokens | undefined): void
  /** Queues behind the waiters of the key, or in the place of one of them, which is withdrawn. */
  waitUnsafe(waiter: Waiter<E>, options?: { readonly insteadOf?: Waiter<E> | undefined }): void
  /** Withdraws a waiter in O(1): the waiters behind it move up. Does nothing if it no longer waits. */
  cancelUnsafe(waiter: Waiter<E>): void
  /** Nanoseconds until so many tokens, also more than the burst, can have passed if nobody else waits. In memory only. */
  dueInUnsafe?(key: string | undefined, tokens: Tokens): number
  /** Grants the tokens that are due now, also if their timer is still to fire. In memory only. */
  settle?(): void
  /** Hears of the calls, where something observes them. */
  watch?: LimiterWatch | undefined
  /** Puts waits on the spans of callers, where a layer asks for it. */
  spans?: LimiterSpans | undefined
  log?: Log | undefined
  /** Nanoseconds until a penalty of a key ends, as far as this process knows. */
  penaltyUnsafe(key: string | undefined): number
  /** Lets nothing of a key pass for a time, and then one token. Returns whether that is longer than before. */
  penalize(key: string | undefined, nanos: number): Effect.Effect<boolean, E>
  /** Changes the quotas. Consumed tokens stay consumed. */
  setQuotas(rates: ReadonlyArray<Rate>): void
  /** When every key has its full burst again if nobody comes: then the limiter can be dropped. O(number of keys). */
  restAt(): number
  /** Ends the timers and calls no waiter back. */
  readonly close: Effect.Effect<void>
}

/** The quota of a key with the fewest tokens left. */
export interface Standing {
  readonly limit: number
  readonly remaining: number
  /** Nanoseconds until the key has its full burst. */
  readonly resetAfter: number
}

/** The quota that refuses a call. */
export interface Refusal extends Pick<Standing, "limit" | "remaining"> {
  /** Nanoseconds until the same call passes, behind the present waiters. */
  readonly retryAfter: number
}

/** A look at a key, with the answer to a call for one token; its `retryAfter` is 0 if it passes now. */
export type Peek = Standing & Refusal

/** A limiter behind a handle: it also answers calls that do not wait. */
export interface Backend extends Limiter<StoreError>, Keys {
  /** The start of the axis, which moves after weeks. */
  readonly epoch: bigint
  /** The number of keys. */
  readonly size: number
  /** Where its timers live; `undefined` if no call ever waits. */
  readonly place: Timers.Place | undefined
  /** Asks once more after `takeUnsafe` has refused. `answer` is given nothing when the tokens are taken. */
  attempt<A, E, R>(
    key: string | undefined,
    tokens: Tokens,
    now: number,
    granted: Granted | undefined,
    answer: (refusal?: Refusal | StoreError, standing?: Standing) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R>
  standingUnsafe(key: string | undefined, now: number): Standing
  /** Nanoseconds for which a call that comes now would wait at least, behind the present waiters. */
  leastWaitUnsafe(key: string | undefined, tokens: Tokens, now: number): number
  /** Tells when a call that comes now passes: exact in memory, or at least with many waiters; an estimate over a store. */
  refusalUnsafe(key: string | undefined, tokens: Tokens, now: number): Refusal
  /** Withdraws a waiter, or takes back what it has just been granted. Tells when the same call passes. */
  refuseUnsafe(waiter: Waiter<StoreError>): Refusal
  /** Looks at a key and takes nothing. */
  peek(key: string | undefined): Effect.Effect<Peek, StoreError>
  /** Forgets the tokens that a key has consumed. */
  reset(key: string | undefined): Effect.Effect<void, StoreError>
}

const limiters = /*#__PURE__*/ new WeakMap<object, Limiter<StoreError>>()

/** Lets a scheduler find the limiter of a handle. */
export const register = <A extends object>(handle: A, limiter: Limiter<StoreError>): A => {
  limiters.set(handle, limiter)
  return handle
}

/** The limiter of a handle; `undefined` for a handle of another maker, such as a mock. */
export const limiterOf = (handle: object): Limiter<StoreError> | undefined => limiters.get(handle)

const admitted: Refusal = { limit: Infinity, remaining: Infinity, retryAfter: 0 }

/** The tokens that exceed a burst; of a list, the first ones. */
export const excessOf = (
  tokens: Tokens,
  { burst, bursts = [] }: Pick<Limiter, "burst" | "bursts">
): { readonly asked: number; readonly most: number } | undefined => {
  if (typeof tokens === "number") return tokens > burst ? { asked: tokens, most: burst } : undefined
  const i = bursts.findIndex((burst, i) => tokensOf(tokens, i) > burst)
  return i === -1 ? undefined : { asked: tokensOf(tokens, i), most: bursts[i]! }
}

/** Admits everything at once. */
export const unlimited: Backend = {
  burst: Infinity,
  bursts: [],
  epoch: 0n,
  size: 0,
  place: undefined,
  now: () => 0,
  takeUnsafe: () => true,
  attempt: (_key, _tokens, _now, _granted, answer) => answer(),
  entries: new Map(),
  standingUnsafe: () => ({ limit: Infinity, remaining: Infinity, resetAfter: 0 }),
  leastWaitUnsafe: () => 0,
  refusalUnsafe: () => admitted,
  refuseUnsafe: () => admitted,
  peek: () => Effect.succeed({ ...admitted, resetAfter: 0 }),
  penaltyUnsafe: () => 0,
  penalize: () => Effect.succeed(false),
  reset: () => Effect.void,
  strict: false,
  beginUnsafe() {},
  refundUnsafe() {},
  chargeUnsafe: () => undefined,
  settleUnsafe() {},
  waitUnsafe: (waiter) => waiter.onDue(),
  cancelUnsafe() {},
  setQuotas() {},
  restAt: () => 0,
  close: Effect.void
}
