import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Latch, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Adaptive from "effect-funnel/Adaptive"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as Scheduler from "effect-funnel/Scheduler"
import { fork, settle } from "./support/fibers.ts"
import { simulate } from "./support/simulation.ts"

class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", {
  lookup: (_host: string) => ({ concurrency: 1 })
}) {}

class Paced extends Scheduler.Keyed<Paced>()("test/Paced", {
  lookup: (_host: string) => ({ concurrency: 10, rate: { limit: 1, window: "1 minute" } })
}) {}

class Hasty extends Scheduler.Keyed<Hasty>()("test/Hasty", {
  lookup: (_host: string) => ({ concurrency: 10, rate: { limit: 10, window: "1 second" } })
}) {}

const statsOf = (host: string) => Effect.flatMap(Hosts.get(host), (_) => _.stats)

const now = Effect.clockWith((clock) => clock.currentTimeMillis)

describe("Scheduler.Keyed", () => {
  it.effect("each key has its own width, and callers of one key share it", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const started: Array<string> = []
      const job = (name: string) => Effect.andThen(Effect.sync(() => started.push(name)), gate.await)
      const fibers = [
        yield* Effect.forkChild(Hosts.schedule("a", job("a1"))),
        yield* Effect.forkChild(Hosts.schedule("a", job("a2"))),
        yield* Effect.forkChild(Hosts.schedule("b", job("b1")))
      ]
      yield* settle
      expect(started).toEqual(["a1", "b1"])
      expect(yield* statsOf("a")).toMatchObject({ running: 1, queued: 1, concurrency: 1 })
      expect(yield* Hosts.size).toBe(2)
      yield* gate.open
      yield* Fiber.joinAll(fibers)
      expect(started).toEqual(["a1", "b1", "a2"])
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("an unused key without a rate is dropped at once", () =>
    Effect.gen(function*() {
      yield* Hosts.schedule("a", Effect.void)
      expect(yield* Hosts.size).toBe(0)
      yield* Effect.exit(Hosts.schedule("a", Effect.fail("no")))
      expect(yield* Hosts.size).toBe(0)
      const fiber = yield* Effect.forkChild(Hosts.schedule("a", Effect.never))
      const queued = yield* Effect.forkChild(Hosts.schedule("a", Effect.never))
      yield* settle
      expect(yield* Hosts.size).toBe(1)
      yield* Fiber.interrupt(queued)
      expect(yield* Hosts.size).toBe(1)
      yield* Fiber.interrupt(fiber)
      expect(yield* Hosts.size).toBe(0)
      const a = yield* Hosts.get("a")
      yield* a.stats
      yield* a.awaitIdle
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))

  it("a key whose job is refused as the rate would start it goes when the rate is at rest, and leaves no timer", () => {
    const { exit, timers } = simulate((_, clock) =>
      Effect.gen(function*() {
        yield* Hasty.schedule("a", Effect.void)
        const waiting = yield* fork(Effect.flip(Hasty.schedule("a", Effect.void, { maxWait: "150 millis" })))
        // The event loop stands still: the timer of the rate rings after the time of the job is over.
        clock.now += 200_000_000n
        const { reason } = yield* Fiber.join(waiting)
        yield* Effect.sleep("5 seconds")
        return [reason._tag, yield* Hasty.size, clock.pending]
      }).pipe(Effect.provide(Hasty.layer))
    )
    expect([exit, timers]).toEqual([Exit.succeed(["WaitExceeded", 0, 0]), 0])
  })

  it.effect("the rate of a key is not forgotten between uses, and the key goes when it is at rest", () =>
    Effect.gen(function*() {
      const starts: Array<number> = []
      const use = Paced.schedule("a", Effect.map(now, (at) => starts.push(at)))
      yield* use
      expect(yield* Paced.size).toBe(1)
      yield* TestClock.adjust("30 seconds")
      expect(yield* Paced.size).toBe(1)
      const fiber = yield* Effect.forkChild(use)
      yield* TestClock.adjust("29 seconds")
      expect(starts).toEqual([0])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      expect(starts).toEqual([0, 60_000])
      yield* TestClock.adjust("59 seconds")
      expect(yield* Paced.size).toBe(1)
      yield* TestClock.adjust("3 minutes")
      expect(yield* Paced.size).toBe(0)
    }).pipe(Effect.provide(Paced.layer)))

  it.effect("a hundred thousand keys come and go and nothing stays", () =>
    Effect.gen(function*() {
      const count = 100_000
      for (let i = 0; i < count; i++) yield* Paced.schedule(`host ${i}`, Effect.void)
      expect(yield* Paced.size).toBe(count)
      yield* TestClock.adjust("3 minutes")
      expect(yield* Paced.size).toBe(0)
    }).pipe(Effect.provide(Paced.layer)), 60_000)

  it.effect("a key whose rate rests for long does not keep those that rest sooner", () => {
    class Hosts extends Scheduler.Keyed<Hosts>()("test/Hosts", {
      lookup: (key: "slow" | "fast") => ({
        concurrency: 1,
        rate: { limit: 1, window: key === "slow" ? "1 day" as const : "1 second" as const }
      })
    }) {}
    return Effect.gen(function*() {
      yield* Hosts.schedule("slow", Effect.void)
      yield* Hosts.schedule("fast", Effect.void)
      yield* TestClock.adjust("3 seconds")
      expect(yield* Hosts.size).toBe(1)
      yield* TestClock.adjust("3 days")
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer))
  })

  it.effect("new keys take out those at rest, also between two ticks of the timer", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 90; i++) {
        yield* Bursts.schedule(i, Effect.void)
        yield* TestClock.adjust(10)
      }
      expect(yield* Bursts.size).toBeLessThan(20)
    }).pipe(Effect.provide(Bursts.layer)))

  it.effect("keys are compared by structure", () =>
    Effect.gen(function*() {
      const gate = Latch.makeUnsafe()
      const runningOf = (key: { readonly tenant: string; readonly region: string }) =>
        Effect.flatMap(Tenants.get(key), (_) => Effect.map(_.stats, (_) => _.running))
      const a = yield* Effect.forkChild(Tenants.schedule({ tenant: "a", region: "eu" }, gate.await))
      yield* settle
      expect(yield* runningOf({ region: "eu", tenant: "a" })).toBe(1)
      expect(yield* runningOf({ region: "us", tenant: "a" })).toBe(0)
      yield* gate.open
      yield* Fiber.join(a)
      expect(yield* Tenants.size).toBe(0)
    }).pipe(Effect.provide(Tenants.layer)))

  it.effect("a lookup that throws or returns invalid options is a defect and leaves no entry", () =>
    Effect.gen(function*() {
      for (const key of [NaN, 0, -1, 1.5, Infinity]) {
        const exit = yield* Effect.exit(Nonsense.schedule(key, Effect.void))
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBeInstanceOf(RangeError)
        expect(Exit.isFailure(exit) && String(Cause.squash(exit.cause))).toContain(
          `Scheduler.Keyed: concurrency must be an integer >= 1, got ${key}`
        )
      }
      const thrown = yield* Effect.exit(Nonsense.schedule(42, Effect.void))
      expect(thrown).toEqual(Exit.die("no such key"))
      expect(yield* Nonsense.size).toBe(0)
      expect(yield* Nonsense.schedule(1, Effect.succeed("fine"))).toBe("fine")
    }).pipe(Effect.provide(Nonsense.layer)))

  it.effect("a scheduler that was got keeps working when its key has gone and come back", () =>
    Effect.gen(function*() {
      const a = yield* Hosts.get("a")
      yield* a.schedule(Effect.void)
      expect(yield* Hosts.size).toBe(0)
      const gate = Latch.makeUnsafe()
      const fiber = yield* Effect.forkChild(Hosts.schedule("a", gate.await))
      yield* settle
      const behind = yield* Effect.forkChild(a.schedule(Effect.succeed("behind")))
      yield* settle
      expect(behind.pollUnsafe()).toBeUndefined()
      expect((yield* a.stats).queued).toBe(1)
      yield* gate.open
      yield* Fiber.join(fiber)
      expect(yield* Fiber.join(behind)).toBe("behind")
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("a key whose width or rate was changed stays, and so does one that is paused until it is resumed", () =>
    Effect.gen(function*() {
      const [a, b, c] = [yield* Hosts.get("a"), yield* Hosts.get("b"), yield* Hosts.get("c")]
      yield* a.resize(3)
      expect((yield* a.stats).concurrency).toBe(3)
      expect(yield* Hosts.size).toBe(1)
      yield* b.pause
      const fiber = yield* Effect.forkChild(Hosts.schedule("b", Effect.succeed("b")))
      yield* settle
      yield* Fiber.interrupt(fiber)
      expect((yield* b.stats).paused).toBe(true)
      expect(yield* Hosts.size).toBe(2)
      yield* b.resume
      expect(yield* Hosts.size).toBe(1)
      yield* c.setRate({ limit: 1, window: "1 second" })
      yield* Hosts.schedule("c", Effect.void)
      const paced = yield* Effect.forkChild(Hosts.schedule("c", now))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(paced)).toBe(1000)
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("every operation of a key's scheduler finds its key, and leaves it behind when it is done", () =>
    Effect.gen(function*() {
      const a = yield* Hosts.get("a")
      expect(yield* a.forEach([1, 2], (i) => Effect.succeed(i + 1))).toEqual([2, 3])
      expect(yield* a.all({ x: Effect.succeed(1) })).toEqual({ x: 1 })
      expect(yield* a.firstSuccess([Effect.fail("no"), Effect.succeed(1)])).toBe(1)
      expect(Array.from(yield* Stream.runCollect(a.stream([1, 2], (i) => Effect.succeed(i))))).toEqual([1, 2])
      const mapped = Stream.make(1, 2).pipe(a.mapEffect((i) => Effect.succeed(i * 2)))
      expect(Array.from(yield* Stream.runCollect(mapped))).toEqual([2, 4])
      expect(yield* Effect.succeed(1).pipe(Hosts.schedule("a", { weight: 1 }))).toBe(1)
      expect(yield* Effect.succeed(1).pipe(Hosts.schedule("a"))).toBe(1)
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("a family and the scheduler of a key have the name of their tag as JSON, and never the key", () =>
    Effect.gen(function*() {
      const hosts = yield* Hosts
      const host = hosts.get("a")
      expect([hosts.toJSON(), host.toJSON()]).toEqual([
        { _id: "effect-funnel/KeyedScheduler", name: "test/Hosts" },
        { _id: "effect-funnel/Scheduler", name: "test/Hosts" }
      ])
      expect(Scheduler.isScheduler(host)).toBe(true)
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("a stream holds its key while it is consumed, and no longer", () =>
    Effect.gen(function*() {
      const a = yield* Hosts.get("a")
      const fiber = yield* a.stream([1, 2, 3], (i) => Effect.succeed(i)).pipe(
        Stream.runForEach(() => Effect.never),
        Effect.forkChild
      )
      yield* settle
      expect(yield* Hosts.size).toBe(1)
      yield* Fiber.interrupt(fiber)
      expect(yield* Hosts.size).toBe(0)
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("S5 a job that schedules on its own key does not deadlock", () =>
    Effect.gen(function*() {
      const a = yield* Hosts.get("a")
      const nested = Hosts.schedule("a", Hosts.schedule("a", a.forEach([1, 2], (i) => Effect.succeed(i))))
      expect(yield* nested).toEqual([1, 2])
    }).pipe(Effect.provide(Hosts.layer)))

  it.effect("a rate that is a limiter's tag is shared by all keys", () =>
    Effect.gen(function*() {
      const starts: Array<number> = []
      const fibers = []
      for (const host of ["a", "b", "c"]) {
        fibers.push(yield* Effect.forkChild(Together.schedule(host, Effect.map(now, (at) => starts.push(at)))))
      }
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.joinAll(fibers)
      expect(starts).toEqual([0, 1000, 2000])
      expect(yield* Together.size).toBe(0)
    }).pipe(
      Effect.provide(
        Together.layer.pipe(Layer.provide(RateLimiter.layer({ limit: 1, window: "1 second" })))
      )
    ))

  it.effect("when the layer's scope closes, the jobs of all keys are interrupted", () =>
    Effect.gen(function*() {
      const fibers = yield* Effect.gen(function*() {
        const fibers = []
        for (const host of ["a", "a", "b"]) {
          fibers.push(yield* Effect.forkDetach(Hosts.schedule(host, Effect.never)))
        }
        yield* settle
        return fibers
      }).pipe(Effect.provide(Hosts.layer))
      for (const fiber of fibers) {
        const exit = yield* Fiber.await(fiber)
        expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      }
    }))

  it.effect("a scheduler that was kept beyond the layer's scope answers with interruption", () =>
    Effect.gen(function*() {
      const kept = yield* Hosts.get("a").pipe(Effect.provide(Hosts.layer))
      const exit = yield* Effect.exit(kept.schedule(Effect.void))
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
    }))

  it.effect("a lookup that uses its own key makes one scheduler of it", () => {
    const uses: Array<() => void> = []
    class Entering extends Scheduler.Keyed<Entering>()("test/Entering", {
      lookup: (_: string) => {
        uses.pop()?.()
        return { concurrency: 1 }
      }
    }) {}
    return Effect.gen(function*() {
      const context = yield* Effect.context<Entering>()
      const job = Entering.schedule("a", Effect.never)
      const inner: Array<Fiber.Fiber<unknown, unknown>> = []
      uses.push(() => void inner.push(Effect.runForkWith(context)(job)))
      const outer = yield* fork(job)
      expect(yield* Effect.flatMap(Entering.get("a"), (_) => _.stats)).toMatchObject({ running: 1, queued: 1 })
      expect(yield* Entering.size).toBe(1)
      yield* Fiber.interruptAll([...inner, outer])
      expect(yield* Entering.size).toBe(0)
    }).pipe(Effect.provide(Entering.layer))
  })

  it.effect("each key has a width that adapts of its own, and forgets it when it is dropped", () => {
    class Adapting extends Scheduler.Keyed<Adapting>()("test/Adapting", {
      lookup: (_: string) => ({
        concurrency: Adaptive.latency({ min: 1, max: 10, initial: 10, overload: Exit.isFailure })
      })
    }) {}
    const widthOf = (key: string) => Effect.flatMap(Adapting.get(key), (_) => Effect.map(_.stats, (_) => _.concurrency))
    return Effect.gen(function*() {
      const first = yield* widthOf("a")
      const fibers = []
      for (const key of ["a", "b"]) fibers.push(yield* Effect.forkChild(Adapting.schedule(key, Effect.never)))
      yield* settle
      yield* Effect.exit(Adapting.schedule("a", Effect.fail("busy")))
      expect(yield* widthOf("a")).toBeLessThan(first)
      expect(yield* widthOf("b")).toBe(first)
      yield* Fiber.interruptAll(fibers)
      expect(yield* widthOf("a")).toBe(first)
    }).pipe(Effect.provide(Adapting.layer))
  })

  it.effect("layerNoop limits nothing", () =>
    Effect.gen(function*() {
      const a = yield* Paced.get("a")
      yield* a.pause
      const all = yield* Effect.forEach([1, 2, 3], (i) => Paced.schedule("a", Effect.succeed(i)), {
        concurrency: "unbounded"
      })
      expect(all).toEqual([1, 2, 3])
      expect(yield* Paced.size).toBe(0)
    }).pipe(Effect.provide(Paced.layerNoop)))
})

class Bursts extends Scheduler.Keyed<Bursts>()("test/Bursts", {
  lookup: (_key: number) => ({ concurrency: 1, rate: { limit: 1, window: 5 } })
}) {}

class Tenants extends Scheduler.Keyed<Tenants>()("test/Tenants", {
  lookup: (_key: { readonly tenant: string; readonly region: string }) => ({ concurrency: 1 })
}) {}

class Nonsense extends Scheduler.Keyed<Nonsense>()("test/Nonsense", {
  lookup: (concurrency: number) => {
    if (concurrency === 42) throw "no such key"
    return { concurrency }
  }
}) {}

class Together extends Scheduler.Keyed<Together>()("test/Together", {
  lookup: (_host: string) => ({ concurrency: 1, rate: RateLimiter.RateLimiter })
}) {}
