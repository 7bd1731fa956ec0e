/** What one more waiter costs as they grow in number: microseconds each when `n` wait and all leave in random order. */
import { Cache, Deferred, Effect, Fiber, Semaphore } from "effect"
import { build, RateLimiter, Reducer, Scheduler } from "../funnel.ts"
import { shuffled } from "../harness.ts"

export interface Growth {
  readonly contender: string
  readonly n: number
  readonly micros: number
  /** Whether the young generation held all that waited, so that the collector had nothing to move. */
  readonly roomy: boolean
}

interface Contender {
  readonly name: string
  readonly linear: boolean
  readonly most?: number
  readonly make: () => Effect.Effect<unknown, unknown>
}

const reducer = build(Reducer.Reducer, Reducer.layer())

/** Brings `n` callers to where they wait, then interrupts each, in a random order that is the same for all contenders. */
const leaving = async (waiting: Effect.Effect<unknown, unknown>, n: number): Promise<number> => {
  const start = performance.now()
  const fibers = Array.from({ length: n }, () => Effect.runFork(waiting))
  for (const fiber of shuffled(fibers, 1)) fiber.interruptUnsafe()
  await Effect.runPromise(Fiber.awaitAll(fibers))
  return performance.now() - start
}

const leavers: ReadonlyArray<Contender> = [
  { name: "a bare callback, the fibers alone", linear: true, make: () => Effect.callback<never>(() => Effect.void) },
  {
    name: "Deferred.await",
    linear: false,
    make: () => Deferred.await(Deferred.makeUnsafe<number>())
  },
  {
    name: "Effect Cache, timeToLive 0",
    linear: false,
    make: () =>
      Cache.get(Effect.runSync(Cache.make({ capacity: 10, timeToLive: 0, lookup: (_: number) => Effect.never })), 0)
  },
  {
    name: "Semaphore, queued",
    linear: false,
    most: 10_000,
    make: () => {
      const semaphore = Effect.runSync(Semaphore.make(1))
      Effect.runFork(semaphore.withPermit(Effect.never))
      return semaphore.withPermit(Effect.void)
    }
  },
  { name: "Funnel Reducer.reduce", linear: true, make: () => reducer.reduce("key", Effect.never) },
  {
    name: "Funnel Scheduler.schedule, queued",
    linear: true,
    make: () => {
      const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1 }))
      Effect.runFork(scheduler.schedule(Effect.never))
      return scheduler.schedule(Effect.void)
    }
  },
  {
    name: "Funnel RateLimiter.consume, waiting",
    linear: true,
    make: () => {
      const limiter = build(RateLimiter.RateLimiter, RateLimiter.layer({ limit: 1, window: "1 hour" }))
      Effect.runSync(limiter.consume())
      return limiter.consume()
    }
  }
]

const sizes = [1_000, 10_000, 100_000, 1_000_000]

// Smaller crowds take more turns, until they have made as much garbage as the larger ones, and are averages of them all.
const turns = (n: number, roomy: boolean) =>
  Math.max(1, Math.min(roomy ? 15 : 30, Math.round((roomy ? 150_000 : 300_000) / n)))

/** What makes the young generation hold all turns of any contender that is linear. The process takes up to 3 GB. */
export const roomyHeap = ["--min-semi-space-size=1024", "--max-semi-space-size=1024"]

export const run = async (largest: number, roomy: boolean): Promise<ReadonlyArray<Growth>> => {
  const figures: Array<Growth> = []
  if (roomy) {
    // Memory that is used for the first time costs more than what is done in it.
    for (let turn = 0; turn < 30; turn++) await leaving(leavers[0]!.make(), 100_000)
  }
  for (const contender of leavers.filter(({ linear }) => linear || !roomy)) {
    await leaving(contender.make(), 1_000)
    // There is room for all turns of one contender, not for what another has left behind.
    if (roomy) globalThis.gc?.()
    // What is quadratic takes minutes for the larger crowds, and shows in the smaller ones.
    const most = Math.min(
      roomy ? 100_000 : largest,
      contender.linear ? 1_000_000 : largest / 10,
      contender.most ?? largest
    )
    for (const n of sizes.filter((n) => n <= most)) {
      let millis = 0
      const times = contender.linear ? turns(n, roomy) : 1
      for (let turn = 0; turn < times; turn++) {
        millis += await leaving(contender.make(), n)
      }
      figures.push({ contender: contender.name, n, micros: (millis * 1_000) / (n * times), roomy })
    }
  }
  return figures
}
