import { describe, expect, it } from "@effect/vitest"
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Adaptive from "effect-funnel/Adaptive"
import * as Funnel from "effect-funnel/http"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { HttpClient, HttpClientResponse } from "effect/http"
import type { HttpClientRequest } from "effect/http"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Request from "effect/Request"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { BufferedResponse } from "../src/internal/http/bufferedResponse.js"
import { fork, settle } from "./support/fibers.ts"
import { bug, foreignSweep, foreignValues } from "./support/foreignCode.ts"
import type { Meddle } from "./support/foreignCode.ts"
import { leftIn } from "./support/leftInResolver.ts"
import { ManualClock } from "./support/manualClock.ts"
import { simulate } from "./support/simulation.ts"

const nothing: Meddle = () => {}

const scheduler = (concurrency: number) => Scheduler.make({ concurrency })

const atRest = (scheduler: Scheduler.Scheduler) =>
  Effect.map(
    scheduler.stats,
    ({ queued, running, weight }) => expect({ queued, running, weight }).toEqual({ queued: 0, running: 0, weight: 0 })
  )

describe("foreign code hurts its own caller alone: Reducer", () => {
  const flights = (options?: Reducer.Options) =>
    Effect.gen(function*() {
      const reducer = yield* Reducer.make(options)
      const gate = Latch.makeUnsafe(false)
      const call = (key: Reducer.Key, value: string) => reducer.reduce(key, Effect.as(gate.await, value))
      return { reducer, gate, call }
    })
  const check = ({ reducer }: { readonly reducer: Reducer.Reducer }) =>
    Effect.map(reducer.inFlight, (left) => expect(left).toEqual([]))

  for (const [what, value] of foreignValues) {
    it(`a key that is ${what}`, () => {
      foreignSweep({
        make: (meddle) => Effect.map(flights(), (fixture) => ({ ...fixture, meddle })),
        callers: ({ call, meddle }) => [
          { effect: call(value("a", nothing), "a"), expected: "a" },
          { effect: call(value("b", nothing), "b"), expected: "b" },
          { effect: call(value("a", meddle), "a"), expected: "a", owner: true },
          { effect: call(value("c", meddle), "c"), expected: "c", owner: true },
          { effect: call(value("a", nothing), "a"), expected: "a" },
          { effect: call(value("c", nothing), "c"), expected: "c" }
        ],
        meanwhile: ({ gate }) => gate.open,
        enters: {
          "joins": ({ call }) => call(value("a", nothing), "a"),
          "starts": ({ call }) => call(value("d", nothing), "d"),
          "ends": ({ gate }) => gate.open,
          "forgets": ({ reducer }) => reducer.forget(value("a", nothing)),
          "comes and goes": ({ reducer }) => reducer.reduce(value("e", nothing), Effect.void),
          "looks": ({ reducer }) => reducer.inFlight
        },
        check
      }, 3)
    })
  }

  it.effect("hooks that close the reducer at any of their calls", () =>
    Effect.gen(function*() {
      let closes = 0
      for (const name of ["onCall", "onStart", "onJoin", "onSuccess", "onFailure", "onInterrupt"] as const) {
        for (let at = 1; at <= 12; at++) {
          for (const end of [Effect.succeed("value"), Effect.fail("error")]) {
            const scope = yield* Scope.make()
            let calls = 0
            const close = () => {
              if (++calls !== at) return
              closes++
              Effect.runFork(Scope.close(scope, Exit.void))
            }
            const reducer = yield* Scope.provide(Reducer.make({ hooks: { [name]: close } }), scope)
            const gate = Latch.makeUnsafe(false)
            // Callers that share, the last of whom leave a dying run behind, and newcomers behind it.
            const callers = yield* Effect.forEach(
              [1, 2, 3],
              () => fork(reducer.reduce("a", Effect.andThen(gate.await, end)))
            )
            const dying = reducer.reduce("b", Effect.ensuring(Effect.never, gate.await))
            const leaving = yield* fork(Effect.flatMap(fork(dying), Fiber.interrupt))
            callers.push(...(yield* Effect.forEach([1, 2], () => fork(reducer.reduce("b", end)))))
            yield* gate.open
            const expected = yield* Effect.exit(end)
            for (const exit of yield* Fiber.awaitAll(callers)) {
              if (!Exit.hasInterrupts(exit)) expect(exit).toEqual(expected)
            }
            yield* Fiber.await(leaving)
            expect(yield* reducer.inFlight).toEqual([])
            yield* Scope.close(scope, Exit.void)
          }
        }
      }
      expect(closes).toBeGreaterThan(10)
    }).pipe(Effect.provide(Logger.layer([]))))

  it("hooks", () => {
    foreignSweep({
      make: (meddle) =>
        flights({
          hooks: {
            onCall: meddle,
            onStart: meddle,
            onJoin: meddle,
            onSuccess: meddle,
            onFailure: meddle,
            onInterrupt: meddle
          }
        }),
      callers: ({ call, reducer }) => [
        { effect: call("a", "a"), expected: "a" },
        { effect: call("a", "a"), expected: "a" },
        { effect: call("b", "b"), expected: "b" },
        { effect: Effect.exit(reducer.reduce("c", Effect.fail("c"))), expected: Exit.fail("c") },
        { effect: Effect.exit(reducer.reduce("d", Effect.interrupt)), expected: Exit.interrupt(), owner: true },
        { effect: call("a", "a"), expected: "a" }
      ],
      meanwhile: ({ gate }) => gate.open,
      enters: {
        "joins": ({ call }) => call("a", "a"),
        "starts": ({ call }) => call("e", "e"),
        "ends": ({ gate }) => gate.open,
        "forgets": ({ reducer }) => reducer.forget("a"),
        "looks": ({ reducer }) => reducer.inFlight
      },
      check
    }, 11)
  })

  it("observers of fibers", () => {
    foreignSweep({
      make: () =>
        Effect.map(flights(), ({ reducer }) => ({
          reducer,
          // Runs that end by themselves: a latch of core that resumes several does not go on when the first of them throws.
          call: (key: string) =>
            reducer.reduce(key, Effect.as(Effect.forEach([1, 2, 3, 4], () => Effect.yieldNow), key))
        })),
      callers: ({ call }) =>
        ["a", "a", "b", "a", "b"].map((key) => ({ effect: call(key), expected: key, observed: true })),
      enters: {
        "joins": ({ call }) => call("a"),
        "starts": ({ call }) => call("c"),
        "forgets": ({ reducer }) => reducer.forget("a")
      },
      check
    }, 1)
  })

  for (const fault of ["throws", "ends the run", "leaves"]) {
    it.effect(`R5 a tracer whose addLinks ${fault} hurts no caller`, () => {
      const logged: Array<unknown> = []
      const ending: { now: () => void } = { now: () => {} }
      const fibers: Array<Fiber.Fiber<number>> = []
      class Hostile extends Tracer.NativeSpan {
        override addLinks(): void {
          if (fault === "throws") throw new Error("tracer")
          if (fault === "ends the run") ending.now()
          else Fiber.getCurrent()!.interruptUnsafe()
        }
      }
      const tracer = Tracer.make({ span: (options) => new Hostile(options) })
      return Effect.gen(function*() {
        const reducer = yield* Reducer.make()
        const run = Effect.callback<number>((resume) => {
          ending.now = () => resume(Effect.succeed(1))
        })
        for (const name of ["first", "second"]) {
          fibers.push(yield* fork(Effect.withSpan(reducer.reduce("key", run), name)))
        }
        expect((yield* reducer.inFlight).map((run) => run.callers)).toEqual(
          fault === "ends the run" ? [] : fault === "leaves" ? [1] : [2]
        )
        ending.now()
        const [first, second] = yield* Fiber.awaitAll(fibers)
        expect(first).toEqual(Exit.succeed(1))
        if (fault === "leaves") expect(Exit.hasInterrupts(second!)).toBe(true)
        else expect(second).toEqual(Exit.succeed(1))
        expect(logged.length).toBe(fault === "throws" ? 1 : 0)
        expect(yield* reducer.inFlight).toEqual([])
      }).pipe(
        Effect.withTracer(tracer),
        Effect.provide(Logger.layer([Logger.make(({ message }) => void logged.push(message))]))
      )
    })
  }
})

