/** The pace that a rate limiter keeps on the real clock, by actual starts. */
import Bottleneck from "bottleneck"
import { Effect, Layer } from "effect"
import { RateLimiter as CoreRateLimiter } from "effect/persistence"
import { RateLimiter as Limiter } from "limiter"
import PQueue from "p-queue"
import pThrottle from "p-throttle"
import { RateLimiterMemory, RateLimiterQueue } from "rate-limiter-flexible"
import { build, RateLimiter, Scheduler } from "../funnel.ts"
import { full, type Settings } from "../harness.ts"

export interface Pace {
  readonly contender: string
  /** Milliseconds from the first start to the last. */
  readonly span: number
  /** The most starts in any half-open second. */
  readonly most: number
  /** The least gap between two starts, in milliseconds. */
  readonly gap: number
  readonly starts: number
}

/** Submits job i after `delays[i]` ms. Each job calls `start` when it starts. */
type Contender = {
  readonly name: string
  readonly run: (delays: ReadonlyArray<number>, start: () => void) => Promise<unknown>
}

const summary = (contender: string, starts: ReadonlyArray<number>): Pace => {
  const sorted = [...starts].sort((a, b) => a - b)
  let most = 0
  let gap = Number.POSITIVE_INFINITY
  for (let first = 0, next = 0; first < sorted.length; first++) {
    while (next < sorted.length && sorted[next]! < sorted[first]! + 1_000) next++
    most = Math.max(most, next - first)
    if (first > 0) gap = Math.min(gap, sorted[first]! - sorted[first - 1]!)
  }
  return { contender, span: sorted.at(-1)! - sorted[0]!, most, gap, starts: sorted.length }
}

const later = <A>(delay: number, job: () => Promise<A>): Promise<A> =>
  delay === 0 ? job() : new Promise((resolve) => setTimeout(resolve, delay)).then(job)

const promises = (name: string, make: () => (job: () => void) => Promise<unknown>): Contender => ({
  name,
  run: (delays, start) => {
    const limited = make()
    return Promise.all(delays.map((delay) => later(delay, () => limited(start))))
  }
})

const effects = (
  name: string,
  make: () => Promise<(job: Effect.Effect<void>) => Effect.Effect<void, unknown>>
): Contender => ({
  name,
  run: async (delays, start) => {
    const limited = await make()
    return Effect.runPromise(
      Effect.forEach(delays, (delay) => {
        const job = limited(Effect.sync(start))
        return delay === 0 ? job : Effect.andThen(Effect.sleep(delay), job)
      }, { concurrency: "unbounded", discard: true })
    )
  }
})

const core =
  (algorithm: "fixed-window" | "token-bucket") =>
  async (): Promise<(job: Effect.Effect<void>) => Effect.Effect<void, unknown>> => {
    const limiter = await build(
      CoreRateLimiter.RateLimiter,
      CoreRateLimiter.layer.pipe(Layer.provide(CoreRateLimiter.layerStoreMemory))
    )
    return (job) =>
      limiter.consume({ algorithm, onExceeded: "delay", window: "1 second", limit: 100, key: "key" }).pipe(
        Effect.flatMap(({ delay }) => Effect.sleep(delay)),
        Effect.andThen(job)
      )
  }

interface Rate {
  readonly burst?: number
  readonly strict?: boolean
  readonly limit?: number
}

const paced = (rate: Rate) =>
  build(
    Scheduler.Scheduler,
    Scheduler.layer({ concurrency: "unbounded", rate: { limit: 100, window: "1 second", ...rate } })
  )

const scheduler = (rate: Rate) => async () => {
  const service = await paced(rate)
  return (job: Effect.Effect<void>): Effect.Effect<void, unknown> => service.schedule(job)
}

