import { StacklessError } from "../data/stacklessError.js"

/**
 * A store command that failed, or a permit that the store has given to another process.
 *
 * **Details**
 *
 * It carries no stack of its own; that of the command is in `cause`.
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
