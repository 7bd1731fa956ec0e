/** A rate decision that never waits. */
import { Effect, Layer } from "effect"
import { RateLimiter as CoreRateLimiter } from "effect/persistence"
import { RateLimiter as Limiter } from "limiter"
import PQueue from "p-queue"
import pThrottle from "p-throttle"
import { RateLimiterMemory } from "rate-limiter-flexible"
import { build, RateLimiter, Scheduler } from "../funnel.ts"
import { sequentially, type Table } from "../harness.ts"

const plenty = 1_000_000_000

const one = Effect.succeed(1)
const funnel = await build(
  RateLimiter.RateLimiter,
  RateLimiter.layer({ limit: plenty, window: "1 second", burst: plenty })
)
const core = await build(
  CoreRateLimiter.RateLimiter,
  CoreRateLimiter.layer.pipe(Layer.provide(CoreRateLimiter.layerStoreMemory))
)
const keys = Array.from({ length: 1_000 }, (_, i) => `user:${i}`)
const limiter = new Limiter({ tokensPerInterval: plenty, interval: "second" })
const flexible = new RateLimiterMemory({ points: plenty, duration: 1 })
const throttle = pThrottle({ limit: plenty, interval: 1_000 })(async () => 1)
const queue = new PQueue({ intervalCap: plenty, interval: 1_000 })

const consume = (algorithm: "fixed-window" | "token-bucket") =>
  core.consume({ algorithm, onExceeded: "fail", window: "1 second", limit: plenty, key: "key" })

const awaited = async (n: number, call: () => Promise<unknown>) => {
  for (let i = 0; i < n; i++) await call()
  return n
}

const funnelDecision = funnel.consume({ onExceeded: "fail" })

// A quota that stays exhausted for the life of the process.
const flexibleEmpty = new RateLimiterMemory({ points: 1, duration: 3_600 })
await flexibleEmpty.consume("key")
const funnelEmpty = await build(RateLimiter.RateLimiter, RateLimiter.layer({ limit: 1, window: "1 hour" }))
await Effect.runPromise(funnelEmpty.consume())
await Effect.runPromise(
  core.consume({ algorithm: "token-bucket", onExceeded: "fail", window: "1 hour", limit: 1, key: "refused" })
)
const full = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency: 1, maxQueued: 0 }))
Effect.runFork(full.schedule(Effect.never))

/** Makes calls one after the other that must all fail. */
const refused = (n: number, call: () => Effect.Effect<unknown, unknown>) =>
  sequentially(n, () => Effect.catch(Effect.andThen(call(), Effect.die("admitted")), () => Effect.void))

export const tables: ReadonlyArray<Table> = [{
  id: "decision",
  title: "A rate decision that never waits",
  sizes: [20_000],
  judged: [20_000],
  expected: (n) => n,
  contenders: [
    { name: "an Effect alone", run: (n) => sequentially(n, () => one) },
    {
      name: "limiter (synchronous)",
      run: async (n) => {
        let granted = 0
        for (let i = 0; i < n; i++) if (limiter.tryRemoveTokens(1)) granted++
        return granted
      }
    },
    { name: "rate-limiter-flexible", run: (n) => awaited(n, () => flexible.consume("key")) },
    { name: "p-throttle", run: (n) => awaited(n, () => throttle()) },
    { name: "p-queue", run: (n) => awaited(n, () => queue.add(async () => 1)) },
    {
      name: "Effect RateLimiter, fixed window",
      run: (n) => sequentially(n, () => consume("fixed-window"))
    },
    {
      name: "Effect RateLimiter, token bucket",
      run: (n) => sequentially(n, () => consume("token-bucket"))
    },
    { name: "Funnel RateLimiter.consume", run: (n) => sequentially(n, () => funnelDecision) },
    {
      name: "Funnel RateLimiter.consume, built per call with one of 1,000 keys",
      run: (n) => sequentially(n, (i) => funnel.consume({ key: keys[i % keys.length], onExceeded: "fail" }))
    }
  ]
}, {
  id: "refusal",
  title: "A refusal, taken note of",
  sizes: [5_000],
  judged: [5_000],
  expected: (n) => n,
  contenders: [
    { name: "Effect.fail of a plain object", run: (n) => refused(n, () => Effect.fail({ retryAfter: 1 })) },
    {
      name: "rate-limiter-flexible",
      run: async (n) => {
        let rejected = 0
        for (let i = 0; i < n; i++) {
          try {
            await flexibleEmpty.consume("key")
          } catch {
            rejected++
          }
        }
        return rejected
      }
    },
    {
      name: "Effect RateLimiter, token bucket",
      run: (n) =>
        refused(
          n,
          () =>
            core.consume({ algorithm: "token-bucket", onExceeded: "fail", window: "1 hour", limit: 1, key: "refused" })
        )
    },
    {
      name: "Funnel RateLimiter.consume, RateLimitExceeded",
      run: (n) => refused(n, () => funnelEmpty.consume({ onExceeded: "fail" }))
    },
    { name: "Funnel Scheduler.schedule, QueueFull", run: (n) => refused(n, () => full.schedule(one)) }
  ]
}]
