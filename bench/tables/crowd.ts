/** 50,000 fibers wait on ten permits: Effect's Semaphore scans its waiters, the scheduler does not. */
import { Effect, Semaphore } from "effect"
import { build, Scheduler } from "../funnel.ts"

export interface Crowd {
  readonly jobs: number
  readonly semaphore: number
  readonly schedule: number
}

const seconds = async (limited: Effect.Effect<unknown, unknown>, n: number): Promise<number> => {
  const start = performance.now()
  await Effect.runPromise(
    Effect.forEach(Array.from({ length: n }, (_, i) => i), () => limited, { concurrency: "unbounded", discard: true })
  )
  return (performance.now() - start) / 1_000
}

const job = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

export const run = async (jobs: number): Promise<Crowd> => {
  const scheduler = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 10 }))
  // A slow contender warms up while it is measured. A fast one needs a warm-up.
  await seconds(scheduler.schedule(job), jobs)
  const schedule = await seconds(scheduler.schedule(job), jobs)
  const semaphore = await seconds(Effect.runSync(Semaphore.make(10)).withPermit(job), jobs)
  return { jobs, semaphore, schedule }
}
