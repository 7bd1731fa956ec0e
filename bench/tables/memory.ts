/** Ten million items through the scheduler: the resident memory must stay flat. */
import { Effect, Stream } from "effect"
import { build, Scheduler } from "../funnel.ts"

export interface Memory {
  readonly contender: string
  readonly items: number
  /** The spread of resident memory in megabytes after the first tenth. */
  readonly spread: number
}

function* count(n: number) {
  for (let i = 0; i < n; i++) yield i
}

const watched = async (contender: string, items: number, run: (see: () => void) => Effect.Effect<unknown, unknown>) => {
  let seen = 0
  let least = Number.POSITIVE_INFINITY
  let most = 0
  await Effect.runPromise(run(() => {
    seen++
    if (seen % 10_000 !== 0 || seen < items / 10) return
    const resident = process.memoryUsage.rss() / 1_048_576
    least = Math.min(least, resident)
    most = Math.max(most, resident)
  }))
  if (seen !== items) throw new Error(`${contender}: saw ${seen} of ${items} items`)
  return { contender, items, spread: most - least }
}

/** One process per contender, so that no contender sees the garbage of another. */
export const run = async (contender: "forEach" | "stream", items: number): Promise<Memory> => {
  const scheduler = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 100 }))
  return contender === "forEach"
    ? watched(
      "Funnel Scheduler.forEach, discard",
      items,
      (see) => scheduler.forEach(count(items), () => Effect.sync(see), { discard: true })
    )
    : watched(
      "Funnel Scheduler.stream",
      items,
      (see) => Stream.runDrain(scheduler.stream(count(items), () => Effect.sync(see)))
    )
}
