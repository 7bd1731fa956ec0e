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
export class Charge<E> implements List.Member<Charge<E>> {
  readonly entry: E
  /** The charges of the entry. A reset replaces them: then nothing is taken back any more. */
  readonly list: List.List<Charge<E>>
  readonly tokens: Tokens
  /** By how much a start has moved the times; 0 once that is final. */
  moved: Array<number>
  /** The debts that a start found, where there were charges before it. */
  came: Debts = undefined
  /** The least debts that later calls found, of those before the next charge. */
  found: Debts = undefined
  /** The log of a strict quota, and the number of the start there. */
  readonly log: StartLog | undefined
  readonly start: number
  before: Charge<E> | undefined = undefined
  after: Charge<E> | undefined = undefined
  constructor(
    entry: E,
    list: List.List<Charge<E>>,
    tokens: Tokens,
    moved: Array<number>,
    log: StartLog | undefined,
    start = -1
  ) {
    this.entry = entry
    this.list = list
    this.tokens = tokens
    this.moved = moved
    this.log = log
    this.start = start
    List.append(list, this)
  }
}

type Charges<E> = List.List<Charge<E>>

/** Tokens of one quota are about to be taken by an arrival, or its time to be put off until then. */
export const note = <E>({ last }: Charges<E>, i: number, tat: number, arrival: number): void => {
  if (last === undefined) return
  last.found ??= last.moved.map(() => Infinity)
  last.found[i] = Math.min(last.found[i]!, Math.max(0, tat - arrival))
}

/** Puts a time off until `at`, unless it is later. */
export const raise = <E>(list: Charges<E>, i: number, tat: number, at: number): number => {
  note(list, i, tat, at)
  return Math.max(tat, at)
}

const least = (a: Debts, b: Debts): Debts =>
  a === undefined || b === undefined ? a ?? b : a.map((debt, i) => Math.min(debt, b[i]!))

export const remove = <E>(charge: Charge<E>): void => {
  const { before, came, found, list } = charge
  if (before !== undefined) before.found = least(before.found, least(came, found))
  List.remove(list, charge)
}

/** Takes so many nanoseconds of one quota out of the debts that were found since a charge. Returns how many it can be. */
export const lower = <E>(since: Charge<E>, i: number, nanos: number): number => {
  let left = nanos
  const take = (debts: Debts): void => {
    if (debts === undefined || debts[i] === Infinity) return
    left = Math.min(left, debts[i]!)
    debts[i]! -= left
  }
  take(since.found)
  for (let charge = since.after; charge !== undefined; charge = charge.after) {
    const before = left
    take(charge.came)
    // The time before this start moves by more than the one after it.
    if (left < before) charge.moved[i]! += before - left
    take(charge.found)
  }
  return left
}

/** Converts the debts to other quotas. */
export const requote = <E>(
  list: Charges<E>,
  from: Rates,
  to: Rates,
  sources: ReadonlyArray<ReadonlyArray<number>>
): void => {
  const convert = (debts: Debts): Debts =>
    debts && to.map((rate, i) => {
      const [j, ...others] = sources[i]!
      // A debt that was taken over from several quotas is not given back.
      return others.length > 0 ? 0 : Math.floor(debts[j!]! * (rate.interval / from[j!]!.interval))
    })
  for (let charge = list.first; charge !== undefined; charge = charge.after) {
    charge.came = convert(charge.came)
    charge.found = convert(charge.found)
    charge.moved = to.map(() => 0)
  }
}
