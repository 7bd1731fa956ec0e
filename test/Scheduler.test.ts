import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  type Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  References,
  Request,
  Scope,
  Stream,
  Tracer
} from "effect"
import { Batcher, RateLimiter, Scheduler } from "effect-funnel"
import { MixedScheduler } from "effect/Scheduler"
import { TestClock } from "effect/testing"
import { piecesPerTurn } from "../src/internal/data/slices.js"
import { engineOf } from "../src/internal/scheduler/handle.js"
import { fork, settle } from "./support/fibers.ts"
import { ManualClock } from "./support/manualClock.js"
import { simulate } from "./support/simulation.ts"

/** A job that says when it starts and ends when it is told to. */
const gated = (started: Array<unknown>, name: unknown) => {
  const latch = Latch.makeUnsafe()
  return { open: latch.open, effect: Effect.andThen(Effect.sync(() => started.push(name)), latch.await) }
}

/** When each job started, in milliseconds of the test's clock. */
const startTimes = () => {
  const times: Array<number> = []
  return { times, job: Effect.map(Clock.currentTimeMillis, (now) => void times.push(now)) }
}

const reasonOf = <A, E, R>(effect: Effect.Effect<A, E | Scheduler.SchedulerError, R>) =>
  Effect.flip(effect).pipe(
    Effect.map((error) => error instanceof Scheduler.SchedulerError ? error.reason : undefined)
  )

const atRest = { running: 0, weight: 0, queued: 0, paused: false }

const clockedBy = (step: Duration.Input, times: number) => Effect.repeat(TestClock.adjust(step), { times: times - 1 })

describe("The handle of a scheduler", () => {
  it.effect("is recognized, works in a pipe, and has its name and stats as JSON", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2, name: "printer" })
      expect([scheduler, { ...Scheduler }, undefined].map(Scheduler.isScheduler)).toEqual([true, false, false])
      expect(scheduler.pipe((_) => _ === scheduler)).toBe(true)
      const json = { _id: "effect-funnel/Scheduler", name: "printer", concurrency: 2, ...atRest }
      expect(JSON.parse(JSON.stringify(scheduler))).toMatchObject(json)
      yield* scheduler.pause
      expect(scheduler.toJSON()).toMatchObject({ ...json, paused: true })
    }))
})

describe("Scheduler.schedule", () => {
  it.effect("S1 never more than the concurrency runs, and a job that ends makes room in the same step", () =>
    Effect.gen(function*() {
      for (const concurrency of [1, 2, 5, 10, 20]) {
        const scheduler = yield* Scheduler.make({ concurrency })
        let running = 0
        let most = 0
        const job = Effect.gen(function*() {
          most = Math.max(most, ++running)
          yield* Effect.yieldNow
          running--
        })
        yield* Effect.forEach(Array.from({ length: 30 }), () => scheduler.schedule(job), { concurrency: "unbounded" })
        expect(most).toBe(concurrency)
        expect(yield* scheduler.stats).toMatchObject({ ...atRest, concurrency })
      }
    }))

  it.effect("S1 weights add up", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 5 })
      const started: Array<unknown> = []
      const a = gated(started, "a")
      const b = gated(started, "b")
      yield* fork(scheduler.schedule(a.effect, { weight: 3 }))
      yield* fork(scheduler.schedule(b.effect, { weight: 2 }))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("c"))))
      expect(started).toEqual(["a", "b"])
      expect(yield* scheduler.stats).toMatchObject({ concurrency: 5, running: 2, weight: 5, queued: 1, paused: false })
      yield* a.open
      yield* settle
      expect(started).toEqual(["a", "b", "c"])
    }))

  it.effect("S1 the result, the failure and the defect are the effect's, and each gives the permit back", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      expect(yield* scheduler.schedule(Effect.succeed(1))).toBe(1)
      expect(yield* Effect.flip(scheduler.schedule(Effect.fail("no")))).toBe("no")
      expect(yield* Effect.exit(scheduler.schedule(Effect.die("defect")))).toEqual(Exit.die("defect"))
      const thrown = yield* Effect.exit(scheduler.schedule(Effect.sync(() => {
        throw "thrown"
      })))
      expect(thrown).toEqual(Exit.die("thrown"))
      expect(Exit.hasInterrupts(yield* Effect.exit(scheduler.schedule(Effect.interrupt)))).toBe(true)
      expect(yield* scheduler.stats).toMatchObject({ ...atRest, concurrency: 1 })
    }))

  it.effect("S1 the effect runs in the fiber of its caller, with its services, references and parent span", () =>
    Effect.gen(function*() {
      class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const probe = Effect.gen(function*() {
        return [
          (yield* Effect.fiber).id,
          yield* Tenant,
          yield* References.MinimumLogLevel,
          (yield* Effect.currentParentSpan)._tag
        ] as const
      })
      const waiting = yield* fork(
        Effect.all([Effect.map(Effect.fiber, (_) => _.id), scheduler.schedule(probe), Effect.fiberId]).pipe(
          Effect.provideService(Tenant, "acme"),
          Effect.provideService(References.MinimumLogLevel, "Fatal"),
          Effect.withParentSpan(Tracer.externalSpan({ spanId: "1", traceId: "2" }))
        )
      )
      yield* blocker.open
      const [id, seen, after] = yield* Fiber.join(waiting)
      expect(seen).toEqual([id, "acme", "Fatal", "ExternalSpan"])
      expect(after).toBe(id)
    }))

  it.effect("S1 after the job the context of the fiber is as it was before", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const before = yield* Effect.context<never>()
      yield* scheduler.schedule(Effect.void)
      yield* Effect.exit(scheduler.schedule(Effect.fail("no")))
      expect(yield* Effect.context<never>()).toBe(before)
    }))

  it.effect("S1 an effect value runs as often as it is run, each time as a job of its own", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      let runs = 0
      const job = scheduler.schedule(Effect.sync(() => ++runs))
      expect(yield* Effect.all([job, job, job], { concurrency: "unbounded" })).toEqual([1, 2, 3])
    }))

  it.effect("S2 a larger priority goes first, and within one the first to come", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      yield* scheduler.pause
      for (const [name, priority] of [["a", 0], ["b", -1.5], ["c", 10], ["d", 0], ["e", 10]] as const) {
        yield* fork(scheduler.schedule(Effect.sync(() => started.push(name)), { priority }))
      }
      yield* scheduler.resume
      yield* scheduler.awaitIdle
      expect(started).toEqual(["c", "e", "a", "d", "b"])
    }))

  it.effect("S2 no job overtakes a heavy head", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const started: Array<unknown> = []
      const blocker = gated(started, "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("heavy")), { weight: 2 }))
      for (let i = 0; i < 100; i++) yield* fork(scheduler.schedule(Effect.sync(() => started.push(i))))
      yield* settle
      expect(started).toEqual(["blocker"])
      yield* blocker.open
      yield* scheduler.awaitIdle
      expect(started).toEqual(["blocker", "heavy", ...Array.from({ length: 100 }, (_, i) => i)])
    }))

  it.effect("S3 interrupted in the queue a job never runs, returns at once and costs no width", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      const blocker = gated(started, "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const fibers = yield* Effect.forEach(
        ["a", "b", "c"],
        (name) => fork(scheduler.schedule(Effect.sync(() => started.push(name))))
      )
      yield* Fiber.interrupt(fibers[1]!)
      expect((yield* scheduler.stats).queued).toBe(2)
      yield* Fiber.interrupt(fibers[0]!)
      yield* blocker.open
      yield* scheduler.awaitIdle
      expect(started).toEqual(["blocker", "c"])
      expect(yield* scheduler.stats).toMatchObject({ ...atRest, concurrency: 1 })
    }))

  it.effect("S3 a heavy head that is interrupted lets those behind it start in the same step", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const started: Array<unknown> = []
      const blocker = gated(started, "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const heavy = yield* fork(scheduler.schedule(Effect.void, { weight: 2 }))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("light"))))
      heavy.interruptUnsafe()
      expect(started).toEqual(["blocker", "light"])
    }))

  it.effect("S3 interrupted while it runs its permit comes back when its finalizers are done", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      const finalizer = gated(started, "finalizer")
      const running = yield* fork(scheduler.schedule(Effect.onInterrupt(Effect.never, () => finalizer.effect)))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("next"))))
      running.interruptUnsafe()
      yield* settle
      expect(started).toEqual(["finalizer"])
      yield* finalizer.open
      yield* settle
      expect(started).toEqual(["finalizer", "next"])
    }))

  it.effect("S3 a job that waits where it cannot be interrupted starts all the same", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const waiting = yield* fork(Effect.uninterruptible(scheduler.schedule(Effect.succeed("ran"))))
      waiting.interruptUnsafe()
      yield* settle
      expect(waiting.pollUnsafe()).toBeUndefined()
      yield* blocker.open
      yield* settle
      expect((yield* scheduler.stats).running).toBe(0)
      expect(waiting.pollUnsafe()).toBeDefined()
    }))

  it.effect(
    "S4 100,000 jobs that wait are all started, interrupted in any order or not, without deepening the stack",
    () =>
      Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 1 })
        let ran = 0
        const job = Effect.sync(() => {
          ran++
        })
        yield* scheduler.pause
        const fibers: Array<Fiber.Fiber<void, Scheduler.SchedulerError>> = []
        for (let i = 0; i < 100_000; i++) fibers.push(yield* fork(scheduler.schedule(job, { priority: i % 7 })))
        for (let i = 0; i < 100_000; i += 2) fibers[(i * 7_919) % 100_000]!.interruptUnsafe()
        expect((yield* scheduler.stats).queued).toBe(50_000)
        yield* scheduler.resume
        yield* scheduler.awaitIdle
        expect(ran).toBe(50_000)
      }),
    60_000
  )

  it.effect("S4 a queue of synchronous jobs lets other fibers have their turn", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      let ran = 0
      yield* scheduler.pause
      for (let i = 0; i < 10_000; i++) yield* fork(scheduler.schedule(Effect.sync(() => ran++)))
      yield* scheduler.resume
      yield* Effect.yieldNow
      expect(ran).toBeGreaterThan(0)
      expect(ran).toBeLessThan(10_000)
      yield* scheduler.awaitIdle
      expect(ran).toBe(10_000)
    }))
})

