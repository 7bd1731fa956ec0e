/**
 * Concurrency that follows what the other side can take.
 *
 * **When to use**
 *
 * Use it in front of a backend whose capacity you do not know, or whose capacity changes: because it is scaled up and down,
 * shared with others, or half broken. If you know the capacity, a number is better: it needs no time to find it.
 *
 * **Details**
 *
 * A policy is the `concurrency` of a `Scheduler`. The scheduler then compares the mean latency of its jobs with a baseline that
 * it measures now and then at two thirds of its width, where nothing queues in the backend. It sets the width at which jobs
 * take about a third longer than the baseline: wide enough to keep the backend busy, and with hardly a queue in it. A width that is
 * not used does not grow.
 *
 * The idea is that of Gradient (Netflix, concurrency-limits) with the probes of BBR (Cardwell and others, 2016).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { guarded } from "./internal/data/guarded.js"
import { integer } from "./internal/data/refuse.js"
import type { Place } from "./internal/data/timers.js"
import { type Adaptation, LatencyWidth, type WidthPolicy } from "./internal/scheduler/width.js"

/**
 * Decides how many jobs may run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Adaptive extends WidthPolicy {}

/**
 * The bounds of an adaptive concurrency.
 *
 * **Details**
 *
 * - `min`: the least concurrency, an integer from 1; 1 by default.
 * - `max`: the most concurrency, an integer from `min`.
 * - `initial`: the concurrency before anything is measured; 20 by default, or the nearest that the bounds allow. The first jobs
 *   run at two thirds of it, to measure a baseline.
 * - `overload`: which exits say that the other side has too much to do. Each one takes a tenth of the width, at most once for
 *   the jobs that run at the same time. By default a typed failure with a `TimeoutError`. Other failures change nothing. If it
 *   throws, that is logged and the exit changes nothing.
 *
 * @category options
 * @since 0.1.0
 */
export interface LatencyOptions {
  readonly min?: number | undefined
  readonly max: number
  readonly initial?: number | undefined
  readonly overload?: ((exit: Exit.Exit<unknown, unknown>) => boolean) | undefined
}

const isTimeout = (exit: Exit.Exit<unknown, unknown>): boolean =>
  exit._tag === "Failure" &&
  exit.cause.reasons.some((reason) => Cause.isFailReason(reason) && Cause.isTimeoutError(reason.error))

/**
 * Sets the concurrency by the latency of the jobs.
 *
 * **Details**
 *
 * Invalid options throw a `RangeError`. A job costs two readings of the clock more than with a fixed concurrency. `resize` ends
 * the adaptation. A job that weighs more than the width starts alone.
 *
 * **Gotchas**
 *
 * Only successes are measured. Jobs of very different durations hide the latency of the backend: give them schedulers of their
 * own. A call that fails because the backend is busy has to be named by `overload`. A `Scheduler.Keyed` forgets the width of a
 * key when it drops the key, and finds it anew: it suits keys that are always in use.
 *
 * **Example** (Following the capacity of a backend)
 *
 * ```ts import.meta.vitest
 * import { Effect, Exit } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Adaptive from "effect-funnel/Adaptive"
 *
 * class Api extends Scheduler.Service<Api>()("app/Api", {
 *   concurrency: Adaptive.latency({
 *     min: 2,
 *     max: 200,
 *     overload: (exit) => Exit.isFailure(exit) // each failure of this backend says that it is busy
 *   })
 * }) {}
 *
 * const program = Api.schedule(Effect.succeed("answer"))
 *
 * await Effect.runPromise(Effect.provide(program, Api.layer)) // => "answer"
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const latency = ({ initial = 20, max, min = 1, overload = isTimeout }: LatencyOptions): Adaptive => {
  const caller = "Adaptive.latency"
  integer(caller, "min", min, 1)
  integer(caller, "max", max, min)
  integer(caller, "initial", initial, 1)
  const first = Math.max(min, Math.min(max, initial))
  const make = (name: string, { context }: Place): Adaptation => {
    const width = new LatencyWidth(min, max, first)
    const isOverload = (exit: Exit.Exit<unknown, unknown>): boolean =>
      guarded(() => overload(exit), (error) => {
        const message = `${name}: the function "overload" of its concurrency failed and was ignored`
        Effect.runForkWith(context)(Effect.logError(message, Cause.die(error)))
        return false
      })
    return {
      get limit() {
        return width.limit
      },
      ended: (exit, job) => isOverload(exit) ? width.overloaded(job) : exit._tag === "Success" && width.succeeded(job)
    }
  }
  return { max, make }
}
