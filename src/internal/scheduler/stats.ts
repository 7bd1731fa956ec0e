/**
 * The load of a scheduler.
 */
import type { Engine } from "./engine.js"

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
}

export const statsOf = (engine: Engine): Stats => ({
  concurrency: engine.limit,
  running: engine.running,
  weight: engine.main.used,
  queued: engine.queued,
  paused: engine.paused
})
