/** Single flight: many callers of one key, and one key per caller. */
import { Cache, Deferred, Effect, Exit, Fiber } from "effect"
import pMemoize from "p-memoize"
import { build, Reducer, Scheduler } from "../funnel.ts"
import { type Contender, type HeapContender, promiseJob, sequentially, type Table } from "../harness.ts"

let runs = 0
const job = Effect.callback<number>((resume) => {
  runs++
  setImmediate(() => resume(Effect.succeed(1)))
})
const countedPromiseJob = () => {
  runs++
  return promiseJob()
}
const synchronousJob = Effect.sync(() => {
  runs++
  return 1
})

type Keys = (index: number) => number
const oneKey: Keys = () => 0
const manyKeys: Keys = (index) => index

const sum = (values: ReadonlyArray<number>) => {
  let total = 0
  for (const value of values) total += value
  return total
}

/** Every contender returns results + 10,000,000 × runs, which reveals a contender that does not share. */
const work = (results: ReadonlyArray<number>): number => {
  const total = sum(results) + runs * 10_000_000
  runs = 0
  return total
}

const promises = (name: string, call: (key: number) => Promise<number>, keys: Keys): Contender => ({
  name,
  most: 100_000,
  run: async (n) => work(await Promise.all(Array.from({ length: n }, (_, i) => call(keys(i)))))
})

const effects = (
  name: string,
  call: (key: number) => Effect.Effect<number>,
  keys: Keys,
  most = 100_000
): Contender => ({
  name,
  most,
  run: async (n) => {
    const indices = Array.from({ length: n }, (_, i) => i)
    return work(
      await Effect.runPromise(Effect.forEach(indices, (i) => call(keys(i)), { concurrency: "unbounded" }))
    )
  }
})

const rawMap = (start: () => Promise<number>) => {
  const inFlight = new Map<number, Promise<number>>()
  return (key: number): Promise<number> => {
    const existing = inFlight.get(key)
    if (existing !== undefined) return existing
    const promise = start().finally(() => inFlight.delete(key))
    inFlight.set(key, promise)
    return promise
  }
}

const memoized = () => {
  const cache = new Map<number, number>()
  // With a cache that forgets at once, p-memoize only shares what is in flight.
  return pMemoize((_key: number) => countedPromiseJob(), {
    cache: { has: () => false, get: (key: number) => cache.get(key), set: () => {}, delete: () => {} }
  })
}

const cacheOf = (lookup: Effect.Effect<number>) =>
  Effect.runSync(Cache.make({ capacity: Number.POSITIVE_INFINITY, timeToLive: 0, lookup: (_: number) => lookup }))

/** The obvious hand-written version: a Map of Deferreds with a count of callers. */
const naive = (effect: Effect.Effect<number>) => {
  const inFlight = new Map<number, { readonly deferred: Deferred.Deferred<number>; callers: number }>()
  return (key: number): Effect.Effect<number> =>
    Effect.suspend(() => {
      let entry = inFlight.get(key)
      let start: Effect.Effect<unknown> = Effect.void
      if (entry === undefined) {
        const created = { deferred: Deferred.makeUnsafe<number>(), callers: 0 }
        entry = created
        inFlight.set(key, created)
        start = Effect.forkDetach(
          Effect.onExit(effect, (exit) => {
            inFlight.delete(key)
            return Deferred.done(created.deferred, exit)
          })
        )
      }
      const shared = entry
      shared.callers++
      return Effect.andThen(
        start,
        Effect.onExit(Deferred.await(shared.deferred), () => Effect.sync(() => shared.callers--))
      )
    })
}

const reducer = await build(Reducer.Reducer, Reducer.layer())

const contenders = (keys: Keys): ReadonlyArray<Contender> => [
  promises("promises, no dedup", countedPromiseJob, keys),
  effects("Effect.forEach, no dedup", () => job, keys, 1_000_000),
  promises("raw Map<key, Promise>", rawMap(countedPromiseJob), keys),
  promises("p-memoize, in flight only", memoized(), keys),
  effects(
    "Effect Cache, timeToLive 0",
    (() => {
      const cache = cacheOf(job)
      return (key) => Cache.get(cache, key)
    })(),
    keys
  ),
  effects("naive Map<key, Deferred>", naive(job), keys),
  effects("Funnel Reducer.reduce", (key) => reducer.reduce(key, job), keys, 1_000_000)
]

const alone = new Set(["promises, no dedup", "Effect.forEach, no dedup"])

/** Keys as callers write them: a new and different one for each call. */
const keyed = (name: string, key: (index: number) => Parameters<typeof reducer.reduce>[0]): Contender => ({
  name,
  run: (n) => sequentially(n, (i) => reducer.reduce(key(i), one))
})

const one = Effect.sync(() => 1)

const composedScheduler = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 100 }))
const composed = (call: (index: number) => Effect.Effect<number, unknown>) => async (n: number) => {
  const indices = Array.from({ length: n }, (_, i) => i)
  const results = await Effect.runPromise(Effect.forEach(indices, call, { concurrency: "unbounded" }))
  runs = 0
  return sum(results)
}

