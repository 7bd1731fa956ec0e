import * as Duration from "effect/Duration"

/** The duration of so many nanoseconds; in milliseconds where they are whole. */
export const duration = (nanos: number): Duration.Duration =>
  nanos === 0
    ? Duration.zero
    : nanos % 1_000_000 === 0
    ? Duration.millis(nanos / 1_000_000)
    : Duration.nanos(BigInt(Math.round(nanos)))
