/**
 * Long work in turns of the event loop: whatever waits for a batch, none of its steps is long.
 */
import * as Effect from "effect/Effect"
import { guarded } from "./batchFind.js"

/** How many are told, or kept, in one turn: so many that those who look up again when they are told make few batches. */
const most = 4096

/**
 * Takes steps until one of them is the last, each in a turn of its own. What runs in those who are told is not ours: where it
 * throws, the steps go on, and the error is a defect then.
 */
export const inTurns = (step: (most: number) => boolean): Effect.Effect<void> => {
  const rest = Effect.suspend(() => inTurns(step))
  return guarded(
    () => step(most) ? Effect.void : Effect.andThen(Effect.yieldNow, rest),
    (error) => Effect.ensuring(Effect.die(error), rest)
  )
}

/** Calls `f` with each. Where it throws, that is the end. */
export const forEachInTurns = <A>(items: ReadonlyArray<A>, f: (item: A) => void, from = 0): Effect.Effect<void> =>
  Effect.suspend(() => {
    const to = Math.min(items.length, from + most)
    for (let i = from; i < to; i++) f(items[i]!)
    return to === items.length ? Effect.void : Effect.andThen(Effect.yieldNow, forEachInTurns(items, f, to))
  })
