/**
 * The answer to an invalid option: a RangeError that names function, field, rule and value.
 */
export const refuse = (caller: string, field: string, rule: string, got: unknown): never => {
  throw new RangeError(`${caller}: ${field} must be ${rule}, got ${show(got)}`)
}

const show = (value: unknown): string =>
  typeof value === "string" || Array.isArray(value) ? JSON.stringify(value) : String(value)
