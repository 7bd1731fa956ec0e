import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Graph from "effect/Graph"
import * as Hash from "effect/Hash"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as AsyncResult from "effect/reactivity/AsyncResult"
import * as Redacted from "effect/Redacted"
import * as Request from "effect/Request"
import * as Result from "effect/Result"
import * as Trie from "effect/Trie"
import { Reducer } from "effect-funnel"
import { equals } from "../src/internal/data/keyEqual.js"
import { hashKey, native } from "../src/internal/data/keyMap.js"
import { fork } from "./support/fibers.ts"
import { Session } from "./support/session.js"

/** How many runs the keys make when all are in flight at once. */
const runsOf = (keys: ReadonlyArray<Reducer.Key>) =>
  Effect.gen(function*() {
    const reducer = yield* Reducer.make()
    const gate = Latch.makeUnsafe(false)
    let runs = 0
    const effect = Effect.suspend(() => {
      runs++
      return gate.await
    })
    for (const key of keys) {
      yield* fork(reducer.reduce(key, effect))
    }
    yield* gate.open
    yield* Effect.yieldNow
    expect(yield* reducer.inFlight).toEqual([])
    return runs
  })

class GetUser extends Request.Class<{ readonly id: unknown }, string> {}
class GetOrder extends Request.Class<{ readonly id: unknown }, string> {}
class GetPrivate extends Request.Class<{ readonly id: unknown }, string> {
  readonly #secret: unknown
  constructor(secret: unknown) {
    super({ id: 1 })
    this.#secret = secret
  }
  secret() {
    return this.#secret
  }
}
class GetTagged extends Request.TaggedClass("GetTagged")<{ readonly id: unknown }, string> {}

/** As {@link Session}, of a class that core makes. */
class Account extends Data.Class<{ readonly id: string }> {
  readonly #user: string
  constructor(user: string) {
    super({ id: "1" })
    this.#user = user
  }
  user() {
    return this.#user
  }
}

const twice = <A>(make: () => A): ReadonlyArray<A> => [make(), make()]

const wiped = () => {
  const secret = Redacted.make("a")
  Redacted.wipeUnsafe(secret)
  return secret
}

class Point implements Equal.Equal {
  readonly x: number
  readonly y: number
  constructor(x: number, y: number) {
    this.x = x
    this.y = y
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Point && that.x === this.x && that.y === this.y
  }
  // Every point has the same hash: equality has to decide.
  [Hash.symbol](): number {
    return 0
  }
}

class Tenant extends Context.Service<Tenant, unknown>()("test/Tenant") {}

/** Core's containers, each around one value. */
const containers: ReadonlyArray<readonly [string, (value: unknown) => object]> = [
  ["Option", Option.some],
  ["Result.succeed", Result.succeed],
  ["Result.fail", Result.fail],
  ["Exit.succeed", Exit.succeed],
  ["Exit.fail", Exit.fail],
  ["Exit.die", Exit.die],
  ["Cause", Cause.fail],
  ["Cause.Reason", (value) => Cause.die(value).reasons[0]!],
  ["Chunk", (value) => Chunk.append(Chunk.of<unknown>(0), value)],
  ["HashMap, as a value", (value) => HashMap.make(["a", value])],
  ["HashMap, as a key", (value) => HashMap.make([value, "a"])],
  ["HashSet", (value) => HashSet.make(value)],
  ["Trie", (value) => Trie.make(["a", value])],
  ["Redacted", Redacted.make],
  ["Context", (value) => Context.make(Tenant, value)],
  ["AsyncResult", AsyncResult.success]
]

/** Answers for every name, as clients of remote procedures do. */
const client = (url: string, target: object = {}): object =>
  new Proxy(target, { get: (_, name) => () => `${url}/${String(name)}` })

/** An array in an array in an array …, around a value. */
const nested = (depth: number, value: unknown): ReadonlyArray<unknown> => {
  let array = [value]
  for (let i = 1; i < depth; i++) array = [array]
  return array
}

/** An object of which each level holds the next one twice. */
const shared = (depth: number, value: unknown): object => {
  let object: object = { left: value, right: value }
  for (let i = 1; i < depth; i++) object = { left: object, right: object }
  return object
}

const kindOf = (key: unknown): string => Object.prototype.toString.call(key) + typeof key

const cyclic = (name: string) => {
  const self: { name: string; self?: object } = { name }
  self.self = self
  return self
}

