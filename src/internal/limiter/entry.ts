/**
 * The state of one key of a limiter in memory.
 */
import type * as DueHeap from "../data/dueHeap.js"
import type * as List from "../data/list.js"
import * as Charges from "./charge.js"
import * as Gcra from "./gcra.js"
import type { Granted, Standing } from "./limiter.js"
import { Line } from "./line.js"
import type * as RestList from "./restList.js"
import { StartLog } from "./startLog.js"

type Rates = ReadonlyArray<Gcra.Rate>
type Tokens = Gcra.Tokens

/** The waiters of one key, and the due time of the first one. */
export class DueLine extends Line implements DueHeap.Member {
  readonly entry: Entry
  due = Infinity
  index = -1
  constructor(entry: Entry) {
    super()
    this.entry = entry
  }
}

/** The quotas from one change to the next. */
export interface Version {
  readonly rates: Rates
  /** The change that ended it. An entry applies it when it is looked at next. */
  next:
    | { readonly to: Version; readonly sources: ReadonlyArray<ReadonlyArray<number>>; readonly at: number }
    | undefined
}

export type Charge = Charges.Charge<Entry>

/** The state that few keys have, and the charges that may still be taken back. */
class Rare implements List.List<Charge> {
  first: Charge | undefined = undefined
  last: Charge | undefined = undefined
  /** The end of the penalty. The first start after it clears it. */
  penaltyUntil = -Infinity
  log: StartLog | undefined = undefined
}

/** The state of a key. There may be a million keys. */
export interface Entry extends RestList.Member<Entry> {
  readonly key: string | undefined
  /** A theoretical arrival time for each quota. */
  tats: Array<number>
  /** `undefined` while nobody waits. */
  line: DueLine | undefined
  rare: Rare | undefined
  /** The quotas of the times. */
  version: Version
}

export const make = (version: Version, key: string | undefined): Entry => ({
  key,
  tats: fresh(version.rates),
  line: undefined,
  rare: undefined,
  version,
  checkAt: 0,
  level: -1,
  before: undefined,
  after: undefined
})

const fresh = (rates: Rates): Array<number> => rates.length === 1 ? [-Infinity] : rates.map(() => -Infinity)

/** When tokens conform, if the granted starts begin at `pending`. */
export const dueAt = (rates: Rates, entry: Entry, tokens: Tokens, pending = Infinity): number =>
  rates.length === 1 && entry.rare === undefined
    ? Gcra.dueAt(rates[0]!, entry.tats[0]!, Gcra.tokensOf(tokens, 0))
    : dueOf(rates, entry, tokens, pending)

const dueOf = (rates: Rates, entry: Entry, tokens: Tokens, pending: number): number => {
  const due = conformsAt(rates, entry, tokens)
  const log = entry.rare?.log
  return log === undefined ? due : Math.max(due, log.dueAt(tokens, pending))
}

/** When tokens conform to the pace of every quota. */
const conformsAt = (rates: Rates, { rare, tats }: Entry, tokens: Tokens): number => {
  let due = -Infinity
  for (let i = 0; i < tats.length; i++) {
    const rate = rates[i]!
    const n = Gcra.tokensOf(tokens, i)
    if (n > 0) due = Math.max(due, Gcra.dueAt(rate, tats[i]!, n))
    // Not by the arrival time of the penalty: with a large burst that is too far away to be exact.
    if (rare !== undefined) due = Math.max(due, rare.penaltyUntil + Math.max(0, n - 1) * rate.interval)
  }
  return due
}

/**
 * The arrival time of a grant at `now` to a caller that could have started at `since`. One that a quota held back arrives
 * late at the others, too.
 */
export const arrivalOf = (rates: Rates, entry: Entry, tokens: Tokens, since: number, now: number): number =>
  Gcra.arrival(rates.length === 1 ? since : Math.max(since, conformsAt(rates, entry, tokens)), now)

/** The theoretical arrival time of one quota, a penalty included. */
const tatOf = ({ rare, tats }: Entry, rate: Gcra.Rate, i: number): number =>
  rare === undefined || rare.penaltyUntil === -Infinity
    ? tats[i]!
    : Math.max(tats[i]!, Gcra.blockedUntil(rate, rare.penaltyUntil))

/** The latest of the times. */
const latest = ({ tats }: Entry): number => {
  let tat = tats[0]!
  for (let i = 1; i < tats.length; i++) if (tats[i]! > tat) tat = tats[i]!
  return tat
}

/** When a key has its full burst again if nobody comes; `Infinity` while a granted start has not begun, or is not settled. */
export const restOf = (rates: Rates, entry: Entry): number => {
  const { rare } = entry
  if (rare === undefined) return latest(entry)
  if (rare.first !== undefined) return Infinity
  let rest = rare.log === undefined ? -Infinity : rare.log.restAt
  for (let i = 0; i < rates.length; i++) rest = Math.max(rest, tatOf(entry, rates[i]!, i))
  return rest
}

