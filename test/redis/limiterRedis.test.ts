import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as FiberScheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import type { StoreError, Waiter } from "../../src/internal/limiter/limiter.js"
import * as SharedLimiter from "../../src/internal/shared/limiter.js"
import * as RateLimiter from "../../src/RateLimiter.js"
import * as Scheduler from "../../src/Scheduler.js"
import type { Cell, DirectGcraStore, Taken } from "../../src/internal/store/gcraStore.js"
import * as Guard from "../../src/internal/store/guard.js"
import * as Failure from "../../src/internal/store/storeError.js"
import { GcraStoreModel } from "../support/gcraStoreModel.js"
import { ManualClock } from "../support/manualClock.js"
import { makeManualScheduler } from "../support/manualScheduler.js"
import { placeLaws } from "../support/placeLaws.js"
import { random } from "../support/random.js"

const second = 1_000_000_000
const perSecond = (limit: number, burst = 1, strict = false) => Gcra.rate(limit, second, burst, strict)

const setup = (
  rate: Gcra.Rate,
  onStoreError: "fail" | "local" | "allow" = "fail",
  others: ReadonlyArray<Gcra.Rate> = [],
  scheduler?: FiberScheduler.Scheduler
) => {
  const clock = new ManualClock()
  const store = new GcraStoreModel(clock)
  const silent = Effect.runSync(
    Effect.provideContext(Effect.provide(Effect.context<never>(), Logger.layer([])), clock.context)
  )
  const context = scheduler === undefined ? silent : Context.add(silent, FiberScheduler.Scheduler, scheduler)
  const process = () =>
    new SharedLimiter.SharedLimiter(
      [rate, ...others],
      {
        store: store.of,
        guard: Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
        onStoreError,
        expectedProcesses: 1
      },
      context,
      clock
    )
  const limiter = process()
  /** The start of each caller in milliseconds, with its name. */
  const starts: Array<readonly [number, string | number]> = []
  const refused: Array<string | number> = []
  const failed: Array<string | number> = []
  const waiter = (
    name: string | number,
    options: { key?: string; tokens?: number; andThen?: () => void } = {}
  ): Waiter<StoreError> => ({
    key: options.key,
    tokens: options.tokens ?? 1,
    since: limiter.now(),
    link: undefined,
    onDue() {
      starts.push([clock.now / 1e6, name])
      options.andThen?.()
    },
    onTooLarge: () => refused.push(name),
    onFailure: () => failed.push(name)
  })
  const enter = (name: string | number, options: Parameters<typeof waiter>[1] = {}, at = limiter) => {
    const self = waiter(name, options)
    at.waitUnsafe(self)
    return self
  }
  const names = () => starts.map(([, name]) => name)
  const times = () => starts.map(([at]) => at)
  const run = <A>(command: Effect.Effect<A, StoreError>) => Effect.runSync(Effect.provideContext(command, context))
  return { clock, store, limiter, process, starts, refused, failed, waiter, enter, names, times, run }
}

/** The limiter's own queue, and the local queue that replaces it while the store is unavailable. */
const queues = [["shared", false], ["local", true]] as const

const queued = (rate: Gcra.Rate, away: boolean, scheduler?: FiberScheduler.Scheduler) => {
  const all = setup(rate, away ? "local" : "fail", [], scheduler)
  all.store.away = away
  return all
}

describe("places in the queue of a shared rate", () => {
  // What a caller throws is thrown in a turn that does not come.
  const { scheduler } = makeManualScheduler()
  for (const [name, away] of queues) {
    placeLaws(name, (rate) => queued(rate, away, scheduler))
  }
})

describe("a change of a shared rate", () => {
  it("changes nothing if its store cannot be made", () => {
    const { clock, run, store } = setup(perSecond(1000))
    const limiter = new SharedLimiter.SharedLimiter(
      [perSecond(1000, 5)],
      {
        store: (cells) => {
          if (cells[0]!.burst === 2) throw new Error("no store")
          return store.of(cells)
        },
        guard: Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
        onStoreError: "fail",
        expectedProcesses: 1
      },
      clock.context,
      clock
    )
    expect(() => limiter.setQuotas([perSecond(10, 2)])).toThrow("no store")
    expect(limiter.burst).toBe(5)
    expect(run(limiter.peek(undefined))).toMatchObject({ limit: 1000, remaining: 5 })
  })
})

describe("the rest of a shared rate", () => {
  it("A limiter can be dropped when it holds no slots, and what it counted in an outage is over", () => {
    const { clock, enter, limiter } = setup(perSecond(1000))
    const isAtRest = () => limiter.restAt() <= limiter.now()
    expect(isAtRest()).toBe(true)
    for (let i = 0; i < 10; i++) enter(i)
    expect(isAtRest()).toBe(false)
    clock.advance(200)
    expect(isAtRest()).toBe(true)

    const away = setup(perSecond(1), "local")
    away.store.away = true
    away.limiter.beginUnsafe(away.enter("alone"))
    away.clock.advance(500)
    expect(away.limiter.restAt()).toBeGreaterThan(away.limiter.now())
    away.clock.advance(600)
    expect(away.limiter.restAt()).toBeLessThanOrEqual(away.limiter.now())
  })
})

