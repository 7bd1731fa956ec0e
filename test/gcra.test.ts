import { describe, expect, it } from "@effect/vitest"
import * as Gcra from "../src/internal/limiter/gcra.js"
import { int } from "./support/random.ts"

const second = 1_000_000_000

const quota = {
  limit: int(1, 1000),
  window: int(1_000, 60 * second),
  burst: int(1, 20)
}
describe("interval", () => {
  it("the interval is the window by the limit, rounded up", () => {
    expect(Gcra.rate(100, second, 1, false)).toEqual({
      limit: 100,
      window: second,
      interval: 10_000_000,
      burst: 1,
      strict: false
    })
    expect(Gcra.rate(3, second, 1, false).interval).toBe(333_333_334)
    expect(Gcra.rate(30_000, second, 1, false).interval).toBe(33_334)
  })

  it("a strict interval is longer, to make room for the burst, only without a log", () => {
    expect(Gcra.rate(100, second, 2, true).interval).toBe(10_000_000)
    expect(Gcra.intervalWithoutLog(Gcra.rate(100, second, 2, false))).toBe(10_000_000)
    expect(Gcra.intervalWithoutLog(Gcra.rate(100, second, 1, true))).toBe(10_000_000)
    expect(Gcra.intervalWithoutLog(Gcra.rate(100, second, 2, true))).toBe(10_101_011)
    expect(Gcra.intervalWithoutLog(Gcra.rate(5, second, 5, true))).toBe(second)
  })

  it.prop("an interval is never shorter than the limit allows", quota, ({ burst, limit, window }) => {
    expect(Gcra.rate(limit, window, burst, false).interval * limit).toBeGreaterThanOrEqual(window)
    expect((Gcra.rate(limit, window, burst, false).interval - 1) * limit).toBeLessThan(window)
    if (burst <= limit) {
      const strict = Gcra.rate(limit, window, burst, true)
      expect(Gcra.intervalWithoutLog(strict) * (limit - burst + 1)).toBeGreaterThanOrEqual(window)
    }
  })
})

describe("lateness", () => {
  it("L4 an arrival counts from when it could have started, 50 milliseconds back at most", () => {
    expect(Gcra.arrival(990_000_000, second)).toBe(990_000_000)
    expect(Gcra.arrival(0, second)).toBe(950_000_000)
    expect(Gcra.arrival(second, second)).toBe(second)
  })

  it("L4 an arrival in the future counts from now", () => {
    expect(Gcra.arrival(2 * second, second)).toBe(second)
  })
})

describe("convert", () => {
  const debts = { tat: int(-1000, 5000), limit: int(1, 1000), to: int(1, 1000), burst: int(1, 20), toBurst: int(1, 20) }

  it.prop("the same quota changes nothing", debts, ({ burst, limit, tat }) => {
    const rate = Gcra.rate(limit, second, burst, false)
    const owed = Math.min(Math.max(0, Math.round(tat * rate.interval / 1000)), burst * rate.interval)
    expect(Gcra.convert(rate, rate, 1000 + owed, 1000)).toBe(1000 + owed)
  })

  it.prop("the debt in tokens stays, whatever the pace and the burst", debts, ({ burst, limit, tat, to, toBurst }) => {
    const before = Gcra.rate(limit, second, burst, false)
    const after = Gcra.rate(to, second, toBurst, false)
    const owed = Math.round(tat * before.interval / 1000)
    const converted = Gcra.convert(before, after, owed, 0)
    expect(Math.abs(Math.max(0, converted) / after.interval - Math.max(0, owed) / before.interval)).toBeLessThan(1e-5)
  })

  it("half a token of debt is half a token of debt at another pace", () => {
    const slow = Gcra.rate(1, second, 1, false)
    const fast = Gcra.rate(10, second, 1, false)
    expect(Gcra.convert(slow, fast, second / 2, 0)).toBe(50_000_000)
    expect(Gcra.convert(fast, slow, 50_000_000, 0)).toBe(second / 2)
  })
})

describe("sources", () => {
  const [a, b, c] = [10, 20, 30].map((limit) => Gcra.rate(limit, second, 1, false)) as [Gcra.Rate, Gcra.Rate, Gcra.Rate]

  it("equal limit and window make the same quota, at any index and with any burst", () => {
    expect(Gcra.sources([a, b], [b, a])).toEqual([[1], [0]])
    expect(Gcra.sources([a, b], [b])).toEqual([[1]])
    expect(Gcra.sources([a], [{ ...a, burst: 7, strict: true }])).toEqual([[0]])
  })

  it("a new quota takes over from the quotas that are gone, or else from all", () => {
    expect(Gcra.sources([a, b], [c, b])).toEqual([[0], [1]])
    expect(Gcra.sources([a, b], [a, b, c])).toEqual([[0], [1], [0, 1]])
  })
})
