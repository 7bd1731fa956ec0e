/**
 * The keys that a limiter holds back: here and not in the limiters, so that only a program that asks has this code.
 */
import type { Keys } from "./seen.js"

/** A key that waits, or that a penalty holds. Times in nanoseconds. */
export interface Held {
  readonly key: string | undefined
  readonly waiting: number
  /** How long the first one has waited. */
  readonly waited: number
  /** How long its penalty still lasts. */
  readonly penalty: number
}

interface Line {
  readonly first: Place | undefined
}

interface Place {
  readonly waiter: { readonly since: number }
  readonly after: Place | undefined
}

/** The state of a key, which in a limiter over a store is the line of its waiters. */
interface State extends Partial<Line> {
  readonly line?: Line | undefined
  readonly rare?: { readonly penaltyUntil: number } | undefined
}

const penaltyOf = (keys: Keys, key: string | undefined, now: number): number => {
  // Sound: the entries of both limiters have these fields.
  const state = keys.entries.get(key) as State | undefined
  return state?.rare === undefined ? 0 : Math.max(0, state.rare.penaltyUntil - now)
}

/** O(number of keys). */
export const heldIn = (keys: Keys): ReadonlyArray<Held> => {
  const { entries, local } = keys
  const now = keys.now()
  const held = local === undefined ? [] : heldIn(local).filter(({ key }) => !entries.has(key))
  for (const [key, entry] of entries as ReadonlyMap<string | undefined, State>) {
    const line = entry.line ?? entry
    const penalty = local === undefined ? penaltyOf(keys, key, now) : penaltyOf(local, key, local.now())
    const since = line.first?.waiter.since ?? now
    let waiting = 0
    for (let place = line.first; place !== undefined; place = place.after) waiting++
    if (waiting > 0 || penalty > 0) held.push({ key, waiting, waited: Math.max(0, now - since), penalty })
  }
  return held
}

/** How long until the last penalty of any key ends, as far as this process knows. O(number of keys) while there is one. */
export const longestPenaltyIn = (keys: Keys): number => {
  if (keys.local !== undefined) return longestPenaltyIn(keys.local)
  const now = keys.now()
  let most = 0
  // A penalty that was reset is over.
  if (keys.penalizedUntil! > now) {
    for (const key of keys.entries.keys()) most = Math.max(most, penaltyOf(keys, key, now))
  }
  return most
}
