/** A world in virtual time: fibers, promises and timers run without waiting for a real clock, and the same seed repeats itself. */
import { Clock, Context, Effect, Exit } from "effect"
import { random } from "../../test/support/random.ts"
import { TurnClock, TurnScheduler } from "../../test/support/simulation.ts"

const macrotask = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Runs a program to its end. With `promises`, each moment lasts until no promise is left to settle. */
export const run = async <A>(program: Effect.Effect<A>, options: { readonly promises: boolean }): Promise<A> => {
  const scheduler = new TurnScheduler()
  const clock = new TurnClock()
  const fiber = Effect.runForkWith(Context.make(Clock.Clock, clock))(program, { scheduler })
  for (let steps = 1;; steps++) {
    scheduler.flush()
    if (options.promises) await macrotask()
    if (!scheduler.idle) continue
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return Exit.isSuccess(exit) ? exit.value : Promise.reject(exit.cause)
    if (!clock.fireNext()) throw new Error("nothing is left to happen, and the program has not ended")
  }
}

/** Seeded random numbers of the distributions that the scenarios use. */
export const dice = (seed: number) => {
  const next = random(seed)
  const uniform = () => (next(2 ** 30) + 0.5) / 2 ** 30
  const exponential = (mean: number) => -mean * Math.log(uniform())
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
  return { uniform, exponential, normal }
}

/** Milliseconds, with fractions. */
export const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/** The value below which a share of the sorted values lies; `NaN` if there is none. */
export const quantile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN
