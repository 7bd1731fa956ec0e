/**
 * What a queue needs of a rate: take now, or be called when it is due.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../store/storeError.js"
import type { Rate } from "./gcra.js"

export type { StoreError } from "../store/storeError.js"

/**
 * One to whom tokens are granted, for as long as its start can still fail to come.
 */
export interface Granted {
  /** The limiter's own: the place of one who waits, then what was granted until it begins. `undefined` to begin with. */
  link?: unknown
}

/**
 * One who waits for tokens. Exactly one of the three callbacks is called, once and synchronously; none of them may throw.
 */
export interface Waiter<E = never> extends Granted {
  readonly key: string | undefined
  readonly tokens: number
  /** Since when it could have started, in nanoseconds on the limiter's axis: the base of what is made up after a late timer. */
  readonly since: number
  /** How many more of the same kind would come once this one is through: a limiter elsewhere asks for them in one go. */
  readonly behind?: (() => number) | undefined
  /** Called in the step in which the tokens were taken for it. Then it begins, which `beginUnsafe` tells, or is refunded. */
  onDue(): void
  /** Called when the tokens can never pass: they are more than the burst, which `setQuotas` may have made smaller. */
  onTooLarge(burst: number): void
  /** Only a limiter whose state is elsewhere calls this. */
  onFailure(error: E): void
}

/**
 * Keyed rate state with its waiters in order of arrival and one timer for all of them. `waitUnsafe`, `cancelUnsafe` and
 * `setQuotas` may call waiters back before they return, also others than the one they were given.
 */
export interface Limiter<E = never> {
  /** The most tokens that one call can ever take. */
  readonly burst: number
  /** Nanoseconds on a monotonic axis of the limiter's own. */
  now(): number
  /**
   * Takes if nobody waits ahead and the tokens conform; otherwise takes nothing and is false. The start is in this very
   * step, or `later`, as of one who waited.
   */
  takeUnsafe(key: string | undefined, tokens: number, since: number, later?: Granted): boolean
  /** Whether some quota is judged by actual starts. */
  readonly strict: boolean
  /**
   * Called when what was granted has begun. Between grant and begin lies what its fiber does first, and on a cold start the
   * compilation of that: a strict window counts from after it.
   */
  beginUnsafe(granted: Granted): void
  /** Gives back what was granted to one that never begins. Does nothing once it has begun. */
  refundUnsafe(granted: Granted): void
  /** Queues behind those who wait for the same key, or in the place of one of them, which is withdrawn. */
  waitUnsafe(waiter: Waiter<E>, options?: { readonly insteadOf?: Waiter<E> | undefined }): void
  /** Withdraws a waiter in O(1): nothing is spent and those behind it move up. Does nothing when it no longer waits. */
  cancelUnsafe(waiter: Waiter<E>): void
  /** Changes the quotas for those who wait and those to come. What has been consumed stays consumed. */
  setQuotas(rates: ReadonlyArray<Rate>): void
  /** When every key has its full burst again if nobody waits or comes: forgotten from then on, it costs nobody anything. */
  restAt(): number
  /** Interrupts the timer; waiters are left to their owners. */
  readonly close: Effect.Effect<void>
}

/** The most constrained quota of a key. */
export interface Standing {
  readonly limit: number
  readonly remaining: number
  /** Nanoseconds until the key has its full burst. */
  readonly resetAfter: number
}

/** What stands in the way of a call. */
export interface Refusal {
  readonly limit: number
  readonly remaining: number
  /** Nanoseconds until the same call passes. */
  readonly retryAfter: number
}

/** What a handle needs as well: answers for those who do not wait. */
export interface Backend extends Limiter<StoreError> {
  /** Where the axis begins. It moves after weeks. */
  readonly epoch: bigint
  /** How many keys are held. */
  readonly size: number
  /** `takeUnsafe` for one who has just read the time. */
  takeAtUnsafe(key: string | undefined, tokens: number, since: number, now: number, later?: Granted): boolean
  /** Asks once more for one whom `takeAtUnsafe` has refused: `answer` is given nothing when its tokens are taken. */
  attempt<A, E, R>(
    key: string | undefined,
    tokens: number,
    now: number,
    granted: Granted | undefined,
    answer: (refusal?: Refusal | StoreError, standing?: Standing) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R>
  standingUnsafe(key: string | undefined, now: number): Standing
  /** Lets nothing of a key pass for so many nanoseconds, and after them one token first. */
  penalize(key: string | undefined, nanos: number): Effect.Effect<void, StoreError>
  /** Forgets what a key has consumed. */
  reset(key: string | undefined): Effect.Effect<void, StoreError>
}

const limiters = /*#__PURE__*/ new WeakMap<object, Limiter<StoreError>>()

/**
 * Lets the holder of a `RateLimiter` handle queue on its limiter itself, as a scheduler does.
 */
export const register = <A extends object>(handle: A, limiter: Limiter<StoreError>): A => {
  limiters.set(handle, limiter)
  return handle
}

/**
 * The limiter behind a handle; `undefined` for a handle that somebody else made, such as a mock.
 */
export const limiterOf = (handle: object): Limiter<StoreError> | undefined => limiters.get(handle)

/**
 * Admits everything at once.
 */
export const unlimited: Backend = {
  burst: Infinity,
  epoch: 0n,
  size: 0,
  now: () => 0,
  takeUnsafe: () => true,
  takeAtUnsafe: () => true,
  attempt: (_key, _tokens, _now, _granted, answer) => answer(),
  standingUnsafe: () => ({ limit: Infinity, remaining: Infinity, resetAfter: 0 }),
  penalize: () => Effect.void,
  reset: () => Effect.void,
  strict: false,
  beginUnsafe() {},
  refundUnsafe() {},
  waitUnsafe: (waiter) => waiter.onDue(),
  cancelUnsafe() {},
  setQuotas() {},
  restAt: () => 0,
  close: Effect.void
}
