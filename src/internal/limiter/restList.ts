/**
 * Finds what is at rest without looking at what is not: entries are filed by the magnitude of the time until they can be
 * at rest (1 ms, 2 ms, 4 ms, ...), so each file is in order of its deadlines, and a look-up is a comparison of numbers.
 * An entry is looked at again at most twice as late as need be. After the hierarchical timing wheels of Varghese and
 * Lauck, with one slot a wheel.
 */
import * as List from "../data/list.js"

export interface Member<A> extends List.Member<A> {
  /** When to look again. */
  checkAt: number
  /** The file it is in, -1 outside. */
  level: number
}

const levels = 32
const millisecond = 1_000_000

/**
 * Files of entries.
 */
export class RestList<A extends Member<A>> {
  private readonly files: Array<List.List<A> | undefined> = new Array(levels).fill(undefined)
  /** Before this no entry has to be looked at. */
  nextCheck = Infinity

  /** Files an entry that is not filed, to be looked at `slack` after `restAt`, or later by as long as it rests from now. */
  file(entry: A, restAt: number, now: number, slack = 0): void {
    const millis = Math.min(0x8000_0000, Math.max(1, Math.ceil((restAt - now) / millisecond)))
    const level = millis === 1 ? 0 : 32 - Math.clz32(millis - 1)
    const at = Math.min(level, levels - 1)
    entry.level = at
    entry.checkAt = now + 2 ** at * millisecond + slack
    List.append(this.files[at] ??= { first: undefined, last: undefined }, entry)
    if (entry.checkAt < this.nextCheck) this.nextCheck = entry.checkAt
  }

  /** Takes an entry out. */
  remove(entry: A): void {
    if (entry.level === -1) return
    // It was filed there.
    List.remove(this.files[entry.level]!, entry)
    entry.level = -1
  }

  /** Takes out up to `budget` entries whose time has come, and hands them over to be dropped or filed again. */
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
