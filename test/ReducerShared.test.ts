import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Hash from "effect/Hash"
import * as Logger from "effect/Logger"
import * as Persistable from "effect/persistence/Persistable"
import * as PrimaryKey from "effect/PrimaryKey"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as TestClock from "effect/testing/TestClock"
import { Reducer } from "effect-funnel"
import { ReducerError, reduceShared } from "effect-funnel/SharedReducer"
import { attach, type Coordination, flight, type Lease } from "../src/internal/reducer/reduceShared.js"
import type { Joined, Party, ReducerStore, Signal } from "../src/internal/store/reducerStore.js"
import { codecOf } from "../src/internal/reducer/codec.js"
import { StoreError } from "../src/internal/store/storeError.js"
import * as Guard from "../src/internal/store/guard.js"
import { fork, settle, unbounded } from "./support/fibers.ts"
import { ManualClock } from "./support/manualClock.js"
import { makeMemory } from "./support/memoryReducerStore.js"
import { interruptionSweep } from "./support/sweep.ts"

class NotThere extends Schema.TaggedError<NotThere>()("NotThere", { id: Schema.String }) {}

class GetUser extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
  primaryKey: (_) => _.id,
  success: Schema.Struct({ id: Schema.String, at: Schema.DateFromString }),
  error: NotThere
}) {}

const codec = codecOf(new GetUser({ id: "1" }))
const user = { id: "1", at: new Date(0) }

const lease = 9000

/** A process on a store that others may share. */
const processOn = (store: ReducerStore, options: Partial<Coordination> & { readonly budget?: number } = {}) => {
  const coordination: Coordination = {
    store,
    guard: Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: options.budget ?? 0 }),
    onStoreError: "local",
    ended: new Map(),
    ...options
  }
  return <R>(f: (lease: Lease) => Effect.Effect<typeof user, NotThere, R>) => flight(coordination, codec, "1", f)
}

const memory = () => makeMemory({ leaseMillis: lease, retainMillis: 10_000 })

/** A run that says when it began, ends when told, and counts. */
const makeRun = Effect.gen(function*() {
  const began = yield* Deferred.make<Lease>()
  const end = yield* Deferred.make<typeof user, NotThere>()
  const seen = { runs: 0, interrupted: 0 }
  const f = (lease: Lease) =>
    Effect.suspend(() => {
      seen.runs++
      return Effect.andThen(Deferred.succeed(began, lease), Deferred.await(end))
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => seen.interrupted++)))
  return { began, end, seen, f }
})

/** A process that leads, and its run, which has begun. */
const lead = (store: ReducerStore, options?: Parameters<typeof processOn>[1]) =>
  Effect.gen(function*() {
    const run = yield* makeRun
    const a = yield* Effect.forkChild(processOn(store, options)(run.f))
    yield* Deferred.await(run.began)
    return { a, run }
  })

/** Forks a call that waits for another process. */
const follow = <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.tap(Effect.forkChild(call), () => settle)

/** A store that keeps its parties. */
const watch = (store: ReducerStore) => {
  const parties: Array<Party> = []
  const open: ReducerStore["open"] = (onSignal) => {
    const party = store.open(onSignal)
    parties.push(party)
    return party
  }
  const watched: ReducerStore = { ...store, open }
  return { parties, watched }
}

/** A store of which one process follows and gets the answers of `join`, and that signals it. */
const signalling = (join: (signal: (signal: Signal) => void) => Joined) => {
  const listeners: Array<(signal: Signal) => void> = []
  const released: Array<string> = []
  const signal = (signal: Signal) => listeners.forEach((listener) => listener(signal))
  const store: ReducerStore = {
    ...memory(),
    open: (onSignal) => {
      listeners.push(onSignal)
      return { owner: "a", close: () => {} }
    },
    join: () => Effect.sync(() => join(signal)),
    release: (key) => Effect.sync(() => void released.push(key))
  }
  return { store, signal, released }
}

/** A store whose verbs can be made to fail, or to run and then lose their reply. */
const unreliable = (store: ReducerStore) => {
  const mode: { [verb in "join" | "renew" | "complete" | "release"]?: "down" | "lost" | "hang" | "slow" | undefined } =
    {}
  const through = <A>(verb: keyof typeof mode, effect: Effect.Effect<A, StoreError>) =>
    Effect.suspend((): Effect.Effect<A, StoreError> => {
      switch (mode[verb]) {
        case undefined:
          return effect
        case "down":
          return Effect.fail(new StoreError({ operation: verb, cause: "down" }))
        case "lost":
          return Effect.andThen(effect, Effect.never)
        case "hang":
          return Effect.never
        case "slow":
          return Effect.tap(effect, () => Effect.sleep(lease + 1))
      }
    })
  const wrapped: ReducerStore = {
    leaseMillis: store.leaseMillis,
    open: store.open,
    join: (...args) => through("join", store.join(...args)),
    renew: (...args) => through("renew", store.renew(...args)),
    complete: (...args) => through("complete", store.complete(...args)),
    release: (...args) => through("release", store.release(...args))
  }
  return { store: wrapped, mode }
}

