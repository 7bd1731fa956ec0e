import { expect, it } from "@effect/vitest"
import { Penalty } from "../src/internal/scheduler/penalty.js"
import { ManualClock } from "./support/manualClock.js"

it("a penalty ends for those who wait, also where its timer rings early and the end falls between two readings", () => {
  for (let early = 0; early < 4; early++) {
    const timers = new ManualClock()
    let now = 0
    let step = 0
    let pumped = 0
    const penalty = new Penalty({
      time: () => now += step,
      pump: () => void pumped++
    }, { context: timers.context, clock: timers })
    penalty.extend(10e6, true)
    pumped = 0
    // From here each reading takes a nanosecond, and the timer rings so many of them before the end.
    now = 10e6 - early
    step = 1
    timers.advance(10)
    now += 1e6
    timers.advance(10)
    expect([early, pumped, timers.pending]).toEqual([early, 1, 0])
  }
})
