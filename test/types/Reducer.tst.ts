import { Context, type Duration, Effect, type Layer, pipe, Request, type Scope } from "effect"
import { type Hooks, Reducer } from "effect-funnel"
import { describe, expect, test } from "tstyche"

class Db extends Context.Service<Db, { readonly query: Effect.Effect<number> }>()("test/Db") {}
class GetUser extends Request.Class<{ readonly id: string }, { readonly name: string }, "NotFound"> {}
class Prices extends Reducer.Service<Prices>()("test/Prices") {}

declare const effect: Effect.Effect<number, "E", Db>
declare const user: Effect.Effect<{ readonly name: string; readonly age: number }>
declare const scoped: Effect.Effect<number, never, Scope.Scope | Db>
declare const unknownRequirements: Effect.Effect<number, never, unknown>
declare const anyRequirements: Effect.Effect<number, never, any>
declare const reducer: Reducer.Reducer

describe("reduce", () => {
  test("keeps success, error and requirements, and adds the reducer", () => {
    expect(Reducer.reduce("key", effect)).type.toBe<Effect.Effect<number, "E", Db | Reducer.Reducer>>()
    expect(effect.pipe(Reducer.reduce("key"))).type.toBe<Effect.Effect<number, "E", Db | Reducer.Reducer>>()
    expect(Prices.reduce("key", effect)).type.toBe<Effect.Effect<number, "E", Db | Prices>>()
    expect(effect.pipe(Prices.reduce(["key", 1, { a: 1 }]))).type.toBe<Effect.Effect<number, "E", Db | Prices>>()
  })

  test("a handle's methods add nothing", () => {
    expect(reducer.reduce("key", effect)).type.toBe<Effect.Effect<number, "E", Db>>()
    expect(effect.pipe(reducer.reduce("key"))).type.toBe<Effect.Effect<number, "E", Db>>()
    expect(reducer.inFlight).type.toBe<Effect.Effect<ReadonlyArray<Reducer.InFlight>>>()
    expect(reducer.forget("key")).type.toBe<Effect.Effect<void>>()
  })

  test("infers in generic wrappers, of the effect and of the key", () => {
    const wrap = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Reducer.Reducer> =>
      Reducer.reduce("key", self)
    const wrapPiped = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Prices> =>
      self.pipe(Prices.reduce("key"))
    const wrapKey = <A, E, R>(key: Reducer.Key, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      reducer.reduce(key, self)
    expect(wrap(effect)).type.toBe<Effect.Effect<number, "E", Db | Reducer.Reducer>>()
    expect(wrapPiped(effect)).type.toBe<Effect.Effect<number, "E", Db | Prices>>()
    expect(wrapKey("key", effect)).type.toBe<Effect.Effect<number, "E", Db>>()
  })

  test("infers inside of gen, forEach and with an effect written in place", () => {
    const program = Effect.gen(function*() {
      const one = yield* Reducer.reduce(
        "key",
        Effect.gen(function*() {
          return (yield* (yield* Db).query) + 1
        })
      )
      const many = yield* Effect.forEach(["a", "b"], (id) => Reducer.reduce(id, Effect.succeed(id)))
      return { one, many }
    })
    expect(program).type.toBe<
      Effect.Effect<{ one: number; many: Array<string> }, never, Db | Reducer.Reducer>
    >()
  })

  test("any key is taken, and nothing that is none", () => {
    for (const key of ["a", 1, 1n, true, Symbol.iterator, null, undefined, {}, [1], new Map(), () => 1]) {
      expect(Reducer.reduce(key, effect)).type.toBe<Effect.Effect<number, "E", Db | Reducer.Reducer>>()
    }
    expect(Reducer.reduce).type.not.toBeCallableWith()
    expect(Reducer.reduce).type.not.toBeCallableWith("key", 1)
    expect(Reducer.reduce).type.not.toBeCallableWith("key", Promise.resolve(1))
    expect(Reducer.reduce).type.not.toBeCallableWith("key", () => effect)
  })
})

describe("a request as key", () => {
  test("carries its types", () => {
    expect(Reducer.reduce(new GetUser({ id: "7" }), user)).type.toBe<
      Effect.Effect<{ readonly name: string }, "NotFound", Reducer.Reducer>
    >()
    expect(user.pipe(Reducer.reduce(new GetUser({ id: "7" })))).type.toBe<
      Effect.Effect<{ readonly name: string }, "NotFound", Reducer.Reducer>
    >()
  })

  test("refuses an effect that does not fit", () => {
    Reducer.reduce(
      new GetUser({ id: "7" }),
      // @ts-expect-error The effect succeeds with a value that is not the request's
      Effect.succeed("Ada")
    )
    Reducer.reduce(
      new GetUser({ id: "7" }),
      // @ts-expect-error The effect fails with an error that the request does not declare
      Effect.fail("Timeout" as const)
    )
    // @ts-expect-error The effect succeeds with a value that is not the request's
    Effect.succeed("Ada").pipe(Reducer.reduce(new GetUser({ id: "7" })))
  })
})

describe("an effect that requires Scope", () => {
  test("is refused, and says what to write", () => {
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside
    Reducer.reduce("key", scoped)
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside
    scoped.pipe(Reducer.reduce("key"))
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside
    Prices.reduce("key", scoped)
    // @ts-expect-error The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside
    Reducer.fn("f")((_: string) => scoped)
    expect(Reducer.reduce("key", Effect.scoped(scoped))).type.toBe<
      Effect.Effect<number, never, Db | Reducer.Reducer>
    >()
  })
})

describe("what is no effect, or of unknown requirements", () => {
  test("is refused for what it is, and Scope is not blamed", () => {
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    Reducer.reduce("key", async () => 1)
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    Reducer.reduce(new GetUser({ id: "7" }), async () => 1)
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    Reducer.fn("f")(async (id: string) => id)
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    Prices.fn("f", { key: (id: string) => id })(async (id: string) => id)
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    Reducer.reduce("key", unknownRequirements)
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    unknownRequirements.pipe(Prices.reduce("key"))
    // @ts-expect-error This is not an effect, or its requirements are unknown: annotate what it is made from
    Reducer.reduce(JSON.parse("1"), async () => 1)
  })

  test("is taken where the requirements are any", () => {
    expect(Reducer.reduce("key", anyRequirements)).type.toBe<Effect.Effect<number, never, any>>()
    const f = Reducer.fn("f")((_: string) => anyRequirements)
    expect<ReturnType<typeof f>>().type.toBe<Effect.Effect<number, never, any>>()
  })
})

describe("arguments that are swapped", () => {
  test("are refused for that", () => {
    // @ts-expect-error The arguments are swapped: the key comes first, then the effect
    Reducer.reduce(effect, "key")
    // @ts-expect-error The arguments are swapped: the key comes first, then the effect
    reducer.reduce(scoped, ["key", 1])
    // @ts-expect-error The arguments are swapped: the key comes first, then the effect
    Prices.reduce(user, new GetUser({ id: "7" }))
  })

  test("are not where an effect is the key of another", () => {
    expect(Reducer.reduce(effect, effect)).type.toBe<Effect.Effect<number, "E", Db | Reducer.Reducer>>()
  })
})

describe("fn", () => {
  test("keeps the arguments and adds the reducer", () => {
    const f = Reducer.fn("f")((id: string, _options?: { readonly fresh: boolean }) => Effect.as(effect, id))
    expect<ReturnType<typeof f>>().type.toBe<Effect.Effect<string, "E", Db | Reducer.Reducer>>()
    expect(f).type.toBeAssignableTo<
      (id: string, _options?: { readonly fresh: boolean }) => Effect.Effect<string, "E", Db | Reducer.Reducer>
    >()
    expect(reducer.fn("f")((id: string) => Effect.as(effect, id))).type.toBeAssignableTo<
      (id: string) => Effect.Effect<string, "E", Db>
    >()
    expect(reducer.fn("f")((...ids: ReadonlyArray<string>) => Effect.succeed(ids))).type.toBeCallableWith("a", "b", "c")
  })

  test("takes no argument that the function does not declare, such as the index that forEach hands over", () => {
    const f = reducer.fn("f")((id: string) => Effect.succeed(id))
    expect(f).type.toBeCallableWith("a")
    expect(f).type.not.toBeCallableWith("a", 1)
    // @ts-expect-error An argument that the function does not declare would be part of the key: write (id) => f(id)
    Effect.forEach(["a"], f) // @ts-expect-error An argument that the function does not declare would be part of the key: write (id) => f(id)
    ;["a"].map(f)
    // @ts-expect-error An argument that the function does not declare would be part of the key: write (id) => f(id)
    Effect.forEach(["a"], Reducer.fn("f", { key: (id: string) => id })((id: string) => Effect.succeed(id)))
    expect(Effect.forEach(["a"], (id) => f(id))).type.toBe<Effect.Effect<Array<string>>>()
    expect(Effect.flatMap(Effect.succeed("a"), f)).type.toBe<Effect.Effect<string>>()
    expect(pipe("a", f)).type.toBe<Effect.Effect<string>>()
  })

  test("the key function sees the arguments", () => {
    const f = Prices.fn("f", { key: (user: { readonly id: string }) => user.id })(
      (user: { readonly id: string; readonly name: string }) => Effect.succeed(user.name)
    )
    expect(f).type.toBeAssignableTo<
      (user: { readonly id: string; readonly name: string }) => Effect.Effect<string, never, Prices>
    >()
    // @ts-expect-error not assignable
    Prices.fn("f", { key: (id: string) => id })((id: number) => Effect.succeed(id))
  })

  test("keeps type parameters", () => {
    const f = Reducer.fn("f")(<A>(value: A) => Effect.succeed([value]))
    expect(f("a")).type.toBe<Effect.Effect<Array<string>, never, Reducer.Reducer>>()
  })

  test("forget takes the arguments of the function", () => {
    const f = Reducer.fn("f")((id: string) => Effect.succeed(id))
    expect(Reducer.forget(f, "a")).type.toBe<Effect.Effect<void, never, Reducer.Reducer>>()
    expect(Reducer.forget(f)).type.toBe<Effect.Effect<void, never, Reducer.Reducer>>()
    expect(Reducer.forget).type.not.toBeCallableWith(f, 1)
  })
})

describe("the service", () => {
  test("layers and the rest of the accessors", () => {
    expect(Reducer.layer).type.toBe<(options?: Reducer.Options) => Layer.Layer<Reducer.Reducer>>()
    expect(Reducer.layerNoop).type.toBe<Layer.Layer<Reducer.Reducer>>()
    expect(Prices.layer).type.toBe<Layer.Layer<Prices>>()
    expect(Prices.layerNoop).type.toBe<Layer.Layer<Prices>>()
    expect(Prices.inFlight).type.toBe<Effect.Effect<ReadonlyArray<Reducer.InFlight>, never, Prices>>()
    expect(Reducer.make()).type.toBe<Effect.Effect<Reducer.Reducer, never, Scope.Scope>>()
    expect<Reducer.InFlight["age"]>().type.toBe<Duration.Duration>()
    expect(Reducer.detached(effect)).type.toBe<Effect.Effect<number, "E", Db>>()
    expect(Effect.map(Prices, (_) => _)).type.toBe<Effect.Effect<Reducer.Reducer, never, Prices>>()
  })

  test("options", () => {
    expect(Reducer.layer).type.toBeCallableWith({ name: "a", hooks: {} as Hooks.Hooks })
    expect(Reducer.layer).type.toBeCallableWith({ name: undefined, hooks: undefined })
    expect(Reducer.layer).type.not.toBeCallableWith({ hook: {} })
  })
})
