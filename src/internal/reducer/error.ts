import type * as Schema from "effect/Schema"
import { StacklessError } from "../data/stacklessError.js"
import type { StoreError } from "../store/storeError.js"

/**
 * A result that does not fit the schemas of its request: the leader could not encode it, or a follower could not decode
 * it.
 *
 * @category errors
 * @since 0.1.0
 */
export class CodecError extends /*#__PURE__*/ StacklessError("CodecError")<{
  readonly operation: "encode" | "decode"
  /** The `SchemaError`, or its text where it happened in another process. */
  readonly cause: Schema.SchemaError | string
}> {
  override get message(): string {
    return `the result cannot be ${this.operation}d: ${String(this.cause)}`
  }
}

/**
 * The error of a shared call, beside those of its effect.
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
 * It carries no stack; that of a store command or of a codec is in the `cause` of its reason.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReducerError extends /*#__PURE__*/ StacklessError("ReducerError")<{
  readonly reason: StoreError | CodecError
}> {
  override get message(): string {
    return this.reason.message
  }
}
