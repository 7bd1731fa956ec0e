/**
 * The keys of requests, and of the groups of callers that may share a batch.
 */
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import { isObjectKeyword } from "effect/Predicate"
import * as Request from "effect/Request"
import { equals, implementsEqual } from "../data/keyEqual.js"
import { hashKey, type Keyed, KeyMap, native } from "../data/keyMap.js"

/** Whether a request has the equality that core gives to requests, rather than one of its own. */
const comparesFields = (request: object): boolean => methodOf(request) === methodOf(Request.RequestPrototype)
// Sound: any object can be asked for a field.
const methodOf = (u: object): unknown => (u as Partial<Equal.Equal>)[Equal.symbol]

/**
 * The keys of one resolver's requests. Most requests are of one class, and have the same tag and one other field, which is a
 * primitive: the value of that field is their key and needs no hash. Any other request is its own key, compared by structure.
 * So an object is no key by itself: it could be equal to such a request.
 */
export class RequestKeys {
  private size = 0
  private field = ""
  private tag: unknown = undefined
  private prototype: unknown = undefined

  of(request: object): unknown {
    const names = Object.keys(request)
    const size = names.length
    const tagged = names[0] === "_tag"
    const field = names[tagged ? 1 : 0]
    if (field === undefined || size > 2 || (size === 2 && !tagged && names[1] !== "_tag")) return request
    // Sound: `field` is an own key of the request.
    const fields = request as Readonly<Record<string, unknown>>
    const value = fields[field]
    const tag = fields["_tag"]
    const prototype: unknown = Object.getPrototypeOf(request)
    if (this.size === 0) {
      if (isObjectKeyword(value) || !comparesFields(request)) return request
      this.size = size
      this.field = field
      this.tag = tag
      this.prototype = prototype
    }
    return field === this.field && size === this.size && tag === this.tag && prototype === this.prototype &&
        !isObjectKeyword(value) && Object.getOwnPropertySymbols(request).length === 0
      ? value
      : request
  }
}

/** A map that compares its keys by value. */
export class ValueMap<V> {
  private readonly natives = new Map<unknown, V>()
  private structures: KeyMap<Slot<V>> | undefined = undefined

  get(key: unknown): V | undefined {
    const hash = hashKey(key)
    return hash === native ? this.natives.get(key) : this.structures?.get(key, hash)?.value
  }

  /** Adds a key that is not in the map. */
  add(key: unknown, value: V): void {
    const hash = hashKey(key)
    if (hash === native) this.natives.set(key, value)
    else (this.structures ??= new KeyMap()).add({ key, hash, chain: undefined, value })
  }
}

interface Slot<V> extends Keyed<Slot<V>> {
  readonly value: V
}

/** The key of a group: equal where each isolating service is the same value, or equal by the value's own `Equal`. */
export const Isolation: new(values: ReadonlyArray<unknown>) => Equal.Equal = /*#__PURE__*/ (() => {
  // Made here: a class with computed names stays in every bundle, and with it the equality of keys.
  class Isolation implements Equal.Equal {
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
  return Isolation
})()

const hashIdentity = (value: unknown): number => {
  if (implementsEqual(value)) return hashKey(value)
  // Hashing an object would look into it.
  return typeof value === "object" && value !== null ? Hash.random(value) : Hash.hash(value)
}
