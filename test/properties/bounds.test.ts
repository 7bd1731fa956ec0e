import { describe, expect, it } from "@effect/vitest"
import { bounds, nothingSeen } from "./bounds.ts"

// `npm run test:models -- --model bounds` does so for 100,000 seeds, or replays one.
describe("the bounds of all services, under changes, random orders of tasks and random yields", () => {
  it("no width, rate, order, wait, count or cached result is ever beyond its law, and nothing is left", () => {
    const seen = nothingSeen()
    for (let seed = 1; seed <= 500; seed++) bounds(seed, seen)
    // Each of them happened, or nothing was tested. An overload is rare: many seeds see some.
    const missing = Object.entries(seen).filter(([what, count]) => what !== "shed" && count < 3)
    expect(missing).toEqual([])
  })
})
