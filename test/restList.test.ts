import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import * as RestList from "../src/internal/limiter/restList.js"
import { int } from "./support/random.ts"

const millisecond = 1_000_000

interface Entry extends RestList.Member<Entry> {
  restAt: number
}

const entry = (): Entry => ({ restAt: 0, checkAt: 0, level: -1, before: undefined, after: undefined })

describe("restList", () => {
  it.prop(
    "an entry is found once it is at rest, at most twice as late as need be, and never when it was taken out",
    {
      steps: Schema.Array(Schema.Struct({ who: int(0, 9), rest: int(0, 5000), gap: int(0, 400) })).check(
        Schema.isMaxLength(100)
      )
    },
    ({ steps }) => {
      const list = new RestList.RestList<Entry>()
      const entries = Array.from({ length: 10 }, entry)
      const filed = new Map<Entry, number>()
      let now = 0
      for (const { gap, rest, who } of steps) {
        now += gap * millisecond
        const due = new Set([...filed.keys()].filter((_) => _.checkAt <= now))
        expect(list.nextCheck).toBe(Math.min(Infinity, ...[...filed.keys()].map((_) => _.checkAt)))
        const found = new Set<Entry>()
        list.sweep(now, 1000, (entry) => {
          found.add(entry)
          expect(entry.restAt).toBeLessThanOrEqual(now)
        })
        expect(found).toEqual(due)
        for (const entry of found) filed.delete(entry)
        const chosen = entries[who]!
        if (filed.has(chosen)) {
          list.remove(chosen)
          list.remove(chosen)
          filed.delete(chosen)
          // An entry that was removed may leave its early check behind, which then finds nothing.
          list.sweep(now, 1000, () => expect.fail("nothing is due"))
        } else {
          chosen.restAt = now + rest * millisecond
          list.file(chosen, chosen.restAt, now)
          filed.set(chosen, now)
          const wait = chosen.checkAt - now
          expect(wait).toBeGreaterThanOrEqual(rest * millisecond)
          expect(wait).toBeLessThanOrEqual(Math.max(1, 2 * rest - 1) * millisecond)
        }
      }
    }
  )

  it("a sweep hands over at most its budget, and the rest the next time", () => {
    const list = new RestList.RestList<Entry>()
    for (let i = 0; i < 10; i++) list.file(entry(), millisecond, 0)
    const sweep = () => {
      let found = 0
      list.sweep(10 * millisecond, 4, () => found++)
      return found
    }
    expect([sweep(), sweep(), sweep(), sweep()]).toEqual([4, 4, 2, 0])
    expect(list.nextCheck).toBe(Infinity)
  })

  it("an entry that is filed again while it is swept is found again", () => {
    const list = new RestList.RestList<Entry>()
    list.file(entry(), 1000 * millisecond, 0)
    const now = 1024 * millisecond
    list.sweep(now, 8, (entry) => list.file(entry, now + millisecond, now))
    expect(list.nextCheck).toBe(now + millisecond)
    let found = 0
    list.sweep(now + millisecond, 8, () => found++)
    expect(found).toBe(1)
  })

  it("an entry beyond the last file is checked after weeks", () => {
    const list = new RestList.RestList<Entry>()
    const far = entry()
    list.file(far, Infinity, 0)
    expect(far.checkAt).toBe(2 ** 31 * millisecond)
    const past = entry()
    list.file(past, -Infinity, 0)
    expect(past.checkAt).toBe(millisecond)
  })
})