describe("Scheduler: rate", () => {
  const at = (scheduler: Scheduler.Scheduler, count: number, options?: Scheduler.ScheduleOptions) => {
    const { job, times } = startTimes()
    return Effect.as(
      Effect.repeat(fork(scheduler.schedule(job, options)), { times: count - 1 }),
      times
    )
  }

  it.effect("S1 starts are spaced by the rate, the first at once", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 5, window: "1 second" } })
      const times = yield* at(scheduler, 5)
      yield* TestClock.adjust("2 seconds")
      expect(times).toEqual([0, 200, 400, 600, 800])
    }))

  it.effect("S1 of width and rate, the scarcer one sets the pace", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2, rate: { limit: 20, window: "1 second" } })
      const starts: Array<number> = []
      const job = Effect.flatMap(Clock.currentTimeMillis, (now) => {
        starts.push(now)
        return Effect.sleep("300 millis")
      })
      yield* Effect.repeat(fork(scheduler.schedule(job)), { times: 5 })
      yield* clockedBy("10 millis", 100)
      expect(starts).toEqual([0, 50, 300, 350, 600, 650])
    }))

  it.effect("S1 while no permit is free the rate is not taken: a slot that passes meanwhile is lost", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 10, window: "1 second" } })
      const starts: Array<unknown> = []
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const { job, times } = startTimes()
      yield* fork(scheduler.schedule(Effect.andThen(job, Effect.sleep("10 millis"))))
      yield* fork(scheduler.schedule(job))
      yield* TestClock.adjust("1 second")
      expect(times).toEqual([])
      yield* blocker.open
      yield* settle
      yield* clockedBy("10 millis", 50)
      // One at once, for its cell is long due; the next at the full interval, for none was saved up.
      expect(times).toEqual([1_000, 1_100])
      expect(starts).toEqual([])
    }))

  it.effect("S1 no permit idles while its job waits for the rate: another scheduler of the same limiter may start", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 10, window: "1 second" } })
      yield* scheduler.schedule(Effect.void)
      yield* fork(scheduler.schedule(Effect.void))
      expect(yield* scheduler.stats).toMatchObject({ concurrency: 1, running: 0, weight: 0, queued: 1, paused: false })
      // Free of charge for the rate, it would start were it the head: it waits behind the head and holds nothing either.
      yield* fork(scheduler.schedule(Effect.void, { tokens: 0 }))
      expect(yield* scheduler.stats).toMatchObject({ concurrency: 1, running: 0, weight: 0, queued: 2, paused: false })
    }))

  it.effect("S1 a late timer makes up for slots that had a waiter and free permits, at most 50 ms of them", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const scheduler = yield* Effect.provideService(
        Scheduler.make({ concurrency: 100, rate: { limit: 100, window: "1 second" } }),
        Clock.Clock,
        clock
      )
      let starts = 0
      const job = Effect.sync(() => {
        starts++
      })
      yield* Effect.repeat(fork(scheduler.schedule(job)), { times: 39 })
      expect(starts).toBe(1)
      clock.block(25)
      clock.fire()
      // Two cells had come, at 10 and at 20.
      expect(starts).toBe(3)
      clock.block(175)
      clock.fire()
      // Twenty had come since, and five of them are made up, with the one that is due.
      expect(starts).toBe(9)
    }))

  it.effect("S1 lateness is made up from the arrival of the job in front, not from that of the job before it", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const scheduler = yield* Effect.provideService(
        Scheduler.make({ concurrency: 100, rate: { limit: 100, window: "1 second" } }),
        Clock.Clock,
        clock
      )
      let starts = 0
      const job = Effect.sync(() => {
        starts++
      })
      yield* scheduler.schedule(job)
      const early = yield* fork(scheduler.schedule(job))
      clock.block(40)
      yield* Effect.repeat(fork(scheduler.schedule(job)), { times: 4 })
      yield* Fiber.interrupt(early)
      clock.fire()
      expect(starts).toBe(2)
    }))

  it.effect("S1 strict: a window counts from the beginning of a job, not from its grant", () =>
    Effect.gen(function*() {
      for (const way of ["schedule", "forEach"] as const) {
        const clock = new ManualClock()
        const scheduler = yield* Effect.provideService(
          Scheduler.make({ concurrency: "unbounded", rate: { limit: 3, window: "1 second", burst: 3, strict: true } }),
          Clock.Clock,
          clock
        )
        const starts: Array<number> = []
        const job = Effect.sync(() => {
          starts.push(clock.now / 1e6)
        })
        // Every step of a fiber takes a while until it is warm, up to the job itself.
        const slow = Tracer.make({
          span: (options) => new Tracer.NativeSpan(options),
          context: (primitive, fiber) => {
            if (Object.is(primitive, job) === false && starts.length === 0) clock.block(1)
            return primitive["~effect/Effect/evaluate"](fiber)
          }
        })
        const six = [0, 1, 2, 3, 4, 5]
        yield* (way === "schedule"
          ? Effect.forEach(six, () => scheduler.schedule(job), { concurrency: "unbounded" })
          : scheduler.forEach(six, () => {
            if (starts.length === 0) clock.block(20)
            return job
          })).pipe(
            Effect.withTracer(slow),
            fork
          )
        clock.advance(5_000)
        expect(starts.length).toBe(6)
        expect(starts[0]).toBeGreaterThan(0)
        for (let i = 0; i < 3; i++) expect(starts[i + 3]! - starts[i]!).toBeGreaterThanOrEqual(1_000)
      }
    }))

  it.effect("S1 strict: a window counts from the request of a batch, not from its admission", () =>
    Effect.gen(function*() {
      class Get extends Request.Class<{ readonly id: number }, number> {}
      const clock = new ManualClock()
      const starts: Array<number> = []
      const slow = Tracer.make({
        span: (options) => new Tracer.NativeSpan(options),
        context: (primitive, fiber) => {
          if (starts.length === 0) clock.block(1)
          return primitive["~effect/Effect/evaluate"](fiber)
        }
      })
      const rate = { limit: 1, window: "1 second", strict: true } as const
      // `settle` asks the clock.
      const turns = Effect.forEach(Array.from({ length: 40 }), () => Effect.yieldNow, { discard: true })
      yield* Effect.gen(function*() {
        const resolver = yield* Batcher.ordered(Get, {
          maxBatchSize: 1,
          execute: (requests) => {
            starts.push(clock.now / 1e6)
            return Effect.succeed(requests.map((_) => _.id))
          }
        })
        yield* fork(Effect.forEach([1, 2, 3], (id) => Effect.request(new Get({ id }), resolver), {
          concurrency: "unbounded"
        }))
        yield* turns
        clock.advance(5_000)
        yield* turns
      }).pipe(
        Effect.withTracer(slow),
        Effect.provide(
          Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
            Layer.provideMerge(Scheduler.layer({ concurrency: 10, rate }))
          )
        ),
        Effect.provideService(Clock.Clock, clock)
      )
      expect(starts.length).toBe(3)
      expect(starts[1]! - starts[0]!).toBeGreaterThanOrEqual(1_000)
      expect(starts[2]! - starts[1]!).toBeGreaterThanOrEqual(1_000)
    }))

  it.effect("S2 a head with other tokens keeps its scheduler's place in a shared limiter", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second", burst: 2 }) {}
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* Effect.gen(function*() {
        const one = yield* Scheduler.make({ concurrency: 10, rate: Api })
        const two = yield* Scheduler.make({ concurrency: 10, rate: Api })
        yield* one.schedule(Effect.void, { tokens: 2 })
        yield* fork(one.schedule(named("one")))
        yield* fork(two.schedule(named("two")))
        yield* fork(one.schedule(named("dear"), { tokens: 2, priority: 1 }))
        yield* TestClock.adjust("1 second")
      }).pipe(Effect.provide(Api.layer))
      expect(started).toEqual([["dear", 200], ["two", 300], ["one", 400]])
    }))

  it.effect("L3 a head with other tokens does not pass the callers that came to the shared limiter before its scheduler", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second", burst: 2 }) {}
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 10, rate: Api })
        yield* Api.consume({ tokens: 2 })
        yield* fork(Api.withLimit(named("direct")))
        yield* fork(scheduler.schedule(named("cheap")))
        yield* fork(Api.withLimit(named("later")))
        yield* fork(scheduler.schedule(named("dear"), { tokens: 2, priority: 1 }))
        yield* TestClock.adjust("1 second")
      }).pipe(Effect.provide(Api.layer))
      expect(started).toEqual([["direct", 100], ["dear", 300], ["later", 400], ["cheap", 500]])
    }))

  it.effect("S2 a job that is refused behind the head leaves the scheduler its place in a shared limiter", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 1, window: "1 second" }) {}
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* Effect.gen(function*() {
        const one = yield* Scheduler.make({ concurrency: 10, rate: Api })
        const two = yield* Scheduler.make({ concurrency: 10, rate: Api })
        yield* one.schedule(Effect.void)
        yield* fork(one.schedule(named("one")))
        yield* fork(two.schedule(named("two")))
        const free = yield* fork(reasonOf(one.schedule(Effect.void, { weight: 9, tokens: 0, maxWait: 500 })))
        yield* TestClock.adjust("2 seconds")
        expect((yield* Fiber.join(free))?._tag).toBe("WaitExceeded")
      }).pipe(Effect.provide(Api.layer))
      expect(started).toEqual([["one", 1000], ["two", 2000]])
    }))

  it.effect("S2 the claim on the rate is for the job that is in front when it is due", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 10, window: "1 second" } })
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* scheduler.schedule(Effect.void)
      yield* fork(scheduler.schedule(named("first")))
      yield* TestClock.adjust("90 millis")
      yield* fork(scheduler.schedule(named("urgent"), { priority: 1 }))
      yield* TestClock.adjust("110 millis")
      expect(started).toEqual([["urgent", 100], ["first", 200]])
    }))

  it.effect("S2 a head with other tokens waits for them, and no job overtakes it", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 10, window: "1 second", burst: 3 } })
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* scheduler.schedule(Effect.void, { tokens: 3 })
      yield* fork(scheduler.schedule(named("one")))
      yield* fork(scheduler.schedule(named("three"), { tokens: 3, priority: 1 }))
      yield* TestClock.adjust("299 millis")
      expect(started).toEqual([])
      yield* TestClock.adjust("201 millis")
      expect(started).toEqual([["three", 300], ["one", 400]])
    }))

  it.effect("S3 a job that is interrupted in the queue costs no rate: the jobs behind it start as if it had never come", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 5, window: "1 second" } })
      const { job, times } = startTimes()
      yield* fork(scheduler.schedule(job))
      const gone = yield* fork(scheduler.schedule(job))
      yield* fork(scheduler.schedule(job))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust("1 second")
      expect(times).toEqual([0, 200])
    }))

  it.effect("S3 interrupted while it runs a job has spent its cell", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 5, window: "1 second" } })
      const { job, times } = startTimes()
      const running = yield* fork(scheduler.schedule(Effect.never))
      yield* fork(scheduler.schedule(job))
      yield* Fiber.interrupt(running)
      yield* TestClock.adjust("1 second")
      expect(times).toEqual([200])
    }))

  it.effect("S3 when the last waiting job leaves, the limiter is as if no job had waited", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: { limit: 5, window: "1 second" } })
      yield* scheduler.schedule(Effect.void)
      const gone = yield* fork(scheduler.schedule(Effect.void))
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust("200 millis")
      const { job, times } = startTimes()
      yield* fork(scheduler.schedule(job))
      expect(times).toEqual([200])
    }))

  it.effect("S5 jobs inside a job take the rate ahead of the queue", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 5, rate: { limit: 10, window: "1 second" } })
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* fork(scheduler.schedule(Effect.andThen(Effect.sleep("50 millis"), scheduler.schedule(named("inside")))))
      yield* fork(scheduler.schedule(named("queue 1")))
      yield* fork(scheduler.schedule(named("queue 2"), { priority: 9 }))
      yield* TestClock.adjust("50 millis")
      yield* TestClock.adjust("1 second")
      expect(started).toEqual([["inside", 100], ["queue 2", 200], ["queue 1", 300]])
    }))

  it.effect("S5 of several jobs with jobs inside that wait for the rate, each has its turn", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 8, rate: { limit: 10, window: "1 second" } })
      const started: Array<unknown> = []
      const both = Latch.makeUnsafe()
      const outer = (name: string) =>
        scheduler.schedule(
          Effect.andThen(
            both.await,
            Effect.forEach(
              [1, 2, 3],
              (n) => scheduler.schedule(Effect.sync(() => started.push(name + n))),
              { concurrency: "unbounded" }
            )
          ),
          { weight: 3, tokens: 0 }
        )
      yield* fork(outer("a"))
      yield* fork(outer("b"))
      yield* both.open
      yield* TestClock.adjust("1 second")
      expect(started).toEqual(["a1", "a2", "b1", "a3", "b2", "b3"])
    }))

  it.effect("S5 an inner job with other tokens goes ahead too, and gives way when it is interrupted", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 5, rate: { limit: 10, window: "1 second", burst: 2 } })
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      const entered = yield* Deferred.make<void>()
      const outer = yield* fork(scheduler.schedule(
        Effect.andThen(Deferred.await(entered), scheduler.schedule(named("inside"), { tokens: 2 }))
      ))
      yield* scheduler.schedule(Effect.void)
      yield* fork(scheduler.schedule(named("queue")))
      yield* Deferred.succeed(entered, undefined)
      yield* settle
      yield* TestClock.adjust("100 millis")
      expect(started).toEqual([])
      yield* Fiber.interrupt(outer)
      expect(started).toEqual([["queue", 100]])
    }))

  it.effect("S1 paused, no cell is spent; resumed, the pace goes on from there", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 10, window: "1 second" } })
      const times = yield* at(scheduler, 4)
      yield* TestClock.adjust("100 millis")
      yield* scheduler.pause
      yield* TestClock.adjust("950 millis")
      expect(times).toEqual([0, 100])
      yield* scheduler.resume
      yield* TestClock.adjust("1 second")
      expect(times).toEqual([0, 100, 1_050, 1_150])
    }))

  it.effect("S1 a job that pauses its scheduler, and lets its rate come in the same step, starts nobody and wastes no cell", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 1, window: "1 hour" }) {}
      yield* Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 2, rate: Api })
        const free = scheduler.schedule({ tokens: 0 })
        const [inner, go] = [Latch.makeUnsafe(), Latch.makeUnsafe()]
        yield* scheduler.schedule(Effect.void)
        const outer = yield* fork(free(Effect.gen(function*() {
          yield* fork(free(inner.await))
          yield* go.await
          // It starts in the step of the scheduler in which the inner job ends.
          yield* free(Effect.andThen(scheduler.pause, Api.reset()))
        })))
        const next = yield* fork(scheduler.schedule(Effect.void))
        yield* go.open
        yield* settle
        yield* inner.open
        yield* settle
        expect(outer.pollUnsafe()).toEqual(Exit.void)
        expect(yield* scheduler.stats).toMatchObject({ running: 0, queued: 1, waitingFor: "pause" })
        yield* scheduler.resume
        expect(next.pollUnsafe()).toEqual(Exit.void)
      }).pipe(Effect.provide(Api.layer))
    }))

  it.effect("S1 setRate holds for waiting jobs, and consumed tokens stay consumed", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 1, window: "1 second" } })
      const times = yield* at(scheduler, 4)
      yield* TestClock.adjust("100 millis")
      yield* scheduler.setRate({ limit: 10, window: "1 second" })
      yield* TestClock.adjust("2 seconds")
      expect(times.length).toBe(4)
      expect(times[0]).toBe(0)
      expect(times[1]).toBeGreaterThanOrEqual(100)
      expect(times[2]! - times[1]!).toBe(100)
      expect(times[3]! - times[2]!).toBe(100)
    }))

  it.effect("S1 setRate again and again starts nothing early", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 10, rate: { limit: 1, window: "1 second" } })
      const times = yield* at(scheduler, 4)
      for (let i = 0; i < 100; i++) yield* scheduler.setRate({ limit: 1 + i % 2, window: "1 second" })
      yield* settle
      expect(times).toEqual([0])
    }))

  it.effect("S1 two first setRates that overlap, wherever the first yields, leave one rate", () =>
    Effect.gen(function*() {
      for (let operation = 1; operation <= 12; operation++) {
        const scheduler = yield* Scheduler.make({ concurrency: 10 })
        let seen = 0
        class YieldsOnce extends MixedScheduler {
          override shouldYield(fiber: Fiber.Fiber<unknown, unknown>) {
            return ++seen === operation || super.shouldYield(fiber)
          }
        }
        const setRate = scheduler.setRate({ limit: 1, window: "1 second" })
        const context = yield* Effect.context<never>()
        const first = Effect.runForkWith(context)(setRate, { scheduler: new YieldsOnce() })
        yield* setRate
        const started: Array<number> = []
        for (let i = 0; i < 3; i++) {
          yield* fork(scheduler.schedule(Effect.sync(() => started.push(i))))
        }
        yield* Fiber.join(first)
        yield* TestClock.adjust(1000)
        yield* scheduler.pause
        yield* scheduler.resume
        expect(started).toEqual([0, 1])
        yield* TestClock.adjust(1000)
        yield* scheduler.awaitIdle
        expect(started).toEqual([0, 1, 2])
      }
    }))

  it.effect("S1 setRate gives a pace to a scheduler that had none, also for its waiting jobs", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* TestClock.adjust("1 hour")
      yield* scheduler.pause
      const times = yield* at(scheduler, 3)
      yield* scheduler.setRate({ limit: 1, window: "1 second" })
      yield* scheduler.resume
      yield* clockedBy("1 second", 3)
      expect(times).toEqual([3_600_000, 3_601_000, 3_602_000])
    }))

  it.effect("S1 a first setRate runs on the clock of the scheduler, not on that of its caller", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 3 })
      const setRate = scheduler.setRate({ limit: 1, window: "1 second" })
      yield* Effect.provideService(setRate, Clock.Clock, new ManualClock())
      const { job, times } = startTimes()
      yield* fork(scheduler.forEach([1, 2, 3], () => job))
      yield* TestClock.adjust("2 seconds")
      expect(times).toEqual([0, 1000, 2000])
    }))

  it.effect("S1 several quotas have to conform all at once", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 10,
        rate: [{ limit: 10, window: "1 second" }, { limit: 2, window: "10 seconds", burst: 2 }]
      })
      const times = yield* at(scheduler, 4)
      yield* TestClock.adjust("20 seconds")
      expect(times).toEqual([0, 100, 5_000, 10_000])
    }))

  it.effect("S1 two schedulers that name one RateLimiter start at one pace between them, taking turns", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second" }) {}
      class Reads extends Scheduler.Service<Reads>()("test/Reads", { concurrency: 10, rate: Api }) {}
      class Writes extends Scheduler.Service<Writes>()("test/Writes", { concurrency: 10, rate: Api }) {}
      const started: Array<unknown> = []
      const named = (name: string) => Effect.map(Clock.currentTimeMillis, (now) => void started.push([name, now]))
      yield* Effect.gen(function*() {
        for (let i = 0; i < 3; i++) yield* fork(Reads.schedule(named("read")))
        for (let i = 0; i < 3; i++) yield* fork(Writes.schedule(named("write")))
        yield* TestClock.adjust("1 second")
      }).pipe(Effect.provide(Layer.provide(Layer.mergeAll(Reads.layer, Writes.layer), Api.layer)))
      expect(started).toEqual([
        ["read", 0],
        ["read", 100],
        ["write", 200],
        ["read", 300],
        ["write", 400],
        ["write", 500]
      ])
    }))

  it.effect("S8 a shared limiter's burst that shrinks fails the jobs that can never start", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second", burst: 5 }) {}
      yield* Effect.gen(function*() {
        const one = yield* Scheduler.make({ concurrency: 10, rate: Api })
        const two = yield* Scheduler.make({ concurrency: 10, rate: Api })
        yield* one.schedule(Effect.void, { tokens: 5 })
        const waiting = yield* fork(reasonOf(one.schedule(Effect.void, { tokens: 4 })))
        const behind = yield* fork(one.schedule(Effect.succeed("ran")))
        yield* two.setRate({ limit: 10, window: "1 second", burst: 2 })
        expect(yield* Fiber.join(waiting)).toMatchObject({ what: "tokens", asked: 4, most: 2 })
        yield* TestClock.adjust("1 second")
        expect(yield* Fiber.join(behind)).toBe("ran")
      }).pipe(Effect.provide(Api.layer))
    }))

  it.effect("S1 a RateLimiter that was made elsewhere is refused as a rate with its name", () =>
    Effect.gen(function*() {
      const mock = Layer.mock(RateLimiter.RateLimiter)({ [RateLimiter.TypeId]: RateLimiter.TypeId })
      const exit = yield* Effect.exit(
        Scheduler.make({ concurrency: 1, rate: RateLimiter.RateLimiter }).pipe(Effect.provide(mock))
      )
      expect(String(Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit)).toContain("effect-funnel/RateLimiter")
    }))
})