/** Lets time pass in small steps: each timer that is set on the way is met. */
const pass = (millis: number) =>
  Effect.forEach(Array.from({ length: Math.ceil(millis / 50) }), () => TestClock.adjust(50), { discard: true })

describe("shared flights, over the store in memory", () => {
  it.effect("two processes make one run, and both get its result through the codec", () =>
    Effect.gen(function*() {
      const store = memory()
      const { a, run } = yield* lead(store)
      const b = yield* follow(processOn(store)(run.f))
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(yield* Fiber.join(b)).toEqual(user)
      expect(run.seen.runs).toBe(1)
    }))

  it.effect("failures and defects are results: followers get them and do not run again", () =>
    Effect.gen(function*() {
      for (const exit of [Exit.fail(new NotThere({ id: "1" })), Exit.die(new Error("boom"))]) {
        const store = memory()
        const run = yield* makeRun
        const a = yield* Effect.forkChild(Effect.exit(processOn(store)(run.f)))
        yield* Deferred.await(run.began)
        const b = yield* follow(Effect.exit(processOn(store)(run.f)))
        yield* Deferred.done(run.end, exit)
        expect(yield* Fiber.join(a)).toEqual(exit)
        const followed = yield* Fiber.join(b)
        expect(Exit.isFailure(followed) && Cause.squash(followed.cause)).toMatchObject(
          Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? { message: "boom" } : { _tag: "NotThere", id: "1" }
        )
        expect(run.seen.runs).toBe(1)
      }
    }))

  it.effect("nothing stays in the store when no party waits", () =>
    Effect.gen(function*() {
      const store = memory()
      expect(yield* processOn(store)(() => Effect.succeed(user))).toEqual(user)
      expect(store.size()).toBe(0)
      const { a, run } = yield* lead(store)
      yield* Fiber.interrupt(a)
      expect(store.size()).toBe(0)
      expect(run.seen.interrupted).toBe(1)
    }))

  it.effect("R1 a call that comes after the end of the run gets a later run, although the store has not heard of that end", () =>
    Effect.gen(function*() {
      const { mode, store } = unreliable(memory())
      const reducer = attach(yield* Reducer.make(), {
        store,
        guard: Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 60_000 }),
        onStoreError: "fail",
        ended: new Map()
      })
      const fences: Array<number> = []
      const call = (f: Effect.Effect<typeof user> = Effect.succeed(user)) =>
        Effect.provideService(
          reduceShared(new GetUser({ id: "1" }), ({ fence }) => {
            fences.push(fence)
            return f
          }),
          Reducer.Reducer,
          reducer
        )
      const end = yield* Deferred.make<typeof user>()
      const first = yield* follow(call(Deferred.await(end)))
      mode.complete = "hang"
      yield* Deferred.succeed(end, user)
      yield* settle
      const second = yield* follow(call())
      const third = yield* follow(call())
      mode.complete = undefined
      yield* pass(3000)
      expect(yield* Effect.forEach([first, second, third], Fiber.join)).toEqual([user, user, user])
      expect(fences.length).toBe(2)
      expect(fences[1]).toBeGreaterThan(fences[0]!)
    }))

  it.effect("an interrupted leader hands over: a follower leads at once, with a larger fence", () =>
    Effect.gen(function*() {
      const store = memory()
      const first = yield* makeRun
      const second = yield* makeRun
      const a = yield* Effect.forkChild(processOn(store)(first.f))
      const old = yield* Deferred.await(first.began)
      const b = yield* follow(processOn(store)(second.f))
      yield* Fiber.interrupt(a)
      const lease = yield* Deferred.await(second.began)
      expect(lease.fence).toBeGreaterThan(old.fence)
      yield* Deferred.succeed(second.end, user)
      expect(yield* Fiber.join(b)).toEqual(user)
    }))

  it.effect("an effect that interrupts itself is not published: the next one leads", () =>
    Effect.gen(function*() {
      const store = memory()
      const run = yield* makeRun
      const gate = yield* Deferred.make<void>()
      const a = yield* Effect.forkChild(
        Effect.exit(processOn(store)(() => Effect.andThen(Deferred.await(gate), Effect.interrupt)))
      )
      yield* settle
      const b = yield* follow(processOn(store)(run.f))
      yield* Deferred.succeed(gate, undefined)
      const exit = yield* Fiber.join(a)
      expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
      yield* Deferred.await(run.began)
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(b)).toEqual(user)
    }))

  it.effect("a run outlives its lease by heartbeats, and no follower takes over meanwhile", () =>
    Effect.gen(function*() {
      const store = memory()
      const { a, run } = yield* lead(store)
      const b = yield* Effect.forkChild(processOn(store)(run.f))
      for (let i = 0; i < 30; i++) yield* TestClock.adjust(lease / 3)
      expect(run.seen.runs).toBe(1)
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(yield* Fiber.join(b)).toEqual(user)
    }))

  it.effect("a leader cut off from the store interrupts itself when its lease is over, a follower takes over, and its result is everybody's", () =>
    Effect.gen(function*() {
      const store = memory()
      const cut = unreliable(store)
      const first = yield* makeRun
      const second = yield* makeRun
      const a = yield* Effect.forkChild(processOn(cut.store, { budget: 60_000 })(first.f))
      yield* Deferred.await(first.began)
      const b = yield* follow(processOn(store)(second.f))
      cut.mode.renew = cut.mode.join = "hang"
      yield* TestClock.adjust(lease - 1)
      expect(first.seen.interrupted).toBe(0)
      yield* TestClock.adjust(1)
      expect(first.seen.interrupted).toBe(1)
      yield* pass(1050)
      expect(second.seen.runs).toBe(1)
      yield* Deferred.succeed(second.end, { ...user, id: "2" })
      expect((yield* Fiber.join(b)).id).toBe("2")
      cut.mode.join = undefined
      yield* pass(1400)
      expect((yield* Fiber.join(a)).id).toBe("2")
      expect(first.seen.runs).toBe(1)
    }))

  it.effect("a result that comes too late is dropped: a fenced leader gets the result of the next leader", () =>
    Effect.gen(function*() {
      const store = memory()
      const { parties, watched } = watch(store)
      const { a, run: first } = yield* lead(watched)
      const second = yield* makeRun
      const b = yield* follow(processOn(store)(second.f))
      // As when Redis lost the lease: it goes to another while the first believes to have it.
      yield* store.release("1", parties[0]!)
      yield* Deferred.await(second.began)
      yield* Deferred.succeed(first.end, { ...user, id: "stale" })
      yield* settle
      yield* Deferred.succeed(second.end, { ...user, id: "fresh" })
      expect((yield* Fiber.join(b)).id).toBe("fresh")
      expect((yield* Fiber.join(a)).id).toBe("fresh")
    }))

  it.effect("a join whose reply is lost leaves no lease behind when the outage's budget is over", () =>
    Effect.gen(function*() {
      const store = memory()
      const lossy = unreliable(store)
      lossy.mode.join = "lost"
      const run = yield* makeRun
      const a = yield* follow(processOn(lossy.store)(run.f))
      yield* TestClock.adjust(1000)
      expect((yield* Deferred.await(run.began)).fence).toBe(0)
      expect(yield* processOn(store)(() => Effect.succeed({ ...user, id: "2" }))).toEqual({ ...user, id: "2" })
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
    }))

  it.effect("a process that was frozen for longer than its lease drops its result, and joins again", () =>
    Effect.gen(function*() {
      const clock = new ManualClock()
      let runs = 0
      const frozen = Effect.sync(() => {
        if (++runs === 1) clock.block(lease)
        return { ...user, id: String(runs) }
      })
      expect((yield* Effect.provideService(processOn(memory())(() => frozen), Clock.Clock, clock)).id).toBe("2")
    }))

  it.effect("calls of a process whose run serves nobody share the next run, although the store is away", () =>
    Effect.gen(function*() {
      for (const lost of ["frozen for longer than its lease", "refused by the store"] as const) {
        const clock = new ManualClock()
        const cut = unreliable(memory())
        const reducer = attach(yield* Reducer.make(), {
          store: lost === "refused by the store" ? { ...cut.store, complete: () => Effect.succeed(false) } : cut.store,
          guard: Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
          onStoreError: "local",
          ended: new Map()
        })
        const ends = yield* Effect.all(Array.from({ length: 3 }, () => Deferred.make<typeof user>()))
        let runs = 0
        const call = reduceShared(new GetUser({ id: "1" }), () => Deferred.await(ends[runs++]!)).pipe(
          Effect.provideService(Reducer.Reducer, reducer),
          Effect.provideService(Clock.Clock, clock)
        )
        const first = yield* fork(call)
        yield* settle
        expect(runs).toBe(1)
        if (lost === "frozen for longer than its lease") clock.block(lease)
        cut.mode.join = "down"
        yield* Deferred.succeed(ends[0]!, user)
        yield* settle
        const second = yield* fork(call)
        yield* settle
        yield* Deferred.succeed(ends[1]!, { ...user, id: "2" })
        yield* settle
        expect([lost, runs]).toEqual([lost, 2])
        for (const fiber of [first, second]) expect((yield* Fiber.join(fiber)).id).toBe("2")
      }
    }))

  for (const { leaseMillis, wait } of [{ leaseMillis: 900, wait: 90 }, { leaseMillis: 9000, wait: 500 }]) {
    it.effect(`a renewal that fails is tried again ${wait} ms later where a lease lasts ${leaseMillis} ms, until one succeeds`, () =>
      Effect.gen(function*() {
        const cut = unreliable(makeMemory({ leaseMillis, retainMillis: 10_000 }))
        const times: Array<number> = []
        const renew: ReducerStore["renew"] = (...args) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            times.push(now)
            return cut.store.renew(...args)
          })
        const { a, run } = yield* lead({ ...cut.store, renew })
        const third = leaseMillis / 3
        cut.mode.renew = "down"
        yield* TestClock.adjust(third + wait)
        cut.mode.renew = undefined
        yield* TestClock.adjust(wait + third)
        expect(times).toEqual([third, third + wait, third + 2 * wait, 2 * third + 2 * wait])
        yield* Deferred.succeed(run.end, user)
        expect(yield* Fiber.join(a)).toEqual(user)
        expect(run.seen).toEqual({ runs: 1, interrupted: 0 })
      }))
  }

  it.effect("a renewal that hangs ends together with the lease", () =>
    Effect.gen(function*() {
      const cut = unreliable(memory())
      const { a, run } = yield* lead(cut.store, {
        guard: Guard.make({ service: "Reducer", storeTimeoutMillis: 60_000, outageBudgetMillis: 0 })
      })
      cut.mode.renew = "hang"
      yield* TestClock.adjust(lease - 1)
      expect(run.seen).toEqual({ runs: 1, interrupted: 0 })
      yield* TestClock.adjust(1)
      expect(run.seen).toEqual({ runs: 2, interrupted: 1 })
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
    }))

  it.effect("a leader whose renewal is refused is interrupted at once, and gets the result of the next leader", () =>
    Effect.gen(function*() {
      const store = memory()
      const { parties, watched } = watch(store)
      const { a, run: first } = yield* lead(watched)
      const second = yield* makeRun
      const b = yield* follow(processOn(store)(second.f))
      yield* store.release("1", parties[0]!)
      yield* Deferred.await(second.began)
      yield* TestClock.adjust(lease / 3 - 1)
      expect(first.seen.interrupted).toBe(0)
      yield* TestClock.adjust(1)
      expect(first.seen.interrupted).toBe(1)
      yield* Deferred.succeed(second.end, { ...user, id: "fresh" })
      expect((yield* Fiber.join(a)).id).toBe("fresh")
      expect((yield* Fiber.join(b)).id).toBe("fresh")
    }))

  it.effect("a leader that loses its lease logs a line without its key", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      const store = memory()
      const guard = Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 0 })
      const coordination: Coordination = { store, guard, onStoreError: "local", ended: new Map() }
      const { parties, watched } = watch(store)
      const run = yield* makeRun
      const led = flight({ ...coordination, store: watched }, codec, "secret", run.f)
      const a = yield* fork(led.pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "Debug")
      ))
      yield* Deferred.await(run.began)
      yield* store.release("secret", parties[0]!)
      yield* store.join("secret", { owner: "another", close() {} }, undefined)
      yield* TestClock.adjust(lease / 3)
      yield* Fiber.interrupt(a)
      expect(lines).toEqual(["effect-funnel: lost the lease of a shared run, joining again"])
    }))

  it.effect("a result that a signal brings is taken if it is new enough, also if a signal to join again follows, and releases nothing", () =>
    Effect.gen(function*() {
      for (const [fence, joins] of [[6, 2], [7, 1], [8, 1]] as const) {
        const payload = yield* codec.encode(Exit.succeed({ ...user, id: "signalled" }))
        let asked = 0
        const { released, store } = signalling((signal) => {
          if (++asked > 1) return { _tag: "Done", fence: 7, payload }
          signal({ _tag: "Done", fence, payload })
          signal({ _tag: "Retry" })
          return { _tag: "Follow", fence: 7, restMillis: lease }
        })
        expect((yield* processOn(store)(() => Effect.never)).id).toBe("signalled")
        expect(asked).toBe(joins)
        yield* settle
        expect(released.length).toBe(0)
      }
    }))

  it.effect("a signal that follows an answered one wakes the party again", () =>
    Effect.gen(function*() {
      let asked = 0
      const payload = yield* codec.encode(Exit.succeed(user))
      const { signal, store } = signalling(() => {
        asked++
        return { _tag: "Follow", fence: 7, restMillis: lease }
      })
      const call = yield* Effect.forkChild(processOn(store)(() => Effect.never))
      for (let i = 1; i <= 3; i++) {
        yield* settle
        expect(asked).toBe(i)
        signal({ _tag: "Retry" })
      }
      yield* settle
      signal({ _tag: "Done", fence: 7, payload })
      expect(yield* Fiber.join(call)).toEqual(user)
      expect(asked).toBe(4)
    }))

  it.effect("a wake-up that is lost costs a second at most", () =>
    Effect.gen(function*() {
      const store = memory()
      const deaf: ReducerStore = { ...store, open: () => store.open(() => {}) }
      const { a, run } = yield* lead(store)
      const b = yield* follow(processOn(deaf)(run.f))
      yield* Deferred.succeed(run.end, user)
      yield* Fiber.join(a)
      yield* TestClock.adjust(1000)
      expect(yield* Fiber.join(b)).toEqual(user)
      expect(run.seen.runs).toBe(1)
    }))

  it.effect("lost replies of join and complete make no second run", () =>
    Effect.gen(function*() {
      const lossy = unreliable(memory())
      const run = yield* makeRun
      lossy.mode.join = "lost"
      const a = yield* Effect.forkChild(processOn(lossy.store, { budget: 5000 })(run.f))
      yield* TestClock.adjust(1000)
      lossy.mode.join = undefined
      yield* TestClock.adjust(250)
      yield* Deferred.await(run.began)
      lossy.mode.complete = "lost"
      yield* Deferred.succeed(run.end, user)
      yield* TestClock.adjust(1000)
      lossy.mode.complete = undefined
      yield* TestClock.adjust(250)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(run.seen.runs).toBe(1)
    }))

  it.effect("a follower that leaves leaves the others alone, and the store keeps no result for it", () =>
    Effect.gen(function*() {
      const store = memory()
      const { a, run } = yield* lead(store)
      const b = yield* follow(processOn(store)(run.f))
      yield* Fiber.interrupt(b)
      yield* settle
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(store.size()).toBe(0)
    }))

  it.effect("a follower that leaves while the store is away waits for nothing, and asks once", () =>
    Effect.gen(function*() {
      const store = memory()
      const { a, run } = yield* lead(store)
      const cut = unreliable(store)
      const b = yield* follow(processOn(cut.store)(run.f))
      let released = 0
      const release = cut.store.release
      Object.assign(cut.store, { release: (...args: Parameters<typeof release>) => (released++, release(...args)) })
      cut.mode.release = "hang"
      const left = yield* fork(Fiber.interrupt(b))
      yield* settle
      expect(left.pollUnsafe()).toBeDefined()
      yield* pass(5000)
      expect(released).toBe(1)
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
    }))

  it.effect("onStoreError local runs the effect here with fence 0, fail is a typed error with the operation", () =>
    Effect.gen(function*() {
      const down = unreliable(memory())
      down.mode.join = "down"
      expect(yield* processOn(down.store)(({ fence }) => Effect.succeed({ ...user, id: String(fence) }))).toMatchObject(
        {
          id: "0"
        }
      )
      const error = yield* Effect.flip(processOn(down.store, { onStoreError: "fail" })(() => Effect.succeed(user)))
      expect(error).toMatchObject({
        _tag: "ReducerError",
        reason: { _tag: "StoreError", operation: "join", cause: "down" }
      })
    }))

  it.effect("a store that fails to publish gives the caller its result under local, an error under fail", () =>
    Effect.gen(function*() {
      const down = unreliable(memory())
      down.mode.complete = "down"
      expect(yield* processOn(down.store)(() => Effect.succeed(user))).toEqual(user)
      const error = yield* Effect.flip(processOn(down.store, { onStoreError: "fail" })(() => Effect.succeed(user)))
      expect(error).toMatchObject({ reason: { _tag: "StoreError", operation: "complete" } })
    }))

  it.effect("the budget of an outage is waited for once, not by every call", () =>
    Effect.gen(function*() {
      const down = unreliable(memory())
      down.mode.join = down.mode.release = "down"
      const call = processOn(down.store, { onStoreError: "fail", budget: 5000 })
      const first = yield* Effect.forkChild(Effect.flip(call(() => Effect.succeed(user))))
      yield* pass(4900)
      expect(first.pollUnsafe()).toBeUndefined()
      yield* pass(500)
      yield* Fiber.join(first)
      yield* Effect.flip(call(() => Effect.succeed(user)))
      down.mode.join = undefined
      expect(yield* call(() => Effect.succeed(user))).toEqual(user)
    }))

  it.effect("a lease is renewed in time, however much of it the answer took that brought it", () =>
    Effect.gen(function*() {
      const store = memory()
      const late: ReducerStore = {
        ...store,
        join: (...args) => Effect.tap(store.join(...args), () => Effect.sleep(0.9 * lease))
      }
      const run = yield* makeRun
      const guard = Guard.make({ service: "Reducer", storeTimeoutMillis: lease, outageBudgetMillis: 0 })
      const a = yield* Effect.forkChild(processOn(late, { guard })(run.f))
      yield* pass(4 * lease)
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(run.seen).toEqual({ runs: 1, interrupted: 0 })
    }))

  it.effect("a lease that arrives when it is over already starts nothing", () =>
    Effect.gen(function*() {
      const slow = unreliable(memory())
      slow.mode.join = "slow"
      const run = yield* makeRun
      const a = yield* Effect.forkChild(
        processOn(slow.store, {
          guard: Guard.make({ service: "Reducer", storeTimeoutMillis: 60_000, outageBudgetMillis: 0 })
        })(run.f)
      )
      yield* settle
      slow.mode.join = undefined
      yield* TestClock.adjust(lease + 1)
      yield* Deferred.await(run.began)
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(run.seen).toEqual({ runs: 1, interrupted: 0 })
    }))

  it.effect("while the store is known to be away one call finds out whether it is back, and the others do not wait for it", () =>
    Effect.gen(function*() {
      const hanging = unreliable(memory())
      hanging.mode.join = hanging.mode.release = "hang"
      const call = processOn(hanging.store, { onStoreError: "fail" })
      const first = yield* Effect.forkChild(Effect.flip(call(() => Effect.succeed(user))))
      yield* TestClock.adjust(1000)
      yield* Fiber.join(first)
      const calls = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () => Effect.forkChild(Effect.flip(call(() => Effect.succeed(user))))
      )
      yield* settle
      expect(calls.filter((fiber) => fiber.pollUnsafe() !== undefined)).toHaveLength(9)
      yield* TestClock.adjust(1000)
      yield* Effect.forEach(calls, Fiber.join)
    }))

  it.effect("a result that its schema cannot encode is a typed error in every process, and no process runs again", () =>
    Effect.gen(function*() {
      const store = memory()
      const run = yield* makeRun
      const a = yield* Effect.forkChild(Effect.flip(processOn(store)(run.f)))
      yield* Deferred.await(run.began)
      const b = yield* follow(Effect.flip(processOn(store)(run.f)))
      // @ts-expect-error a result of another shape, as a backend that changed would send it
      yield* Deferred.succeed(run.end, { id: 1 })
      expect(yield* Fiber.join(a)).toMatchObject({ reason: { _tag: "CodecError", operation: "encode" } })
      expect(yield* Fiber.join(b)).toMatchObject({ reason: { _tag: "CodecError", operation: "encode" } })
      // In the same words.
      expect(String(yield* Fiber.join(b))).toBe(String(yield* Fiber.join(a)))
      expect(run.seen.runs).toBe(1)
    }))

  it.effect("a result that a follower cannot decode is a typed error there, and it does not run", () =>
    Effect.gen(function*() {
      const store = memory()
      const other = codecOf(
        new (class extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
          primaryKey: (_) => _.id,
          success: Schema.Number
        }) {})({ id: "1" })
      )
      const { a, run } = yield* lead(store)
      let ran = 0
      const coordination: Coordination = {
        store,
        guard: Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
        onStoreError: "local",
        ended: new Map()
      }
      const b = yield* Effect.forkChild(
        Effect.flip(flight(coordination, other, "1", () => Effect.sync(() => ++ran)))
      )
      yield* settle
      yield* Deferred.succeed(run.end, user)
      expect(yield* Fiber.join(a)).toEqual(user)
      expect(yield* Fiber.join(b)).toMatchObject({
        _tag: "ReducerError",
        reason: { _tag: "CodecError", operation: "decode" }
      })
      expect(ran).toBe(0)
    }))

  it.effect("a schema that throws has failed: a typed error in every process that encodes or decodes, and no process runs again", () =>
    Effect.gen(function*() {
      const throwing = codecOf(
        new (class extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
          primaryKey: (_) => _.id,
          success: Schema.Number.pipe(Schema.decodeTo(Schema.Number, {
            decode: SchemaGetter.transform((n: number) => {
              if (n === 1) throw new Error("no decoding")
              return n
            }),
            encode: SchemaGetter.transform((n: number) => {
              if (n === 2) throw new Error("no encoding")
              return n
            })
          }))
        }) {})({ id: "1" })
      )
      for (const [result, operations] of [[1, [undefined, "decode"]], [2, ["encode", "encode"]]] as const) {
        const store = memory()
        const began = yield* Deferred.make<void>()
        const end = yield* Deferred.make<number>()
        let runs = 0
        const call = () => {
          const guard = Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 0 })
          const run = Effect.suspend(() => {
            runs++
            return Effect.andThen(Deferred.succeed(began, undefined), Deferred.await(end))
          })
          return Effect.forkChild(
            Effect.exit(flight({ store, guard, onStoreError: "local", ended: new Map() }, throwing, "1", () => run))
          )
        }
        const a = yield* call()
        yield* Deferred.await(began)
        const b = yield* call()
        yield* settle
        yield* Deferred.succeed(end, result)
        const exits = [yield* Fiber.join(a), yield* Fiber.join(b)]
        expect(exits.map((exit) => Exit.isSuccess(exit) ? undefined : Cause.squash(exit.cause))).toMatchObject(
          operations.map((operation) => operation && { reason: { _tag: "CodecError", operation } })
        )
        expect(runs).toBe(1)
      }
    }))

  it.effect("a result whose encoding takes longer than the lease is everybody's: the lease is renewed meanwhile", () =>
    Effect.gen(function*() {
      const slow = codecOf(
        new (class extends Persistable.Class<{ payload: { readonly id: string } }>()("GetUser", {
          primaryKey: (_) => _.id,
          success: Schema.Number.pipe(Schema.encodeTo(Schema.Number, {
            decode: SchemaGetter.passthrough(),
            encode: SchemaGetter.transformEffect((n: number) => Effect.as(Effect.sleep(3 * lease), n))
          }))
        }) {})({ id: "1" })
      )
      const store = memory()
      const guard = Guard.make({ service: "Reducer", storeTimeoutMillis: 1000, outageBudgetMillis: 0 })
      let runs = 0
      const call = () =>
        flight({ store, guard, onStoreError: "fail", ended: new Map() }, slow, "1", () => Effect.sync(() => ++runs))
      const a = yield* Effect.forkChild(call())
      const b = yield* follow(call())
      yield* pass(4 * lease)
      expect([a.pollUnsafe(), b.pollUnsafe()]).toEqual([Exit.succeed(1), Exit.succeed(1)])
      expect(runs).toBe(1)
    }))

  describe("interrupted at any of its operations", () => {
    /** A store that knows its parties, so that one which was never closed is seen. */
    const census = () => {
      const store = memory()
      const open = new Set<Party>()
      const counted: ReducerStore = {
        ...store,
        open: (onSignal) => {
          const party = store.open(onSignal)
          const self: Party = {
            owner: party.owner,
            close: () => {
              open.delete(party)
              party.close()
            }
          }
          open.add(party)
          parties.set(self, party)
          return self
        },
        join: (key, party, after) => store.join(key, parties.get(party)!, after),
        renew: (key, party, fence) => store.renew(key, parties.get(party)!, fence),
        complete: (key, party, fence, payload) => store.complete(key, parties.get(party)!, fence, payload),
        release: (key, party) => store.release(key, parties.get(party)!)
      }
      const parties = new Map<Party, Party>()
      return { store: counted, open, size: store.size }
    }

    it("a leader leaves neither a lease nor a party", () => {
      const steps = interruptionSweep({
        make: Effect.gen(function*() {
          return { ...census(), run: yield* makeRun }
        }),
        subject: ({ run, store }) => processOn(store)(run.f),
        meanwhile: ({ run }) => Deferred.succeed(run.end, user),
        expected: user,
        check: ({ open, size }) =>
          Effect.sync(() => {
            expect(open.size).toBe(0)
            expect(size()).toBe(0)
          })
      })
      expect(steps).toBeGreaterThan(20)
    })

    it("a leader with a follower hands over or has finished: the follower is served", () => {
      const steps = interruptionSweep({
        make: Effect.gen(function*() {
          const shared = census()
          const run = yield* makeRun
          const second = yield* makeRun
          yield* Deferred.succeed(second.end, { ...user, id: "2" })
          return { ...shared, run, second }
        }),
        subject: ({ run, store }) => processOn(store)(run.f),
        meanwhile: ({ run, second, store }) =>
          Effect.gen(function*() {
            const follower = yield* follow(processOn(store)(second.f))
            yield* Deferred.succeed(run.end, user)
            expect(["1", "2"]).toContain((yield* Fiber.join(follower)).id)
          }),
        expected: user,
        check: ({ open }) => Effect.sync(() => expect(open.size).toBe(0))
      })
      expect(steps).toBeGreaterThan(20)
    })

    it("a follower leaves the leader alone, and no party behind", () => {
      const steps = interruptionSweep({
        make: Effect.gen(function*() {
          const shared = census()
          const run = yield* makeRun
          const leader = yield* Effect.forkScoped(processOn(shared.store)(run.f))
          yield* Deferred.await(run.began)
          return { ...shared, run, leader }
        }),
        subject: ({ run, store }) => processOn(store)(run.f),
        meanwhile: ({ run }) => Deferred.succeed(run.end, user),
        expected: user,
        check: ({ leader, open, run }) =>
          Effect.gen(function*() {
            expect(yield* Fiber.join(leader)).toEqual(user)
            expect(run.seen).toEqual({ runs: 1, interrupted: 0 })
            expect(open.size).toBe(0)
          })
      })
      expect(steps).toBeGreaterThan(10)
    })
  })
})

