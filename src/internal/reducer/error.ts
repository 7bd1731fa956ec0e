import * as Data from "effect/Data"
import type * as Schema from "effect/Schema"
import { StacklessError } from "../data/stacklessError.js"
import type { StoreError } from "../store/storeError.js"
import { formatSteps } from "../waits/cycle.js"

/**
 * A result that its leader could not encode, or a follower could not decode, with the schemas of the request; or one that is
 * larger than the store may carry.
 *
 * @category errors
 * @since 0.1.0
 */
export class CodecError extends /*#__PURE__*/ StacklessError("CodecError")<{
  readonly operation: "encode" | "decode"
  /** The `SchemaError`, or a text where it happened in another process or the result is too large. */
  readonly cause: Schema.SchemaError | string
}> {
  override get message(): string {
    return `the result cannot be ${this.operation}d: ${String(this.cause)}`
  }
}

/**
 * The error of a shared call, beside those of its effect.
 *
 * **Details**
 *
 * - `StoreError`: only with `onStoreError: "fail"`. The store did not answer within the outage's budget.
 * - `CodecError`: the result and the schemas of the request do not fit, or it is too large. Trying again does not help.
 *
 * `Effect.catchReason("ReducerError", "StoreError", …)` answers one reason. The error carries no stack; that of a store
 * command or of a codec is in the `cause` of its reason.
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

/**
 * The defect of a call that would wait for itself, with the path from its run back to that run.
 *
 * **Details**
 *
 * `path` begins and ends with the run, or the batch, that made the call; each step waits for the next one. A run has its
 * `key` and the `name` of its function, a job the `name` of its scheduler, a batch that of its resolver. It is a defect, not
 * a typed error, since no caller can recover from it: `Effect.exit` and `Effect.catchDefect` show it.
 *
 * **Example** (Reducing a key inside of itself)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Reducer } from "effect-funnel"
 *
 * const inner = Reducer.reduce("a", Effect.succeed(1))
 * const program = Reducer.reduce("a", Effect.andThen(Effect.yieldNow, inner)).pipe(
 *   Effect.catchDefect((defect) => Effect.succeed(String(defect)))
 * )
 *
 * const message = await Effect.runPromise(Effect.provide(program, Reducer.layer()))
 * message // => 'ReducerCycle: the run would wait for itself: "a" -> "a"'
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class ReducerCycle extends /*#__PURE__*/ Data.TaggedError("ReducerCycle")<{
  readonly path: ReadonlyArray<{
    readonly kind: "run" | "job" | "batch"
    readonly name: string | undefined
    readonly key: unknown
  }>
}> {
  override get message(): string {
    return `the run would wait for itself: ${formatSteps(this.path)}`
  }
}
