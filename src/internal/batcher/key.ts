/**
 * What keeps requests apart, and what keeps their callers apart.
 */
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import * as Request from "effect/Request"
import { equals, implementsEqual } from "../data/keyEqual.js"
import { hashKey, KeyMap, native } from "../data/keyMap.js"
import type { Keyed } from "../data/keyMap.js"

const isPrimitive = (u: unknown): boolean => (typeof u !== "object" && typeof u !== "function") || u === null

/** Whether a request has the equality that core gives to requests, rather than one of its own. */
const comparesFields = (request: object): boolean => methodOf(request) === methodOf(Request.RequestPrototype)
const methodOf = (u: object): unknown => Equal.isEqual(u) ? u[Equal.symbol] : undefined

/**
 * Keys of the requests of one resolver. Nearly all have the same tag and one primitive field besides: that field is their
 * key, and needs neither hash nor comparison. Whatever looks different is its own key, compared by structure.
 */
export class RequestKeys {
  private size = 0
  private field = ""
  private tag: unknown = undefined

  of(request: object): unknown {
    const names = Object.keys(request)
    const size = names.length
    if (size !== 1 && (size !== 2 || (names[0] !== "_tag" && names[1] !== "_tag"))) return request
    const field = names[size === 2 && names[0] === "_tag" ? 1 : 0]!
    // Sound: `field` is an own key of the request.
    const fields = request as Readonly<Record<string, unknown>>
    const value = fields[field]
    const tag = size === 2 ? fields["_tag"] : undefined
    if (this.size === 0) {
      if (!isPrimitive(value) || !comparesFields(request)) return request
      this.size = size
      this.field = field
      this.tag = tag
    }
    return field === this.field && size === this.size && tag === this.tag && isPrimitive(value) ? value : request
  }
}

/** The hash that goes with a key of {@link RequestKeys}. */
export const hashOf = (key: unknown): number => isPrimitive(key) ? native : hashKey(key)

/** A map by the value of its keys, in which ids of any kind are found. */
export class ValueMap<V> {
  private readonly natives = new Map<unknown, V>()
  private structures: KeyMap<Slot<V>> | undefined = undefined

  get(key: unknown): V | undefined {
    const hash = hashOf(key)
    return hash === native ? this.natives.get(key) : this.structures?.get(key, hash)?.value
  }

  set(key: unknown, value: V): void {
    const hash = hashOf(key)
    if (hash === native) {
      this.natives.set(key, value)
      return
    }
    this.structures ??= new KeyMap()
    const slot = this.structures.get(key, hash)
    if (slot !== undefined) slot.value = value
    else this.structures.add({ key, hash, chain: undefined, value })
  }
}

interface Slot<V> extends Keyed<Slot<V>> {
  value: V
}

/**
 * The services that keep callers apart: equal where each is the same value, or equal by the value's own `Equal`.
 */
export class Isolation implements Equal.Equal {
  private readonly values: ReadonlyArray<unknown>
  constructor(values: ReadonlyArray<unknown>) {
    this.values = values
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Isolation && this.values.every((value, i) => {
      const other = that.values[i]
      return Object.is(value, other) || (implementsEqual(value) && equals(value, other))
    })
  }
  [Hash.symbol](): number {
    let hash = 6151
    for (const value of this.values) hash = Hash.combine(hash, hashIdentity(value))
    return hash
  }
}

const hashIdentity = (value: unknown): number => {
  if (implementsEqual(value)) return hashKey(value)
  return (typeof value === "object" || typeof value === "function") && value !== null
    ? Hash.random(value)
    : Hash.hash(value)
}