export const tables: ReadonlyArray<Table> = [
  {
    id: "keys",
    title: "A synchronous effect under a key of its own, by what the key is",
    sizes: [20_000],
    judged: [20_000],
    expected: (n) => n,
    contenders: [
      keyed("a number", (i) => i),
      keyed("a string", (i) => `user:${i}`),
      keyed(`["user", id]`, (i) => ["user", i]),
      keyed("{ tenant, id }", (i) => ({ tenant: "acme", id: i })),
      keyed("ten fields", (i) => ({ a: i, b: 1, c: "x", d: "yy", e: 5, f: true, g: null, h: "hhhh", i: 9, j: 10 }))
    ]
  },
  {
    id: "composed",
    title: "10,000 fibers, 20 keys: a job that is reduced and scheduled",
    sizes: [10_000],
    judged: [10_000],
    expected: (n) => n,
    contenders: [
      { name: "the fibers alone", run: composed(() => job) },
      { name: "Funnel reduce", run: composed((i) => reducer.reduce(i % 20, job)) },
      {
        name: "Funnel reduce of schedule",
        run: composed((i) => reducer.reduce(i % 20, composedScheduler.schedule(job)))
      }
    ]
  },
  {
    id: "single-flight-one-key",
    title: "Single flight, all callers ask for one key",
    sizes: [1_000, 10_000, 100_000, 1_000_000],
    judged: [10_000],
    expected: (n, contender) => n + (alone.has(contender) ? n : 1) * 10_000_000,
    contenders: contenders(oneKey)
  },
  {
    id: "single-flight-many-keys",
    title: "Single flight, every caller asks for a key of its own",
    sizes: [1_000, 10_000, 100_000, 1_000_000],
    judged: [10_000],
    expected: (n) => n + n * 10_000_000,
    contenders: contenders(manyKeys)
  },
  {
    id: "single-flight-synchronous",
    title: "Single flight, a synchronous effect, every caller asks for a key of its own",
    sizes: [10_000],
    judged: [10_000],
    expected: (n) => n + n * 10_000_000,
    contenders: [
      promises(
        "raw Map<key, Promise>",
        rawMap(async () => {
          runs++
          return 1
        }),
        manyKeys
      ),
      effects(
        "Effect Cache, timeToLive 0",
        (() => {
          const cache = cacheOf(synchronousJob)
          return (key) => Cache.get(cache, key)
        })(),
        manyKeys
      ),
      effects("Funnel Reducer.reduce", (key) => reducer.reduce(key, synchronousJob), manyKeys)
    ]
  }
]

/** A contender that keeps `n` callers waiting until it is released. */
type Held = () => { readonly call: (key: number) => Effect.Effect<number>; readonly release: () => void }

const held = (make: Held) => async (n: number) => {
  const { call, release } = make()
  const fiber = Effect.runFork(
    Effect.forEach(Array.from({ length: n }, (_, i) => i), () => call(0), { concurrency: "unbounded", discard: true })
  )
  await new Promise((resolve) => setImmediate(resolve))
  return async () => {
    release()
    await Effect.runPromise(Fiber.join(fiber))
  }
}

const behindOne = (wrap: (latch: Effect.Effect<number>) => (key: number) => Effect.Effect<number>): Held => () => {
  const deferred = Deferred.makeUnsafe<number>()
  return {
    call: wrap(Deferred.await(deferred)),
    release: () => void Deferred.doneUnsafe(deferred, Exit.succeed(1))
  }
}

const heldPromises = (shared: boolean) => async (n: number) => {
  const waiting: Array<() => void> = []
  const start = () => new Promise<number>((resolve) => void waiting.push(() => resolve(1)))
  const call = shared ? rawMap(start) : start
  const all = Promise.all(Array.from({ length: n }, async () => await call(0)))
  await new Promise((resolve) => setImmediate(resolve))
  return async () => {
    for (const resolve of waiting) resolve()
    await all
  }
}

/** Bytes of heap per waiting caller of one key, including the caller's own fiber or promise. */
export const heap: ReadonlyArray<HeapContender> = [
  { name: "promises, no dedup", hold: heldPromises(false) },
  { name: "raw Map<key, Promise>", hold: heldPromises(true) },
  {
    name: "Effect.forEach, no dedup",
    hold: held(() => {
      const resumes: Array<(effect: Effect.Effect<number>) => void> = []
      return {
        call: () => Effect.callback<number>((resume) => void resumes.push(resume)),
        release: () => resumes.forEach((resume) => resume(Effect.succeed(1)))
      }
    })
  },
  {
    name: "a callback with a cancel effect, the fibers alone",
    hold: held(() => {
      const resumes: Array<(effect: Effect.Effect<number>) => void> = []
      return {
        call: () => Effect.callback<number>((resume) => (resumes.push(resume), Effect.void)),
        release: () => resumes.forEach((resume) => resume(Effect.succeed(1)))
      }
    })
  },
  {
    name: "Effect Cache, timeToLive 0",
    hold: held(behindOne((latch) => {
      const cache = cacheOf(latch)
      return (key) => Cache.get(cache, key)
    }))
  },
  { name: "naive Map<key, Deferred>", hold: held(behindOne(naive)) },
  { name: "Funnel Reducer.reduce", hold: held(behindOne((latch) => (key) => reducer.reduce(key, latch))) }
]
