/**
 * A time in which a scheduler starts no job. With a rate, the limiter has it.
 */
import { after, Alarm, type Place } from "../data/timers.js"

/** The part of an engine that this uses. */
interface Host {
  time(): number
  /** The wait for width begins or ends. */
  widthTurned(): void
  /** Starts every job that can start. */
  pump(): void
}

export class Penalty {
  private readonly host: Host
  private readonly alarm: Alarm
  private until = 0

  constructor(host: Host, place: Place) {
    this.host = host
    this.alarm = new Alarm(after, () => {
      if (this.left > 0) this.watch()
      else this.turned()
    }, place)
  }

  /** Nanoseconds until the end. */
  get left(): number {
    if (this.until === 0) return 0
    const left = this.until - this.host.time()
    if (left > 0) return left
    this.until = 0
    return 0
  }

  /** A penalty never shortens another one. */
  extend(nanos: number, isAwaited: boolean): void {
    if (nanos > this.left) this.until = this.host.time() + nanos
    if (isAwaited) this.watch()
    this.turned()
  }

  private turned(): void {
    this.host.widthTurned()
    this.host.pump()
  }

  /** Somebody waits for the end. */
  watch(): void {
    if (this.left > 0) this.alarm.set(this.until, this.host.time())
  }

  close(): void {
    this.alarm.close()
  }
}
