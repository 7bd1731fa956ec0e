/**
 * The time of the metrics, with a system clock that a test turns.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import { vi } from "vitest"
import { Time } from "../src/internal/seen/time.js"

/** The clock that metrics have outside of tests, and its reading. */
const turned = () => {
  const clock = Context.get(Context.empty(), Clock.Clock)
  const reading = { now: 1000 }
  const spy = vi.spyOn(clock, "currentTimeMillisUnsafe").mockImplementation(() => reading.now)
  return { reading, time: new Time(clock), [Symbol.dispose]: () => spy.mockRestore() }
}

describe("the time of the metrics", () => {
  it("is read anew in each turn of the event loop, whether few ask in it or many", async () => {
    using clock = turned()
    const { reading, time } = clock
    for (const asks of [1, 20, 20, 200, 1, 1]) {
      reading.now += 5
      const expected = reading.now - 1000
      for (let i = 0; i < asks; i++) expect(time.now()).toBe(expected)
      await new Promise((resolve) => setImmediate(resolve))
    }
  })
})
