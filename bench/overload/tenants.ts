/** One tenant brings ten thousand jobs at once, nine others a few: how long do the nine wait? */
import { type Backend, type Offer, type Outcome, serve, virtual } from "./callers.ts"
import type { Protector } from "./protectors.ts"
import { dice, quantile } from "./world.ts"

export interface Crowd {
  readonly backend: Backend
  /** How many jobs the large tenant brings, and the seconds in which they could be done. */
  readonly jobs: number
  readonly seconds: number
  /** Jobs a second of each small tenant. */
  readonly pace: number
}

const small = 9

const tenantOffers = ({ backend: { meanRun }, jobs, pace, seconds }: Crowd, seed: number): ReadonlyArray<Offer> => {
  const { exponential } = dice(seed)
  const all: Array<Offer> = Array.from({ length: jobs }, () => ({ at: 0, takes: exponential(meanRun), tenant: 0 }))
  for (let tenant = 1; tenant <= small; tenant++) {
    for (let at = exponential(1000 / pace); at < seconds * 1000; at += exponential(1000 / pace)) {
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

export const largeAndSmall: Crowd = { backend: virtual, jobs: 10_000, seconds: 10, pace: 10 }

export const fairness = async (protector: Protector, seed: number, crowd = largeAndSmall): Promise<Fairness> => {
  const { backend, seconds } = crowd
  const until = seconds * 1000
  const offers = tenantOffers(crowd, seed)
  const outcomes = await serve({ backend, protector, offers, until, patience: Infinity, leaves: false })
  const waited = ({ offer, started }: Outcome) => (started ?? until) - offer.at
  const waits = outcomes.filter(({ offer }) => offer.tenant > 0).map(waited).sort((a, b) => a - b)
  const done = outcomes.filter(({ ended }) => ended !== undefined && ended <= until).length
  return {
    small: { median: quantile(waits, 0.5), p99: quantile(waits, 0.99) },
    throughput: done / (backend.capacity * seconds)
  }
}
