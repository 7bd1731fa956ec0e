/**
 * A width that follows what the other side can take.
 *
 * The controller compares two mean latencies: that of a window of jobs at the full width, and a baseline, that of a window
 * at a part of it, in which nothing queues behind the scheduler. The width is set so that the first is `stretch` times the
 * second: wide enough to keep a backend busy, with few jobs in its queue. A baseline that is measured, and not the least
 * latency ever seen, neither sinks with every lucky job nor holds when the backend becomes slower for good.
 *
 * It is the idea of Gradient (Netflix, concurrency-limits) with the probes of BBR (Cardwell and others, 2016).
 */

import type * as Exit from "effect/Exit"
import type { Place } from "../data/timers.js"

/** Makes the adaptation of each scheduler. */
export interface WidthPolicy {
  /** The most width that there can ever be. */
  readonly max: number
  readonly make: (name: string, place: Place) => Adaptation
}

/** Decides how many jobs may run. */
export interface Adaptation {
  readonly limit: number
  /** Is told of each job that ends, in a step that others depend on: it must not throw. Returns whether the limit is another now. */
  ended(exit: Exit.Exit<unknown, unknown>, job: Ended): boolean
}

/** Times in nanoseconds. */
export interface Ended {
  readonly startedAt: number
  readonly now: number
  /** How much weight runs without it; lent weight counts once. */
  readonly running: number
  /** Whether others wait for width. */
  readonly saturated: boolean
}

/** The least jobs of a window, and the least for each place of the width: their mean is good to a tenth or so. */
const leastSamples = 60
const samplesPerPlace = 4

/** How many windows at the full width come between two probes. */
const windowsPerProbe = 40

/** The same at the start, as long as each probe is shorter than the one before. */
const windowsInSearch = 2
const lessInSearch = 0.95

/** The part of the width in a probe. */
const probeWidth = 0.65

/** How much of a new measurement goes into the baseline. */
const baselineGain = 0.3

/** How much longer than the baseline jobs take at the width that is sought. */
const stretch = 1.35

const mostGrowth = 1.25
const mostFall = 0.2

/** What is left of the width after an overload. */
const afterOverload = 0.9

export class LatencyWidth {
  private readonly min: number
  private readonly max: number
  private width: number
  private baseline = Infinity
  private probing = true
  private searching = true
  private windows = 0
  /** Jobs that started before do not count: they ran at another width. */
  private since = -Infinity
  /** After a fall nothing counts until no more jobs run than the width allows. */
  private draining = false
  private samples = 0
  private sum = 0
  private saturated = 0
  private mostRunning = 0
  private heldUntil = -Infinity

  constructor(min: number, max: number, initial: number) {
    this.min = min
    this.max = max
    this.width = initial
  }

  get limit(): number {
    return this.clamp(Math.round(this.probing ? this.width * probeWidth : this.width))
  }

  private clamp(width: number): number {
    return Math.max(this.min, Math.min(this.max, width))
  }

  succeeded({ now, running, saturated, startedAt }: Ended): boolean {
    if (this.draining) {
      if (running > this.limit) return false
      this.begin(now, false)
    }
    if (startedAt < this.since) return false
    this.samples++
    this.sum += now - startedAt
    if (saturated) this.saturated++
    this.mostRunning = Math.max(this.mostRunning, running + 1)
    if (this.samples < Math.max(leastSamples, samplesPerPlace * this.limit)) return false
    const before = this.limit
    const mean = this.sum / this.samples
    // Also where few jobs come: no more ran than in a probe.
    if (this.probing || this.mostRunning <= this.width * probeWidth) this.measure(mean)
    else this.adjust(mean)
    this.begin(now, this.limit < before)
    return this.limit !== before
  }

  private measure(mean: number): void {
    const { baseline } = this
    // At the start even the probes may be too wide. Later a low mean may be luck, and must not be the baseline alone.
    this.searching &&= mean < baseline * lessInSearch
    this.baseline = this.searching ? mean : baseline + (mean - baseline) * baselineGain
    this.probing = false
    this.windows = this.searching ? windowsPerProbe - windowsInSearch : 0
  }

  private adjust(mean: number): void {
    // The clock may be too coarse to see the jobs.
    const ratio = mean === 0 ? Infinity : stretch * this.baseline / mean
    const change = Math.max(mostFall, Math.min(mostGrowth, ratio))
    // A width that is not used does not grow: nothing is known of what lies beyond.
    if (change < 1 || 2 * this.saturated >= this.samples) this.width = this.clamp(this.width * change)
    this.probing = ++this.windows >= windowsPerProbe
  }

  private begin(now: number, draining: boolean): void {
    this.since = now
    this.draining = draining
    this.samples =
      this.sum =
      this.saturated =
      this.mostRunning =
        0
  }

  overloaded({ now, startedAt }: Ended): boolean {
    // Jobs that were sent before the last fall say nothing about the width since.
    if (startedAt < this.heldUntil) return false
    const before = this.limit
    this.heldUntil = now
    this.width = this.clamp(this.width * afterOverload)
    this.begin(now, true)
    return this.limit !== before
  }
}
