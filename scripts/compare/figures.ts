/** Programs that show where effect's parts and Funnel differ in cost. */
import { Cache, Deferred, Effect, Fiber, PartitionedSemaphore, Semaphore } from "effect"
import { Reducer, Scheduler } from "effect-funnel"
import { build, fork, type Row, settle } from "./row.ts"

type Run = (job: Effect.Effect<void>) => Effect.Effect<unknown, unknown>

const unbounded = { concurrency: "unbounded", discard: true } as const
const thousands = (n: number) => n.toLocaleString("en-US")
const median = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)[values.length >> 1]!
const list = (values: ReadonlyArray<number>, unit: "ms" | "µs") =>
  values
    .map((n) => unit === "ms" && n >= 1000 ? `${(n / 1000).toFixed(1)} s` : `${n.toFixed(n < 10 ? 1 : 0)} ${unit}`)
    .join(" / ")

const timed = async (run: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await run()
  return performance.now() - start
}

/** Both sides alternate, so a slow phase of the machine affects both. The first round is a warm-up. */
const measured = (
  unit: "ms" | "µs",
  rounds: number,
  effect: () => Promise<ReadonlyArray<number>>,
  funnel: () => Promise<ReadonlyArray<number>>
): Pick<Row, "effect" | "funnel"> => {
  const sides = { effect: new Array<ReadonlyArray<number>>(), funnel: new Array<ReadonlyArray<number>>() }
  const medians = (rounds: ReadonlyArray<ReadonlyArray<number>>) =>
    list(rounds[0]!.map((_, i) => median(rounds.map((round) => round[i]!))), unit)
  return {
    effect: async () => {
      for (let round = 0; round <= rounds; round++) {
        const [one, other] = [await effect(), await funnel()]
        if (round === 0 && rounds > 1) continue
        sides.effect.push(one)
        sides.funnel.push(other)
      }
      return medians(sides.effect)
    },
    funnel: async () => ({ seen: medians(sides.funnel), holds: true })
  }
}

const inTurn = async <A>(items: ReadonlyArray<A>, f: (item: A) => Promise<number>) => {
  const all: Array<number> = []
  for (const item of items) all.push(await f(item))
  return all
}

/** Milliseconds until `n` jobs that wait for one of ten permits have run. Each job takes one turn. */
const queued = async (n: number, run: Run) => {
  let done = 0
  const job = Effect.andThen(Effect.yieldNow, Effect.sync(() => void done++))
  const jobs = Array.from({ length: n }, () => run(job))
  const time = await timed(() => Effect.runPromise(Effect.all(jobs, unbounded)))
  if (done !== n) throw new Error(`${done} of ${n} jobs ran`)
  return time
}

const schedulerOf = (concurrency: number) => build(Scheduler.Scheduler, Scheduler.layer({ concurrency }))

type Fibers = ReadonlyArray<Fiber.Fiber<unknown, unknown>>
const orders: ReadonlyArray<(fibers: Fibers) => Fibers> = [
  (fibers) => fibers,
  (fibers) => fibers.toReversed(),
  // 7,919 is prime, so every index comes once.
  (fibers) => fibers.map((_, i) => fibers[(i * 7_919) % fibers.length]!)
]

/** Milliseconds until all callers that wait for one thing have left. */
const leaving = (n: number, waiting: () => Effect.Effect<unknown, unknown>) =>
  inTurn(orders, async (order) => {
    const wait = waiting()
    const fibers = order(Array.from({ length: n }, () => fork(wait)))
    return timed(async () => {
      for (const fiber of fibers) fiber.interruptUnsafe()
      await Effect.runPromise(Fiber.awaitAll(fibers))
    })
  })

const callers = 20_000

/** Microseconds per call, when all calls share one run of a key. */
const shared = (call: (effect: Effect.Effect<number>) => Effect.Effect<number, unknown>) => {
  let runs = 0
  const one = call(Effect.andThen(Effect.yieldNow, Effect.sync(() => ++runs)))
  const all = Array.from({ length: callers }, () => one)
  return async () => {
    runs = 0
    const time = await timed(() => Effect.runPromise(Effect.all(all, unbounded)))
    if (runs !== 1) throw new Error(`${runs} runs for one key`)
    return [(time * 1000) / callers]
  }
}

const cached = shared((effect) =>
  Cache.get(Effect.runSync(Cache.make({ capacity: 10, timeToLive: 0, lookup: (_: string) => effect })), "key")
)
const reduced = shared((effect) => build(Reducer.Reducer, Reducer.layer()).reduce("key", effect))

/** Microseconds to admit one of `n` jobs that wait for one permit, one after the other. */
const admitting = async (n: number, run: Run) => {
  let release = () => {}
  // The first job holds the permit until all the others wait.
  const gate = fork(run(Effect.callback<void>((resume) => {
    release = () => resume(Effect.void)
  })))
  const job = run(Effect.void)
  const fibers = Array.from({ length: n }, () => fork(job))
  await settle()
  const time = await timed(async () => {
    release()
    await Effect.runPromise(Fiber.awaitAll([gate, ...fibers]))
  })
  return (time * 1000) / n
}

const crowds = [1_000, 5_000, 10_000]
const waiting = [10_000, 100_000]

export const rows: ReadonlyArray<Row> = [
  {
    part: "`Semaphore`",
    what: `${crowds.map(thousands).join(" / ")} jobs through 10 permits`,
    ...measured(
      "ms",
      1,
      () => {
        const semaphore = Semaphore.makeUnsafe(10)
        return inTurn(crowds, (n) => queued(n, (job) => semaphore.withPermit(job)))
      },
      () => {
        const scheduler = schedulerOf(10)
        return inTurn(crowds, (n) => queued(n, (job) => scheduler.schedule(job)))
      }
    ),
    test: "test/schedulerEngineQueue.test.ts"
  },
  {
    part: "`PartitionedSemaphore`",
    what: `admission of one of ${waiting.map(thousands).join(" / ")} waiting jobs`,
    ...measured(
      "µs",
      1,
      () => {
        const semaphore = PartitionedSemaphore.makeUnsafe<string>({ permits: 1 })
        return inTurn(waiting, (n) => admitting(n, (job) => semaphore.withPermit("key")(job)))
      },
      () => {
        const scheduler = schedulerOf(1)
        return inTurn(waiting, (n) => admitting(n, (job) => scheduler.schedule(job)))
      }
    ),
    test: "test/schedulerEngineQueue.test.ts"
  },
  {
    part: "`Deferred.await`",
    what: "50,000 waiting callers leave: oldest first / newest first / in random order",
    ...measured(
      "ms",
      1,
      () => leaving(50_000, () => Deferred.await(Deferred.makeUnsafe<number>())),
      () => {
        const reducer = build(Reducer.Reducer, Reducer.layer())
        return leaving(50_000, () => reducer.reduce("key", Effect.never))
      }
    ),
    test: "test/Reducer.test.ts"
  },
  {
    part: "`Cache`, `timeToLive: 0`",
    what: `a call that joins a run with ${thousands(callers)} others`,
    ...measured("µs", 7, cached, reduced),
    test: "test/Reducer.test.ts"
  }
]
