/**
 * Begins an effect in the operation that admits it.
 */
import type * as Effect from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import type { EffectPrimitive } from "effect/Tracer"

type Primitive<A, E, R> = EffectPrimitive<Effect.Effect<A, E, R>>

/**
 * Evaluates the first operation of `self` within the present one, whose result it is. Between two operations a fiber may
 * yield and be interrupted, and then the tokens for `self` would be late or lost.
 */
export const firstStep = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  fiber: Fiber<unknown, unknown>
): Effect.Effect<A, E, R> => {
  const { tracerContext } = fiber.cache
  return tracerContext === undefined
    ? untraced(self, fiber)
    : tracerContext(self as typeof self & Primitive<A, E, R>, fiber)
}

/** The same for an operation that is no foreign code and must not fail, as a tracer may. */
export const untraced = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  fiber: Fiber<unknown, unknown>
): Effect.Effect<A, E, R> =>
  // Sound: every effect is such a primitive, and core calls it in the same way. The result is the next effect.
  (self as typeof self & Primitive<A, E, R>)["~effect/Effect/evaluate"](fiber)
