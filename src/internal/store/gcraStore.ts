/**
 * The store of a rate that several processes share.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/** A quota in terms of GCRA. */
export interface Cell {
  readonly intervalMicros: number
  readonly burst: number
}

/** The answer to a `take`. */
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

/** The state of many keys under GCRA, by the store's clock. */
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
  /** Gives back the last tokens if the key still is in the state `after`: later grants cannot move up. */
  readonly giveBack: (key: string, tokens: number, after: string) => Effect.Effect<void, StoreError>
  /** Grants nothing for a time. */
  readonly penalize: (key: string, millis: number) => Effect.Effect<void, StoreError>
  /** Puts the key at rest. */
  readonly reset: (key: string) => Effect.Effect<void, StoreError>
}
