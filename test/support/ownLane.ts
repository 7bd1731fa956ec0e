/** What a job lends to what it waits for on its own scheduler, if anything was scheduled in it. */
import type { Job, Lane } from "../../src/internal/scheduler/job.js"

export const ownLane = (job: Job): Lane | undefined => {
  let lane = job.inside
  while (lane !== undefined && lane.lanes !== job.engine?.lanes) lane = lane.sibling
  return lane
}
