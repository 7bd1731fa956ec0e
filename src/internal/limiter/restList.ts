/**
 * Finds entries that are at rest without looking at the others. Entries are filed by the magnitude of the time until their
 * rest (1 ms, 2 ms, 4 ms, ...), so each file is in order of its deadlines. An entry is checked at most twice as late as
 * needed. After the hierarchical timing wheels of Varghese and Lauck, with one slot a wheel.
 */
import * as List from "../data/list.js"

export interface Member<A> extends List.Member<A> {
  /** When to check it again. */
  checkAt: number
  /** Its file, -1 for none. */
  level: number
}

const levels = 32
const millisecond = 1_000_000

export class RestList<A extends Member<A>> {
  private readonly files: Array<List.List<A> | undefined> = new Array(levels).fill(undefined)
  /** Before this time no entry has to be checked. */
  nextCheck = Infinity

  /** Files an entry for a check between `restAt + slack` and twice as long from now. */
  file(entry: A, restAt: number, now: number, slack = 0): void {
    const millis = Math.min(0x8000_0000, Math.max(1, Math.ceil((restAt - now) / millisecond)))
    const level = millis === 1 ? 0 : 32 - Math.clz32(millis - 1)
    const at = Math.min(level, levels - 1)
    entry.level = at
    entry.checkAt = now + 2 ** at * millisecond + slack
    List.append(this.files[at] ??= { first: undefined, last: undefined }, entry)
    if (entry.checkAt < this.nextCheck) this.nextCheck = entry.checkAt
  }

  remove(entry: A): void {
    if (entry.level === -1) return
    // Sound: `file` made the list.
    List.remove(this.files[entry.level]!, entry)
    entry.level = -1
  }

  /** Takes out up to `budget` entries that are to be checked. `f` drops them or files them again. */
  sweep(now: number, budget: number, f: (entry: A) => void): void {
    this.nextCheck = Infinity
    for (const file of this.files) {
      let entry = file?.first
      while (entry !== undefined && entry.checkAt <= now && budget-- > 0) {
        this.remove(entry)
        f(entry)
        entry = file?.first
      }
      if (entry !== undefined && entry.checkAt < this.nextCheck) this.nextCheck = entry.checkAt
    }
  }
}
