import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Logger, Metric, Schema, Scope } from "effect"
import * as Persistable from "effect/persistence/Persistable"
import { RateLimiter, Reducer, Scheduler } from "effect-funnel"
import { reduceShared } from "effect-funnel/SharedReducer"
import * as Stores from "effect-funnel/stores"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { guard } from "../src/internal/shared/options.js"
import { takenOf } from "../src/internal/store/gcraStore.js"
import { fork, settle } from "./support/fibers.ts"
import { GcraStoreModel, taking } from "./support/gcraStoreModel.js"
import { ManualClock } from "./support/manualClock.js"
import { makeMemory } from "./support/memoryReducerStore.js"
import { PermitStoreModel } from "./support/permitStoreModel.js"
import { simulate } from "./support/simulation.ts"

const rule = (leaseMillis: number) =>
  `leaseMillis of the store must be a number > 0 and at most 1 hour, got ${leaseMillis}`

describe("services over a store of one's own", () => {
  it.effect("a store whose lease is no length is refused when the service is made", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      for (const leaseMillis of [NaN, 0, -1, Infinity, 3_600_001]) {
        const reducer = Stores.makeReducer(Effect.succeed(makeMemory({ leaseMillis, retainMillis: 1 })))
        const model = new PermitStoreModel(clock, leaseMillis)
        const stores: Stores.SchedulerStores = {
          permits: (_, onWake) => model.of("node", onWake),
          rates: (_, cells) => new GcraStoreModel(clock).of(cells)
        }
        class Keyed extends Scheduler.Keyed<Keyed>()("test/Keyed", { lookup: (_: string) => ({ concurrency: 1 }) }) {}
        const keyed = Effect.provide(
          Keyed.schedule("key", Effect.void),
          Stores.layerKeyedScheduler(Keyed, Effect.succeed(stores), { lookup: (_) => ({ concurrency: 1 }) })
        )
        const scheduler = Stores.makeScheduler(Effect.succeed(stores), { name: "test", concurrency: 1 })
        for (const made of [reducer, scheduler, keyed]) {
          const exit = yield* Effect.exit(Effect.scoped(made))
          expect(Exit.isFailure(exit) && String(exit.cause)).toContain(rule(leaseMillis))
        }
      }
    }))

  it.effect("a store whose lease is shorter than a storeTimeout that is given is refused when the service is made", () =>
    Effect.gen(function*() {
      const made = (leaseMillis: number, options: Stores.ReducerOptions) =>
        Effect.exit(Effect.scoped(
          Stores.makeReducer(Effect.succeed(makeMemory({ leaseMillis, retainMillis: 1 })), options)
        ))
      const refused = yield* made(499, { storeTimeout: 500 })
      expect(Exit.isFailure(refused) && String(refused.cause)).toContain(
        "leaseMillis of the store must be at least storeTimeout (500 ms), got 499"
      )
      expect(Exit.isSuccess(yield* made(500, { storeTimeout: 500 }))).toBe(true)
    }))

  it("a command may take 1 second by default, or the lease if that is shorter", () => {
    for (const [lease, timeout] of [[undefined, 1000], ["2 seconds", 1000], ["300 millis", 300]] as const) {
      expect(guard("test", { lease }).storeTimeoutMillis).toBe(timeout)
    }
    expect(guard("test", { lease: "300 millis", storeTimeout: 200 }).storeTimeoutMillis).toBe(200)
  })

  it.effect("a store may wake its process while it is made", () =>
    Effect.gen(function*() {
      const model = new PermitStoreModel(new ManualClock(), 1000)
      const stores: Stores.SchedulerStores = {
        permits: (_, onWake) => {
          onWake()
          return model.of("node", onWake)
        },
        rates: (_, cells) => new GcraStoreModel(new ManualClock()).of(cells)
      }
      const scheduler = yield* Stores.makeScheduler(Effect.succeed(stores), { name: "test", concurrency: 1 })
      expect(yield* scheduler.schedule(Effect.succeed(1))).toBe(1)
    }))

  /** A store that grants all tokens `wait` milliseconds after it was asked, and answers at once. */
  const granting = (wait: number): Stores.GcraStore =>
    taking((_, tokens) =>
      Effect.succeed({
        waits: tokens.map(() => wait),
        retryMillis: 0,
        remaining: 0,
        resetMillis: wait,
        tightest: 0,
        before: "",
        after: "a"
      })
    )
  /** Stores that answer each command with what `answer` returns. */
  const answering = (answer: (command: string) => Effect.Effect<never, Stores.StoreError>) => {
    const take = () => answer("take")
    const rates = (): Stores.GcraStore => ({ take, giveBack: take, penalize: take, reset: take })
    const acquire = () => answer("acquire")
    const permits = (): Stores.PermitStore => ({
      leaseMillis: 10_000,
      node: "node",
      close() {},
      acquire,
      renew: acquire,
      release: acquire,
      penalize: acquire
    })
    const join = () => answer("join")
    const flights: Stores.ReducerStore = {
      leaseMillis: 10_000,
      open: () => ({ owner: "party", close() {} }),
      join,
      renew: join,
      complete: join,
      release: join
    }
    return { flights, rates, permits: { permits, rates } }
  }

  class Get extends Persistable.Class<{ payload: { id: string } }>()("Get", {
    primaryKey: ({ id }) => id,
    success: Schema.String
  }) {}

  /** What each service fails with over such stores. */
  const failures = Effect.fnUntraced(function*(answer: (command: string) => Effect.Effect<never, Stores.StoreError>) {
    const { flights, permits, rates } = answering(answer)
    const options = { outageBudget: 0, onStoreError: "fail" } as const
    const scope = yield* Scope.make()
    const inScope = Scope.provide(scope)
    const reducer = yield* inScope(Stores.makeReducer(Effect.succeed(flights), options))
    const limiter = yield* inScope(
      Stores.makeRateLimiter(Effect.succeed(rates), { ...options, rate: { limit: 1, window: 1 } })
    )
    const scheduler = yield* inScope(
      Stores.makeScheduler(Effect.succeed(permits), { ...options, name: "test", concurrency: 1 })
    )
    const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
      Effect.provideService(
        reduceShared(new Get({ id: "a" }), () => Effect.succeed("b")),
        Reducer.Reducer,
        reducer
      ),
      limiter.consume(),
      limiter.peek(),
      limiter.penalize({ for: 1 }),
      scheduler.schedule(Effect.void),
      scheduler.penalize({ for: 1 })
    ]
    const fibers = yield* Effect.forEach(calls, (call) => fork(call))
    yield* TestClock.adjust(100)
    const ended = fibers.map((fiber) => String(fiber.pollUnsafe()))
    const closed = yield* fork(Scope.close(scope, Exit.void))
    yield* TestClock.adjust(100)
    expect(closed.pollUnsafe()).toBeDefined()
    return ended
  })

  it.effect("a store that throws, dies or interrupts itself, now or later, has failed, and nobody waits for it", () =>
    Effect.gen(function*() {
      const answers = [
        () => {
          throw new Error("broken")
        },
        () => Effect.die(new Error("broken")),
        () => Effect.delay(Effect.die(new Error("broken")), 10),
        () => Effect.delay(Effect.interrupt, 10),
        // Sound: an async function, as callers without types may write it.
        () => Promise.resolve() as never
      ]
      for (const answer of answers) {
        for (const failure of yield* failures(answer)) expect(failure).toContain("store command")
      }
    }))

  it.effect("an answer that makes no sense is a failure of the store", () =>
    Effect.gen(function*() {
      const taken = { waits: [0], retryMillis: 0, remaining: 0, resetMillis: 0, tightest: 0, before: "", after: "" }
      const acquired = { granted: 1, pollMillis: 1000, penaltyMillis: 0 }
      const nonsense: Readonly<Record<string, ReadonlyArray<unknown>>> = {
        take: [
          undefined,
          { ...taken, waits: [NaN] },
          { ...taken, waits: [0, 0] },
          { ...taken, waits: [Infinity] },
          { ...taken, waits: [], retryMillis: NaN },
          { ...taken, waits: [], retryMillis: -1 },
          { ...taken, waits: [], retryMillis: 0 },
          { ...taken, tightest: 1 },
          { ...taken, resetMillis: NaN },
          { ...taken, tightest: -1 },
          { ...taken, tightest: 0.5 },
          { ...taken, remaining: NaN },
          { ...taken, before: undefined },
          { ...taken, after: 1 }
        ],
        acquire: [
          undefined,
          { ...acquired, granted: 2 },
          { ...acquired, granted: -1 },
          { ...acquired, granted: NaN },
          { ...acquired, pollMillis: NaN },
          { ...acquired, penaltyMillis: -1 },
          { ...acquired, penaltyMillis: Infinity }
        ],
        join: [
          undefined,
          { _tag: "Leads", fence: 1 },
          { _tag: "Lead", fence: NaN },
          { _tag: "Follow", fence: 1, restMillis: NaN },
          { _tag: "Done", fence: 1 }
        ]
      }
      for (let i = 0; i < 14; i++) {
        // Sound: no type is wrong enough for these.
        const answer = (command: string) => Effect.succeed(nonsense[command]![i] as never)
        const [reduce, consume, peek, , schedule] = yield* failures(answer)
        if (i < 5) expect(reduce).toContain("store command `join` failed: the answer makes no sense")
        expect(consume).toContain("store command `take` failed: the answer makes no sense")
        expect(peek).toContain("store command `take` failed: the answer makes no sense")
        if (i < 7) expect(schedule).toContain("store command `acquire` failed: the answer makes no sense")
      }
    }))

  it.effect("an answer that makes no sense is a failure of the store, whatever it is: it may have no JSON", () =>
    Effect.gen(function*() {
      const circle: Record<string, unknown> = {}
      circle["self"] = circle
      const hostile = {
        toJSON() {
          throw new Error("no JSON")
        }
      }
      for (const nonsense of [{ _tag: "Lead", fence: 1n, granted: 1n, waits: [0n] }, circle, hostile]) {
        // Sound: no type is wrong enough for these.
        const [reduce, consume, peek, , schedule] = yield* failures(() => Effect.succeed(nonsense as never))
        expect(reduce).toContain("store command `join` failed: the answer makes no sense")
        expect(consume).toContain("store command `take` failed: the answer makes no sense")
        expect(peek).toContain("store command `take` failed: the answer makes no sense")
        expect(schedule).toContain("store command `acquire` failed: the answer makes no sense")
      }
    }))

  it.effect("the error of an answer that makes no sense quotes nothing of it, which may be a secret of the caller", () =>
    Effect.gen(function*() {
      for (const [secret, type] of [["hunter2", "string"], [{ hunter2: "hunter2" }, "object"]] as const) {
        const store: Stores.GcraStore = {
          ...new GcraStoreModel(new ManualClock()).of([]),
          take: () => Effect.succeed(secret as never)
        }
        const limiter = yield* Stores.makeRateLimiter(Effect.succeed(() => store), {
          rate: { limit: 1, window: "1 second" },
          outageBudget: 0
        })
        const error = yield* Effect.flip(limiter.consume())
        expect(error.message).toContain(`the answer makes no sense: it is of type ${type}`)
        expect(inspect(error, { depth: Infinity })).not.toContain("hunter2")
      }
    }))

  it.effect("a signal that makes no sense is one to join again", () =>
    Effect.gen(function*() {
      const nonsense = [
        undefined,
        { _tag: "Done", fence: 1, payload: null },
        { _tag: "Done", fence: 1, payload: { value: "b" } },
        { _tag: "Done", fence: 1n, payload: "{}" }
      ]
      for (const signal of nonsense) {
        const listeners: Array<(signal: Stores.Signal) => void> = []
        const answers: Array<Stores.Joined> = [
          { _tag: "Follow", fence: 1, restMillis: 10_000 },
          { _tag: "Done", fence: 1, payload: `{"_tag":"Success","value":"a"}` }
        ]
        const store: Stores.ReducerStore = {
          leaseMillis: 10_000,
          open: (onSignal) => {
            listeners.push(onSignal)
            return { owner: "party", close() {} }
          },
          join: () => Effect.sync(() => answers.shift()!),
          renew: () => Effect.succeed(true),
          complete: () => Effect.succeed(true),
          release: () => Effect.void
        }
        const reducer = yield* Stores.makeReducer(Effect.succeed(store))
        const call = yield* fork(Effect.provideService(
          reduceShared(new Get({ id: "1" }), () => Effect.succeed("c")),
          Reducer.Reducer,
          reducer
        ))
        yield* settle
        // Sound: no type is wrong enough for these.
        for (const listener of listeners) listener(signal as never)
        expect(yield* Fiber.join(call)).toBe("a")
      }
    }))

  it.effect("a lease is given back and a queue is left also where the end of the wake-ups throws", () =>
    Effect.gen(function*() {
      const given: Array<string> = []
      const close = () => {
        throw new Error("of the store")
      }
      const flights: Stores.ReducerStore = {
        leaseMillis: 10_000,
        open: () => ({ owner: "party", close }),
        join: () => Effect.succeed({ _tag: "Lead", fence: 1 }),
        renew: () => Effect.succeed(true),
        complete: () => Effect.succeed(true),
        release: () => Effect.sync(() => void given.push("lease"))
      }
      const reducer = yield* Stores.makeReducer(Effect.succeed(flights))
      const call = yield* fork(Effect.provideService(
        reduceShared(new Get({ id: "1" }), () => Effect.never),
        Reducer.Reducer,
        reducer
      ))
      yield* settle
      yield* Fiber.interrupt(call)
      expect(given).toEqual(["lease"])
      const stores: Stores.SchedulerStores = {
        permits: () => ({
          leaseMillis: 10_000,
          node: "node",
          close,
          acquire: (permits) =>
            Effect.sync(() => {
              if (permits.length === 0) given.push("place")
              return { granted: 0, pollMillis: 1000, penaltyMillis: 0 }
            }),
          renew: () => Effect.succeed([]),
          release: () => Effect.void,
          penalize: () => Effect.void
        }),
        rates: (_, cells) => new GcraStoreModel(new ManualClock()).of(cells)
      }
      const scope = yield* Scope.make()
      const scheduler = yield* Scope.provide(
        Stores.makeScheduler(Effect.succeed(stores), { name: "test", concurrency: 1 }),
        scope
      )
      yield* fork(scheduler.schedule(Effect.void))
      yield* settle
      const closed = yield* Effect.exit(Scope.close(scope, Exit.void))
      expect(Exit.isFailure(closed) && String(closed.cause)).toContain("of the store")
      expect(given).toEqual(["lease", "place"])
    }))

  it.effect("a call that the store answers at once is told what is left of its key", () =>
    Effect.gen(function*() {
      const taken = { retryMillis: 0, remaining: 9, resetMillis: 1000, tightest: 0, before: "", after: "a" }
      const store = taking((_, tokens) => Effect.succeed({ ...taken, waits: tokens.map(() => 0) }))
      const rate = { limit: 10, window: "10 seconds", burst: 10 } as const
      const limiter = yield* Stores.makeRateLimiter(Effect.succeed(() => store), { rate })
      for (const options of [{}, { maxWait: "1 second" }, { onExceeded: "fail" }] as const) {
        const { limit, remaining, resetAfter } = yield* limiter.consume(options)
        expect([limit, remaining, Duration.toMillis(resetAfter)]).toEqual([10, 9, 1000])
      }
    }))

  it.effect("a store may wake a scheduler while it is made", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      const model = new PermitStoreModel(clock, 1000)
      const stores: Stores.SchedulerStores = {
        permits: (_, onWake) => {
          onWake()
          return model.of("node", onWake)
        },
        rates: (_, cells) => new GcraStoreModel(clock).of(cells)
      }
      const scheduler = yield* Stores.makeScheduler(Effect.succeed(stores), { name: "test", concurrency: 1 })
      expect(yield* scheduler.schedule(Effect.succeed(1))).toBe(1)
    }))

  it.effect("who waits for a limiter whose scope closes is interrupted, and so is who comes later", () =>
    Effect.gen(function*() {
      const full = Effect.succeed(
        { waits: [], retryMillis: 60_000, remaining: 0, resetMillis: 60_000, tightest: 0, before: "a", after: "a" }
      )
      const away = Effect.fail(new Stores.StoreError({ operation: "take", cause: "away" }))
      for (const take of [full, away, Effect.never]) {
        const scope = yield* Scope.make()
        const store = taking(() => take)
        const limiter = yield* Scope.provide(
          Stores.makeRateLimiter(Effect.succeed(() => store), {
            rate: { limit: 1, window: "1 hour" },
            onStoreError: "local",
            outageBudget: 0,
            isBounded: true
          }),
          scope
        )
        const calls = [
          limiter.consume({ key: "a" }),
          limiter.consume({ key: "a" }),
          limiter.withLimit(Effect.void, { key: "b", maxWait: "2 hours" }),
          limiter.withLimit(Effect.void, { key: "b", maxWait: "2 hours" })
        ]
        const waiting = yield* Effect.forEach(calls, fork)
        yield* TestClock.adjust(100)
        yield* Scope.close(scope, Exit.void)
        const late = yield* Effect.forEach(calls, fork)
        yield* settle
        const ends = [...waiting, ...late].map((fiber) => fiber.pollUnsafe())
        // While the store is away, the first call of each key has had its token here.
        const begun = take === away ? 2 : 0
        expect(ends.filter((exit) => exit !== undefined && Exit.isSuccess(exit)).length).toBe(begun)
        const left = ends.filter((exit) =>
          exit !== undefined && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
        )
        expect(left.length).toBe(8 - begun)
      }
    }))

  it.effect("a reducer whose scope has closed sends nothing any more, also if its store was away when a call was interrupted", () =>
    Effect.gen(function*() {
      for (const isBounded of [true, false]) {
        const scope = yield* Scope.make()
        let isAway = false
        let sent = 0
        const answer = <A>(operation: string, value: A) =>
          Effect.suspend(() => {
            sent++
            return isAway ? Effect.fail(new Stores.StoreError({ operation, cause: "away" })) : Effect.succeed(value)
          })
        const store: Stores.ReducerStore = {
          leaseMillis: 10_000,
          open: () => ({ owner: "a", close: () => undefined }),
          join: () => answer("join", { _tag: "Lead", fence: 1 } as const),
          renew: () => answer("renew", true),
          complete: () => answer("complete", true),
          release: () => answer("release", undefined)
        }
        const reducer = yield* Scope.provide(
          Stores.makeReducer(Effect.succeed(store), { outageBudget: "1 hour", isBounded }),
          scope
        )
        const call = Effect.provideService(
          reduceShared(new Get({ id: "1" }), () => Effect.never),
          Reducer.Reducer,
          reducer
        )
        const calls = yield* Effect.all([fork(call), fork(call)])
        yield* settle
        isAway = true
        yield* Effect.forEach(calls, Fiber.interrupt)
        yield* TestClock.adjust(500)
        yield* Scope.close(scope, Exit.void)
        const before = sent
        yield* TestClock.adjust("1 minute")
        expect(sent).toBe(before)
      }
    }))

  it("while the store is away, a caller that throws keeps no other one from its answer", () => {
    const thrown = new Set<unknown>()
    const bug = new Error("of the caller")
    const away = Effect.delay(Effect.fail(new Stores.StoreError({ operation: "take", cause: "away" })), 10)
    for (const onStoreError of ["fail", "allow", "local"] as const) {
      const { exit } = simulate(() =>
        Effect.scoped(Effect.gen(function*() {
          const { rates } = answering(() => away)
          const options = { rate: { limit: 1, window: "1 second" }, outageBudget: 0, onStoreError } as const
          const limiter = yield* Stores.makeRateLimiter(Effect.succeed(rates), options)
          const fibers = yield* Effect.forEach([1, 2, 3, 4], () => fork(limiter.consume()))
          for (const fiber of fibers.slice(0, 2)) {
            fiber.addObserver(() => {
              throw bug
            })
          }
          yield* Effect.yieldNow
          // One that leaves is not answered.
          yield* Fiber.interrupt(fibers[2]!)
          yield* Effect.sleep(3010)
          return fibers.map((fiber) => fiber.pollUnsafe()?._tag)
        })), { onThrow: (error) => void thrown.add(error) })
      const end = onStoreError === "fail" ? "Failure" : "Success"
      expect(exit).toEqual(Exit.succeed([end, end, "Failure", end]))
    }
    expect(Array.from(thrown)).toEqual([bug])
  })

  it("a caller that throws as the store lets it pass keeps no other one waiting, and its error is thrown where it hurts nobody", () => {
    const thrown: Array<unknown> = []
    const bug = new Error("of the caller")
    const { exit } = simulate(() =>
      Effect.scoped(Effect.gen(function*() {
        const rate = { limit: 1, window: "1 second" } as const
        const limiter = yield* Stores.makeRateLimiter(Effect.succeed(() => granting(5)), { rate })
        const fibers = yield* Effect.forEach([1, 2, 3], () => fork(limiter.consume()))
        for (const fiber of fibers.slice(0, 2)) {
          fiber.addObserver(() => {
            throw bug
          })
        }
        yield* Effect.sleep(10)
        return fibers.map((fiber) => fiber.pollUnsafe()?._tag)
      })), { onThrow: (error) => void thrown.push(error) })
    expect(exit).toEqual(Exit.succeed(["Success", "Success", "Success"]))
    expect(thrown).toEqual([bug, bug])
  })

  it("a caller that throws when its limiter closes keeps no slot from being given back, and its error is no error of the closing", () => {
    const bug = new Error("of the caller")
    const thrown: Array<unknown> = []
    const given: Array<readonly [key: string, tokens: number]> = []
    const store: Stores.GcraStore = {
      ...granting(40),
      giveBack: (key, tokens) => Effect.sync(() => void given.push([key, tokens]))
    }
    const { exit } = simulate(() =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const limiter = yield* Scope.provide(
          Stores.makeRateLimiter(Effect.succeed(() => store), { rate: { limit: 1, window: "1 hour" } }),
          scope
        )
        const fibers = yield* Effect.forEach(["a", "b"], (key) => fork(limiter.consume({ key })))
        for (const fiber of fibers) {
          fiber.addObserver(() => {
            throw bug
          })
        }
        yield* Effect.yieldNow
        const closed = yield* Effect.exit(Scope.close(scope, Exit.void))
        return [closed, ...fibers.map((fiber) => fiber.pollUnsafe()?._tag)]
      }), { onThrow: (error) => void thrown.push(error) })
    expect(exit).toEqual(Exit.succeed([Exit.void, "Failure", "Failure"]))
    expect(given).toEqual([["=a", 1], ["=b", 1]])
    expect(thrown).toEqual([bug])
  })

  it.effect("the metric counts each call to which a policy applied", () =>
    Effect.gen(function*() {
      const away = Effect.delay(Effect.fail(new Stores.StoreError({ operation: "take", cause: "away" })), 10)
      const { permits, rates } = answering(() => away)
      const options = { outageBudget: 0, expectedProcesses: 1, name: "counted" } as const
      const counted = (policy: string) =>
        Effect.map(
          Metric.value(Metric.withAttributes(
            Metric.counter("effect_funnel.store.policy", {
              description: "How often onStoreError took the place of the store",
              incremental: true
            }),
            { service: "counted", policy }
          )),
          ({ count }) => count
        )
      const rate = { limit: 1, window: 1 } as const
      const scope = yield* Scope.make()
      const limiter = yield* Scope.provide(scope)(
        Stores.makeRateLimiter(Effect.succeed(rates), { ...options, rate, onStoreError: "allow" })
      )
      const calls = yield* Effect.forEach([1, 2, 3, 4], () => fork(limiter.consume()))
      yield* TestClock.adjust(20)
      expect([calls.map((fiber) => fiber.pollUnsafe()?._tag), yield* counted("allow")]).toEqual([
        Array(4).fill("Success"),
        4
      ])
      const scheduler = yield* Scope.provide(scope)(
        Stores.makeScheduler(Effect.succeed(permits), { ...options, concurrency: 2, onStoreError: "local" })
      )
      const jobs = yield* Effect.forEach([1, 2, 3], () => fork(scheduler.schedule(Effect.sleep(10))))
      yield* TestClock.adjust(100)
      yield* fork(scheduler.schedule(Effect.void))
      expect([jobs.map((fiber) => fiber.pollUnsafe()?._tag), yield* counted("local")]).toEqual([
        Array(3).fill("Success"),
        4
      ])
      yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(100)
    }).pipe(Effect.provide(Logger.layer([]))))

  it.effect("a warning that a policy applies names each service as its errors do", () =>
    Effect.gen(function*() {
      const warnings: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void warnings.push(String(message).split(":")[0]!))
      const away = Effect.fail(new Stores.StoreError({ operation: "any", cause: "away" }))
      const { flights, permits, rates } = answering(() => away)
      class Jobs extends Scheduler.Service<Jobs>()("test/Jobs", { concurrency: 1 }) {}
      class Calls extends RateLimiter.Service<Calls>()("test/Calls", { limit: 1, window: 1 }) {}
      class Runs extends Reducer.Service<Runs>()("test/Runs") {}
      const rate = { limit: 1, window: 1 } as const
      for (const name of [undefined, "own"]) {
        const options = { outageBudget: 0, onStoreError: "local", name } as const
        yield* Effect.gen(function*() {
          yield* Jobs.schedule(Effect.void)
          yield* Calls.consume()
          yield* Effect.provideServiceEffect(
            reduceShared(new Get({ id: "a" }), () => Effect.succeed("b")),
            Reducer.Reducer,
            Runs
          )
        }).pipe(
          Effect.provide([
            Stores.layerScheduler(Jobs, Effect.succeed(permits), { ...options, concurrency: 1 }),
            Stores.layerRateLimiter(Calls, Effect.succeed(rates), { ...options, rate }),
            Stores.layerReducer(Runs, Effect.succeed(flights), options)
          ]),
          Effect.provide(Logger.layer([logger]))
        )
      }
      expect(warnings).toEqual(["test/Jobs", "test/Calls", "test/Runs", "own", "own", "own"])
    }))

  it("L3 a call that comes in the code that ends the last timer of its key is interrupted when the limiter closes", () => {
    const full = { waits: [], retryMillis: 1000, remaining: 0, resetMillis: 1000, tightest: 0, before: "a", after: "a" }
    const store = taking(() => Effect.succeed(full))
    const { exit, timers } = simulate((_, clock) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const limiter = yield* Scope.provide(scope)(
          Stores.makeRateLimiter(Effect.succeed(() => store), { rate: { limit: 1, window: "1 second" } })
        )
        const services = yield* Effect.context()
        const comes: Array<Fiber.Fiber<unknown, unknown>> = []
        const sleep = clock.sleep.bind(clock)
        clock.sleep = (duration) =>
          Effect.onInterrupt(sleep(duration), () =>
            Effect.sync(() => {
              if (comes.length === 0) comes.push(Effect.runForkWith(services)(limiter.consume({ key: "a" })))
            }))
        const leaves = yield* fork(limiter.consume({ key: "a" }))
        yield* Fiber.interrupt(leaves)
        yield* Scope.close(scope, Exit.void)
        expect((yield* Effect.forEach(comes, Fiber.await)).map(Exit.hasInterrupts)).toEqual([true])
      })
    )
    expect([exit?._tag, timers]).toEqual(["Success", 0])
  })
})

it("of quotas that have as few tokens left, the first one is the tightest", () => {
  const cells = [[1000, 9], [10, 3], [1000, 3], [1000, 5]].map(([intervalMicros, burst]) => ({
    intervalMicros: intervalMicros!,
    burst: burst!
  }))
  expect(takenOf(cells, [0, 10, 1000, 0], 0, [], 0, "a", "a")).toMatchObject({
    tightest: 1,
    remaining: 2,
    resetMillis: 1
  })
})
