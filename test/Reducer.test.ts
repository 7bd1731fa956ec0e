import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { Reducer } from "effect-funnel"
import { fork, unbounded } from "./support/fibers.ts"
import { law } from "./support/reducerLaw.ts"

/** An effect that counts its runs and waits for a gate; its finalizer waits for another one, if there is one. */
const makeJob = (options?: { readonly finalizer?: Latch.Latch }) => {
  const gate = Latch.makeUnsafe(false)
  const job = { gate, started: 0, ended: 0, interrupted: 0, most: 0 }
  const effect = Effect.acquireUseRelease(
    Effect.sync(() => {
      job.most = Math.max(job.most, ++job.started - job.ended)
      return job.started
    }),
    (run) => Effect.onInterrupt(Effect.as(gate.await, run), () => Effect.sync(() => void job.interrupted++)),
    () => Effect.andThen(options?.finalizer?.await ?? Effect.void, Effect.sync(() => void job.ended++))
  )
  return Object.assign(job, { effect })
}

class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}

/** A run of "key" whose last caller leaves. It ends when the finalizer opens. */
const dying = (reducer: Reducer.Reducer) =>
  Effect.gen(function*() {
    const finalizer = Latch.makeUnsafe(false)
    const job = makeJob({ finalizer })
    const first = yield* fork(reducer.reduce("key", job.effect))
    const leaving = yield* fork(Fiber.interrupt(first))
    return { finalizer, job, leaving }
  })

/** Runs an effect in a span of this name, and keeps the spans by their names. */
const makeTracer = () => {
  const spans = new Map<string, Tracer.Span>()
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.set(options.name, span)
      return span
    }
  })
  const traced = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.withSpan(name), Effect.provideService(Tracer.Tracer, tracer))
  const linksOf = (name: string) => spans.get(name)!.links.map((link) => link.span)
  return { spans, traced, linksOf }
}

