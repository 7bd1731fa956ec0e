import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Hooks, Reducer } from "effect-funnel"
import { fork, settle } from "./support/fibers.ts"

class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}

/** Hooks that record their events. */
const recorder = () => {
  const events: Array<string> = []
  const write = (what: string) => (event: Hooks.Event) =>
    void events.push(`${what} ${String(event.key)} ${event.callers}`)
  const hooks: Hooks.Hooks = {
    onCall: write("call"),
    onStart: write("start"),
    onJoin: write("join"),
    onSuccess: (event) => void events.push(`success ${String(event.key)} ${String(event.value)}`),
    onFailure: (event) => void events.push(`failure ${String(event.key)} ${Cause.squash(event.cause)}`),
    onInterrupt: (event) => void events.push(`interrupt ${String(event.key)} ${Cause.hasInterruptsOnly(event.cause)}`)
  }
  return { events, hooks, take: () => events.splice(0) }
}

describe("hooks of a reducer", () => {
  it.effect("R8 Their events name the reducer by the id of its tag, or by its name", () =>
    Effect.gen(function*() {
      const names: Array<string> = []
      const hooks: Hooks.Hooks = { onStart: ({ reducer }) => void names.push(reducer) }
      class Prices extends Reducer.Service<Prices>()("app/Prices", { hooks }) {}
      class Rates extends Reducer.Service<Rates>()("app/Rates", { hooks, name: "rates" }) {}
      const call = Effect.andThen(Prices.reduce("a", Effect.void), Rates.reduce("a", Effect.void))
      yield* Effect.provide(call, [Prices.layer, Rates.layer])
      yield* Effect.provide(Reducer.reduce("a", Effect.void), Reducer.layer({ hooks }))
      expect(names).toEqual(["app/Prices", "rates", "effect-funnel/Reducer"])
    }))

  it.effect("R8 Hooks receive call, start, join and end in order", () =>
    Effect.gen(function*() {
      const { hooks, take } = recorder()
      const reducer = yield* Reducer.make({ hooks })
      const gate = Latch.makeUnsafe(false)
      const call = reducer.reduce("a", Effect.as(gate.await, 7))
      const fibers = [yield* fork(call), yield* fork(call), yield* fork(call)]
      expect(take()).toEqual(["call a 0", "start a 1", "call a 0", "join a 2", "call a 0", "join a 3"])
      yield* Fiber.interrupt(fibers[0]!)
      expect(take()).toEqual([])
      yield* gate.open
      yield* Fiber.join(fibers[1]!)
      expect(take()).toEqual(["success a 7"])
      yield* Effect.exit(reducer.reduce("b", Effect.fail("no")))
      yield* Effect.exit(reducer.reduce("c", Effect.die("bad")))
      yield* Effect.exit(reducer.reduce("d", Effect.interrupt))
      yield* reducer.reduce("e", Effect.succeed(1))
      expect(take()).toEqual([
        "call b 0",
        "start b 1",
        "failure b no",
        "call c 0",
        "start c 1",
        "failure c bad",
        "call d 0",
        "start d 1",
        "interrupt d true",
        "call e 0",
        "start e 1",
        "success e 1"
      ])
    }))

  it.effect("R8 Hooks receive the start of a run that waited for a dying one", () =>
    Effect.gen(function*() {
      const { hooks, take } = recorder()
      const reducer = yield* Reducer.make({ hooks })
      const finalizer = Latch.makeUnsafe(false)
      const first = yield* fork(reducer.reduce("a", Effect.ensuring(Effect.never, finalizer.await)))
      const leaving = yield* fork(Fiber.interrupt(first))
      const fibers = [
        yield* fork(reducer.reduce("a", Effect.succeed(1))),
        yield* fork(reducer.reduce("a", Effect.succeed(2)))
      ]
      expect(take()).toEqual(["call a 0", "start a 1", "call a 0", "call a 0", "join a 2"])
      yield* finalizer.open
      yield* Fiber.join(leaving)
      yield* Fiber.joinAll(fibers)
      expect(take()).toEqual(["interrupt a true", "start a 2", "success a 1"])
    }))

  it.effect("R5 R8 A hook that ends the caller whose effect is about to start takes no service from the run, nor its clock", () =>
    Effect.gen(function*() {
      const finalizer = yield* Latch.make()
      const leaving: Array<Fiber.Fiber<unknown>> = []
      const reducer = yield* Reducer.make({
        hooks: { onStart: () => leaving.forEach((caller) => caller.interruptUnsafe()) }
      })
      const dying = yield* fork(
        reducer.reduce("key", Effect.onInterrupt(Effect.never, () => finalizer.await))
      )
      yield* fork(Fiber.interrupt(dying))
      const call = (tenant: string) =>
        fork(Effect.provideService(reducer.reduce("key", Effect.delay(Tenant, "1 second")), Tenant, tenant))
      leaving.push(yield* call("first"))
      const stays = yield* call("second")
      yield* finalizer.open
      yield* TestClock.adjust("600 millis")
      expect((yield* reducer.inFlight).map(({ age }) => age)).toEqual([Duration.millis(600)])
      yield* TestClock.adjust("400 millis")
      expect(yield* Fiber.join(stays)).toBe("first")
    }))

  it.effect("R8 A call that the hook of a start makes joins the run, also where callers have waited for the run in front", () =>
    Effect.gen(function*() {
      let finalize = () => {}
      const finalizer = Effect.callback<void>((resume) => {
        finalize = () => resume(Effect.void)
      })
      const gate = yield* Latch.make()
      const joined: Array<Fiber.Fiber<string>> = []
      const call = (value: string) => reducer.reduce("key", Effect.as(gate.await, value))
      const reducer = yield* Reducer.make({
        hooks: { onStart: ({ callers }) => callers === 2 && void joined.push(Effect.runFork(call("joined"))) }
      })
      const dying = yield* fork(reducer.reduce("key", Effect.onInterrupt(Effect.never, () => finalizer)))
      const leaving = yield* fork(Fiber.interrupt(dying))
      const waiting = [yield* fork(call("first")), yield* fork(call("second"))]
      finalize()
      yield* Fiber.join(leaving)
      yield* gate.open
      expect(yield* Fiber.joinAll([...waiting, ...joined])).toEqual(["first", "first", "first"])
    }))

  it.effect("R8 The event of a run's end has the services of its call, also if the run ends in the step in which it starts", () =>
    Effect.gen(function*() {
      const tenants: Array<string> = []
      const end = ({ context }: Hooks.Event) => void tenants.push(Context.getUnsafe(context, Tenant))
      const reducer = yield* Reducer.make({ hooks: { onSuccess: end, onFailure: end } })
      const runs = { atOnce: Effect.succeed(1), later: Effect.yieldNow, failing: Effect.fail("no") }
      for (const [tenant, run] of Object.entries(runs)) {
        yield* Effect.exit(Effect.provideService(reducer.reduce("key", run), Tenant, tenant))
      }
      expect(tenants).toEqual(["atOnce", "later", "failing"])
    }))

  it.effect("R4 A last caller that leaves a run that has ended waits for nothing: it is gone before the hook of the end returns", () =>
    Effect.gen(function*() {
      const gate = yield* Latch.make()
      let exit: Exit.Exit<unknown, unknown> | undefined
      const reducer = yield* Reducer.make({
        hooks: {
          onSuccess: () => {
            caller.interruptUnsafe()
            exit = caller.pollUnsafe()
          }
        }
      })
      const caller = yield* fork(reducer.reduce("key", gate.await))
      yield* gate.open
      yield* settle
      expect(exit !== undefined && Exit.hasInterrupts(exit)).toBe(true)
      expect(yield* reducer.inFlight).toEqual([])
    }))

  it.effect("R8 Events name the reducer and the function", () =>
    Effect.gen(function*() {
      const seen: Array<Hooks.Event> = []
      const reducer = yield* Reducer.make({ name: "app", hooks: { onStart: (event) => void seen.push(event) } })
      yield* reducer.fn("double")((n: number) => Effect.succeed(n * 2))(2)
      yield* reducer.reduce("key", Effect.void)
      expect(seen.map(({ key, name, reducer }) => [reducer, name, key])).toEqual([
        ["app", "double", 2],
        ["app", undefined, "key"]
      ])
    }))

  const names = ["onCall", "onStart", "onJoin", "onSuccess", "onFailure", "onInterrupt"] as const
  for (const name of names) {
    for (const how of ["throws", "rejects"]) {
      it.effect(`R8 ${name} that ${how} is logged and ignored, and the key is free afterwards`, () => {
        const logged: Array<unknown> = []
        const logger = Logger.make<unknown, void>(({ cause, message }) => {
          logged.push([message, Cause.squash(cause)].flat())
        })
        const error = new Error("hook")
        const hook = (): void => {
          if (how === "throws") throw error
          // An async hook: a function that returns a promise is a `() => void` to the compiler.
          return Promise.reject(error) as never
        }
        return Effect.gen(function*() {
          const reducer = yield* Reducer.make({ hooks: { [name]: hook } })
          const gate = Latch.makeUnsafe(false)
          for (const end of [Effect.succeed(1), Effect.fail("no"), Effect.interrupt]) {
            gate.closeUnsafe()
            const call = reducer.reduce("key", Effect.andThen(gate.await, end))
            const fibers = [yield* fork(call), yield* fork(call)]
            yield* gate.open
            for (const fiber of fibers) {
              expect((yield* Fiber.await(fiber))._tag).toBe(
                end === Effect.interrupt ? "Failure" : (yield* Effect.exit(end))._tag
              )
            }
            expect(yield* reducer.inFlight).toEqual([])
          }
          yield* Effect.promise(() => Promise.resolve())
          expect(logged.length).toBeGreaterThan(0)
          for (const line of logged) {
            expect(line).toEqual([`A hook failed and was ignored: ${name}`, error])
          }
        }).pipe(Effect.provide(Logger.layer([logger])))
      })
    }
  }

  it.effect("R8 A hook that ends the run, closes the reducer or calls it blocks no caller", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe(false)
      const ending = yield* Reducer.make({ hooks: { onJoin: () => void gate.openUnsafe() } })
      const call = ending.reduce("key", Effect.as(gate.await, 1))
      const fibers = [yield* fork(call), yield* fork(call)]
      expect(yield* Fiber.joinAll(fibers)).toEqual([1, 1])

      for (const name of ["onCall", "onStart", "onJoin", "onSuccess"] as const) {
        const scope = yield* Scope.make()
        const close = () => void Effect.runFork(Scope.close(scope, Exit.void))
        const closing = yield* Scope.provide(Reducer.make({ hooks: { [name]: close } }), scope)
        const first = yield* fork(closing.reduce("key", Effect.yieldNow))
        const second = yield* fork(closing.reduce("key", Effect.yieldNow))
        yield* Fiber.await(first)
        yield* Fiber.await(second)
        expect(yield* closing.inFlight).toEqual([])
      }

      let again: Fiber.Fiber<string> | undefined
      const calling: Reducer.Reducer = yield* Reducer.make({
        hooks: {
          onSuccess: () => {
            again ??= Effect.runFork(calling.reduce("key", Effect.succeed("again")))
          }
        }
      })
      expect(yield* calling.reduce("key", Effect.as(Effect.yieldNow, "first"))).toBe("first")
      expect(yield* Fiber.join(again!)).toBe("again")
    }))

  it.effect("R8 Hooks that reduce recursively, thousands deep, block no caller", () =>
    Effect.gen(function*() {
      let left = 20_000
      const all: Array<Fiber.Fiber<number>> = []
      const reducer: Reducer.Reducer = yield* Reducer.make({
        hooks: {
          onSuccess: () => {
            if (left-- > 0) all.push(Effect.runFork(reducer.reduce("key", Effect.succeed(left))))
          }
        }
      })
      yield* reducer.reduce("key", Effect.succeed(-1))
      yield* Effect.repeat(Effect.yieldNow, { until: () => left <= 0 })
      expect(yield* Effect.forEach(all, Fiber.join)).toHaveLength(20_000)
      expect(yield* reducer.inFlight).toEqual([])
    }))
})

