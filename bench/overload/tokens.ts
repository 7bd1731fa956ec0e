/** Calls of a language model cost tokens that are known at the end alone: how much of the quota is used? */
import { Effect } from "effect"
import { Scheduler } from "../funnel.ts"
import { dice, now, run } from "./world.ts"

/** Tokens a minute. */
const limit = 100_000
const window = 60_000
const minutes = 10
/** How long a call takes on average, in milliseconds. */
const meanRun = 2000
/** A call costs 500 tokens in the middle, 0.8 of a logarithm around it. */
const typical = 500
const spread = 0.8
const mean = Math.exp(spread ** 2 / 2) * typical
const p95 = Math.ceil(Math.exp(1.645 * spread) * typical)
const p99 = Math.ceil(Math.exp(2.326 * spread) * typical)

export interface Estimates {
  readonly name: string
  /** The tokens that a call is taken to cost before it is made. */
  readonly estimate: (cost: number) => number
  readonly settles: boolean
}

export const estimates: ReadonlyArray<Estimates> = [
  { name: "the cost, if it were known", estimate: (cost) => cost, settles: false },
  { name: "p95 of all costs", estimate: () => p95, settles: false },
  { name: "the mean, settle", estimate: () => Math.ceil(mean), settles: true },
  { name: "p95 of all costs, settle", estimate: () => p95, settles: true },
  { name: "p99 of all costs, settle", estimate: () => p99, settles: true }
]

export interface Used {
  /** The tokens of the calls that started, in parts of the quota. */
  readonly used: number
  /** The most tokens that calls of one minute cost, by their starts, in parts of the quota of a minute. */
  readonly most: number
}

/** Twice as many calls as the quota pays for. */
export const quotaUse = async ({ estimate, settles }: Estimates, seed: number): Promise<Used> => {
  const calls: Array<{ readonly at: number; readonly cost: number }> = []
  const until = minutes * window
  const program = Effect.gen(function*() {
    const { exponential, normal } = dice(seed)
    const scheduler = yield* Scheduler.make({
      concurrency: "unbounded",
      rate: { limit, window: "1 minute", burst: limit / 2, strict: true }
    })
    const gap = window * mean / limit / 2
    for (let next = exponential(gap); next < until; next += exponential(gap)) {
      const at = yield* now
      if (next > at) yield* Effect.sleep(next - at)
      const cost = Math.ceil(typical * Math.exp(spread * normal()))
      const call = Effect.gen(function*() {
        calls.push({ at: yield* now, cost })
        yield* Effect.sleep(exponential(meanRun))
        return cost
      })
      const tokens = estimate(cost)
      const options = settles ? { tokens, settle: (cost: number) => cost } : { tokens }
      yield* Effect.forkDetach(scheduler.schedule(call, options), { startImmediately: true })
    }
    yield* Effect.sleep(until - (yield* now))
  })
  await run(Effect.scoped(program), { promises: false })
  const total = calls.reduce((sum, { cost }) => sum + cost, 0)
  let [first, inWindow, most] = [0, 0, 0]
  for (const { at, cost } of calls) {
    inWindow += cost
    // A millionth of a millisecond is a nanosecond.
    while (calls[first]!.at <= at - window + 1e-6) inWindow -= calls[first++]!.cost
    most = Math.max(most, inWindow)
  }
  return { used: total / (limit * minutes), most: most / limit }
}
