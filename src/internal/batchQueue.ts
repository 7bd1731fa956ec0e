/**
 * A batch's way through the queue of its scheduler.
 *
 * A job that waits for a batch which waits for that job's permit would wait for ever. So a batch has a place inside each
 * running job that waits for it, where it may use the width that the job lends; if there is none, one of its own. The
 * first place to come through takes the others out of the queue.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Request from "effect/Request"
import type { Batch } from "./batch.js"
import type { Run } from "./batchRun.js"
import type { Caller, Callers } from "./batchState.js"
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
    this.batch.answer!("start", this)
  }
  onFailure(error: SchedulerError): void {
    this.batch.answer!(error, this)
  }
  onClose(): void {
    this.batch.answer!("close", this)
  }
}

/** The innermost job, of this engine or of any, that runs around a context. */
const liveJob = (context: Context.Context<never>, engine?: Engine): Job | undefined => {
  let job = Context.get(context, CurrentJob)
  while (job !== undefined && !(job.state === "Running" && job.engine === (engine ?? job.engine))) job = job.outer
  return job
}

/** Waits until the batch may run, or is refused. Who is in it counts in the step in which it comes into the queue. */
export const admit = <Req extends Request.Any>(
  batch: Run<Req>,
  engine: Engine | undefined
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
    enlist(batch, engine, ...batch.ties)
  })
}

/** Sees to it that a batch has a place for each of these callers, who wait for it from now on, and so many who are in no job. */
export const enlist = <Req extends Request.Any>(
  batch: Batch,
  engine: Engine | undefined,
  callers: Callers<Req>,
  free = 0
): void => {
  if (engine === undefined || batch.answer === undefined) return
  let context: Context.Context<never> | undefined
  let lender: Job | undefined
  let others = free
  callers.forEach((caller) => {
    if (batch.started || caller.left) return
    if (caller.entry.context !== context) {
      context = caller.entry.context
      lender = liveJob(context, engine)
      if (lender === undefined) batch.outer ??= liveJob(context)
    }
    caller.lender = lender
    if (lender === undefined) others++
    else queue(batch, engine, lender, 1)
  })
  // In a job it counts as a part of it, so the place of its own comes last.
  if (others > 0 && !batch.started) queue(batch, engine, undefined, others)
}

const queue = (batch: Batch, engine: Engine, lender: Job | undefined, count: number): void => {
  const ticket = batch.tickets.get(lender)
  if (ticket !== undefined) {
    ticket.count += count
    ticket.job.outer ??= batch.outer
    return
  }
  const job = new BatchJob(batch, lender ?? batch.outer)
  batch.tickets.set(lender, { count, job })
  engine.submitUnsafe(job)
}

/** One of them left. */
export const delist = <Req extends Request.Any>(
  batch: Batch,
  engine: Engine | undefined,
  caller: Caller<Req>
): void => {
  const ticket = batch.tickets.get(caller.lender)
  if (engine === undefined || ticket === undefined || --ticket.count > 0) return
  batch.tickets.delete(caller.lender)
  engine.releaseUnsafe(ticket.job)
}

/** Gives back what the batch holds, wherever it is. */
export const release = (batch: Batch, engine: Engine | undefined): void => {
  if (engine === undefined) return
  if (batch.job !== undefined) engine.releaseUnsafe(batch.job)
  for (const ticket of batch.tickets.values()) engine.releaseUnsafe(ticket.job)
}
