/**
 * The slots of a shared rate that a process holds for its waiters: granted by the store and not yet used.
 */
import type { Taken } from "../store/gcraStore.js"

interface Slot {
  readonly due: number
  readonly tokens: number
}

export class SlotStock {
  /** In order of their due times. */
  private readonly slots: Array<Slot> = []
  /** The tokens of all slots. */
  tokens = 0
  /** How many of the last tokens were granted without a grant to another process among them. */
  private unbroken = 0
  /** When the last of the tokens that were spent last was due. */
  private spentDue = 0
  /** The state of the key after the last grant. */
  private state = ""

  get empty(): boolean {
    return this.slots.length === 0
  }

  get firstDue(): number {
    return this.slots.length === 0 ? Infinity : this.slots[0]!.due
  }

  /** When so many tokens are due; `Infinity` if there are fewer. */
  dueAt(tokens: number): number {
    let due = 0
    for (const slot of this.slots) {
      due += slot.tokens
      if (due >= tokens) return slot.due
    }
    return Infinity
  }

  get lastDue(): number {
    return this.slots.at(-1)?.due ?? -Infinity
  }

  /** Adds the granted ones of the slots that were asked for. `waits` count from `now`. */
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

  /** Takes tokens from the slots that are due, all or none. */
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
    this.spentDue = last.due
    return true
  }

  /** Takes back the tokens that were spent last. */
  putBack(tokens: number): void {
    this.slots.unshift({ due: this.spentDue, tokens })
    this.tokens += tokens
  }

  /** Drops the slots that were due before `time`. `sparing` keeps the last one that is due `now`. */
  expire(time: number, now: number, sparing: boolean): void {
    const { slots } = this
    while (this.firstDue < time) {
      if (sparing && (slots.length === 1 || slots[1]!.due > now)) return
      this.tokens -= slots.shift()!.tokens
    }
  }

  /**
   * Takes out the tokens that the store can take back: the last ones, with no grant to another process among them. `state` is
   * that of the key in which they are.
   */
  giveBack(): { readonly tokens: number; readonly state: string } {
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

  /** Keeps all present slots from being given back: the price of a token has changed. */
  keep(): void {
    this.unbroken = 0
  }

  clear(): void {
    this.slots.length = 0
    this.tokens = 0
    this.unbroken = 0
  }
}
