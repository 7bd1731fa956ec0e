/**
 * What a batch has collected while it is still with core.
 */
import { KeyMap } from "../data/keyMap.js"
import type { Keyed } from "../data/keyMap.js"

/** How many distinct requests a pending batch has. */
export class Tally {
  size = 0
  readonly slots = new KeyMap<Slot>()

  add(key: unknown, hash: number): Slot {
    let slot = this.slots.get(key, hash)
    if (slot === undefined) {
      this.slots.add(slot = new Slot(this, key, hash))
      this.size++
    }
    slot.count++
    return slot
  }
}

/** A distinct request of a tally. */
export class Slot implements Keyed<Slot> {
  readonly key: unknown
  readonly hash: number
  chain: Slot | undefined = undefined
  count = 0
  private readonly tally: Tally

  constructor(tally: Tally, key: unknown, hash: number) {
    this.tally = tally
    this.key = key
    this.hash = hash
  }

  /** One less asks for it. */
  release(): void {
    if (--this.count > 0) return
    this.tally.slots.remove(this)
    this.tally.size--
  }
}
