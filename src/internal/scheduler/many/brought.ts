/**
 * The operations on many items, once the program uses anything that leads to them. A program that only schedules does not
 * bundle them.
 */
import type { all, firstSuccess, forEach } from "./collect.js"
import type { stream } from "./stream.js"

export interface Many {
  readonly all: typeof all
  readonly firstSuccess: typeof firstSuccess
  readonly forEach: typeof forEach
  readonly stream: typeof stream
}

export let many: Many | undefined

export const bring = (operations: Many): void => {
  many = operations
}
