import type { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { StacklessError } from "../data/stacklessError.js"
import type { StoreError } from "../store/storeError.js"

/**
 * The queue was full: the job would have had to wait, and `maxQueued` jobs wait already.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueueFull extends /*#__PURE__*/ StacklessError("QueueFull")<{
  /** How many waited in that queue when the call came. */
  readonly queued: number
  /** How many may wait in it. */
  readonly maxQueued: number
}> {
  override get message(): string {
    return `the queue is full: ${this.queued} jobs wait, at most ${this.maxQueued} may`
  }
}

/**
 * The reasons of a `SchedulerError`.
 *
 * @category errors
 * @since 0.1.0
 */
export type SchedulerErrorReason = QueueFull | InsufficientCapacity | StoreError

/**
 * The error of every scheduler: its name, and why it refused the job. The effect did not run.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("SchedulerError", "QueueFull", …)` to answer one reason, or `Effect.catchTag` for all of them.
 *
 * **Details**
 *
 * - `QueueFull`: too many jobs wait already. Try again later, or shed the load.
 * - `InsufficientCapacity`: weight or tokens exceed what the scheduler can ever give.
 * - `StoreError`: the store of rate or permits did not answer, or a running job lost its permit and was interrupted.
 *
 * Neither it nor its reason carries a stack, so that shedding load stays cheap: `Cause.pretty` shows the span of the call.
 *
 * **Gotchas**
 *
 * It is in the error channel of every scheduler: a type cannot depend on the layer that is provided.
 *
 * @category errors
 * @since 0.1.0
 */
export class SchedulerError extends /*#__PURE__*/ StacklessError("SchedulerError")<{
  /** The id of the scheduler's tag, or the `name` in its options. */
  readonly scheduler: string
  readonly reason: SchedulerErrorReason
}> {
  override get message(): string {
    return `${this.scheduler}: ${this.reason.message}`
  }
}
