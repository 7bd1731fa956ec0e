/**
 * The laws of controlled delay (O2), on the controller itself. Times are plain numbers.
 */
import { describe, expect, it } from "@effect/vitest"
import { Codel } from "../src/internal/scheduler/codel.js"

/** A controller that has refused a job at 102: all jobs had been late for longer than its interval of 100. */
const overloaded = () => {
  const codel = new Codel(10, 100)
  for (const now of [1, 50]) codel.refuses(15, now)
  expect(codel.refuses(21, 102)).toBe(true)
  return codel
}

describe("Codel", () => {
  it("O2 is overloaded one interval after the first of an unbroken row of late starts, and not before", () => {
    const codel = new Codel(10, 100)
    codel.refuses(10, 1)
    codel.refuses(11, 80)
    expect([codel.refuses(50, 180), codel.refuses(50, 181)]).toEqual([false, true])
  })

  it("O2 the turn of one late job, however late, is no overload", () => {
    expect(new Codel(10, 100).refuses(1000, 1000)).toBe(false)
  })

  it("O2 is late from the first late start until one in time, or an empty queue", () => {
    const codel = new Codel(10, 100)
    const late: Array<boolean> = [codel.isLate]
    for (const waited of [10, 11, 50, 10, 11]) {
      codel.refuses(waited, 1)
      late.push(codel.isLate)
    }
    codel.reset()
    expect([...late, codel.isLate]).toEqual([false, false, true, true, false, true, false])
  })

  it("O2 a wait of the target, or an empty queue, in an interval is no overload", () => {
    for (const empty of [true, false]) {
      const codel = new Codel(10, 100)
      codel.refuses(50, 1)
      if (empty) codel.reset()
      else codel.refuses(10, 50)
      expect([codel.refuses(50, 102), codel.refuses(50, 203)]).toEqual([false, true])
    }
  })

  it("O2 while overloaded, more than twice the target is refused, and twice the target is not", () => {
    const codel = overloaded()
    expect([codel.refuses(20, 110), codel.refuses(21, 110)]).toEqual([false, true])
  })

  it("O2 short waits, which refusals make, do not end an overload; an empty queue does", () => {
    const codel = overloaded()
    expect([codel.refuses(0, 110), codel.refuses(21, 120)]).toEqual([false, true])
    codel.reset()
    expect(codel.refuses(21, 130)).toBe(false)
  })

  it("O2 an interval without a refusal ends an overload, and so does one in which there was none to refuse", () => {
    const codel = overloaded()
    expect([codel.refuses(20, 202), codel.refuses(21, 202)]).toEqual([false, true])
    expect([codel.refuses(5, 303), codel.refuses(21, 304)]).toEqual([false, false])

    const mild = new Codel(10, 100)
    for (const now of [1, 102, 201]) expect(mild.refuses(15, now)).toBe(false)
    mild.refuses(15, 202)
    expect(mild.refuses(21, 203)).toBe(false)
  })

  it("O2 an interval without any turn does not end an overload", () => {
    expect(overloaded().refuses(21, 1000)).toBe(true)
  })
})
