/**
 * A clock that a test turns by hand, whose timers fire as late as the test says.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

export class ManualClock implements Clock.Clock {
  private nanos = 0n
  private readonly timers: Array<{ readonly at: bigint; readonly fire: () => void }> = []
  /** How many timers were ever set. */
  set = 0

  get now(): number {
    return Number(this.nanos)
  }
  get pending(): number {
    return this.timers.length
  }
  get context(): Context.Context<never> {
    return Context.make(Clock.Clock, this)
  }

  currentTimeMillisUnsafe = () => this.now / 1e6
  currentTimeNanosUnsafe = () => this.nanos
  monotonicTimeNanosUnsafe = () => this.nanos
  readonly currentTimeMillis = Effect.sync(this.currentTimeMillisUnsafe)
  readonly currentTimeNanos = Effect.sync(this.currentTimeNanosUnsafe)
  readonly monotonicTimeNanos = Effect.sync(this.monotonicTimeNanosUnsafe)

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      this.set++
      const timer = { at: this.nanos + Duration.toNanosUnsafe(duration), fire: () => resume(Effect.void) }
      this.timers.push(timer)
      return Effect.sync(() => {
        // It may have fired, and its fiber has not heard of it yet.
        const i = this.timers.indexOf(timer)
        if (i !== -1) this.timers.splice(i, 1)
      })
    })
  }

  /** Lets time pass without a timer firing: what a blocked event loop does. */
  block(millis: number): void {
    this.nanos += BigInt(Math.round(millis * 1e6))
  }

  /** Fires what is due, first things first. */
  fire(): void {
    while (true) {
      const next = this.timers.toSorted((a, b) => Number(a.at - b.at))[0]
      if (next === undefined || next.at > this.nanos) return
      this.timers.splice(this.timers.indexOf(next), 1)
      next.fire()
    }
  }

  /** Lets time pass timer by timer, each of which fires `late` milliseconds after it should. */
  advance(millis: number, late: () => number = () => 0): void {
    const end = this.nanos + BigInt(Math.round(millis * 1e6))
    while (true) {
      const next = this.timers.toSorted((a, b) => Number(a.at - b.at))[0]
      if (next === undefined || next.at > end) break
      const at = next.at + BigInt(Math.round(late() * 1e6))
      if (at > this.nanos) this.nanos = at
      this.timers.splice(this.timers.indexOf(next), 1)
      next.fire()
    }
    if (end > this.nanos) this.nanos = end
  }
}