const contenders: ReadonlyArray<Contender> = [
  promises("p-throttle", () => pThrottle({ limit: 100, interval: 1_000 })(async (job: () => void) => job())),
  promises(
    "p-throttle, strict",
    () => pThrottle({ limit: 100, interval: 1_000, strict: true })(async (job: () => void) => job())
  ),
  promises("bottleneck, minTime", () => {
    const limiter = new Bottleneck({ minTime: 10 })
    return (job) => limiter.schedule(async () => job())
  }),
  promises("p-queue", () => {
    const queue = new PQueue({ intervalCap: 100, interval: 1_000 })
    return (job) => queue.add(async () => job())
  }),
  promises("p-queue, strict", () => {
    const queue = new PQueue({ intervalCap: 100, interval: 1_000, strict: true })
    return (job) => queue.add(async () => job())
  }),
  promises("limiter", () => {
    const limiter = new Limiter({ tokensPerInterval: 100, interval: "second" })
    return (job) => limiter.removeTokens(1).then(job)
  }),
  promises("rate-limiter-flexible, queue", () => {
    const queue = new RateLimiterQueue(new RateLimiterMemory({ points: 100, duration: 1 }), { maxQueueSize: 1_000 })
    return (job) => queue.removeTokens(1).then(job)
  }),
  effects("Effect RateLimiter, fixed window", core("fixed-window")),
  effects("Effect RateLimiter, token bucket", core("token-bucket")),
  effects("Funnel Scheduler", scheduler({})),
  effects("Funnel Scheduler, strict, burst 2", scheduler({ strict: true, burst: 2 }))
]

const once = async (contender: Contender, delays: ReadonlyArray<number>): Promise<Pace> => {
  const starts: Array<number> = []
  await contender.run(delays, () => void starts.push(performance.now()))
  return summary(contender.name, starts)
}

const each = async (list: ReadonlyArray<Contender>, delays: ReadonlyArray<number>, together: boolean) => {
  if (together) return Promise.all(list.map((contender) => once(contender, delays)))
  const results: Array<Pace> = []
  for (const contender of list) results.push(await once(contender, delays))
  return results
}

export interface PaceTable {
  readonly id: string
  readonly title: string
  /** The span of an ideal pacer in milliseconds, if there is one. */
  readonly ideal: number | undefined
  readonly rows: ReadonlyArray<Pace>
}

const atOnce = (count: number) => Array.from({ length: count }, () => 0)

/**
 * The same pace, once with a fiber per job, all forked at once, and once with jobs that are pulled as permits become
 * free.
 */
const fast = (limit: number): ReadonlyArray<Contender> => [
  {
    name: "Funnel Scheduler.forEach",
    run: async (delays, start) =>
      Effect.runPromise((await paced({ limit })).forEach(delays, () => Effect.sync(start), { discard: true }))
  },
  effects("fibers + Funnel Scheduler.schedule", scheduler({ limit })),
  effects("fibers + Funnel RateLimiter.consume", async () => {
    const limiter = await build(RateLimiter.RateLimiter, RateLimiter.layer({ limit, window: "1 second" }))
    return (job) => Effect.andThen(limiter.consume(), job)
  })
]

interface Plan {
  readonly id: string
  readonly take: (settings: Settings) => Promise<PaceTable>
}

const plan = (
  table: Omit<PaceTable, "rows">,
  list: ReadonlyArray<Contender>,
  delays: ReadonlyArray<number>
): Plan => ({
  id: table.id,
  take: async ({ largest, run }) => {
    // The pace of other libraries does not vary between runs.
    const present = list.filter(({ name }) => run === 1 || name.startsWith("Funnel"))
    return {
      ...table,
      // Tables with few jobs hardly disturb each other.
      rows: await each(present, delays, largest < full.largest && delays.length <= 200)
    }
  }
})

const pace = (limit: number, count: number): Plan =>
  plan(
    { id: `pace-${limit}`, title: `${count} jobs at ${limit}/s`, ideal: ((count - 1) * 1_000) / limit },
    fast(limit),
    atOnce(count)
  )

export const tables: ReadonlyMap<string, Plan> = new Map(
  [
    plan({ id: "pace-100", title: "200 jobs at 100/s", ideal: 1_990 }, contenders, atOnce(200)),
    plan(
      { id: "pace-late-crowd", title: "1 job at 0 s and 199 at 0.9 s, 100/s", ideal: undefined },
      contenders,
      [0, ...Array.from({ length: 199 }, () => 900)]
    ),
    pace(3, 7),
    pace(10_000, 20_000),
    pace(50_000, 100_000)
  ].map((plan) => [plan.id, plan])
)
