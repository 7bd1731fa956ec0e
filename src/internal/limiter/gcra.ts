/**
 * The generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A), in integer nanoseconds.
 *
 * The state of a quota is one number, the theoretical arrival time (`tat`): the time at which it is at rest, its whole
 * burst at hand. `(tat - now) / interval` is its debt in tokens. The burst is no part of the state, so a quota that gets
 * another burst is judged as if it had had that burst all along.
 */

/**
 * A quota, ready for arithmetic.
 */
export interface Rate {
  readonly limit: number
  /** In nanoseconds. */
  readonly window: number
  /** Nanoseconds in which one token comes back. */
  readonly interval: number
  readonly burst: number
  /** Judged by a log of actual starts as well. */
  readonly strict: boolean
}

/**
 * Lateness beyond this is not made up, in nanoseconds.
 */
export const maxCatchUp = 50_000_000

/**
 * The rate of `limit` tokens in `window` nanoseconds.
 */
export const rate = (limit: number, window: number, burst: number, strict: boolean): Rate => ({
  limit,
  window,
  // Exact: below 2 ** 53 no quotient of integers is rounded down to an integer.
  interval: Math.ceil(window / limit),
  burst,
  strict
})

/**
 * The interval with which no window holds more than the limit by due times alone, for a limiter that keeps no log: N tokens
 * take at least `(N - burst) * interval` from the first start to the last, which reaches `window` at N = limit + 1.
 */
export const intervalWithoutLog = ({ burst, interval, limit, strict, window }: Rate): number =>
  strict ? Math.ceil(window / (limit - burst + 1)) : interval

/**
 * When `tokens` conform. Only meaningful for `tokens <= burst`.
 */
export const dueAt = (self: Rate, tat: number, tokens: number): number => tat + (tokens - self.burst) * self.interval

/**
 * The theoretical arrival time after `tokens` were taken by an arrival at `arrival`.
 */
export const take = (self: Rate, tat: number, arrival: number, tokens: number): number =>
  (arrival > tat ? arrival : tat) + tokens * self.interval

/**
 * The arrival that a grant at `now` counts as, for one who could have started `since`.
 */
export const arrival = (since: number, now: number): number => since >= now ? now : Math.max(since, now - maxCatchUp)

/**
 * The most tokens that conform at `now`.
 */
export const remaining = (self: Rate, tat: number, now: number): number =>
  tat <= now ? self.burst : Math.max(0, self.burst - Math.ceil((tat - now) / self.interval))

/**
 * The theoretical arrival time of a quota from which nothing passes before `until` and one token does then.
 */
export const blockedUntil = (self: Rate, until: number): number => until + (self.burst - 1) * self.interval

/**
 * The theoretical arrival time under `to` of what has been consumed under `from`: the debt in tokens stays.
 */
export const convert = (from: Rate, to: Rate, tat: number, now: number): number =>
  from.interval === to.interval || tat <= now ? tat : now + Math.ceil((tat - now) * (to.interval / from.interval))

/**
 * For each quota of `to` the places in `from` of the quotas whose debts it takes over. A quota is known by its limit and
 * window, wherever it stands in the list. One that is new takes over from those that are gone, or, if none is, from all.
 */
export const sources = (
  from: ReadonlyArray<Rate>,
  to: ReadonlyArray<Rate>
): ReadonlyArray<ReadonlyArray<number>> => {
  const same = (a: Rate, b: Rate) => a.limit === b.limit && a.window === b.window
  const gone = from.flatMap((rate, i) => to.some((other) => same(rate, other)) ? [] : [i])
  const others = gone.length > 0 ? gone : from.map((_, i) => i)
  return to.map((rate) => {
    const known = from.findIndex((other) => same(rate, other))
    return known === -1 ? others : [known]
  })
}
