/** Ten million items through the scheduler: the resident memory has to stay flat. */
import { Effect, Stream } from "effect"
import { build, Scheduler } from "../funnel.ts"

export interface Memory {
  readonly contender: string
  readonly items: number
  /** Megabytes of resident memory between the least and the most seen after the first tenth. */
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

/** One contender a process: what another has left behind is not seen. */
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
