/**
 * The surroundings of an engine: where it lives, where its permits come from if it shares them with other processes, and the calls
 * that it serves.
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { SchedulerDispatcher } from "effect/Scheduler"
import type { Place } from "../data/timers.js"
import type { Rate } from "../limiter/gcra.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import type { Node } from "../waits/waits.js"
import type { SchedulerError } from "./error.js"
import type { Job } from "./job.js"

/**
 * What an engine shares with other processes. The width of the main lane is then the number of permits held, and changes
 * all the time.
 */
export interface Permits {
  /** The most that there can ever be. */
  limit: number
  /** Demand may have changed. */
  changed(): void
  /** A job has ended: its permits may be given back before the next job takes them. */
  freed(): void
  /** Settles when its permits are lost; never, as long as it holds them. */
  guard<A, E, R>(job: Job, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SchedulerError, R>
  /** Lets no process start a job for a time. */
  penalize(nanos: number): Effect.Effect<void, StoreError>
  /** Makes a limiter for a rate that all processes keep together. */
  limiterOf(rates: ReadonlyArray<Rate>): Limiter<StoreError>
  /** Nanoseconds until the permits of an idle engine can be dropped, at most 0 if they can be now. */
  readonly rest: number
  dropUnsafe(): void
  /** Gives everything back. The jobs have ended before. */
  readonly close: Effect.Effect<unknown>
}

/** A call of `forEach` or its kind that is in progress. */
export interface CallInProgress {
  /** It came when the scheduler was draining already. */
  readonly isLate: boolean
  /** Whether it may wait for a node: one of its items does, or it was made in what does. */
  isAround(node: Node | undefined): boolean
  /** The width has changed. */
  fill(): void
  /** The scheduler closed. */
  interruptUnsafe(): void
}

/** The context, the clock and the dispatcher of the layer that an engine belongs to. */
export interface Site<in I = never> extends Place {
  readonly context: Context.Context<I>
  readonly dispatcher: SchedulerDispatcher
}
