/**
 * The refusals of a scheduler.
 */
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import type { SchedulerWatch } from "../seen/seen.js"
import { SchedulerError } from "./error.js"
import type { SchedulerErrorReason } from "./error.js"
import { excessOf, type Limiter, type StoreError } from "../limiter/limiter.js"
import type { Job } from "./job.js"

/** Why a job can never start: it asks for more than there can be. */
export const impossibleOf = (
  job: Job,
  limit: number,
  limiter: Limiter<StoreError> | undefined
): InsufficientCapacity | undefined => {
  if (job.weight > limit) return new InsufficientCapacity({ what: "weight", asked: job.weight, most: limit })
  const excess = limiter === undefined ? undefined : excessOf(job.cost, limiter)
  return excess === undefined ? undefined : new InsufficientCapacity({ what: "tokens", ...excess })
}

interface Host {
  readonly name: string
  readonly watch: SchedulerWatch | undefined
}

export class Refusals {
  /** How many jobs were refused, by the reason. */
  readonly counts: { [Reason in SchedulerErrorReason["_tag"]]?: number } = {}
  private readonly host: Host

  constructor(host: Host) {
    this.host = host
  }

  error(reason: SchedulerErrorReason): SchedulerError {
    return new SchedulerError({ scheduler: this.host.name, reason })
  }

  refuse(job: Job, reason: SchedulerErrorReason): void {
    const { _tag } = reason
    this.counts[_tag] = (this.counts[_tag] ?? 0) + 1
    const { watch } = this.host
    if (watch !== undefined) watch.refused(_tag, Math.max(0, watch.now() - job.since))
    job.state = "Done"
    job.onFailure(this.error(reason))
  }
}
