import * as Schema from "effect/Schema"

/** A seeded source of integers from 0 to below `below`: a failing seed fails again. */
export const random = (seed: number) => {
  let state = Math.imul(seed, 0x9e3779b1) | 1
  return (below: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** Simulates each of so many seeds, and names the one that fails. */
export const eachSeed = <A>(seeds: number, simulate: (seed: number) => A): Array<A> =>
  Array.from({ length: seeds }, (_, i) => {
    try {
      return simulate(i + 1)
    } catch (error) {
      throw new Error(`seed ${i + 1}: ${String(error)}`, { cause: error })
    }
  })

/** Integers of a range, for properties. */
export const int = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
