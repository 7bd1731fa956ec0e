/**
 * The moment from which a limiter counts a start that it has just granted.
 */
import type { Charge } from "../../src/internal/limiter/charge.js"
import * as Gcra from "../../src/internal/limiter/gcra.js"

interface Entry {
  readonly tats: ReadonlyArray<number>
}

/** From its charge, which no other call has changed yet. `interval` is that of the first quota. */
export const arrivalOf = ({ ahead, entry, tokens }: Charge<Entry>, interval: number): number =>
  entry.tats[0]! - Gcra.tokensOf(tokens, 0) * interval - Math.max(0, ahead![0]!)
