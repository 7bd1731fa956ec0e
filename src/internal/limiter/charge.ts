/**
 * The calls of a key whose true cost is known at their end.
 *
 * Tokens that are given back make the times what they would be if the call had taken fewer from the start. So a call that came
 * after it and found the key nearly rested bounds what can be given back: the rest of those tokens had come back by then.
 */
import * as List from "../data/list.js"
import type { Rate } from "./gcra.js"

type Rates = ReadonlyArray<Rate>

/** An open charge. */
export interface Member extends List.Member<Member> {
  /** For each quota, the least debt that a later call found, from those before the next charge. */
  found: Array<number>
}

/** The open charges of a key, in the order in which they were made. */
export class Charges implements List.List<Member> {
  first: Member | undefined = undefined
  last: Member | undefined = undefined

  /** Tokens of one quota are about to be taken by an arrival. */
  note(i: number, tat: number, arrival: number): void {
    const { found } = this.last!
    found[i] = Math.min(found[i]!, Math.max(0, tat - arrival))
  }

  remove(charge: Member): void {
    const { before } = charge
    if (before !== undefined) before.found = before.found.map((found, i) => Math.min(found, charge.found[i]!))
    List.remove(this, charge)
  }

  /** Takes so many nanoseconds of one quota out of the debts that were found since a charge. Returns how many it can be. */
  lower(since: Member, i: number, nanos: number): number {
    let left = nanos
    for (let charge: Member | undefined = since; charge !== undefined; charge = charge.after) {
      left = Math.min(left, charge.found[i]!)
      charge.found[i]! -= left
    }
    return left
  }

  /** A start is taken back. It may have been before any charge: no later call found a debt that is smaller by more. */
  reduce(i: number, nanos: number): void {
    for (let charge = this.first; charge !== undefined; charge = charge.after) {
      charge.found[i] = Math.max(0, charge.found[i]! - nanos)
    }
  }

  /** Converts the debts to other quotas. */
  requote(from: Rates, to: Rates, sources: ReadonlyArray<ReadonlyArray<number>>): void {
    for (let charge = this.first; charge !== undefined; charge = charge.after) {
      const { found } = charge
      // A debt that was taken over from several quotas is not given back.
      charge.found = to.map((rate, i) => {
        const [j, ...others] = sources[i]!
        return others.length > 0 ? 0 : Math.floor(found[j!]! * (rate.interval / from[j!]!.interval))
      })
    }
  }
}
