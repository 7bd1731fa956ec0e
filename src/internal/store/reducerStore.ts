/**
 * The store of flights that several processes share.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./storeError.js"

/** The answer to a `join`. */
export type Joined =
  | { readonly _tag: "Lead"; readonly fence: number }
  | { readonly _tag: "Follow"; readonly fence: number; readonly restMillis: number }
  | { readonly _tag: "Done"; readonly fence: number; readonly payload: string }

/** A wake-up. It may be lost, so followers poll as well. `Done` without a payload: join again to get the result. */
export type Signal =
  | { readonly _tag: "Done"; readonly fence: number; readonly payload: string | undefined }
  | { readonly _tag: "Retry" }

/** A party of a flight: its unique name, and its wake-ups until `close`. */
export interface Party {
  readonly owner: string
  readonly close: () => void
}

/**
 * Leases of keys with fences that only grow, and the results for the followers. Every command is idempotent, because a
 * command that timed out may have run.
 */
export interface ReducerStore {
  readonly leaseMillis: number
  /** Registers a party. Do so before its first `join`: commands and wake-ups use different connections. */
  readonly open: (onSignal: (signal: Signal) => void) => Party
  /** Leads, follows, or finds a result whose fence is at least `after`. */
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
  /** Leaves the flight. If the leader leaves, a follower leads at once. */
  readonly release: (key: string, party: Party) => Effect.Effect<void, StoreError>
}
