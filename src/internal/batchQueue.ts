/**
 * A batch's way through the queue of its scheduler.
 *
 * A job that waits for a batch which waits for that job's permit would wait for ever. So a batch has a place inside each
 * running job that waits for it, where it may use the width that the job lends; if there is none, one of its own. The
 * first place to come through takes the others out of the queue.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Batch } from "./batchState.js"
import { CurrentJob, Job } from "./scheduler.js"
import type { Engine } from "./scheduler.js"
import type { SchedulerError } from "./schedulerError.js"

/** A batch in the queue of its scheduler. */
class BatchJob extends Job {
  private readonly batch: Batch
  constructor(batch: Batch, outer: Job | undefined) {
    super(1, 1, 0, outer, true)
    this.batch = batch
  }
  onStart(): void {
    this.batch.answer("start", this)
  }
  onFailure(error: SchedulerError): void {
    this.batch.answer(error, this)
  }
  onClose(): void {
    this.batch.answer("close", this)
  }
}

/** The innermost job of this engine that runs around a context. */
export const liveJob = (context: Context.Context<never>, engine: Engine): Job | undefined => {
  let job = Context.get(context, CurrentJob)
  while (job !== undefined && !(job.state === "Running" && job.engine === engine)) job = job.outer
  return job
}

/** Waits until the batch may run, or is refused. */
export const admit = (
  batch: Batch,
  engine: Engine | undefined,
  lenders: ReadonlyMap<Job, number>
): Effect.Effect<SchedulerError | undefined> => {
  if (engine === undefined) {
    batch.started = true
    return Effect.succeed(undefined)
  }
  return Effect.callback<SchedulerError | undefined>((resume) => {
    batch.answer = (answer, job) => {
      if (answer === "close") {
        if (batch.started) batch.fiber.interruptUnsafe()
        else resume(Effect.interrupt)
        return
      }
      batch.started = true
      batch.job = job
      for (const ticket of batch.tickets.values()) if (ticket.job !== job) engine.releaseUnsafe(ticket.job)
      batch.tickets.clear()
      resume(Effect.succeed(answer === "start" ? undefined : answer))
    }
    for (const [lender, count] of lenders) if (!batch.started) queue(batch, engine, lender, count)
    if (lenders.size === 0) queue(batch, engine, undefined, 1)
  })
}

const queue = (batch: Batch, engine: Engine, lender: Job | undefined, count: number): void => {
  const ticket = batch.tickets.get(lender)
  if (ticket !== undefined) {
    ticket.count += count
    return
  }
  const job = new BatchJob(batch, lender ?? batch.outer)
  batch.tickets.set(lender, { count, job })
  engine.submitUnsafe(job)
}

/** One more look-up, made in this context, waits for a batch in the queue. */
export const enlist = (batch: Batch, engine: Engine | undefined, context: Context.Context<never>): void => {
  const job = engine === undefined ? undefined : liveJob(context, engine)
  if (engine !== undefined && job !== undefined) queue(batch, engine, job, 1)
}

/** One of them left. */
export const delist = (batch: Batch, engine: Engine | undefined, context: Context.Context<never>): void => {
  const job = engine === undefined ? undefined : liveJob(context, engine)
  const ticket = job === undefined ? undefined : batch.tickets.get(job)
  if (engine === undefined || ticket === undefined || --ticket.count > 0) return
  batch.tickets.delete(job)
  if (batch.tickets.size === 0) queue(batch, engine, undefined, 1)
  engine.releaseUnsafe(ticket.job)
}

/** Gives back what the batch holds, wherever it is. */
export const release = (batch: Batch, engine: Engine | undefined): void => {
  if (engine === undefined) return
  if (batch.job !== undefined) engine.releaseUnsafe(batch.job)
  for (const ticket of batch.tickets.values()) engine.releaseUnsafe(ticket.job)
}
