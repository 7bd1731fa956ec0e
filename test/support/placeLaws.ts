/**
 * What holds for places in the queue of every limiter: one that leaves, one who takes the place of another.
 */
import { expect, it } from "@effect/vitest"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import type { ManualClock } from "./manualClock.js"

/** A queue under test, at rest, and what was seen of it. */
interface Queue<W> {
  readonly clock: ManualClock
  readonly limiter: {
    waitUnsafe(waiter: W, options: { readonly insteadOf: W }): void
    cancelUnsafe(waiter: W): void
  }
  readonly waiter: (name: string, options?: { tokens?: number }) => W
  /** Takes at once or queues. */
  readonly enter: (name: string, options?: { tokens?: number }) => W
  /** Who started, in order. */
  readonly names: () => ReadonlyArray<string | number>
  readonly refused: ReadonlyArray<string | number>
}

export const placeLaws = <W>(name: string, queue: (rate: Gcra.Rate) => Queue<W>): void => {
  const tenPerSecond = (burst: number) => queue(Gcra.rate(10, 1_000_000_000, burst, false))

  it(`L3 one in the place of another that has started or left goes to the end (${name})`, () => {
    const { clock, enter, limiter, names, waiter } = tenPerSecond(1)
    enter("a")
    const started = enter("b")
    const left = enter("c")
    limiter.cancelUnsafe(left)
    clock.advance(100)
    for (const name of ["d", "e"]) enter(name)
    limiter.waitUnsafe(waiter("f"), { insteadOf: started })
    limiter.waitUnsafe(waiter("g"), { insteadOf: left })
    clock.advance(1000)
    expect(names()).toEqual(["a", "b", "d", "e", "f", "g"])
  })

  it(`L6 one in the place of another that can never pass is told, and the place is free (${name})`, () => {
    const { clock, enter, limiter, names, refused, waiter } = tenPerSecond(2)
    enter("a", { tokens: 2 })
    const b = enter("b", { tokens: 2 })
    enter("c")
    limiter.waitUnsafe(waiter("never", { tokens: 3 }), { insteadOf: b })
    clock.advance(100)
    expect(refused).toEqual(["never"])
    expect(names()).toEqual(["a", "c"])
  })

  it(`L6 behind one that leaves, one that asks for less moves up to when that is due (${name})`, () => {
    const { clock, enter, limiter, names } = tenPerSecond(2)
    enter("a", { tokens: 2 })
    const b = enter("b", { tokens: 2 })
    enter("c")
    clock.advance(20)
    limiter.cancelUnsafe(b)
    clock.advance(80)
    expect(names()).toEqual(["a", "c"])
  })
}
