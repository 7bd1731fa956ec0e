/**
 * The equality of keys, and the hash that goes with it.
 *
 * Values without hidden state are equal by structure: plain objects, arrays, dates, maps and sets, requests, core's
 * containers, and what implements `Equal` itself. Everything else, such as functions, instances of other classes and
 * objects of the host, is equal to itself alone. `Equal.equals` is used nowhere, because it also looks into class
 * instances, and two of them that differ in their private fields only are equal to it.
 *
 * A proxy cannot be told from its target. A proxy whose `get` trap answers for every name, and so for `Equal` too, is equal
 * to itself alone. A proxy that shows the fields of a plain object is compared by them.
 */
import * as Cause from "effect/Cause"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Request from "effect/Request"

/** How a value is compared; a function gives the content of one of core's containers, which is compared in its place. */
type Kind = "identity" | "equal" | "fields" | "plain" | "array" | "date" | "map" | "set" | Contents
type Contents = (container: object) => object

type Fields = Readonly<Record<PropertyKey, unknown>>
// Sound: any object can be asked for a field, and the type of the answer is unknown.
const fieldsOf = (value: object): Fields => value as Fields

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null

// An array or a plain object is asked for `Equal` in a place of its own: where all shapes pass, the engine caches none.
const kindOf = (value: object): Kind => {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Array.prototype) {
    if (fieldsOf(value)[Equal.symbol] === undefined) return "array"
  } else if (prototype === Object.prototype) {
    if (fieldsOf(value)[Equal.symbol] === undefined) return "plain"
  }
  return kindOfOther(value, prototype)
}

const kindOfOther = (value: object, prototype: unknown): Kind => {
  const found = fieldsOf(value)[Equal.symbol]
  if (found !== undefined) {
    const own = Object.hasOwn(value, Equal.symbol)
    if (own && typeof found === "function") return "equal"
    // An own value that is no function is data, of parsed JSON for instance, and hides what the class implements.
    const inherited = isObject(prototype) ? fieldsOf(prototype)[Equal.symbol] : undefined
    if (isObject(prototype) && typeof inherited === "function") {
      let kind = kinds.get(inherited)
      if (kind === undefined) kinds.set(inherited, kind = kindOfContainer(value, prototype))
      return kind
    }
    if (!own) return "identity"
  }
  if (prototype === Object.prototype || prototype === null) return "plain"
  if (prototype === Array.prototype) return "array"
  if (prototype === Date.prototype) return "date"
  if (prototype === Map.prototype) return "map"
  if (prototype === Set.prototype) return "set"
  return "identity"
}

/** Whether a value implements `Equal`, by a method of its own or as one of core's containers. */
export const implementsEqual = (value: unknown): value is object => {
  if (!isObject(value)) return false
  const kind = kindOf(value)
  return kind === "equal" || kind === "fields" || typeof kind === "function"
}

// -------------------------------------------------------------------------------------------------- core's containers

const pick = (...names: ReadonlyArray<string>): Contents => (container) =>
  names.map((name) => fieldsOf(container)[name])

/** One that was wiped holds nothing, and is equal to no other. */
const secretOf = (self: Redacted.Redacted<unknown>): object => {
  // Sound: whatever is redacted implements `Equal`.
  const isWiped = (self as unknown as Equal.Equal)[Equal.symbol](nothing)
  return [isWiped ? Symbol() : Redacted.value(self)]
}
const nothing = /*#__PURE__*/ Redacted.make(undefined) as unknown as Equal.Equal

/** Kinds of the values that implement `Equal`, by their method: that of core's containers compares with `Equal.equals`. */
const kinds = /*#__PURE__*/ (() => {
  const kinds = new WeakMap<object, Kind>()
  const add = (sample: object, kind: Kind) => kinds.set(fieldsOf(sample)[Equal.symbol] as object, kind)
  add(Request.RequestPrototype, "fields")
  add(Option.none(), pick())
  add(Option.some(0), pick("value"))
  add(Exit.void, pick("value"))
  add(Exit.interrupt(), pick("cause"))
  add(Cause.empty, pick("reasons"))
  add(Cause.makeFailReason(0), pick("error", "annotations"))
  add(Cause.makeDieReason(0), pick("defect", "annotations"))
  add(Cause.makeInterruptReason(), pick("fiberId", "annotations"))
  // Sound: the method belongs to nothing else.
  add(Redacted.make(0), secretOf as Contents)
  return kinds
})()

