/**
 * What a concurrency across processes needs of a store.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/** What an `acquire` was given. */
export interface Acquired {
  /** How many of the groups are held now: always the first ones. */
  readonly granted: number
  /** Milliseconds until a lease may end that stands in the way; poll then at the latest. */
  readonly pollMillis: number
}

/**
 * Permits under leases, and the processes that wait for them in order of arrival. A permit is known by an id that its
 * holder chose, so that asking twice takes once.
 */
export interface PermitStore {
  readonly leaseMillis: number
  /**
   * Takes the permits of each group, all or none, in order, and queues for the rest behind the processes that wait
   * already. An empty list leaves the queue.
   */
  readonly acquire: (
    groups: ReadonlyArray<ReadonlyArray<string>>,
    limit: number
  ) => Effect.Effect<Acquired, StoreError>
  /** Extends the leases; the answer is what was lost. */
  readonly renew: (ids: ReadonlyArray<string>, limit: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Gives permits back and wakes who waits for them. */
  readonly release: (ids: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
}
