/**
 * A map from keys of any kind to entries, by the equality of keys.
 */
import { equals, hashObject, isSame } from "./keyEqual.js"

/** An entry carries its key and the hash that its key had when it was added, so it is found again whatever became of the key. */
export interface Keyed<Self> {
  readonly key: unknown
  readonly hash: number
  /** The next entry of the same bucket; belongs to the map. */
  chain: Self | undefined
}

/** The hash of a key that a native `Map` compares correctly: a primitive, or an object with identity. */
export const native = -1

/**
 * How often a look-up begins anew because a comparison has changed the map. A key that changes it every time is found nowhere.
 * The stack is no bound: calls in tail position take none in JavaScriptCore.
 */
const mostAgain = 100

/** Entries by key. An operation costs O(1), plus the size of a key that is compared by structure. */
export class KeyMap<V extends Keyed<V>> {
  // A key that comes and goes by itself never touches a map, which is made anew every few times it forgets an entry.
  private newest: V | undefined = undefined
  private readonly natives = new Map<unknown, V>()
  private readonly buckets = new Map<number, V>()
  /** How often an entry came or went. */
  private changes = 0

  get(key: unknown, hash: number): V | undefined {
    if (hash !== native) return this.find(key, hash)
    const newest = this.newest
    return newest !== undefined && newest.hash === native && isSame(newest.key, key) ? newest : this.natives.get(key)
  }

  private find(key: unknown, hash: number, again = mostAgain): V | undefined {
    const { changes, newest } = this
    let entry = newest !== undefined && newest.hash === hash && same(key, newest.key) ? newest : undefined
    if (entry === undefined && changes === this.changes) {
      entry = this.buckets.get(hash)
      while (entry !== undefined && !same(key, entry.key)) entry = entry.chain
    }
    // The code of a key may have changed this map.
    if (changes === this.changes) return entry
    return again === 0 ? undefined : this.find(key, hash, again - 1)
  }

  /** Adds an entry whose key is not in the map. */
  add(entry: V): void {
    this.changes++
    const { newest } = this
    this.newest = entry
    if (newest === undefined) return
    if (newest.hash === native) {
      this.natives.set(newest.key, newest)
    } else {
      newest.chain = this.buckets.get(newest.hash)
      this.buckets.set(newest.hash, newest)
    }
  }

  /** Removes an entry that is in the map. */
  remove(entry: V): void {
    this.changes++
    if (this.newest === entry) this.newest = undefined
    else if (entry.hash === native) this.natives.delete(entry.key)
    else this.unchain(entry)
  }

  private unchain(entry: V): void {
    const { chain, hash } = entry
    entry.chain = undefined
    let before = this.buckets.get(hash)!
    if (before === entry) {
      if (chain === undefined) this.buckets.delete(hash)
      else this.buckets.set(hash, chain)
      return
    }
    while (before.chain !== entry) before = before.chain!
    before.chain = chain
  }

  /** All entries; those with keys of the same kind in the order in which they were added. */
  values(): Array<V> {
    const out = Array.from(this.natives.values())
    for (const first of this.buckets.values()) {
      for (let entry: V | undefined = first; entry !== undefined; entry = entry.chain) out.push(entry)
    }
    if (this.newest !== undefined) out.push(this.newest)
    return out
  }
}

/**
 * The code of a key, such as `Equal` or a getter, may throw. The key is then equal to no other: callers with other keys must
 * not fail because of it.
 */
const same = (self: unknown, that: unknown): boolean => {
  try {
    return equals(self, that)
  } catch {
    return false
  }
}

/** The hash of a key, or `native`. It may call code of the key, such as a getter. */
export const hashKey = (key: unknown): number => {
  if (typeof key !== "object" || key === null) return native
  const hash = hashObject(key)
  return hash === undefined ? native : hash & 0x7fffffff
}
