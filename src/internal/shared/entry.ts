/**
 * A key of a limiter over a store: its waiters, its slots, and what the store told of it.
 */
import * as Timers from "../data/timers.js"
import { leastOf, type Rate, type Tokens } from "../limiter/gcra.js"
import type { Standing, StoreError, Waiter } from "../limiter/limiter.js"
import { Line } from "../limiter/line.js"
import type { Taken } from "../store/gcraStore.js"
import { SlotStock } from "./slotStock.js"

export const nanosPerMilli = 1_000_000

/** How soon more slots are asked for while there are some: one command for many, long before they run out. */
const refillNanos = 10_000_000

/** The most waiters that one command asks for. */
const mostPerCommand = 512

/** Lists are refused before they get here. */
export const count: (tokens: Tokens) => number = leastOf

/** What the store told of a key. */
export const standingOf = (rates: ReadonlyArray<Rate>, taken: Taken | void): Standing => {
  // The answer may be from before a change of the quotas, when there were more of them.
  const { limit } = rates[taken?.tightest ?? 0] ?? rates[0]!
  return {
    limit,
    remaining: taken?.remaining ?? 0,
    resetAfter: Math.ceil((taken?.resetMillis ?? 0) * nanosPerMilli)
  }
}

export class Entry extends Line {
  readonly key: string | undefined
  readonly slots = new SlotStock()
  readonly alarm: Timers.Alarm
  /** Since when nobody waits. */
  idleAt: number | undefined = undefined
  /** Gives up the command that asks for slots. */
  asking: (() => void) | undefined = undefined
  /** Changes with the quotas, and with what a command does to the key: an answer from before does not tell when to ask. */
  version = 0
  /** The waiter that hears that it is due, and may not want the tokens any more. */
  granting: Waiter<StoreError> | undefined = undefined
  /** When the store can grant the tokens that it refused. */
  retryAt = 0
  refused = 0
  /** When they would be due. */
  refusedDue = 0
  /** The last answer of the store. */
  told: Taken | undefined = undefined
  constructor(key: string | undefined, place: Timers.Place, serve: (entry: Entry) => void) {
    super()
    this.key = key
    this.alarm = new Timers.Alarm(Timers.after, () => serve(this), place)
  }

  /** What to ask the store for: the tokens of the first waiters that have no slot yet. */
  wanted(): Array<number> {
    let covered = this.slots.tokens
    const tokens: Array<number> = []
    for (let node = this.first; node !== undefined && tokens.length < mostPerCommand; node = node.after) {
      const { waiter } = node
      const asked = count(waiter.tokens)
      for (let n = 1 + (waiter.behind?.() ?? 0); n > 0 && tokens.length < mostPerCommand; n--) {
        if (covered >= asked) covered -= asked
        else tokens.push(asked)
      }
    }
    return tokens
  }

  /** The store has answered a command that asked for tokens, `aheadMillis` ahead. */
  hear(tokens: ReadonlyArray<number>, taken: Taken, askedAt: number, aheadMillis: number, now: number): void {
    this.told = taken
    // The store decided before its answer arrived, so a slot may be late and is never early.
    this.slots.add(tokens, taken, now)
    const retry = Math.ceil(taken.retryMillis * nanosPerMilli)
    this.refused = tokens[taken.waits.length] ?? 0
    // The store decided at some time since it was asked, so it may be due that much earlier than this answer tells.
    this.refusedDue = retry > 0 ? askedAt + retry + aheadMillis * nanosPerMilli : 0
    this.retryAt = retry > 0 ? now + (this.slots.tokens > 0 ? Math.max(retry, refillNanos) : retry) : 0
  }

  /** The answer tells nothing any more: the store is asked again. */
  forget(): void {
    this.retryAt = this.refusedDue = 0
  }
}
