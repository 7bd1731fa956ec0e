/** A backend answers `429` with `Retry-After: 1`, and callers wait for half a second: when do they learn it? */
import { Effect } from "effect"
import { Scheduler } from "../funnel.ts"
import { capacity, meanRun, width } from "./callers.ts"
import { dice, now, quantile, run } from "./world.ts"

const patience = 500
const retryAfter = 1000
/** Arrivals a second, in parts of the capacity. */
const load = 0.16
const rateLimited = 2000

export interface Penalized {
  /** Calls that came while the backend took none, and gave up without an answer. */
  readonly timedOut: number
  readonly refused: number
  /** How long a refused caller waited, in milliseconds. */
  readonly wait: number
}

/** `maxWait` is that of the scheduler. The first answer after two seconds is a `429`. */
export const penalized = (maxWait: boolean, seed: number): Promise<Penalized> => {
  let [timedOut, refused] = [0, 0]
  const waits: Array<number> = []
  const program = Effect.gen(function*() {
    const { exponential } = dice(seed)
    const scheduler = yield* Scheduler.make({ concurrency: width, ...maxWait && { maxWait: patience } })
    let told = false
    const send = Effect.gen(function*() {
      yield* Effect.sleep(exponential(meanRun))
      if (told || (yield* now) < rateLimited) return
      told = true
      yield* scheduler.penalize({ for: retryAfter })
    })
    const call = Effect.gen(function*() {
      const came = yield* now
      yield* Effect.timeoutOrElse(scheduler.schedule(send), {
        duration: patience,
        orElse: () => Effect.sync(() => void timedOut++)
      }).pipe(
        Effect.catch(() =>
          Effect.map(now, (at) => {
            refused++
            waits.push(at - came)
          })
        )
      )
    })
    while ((yield* now) < rateLimited + 2 * retryAfter) {
      yield* Effect.forkDetach(call, { startImmediately: true })
      yield* Effect.sleep(exponential(1000 / (load * capacity)))
    }
    yield* Effect.sleep(2 * retryAfter)
  })
  return run(Effect.scoped(program), { promises: false })
    .then(() => ({ timedOut, refused, wait: quantile(waits.sort((a, b) => a - b), 0.5) }))
}
