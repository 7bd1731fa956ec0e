/**
 * The store of a rate that several processes share.
 */
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { StoreError } from "./storeError.js"

/**
 * A quota in terms of GCRA.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cell {
  /** Microseconds between two tokens; it may be a fraction. */
  readonly intervalMicros: number
  /** The tokens that a key at rest grants at once. */
  readonly burst: number
}

/**
 * The answer to a `take`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Taken {
  /** Milliseconds from the answer until each granted request may start, in the order of the requests. */
  readonly waits: ReadonlyArray<number>
  /** Milliseconds until the first refused request would be granted; 0 if all were granted. */
  readonly retryMillis: number
  /** Tokens that could be taken at once after this `take`. */
  readonly remaining: number
  /** Milliseconds until the key is at rest. */
  readonly resetMillis: number
  /** The index of the quota with the fewest tokens left. */
  readonly tightest: number
  /** Names of the state before and after; equal if nothing changed. */
  readonly before: string
  readonly after: string
}

/** An answer of a store that counts debts, in microseconds: those of the cells, from the place `first` of the list on. */
export const takenOf = (
  cells: ReadonlyArray<Cell>,
  debts: ReadonlyArray<number | string>,
  first: number,
  waits: ReadonlyArray<number>,
  retryMillis: number,
  before: string,
  after: string
): Taken => {
  let remaining = Infinity
  let tightest = 0
  let reset = 0
  for (let i = 0; i < cells.length; i++) {
    const debt = Number(debts[first + i])
    const left = Math.max(0, Math.floor(cells[i]!.burst - debt / cells[i]!.intervalMicros + 1e-9))
    if (left < remaining) {
      remaining = left
      tightest = i
    }
    reset = Math.max(reset, debt)
  }
  return { waits, retryMillis, remaining, resetMillis: reset / 1000, tightest, before, after }
}

/**
 * The state of many keys under GCRA, by the store's clock.
 *
 * **Details**
 *
 * Every quota of a key has a debt, in microseconds, which drains with time. A request for n tokens waits for the longest of
 * `debt + (n - burst) · interval`; if it is granted, each debt becomes `max(debt, wait) + n · interval`.
 *
 * A store promises:
 *
 * - One command of a key runs at a time: no interleaving grants more than `burst + Δ · rate` in any interval Δ of due times.
 * - Times are those of the store's clock. A clock that steps back denies for no longer than the debt.
 * - A `take` is not idempotent. One whose answer was lost has spent its tokens: the rate is undershot, never exceeded.
 * - A key at rest may be forgotten, and no other.
 * - Keys are any text, also the empty one.
 *
 * @category models
 * @since 0.1.0
 */
export interface GcraStore {
  /**
   * Grants the requests in order while the wait of each is at most `maxWaitMillis`, none if that is negative. A
   * refusal consumes nothing.
   */
  readonly take: (
    key: string,
    tokens: ReadonlyArray<number>,
    maxWaitMillis: number
  ) => Effect.Effect<Taken, StoreError>
  /**
   * Gives back the last tokens if the key still is in the state `after`: later grants cannot move up. If it runs twice the
   * second one changes nothing.
   */
  readonly giveBack: (key: string, tokens: number, after: string) => Effect.Effect<void, StoreError>
  /** Grants nothing for a time: one token then waits for at least so long. The longest of several penalties holds. */
  readonly penalize: (key: string, millis: number) => Effect.Effect<void, StoreError>
  /** Puts the key at rest. */
  readonly reset: (key: string) => Effect.Effect<void, StoreError>
}

/** A store of ours, which answers a `take` without a fiber that waits for it. */
export interface DirectGcraStore extends GcraStore {
  /** The function that it returns gives the command up: it is answered no more. */
  readonly takeUnsafe?:
    | ((
      key: string,
      tokens: ReadonlyArray<number>,
      maxWaitMillis: number,
      answer: (exit: Exit.Exit<Taken, StoreError>) => void
    ) => () => void)
    | undefined
}
