/**
 * The time of the metrics. Where many ask in a turn of the event loop it is read once, since reading a clock may cost more
 * than all else. Where few ask, to notice the end of a turn costs more than to read it again.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"

/** The most answers from one reading, so that a turn that computes for long is seen, if a few jobs late. */
const mostAnswers = 64

/** With fewer answers in a turn, so many times are read one by one before the next try. */
const leastAnswers = 8
const pause = 256

const settled = /*#__PURE__*/ Promise.resolve()

export class Time {
  readonly clock: Clock.Clock
  /** Another clock, that of a test say, may move within a turn. */
  private readonly keeps: boolean
  private readonly start: number
  private known = 0
  private left = 0
  private paused = 0
  private forgets = false
  private many = false
  private readonly forget = (): void => {
    if (!this.many && mostAnswers - this.left < leastAnswers) this.paused = pause
    this.left = 0
    this.forgets = this.many = false
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
    if (this.paused > 0) {
      this.paused--
    } else if (this.keeps) {
      this.left = mostAnswers
      this.many = this.forgets
      // `queueMicrotask` also makes an object for the host's hooks.
      if (!this.forgets) void settled.then(this.forget)
      this.forgets = true
    }
    return this.known
  }
}
