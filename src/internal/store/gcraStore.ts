/**
 * What a rate across processes needs of a store.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/** One quota in the terms of GCRA: microseconds a token, and how many tokens may be taken at once. */
export interface Cell {
  readonly intervalMicros: number
  readonly burst: number
}

/** What a `take` was given. */
export interface Taken {
  /** Milliseconds from the store's answer until each granted request may start, in the order asked. */
  readonly waits: ReadonlyArray<number>
  /** Milliseconds until the first that was not granted would be granted; 0 when all were. */
  readonly retryMillis: number
  /** Tokens that could be taken at once after this call. */
  readonly remaining: number
  /** Milliseconds until the key is at rest. */
  readonly resetMillis: number
  /** Which quota leaves the least. */
  readonly tightest: number
  /** Names the state of the key that this call found and the one that it left, equal when it changed nothing. */
  readonly before: string
  readonly after: string
}

/** The state of many keys under GCRA, by a clock of the store's own. */
export interface GcraStore {
  /**
   * Takes for the first of `tokens` and those behind it, in order, while the wait of each is at most `maxWaitMillis`.
   * What is not granted has cost nothing.
   */
  readonly take: (
    key: string,
    tokens: ReadonlyArray<number>,
    maxWaitMillis: number
  ) => Effect.Effect<Taken, StoreError>
  /**
   * Gives back the last tokens that were taken, if the key still is in the state named `after`. Otherwise nothing
   * happens: what others were granted behind them cannot move up.
   */
  readonly giveBack: (key: string, tokens: number, after: string) => Effect.Effect<void, StoreError>
  /** Grants nothing for that long. */
  readonly penalize: (key: string, millis: number) => Effect.Effect<void, StoreError>
  /** Puts the key at rest. */
  readonly reset: (key: string) => Effect.Effect<void, StoreError>
}
