/**
 * The permits of a concurrency across processes, over a store that a test answers for.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, identity, Logger, Request, Scope } from "effect"
import { Batcher, Reducer, Scheduler } from "effect-funnel"
import { TestClock } from "effect/testing"
import { type Options, PermitPool } from "../src/internal/shared/permitPool.js"
import { Pulse } from "../src/internal/shared/pulse.js"
import { LimiterMemory } from "../src/internal/limiter/memory.js"
import type { Share } from "../src/internal/scheduler/build.js"
import { Engine } from "../src/internal/scheduler/engine.js"
import * as Keyed from "../src/internal/scheduler/keyed.js"
import { unbounded } from "../src/internal/scheduler/options.js"
import { handleOf } from "../src/internal/scheduler/handle.js"
import * as Guard from "../src/internal/store/guard.js"
import type { PermitStore } from "../src/internal/store/permitStore.js"
import { StoreError } from "../src/internal/store/storeError.js"
import { fork, settle } from "./support/fibers.ts"
import { ManualClock } from "./support/manualClock.ts"
import { simulate } from "./support/simulation.ts"

/** The permits of a key over one store. */
const shareOver = (store: PermitStore) => (): Share => (engine) =>
  new PermitPool({
    engine,
    pulse: new Pulse(engine.site),
    limiterOf: (rates) => new LimiterMemory(rates, engine.site.context, engine.site.clock),
    onStoreError: "fail",
    expectedProcesses: 1,
    guard: Guard.make({ service: "Scheduler", storeTimeoutMillis: 60_000, outageBudgetMillis: 0, isBounded: true }),
    store
  })

