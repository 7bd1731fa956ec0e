/**
 * Knows when nothing more is coming: turns of the event loop in which no look-up joined.
 *
 * One watcher serves all pending batches of a `Batcher`. A turn is one pass of Effect's fiber scheduler, which is
 * `setImmediate` where there is one and a timer elsewhere.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Scheduler, SchedulerDispatcher } from "effect/Scheduler"

/** What is watched: `joins` grows by one with each look-up. */
export interface Activity {
  joins: number
}

/** Two, for a fiber that yields once before its look-up comes a turn later; more would only add latency. */
const quietTurns = 2

/** A source that never falls quiet must not starve those who wait. */
const mostTurns = 16

interface Window {
  readonly activity: Activity
  readonly onClose: () => void
  joins: number
  quiet: number
  turns: number
  closed: boolean
}

export class Turns {
  private windows: Array<Window> = []
  private armed = false
  /** That of who opened the last window: whoever built the layer, such as `runSync`, may have turns of another kind. */
  private scheduler: Scheduler | undefined = undefined
  private dispatcher: SchedulerDispatcher | undefined = undefined

  /** Calls `onClose` when `activity` has been quiet, unless the returned effect has been run. */
  watch(activity: Activity, onClose: () => void): Effect.Effect<void> {
    const window: Window = { activity, onClose, joins: activity.joins, quiet: 0, turns: 0, closed: false }
    this.windows.push(window)
    const { scheduler } = Fiber.getCurrent()!.cache
    if (scheduler !== this.scheduler) {
      this.scheduler = scheduler
      this.dispatcher = scheduler.makeDispatcher()
      this.armed = false
    }
    this.arm()
    return Effect.sync(() => {
      window.closed = true
    })
  }

  private arm(): void {
    if (this.armed) return
    this.armed = true
    this.dispatcher!.scheduleTask(this.turn, 0)
  }

  private readonly turn = (): void => {
    this.armed = false
    const windows = this.windows
    const due: Array<Window> = []
    this.windows = []
    for (const window of windows) {
      if (window.closed) continue
      if (window.joins === window.activity.joins) {
        window.quiet++
      } else {
        window.quiet = 0
        window.joins = window.activity.joins
      }
      if (window.quiet >= quietTurns || ++window.turns >= mostTurns) due.push(window)
      else this.windows.push(window)
    }
    if (this.windows.length > 0) this.arm()
    // A batch runs inside `onClose` until it first waits: it may interrupt those behind it and open windows of its own.
    for (const window of due) if (!window.closed) window.onClose()
  }
}
