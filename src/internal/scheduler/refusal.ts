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
  readonly refusals: Refusals
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
  /** Calls code of others back in a step that does not depend on it: an error is thrown in a turn of its own. */
  apart(f: () => void): void
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

export class Refusals {
  /** How many jobs were refused, by the reason. */
  readonly counts: { [Reason in SchedulerErrorReason["_tag"]]?: number } = {}
  private readonly engine: Core

  constructor(engine: Core) {
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
    this.engine.apart(() => job.onFailure(this.error(reason)))
  }
}

/** Refuses the waiting jobs for which `reasonOf` returns something, and starts those that can start then. */
const refuseEach = (engine: Core, reasonOf: (job: Job) => SchedulerErrorReason | undefined): void => {
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
    (job) => engine.refusals.refuse(job, reasons[i++]!),
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

/** Refuses the jobs that wait for something that does not come. */
export const refuseWaiting = (engine: Core, reason: SchedulerErrorReason, waits: (job: Job) => boolean): void =>
  refuseEach(engine, (job) => waits(job) ? reason : undefined)
