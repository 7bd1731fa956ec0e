import { describe, expect, it } from "vitest"
import { MixedScheduler } from "effect/Scheduler"
import { guarded } from "../src/internal/data/guarded.js"
import { begin, piecesPerTurn, Slices, type Work } from "../src/internal/data/slices.js"
import { makeManualScheduler } from "./support/manualScheduler.js"

/** Work whose pieces are functions. */
class Pieces implements Work {
  readonly pieces: Array<() => void>
  readonly slices: Slices
  doneTimes = 0

  constructor(pieces: Iterable<() => void>, slices = new Slices(new MixedScheduler().makeDispatcher())) {
    this.pieces = [...pieces].reverse()
    this.slices = slices
  }
  get pending() {
    return this.pieces.length > 0
  }
  step() {
    this.pieces.pop()!()
  }
  done() {
    this.doneTimes++
  }
}

const throws = (message: string) => () => {
  throw new Error(message)
}

describe("slices", () => {
  it("a chain of a thousand works, each begun in a piece of the one before, stays off the stack and is done", () => {
    let deepest = 0
    const link = (n: number): Work =>
      new Pieces([() => {
        deepest = Math.max(deepest, new Error().stack!.split("\n").length)
        if (n > 1) begin(link(n - 1))
        else last = true
      }])
    let last = false
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 10_000
    begin(link(1000))
    Error.stackTraceLimit = limit
    expect(last).toBe(true)
    expect(deepest).toBeLessThan(64 * 10)
  })

  it("work that is nested too deep comes after all pieces of the works around it", () => {
    const did: Array<number> = []
    const link = (n: number): Work => new Pieces([() => void (n < 70 && begin(link(n + 1))), () => void did.push(n)])
    begin(link(1))
    const down = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, i) => from - i)
    expect(did).toEqual([...down(64, 1), ...down(70, 65)])
  })

  it("pieces that throw do not keep back the work that was put off because it was nested too deep", () => {
    const sides = Array.from({ length: 100 }, (_, i) => new Pieces([throws(`side ${i}`)]))
    let last = false
    const link = (n: number): Work =>
      new Pieces([() => {
        if (n === 100) {
          last = true
          return
        }
        let thrown: unknown
        for (const work of [link(n + 1), sides[n]!]) guarded(() => begin(work), (error) => void (thrown ??= error))
        if (thrown !== undefined) throw thrown
      }])
    expect(() => begin(link(0))).toThrow("side")
    expect(last).toBe(true)
    expect(sides.map((side) => side.doneTimes)).toEqual(Array(100).fill(1))
  })

  it("each slice does all of its pieces, however many throw, and throws the first error", () => {
    const manual = makeManualScheduler()
    const n = 20_000
    const work = new Pieces(Array.from({ length: n }, (_, i) => throws(`piece ${i};`)), new Slices(manual.dispatcher))
    expect(() => begin(work)).toThrow("piece 0;")
    for (let done = piecesPerTurn; done < n; done += piecesPerTurn) {
      expect(work.pieces.length).toBe(n - done)
      expect(manual.turn).toThrow(`piece ${done};`)
    }
    expect([work.pending, work.doneTimes, manual.waiting]).toEqual([false, 1, 0])
  })

  it("work that begins in a piece of other work shares its slice", () => {
    const manual = makeManualScheduler()
    const slices = new Slices(manual.dispatcher)
    let did = 0
    const count = Array.from({ length: piecesPerTurn }, () => () => void did++)
    const second = new Pieces(count, slices)
    const first = new Pieces([() => begin(second), ...count], slices)
    begin(first)
    expect(did).toBe(piecesPerTurn - 1)
    manual.turn()
    expect(did).toBe(2 * piecesPerTurn - 1)
    manual.turn()
    expect(did).toBe(2 * piecesPerTurn)
    expect([first.doneTimes, second.doneTimes, manual.waiting]).toEqual([1, 1, 0])
  })

  it("a stack that overflows between the pieces of a work leaves the work of others as it was", () => {
    const manual = makeManualScheduler()
    const slices = new Slices(manual.dispatcher)
    const overflowing: Work = {
      slices,
      get pending(): boolean {
        throw new RangeError("Maximum call stack size exceeded")
      },
      step: () => {},
      done: () => {}
    }
    expect(() => begin(overflowing)).toThrow(RangeError)
    let did = 0
    const work = new Pieces(Array.from({ length: 2 * piecesPerTurn }, () => () => void did++), slices)
    begin(work)
    while (manual.waiting > 0) manual.turn()
    expect([did, work.doneTimes]).toEqual([2 * piecesPerTurn, 1])
  })
})
