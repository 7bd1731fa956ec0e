import * as Data from "effect/Data"

/**
 * Says that a call would have had to wait and that `maxQueued` calls wait already.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueueFull extends Data.TaggedError("QueueFull")<{
  /** How many waited in that queue when the call came. */
  readonly queued: number
  /** How many may wait in it. */
  readonly maxQueued: number
}> {
  override get message(): string {
    return `${this.queued} jobs wait already and at most ${this.maxQueued} may`
  }
}

/**
 * Says that a job can never start: it weighs more than may run at once, or costs more tokens than the rate ever holds.
 *
 * @category errors
 * @since 0.1.0
 */
export class InsufficientCapacity extends Data.TaggedError("InsufficientCapacity")<{
  /** `"weight"`, compared with the scheduler's concurrency, or `"tokens"`, compared with the burst of its rate. */
  readonly what: "weight" | "tokens"
  /** What the job asked for. */
  readonly asked: number
  /** The most that one job can have. */
  readonly most: number
}> {
  override get message(): string {
    return `a job asks for ${this.what} ${this.asked} and can have ${this.most} at most`
  }
}

/**
 * Says that the store which holds rate or permits could not be asked, or that it has given a job's permit to another.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreError extends Data.TaggedError("StoreError")<{
  /** What was asked of it. */
  readonly operation: string
  readonly cause: unknown
}> {
  override get message(): string {
    return `the store of the scheduler failed to ${this.operation}`
  }
}

/**
 * Wraps what a scheduler refuses a job for; the effect itself did not run.
 *
 * **When to use**
 *
 * Use `Effect.catchReason("SchedulerError", "QueueFull", …)` to answer one reason, or `Effect.catchTag` for all of them.
 *
 * **Details**
 *
 * - `QueueFull`: too many wait already. Not yet: try again later, or shed the load.
 * - `InsufficientCapacity`: never, as the scheduler stands. Weight or tokens are more than it can ever give.
 * - `StoreError`: rate or permits are kept in a store, and it did not answer; or the permit of a job that ran was lost
 *   there, and the job was interrupted.
 *
 * **Gotchas**
 *
 * It is always in the error channel, also of schedulers that have no bound on their queue: a type cannot depend on the
 * layer that is provided.
 *
 * @category errors
 * @since 0.1.0
 */
export class SchedulerError extends Data.TaggedError("SchedulerError")<{
  readonly reason: QueueFull | InsufficientCapacity | StoreError
}> {
  override get message(): string {
    return this.reason.message
  }
}
