import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import * as HashMap from "effect/HashMap"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Request from "effect/Request"
import { Reducer } from "effect-funnel"
import { equals, hashKey, native } from "../src/internal/keyMap.js"

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
      yield* Effect.forkChild(reducer.reduce(key, effect), { startImmediately: true })
    }
    yield* gate.open
    yield* Effect.yieldNow
    expect(yield* reducer.inFlight).toEqual([])
    return runs
  })

class GetUser extends Request.Class<{ readonly id: unknown }, string> {}
class GetOrder extends Request.Class<{ readonly id: unknown }, string> {}
class GetTagged extends Request.TaggedClass("GetTagged")<{ readonly id: unknown }, string> {}

/** Differs from others of its class in private state only. */
class Session {
  readonly #user: string
  constructor(user: string) {
    this.#user = user
  }
  get user() {
    return this.#user
  }
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
    ["structures that contain themselves", () => cyclic("a")]
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

  const different: ReadonlyArray<readonly [string, ReadonlyArray<Reducer.Key>]> = [
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
    ["structures that contain themselves and differ elsewhere", [cyclic("a"), cyclic("b")]]
  ]
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

  it.effect("keys with colliding hashes end in any order without disturbing each other", () =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const points = [0, 1, 2, 3].map((x) => ({ key: new Point(x, 0), gate: Latch.makeUnsafe(false) }))
      for (const { gate, key } of points) {
        yield* Effect.forkChild(reducer.reduce(key, gate.await), { startImmediately: true })
      }
      for (const i of [1, 0, 3, 2]) {
        yield* points[i]!.gate.open
        yield* Effect.yieldNow
        for (const { gate, key } of points) {
          const free = yield* reducer.reduce(key, Effect.sync(() => true)).pipe(
            Effect.forkChild({ startImmediately: true })
          )
          expect(free.pollUnsafe() !== undefined).toBe(gate.isOpen())
          free.interruptUnsafe()
        }
      }
      expect(yield* reducer.inFlight).toEqual([])
    }))
})
