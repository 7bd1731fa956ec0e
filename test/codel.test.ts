/**
 * The laws of controlled delay (O2), on the controller itself. Times are plain numbers.
 */
import { describe, expect, it } from "@effect/vitest"
import { Codel } from "../src/internal/scheduler/codel.js"

/** A controller whose intervals of 100 have begun, overloaded by two of them. */
const overloaded = () => {
  const codel = new Codel(10, 100)
  codel.refuses(15, 1)
  codel.refuses(15, 50)
  codel.refuses(15, 102)
  expect(codel.overloaded).toBe(true)
  return codel
}

describe("Codel", () => {
  it("O2 is overloaded after an interval in which every start had waited longer than the target", () => {
    const codel = new Codel(10, 100)
    expect(codel.refuses(50, 1)).toBe(false)
    expect(codel.refuses(11, 100)).toBe(false)
    expect(codel.overloaded).toBe(false)
    codel.refuses(50, 102)
    expect(codel.overloaded).toBe(true)
  })

  it("O2 a wait of the target, or none, in an interval is no overload", () => {
    for (const idle of [true, false]) {
      const codel = new Codel(10, 100)
      codel.refuses(50, 1)
      if (idle) codel.idle()
      else codel.refuses(10, 50)
      codel.refuses(50, 102)
      expect(codel.overloaded).toBe(false)
    }
  })

  it("O2 while overloaded, more than twice the target is refused, and twice the target is not", () => {
    const codel = overloaded()
    expect([codel.refuses(20, 110), codel.refuses(21, 110)]).toEqual([false, true])
  })

  it("O2 a wait below the target ends the overload with its interval; refused jobs do not count", () => {
    const codel = overloaded()
    codel.refuses(30, 110)
    codel.refuses(5, 120)
    expect(codel.overloaded).toBe(true)
    expect(codel.refuses(30, 210)).toBe(false)
    expect(codel.overloaded).toBe(false)
  })

  it("O2 an interval without a start, and one with a stall, are not judged", () => {
    const idle = overloaded()
    idle.refuses(30, 110)
    idle.refuses(30, 1000)
    expect(idle.overloaded).toBe(true)

    const stalled = new Codel(10, 100)
    stalled.refuses(50, 1)
    stalled.stall()
    stalled.refuses(50, 102)
    expect(stalled.overloaded).toBe(false)
    stalled.refuses(50, 204)
    expect(stalled.overloaded).toBe(true)
  })
})