describe("Scheduler: jobs inside jobs", () => {
  it.effect("S5 a job that schedules another does not wait for its own permit, however deep", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const nest = (depth: number): Effect.Effect<number, Scheduler.SchedulerError> =>
        depth === 0
          ? Effect.succeed(0)
          : Effect.map(scheduler.schedule(Effect.suspend(() => nest(depth - 1))), (n) => n + 1)
      expect(yield* nest(1_000)).toBe(1_000)
      expect(yield* scheduler.stats).toMatchObject({ ...atRest, concurrency: 1 })
    }))

  it.effect("S5 jobs inside run within its weight and in free width, also in fibers that it forked: the rest waits", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 4 })
      let running = 0
      let most = 0
      const job = Effect.gen(function*() {
        most = Math.max(most, ++running)
        yield* Effect.yieldNow
        running--
      })
      yield* scheduler.schedule(
        Effect.forEach([1, 2, 3, 4, 5], () => scheduler.schedule(job), { concurrency: "unbounded" }),
        { weight: 2 }
      )
      expect(most).toBe(4)
    }))

  it.effect("S5 the weight that is lent counts once, so the others keep theirs", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const started: Array<unknown> = []
      const inside = gated(started, "inside")
      yield* fork(scheduler.schedule(scheduler.schedule(inside.effect)))
      expect(yield* scheduler.stats).toMatchObject({ concurrency: 2, running: 2, weight: 1, queued: 0, paused: false })
      yield* scheduler.schedule(Effect.sync(() => started.push("other")))
      expect(started).toEqual(["inside", "other"])
    }))

  it.effect("S5 a detached child does not bypass the limit once the job has ended", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      const go = Latch.makeUnsafe()
      const child = Effect.andThen(go.await, scheduler.schedule(Effect.sync(() => started.push("child"))))
      yield* scheduler.schedule(Effect.forkDetach(child, { startImmediately: true }))
      const blocker = gated(started, "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      yield* go.open
      yield* settle
      expect(started).toEqual(["blocker"])
      yield* blocker.open
      yield* settle
      expect(started).toEqual(["blocker", "child"])
    }))

  it.effect("S5 a detached child that still runs when its job has ended counts for itself", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      const child = gated(started, "child")
      yield* scheduler.schedule(Effect.forkDetach(scheduler.schedule(child.effect), { startImmediately: true }))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("next"))))
      yield* settle
      expect(started).toEqual(["child"])
      expect((yield* scheduler.stats).weight).toBe(1)
      yield* child.open
      yield* scheduler.awaitIdle
      expect(started).toEqual(["child", "next"])
    }))

  it.effect("S5 a detached child that waits when its job ends queues as of when it came", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      const first = gated(started, "first child")
      const job = gated(started, "job")
      yield* fork(scheduler.schedule(Effect.gen(function*() {
        yield* Effect.forkDetach(scheduler.schedule(first.effect), { startImmediately: true })
        yield* Effect.forkDetach(scheduler.schedule(Effect.sync(() => started.push("second child"))), {
          startImmediately: true
        })
        yield* job.effect
      })))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("queue"))))
      yield* job.open
      yield* settle
      expect(started).toEqual(["first child", "job"])
      yield* first.open
      yield* scheduler.awaitIdle
      expect(started).toEqual(["first child", "job", "second child", "queue"])
    }))

  it.effect("S5 after the job, the same fiber schedules like any other", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      const blocker = gated(started, "blocker")
      const gate = Latch.makeUnsafe()
      yield* fork(Effect.gen(function*() {
        yield* scheduler.schedule(Effect.sync(() => started.push("one")))
        yield* gate.await
        yield* scheduler.schedule(Effect.sync(() => started.push("two")))
      }))
      yield* fork(scheduler.schedule(blocker.effect))
      yield* gate.open
      yield* settle
      expect(started).toEqual(["one", "blocker"])
    }))

  it.effect("S5 two schedulers inside each other lend each their own", () =>
    Effect.gen(function*() {
      const a = yield* Scheduler.make({ concurrency: 1 })
      const b = yield* Scheduler.make({ concurrency: 1 })
      const inner = a.schedule(Effect.succeed("through"))
      expect(yield* a.schedule(b.schedule(a.schedule(b.schedule(inner))))).toBe("through")
      expect(yield* a.stats).toMatchObject({ ...atRest, concurrency: 1 })
      expect(yield* b.stats).toMatchObject({ ...atRest, concurrency: 1 })
    }))

  it.effect("S5 paused, jobs inside a job wait as well", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const gate = Latch.makeUnsafe()
      const outer = yield* fork(
        scheduler.schedule(Effect.andThen(gate.await, scheduler.schedule(Effect.succeed("in"))))
      )
      yield* scheduler.pause
      yield* gate.open
      yield* settle
      expect(yield* scheduler.stats).toMatchObject({ concurrency: 1, running: 1, weight: 1, queued: 1, paused: true })
      yield* scheduler.resume
      expect(yield* Fiber.join(outer)).toBe("in")
    }))
})