/** Containers that a program may do without, and that are not imported for that reason. */
const kindOfContainer = (value: object, prototype: object): Kind => {
  if ("~effect/Context" in prototype) return pick("mapUnsafe")
  if ("~effect/Result" in prototype) return pick("_tag", "success", "failure")
  if ("~effect/reactivity/AsyncResult" in prototype) return pick("_tag", "waiting", "value", "cause")
  // Core's `Equal` looks into its nodes, and there is no way to look at its edges.
  if ("~effect/Graph" in prototype) return "identity"
  // A class of an application has data under these names at most, and not all of these methods.
  if (![Symbol.iterator, Hash.symbol, "pipe", "toJSON", "toString"].every((name) => Object.hasOwn(prototype, name))) {
    return "equal"
  }
  // Sound: all four can be iterated, two of them as entries.
  if ("~effect/Chunk" in prototype) return (chunk) => Array.from(chunk as Iterable<unknown>)
  if ("~effect/HashSet" in value) return (set) => new Set(set as Iterable<unknown>)
  if ("~effect/HashMap" in value || "~effect/Trie" in prototype) {
    return (map) => new Map(map as Iterable<readonly [unknown, unknown]>)
  }
  return "equal"
}

// --------------------------------------------------------------------------------------------------------------- hash

// Deeper parts add nothing to a hash, so a structure may contain itself.
const maxDepth = 32
// From this many objects on, those met before are not hashed again.
const manyHashed = 64

// The state of the hash that is being computed: how many objects it has met, and their hashes by depth.
let hashed = 0
let known: Array<Map<object, number>> | undefined

/** The hash of an object that is compared by structure; `undefined` for one that is equal to itself alone. */
export const hashObject = (value: object): number | undefined => {
  const kind = kindOf(value)
  if (kind === "identity") return undefined
  // A key may implement `Hash`, and hash other keys in it.
  const outerHashed = hashed
  const outerKnown = known
  hashed = 0
  known = undefined
  try {
    return hashKind(kind, value, 1)
  } finally {
    hashed = outerHashed
    known = outerKnown
  }
}

const mix = (h: number, n: number): number => {
  h = Math.imul(h ^ n, 0x9e3779b1)
  return h ^ (h >>> 15)
}

const hashPrimitive = (value: unknown): number => {
  if (typeof value === "string") return Hash.string(value)
  if (typeof value === "number") return Hash.number(value)
  return typeof value === "function" ? Hash.random(value) : Hash.hash(value)
}

const hashValue = (value: unknown, depth: number): number => {
  if (!isObject(value)) return hashPrimitive(value)
  if (depth === maxDepth) return 1
  if (++hashed <= manyHashed) return hashNested(value, depth)
  const hashes = (known ??= [])[depth] ??= new Map()
  let h = hashes.get(value)
  if (h === undefined) hashes.set(value, h = hashNested(value, depth))
  return h
}

const hashNested = (value: object, depth: number): number => {
  const kind = kindOf(value)
  return kind === "identity" ? Hash.random(value) : hashKind(kind, value, depth + 1)
}

/** `depth` is that of the parts of the value. */
const hashKind = (kind: Exclude<Kind, "identity">, value: object, depth: number): number => {
  let h = 0
  switch (kind) {
    case "equal": {
      const method = methodOf(value, Hash.symbol)
      return typeof method === "function" ? method.call(value) | 0 : 0
    }
    case "date":
      return Hash.number((value as Date).getTime())
    case "array": {
      const items = value as Array<unknown>
      for (let i = 0; i < items.length; i++) h = mix(h, hashValue(items[i], depth))
      return h
    }
    case "plain":
      // Faster than `Object.keys`. A name that a program added to all objects is part of every hash then.
      for (const name in value) h = (h + hashField(name, value, depth)) | 0
      return h
    case "fields":
      for (const name of Object.keys(value)) h = (h + hashField(name, value, depth)) | 0
      return h
    case "map":
      for (const [k, v] of value as Map<unknown, unknown>) h = (h + mix(hashValue(k, depth), hashValue(v, depth))) | 0
      return h
    case "set":
      for (const item of value as Set<unknown>) h = (h + mix(7, hashValue(item, depth))) | 0
      return h
    default:
      return hashValue(kind(value), depth)
  }
}

