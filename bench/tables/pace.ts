/** The pace that a rate keeps on the real clock, by actual starts. */
import Bottleneck from "bottleneck"
import { Effect, Layer } from "effect"
import { RateLimiter as CoreRateLimiter } from "effect/persistence"
import { RateLimiter as Limiter } from "limiter"
import PQueue from "p-queue"
import pThrottle from "p-throttle"
import { RateLimiterMemory, RateLimiterQueue } from "rate-limiter-flexible"
import { build, RateLimiter, Scheduler } from "../funnel.ts"
import { median } from "../harness.ts"

export interface Pace {
  readonly contender: string
  /** Milliseconds from the first start to the last. */
  readonly span: number
  /** The most starts in any half-open second. */
  readonly most: number
  /** The least milliseconds between two starts. */
  readonly gap: number
  readonly starts: number
}

/** Runs `delays.length` jobs, the i-th asked for `delays[i]` ms after the beginning, each calling `start` when it starts. */
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

const effects = (name: string, make: () => (job: Effect.Effect<void>) => Effect.Effect<void, unknown>): Contender => ({
  name,
  run: (delays, start) => {
    const limited = make()
    return Effect.runPromise(
      Effect.forEach(delays, (delay) => {
        const job = limited(Effect.sync(start))
        return delay === 0 ? job : Effect.andThen(Effect.sleep(delay), job)
      }, { concurrency: "unbounded", discard: true })
    )
  }
})

const core =
  (algorithm: "fixed-window" | "token-bucket") => (): (job: Effect.Effect<void>) => Effect.Effect<void, unknown> => {
    const limiter = build(
      CoreRateLimiter.RateLimiter,
      CoreRateLimiter.layer.pipe(Layer.provide(CoreRateLimiter.layerStoreMemory))
    )
    return (job) =>
      limiter.consume({ algorithm, onExceeded: "delay", window: "1 second", limit: 100, key: "key" }).pipe(
        Effect.flatMap(({ delay }) => Effect.sleep(delay)),
        Effect.andThen(job)
      )
  }

const scheduler = (options: { readonly burst?: number; readonly strict?: boolean; readonly limit?: number }) => () => {
  const service = build(
    Scheduler.Scheduler,
    Scheduler.layer({ concurrency: "unbounded", rate: { limit: 100, window: "1 second", ...options } })
  )
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

/** The run whose span is the median one. */
const middle = (paces: ReadonlyArray<Pace>): Pace => {
  const span = median(paces.map((pace) => pace.span))
  return [...paces].sort((a, b) => Math.abs(a.span - span) - Math.abs(b.span - span))[0]!
}

const each = async (list: ReadonlyArray<Contender>, delays: ReadonlyArray<number>, rounds: number) => {
  const results: Array<Pace> = []
  for (const contender of list) {
    const paces: Array<Pace> = []
    for (let round = 0; round < rounds; round++) paces.push(await once(contender, delays))
    results.push(middle(paces))
  }
  return results
}

export interface PaceTable {
  readonly id: string
  readonly title: string
  /** The span of an ideal pacer in milliseconds, where there is one. */
  readonly ideal: number | undefined
  readonly rows: ReadonlyArray<Pace>
}

const hundredASecond = Array.from({ length: 200 }, () => 0)
const lateCrowd = [0, ...Array.from({ length: 199 }, () => 900)]

const fast = (limit: number): Contender => effects(`Funnel Scheduler at ${limit}/s`, scheduler({ limit }))

/** The same pace asked of the limiter alone. */
const consume = (limit: number): Contender => ({
  name: `Funnel RateLimiter at ${limit}/s`,
  run: (delays, start) => {
    const limiter = build(RateLimiter.RateLimiter, RateLimiter.layer({ limit, window: "1 second" }))
    return Effect.runPromise(
      Effect.forEach(delays, () => Effect.andThen(limiter.consume(), Effect.sync(start)), {
        concurrency: "unbounded",
        discard: true
      })
    )
  }
})

export const run = async (rounds: number): Promise<ReadonlyArray<PaceTable>> => {
  const pace = async (limit: number, count: number): Promise<PaceTable> => ({
    id: `pace-${limit}`,
    title: `${count} jobs at ${limit}/s`,
    ideal: ((count - 1) * 1_000) / limit,
    rows: await each([fast(limit), consume(limit)], Array.from({ length: count }, () => 0), rounds)
  })
  return [
    {
      id: "pace-100",
      title: "200 jobs at 100/s",
      ideal: 1_990,
      rows: await each(contenders, hundredASecond, rounds)
    },
    {
      id: "pace-late-crowd",
      title: "1 job at 0 s and 199 at 0.9 s, 100/s",
      ideal: undefined,
      rows: await each(contenders, lateCrowd, rounds)
    },
    await pace(3, 7),
    await pace(10_000, 20_000),
    await pace(50_000, 100_000)
  ]
}
