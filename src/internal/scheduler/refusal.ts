/**
 * The refusals of a scheduler.
 */
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { forEachInSlices, type Slices } from "../data/slices.js"
import type { SchedulerWatch } from "../seen/seen.js"
import { SchedulerError } from "./error.js"
import type { SchedulerErrorReason } from "./error.js"
import { excessOf, type Limiter, type StoreError } from "../limiter/limiter.js"
import type { Job } from "./job.js"
import type { Lanes } from "./lanes.js"

/** The part of an engine that this uses. */
interface Engine {
  readonly name: string
  readonly watch: SchedulerWatch | undefined
  readonly lanes: Lanes
  readonly limit: number
  readonly limiter: Limiter<StoreError> | undefined
  readonly slices: Slices
  readonly refusals: Refusals
  withdrawJob(job: Job): void
  pump(): void
  notifyUnsafe(): void
}

/** Whether a job can never start, and why: it asks for more than there can be. */
export const impossibleOf = (
  job: Job,
  limit: number,
  limiter: Pick<Limiter, "burst" | "bursts"> | undefined
): Pick<InsufficientCapacity, "what" | "asked" | "most"> | undefined => {
  if (job.weight > limit) return { what: "weight", asked: job.weight, most: limit }
  const excess = limiter === undefined ? undefined : excessOf(job.cost, limiter)
  return excess === undefined ? undefined : { what: "tokens", ...excess }
}

export class Refusals {
  /** How many jobs were refused, by the reason. */
  readonly counts: { [Reason in SchedulerErrorReason["_tag"]]?: number } = {}
  private readonly engine: Engine

  constructor(engine: Engine) {
    this.engine = engine
  }

  error(reason: SchedulerErrorReason): SchedulerError {
    return new SchedulerError({ scheduler: this.engine.name, reason })
  }

  refuse(job: Job, reason: SchedulerErrorReason): void {
    const { _tag } = reason
    this.counts[_tag] = (this.counts[_tag] ?? 0) + 1
    const { watch } = this.engine
    if (watch !== undefined) watch.refused(_tag, Math.max(0, watch.now() - job.since))
    job.state = "Done"
    job.onFailure(this.error(reason))
  }
}

/** Refuses the jobs that can never start now, and starts those that can. */
export const refuseImpossible = (engine: Engine): void => {
  const { lanes, limit } = engine
  // Of now: by the time that the last one hears of it, they may have changed again.
  const limiter = engine.limiter && { burst: engine.limiter.burst, bursts: engine.limiter.bursts }
  const refused: Array<Job> = []
  lanes.main.queue.forEach(({ job }) => {
    if (impossibleOf(job, limit, limiter) === undefined) return
    lanes.leave(job)
    job.state = "Done"
    refused.push(job)
  })
  lanes.refresh()
  // Before the refused jobs hear of it: their code may use the rate.
  engine.pump()
  forEachInSlices(
    engine.slices,
    refused,
    (job) => engine.refusals.refuse(job, new InsufficientCapacity(impossibleOf(job, limit, limiter)!))
  )
  engine.notifyUnsafe()
}

/** Refuses the jobs that wait for something that does not come, and starts those that can start without it. */
export const refuseWaiting = (engine: Engine, reason: SchedulerErrorReason, waits: (job: Job) => boolean): void => {
  const waiting: Array<Job> = []
  engine.lanes.main.queue.forEach(({ job }) => void (waits(job) && waiting.push(job)))
  for (const job of waiting) engine.withdrawJob(job)
  engine.pump()
  forEachInSlices(engine.slices, waiting, (job) => engine.refusals.refuse(job, reason))
  engine.notifyUnsafe()
}