/**
 * Whether it can be dropped: `maxCatchUp` after it has its full burst. A waiter counts as an arrival of up to `maxCatchUp`
 * ago, and tokens that were granted since then must not be granted again.
 */
export const atRest = (rates: Rates, entry: Entry, now: number): boolean =>
  entry.line === undefined && restOf(rates, entry) + Gcra.maxCatchUp <= now

/** Takes tokens that are due. */
export const take = (rates: Rates, tats: Array<number>, arrival: number, tokens: Tokens): void => {
  for (let i = 0; i < tats.length; i++) tats[i] = Gcra.take(rates[i]!, tats[i]!, arrival, Gcra.tokensOf(tokens, i))
}

/** `charge` for a start that begins `later`, or for a key with a penalty or a log. */
export const takeRare = (
  rates: Rates,
  entry: Entry,
  arrival: number,
  tokens: Tokens,
  start: { readonly now: number; readonly later: Granted | undefined; readonly strict: boolean }
): void => {
  if (entry.rare !== undefined && entry.rare.penaltyUntil !== -Infinity) absorbPenalty(rates, entry)
  const rare = entry.rare ??= new Rare()
  const { tats } = entry
  const { later, now, strict } = start
  const log = strict ? rare.log ??= new StartLog(rates) : undefined
  const number = log?.push(now, tokens, later !== undefined)
  if (later === undefined) {
    for (let i = 0; i < tats.length; i++) Charges.note(rare, i, tats[i]!, arrival)
  } else {
    const ahead = tats.slice()
    for (let i = 0; i < ahead.length; i++) ahead[i]! -= arrival
    later.link = new Charges.Charge(entry, rare, tokens, ahead, log, number)
  }
  take(rates, tats, arrival, tokens)
  tidy(entry, rare)
}

/** Makes an expired penalty part of the times. */
const absorbPenalty = (rates: Rates, entry: Entry): void => {
  const rare = entry.rare!
  entry.tats = entry.tats.map((tat, i) => Charges.raise(rare, i, tat, Gcra.blockedUntil(rates[i]!, rare.penaltyUntil)))
  rare.penaltyUntil = -Infinity
  tidy(entry, rare)
}

export const begin = (charge: Charge, now: number): void => {
  charge.log?.begin(charge.start, now)
  Charges.fix(charge)
  close(charge)
}

/** Takes back a start: later calls are judged as if it had never been. */
export const refund = (rates: Rates, charge: Charge): void => {
  charge.log?.forget(charge.start)
  const { ahead, entry, list, tokens } = charge
  if (entry.rare !== list) return
  if (ahead !== undefined) {
    entry.tats = entry.tats.map((tat, i) => {
      const moved = Gcra.tokensOf(tokens, i) * rates[i]!.interval + Math.max(0, -ahead[i]!)
      return tat - Charges.lower(charge, i, moved)
    })
  }
  close(charge)
}

/** Notes tokens that were taken last, to be settled later. `start` is that of the call, if it has not begun. */
export const open = (entry: Entry, tokens: Tokens, start: Charge | undefined): Charge => {
  const rare = entry.rare ??= new Rare()
  return new Charges.Charge<Entry>(entry, rare, tokens, undefined, start?.log, start?.start)
}

/** Charges what a call has cost; `undefined` leaves its tokens as they are. Returns whether the times have changed. */
export const settle = (rates: Rates, self: Charge, actual: Tokens | undefined, now: number): boolean => {
  const { entry, list, tokens } = self
  if (entry.rare !== list) return false
  const changes = actual !== undefined && actual !== tokens
  if (changes) {
    self.log?.correct(self.start, actual)
    entry.tats = entry.tats.map((tat, i) => {
      const more = (Gcra.tokensOf(actual, i) - Gcra.tokensOf(tokens, i)) * rates[i]!.interval
      // Tokens that are given back are there from now on, and a debt is owed from now on.
      return more > 0
        ? Charges.raise(list, i, tat + more, now)
        : tat - Charges.lower(self, i, Math.min(-more, Math.max(0, tat - now)))
    })
  }
  close(self)
  return changes
}

/** Nothing of it is taken back any more. */
const close = (charge: Charge): void => {
  const { entry, list } = charge
  if (entry.rare !== list) return
  Charges.remove(charge)
  tidy(entry, entry.rare)
}

const tidy = (entry: Entry, rare: Rare): void => {
  if (rare.first === undefined && rare.log === undefined && rare.penaltyUntil === -Infinity) entry.rare = undefined
}

/** Lets nothing pass for a time, and one token then. Returns whether that is longer than before. */
export const penalize = (entry: Entry, nanos: number, now: number): boolean => {
  const rare = entry.rare ??= new Rare()
  const isLonger = now + nanos > Math.max(rare.penaltyUntil, now)
  rare.penaltyUntil = Math.max(rare.penaltyUntil, now + nanos)
  return isLonger
}

/** Converts an entry to the present quotas, one change after the other, each at its own time. */
export const renew = (entry: Entry): void => {
  for (let change = entry.version.next; change !== undefined; change = entry.version.next) {
    const { at, sources, to } = change
    const { rates } = entry.version
    if (atRest(rates, entry, at)) {
      // It could have been dropped.
      entry.tats = fresh(to.rates)
      entry.rare = undefined
    } else {
      requote(rates, to.rates, sources, entry, at)
    }
    entry.version = to
  }
}

