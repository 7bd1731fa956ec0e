/**
 * Splits the work for a large batch over turns of the event loop, so that no step is long.
 */
import * as Effect from "effect/Effect"

/** How many pieces are done in one turn: a millisecond or two. Smaller turns would split callers that look up again. */
export const most = 4096

/** How many callers may still be told in this turn, by all batches together. */
export const budget = { left: 0 }

let turn = 0
let pending = 0

/**
 * Calls `step`, which spends the budget, once in each turn until it returns true. It must not be interrupted: `pending` would
 * count it for ever.
 */
export const inTurns = (step: () => boolean): Effect.Effect<void> => {
  if (pending === 0) budget.left = most
  return go(step)
}

const go = (step: () => boolean): Effect.Effect<void> => {
  if (step()) return Effect.void
  const last = turn
  pending++
  return Effect.flatMap(Effect.yieldNow, () => {
    pending--
    // The first to go on in a turn renews the budget.
    if (turn === last) {
      turn++
      budget.left = most
    }
    return go(step)
  })
}

/** Calls `f` with each item: with the first ones at once. An error of `f` ends it. */
export const forEachInTurns = <A>(
  items: ReadonlyArray<A>,
  f: (item: A, i: number) => void,
  from = 0
): Effect.Effect<void> => {
  const to = Math.min(items.length, from + most)
  for (let i = from; i < to; i++) f(items[i]!, i)
  return to === items.length
    ? Effect.void
    : Effect.flatMap(Effect.yieldNow, () => forEachInTurns(items, f, to))
}

/** Runs `next` in the same step if `first` is done already. */
export const andThen = <A, E, R>(
  first: Effect.Effect<void>,
  next: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => first === Effect.void ? next() : Effect.flatMap(first, next)
