import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { MixedScheduler } from "effect/Scheduler"
import { piecesPerTurn, Slices } from "../src/internal/data/slices.js"
import { SharedDeferred, Waiter } from "../src/internal/reducer/sharedDeferred.js"
import { fork } from "./support/fibers.ts"
import { makeManualScheduler } from "./support/manualScheduler.js"

class Shared extends SharedDeferred<number, string> {
  override readonly slices: Slices
  doneTimes = 0
  abandonedTimes = 0
  releasedTimes = 0
  onAbandoned: Effect.Effect<void> = Effect.void

  constructor(slices = new Slices(new MixedScheduler().makeDispatcher())) {
    super()
    this.slices = slices
  }

  override done() {
    this.doneTimes++
  }
  protected override abandoned() {
    this.abandonedTimes++
    return this.onAbandoned
  }
  protected override released() {
    this.releasedTimes++
  }

  readonly join: Effect.Effect<number, string> = Effect.callback((resume) => {
    if (this.exit !== undefined) return resume(this.exit)
    this.callers++
    return this.append(new Waiter(this, resume))
  })

  /** Those who wait, in order, read forwards; throws if the list does not read the same backwards. */
  get list(): ReadonlyArray<Waiter<number, string>> {
    const out: Array<Waiter<number, string>> = []
    for (let at = this.head; at !== undefined; at = at.next) {
      expect(at.previous).toBe(out[out.length - 1])
      expect(at.shared).toBe(this)
      out.push(at)
    }
    return out
  }
}

