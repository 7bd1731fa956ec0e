/** A rate decision that never waits. */
import { Effect, Layer } from "effect"
import { RateLimiter as CoreRateLimiter } from "effect/persistence"
import { RateLimiter as Limiter } from "limiter"
import PQueue from "p-queue"
import pThrottle from "p-throttle"
import { RateLimiterMemory } from "rate-limiter-flexible"
import { build, RateLimiter } from "../funnel.ts"
import { sequentially, type Table } from "../harness.ts"

const plenty = 1_000_000_000

const one = Effect.succeed(1)
const funnel = build(RateLimiter.RateLimiter, RateLimiter.layer({ limit: plenty, window: "1 second", burst: plenty }))
const core = build(
  CoreRateLimiter.RateLimiter,
  CoreRateLimiter.layer.pipe(Layer.provide(CoreRateLimiter.layerStoreMemory))
)
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

export const tables: ReadonlyArray<Table> = [{
  id: "decision",
  title: "A rate decision that never waits",
  sizes: [20_000],
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
    { name: "Funnel RateLimiter.consume", run: (n) => sequentially(n, () => funnelDecision) }
  ]
}]