describe("foreign code hurts its own caller alone: Scheduler", () => {
  for (const name of ["weight", "tokens", "priority", "onProgress"] as const) {
    it(`forEach: ${name}`, () => {
      foreignSweep({
        make: (meddle) =>
          Effect.map(scheduler(2), (scheduler) => ({
            scheduler,
            options: { [name]: name === "onProgress" ? meddle : () => (meddle(), 1) }
          })),
        callers: ({ options, scheduler }) => [
          { effect: scheduler.schedule(Effect.as(Effect.yieldNow, 1)), expected: 1 },
          {
            effect: scheduler.forEach([1, 2, 3, 4], (n) => Effect.as(Effect.yieldNow, n), options),
            expected: [1, 2, 3, 4],
            owner: true
          },
          { effect: scheduler.schedule(Effect.as(Effect.yieldNow, 2)), expected: 2 },
          { effect: scheduler.forEach([1, 2, 3], (n) => Effect.as(Effect.yieldNow, n)), expected: [1, 2, 3] }
        ],
        enters: {
          "schedules": ({ scheduler }) => scheduler.schedule(Effect.yieldNow),
          "resizes": ({ scheduler }) => Effect.andThen(scheduler.resize(1), scheduler.resize(2)),
          "looks": ({ scheduler }) => scheduler.stats
        },
        check: ({ scheduler }) => atRest(scheduler)
      }, 1)
    })
  }

  it("overload of an adaptive width: what throws names no overload, and the jobs that wait go on", () => {
    foreignSweep({
      make: (meddle) => Scheduler.make({ concurrency: Adaptive.latency({ max: 2, overload: () => (meddle(), true) }) }),
      callers: (scheduler) => [
        ...[1, 2, 3, 4].map((n) => ({ effect: scheduler.schedule(Effect.as(Effect.yieldNow, n)), expected: n })),
        { effect: scheduler.forEach([1, 2, 3], (n) => Effect.as(Effect.yieldNow, n)), expected: [1, 2, 3] },
        { effect: Effect.flip(scheduler.schedule(Effect.fail("busy"))), expected: "busy" }
      ],
      enters: {
        "schedules": (scheduler) => scheduler.schedule(Effect.yieldNow),
        "resizes": (scheduler) => Effect.andThen(scheduler.resize(1), scheduler.resize(2)),
        "pauses": (scheduler) => Effect.andThen(scheduler.pause, Effect.andThen(Effect.yieldNow, scheduler.resume)),
        "looks": (scheduler) => scheduler.stats
      },
      check: atRest
    }, 6)
  })

  it("observers of fibers", () => {
    foreignSweep({
      make: () => scheduler(2),
      callers: (scheduler) =>
        [1, 2, 3, 4, 5].map((n) => ({
          effect: scheduler.schedule(Effect.as(Effect.yieldNow, n)),
          expected: n,
          observed: true
        })),
      enters: {
        "schedules": (scheduler) => scheduler.schedule(Effect.yieldNow),
        "resizes": (scheduler) => Effect.andThen(scheduler.resize(1), scheduler.resize(2)),
        "pauses": (scheduler) => Effect.andThen(scheduler.pause, Effect.andThen(Effect.yieldNow, scheduler.resume))
      },
      check: atRest
    }, 1)
  })

  describe("observers of fibers that throw in a step which others wait for", () => {
    /** Whatever happens to those whose fibers are observed, the program goes on, and it hears of the error. */
    const law = <E>(title: string, program: Effect.Effect<void, E, Scope.Scope>) =>
      it(`hurt nobody else: ${title}`, () => {
        const thrown: Array<unknown> = []
        const { exit } = simulate(() => Effect.scoped(program), { onThrow: (error) => void thrown.push(error) })
        expect(exit).toEqual(Exit.void)
        expect(thrown.every((error) => error === bug)).toBe(true)
      })
    const throwing = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.map(fork(effect), (fiber) => {
        fiber.addObserver(() => {
          throw bug
        })
      })
    const expectEnds = (fibers: Readonly<Record<string, Fiber.Fiber<unknown, unknown>>>) => {
      for (const [outcome, fiber] of Object.entries(fibers)) {
        const exit = fiber.pollUnsafe()
        const [reason] = exit?._tag === "Failure" ? exit.cause.reasons : []
        expect(
          reason !== undefined && Cause.isFailReason(reason)
            ? (reason.error as Scheduler.SchedulerError).reason._tag
            : reason?._tag ?? exit?._tag ?? "hangs"
        ).toBe(outcome)
      }
    }

    law(
      "S1 a job that ends and starts another one keeps its exit, and so does one that comes",
      Effect.gen(function*() {
        const { schedule } = yield* scheduler(1)
        const gate = Latch.makeUnsafe(false)
        const Success = yield* fork(schedule(gate.await))
        yield* throwing(schedule(Effect.void))
        yield* gate.open
        yield* settle
        expectEnds({ Success })
      })
    )

    law(
      "S8 resize refuses the jobs that can never start though one that starts throws",
      Effect.gen(function*() {
        const { resize, schedule } = yield* scheduler(5)
        yield* fork(schedule(Effect.never))
        const InsufficientCapacity = yield* fork(schedule(Effect.void, { weight: 5 }))
        yield* throwing(schedule(Effect.void))
        yield* Effect.exit(resize(3))
        expectEnds({ InsufficientCapacity })
      })
    )

    law(
      "S8 a call uses the width that a resize gives though a job that starts in it throws",
      Effect.gen(function*() {
        const { forEach, resize, schedule, stats } = yield* scheduler(2)
        yield* fork(forEach([1, 2, 3, 4], () => Effect.never))
        yield* throwing(schedule(Effect.void, { priority: 1 }))
        yield* Effect.exit(resize(10))
        expect((yield* stats).running).toBe(4)
      })
    )

    law(
      "S8 awaitIdle hears that the last job was refused by a resize",
      Effect.gen(function*() {
        const { awaitIdle, pause, resize, schedule } = yield* scheduler(5)
        yield* pause
        yield* throwing(schedule(Effect.void, { weight: 5 }))
        const Success = yield* fork(awaitIdle)
        yield* Effect.exit(resize(3))
        expectEnds({ Success })
      })
    )

    law(
      "S8 awaitIdle hears that the last job was refused at its turn",
      Effect.gen(function*() {
        const clock = new ManualClock()
        const { awaitIdle, schedule } = yield* Effect.provideService(scheduler(1), Clock.Clock, clock)
        const Interrupt = yield* fork(schedule(Effect.never))
        yield* throwing(schedule(Effect.void, { maxWait: 100 }))
        const Success = yield* fork(awaitIdle)
        clock.block(150)
        Interrupt.interruptUnsafe()
        expectEnds({ Interrupt, Success })
      })
    )

    law(
      "O1 the timer of maxWait goes on though a job that starts when it rings throws",
      Effect.gen(function*() {
        const { schedule } = yield* Scheduler.make({ concurrency: 2, rate: { limit: 10, window: "1 second" } })
        yield* fork(schedule(Effect.never))
        yield* throwing(schedule(Effect.void, { maxWait: 100 }))
        const WaitExceeded = yield* fork(schedule(Effect.void, { maxWait: 150, weight: 2, tokens: 0 }))
        yield* Effect.sleep(151)
        expectEnds({ WaitExceeded })
      })
    )

    law(
      "O1 a penalty that refuses a job hurts neither who gives it nor the others that it refuses",
      Effect.gen(function*() {
        const { penalize, schedule } = yield* scheduler(1)
        yield* fork(schedule(Effect.never))
        yield* throwing(schedule(Effect.void, { maxWait: 100 }))
        const WaitExceeded = yield* fork(schedule(Effect.void, { maxWait: 100 }))
        const Success = yield* fork(penalize({ for: "1 minute" }))
        expectEnds({ Success, WaitExceeded })
      })
    )

    law(
      "S8 all keys of a Keyed close with their layer",
      Effect.gen(function*() {
        class Keyed extends Scheduler.Keyed<Keyed>()("test/Closing", { lookup: () => ({ concurrency: 1 }) }) {}
        const scope = yield* Scope.make()
        const context = yield* Scope.provide(Layer.build(Keyed.layer), scope)
        const schedule = (key: string) => Effect.provideContext(Keyed.schedule(key, Effect.never), context)
        yield* throwing(schedule("a"))
        const jobs = yield* Effect.forEach(["a", "b", "b", "c"], (key) => fork(schedule(key)))
        const Success = yield* fork(Scope.close(scope, Exit.void))
        expectEnds({ Success })
        for (const Interrupt of jobs) expectEnds({ Interrupt })
      })
    )

    const tenASecond = (clock: ManualClock) =>
      Effect.provideService(
        Scheduler.make({ concurrency: 5, rate: { limit: 10, window: "1 second" } }),
        Clock.Clock,
        clock
      )

    law(
      "O1 S3 the rate that came for a late job goes to the next one",
      Effect.gen(function*() {
        const clock = new ManualClock()
        const { schedule } = yield* tenASecond(clock)
        yield* schedule(Effect.void)
        yield* throwing(schedule(Effect.void, { maxWait: 100 }))
        const Success = yield* fork(schedule(Effect.void))
        clock.block(150)
        clock.fire()
        expectEnds({ Success })
      })
    )

    law(
      "S7 a call and a job that come when a late job is refused go on",
      Effect.gen(function*() {
        for (const way of ["call", "job"]) {
          const clock = new ManualClock()
          const { forEach, schedule } = yield* tenASecond(clock)
          yield* schedule(Effect.void)
          yield* throwing(schedule(Effect.void, { maxWait: 100 }))
          clock.block(150)
          const Success = yield* fork<unknown, unknown, never>(
            way === "call" ? forEach([1, 2, 3], () => Effect.void) : schedule(Effect.void)
          )
          for (let i = 0; i < 4; i++) {
            yield* settle
            clock.block(100)
            clock.fire()
          }
          expectEnds({ Success })
        }
      })
    )
  })

  describe("observers of fibers that throw when their turn comes at a limiter, where a scheduler gives way", () => {
    class Api extends RateLimiter.Service<Api>()("test/Api", { limit: 1, window: "1 second", burst: 5 }) {}
    /** A job waits for five tokens, and behind it somebody for the one that is left. */
    const law = (
      title: string,
      program: (
        scheduler: Scheduler.Scheduler,
        waiting: Fiber.Fiber<unknown, unknown>,
        close: Effect.Effect<void>
      ) => Effect.Effect<void, unknown>
    ) =>
      it(`hurt nobody else: ${title}`, () => {
        const thrown: Array<unknown> = []
        const run = Effect.gen(function*() {
          const scope = yield* Scope.make()
          const scheduler = yield* Scope.provide(Scheduler.make({ concurrency: 1, rate: Api }), scope)
          yield* Api.consume({ tokens: 4 })
          const waiting = yield* fork(scheduler.schedule(Effect.void, { tokens: 5 }))
          const behind = yield* fork(Api.consume())
          behind.addObserver(() => {
            throw bug
          })
          yield* program(scheduler, waiting, Scope.close(scope, Exit.void))
          expect(behind.pollUnsafe()?._tag).toBe("Success")
        })
        const { exit } = simulate(() => Effect.provide(run, Api.layer), { onThrow: (error) => void thrown.push(error) })
        expect(exit).toEqual(Exit.void)
        expect(thrown).toEqual([bug])
      })

    law("S8 closing ends the jobs that wait", (_, waiting, close) =>
      Effect.gen(function*() {
        yield* close
        expect(Exit.hasInterrupts(waiting.pollUnsafe()!)).toBe(true)
      }))

    law("S8 awaitIdle hears that the last job left", ({ awaitIdle }, waiting) =>
      Effect.gen(function*() {
        const idle = yield* fork(awaitIdle)
        yield* Fiber.interrupt(waiting)
        expect(idle.pollUnsafe()?._tag).toBe("Success")
      }))

    law("S1 S3 an item of no tokens that comes first runs", ({ forEach, stats }) =>
      Effect.gen(function*() {
        expect(yield* forEach(["a"], (a) => Effect.succeed(a), { tokens: 0, priority: 1 })).toEqual(["a"])
        expect((yield* stats).running).toBe(0)
      }))
  })

  for (const [what, value] of foreignValues) {
    it(`Keyed: its lookup, and a key that is ${what}`, () => {
      let meddle = nothing
      class Keyed extends Scheduler.Keyed<Keyed>()("test/ForeignKeyed", {
        lookup: (_: object) => (meddle(), { concurrency: 1 })
      }) {}
      foreignSweep({
        make: (own) =>
          Effect.gen(function*() {
            const context = yield* Layer.build(Keyed.layer)
            meddle = nothing
            const schedule = (key: object, name: string) =>
              Effect.provideContext(Keyed.schedule(key, Effect.as(Effect.yieldNow, name)), context)
            return { own, schedule, size: Effect.provideContext(Keyed.size, context) }
          }),
        callers: ({ own, schedule }) => [
          { effect: schedule(value("a", nothing), "a"), expected: "a" },
          { effect: schedule(value("b", nothing), "b"), expected: "b" },
          { effect: schedule(value("a", own), "a"), expected: "a", owner: true },
          {
            effect: Effect.suspend(() => {
              meddle = own
              return Effect.ensuring(
                schedule(value("c", own), "c"),
                Effect.sync(() => {
                  meddle = nothing
                })
              )
            }),
            expected: "c",
            owner: true
          },
          { effect: schedule(value("a", nothing), "a"), expected: "a" }
        ],
        enters: {
          "uses the key": ({ schedule }) => schedule(value("a", nothing), "a"),
          "uses another key": ({ schedule }) => schedule(value("d", nothing), "d")
        },
        check: ({ size }) => Effect.map(size, (size) => expect(size).toBe(0))
      }, 3)
    })
  }
})