const withLimit = (
  limit: number,
  beats?: Pulse,
  shed?: { readonly target: number; readonly interval: number },
  policy: Partial<Pick<Options, "onStoreError" | "expectedProcesses" | "guard">> = {}
) =>
  Effect.withFiber((fiber) => {
    const site = { context: fiber.context, clock: fiber.getRef(Clock.Clock), dispatcher: fiber.currentDispatcher }
    const engine = new Engine({ ...unbounded("test"), concurrency: limit, shed }, site)
    const commands: Array<string> = []
    const held = new Set<string>()
    const weights = new Map<string, number>()
    /** Permits that the next renewal has lost, and the time of an answer. */
    const store = {
      held,
      lost: 0,
      answerMillis: 0,
      penaltyMillis: 0,
      pollMillis: 1000,
      away: false as boolean | "acquire"
    }
    const answer = <A>(command: string, decide: () => A) =>
      Effect.suspend(() => {
        commands.push(command)
        const answer = store.away === true || (store.away !== false && command.startsWith(store.away))
          ? Effect.fail(new StoreError({ operation: command, cause: new Error("away") }))
          : Effect.sync(decide)
        return store.answerMillis === 0 ? answer : Effect.delay(answer, store.answerMillis)
      })
    const options: Options = {
      engine,
      pulse: beats ?? new Pulse(site),
      limiterOf: (rates) => new LimiterMemory(rates, site.context, site.clock),
      onStoreError: "fail",
      expectedProcesses: 1,
      guard: Guard.make({ service: "Scheduler", storeTimeoutMillis: 1000, outageBudgetMillis: 0, isBounded: true }),
      ...policy,
      store: {
        leaseMillis: 300,
        node: "test",
        acquire: (groups, limit) =>
          answer(`acquire ${groups.length}`, () => {
            const { penaltyMillis, pollMillis } = store
            if (penaltyMillis > 0) return { granted: 0, pollMillis, penaltyMillis }
            const granted: Array<string> = []
            for (const { id, weight } of groups) {
              if ([...held].reduce((sum, id) => sum + (weights.get(id) ?? 1), weight) > limit) break
              granted.push(id)
              weights.set(id, weight)
              held.add(id)
            }
            return { granted: granted.length, pollMillis, penaltyMillis }
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
    const pool = new PermitPool(options)
    return Effect.as(
      // Where the store still answers, nobody lets the time pass.
      Effect.addFinalizer(() => Effect.forkDetach(pool.close, { startImmediately: true })),
      { commands, engine, options, pool, scheduler: handleOf(engine), store }
    )
  })

const make = withLimit(1)

const withShed = withLimit(2, undefined, { target: 5_000_000, interval: 100_000_000 })

/** Forks jobs of so many milliseconds. */
const jobs = (scheduler: ReturnType<typeof handleOf>, ...millis: ReadonlyArray<number>) =>
  Effect.forEach(millis, (millis) => fork(Effect.exit(scheduler.schedule(Effect.sleep(millis)))))

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
          const job = yield* fork(scheduler.schedule(Effect.sleep("1 hour")))
          yield* Effect.sleep("2 seconds")
          turns.watch(undefined)
          expect(engine.main.used, `at operation ${at}`).toBeLessThanOrEqual(pool.size)
          ends.add(job.pollUnsafe() === undefined ? "runs" : "lost")
          yield* Fiber.interrupt(job)
          expect(engine.main.used).toBe(0)
        }).pipe(Effect.scoped)
      )
      if (exit?._tag !== "Success") throw new Error(exit === undefined ? "hangs" : Cause.pretty(exit.cause))
    }
    expect(ends).toEqual(new Set(["runs", "lost"]))
  })

  it("a caller that throws when its permit is lost keeps no other job running, and no other permit from being renewed", () => {
    const bug = new Error("of the caller")
    const thrown: Array<unknown> = []
    const { exit } = simulate(() =>
      Effect.gen(function*() {
        const { pulse } = (yield* withLimit(1)).options
        const first = yield* withLimit(4, pulse)
        const second = yield* withLimit(1, pulse)
        const fibers = yield* Effect.forEach([1, 2, 3, 4], () => fork(first.scheduler.schedule(Effect.never)))
        for (const fiber of fibers) {
          fiber.addObserver(() => {
            throw bug
          })
        }
        const other = yield* fork(second.scheduler.schedule(Effect.never))
        const ends = () => fibers.map((fiber) => fiber.pollUnsafe()?._tag)
        // Others hold two of the permits, and then the lease of the rest ends.
        first.store.lost = 2
        yield* Effect.sleep(100)
        const half = ends()
        first.store.lost = 0
        first.store.away = true
        second.commands.length = 0
        yield* Effect.sleep(1001)
        const renewals = second.commands.filter((command) => command === "renew").length
        const seen = [half, ends(), renewals, other.pollUnsafe()]
        yield* Effect.all([first.pool.close, second.pool.close, Fiber.interrupt(other)])
        return seen
      }).pipe(Effect.scoped), { onThrow: (error) => void thrown.push(error) })
    const all = ["Failure", "Failure", "Failure", "Failure"]
    expect(exit).toEqual(Exit.succeed([[undefined, undefined, "Failure", "Failure"], all, 10, undefined]))
    expect(new Set(thrown)).toEqual(new Set([bug]))
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
    }))

  for (const rejects of [true, false]) {
    const end = rejects ? "ends its look-ups as `onRejected` says" : "ends its look-ups with a defect"
    it.effect(`a batch whose permit is lost is interrupted, and ${end}`, () =>
      Effect.gen(function*() {
        const { engine, pool, scheduler, store } = yield* withLimit(1)
        const batcher = yield* Effect.provideService(
          Batcher.make({ scheduler: Scheduler.Scheduler }),
          Scheduler.Scheduler,
          scheduler
        )
        const Get = Request.tagged<Request.Request<string> & { readonly _tag: "Get" }>("Get")
        let interrupted = 0
        const resolver = yield* batcher.ordered(Get, {
          execute: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)),
          onRejected: rejects ? (error) => Exit.succeed(error.reason._tag) : undefined
        })
        const lookUp = yield* fork(Effect.exit(Effect.request(Get(), resolver)))
        yield* TestClock.adjust(50)
        store.lost = 1
        yield* TestClock.adjust(100)
        store.lost = 0
        yield* settle
        const exit = lookUp.pollUnsafe() ?? "it goes on"
        if (rejects) expect(exit).toEqual(Exit.succeed(Exit.succeed("StoreError")))
        else expect(String(exit)).toContain("others hold the permit")
        expect([interrupted, pool.size, engine.main.used]).toEqual([1, 0, 0])
        yield* pool.close
      }))
  }

  it.effect("one command asks for as many jobs as fit into the concurrency", () =>
    Effect.gen(function*() {
      const { commands, scheduler } = yield* withLimit(2)
      yield* scheduler.pause
      const running = yield* jobs(scheduler, 10, 10, 10, 10)
      yield* scheduler.resume
      expect(commands[0]).toBe("acquire 2")
      yield* TestClock.adjust(100)
      yield* Fiber.awaitAll(running)
    }))

  it.effect("a waiting process asks again after a second", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 hour")
      const { commands, scheduler, store } = yield* make
      store.held.add("another's")
      const [job] = yield* jobs(scheduler, 10)
      store.held.clear()
      yield* TestClock.adjust(999)
      expect(commands).toEqual(["acquire 1"])
      yield* TestClock.adjust(11)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
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
    }))

  it.effect("a job that waits for the rate, and whose permit is lost, is asked for again at once", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* make
      yield* scheduler.setRate({ limit: 1, window: "1 second" })
      yield* jobs(scheduler, 10)
      yield* TestClock.adjust(50)
      const running = yield* jobs(scheduler, 10)
      store.held.clear()
      store.lost = 1
      commands.length = 0
      yield* TestClock.adjust(60)
      store.lost = 0
      expect([pool.size, ...commands]).toEqual([1, "renew", "acquire 1"])
      yield* TestClock.adjust(1000)
      yield* Fiber.awaitAll(running)
    }))

  it.effect("a pool that closes while it asks leaves the queue and returns the permits it may have got", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* make
      store.answerMillis = 10
      yield* jobs(scheduler, 10)
      const closing = yield* fork(pool.close)
      yield* TestClock.adjust(100)
      yield* Fiber.join(closing)
      expect(commands).toEqual(["acquire 1", "acquire 0", "release"])
    }))

  it.effect("a permit passes to the next job for 50 ms, and then goes back to the store first", () =>
    Effect.gen(function*() {
      for (const millis of [49, 50]) {
        const { commands, pool, scheduler } = yield* make
        const first = yield* fork(scheduler.schedule(Effect.sleep(millis)))
        const second = yield* fork(scheduler.schedule(Effect.sleep(10)))
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
      const jobs = yield* Effect.forEach([1, 2], () => fork(scheduler.schedule(Effect.sleep("1 second"))))
      yield* pool.close
      commands.length = 0
      yield* Effect.forEach(jobs, Fiber.interrupt)
      yield* scheduler.resize(2)
      yield* fork(scheduler.schedule(Effect.void))
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
    }))

  it.effect("a penalty that is given while the process asks keeps what it gets from starting a job", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* make
      store.answerMillis = 10
      const [job] = yield* jobs(scheduler, 10)
      const penalty = yield* fork(scheduler.penalize({ for: 100 }))
      yield* TestClock.adjust(20)
      yield* Fiber.join(penalty)
      expect(store.penaltyMillis).toBe(100)
      store.penaltyMillis = 0
      yield* TestClock.adjust(70)
      expect([pool.size, engine.running, [...store.held]]).toEqual([0, 0, []])
      yield* TestClock.adjust(50)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
      yield* TestClock.adjust(20)
    }))

  it.effect("the time under a penalty is no wait for width: nothing is shed after it", () =>
    Effect.gen(function*() {
      const { engine, scheduler, store } = yield* withShed
      for (const round of [1, 2]) {
        store.penaltyMillis = 1000
        const [early, ...late] = yield* jobs(scheduler, 1, 1, 1, 1)
        yield* TestClock.adjust(999)
        store.penaltyMillis = 0
        yield* TestClock.adjust(20)
        for (const job of [early!, ...late]) expect((yield* Fiber.join(job))._tag, `round ${round}`).toBe("Success")
      }
      expect(engine.refused).toEqual({})
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
          guard: Guard.make({ service: "Scheduler", storeTimeoutMillis: 1000, outageBudgetMillis: 0, isBounded: true }),
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

  it.effect("one command asks for 64 jobs at most, and the next one for the rest", () =>
    Effect.gen(function*() {
      const { commands, scheduler } = yield* withLimit(100)
      yield* scheduler.pause
      const running = yield* jobs(scheduler, ...Array.from({ length: 70 }, () => 10))
      yield* scheduler.resume
      expect(commands).toEqual(["acquire 64", "acquire 6"])
      yield* TestClock.adjust(10)
      yield* Fiber.awaitAll(running)
    }))
})

const alone = (limit: number, expectedProcesses: number) =>
  withLimit(limit, undefined, undefined, { onStoreError: "local", expectedProcesses })

describe("permits while the store is away", () => {
  it.effect("a renewal that fails is tried again after a tenth of the lease, and its jobs run on", () =>
    Effect.gen(function*() {
      const { commands, scheduler, store } = yield* make
      const [job] = yield* jobs(scheduler, 1000)
      commands.length = 0
      store.away = true
      const times: Array<number> = []
      for (let millis = 1; millis <= 250; millis++) {
        yield* TestClock.adjust(1)
        if (commands.splice(0).includes("renew")) times.push(millis)
        if (millis === 200) store.away = false
      }
      expect(times).toEqual([100, 130, 160, 190, 220])
      yield* TestClock.adjust(750)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
    }))

  it.effect("a permit whose renewals fail, or get no answer, is lost in the moment its lease ends, and its job fails then", () =>
    Effect.gen(function*() {
      for (const fault of [{ away: true }, { answerMillis: 1e6 }]) {
        const { engine, pool, scheduler, store } = yield* make
        const [job] = yield* jobs(scheduler, 1000)
        Object.assign(store, fault)
        yield* TestClock.adjust(299)
        expect([pool.size, engine.running]).toEqual([1, 1])
        yield* TestClock.adjust(1)
        expect([pool.size, engine.running]).toEqual([0, 0])
        expect(String(yield* Fiber.join(job!))).toContain("too late")
        Object.assign(store, { away: false, answerMillis: 0 })
        yield* pool.close
      }
    }))

  it.effect("a pool that closes in the code of a job whose permit is lost renews none of those that it gives back", () =>
    Effect.gen(function*() {
      const { pulse } = (yield* withLimit(1)).options
      const one = yield* withLimit(2, pulse)
      const other = yield* withLimit(1, pulse)
      const both = [one, other]
      const closed = Effect.all(both.map(({ pool }) => pool.close))
      const job = ({ scheduler }: typeof one) =>
        fork(Effect.andThen(Effect.exit(scheduler.schedule(Effect.never)), closed))
      yield* job(one)
      yield* TestClock.adjust(50)
      yield* job(one)
      yield* job(other)
      const away = (is: boolean) => both.forEach(({ store }) => void (store.away = is))
      away(true)
      yield* TestClock.adjust(249)
      away(false)
      for (const { commands } of both) commands.length = 0
      yield* TestClock.adjust(1000)
      for (const { commands } of both) expect(commands.slice(commands.indexOf("release"))).toEqual(["release"])
    }))

  it.effect("a process that asks in vain fails the jobs that wait, and returns what it may have got", () =>
    Effect.gen(function*() {
      const { commands, engine, pool, scheduler, store } = yield* withLimit(2)
      store.away = true
      for (const job of yield* jobs(scheduler, 10, 10)) {
        expect(String(yield* Fiber.join(job))).toContain("store command `acquire 1` failed")
      }
      expect(commands).toEqual(["acquire 1", "release", "acquire 1", "release"])
      expect([engine.queued, engine.running, pool.size]).toEqual([0, 0, 0])
      store.away = false
      const [job] = yield* jobs(scheduler, 10)
      yield* TestClock.adjust(10)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
    }))

  it.effect("a place that a failed command may have taken, or failed to leave, is left when the store answers again, or when it is woken", () =>
    Effect.gen(function*() {
      const { commands, engine, pool, scheduler, store } = yield* withLimit(1)
      store.held.add("another process")
      const waiting = yield* fork(scheduler.schedule(Effect.void))
      yield* TestClock.adjust(10)
      store.away = true
      yield* Fiber.interrupt(waiting)
      store.away = false
      yield* settle
      commands.length = 0
      // Another process has given a permit back.
      pool.wake()
      yield* settle
      expect([commands, pool.rest]).toEqual([["acquire 0"], 0])
      store.away = true
      const [job] = yield* jobs(scheduler, 10)
      expect((yield* Fiber.join(job!))._tag).toBe("Failure")
      store.away = false
      commands.length = 0
      yield* TestClock.adjust(300)
      // The lease of the place is over.
      pool.wake()
      yield* TestClock.adjust(2000)
      expect([commands, engine.queued]).toEqual([[], 0])
    }))

  it.effect("jobs that wait in a run fail too, and jobs that a running one waits for do not: for them the store is asked each second", () =>
    Effect.gen(function*() {
      const { commands, engine, scheduler, store } = yield* withLimit(1)
      const reducer = yield* Reducer.make()
      const sleeps = Effect.forEach([1, 2, 3], () => scheduler.schedule(Effect.sleep(1000)), { concurrency: 3 })
      const inner = Effect.andThen(Effect.sync(() => void (store.away = "acquire")), reducer.reduce("inner", sleeps))
      const outer = yield* fork(scheduler.schedule(inner))
      const alone = yield* fork(reducer.reduce("alone", scheduler.schedule(Effect.void)))
      expect(String(yield* Fiber.await(alone))).toContain("store command `acquire 1` failed")
      const isAsked = (command: string) => command.startsWith("acquire")
      commands.length = 0
      yield* TestClock.adjust(999)
      expect(commands.filter(isAsked)).toEqual([])
      yield* TestClock.adjust(2001)
      expect(commands.filter(isAsked)).toEqual(["acquire 1"])
      expect([(yield* Fiber.await(outer))._tag, engine.queued, engine.running]).toEqual(["Success", 0, 0])
    }))

  it.effect("with the policy local a process goes on with its share, which is at least 1, and a job heavier than that runs alone", () =>
    Effect.gen(function*() {
      const widths = []
      for (const processes of [2, 3, 9]) {
        const { engine, pool, scheduler, store } = yield* alone(4, processes)
        store.away = true
        const job = (weight: number) => fork(scheduler.schedule(Effect.sleep(10), { weight }))
        for (let i = 0; i < 4; i++) yield* job(1)
        const steps = []
        yield* job(3)
        yield* job(1)
        while (!engine.idle) {
          steps.push(engine.main.used)
          yield* TestClock.adjust(10)
        }
        widths.push(steps)
        store.away = false
        yield* pool.close
      }
      expect(widths).toEqual([[2, 2, 3, 1], [1, 1, 1, 1, 3, 1], [1, 1, 1, 1, 3, 1]])
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("while a heavy job waits for the others to end, no other job starts beyond the share", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* alone(4, 4)
      store.away = true
      const job = (weight: number, priority: number) => fork(scheduler.schedule(Effect.sleep(10), { weight, priority }))
      yield* job(1, 0)
      yield* job(2, 0)
      yield* job(1, 1)
      const widths = []
      while (!engine.idle) {
        widths.push([engine.running, engine.main.used])
        yield* TestClock.adjust(10)
      }
      expect(widths).toEqual([[1, 1], [1, 1], [1, 2]])
      yield* pool.close
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("the store is asked each second whether it is back; jobs that began meanwhile run to their end, and others need permits", () =>
    Effect.gen(function*() {
      const { commands, engine, pool, scheduler, store } = yield* alone(2, 2)
      store.away = true
      const [began] = yield* jobs(scheduler, 5000)
      yield* jobs(scheduler, 10)
      commands.length = 0
      yield* TestClock.adjust(2999)
      expect(commands).toEqual(["acquire 0", "acquire 0"])
      store.away = false
      store.held.add("another's").add("one more")
      yield* TestClock.adjust(1)
      expect([engine.running, engine.queued, engine.main.capacity, pool.size]).toEqual([1, 1, 0, 0])
      yield* TestClock.adjust(1990)
      store.held.clear()
      yield* TestClock.adjust(1000)
      expect((yield* Fiber.join(began!))._tag).toBe("Success")
      expect([engine.idle, pool.size, [...store.held]]).toEqual([true, 0, []])
      commands.length = 0
      yield* TestClock.adjust("1 minute")
      expect(commands).toEqual([])
      yield* pool.close
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("a pool that closes while the store is away asks no more", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* alone(2, 2)
      store.away = true
      yield* jobs(scheduler, 10)
      yield* TestClock.adjust(1500)
      yield* pool.close
      commands.length = 0
      yield* TestClock.adjust("1 minute")
      expect(commands).toEqual([])
    }).pipe(Effect.provide(Logger.layer([]))))
})

describe("what a process asks for, and when", () => {
  const weighted = (scheduler: ReturnType<typeof handleOf>, weight: number, millis: number) =>
    fork(Effect.exit(scheduler.schedule(Effect.sleep(millis), { weight })))

  it.effect("a larger concurrency is asked for at once", () =>
    Effect.gen(function*() {
      const { engine, scheduler, store } = yield* make
      store.held.add("another's")
      const [job] = yield* jobs(scheduler, 10)
      yield* scheduler.resize(2)
      expect(engine.running).toBe(1)
      yield* TestClock.adjust(10)
      yield* Fiber.join(job!)
    }))

  it.effect("a concurrency that becomes smaller starts no more jobs, neither on permits that are on their way nor on those of jobs that end", () =>
    Effect.gen(function*() {
      const asked = yield* withLimit(3)
      asked.store.answerMillis = 10
      yield* asked.scheduler.pause
      yield* jobs(asked.scheduler, 100, 100, 100)
      yield* asked.scheduler.resume
      yield* asked.scheduler.resize(1)
      yield* TestClock.adjust(30)
      expect([asked.engine.running, asked.store.held.size, asked.pool.size]).toEqual([1, 1, 1])
      yield* TestClock.adjust(5000)
      expect([asked.engine.idle, asked.store.held.size]).toEqual([true, 0])

      const { engine, pool, scheduler, store } = yield* withLimit(2)
      yield* jobs(scheduler, 10, 20, 10)
      yield* scheduler.resize(1)
      yield* TestClock.adjust(10)
      expect([engine.running, engine.queued, pool.size]).toEqual([1, 1, 1])
      yield* TestClock.adjust(5000)
      expect([engine.idle, store.held.size]).toEqual([true, 0])
      yield* Effect.all([asked.pool.close, pool.close])
    }))

  it.effect("a process that waits for a heavy job holds no permit for it, so that two of them do not block each other", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* withLimit(4)
      store.held.add("a").add("b")
      yield* weighted(scheduler, 1, 20)
      yield* weighted(scheduler, 1, 40)
      const heavy = yield* weighted(scheduler, 3, 10)
      yield* TestClock.adjust(20)
      expect([pool.size, engine.running, store.held.size]).toEqual([1, 1, 3])
      store.held.delete("a")
      store.held.delete("b")
      pool.wake()
      expect([pool.size, engine.running, store.held.size]).toEqual([4, 2, 2])
      yield* TestClock.adjust(20)
      yield* Fiber.join(heavy)
      expect([pool.size, [...store.held]]).toEqual([0, []])
    }))

  it.effect("an answer that comes at once and leads to another question leaves that one open", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* withLimit(2)
      yield* scheduler.pause
      const slow = Effect.sync(() => (store.answerMillis = 10))
      yield* fork(scheduler.schedule(Effect.andThen(slow, Effect.never)))
      yield* fork(scheduler.schedule(Effect.never, { weight: 2 }))
      yield* scheduler.resume
      expect(commands).toEqual(["acquire 1", "acquire 1"])
      pool.wake()
      yield* TestClock.adjust(9)
      expect(commands.length).toBe(2)
      yield* TestClock.adjust(1)
      expect(commands).toEqual(["acquire 1", "acquire 1", "acquire 1"])
      yield* fork(pool.close)
      yield* TestClock.adjust(30)
    }))

  it.effect("a pool that closes returns the permits it may have got, also if the command before was answered at once", () =>
    Effect.gen(function*() {
      const { commands, pool, scheduler, store } = yield* withLimit(2)
      const context = yield* Effect.context<never>()
      const second = scheduler.schedule(Effect.never)
      const first = scheduler.schedule(Effect.suspend(() => {
        store.answerMillis = 10
        Effect.runForkWith(context)(Effect.exit(second))
        return Effect.never
      }))
      yield* scheduler.pause
      yield* fork(first)
      yield* scheduler.resume
      const closing = yield* fork(pool.close)
      yield* TestClock.adjust(100)
      expect(closing.pollUnsafe()).toBeDefined()
      expect([commands, store.held.size]).toEqual([["acquire 1", "acquire 1", "acquire 0", "release"], 0])
    }))

  it.effect("a wake-up that comes while the process asks makes it ask once more", () =>
    Effect.gen(function*() {
      const { commands, engine, pool, scheduler, store } = yield* make
      store.held.add("another's")
      store.answerMillis = 10
      yield* jobs(scheduler, 1)
      pool.wake()
      yield* TestClock.adjust(5)
      expect(commands).toEqual(["acquire 1"])
      yield* TestClock.adjust(5)
      expect(commands).toEqual(["acquire 1", "acquire 1"])
      yield* TestClock.adjust(500)
      expect(commands).toEqual(["acquire 1", "acquire 1"])
      store.held.clear()
      pool.wake()
      pool.wake()
      yield* TestClock.adjust(10)
      expect([engine.running, commands.length]).toEqual([1, 3])
      yield* TestClock.adjust(20)
    }))

  it.effect("a wake-up that comes while a command is sent makes the process ask once more, after the answer", () =>
    Effect.gen(function*() {
      const { commands, options, pool, scheduler, store } = yield* withLimit(1)
      store.held.add("another's")
      const { acquire } = options.store
      let sent = 0
      let most = 0
      let wakes = 0
      Object.assign(options.store, {
        acquire: (...args: Parameters<typeof acquire>) =>
          Effect.suspend(() => {
            most = Math.max(most, ++sent)
            if (wakes-- > 0) pool.wake()
            return Effect.ensuring(acquire(...args), Effect.sync(() => sent--))
          })
      })
      yield* jobs(scheduler, 10)
      wakes = 1
      pool.wake()
      expect([commands, most]).toEqual([Array(3).fill("acquire 1"), 1])
    }))

  it.effect("where a lease ends sooner than the poll, a waiting process asks just after its end", () =>
    Effect.gen(function*() {
      const { commands, scheduler, store } = yield* make
      store.held.add("another's")
      store.pollMillis = 99.5
      yield* jobs(scheduler, 1)
      yield* TestClock.adjust(101)
      expect(commands).toEqual(["acquire 1"])
      store.pollMillis = 1000
      yield* TestClock.adjust(1)
      expect(commands).toEqual(["acquire 1", "acquire 1"])
    }))

  it.effect("the polls of schedulers that began to wait at different times meet at quarters of a second", () =>
    Effect.gen(function*() {
      for (const [late, asks] of [[0, 1000], [1, 1250], [249, 1250], [250, 1250], [251, 1500]] as const) {
        const { commands, pool, scheduler, store } = yield* make
        const began = yield* Clock.currentTimeMillis
        yield* TestClock.adjust(late)
        store.held.add("another's")
        yield* jobs(scheduler, 1)
        yield* TestClock.adjust(asks - late - 1)
        expect(commands, `after ${late} ms`).toEqual(["acquire 1"])
        yield* TestClock.adjust(1)
        expect(commands, `after ${late} ms`).toEqual(["acquire 1", "acquire 1"])
        yield* pool.close
        yield* TestClock.setTime(began + 10_000)
      }
    }))

  it.effect("of jobs with weights, as many end as ran on the lost permits, the last one first; a job inside ends with the one around it", () =>
    Effect.gen(function*() {
      const { engine, pool, scheduler, store } = yield* withLimit(4)
      const first = yield* weighted(scheduler, 1, 1000)
      let inner = "runs"
      const nested = Effect.onInterrupt(
        scheduler.schedule(Effect.never),
        () => Effect.sync(() => inner = "interrupted")
      )
      const second = yield* fork(Effect.exit(scheduler.schedule(nested, { weight: 2 })))
      expect([engine.running, pool.size]).toEqual([3, 3])
      store.lost = 1
      yield* TestClock.adjust(100)
      store.lost = 0
      expect(String(yield* Fiber.join(second))).toContain("others hold the permit")
      expect([inner, engine.running, first.pollUnsafe()]).toEqual(["interrupted", 1, undefined])
      yield* TestClock.adjust(900)
      expect((yield* Fiber.join(first))._tag).toBe("Success")
    }))

  it.effect("a penalty that cannot be told to the others holds in this process, and fails by the policy fail", () =>
    Effect.gen(function*() {
      for (const onStoreError of ["fail", "local"] as const) {
        const { engine, pool, scheduler, store } = yield* withLimit(1, undefined, undefined, { onStoreError })
        store.away = true
        const exit = yield* Effect.exit(scheduler.penalize({ for: 100 }))
        expect(exit._tag).toBe(onStoreError === "fail" ? "Failure" : "Success")
        store.away = false
        const [job] = yield* jobs(scheduler, 10)
        yield* TestClock.adjust(99)
        expect(engine.running).toBe(0)
        yield* TestClock.adjust(11)
        expect((yield* Fiber.join(job!))._tag).toBe("Success")
        yield* pool.close
      }
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("a permit is renewed in time, however many others come meanwhile", () =>
    Effect.gen(function*() {
      const { commands, engine, pool, scheduler } = yield* withLimit(10)
      const [first] = yield* jobs(scheduler, 1000)
      let most = 0
      for (let since = 0, millis = 0; millis < 990; millis += 10) {
        yield* jobs(scheduler, 15)
        commands.length = 0
        yield* TestClock.adjust(10)
        since = commands.includes("renew") ? 0 : since + 10
        most = Math.max(most, since)
      }
      expect(most).toBeLessThanOrEqual(100)
      yield* TestClock.adjust(100)
      expect((yield* Fiber.join(first!))._tag).toBe("Success")
      expect([engine.idle, pool.size]).toEqual([true, 0])
    }))

  it.effect("permits are renewed in each third of their lease, also where an answer takes time", () =>
    Effect.gen(function*() {
      const { commands, scheduler, store } = yield* make
      const [job] = yield* jobs(scheduler, 1000)
      store.answerMillis = 10
      commands.length = 0
      yield* TestClock.adjust(1000)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
      expect(commands.filter((command) => command === "renew").length).toBeGreaterThanOrEqual(9)
      store.answerMillis = 0
      yield* TestClock.adjust(10)
    }))

  it.effect("a permit is renewed in time, however much of its lease the answer took that brought it", () =>
    Effect.gen(function*() {
      const { scheduler, store } = yield* make
      store.answerMillis = 270
      const [job] = yield* jobs(scheduler, 1500)
      yield* TestClock.adjust(270)
      store.answerMillis = 0
      yield* TestClock.adjust(1500)
      expect((yield* Fiber.join(job!))._tag).toBe("Success")
    }))

  it.effect("a process that gives its last permit back while it renews leaves no timer", () => {
    const clock = new ManualClock()
    return Effect.gen(function*() {
      const { commands, scheduler, store } = yield* make
      yield* jobs(scheduler, 120)
      store.answerMillis = 50
      for (let i = 0; i < 20; i++) {
        clock.advance(10)
        yield* Effect.yieldNow
      }
      expect([commands, clock.pending]).toEqual([["acquire 1", "renew", "release"], 0])
    }).pipe(Effect.provideService(Clock.Clock, clock))
  })

  it.effect("closing waits for the commands that have no answer yet", () =>
    Effect.gen(function*() {
      const { pool, scheduler, store } = yield* make
      const [job] = yield* jobs(scheduler, 10)
      store.answerMillis = 50
      yield* TestClock.adjust(10)
      yield* Fiber.join(job!)
      const closing = yield* fork(pool.close)
      yield* TestClock.adjust(49)
      expect(closing.pollUnsafe()).toBe(undefined)
      yield* TestClock.adjust(1)
      expect([closing.pollUnsafe()?._tag, [...store.held]]).toEqual(["Success", []])
    }))

  it.effect("closing waits for no outage to end: what was not given back is tried once more", () =>
    Effect.gen(function*() {
      const guard = Guard.make({
        service: "Scheduler",
        storeTimeoutMillis: 1000,
        outageBudgetMillis: 60_000,
        isBounded: true
      })
      for (const [before, attempts] of [[1000, 1], [0, 0]] as const) {
        const { commands, pool, scheduler, store } = yield* withLimit(1, undefined, undefined, { guard })
        const [job] = yield* jobs(scheduler, 10)
        store.away = true
        store.answerMillis = 50
        yield* TestClock.adjust(10)
        yield* Fiber.join(job!)
        yield* TestClock.adjust(before)
        commands.length = 0
        const closing = yield* fork(pool.close)
        yield* TestClock.adjust(50)
        expect([closing.pollUnsafe()?._tag, commands]).toEqual(["Success", Array(attempts).fill("release")])
        yield* TestClock.adjust(5000)
        expect(commands.length).toBe(attempts)
      }
    }))

  it.effect("a key whose command failed stays for 5 s to leave the place that it may have, and is dropped once it has", () =>
    Effect.gen(function*() {
      for (const [outage, size] of [[3000, 1], [8000, 0]] as const) {
        let away = true
        const asked: Array<number> = []
        const share = shareOver({
          leaseMillis: 60_000,
          node: "test",
          acquire: (permits) =>
            Effect.suspend(() => {
              if (away) return Effect.fail(new StoreError({ operation: "acquire", cause: "away" }))
              asked.push(permits.length)
              return Effect.succeed({ granted: permits.length, pollMillis: 1000, penaltyMillis: 0 })
            }),
          renew: () => Effect.succeed([]),
          release: () => Effect.void,
          penalize: () => Effect.void,
          close: () => undefined
        })
        const limits = () => ({ ...unbounded("test"), concurrency: 1 })
        const scope = yield* Scope.make()
        const hosts = yield* Keyed.make("test", limits, identity, share).pipe(Scope.provide(scope))
        expect((yield* Effect.exit(hosts.get("k").schedule(Effect.void)))._tag).toBe("Failure")
        yield* TestClock.adjust(outage)
        expect(yield* hosts.size).toBe(size)
        away = false
        yield* TestClock.adjust(4000)
        expect([yield* hosts.size, asked]).toEqual([0, size === 1 ? [0] : []])
        yield* Scope.close(scope, Exit.void)
      }
    }))

  it.effect("a key whose job was interrupted while it asked is dropped after the answer, and returns the permits of it", () =>
    Effect.gen(function*() {
      const held = new Set<string>()
      const share = shareOver({
        leaseMillis: 300,
        node: "test",
        acquire: (groups) =>
          Effect.andThen(
            Effect.sync(() => groups.forEach(({ id }) => held.add(id))),
            Effect.delay(Effect.succeed({ granted: groups.length, pollMillis: 1000, penaltyMillis: 0 }), 5000)
          ),
        renew: () => Effect.succeed([]),
        release: (ids) => Effect.sync(() => ids.forEach(({ id }) => held.delete(id))),
        penalize: () => Effect.void,
        close: () => undefined
      })
      const limits = () => ({ ...unbounded("test"), concurrency: 1 })
      const scope = yield* Scope.make()
      const hosts = yield* Keyed.make("test", limits, identity, share).pipe(Scope.provide(scope))
      const job = yield* fork(hosts.get("k").schedule(Effect.void))
      yield* Fiber.interrupt(job)
      yield* TestClock.adjust(4000)
      expect([yield* hosts.size, held.size]).toEqual([1, 1])
      yield* TestClock.adjust(4000)
      expect([yield* hosts.size, held.size]).toEqual([0, 0])
      yield* Scope.close(scope, Exit.void)
    }))
})
