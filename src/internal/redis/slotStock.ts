/**
 * The slots of a shared rate that a process holds for those who wait in it: granted by the store, and not yet taken.
 */
import type { Taken } from "../store/gcraStore.js"

interface Slot {
  readonly due: number
  readonly tokens: number
}

/** Tokens that are given back, and the state of the store in which nobody was granted anything after them. */
export interface Returned {
  readonly tokens: number
  readonly state: string
}

export class SlotStock {
  /** In order of time. */
  private readonly slots: Array<Slot> = []
  /** All tokens in them. */
  tokens = 0
  /** So many of the tokens granted last had nobody else's among them; and the state in which the last of them left the store. */
  private unbroken = 0
  private state = ""

  get empty(): boolean {
    return this.slots.length === 0
  }

  /** When the first is due: never, when there is none. */
  get firstDue(): number {
    return this.slots.length === 0 ? Infinity : this.slots[0]!.due
  }

  get lastDue(): number {
    return this.slots.length === 0 ? -Infinity : this.slots[this.slots.length - 1]!.due
  }

  /** Adds what was granted of what was asked for: `waits` count from `now`. */
  add(asked: ReadonlyArray<number>, { after, before, waits }: Taken, now: number): void {
    if (waits.length === 0) return
    if (before !== this.state) this.unbroken = 0
    this.state = after
    for (let i = 0; i < waits.length; i++) {
      const tokens = asked[i]!
      this.slots.push({ due: now + Math.ceil(waits[i]! * 1_000_000), tokens })
      this.tokens += tokens
      this.unbroken += tokens
    }
  }

  /** Takes tokens out of slots that are due, if there are as many. */
  spend(tokens: number, now: number): boolean {
    const { slots } = this
    let due = 0
    let used = 0
    while (due < tokens && used < slots.length && slots[used]!.due <= now) due += slots[used++]!.tokens
    if (due < tokens) return false
    const last = slots[used - 1]!
    slots.splice(0, used)
    if (due > tokens) slots.unshift({ due: last.due, tokens: due - tokens })
    this.tokens -= tokens
    return true
  }

  /** Drops what was due before `time`; `sparing` the last that is due `now`. */
  expire(time: number, now: number, sparing: boolean): void {
    const { slots } = this
    while (this.firstDue < time) {
      if (sparing && (slots.length === 1 || slots[1]!.due > now)) return
      this.tokens -= slots.shift()!.tokens
    }
  }

  /**
   * Takes out what the store can be given back: the tokens granted last, as far as it is known that nobody else was
   * granted any among them.
   */
  giveBack(): Returned {
    const { slots, state } = this
    const tokens = Math.min(this.unbroken, this.tokens)
    this.unbroken = 0
    this.tokens -= tokens
    for (let left = tokens; left > 0;) {
      const last = slots.pop()!
      if (last.tokens > left) slots.push({ due: last.due, tokens: last.tokens - left })
      left -= Math.min(left, last.tokens)
    }
    return { tokens, state }
  }

  /** From here on nothing can be given back: what it costs has changed. */
  keep(): void {
    this.unbroken = 0
  }

  clear(): void {
    this.slots.length = 0
    this.tokens = 0
    this.unbroken = 0
  }
}
