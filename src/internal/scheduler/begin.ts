/**
 * How the effect of a job begins.
 */
import type * as Effect from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import { firstStep } from "../limiter/firstStep.js"
import type { Job } from "./job.js"

/** The part of an engine that hears of it. */
export interface Starter {
  startedUnsafe(job: Job): void
}

/**
 * The first step of a job's effect. The engine is told after it, not before: if the process stops between the two, for a
 * garbage collection say, a strict window gets longer and not shorter.
 */
export const firstStepOf = <A, E, R>(
  engine: Starter,
  job: Job,
  self: () => Effect.Effect<A, E, R>,
  fiber: Fiber<unknown, unknown>
): Effect.Effect<A, E, R> => {
  const { link } = job
  // A job that ends in its first step is released in it, and has begun all the same: nothing is given back.
  job.link = undefined
  try {
    return firstStep(self(), fiber)
  } finally {
    job.link = link
    engine.startedUnsafe(job)
  }
}
