/**
 * The store of a concurrency that several processes share.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/** A permit for a weight. Its holder chooses the id, so that a repeated command takes it once. */
export interface Held {
  readonly id: string
  readonly weight: number
}

/** The answer to an `acquire`. */
export interface Acquired {
  /** How many permits are held now, from the first on. */
  readonly granted: number
  /** Milliseconds until the next lease ends: the latest time to poll. */
  readonly pollMillis: number
  /** Milliseconds for which no process starts a job; then nothing is granted, and the process is not in the queue. */
  readonly penaltyMillis: number
}

/** Permits under leases, and a queue of the processes that wait for them. */
export interface PermitStore {
  readonly leaseMillis: number
  /** A name of this process that no other has: permit ids begin with it. */
  readonly node: string
  /** Ends the wake-ups. */
  readonly close: () => void
  /**
   * Takes permits in order, each one whole, and joins the end of the queue for the others. An empty list leaves the queue.
   */
  readonly acquire: (permits: ReadonlyArray<Held>, limit: number) => Effect.Effect<Acquired, StoreError>
  /** Extends the leases of what is held. Returns the ids of permits that are lost. */
  readonly renew: (permits: ReadonlyArray<Held>, limit: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Gives back all but the weights that remain, and wakes processes that wait for them. */
  readonly release: (remaining: ReadonlyArray<Held>) => Effect.Effect<void, StoreError>
  /** Grants nothing for a time. The longest of several penalties holds. */
  readonly penalize: (millis: number) => Effect.Effect<void, StoreError>
}