const hashField = (name: string, value: object, depth: number): number =>
  mix(Hash.string(name), hashValue(fieldsOf(value)[name], depth))

/** A method of the value's own or of its class. */
const methodOf = (value: object, name: typeof Equal.symbol | typeof Hash.symbol): unknown => {
  const found = fieldsOf(value)[name]
  return typeof found === "function" ? found : fieldsOf(Object.getPrototypeOf(value))[name]
}

// ----------------------------------------------------------------------------------------------------------- equality

/** Whether two keys are the same key. `NaN` is equal to itself, and 0 to -0, as in a native `Map`. */
export const equals = (self: unknown, that: unknown): boolean =>
  isSame(self, that) || (isObject(self) && isObject(that) && new Comparison().equals(self, that))

export const isSame = (self: unknown, that: unknown): boolean => self === that || (self !== self && that !== that)

// From this many pairs on, those met before are not compared again.
const manyCompared = 16

/** Objects that are equal unless the comparison finds a difference elsewhere: a tree of them. */
interface Class {
  size: number
  parent: Class | undefined
}

/**
 * Compares two structures pair by pair, without recursion, so depth costs no stack. A pair that was met before is equal
 * unless a difference is found elsewhere. That ends structures which contain themselves, and makes the cost of shared
 * parts linear.
 */
class Comparison {
  private compared = 0
  private classes: Map<object, Class> | undefined = undefined
  /** The classes that became part of others, in order. */
  private merged: Array<Class> | undefined = undefined

  equals(self: object, that: object): boolean {
    // Left and right in turn.
    const pending: Array<object> = []
    let left = self
    let right = that
    for (;;) {
      if ((++this.compared <= manyCompared || !this.met(left, right)) && !this.alike(left, right, pending)) return false
      if (pending.length === 0) return true
      right = pending.pop()!
      left = pending.pop()!
    }
  }

  /** Whether two objects are taken for equal already; from now on they are. */
  private met(self: object, that: object): boolean {
    let part = this.classOf(self)
    let whole = this.classOf(that)
    if (part === whole) return true
    if (part.size > whole.size) [part, whole] = [whole, part]
    part.parent = whole
    whole.size += part.size
    ;(this.merged ??= []).push(part)
    return false
  }

  private classOf(object: object): Class {
    const classes = this.classes ??= new Map()
    let found = classes.get(object)
    if (found === undefined) classes.set(object, found = { size: 1, parent: undefined })
    while (found.parent !== undefined) found = found.parent
    return found
  }

  /** Whether they are equal. If not, the comparison goes on as before: no pair met here is taken for equal. */
  private attempt(self: object, that: object): boolean {
    const merged = this.merged ??= []
    const before = merged.length
    if (this.equals(self, that)) return true
    while (merged.length > before) {
      const part = merged.pop()!
      part.parent!.size -= part.size
      part.parent = undefined
    }
    return false
  }

  /** Whether two objects are equal, provided that the pairs added to `pending` are. */
  private alike(left: object, right: object, pending: Array<object>): boolean {
    const kind = kindOf(left)
    if (kind === "identity" || kind !== kindOf(right)) return false
    switch (kind) {
      case "equal":
        // Sound: both have the method, or they would be of another kind.
        return (methodOf(left, Equal.symbol) as Equal.Equal[typeof Equal.symbol]).call(left, right as Equal.Equal) ===
          true
      case "date":
        return isSame((left as Date).getTime(), (right as Date).getTime()) && fieldsAlike(left, right, pending)
      case "map":
        return this.entriesAlike(left as Map<unknown, unknown>, right as Map<unknown, unknown>, pending) &&
          fieldsAlike(left, right, pending)
      case "set":
        return this.membersAlike(left as Set<unknown>, right as Set<unknown>, pending) &&
          fieldsAlike(left, right, pending)
      case "array":
        return itemsAlike(left as Array<unknown>, right as Array<unknown>, pending)
      case "plain":
        return fieldsAlike(left, right, pending)
      case "fields":
        // Requests of two classes may have the same fields.
        return Object.getPrototypeOf(left) === Object.getPrototypeOf(right) && fieldsAlike(left, right, pending)
      default:
        pending.push(kind(left), kind(right))
        return true
    }
  }