describe("reduceShared within one process", () => {
  class Report {
    readonly month: string
    constructor(month: string) {
      this.month = month
    }
    [PrimaryKey.symbol]() {
      return this.month
    }
  }
  class Made extends Report {
    get [Persistable.symbol]() {
      return { success: Schema.Number, error: Schema.Never }
    }
  }
  class Text extends Report {
    readonly [Persistable.symbol] = { success: Schema.String, error: Schema.Never }
  }

  it.effect("equal requests whose schemas come in an object that is made anew each time share a run", () =>
    Effect.gen(function*() {
      let runs = 0
      const call = reduceShared(
        new Made("2026-01"),
        () => Effect.andThen(Effect.yieldNow, Effect.sync(() => ++runs))
      )
      expect(yield* Effect.all([call, call, call], { concurrency: "unbounded" })).toEqual([1, 1, 1])
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("requests with other schemas do not share, whatever their keys", () =>
    Effect.gen(function*() {
      const numbers = reduceShared(new Made("2026-01"), () => Effect.as(Effect.yieldNow, 1))
      const texts = reduceShared(new Text("2026-01"), () => Effect.as(Effect.yieldNow, "one"))
      expect(yield* Effect.all([numbers, texts], { concurrency: "unbounded" })).toEqual([1, "one"])
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("requests with other primary keys do not share, though their hashes are equal", () =>
    Effect.gen(function*() {
      const letters = Array.from({ length: 40 }, (_, i) => String.fromCharCode(35 + i))
      const keys = letters.flatMap((a) => letters.map((b) => a + b))
      const byHash = new Map<number, string>()
      const hashOf = (key: string) => Hash.string(JSON.stringify(["", key]))
      const two = keys.find((key) => {
        if (byHash.has(hashOf(key))) return true
        byHash.set(hashOf(key), key)
        return false
      })!
      const one = byHash.get(hashOf(two))!
      const call = (key: string) => reduceShared(new Text(key), () => Effect.as(Effect.yieldNow, `of ${key}`))
      expect(yield* Effect.all([call(one), call(two)], unbounded)).toEqual([`of ${one}`, `of ${two}`])
      expect(one).not.toBe(two)
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("a run that was interrupted has no result: its exit does not pass through the schemas", () =>
    Effect.gen(function*() {
      class Silent extends Report {
        readonly [Persistable.symbol] = {
          success: Schema.Never,
          error: Schema.String.pipe(Schema.encodeTo(Schema.String, {
            decode: SchemaGetter.passthrough(),
            encode: SchemaGetter.forbidden(() => "never")
          }))
        }
      }
      const cause = Cause.combine(Cause.fail("late"), Cause.interrupt())
      const exit = yield* Effect.exit(reduceShared(new Silent("2026-01"), () => Effect.failCause(cause)))
      expect(Exit.isFailure(exit) && exit.cause.reasons.map((_) => _._tag)).toEqual(["Fail", "Interrupt"])
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("a result passes through the schemas: a misfit is a typed error", () =>
    Effect.gen(function*() {
      class OneWay extends Report {
        readonly [Persistable.symbol] = {
          success: Schema.String.pipe(Schema.encodeTo(Schema.String, {
            decode: SchemaGetter.forbidden(() => "never"),
            encode: SchemaGetter.passthrough()
          })),
          error: Schema.Never
        }
      }
      // @ts-expect-error a result of another type
      const misfit = reduceShared(new Text("2026-01"), () => Effect.succeed(1))
      const oneWay = reduceShared(new OneWay("2026-01"), () => Effect.succeed("one"))
      for (const [call, operation] of [[misfit, "encode"], [oneWay, "decode"]] as const) {
        expect(yield* Effect.flip(call)).toMatchObject({
          _tag: "ReducerError",
          reason: { _tag: "CodecError", operation }
        })
      }
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("requests of one primary key and one schema share a run if their tags are equal; a tag is a string", () =>
    Effect.gen(function*() {
      const schemas = { success: Schema.Number, error: Schema.Never }
      const tagged = (tag: unknown) =>
        Object.assign(new Report("2026-01"), { _tag: tag, [Persistable.symbol]: schemas })
      let runs = 0
      const calls = ["a", "b", "a", 1, 2, undefined].map((tag) =>
        reduceShared(tagged(tag), () => Effect.andThen(Effect.yieldNow, Effect.sync(() => ++runs)))
      )
      const all = yield* fork(Effect.all(calls, unbounded))
      expect((yield* Reducer.inFlight).map((run) => [String(run.key), run.callers])).toEqual([
        [`["a","2026-01"]`, 2],
        [`["b","2026-01"]`, 1],
        [`["","2026-01"]`, 3]
      ])
      expect(yield* Fiber.join(all)).toEqual([1, 2, 1, 3, 3, 3])
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("each run has a larger fence, even if the clock stands still", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(1_767_225_600_000)
      const fence = reduceShared(new Made("2026-01"), (lease) => Effect.succeed(lease.fence))
      const first = yield* fence
      expect(first).toBeGreaterThanOrEqual(1_767_225_600_000_000)
      expect(yield* fence).toBeGreaterThan(first)
    }).pipe(Effect.provide(Reducer.layer())))

  it.effect("a getter of a request that throws is a defect of its caller alone", () =>
    Effect.gen(function*() {
      let broken: string | undefined
      const check = (field: string) => {
        if (broken === field) throw new Error(field)
      }
      class Hostile extends Report {
        get _tag() {
          check("_tag")
          return "Hostile"
        }
        override [PrimaryKey.symbol]() {
          check("primary key")
          return this.month
        }
        get [Persistable.symbol]() {
          check("schemas")
          return { success: Schema.Number, error: Schema.Never }
        }
      }
      const gate = Deferred.makeUnsafe<number>()
      const call = reduceShared(new Hostile("2026-01"), () => Deferred.await(gate))
      const first = yield* fork(call)
      for (const field of ["_tag", "primary key", "schemas"]) {
        broken = field
        const exit = yield* Effect.exit(call)
        expect(Exit.isFailure(exit) && String(exit.cause)).toContain(field)
      }
      broken = undefined
      const second = yield* fork(call)
      expect((yield* Reducer.inFlight).map((run) => run.callers)).toEqual([2])
      yield* Deferred.succeed(gate, 1)
      expect(yield* Fiber.join(first)).toBe(1)
      expect(yield* Fiber.join(second)).toBe(1)
      expect(yield* Reducer.inFlight).toEqual([])
    }).pipe(Effect.provide(Reducer.layer())))
})

describe("the errors of shared calls", () => {
  it.effect("the message of a ReducerError is that of its reason", () =>
    Effect.gen(function*() {
      const away = new StoreError({ operation: "join", cause: new Error("connection refused") })
      const error = new ReducerError({ reason: away })
      expect(error.message).toBe("store command `join` failed: connection refused")
      expect((yield* Effect.flip(Effect.fail(error))).message).toBe(away.message)
    }))
})