describe("the slots of a shared rate that nobody uses", () => {
  it("those that the store cannot take back stay until they are 50 ms late, for one timer, and then the key goes", () => {
    const { clock, enter, limiter, store } = setup(perSecond(100))
    enter("first")
    const left = ["second", "third"].map((name) => enter(name))
    clock.advance(1)
    // The price of a token may have changed.
    limiter.setQuotas([perSecond(100)])
    for (const waiter of left) limiter.cancelUnsafe(waiter)
    clock.advance(5)
    expect(limiter.size).toBe(1)
    const before = clock.set
    clock.advance(64)
    expect([limiter.size, clock.set - before]).toEqual([1, 0])
    clock.advance(2)
    expect([limiter.size, clock.set - before, clock.pending]).toEqual([0, 0, 0])
    expect(store.commands).not.toContain("giveBack")
  })
})

describe("pace of a shared rate", () => {
  it("L4 a call of several tokens starts when the last of the slots is due that others have left", () => {
    const { clock, enter, limiter, starts } = setup(perSecond(100, 2))
    for (const name of ["first", "second"]) enter(name)
    const left = ["third", "fourth", "fifth"].map((name) => enter(name))
    clock.advance(1)
    enter("several", { tokens: 2 })
    for (const waiter of left) limiter.cancelUnsafe(waiter)
    clock.advance(100)
    expect(starts).toEqual([[0, "first"], [0, "second"], [20, "several"]])
  })

  it("L3 a call that arrives takes no slot of one that waits for more tokens than are due", () => {
    const { clock, enter, limiter, starts } = setup(perSecond(100, 2))
    for (const name of ["first", "second"]) enter(name)
    const left = ["third", "fourth"].map((name) => enter(name))
    enter("several", { tokens: 2 })
    for (const waiter of left) limiter.cancelUnsafe(waiter)
    clock.advance(15)
    expect(limiter.takeUnsafe(undefined, 1)).toBe(false)
    clock.advance(100)
    expect(starts).toEqual([[0, "first"], [0, "second"], [20, "several"]])
  })

  it("L4 A process that stalls for up to 50 ms keeps the full pace", () => {
    const { clock, enter, times } = setup(perSecond(1000))
    for (let i = 0; i < 400; i++) enter(i)
    for (let i = 0; i < 4; i++) {
      clock.advance(30)
      clock.block(49)
      clock.fire()
    }
    clock.advance(84)
    expect(times().length).toBe(400)
    expect(times().at(-1)).toBeLessThanOrEqual(400)
  })

  it("L4 After a stall, at most 50 ms are made up", () => {
    const { clock, enter, times } = setup(perSecond(1000))
    for (let i = 0; i < 400; i++) enter(i)
    clock.advance(30)
    const before = times().length
    clock.block(2000)
    clock.fire()
    expect(times().length - before).toBeLessThanOrEqual(51)
  })

  it("L4 Timers that are always later than the make-up window starve nobody", () => {
    for (const strict of [false, true]) {
      const { clock, enter, times } = setup(perSecond(5, 1, strict))
      for (let i = 0; i < 20; i++) enter(i)
      clock.advance(8000, () => strict ? 30 : 70)
      expect(times().length).toBe(20)
      expect(times().at(-1)).toBeLessThanOrEqual(19 * (200 + 70))
    }
  })

  for (const others of [[], [perSecond(1000, 10)]]) {
    it(`A strict rate makes up 10 ms, and a window of starts exceeds the limit by no more than that allows, with ${others.length} other rates`, () => {
      const { clock, enter, times } = setup(perSecond(100, 1, true), "fail", others)
      for (let i = 0; i < 600; i++) enter(i)
      for (let i = 0; i < 40; i++) {
        clock.advance(40 + (i * 37) % 150)
        clock.block(45)
        clock.fire()
      }
      const starts = times()
      expect(starts.length).toBeGreaterThan(300)
      const most = Math.max(...starts.map((from) => starts.filter((at) => at >= from && at < from + 1000).length))
      expect(most).toBeGreaterThan(75)
      // One start was late before the window, and one late timer adds two: now, and 10 ms ago.
      expect(most).toBeLessThanOrEqual(102)
      const atOnce = Math.max(...starts.map((from) => starts.filter((at) => at === from).length))
      expect(atOnce).toBeLessThanOrEqual(2)
    })
  }

  it("Slow answers do not reduce the pace", () => {
    for (const answerMillis of [40, 200]) {
      const { clock, enter, store, times } = setup(perSecond(1000))
      store.answerMillis = answerMillis
      for (let i = 0; i < 3000; i++) enter(i)
      clock.advance(2000)
      const at = times().length
      clock.advance(1000)
      expect(times().length - at).toBeGreaterThanOrEqual(990)
      // No start is early: the first may be due at the first call of the store.
      times().forEach((time, i) => expect(i + 1).toBeLessThanOrEqual(1 + time))
    }
  })

  it("One late answer counts as a stall, and takes no slots far ahead of the other processes", () => {
    const { clock, enter, limiter, process, starts, store } = setup(perSecond(1000))
    const other = process()
    for (let i = 0; i < 500; i++) enter("here")
    clock.advance(20)
    store.answerMillis = 400
    clock.advance(30)
    store.answerMillis = 0
    clock.advance(401)
    for (let i = 0; i < 100; i++) enter("there", {}, other)
    const at = clock.now / 1e6
    clock.advance(70)
    expect(starts.find(([time, name]) => name === "there" && time > at)![0] - at).toBeLessThanOrEqual(60)
    expect(limiter.size).toBe(1)
  })
})

