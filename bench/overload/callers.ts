/** Callers of a backend: when they come, what their jobs take, and what becomes of them. */
import { Effect } from "effect"
import type { Job, Protector } from "./protectors.ts"
import { dice, now, quantile, run } from "./world.ts"

/** Does jobs, `width` at a time. Times are milliseconds. */
export interface Backend {
  readonly meanRun: number
  /** How many jobs a second it can do. */
  readonly capacity: number
  readonly work: (takes: number) => Effect.Effect<unknown>
  readonly run: <A>(program: Effect.Effect<A>, options: { readonly promises: boolean }) => Promise<A>
}

/** A call that comes at a time and occupies the backend for a time, in milliseconds. */
export interface Offer extends Job {
  readonly at: number
  readonly takes: number
}

/** What became of a call. */
export interface Outcome {
  readonly offer: Offer
  started: number | undefined
  ended: number | undefined
  refused: number | undefined
}

export const width = 10
export const meanRun = 10
export const capacity = width / meanRun * 1000

export const virtual: Backend = { meanRun, capacity, work: Effect.sleep, run }

interface Load {
  readonly backend?: Backend
  /** The arrivals a second, in parts of the capacity. */
  readonly load: number
  readonly millis: number
  readonly seed: number
  /** How many come at once; 1 by default. */
  readonly burst?: number
}

/** Independent callers of exponential jobs: the times between two bursts are exponential, too. */
export const offers = ({ backend = virtual, burst = 1, load, millis, seed }: Load): ReadonlyArray<Offer> => {
  const { exponential } = dice(seed)
  const gap = 1000 / (load * backend.capacity) * burst
  const all: Array<Offer> = []
  for (let at = exponential(gap); at < millis; at += exponential(gap)) {
    for (let i = 0; i < burst; i++) all.push({ at, takes: exponential(backend.meanRun), tenant: 0 })
  }
  return all
}

export interface Settings {
  readonly backend?: Backend
  readonly protector: Protector
  readonly offers: ReadonlyArray<Offer>
  /** When the observation ends. What waits then is neither served nor refused. */
  readonly until: number
  /** How long a caller waits for its answer. */
  readonly patience: number
  /** Whether a caller that gives up interrupts its job. Otherwise nobody tells the job, and it is done for nothing. */
  readonly leaves: boolean
}

/** Lets the callers come, and returns what has become of each of them. */
export const serve = (
  { backend = virtual, leaves, offers, patience, protector, until }: Settings
): Promise<ReadonlyArray<Outcome>> => {
  const outcomes = offers.map((offer): Outcome => ({ offer, started: undefined, ended: undefined, refused: undefined }))
  const program = Effect.gen(function*() {
    const protect = yield* protector.make(width, patience)
    const began = yield* now
    let over = false
    const time = Effect.map(now, (at) => at - began)
    for (const outcome of outcomes) {
      const { offer } = outcome
      const at = yield* time
      if (offer.at > at) yield* Effect.sleep(offer.at - at)
      const work = Effect.gen(function*() {
        // A real backend serves the next contender now.
        if (over) return
        outcome.started = yield* time
        yield* backend.work(offer.takes)
        outcome.ended = yield* time
      })
      const call = Effect.catch(protect(work, offer), () => Effect.map(time, (at) => void (outcome.refused = at)))
      yield* Effect.forkDetach(leaves ? Effect.timeoutOption(call, patience) : call, { startImmediately: true })
    }
    yield* Effect.sleep(until - (yield* time))
    over = true
  })
  return backend.run(Effect.scoped(program), { promises: protector.promises })
    .then(() => outcomes)
}

export interface Summary {
  /** Answers a second that came while their caller still waited, in parts of the capacity. */
  readonly goodput: number
  /** The same in parts of the calls. */
  readonly served: number
  /** Refused calls, in parts of all. */
  readonly refused: number
  /** Waits of the jobs that started, in milliseconds: of those that came after `noticed`, the longest of all. */
  readonly waits: { readonly median: number; readonly p99: number; readonly longest: number }
  /** The same with the run. */
  readonly answered: { readonly p99: number }
}

/** No overload is noticed in its first moments. */
export const noticed = 1000

export const summary = (
  outcomes: ReadonlyArray<Outcome>,
  patience: number,
  millis: number,
  backend = virtual
): Summary => {
  const served = outcomes.filter(({ ended, offer }) => ended !== undefined && ended - offer.at <= patience)
  const settled = outcomes.filter(({ offer }) => offer.at >= noticed)
  const waits = settled.flatMap(({ offer, started }) => started === undefined ? [] : [started - offer.at])
  const times = settled.flatMap(({ ended, offer }) => ended === undefined ? [] : [ended - offer.at])
  const longest = outcomes.reduce((most, { offer, started }) => Math.max(most, (started ?? 0) - offer.at), 0)
  waits.sort((a, b) => a - b)
  times.sort((a, b) => a - b)
  return {
    goodput: served.length / (backend.capacity * millis / 1000),
    served: served.length / outcomes.length,
    refused: outcomes.filter(({ refused }) => refused !== undefined).length / outcomes.length,
    waits: { median: quantile(waits, 0.5), p99: quantile(waits, 0.99), longest },
    answered: { p99: quantile(times, 0.99) }
  }
}