  private entriesAlike(left: Map<unknown, unknown>, right: Map<unknown, unknown>, pending: Array<object>): boolean {
    if (left.size !== right.size) return false
    const ours: Array<object> = []
    for (const entry of left) {
      const [key, value] = entry
      if (isStructure(key)) ours.push(entry)
      else if (!right.has(key) || !valuesAlike(value, right.get(key), pending)) return false
    }
    return this.paired(ours, Array.from(right).filter(([key]) => isStructure(key)), pending)
  }

  private membersAlike(left: Set<unknown>, right: Set<unknown>, pending: Array<object>): boolean {
    if (left.size !== right.size) return false
    const ours = Array.from(left).filter((item) => !right.has(item))
    return ours.every(isStructure) &&
      this.paired(ours, Array.from(right).filter((item) => !left.has(item)).filter(isStructure), pending)
  }

  /** Pairs items without an order one to one. Of several with the same hash, takes the first that is equal. */
  private paired(ours: ReadonlyArray<object>, theirs: ReadonlyArray<object>, pending: Array<object>): boolean {
    if (ours.length !== theirs.length) return false
    const groups = new Map<unknown, Array<object>>()
    for (const item of theirs) {
      const hash = hashObject(item)
      const group = groups.get(hash)
      if (group === undefined) groups.set(hash, [item])
      else group.push(item)
    }
    return ours.every((item) => {
      const group = groups.get(hashObject(item))
      if (group === undefined) return false
      if (group.length === 1) {
        pending.push(item, group.pop()!)
        return true
      }
      const i = group.findIndex((other) => this.attempt(item, other))
      if (i === -1) return false
      group[i] = group[group.length - 1]!
      group.pop()
      return true
    })
  }
}

const isStructure = (u: unknown): u is object => isObject(u) && kindOf(u) !== "identity"

const valuesAlike = (left: unknown, right: unknown, pending: Array<object>): boolean => {
  if (isSame(left, right)) return true
  if (!isObject(left) || !isObject(right)) return false
  pending.push(left, right)
  return true
}

const itemsAlike = (left: ReadonlyArray<unknown>, right: ReadonlyArray<unknown>, pending: Array<object>): boolean => {
  if (!isList(left) || !isList(right)) return fieldsAlike(left, right, pending)
  if (left.length !== right.length) return false
  for (let i = 0; i < left.length; i++) {
    if (!valuesAlike(left[i], right[i], pending)) return false
  }
  return true
}

/** Whether an array has an item in each place, and no other property. */
const isList = (array: ReadonlyArray<unknown>): boolean => {
  if (Object.keys(array).length !== array.length || Object.getOwnPropertySymbols(array).length > 0) return false
  for (let i = 0; i < array.length; i++) {
    if (array[i] === undefined && !Object.hasOwn(array, i)) return false
  }
  return true
}

// Names and symbols apart: for an object of few fields `Reflect.ownKeys` costs three times as much.
const fieldsAlike = (left: object, right: object, pending: Array<object>): boolean =>
  namedAlike(Object.getOwnPropertyNames(left), Object.getOwnPropertyNames(right), left, right, pending) &&
  namedAlike(Object.getOwnPropertySymbols(left), Object.getOwnPropertySymbols(right), left, right, pending)

const namedAlike = (
  names: ReadonlyArray<PropertyKey>,
  others: ReadonlyArray<PropertyKey>,
  left: object,
  right: object,
  pending: Array<object>
): boolean => {
  if (names.length !== others.length) return false
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!
    if (name !== others[i] && !Object.hasOwn(right, name)) return false
    if (!valuesAlike(fieldsOf(left)[name], fieldsOf(right)[name], pending)) return false
  }
  return true
}