describe("slots without a waiter", () => {
  it("L4 whatever comes, leaves, throws, stalls and changes, in two processes, no caller waits for what never comes", () => {
    const thrown = new Error("not ours")
    // What a caller throws is no error of the step that calls it back: it comes in a turn of its own.
    const turn = (manual: ReturnType<typeof makeManualScheduler>) => {
      try {
        manual.turn()
      } catch (error) {
        if (error !== thrown) throw error
      }
    }
    for (let seed = 1; seed <= 300; seed++) {
      const draw = random(seed)
      const manual = makeManualScheduler()
      const { clock, enter, limiter, process, starts, store } = setup(perSecond(100, 4), "fail", [], manual.scheduler)
      const limiters = [limiter, process()]
      store.answerMillis = draw(3) * 4
      const left = new Set<number>()
      const waiters: Array<() => void> = []
      const step = (i: number) => {
        const at = limiters[draw(2)]!
        const key = draw(2) === 0 ? {} : { key: "key" }
        const what = draw(9)
        if (what === 0) return clock.block(draw(40))
        if (what < 3) return clock.advance(draw(25))
        if (what === 3) return waiters[draw(waiters.length + 1)]?.()
        if (what === 4 && draw(2) === 0) return at.setQuotas([perSecond(80 + draw(40), 3 + draw(3))])
        left.add(i)
        const andThen = () => {
          left.delete(i)
          if (i % 7 === 0) throw thrown
        }
        const self = enter(i, { ...key, tokens: 1 + draw(3), andThen }, at)
        waiters.push(() => {
          left.delete(i)
          at.cancelUnsafe(self)
        })
      }
      for (let i = 0; i < 60; i++) {
        step(i)
        turn(manual)
      }
      for (let i = 0; i < 200; i++) {
        clock.advance(25)
        turn(manual)
      }
      expect([seed, ...left, starts.length > 0]).toEqual([seed, true])
    }
  })

  it("L4 a slot that is due for the one behind a caller that throws is not left lying", () => {
    const manual = makeManualScheduler()
    const { clock, enter, starts } = setup(perSecond(100, 2), "fail", [], manual.scheduler)
    for (const name of ["first", "second"]) enter(name)
    clock.advance(1)
    enter("throws", {
      andThen: () => {
        throw new Error("it throws")
      }
    })
    enter("behind")
    clock.block(25)
    clock.fire()
    expect(() => {
      while (manual.waiting > 0) manual.turn()
    }).toThrow("it throws")
    clock.advance(100)
    expect(starts.map(([, name]) => name)).toEqual(["first", "second", "throws", "behind"])
    expect(starts.at(-1)![0]).toBeLessThanOrEqual(28)
  })

  it("L3 The last waiter to leave returns its slots", () => {
    const { clock, enter, limiter, process, store, times } = setup(perSecond(1000))
    const other = process()
    const waiting = Array.from({ length: 30 }, (_, i) => enter(i))
    expect(times()).toEqual([0])
    clock.advance(4)
    expect(times()).toEqual([0, 1, 2, 3, 4])
    for (const one of waiting) limiter.cancelUnsafe(one)
    clock.advance(2)
    expect(store.commands.filter((_) => _ !== "take")).toEqual(["giveBack"])
    expect(limiter.size).toBe(0)
    expect(clock.pending).toBe(0)
    // The slots at 5 and 6 are unused, so the next call is due at once and not at 30.
    enter("next", {}, other)
    enter("after", {}, other)
    clock.advance(1)
    expect(times().slice(5)).toEqual([6, 7])
  })

  it("L3 Slots taken by several commands are returned, if no other process took slots in between", () => {
    const { clock, enter, limiter, store, times } = setup(perSecond(1000))
    const waiting = Array.from({ length: 100 }, (_, i) => enter(i))
    clock.advance(25)
    expect(store.commands.filter((_) => _ === "take").length).toBeGreaterThan(2)
    for (const one of waiting) limiter.cancelUnsafe(one)
    clock.advance(2)
    enter("next")
    enter("after")
    clock.advance(1)
    expect(times().slice(26)).toEqual([27, 28])
  })

  it("Slots before another process's grant are not returned", () => {
    const { clock, enter, limiter, process, starts } = setup(perSecond(1000))
    const other = process()
    const third = process()
    const here = Array.from({ length: 10 }, () => enter("here"))
    for (let i = 0; i < 10; i++) enter("there", {}, other)
    for (let i = 0; i < 10; i++) here.push(enter("here"))
    clock.advance(1)
    for (const one of here) limiter.cancelUnsafe(one)
    clock.advance(2)
    for (let i = 0; i < 40; i++) enter("next", {}, third)
    clock.advance(200)
    expect(starts.length).toBe(52)
    const there = starts.filter(([, name]) => name === "there").map(([at]) => at)
    expect(there).toEqual(Array.from({ length: 10 }, (_, i) => 10 + i))
    starts.forEach(([at], i) => expect(i === 0 || at - starts[i - 1]![0] >= 1).toBe(true))
  })

  it("A caller that arrives at once takes the unused slots, and none are returned", () => {
    const { clock, enter, limiter, store, times } = setup(perSecond(1000))
    const waiting = Array.from({ length: 20 }, (_, i) => enter(i))
    clock.advance(3)
    for (const one of waiting) limiter.cancelUnsafe(one)
    clock.advance(1)
    store.commands.length = 0
    for (let i = 0; i < 5; i++) enter(i)
    clock.advance(4)
    expect(times()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    // The slots stay as long as callers arrive.
    for (let i = 0; i < 4; i++) {
      clock.advance(1)
      enter(i)
    }
    expect(times().length).toBe(13)
    expect(store.commands).toEqual([])
  })

  it("L4 Old unused slots are not saved for a caller after a stall", () => {
    const { clock, enter, limiter } = setup(perSecond(1000))
    const waiting = Array.from({ length: 40 }, (_, i) => enter(i))
    clock.advance(1)
    for (const one of waiting) limiter.cancelUnsafe(one)
    clock.block(30)
    expect(limiter.takeUnsafe(undefined, 1)).toBe(true)
    clock.block(1000)
    expect(limiter.takeUnsafe(undefined, 1)).toBe(false)
  })

  it("Slots taken under an old quota are not returned at the new price", () => {
    const { clock, enter, limiter, store } = setup(perSecond(1000))
    const waiting = Array.from({ length: 10 }, (_, i) => enter(i))
    limiter.setQuotas([perSecond(10)])
    for (const one of waiting) limiter.cancelUnsafe(one)
    clock.advance(100)
    expect(store.commands).not.toContain("giveBack")
    expect([limiter.size, clock.pending]).toEqual([0, 0])
  })

  it("Slots that were asked for under an old quota are not returned at the new price, nor do they keep anybody waiting", () => {
    const { clock, enter, limiter, store, times } = setup(perSecond(1000))
    store.answerMillis = 10
    const waiting = Array.from({ length: 10 }, (_, i) => enter(i))
    clock.advance(7)
    limiter.setQuotas([perSecond(10)])
    for (const one of waiting) limiter.cancelUnsafe(one)
    clock.advance(100)
    expect(store.commands).not.toContain("giveBack")
    expect([limiter.size, clock.pending]).toEqual([0, 0])

    const hourly = Gcra.rate(1, 3600 * second, 1, false)
    const slow = setup(hourly)
    slow.enter("first")
    slow.store.answerMillis = 10
    slow.enter("second")
    slow.clock.advance(7)
    slow.limiter.setQuotas([Gcra.rate(3600, 3600 * second, 4000, false)])
    slow.clock.advance(50)
    expect(slow.names()).toEqual(["first", "second"])
    expect(times()).toEqual([])
  })

  it("L3 a slot that its waiter does not want goes to the next one, whatever the waiter's code has used meanwhile", () => {
    for (const key of ["key", undefined]) {
      const { clock, enter, limiter, starts, store, waiter } = setup(perSecond(20))
      enter("first")
      const late = enter("late", { key: "other" })
      const unwanted = waiter("unwanted", {
        andThen: () => {
          limiter.cancelUnsafe(late)
          limiter.cancelUnsafe(gone)
          enter("there", { key: "key" })
          limiter.refundUnsafe(unwanted)
        }
      })
      limiter.waitUnsafe(unwanted)
      const gone = enter("gone", key === undefined ? {} : { key })
      enter("next")
      clock.advance(100)
      expect(starts.filter(([, name]) => name === "next")).toEqual([[50, "next"]])
      expect(store.commands.length).toBeGreaterThan(2)
    }
  })

  it("A limiter that a caller closes as it is granted sends nothing after that, and calls each waiter once", () => {
    const closing = (rate: Gcra.Rate) => {
      const all = setup(rate)
      const closed: Array<string> = []
      const enter = (name: string, andThen = () => {}) =>
        all.limiter.waitUnsafe({ ...all.waiter(name, { andThen }), onClose: () => closed.push(name) })
      return { ...all, closed, enter, close: () => void Effect.runForkWith(all.clock.context)(all.limiter.close) }
    }
    const due = closing(perSecond(100))
    due.enter("first")
    due.enter("a", due.close)
    for (const name of ["b", "c"]) due.enter(name)
    // From here on the slots are not returned.
    due.limiter.setQuotas([perSecond(100)])
    due.clock.block(40)
    due.clock.fire()
    expect([due.names(), due.closed, due.clock.pending]).toEqual([["first", "a"], ["b", "c"], 0])

    const { clock, close, closed, enter, names, store } = closing(perSecond(1000, 5))
    store.answerMillis = 10
    enter("first", close)
    // For this one no slot has been asked for.
    enter("a")
    clock.advance(500)
    expect([names(), closed, store.commands, clock.pending]).toEqual([["first"], ["a"], ["take"], 0])
  })

  it("who waits for a limiter that closes is told, also if there are too many for one turn while the store is away", async () => {
    for (const burst of [2, 1]) {
      const { clock, limiter: { place }, starts, store, waiter } = setup(perSecond(1, 2), "local")
      const gone = new Failure.StoreError({ operation: "take", cause: "gone" })
      const limiter = new SharedLimiter.SharedLimiter(
        [perSecond(1, 2)],
        {
          store: (cells) => ({
            ...store.of(cells),
            take: () => Effect.andThen(clock.sleep(Duration.millis(10)), Effect.fail(gone))
          }),
          guard: Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 0 }),
          onStoreError: "local",
          expectedProcesses: 1
        },
        place.context,
        clock
      )
      let closed = 0
      let refused = 0
      for (let i = 0; i < 1500; i++) {
        limiter.waitUnsafe({
          ...waiter(i, { tokens: 2 }),
          onTooLarge: () => refused++,
          onClose: () => closed++
        })
      }
      clock.advance(10)
      if (burst === 1) {
        // All of them wait here now, and ask for more than there will ever be.
        await new Promise((resolve) => setImmediate(resolve))
        limiter.setQuotas([perSecond(1, burst)])
      }
      Effect.runForkWith(clock.context)(limiter.close)
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
      expect([burst, starts.length + refused + closed]).toEqual([burst, 1500])
    }
  })

  it("a waiter whose place another one takes while the store is away is called back no more", () => {
    const { clock, limiter: { place }, names, store, waiter } = setup(perSecond(1, 2), "local")
    const gone = new Failure.StoreError({ operation: "take", cause: "gone" })
    let fails: () => void = () => {}
    const limiter = new SharedLimiter.SharedLimiter(
      [perSecond(1, 2)],
      {
        store: (cells) => ({
          ...store.of(cells),
          take: () => Effect.callback((resume) => void (fails = () => resume(Effect.fail(gone))))
        }),
        guard: Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 0, isBounded: true }),
        onStoreError: "local",
        expectedProcesses: 1
      },
      place.context,
      clock
    )
    const former = waiter("former")
    limiter.waitUnsafe(
      waiter("first", { andThen: () => limiter.waitUnsafe(waiter("latter"), { insteadOf: former }) })
    )
    limiter.waitUnsafe(former)
    fails()
    // For the latter one the store is asked again.
    fails()
    clock.advance(5000)
    expect([names(), clock.pending]).toEqual([["first", "latter"], 0])
  })

  it("A clock that steps back stops no caller", () => {
    const { clock, limiter, names, store, waiter } = setup(perSecond(1000))
    const asked: Array<number> = []
    const answers: Array<() => void> = []
    const own = new SharedLimiter.SharedLimiter(
      [perSecond(1000)],
      {
        store: (cells) => ({
          ...store.of(cells),
          take: (...args) =>
            Effect.callback((resume) => {
              asked.push(args[2])
              answers.push(() => resume(store.of(cells).take(...args)))
            })
        }),
        guard: Guard.make({ service: "test", storeTimeoutMillis: 1e9, outageBudgetMillis: 0, isBounded: true }),
        onStoreError: "fail",
        expectedProcesses: 1
      },
      limiter.place.context,
      clock
    )
    clock.advance(20_000)
    own.waitUnsafe(waiter("a"))
    clock.block(-10_000)
    for (let i = 0; i < 5; i++) {
      answers.shift()?.()
      own.waitUnsafe(waiter(i, { key: String(i) }))
    }
    for (const answer of answers.splice(0)) answer()
    clock.advance(100)
    expect(asked.filter((most) => most < 0)).toEqual([])
    expect(names()).toEqual(["a", 0, 1, 2, 3, 4])
  })

  it("A limiter that closes returns its slots", () => {
    const { clock, enter, limiter, process, store, times } = setup(perSecond(1000))
    for (let i = 0; i < 30; i++) enter(i)
    Effect.runSync(limiter.close)
    expect(store.commands.filter((_) => _ !== "take")).toEqual(["giveBack"])
    expect(clock.pending).toBe(0)
    enter("next", {}, process())
    clock.advance(2)
    expect(times()).toEqual([0, 1])
  })

  it("A closed limiter sends no command and calls nobody back", () => {
    for (const answerMillis of [0, 10]) {
      const { clock, enter, limiter, store, times } = setup(perSecond(10))
      store.answerMillis = answerMillis
      enter("a")
      const b = enter("b")
      const started = times().length
      Effect.runSync(limiter.close)
      expect(clock.pending).toBe(0)
      const sent = store.commands.length
      limiter.cancelUnsafe(b)
      enter("c")
      clock.advance(1000)
      expect([times().length, store.commands.length, clock.pending]).toEqual([started, sent, 0])
    }
  })

  it("One command asks for 512 waiters at most", () => {
    const { clock, enter, limiter, store, waiter } = setup(perSecond(1))
    store.answerMillis = 1
    for (let i = 0; i < 600; i++) enter(i)
    clock.advance(10)
    limiter.waitUnsafe({ ...waiter("a", { key: "k" }), behind: () => 600 })
    clock.advance(10)
    expect(store.asked).toEqual([1, 512, 512])
  })

  it("While the store is away, penalize and reset apply in this process", () => {
    const { clock, enter, limiter, run, store, times } = setup(perSecond(10), "local")
    store.away = true
    run(limiter.penalize(undefined, 500_000_000))
    enter("a")
    clock.advance(499)
    expect(times()).toEqual([])
    clock.advance(1)
    expect(times()).toEqual([500])
    run(limiter.reset(undefined))
    enter("b")
    expect(times()).toEqual([500, 500])
  })

  it("A store that fails while slots are unused leaves neither entry nor timer", () => {
    const { clock, enter, failed, limiter, store } = setup(perSecond(1000))
    for (let i = 0; i < 100; i++) enter(i)
    clock.advance(5)
    store.away = true
    clock.advance(200)
    expect(failed.length).toBeGreaterThan(0)
    expect([limiter.size, clock.pending]).toEqual([0, 0])
  })
})

