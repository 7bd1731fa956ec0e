/**
 * Controlled delay: whether a queue is overloaded. After "Controlling Queue Delay" (Nichols and Jacobson, 2012) and "Fail at
 * Scale" (Maurer, 2015).
 *
 * A queue that absorbs bursts is empty, or nearly so, at some moment of every interval. If every job that started in an
 * interval had waited longer than the target, the queue is a standing one: it makes all jobs late and helps none. Refusals
 * make short waits, too. So the overload ends with an empty queue, or an interval without a refusal.
 */
export class Codel {
  /** Nanoseconds, as all times here. */
  readonly target: number
  private readonly interval: number
  /** Since when every job has started late. */
  private lateSince: number | undefined = undefined
  private refusedAt = -Infinity

  constructor(target: number, interval: number) {
    this.target = target
    this.interval = interval
  }

  get isLate(): boolean {
    return this.lateSince !== undefined
  }

  /** Nobody waits. */
  reset(): void {
    this.lateSince = undefined
  }

  /** The turn of a job has come after a wait. Returns whether it is refused. */
  refuses(waited: number, now: number): boolean {
    const { interval, lateSince } = this
    if (lateSince !== undefined && now - lateSince > interval) {
      if (waited > 2 * this.target) {
        this.refusedAt = now
        return true
      }
      if (now - Math.max(this.refusedAt, lateSince + interval) <= interval) return false
      this.lateSince = undefined
    }
    if (waited <= this.target) this.lateSince = undefined
    else this.lateSince ??= now
    return false
  }
}
