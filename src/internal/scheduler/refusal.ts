/**
 * The refusals of a scheduler.
 */
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { forEachInSlices, type Slices } from "../data/slices.js"
import { excessOf, type Limiter, type StoreError } from "../limiter/limiter.js"
import type { SchedulerWatch } from "../seen/seen.js"
import type { Log } from "../seen/tell.js"
import { SchedulerError, type SchedulerErrorReason } from "./error.js"
import type { Job } from "./job.js"
import type { Host, Lanes } from "./lanes.js"
import type { Adaptation } from "./width.js"

/** The engine, as its parts see it. */
export interface Core extends Host {
  readonly lanes: Lanes
  readonly slices: Slices
  /** How many jobs were refused, by the reason. */
  readonly refused: { [Reason in SchedulerErrorReason["_tag"]]?: number }
  readonly limit: number
  readonly limiter: Limiter<StoreError> | undefined
  readonly watch: SchedulerWatch | undefined
  readonly log: Log | undefined
  readonly idle: boolean
  readonly paused: boolean
  readonly penaltyLeft: number
  adaptive: Adaptation | undefined
  millis(): number
  time(): number
  /** Starts every job that can start. */
  pump(): void
  /** Takes a job out of the queue. `lanes.refresh` has to follow. */
  leaveQueue(job: Job): void
  refuseQueued(job: Job, reason: SchedulerErrorReason): void
  notifyUnsafe(): void
}

/** Whether a job can never start, and why: it asks for more than there can be. */
export const impossibleOf = (
  job: Job,
  { limit, limiter }: Core
): Pick<InsufficientCapacity, "what" | "asked" | "most"> | undefined => {
  if (job.weight > limit) return { what: "weight", asked: job.weight, most: limit }
  const excess = limiter === undefined ? undefined : excessOf(job.cost, limiter)
  return excess === undefined ? undefined : { what: "tokens", ...excess }
}

export const errorOf = ({ name }: Core, reason: SchedulerErrorReason): SchedulerError =>
  new SchedulerError({ scheduler: name, reason })

/** Refuses a job that is in no queue. */
export const refuseJob = (engine: Core, job: Job, reason: SchedulerErrorReason): void => {
  const { refused, slices, watch } = engine
  const { _tag } = reason
  refused[_tag] = (refused[_tag] ?? 0) + 1
  if (watch !== undefined) watch.refused(_tag, Math.max(0, watch.now() - job.since))
  job.state = "Done"
  slices.apart(() => job.onFailure(errorOf(engine, reason)))
}

/** Refuses the waiting jobs for which `reasonOf` returns something, and starts those that can start then. */
export const refuseEach = (engine: Core, reasonOf: (job: Job) => SchedulerErrorReason | undefined): void => {
  const refused: Array<Job> = []
  const reasons: Array<SchedulerErrorReason> = []
  engine.lanes.main.queue.forEach(({ job }) => {
    const reason = reasonOf(job)
    if (reason === undefined) return
    engine.leaveQueue(job)
    job.state = "Done"
    refused.push(job)
    reasons.push(reason)
  })
  engine.lanes.refresh()
  // Before the refused jobs hear of it: their code may use the rate.
  engine.pump()
  let i = 0
  forEachInSlices(
    engine.slices,
    refused,
    (job) => refuseJob(engine, job, reasons[i++]!),
    () => engine.notifyUnsafe()
  )
}

/** Refuses the jobs that can never start now. Jobs that ask for the same share a reason. */
export const refuseImpossible = (engine: Core): void => {
  let last: InsufficientCapacity | undefined
  refuseEach(engine, (job) => {
    const excess = impossibleOf(job, engine)
    if (excess === undefined) return undefined
    if (last?.what !== excess.what || last.asked !== excess.asked || last.most !== excess.most) {
      last = new InsufficientCapacity(excess)
    }
    return last
  })
}
