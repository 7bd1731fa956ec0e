/**
 * The answer to an invalid option: a RangeError that names function, field, rule and value.
 */
import { format } from "effect/Formatter"

export const refuse = (caller: string, field: string, rule: string, got: unknown): never => {
  throw new RangeError(`${caller}: ${field} must be ${rule}, got ${format(got)}`)
}

/** `value`, if it is an integer from `least` on. */
export const integer = (caller: string, field: string, value: number, least: number): number =>
  Number.isSafeInteger(value) && value >= least ? value : refuse(caller, field, `an integer >= ${least}`, value)

/** `value`, if it is one of these words. */
export const oneOf = <A extends string>(caller: string, field: string, value: A, values: ReadonlyArray<A>): A =>
  values.includes(value)
    ? value
    : refuse(caller, field, values.map((_) => JSON.stringify(_)).join(" or "), value)
