import { assert, describe, it } from "@effect/vitest"
import { Batcher } from "effect-funnel"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Request from "effect/Request"
import { leftIn } from "./support/leftInResolver.ts"
import { live } from "./support/lookups.ts"
import { Session } from "./support/session.ts"

class Tenant implements Equal.Equal {
  readonly name: string
  readonly hash: () => number
  readonly isEqual: (that: Tenant) => boolean
  constructor(name: string, methods?: { readonly hash?: () => number; readonly isEqual?: (that: Tenant) => boolean }) {
    this.name = name
    this.hash = methods?.hash ?? (() => Hash.string(name))
    this.isEqual = methods?.isEqual ?? ((that) => that.name === name)
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof Tenant && this.isEqual(that)
  }
  [Hash.symbol](): number {
    return this.hash()
  }
}

class Me extends Context.Service<Me, unknown>()("test/Me") {}
class Get extends Request.TaggedClass("Get")<{ readonly id: number }, string, never, Me> {}

/** What callers get who ask for one thing at once, and the groups that batches were made of. */
const askAs = (values: ReadonlyArray<unknown>) =>
  Effect.scoped(Effect.gen(function*() {
    const batches: Array<unknown> = []
    const resolver = yield* Batcher.ordered(Get, {
      isolate: [Me],
      execute: (requests) =>
        Effect.map(Me, (me) => {
          batches.push(me)
          return requests.map(() => me instanceof Tenant ? me.name : `for ${values.findIndex((_) => Object.is(_, me))}`)
        })
    })
    const exits = yield* Effect.forEach(
      values,
      (value) => Effect.exit(Effect.provideService(Effect.request(new Get({ id: 1 }), resolver), Me, value)),
      { concurrency: "unbounded" }
    )
    return { exits, batches, resolver }
  }))

/** An object that throws when it is looked into. */
const locked = (): object =>
  Object.defineProperty({}, "secret", {
    enumerable: true,
    get: () => {
      throw new Error("looked into")
    }
  })

describe("B7 isolation", () => {
  const apart: ReadonlyArray<readonly [string, ReadonlyArray<unknown>]> = [
    ["instances of a class", [new Session("a"), new Session("b")]],
    ["options of instances", [Option.some(new Session("a")), Option.some(new Session("b")), Option.none()]],
    ["secrets that are headers", [Redacted.make(new Headers({ a: "1" })), Redacted.make(new Headers({ a: "2" }))]],
    ["chunks of proxies", [Chunk.of(new Proxy({}, { get: () => 1 })), Chunk.of(new Proxy({}, { get: () => 2 }))]],
    ["plain objects, which do not implement Equal", [{ id: 1 }, { id: 1 }, [1], [1], new Map(), new Map()]],
    ["data under the name of Equal", [JSON.parse(`{"~effect/Equal": 1}`), JSON.parse(`{"~effect/Equal": 1}`)]],
    ["0 and -0", [0, -0]],
    ["functions", [() => 1, () => 1]],
    ["objects that nobody looks into", [locked(), locked()]],
    ["a number and its text", [0, "0"]],
    ["values whose hashes collide", [new Tenant("a", { hash: () => 1 }), new Tenant("b", { hash: () => 1 })]]
  ]
  for (const [what, values] of apart) {
    it.effect(`callers with different services never share: ${what}`, () =>
      Effect.gen(function*() {
        const { batches, exits, resolver } = yield* askAs(values)
        assert.strictEqual(leftIn(resolver), "")
        assert.deepStrictEqual(
          exits,
          values.map((value, i) => Exit.succeed(value instanceof Tenant ? value.name : `for ${i}`))
        )
        assert.strictEqual(batches.length, values.length)
      }).pipe(Effect.provide(live())))
  }

  const together: ReadonlyArray<readonly [string, () => unknown]> = [
    ...Object.entries({
      null: null,
      undefined,
      NaN,
      "a text": "a",
      "a bigint": 1n,
      "a symbol": Symbol("a"),
      "a function": () => "a",
      "an object": locked()
    }).map(([what, value]) => [what, () => value] as const),
    ["values that implement Equal", () => new Tenant("a")],
    ["containers of what is equal by structure", () => Option.some([Redacted.make({ id: new Tenant("a") })])]
  ]
  for (const [what, make] of together) {
    it.effect(`callers with equal services share: ${what}`, () =>
      Effect.gen(function*() {
        const { batches, resolver } = yield* askAs([make(), make(), make()])
        assert.strictEqual(leftIn(resolver), "")
        assert.strictEqual(batches.length, 1)
      }).pipe(Effect.provide(live())))
  }

  const broken = (): never => {
    throw new Error("broken")
  }
  for (const [what, methods] of [["Hash", { hash: broken }], ["Equal", { isEqual: broken }]] as const) {
    it.effect(`a service whose ${what} throws fails its own caller only, and never leaks another caller's result`, () =>
      Effect.gen(function*() {
        for (let at = 0; at < 4; at++) {
          const values = [new Tenant("a"), new Tenant("a"), new Tenant("b")]
          values.splice(at, 0, new Tenant("mallory", { hash: () => Hash.string("a"), ...methods }))
          const { exits } = yield* askAs(values)
          exits.forEach((exit, i) => {
            if (i !== at || Exit.isSuccess(exit)) assert.deepStrictEqual(exit, Exit.succeed(values[i]!.name))
          })
        }
      }).pipe(Effect.provide(live())))
  }
})