describe("foreign code hurts its own caller alone: RateLimiter", () => {
  for (const strict of [false, true]) {
    for (const settles of [false, true]) {
      const name = `${strict ? ", strict" : ""}${settles ? ", settles" : ""}`
      it.effect(`L5 a call whose tracer throws at any of its operations keeps no key and blocks nobody${name}`, () =>
        Effect.gen(function*() {
          const clock = new ManualClock()
          const limiter = yield* Effect.provideService(
            RateLimiter.make({ limit: 1, window: "1 second", strict }),
            Clock.Clock,
            clock
          )
          let thrown = 0
          for (const waits of [false, true]) {
            for (let at = 1; at < 30; at++) {
              let operations = 0
              const tracer = Tracer.make({
                span: (options) => new Tracer.NativeSpan(options),
                context: (primitive, fiber) => {
                  if (++operations === at) throw bug
                  return primitive["~effect/Effect/evaluate"](fiber)
                }
              })
              const options = { key: `${waits} ${at}`, ...(settles ? { settle: () => 1 } : undefined) }
              if (waits) yield* limiter.consume(options)
              const call = yield* fork(Effect.withTracer(limiter.withLimit(Effect.succeed("done"), options), tracer))
              clock.advance(1000)
              if (Exit.isFailure(yield* Fiber.await(call))) thrown++
              clock.advance(1000)
              yield* limiter.consume({ ...options, maxWait: 0 })
            }
          }
          expect(thrown).toBeGreaterThan(6)
          clock.advance(10_000)
          expect(JSON.parse(JSON.stringify(limiter))).toMatchObject({ keys: 0 })
        }))
    }
  }

  it("observers of fibers", () => {
    foreignSweep({
      make: () => RateLimiter.make({ limit: 10, window: "1 second" }),
      callers: (limiter) =>
        [1, 2, 3, 4, 5].map((n) => ({
          effect: Effect.as(limiter.consume({ key: n % 2 === 0 ? "even" : "odd" }), n),
          expected: n,
          observed: true
        })),
      enters: {
        "consumes": (limiter) => limiter.consume({ key: "odd" }),
        "resets": (limiter) => limiter.reset({ key: "odd" }),
        "penalizes": (limiter) => limiter.penalize({ key: "odd", for: "1 second" })
      },
      check: () => Effect.void
    }, 1)
  })

  const gaveWay: Record<string, (limiter: RateLimiter.RateLimiter) => Effect.Effect<unknown, unknown>> = {
    "withLimit, with settle": ({ withLimit }) => withLimit(Effect.yieldNow, { tokens: 5, settle: () => 1 }),
    "reset": ({ consume, reset }) => Effect.andThen(consume({ tokens: 5 }), Effect.andThen(Effect.yieldNow, reset())),
    "an interruption": ({ consume }) =>
      Effect.flatMap(fork(consume({ tokens: 5 })), (first) => Effect.andThen(Effect.yieldNow, Fiber.interrupt(first)))
  }
  for (const [what, call] of Object.entries(gaveWay)) {
    it(`a caller that throws when it gets what another one gives back does not hurt that one: ${what}`, () => {
      const thrown: Array<unknown> = []
      const { exit } = simulate(() =>
        Effect.gen(function*() {
          const limiter = yield* RateLimiter.make({ limit: 1, window: "1 second", burst: 5 })
          if (what === "an interruption") yield* limiter.consume()
          const first = yield* fork(call(limiter))
          const second = yield* fork(limiter.consume())
          second.addObserver(() => {
            throw bug
          })
          yield* settle
          expect([first.pollUnsafe()?._tag, second.pollUnsafe()?._tag]).toEqual(["Success", "Success"])
        }), { onThrow: (error) => void thrown.push(error) })
      expect(exit).toEqual(Exit.void)
      expect(thrown).toEqual([bug])
    })
  }

  it("a job that settles for less keeps its success though the next caller of its rate throws", () => {
    class Api extends RateLimiter.Service<Api>()("test/Settled", { limit: 1, window: "1 second", burst: 5 }) {}
    const thrown: Array<unknown> = []
    const run = Effect.gen(function*() {
      const { schedule } = yield* Scheduler.make({ concurrency: 1, rate: Api })
      const first = yield* fork(schedule(Effect.as(Effect.yieldNow, "first"), { tokens: 5, settle: () => 1 }))
      const second = yield* fork(Api.consume())
      second.addObserver(() => {
        throw bug
      })
      return yield* Fiber.join(first)
    })
    const { exit } = simulate(() => Effect.scoped(Effect.provide(run, Api.layer)), {
      onThrow: (error) => void thrown.push(error)
    })
    expect(exit).toEqual(Exit.succeed("first"))
    expect(thrown).toEqual([bug])
  })
})