/** Changes the quotas. Consumed tokens stay consumed. */
const requote = (
  before: Rates,
  rates: Rates,
  sources: ReadonlyArray<ReadonlyArray<number>>,
  entry: Entry,
  now: number
): void => {
  if (entry.rare !== undefined && entry.rare.penaltyUntil <= now) absorbPenalty(before, entry)
  const { rare, tats } = entry
  if (rare !== undefined) Charges.requote(rare, before, rates, sources)
  entry.tats = rates.map((to, i) =>
    sources[i]!.reduce((most, j) => Math.max(most, Gcra.convert(before[j]!, to, tats[j]!, now)), -Infinity)
  )
  const strict = rates.some((rate) => rate.strict)
  if (rare?.log !== undefined) {
    if (strict) {
      rare.log.requote(rates)
    } else {
      // It would miss later starts.
      rare.log = undefined
      tidy(entry, rare)
    }
  } else if (strict && !before.some((rate) => rate.strict)) {
    // Without a log only the debt is known: it counts as started now.
    const log = new StartLog(rates)
    const owed = rates.reduce(
      (most, rate, i) => rate.strict ? Math.max(most, Math.ceil((entry.tats[i]! - now) / rate.interval)) : most,
      0
    )
    if (owed > 0) log.push(now, owed)
    entry.rare ??= new Rare()
    entry.rare.log = log
  }
}

/** The quota with the fewest tokens left. */
export const standing = (rates: Rates, entry: Entry | undefined, now: number): Standing => {
  if (entry !== undefined && rates.length === 1 && entry.rare === undefined) {
    const rate = rates[0]!
    const tat = entry.tats[0]!
    return {
      limit: rate.limit,
      remaining: entry.line === undefined ? Gcra.remaining(rate, tat, now) : 0,
      resetAfter: tat > now ? tat - now : 0
    }
  }
  let limit = 0
  let remaining = Infinity
  let resetAt = now
  const log = entry?.rare?.log
  for (let i = 0; i < rates.length; i++) {
    const rate = rates[i]!
    const tat = entry === undefined ? now : tatOf(entry, rate, i)
    const left = Math.min(Gcra.remaining(rate, tat, now), log === undefined ? Infinity : log.remaining(i, now))
    if (left < remaining) {
      remaining = left
      limit = rate.limit
    }
    resetAt = Math.max(resetAt, tat, log === undefined ? now : log.dueFor(i, rate.burst, now))
  }
  const free = entry === undefined ||
    (entry.line === undefined && (entry.rare === undefined || entry.rare.penaltyUntil <= now))
  return { limit, remaining: free ? remaining : 0, resetAfter: resetAt - now }
}

/**
 * Nanoseconds until `tokens` pass behind the present waiters, if nobody else comes and all grants begin. With more waiters
 * than `tried` it is a lower bound.
 */
export const retryAfter = (rates: Rates, entry: Entry, tokens: Tokens, now: number, tried: number): number => {
  const { line, rare } = entry
  if (line === undefined) return Math.max(0, dueAt(rates, entry, tokens, now) - now)
  // A waiter that is late counts from later on. Lists wait for one quota only if there were several before.
  const isAlone = rates.length === 1 && !rates[0]!.strict && !line.hasLists
  if (isAlone && line.due > now) {
    return Math.max(0, dueAt(rates, entry, Gcra.behind(line.queued, tokens)) - now)
  }
  // Another quota may hold back each waiter: try them out in order.
  const shadow = make(entry.version, entry.key)
  shadow.tats = entry.tats.slice()
  if (rare !== undefined) {
    shadow.rare = new Rare()
    shadow.rare.penaltyUntil = rare.penaltyUntil
    shadow.rare.log = rare.log?.copy()
  }
  const start = { now, later: undefined, strict: rates.some((rate) => rate.strict) }
  let { queued } = line
  let left = tried
  for (let place = line.first; place !== undefined && left-- > 0; place = place.after) {
    const { since, tokens } = place.waiter
    const due = dueAt(rates, shadow, tokens, now)
    if (isAlone && due > now) break
    start.now = Math.max(start.now, due)
    takeRare(rates, shadow, arrivalOf(rates, shadow, tokens, since, start.now), tokens, start)
    queued -= Gcra.leastOf(tokens)
  }
  return Math.max(start.now, dueAt(rates, shadow, Gcra.behind(queued, tokens), now)) - now
}
/** Moves all times back. */
export const shift = (entry: Entry, nanos: number): void => {
  for (let i = 0; i < entry.tats.length; i++) entry.tats[i]! -= nanos
  if (entry.line !== undefined) entry.line.due -= nanos
  entry.checkAt -= nanos
  if (entry.rare === undefined) return
  entry.rare.penaltyUntil -= nanos
  entry.rare.log?.shift(nanos)
}
