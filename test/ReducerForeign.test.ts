import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { type Hooks, Reducer } from "effect-funnel"
import { fork } from "./support/fibers.ts"

const names = ["onCall", "onStart", "onJoin", "onSuccess", "onFailure", "onInterrupt"] as const

interface World {
  readonly reducer: Reducer.Reducer
  readonly scope: Scope.Closeable
  readonly callers: Array<Fiber.Fiber<unknown, unknown>>
  readonly background: Array<Fiber.Fiber<unknown, unknown>>
}

const deeds: Record<string, (world: World) => void> = {
  throws: () => {
    throw new Error("hook")
  },
  "reduces the key": (world) => {
    world.background.push(Effect.runFork(world.reducer.reduce("key", Effect.as(Effect.yieldNow, "nested"))))
  },
  "reduces the key at once": (world) => {
    world.background.push(Effect.runFork(world.reducer.reduce("key", Effect.succeed("nested"))))
  },
  "forgets the key": (world) => Effect.runSync(world.reducer.forget("key")),
  "closes the reducer": (world) => {
    world.background.push(Effect.runFork(Scope.close(world.scope, Exit.void)))
  },
  "interrupts the first caller": (world) => world.callers[0]?.interruptUnsafe(),
  "interrupts the last caller": (world) => world.callers[world.callers.length - 1]?.interruptUnsafe(),
  "interrupts all callers": (world) => world.callers.forEach((fiber) => fiber.interruptUnsafe())
}

describe("foreign code in a reducer", () => {
  for (const [deed, act] of Object.entries(deeds)) {
    it.effect(`R8 a hook that ${deed} at any of its calls hurts nobody`, () =>
      Effect.gen(function*() {
        let acted = 0
        for (const name of names) {
          for (let at = 1; at <= 12; at++) {
            for (const end of [Effect.succeed("value"), Effect.fail("error")]) {
              const scope = yield* Scope.make()
              let calls = 0
              let busy = false
              const hooks: Hooks.Hooks = {
                [name]: () => {
                  // What the hook does calls it again: it does so once.
                  if (busy || ++calls !== at || world === undefined) return
                  busy = true
                  acted++
                  act(world)
                }
              }
              const reducer = yield* Scope.provide(Reducer.make({ hooks }), scope)
              const world: World | undefined = { reducer, scope, callers: [], background: [] }
              const gate = Latch.makeUnsafe(false)
              const call = reducer.reduce("key", Effect.andThen(gate.await, end))
              // Callers that share, the last of whom leave a dying run behind, and newcomers behind it.
              for (let i = 0; i < 3; i++) world.callers.push(yield* fork(call))
              const dying = reducer.reduce("other", Effect.ensuring(Effect.never, gate.await))
              const leaving = yield* fork(Effect.flatMap(fork(dying), Fiber.interrupt))
              for (let i = 0; i < 2; i++) world.callers.push(yield* fork(reducer.reduce("other", end)))
              yield* gate.open
              const exits = yield* Fiber.awaitAll(world.callers)
              yield* Fiber.await(leaving)
              yield* Fiber.awaitAll(world.background)
              const expected = yield* Effect.exit(end)
              for (const exit of exits) {
                const fine = [JSON.stringify(expected), JSON.stringify(Exit.succeed("nested"))].includes(
                  JSON.stringify(exit)
                )
                expect(fine || (/closes|interrupts/.test(deed) && Exit.hasInterrupts(exit))).toBe(true)
              }
              if (/first|last/.test(deed)) {
                expect(exits.filter((exit) => Exit.hasInterrupts(exit)).length).toBeLessThanOrEqual(1)
              }
              expect(yield* reducer.inFlight).toEqual([])
              yield* Scope.close(scope, Exit.void)
            }
          }
        }
        expect(acted).toBeGreaterThan(10)
      }).pipe(Effect.provide(Logger.layer([]))))
  }

  for (const fault of ["throws", "ends the run", "leaves"]) {
    it.effect(`R5 a tracer whose addLinks ${fault} hurts nobody`, () => {
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
