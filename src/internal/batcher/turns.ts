/**
 * Long work in turns of the event loop: whatever waits for a batch, none of its steps is long.
 */
import * as Effect from "effect/Effect"
import { guarded } from "../data/guarded.js"

/** How many are told, or kept, in one turn: so many that those who look up again when they are told make few batches. */
export const most = 4096

/** How many may still be told in this turn, by all batches together. */
export interface Budget {
  left: number
}

const budget: Budget = { left: 0 }
let turn = 0
let pending = 0

/**
 * Takes steps until one of them is the last, each in a turn of its own. Several that go on at once share the budget of a
 * turn. What runs in those who are told is not ours: where it throws, the steps go on, and the error is a defect then.
 */
export const inTurns = (step: (budget: Budget) => boolean): Effect.Effect<void> => {
  if (pending === 0) budget.left = most
  return go(step)
}

const go = (step: (budget: Budget) => boolean): Effect.Effect<void> =>
  guarded(
    () => step(budget) ? Effect.void : inNextTurn(step),
    (error) => Effect.ensuring(Effect.die(error), Effect.suspend(() => go(step)))
  )

/** The first to go on in a turn renews the budget. */
const inNextTurn = (step: (budget: Budget) => boolean): Effect.Effect<void> => {
  const last = turn
  pending++
  return Effect.flatMap(Effect.yieldNow, () => {
    pending--
    if (turn === last) {
      turn++
      budget.left = most
    }
    return go(step)
  })
}

/**
 * Calls `f` with each: with the first of them at once. What it returns to wait for goes before the next. Where it throws, that
 * is the end.
 */
export const forEachInTurns = <A>(
  items: ReadonlyArray<A>,
  f: (item: A, i: number) => Effect.Effect<void> | void,
  from = 0
): Effect.Effect<void> => {
  const to = Math.min(items.length, from + most)
  for (let i = from; i < to; i++) {
    const wait = f(items[i]!, i)
    if (wait && wait !== Effect.void) return Effect.flatMap(wait, () => forEachInTurns(items, f, i + 1))
  }
  return to === items.length
    ? Effect.void
    : Effect.flatMap(Effect.yieldNow, () => forEachInTurns(items, f, to))
}

/** Goes on in this step if there is nothing to wait for. */
export const andThen = <A, E, R>(
  first: Effect.Effect<void>,
  next: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => first === Effect.void ? next() : Effect.flatMap(first, next)
