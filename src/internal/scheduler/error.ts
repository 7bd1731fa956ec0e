import * as Duration from "effect/Duration"
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

const inMillis = (duration: Duration.Duration): string => `${Math.round(Duration.toMillis(duration))} ms`

/**
 * A job that would start too late: its `maxWait` is over, or the rate cannot let it start before.
 *
 * @category errors
 * @since 0.1.0
 */
export class WaitExceeded extends /*#__PURE__*/ StacklessError("WaitExceeded")<{
  /** How long it has waited. */
  readonly waited: Duration.Duration
  /** How long it may wait. */
  readonly maxWait: Duration.Duration
  /** How long it would have to wait for the rate at least, if that is why it is refused. */
  readonly expected: Duration.Duration | undefined
}> {
  override get message(): string {
    return this.expected === undefined
      ? `waited ${inMillis(this.waited)}, at most ${inMillis(this.maxWait)} are allowed`
      : `the rate starts it in ${inMillis(this.expected)} at the earliest, ${inMillis(this.maxWait)} are allowed`
  }
}

/**
 * A job that is shed: more is asked of the scheduler than its width can do, and this job has waited too long for width.
 *
 * @category errors
 * @since 0.1.0
 */
export class Overloaded extends /*#__PURE__*/ StacklessError("Overloaded")<{
  /** How long it has waited for width. */
  readonly waited: Duration.Duration
  /** The wait that `shed` aims at. */
  readonly target: Duration.Duration
}> {
  override get message(): string {
    return `overloaded: waited ${inMillis(this.waited)} for width, the target is ${inMillis(this.target)}`
  }
}

/**
 * A job that came while the scheduler drains.
 *
 * @category errors
 * @since 0.1.0
 */
export class Draining extends /*#__PURE__*/ StacklessError("Draining")<{}> {
  override get message(): string {
    return "draining: no new jobs are accepted"
  }
}

/**
 * Lists why a scheduler refuses a job.
 *
 * @category errors
 * @since 0.1.0
 */
export type SchedulerErrorReason = QueueFull | WaitExceeded | Overloaded | Draining | InsufficientCapacity | StoreError

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
 * - `WaitExceeded`: it would start later than `maxWait` after it came.
 * - `Overloaded`: the scheduler sheds load, because jobs have waited for width for too long.
 * - `Draining`: the scheduler is about to close and takes no new jobs.
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
