/**
 * The load of a scheduler.
 */
import * as Duration from "effect/Duration"
import { duration } from "../data/duration.js"
import type { Hold } from "../seen/tell.js"
import type { Engine } from "./engine.js"
import type { SchedulerErrorReason } from "./error.js"
import { waitingFor } from "./watching.js"

/**
 * A snapshot of a scheduler: it may be out of date the instant after it is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  /** How much weight may run; `Infinity` without a bound. */
  readonly concurrency: number
  /** How many jobs run, those inside others included. */
  readonly running: number
  /** How much weight runs. Lent weight counts once. */
  readonly weight: number
  /** How many jobs wait. */
  readonly queued: number
  /** Whether `pause` holds the jobs back. */
  readonly paused: boolean
  /** What the job in front waits for. */
  readonly waitingFor: "nothing" | "width" | "rate" | "pause" | "penalty"
  /** How long the oldest waiting job has waited, to the millisecond; zero if no job waits. */
  readonly oldestWait: Duration.Duration
  /** How long until the rate, or the end of a penalty, lets the job in front start, where that is known. */
  readonly nextStart: Duration.Duration | undefined
  /** How many jobs were refused so far, by the reason. */
  readonly refused: { readonly [Reason in SchedulerErrorReason["_tag"]]?: number }
  /** How many jobs of each priority wait, the first to start first. */
  readonly byPriority: ReadonlyArray<{ readonly priority: number; readonly queued: number }>
  /** The keys of `share` with the most waiting jobs, at most five; jobs without a share are `undefined`. */
  readonly byShare: ReadonlyArray<{ readonly key: unknown; readonly queued: number }>
}

/** How many keys of shares a snapshot tells. */
const mostShares = 5

/** Nanoseconds until the first job can start, where the rate or a penalty decides. */
const nextStart = ({ lanes, limiter, main, penaltyLeft }: Engine, hold: Hold): number | undefined => {
  if (hold !== "rate" && hold !== "penalty") return undefined
  if (limiter === undefined) return penaltyLeft
  // In a penalty it may be that no job fits.
  const due = limiter.dueInUnsafe?.(undefined, lanes.headOf(lanes.front ?? main).cost)
  return due === undefined ? undefined : Math.max(penaltyLeft, due)
}

export const statsOf = (engine: Engine): Stats => {
  // Read once, for a penalty may end at any moment.
  const hold = waitingFor(engine)
  const next = nextStart(engine, hold)
  return {
    concurrency: engine.width,
    running: engine.running,
    weight: engine.weight,
    queued: engine.queued,
    paused: engine.paused,
    waitingFor: hold,
    oldestWait: Duration.millis(engine.oldestWait),
    nextStart: next === undefined ? undefined : duration(next),
    refused: { ...engine.refused },
    byPriority: engine.main.queue.byPriority(),
    byShare: engine.main.queue.byShare().sort((a, b) => b.queued - a.queued).slice(0, mostShares)
  }
}
