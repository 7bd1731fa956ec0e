/** One tenant brings ten thousand jobs at once, nine others a few: how long do the nine wait? */
import { capacity, meanRun, type Offer, type Outcome, serve } from "./callers.ts"
import type { Protector } from "./protectors.ts"
import { dice, quantile } from "./world.ts"

const jobs = 10_000
const millis = 10_000
const small = 9
/** Jobs a second of each small tenant. */
const pace = 10

const tenantOffers = (seed: number): ReadonlyArray<Offer> => {
  const { exponential } = dice(seed)
  const all: Array<Offer> = Array.from({ length: jobs }, () => ({ at: 0, takes: exponential(meanRun), tenant: 0 }))
  for (let tenant = 1; tenant <= small; tenant++) {
    for (let at = exponential(1000 / pace); at < millis; at += exponential(1000 / pace)) {
      all.push({ at, takes: exponential(meanRun), tenant })
    }
  }
  return all.sort((a, b) => a.at - b.at)
}

export interface Fairness {
  /** The wait of the small tenants' jobs, in milliseconds; a job that has not started counts with its wait until the end. */
  readonly small: { readonly median: number; readonly p99: number }
  /** Jobs done in the time in which all of them could be done, in parts of the capacity. */
  readonly throughput: number
}

export const fairness = async (protector: Protector, seed: number): Promise<Fairness> => {
  const outcomes = await serve({
    protector,
    offers: tenantOffers(seed),
    until: millis,
    patience: Infinity,
    leaves: false
  })
  const waited = ({ offer, started }: Outcome) => (started ?? millis) - offer.at
  const waits = outcomes.filter(({ offer }) => offer.tenant > 0).map(waited).sort((a, b) => a - b)
  const done = outcomes.filter(({ ended }) => ended !== undefined && ended <= millis).length
  return {
    small: { median: quantile(waits, 0.5), p99: quantile(waits, 0.99) },
    throughput: done / (capacity * millis / 1000)
  }
}