describe("Scheduler: refusals", () => {
  it.effect("S6 schedule fails with QueueFull when maxQueued jobs wait already, and takes nothing", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxQueued: 2 })
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const waiting = yield* Effect.forEach([1, 2], (n) => fork(scheduler.schedule(Effect.succeed(n))))
      expect(yield* reasonOf(scheduler.schedule(Effect.void))).toMatchObject({
        _tag: "QueueFull",
        queued: 2,
        maxQueued: 2
      })
      yield* Fiber.interrupt(waiting[0]!)
      yield* fork(scheduler.schedule(Effect.void))
      yield* blocker.open
      yield* scheduler.awaitIdle
      expect(yield* scheduler.stats).toMatchObject({ ...atRest, concurrency: 1 })
    }))

  it.effect("S6 with maxQueued 0 a job that cannot start at once is refused, for width and for rate", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 1,
        maxQueued: 0,
        rate: { limit: 1, window: "1 second" }
      })
      yield* scheduler.schedule(Effect.void)
      expect(yield* reasonOf(scheduler.schedule(Effect.void))).toMatchObject({
        _tag: "QueueFull",
        queued: 0,
        maxQueued: 0
      })
      yield* TestClock.adjust("1 second")
      expect(yield* scheduler.schedule(Effect.succeed("later"))).toBe("later")
    }))

  it.effect("S6 a reason is caught by its name", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, maxQueued: 0 })
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const answer = yield* scheduler.schedule(Effect.succeed("ran")).pipe(
        Effect.catchReason("SchedulerError", "QueueFull", (reason) => Effect.succeed(reason.message))
      )
      expect(answer).toBe("the queue is full: 0 of at most 0 jobs wait")
    }))

  it.effect("S8 weight beyond the concurrency and tokens beyond the burst fail at once, naming the request and the most", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 2,
        rate: [{ limit: 10, window: "1 second", burst: 4 }, { limit: 10, window: "1 second", burst: 3 }]
      })
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect, { weight: 2 }))
      expect(yield* reasonOf(scheduler.schedule(Effect.void, { weight: 3 }))).toMatchObject({
        _tag: "InsufficientCapacity",
        what: "weight",
        asked: 3,
        most: 2
      })
      expect(yield* reasonOf(scheduler.schedule(Effect.void, { tokens: 4 }))).toMatchObject({
        _tag: "InsufficientCapacity",
        what: "tokens",
        asked: 4,
        most: 3
      })
    }))

  it.effect("S8 resize below the running weight interrupts no job, and no job starts until enough have ended", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 3 })
      const started: Array<unknown> = []
      const jobs = ["a", "b", "c"].map((name) => gated(started, name))
      const fibers = yield* Effect.forEach(jobs, (job) => fork(scheduler.schedule(job.effect)))
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("d"))))
      yield* scheduler.resize(1)
      yield* jobs[0]!.open
      yield* jobs[1]!.open
      yield* settle
      expect(fibers[2]!.pollUnsafe()).toBeUndefined()
      expect(started).toEqual(["a", "b", "c"])
      yield* jobs[2]!.open
      yield* settle
      expect(started).toEqual(["a", "b", "c", "d"])
    }))

  it.effect("S8 resize to more starts at once the jobs that fit, and unbounded starts all", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const started: Array<unknown> = []
      for (let i = 0; i < 6; i++) yield* fork(scheduler.schedule(gated(started, i).effect))
      yield* scheduler.resize(3)
      expect(started).toEqual([0, 1, 2])
      yield* scheduler.resize("unbounded")
      expect(started).toEqual([0, 1, 2, 3, 4, 5])
      expect((yield* scheduler.stats).concurrency).toBe(Infinity)
    }))

  it.effect("S8 a resize or a setRate that makes a waiting job impossible fails it, and those behind it go on", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({
        concurrency: 3,
        rate: { limit: 1000, window: "1 second", burst: 1000 }
      })
      const blocker = gated([], "blocker")
      yield* fork(scheduler.schedule(blocker.effect))
      const heavy = yield* fork(reasonOf(scheduler.schedule(Effect.void, { weight: 3 })))
      const dear = yield* fork(reasonOf(scheduler.schedule(Effect.void, { tokens: 500 })))
      const behind = yield* fork(scheduler.schedule(Effect.succeed("ran")))
      yield* scheduler.setRate({ limit: 1000, window: "1 second", burst: 100 })
      expect(yield* Fiber.join(dear)).toMatchObject({ what: "tokens", asked: 500, most: 100 })
      yield* scheduler.resize(2)
      expect(yield* Fiber.join(heavy)).toMatchObject({ what: "weight", asked: 3, most: 2 })
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(behind)).toBe("ran")
    }))

  it.effect("S8 each of the jobs that a resize makes impossible hears what it asked for itself", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second", burst: 5 }) {}
      yield* Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 4, rate: Api })
        const other = yield* Scheduler.make({ concurrency: 4, rate: Api })
        yield* scheduler.pause
        const asks: ReadonlyArray<Scheduler.ScheduleOptions> = [
          { weight: 3 },
          { weight: 4 },
          { weight: 4 },
          { tokens: 4 },
          { weight: 3 },
          { tokens: 3 }
        ]
        const jobs = yield* Effect.forEach(asks, (ask) => fork(reasonOf(scheduler.schedule(Effect.void, ask))))
        yield* other.setRate({ limit: 10, window: "1 second", burst: 2 })
        yield* scheduler.resize(2)
        expect(yield* Fiber.joinAll(jobs)).toMatchObject([
          { what: "weight", asked: 3, most: 2 },
          { what: "weight", asked: 4, most: 2 },
          { what: "weight", asked: 4, most: 2 },
          { what: "tokens", asked: 4, most: 2 },
          { what: "weight", asked: 3, most: 2 },
          { what: "tokens", asked: 3, most: 2 }
        ])
      }).pipe(Effect.provide(Api.layer))
    }))

  it.effect("S8 each of the jobs that a setRate makes impossible hears of the quota that it exceeds", () =>
    Effect.gen(function*() {
      const quota = (burst: number) => ({ limit: 10, window: "1 second", burst } as const)
      const scheduler = yield* Scheduler.make({ concurrency: 4, rate: [quota(5), quota(5)] })
      yield* scheduler.pause
      const jobs = yield* Effect.forEach(
        [[3, 0], [0, 3]],
        (tokens) => fork(reasonOf(scheduler.schedule(Effect.void, { tokens })))
      )
      yield* scheduler.setRate([quota(2), quota(1)])
      expect(yield* Fiber.joinAll(jobs)).toMatchObject([{ asked: 3, most: 2 }, { asked: 3, most: 1 }])
    }))

  it("S8 a caller that is interrupted before it hears that its job is refused keeps nobody from hearing of theirs", () => {
    const { exit } = simulate(() =>
      Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: 2 })
        yield* fork(scheduler.schedule(Effect.never))
        const jobs = yield* Effect.forEach(Array.from({ length: piecesPerTurn + 3 }), () =>
          fork(reasonOf(scheduler.schedule(Effect.void, { weight: 2 }))))
        yield* scheduler.resize(1)
        const left = jobs.at(-2)!
        expect(left.pollUnsafe()).toBe(undefined)
        yield* Fiber.interrupt(left)
        yield* settle
        return jobs.filter((job) =>
          job.pollUnsafe()?._tag === "Success"
        ).length
      }))
    )
    expect(exit).toEqual(Exit.succeed(piecesPerTurn + 2))
  })
})

