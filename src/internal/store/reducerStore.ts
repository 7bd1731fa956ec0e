/**
 * The store of flights that several processes share.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/**
 * The answer to a `join`: this party leads, waits for the one that does, or has the result.
 *
 * @category models
 * @since 0.1.0
 */
export type Joined =
  | { readonly _tag: "Lead"; readonly fence: number }
  /** `restMillis` is what is left of the leader's lease. */
  | { readonly _tag: "Follow"; readonly fence: number; readonly restMillis: number }
  | { readonly _tag: "Done"; readonly fence: number; readonly payload: string }

/** An answer by its tag. `rest` is in microseconds. */
export const joinedOf = (tag: "L" | "F" | "D", fence: number, rest: number | string, payload: string): Joined => {
  switch (tag) {
    case "L":
      return { _tag: "Lead", fence }
    case "F":
      return { _tag: "Follow", fence, restMillis: Number(rest) / 1000 }
    case "D":
      return { _tag: "Done", fence, payload }
  }
}

/**
 * A wake-up. It may be lost, so followers poll as well. `Done` without a payload: join again to get the result.
 *
 * @category models
 * @since 0.1.0
 */
export type Signal =
  | { readonly _tag: "Done"; readonly fence: number; readonly payload: string | undefined }
  | { readonly _tag: "Retry" }

/**
 * A party of a flight: its unique name, and its wake-ups until `close`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Party {
  readonly owner: string
  readonly close: () => void
}

/**
 * Leases of keys with fences that only grow, and the results for the followers.
 *
 * **Details**
 *
 * A store promises:
 *
 * - One party at most leads a key while its lease lasts, by the store's clock. When the lease ends the next to join leads.
 * - A fence is a safe integer, larger than every one that was given for the key before.
 * - Every command is idempotent, because a command that timed out may have run: it is sent again, as it was.
 * - A result that somebody waits for is kept for a while, for wake-ups may be lost, or a later one in its place. Wake-ups may
 *   also come twice, or for nothing. Without a waiter no result is kept, and a party that joins without `after` never gets a
 *   kept one.
 * - A result comes from the party that leads, never from one that has lost the lease.
 * - A store that has lost its state takes the lease that is renewed, and the result that is completed.
 * - Keys and payloads are any text, also the empty one.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReducerStore {
  /** How long a leader leads unless it renews: above 0, an hour at most. */
  readonly leaseMillis: number
  /** Registers a party. Do so before its first `join`: commands and wake-ups use different connections. */
  readonly open: (onSignal: (signal: Signal) => void) => Party
  /**
   * Leads, follows, or finds a result whose fence is at least `after`. The leader that joins again leads on: with the same
   * fence, or with a larger one if it has run with this one already, which `after` tells.
   */
  readonly join: (key: string, party: Party, after: number | undefined) => Effect.Effect<Joined, StoreError>
  /** Extends the lease; false if another party leads. */
  readonly renew: (key: string, party: Party, fence: number) => Effect.Effect<boolean, StoreError>
  /** Publishes the result; false if another party leads, and then no follower gets it. */
  readonly complete: (
    key: string,
    party: Party,
    fence: number,
    payload: string
  ) => Effect.Effect<boolean, StoreError>
  /** Leaves the flight. If the leader leaves, a follower is woken to lead at once. */
  readonly release: (key: string, party: Party) => Effect.Effect<void, StoreError>
}
