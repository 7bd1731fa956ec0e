import process from "node:process"
import { describe, expect, it, vi } from "@effect/vitest"
import { Context, Effect, Scheduler as FiberScheduler } from "effect"
import { dispatcherIn } from "../src/internal/data/dispatcher.js"
import * as Timers from "../src/internal/data/timers.js"
import { ManualClock } from "./support/manualClock.js"
import { place } from "./support/place.js"

/** The timers that keep this process from ending. */
const held = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length

describe("timers", () => {
  it("an idle timer keeps no process alive, any other does", () => {
    const before = held()
    const idle = Timers.idleAfter(3_600_000, () => {}, place)
    expect(held()).toBe(before)
    const timer = Timers.after(3_600_000, () => {}, place)
    expect(held()).toBe(before + 1)
    timer()
    idle()
    expect(held()).toBe(before)
  })

  it.live("both call when the time has come, and not once they are cancelled", () =>
    Effect.gen(function*() {
      const called: Array<string> = []
      yield* Effect.callback<void>((resume) => {
        Timers.idleAfter(1, () => called.push("idle"), place)
        Timers.idleAfter(1, () => called.push("cancelled"), place)()
        Timers.after(1, () => called.push("cancelled"), place)()
        Timers.after(20, () => resume(Effect.void), place)
      })
      expect(called).toEqual(["idle"])
    }))

  it("on another clock than the real one both are sleeps", () => {
    const clock = new ManualClock()
    const place = { context: clock.context, clock }
    const called: Array<string> = []
    Timers.idleAfter(10, () => called.push("idle"), place)
    const cancel = Timers.after(10, () => called.push("cancelled"), place)
    cancel()
    clock.advance(10)
    expect(called).toEqual(["idle"])
    expect(clock.pending).toBe(0)
  })

  it("an idle timer of many weeks asks the host for the longest time it can wait, not for a time that ends at once", () => {
    const timeouts = vi.spyOn(globalThis, "setTimeout")
    Timers.idleAfter(2 ** 40, () => {}, place)()
    expect(timeouts.mock.calls.map(([, millis]) => millis)).toEqual([2 ** 31 - 1])
    timeouts.mockRestore()
  })

  it("an alarm cancels no timer that has rung, also not one that rings when it is set", () => {
    let [rang, cancelled] = [0, 0]
    const atOnce: typeof Timers.after = (_millis, ring) => {
      ring()
      return () => void cancelled++
    }
    const alarm = new Timers.Alarm(atOnce, () => void rang++, place)
    alarm.set(1e6, 0)
    alarm.clear()
    alarm.set(1e6, 0)
    alarm.close()
    alarm.set(1e6, 0)
    expect([rang, cancelled]).toEqual([2, 0])
  })

  it("a dispatcher is never that of runSync, whose turns are microtasks", () => {
    const sync = new FiberScheduler.MixedScheduler("sync")
    const dispatcher = dispatcherIn(Context.make(FiberScheduler.Scheduler, sync))
    expect(dispatcher).toBeDefined()
    expect(dispatcherIn(Context.empty())).toBeDefined()
  })
})
