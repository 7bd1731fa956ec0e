import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Trie from "effect/Trie"
import { equals, implementsEqual } from "../src/internal/data/keyEqual.js"
import { hashKey, type Keyed, KeyMap } from "../src/internal/data/keyMap.js"

interface Entry extends Keyed<Entry> {
  readonly value: number
}

const entry = (key: unknown, value = 0): Entry => ({ key, hash: hashKey(key), chain: undefined, value })

/** Equal by its number, whatever else it holds. All have one hash. */
class Numbered implements Equal.Equal {
  readonly noise = {}
  readonly n: number
  constructor(n: number) {
    this.n = n
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Numbered && that.n === this.n
  }
  [Hash.symbol](): number {
    return 1
  }
}

/** Two of them differ in what nobody else can see. */
class Hidden {
  readonly shown = true
  readonly #secret: number
  constructor(secret: number) {
    this.#secret = secret
  }
  tells(secret: number) {
    return secret === this.#secret
  }
}

const find = (map: KeyMap<Entry>, key: unknown) => map.get(key, hashKey(key))

describe("keyEqual", () => {
  it("values without methods implement no Equal, whatever they are", () => {
    for (const value of [null, undefined, 1, "a", true, 1n, Symbol(), () => 1, {}, [], new Map()]) {
      expect(implementsEqual(value)).toBe(false)
    }
    expect([Option.some(1), HashMap.empty(), Context.empty()].every(implementsEqual)).toBe(true)
  })

  it("core's containers are compared by their entries", () => {
    const values = [1, [2], () => "a session", () => "another"]
    const makers: ReadonlyArray<(value: unknown) => unknown> = [
      (value) => HashMap.make(["a", value], ["b", 1]),
      (value) => HashSet.make(value, "b"),
      (value) => Chunk.make(value, "b"),
      (value) => Trie.make(["a", value]),
      (value) => Result.succeed(value),
      (value) => Context.make(Context.Service<unknown>("a"), value)
    ]
    for (const make of makers) {
      values.forEach((value, i) => {
        const again = Array.isArray(value) ? [...value] : value
        expect(values.map((other) => equals(make(again), make(other)))).toEqual(values.map((_, j) => i === j))
        expect(hashKey(make(again))).toBe(hashKey(make(value)))
      })
    }
  })

  it("exits, causes, options and secrets are compared by what they hold, and instances of a class by identity in them too", () => {
    const [one, two] = [new Hidden(1), new Hidden(2)]
    const makers: ReadonlyArray<(value: unknown) => unknown> = [
      Exit.succeed,
      Exit.fail,
      Exit.die,
      Cause.fail,
      Cause.die,
      Cause.makeFailReason,
      Cause.makeDieReason,
      Option.some,
      Result.fail,
      (value) => Redacted.make(value)
    ]
    for (const make of makers) {
      expect([
        equals(make(one), make(one)),
        equals(make({ id: 1 }), make({ id: 1 })),
        equals(make(one), make(two)),
        equals(make({ id: 1 }), make({ id: 2 }))
      ]).toEqual([true, true, false, false])
    }
    expect([equals(Exit.interrupt(1), Exit.interrupt(1)), equals(Exit.interrupt(1), Exit.interrupt(2))]).toEqual([
      true,
      false
    ])
  })

  it("keys that differ in one text or number rarely have the same hash", () => {
    for (const partOf of [(i: number) => `user ${i}`, (i: number) => i]) {
      const hashes = new Set(Array.from({ length: 1_000 }, (_, i) => hashKey({ kind: "user", id: partOf(i) })))
      expect(hashes.size).toBeGreaterThan(990)
    }
  })

  it("an object or an array with an equality of its own is compared by it", () => {
    const own = (n: number) => ({ [Equal.symbol]: Numbered.prototype[Equal.symbol], [Hash.symbol]: () => 1, n })
    for (const make of [own, (n: number) => Object.assign([n], own(n))]) {
      const [self, that] = [make(1), make(2)]
      const equality = (that: unknown) => that === other
      const other = make(3)
      Object.assign(self, { [Equal.symbol]: equality })
      expect([implementsEqual(self), equals(self, other), equals(self, that), equals(self, { ...self })]).toEqual([
        true,
        true,
        false,
        false
      ])
    }
  })

  it("maps and sets of different sizes are never equal, whatever their entries", () => {
    const [one, two, both] = [[1], [2], [1, 2]]
    for (const members of [one, two, [[]], [null], [undefined], [Numbered]]) {
      for (const others of [both, [...members, 1, {}], []]) {
        const maps = [members, others].map((_) => new Map(_.map((item) => [item, 0])))
        const sets = [members, others].map((_) => new Set<unknown>(_))
        expect([maps, sets].flatMap(([a, b]) => [equals(a, b), equals(b, a)])).toEqual([false, false, false, false])
      }
    }
  })

  it("a set is equal to one with equal members, be they structures or not, and to no other", () => {
    const values = [null, undefined, 1, "a", {}, { id: 1 }, [1], () => 1, new Hidden(1)]
    const copy = (value: unknown) => Array.isArray(value) ? [...value] : Object.is(value, values[4]) ? {} : value
    values.forEach((value, i) => {
      const [set, map] = [new Set([copy(value)]), new Map([[copy(value), 1]])]
      expect(values.map((other) => equals(set, new Set([other])))).toEqual(values.map((_, j) => i === j))
      expect(values.map((other) => equals(map, new Map([[other, 1]])))).toEqual(values.map((_, j) => i === j))
    })
  })

  it("what was compared in vain to find the pair of a member is not taken for equal elsewhere", () => {
    const padding = () => Array.from({ length: 20 }, (_, id) => ({ id }))
    const make = (first: number, ...members: ReadonlyArray<number>) => {
      const all = [1, 2].map((n) => new Numbered(n))
      return [all[first - 1], new Set(members.map((n) => [all[n - 1]])), ...padding()]
    }
    expect([equals(make(1, 1, 2), make(1, 2, 1)), equals(make(1, 1, 2), make(2, 2, 1))]).toEqual([true, false])
  })

  it("an array that holds one object many times is equal to an array of as many equal objects", () => {
    const one = Array.from({ length: 40 }, () => shared)
    const many = one.map((item) => ({ ...item }))
    expect([equals(one, many), equals(many, one), equals(one, [...many.slice(1), { id: 2 }])]).toEqual([
      true,
      true,
      false
    ])
  })
})

