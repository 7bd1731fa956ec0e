import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { Reducer } from "effect-funnel"

/** A test with a reducer of its own, and the scope that it lives in. */
export const law = (
  title: string,
  body: (
    reducer: Reducer.Reducer,
    scope: Scope.Closeable
  ) => Generator<Effect.Effect<unknown, unknown, Scope.Scope>, void, never>
) =>
  it.effect(title, () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const reducer = yield* Scope.provide(Reducer.make(), scope)
      return yield* Effect.gen(() => body(reducer, scope))
    }))
