/**
 * The refusals of a scheduler.
 */
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import type { SchedulerWatch } from "../seen/seen.js"
import { SchedulerError } from "./error.js"
import type { SchedulerErrorReason } from "./error.js"
import type { Job } from "./job.js"

/** Why a job can never start: it asks for more than there can be. */
export const impossibleOf = ({ tokens, weight }: Job, limit: number, burst: number): InsufficientCapacity | undefined =>
  weight > limit
    ? new InsufficientCapacity({ what: "weight", asked: weight, most: limit })
    : tokens > burst
    ? new InsufficientCapacity({ what: "tokens", asked: tokens, most: burst })
    : undefined

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
