import * as Data from "effect/Data"
import type * as Schema from "effect/Schema"

/**
 * Says that the store which coordinates the processes could not be asked, and that the policy is to fail then.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreError extends Data.TaggedError("StoreError")<{
  /** The verb of the store: `"join"`, `"complete"`. */
  readonly operation: string
  readonly cause: unknown
}> {
  override get message(): string {
    return `the store could not be asked to ${this.operation}`
  }
}

/**
 * Says that a result does not fit the schemas of its request: the leader could not encode it, or a follower could not
 * decode what the leader sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class CodecError extends Data.TaggedError("CodecError")<{
  readonly operation: "encode" | "decode"
  /** The `SchemaError`, or its text where it happened in another process. */
  readonly cause: Schema.SchemaError | string
}> {
  override get message(): string {
    return `the result could not be ${this.operation}d: ${String(this.cause)}`
  }
}

/**
 * Wraps what a shared call fails for beside the errors of its effect.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("ReducerError", "StoreError", …)` to answer one reason, or `Effect.catchTag` for both.
 *
 * **Details**
 *
 * - `StoreError`: only with `onStoreError: "fail"`. The store did not answer within the outage's budget.
 * - `CodecError`: the result and the schemas of the request do not fit. Trying again does not help.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReducerError extends Data.TaggedError("ReducerError")<{
  readonly reason: StoreError | CodecError
}> {
  override get message(): string {
    return this.reason.message
  }
}
