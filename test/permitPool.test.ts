/**
 * The permits of a concurrency across processes, over a store that a test answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, identity, Scope } from "effect"
import { TestClock } from "effect/testing"
import { type Options, PermitPool } from "../src/internal/redis/permitPool.js"
import { Orders } from "../src/internal/redis/permitStore.js"
import { Pulse } from "../src/internal/redis/pulse.js"
import { LimiterMemory } from "../src/internal/limiter/memory.js"
import { type Share, site } from "../src/internal/scheduler/build.js"
import { Engine } from "../src/internal/scheduler/engine.js"
import * as Keyed from "../src/internal/scheduler/keyed.js"
import { unbounded } from "../src/internal/scheduler/options.js"
import { handleOf } from "../src/internal/scheduler/handle.js"
import * as Guard from "../src/internal/store/guard.js"
import { settle } from "./support/fibers.ts"
import { simulate } from "./support/simulation.ts"

const withLimit = (limit: number, beats?: Pulse, shed?: { readonly target: number; readonly interval: number }) =>
  Effect.withFiber((fiber) => {
    const site = { context: fiber.context, clock: fiber.getRef(Clock.Clock), dispatcher: fiber.currentDispatcher }
    const engine = new Engine({ ...unbounded("test"), concurrency: limit, shed }, site)
    const commands: Array<string> = []
    const held = new Set<string>()
    /** Permits that the next renewal has lost, and the time of an answer. */
    const store = { held, lost: 0, answerMillis: 0, penaltyMillis: 0 }
    const answer = <A>(command: string, decide: () => A) =>
      Effect.suspend(() => {
        commands.push(command)
        const answer = Effect.sync(decide)
        return store.answerMillis === 0 ? answer : Effect.delay(answer, store.answerMillis)
      })
    const options: Options = {
      engine,
      pulse: beats ?? new Pulse(site),
      limiterOf: (rates) => new LimiterMemory(rates, site.context, site.clock),
      onStoreError: "fail",
      expectedProcesses: 1,
      guard: Guard.make({ service: "Scheduler", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
      store: {
        leaseMillis: 300,
        node: "test",
        acquire: (groups, limit) =>
          answer(`acquire ${groups.length}`, () => {
            const { penaltyMillis } = store
            if (penaltyMillis > 0) return { granted: 0, pollMillis: 1000, penaltyMillis }
            const granted = groups.slice(0, Math.max(0, limit - held.size))
            for (const { id } of granted) held.add(id)
            return { granted: granted.length, pollMillis: 1000, penaltyMillis }
          }),
        renew: (ids) => answer("renew", () => ids.slice(0, store.lost).map(({ id }) => id)),
        release: (ids) =>
          answer("release", () => {
            for (const { id } of ids) held.delete(id)
          }),
        penalize: (millis) => answer("penalize", () => void (store.penaltyMillis = millis)),
        close() {}
      }
    }
    return Effect.succeed({ commands, engine, pool: new PermitPool(options), scheduler: handleOf(engine), store })
  })

const make = withLimit(1)

const withShed = withLimit(2, undefined, { target: 5_000_000, interval: 100_000_000 })

/** Forks jobs of so many milliseconds. */
const jobs = (scheduler: ReturnType<typeof handleOf>, ...millis: ReadonlyArray<number>) =>
  Effect.forEach(
    millis,
    (millis) => Effect.forkChild(Effect.exit(scheduler.schedule(Effect.sleep(millis))), { startImmediately: true })
  )

