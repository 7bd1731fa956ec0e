/** What one more waiter costs as they grow in number: microseconds each when `n` wait and all leave in random order. */
import { Cache, Deferred, Effect, Fiber, Semaphore } from "effect"
import { build, RateLimiter, Reducer, Scheduler } from "../funnel.ts"
import { median } from "../harness.ts"

export interface Growth {
  readonly contender: string
  readonly n: number
  readonly micros: number
}

interface Contender {
  readonly name: string
  readonly most: number
  readonly make: () => Effect.Effect<unknown, unknown>
}

const reducer = build(Reducer.Reducer, Reducer.layer())

/** A seeded shuffle, so that every contender's callers leave in the same order. */
const shuffled = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> => {
  const out = [...values]
  let state = 0x2545f491
  for (let i = out.length - 1; i > 0; i--) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    const j = (state >>> 0) % (i + 1)
    const value = out[i]!
    out[i] = out[j]!
    out[j] = value
  }
  return out
}

/** Brings `n` callers to where they wait, then interrupts each, in random order. */
const leaving = async (waiting: Effect.Effect<unknown, unknown>, n: number): Promise<number> => {
  const start = performance.now()
  const fibers = Array.from({ length: n }, () => Effect.runFork(waiting))
  for (const fiber of shuffled(fibers)) fiber.interruptUnsafe()
  await Effect.runPromise(Fiber.awaitAll(fibers))
  return performance.now() - start
}

const leavers: ReadonlyArray<Contender> = [
  {
    name: "Deferred.await",
    most: 100_000,
    make: () => Deferred.await(Deferred.makeUnsafe<number>())
  },
  {
    name: "Effect Cache, timeToLive 0",
    most: 100_000,
    make: () =>
      Cache.get(Effect.runSync(Cache.make({ capacity: 10, timeToLive: 0, lookup: (_: number) => Effect.never })), 0)
  },
  {
    name: "Semaphore, queued",
    most: 10_000,
    make: () => {
      const semaphore = Effect.runSync(Semaphore.make(1))
      Effect.runFork(semaphore.withPermit(Effect.never))
      return semaphore.withPermit(Effect.void)
    }
  },
  { name: "Funnel Reducer.reduce", most: 1_000_000, make: () => reducer.reduce("key", Effect.never) },
  {
    name: "Funnel Scheduler.schedule, queued",
    most: 1_000_000,
    make: () => {
      const scheduler = build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1 }))
      Effect.runFork(scheduler.schedule(Effect.never))
      return scheduler.schedule(Effect.void)
    }
  },
  {
    name: "Funnel RateLimiter.consume, waiting",
    most: 1_000_000,
    make: () => {
      const limiter = build(RateLimiter.RateLimiter, RateLimiter.layer({ limit: 1, window: "1 hour" }))
      Effect.runSync(limiter.consume())
      return limiter.consume()
    }
  }
]

export const sizes = [1_000, 10_000, 100_000, 1_000_000]

export const run = async (
  rounds: number,
  sizes: ReadonlyArray<number>
): Promise<ReadonlyArray<Growth>> => {
  const figures: Array<Growth> = []
  for (const n of sizes) {
    for (const contender of leavers) {
      if (n > contender.most) continue
      const samples: Array<number> = []
      // A crowd of a hundred thousand is an average by itself.
      for (let round = 0; round < (n < 100_000 ? rounds : 1); round++) {
        samples.push(await leaving(contender.make(), n))
      }
      figures.push({ contender: contender.name, n, micros: (median(samples) * 1_000) / n })
    }
  }
  return figures
}
