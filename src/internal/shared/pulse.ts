/**
 * One timer for all schedulers of a process: it tells each one when to renew its permits, and when to ask again.
 */
import * as DueHeap from "../data/dueHeap.js"
import { forEachGuarded } from "../data/guarded.js"
import { after, Alarm, type Place } from "../data/timers.js"
import { monotonicMillis } from "../store/guard.js"

/** Due in milliseconds of the monotonic clock. */
export interface Beating extends DueHeap.Member {
  beat(now: number): void
}

export class Pulse {
  private readonly place: Place
  private readonly alarm: Alarm
  private readonly heap: Array<Beating> = []

  constructor(place: Place) {
    this.place = place
    this.alarm = new Alarm(after, () => this.ring(), place)
  }

  /** Calls `beat` at this time, once, instead of at the time set before; never, if it is `Infinity`. */
  set(member: Beating, due: number): void {
    if (due === Infinity) DueHeap.remove(this.heap, member)
    else DueHeap.set(this.heap, member, due)
    this.arm(monotonicMillis(this.place.clock))
  }

  private ring(): void {
    const now = monotonicMillis(this.place.clock)
    const due: Array<Beating> = []
    for (let first = this.heap[0]; first !== undefined && first.due <= now; first = this.heap[0]) {
      DueHeap.remove(this.heap, first)
      due.push(first)
    }
    try {
      forEachGuarded(due, (member) => member.beat(now))
    } finally {
      this.arm(now)
    }
  }

  private arm(now: number): void {
    const first = this.heap[0]
    if (first === undefined) this.alarm.clear()
    else this.alarm.set(first.due * 1e6, now * 1e6)
  }
}
