/**
 * A time in which a scheduler starts no job. With a rate, the limiter has it.
 */
import { after, Alarm, type Place } from "../data/timers.js"
import type { Core } from "./refusal.js"

type Host = Pick<Core, "time" | "pump">

export class Penalty {
  private readonly engine: Host
  private readonly alarm: Alarm
  private until = 0
  /** The end of the last one, also if it is over. */
  private last = -Infinity

  constructor(engine: Host, place: Place) {
    this.engine = engine
    this.alarm = new Alarm(after, () => {
      // It may ring a moment early, and the end may come between two readings of the clock: one decides.
      if (!this.watch()) this.engine.pump()
    }, place)
  }

  /** Nanoseconds until the end. */
  get left(): number {
    return this.until === 0 ? 0 : this.leftAt(this.engine.time())
  }

  private leftAt(now: number): number {
    if (this.until <= now) this.until = 0
    return Math.max(0, this.until - now)
  }

  /**
   * A penalty never shortens another one. Returns whether this one lengthens the pause, by more than `slack`: within it the
   * end is that of the last one, told again.
   */
  extend(nanos: number, isAwaited: boolean, slack = 0): boolean {
    const now = this.engine.time()
    const isLonger = nanos > this.leftAt(now)
    const isNew = isLonger && now + nanos > this.last + slack
    if (isLonger) this.until = this.last = now + nanos
    if (isAwaited) this.watch()
    this.engine.pump()
    return isNew
  }

  /** Somebody waits for the end. Returns whether it is still to come. */
  watch(): boolean {
    const now = this.engine.time()
    if (this.leftAt(now) === 0) return false
    this.alarm.set(this.until, now)
    return true
  }

  close(): void {
    this.alarm.close()
  }
}