class Me extends Context.Service<Me, unknown>()("test/ForeignMe") {}
class Get extends Request.TaggedClass("Get")<{ readonly id: unknown }, string, never, Me> {}

describe("foreign code hurts its own caller alone: Batcher", () => {
  const live = Batcher.layer({ scheduler: Scheduler.Scheduler }).pipe(
    Layer.provideMerge(Scheduler.layer({ concurrency: 2 }))
  )
  const store = (options?: Partial<Batcher.OrderedOptions<Get, never> & Batcher.ResolverOptions<Get, [typeof Me]>>) =>
    Effect.gen(function*() {
      const context = yield* Layer.build(live)
      const resolver = yield* Effect.provideContext(
        Batcher.ordered(Get, {
          execute: (requests) =>
            Effect.as(Effect.yieldNow, requests.map((request) => names.get(request) ?? "nobody's")),
          ...options
        }),
        context
      )
      const names = new WeakMap<object, string>()
      const load = (id: unknown, name: string, me: unknown = "anybody") => {
        const request = new Get({ id })
        names.set(request, name)
        return Effect.provideService(Effect.request(request, resolver), Me, me)
      }
      const scheduler = yield* Effect.provideContext(Scheduler.Scheduler, context)
      const check = Effect.suspend(() => {
        expect(leftIn(resolver)).toBe("")
        return atRest(scheduler)
      })
      return { load, check, resolver }
    })

  for (const cached of [false, true]) {
    for (const [what, value] of foreignValues) {
      it(`an id that is ${what}${cached ? ", with a cache" : ""}`, () => {
        foreignSweep({
          make: (meddle) =>
            Effect.map(
              store(cached ? { cache: { capacity: 10, timeToLive: () => "1 hour" } } : {}),
              (fixture) => ({ ...fixture, meddle })
            ),
          callers: ({ load, meddle }) => [
            { effect: load(value("a", nothing), "a"), expected: "a" },
            { effect: load(value("b", nothing), "b"), expected: "b" },
            { effect: load(value("a", meddle), "a"), expected: "a", owner: true },
            { effect: load(value("c", meddle), "c"), expected: "c", owner: true },
            { effect: load(value("a", nothing), "a"), expected: "a" },
            { effect: load(7, "7"), expected: "7" }
          ],
          enters: {
            "looks up an equal": ({ load }) => load(value("a", nothing), "a"),
            "looks up another": ({ load }) => load(value("d", nothing), "d")
          },
          check: ({ check }) => cached ? Effect.void : check
        }, 3)
      })
    }
  }

  for (const [what, value] of foreignValues.slice(0, 1)) {
    it(`an isolating service that is ${what}`, () => {
      foreignSweep({
        make: (meddle) => Effect.map(store({ isolate: [Me] }), (fixture) => ({ ...fixture, meddle })),
        callers: ({ load, meddle }) => [
          { effect: load(1, "a", value("a", nothing)), expected: "a" },
          { effect: load(1, "b", value("b", nothing)), expected: "b" },
          { effect: load(1, "c", value("c", meddle)), expected: "c", owner: true },
          { effect: load(1, "a", value("a", nothing)), expected: "a" }
        ],
        enters: {
          "looks up an equal": ({ load }) => load(1, "a", value("a", nothing)),
          "looks up another": ({ load }) => load(1, "d", value("d", nothing))
        },
        check: ({ check }) => check
      }, 3)
    })
  }

  it("timeToLive, which ends with the batch that it is asked about", () => {
    foreignSweep({
      make: (meddle) => store({ cache: { capacity: 10, timeToLive: () => (meddle(), "0 millis" as const) } }),
      callers: ({ load }) => [1, 2].map((id) => ({ effect: load(id, String(id)), expected: String(id), owner: true })),
      enters: { "looks up an equal": ({ load }) => load(1, "1"), "looks up another": ({ load }) => load(4, "4") },
      check: ({ check }) => check
    }, 2)
  })

  for (const field of ["id", "resultId", "missing"] as const) {
    it(`${field}, which ends with the batch that it is asked for`, () => {
      foreignSweep({
        make: (meddle) => {
          const meddles = (of: string, id: unknown) => {
            if (of === field && String(id).startsWith("foreign")) meddle()
          }
          return Effect.gen(function*() {
            const context = yield* Layer.build(live)
            const resolver = yield* Effect.provideContext(
              Batcher.findById(Get, {
                isolate: [Me],
                id: ({ id }) => (meddles("id", id), String(id)),
                execute: (ids) =>
                  Effect.as(Effect.yieldNow, [...ids.filter((id) => !id.endsWith("none")), "unasked", ...ids]),
                resultId: (row) => (meddles("resultId", row), row.endsWith("none") ? "unasked" : row),
                missing: ({ id }) => (meddles("missing", id), Exit.succeed("nobody"))
              }),
              context
            )
            const load = (id: string, me: string) =>
              Effect.provideService(Effect.request(new Get({ id }), resolver), Me, me)
            return { load, check: Effect.sync(() => expect(leftIn(resolver)).toBe("")) }
          })
        },
        callers: ({ load }) => [
          { effect: load("foreign", "a"), expected: "foreign", owner: true },
          { effect: load("one", "b"), expected: "one" },
          { effect: load("foreign none", "a"), expected: "nobody", owner: true },
          { effect: load("two", "a"), expected: "two", owner: true },
          { effect: load("none", "b"), expected: "nobody" },
          { effect: load("one", "b"), expected: "one" }
        ],
        enters: {
          "looks up an equal": ({ load }) => load("foreign", "a"),
          "looks up another": ({ load }) => load("three", "b")
        },
        check: ({ check }) => check
      }, 1)
    })
  }

  it("a tracer, which ends with the batches of its callers", () => {
    foreignSweep({
      make: (meddle) => {
        const tracer = Tracer.make({
          span: (options) => {
            meddle()
            const span = new Tracer.NativeSpan(options)
            const end = span.end.bind(span)
            span.end = (time, exit) => {
              meddle()
              end(time, exit)
            }
            return span
          }
        })
        return Effect.map(store({ name: "batch", isolate: [Me] }), (fixture) => ({ ...fixture, tracer }))
      },
      callers: ({ load, tracer }) => [
        { effect: Effect.withTracer(load(1, "1", "a"), tracer), expected: "1", owner: true },
        { effect: load(1, "1", "b"), expected: "1" },
        { effect: Effect.withTracer(load(2, "2", "a"), tracer), expected: "2", owner: true },
        { effect: load(2, "2", "b"), expected: "2" }
      ],
      enters: {
        "looks up an equal": ({ load }) => load(1, "1", "a"),
        "looks up another": ({ load }) => load(4, "4", "b")
      },
      check: ({ check }) => check
    }, 2)
  })

  it("observers of fibers", () => {
    foreignSweep({
      make: () => store(),
      callers: ({ load }) =>
        [1, 2, 1, 3, 2].map((id) => ({ effect: load(id, String(id)), expected: String(id), observed: true })),
      enters: { "looks up an equal": ({ load }) => load(1, "1"), "looks up another": ({ load }) => load(4, "4") },
      check: ({ check }) => check
    }, 1)
  })
})

