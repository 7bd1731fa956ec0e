/**
 * A map from keys of any kind to entries, by an equality that never mistakes one key for another.
 *
 * Values without hidden state are equal by structure: plain objects, arrays, dates, maps and sets, requests, and what
 * implements `Equal` itself. Everything else, such as functions, instances of other classes and objects of the host,
 * is equal to itself alone. `Equal.equals` is not used on the outside, because it also looks into class instances, and
 * two of them that differ in their private fields only are equal to it.
 */
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import { RequestPrototype } from "effect/Request"

/** An entry carries its key and the hash that its key had when it was added, so it is found again whatever became of the key. */
export interface Keyed<Self> {
  readonly key: unknown
  readonly hash: number
  /** The next entry of the same bucket; belongs to the map. */
  chain: Self | undefined
}

/** The hash of a key that a native `Map` compares as wanted: primitives, and what is equal to itself alone. */
export const native = -1

/** Entries by key; what is done with one of them costs O(1), plus the size of the key where that is compared by structure. */
export class KeyMap<V extends Keyed<V>> {
  // A key that comes and goes by itself never touches the map, which is made anew every few times it forgets an entry.
  private newest: V | undefined = undefined
  private readonly natives = new Map<unknown, V>()
  private readonly buckets = new Map<number, V>()

  get(key: unknown, hash: number): V | undefined {
    if (hash === native) {
      const newest = this.newest
      return newest !== undefined && sameValueZero(newest.key, key) ? newest : this.natives.get(key)
    }
    let entry = this.buckets.get(hash)
    while (entry !== undefined && !equals(entry.key, key)) {
      entry = entry.chain
    }
    return entry
  }

  /** Adds an entry whose key is not in the map. */
  add(entry: V): void {
    if (entry.hash === native) {
      if (this.newest !== undefined) this.natives.set(this.newest.key, this.newest)
      this.newest = entry
    } else {
      entry.chain = this.buckets.get(entry.hash)
      this.buckets.set(entry.hash, entry)
    }
  }

  /** Removes an entry that is in the map. */
  remove(entry: V): void {
    if (entry.hash === native) {
      if (this.newest === entry) {
        this.newest = undefined
      } else {
        this.natives.delete(entry.key)
      }
      return
    }
    const first = this.buckets.get(entry.hash)
    if (first === entry) {
      if (entry.chain === undefined) {
        this.buckets.delete(entry.hash)
      } else {
        this.buckets.set(entry.hash, entry.chain)
      }
    } else {
      let before = first
      while (before !== undefined && before.chain !== entry) {
        before = before.chain
      }
      if (before !== undefined) {
        before.chain = entry.chain
      }
    }
    entry.chain = undefined
  }

  /** All entries; those with keys of the same kind in the order in which they were added. */
  values(): Array<V> {
    const out = Array.from(this.natives.values())
    if (this.newest !== undefined) out.push(this.newest)
    for (const first of this.buckets.values()) {
      for (let entry: V | undefined = first; entry !== undefined; entry = entry.chain) {
        out.push(entry)
      }
    }
    return out
  }
}

// What a native `Map` compares by.
const sameValueZero = (self: unknown, that: unknown): boolean => self === that || (self !== self && that !== that)

/** The hash to look a key up with; `native` for what needs none. */
export const hashKey = (key: unknown): number => {
  if ((typeof key !== "object" && typeof key !== "function") || key === null) return native
  const kind = kindOf(key)
  return kind === "identity" ? native : hashStructure(kind, key, []) & 0x7fffffff
}

type Kind = "identity" | "equal" | "record" | "plain" | "array" | "date" | "map" | "set"

// What core gives to every request: it compares fields with `Equal.equals`, we with our own equality.
const compareFields = (RequestPrototype as Partial<Equal.Equal>)[Equal.symbol]

const kindOf = (value: object): Kind => {
  if (Equal.symbol in value) {
    return value[Equal.symbol] === compareFields ? "record" : "equal"
  }
  if (typeof value === "function") return "identity"
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === null) return "plain"
  if (prototype === Array.prototype) return "array"
  if (prototype === Date.prototype) return "date"
  if (prototype === Map.prototype) return "map"
  if (prototype === Set.prototype) return "set"
  return "identity"
}

const mix = (h: number, n: number): number => {
  h = Math.imul(h ^ n, 0x9e3779b1)
  return h ^ (h >>> 15)
}