describe("Hooks.combine", () => {
  it.effect("R8 Hooks run in the given order, and one that throws does not stop the others", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const hooks = Hooks.combine(
        { onStart: () => void order.push("first") },
        {
          onStart: () => {
            throw new Error("hook")
          },
          onCall: () => void order.push("call")
        },
        {},
        Hooks.combine({ onStart: () => void order.push("nested") }),
        { onStart: () => void order.push("last") }
      )
      const reducer = yield* Reducer.make({ hooks })
      yield* reducer.reduce("key", Effect.void)
      expect(order).toEqual(["call", "first", "nested", "last"])
      expect(hooks.onJoin).toBe(undefined)
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("does not change its arguments", () =>
    Effect.sync(() => {
      const one = Object.freeze(recorder().hooks)
      const two = Object.freeze(recorder().hooks)
      expect(Hooks.combine(one, two)).not.toBe(one)
      expect(Object.keys(Hooks.combine())).toEqual(Object.keys(one))
    }))
})

describe("Hooks.statistics", () => {
  it.effect("counts calls, runs and their results", () =>
    Effect.gen(function*() {
      const statistics = Hooks.statistics()
      const reducer = yield* Reducer.make({ hooks: statistics })
      const call = reducer.reduce("key", Effect.yieldNow)
      yield* Effect.all([call, call, call], { concurrency: "unbounded" })
      yield* Effect.exit(reducer.reduce("key", Effect.fail("no")))
      yield* Effect.exit(reducer.reduce("key", Effect.die("no")))
      const left = yield* fork(reducer.reduce("key", Effect.never))
      expect(yield* statistics.overall).toEqual({
        calls: 6,
        started: 4,
        joined: 2,
        succeeded: 1,
        failed: 2,
        interrupted: 0
      })
      yield* Fiber.interrupt(left)
      expect((yield* statistics.overall).interrupted).toBe(1)
      expect(yield* statistics.groups).toEqual([])
      yield* statistics.reset
      expect(yield* statistics.overall).toEqual({
        calls: 0,
        started: 0,
        joined: 0,
        succeeded: 0,
        failed: 0,
        interrupted: 0
      })
    }))

  for (
    const [what, by, groups] of [
      ["key", (event: Hooks.Event) => [event.name, event.key], [[["double", [{ n: 1 }]], 2], [
        ["double", [{ n: 2 }]],
        1
      ], [[
        undefined,
        ["a"]
      ], 2]]],
      ["function", (event: Hooks.Event) => event.name, [["double", 3], [undefined, 2]]]
    ] as const
  ) {
    it.effect(`counts by ${what}`, () =>
      Effect.gen(function*() {
        const statistics = Hooks.statistics({ by })
        const reducer = yield* Reducer.make({ hooks: statistics })
        const double = reducer.fn("double")((query: { readonly n: number }) => Effect.succeed(query.n * 2))
        yield* double({ n: 1 })
        yield* double({ n: 1 })
        yield* double({ n: 2 })
        yield* reducer.reduce(["a"], Effect.void)
        yield* reducer.reduce(["a"], Effect.void)
        expect(
          (yield* statistics.groups).map(([group, { calls, started, succeeded }]) => {
            expect([started, succeeded]).toEqual([calls, calls])
            return [group, calls]
          })
        ).toEqual(groups)
        yield* statistics.reset
        expect(yield* statistics.groups).toEqual([])
      }))
  }

  it.effect("One statistics instance may serve several reducers", () =>
    Effect.gen(function*() {
      const statistics = Hooks.statistics()
      const one = yield* Reducer.make({ hooks: statistics })
      const two = yield* Reducer.make({ hooks: statistics })
      yield* one.reduce("key", Effect.void)
      yield* two.reduce("key", Effect.void)
      expect((yield* statistics.overall).calls).toBe(2)
    }))
})

describe("Hooks.debug", () => {
  it.effect("logs each event at debug level with the loggers and annotations of its call", () => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      lines.push(`${logLevel} ${String(annotations.request)} ${String(message)}`)
    })
    return Effect.gen(function*() {
      const reducer = yield* Reducer.make({ name: "app", hooks: Hooks.debug })
      const double = reducer.fn("double")((n: number, _: string) => Effect.as(Effect.yieldNow, n * 2))
      const calls = ["one", "two"].map((request) => Effect.annotateLogs(double(2, "x"), { request }))
      yield* Effect.all(calls, { concurrency: "unbounded" })
      expect(lines).toEqual([
        `Debug one app: call double [2,"x"], callers 0`,
        `Debug one app: start double [2,"x"], callers 1`,
        `Debug two app: call double [2,"x"], callers 0`,
        `Debug two app: join double [2,"x"], callers 2`,
        `Debug one app: success double [2,"x"], callers 2`
      ])
      lines.length = 0
      yield* Effect.provideService(double(2, "x"), References.MinimumLogLevel, "Info")
      expect(lines).toEqual([])
    }).pipe(
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  })
})
