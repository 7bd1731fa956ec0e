/** What most tests need of fibers. */
import * as Effect from "effect/Effect"

/** Forks an effect, which runs at once until it suspends. */
export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Lets everything that can run do so. */
export const settle = Effect.repeat(Effect.yieldNow, { times: 40 })

export const unbounded = { concurrency: "unbounded" } as const

/** Forks an effect, which ends with the scope. */
export const forkScoped = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.forkScoped(effect, { startImmediately: true })

/** A few turns of the event loop. */
export const turns = Effect.repeat(Effect.yieldNow, { times: 10 })
