import { StacklessError } from "../data/stacklessError.js"

/**
 * A store command failed, or the store has given a permit to another process.
 *
 * **Details**
 *
 * It carries no stack. The stack of the command is in `cause`.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreError extends /*#__PURE__*/ StacklessError("StoreError")<{
  /** The command: `"take"`, `"acquire"`, `"renew"`, `"join"`, `"complete"` and so on. */
  readonly operation: string
  readonly cause: unknown
}> {
  override get message(): string {
    const { cause } = this
    const why = cause instanceof Error ? `: ${cause.message}` : typeof cause === "string" ? `: ${cause}` : ""
    return `store command \`${this.operation}\` failed${why}`
  }
}
