import { Context, Effect, type Layer, pipe } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as RedisRateLimiter from "effect-funnel/redis/RateLimiter"
import type * as Scheduler from "effect-funnel/Scheduler"
import { describe, expect, it } from "tstyche"

class Db extends Context.Service<Db, { readonly url: string }>()("types/Db") {}
class NotFound extends Error {
  readonly _tag = "NotFound"
}
class GitHub extends RateLimiter.Service<GitHub>()("types/GitHub", { limit: 1, window: "1 second" }) {}

declare const effect: Effect.Effect<number, NotFound, Db>
declare const limiter: RateLimiter.RateLimiter

type Limited<R> = Effect.Effect<number, NotFound | RateLimiter.RateLimiterError, R>

describe("withLimit", () => {
  it("binds settle to the value of the effect", () => {
    expect(RateLimiter.withLimit(effect, { settle: (value) => value })).type.toBe<
      ReturnType<typeof RateLimiter.withLimit<typeof effect>>
    >()
    expect(effect.pipe(RateLimiter.withLimit({ settle: (value: number) => value }))).type.toBe<
      ReturnType<typeof RateLimiter.withLimit<typeof effect>>
    >()
    expect(limiter.withLimit).type.not.toBeCallableWith(effect, { settle: (value: string) => value.length })
    expect(limiter.withLimit).type.not.toBeCallableWith(effect, { settle: (value: number) => `${value}` })
    expect(limiter.withLimit).type.toBeCallableWith(effect, { tokens: [1, 500], settle: (value: number) => [1, value] })
    expect(limiter.withLimit({ settle: (value: string) => value.length })).type.not.toBeCallableWith(effect)
  })

  it("binds settle to the value of the effect also where it may be missing", () => {
    const settle = { settle: (value: string) => value.length }
    const maybe = null as unknown as typeof settle | undefined
    expect(limiter.withLimit(maybe)).type.not.toBeCallableWith(effect)
    expect(limiter.withLimit(maybe)).type.toBeCallableWith(Effect.succeed("text"))
    const either = null as unknown as typeof settle | { readonly key: string }
    expect(limiter.withLimit(either)).type.not.toBeCallableWith(effect)
    const optional = null as unknown as Partial<typeof settle>
    expect(limiter.withLimit(optional)).type.not.toBeCallableWith(effect)
    const flag: boolean = null as never
    expect(limiter.withLimit(flag ? settle : { tokens: 1 })).type.not.toBeCallableWith(effect)
    expect(limiter.withLimit(flag ? { key: "k" } : { tokens: 1 })).type.toBeCallableWith(effect)
    expect(limiter.withLimit({ tokens: 1 } as { readonly tokens: number } | undefined)).type.toBeCallableWith(effect)
  })

  it("keeps value, error and requirements, and adds the tag, in every spelling", () => {
    expect(RateLimiter.withLimit(effect)).type.toBe<Limited<Db | RateLimiter.RateLimiter>>()
    expect(RateLimiter.withLimit(effect, { key: "k" })).type.toBe<Limited<Db | RateLimiter.RateLimiter>>()
    expect(pipe(effect, RateLimiter.withLimit)).type.toBe<Limited<Db | RateLimiter.RateLimiter>>()
    expect(effect.pipe(RateLimiter.withLimit)).type.toBe<Limited<Db | RateLimiter.RateLimiter>>()
    expect(effect.pipe(RateLimiter.withLimit())).type.toBe<Limited<Db | RateLimiter.RateLimiter>>()
    expect(effect.pipe(RateLimiter.withLimit({ tokens: 2 }))).type.toBe<Limited<Db | RateLimiter.RateLimiter>>()
    expect(effect.pipe(GitHub.withLimit({ tokens: 2 }))).type.toBe<Limited<Db | GitHub>>()
    expect(GitHub.withLimit(effect)).type.toBe<Limited<Db | GitHub>>()
  })

  it("adds nothing to the requirements on a handle", () => {
    expect(limiter.withLimit(effect)).type.toBe<Limited<Db>>()
    expect(effect.pipe(limiter.withLimit)).type.toBe<Limited<Db>>()
    expect(effect.pipe(limiter.withLimit({ key: "k" }))).type.toBe<Limited<Db>>()
  })

  it("infers in generic wrappers", () => {
    const direct = <A, E, R>(self: Effect.Effect<A, E, R>) => GitHub.withLimit(self)
    const piped = <A, E, R>(self: Effect.Effect<A, E, R>) => self.pipe(GitHub.withLimit({ tokens: 2 }))
    expect(direct(effect)).type.toBe<Limited<Db | GitHub>>()
    expect(piped(effect)).type.toBe<Limited<Db | GitHub>>()
    expect(direct).type.toBe<
      <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RateLimiter.RateLimiterError, R | GitHub>
    >()
  })

  it("takes no options it does not know", () => {
    expect(limiter.withLimit).type.not.toBeCallableWith(effect, { onExceeded: "drop" })
    expect(limiter.withLimit).type.not.toBeCallableWith(effect, { tokens: "2" })
    expect(limiter.withLimit).type.not.toBeCallableWith({ tokens: "2" })
    expect(limiter.withLimit).type.not.toBeCallableWith("k")
  })
})

