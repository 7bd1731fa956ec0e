/**
 * How the jobs and the calls of a scheduler hear that it has closed.
 */
import type { Job } from "./job.js"
import type { Core } from "./refusal.js"
import type { CallInProgress } from "./site.js"
import { waited } from "./watching.js"

interface Closed extends Core {
  readonly calls: ReadonlySet<CallInProgress>
  telling: boolean
  withdrawJob(job: Job): void
}

/** Tells the waiting and the running jobs, and then the calls. */
export const tellClosed = (engine: Closed): void => {
  const { lanes, slices } = engine
  const jobs: Array<Job> = []
  lanes.main.queue.forEach(({ job }) => void jobs.push(job))
  const calls = Array.from(engine.calls)
  engine.telling = true
  slices.tellEach(jobs.concat(lanes.started), (job) => {
    if (job.state === "Queued") {
      engine.watch?.left(waited(engine, job))
      engine.withdrawJob(job)
    } else if (job.state !== "Running") return
    job.onClose()
  }, () => {
    engine.telling = false
    // Those that have no jobs now: they wait for an item, or for the consumer of a stream.
    slices.tellEach(calls, (call) => call.interruptUnsafe())
    engine.notifyUnsafe()
  })
}
