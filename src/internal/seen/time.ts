/**
 * The time of the metrics: read once a turn of the event loop, since reading a clock may cost more than all else.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"

/** The most answers from one reading, so that a turn that computes for long is seen, if a few jobs late. */
const mostAnswers = 64

export class Time {
  private readonly clock: Clock.Clock
  /** Another clock, that of a test say, may move within a turn. */
  private readonly keeps: boolean
  private readonly start: number
  private known = 0
  private left = 0
  private forgets = false
  private readonly forget = (): void => {
    this.left = 0
    this.forgets = false
  }

  constructor(clock: Clock.Clock) {
    this.clock = clock
    this.keeps = clock === Context.get(Context.empty(), Clock.Clock)
    this.start = clock.currentTimeMillisUnsafe()
  }

  /** Milliseconds since it was made: a small integer, which a job holds without an allocation. */
  now(): number {
    if (this.left > 0) {
      this.left--
      return this.known
    }
    return this.read()
  }

  /** Milliseconds since a time of the clock. */
  since(millis: number): number {
    return Math.max(0, this.now() + this.start - millis)
  }

  private read(): number {
    this.known = Math.round(this.clock.currentTimeMillisUnsafe() - this.start)
    if (this.keeps) {
      this.left = mostAnswers
      if (!this.forgets) queueMicrotask(this.forget)
      this.forgets = true
    }
    return this.known
  }
}
