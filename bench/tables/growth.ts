/**
 * The cost of one more waiter as the crowd grows: microseconds per waiter when `n` wait and all leave in random order.
 */
import { Cache, Deferred, Effect, Fiber, Semaphore } from "effect"
import { build, RateLimiter, Reducer, Scheduler } from "../funnel.ts"
import { cpuMillis, type Settings, shuffled } from "../harness.ts"

export interface Growth {
  readonly contender: string
  readonly n: number
  readonly micros: number
  /** Microseconds of the main thread. */
  readonly cpu: number
  /** Whether the young generation held all waiters, so that the collector had nothing to move. */
  readonly roomy: boolean
}

interface Contender {
  readonly name: string
  readonly linear: boolean
  readonly most?: number
  readonly make: () => Promise<Effect.Effect<unknown, unknown>>
}

const reducer = await build(Reducer.Reducer, Reducer.layer())

interface Took {
  readonly wall: number
  readonly cpu: number
}

/**
 * Starts `n` callers, waits until all are suspended, then interrupts them in a random order that is the same for all
 * contenders.
 */
const leaving = async ({ make }: Contender, n: number): Promise<Took> => {
  const waiting = await make()
  const start = performance.now()
  const worked = cpuMillis()
  const fibers = Array.from({ length: n }, () => Effect.runFork(waiting))
  for (const fiber of shuffled(fibers, 1)) fiber.interruptUnsafe()
  await Effect.runPromise(Fiber.awaitAll(fibers))
  return { wall: performance.now() - start, cpu: cpuMillis() - worked }
}

const leavers: ReadonlyArray<Contender> = [
  {
    name: "a bare callback, the fibers alone",
    linear: true,
    make: async () => Effect.callback<never>(() => Effect.void)
  },
  {
    name: "Deferred.await",
    linear: false,
    make: async () => Deferred.await(Deferred.makeUnsafe<number>())
  },
  {
    name: "Effect Cache, timeToLive 0",
    linear: false,
    make: async () =>
      Cache.get(Effect.runSync(Cache.make({ capacity: 10, timeToLive: 0, lookup: (_: number) => Effect.never })), 0)
  },
  {
    name: "Semaphore, queued",
    linear: false,
    most: 10_000,
    make: async () => {
      const semaphore = Effect.runSync(Semaphore.make(1))
      Effect.runFork(semaphore.withPermit(Effect.never))
      return semaphore.withPermit(Effect.void)
    }
  },
  { name: "Funnel Reducer.reduce", linear: true, make: async () => reducer.reduce("key", Effect.never) },
  {
    name: "Funnel Scheduler.schedule, queued",
    linear: true,
    make: async () => {
      const scheduler = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1 }))
      Effect.runFork(scheduler.schedule(Effect.never))
      return scheduler.schedule(Effect.void)
    }
  },
  {
    name: "Funnel RateLimiter.consume, waiting",
    linear: true,
    make: async () => {
      const limiter = await build(RateLimiter.RateLimiter, RateLimiter.layer({ limit: 1, window: "1 hour" }))
      await Effect.runPromise(limiter.consume())
      return limiter.consume()
    }
  }
]

// Smaller crowds take more turns, until they have made as much garbage as the larger ones. The result is the average.
const turns = (n: number, roomy: boolean) =>
  Math.max(1, Math.min(roomy ? 15 : 30, Math.round((roomy ? 150_000 : 300_000) / n)))

/**
 * Linear contenders take turns at 10,000 and 100,000, the sizes that are judged. A quadratic contender takes minutes
 * for larger crowds and already shows in smaller ones, so it is measured in the first run only. A thousand and a
 * million are also measured in the first run only.
 */
export const run = async ({ largest, run }: Settings, roomy: boolean): Promise<ReadonlyArray<Growth>> => {
  const linear = leavers.filter((contender) => contender.linear)
  // The first use of memory costs more than the work in it.
  const warmUp = roomy ? 30 : 1
  for (let turn = 0; turn < warmUp; turn++) await leaving(linear[0]!, Math.min(largest, 100_000))
  for (const contender of leavers) await leaving(contender, Math.min(largest, contender.linear ? 10_000 : 1_000))
  const figures: Array<Growth> = []
  const take = async (contenders: ReadonlyArray<Contender>, n: number) => {
    for (const contender of shuffled(contenders, run)) {
      // The young generation has room for all turns of one contender, but not for the garbage of the previous one. A
      // minor collection moves that garbage out of the way and keeps the compiled code.
      if (roomy) globalThis.gc?.({ type: "minor" })
      let wall = 0
      let cpu = 0
      const times = contender.linear ? turns(n, roomy) : 1
      for (let turn = 0; turn < times; turn++) {
        const took = await leaving(contender, n)
        wall += took.wall
        cpu += took.cpu
      }
      const each = (millis: number) => (millis * 1_000) / (n * times)
      figures.push({ contender: contender.name, n, micros: each(wall), cpu: each(cpu), roomy })
    }
  }
  for (const n of [1_000, 10_000, 100_000, 1_000_000]) {
    const judged = n === 10_000 || n === 100_000
    if (n > largest || (roomy && n > 100_000) || (run > 1 && !judged)) continue
    const others = run > 1 || roomy || n > 100_000 ? [] : leavers.filter(({ linear, most = n }) => !linear && n <= most)
    await take(linear, n)
    await take(others, n)
  }
  // In the order of declaration, not in the order of the turns.
  return leavers.flatMap(({ name }) => figures.filter(({ contender }) => contender === name))
}
