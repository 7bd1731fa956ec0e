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

  it("an idle timer runs on hosts whose timers are numbers, and Deno is told that it keeps no process alive", () => {
    const [started, ended, unrefs]: ReadonlyArray<Array<unknown>> = [[], [], []]
    vi.stubGlobal("setTimeout", (_: unknown, millis: number) => (started.push(millis), 7))
    vi.stubGlobal("clearTimeout", (timer: unknown) => ended.push(timer))
    try {
      for (const deno of [undefined, {}, { unrefTimer: (timer: unknown) => unrefs.push(timer) }]) {
        vi.stubGlobal("Deno", deno)
        Timers.idleAfter(10, () => {}, place)()
      }
    } finally {
      vi.unstubAllGlobals()
    }
    expect([started, ended, unrefs]).toEqual([[10, 10, 10], [7, 7, 7], [7]])
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

  it("an alarm has one timer or none, whatever the code that starts or ends a timer does with it", () => {
    type Do = (alarm: Timers.Alarm) => void
    const does: ReadonlyArray<Do> = [
      (alarm) => alarm.clear(),
      (alarm) => alarm.close(),
      (alarm) => alarm.set(1e6, 0),
      (alarm) => alarm.set(2e6, 0),
      (alarm) => alarm.set(9e6, 0),
      (alarm) => {
        alarm.clear()
        alarm.set(5e6, 0)
      }
    ]
    for (const when of ["starts", "ends"]) {
      for (const foreign of does) {
        for (const last of does) {
          const rings = new Set<() => void>()
          let armed = false
          const called = (now: string) => {
            if (now !== when || !armed) return
            armed = false
            foreign(alarm)
          }
          let rang = 0
          const alarm = new Timers.Alarm(
            (_millis, ring) => {
              called("starts")
              rings.add(ring)
              return () => {
                rings.delete(ring)
                called("ends")
              }
            },
            () => void rang++,
            place
          )
          alarm.set(6e6, 0)
          armed = true
          last(alarm)
          expect(rings.size).toBe(Number.isFinite(alarm.at) ? 1 : 0)
          for (const ring of rings) ring()
          expect(rang).toBe(rings.size)
          rings.clear()
          alarm.close()
          alarm.set(1e6, 0)
          expect(rings.size).toBe(0)
        }
      }
    }
  })

  it("a dispatcher is never that of runSync, whose turns are microtasks", () => {
    const sync = new FiberScheduler.MixedScheduler("sync")
    const dispatcher = dispatcherIn(Context.make(FiberScheduler.Scheduler, sync))
    expect(dispatcher).toBeDefined()
    expect(dispatcherIn(Context.empty())).toBeDefined()
  })

  it("a task that throws takes no other along: its error is thrown in a turn of its own", () => {
    const turns: Array<() => void> = []
    const turnByTurn = new FiberScheduler.MixedScheduler("async", (turn) => {
      turns.push(turn)
      return () => {}
    })
    const dispatcher = dispatcherIn(Context.make(FiberScheduler.Scheduler, turnByTurn))
    const log: Array<string> = []
    dispatcher.scheduleTask(() => {
      log.push("throws")
      throw new Error("of a task")
    }, 0)
    dispatcher.scheduleTask(() => log.push("next"), 0)
    turns.shift()!()
    expect(log).toEqual(["throws", "next"])
    expect(turns.shift()).toThrow("of a task")
    expect(turns).toEqual([])
  })
})
