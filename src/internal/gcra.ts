/**
 * The generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A), in integer nanoseconds.
 *
 * The state of a quota is one number, the theoretical arrival time (`tat`): the time at which it is at rest, its whole
 * burst at hand. `(tat - now) / interval` is its debt in tokens.
 */

/**
 * A quota, ready for arithmetic.
 */
export interface Rate {
  readonly limit: number
  /** Nanoseconds in which one token comes back. */
  readonly interval: number
  readonly burst: number
  /** Judged by actual starts: nothing that was late is made up. */
  readonly strict: boolean
}

/**
 * Lateness beyond this is not made up, in nanoseconds.
 */
export const maxCatchUp = 50_000_000

/**
 * The rate of `limit` tokens in `window` nanoseconds.
 *
 * When strict the interval is longer, so that the burst is a part of the limit: N tokens take at least
 * `(N - burst) * interval` from the first start to the last, which reaches `window` at N = limit + 1.
 */
export const rate = (limit: number, window: number, burst: number, strict: boolean): Rate => {
  const cells = strict ? limit - burst + 1 : limit
  const interval = Math.ceil(window / cells)
  return { limit, interval: interval * cells < window ? interval + 1 : interval, burst, strict }
}

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
export const arrival = (self: Rate, since: number, now: number): number =>
  self.strict || since >= now ? now : Math.max(since, now - maxCatchUp)

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
 * The theoretical arrival time under `to` of what has been consumed under `from`: the debt in tokens stays, what a
 * larger burst adds has to be earned, and the debt is cut to the new burst so that nobody waits for what could not have
 * been borrowed.
 */
export const convert = (from: Rate, to: Rate, tat: number, now: number): number => {
  const debt = Math.max(0, tat - now) * (to.interval / from.interval)
  const grown = Math.max(0, to.burst - from.burst) * to.interval
  return now + Math.min(to.burst * to.interval, Math.ceil(debt + grown))
}
