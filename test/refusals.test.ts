import { describe, expect, it, vi } from "@effect/vitest"
import { Cause, Duration, Effect, Equal, Exit, Fiber, Layer } from "effect"
import { RateLimiter, Scheduler } from "effect-funnel"
import * as SharedReducer from "effect-funnel/SharedReducer"
import { inspect, types } from "node:util"
import { fork } from "./support/fibers.ts"

const none = { limit: 1, window: "1 hour" } as const

/** A new instance of every error that answers a call. */
const errors = (): Record<string, Cause.YieldableError & { readonly _tag: string }> => {
  const store = new RateLimiter.StoreError({ operation: "take", cause: "gone" })
  const exceeded = new RateLimiter.RateLimitExceeded({
    key: "ada",
    limit: 5,
    remaining: 0,
    retryAfter: Duration.seconds(3)
  })
  const full = new Scheduler.QueueFull({ queued: 100, maxQueued: 100 })
  const weight = new Scheduler.InsufficientCapacity({ what: "weight", asked: 7, most: 5 })
  const tokens = new RateLimiter.InsufficientCapacity({ what: "tokens", asked: 7, most: 5 })
  const codec = new SharedReducer.CodecError({ operation: "encode", cause: "not a number" })
  return {
    "rate limit exceeded for \"ada\": 0 of 5 left, retry after 3s": exceeded,
    "the queue is full: 100 of at most 100 jobs wait": full,
    "weight 7 exceeds the concurrency of 5": weight,
    "7 tokens exceed the burst of 5": tokens,
    "store command `take` failed: gone": store,
    "the result cannot be encoded: not a number": codec,
    "app/Mail: rate limit exceeded for \"ada\": 0 of 5 left, retry after 3s": new RateLimiter.RateLimiterError({
      limiter: "app/Mail",
      reason: exceeded
    }),
    "app/GitHub: the queue is full: 100 of at most 100 jobs wait": new Scheduler.SchedulerError({
      scheduler: "app/GitHub",
      reason: full
    })
  }
}

describe("an error that answers a call", () => {
  for (const [message, error] of Object.entries(errors())) {
    const line = `${error._tag}: ${message}`

    it(`holds no stack and has a message (${line})`, () => {
      expect(error.stack).toBe(line)
      expect(error.message).toBe(message)
      expect(String(error)).toBe(line)
      expect(error.name).toBe(error._tag)
      for (const cause of [Cause.fail(error), Cause.die(error)]) {
        const text = Cause.pretty(cause)
        expect(text.startsWith(line)).toBe(true)
        expect(text).not.toMatch(/undefined|^ +at /m)
      }
    })

    it(`is an Error, for instanceof and for the engine (${error._tag})`, () => {
      expect(error).toBeInstanceOf(Error)
      expect(types.isNativeError(error)).toBe(true)
      expect(structuredClone(error)).toMatchObject({ stack: line })
    })

    it(`shows its fields when printed or encoded (${error._tag})`, () => {
      const fields = JSON.parse(JSON.stringify(error))
      expect(Object.keys(fields)).toEqual(expect.arrayContaining(["_tag", ...Object.keys(error)]))
      expect(inspect(error)).toContain(`_tag: '${error._tag}'`)
    })

    it(`equals only an error with equal fields (${error._tag})`, () => {
      expect(Equal.equals(error, errors()[message])).toBe(true)
      for (const [other, that] of Object.entries(errors())) expect(Equal.equals(error, that)).toBe(message === other)
    })

    it.effect(`can be yielded (${error._tag})`, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Effect.gen(function*() {
          return yield* error
        }))
        expect(exit).toStrictEqual(Exit.fail(error))
      }))
  }

  it("does not change the stacks of other errors", () => {
    const limit = Error.stackTraceLimit
    errors()
    const hostile = {
      maxQueued: 1,
      get queued(): number {
        throw new Error("no")
      }
    }
    expect(() => new Scheduler.QueueFull(hostile)).toThrow("no")
    expect(Error.stackTraceLimit).toBe(limit)
    expect(new Error("other").stack).toContain("refusals.test")
  })

  it("works with a frozen Error", async () => {
    const property = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")!
    Object.defineProperty(Error, "stackTraceLimit", { ...property, writable: false })
    try {
      vi.resetModules()
      const { QueueFull } = await import("../src/internal/scheduler/error.js")
      expect(QueueFull).not.toBe(Scheduler.QueueFull)
      expect(new QueueFull({ queued: 1, maxQueued: 1 }).message).toContain("1 jobs wait")
    } finally {
      Object.defineProperty(Error, "stackTraceLimit", property)
    }
  })

  it("works where Error has no stackTraceLimit, and leaves none", async () => {
    const property = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")!
    delete (Error as { stackTraceLimit?: number }).stackTraceLimit
    try {
      vi.resetModules()
      const { QueueFull } = await import("../src/internal/scheduler/error.js")
      expect(new QueueFull({ queued: 1, maxQueued: 1 }).message).toContain("1 jobs wait")
      expect(Error.stackTraceLimit).toBeUndefined()
    } finally {
      Object.defineProperty(Error, "stackTraceLimit", property)
    }
  })

  it.effect("shows the span in which the call was refused", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make(none)
      yield* limiter.consume()
      const refused = Effect.withSpan(limiter.consume({ onExceeded: "fail" }), "login")
      const text = Cause.pretty(yield* Effect.flip(Effect.sandbox(refused)))
      expect(text.split("\n")[0]).toMatch(/^RateLimiterError: effect-funnel\/RateLimiter: rate limit exceeded/)
      expect(text).toContain("at login")
    }))
})

