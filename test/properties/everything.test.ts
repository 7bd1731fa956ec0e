import { describe, expect, it } from "@effect/vitest"
import { everything, nothingSeen } from "./everything.ts"

// `npm run test:models` does so for 100,000 seeds, or replays one.
describe("all services inside each other, under random orders of tasks and random yields", () => {
  it("nobody hangs, each call ends as it may, a call dies of a cycle only where there is one, and nothing is left", () => {
    const seen = nothingSeen()
    for (let seed = 1; seed <= 300; seed++) everything(seed, seen)
    // Enough of each, or nothing was tested.
    for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(20)
  })
})
