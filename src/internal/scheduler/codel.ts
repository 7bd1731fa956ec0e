/**
 * Controlled delay: whether a queue is overloaded. After folly's `Codel.cpp` and "Fail at Scale" (Maurer, 2015).
 *
 * A queue that absorbs bursts is empty, or nearly so, at some moment of every interval. If every job that started in an
 * interval had waited longer than the target, the queue is a standing one: it makes all jobs late and helps none.
 */
export class Codel {
  overloaded = false
  /** Nanoseconds, as all times here. */
  readonly target: number
  private readonly interval: number
  private least = Infinity
  private until = -Infinity
  private stalled = false

  constructor(target: number, interval: number) {
    this.target = target
    this.interval = interval
  }

  /** The event loop stood still: the waits of this interval say nothing about the other side. */
  stall(): void {
    this.stalled = true
  }

  /** Somebody started without a wait. */
  idle(): void {
    this.least = 0
  }

  /** The turn of a job has come after a wait. Returns whether it is refused. */
  refuses(waited: number, now: number): boolean {
    if (now > this.until) {
      if (!this.stalled && this.least !== Infinity) this.overloaded = this.least > this.target
      this.stalled = false
      this.least = Infinity
      this.until = now + this.interval
    }
    if (this.overloaded && waited > 2 * this.target) return true
    if (waited < this.least) this.least = waited
    return false
  }
}