describe("Scheduler: pause, idle and close", () => {
  it.effect("S8 while paused no job starts and running jobs go on; after resume the queue goes on in order", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 2 })
      const started: Array<unknown> = []
      const running = gated(started, "running")
      const fiber = yield* fork(scheduler.schedule(running.effect))
      yield* scheduler.pause
      yield* scheduler.pause
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("a"))))
      yield* running.open
      yield* Fiber.join(fiber)
      yield* fork(scheduler.schedule(Effect.sync(() => started.push("b"))))
      expect(started).toEqual(["running"])
      expect(yield* scheduler.stats).toMatchObject({ concurrency: 2, running: 0, weight: 0, queued: 2, paused: true })
      yield* scheduler.resume
      expect(started).toEqual(["running", "a", "b"])
    }))

  it.effect("S8 awaitIdle returns at once when nothing runs and nothing waits, paused or not", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* scheduler.awaitIdle
      yield* scheduler.pause
      yield* scheduler.awaitIdle
    }))

  it.effect("S8 awaitIdle while paused waits for resume, for each of its callers, and can be interrupted", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* scheduler.pause
      yield* fork(scheduler.schedule(Effect.yieldNow))
      const waiting = yield* Effect.forEach([1, 2, 3], () => fork(scheduler.awaitIdle))
      yield* settle
      expect(waiting.map((_) => _.pollUnsafe())).toEqual([undefined, undefined, undefined])
      yield* Fiber.interrupt(waiting[1]!)
      yield* scheduler.resume
      yield* Fiber.join(waiting[0]!)
      yield* Fiber.join(waiting[2]!)
    }))

  it.effect("S8 awaitIdle also sees the queue empty by interruption", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* scheduler.pause
      const waits = yield* fork(scheduler.schedule(Effect.void))
      const idle = yield* fork(scheduler.awaitIdle)
      yield* Fiber.interrupt(waits)
      yield* Fiber.join(idle)
    }))

  it.effect("S8 awaitIdle inside a job waits for all others, and not for the jobs that it is called from", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 3 })
      const started: Array<unknown> = []
      const [first, second] = [gated(started, "first"), gated(started, "second")]
      yield* fork(scheduler.schedule(first.effect, { weight: 2 }))
      const waits = yield* fork(scheduler.schedule(scheduler.schedule(scheduler.awaitIdle)))
      yield* fork(scheduler.schedule(second.effect, { weight: 2 }))
      yield* settle
      expect([waits.pollUnsafe(), ...started]).toEqual([undefined, "first"])
      yield* first.open
      yield* settle
      expect([waits.pollUnsafe(), ...started]).toEqual([undefined, "first", "second"])
      yield* second.open
      yield* Fiber.join(waits)
      yield* scheduler.schedule(scheduler.awaitIdle)
      expect(engineOf(scheduler)?.watchers.size).toBe(0)
    }))

  it.effect("S8 awaitIdle inside a job waits for the jobs inside that job", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      const inner = gated([], "inner")
      const waits = yield* fork(scheduler.schedule(
        Effect.gen(function*() {
          yield* fork(scheduler.schedule(inner.effect))
          yield* fork(scheduler.schedule(Effect.yieldNow))
          yield* scheduler.awaitIdle
        })
      ))
      yield* settle
      expect(waits.pollUnsafe()).toBeUndefined()
      yield* inner.open
      yield* Fiber.join(waits)
    }))

  it.effect("S8 closing the scope interrupts waiting and running jobs, and returns when they have ended", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1 }), scope)
      const finalizing = gated([], "finalizing")
      const running = yield* fork(scheduler.schedule(Effect.onInterrupt(Effect.never, () => finalizing.effect)))
      const waiting = yield* fork(scheduler.schedule(Effect.void))
      const closing = yield* fork(Scope.close(scope, Exit.void))
      const seen = yield* Fiber.await(waiting)
      expect(Exit.hasInterrupts(seen)).toBe(true)
      yield* settle
      expect(closing.pollUnsafe()).toBeUndefined()
      yield* finalizing.open
      yield* Fiber.join(closing)
      expect(Exit.hasInterrupts(yield* Fiber.await(running))).toBe(true)
      expect(yield* scheduler.stats).toMatchObject({ ...atRest, concurrency: 1 })
    }))

  it.effect("S8 a job scheduled after the scope has closed is interrupted at once, also in an uninterruptible region", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1 }), scope)
      yield* Scope.close(scope, Exit.void)
      let ran = false
      const late = scheduler.schedule(Effect.sync(() => {
        ran = true
      }))
      expect(Exit.hasInterrupts(yield* Effect.exit(late))).toBe(true)
      expect(Exit.hasInterrupts(yield* Effect.exit(Effect.uninterruptible(late)))).toBe(true)
      expect(ran).toBe(false)
      yield* scheduler.awaitIdle
    }))

  it.effect("S8 a job that waits in an uninterruptible region is answered when the scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1 }), scope)
      yield* scheduler.pause
      const waiting = yield* fork(Effect.uninterruptible(scheduler.schedule(Effect.void)))
      yield* Scope.close(scope, Exit.void)
      expect(Exit.hasInterrupts(yield* Fiber.await(waiting))).toBe(true)
    }))

  it.effect("S8 a job that closes its own scheduler does not wait for itself", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 2 }), scope)
      const other = yield* fork(scheduler.schedule(Effect.never))
      const closer = yield* fork(scheduler.schedule(scheduler.schedule(Scope.close(scope, Exit.void))))
      expect(Exit.hasInterrupts(yield* Fiber.await(closer))).toBe(true)
      expect(Exit.hasInterrupts(yield* Fiber.await(other))).toBe(true)
      yield* scheduler.awaitIdle
    }))

  it.effect("S8 closing withdraws from the limiter: no job starts later", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(
        Scheduler.make({ concurrency: 1, rate: { limit: 1, window: "1 second" } }),
        scope
      )
      const { job, times } = startTimes()
      yield* scheduler.schedule(job)
      yield* fork(scheduler.schedule(job))
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("10 seconds")
      expect(times).toEqual([0])
    }))

  it.effect("S8 closing gives its place at a shared limiter to the next", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 10, window: "1 second" }) {}
      yield* Effect.gen(function*() {
        const scope = yield* Scope.make()
        const one = yield* Scope.provide(Scheduler.make({ concurrency: 1, rate: Api }), scope)
        const two = yield* Scheduler.make({ concurrency: 1, rate: Api })
        const { job, times } = startTimes()
        yield* one.schedule(job)
        yield* fork(one.schedule(job))
        yield* fork(two.schedule(job))
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("1 second")
        expect(times).toEqual([0, 100])
      }).pipe(Effect.provide(Api.layer))
    }))

  it.effect("S8 awaitIdle leaves nothing behind when it is interrupted", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      yield* fork(scheduler.schedule(Effect.never))
      const waiting = yield* fork(scheduler.awaitIdle)
      expect(engineOf(scheduler)?.watchers.size).toBe(1)
      yield* Fiber.interrupt(waiting)
      expect(engineOf(scheduler)?.watchers.size).toBe(0)
    }))
})

