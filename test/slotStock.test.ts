import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { SlotStock } from "../src/internal/shared/slotStock.js"
import { int } from "./support/random.ts"

const taken = (before: string, after: string, waits: ReadonlyArray<number>) => ({
  before,
  after,
  waits,
  retryMillis: 0,
  remaining: 0,
  resetMillis: 0,
  tightest: 0
})

describe("slots that a process holds", () => {
  it.prop(
    "every token granted is spent, returned, expired or still there: spent from the front when it is due, returned from the end",
    {
      steps: Schema.Array(Schema.Struct({
        kind: Schema.Literals([
          "grant",
          "grant after another process",
          "spend",
          "put back",
          "expire",
          "give back",
          "keep"
        ]),
        tokens: int(1, 5),
        pass: int(0, 3)
      })).check(Schema.isMaxLength(60))
    },
    ({ steps }) => {
      const stock = new SlotStock()
      /** The due time of each token. */
      let dues: Array<number> = []
      let now = 0
      let last = 0
      let states = 0
      /** How many of the last tokens the store can take back. */
      let returnable = 0
      for (const { kind, pass, tokens } of steps) {
        now += pass * 1e6
        switch (kind) {
          case "grant":
          case "grant after another process": {
            if (kind !== "grant") {
              states++
              returnable = 0
            }
            last = Math.max(last, now + tokens * 1e6)
            const waits = [last, last + 1e6].map((due) => (due - now) / 1e6)
            last += 1e6
            // The third one was refused.
            stock.add([tokens, 2, 7], taken(String(states), String(++states), waits), now)
            dues.push(...Array.from({ length: tokens }, () => last - 1e6), last, last)
            returnable += tokens + 2
            break
          }
          case "spend":
          case "put back": {
            const due = dues.length >= tokens && dues[tokens - 1]! <= now
            expect(stock.spend(tokens, now)).toBe(due)
            if (!due) break
            const spent = dues.splice(0, tokens).at(-1)!
            if (kind === "spend") break
            stock.putBack(tokens)
            dues.unshift(...Array.from({ length: tokens }, () => spent))
            break
          }
          case "expire":
            stock.expire(now - tokens * 1e6, now, false)
            dues = dues.filter((due) => due >= now - tokens * 1e6)
            break
          case "give back": {
            const back = Math.min(returnable, dues.length)
            expect(stock.giveBack()).toEqual({ tokens: back, state: states === 0 ? "" : String(states) })
            dues.length -= back
            returnable = 0
            break
          }
          case "keep":
            stock.keep()
            returnable = 0
        }
        expect([stock.tokens, stock.empty, stock.firstDue, stock.lastDue]).toEqual([
          dues.length,
          dues.length === 0,
          dues[0] ?? Infinity,
          dues.at(-1) ?? -Infinity
        ])
      }
      stock.clear()
      expect([stock.tokens, stock.empty, stock.giveBack().tokens]).toEqual([0, true, 0])
    }
  )

  it("an answer that grants nothing changes nothing: the slots before it can still be returned", () => {
    const stock = new SlotStock()
    stock.add([1], taken("", "a", [0]), 0)
    stock.add([1], taken("b", "b", []), 0)
    expect(stock.giveBack()).toEqual({ tokens: 1, state: "a" })
  })

  it("the last slot that is due is kept for a waiter, however late", () => {
    const stock = new SlotStock()
    stock.add([1, 2, 4, 8], taken("", "a", [0, 1, 2, 9]), 0)
    stock.expire(5e6, 5e6, true)
    expect(stock.tokens).toBe(4 + 8)
    stock.expire(9e6, 9e6, true)
    expect(stock.tokens).toBe(8)
    stock.expire(20e6, 20e6, true)
    expect(stock.tokens).toBe(8)
    stock.expire(20e6, 20e6, false)
    expect(stock.tokens).toBe(0)
  })

  it("tokens that are put back over a grant to another process are returned as far as the store can take them back", () => {
    const stock = new SlotStock()
    stock.add([3], taken("", "a", [0]), 0)
    stock.add([2], taken("b", "c", [0]), 0)
    expect(stock.spend(4, 0)).toBe(true)
    stock.putBack(4)
    expect(stock.giveBack()).toEqual({ tokens: 2, state: "c" })
    expect([stock.tokens, stock.spend(4, 0), stock.spend(3, 0), stock.empty]).toEqual([3, false, true, true])
  })
})