const shared = { id: 1 }

describe("KeyMap", () => {
  it("finds what is in it and nothing else, in whatever order keys come and go", () => {
    const keys = ["a", "b", 1, NaN, 0, undefined, null, [1], [2], { a: 1 }, () => 1, new Date(0)]
    const map = new KeyMap<Entry>()
    const model = new Map<number, Entry>()
    let state = 0x2545f491
    for (let i = 0; i < 5_000; i++) {
      state = Math.imul(state, 1_664_525) + 1_013_904_223 >>> 0
      const index = (state >>> 8) % keys.length
      const known = model.get(index)
      if (known === undefined) {
        const added = entry(keys[index], i)
        map.add(added)
        model.set(index, added)
      } else {
        map.remove(known)
        model.delete(index)
      }
      keys.forEach((key, at) => expect(find(map, key)).toBe(model.get(at)))
      expect(new Set(map.values())).toEqual(new Set(model.values()))
    }
  })

  it("finds NaN by NaN and 0 by -0, whether they are the last that came or not", () => {
    const map = new KeyMap<Entry>()
    map.add(entry(NaN, 1))
    expect(find(map, NaN)?.value).toBe(1)
    map.add(entry(0, 2))
    expect(find(map, NaN)?.value).toBe(1)
    expect(find(map, -0)?.value).toBe(2)
    map.add(entry("other", 3))
    expect(find(map, -0)?.value).toBe(2)
  })

  it("gives its entries in the order in which they were added", () => {
    const map = new KeyMap<Entry>()
    const entries = ["c", "a", "b"].map((key) => entry(key))
    for (const each of entries) map.add(each)
    expect(map.values().map((each) => each.key)).toEqual(["c", "a", "b"])
    map.remove(entries[2]!)
    map.add(entry("d"))
    expect(map.values().map((each) => each.key)).toEqual(["c", "a", "d"])
  })

  /** Equal to all of its kind; tells when it is compared. */
  class Meddling implements Equal.Equal {
    readonly onEqual: () => boolean
    constructor(onEqual: () => boolean = () => true) {
      this.onEqual = onEqual
    }
    [Equal.symbol](): boolean {
      return this.onEqual()
    }
    [Hash.symbol](): number {
      return 1
    }
  }

  for (const others of [0, 1, 2]) {
    it(`a look-up whose comparison changes the map finds what is in it then, with ${others} newer entries`, () => {
      const map = new KeyMap<Entry>()
      const [first, second] = [entry(new Meddling(), 1), entry(new Meddling(), 2)]
      map.add(first)
      for (let i = 0; i < others; i++) map.add(entry(new Meddling(), 3))
      const apart = Array.from({ length: others }, () => false)
      let meddles = true
      const key = new Meddling(() => {
        if (meddles) {
          meddles = false
          map.remove(first)
          return true
        }
        return apart.pop() ?? true
      })
      expect(find(map, key)).toBe(undefined)
      map.add(second)
      expect(find(map, key)).toBe(second)
    })
  }

  it("a look-up that adds its own key while it is compared finds it", () => {
    const map = new KeyMap<Entry>()
    map.add(entry(new Meddling(), 1))
    let added: Entry | undefined
    const key: Meddling = new Meddling(() => {
      if (added === undefined) map.add(added = entry(key, 2))
      return false
    })
    expect(find(map, key)).toBe(added)
  })

  it("a key whose comparison throws is equal to no other, and nobody who is compared with it notices", () => {
    const map = new KeyMap<Entry>()
    const throwing = () => {
      throw new Error("no")
    }
    const [known, other] = [entry(new Meddling(throwing), 1), entry(new Meddling(() => false), 2)]
    map.add(known)
    expect(find(map, known.key)).toBe(known)
    expect(find(map, new Meddling(throwing))).toBe(undefined)
    map.add(other)
    expect(find(map, new Meddling(throwing))).toBe(undefined)
    expect(find(map, new Meddling())).toBe(other)
    const getter = (id: number, then: () => void = () => {}) => ({
      get id() {
        then()
        return id
      }
    })
    let breaks = false
    const broken = entry(getter(1, () => breaks && throwing()), 3)
    map.add(broken)
    expect(find(map, { id: 1 })).toBe(broken)
    breaks = true
    expect(find(map, { id: 1 })).toBe(undefined)
  })

  it("a key whose comparison changes the map every time is found nowhere, and others are", () => {
    const map = new KeyMap<Entry>()
    const known = entry(new Meddling(), 1)
    map.add(known)
    const key = new Meddling(() => {
      const other = entry("other")
      map.add(other)
      map.remove(other)
      return false
    })
    expect(find(map, key)).toBe(undefined)
    expect(find(map, new Meddling())).toBe(known)
    expect(map.values()).toEqual([known])
  })
})
