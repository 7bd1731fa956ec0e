/**
 * The lines that services log.
 */
import * as Effect from "effect/Effect"
import type { Place } from "../data/timers.js"

/** Logs in the context of a service. */
export class Log {
  private readonly name: string
  private readonly place: Place
  private since: number | undefined = undefined

  constructor(name: string, place: Place) {
    this.name = name
    this.place = place
  }

  private run(effect: Effect.Effect<void>): void {
    Effect.runForkWith(this.place.context)(effect)
  }

  private runSoon(effect: Effect.Effect<void>): void {
    this.run(Effect.flatMap(Effect.yieldNow, () => effect))
  }

  /** Keys may be secrets: none is told. */
  penalized(hasKey: boolean, nanos: number): void {
    const what = hasKey ? "a key is penalized" : "penalized"
    this.run(Effect.logWarning(`${this.name}: ${what} for ${Math.ceil(nanos / 1e6)} ms`))
  }

  /** Comes where a job is between two states. Loggers are foreign code, so the line is logged in the next turn. */
  overloaded(is: boolean): void {
    const now = this.place.clock.currentTimeMillisUnsafe()
    if (is && this.since === undefined) {
      this.since = now
      this.runSoon(Effect.logWarning(`${this.name}: overloaded, jobs are shed`))
    } else if (!is && this.since !== undefined) {
      const lasted = now - this.since
      this.since = undefined
      this.runSoon(Effect.logInfo(`${this.name}: the overload is over, it lasted ${Math.round(lasted)} ms`))
    }
  }
}

export const logs = (name: string, place: Place): Log => new Log(name, place)
