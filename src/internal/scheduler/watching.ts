/**
 * What there is to tell of an engine: how long its jobs wait and run, and what for. An adaptive width follows it.
 */
import type * as Exit from "effect/Exit"
import type { Hold } from "../seen/tell.js"
import type { Job } from "./job.js"
import type { Core } from "./refusal.js"

/** For how many milliseconds a job has waited. */
export const waited = (engine: Core, job: Job): number => Math.max(0, engine.millis() - job.since)

/** For how many nanoseconds a penalty still lets no job start: the scheduler's own, or that of its limiter. */
export const penaltyOf = ({ limiter, penaltyLeft }: Core): number =>
  Math.max(penaltyLeft, limiter?.penaltyUnsafe(undefined) ?? 0)

/** What the job in front waits for. */
export const waitingFor = (engine: Core): Hold => {
  if (engine.lanes.queued === 0) return "nothing"
  if (engine.paused) return "pause"
  if (penaltyOf(engine) > 0) return "penalty"
  return engine.lanes.front === undefined ? "width" : "rate"
}

/** A job has ended: the width may follow. */
export const adapt = (engine: Core, job: Job, exit: Exit.Exit<unknown, unknown>, now: number): void => {
  const { lanes } = engine
  const { main } = lanes
  const adaptive = engine.adaptive!
  const ended = { startedAt: job.arrived, now, running: main.used, saturated: main.state === "blocked" }
  // A function of the user is asked, which may also have called `resize`.
  if (!adaptive.ended(exit, ended) || engine.adaptive !== adaptive) return
  main.capacity = adaptive.limit
  lanes.refresh()
}
