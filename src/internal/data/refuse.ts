/**
 * The answer to an invalid option: a RangeError that names function, field, rule and value.
 */
import { guarded } from "./guarded.js"

export const refuse = (caller: string, field: string, rule: string, got: unknown): never => {
  throw new RangeError(`${caller}: ${field} must be ${rule}, got ${show(got)}`)
}

/** `value`, if it is an integer from `least` on. */
export const integer = (caller: string, field: string, value: number, least: number): number =>
  Number.isSafeInteger(value) && value >= least ? value : refuse(caller, field, `an integer >= ${least}`, value)

// A value without text, such as an object without a prototype, is shown by its type.
const show = (value: unknown): string =>
  guarded(
    () => typeof value === "string" || Array.isArray(value) ? JSON.stringify(value) : String(value),
    () => `a value of type ${typeof value}`
  )