describe("a store that answers a callback", () => {
  it("L4 a take that fails is tried again until the budget is spent, an answer ends it, and close gives it up", () => {
    const clock = new ManualClock()
    const model = new GcraStoreModel(clock)
    const context = Effect.runSync(Effect.provideContext(Effect.context<never>(), clock.context))
    const gone = new Failure.StoreError({ operation: "take", cause: "gone" })
    const sent: Array<(exit: Exit.Exit<Taken, Failure.StoreError>) => void> = []
    let givenUp = 0
    const store = (cells: ReadonlyArray<Cell>): DirectGcraStore => ({
      ...model.of(cells),
      takeUnsafe: (_key, _tokens, _most, answer) => {
        sent.push(answer)
        return () => void givenUp++
      }
    })
    const guard = Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 1000, isBounded: true })
    const options = { store, guard, onStoreError: "fail", expectedProcesses: 1 } as const
    const limiter = new SharedLimiter.SharedLimiter([perSecond(1000)], options, context, clock)
    const heard: Array<unknown> = []
    const enter = (key: string) =>
      limiter.waitUnsafe({
        key,
        tokens: 1,
        since: limiter.now(),
        link: undefined,
        onDue: () => heard.push(key),
        onTooLarge: () => {},
        onFailure: (failure) => heard.push(failure)
      })
    enter("a")
    enter("b")
    expect([sent.length, model.commands.length]).toEqual([2, 0])
    model.away = true
    sent[0]!(Exit.fail(gone))
    expect(heard).toEqual([])
    // While a command has failed, the guard sends them.
    enter("c")
    expect(sent.length).toBe(2)
    clock.advance(500)
    model.away = false
    clock.advance(250)
    expect(heard.toSorted()).toEqual(["a", "c"])
    clock.advance(300)
    sent[1]!(Exit.fail(gone))
    clock.advance(0)
    expect(heard.slice(2)).toEqual([gone])
    Effect.runSync(guard.run("take", Effect.void))
    enter("d")
    expect([sent.length, givenUp]).toEqual([3, 0])
    Effect.runFork(limiter.close)
    expect(givenUp).toBe(1)
  })
})