describe("Scheduler: tags and layers", () => {
  it.effect("the accessors of the module and of a class reach the scheduler of their tag", () =>
    Effect.gen(function*() {
      class GitHub extends Scheduler.Service<GitHub>()("test/GitHub", { concurrency: 3 }) {}
      const layers = Layer.mergeAll(Scheduler.layer({ concurrency: 1 }), GitHub.layer)
      yield* Effect.gen(function*() {
        yield* GitHub.resize(4)
        yield* GitHub.setRate({ limit: 10, window: "1 second", burst: 10 })
        yield* GitHub.pause
        yield* GitHub.resume
        yield* GitHub.awaitIdle
        const both = yield* Effect.all([
          GitHub.schedule(GitHub.stats),
          Effect.succeed(1).pipe(Scheduler.schedule({ weight: 1 }))
        ])
        expect(both[0]).toMatchObject({ concurrency: 4, running: 1, weight: 1, queued: 0, paused: false })
        expect(yield* Scheduler.stats).toMatchObject({ ...atRest, concurrency: 1 })
        expect((yield* GitHub).stats).toBeDefined()
        yield* GitHub.penalize({ for: "1 hour" })
        const late = yield* fork(GitHub.schedule(Effect.void))
        expect(yield* GitHub.stats).toMatchObject({ queued: 1, waitingFor: "penalty" })
        yield* Fiber.interrupt(late)
        yield* GitHub.drain()
        const { reason } = yield* Effect.flip(GitHub.schedule(Effect.void))
        expect(reason._tag).toBe("Draining")
      }).pipe(Effect.provide(layers))
    }))

  it.effect("accessors call the operations of a mock, and no others", () =>
    Effect.gen(function*() {
      const asked: Array<unknown> = []
      const schedule = (effect: Effect.Effect<unknown>, options: unknown) =>
        Effect.andThen(Effect.sync(() => void asked.push(options)), effect)
      // Sound: the test calls no other operation.
      const operations = { schedule } as unknown as Scheduler.Scheduler
      const mocks = [
        Layer.mock(Scheduler.Scheduler)(operations),
        Layer.succeed(Scheduler.Scheduler)(operations)
      ]
      for (const mock of mocks) {
        const jobs = Effect.all([
          Scheduler.schedule(Effect.succeed(1), { weight: 2 }),
          Effect.succeed(2).pipe(Scheduler.schedule({ tokens: 3 })),
          Scheduler.schedule(Effect.succeed(3))
        ])
        expect(yield* Effect.provide(jobs, mock)).toEqual([1, 2, 3])
        expect(asked.splice(0)).toEqual([{ weight: 2 }, { tokens: 3 }, undefined])
      }
    }))

  it.effect("a class is a scheduler a layer, and one shared layer is one scheduler", () =>
    Effect.gen(function*() {
      class GitHub extends Scheduler.Service<GitHub>()("test/GitHub", { concurrency: 3 }) {}
      const resized = Effect.andThen(GitHub.resize(7), GitHub.stats)
      const [first, second] = yield* Effect.all([
        Effect.provide(resized, GitHub.layer),
        Effect.provide(GitHub.stats, GitHub.layer)
      ])
      expect([first.concurrency, second.concurrency]).toEqual([7, 3])
    }))

  it.effect("layerNoop limits nothing, never queues, and counts running jobs", () =>
    Effect.gen(function*() {
      const started: Array<unknown> = []
      const jobs = Array.from({ length: 50 }, (_, i) => gated(started, i))
      yield* Effect.gen(function*() {
        yield* Scheduler.pause
        yield* Scheduler.resize(1)
        yield* Scheduler.setRate({ limit: 1, window: "1 hour" })
        const fibers = yield* Effect.forEach(jobs, (job) =>
          fork(Scheduler.schedule(job.effect, { weight: 10, tokens: 9 })))
        expect(started).toHaveLength(50)
        expect(yield* Scheduler.stats).toMatchObject({
          concurrency: Infinity,
          running: 50,
          weight: 500,
          queued: 0,
          paused: false
        })
        yield* Effect.forEach(jobs, (job) =>
          job.open)
        yield* Fiber.joinAll(fibers)
        yield* Scheduler.awaitIdle
        yield* Scheduler.resume
      }).pipe(Effect.provide(Scheduler.layerNoop))
    }))
})

