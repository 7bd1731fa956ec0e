import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A test on the real clock in a scope of its own. */
export const live = (
  title: string,
  f: () => Generator<Effect.Effect<unknown, unknown, Scope.Scope>, unknown, never>
): void => it.live(title, () => Effect.scoped(Effect.gen(f)))

/** Waits until something holds, on the real clock. */
export const until = (holds: Effect.Effect<boolean>): Effect.Effect<void> =>
  holds.pipe(
    Effect.delay(20),
    Effect.repeat({ until: (_) => _ }),
    Effect.timeout("10 seconds"),
    Effect.orDie
  )
