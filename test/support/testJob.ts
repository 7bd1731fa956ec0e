import { Job } from "../../src/internal/scheduler/job.js"
import type { SchedulerError } from "../../src/internal/scheduler/error.js"
import { oneJob } from "../../src/internal/scheduler/options.js"

/** A job without an effect: it ends when the test releases it. Every fourth is patient. */
export class TestJob extends Job {
  error: SchedulerError | undefined = undefined
  closed = false
  starts = 0
  readonly number: number
  private readonly started: (self: TestJob) => void
  constructor(
    number: number,
    cost: { readonly weight: number; readonly tokens: number; readonly priority: number },
    outer: Job | undefined,
    started: (self: TestJob) => void
  ) {
    super({ ...oneJob, ...cost }, outer, number % 4 === 0)
    this.number = number
    this.started = started
  }
  onStart(): void {
    this.starts++
    this.started(this)
  }
  onFailure(error: SchedulerError): void {
    this.error = error
  }
  onClose(): void {
    this.closed = true
  }
}