describe("peek at a shared rate", () => {
  it("peek asks the store, takes nothing, and tells when one token passes", () => {
    const { clock, enter, limiter, store } = setup(perSecond(10, 2))
    expect(Effect.runSync(limiter.peek(undefined))).toEqual({ limit: 10, remaining: 2, resetAfter: 0, retryAfter: 0 })
    enter("a", { tokens: 2 })
    clock.advance(30)
    const left = { limit: 10, remaining: 0, resetAfter: 170_000_000, retryAfter: 70_000_000 }
    for (let i = 0; i < 3; i++) expect(Effect.runSync(limiter.peek(undefined))).toEqual(left)
    expect(store.commands.length).toBe(5)
    expect(Effect.runSync(limiter.peek("other")).remaining).toBe(2)
  })

  it("while the store is away, peek fails, or tells what this process has left", () => {
    const left = (["fail", "local", "allow"] as const).map((policy) => {
      const { enter, limiter, run, store } = setup(perSecond(10, 2), policy)
      store.away = true
      if (policy === "local") enter("a")
      const { remaining } = limiter.peek(undefined).pipe(Effect.orElseSucceed(() => ({ remaining: "fails" })), run)
      return remaining
    })
    expect(left).toEqual(["fails", 1, 2])
  })
})

describe("consume with fail at a shared rate", () => {
  it("while the store is away, allow admits each call, local what its share has left, and fail none", () => {
    const outcomes = (["fail", "local", "allow"] as const).map((policy) => {
      const { limiter, run, store } = setup(perSecond(10, 2), policy)
      store.away = true
      const consume = RateLimiter.fromLimiter(limiter, "test").consume({ onExceeded: "fail" })
      const outcome = Effect.match(consume, { onFailure: ({ reason }) => reason._tag, onSuccess: () => "admitted" })
      return [1, 2, 3].map(() => run(outcome))
    })
    expect(outcomes).toEqual([
      ["StoreError", "StoreError", "StoreError"],
      ["admitted", "admitted", "RateLimitExceeded"],
      ["admitted", "admitted", "admitted"]
    ])
  })
})

