import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Scheduler } from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { Reducer } from "effect-funnel"
import { piecesPerTurn } from "../src/internal/data/slices.js"
import { fork } from "./support/fibers.ts"
import { makeManualScheduler } from "./support/manualScheduler.js"

/** A reducer whose turns of the event loop are made by hand. */
const makeManual = Effect.gen(function*() {
  const manual = makeManualScheduler()
  const scope = yield* Scope.make()
  const reducer = yield* Reducer.make().pipe(
    Scope.provide(scope),
    Effect.provideService(Scheduler, manual.scheduler)
  )
  return { manual, scope, reducer }
})

describe("crowds of a reducer", () => {
  it.effect("R1 a run with more callers than one turn of the event loop should resume gives its exit to a slice a turn", () =>
    Effect.gen(function*() {
      const { manual, reducer } = yield* makeManual
      const gate = Deferred.makeUnsafe<number>()
      const order: Array<number> = []
      const n = 2 * piecesPerTurn + 1
      for (let i = 0; i < n; i++) {
        yield* fork(Effect.tap(reducer.reduce("key", Deferred.await(gate)), () => Effect.sync(() => order.push(i))))
      }
      Deferred.doneUnsafe(gate, Exit.succeed(1))
      expect(order.length).toBe(piecesPerTurn)
      // It has ended for whoever comes now, though some do not know yet.
      expect(yield* reducer.inFlight).toEqual([])
      expect(yield* reducer.reduce("key", Effect.succeed(2))).toBe(2)
      manual.turn()
      expect(order.length).toBe(2 * piecesPerTurn)
      manual.turn()
      expect(order).toEqual(Array.from({ length: n }, (_, i) => i))
      expect(manual.waiting).toBe(0)
    }))

  it.effect("R3 a caller that is not told yet is interrupted at once", () =>
    Effect.gen(function*() {
      const { manual, reducer } = yield* makeManual
      const gate = Deferred.makeUnsafe<number>()
      const fibers = yield* Effect.forEach(
        Array.from({ length: piecesPerTurn + 2 }),
        () => fork(reducer.reduce("key", Deferred.await(gate)))
      )
      Deferred.doneUnsafe(gate, Exit.succeed(1))
      const [leaving, staying] = fibers.slice(piecesPerTurn)
      yield* Fiber.interrupt(leaving!)
      expect(staying!.pollUnsafe()).toBe(undefined)
      manual.turn()
      expect(staying!.pollUnsafe()).toEqual(Exit.succeed(1))
    }))

  it.effect("R9 closing interrupts a slice of runs a turn, and ends when the last caller has seen it", () =>
    Effect.gen(function*() {
      const { manual, reducer, scope } = yield* makeManual
      const n = 2 * piecesPerTurn + 1
      let interrupted = 0
      const fibers = yield* Effect.forEach(
        Array.from({ length: n }, (_, i) => i),
        (i) => fork(reducer.reduce(i, Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))))
      )
      const closing = yield* fork(Scope.close(scope, Exit.void))
      // A run takes two pieces: it is interrupted, and its caller is told.
      expect(interrupted).toBe(piecesPerTurn / 2)
      expect(Exit.hasInterrupts(yield* Effect.exit(reducer.reduce("new", Effect.succeed(1))))).toBe(true)
      let turns = 0
      while (manual.waiting > 0) {
        expect(closing.pollUnsafe()).toBe(undefined)
        const before = interrupted
        manual.turn()
        turns++
        expect(interrupted - before).toBeLessThanOrEqual(piecesPerTurn)
      }
      expect(turns).toBeGreaterThanOrEqual(4)
      expect(closing.pollUnsafe()).toEqual(Exit.void)
      expect(interrupted).toBe(n)
      expect(fibers.every((fiber) => Exit.hasInterrupts(fiber.pollUnsafe()!))).toBe(true)
    }))

  it.effect("R9 closing ends after every caller of one key has its exit, also if the run ended before", () =>
    Effect.gen(function*() {
      for (const ended of [false, true]) {
        const { manual, reducer, scope } = yield* makeManual
        const gate = Deferred.makeUnsafe<number>()
        let told = 0
        for (let i = 0; i < 2 * piecesPerTurn; i++) {
          yield* fork(Effect.onExit(reducer.reduce("key", Deferred.await(gate)), () => Effect.sync(() => told++)))
        }
        if (ended) Deferred.doneUnsafe(gate, Exit.succeed(1))
        const closing = yield* fork(Scope.close(scope, Exit.void))
        while (manual.waiting > 0) {
          expect(told).toBeLessThan(2 * piecesPerTurn)
          expect(closing.pollUnsafe()).toBe(undefined)
          manual.turn()
        }
        expect(closing.pollUnsafe()).toEqual(Exit.void)
        expect(told).toBe(2 * piecesPerTurn)
      }
    }))

  it.effect("R9 a closing fiber that is interrupted leaves the closing to go on", () =>
    Effect.gen(function*() {
      const { manual, reducer, scope } = yield* makeManual
      const fibers = yield* Effect.forEach(
        Array.from({ length: 2 * piecesPerTurn }, (_, i) => i),
        (i) => fork(reducer.reduce(i, Effect.never))
      )
      const closing = yield* fork(Scope.close(scope, Exit.void))
      closing.interruptUnsafe()
      while (manual.waiting > 0) manual.turn()
      expect(fibers.every((fiber) => Exit.hasInterrupts(fiber.pollUnsafe()!))).toBe(true)
    }))

  it.effect("R9 closing reaches all callers also if observers of their fibers throw, and their error is no error of the closing", () =>
    Effect.gen(function*() {
      const { manual, reducer, scope } = yield* makeManual
      const fibers = yield* Effect.forEach(
        Array.from({ length: 10 }, (_, i) => i),
        (i) => fork(reducer.reduce(i, Effect.never))
      )
      for (const fiber of fibers) {
        fiber.addObserver(() => {
          throw new Error("not ours")
        })
      }
      expect(yield* Effect.exit(Scope.close(scope, Exit.void))).toEqual(Exit.void)
      expect(fibers.every((fiber) => Exit.hasInterrupts(fiber.pollUnsafe()!))).toBe(true)
      expect(() => {
        while (manual.waiting > 0) manual.turn()
      }).toThrow("not ours")
    }))

  it.effect("R4 a newcomer behind a pending run that is told in slices does not join it", () =>
    Effect.gen(function*() {
      const { manual, reducer, scope } = yield* makeManual
      const finalizer = Latch.makeUnsafe(false)
      const dying = yield* fork(reducer.reduce("key", Effect.ensuring(Effect.never, finalizer.await)))
      yield* fork(Fiber.interrupt(dying))
      const fibers = yield* Effect.forEach(
        Array.from({ length: piecesPerTurn + 5 }),
        () => fork(reducer.reduce("key", Effect.succeed(1)))
      )
      const closing = yield* fork(Scope.close(scope, Exit.void))
      expect(fibers[fibers.length - 1]!.pollUnsafe()).toBe(undefined)
      yield* finalizer.open
      yield* Effect.yieldNow
      expect(closing.pollUnsafe()).toBe(undefined)
      while (manual.waiting > 0) manual.turn()
      yield* Fiber.join(closing)
      expect(fibers.every((fiber) => Exit.hasInterrupts(fiber.pollUnsafe()!))).toBe(true)
    }))

  const layer = Reducer.layer()
  const ways = {
    "runSync": async () => {
      const scope = Scope.makeUnsafe()
      return Context.get(Effect.runSync(Layer.buildWithScope(layer, scope)), Reducer.Reducer)
    },
    "runPromise": async () => {
      const scope = Scope.makeUnsafe()
      return Context.get(await Effect.runPromise(Layer.buildWithScope(layer, scope)), Reducer.Reducer)
    },
    "a ManagedRuntime that runSync used first": async () => ManagedRuntime.make(layer).runSync(Reducer.Reducer)
  }
  for (const [way, build] of Object.entries(ways)) {
    it(`a crowd of a layer built by ${way} lets the event loop turn`, async () => {
      const reducer = await build()
      const gate = Deferred.makeUnsafe<number>()
      let told = 0
      const call = Effect.tap(reducer.reduce("key", Deferred.await(gate)), () => Effect.sync(() => told++))
      const fibers = Array.from({ length: 4 * piecesPerTurn }, () => Effect.runFork(call))
      const seen: Array<number> = []
      const turn = new Promise<void>((done) => {
        const look = () => {
          seen.push(told)
          if (told < fibers.length) setImmediate(look)
          else done()
        }
        setImmediate(look)
      })
      Deferred.doneUnsafe(gate, Exit.succeed(1))
      expect(told).toBe(piecesPerTurn)
      await turn
      for (let i = 1; i < seen.length; i++) expect(seen[i]! - seen[i - 1]!).toBeLessThanOrEqual(piecesPerTurn)
      await Effect.runPromise(Fiber.joinAll(fibers))
    })
  }
})