describe("Scheduler: invalid options", () => {
  const four = JSON.parse(`"4"`)
  const window = "1 second"
  type Case = readonly [rule: string, values: ReadonlyArray<number>, calls: Record<string, (value: number) => unknown>]
  const cases: ReadonlyArray<Case> = [
    ["an integer >= 1", [NaN, Infinity, 0, -1, 1.5, four], {
      "Scheduler.make: concurrency": (concurrency) => Scheduler.make({ concurrency }),
      "Scheduler.layer: concurrency": (concurrency) => Scheduler.layer({ concurrency }),
      "Scheduler.Service: concurrency": (concurrency) => Scheduler.Service()("x", { concurrency }),
      "Scheduler.resize: concurrency": (concurrency) => Scheduler.resize(concurrency),
      "Scheduler.schedule: weight": (weight) => [Scheduler.schedule(Effect.void, { weight })],
      "Scheduler.make: rate.limit": (limit) => Scheduler.make({ concurrency: 1, rate: { limit, window } }),
      "Scheduler.setRate: limit": (limit) => Scheduler.setRate({ limit, window })
    }],
    ["an integer >= 0", [NaN, Infinity, -1, 1.5, four], {
      "Scheduler.schedule: tokens": (tokens) => Scheduler.schedule({ tokens }),
      "Scheduler.make: maxQueued": (maxQueued) => Scheduler.make({ concurrency: 1, maxQueued }),
      "Scheduler.forEach: total": (total) => Scheduler.forEach([], () => Effect.void, { total })
    }],
    ["a finite duration >= 0", [NaN, Infinity, -1], {
      "Scheduler.penalize: for": (millis) => Scheduler.penalize({ for: millis }),
      "Scheduler.drain: timeout": (timeout) => Scheduler.drain({ timeout })
    }],
    ["a finite number", [NaN, Infinity, -Infinity, four], {
      "Scheduler.schedule: priority": (priority) => Scheduler.schedule(Effect.void, { priority })
    }]
  ]
  for (const [rule, values, calls] of cases) {
    for (const [field, call] of Object.entries(calls)) {
      it(`S8 ${field} that is not ${rule} is a RangeError that names field, rule and value`, () => {
        for (const value of values) {
          expect(() => call(value)).toThrow(
            new RangeError(`${field} must be ${rule}, got ${value === four ? `"4"` : value}`)
          )
        }
      })
    }
  }

  it.effect("S8 an operation of a handle refuses what that of the module refuses, where it is called", () =>
    Effect.gen(function*() {
      const messageOf = (call: () => unknown) => {
        try {
          call()
        } catch (error) {
          return String(error)
        }
        return undefined
      }
      // Sound: a program without types may pass anything.
      const wrong: object = { order: "arrival", mode: "results" }
      const calls = [
        (_) => _.schedule(Effect.void, { weight: 0 }),
        (_) => _.resize(0),
        (_) => _.setRate({ limit: 0, window }),
        (_) => _.penalize({ for: NaN }),
        (_) => _.drain({ timeout: NaN }),
        (_) => _.forEach([], Effect.succeed, { total: -1 }),
        (_) => _.all([], wrong),
        (_) => _.stream([], Effect.succeed, wrong),
        (_) => _.mapEffect(Effect.succeed, wrong)(Stream.empty)
      ] satisfies ReadonlyArray<(of: typeof Scheduler | Scheduler.Scheduler) => unknown>
      const scheduler = yield* Scheduler.make({ concurrency: 1 })
      for (const call of calls) {
        const message = messageOf(() => call(Scheduler))
        expect(message).toContain("RangeError: Scheduler.")
        expect(messageOf(() => call(scheduler))).toBe(message)
      }
    }))

  it("S8 an order or a mode that is no word of the list is a RangeError", () => {
    const order = `must be "completion" or "input", got "arrival"`
    // Sound: a program without types may pass anything.
    const options: object = { order: "arrival" }
    const results: object = { mode: "results" }
    expect(() => Scheduler.stream([], Effect.succeed, options)).toThrow(
      new RangeError(`Scheduler.stream: order ${order}`)
    )
    expect(() => Scheduler.mapEffect(Effect.succeed, options)).toThrow(
      new RangeError(`Scheduler.mapEffect: order ${order}`)
    )
    expect(() => Scheduler.all([], results)).toThrow(
      new RangeError(`Scheduler.all: mode must be "default" or "result", got "results"`)
    )
    for (const order of ["completion", "input", undefined] as const) {
      expect(() => Scheduler.stream([], Effect.succeed, { order })).not.toThrow()
    }
    for (const mode of ["default", "result", undefined] as const) {
      expect(() => Scheduler.all([], { mode })).not.toThrow()
    }
  })

  it("S8 any finite priority is valid", () => {
    for (const priority of [0, -1, 1.5]) expect(() => Scheduler.schedule({ priority })).not.toThrow()
  })

  it("S8 a concurrency that is an object of another kind is a RangeError", () => {
    for (const concurrency of [{}, [], null]) {
      // Sound: a program without types may pass anything.
      expect(() => Scheduler.make({ concurrency: concurrency as never })).toThrow(RangeError)
    }
  })

  it("S8 an empty list of quotas is a RangeError", () => {
    expect(() => Scheduler.make({ concurrency: 1, rate: [] })).toThrow(RangeError)
    expect(() => Scheduler.setRate([])).toThrow(RangeError)
  })
})
