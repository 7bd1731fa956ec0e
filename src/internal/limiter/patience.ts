/**
 * The calls of one limiter that wait for a time only, and one timer for all of them. A limiter without such calls has none.
 *
 * Times are nanoseconds of the limiter's clock since the first of these calls.
 */
import * as DueHeap from "../data/dueHeap.js"
import { dispatcherIn } from "../data/dispatcher.js"
import { begin, Slices } from "../data/slices.js"
import * as Timers from "../data/timers.js"
import type { Backend, Refusal, StoreError, Waiter } from "./limiter.js"

/** `due` is when its time is over. */
export interface Call extends Waiter<StoreError>, DueHeap.Member {}

export class Patience<C extends Call> {
  private readonly limiter: Backend
  private readonly place: Timers.Place
  private readonly epoch: bigint
  private readonly onLate: (call: C, refusal: Refusal) => void
  private readonly calls: Array<C> = []
  private readonly alarm: Timers.Alarm
  private readonly slices: Slices

  constructor(limiter: Backend, place: Timers.Place, onLate: (call: C, refusal: Refusal) => void) {
    this.limiter = limiter
    this.place = place
    this.onLate = onLate
    this.epoch = place.clock.monotonicTimeNanosUnsafe()
    this.alarm = new Timers.Alarm(Timers.after, () => this.ring(), place)
    this.slices = new Slices(dispatcherIn(place.context))
  }

  now(): number {
    return Number(this.place.clock.monotonicTimeNanosUnsafe() - this.epoch)
  }

  add(call: C): void {
    DueHeap.set(this.calls, call, call.due)
    this.alarm.set(this.calls[0]!.due, this.now())
  }

  remove(call: C): void {
    DueHeap.remove(this.calls, call)
    if (this.calls.length === 0) this.alarm.clear()
  }

  /** The tokens of a call were taken. Returns whether that was in time. */
  isInTime(call: C): boolean {
    this.remove(call)
    if (this.now() <= call.due) return true
    this.refuse(call)
    return false
  }

  private refuse(call: C): void {
    this.onLate(call, this.limiter.refuseUnsafe(call))
  }

  /** Refuses the calls whose time is over, and sets the timer for the next one. */
  private ring(): void {
    // First the calls that are due: their timer may be set for the same time.
    this.limiter.settle?.()
    const { calls } = this
    const now = this.now()
    begin({
      slices: this.slices,
      get pending() {
        return calls.length > 0 && calls[0]!.due <= now
      },
      // One after the other: the place of a call that is refused may be the turn of the next one.
      step: () => {
        const call = calls[0]!
        DueHeap.remove(calls, call)
        this.refuse(call)
      },
      done: () => {
        if (calls.length > 0) this.alarm.set(calls[0]!.due, this.now())
      }
    })
  }
}
