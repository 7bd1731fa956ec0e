/**
 * The operations on many items, once the program uses anything that leads to them. A program that only schedules does not
 * bundle them.
 */
import type * as Collect from "./collect.js"
import type { stream } from "./stream.js"

type Many = Pick<typeof Collect, "all" | "firstSuccess" | "forEach"> & { readonly stream: typeof stream }

export let many: Many | undefined

export const bring = (operations: Many): void => {
  many = operations
}
