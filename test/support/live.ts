import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A test on the real clock in a scope of its own. */
export const live = (
  title: string,
  f: () => Generator<Effect.Effect<unknown, unknown, Scope.Scope>, unknown, never>
): void => it.live(title, () => Effect.scoped(Effect.gen(f)))
