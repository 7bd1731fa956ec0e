import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** A job that notes when it starts, in milliseconds of the clock it runs on, and the notes. */
export const makeStarts = () => {
  const times: Array<number> = []
  return { times, job: Effect.map(Clock.currentTimeMillis, (now) => void times.push(now)) }
}