describe("sharedDeferred", () => {
  for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]]) {
    it.effect(`callers that leave in the order ${order.join()} are unlinked, and the last one abandons`, () =>
      Effect.gen(function*() {
        const shared = new Shared()
        const fibers = yield* Effect.forEach([0, 1, 2], () => fork(shared.join))
        const waiters = shared.list
        expect(waiters.length).toBe(3)
        const there = new Set([0, 1, 2])
        for (const i of order) {
          expect(shared.abandonedTimes).toBe(0)
          yield* Fiber.interrupt(fibers[i]!)
          there.delete(i)
          expect(shared.list).toEqual(Array.from(there).map((j) => waiters[j]))
          expect(shared.callers).toBe(there.size)
          // What has left holds on to nothing, so nothing holds on to what comes after it.
          expect([waiters[i]!.shared, waiters[i]!.previous, waiters[i]!.next]).toEqual([
            undefined,
            undefined,
            undefined
          ])
        }
        expect(shared.abandonedTimes).toBe(1)
        expect(shared.releasedTimes).toBe(3)
        const again = yield* fork(shared.join)
        expect(shared.list.length).toBe(1)
        shared.complete(Exit.succeed(1))
        expect(yield* Fiber.join(again)).toBe(1)
      }))
  }

  it.effect("leaving touches the neighbours and nothing else, wherever in the list it happens", () =>
    Effect.gen(function*() {
      const shared = new Shared()
      const n = 1000
      let reads = 0
      class Counted extends Waiter<number, string> {}
      for (const field of ["next", "previous"] as const) {
        const values = new WeakMap<object, Waiter<number, string> | undefined>()
        Object.defineProperty(Counted.prototype, field, {
          get() {
            reads++
            return values.get(this)
          },
          set(value: Waiter<number, string> | undefined) {
            values.set(this, value)
          }
        })
      }
      const waiters = Array.from({ length: n }, () => {
        const waiter = new Counted(shared, () => {})
        // The class fields of Waiter are in front of the counting ones: take them away.
        expect(Reflect.deleteProperty(waiter, "next") && Reflect.deleteProperty(waiter, "previous")).toBe(true)
        shared.callers++
        return shared.append(waiter)
      })
      for (let i = 0, at = 0; i < n; i++, at = (at + 617) % n) {
        reads = 0
        yield* waiters[at]!
        expect(reads).toBeGreaterThan(0)
        expect(reads).toBeLessThanOrEqual(8)
      }
      expect(shared.callers).toBe(0)
      expect(shared.head).toBe(undefined)
    }))

  it.effect("a chain of ten thousand completions stays off the stack and reaches its end", () =>
    Effect.gen(function*() {
      const chain = Array.from({ length: 10_000 }, () => new Shared())
      const fibers: Array<Fiber.Fiber<void, string>> = []
      for (let i = 0; i + 1 < chain.length; i++) {
        fibers.push(
          yield* fork(
            Effect.flatMap(chain[i]!.join, (n) => Effect.sync(() => chain[i + 1]!.complete(Exit.succeed(n + 1))))
          )
        )
      }
      const last = yield* fork(chain[chain.length - 1]!.join)
      chain[0]!.complete(Exit.succeed(1))
      expect(yield* Fiber.join(last)).toBe(10_000)
      yield* Fiber.awaitAll(fibers)
    }))

  it.effect("callers whose resumption throws do not keep back what was put off, for it was too deep", () =>
    Effect.gen(function*() {
      const chain = Array.from({ length: 100 }, () => new Shared())
      const sides = chain.map(() => new Shared())
      const throwing = (shared: Shared) =>
        Effect.map(fork(shared.join), (fiber) =>
          fiber.addObserver(() => {
            throw new Error("observer")
          }))
      for (let i = 0; i + 1 < chain.length; i++) {
        const pass = (exit: Exit.Exit<number, string>) => {
          chain[i + 1]!.complete(exit)
          // The ones that are put off are resumed last come, first served: this before that.
          sides[i]!.complete(exit)
        }
        yield* fork(Effect.onExit(chain[i]!.join, (exit) => Effect.exit(Effect.sync(() => pass(exit)))))
        yield* throwing(sides[i]!)
      }
      const last = yield* fork(chain[99]!.join)
      yield* throwing(chain[0]!)
      expect(() => chain[0]!.complete(Exit.succeed(1))).toThrow("observer")
      expect(last.pollUnsafe()).toEqual(Exit.succeed(1))
      expect(sides.every((side, i) => side.callers === 0 || i === 99)).toBe(true)
    }))

  it.effect("any number of callers whose resumption throws keep the exit from nobody", () =>
    Effect.gen(function*() {
      const manual = makeManualScheduler()
      const shared = new Shared(new Slices(manual.dispatcher))
      const fibers: Array<Fiber.Fiber<number, string>> = []
      for (let i = 0; i < 20_000; i++) {
        const fiber = yield* fork(shared.join)
        fiber.addObserver(() => {
          throw new Error(`observer ${i}`)
        })
        fibers.push(fiber)
      }
      expect(() => shared.complete(Exit.succeed(1))).toThrow("observer 0")
      for (let told = piecesPerTurn; told < 20_000; told += piecesPerTurn) {
        expect(shared.callers).toBe(20_000 - told)
        // Each slice throws what was thrown first in it.
        expect(manual.turn).toThrow(`observer ${told}`)
      }
      expect(fibers.every((fiber) => fiber.pollUnsafe() !== undefined)).toBe(true)
      expect(shared.doneTimes).toBe(1)
    }))

  it.effect("what a resumed caller completes in turn shares its slice", () =>
    Effect.gen(function*() {
      const manual = makeManualScheduler()
      const slices = new Slices(manual.dispatcher)
      const [first, second] = [new Shared(slices), new Shared(slices)]
      let told = 0
      const join = (shared: Shared) => fork(Effect.tap(shared.join, () => Effect.sync(() => told++)))
      yield* fork(Effect.tap(first.join, () => Effect.sync(() => second.complete(Exit.succeed(2)))))
      for (let i = 0; i < piecesPerTurn; i++) {
        yield* join(first)
        yield* join(second)
      }
      first.complete(Exit.succeed(1))
      expect(told).toBe(piecesPerTurn - 1)
      manual.turn()
      expect(told).toBe(2 * piecesPerTurn - 1)
      manual.turn()
      expect(told).toBe(2 * piecesPerTurn)
      expect([first.doneTimes, second.doneTimes, manual.waiting]).toEqual([1, 1, 0])
    }))
})
