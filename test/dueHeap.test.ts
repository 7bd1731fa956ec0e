import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import * as DueHeap from "../src/internal/data/dueHeap.js"
import { int } from "./support/random.ts"

/** Puts member `who` at `due`, or takes it out where `due` is negative. */
const steps = Schema.Array(Schema.Struct({ who: int(0, 31), due: int(-10, 30) })).check(
  Schema.isMinLength(100),
  Schema.isMaxLength(200)
)

describe("dueHeap", () => {
  it.prop(
    "the earliest is on top and every member knows its place, whatever comes, moves and goes",
    { steps },
    ({ steps }) => {
      const members = Array.from({ length: 32 }, (): DueHeap.Member => ({ due: 0, index: -1 }))
      const heap: Array<DueHeap.Member> = []
      const inside = new Map<DueHeap.Member, number>()
      for (const { due, who } of steps) {
        const member = members[who]!
        if (due < 0) {
          DueHeap.remove(heap, member)
          inside.delete(member)
        } else {
          DueHeap.set(heap, member, due)
          inside.set(member, due)
        }
        expect(heap.length).toBe(inside.size)
        expect(heap[0]?.due).toBe(inside.size === 0 ? undefined : Math.min(...inside.values()))
        for (const member of members) {
          expect(heap[member.index]).toBe(inside.has(member) ? member : undefined)
          if (inside.has(member)) expect(member.due).toBe(inside.get(member))
        }
      }
      const drained: Array<number> = []
      while (heap.length > 0) {
        drained.push(heap[0]!.due)
        DueHeap.remove(heap, heap[0]!)
      }
      expect(drained).toEqual([...inside.values()].sort((a, b) => a - b))
    }
  )
})
