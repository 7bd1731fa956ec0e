/**
 * What a single flight across processes needs of a store.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "./failure.js"

/** What a process is told that joins the flight of a key. */
export type Joined =
  | { readonly _tag: "Lead"; readonly fence: number }
  | { readonly _tag: "Follow"; readonly fence: number; readonly restMillis: number }
  | { readonly _tag: "Done"; readonly fence: number; readonly payload: string }

/**
 * A wake-up. It may be lost: who waits for one polls beside it. `Done` without a payload means that the result is to be
 * fetched by joining again.
 */
export type Signal =
  | { readonly _tag: "Done"; readonly fence: number; readonly payload: string | undefined }
  | { readonly _tag: "Retry" }

/** One party of a flight: a name that no other party ever had, and a place for its wake-ups. */
export interface Party {
  readonly owner: string
  readonly close: () => void
}

/**
 * Leases of keys with fences that only grow, and the results for those who wait. Every verb is idempotent, for a
 * command that timed out may have been run.
 */
export interface ReducerStore {
  readonly leaseMillis: number
  /** Registers a party before its first `join`: command and wake-up travel on two connections. */
  readonly open: (onSignal: (signal: Signal) => void) => Party
  /** Leads, follows, or finds a result that is at least as new as `after`. */
  readonly join: (key: string, party: Party, after: number | undefined) => Effect.Effect<Joined, StoreError>
  /** Extends the lease; false when another has the key. */
  readonly renew: (key: string, party: Party, fence: number) => Effect.Effect<boolean, StoreError>
  /** Publishes the result; false when another has the key, and then nobody has seen it. */
  readonly complete: (
    key: string,
    party: Party,
    fence: number,
    payload: string
  ) => Effect.Effect<boolean, StoreError>
  /** Gives the key up, or leaves its waiters: one of them leads at once. */
  readonly release: (key: string, party: Party) => Effect.Effect<void, StoreError>
}