describe("foreign code hurts its own caller alone: http", () => {
  /** Has been read already: a promise would need the event loop. */
  class Read extends BufferedResponse {
    override get arrayBuffer() {
      return Effect.succeed(new ArrayBuffer(1))
    }
  }
  const answering = (init: ResponseInit) =>
    HttpClient.make((request) => {
      const response = HttpClientResponse.fromWeb(request, new Response(null, init))
      return Effect.as(Effect.yieldNow, new Read(request, response, Exit.succeed(new ArrayBuffer(1))))
    })
  const status = <E, R>(client: HttpClient.HttpClient.With<E, R>, url = "http://backend.test/") =>
    Effect.map(client.get(url), (response) => response.status)

  for (const name of ["weight", "tokens", "priority", "maxWait", "share"] as const) {
    it(`schedule: ${name}`, () => {
      foreignSweep({
        make: (meddle) =>
          Effect.gen(function*() {
            const context = yield* Layer.build(
              Scheduler.layer({ concurrency: 2, rate: { limit: 100, window: "1 second", burst: 100 } })
            )
            const scheduler = yield* Effect.provideContext(Scheduler.Scheduler, context)
            const client = (options?: Funnel.ScheduleOptions) =>
              Effect.provideContext(
                status(answering({ status: 200 }).pipe(Funnel.schedule(Scheduler.Scheduler, options))),
                context
              )
            return { scheduler, plain: client(), own: client({ hold: "body", [name]: () => (meddle(), 1) }) }
          }),
        callers: ({ own, plain }) => [
          { effect: plain, expected: 200 },
          { effect: own, expected: 200, owner: true },
          { effect: plain, expected: 200 },
          { effect: own, expected: 200, owner: true },
          { effect: plain, expected: 200 }
        ],
        enters: {
          "sends": ({ plain }) => plain,
          "sends the same way": ({ own }) => own,
          "resizes": ({ scheduler }) => Effect.andThen(scheduler.resize(1), scheduler.resize(2)),
          "looks": ({ scheduler }) => scheduler.stats
        },
        check: ({ scheduler }) => atRest(scheduler)
      }, 2)
    })
  }

  it("schedule and penalize: the key of a Keyed", () => {
    class Hosts extends Scheduler.Keyed<Hosts>()("test/foreign/Hosts", {
      lookup: (_: string) => ({ concurrency: 1 })
    }) {}
    foreignSweep({
      make: (meddle) =>
        Effect.gen(function*() {
          const context = yield* Layer.build(Hosts.layer)
          const key = (request: HttpClientRequest.HttpClientRequest) => (meddle(), new URL(request.url).host)
          const backend = answering({ status: 429, headers: { "retry-after": "1" } })
          const client = (options?: { readonly key: typeof key }) =>
            Effect.provideContext(
              status(backend.pipe(Funnel.penalize(Hosts, options), Funnel.schedule(Hosts, options))),
              context
            )
          return { scheduler: Context.get(context, Hosts).get("backend.test"), plain: client(), own: client({ key }) }
        }),
      callers: ({ own, plain }) => [
        { effect: plain, expected: 429 },
        { effect: own, expected: 429, owner: true },
        { effect: plain, expected: 429 },
        { effect: own, expected: 429, owner: true }
      ],
      enters: {
        "sends": ({ plain }) => plain,
        "sends the same way": ({ own }) => own,
        "looks": ({ scheduler }) => scheduler.stats
      },
      check: ({ scheduler }) => atRest(scheduler)
    }, 2)
  })

  it("penalize: key", () => {
    foreignSweep({
      make: (meddle) =>
        Effect.gen(function*() {
          const context = yield* Layer.build(RateLimiter.layer({ limit: 10, window: "1 second", burst: 10 }))
          const limiter = yield* Effect.provideContext(RateLimiter.RateLimiter, context)
          const refused = answering({ status: 429, headers: { "retry-after": "1" } })
          const key = (request: HttpClientRequest.HttpClientRequest) => (meddle(), request.url)
          const client = (options?: Funnel.PenalizeOptions) =>
            Effect.provideContext(status(refused.pipe(Funnel.penalize(RateLimiter.RateLimiter, options))), context)
          return { limiter, plain: client({ key: "fixed" }), own: client({ key }) }
        }),
      callers: ({ limiter, own, plain }) => [
        { effect: plain, expected: 429 },
        { effect: own, expected: 429, owner: true },
        { effect: limiter.withLimit(Effect.succeed("free"), { key: "free" }), expected: "free" },
        { effect: own, expected: 429, owner: true },
        { effect: limiter.withLimit(Effect.succeed("later"), { key: "fixed" }), expected: "later" }
      ],
      enters: {
        "sends": ({ plain }) => plain,
        "sends the same way": ({ own }) => own,
        "forgets the key": ({ limiter }) => limiter.reset({ key: "http://backend.test/" }),
        "uses the key": ({ limiter }) => limiter.consume({ key: "http://backend.test/" })
      },
      check: ({ limiter }) => limiter.consume({ key: "fixed" })
    }, 2)
  })

  it("reduce: the hooks of its reducer", () => {
    foreignSweep({
      make: (meddle) =>
        Effect.gen(function*() {
          const hooks = {
            onCall: meddle,
            onStart: meddle,
            onJoin: meddle,
            onSuccess: meddle,
            onFailure: meddle,
            onInterrupt: meddle
          }
          const reducer = yield* Reducer.make({ hooks })
          const reduced = answering({ status: 200 }).pipe(Funnel.reduce(Reducer.Reducer))
          const mine = answering({ status: 403, headers: { "cache-control": "private" } }).pipe(
            HttpClient.filterStatusOk,
            Funnel.reduce(Reducer.Reducer)
          )
          const provide = Effect.provideService(Reducer.Reducer, reducer)
          return {
            reducer,
            get: (url: string) => provide(status(reduced, `http://backend.test/${url}`)),
            fail: provide(Effect.map(Effect.flip(status(mine)), (error) => error.reason._tag))
          }
        }),
      callers: ({ fail, get }) => [
        { effect: get("a"), expected: 200 },
        { effect: get("a"), expected: 200 },
        { effect: fail, expected: "StatusCodeError" },
        { effect: get("b"), expected: 200 },
        { effect: fail, expected: "StatusCodeError" },
        { effect: get("a"), expected: 200 }
      ],
      enters: {
        "joins": ({ get }) => get("a"),
        "starts": ({ get }) => get("c"),
        "fails": ({ fail }) => fail,
        "looks": ({ reducer }) => reducer.inFlight
      },
      check: ({ reducer }) => Effect.map(reducer.inFlight, (left) => expect(left).toEqual([]))
    }, 11)
  })
})
