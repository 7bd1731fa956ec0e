/**
 * What there is to tell of an engine: how long its jobs wait and run, and what for. An adaptive width follows it.
 */
import type * as Exit from "effect/Exit"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import type { SchedulerWatch } from "../seen/seen.js"
import type { Hold } from "../seen/tell.js"
import type { Job } from "./job.js"
import type { Lanes } from "./lanes.js"
import type { Adaptation } from "./width.js"

/** The part of an engine that this uses. */
interface Engine {
  readonly lanes: Lanes
  readonly limiter: Limiter<StoreError> | undefined
  readonly watch: SchedulerWatch | undefined
  readonly paused: boolean
  readonly penaltyLeft: number
  adaptive: Adaptation | undefined
  millis(): number
  time(): number
}

/** For how many milliseconds a job has waited. */
export const waited = (engine: Engine, job: Job): number => Math.max(0, engine.millis() - job.since)

/** For how many milliseconds the oldest waiting job has waited. */
export const oldestWait = (engine: Engine): number => {
  const oldest = engine.lanes.main.queue.oldest?.job
  return oldest === undefined ? 0 : waited(engine, oldest)
}

/** What the job in front waits for. */
export const waitingFor = (engine: Engine): Hold => {
  if (engine.lanes.queued === 0) return "nothing"
  if (engine.paused) return "pause"
  if (engine.penaltyLeft > 0 || (engine.limiter?.penaltyUnsafe?.(undefined) ?? 0) > 0) return "penalty"
  return engine.lanes.front === undefined ? "width" : "rate"
}

/** When a job started, in milliseconds, if its start was noted. */
export const startOf = (engine: Engine, job: Job): number => {
  if (engine.adaptive === undefined && job.line === undefined) return job.since
  return engine.millis() - (engine.time() - job.since) / 1e6
}

/** A job has ended: the width may follow. */
export const adapt = (
  engine: Engine,
  adaptive: Adaptation,
  job: Job,
  exit: Exit.Exit<unknown, unknown>,
  now: number
): void => {
  const { lanes } = engine
  const { main } = lanes
  const ended = { startedAt: job.since, now, running: main.used, saturated: main.state === "blocked" }
  // A function of the user is asked, which may also have called `resize`.
  if (!adaptive.ended(exit, ended) || engine.adaptive !== adaptive) return
  main.capacity = adaptive.limit
  lanes.refresh()
}

/** The width follows nothing any more. */
export const endAdaption = (engine: Engine): void => {
  if (engine.watch !== undefined) {
    // From now on their starts are milliseconds.
    for (const job of engine.lanes.started) {
      if (job.line === undefined) job.since = Math.round(startOf(engine, job))
    }
  }
  engine.adaptive = undefined
  engine.lanes.elastic = false
}
