import type { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { StacklessError } from "../data/stacklessError.js"
import type { StoreError } from "../store/storeError.js"

/**
 * A full queue: the call would have had to wait, and `maxQueued` calls wait already.
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
 * Lists why a scheduler refuses a job.
 *
 * @category errors
 * @since 0.1.0
 */
export type SchedulerErrorReason = QueueFull | InsufficientCapacity | StoreError

/**
 * The error of every scheduler: which one refused a job, and why. The effect did not run.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("SchedulerError", "QueueFull", …)` to answer one reason, or `Effect.catchTag` for all of them.
 *
 * **Details**
 *
 * - `QueueFull`: too many wait already. Not yet: try again later, or shed the load.
 * - `InsufficientCapacity`: never, as the scheduler stands. Weight or tokens are more than it can ever give.
 * - `StoreError`: rate or permits are kept in a store, and it did not answer; or the permit of a running job was lost
 *   there, and the job was interrupted.
 *
 * It carries no stack, and neither do its reasons, so that shedding load stays cheap: `stack` is name and message. To know
 * where a refused call was made, give the call a span: `Cause.pretty` shows it.
 *
 * **Gotchas**
 *
 * It is always in the error channel, also of schedulers that have no bound on their queue: a type cannot depend on the
 * layer that is provided.
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
