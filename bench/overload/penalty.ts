/** A backend answers `429` with `Retry-After: 1`, and callers wait for half a second: when do they learn it? */
import { Effect } from "effect"
import { type Backend, width } from "./callers.ts"
import { pause, penalize, type Penalizer } from "./protectors.ts"
import { dice, now, quantile } from "./world.ts"

const patience = 500
const retryAfter = 1000
/** Arrivals a second. */
const pace = 160
/** When the backend asks for silence, and how long the callers come. */
const rateLimited = 2000
const until = rateLimited + 2 * retryAfter

export interface Penalized {
  /** Calls that gave up without an answer. */
  readonly timedOut: number
  readonly refused: number
  /** How long a refused caller waited, in milliseconds. */
  readonly wait: number
}

/** Sends a request, at a time of the scenario. Returns for how long the backend asks for silence, in milliseconds. */
export type Send = (at: number, takes: number) => Effect.Effect<number>

/** The first answer after two seconds is a `429`. */
export const limitedOnce = (backend: Backend): Send => {
  let told = false
  return (at, takes) =>
    Effect.suspend(() => {
      const tells = !told && at >= rateLimited
      if (tells) told = true
      return Effect.as(backend.work(takes), tells ? retryAfter : 0)
    })
}

export const penalizers: ReadonlyArray<Penalizer> = [pause, penalize(undefined), penalize(patience)]

export const penalized = async (
  penalizer: Penalizer,
  seed: number,
  backend: Backend,
  send: Send
): Promise<Penalized> => {
  let [timedOut, refused] = [0, 0]
  const waits: Array<number> = []
  const program = Effect.gen(function*() {
    const { exponential } = dice(seed)
    const { hold, protect } = yield* penalizer.make(width)
    const began = yield* now
    const time = Effect.map(now, (at) => at - began)
    const call = Effect.gen(function*() {
      const came = yield* time
      const sent = Effect.gen(function*() {
        const silence = yield* send(yield* time, exponential(backend.meanRun))
        if (silence > 0) yield* hold(silence)
      })
      yield* Effect.timeoutOrElse(protect(sent, { tenant: 0 }), {
        duration: patience,
        orElse: () => Effect.sync(() => void timedOut++)
      }).pipe(
        Effect.catch(() =>
          Effect.map(time, (at) => {
            refused++
            waits.push(at - came)
          })
        )
      )
    })
    for (let next = exponential(1000 / pace); next < until; next += exponential(1000 / pace)) {
      const at = yield* time
      if (next > at) yield* Effect.sleep(next - at)
      yield* Effect.forkDetach(call, { startImmediately: true })
    }
    yield* Effect.sleep(2 * retryAfter)
  })
  await backend.run(Effect.scoped(program), { promises: penalizer.promises })
  return { timedOut, refused, wait: quantile(waits.sort((a, b) => a - b), 0.5) }
}
