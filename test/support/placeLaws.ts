/**
 * Laws of places in the queue of every limiter: a waiter that leaves, and one that takes the place of another.
 */
import { expect, it } from "@effect/vitest"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import type { ManualClock } from "./manualClock.js"

/** A queue under test, at rest, and its starts and refusals. */
interface Queue<W> {
  readonly clock: ManualClock
  readonly limiter: {
    waitUnsafe(waiter: W, options: { readonly insteadOf: W }): void
    cancelUnsafe(waiter: W): void
  }
  readonly waiter: (name: string, options?: { tokens?: number; andThen?: () => void }) => W
  /** Takes at once or queues. */
  readonly enter: (name: string, options?: { tokens?: number; andThen?: () => void }) => W
  /** The starts in order: milliseconds and names. */
  readonly starts: ReadonlyArray<readonly [number, string | number]>
  readonly refused: ReadonlyArray<string | number>
}

const names = (starts: ReadonlyArray<readonly [number, string | number]>) => starts.map(([, name]) => name)

export const placeLaws = <W>(name: string, queue: (rate: Gcra.Rate) => Queue<W>): void => {
  const tenPerSecond = (burst: number) => queue(Gcra.rate(10, 1_000_000_000, burst, false))

  it(`L3 a waiter that takes another's place overtakes nobody, wherever that place is (${name})`, () => {
    for (const at of [0, 1, 2]) {
      const { clock, enter, limiter, starts, waiter } = tenPerSecond(2)
      enter("rest", { tokens: 2 })
      const waiting = ["a", "b", "c"].map((name) => enter(name))
      limiter.waitUnsafe(waiter("new", { tokens: 2 }), { insteadOf: waiting[at]! })
      limiter.cancelUnsafe(waiting[at]!)
      enter("d")
      clock.advance(1000)
      const order = ["a", "b", "c", "d"]
      order[at] = "new"
      expect(names(starts)).toEqual(["rest", ...order])
      expect(starts.at(-1)).toEqual([500, "d"])
    }
  })

  it(`a caller that throws as it starts does not delay the others (${name})`, () => {
    const { clock, enter, starts } = tenPerSecond(1)
    enter("a")
    enter("b", {
      andThen: () => {
        throw new Error("not ours")
      }
    })
    enter("c")
    clock.advance(1000)
    enter("d")
    expect(names(starts)).toEqual(["a", "b", "c", "d"])
  })

  it(`L3 one in the place of another that has started or left goes to the end (${name})`, () => {
    const { clock, enter, limiter, starts, waiter } = tenPerSecond(1)
    enter("a")
    const started = enter("b")
    const left = enter("c")
    limiter.cancelUnsafe(left)
    clock.advance(100)
    for (const name of ["d", "e"]) enter(name)
    limiter.waitUnsafe(waiter("f"), { insteadOf: started })
    limiter.waitUnsafe(waiter("g"), { insteadOf: left })
    clock.advance(1000)
    expect(names(starts)).toEqual(["a", "b", "d", "e", "f", "g"])
  })

  it(`L6 one in the place of another that can never pass is told, and the place is free (${name})`, () => {
    const { clock, enter, limiter, refused, starts, waiter } = tenPerSecond(2)
    enter("a", { tokens: 2 })
    const b = enter("b", { tokens: 2 })
    enter("c")
    limiter.waitUnsafe(waiter("never", { tokens: 3 }), { insteadOf: b })
    clock.advance(100)
    expect(refused).toEqual(["never"])
    expect(names(starts)).toEqual(["a", "c"])
  })

  it(`L6 behind one that leaves, one that asks for less moves up to when that is due (${name})`, () => {
    const { clock, enter, limiter, starts } = tenPerSecond(2)
    enter("a", { tokens: 2 })
    const b = enter("b", { tokens: 2 })
    enter("c")
    clock.advance(20)
    limiter.cancelUnsafe(b)
    clock.advance(80)
    expect(names(starts)).toEqual(["a", "c"])
  })
}