describe("the permits of several processes", () => {
  it("a job whose permit is lost before its effect has begun ends as one that runs does", () => {
    const ends = new Set<string>()
    let reached = true
    for (let at = 1; reached; at++) {
      reached = false
      const { exit } = simulate((turns, clock) =>
        Effect.gen(function*() {
          const { engine, pool, scheduler } = yield* make
          // The event loop stands for longer than the lease while a fiber has yielded at this operation.
          turns.watch((operation) => {
            if (operation !== at) return false
            reached = true
            turns.scheduleTask(() => clock.pass("1 second"))
            return true
          })
          const job = yield* Effect.forkChild(scheduler.schedule(Effect.sleep("1 hour")), { startImmediately: true })
          yield* Effect.sleep("2 seconds")
          turns.watch(undefined)
          expect(engine.main.used, `at operation ${at}`).toBeLessThanOrEqual(pool.size)
          ends.add(job.pollUnsafe() === undefined ? "runs" : "lost")
          yield* Fiber.interrupt(job)
          expect(engine.main.used).toBe(0)
          yield* pool.close
        })
      )
      if (exit?._tag !== "Success") throw new Error(exit === undefined ? "hangs" : Cause.pretty(exit.cause))
    }
    expect(ends).toEqual(new Set(["runs", "lost"]))
  })

  it.effect("when permits are lost, the jobs that began last end, as many as ran on them", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* withLimit(3)
      const running = yield* jobs(scheduler, 2000, 2000, 2000)
      store.lost = 1
      yield* TestClock.adjust(100)
      store.lost = 0
      const exit = yield* Fiber.join(running[2]!)
      expect(String(exit)).toContain("others hold the permit")
      yield* TestClock.adjust(1000)
      expect([pool.size, engine.main.used]).toEqual([2, 2])
      yield* TestClock.adjust(1000)
      for (const job of running.slice(0, 2)) expect((yield* Fiber.join(job))._tag).toBe("Success")
      yield* pool.close
    }))

  it.effect("one command asks for as many jobs as fit into the concurrency", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler } = yield* withLimit(2)
      yield* scheduler.pause
      const running = yield* jobs(scheduler, 10, 10, 10, 10)
      yield* scheduler.resume
      expect(commands[0]).toBe("acquire 2")
      yield* TestClock.adjust(100)
      yield* Fiber.awaitAll(running)
      yield* pool.close
    }))

  it.effect("a waiting process asks again after a second", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 hour")
      const { commands, pool, scheduler, store } = yield* make
      store.held.add("another's")
      const [job] = yield* jobs(scheduler, 10)
      store.held.clear()
      yield* TestClock.adjust(999)
      expect(commands).toEqual(["acquire 1"])
      yield* TestClock.adjust(11)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
      yield* pool.close
    }))

  it.effect("a job that waits for the rate keeps its permit", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler } = yield* make
      yield* scheduler.setRate({ limit: 1, window: "1 second" })
      const running = yield* jobs(scheduler, 10, 10)
      yield* TestClock.adjust(900)
      expect([pool.size, commands.includes("release")]).toEqual([1, false])
      yield* TestClock.adjust(200)
      yield* Fiber.awaitAll(running)
      yield* pool.close
    }))

  it.effect("a pool that closes while it asks leaves the queue and returns the permits it may have got", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* make
      store.answerMillis = 10
      yield* jobs(scheduler, 10)
      const closing = yield* Effect.forkChild(pool.close, { startImmediately: true })
      yield* TestClock.adjust(100)
      yield* Fiber.join(closing)
      expect(commands).toEqual(["acquire 1", "acquire 0", "release"])
    }))

  it.effect("a permit passes to the next job for 50 ms, and then goes back to the store first", () =>
    Effect.gen(function*() {
      for (const millis of [49, 50]) {
        const { commands, pool, scheduler } = yield* make
        const first = yield* Effect.forkChild(scheduler.schedule(Effect.sleep(millis)), { startImmediately: true })
        const second = yield* Effect.forkChild(scheduler.schedule(Effect.sleep(10)), { startImmediately: true })
        commands.length = 0
        yield* TestClock.adjust(millis)
        yield* Fiber.join(first)
        expect(commands.includes("release")).toBe(millis === 50)
        pool.wake()
        yield* TestClock.adjust(10)
        yield* Fiber.join(second)
        yield* pool.close
      }
    }))

  it.effect("a closed pool sends nothing, whatever the jobs do", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler } = yield* make
      const jobs = yield* Effect.forEach([1, 2], () =>
        Effect.forkChild(scheduler.schedule(Effect.sleep("1 second")), { startImmediately: true }))
      yield* pool.close
      commands.length = 0
      yield* Effect.forEach(jobs, Fiber.interrupt)
      yield* scheduler.resize(2)
      yield* Effect.forkChild(scheduler.schedule(Effect.void), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      expect(commands).toEqual([])
    }))

  it.effect("while a penalty holds, a process holds no permit, is in no queue and asks nothing; its end asks again", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* withLimit(2)
      const [first] = yield* jobs(scheduler, 10)
      store.penaltyMillis = 5000
      const [second] = yield* jobs(scheduler, 10)
      expect((yield* scheduler.stats).waitingFor).toBe("penalty")
      yield* TestClock.adjust(20)
      yield* Fiber.join(first!)
      expect([pool.size, [...store.held]]).toEqual([0, []])
      commands.length = 0
      yield* TestClock.adjust(4900)
      expect(commands).toEqual([])
      store.penaltyMillis = 0
      yield* TestClock.adjust(90)
      expect((yield* Fiber.join(second!))._tag).toBe("Success")
      yield* pool.close
    }))

  it.effect("a penalty that is given while the process asks keeps what it gets from starting a job", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* make
      store.answerMillis = 10
      const [job] = yield* jobs(scheduler, 10)
      const penalty = yield* Effect.forkChild(scheduler.penalize({ for: 100 }), { startImmediately: true })
      yield* TestClock.adjust(20)
      yield* Fiber.join(penalty)
      store.penaltyMillis = 0
      yield* TestClock.adjust(70)
      expect([pool.size, engine.running, [...store.held]]).toEqual([0, 0, []])
      yield* TestClock.adjust(50)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
      yield* TestClock.adjust(20)
      yield* pool.close
    }))

  it.effect("the time under a penalty is no wait for width: nothing is shed after it", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* withShed
      for (const round of [1, 2]) {
        store.penaltyMillis = 1000
        const [early, ...late] = yield* jobs(scheduler, 1, 1, 1, 1)
        yield* TestClock.adjust(999)
        store.penaltyMillis = 0
        yield* TestClock.adjust(20)
        for (const job of [early!, ...late]) expect((yield* Fiber.join(job))._tag, `round ${round}`).toBe("Success")
      }
      expect(engine.refusals.counts).toEqual({})
      yield* pool.close
    }))

  it.effect("schedulers with one pulse renew in the same moments, and the timer ends with the last permit", () =>
    Effect.gen(function*() {
      const pulse = yield* Effect.withFiber((fiber) =>
        Effect.succeed(new Pulse({ context: fiber.context, clock: fiber.getRef(Clock.Clock) }))
      )
      const moments: Array<number> = []
      const pools = []
      for (let i = 0; i < 4; i++) {
        const made = yield* withLimit(1, pulse)
        yield* jobs(made.scheduler, 10_000)
        pools.push(made)
        yield* TestClock.adjust(5)
      }
      for (const { commands } of pools) commands.length = 0
      for (let millis = 20; millis < 520; millis++) {
        yield* TestClock.adjust(1)
        const renewed = pools.flatMap(({ commands }) => commands.splice(0))
        if (renewed.length > 0) moments.push(millis)
      }
      // Leases of 300 ms: each one is renewed at least five times.
      expect(moments.length).toBeGreaterThanOrEqual(5)
      expect(moments.length).toBeLessThan(9)
      for (const { pool } of pools) yield* pool.close
    }))

  it.effect("a key that is dropped ends its wake-ups, and so do one that is used after the end and one whose lookup throws", () =>
    Effect.gen(function*() {
      const open = { count: 0, made: 0 }
      const share = (): Share => (engine) => {
        open.count++
        open.made++
        return new PermitPool({
          engine,
          pulse: new Pulse(engine.site),
          limiterOf: (rates) => new LimiterMemory(rates, engine.site.context, engine.site.clock),
          onStoreError: "fail",
          expectedProcesses: 1,
          guard: Guard.make({ service: "Scheduler", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
          store: {
            leaseMillis: 300,
            node: "test",
            acquire: (groups) => Effect.succeed({ granted: groups.length, pollMillis: 1000, penaltyMillis: 0 }),
            renew: () => Effect.succeed([]),
            release: () => Effect.delay(Effect.void, 10),
            penalize: () => Effect.void,
            close: () => void open.count--
          }
        })
      }
      const limits = (key: number) => {
        if (key === 7) throw new Error("no such key")
        return { ...unbounded("test"), concurrency: 1 }
      }
      const scope = yield* Scope.make()
      const hosts = yield* Keyed.make("test", limits, identity, share).pipe(Scope.provide(scope))
      yield* hosts.get(1).schedule(Effect.void)
      // Its permit is on its way back.
      expect([yield* hosts.size, open.count]).toEqual([1, 1])
      yield* TestClock.adjust("3 seconds")
      expect([yield* hosts.size, open.count, open.made]).toEqual([0, 0, 1])
      yield* Effect.exit(hosts.get(7).schedule(Effect.void))
      yield* hosts.get(2).resize(3)
      expect([yield* hosts.size, open.count, open.made]).toEqual([1, 1, 2])
      yield* Scope.close(scope, Exit.void)
      expect(open.count).toBe(0)
      yield* Effect.exit(Effect.forkChild(hosts.get(3).schedule(Effect.void)))
      yield* TestClock.adjust(1)
      expect([open.count, open.made]).toEqual([0, 3])
    }))

  it.effect("a command is given up when nobody waits for its orders, fails when it takes too long, and does not carry what was interrupted", () =>
    Effect.gen(function*() {
      const seen = { sent: [] as Array<number>, interrupted: 0 }
      const hanging = {
        eval: () => (orders: ReadonlyArray<unknown>) => {
          seen.sent.push(orders.length)
          return Effect.onInterrupt(Effect.never, () => Effect.sync(() => seen.interrupted++))
        }
      }
      // Sound for a test: orders use nothing else of it.
      const orders = new Orders(hanging as never, yield* site<never>(), 1000)
      const send = Effect.forkChild(Effect.flip(orders.send("acquire", [], [], () => undefined)), {
        startImmediately: true
      })
      const [first, second, third] = [yield* send, yield* send, yield* send]
      yield* Fiber.interrupt(third)
      yield* settle
      expect(seen).toEqual({ sent: [2], interrupted: 0 })
      yield* Fiber.interrupt(first)
      expect(seen.interrupted).toBe(0)
      yield* Fiber.interrupt(second)
      yield* settle
      expect(seen.interrupted).toBe(1)
      const late = yield* send
      yield* settle
      yield* TestClock.adjust(1000)
      const error = yield* Fiber.join(late)
      expect(error.message).toBe("store command `acquire` failed: no answer within 1000 ms")
      expect(seen).toEqual({ sent: [2, 1], interrupted: 2 })
    }))
})
