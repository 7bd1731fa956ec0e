/** What users of Go's singleflight rely on, and what hurts them most. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Latch } from "effect"
import { Hooks, Reducer } from "effect-funnel"

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Lets everything that can run do so. */
const settle = Effect.forEach(Array.from({ length: 20 }), () => Effect.yieldNow, { discard: true })

const provide = Effect.provide(Reducer.layer())

describe("singleflight: what its users rely on", () => {
  it.effect("Do: a lone call gets its value, an error its caller", () =>
    Effect.gen(function*() {
      expect(yield* Reducer.reduce("key", Effect.succeed("bar"))).toBe("bar")
      expect(yield* Effect.flip(Reducer.reduce("key", Effect.fail("some error")))).toBe("some error")
    }).pipe(provide))

  it.effect("duplicates are suppressed: calls that come while one is in flight share its value, and its error", () =>
    Effect.gen(function*() {
      for (const end of [Exit.succeed("value"), Exit.fail("error")]) {
        const gate = Latch.makeUnsafe()
        let runs = 0
        const call = Reducer.reduce("key", Effect.andThen(Effect.andThen(Effect.sync(() => runs++), gate.await), end))
        const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () => fork(call))
        yield* gate.open
        for (const fiber of fibers) expect(yield* Fiber.await(fiber)).toEqual(end)
        expect(runs).toBe(1)
      }
    }).pipe(provide))

  it.effect("Forget and a late finisher: the third call joins the second run, not the first, whoever ends first", () =>
    Effect.gen(function*() {
      const ends = [yield* Deferred.make<number>(), yield* Deferred.make<number>(), yield* Deferred.make<number>()]
      let started = 0
      const call = Reducer.reduce("key", Effect.suspend(() => Deferred.await(ends[started++]!)))
      const first = yield* fork(call)
      yield* Reducer.forget("key")
      const second = yield* fork(call)
      yield* Deferred.succeed(ends[0]!, 1)
      expect(yield* Fiber.join(first)).toBe(1)
      const third = yield* fork(call)
      yield* Deferred.succeed(ends[1]!, 2)
      expect(yield* Fiber.joinAll([second, third])).toEqual([2, 2])
      expect(started).toBe(2)
    }).pipe(provide))

  it.effect("a panic reaches all callers, and none hangs", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const panic = new Error("invalid memory address")
      let runs = 0
      const call = Reducer.reduce(
        "key",
        Effect.andThen(Effect.andThen(Effect.sync(() => runs++), gate.await), Effect.die(panic))
      )
      const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () => fork(call))
      yield* gate.open
      for (const fiber of fibers) expect(yield* Fiber.await(fiber)).toEqual(Exit.die(panic))
      expect(runs).toBe(1)
      expect(yield* Reducer.reduce("key", Effect.succeed("free"))).toBe("free")
    }).pipe(provide))

  it.effect("Goexit, a run that ends itself: all callers see an interruption, and none hangs", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const call = Reducer.reduce("key", Effect.andThen(gate.await, Effect.interrupt))
      const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () => fork(call))
      expect((yield* Reducer.inFlight).map((run) => run.callers)).toEqual([10])
      yield* gate.open
      for (const fiber of fibers) {
        const exit = yield* Fiber.await(fiber)
        expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      }
      expect(yield* Reducer.inFlight).toEqual([])
    }).pipe(provide))

  it.effect("shared: whether a result was shared is told to the hooks", () => {
    const statistics = Hooks.statistics()
    return Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const call = Reducer.reduce("key", gate.await)
      const fibers = [yield* fork(call), yield* fork(call)]
      yield* gate.open
      yield* Fiber.joinAll(fibers)
      expect(yield* statistics.overall).toMatchObject({ calls: 2, started: 1, joined: 1 })
    }).pipe(Effect.provide(Reducer.layer({ hooks: statistics })))
  })
})

describe("singleflight: what hurts its users", () => {
  it.effect("the first caller's cancellation kills its followers: here they get the value", () =>
    Effect.gen(function*() {
      const answer = yield* Deferred.make<string>()
      let runs = 0
      const call = Reducer.reduce("key", Effect.andThen(Effect.sync(() => runs++), Deferred.await(answer)))
      const leader = yield* fork(call)
      const followers = [yield* fork(call), yield* fork(call)]
      yield* Fiber.interrupt(leader)
      yield* Deferred.succeed(answer, "value")
      expect(yield* Fiber.joinAll(followers)).toEqual(["value", "value"])
      expect(runs).toBe(1)
    }).pipe(provide))

  it.effect("a newcomer joins a dying flight and gets its cancellation: here it waits for that end and runs anew", () =>
    Effect.gen(function*() {
      const released = Latch.makeUnsafe()
      const order: Array<string> = []
      const note = (what: string) => Effect.sync(() => order.push(what))
      const dying = Reducer.reduce(
        "key",
        Effect.onInterrupt(Effect.never, () => Effect.andThen(released.await, note("the first has ended")))
      )
      const leader = yield* fork(dying)
      const interrupting = yield* fork(Fiber.interrupt(leader))
      yield* settle
      const newcomer = yield* fork(Reducer.reduce("key", Effect.as(note("the second starts"), "value")))
      yield* settle
      expect(order).toEqual([])
      yield* released.open
      expect(yield* Fiber.join(newcomer)).toBe("value")
      expect(order).toEqual(["the first has ended", "the second starts"])
      yield* Fiber.join(interrupting)
    }).pipe(provide))

  it.effect("a flight that nobody waits for any more goes on unseen: here the last to leave interrupts it", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const call = Reducer.reduce("key", Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)))
      const fibers = [yield* fork(call), yield* fork(call)]
      yield* Fiber.interrupt(fibers[1]!)
      expect(interrupted).toBe(0)
      yield* Fiber.interrupt(fibers[0]!)
      expect(interrupted).toBe(1)
    }).pipe(provide))
})
