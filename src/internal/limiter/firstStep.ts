/**
 * Begins an effect in the operation that decides that it may begin.
 */
import type * as Effect from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import type { EffectPrimitive } from "effect/Tracer"

/**
 * Evaluates the first operation of `self` in this one, to be returned from a function that a fiber calls for its next
 * effect. In between two operations a fiber may yield, and be interrupted then: what was taken for `self` would be late
 * or lost.
 */
export const firstStep = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  fiber: Fiber<unknown, unknown>
): Effect.Effect<A, E, R> => {
  // Every effect is a primitive in the sense in which core hands them to tracers; what evaluation gives is what comes next.
  const primitive = self as Effect.Effect<A, E, R> & EffectPrimitive<Effect.Effect<A, E, R>>
  const { tracerContext } = fiber.cache
  return tracerContext === undefined ? primitive["~effect/Effect/evaluate"](fiber) : tracerContext(primitive, fiber)
}
