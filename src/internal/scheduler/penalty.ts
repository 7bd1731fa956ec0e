/**
 * A time in which a scheduler starts no job. With a rate, the limiter has it.
 */
import { after, Alarm, type Place } from "../data/timers.js"

export class Penalty {
  private readonly clock: { time(): number }
  private readonly alarm: Alarm
  private until = 0

  /** `over` is called at the end, if somebody waits for it. */
  constructor(clock: { time(): number }, over: () => void, place: Place) {
    this.clock = clock
    this.alarm = new Alarm(after, () => {
      if (this.left > 0) this.watch()
      else over()
    }, place)
  }

  /** Nanoseconds until the end. */
  get left(): number {
    if (this.until === 0) return 0
    const left = this.until - this.clock.time()
    if (left > 0) return left
    this.until = 0
    return 0
  }

  /** A penalty never shortens another one. */
  extend(nanos: number, isAwaited: boolean): void {
    if (nanos > this.left) this.until = this.clock.time() + nanos
    if (isAwaited) this.watch()
  }

  /** Somebody waits for the end. */
  watch(): void {
    if (this.left > 0) this.alarm.set(this.until, this.clock.time())
  }

  close(): void {
    this.alarm.close()
  }
}
