/**
 * The store of a concurrency that several processes share.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/** The answer to an `acquire`. */
export interface Acquired {
  /** How many groups are held now, from the first on. */
  readonly granted: number
  /** Milliseconds until the next lease ends: the latest time to poll. */
  readonly pollMillis: number
  /** Milliseconds for which no process starts a job; then nothing is granted, and the process is not in the queue. */
  readonly penaltyMillis: number
}

/**
 * Permits under leases, and a queue of the processes that wait for them. The holder chooses the id of a permit, so that a
 * repeated command takes it once.
 */
export interface PermitStore {
  readonly leaseMillis: number
  /** A name of this process that no other has: permit ids begin with it. */
  readonly node: string
  /** Ends the wake-ups. */
  readonly close: () => void
  /**
   * Takes the groups in order, each one whole, and joins the end of the queue for the others. An empty list leaves the
   * queue.
   */
  readonly acquire: (
    groups: ReadonlyArray<ReadonlyArray<string>>,
    limit: number
  ) => Effect.Effect<Acquired, StoreError>
  /** Extends the leases. Returns the permits that are lost. */
  readonly renew: (ids: ReadonlyArray<string>, limit: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Gives permits back and wakes processes that wait for them. */
  readonly release: (ids: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  /** Grants nothing for a time. The longest of several penalties holds. */
  readonly penalize: (millis: number) => Effect.Effect<void, StoreError>
}
