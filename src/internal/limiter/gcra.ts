/**
 * The generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A), in integer nanoseconds.
 *
 * The state of a quota is one number, the theoretical arrival time (`tat`): the time at which its whole burst is free again.
 * `(tat - now) / interval` is its debt in tokens. The burst is no part of the state, so a quota that gets another burst is
 * judged as if it had always had that one.
 */

/** A quota in nanoseconds. */
export interface Rate {
  readonly limit: number
  readonly window: number
  /** The time in which one token comes back. */
  readonly interval: number
  readonly burst: number
  /** Also judged by a log of actual starts. */
  readonly strict: boolean
}

/** What a call takes: the same of each quota, or one number a quota. A quota of which it takes none does not delay it. */
export type Tokens = number | ReadonlyArray<number>

/** The tokens of one quota. A list that is too short, since there are more quotas now, goes on with its last number. */
export const tokensOf = (tokens: Tokens, i: number): number =>
  typeof tokens === "number" ? tokens : tokens[Math.min(i, tokens.length - 1)]!

/** What it takes of each quota at least. */
export const leastOf = (tokens: Tokens): number => typeof tokens === "number" ? tokens : Math.min(...tokens)

/** Those tokens, and so many of each quota before them. */
export const behind = (before: number, tokens: Tokens): Tokens =>
  typeof tokens === "number" ? before + tokens : tokens.map((n) => before + n)

/** How much lateness is made up, in nanoseconds. */
export const maxCatchUp = 50_000_000

export const rate = (limit: number, window: number, burst: number, strict: boolean): Rate => ({
  limit,
  window,
  // Exact: below 2 ** 53 the quotient of integers is never rounded down to an integer.
  interval: Math.ceil(window / limit),
  burst,
  strict
})

/**
 * The interval with which due times alone keep a strict quota, for a limiter without a log. N tokens take at least
 * `(N - burst) * interval` from the first start to the last, which reaches `window` at N = limit + 1.
 */
export const intervalWithoutLog = ({ burst, interval, limit, strict, window }: Rate): number =>
  strict ? Math.ceil(window / (limit - burst + 1)) : interval

/** The time at which `tokens` conform, for `tokens <= burst`. */
export const dueAt = (self: Rate, tat: number, tokens: number): number => tat + (tokens - self.burst) * self.interval

/** The theoretical arrival time after an arrival has taken tokens. */
export const take = (self: Rate, tat: number, arrival: number, tokens: number): number =>
  (arrival > tat ? arrival : tat) + tokens * self.interval

/** The arrival time of a grant at `now` to a caller that could have started at `since`. */
export const arrival = (since: number, now: number): number => since >= now ? now : Math.max(since, now - maxCatchUp)

/** The most tokens that conform at `now`. */
export const remaining = (self: Rate, tat: number, now: number): number =>
  tat <= now ? self.burst : Math.max(0, self.burst - Math.ceil((tat - now) / self.interval))

/** The theoretical arrival time with which nothing passes before `until`, and one token then. */
export const blockedUntil = (self: Rate, until: number): number => until + (self.burst - 1) * self.interval

/** The theoretical arrival time under other quotas: the debt in tokens stays. */
export const convert = (from: Rate, to: Rate, tat: number, now: number): number =>
  from.interval === to.interval || tat <= now ? tat : now + Math.ceil((tat - now) * (to.interval / from.interval))

/**
 * For each quota of `to` the indexes in `from` of the quotas whose debts it takes over. Equal limit and window make the same
 * quota. A new quota takes over the debts of the quotas that are gone or, if none is gone, of all.
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
