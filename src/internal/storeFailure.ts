/**
 * What a coordination store fails with: which of its verbs, and why.
 */
import * as Data from "effect/Data"

/** The failure of one verb of a store. The services turn it into the `StoreError` of their own errors. */
export class StoreFailure extends Data.TaggedError("StoreFailure")<{
  readonly operation: string
  readonly cause: unknown
}> {}
