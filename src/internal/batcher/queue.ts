/**
 * A batch's way through the queue of its scheduler: one job, which the batch waits for. So whoever waits for the batch
 * waits for the job, which may run in the width that a job among them lends.
 */
import * as Effect from "effect/Effect"
import type * as Request from "effect/Request"
import { Job } from "../scheduler/engine.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import type { Batch } from "./parts.js"

type Answer = Effect.Effect<SchedulerError | undefined>

class BatchJob<Req extends Request.Any> extends Job {
  private readonly batch: Batch<Req>
  private resume: ((answer: Answer) => void) | undefined
  constructor(batch: Batch<Req>, resume: (answer: Answer) => void) {
    super(1, 1, 0, batch, true)
    this.batch = batch
    this.resume = resume
  }
  onStart(): void {
    this.batch.started = true
    this.answer(Effect.succeed(undefined))
  }
  onFailure(error: SchedulerError): void {
    this.batch.started = true
    this.answer(Effect.succeed(error))
  }
  onClose(): void {
    if (this.batch.started) this.batch.fiber?.interruptUnsafe()
    else this.answer(Effect.interrupt)
  }
  private answer(answer: Answer): void {
    const resume = this.resume
    // It holds the fiber.
    this.resume = undefined
    resume?.(answer)
  }
}

/** Waits until the batch may run, or is refused. */
export const admit = <Req extends Request.Any>(batch: Batch<Req>, engine: Engine | undefined): Answer => {
  if (engine === undefined) {
    batch.started = true
    return Effect.succeed(undefined)
  }
  return Effect.callback<SchedulerError | undefined>((resume) => {
    engine.submitUnsafe(batch.job = new BatchJob(batch, resume))
  })
}

/** Gives back what the batch holds, wherever it is. */
export const release = <Req extends Request.Any>(batch: Batch<Req>, engine: Engine | undefined): void => {
  if (batch.job !== undefined) engine?.releaseUnsafe(batch.job)
}