describe("O1 maxWait at a shared rate", () => {
  const over = (limiter: SharedLimiter.SharedLimiter, maxWait: number, key?: string) => {
    const handle = RateLimiter.fromLimiter(limiter, "test")
    return Effect.runFork(Effect.flip(handle.consume({ maxWait, key })))
  }
  const reasonOf = (fiber: Fiber.Fiber<RateLimiter.RateLimiterError, unknown>) => {
    const exit = fiber.pollUnsafe()
    if (exit === undefined) return "waits"
    if (exit._tag === "Failure") return "admitted"
    const { reason } = exit.value
    return reason._tag === "RateLimitExceeded" ? Duration.toMillis(reason.retryAfter) : reason._tag
  }

  it("a call that was not admitted within maxWait is refused by a timer, also while the store does not answer", () => {
    for (const answerMillis of [0, 1000]) {
      const { clock, enter, limiter, store } = setup(perSecond(10))
      if (answerMillis === 0) enter("first")
      store.answerMillis = answerMillis
      const call = over(limiter, 80)
      clock.advance(79.999999)
      expect(reasonOf(call)).toBe("waits")
      clock.advance(0.000001)
      expect(reasonOf(call)).not.toBe("waits")
      clock.advance(2000)
      expect([limiter.size, clock.pending]).toEqual([0, 0])
    }
  })

  /** A grant that comes while a call registers resumes it in the next turn. */
  const turn = () => new Promise((resolve) => setImmediate(resolve))

  it("a call behind one that the store refused is refused on arrival, where it is due later than maxWait", async () => {
    const { clock, enter, limiter, store } = setup(perSecond(1))
    enter("first")
    enter("second")
    clock.advance(10)
    const asked = store.commands.length
    expect(reasonOf(over(limiter, 989))).toBe(990 + 1000)
    const waits = over(limiter, 990)
    expect(reasonOf(waits)).toBe("waits")
    expect(store.commands.length).toBe(asked)
    clock.advance(990)
    expect(reasonOf(waits)).toBe(1000)
    const other = over(limiter, 10, "other key")
    await turn()
    expect(reasonOf(other)).toBe("admitted")
  })

  it("a slot whose call is too late for it goes to the next one", () => {
    const { clock, enter, limiter, store, times } = setup(perSecond(20))
    enter("first")
    const call = over(limiter, 50)
    clock.advance(20)
    expect(store.commands.length).toBe(2)
    enter("next")
    clock.block(50)
    clock.fire()
    expect(reasonOf(call)).not.toBe("admitted")
    expect(times()).toEqual([0, 70])
  })

  it("a slot that comes in time to a call that is late goes to the next one, too", () => {
    const { clock, enter, limiter, times } = setup(perSecond(20))
    enter("first")
    const call = over(limiter, 60)
    clock.advance(20)
    enter("next")
    clock.block(50)
    clock.fire()
    expect(reasonOf(call)).not.toBe("admitted")
    expect(times()).toEqual([0, 70])
  })

  it("with a maxWait of 0 the store decides, and tells when the call passes", () => {
    const { clock, limiter } = setup(perSecond(10))
    expect(reasonOf(over(limiter, 0))).toBe("admitted")
    clock.advance(30)
    expect(reasonOf(over(limiter, 0))).toBe(70)
  })

  it("while the store is away the local limiter keeps maxWait", async () => {
    const { clock, limiter, store } = setup(perSecond(10), "local")
    store.away = true
    const calls = [1, 2, 3].map(() => over(limiter, 150))
    await turn()
    clock.advance(150)
    await turn()
    expect(calls.map(reasonOf)).toEqual(["admitted", "admitted", 50])
  })
})

