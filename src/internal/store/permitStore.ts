/**
 * The store of a concurrency that several processes share.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/**
 * A permit for a weight. Its holder chooses the id, so that a repeated command takes it once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  readonly id: string
  readonly weight: number
}

/**
 * The answer to an `acquire`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Acquired {
  /** How many permits are held now, from the first on. */
  readonly granted: number
  /** Milliseconds until the next lease ends: the latest time to poll. */
  readonly pollMillis: number
  /** Milliseconds for which no process starts a job; then nothing is granted, and the process is not in the queue. */
  readonly penaltyMillis: number
}

/** What a store of ours is made for: one scheduler, or one key of a keyed one. It calls `onWake` when a permit may be free. */
export interface PermitStoreOptions {
  readonly prefix: string
  readonly name: string
  readonly key?: string | undefined
  readonly leaseMillis: number
  readonly onWake: () => void
}

/**
 * Permits under leases, and a queue of the processes that wait for them: the store as one process sees it.
 *
 * **Details**
 *
 * A store promises:
 *
 * - The weight of the permits that are held never exceeds the `limit` of an `acquire` or `renew` by what that command takes.
 * - Leases end by the store's clock, each after its own length. A permit that was not renewed for that long is free.
 * - Processes wait in order of arrival, and nobody overtakes: a process is granted only what is left once those ahead have
 *   what they need next. A process that is served in part goes to the end. A place in the queue is a lease too.
 * - Every command is idempotent: one whose answer was lost is sent again, as it was.
 * - After a `release`, or a lease or a place that ends, some process that can go on is woken, or finds out when it polls.
 *   Wake-ups may be lost, may come twice, and may come for nothing.
 * - A store that has lost its state takes the permits that are renewed, while there is room.
 *
 * @category models
 * @since 0.1.0
 */
export interface PermitStore {
  /** How long a permit lasts unless it is renewed: above 0, an hour at most. */
  readonly leaseMillis: number
  /** A name of this process that no other has: permit ids begin with it. */
  readonly node: string
  /** Ends the wake-ups. */
  readonly close: () => void
  /**
   * Takes permits in order, each one whole, and joins the end of the queue for the others, or keeps its place there if it
   * got none. An empty list leaves the queue.
   */
  readonly acquire: (permits: ReadonlyArray<Held>, limit: number) => Effect.Effect<Acquired, StoreError>
  /** Extends the leases of what is held, at the smaller of the two weights. Returns the ids of permits that are lost. */
  readonly renew: (permits: ReadonlyArray<Held>, limit: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Gives back all but the weights that remain, 0 for a whole permit, and wakes processes that wait for them. */
  readonly release: (remaining: ReadonlyArray<Held>) => Effect.Effect<void, StoreError>
  /** Grants nothing for a time, to no process, and wakes those that wait. The longest of several penalties holds. */
  readonly penalize: (millis: number) => Effect.Effect<void, StoreError>
}