describe("the other operations", () => {
  it("consume tells what is left", () => {
    expect(RateLimiter.consume()).type.toBe<
      Effect.Effect<RateLimiter.ConsumeResult, RateLimiter.RateLimiterError, RateLimiter.RateLimiter>
    >()
    expect(limiter.consume({ key: undefined, tokens: undefined, onExceeded: undefined })).type.toBe<
      Effect.Effect<RateLimiter.ConsumeResult, RateLimiter.RateLimiterError>
    >()
    expect(GitHub.consume).type.not.toBeCallableWith({ key: 1 })
  })

  it("peek tells what is left", () => {
    expect(GitHub.peek({ key: "k" })).type.toBe<
      Effect.Effect<RateLimiter.PeekResult, RateLimiter.RateLimiterError, GitHub>
    >()
    expect(GitHub.peek).type.not.toBeCallableWith({ key: 1 })
  })

  it("penalize needs a time", () => {
    expect(GitHub.penalize({ for: "1 second" })).type.toBe<Effect.Effect<void, RateLimiter.RateLimiterError, GitHub>>()
    expect(GitHub.penalize).type.not.toBeCallableWith({ key: "k" })
    expect(GitHub.reset({ key: "k" })).type.toBe<Effect.Effect<void, RateLimiter.RateLimiterError, GitHub>>()
  })
})

describe("errors", () => {
  it("a reason that is caught is handed over with its own type", () => {
    const caught = Effect.catchReason(limiter.consume(), "RateLimiterError", "RateLimitExceeded", (reason) => {
      expect(reason).type.toBe<RateLimiter.RateLimitExceeded>()
      return Effect.succeed(reason.key)
    })
    expect(caught).type.toBe<
      Effect.Effect<string | RateLimiter.ConsumeResult | undefined, RateLimiter.RateLimiterError>
    >()
    Effect.catchReasons(limiter.consume(), "RateLimiterError", {
      RateLimitExceeded: () => Effect.void,
      InsufficientCapacity: (reason) => {
        expect(reason).type.toBe<Scheduler.InsufficientCapacity>()
        expect(reason.most).type.toBe<number>()
        return Effect.void
      },
      StoreError: (reason) => {
        expect(reason.cause).type.toBe<unknown>()
        return Effect.void
      }
    })
  })
})

describe("options", () => {
  it("are one quota or a list of them", () => {
    expect(RateLimiter.make).type.toBeCallableWith({ limit: 1, window: "1 second" })
    expect(RateLimiter.make).type.toBeCallableWith([{ limit: 1, window: 1000, burst: undefined, strict: undefined }])
    expect(RateLimiter.make).type.not.toBeCallableWith({ limit: 1 })
    expect(RateLimiter.make).type.not.toBeCallableWith({ limit: 1, window: "1 fortnight" })
    expect(RateLimiter.make({ limit: 1, window: "1 second" })).type.toBe<Effect.Effect<RateLimiter.RateLimiter>>()
  })

  it("are called rate beside others", () => {
    const quota = { limit: 1, window: "1 second" } as const
    expect(RedisRateLimiter.make).type.toBeCallableWith({ rate: quota, prefix: "a", name: "b" })
    expect(RedisRateLimiter.layer).type.toBeCallableWith({ rate: [quota, quota] })
    expect(RedisRateLimiter.layer).type.not.toBeCallableWith({ quota })
    expect(RateLimiter.layer).type.toBeCallableWith(quota, { name: "a" })
    expect(RateLimiter.layer).type.not.toBeCallableWith({ rate: quota })
  })
})

describe("layers", () => {
  it("provide their tag and need nothing", () => {
    expect(RateLimiter.layer({ limit: 1, window: "1 second" })).type.toBe<Layer.Layer<RateLimiter.RateLimiter>>()
    expect(RateLimiter.layerNoop).type.toBe<Layer.Layer<RateLimiter.RateLimiter>>()
    expect(GitHub.layer).type.toBe<Layer.Layer<GitHub>>()
    expect(GitHub.layerNoop).type.toBe<Layer.Layer<GitHub>>()
    expect(Effect.provide(GitHub.withLimit(effect), GitHub.layer)).type.toBe<Limited<Db>>()
  })

  it("a tag holds a limiter", () => {
    expect<GitHub["Service"]>().type.toBe<RateLimiter.RateLimiter>()
    expect(Effect.gen(function*() {
      return yield* GitHub
    })).type.toBe<Effect.Effect<RateLimiter.RateLimiter, never, GitHub>>()
  })
})
