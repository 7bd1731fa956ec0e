import { Context, Effect } from "effect"
import type { Layer, Scope } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import { describe, expect, test } from "tstyche"

class Db extends Context.Service<Db, { readonly get: number }>()("test/Db") {}
class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second" }) {}
class GitHub extends Scheduler.Service<GitHub>()("test/GitHub", { concurrency: 10 }) {}
class Paced extends Scheduler.Service<Paced>()("test/Paced", { concurrency: 10, rate: Api }) {}

declare const effect: Effect.Effect<number, "no", Db>
declare const scheduler: Scheduler.Scheduler

describe("schedule", () => {
  test("binds settle to the value of the effect", () => {
    expect(Scheduler.schedule(effect, { settle: (value) => value })).type.toBe<
      ReturnType<typeof Scheduler.schedule<typeof effect>>
    >()
    expect(effect.pipe(Scheduler.schedule({ settle: (value: number) => value }))).type.toBe<
      ReturnType<typeof Scheduler.schedule<typeof effect>>
    >()
    expect(scheduler.schedule).type.not.toBeCallableWith(effect, { settle: (value: string) => value.length })
    expect(scheduler.schedule).type.not.toBeCallableWith(effect, { settle: (value: number) => `${value}` })
    expect(scheduler.schedule).type.toBeCallableWith(effect, {
      tokens: [1, 500],
      settle: (value: number) => [1, value]
    })
    expect(scheduler.schedule({ settle: (value: string) => value.length })).type.not.toBeCallableWith(effect)
  })

  test("adds its error and its tag in every spelling", () => {
    type Expected = Effect.Effect<number, "no" | Scheduler.SchedulerError, Db | Scheduler.Scheduler>
    expect(Scheduler.schedule(effect)).type.toBe<Expected>()
    expect(Scheduler.schedule(effect, { weight: 2 })).type.toBe<Expected>()
    expect(effect.pipe(Scheduler.schedule)).type.toBe<Expected>()
    expect(effect.pipe(Scheduler.schedule())).type.toBe<Expected>()
    expect(effect.pipe(Scheduler.schedule({ weight: 2, tokens: 0, priority: -1 }))).type.toBe<Expected>()
  })

  test("a handle requires nothing, a class itself", () => {
    expect(scheduler.schedule(effect)).type.toBe<Effect.Effect<number, "no" | Scheduler.SchedulerError, Db>>()
    expect(effect.pipe(scheduler.schedule)).type.toBe<Effect.Effect<number, "no" | Scheduler.SchedulerError, Db>>()
    expect(effect.pipe(GitHub.schedule)).type.toBe<
      Effect.Effect<number, "no" | Scheduler.SchedulerError, Db | GitHub>
    >()
    expect(effect.pipe(GitHub.schedule({ weight: 2 }))).type.toBe<
      Effect.Effect<number, "no" | Scheduler.SchedulerError, Db | GitHub>
    >()
  })

  test("keeps its types in generic wrappers", () => {
    const urgent = <A, E, R>(self: Effect.Effect<A, E, R>) => self.pipe(Scheduler.schedule({ priority: 10 }))
    expect(urgent(effect)).type.toBe<Effect.Effect<number, "no" | Scheduler.SchedulerError, Db | Scheduler.Scheduler>>()
    const direct = <A, E, R>(
      self: Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | Scheduler.SchedulerError, R | Scheduler.Scheduler> => Scheduler.schedule(self)
    expect(direct(effect)).type.toBe<Effect.Effect<number, "no" | Scheduler.SchedulerError, Db | Scheduler.Scheduler>>()
  })

  test("refuses what is neither an effect nor options", () => {
    expect(Scheduler.schedule).type.not.toBeCallableWith(5)
    expect(Scheduler.schedule).type.not.toBeCallableWith(effect, { weight: "2" })
    expect(Scheduler.schedule).type.not.toBeCallableWith(effect, { wieght: 2 })
  })

  test("a reason is caught by its name", () => {
    const caught = Effect.succeed(1).pipe(
      Scheduler.schedule,
      Effect.catchReason("SchedulerError", "QueueFull", (reason) => Effect.succeed(reason.queued))
    )
    expect(caught).type.toBe<Effect.Effect<number, Scheduler.SchedulerError, Scheduler.Scheduler>>()
  })
})

describe("make and layer", () => {
  test("require a scope, and the limiter whose tag is the rate", () => {
    expect(Scheduler.make({ concurrency: 1 })).type.toBe<Effect.Effect<Scheduler.Scheduler, never, Scope.Scope>>()
    expect(Scheduler.make({ concurrency: "unbounded", rate: { limit: 1, window: "1 second" } })).type.toBe<
      Effect.Effect<Scheduler.Scheduler, never, Scope.Scope>
    >()
    expect(Scheduler.make({ concurrency: 1, rate: Api })).type.toBe<
      Effect.Effect<Scheduler.Scheduler, never, Api | Scope.Scope>
    >()
    expect(Scheduler.layer({ concurrency: 1 })).type.toBe<Layer.Layer<Scheduler.Scheduler>>()
    expect(Scheduler.layer({ concurrency: 1, rate: [{ limit: 1, window: "1 second" }] })).type.toBe<
      Layer.Layer<Scheduler.Scheduler>
    >()
    expect(Scheduler.layer({ concurrency: 1, rate: RateLimiter.RateLimiter })).type.toBe<
      Layer.Layer<Scheduler.Scheduler, never, RateLimiter.RateLimiter>
    >()
  })

  test("a class's layers provide the class", () => {
    expect(GitHub.layer).type.toBe<Layer.Layer<GitHub>>()
    expect(GitHub.layerNoop).type.toBe<Layer.Layer<GitHub>>()
    expect(Paced.layer).type.toBe<Layer.Layer<Paced, never, Api>>()
    expect(Paced.layerNoop).type.toBe<Layer.Layer<Paced>>()
  })

  test("refuse options that are none, and tags of other services", () => {
    expect(Scheduler.make).type.not.toBeCallableWith({})
    expect(Scheduler.make).type.not.toBeCallableWith({ concurrency: "many" })
    expect(Scheduler.make).type.not.toBeCallableWith({ concurrency: 1, rate: Db })
    expect(Scheduler.make).type.not.toBeCallableWith({ concurrency: 1, rate: { limit: 1 } })
    expect(Scheduler.make).type.not.toBeCallableWith({ concurrency: 1, maxQueue: 1 })
  })
})

describe("the other operations", () => {
  test("require their tag and cannot fail", () => {
    expect(Scheduler.resize(1)).type.toBe<Effect.Effect<void, never, Scheduler.Scheduler>>()
    expect(Scheduler.setRate({ limit: 1, window: 1 })).type.toBe<Effect.Effect<void, never, Scheduler.Scheduler>>()
    expect(Scheduler.pause).type.toBe<Effect.Effect<void, never, Scheduler.Scheduler>>()
    expect(GitHub.resume).type.toBe<Effect.Effect<void, never, GitHub>>()
    expect(scheduler.awaitIdle).type.toBe<Effect.Effect<void>>()
    expect(scheduler.stats).type.toBe<Effect.Effect<Scheduler.Stats>>()
  })
})