describe("equality of keys", () => {
  const equal: ReadonlyArray<readonly [string, () => Reducer.Key]> = [
    ["strings", () => "key"],
    ["NaN", () => NaN],
    ["bigints", () => 10n],
    ["registered symbols", () => Symbol.for("key")],
    ["undefined", () => undefined],
    ["plain objects", () => ({ a: 1, b: { c: [1, 2, { d: "e" }] } })],
    ["objects without a prototype", () => Object.assign(Object.create(null), { a: 1 })],
    ["objects with symbols for keys", () => ({ [Symbol.for("a")]: 1 })],
    ["arrays", () => ["user", 1, null, undefined, NaN]],
    ["dates", () => new Date(1000)],
    ["invalid dates", () => new Date(NaN)],
    ["maps", () => new Map<unknown, unknown>([[{ a: 1 }, [1]], ["b", new Set([1])]])],
    ["sets", () => new Set<unknown>([1, "a", { a: [1] }])],
    ["requests", () => new GetUser({ id: { tenant: "a", ids: [1, 2] } })],
    ["tagged requests", () => new GetTagged({ id: 1 })],
    ["values with their own Equal", () => new Point(1, 2)],
    ["values with their own Equal, inside", () => [{ at: new Point(1, 2) }]],
    ["durations, options and hash maps", () => [Duration.seconds(1), Option.some(1), HashMap.make(["a", 1])]],
    ["structures that contain themselves", () => cyclic("a")],
    [
      "arrays with holes, names and symbols",
      () => Object.assign([1, { a: 1 }], { length: 4, name: [1], [Symbol.for("a")]: { b: 1 } })
    ],
    ["results of regular expressions", () => /(?<a>.)b/.exec("ab")!],
    ["maps, sets and dates with names", () => [
      Object.assign(new Map([[1, 2]]), { name: [1] }),
      Object.assign(new Set([1]), { name: [1] }),
      Object.assign(new Date(0), { name: [1] })
    ]],
    ["objects that implement Equal by a function of their own", () => ({
      id: "a",
      at: Symbol(),
      [Equal.symbol](that: Equal.Equal): boolean {
        return "id" in that && that.id === "a"
      },
      [Hash.symbol]: () => 1
    })],
    ["data under the names of Equal and Hash", () => JSON.parse(`{"~effect/Equal": 1, "~effect/Hash": {"a": [null]}}`)],
    [
      "requests with data under the names of Equal and Hash",
      () => new GetUser(JSON.parse(`{"id": 1, "~effect/Equal": 1, "~effect/Hash": 2}`))
    ],
    ["requests of one class with the same fields, whatever else is in them", () => new GetPrivate(Symbol())],
    ["proxies that show the fields of a plain object", () => new Proxy({ id: [1] }, {})],
    ["100,000 arrays in one another", () => nested(100_000, "a")],
    ["structures of 100 levels that hold the next one twice", () => shared(100, "a")],
    ["sets of equal items", () => new Set([[1], [1], [1, new Set([[2], [2]])]])],
    ...containers.map(([name, make]) =>
      [`${name} and its content`, () => make({ a: [1, new Map([["b", Option.some(2)]])] })] as const
    ),
    ["durations, times, hash sets of hash maps", () => [
      DateTime.makeUnsafe(0),
      HashSet.make(HashMap.make(["a", 1], ["b", 2]), HashMap.make(["b", 2])),
      HashMap.make([[1], [2]], [[2], [3]])
    ]]
  ]
  for (const [what, make] of equal) {
    it.effect(`${what} are equal by structure`, () =>
      Effect.map(runsOf([make(), make(), make()]), (runs) => expect(runs).toBe(1)))
  }

  it.effect("the order of an object's fields, of a map's entries and of a set's items does not matter", () =>
    Effect.gen(function*() {
      expect(yield* runsOf([{ a: 1, b: 2 }, { b: 2, a: 1 }])).toBe(1)
      expect(yield* runsOf([new Set([{ a: 1 }, { a: 2 }, { a: 3 }]), new Set([{ a: 3 }, { a: 1 }, { a: 2 }])])).toBe(1)
      expect(yield* runsOf([new Map([[[1], 1], [[2], 2]]), new Map([[[2], 2], [[1], 1]])])).toBe(1)
    }))

  it.effect("0 is equal to -0", () =>
    Effect.gen(function*() {
      expect(yield* runsOf([0, -0])).toBe(1)
      expect(yield* runsOf([[0], [-0]])).toBe(1)
      expect(yield* runsOf([new Set([0]), new Set([-0])])).toBe(1)
    }))

  const different: Array<readonly [string, ReadonlyArray<Reducer.Key>]> = [
    ["primitives of all kinds", [-1, -2, 1, 1n, true, "1", "true", 0, false, "", null, undefined, "null", NaN, "NaN"]],
    ["the same ones in arrays", [
      [-1],
      [-2],
      [1],
      [1n],
      [true],
      ["1"],
      [0],
      [false],
      [""],
      [null],
      [undefined],
      [NaN],
      []
    ]],
    ["symbols of one description", [Symbol("a"), Symbol("a")]],
    ["an array, a set, a map and an object of the same content", [["a"], new Set(["a"]), new Map([["a", "a"]]), {
      0: "a"
    }]],
    ["a date, its time and its text", [new Date(1000), 1000, new Date(1000).toISOString()]],
    ["an absent and an undefined field", [{}, { a: undefined }, { b: undefined }]],
    ["nested arrays", [[1, 2], [[1, 2]], [[1], 2], [1, [2]]]],
    ["a hole and a value", [Object.assign(Array(2), { 1: 1 }), [0, 1]]],
    ["functions", [() => 1, () => 1]],
    ["instances of classes, even of equal content", [new Session("a"), new Session("a")]],
    ["instances of classes inside of structures", [[new Session("a")], [new Session("b")]]],
    ["instances of classes inside of requests", [
      new GetUser({ id: new Session("a") }),
      new GetUser({ id: new Session("b") })
    ]],
    ["requests of two classes", [new GetUser({ id: 1 }), new GetOrder({ id: 1 }), new GetTagged({ id: 1 }), { id: 1 }]],
    ["objects of the host", [
      new Headers({ a: "1" }),
      new Headers({ a: "2" }),
      new URL("https://a.example"),
      new URL("https://b.example"),
      new Uint8Array([1]),
      new Uint8Array([2]),
      /a/,
      /b/,
      new Error("a"),
      new Error("b"),
      new WeakMap(),
      new WeakMap()
    ]],
    ["promises", [new Promise(() => {}), new Promise(() => {})]],
    ["arrays and dates of subclasses", [
      new (class extends Array {})(),
      new (class extends Array {})(),
      new (class extends Date {})(0),
      new (class extends Map {})(),
      new (class extends Set {})()
    ]],
    ["values whose hashes collide", [new Point(1, 2), new Point(2, 1), new Point(1, 2.5)]],
    ["maps that differ in one value, sets that differ in one item", [
      new Map([["a", [1]]]),
      new Map([["a", [2]]]),
      new Set([[1], [1]]),
      new Set([[1], [2]])
    ]],
    ["structures that contain themselves and differ elsewhere", [cyclic("a"), cyclic("b")]],
    ["containers of the same content", [
      ...containers.filter(([name]) => !name.startsWith("HashMap")).map(([, make]) => make(1)),
      Option.none(),
      Chunk.of(1),
      [0, 1],
      HashMap.make(["a", 1]),
      HashMap.make([1, "a"]),
      Exit.fail("1"),
      Exit.die("1"),
      Cause.combine(Cause.fail(1), Cause.fail(2)),
      Cause.interrupt(1),
      AsyncResult.success(1, { waiting: true })
    ]],
    ["secrets that were wiped", [wiped(), wiped(), Redacted.make("a")]],
    ["graphs, into which core alone can look", [Graph.directed(), Graph.directed()]],
    ["arrays that differ in holes, names or symbols", [
      [undefined],
      Array(1),
      Object.assign([undefined], { name: 1 }),
      Object.assign([undefined], { name: 2 }),
      Object.assign(Array(1), { name: 1 }),
      Object.assign([undefined], { [Symbol.for("a")]: 1 }),
      Object.assign([1, 2, 3], { name: 1 }),
      Object.assign(Array(3), { 0: 1, 2: 3, name: 1 }),
      Object.assign(Array(3), { 0: 1, 2: 3, name: 2 })
    ]],
    ["maps, sets and dates that differ in what was added to them", [
      Object.assign(new Map(), { name: 1 }),
      Object.assign(new Map(), { name: 2 }),
      Object.assign(new Set(), { name: 1 }),
      Object.assign(new Set(), { name: 2 }),
      Object.assign(new Date(0), { name: 1 }),
      Object.assign(new Date(0), { name: 2 })
    ]],
    ["objects that differ where nobody enumerates", [
      Object.defineProperty({ id: 1 }, "token", { value: "a" }),
      Object.defineProperty({ id: 1 }, "token", { value: "b" }),
      { id: 1 }
    ]],
    ["objects of the host with the same content", [
      ...twice(() => new Headers({ a: "1" })),
      ...twice(() => new Blob(["a"])),
      ...twice(() => new URLSearchParams("a=1")),
      ...twice(() => new FormData()),
      ...twice(() => new AbortController().signal),
      ...twice(() => new globalThis.Request("https://a.example")),
      ...twice(() => new Response("a")),
      ...twice(() => new ReadableStream()),
      ...twice(() => new URL("https://a.example")),
      ...twice(() => new Uint8Array([1])),
      ...twice(() => new ArrayBuffer(1)),
      ...twice(() => new WeakMap()),
      ...twice(() => new Error("a")),
      ...twice(() => Promise.resolve(1))
    ]],
    ["instances of a class of core without its own Equal", twice(() => new Account("a"))],
    ["clients made of proxies", [
      client("a"),
      client("a"),
      client("b", { id: 1 }),
      client("b", { id: 1 }),
      client("c", []),
      client("c", []),
      client("d", () => 1),
      client("d", () => 1),
      client("e", new Session("a")),
      client("e", new Session("a"))
    ]],
    ["data that says it was a container, and what it pretends to be", [
      ...["Option", "Chunk", "HashMap", "HashSet", "Redacted", "Cause", "Exit"].map((name) =>
        JSON.parse(`{"~effect/${name}": 1, "_tag": "Some", "value": 1}`)
      ),
      Option.some(1)
    ]],
    ["nested arrays that differ at the bottom", [nested(100_000, "a"), nested(100_000, "b")]],
    ["shared parts that differ at the bottom", [shared(100, "a"), shared(100, "b")]]
  ]
  for (const [name, make] of containers) {
    different.push(
      [`${name} of instances that differ in private fields`, ["a", "b"].map((user) => make(new Session(user)))],
      [`${name} of headers`, ["a", "b"].map((user) => make(new Headers({ authorization: user })))],
      [`${name} of clients made of proxies`, ["a", "b"].map((url) => make(client(url)))],
      [`${name} of functions and structures`, [make(() => 1), make(() => 1), make([1]), make({ 0: 1 })]]
    )
  }
  for (const [what, keys] of different) {
    it.effect(`different keys: ${what}`, () =>
      Effect.map(runsOf([...keys, ...keys]), (runs) => expect(runs).toBe(keys.length)))
  }

  it("equality decides by itself, whatever the hashes are", () => {
    for (const [, make] of equal) {
      expect(equals(make(), make())).toBe(true)
      expect(hashKey(make())).toBe(hashKey(make()))
    }
    const all = different.flatMap(([, keys]) => keys)
    for (const one of all) {
      const twins = all.filter((other) => equals(one, other))
      // What is equal by structure occurs in several of the lists; nothing else may be equal to anything but itself.
      expect(new Set(twins.map(kindOf)).size).toBe(1)
      expect(twins.length === 1 || hashKey(one) !== native || Object.is(one, twins[1])).toBe(true)
      expect(new Set(twins.map(hashKey)).size).toBe(1)
      for (const twin of twins) {
        expect(equals(twin, one)).toBe(true)
      }
    }
  })

  it("parsed JSON in an instance does not change how its class is compared", () => {
    for (const name of ["Chunk", "HashMap", "HashSet", "Trie", "Context", "Graph", "Redacted", "Cause", "Option"]) {
      class Named implements Equal.Equal {
        readonly name: string
        constructor(name: string, json: string) {
          this.name = name
          Object.assign(this, JSON.parse(json))
        }
        [Equal.symbol](that: Equal.Equal): boolean {
          return that instanceof Named && that.name === this.name
        }
        [Hash.symbol]() {
          return 0
        }
        *[Symbol.iterator]() {}
      }
      const hostile = `{"~effect/${name}": "~effect/${name}", "~effect/Equal": true, "~effect/Hash": 7}`
      expect(equals([new Named("a", hostile)], [new Named("b", hostile)])).toBe(false)
      expect(equals([new Named("a", "{}")], [new Named("b", "{}")])).toBe(false)
      expect(equals([new Named("a", hostile)], [new Named("a", "{}")])).toBe(true)
    }
  })

  it("a class with the methods of core's containers is compared by its own Equal, whatever it holds", () => {
    class Page implements Equal.Equal {
      readonly id: number
      readonly items: ReadonlyArray<unknown>
      constructor(id: number, items: ReadonlyArray<unknown>) {
        this.id = id
        this.items = items
      }
      [Equal.symbol](that: Equal.Equal): boolean {
        return that instanceof Page && that.id === this.id
      }
      [Hash.symbol]() {
        return this.id
      }
      [Symbol.iterator]() {
        return this.items[Symbol.iterator]()
      }
      pipe() {}
      toJSON() {}
      toString() {
        return ""
      }
    }
    expect(equals(new Page(1, [["a", 1]]), new Page(1, [["b", 2]]))).toBe(true)
    expect(equals(new Page(1, [["a", 1]]), new Page(2, [["a", 1]]))).toBe(false)
  })

  it("a structure that contains itself equals one that shows the same more often before it does", () => {
    const long: { name: string; self?: object } = { name: "a" }
    long.self = { name: "a", self: { name: "a", self: long } }
    expect(equals(long, cyclic("a"))).toBe(true)
    expect(hashKey(long)).toBe(hashKey(cyclic("a")))
    expect(equals(long, cyclic("b"))).toBe(false)
    const ring = (items: ReadonlyArray<number>) => {
      const set = new Set<unknown>()
      for (const item of items) set.add([item, set])
      return set
    }
    expect(equals(ring([1, 2, 2]), ring([2, 1, 2]))).toBe(true)
    expect(equals(ring([1, 1, 2]), ring([2, 1, 2]))).toBe(false)
  })

  it("items are paired by all that they hold, whatever their order and their hashes", () => {
    const points = (...xs: ReadonlyArray<number>) => xs.map((x) => [new Point(x, 0), new Set([new Point(x, 1)])])
    expect(equals(new Set(points(1, 2, 2, 3)), new Set(points(3, 2, 1, 2)))).toBe(true)
    expect(equals(new Set(points(1, 2, 2, 3)), new Set(points(3, 2, 1, 1)))).toBe(false)
    const entries = (...values: ReadonlyArray<number>) =>
      new Map(values.map((value, i) => [[new Point(i % 2, 0)], value]))
    expect(equals(entries(1, 2, 3, 4), entries(3, 4, 1, 2))).toBe(true)
    expect(equals(entries(1, 2, 3, 4), entries(1, 4, 3, 3))).toBe(false)
    expect(equals(new Map([["a", 1]]), new Map([["b", 1]]))).toBe(false)
    expect(equals(new Map<unknown, number>([["a", 1], [[1], 1]]), new Map<unknown, number>([["a", 1], [[1], 2]]))).toBe(
      false
    )
  })

  it("the cost of a key is linear in its size, shared parts and parts without order included", () => {
    let reads = 0
    const leaf = (id: number) => ({
      get id() {
        reads++
        return id
      }
    })
    const keys: ReadonlyArray<readonly [string, () => object]> = [
      ["shared parts", () => shared(1_000, leaf(1))],
      ["a shared list", () => Array(1_000).fill(Array(1_000).fill(leaf(1)))],
      ["sets", () => new Set(Array.from({ length: 1_000 }, (_, id) => leaf(id)))],
      ["sets in the opposite order", () => new Set(Array.from({ length: 1_000 }, (_, id) => leaf(999 - id)))],
      ["maps", () => new Map(Array.from({ length: 1_000 }, (_, id) => [leaf(id), leaf(id)]))],
      [
        "maps in the opposite order",
        () => new Map(Array.from({ length: 1_000 }, (_, id) => [leaf(999 - id), leaf(999 - id)]))
      ]
    ]
    for (const [what, make] of keys) {
      for (const [other, makeOther] of keys) {
        if (other !== what && other !== `${what} in the opposite order`) continue
        const [self, that] = [make(), makeOther()]
        reads = 0
        expect(hashKey(self)).toBe(hashKey(that))
        expect(equals(self, that)).toBe(true)
        expect([what, reads <= 20_000]).toEqual([what, true])
      }
    }
  })

  it.effect("keys with colliding hashes end in any order without disturbing each other", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const points = [0, 1, 2, 3].map((x) => ({ key: new Point(x, 0), gate: Latch.makeUnsafe(false) }))
      for (const { gate, key } of points) {
        yield* fork(reducer.reduce(key, gate.await))
      }
      for (const i of [1, 0, 3, 2]) {
        yield* points[i]!.gate.open
        yield* Effect.yieldNow
        for (const { gate, key } of points) {
          const free = yield* reducer.reduce(key, Effect.sync(() => true)).pipe(
            fork
          )
          expect(free.pollUnsafe() !== undefined).toBe(gate.isOpen())
          free.interruptUnsafe()
        }
      }
      expect(yield* reducer.inFlight).toEqual([])
    }))
})
