/**
 * What a batch has collected while it is still with core.
 */
import { KeyMap } from "./keyMap.js"
import type { Keyed } from "./keyMap.js"

/** How many distinct requests a pending batch has. */
export class Tally {
  size = 0
  private readonly slots = new KeyMap<Slot>()

  add(key: unknown, hash: number): void {
    const slot = this.slots.get(key, hash)
    if (slot !== undefined) {
      slot.count++
      return
    }
    this.slots.add({ key, hash, chain: undefined, count: 1 })
    this.size++
  }

  remove(key: unknown, hash: number): void {
    const slot = this.slots.get(key, hash)
    if (slot === undefined || --slot.count > 0) return
    this.slots.remove(slot)
    this.size--
  }
}

interface Slot extends Keyed<Slot> {
  count: number
}
