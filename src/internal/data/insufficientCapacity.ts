import { StacklessError } from "./stacklessError.js"

/**
 * A request for more than a service can ever give: waiting or retrying does not help.
 *
 * **Details**
 *
 * Like every refusal it carries no stack.
 *
 * @category errors
 * @since 0.1.0
 */
export class InsufficientCapacity extends /*#__PURE__*/ StacklessError("InsufficientCapacity")<{
  /** `"weight"`, compared with the concurrency, or `"tokens"`, compared with the burst of the rate. */
  readonly what: "weight" | "tokens"
  /** What the call asked for. */
  readonly asked: number
  /** The most that one call can have. */
  readonly most: number
}> {
  override get message(): string {
    return this.what === "weight"
      ? `weight ${this.asked} exceeds the concurrency of ${this.most}`
      : `${this.asked} tokens exceed the burst of ${this.most}`
  }
}
