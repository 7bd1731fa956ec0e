/** Heap per key of a rate limiter, for a key with debt and for a key at rest. */
import { Effect } from "effect"
import { build, RateLimiter } from "../funnel.ts"
import { settledHeap } from "../harness.ts"

export const run = async (
  n: number
): Promise<ReadonlyArray<{ readonly contender: string; readonly bytes: number }>> => {
  const limiter = await build(
    RateLimiter.RateLimiter,
    RateLimiter.layer({ limit: 10, window: "10 seconds", burst: 10 })
  )
  const keys = Array.from({ length: n }, (_, i) => `user:${i}`)
  // A map makes every string compute its hash. That memory is not the limiter's.
  new Set(keys).clear()
  const consumeAll = (of: ReadonlyArray<string>) => {
    let index = 0
    return Effect.runPromise(Effect.whileLoop({
      while: () => index < of.length,
      body: () => limiter.consume({ key: of[index++], onExceeded: "fail" }),
      step: () => {}
    }))
  }
  await consumeAll(["warm"])
  const before = await settledHeap()
  await consumeAll(keys)
  const live = (await settledHeap() - before) / n
  // A token is paid back in 1 s. The key rests for more than twice as long.
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  const rest = (await settledHeap() - before) / n
  if (keys.length !== n) throw new Error("the keys themselves have to stay")
  return [{ contender: "Funnel RateLimiter, live", bytes: live }, {
    contender: "Funnel RateLimiter, at rest",
    bytes: rest
  }]
}
