/**
 * What a call has taken of a key, as long as it may be taken back: the start of the call has not begun, or its true cost is
 * known at its end.
 *
 * Afterwards the times are what they would be if the call had taken fewer tokens from the start, or none. So a call that came
 * after it and found the key nearly rested bounds what can be given back: the rest of those tokens had come back by then.
 */
import * as List from "../data/list.js"
import type { Rate, Tokens } from "./gcra.js"
import type { StartLog } from "./startLog.js"

type Rates = ReadonlyArray<Rate>

/** For each quota a debt in nanoseconds; `undefined` if none bounds anything. */
type Debts = Array<number> | undefined

/** A charge of an entry. */
export class Charge<E extends Times> implements List.Member<Charge<E>> {
  readonly entry: E
  /** The charges of the entry. A reset replaces them: then nothing is taken back any more. */
  readonly list: List.List<Charge<E>>
  readonly tokens: Tokens
  /** How far the times were ahead of a start when it came; `undefined` once it cannot be taken back any more. */
  ahead: Debts
  /** The least debts that later calls found, of those before the next charge. */
  found: Debts = undefined
  /** The log of a strict quota, and the number of the start there. */
  readonly log: StartLog | undefined
  readonly start: number
  before: Charge<E> | undefined = undefined
  after: Charge<E> | undefined = undefined
  constructor(entry: E, list: Charges<E>, tokens: Tokens, ahead: Debts, log: StartLog | undefined, start = -1) {
    this.entry = entry
    this.list = list
    this.tokens = tokens
    this.ahead = ahead
    this.log = log
    this.start = start
    List.append(list, this)
  }
}

interface Times {
  readonly tats: ReadonlyArray<number>
}

type Charges<E extends Times> = List.List<Charge<E>>

const noteIn = <E extends Times>(charge: Charge<E>, i: number, debt: number): void => {
  charge.found ??= charge.entry.tats.map(() => Infinity)
  charge.found[i] = Math.min(charge.found[i]!, Math.max(0, debt))
}

const noteAll = <E extends Times>(charge: Charge<E> | undefined, debts: Debts): void => {
  if (charge === undefined || debts === undefined) return
  for (let i = 0; i < debts.length; i++) noteIn(charge, i, debts[i]!)
}

/** Tokens of one quota are about to be taken by an arrival, or its time to be put off until then. */
export const note = <E extends Times>({ last }: Charges<E>, i: number, tat: number, arrival: number): void => {
  if (last !== undefined) noteIn(last, i, tat - arrival)
}

/** A start is there for good: like any call it bounds what is given back of the charges before it. */
export const fix = <E extends Times>(charge: Charge<E>): void => {
  noteAll(charge.before, charge.ahead)
  charge.ahead = undefined
}

/** Puts a time off until `at`, unless it is later. */
export const raise = <E extends Times>(list: Charges<E>, i: number, tat: number, at: number): number => {
  note(list, i, tat, at)
  return Math.max(tat, at)
}

export const remove = <E extends Times>(charge: Charge<E>): void => {
  noteAll(charge.before, charge.found)
  List.remove(charge.list, charge)
}

/** Takes so many nanoseconds of one quota out of the debts that were found since a charge. Returns how many it can be. */
export const lower = <E extends Times>(since: Charge<E>, i: number, nanos: number): number => {
  let left = nanos
  for (let charge: Charge<E> | undefined = since; charge !== undefined; charge = charge.after) {
    const { ahead, found } = charge
    if (charge !== since && ahead !== undefined) {
      const debt = Math.max(0, ahead[i]!)
      ahead[i]! -= left
      left = Math.min(left, debt)
    }
    if (found !== undefined && found[i]! < Infinity) {
      left = Math.min(left, found[i]!)
      found[i]! -= left
    }
  }
  return left
}

/** Converts the debts to other quotas. The starts before that are final. */
export const requote = <E extends Times>(
  list: Charges<E>,
  from: Rates,
  to: Rates,
  sources: ReadonlyArray<ReadonlyArray<number>>
): void => {
  for (let charge = list.first; charge !== undefined; charge = charge.after) fix(charge)
  for (let charge = list.first; charge !== undefined; charge = charge.after) {
    const { found } = charge
    charge.found = found && to.map((rate, i) => {
      const [j, ...others] = sources[i]!
      // A debt that was taken over from several quotas is not given back.
      return others.length > 0 ? 0 : Math.floor(found[j!]! * (rate.interval / from[j!]!.interval))
    })
  }
}
