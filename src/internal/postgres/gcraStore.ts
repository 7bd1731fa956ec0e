/**
 * Rates in PostgreSQL: a row a key, with debts in microseconds of the server's clock.
 */
import { constVoid } from "effect/Function"
import { type Cell, type GcraStore, type Taken, takenOf } from "../store/gcraStore.js"
import { type Database, encode } from "./database.js"

interface Answer {
  readonly waits: ReadonlyArray<number>
  readonly retry: number
  readonly debts: ReadonlyArray<number>
  readonly before: string
  readonly after: string | null
}

/** In milliseconds, of whole microseconds, rounded up. */
const millis = (micros: number): number => Math.ceil(micros) / 1000

const taken = ({ after, before, debts, retry, waits }: Answer, cells: ReadonlyArray<Cell>): Taken =>
  takenOf(cells, debts, 0, waits.map(millis), millis(retry), before, after ?? "")

/** Makes the store for keys that all have the same quotas. */
export const make = ({ call }: Database, { cells, prefix }: {
  readonly prefix: string
  readonly cells: ReadonlyArray<Cell>
}): GcraStore => {
  const quotas = { intervals: cells.map((_) => _.intervalMicros), bursts: cells.map((_) => _.burst) }
  const at = (key: string) => ({ key: encode(prefix + key), ...quotas })
  const shift = (operation: string, args: ReturnType<typeof at> & { readonly [field: string]: unknown }) =>
    call(operation, "shift_rate", args, constVoid)

  return {
    take: (key, tokens, maxWaitMillis) =>
      call(
        "take",
        "take",
        { ...at(key), tokens, most: Math.ceil(maxWaitMillis * 1000) },
        // Sound: the function returns it.
        (answer) => taken(answer as Answer, cells)
      ),
    giveBack: (key, tokens, after) => shift("giveBack", { ...at(key), back: tokens, state: after }),
    penalize: (key, millis) => shift("penalize", { ...at(key), penalty: Math.ceil(millis * 1000) }),
    reset: (key) => shift("reset", { ...at(key), reset: true })
  }
}
