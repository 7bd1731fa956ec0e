import * as Duration from "effect/Duration"
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
    return `the queue is full: ${this.queued} of at most ${this.maxQueued} jobs wait`
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
  /** How long it would have to wait for the rate or the end of a penalty at least, if that is why it is refused. */
  readonly expected: Duration.Duration | undefined
}> {
  override get message(): string {
    return this.expected === undefined
      ? `waited ${inMillis(this.waited)}, at most ${inMillis(this.maxWait)} are allowed`
      : `it starts in ${inMillis(this.expected)} at the earliest, ${inMillis(this.maxWait)} are allowed`
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
 * The reasons of a `SchedulerError`.
 *
 * @category errors
 * @since 0.1.0
 */
export type SchedulerErrorReason = QueueFull | WaitExceeded | Overloaded | Draining | InsufficientCapacity | StoreError

/**
 * The error of every scheduler: its name, and why it refused the job. The effect did not run, unless its permit was lost.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("SchedulerError", "QueueFull", …)` to answer one reason, or `Effect.catchTag` for all of them.
 *
 * **Details**
 *
 * - `QueueFull`: too many jobs wait already. Try again later, or shed the load.
 * - `WaitExceeded`: the job would start later than `maxWait` after it came.
 * - `Overloaded`: the scheduler sheds load, because jobs have waited for width for too long.
 * - `Draining`: the scheduler drains and takes no new jobs.
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
