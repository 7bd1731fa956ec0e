/** At most 100 jobs at once: queueing, admission and release. */
import Bottleneck from "bottleneck"
import { Effect, PartitionedSemaphore, Semaphore } from "effect"
import pLimit from "p-limit"
import PQueue from "p-queue"
import { build, Scheduler } from "../funnel.ts"
import { type Contender, type HeapContender, promiseJob, sequentially, type Table } from "../harness.ts"

const width = 100

let running = 0
let most = 0
const enter = () => {
  running++
  if (running > most) most = running
}
const leave = () => {
  running--
  return 1
}

const job = Effect.callback<number>((resume) => {
  enter()
  setImmediate(() => resume(Effect.sync(leave)))
})
const countedPromiseJob = () => {
  enter()
  return promiseJob().then(leave)
}

/**
 * The results, and the concurrency that was really reached. A contender that ran more than 100 at once did other work.
 */
const work = (results: number): number => {
  const seen = most
  most = 0
  return results + (seen <= width ? 0 : Number.NaN)
}

const promises = (name: string, call: () => Promise<number>, largest?: number): Contender => ({
  name,
  ...(largest === undefined ? {} : { most: largest }),
  run: async (n) => {
    const results = await Promise.all(Array.from({ length: n }, () => call()))
    return work(results.reduce((a, b) => a + b, 0))
  }
})

const fibers = (name: string, limited: Effect.Effect<number, unknown>, largest?: number): Contender => ({
  name,
  ...(largest === undefined ? {} : { most: largest }),
  run: async (n) => {
    const results = await Effect.runPromise(
      Effect.forEach(Array.from({ length: n }, (_, i) => i), () => limited, { concurrency: "unbounded" })
    )
    return work(results.reduce((a, b) => a + b, 0))
  }
})

const scheduler = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency: width }))
const wide = await build(
  Scheduler.Scheduler,
  Scheduler.layer({ concurrency: width, rate: { limit: 1_000_000_000, window: "1 second", burst: 1_000_000 } })
)
const semaphore = Effect.runSync(Semaphore.make(width))
const partitioned = Effect.runSync(PartitionedSemaphore.make<string>({ permits: width }))
const limit = pLimit(width)
const queue = new PQueue({ concurrency: width })
const bottleneck = new Bottleneck({ maxConcurrent: width })

export const tables: ReadonlyArray<Table> = [
  {
    id: "limit-100",
    title: "At most 100 jobs at once",
    sizes: [1_000, 10_000, 100_000, 1_000_000],
    judged: [100_000, 1_000_000],
    expected: (n) => n,
    contenders: [
      promises("p-limit", () => limit(countedPromiseJob), 100_000),
      promises("p-queue", () => queue.add(countedPromiseJob), 100_000),
      promises("bottleneck", () => bottleneck.schedule(countedPromiseJob), 1_000),
      {
        name: "Effect.forEach({ concurrency: 100 })",
        run: async (n) => {
          const results = await Effect.runPromise(
            Effect.forEach(Array.from({ length: n }, (_, i) => i), () => job, { concurrency: width })
          )
          return work(results.reduce((a, b) => a + b, 0))
        }
      },
      fibers("fibers + Semaphore", semaphore.withPermit(job), 10_000),
      fibers("fibers + PartitionedSemaphore", PartitionedSemaphore.withPermit(partitioned, "one")(job), 100_000),
      fibers("fibers + Funnel Scheduler.schedule", scheduler.schedule(job)),
      {
        name: "Funnel Scheduler.forEach",
        run: async (n) => {
          const results = await Effect.runPromise(
            scheduler.forEach(Array.from({ length: n }, (_, i) => i), () => job)
          )
          return work(results.reduce((a, b) => a + b, 0))
        }
      }
    ]
  },
  {
    id: "free-permit",
    title: "A free permit and a conforming cell, one call after the other",
    sizes: [50_000],
    judged: [50_000],
    expected: (n) => n,
    contenders: [
      { name: "an Effect alone", run: (n) => sequentially(n, () => one) },
      { name: "Semaphore.withPermit", run: (n) => sequentially(n, () => semaphore.withPermit(one)) },
      { name: "Funnel Scheduler.schedule, width alone", run: (n) => sequentially(n, () => scheduler.schedule(one)) },
      { name: "Funnel Scheduler.schedule, width and rate", run: (n) => sequentially(n, () => wide.schedule(one)) }
    ]
  }
]

const one = Effect.sync(() => 1)

const heldFibers = (limited: (job: Effect.Effect<number>) => Effect.Effect<number, unknown>) => async (n: number) => {
  const resumes: Array<(effect: Effect.Effect<number>) => void> = []
  let open = false
  const waiting = limited(
    Effect.callback<number>((resume) => {
      if (open) resume(Effect.succeed(1))
      else resumes.push(resume)
    })
  )
  const done = Effect.runPromise(
    Effect.forEach(Array.from({ length: n }, (_, i) => i), () => waiting, { concurrency: "unbounded", discard: true })
  )
  await new Promise((resolve) => setImmediate(resolve))
  return async () => {
    open = true
    for (const resume of resumes) resume(Effect.succeed(1))
    await done
  }
}

const heldPromises = (limited: (job: () => Promise<number>) => Promise<number>) => async (n: number) => {
  const resolves: Array<() => void> = []
  let open = false
  const all = Promise.all(
    Array.from(
      { length: n },
      () => limited(() => new Promise<number>((resolve) => open ? resolve(1) : void resolves.push(() => resolve(1))))
    )
  )
  await new Promise((resolve) => setImmediate(resolve))
  return async () => {
    open = true
    for (const resolve of resolves) resolve()
    await all
  }
}

/** Bytes of heap per queued job, including its own fiber or promise. */
export const heap: ReadonlyArray<HeapContender> = [
  { name: "p-limit", hold: heldPromises((job) => limit(job)) },
  { name: "p-queue", hold: heldPromises((job) => queue.add(job)) },
  {
    name: "fibers + PartitionedSemaphore",
    hold: heldFibers((job) => PartitionedSemaphore.withPermit(partitioned, "one")(job))
  },
  { name: "fibers + Funnel Scheduler.schedule", hold: heldFibers((job) => scheduler.schedule(job)) }
]