describe("O4 settle at a shared rate", () => {
  it("settle and lists of tokens are refused, with an error that says why", () => {
    const { limiter } = setup(perSecond(10))
    const handle = RateLimiter.fromLimiter(limiter, "test")
    const rule = "settle must be left out where the rate is in a store, got \"a function\""
    expect(() => handle.withLimit(Effect.succeed(1), { settle: (cost) => cost })).toThrow(
      new RangeError(`RateLimiter.withLimit: ${rule}`)
    )
    const scheduled = Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: 1, rate: RateLimiter.RateLimiter })
      return yield* scheduler.schedule(Effect.succeed(1), { settle: (cost) => cost })
    })
    expect(() => handle.consume({ tokens: [1, 2] })).toThrow(
      new RangeError("RateLimiter.consume: tokens must be a number where the rate is in a store, got [1,2]")
    )
    const provided = Effect.provideService(Effect.scoped(scheduled), RateLimiter.RateLimiter, handle)
    expect(Effect.runSyncExit(provided)).toEqual(Exit.die(new RangeError(`Scheduler.schedule: ${rule}`)))
  })
})

describe("keys and quotas of a shared rate", () => {
  it("each key has its own rate, and so have the calls without one", () => {
    const { clock, enter, names } = setup(perSecond(1))
    for (const key of ["a", "b", "undefined"]) enter(key, { key })
    enter("none")
    clock.advance(10)
    expect(names().toSorted()).toEqual(["a", "b", "none", "undefined"])
  })

  it("L5 quotas in another order forget nothing that was consumed, and keep nobody waiting for the debt of another quota", () => {
    const quotas = [perSecond(100, 100), Gcra.rate(100, 3600 * second, 100, false)] as const
    const { clock, enter, limiter, names, run } = setup(quotas[0], "fail", [quotas[1]])
    enter("first", { tokens: 50 })
    clock.advance(1000)
    const left = run(limiter.peek(undefined))
    expect([left.limit, left.remaining]).toEqual([100, 50])
    limiter.setQuotas(quotas.toReversed())
    expect(run(limiter.peek(undefined))).toEqual(left)
    enter("second", { tokens: 50 })
    clock.advance(10)
    expect(names()).toEqual(["first", "second"])
    expect(run(limiter.peek(undefined)).remaining).toBe(0)
  })

  it("a call whose answer is from before a change to fewer quotas ends as all others do", () => {
    const { clock, limiter, store } = setup(perSecond(1000, 10), "fail", [perSecond(100)])
    store.answerMillis = 10
    const handle = RateLimiter.fromLimiter(limiter, "test")
    const calls: ReadonlyArray<Effect.Effect<{ readonly limit: number }, RateLimiter.RateLimiterError>> = [
      handle.consume(),
      handle.consume({ key: "a", onExceeded: "fail" }),
      handle.peek({ key: "b" })
    ]
    const ends = calls.map((call) => Effect.runForkWith(clock.context)(Effect.map(call, ({ limit }) => limit)))
    clock.advance(7)
    limiter.setQuotas([perSecond(1000, 10)])
    clock.advance(100)
    expect(ends.map((fiber) => fiber.pollUnsafe())).toEqual([
      Exit.succeed(1000),
      Exit.succeed(1000),
      Exit.succeed(1000)
    ])
  })

  it("an answer from before a reset keeps nobody waiting, although it comes after it", () => {
    const { clock, enter, limiter, names, store } = setup(Gcra.rate(1, 3600 * second, 1, false))
    enter("first")
    store.answerMillis = 20
    enter("second")
    clock.advance(11)
    store.answerMillis = 2
    Effect.runForkWith(clock.context)(limiter.reset(undefined))
    clock.advance(50)
    expect(names()).toEqual(["first", "second"])
  })

  it("a smaller burst refuses the waiters that exceed it; the others are asked for anew at once", () => {
    const { clock, enter, limiter, names, refused, store } = setup(perSecond(1, 5))
    enter("first", { tokens: 5 })
    enter("large", { tokens: 3 })
    enter("just", { tokens: 2 })
    clock.advance(10)
    const asked = store.asked.length
    limiter.setQuotas([perSecond(1000, 2)])
    expect([refused, store.asked.length]).toEqual([["large"], asked + 1])
    clock.advance(5000)
    expect(names()).toEqual(["first", "just"])
    enter("too large", { tokens: 3 })
    expect(refused).toEqual(["large", "too large"])
  })
})

describe("a scheduler at a shared rate", () => {
  it("asks for the slots of all jobs that could start with one command", () => {
    const { clock, limiter, run, store } = setup(perSecond(100))
    const handle = RateLimiter.fromLimiter(limiter, "test")
    const scheduler = run(
      Effect.provideService(
        Scope.provide(Scheduler.make({ concurrency: 30, rate: RateLimiter.RateLimiter }), Scope.makeUnsafe()),
        RateLimiter.RateLimiter,
        handle
      )
    )
    let ended = 0
    for (let i = 0; i < 50; i++) {
      Effect.runForkWith(clock.context)(scheduler.schedule(Effect.sync(() => ended++)))
    }
    clock.advance(20)
    expect(Math.max(...store.asked)).toBe(30)
    clock.advance(1000)
    expect(ended).toBe(50)
  })
})