describe("Reducer", () => {
  describe("R1 calls at the same time share one run", () => {
    for (const callers of [1, 2, 5, 10, 100, 1000]) {
      law(`R1 ${callers} callers share one run and get its value`, function*(reducer) {
        const job = makeJob()
        const fibers = yield* Effect.forEach(
          Array.from({ length: callers }),
          () => fork(reducer.reduce("key", job.effect))
        )
        expect(job.started).toBe(1)
        yield* job.gate.open
        expect(yield* Fiber.joinAll(fibers)).toEqual(Array.from({ length: callers }, () => 1))
        expect(job.started).toBe(1)
        expect(yield* reducer.inFlight).toEqual([])
      })
    }

    law("R1 a typed failure and a defect reach all callers", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      const boom = new Error("boom")
      for (const end of [Effect.fail("no"), Effect.die(boom), Effect.interrupt]) {
        gate.closeUnsafe()
        const call = reducer.reduce("key", Effect.andThen(gate.await, end))
        const fibers = yield* Effect.forEach([1, 2, 3], () => fork(call))
        yield* gate.open
        const exits = yield* Fiber.awaitAll(fibers)
        expect(Exit.isFailure(exits[0]!)).toBe(true)
        expect(exits).toEqual([exits[0], exits[0], exits[0]])
        expect(yield* reducer.inFlight).toEqual([])
      }
    })

    law("R1 other keys have runs of their own", function*(reducer) {
      const job = makeJob()
      const fibers = yield* Effect.forEach(["a", "b", "a", "c"], (key) => fork(reducer.reduce(key, job.effect)))
      expect(job.started).toBe(3)
      yield* job.gate.open
      expect(yield* Fiber.joinAll(fibers)).toEqual([1, 2, 1, 3])
    })

    law("R1 callers are resumed in the order in which they came", function*(reducer) {
      const job = makeJob()
      const order: Array<number> = []
      const fibers = yield* Effect.forEach(
        [0, 1, 2, 3, 4],
        (i) => fork(Effect.tap(reducer.reduce("key", job.effect), () => Effect.sync(() => order.push(i))))
      )
      yield* job.gate.open
      yield* Fiber.joinAll(fibers)
      expect(order).toEqual([0, 1, 2, 3, 4])
    })

    law(
      "R1 a call made by the effect's synchronous part of another fiber joins the run that is being started",
      function*(reducer) {
        let joined: Fiber.Fiber<string> | undefined
        const value = yield* reducer.reduce(
          "key",
          Effect.sync(() => {
            joined = Effect.runFork(reducer.reduce("key", Effect.succeed("second run")))
            return "first run"
          })
        )
        expect(value).toBe("first run")
        expect(yield* Fiber.join(joined!)).toBe("first run")
      }
    )

    law("R1 one effect value may be run by many callers at once", function*(reducer) {
      const job = makeJob()
      const call = reducer.reduce("key", job.effect)
      const all = yield* fork(Effect.all([call, call, call], unbounded))
      yield* job.gate.open
      expect(yield* Fiber.join(all)).toEqual([1, 1, 1])
      expect(yield* call).toBe(2)
    })
  })

  describe("R2 nothing is kept", () => {
    law("R2 two waves are two runs, whether a run succeeds, fails or dies", function*(reducer) {
      let runs = 0
      for (const end of [Effect.void, Effect.fail("no"), Effect.die("no")]) {
        const call = Effect.exit(reducer.reduce("key", Effect.andThen(Effect.sync(() => ++runs), end)))
        const before = runs
        yield* Effect.all([call, call])
        expect(runs).toBe(before + 2)
      }
    })

    law("R2 a caller that is resumed finds the key free", function*(reducer) {
      const job = makeJob()
      const again = Effect.andThen(reducer.reduce("key", job.effect), reducer.reduce("key", job.effect))
      const fibers = yield* Effect.forEach([1, 2], () => fork(again))
      yield* job.gate.open
      expect(yield* Fiber.joinAll(fibers)).toEqual([2, 3])
    })
  })

  describe("R3 interrupting one of several callers", () => {
    for (const leaver of [0, 1, 2]) {
      law(`R3 caller ${leaver} of 3 returns at once, and the others notice nothing`, function*(reducer) {
        const job = makeJob()
        const fibers = yield* Effect.forEach([0, 1, 2], () => fork(reducer.reduce("key", job.effect)))
        yield* Fiber.interrupt(fibers[leaver]!)
        expect(job.interrupted).toBe(0)
        expect((yield* reducer.inFlight)[0]!.callers).toBe(2)
        yield* job.gate.open
        const exits = yield* Fiber.awaitAll(fibers)
        exits.forEach((exit, i) => expect(Exit.isSuccess(exit)).toBe(i !== leaver))
        expect(job.started).toBe(1)
      })
    }

    law(
      "R3 a caller that a resumed caller interrupts in the same step is interrupted, and the rest get the value",
      function*(reducer) {
        const job = makeJob()
        const fibers: Array<Fiber.Fiber<number>> = []
        fibers.push(
          yield* fork(Effect.tap(reducer.reduce("key", job.effect), () =>
            Effect.sync(() => {
              fibers[1]!.interruptUnsafe()
              fibers[3]!.interruptUnsafe()
            })))
        )
        for (let i = 0; i < 4; i++) {
          fibers.push(yield* fork(reducer.reduce("key", job.effect)))
        }
        yield* job.gate.open
        const exits = yield* Fiber.awaitAll(fibers)
        expect(exits.map(Exit.isSuccess)).toEqual([true, false, true, false, true])
      }
    )
  })

  describe("R4 interrupting the last caller", () => {
    law("R4 interrupts the run, and returns when its finalizers are done", function*(reducer) {
      const finalizer = Latch.makeUnsafe(false)
      const job = makeJob({ finalizer })
      const fibers = yield* Effect.forEach([0, 1, 2], () => fork(reducer.reduce("key", job.effect)))
      const leaving = yield* fork(Fiber.interruptAll(fibers))
      yield* Effect.yieldNow
      expect(job.interrupted).toBe(1)
      // Two have returned, the last one waits.
      expect(fibers.map((fiber) => fiber.pollUnsafe() !== undefined)).toEqual([true, true, false])
      expect(leaving.pollUnsafe()).toBe(undefined)
      yield* finalizer.open
      yield* Fiber.join(leaving)
      expect(job.ended).toBe(1)
      expect(yield* reducer.inFlight).toEqual([])
    })

    law("R4 newcomers share one pending run, which starts after the dying one has ended", function*(reducer) {
      const { finalizer, job, leaving } = yield* dying(reducer)
      const newcomers = yield* Effect.forEach([0, 1, 2], () => fork(reducer.reduce("key", job.effect)))
      yield* Effect.yieldNow
      expect(job.started).toBe(1)
      expect((yield* reducer.inFlight).map((run) => [run.phase, run.callers])).toEqual([["ending", 0], [
        "pending",
        3
      ]])
      yield* job.gate.open
      yield* finalizer.open
      yield* Fiber.join(leaving)
      expect(yield* Fiber.joinAll(newcomers)).toEqual([2, 2, 2])
      expect(job.most).toBe(1)
      expect(job.started).toBe(2)
    })

    law("R4 the pending run is the effect, in the context, of the first newcomer still there", function*(reducer) {
      const { finalizer, leaving } = yield* dying(reducer)
      const newcomer = (tenant: string) =>
        fork(Effect.provideService(
          reducer.reduce("key", Effect.map(Tenant, (_) => `${_} asked by ${tenant}`)),
          Tenant,
          tenant
        ))
      const newcomers = yield* Effect.forEach(["a", "b", "c"], newcomer)
      // Waiting for it they can be interrupted, and return at once.
      yield* Fiber.interrupt(newcomers[0]!)
      yield* finalizer.open
      yield* Fiber.join(leaving)
      expect(yield* Fiber.join(newcomers[1]!)).toBe("b asked by b")
      expect(yield* Fiber.join(newcomers[2]!)).toBe("b asked by b")
    })

    law("R4 a pending run whose callers have all left never starts", function*(reducer) {
      const { finalizer, job, leaving } = yield* dying(reducer)
      const newcomers = yield* Effect.forEach([0, 1], () => fork(reducer.reduce("key", job.effect)))
      yield* Fiber.interruptAll(newcomers)
      expect((yield* reducer.inFlight).map((run) => run.phase)).toEqual(["ending"])
      // A later one waits behind the dying run as well.
      const late = yield* fork(reducer.reduce("key", job.effect))
      expect(job.started).toBe(1)
      yield* job.gate.open
      yield* finalizer.open
      yield* Fiber.join(leaving)
      expect(yield* Fiber.join(late)).toBe(2)
      expect(job.started).toBe(2)
      expect(yield* reducer.inFlight).toEqual([])
    })

    law("R4 a newcomer never gets the exit of the dying run, even if that succeeds after all", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      let runs = 0
      const effect = Effect.uninterruptible(Effect.andThen(gate.await, Effect.sync(() => ++runs)))
      const first = yield* fork(reducer.reduce("key", effect))
      const leaving = yield* fork(Fiber.interrupt(first))
      const newcomer = yield* fork(reducer.reduce("key", effect))
      yield* gate.open
      yield* Fiber.join(leaving)
      expect(yield* Fiber.join(newcomer)).toBe(2)
    })

    law("R4 the run behind the dying one may die in turn", function*(reducer) {
      const gates = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
      const jobs = gates.map((finalizer) => makeJob({ finalizer }))
      const third = makeJob()
      const first = yield* fork(reducer.reduce("key", jobs[0]!.effect))
      yield* fork(Fiber.interrupt(first))
      const second = yield* fork(reducer.reduce("key", jobs[1]!.effect))
      yield* gates[0]!.open
      yield* Effect.yieldNow
      expect(jobs[1]!.started).toBe(1)
      yield* fork(Fiber.interrupt(second))
      const last = yield* fork(reducer.reduce("key", third.effect))
      yield* Effect.yieldNow
      expect(third.started).toBe(0)
      yield* gates[1]!.open
      yield* third.gate.open
      expect(yield* Fiber.join(last)).toBe(1)
    })

    law("R4 a run starts interruptible whatever its caller is", function*(reducer) {
      const scope = yield* Scope.make()
      const own = yield* Scope.provide(Reducer.make(), scope)
      const job = makeJob()
      // An uninterruptible caller starts it; only a close can interrupt the run then.
      const caller = yield* fork(Effect.uninterruptible(own.reduce("key", job.effect)))
      yield* Scope.close(scope, Exit.void)
      expect(job.interrupted).toBe(1)
      expect(Exit.hasInterrupts(yield* Fiber.await(caller))).toBe(true)
      // And an uninterruptible starter does not keep the run from being interrupted with its last caller.
      const other = makeJob()
      const starter = yield* fork(
        Effect.uninterruptibleMask((restore) =>
          Effect.onExit(restore(reducer.reduce("key", other.effect)), () => Effect.void)
        )
      )
      yield* Fiber.interrupt(starter)
      expect(other.interrupted).toBe(1)
    })

    law("R4 a caller that the run itself interrupts while it starts leaves nothing behind", function*(reducer) {
      const caller: Fiber.Fiber<never> = yield* fork(
        Effect.withFiber((self) =>
          reducer.reduce("key", Effect.andThen(Effect.sync(() => self.interruptUnsafe()), Effect.never))
        )
      )
      expect(Exit.hasInterrupts(yield* Fiber.await(caller))).toBe(true)
      expect(yield* reducer.inFlight).toEqual([])
    })
  })

  describe("R5 the context of the run", () => {
    it.effect("R5 a run has the services and references of the call that started it", () =>
      Effect.gen(function*() {
        const Level = Context.Reference<string>("test/Level", { defaultValue: () => "default" })
        const reducer = yield* Reducer.make()
        const gate = Latch.makeUnsafe(false)
        const call = reducer.reduce(
          "key",
          Effect.gen(function*() {
            yield* gate.await
            return `${yield* Tenant} ${yield* Level}`
          })
        )
        const first = yield* fork(call.pipe(Effect.provideService(Tenant, "a"), Effect.provideService(Level, "high")))
        const second = yield* fork(Effect.provideService(call, Tenant, "b"))
        // It keeps them when the starter leaves.
        yield* Fiber.interrupt(first)
        yield* gate.open
        expect(yield* Fiber.join(second)).toBe("a high")
      }))

    law("R5 the spans of joining callers link to the span of the run, once each", function*(reducer) {
      const { linksOf, spans, traced } = makeTracer()
      const job = makeJob()
      const call = reducer.reduce("key", Effect.withSpan(job.effect, "work"))
      const fibers = yield* Effect.forEach(
        ["a", "b", "c"],
        (name) => fork(traced(name, Effect.all(name === "c" ? [call, call] : [call], unbounded)))
      )
      yield* job.gate.open
      yield* Fiber.joinAll(fibers)
      const a = spans.get("a")!
      expect(spans.get("work")!.parent).toEqual(Option.some(a))
      expect(["a", "b", "c"].map(linksOf)).toEqual([[], [a], [a]])
    })

    law("R5 a function's run has a span of its name, and joining callers link to that span", function*(reducer) {
      const { linksOf, spans, traced } = makeTracer()
      const job = makeJob()
      const findUser = reducer.fn("findUser")((_: string) => job.effect)
      const fibers = yield* Effect.forEach(["a", "b"], (name) => fork(traced(name, findUser("7"))))
      yield* job.gate.open
      yield* Fiber.joinAll(fibers)
      expect([...spans.keys()]).toEqual(["a", "findUser", "b"])
      expect(linksOf("b")).toEqual([spans.get("findUser")])
      expect(spans.get("findUser")!.status._tag).toBe("Ended")
    })

    law("R5 callers behind a dying run link to the run that starts for them", function*(reducer) {
      const { linksOf, spans, traced } = makeTracer()
      const { finalizer } = yield* dying(reducer)
      const job = makeJob()
      const fibers = yield* Effect.forEach(["a", "b"], (name) => fork(traced(name, reducer.reduce("key", job.effect))))
      yield* finalizer.open
      yield* Effect.yieldNow
      yield* job.gate.open
      yield* Fiber.joinAll(fibers)
      expect(["a", "b"].map(linksOf)).toEqual([[], [spans.get("a")]])
    })
  })

  describe("R6 effects that end at once", () => {
    law(
      "R6 success, failure, defect, throw and interruption in the synchronous part leave no entry behind",
      function*(reducer) {
        const thrown = new Error("thrown")
        const ends: ReadonlyArray<Effect.Effect<string, string>> = [
          Effect.succeed("value"),
          Effect.sync(() => "value"),
          Effect.fail("failure"),
          Effect.suspend(() => Effect.fail("failure")),
          Effect.die("defect"),
          Effect.sync(() => {
            throw thrown
          }),
          Effect.suspend((): Effect.Effect<string> => {
            throw thrown
          }),
          Effect.interrupt,
          Effect.withFiber((fiber) => Effect.as(Effect.sync(() => fiber.interruptUnsafe()), "value"))
        ]
        for (const end of ends) {
          const alone = yield* Fiber.await(Effect.runFork(end))
          const reduced = yield* Effect.exit(reducer.reduce("key", end))
          expect(reduced._tag).toBe(alone._tag)
          if (Exit.isFailure(alone) && Exit.isFailure(reduced)) {
            expect(reduced.cause.reasons.map((_) => _._tag)).toEqual(alone.cause.reasons.map((_) => _._tag))
          }
          expect(yield* reducer.inFlight).toEqual([])
          expect(yield* reducer.reduce("key", Effect.sync(() => "free"))).toBe("free")
        }
      }
    )

    law(
      "R6 a runtime that throws when it forks is a defect of the callers, and leaves no key taken",
      function*(reducer) {
        const call = reducer.reduce("key", Effect.succeed("value"))
        const broken = (joins: boolean) =>
          Effect.provideService(call, Metric.FiberRuntimeMetrics, {
            recordFiberStart: () => {
              if (joins) joined = Effect.runFork(Effect.exit(call))
              throw new Error("broken")
            },
            recordFiberEnd: () => {}
          })
        let joined: Fiber.Fiber<Exit.Exit<string>> | undefined
        for (const joins of [false, true]) {
          const exit = yield* Effect.exit(broken(joins))
          expect(Exit.isFailure(exit) && String(exit.cause)).toContain("broken")
          if (joined !== undefined) expect(yield* Fiber.join(joined)).toEqual(exit)
          expect(yield* reducer.inFlight).toEqual([])
          expect(yield* call).toBe("value")
        }
        expect(joined).toBeDefined()
      }
    )

    law("R6 a value that is no effect is a defect of its caller alone", function*(reducer) {
      const exit = yield* Effect.exit(reducer.reduce("key", JSON.parse("{}") as Effect.Effect<number>))
      expect(Exit.hasDies(exit)).toBe(true)
      expect(yield* reducer.inFlight).toEqual([])
    })

    law("R6 a key whose comparison throws is a defect of its caller alone", function*(reducer) {
      const key = {
        get id(): number {
          throw new Error("unreadable")
        }
      }
      expect(Exit.hasDies(yield* Effect.exit(reducer.reduce(key, Effect.succeed(1))))).toBe(true)
      expect(yield* reducer.inFlight).toEqual([])
    })

    it.effect("R6 a caller whose fiber's observer throws hangs neither the caller that left, nor the callers behind, nor the close", () =>
      Effect.gen(function*() {
        const throws = (fiber: Fiber.Fiber<unknown, unknown>) =>
          fiber.addObserver(() => {
            throw new Error("not ours")
          })
        const scope = yield* Scope.make()
        const reducer = yield* Scope.provide(Reducer.make({}), scope)
        const finalized = Deferred.makeUnsafe<void>()
        const first = yield* fork(reducer.reduce("key", Effect.onExit(Effect.never, () => Deferred.await(finalized))))
        const leaving = yield* fork(Fiber.interrupt(first))
        throws(yield* fork(reducer.reduce("key", Effect.succeed(1))))
        expect(() => Deferred.doneUnsafe(finalized, Exit.void)).toThrow("not ours")
        expect(leaving.pollUnsafe()).toEqual(Exit.void)

        const gate = Deferred.makeUnsafe<void>()
        throws(yield* fork(reducer.reduce("key", Effect.uninterruptible(Deferred.await(gate)))))
        const closing = yield* fork(Scope.close(scope, Exit.void))
        expect(() => Deferred.doneUnsafe(gate, Exit.void)).toThrow("not ours")
        expect(closing.pollUnsafe()).toEqual(Exit.void)
      }))

    law("R6 runs that start one another a thousand deep do not overflow the stack", function*(reducer) {
      const nested = (depth: number): Effect.Effect<number> =>
        depth === 0
          ? Effect.succeed(0)
          : Effect.map(reducer.reduce(depth, Effect.suspend(() => nested(depth - 1))), (_) => _ + 1)
      expect(yield* nested(3000)).toBe(3000)
      expect(yield* reducer.inFlight).toEqual([])
    })

    law("R6 a chain of runs that wait for each other ends without overflowing the stack", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      let deepest = 0
      const nested = (depth: number): Effect.Effect<number> =>
        depth === 0
          ? Effect.as(gate.await, 0)
          : Effect.map(
            reducer.reduce(depth, Effect.andThen(Effect.yieldNow, Effect.suspend(() => nested(depth - 1)))),
            (_) => {
              if (_ % 50 === 0) deepest = Math.max(deepest, new Error().stack!.split("\n").length)
              return _ + 1
            }
          )
      const fiber = yield* fork(nested(3000))
      while ((yield* reducer.inFlight).length < 3000) {
        yield* Effect.yieldNow
      }
      const limit = Error.stackTraceLimit
      Error.stackTraceLimit = 64 * 40
      yield* gate.open
      const ends = Effect.ensuring(Fiber.join(fiber), Effect.sync(() => (Error.stackTraceLimit = limit)))
      expect(yield* ends).toBe(3000)
      // Of the runs that end in the ends of others no more than 64 lie on the stack.
      expect(deepest).toBeLessThan(64 * 40)
      expect(yield* reducer.inFlight).toEqual([])
    })
  })

  describe("R7 cycles", () => {
    const cycleOf = (exit: Exit.Exit<unknown, unknown>): ReadonlyArray<unknown> | undefined => {
      if (Exit.isSuccess(exit)) return undefined
      const die = exit.cause.reasons.find(Cause.isDieReason)
      return die?.defect instanceof Reducer.ReducerCycle ? die.defect.path.map((run) => run.key) : undefined
    }

    for (const when of ["at once", "later"]) {
      const pause = when === "later" ? Effect.yieldNow : Effect.void
      law(`R7 a run that reduces its own key ${when} dies`, function*(reducer) {
        const exit = yield* Effect.exit(
          reducer.reduce("a", Effect.andThen(pause, reducer.reduce("a", Effect.succeed(1))))
        )
        expect(cycleOf(exit)).toEqual(["a", "a"])
        expect(yield* reducer.inFlight).toEqual([])
      })

      law(`R7 a longer way back to oneself ${when} dies`, function*(reducer) {
        const a: Effect.Effect<number> = reducer.reduce("a", Effect.andThen(pause, Effect.suspend(() => b)))
        const b: Effect.Effect<number> = reducer.reduce("b", Effect.andThen(pause, Effect.suspend(() => c)))
        const c: Effect.Effect<number> = reducer.reduce("c", Effect.andThen(pause, Effect.suspend(() => a)))
        expect(cycleOf(yield* Effect.exit(a))).toEqual(["c", "a", "b", "c"])
        expect(yield* reducer.inFlight).toEqual([])
      })
    }

    law("R7 A and B started by different callers, each joining the other, do not hang", function*(reducer) {
      const gates = [Latch.makeUnsafe(false), Latch.makeUnsafe(false)]
      const a = reducer.reduce("a", Effect.andThen(gates[0]!.await, reducer.reduce("b", Effect.succeed("new b"))))
      const b = reducer.reduce("b", Effect.andThen(gates[1]!.await, reducer.reduce("a", Effect.succeed("new a"))))
      const fibers = [yield* fork(a), yield* fork(b)]
      yield* gates[0]!.open
      yield* Effect.yieldNow
      yield* gates[1]!.open
      const exits = yield* Fiber.awaitAll(fibers)
      // The second call closes the cycle, and so is the one that dies; the first one waits for it and sees that.
      expect(exits.map(cycleOf)).toEqual([["b", "a", "b"], ["b", "a", "b"]])
    })

    it.effect("R7 cycles go across reducers", () =>
      Effect.gen(function*() {
        const one = yield* Reducer.make()
        const two = yield* Reducer.make()
        const inner = two.reduce("b", Effect.andThen(Effect.yieldNow, one.reduce("a", Effect.succeed(1))))
        expect(cycleOf(yield* Effect.exit(one.reduce("a", inner)))).toEqual(["b", "a", "b"])
      }))

    law(
      "R7 a finalizer that reduces the key of its own dying run dies, and the last caller returns",
      function*(reducer) {
        let seen: Exit.Exit<unknown, unknown> | undefined
        const call = reducer.reduce(
          "a",
          Effect.never.pipe(Effect.ensuring(
            Effect.exit(reducer.reduce("a", Effect.succeed(1))).pipe(
              Effect.tap((exit) => Effect.sync(() => (seen = exit)))
            )
          ))
        )
        const fiber = yield* fork(call)
        yield* Fiber.interrupt(fiber)
        expect(cycleOf(seen!)).toEqual(["a", "a"])
        expect(yield* reducer.inFlight).toEqual([])
      }
    )

    for (const alive of [true, false]) {
      law(
        `R7 a finalizer that joins the run of its last caller, ${alive ? "alive" : "ending too"}, dies`,
        function*(reducer) {
          let seen: Exit.Exit<unknown, unknown> | undefined
          const inner = reducer.reduce(
            "inner",
            Effect.never.pipe(Effect.ensuring(
              Effect.exit(reducer.reduce("outer", Effect.succeed(1))).pipe(
                Effect.tap((exit) => Effect.sync(() => (seen = exit)))
              )
            ))
          )
          const call = reducer.reduce("outer", Effect.flatMap(fork(inner), alive ? Fiber.interrupt : Fiber.join))
          const fiber = yield* fork(call)
          yield* Fiber.interrupt(fiber)
          expect(cycleOf(seen!)).toEqual(["inner", "outer", "inner"])
          expect(yield* reducer.inFlight).toEqual([])
        }
      )
    }

    law("R7 a finalizer that waits behind its own run through another one's pending run dies", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      let seen: Exit.Exit<unknown, unknown> | undefined
      // b waits behind the dying a; the finalizer of a reduces b.
      const a = reducer.reduce(
        "a",
        Effect.never.pipe(Effect.ensuring(
          gate.await.pipe(
            Effect.andThen(Effect.exit(reducer.reduce("b", Effect.succeed(1)))),
            Effect.tap((exit) => Effect.sync(() => (seen = exit)))
          )
        ))
      )
      const first = yield* fork(a)
      const leaving = yield* fork(Fiber.interrupt(first))
      const b = yield* fork(reducer.reduce("b", reducer.reduce("a", Effect.succeed("anew"))))
      yield* gate.open
      yield* Fiber.join(leaving)
      expect(cycleOf(seen!)).toEqual(["a", "b", "a"])
      expect(yield* Fiber.join(b)).toBe("anew")
    })

    law("R7 two parallel joins of one run are no cycle", function*(reducer) {
      const job = makeJob()
      const join = reducer.reduce("shared", job.effect)
      const outer = yield* fork(reducer.reduce("outer", Effect.all([join, join, join], unbounded)))
      const other = yield* fork(reducer.reduce("other", join))
      yield* job.gate.open
      expect(yield* Fiber.join(outer)).toEqual([1, 1, 1])
      expect(yield* Fiber.join(other)).toBe(1)
    })

    law("R7 an edge ends with its wait, by interruption too", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      const b = yield* fork(
        reducer.reduce("b", Effect.andThen(gate.await, reducer.reduce("a", Effect.succeed("new a"))))
      )
      const aGate = Latch.makeUnsafe(false)
      const a = yield* fork(reducer.reduce(
        "a",
        Effect.gen(function*() {
          const waiting = yield* fork(reducer.reduce("b", Effect.succeed("new b")))
          yield* Fiber.interrupt(waiting)
          yield* aGate.await
          return "old a"
        })
      ))
      yield* gate.open
      yield* Effect.yieldNow
      yield* aGate.open
      expect(yield* Fiber.join(b)).toBe("old a")
      expect(yield* Fiber.join(a)).toBe("old a")
    })

    law("R7 an edge stays while another fiber of the run still waits", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      const b = yield* fork(
        reducer.reduce("b", Effect.andThen(gate.await, Effect.exit(reducer.reduce("a", Effect.succeed("new a")))))
      )
      const a = yield* fork(reducer.reduce(
        "a",
        Effect.gen(function*() {
          const waiting = yield* fork(reducer.reduce("b", Effect.never))
          const leaving = yield* fork(reducer.reduce("b", Effect.never))
          yield* Fiber.interrupt(leaving)
          return yield* Fiber.join(waiting)
        })
      ))
      yield* gate.open
      const inB = yield* Fiber.join(b)
      expect(Exit.hasDies(inB)).toBe(true)
      expect(yield* Fiber.join(a)).toBe(inB)
    })

    law("R7 the run that a fiber belongs to is void once that run has ended", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      const child = yield* reducer.reduce(
        "a",
        Effect.forkDetach(Effect.andThen(gate.await, reducer.reduce("a", Effect.succeed("second run"))))
      )
      yield* gate.open
      expect(yield* Fiber.join(child)).toBe("second run")
    })

    law("R7 a detached effect does not belong to the run that it is started from", function*(reducer) {
      const gate = Latch.makeUnsafe(false)
      let background: Fiber.Fiber<string> | undefined
      const outer = yield* fork(reducer.reduce(
        "a",
        Effect.gen(function*() {
          background = yield* Effect.forkDetach(
            Reducer.detached(reducer.reduce("a", Effect.succeed("second run"))),
            { startImmediately: true }
          )
          yield* gate.await
          return "first run"
        })
      ))
      yield* gate.open
      expect(yield* Fiber.join(outer)).toBe("first run")
      expect(yield* Fiber.join(background!)).toBe("first run")
    })

    law("R7 the defect names the keys, and functions by their name", function*(reducer) {
      const load: (id: string) => Effect.Effect<number> = reducer.fn("load")((_: string) =>
        reducer.reduce(["b", 1], load("7"))
      )
      const exit = yield* Effect.exit(load("7"))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(
        `the run would wait for itself: ["b",1] -> load "7" -> ["b",1]`
      )
    })
  })

  describe("R9 closing", () => {
    law("R9 interrupts the runs, callers see it, and waits for the finalizers", function*(reducer, scope) {
      const finalizer = Latch.makeUnsafe(false)
      const jobs = [makeJob({ finalizer }), makeJob()]
      const fibers = yield* Effect.forEach([0, 0, 1], (i) => fork(reducer.reduce(i, jobs[i]!.effect)))
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* Effect.yieldNow
      expect(jobs.map((job) => job.interrupted)).toEqual([1, 1])
      expect(closing.pollUnsafe()).toBe(undefined)
      yield* finalizer.open
      yield* Fiber.join(closing)
      const exits = yield* Fiber.awaitAll(fibers)
      expect(exits.map((exit) => Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))).toEqual([
        true,
        true,
        true
      ])
      expect(jobs.map((job) => job.ended)).toEqual([1, 1])
    })

    law("R9 a later call is interrupted at once, and does not run", function*(reducer, scope) {
      yield* Scope.close(scope, Exit.void)
      const job = makeJob()
      const exit = yield* Effect.exit(reducer.reduce("key", job.effect))
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      expect(Exit.hasInterrupts(yield* Effect.exit(reducer.reduce("key", Effect.succeed(1))))).toBe(true)
      expect(job.started).toBe(0)
    })

    law("R9 callers behind a dying run are interrupted too, and their run never starts", function*(reducer, scope) {
      const { finalizer, job } = yield* dying(reducer)
      const newcomer = yield* fork(reducer.reduce("key", job.effect))
      const closing = yield* fork(Scope.close(scope, Exit.void))
      expect(Exit.hasInterrupts(yield* Fiber.await(newcomer))).toBe(true)
      yield* finalizer.open
      yield* Fiber.join(closing)
      expect(job.started).toBe(1)
    })

    law("R9 forgotten runs are interrupted too", function*(reducer, scope) {
      const job = makeJob()
      const fiber = yield* fork(reducer.reduce("key", job.effect))
      yield* reducer.forget("key")
      yield* Scope.close(scope, Exit.void)
      expect(job.interrupted).toBe(1)
      expect(Exit.hasInterrupts(yield* Fiber.await(fiber))).toBe(true)
    })

    law(
      "R9 a run that closes its own layer does not wait for itself, nor for the runs that wait for it",
      function*(reducer, scope) {
        const other = makeJob()
        yield* fork(reducer.reduce("other", other.effect))
        const closer = reducer.reduce("inner", Effect.andThen(Effect.yieldNow, Scope.close(scope, Exit.void)))
        const outer = yield* fork(reducer.reduce("outer", closer))
        expect(Exit.hasInterrupts(yield* Fiber.await(outer))).toBe(true)
        expect(other.interrupted).toBe(1)
      }
    )

    law("R9 a run that is closed from its own synchronous part is interrupted", function*(reducer, scope) {
      const exit = yield* Effect.exit(reducer.reduce(
        "key",
        Effect.suspend(() => {
          Effect.runFork(Scope.close(scope, Exit.void))
          return Effect.never
        })
      ))
      expect(Exit.hasInterrupts(exit)).toBe(true)
    })
  })

  describe("R10 joining and leaving", () => {
    law(
      "R10 50,000 callers of one key, interrupted in any order, are unlinked in a constant number of steps each",
      function*(reducer) {
        const job = makeJob()
        const n = 50_000
        const fibers: Array<Fiber.Fiber<number>> = []
        const stay = yield* fork(reducer.reduce("key", job.effect))
        for (let i = 0; i < n; i++) {
          fibers.push(Effect.runFork(reducer.reduce("key", job.effect)))
        }
        expect((yield* reducer.inFlight)[0]!.callers).toBe(n + 1)
        // A fixed stride that is coprime to n visits everyone in an order that is neither first nor last in.
        const stride = 30_011
        for (let i = 0, at = 0; i < n; i++, at = (at + stride) % n) {
          fibers[at]!.interruptUnsafe()
        }
        expect((yield* reducer.inFlight)[0]!.callers).toBe(1)
        expect(job.interrupted).toBe(0)
        yield* job.gate.open
        expect(yield* Fiber.join(stay)).toBe(1)
      }
    )
  })

  describe("forget", () => {
    law(
      "the next call starts a run at once; callers in flight keep theirs; the old run ends without taking the key",
      function*(reducer) {
        const old = makeJob()
        const young = makeJob()
        const first = yield* fork(reducer.reduce("key", Effect.as(old.effect, "old")))
        yield* reducer.forget("key")
        const second = yield* fork(reducer.reduce("key", Effect.as(young.effect, "young")))
        expect(young.started).toBe(1)
        yield* old.gate.open
        expect(yield* Fiber.join(first)).toBe("old")
        // The old run has ended without taking the key away from the young one.
        const third = yield* fork(reducer.reduce("key", Effect.succeed("third")))
        yield* young.gate.open
        expect(yield* Fiber.join(second)).toBe("young")
        expect(yield* Fiber.join(third)).toBe("young")
      }
    )

    law(
      "forgetting a dying run lets the next call start at once, and those behind it keep their pending run",
      function*(reducer) {
        const { finalizer, leaving } = yield* dying(reducer)
        const pending = yield* fork(reducer.reduce("key", Effect.succeed("pending")))
        yield* reducer.forget("key")
        expect(yield* reducer.reduce("key", Effect.sync(() => "at once"))).toBe("at once")
        const job = makeJob()
        const other = yield* fork(reducer.reduce("key", job.effect))
        yield* finalizer.open
        yield* Fiber.join(leaving)
        expect(yield* Fiber.join(pending)).toBe("pending")
        // The pending run did not take the key away from the one that runs.
        expect((yield* reducer.inFlight).map((run) => run.phase)).toEqual(["running"])
        const joined = yield* fork(reducer.reduce("key", Effect.succeed(0)))
        yield* job.gate.open
        expect(yield* Fiber.joinAll([other, joined])).toEqual([1, 1])
      }
    )

    law("forgetting a key that is not in flight does nothing", function*(reducer) {
      yield* reducer.forget("key")
      yield* reducer.forget(() => Effect.void)
      expect(yield* reducer.inFlight).toEqual([])
    })
  })

  describe("inFlight", () => {
    law("shows name, key, callers, age and phase of each run, the oldest first", function*(reducer) {
      const job = makeJob()
      const find = reducer.fn("find")((_: string, __: number) => job.effect)
      yield* fork(reducer.reduce(["a"], job.effect))
      yield* TestClock.adjust("3 seconds")
      yield* fork(find("x", 1))
      yield* fork(find("x", 1))
      yield* TestClock.adjust("2 seconds")
      expect(yield* reducer.inFlight).toEqual([
        { name: undefined, key: ["a"], callers: 1, age: Duration.seconds(5), phase: "running" },
        { name: "find", key: ["x", 1], callers: 2, age: Duration.seconds(2), phase: "running" }
      ])
    })

    law("the age of a run is 0 if the clock was set back", function*(reducer) {
      yield* TestClock.setTime(1000)
      yield* fork(reducer.reduce("key", Effect.never))
      yield* TestClock.setTime(0)
      expect((yield* reducer.inFlight).map(({ age }) => age)).toEqual([Duration.zero])
    })

    law("the age of a pending run counts from its first caller", function*(reducer) {
      const { finalizer } = yield* dying(reducer)
      for (let i = 0; i < 2; i++) {
        yield* fork(reducer.reduce("key", Effect.never))
        yield* TestClock.adjust("1 second")
      }
      expect((yield* reducer.inFlight).map(({ age, phase }) => [phase, Duration.toSeconds(age)]))
        .toEqual([["ending", 2], ["pending", 2]])
      yield* finalizer.open
    })
  })

  describe("fn", () => {
    const setup = Effect.gen(function*() {
      const reducer = yield* Reducer.make()
      const calls: Array<ReadonlyArray<unknown>> = []
      const gate = Latch.makeUnsafe(false)
      const f = (...args: ReadonlyArray<unknown>) =>
        Effect.suspend(() => {
          calls.push(args)
          return Effect.as(gate.await, args.length)
        })
      return { reducer, calls, gate, f }
    })

    it.effect("equal arguments share a run, others do not", () =>
      Effect.gen(function*() {
        const { calls, f, gate, reducer } = yield* setup
        const g = reducer.fn("g")(f)
        const args: ReadonlyArray<ReadonlyArray<unknown>> = [
          [],
          [undefined],
          [1],
          [-1],
          [-2],
          ["1"],
          [true],
          [[1]],
          [1, 2],
          [[1, 2]],
          [{ a: 1, b: [2] }],
          [{ a: 1, b: [3] }]
        ]
        for (const list of args) {
          yield* fork(g(...list))
          yield* fork(g(...structuredClone(list)))
        }
        expect(calls).toEqual(args)
        yield* gate.open
      }))

    it.effect("a single primitive argument is the key by itself, other arguments are a list", () =>
      Effect.gen(function*() {
        const { f, gate, reducer } = yield* setup
        const g = reducer.fn("g")(f)
        for (const list of [[null], [undefined], ["a"], [[1]], [1, 2], []]) yield* fork(g(...list))
        expect((yield* reducer.inFlight).map((run) => run.key)).toEqual([null, undefined, "a", [[1]], [1, 2], []])
        yield* gate.open
      }))

    it.effect("two functions of one name do not meet; the same function made twice does", () =>
      Effect.gen(function*() {
        const { calls, f, reducer } = yield* setup
        const other = (...args: ReadonlyArray<unknown>) => f("other", ...args)
        yield* fork(reducer.fn("g")(f)(1))
        yield* fork(reducer.fn("g")(other)(1))
        yield* fork(reducer.fn("g")(f)(1))
        yield* fork(reducer.fn("another name")(f)(1))
        yield* fork(reducer.reduce(1, Effect.sync(() => calls.push(["plain"]))))
        expect(calls).toEqual([[1], ["other", 1], ["plain"]])
      }))

    it.effect("the key option says which arguments are equal", () =>
      Effect.gen(function*() {
        const { calls, f, reducer } = yield* setup
        const g = reducer.fn("g", { key: (user: { readonly id: number; readonly name: string }) => user.id })(f)
        yield* fork(g({ id: 1, name: "a" }))
        yield* fork(g({ id: 1, name: "b" }))
        yield* fork(g({ id: 2, name: "b" }))
        expect(calls).toEqual([[{ id: 1, name: "a" }], [{ id: 2, name: "b" }]])
        expect((yield* reducer.inFlight).map((run) => [run.key, run.callers])).toEqual([[1, 2], [2, 1]])
      }))

    it.effect("an argument of a parameter with a default, or of a rest parameter, is part of the key", () =>
      Effect.gen(function*() {
        const { calls, f, gate, reducer } = yield* setup
        const page = reducer.fn("page")((id: string, page = 1) => f(id, page))
        const rest = reducer.fn("rest")((...ids: ReadonlyArray<string>) => f(...ids))
        const fibers = [
          yield* fork(page("a")),
          yield* fork(page("a", 2)),
          yield* fork(page("a", 2)),
          yield* fork(rest("a", "b")),
          yield* fork(rest("a", "c"))
        ]
        yield* gate.open
        yield* Fiber.joinAll(fibers)
        expect(calls).toEqual([["a", 1], ["a", 2], ["a", "b"], ["a", "c"]])
      }))

    it.effect("items of forEach that are equal share a run", () =>
      Effect.gen(function*() {
        const { calls, f, gate, reducer } = yield* setup
        const find = reducer.fn("find")((id: string) => f(id))
        const all = yield* fork(
          Effect.forEach(["a", "b", "a", "a"], (id) => find(id), { concurrency: "unbounded", discard: true })
        )
        yield* gate.open
        yield* Fiber.join(all)
        expect(calls).toEqual([["a"], ["b"]])
      }))

    law("an error that the function or the key option throws is a defect, and no run stays", function*(reducer) {
      const thrower = (): never => {
        throw new Error("thrown")
      }
      const one = reducer.fn("one")((_: number): Effect.Effect<number> => thrower())
      const two = reducer.fn("two", { key: (_: number) => thrower() })((_: number) => Effect.succeed(1))
      expect(Exit.hasDies(yield* Effect.exit(one(1)))).toBe(true)
      expect(Exit.hasDies(yield* Effect.exit(two(1)))).toBe(true)
      expect(yield* reducer.inFlight).toEqual([])
    })

    it.effect("forget takes a function with its arguments, or all of its calls", () =>
      Effect.gen(function*() {
        const { calls, f, reducer } = yield* setup
        const accessor = Reducer.fn("g")(f)
        const own = reducer.fn("own")((id: string) => f("own", id))
        yield* Effect.gen(function*() {
          yield* fork(accessor("a"))
          yield* fork(accessor("b"))
          yield* Reducer.forget(accessor, "a")
          yield* fork(accessor("a"))
          yield* fork(accessor("b"))
          expect(calls.splice(0)).toEqual([["a"], ["b"], ["a"]])
          yield* Reducer.forget(accessor)
          yield* fork(accessor("a"))
          yield* fork(accessor("b"))
          expect(calls.splice(0)).toEqual([["a"], ["b"]])
          yield* fork(own("a"))
          yield* reducer.forget(own, "a")
          yield* fork(own("a"))
          expect(calls).toEqual([["own", "a"], ["own", "a"]])
        }).pipe(Effect.provideService(Reducer.Reducer, reducer))
      }))
  })

  describe("the service", () => {
    it.effect("accessors, direct and piped, reduce on the reducer of the context", () =>
      Effect.gen(function*() {
        const job = makeJob()
        const fibers = [
          yield* fork(Reducer.reduce("key", job.effect)),
          yield* fork(job.effect.pipe(Reducer.reduce("key"))),
          yield* fork(Effect.flatMap(Reducer.Reducer, (_) => _.reduce("key", job.effect)))
        ]
        expect((yield* Reducer.inFlight).map((run) => run.callers)).toEqual([3])
        yield* job.gate.open
        expect(yield* Fiber.joinAll(fibers)).toEqual([1, 1, 1])
      }).pipe(Effect.provide(Reducer.layer())))

    it.effect("classes are reducers of their own", () => {
      class One extends Reducer.Service<One>()("test/One", { name: "one" }) {}
      class Two extends Reducer.Service<Two>()("test/Two") {}
      return Effect.gen(function*() {
        const job = makeJob()
        const twice = One.fn("twice")((n: number) => Effect.as(job.effect, n * 2))
        yield* fork(One.reduce("key", job.effect))
        yield* fork(Two.reduce("key", job.effect))
        const four = yield* fork(twice(2))
        expect(job.started).toBe(3)
        expect((yield* One.inFlight).map((run) => run.key)).toEqual(["key", 2])
        yield* One.forget(twice, 2)
        yield* fork(twice(2))
        expect(job.started).toBe(4)
        expect((yield* Two.inFlight).length).toBe(1)
        yield* job.gate.open
        expect(yield* Fiber.join(four)).toBe(4)
        expect((yield* One)[Reducer.TypeId]).toBe(Reducer.TypeId)
      }).pipe(Effect.provide([One.layer, Two.layer]))
    })

    it.effect("a function made from an accessor goes with the reducer that it is called on", () =>
      Effect.gen(function*() {
        const job = makeJob()
        const f = Reducer.fn("f")((_: string) => job.effect)
        const one = yield* Reducer.make()
        const two = yield* Reducer.make()
        for (const reducer of [one, two, one, two]) {
          yield* fork(Effect.provideService(f("a"), Reducer.Reducer, reducer))
        }
        expect(job.started).toBe(2)
        yield* job.gate.open
      }))

    it.effect("a handle is told from other values, is pipeable, and logs its name and how many runs are in flight", () =>
      Effect.gen(function*() {
        const reducer = yield* Reducer.make({ name: "prices" })
        yield* fork(reducer.reduce("key", Effect.never))
        expect([reducer, yield* Reducer.Reducer, Reducer, {}, null].map(Reducer.isReducer)).toEqual([
          true,
          true,
          false,
          false,
          false
        ])
        expect(reducer.pipe((_) => _.reduce("other", Effect.succeed(1)), Effect.runSync)).toBe(1)
        expect(reducer.toJSON()).toEqual({ _id: "effect-funnel/Reducer", name: "prices", inFlight: 1 })
        expect(String(reducer)).toBe(`{"_id":"effect-funnel/Reducer","name":"prices","inFlight":1}`)
      }).pipe(Effect.provide(Reducer.layerNoop)))

    it.effect("a function of a handle of layerNoop is called at each run of its effect, and what it throws is a defect", () =>
      Effect.gen(function*() {
        const reducer = yield* Reducer.Reducer
        let calls = 0
        const third = reducer.fn("third")((value: number) => ++calls < 3 ? Effect.fail("again") : Effect.succeed(value))
        expect(yield* Effect.retry(third(7), { times: 2 })).toBe(7)
        const error = new Error("thrown")
        const thrown = reducer.fn("throws")((): Effect.Effect<number> => {
          throw error
        })
        expect(yield* Effect.exit(thrown())).toEqual(Exit.die(error))
      }).pipe(Effect.provide(Reducer.layerNoop)))

    it.effect("layerNoop reduces nothing", () => {
      class One extends Reducer.Service<One>()("test/One") {}
      return Effect.gen(function*() {
        const job = makeJob()
        const f = Reducer.fn("f")((_: number) => job.effect)
        for (let i = 0; i < 2; i++) {
          yield* fork(Reducer.reduce("key", job.effect))
          yield* fork(job.effect.pipe(One.reduce("key")))
          yield* fork(f(1))
        }
        expect(job.started).toBe(6)
        yield* Reducer.forget("key")
        expect(yield* Reducer.inFlight).toEqual([])
        yield* job.gate.open
      }).pipe(Effect.provide(Layer.merge(Reducer.layerNoop, One.layerNoop)))
    })
  })

  describe("misuse", () => {
    it.effect("an effect that runs reduce after its reducer's scope is closed by Effect.provide ends interrupted, not hung", () =>
      Effect.gen(function*() {
        const reducer = yield* Effect.provide(Reducer.Reducer, Reducer.layer())
        expect(Exit.hasInterrupts(yield* Effect.exit(reducer.reduce("key", Effect.never)))).toBe(true)
      }))

    law(
      "a mutable key that changes while in flight is found by what it is now, and its run still ends cleanly",
      function*(reducer) {
        const key = { id: 1 }
        const job = makeJob()
        const first = yield* fork(reducer.reduce(key, job.effect))
        key.id = 2
        expect(yield* reducer.reduce(key, Effect.sync(() => "two"))).toBe("two")
        expect(yield* reducer.reduce({ id: 2 }, Effect.sync(() => "two"))).toBe("two")
        yield* job.gate.open
        yield* Fiber.join(first)
        expect(yield* reducer.inFlight).toEqual([])
      }
    )

    it.effect("a typed error that is thrown away by one caller still reaches the others", () =>
      Effect.gen(function*() {
        class NotFound extends Data.TaggedError("NotFound")<{ readonly id: string }> {}
        const reducer = yield* Reducer.make()
        const gate = yield* Deferred.make<never, NotFound>()
        const call = reducer.reduce("key", Deferred.await(gate))
        const ignoring = yield* fork(Effect.ignore(call))
        const seeing = yield* fork(Effect.flip(call))
        yield* Deferred.fail(gate, new NotFound({ id: "7" }))
        yield* Fiber.join(ignoring)
        expect((yield* Fiber.join(seeing)).id).toBe("7")
      }))
  })
})