describe("an error names the service that refused", () => {
  class Mail extends RateLimiter.Service<Mail>()("app/Mail", none) {}
  class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 1 }) {}
  class Hosts extends Scheduler.Keyed<Hosts>()("app/Hosts", {
    lookup: (host: string) => host === "named" ? { concurrency: 1, name: `app/Hosts ${host}` } : { concurrency: 1 }
  }) {}
  const heavy = { weight: 2 }

  it.effect("names a limiter by the id of its tag, or by its name", () =>
    Effect.gen(function*() {
      const limiterOf = <R>(consume: RateLimiter.Operations<R>["consume"]) =>
        Effect.map(Effect.flip(consume({ tokens: 2 })), (error) => error.limiter)
      expect(yield* Effect.provide(limiterOf(Mail.consume), Mail.layer)).toBe("app/Mail")
      expect(yield* Effect.provide(limiterOf(RateLimiter.consume), RateLimiter.layer(none)))
        .toBe("effect-funnel/RateLimiter")
      expect(yield* Effect.provide(limiterOf(RateLimiter.consume), RateLimiter.layer(none, { name: "outgoing" })))
        .toBe("outgoing")
      expect(yield* limiterOf((yield* RateLimiter.make(none)).consume)).toBe("effect-funnel/RateLimiter")
      expect(yield* limiterOf((yield* RateLimiter.make(none, { name: "app/Own" })).consume)).toBe("app/Own")
    }))

  it.effect("names a scheduler by the id of its tag, or by its name", () =>
    Effect.gen(function*() {
      const schedulerOf = <R>(job: Effect.Effect<void, Scheduler.SchedulerError, R>) =>
        Effect.map(Effect.flip(job), (error) => error.scheduler)
      const job = Scheduler.schedule(Effect.void, heavy)
      expect(yield* Effect.provide(schedulerOf(GitHub.schedule(Effect.void, heavy)), GitHub.layer)).toBe("app/GitHub")
      expect(yield* Effect.provide(schedulerOf(job), Scheduler.layer({ concurrency: 1 })))
        .toBe("effect-funnel/Scheduler")
      expect(yield* Effect.provide(schedulerOf(job), Scheduler.layer({ concurrency: 1, name: "disk" })))
        .toBe("disk")
      expect(yield* schedulerOf((yield* Scheduler.make({ concurrency: 1 })).schedule(Effect.void, heavy))).toBe(
        "effect-funnel/Scheduler"
      )
      expect(
        yield* schedulerOf((yield* Scheduler.make({ concurrency: 1, name: "app/Own" })).schedule(Effect.void, heavy))
      ).toBe("app/Own")
    }))

  it.effect("names a keyed scheduler by the id of its tag without the key, unless the look-up names it", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Hosts.schedule("secret.example", Effect.void, heavy))
      expect(error.scheduler).toBe("app/Hosts")
      expect(JSON.stringify(error) + error.message + inspect(error)).not.toContain("secret")
      expect((yield* Effect.flip(Hosts.schedule("named", Effect.void, heavy))).scheduler).toBe("app/Hosts named")
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("names the service if the refused call is one of many, or waits", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2, name: "app/Own" })
      const each = yield* Effect.flip(scheduler.forEach([1], () => Effect.void, { weight: 3 }))
      expect(each.message).toBe("app/Own: weight 3 exceeds the concurrency of 2")
      yield* scheduler.pause
      const waiting = yield* fork(Effect.flip(scheduler.schedule(Effect.void, heavy)))
      yield* scheduler.resize(1)
      expect((yield* Fiber.join(waiting)).message).toBe("app/Own: weight 2 exceeds the concurrency of 1")
    }))

  it.effect("uses one class for a reason of both services", () =>
    Effect.gen(function*() {
      expect(Scheduler.InsufficientCapacity).toBe(RateLimiter.InsufficientCapacity)
      expect(Scheduler.StoreError).toBe(RateLimiter.StoreError)
      expect(SharedReducer.StoreError).toBe(RateLimiter.StoreError)
      const limits = Layer.merge(RateLimiter.layer(none), Scheduler.layer({ concurrency: 2, rate: none }))
      const asked = (reason: Scheduler.InsufficientCapacity) => Effect.succeed([reason.what, reason.asked, reason.most])
      const both = Effect.all([
        RateLimiter.consume({ tokens: 2 }).pipe(
          Effect.catchReason("RateLimiterError", "InsufficientCapacity", asked)
        ),
        Scheduler.schedule(Effect.void, { tokens: 3 }).pipe(
          Effect.catchReason("SchedulerError", "InsufficientCapacity", asked)
        )
      ])
      expect(yield* Effect.provide(both, limits)).toEqual([["tokens", 2, 1], ["tokens", 3, 1]])
    }))
})