const hashValue = (value: unknown, path: Array<object>): number => {
  if (typeof value === "string") return Hash.string(value)
  if (typeof value === "number") return Hash.number(value)
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return Hash.hash(value)
  const kind = kindOf(value)
  return kind === "identity" ? Hash.random(value) : hashStructure(kind, value, path)
}

const hashStructure = (kind: Kind, value: object, path: Array<object>): number => {
  if (kind === "equal") {
    return Hash.isHash(value) ? value[Hash.symbol]() : 0
  }
  if (kind === "date") {
    return Hash.number((value as Date).getTime())
  }
  // A structure that contains itself ends where it begins again.
  if (path.includes(value)) return 1
  path.push(value)
  let h = kind.length
  if (kind === "array") {
    for (const item of value as Array<unknown>) {
      h = mix(h, hashValue(item, path))
    }
  } else if (kind === "map") {
    for (const [k, v] of value as Map<unknown, unknown>) {
      h = (h + mix(hashValue(k, path), hashValue(v, path))) | 0
    }
  } else if (kind === "set") {
    for (const item of value as Set<unknown>) {
      h = (h + mix(7, hashValue(item, path))) | 0
    }
  } else {
    const fields = value as Record<string, unknown>
    for (const field of Object.keys(fields)) {
      h = (h + mix(Hash.string(field), hashValue(fields[field], path))) | 0
    }
  }
  path.pop()
  return h
}

/** Whether two keys are the same key. `NaN` is equal to itself, and 0 to -0, as in a native `Map`. */
export const equals = (self: unknown, that: unknown): boolean => equalValues(self, that, [])

const equalValues = (self: unknown, that: unknown, path: Array<object>): boolean => {
  if (self === that) return true
  if (typeof self !== typeof that || self === null || that === null) return false
  if (typeof self === "number") return self !== self && that !== that
  if (typeof self !== "object" && typeof self !== "function") return false
  if (typeof that !== "object" && typeof that !== "function") return false
  const kind = kindOf(self)
  if (kind === "identity" || kind !== kindOf(that)) return false
  if (kind === "equal") {
    // Sound: both have the method, or they would be of another kind.
    return (self as Equal.Equal)[Equal.symbol](that as Equal.Equal)
  }
  if (kind === "date") {
    return equalValues((self as Date).getTime(), (that as Date).getTime(), path)
  }
  // A pair that is being compared further out is equal unless that comparison finds a difference.
  for (let i = 0; i < path.length; i += 2) {
    if (path[i] === self && path[i + 1] === that) return true
  }
  path.push(self, that)
  const result = equalStructures(kind, self, that, path)
  path.length -= 2
  return result
}

const equalStructures = (kind: Kind, self: object, that: object, path: Array<object>): boolean => {
  switch (kind) {
    case "array": {
      const left = self as Array<unknown>
      const right = that as Array<unknown>
      if (left.length !== right.length) return false
      for (let i = 0; i < left.length; i++) {
        if (!equalValues(left[i], right[i], path)) return false
      }
      return true
    }
    case "map": {
      const left = self as Map<unknown, unknown>
      const right = that as Map<unknown, unknown>
      return left.size === right.size && equalEntries(
        left,
        Array.from(right),
        ([k, v], [k2, v2]) => equalValues(k, k2, path) && equalValues(v, v2, path)
      )
    }
    case "set": {
      const left = self as Set<unknown>
      const right = that as Set<unknown>
      return left.size === right.size &&
        equalEntries(left, Array.from(right), (item, item2) => equalValues(item, item2, path))
    }
    default: {
      // Requests of two classes may have the same fields.
      if (kind === "record" && Object.getPrototypeOf(self) !== Object.getPrototypeOf(that)) return false
      const left = self as Record<PropertyKey, unknown>
      const right = that as Record<PropertyKey, unknown>
      const fields = Reflect.ownKeys(left)
      return fields.length === Reflect.ownKeys(right).length &&
        fields.every((field) => Object.hasOwn(right, field) && equalValues(left[field], right[field], path))
    }
  }
}

// Pairs the items one to one, whatever their order; those in the same order cost one comparison each.
const equalEntries = <A>(left: Iterable<A>, right: Array<A>, same: (self: A, that: A) => boolean): boolean => {
  let from = 0
  for (const item of left) {
    let i = from
    while (i < right.length && !same(item, right[i]!)) {
      i++
    }
    if (i === right.length) return false
    right[i] = right[from]!
    from++
  }
  return true
}
