import { assert, describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Scheduler as FiberScheduler, Schema } from "effect"
import * as RateLimiter from "effect-funnel/RateLimiter"
import * as Gcra from "../src/internal/limiter/gcra.js"
import { limiterOf, type Waiter } from "../src/internal/limiter/limiter.js"
import { LimiterMemory } from "../src/internal/limiter/memory.js"
import { fork } from "./support/fibers.ts"
import { ManualClock } from "./support/manualClock.js"
import { makeManualScheduler } from "./support/manualScheduler.js"
import { placeLaws } from "./support/placeLaws.js"
import { random } from "./support/random.js"

const second = 1_000_000_000
const perSecond = (limit: number, burst = 1, strict = false) => Gcra.rate(limit, second, burst, strict)

/** As many turns of the event loop as any slice of work needs here. */
const turns = Effect.repeat(Effect.yieldNow, { times: 300 })

const setup = (...rates: ReadonlyArray<Gcra.Rate>) => setupIn(Context.empty(), ...rates)

const setupIn = (context: Context.Context<never>, ...rates: ReadonlyArray<Gcra.Rate>) => {
  const clock = new ManualClock()
  const limiter = new LimiterMemory(rates, Context.merge(clock.context, context), clock)
  /** When each started, in milliseconds, with its name. */
  const starts: Array<readonly [number, string | number]> = []
  const refused: Array<string | number> = []
  const waiter = (
    name: string | number,
    options: { key?: string; tokens?: number; since?: number; andThen?: () => void; begins?: boolean } = {}
  ): Waiter => {
    const self: Waiter = {
      key: options.key,
      tokens: options.tokens ?? 1,
      since: options.since ?? limiter.now(),
      link: undefined,
      onDue() {
        starts.push([clock.now / 1e6, name])
        if (options.begins !== false) limiter.beginUnsafe(self)
        options.andThen?.()
      },
      onTooLarge: () => refused.push(name),
      onFailure() {}
    }
    return self
  }
  /** Takes at once or queues. */
  const enter = (name: string | number, options: Parameters<typeof waiter>[1] = {}): Waiter => {
    const self = waiter(name, options)
    if (limiter.takeUnsafe(self.key, self.tokens, self.since)) self.onDue()
    else limiter.waitUnsafe(self)
    return self
  }
  return { clock, limiter, starts, refused, waiter, enter, times: () => starts.map(([at]) => at) }
}

describe("pace", () => {
  it("L1 a timer that fires early grants nothing early", () => {
    const { clock, enter, limiter, times } = setup(perSecond(1))
    enter(0)
    enter(1)
    clock.block(999.9)
    limiter.settle()
    expect(times()).toEqual([0])
    clock.block(0.1)
    limiter.settle()
    expect(times()).toEqual([0, 1000])
  })
})

describe("settlements", () => {
  it("O4 L1 no more is given back than a later call found owed, also where a start before it is taken back", () => {
    const { clock, limiter, starts, waiter } = setup(perSecond(100, 10))
    const take = (name: string, tokens: number) => {
      const self = waiter(name, { tokens, begins: false })
      if (limiter.takeUnsafe(undefined, tokens, self.since, self)) self.onDue()
      else limiter.waitUnsafe(self)
      return self
    }
    const charge = (self: Waiter) => {
      const charge = limiter.chargeUnsafe(undefined, self.tokens, self)
      limiter.beginUnsafe(self)
      return charge
    }
    const never = take("never", 1)
    const first = charge(take("first", 4))
    const waiting = take("second", 10)
    clock.advance(30)
    // It has cost nothing, so the second one starts, which has waited since 0.
    limiter.settleUnsafe(first, 0)
    const second = charge(waiting)
    clock.block(10)
    limiter.waitUnsafe(waiter("third", { tokens: 10 }))
    clock.advance(90)
    // Without these two, the third one would have found nothing owed: the tokens of its own stay owed.
    limiter.refundUnsafe(never)
    limiter.settleUnsafe(second, 0)
    take("fourth", 10)
    clock.advance(200)
    expect(starts).toEqual([[0, "never"], [0, "first"], [30, "second"], [130, "third"], [180, "fourth"]])
  })
})

describe("late timers", () => {
  it("L4 10,000 a second take 10 a millisecond from one timer", () => {
    const { clock, enter, limiter, times } = setup(perSecond(10_000))
    for (let i = 0; i < 2001; i++) enter(i)
    expect(clock.pending).toBe(1)
    clock.advance(200, () => 0.7)
    expect(times().length).toBe(2001)
    // 2,001 starts are 2,000 intervals of 0.1 ms.
    expect(times().at(-1)).toBeLessThanOrEqual(202)
    expect(limiter.size).toBe(1)
  })

  it("L4 at most 50 ms are made up after a block", () => {
    const { clock, enter, times } = setup(perSecond(1000))
    for (let i = 0; i < 3000; i++) enter(i)
    clock.block(2000)
    clock.fire()
    // Those of the last 50 ms and the one that is due now.
    expect(times().length - 1).toBe(51)
    clock.advance(10)
    expect(times().length - 1).toBe(61)
  })

  it("L1 strict: a start with a long first step delays the starts behind it by the same time", () => {
    const { clock, enter, times } = setup(Gcra.rate(1, 1_000_000, 1, true))
    enter(0)
    enter(1, { andThen: () => clock.block(0.5) })
    enter(2)
    clock.advance(10)
    expect(times()).toEqual([0, 1, 2.5])
  })

  it("L1 strict: a grant that begins after the rate was changed counts from its begin", () => {
    const { clock, enter, limiter, times, waiter } = setup(Gcra.rate(1, 10_000_000, 1, true))
    const first = waiter("first")
    expect(limiter.takeUnsafe(undefined, 1, 0, first)).toBe(true)
    limiter.setQuotas([Gcra.rate(1, 20_000_000, 1, true)])
    enter(0)
    clock.block(7)
    limiter.beginUnsafe(first)
    clock.advance(100)
    expect(times()).toEqual([27])
  })

  it("L1 strict: a grant that is given back is in no window", () => {
    const { clock, enter, limiter, times, waiter } = setup(perSecond(2, 2, true))
    const never = waiter("never")
    expect(limiter.takeUnsafe("k", 1, 0, never)).toBe(true)
    limiter.refundUnsafe(never)
    enter(0, { key: "k" })
    clock.advance(500)
    enter(1, { key: "k" })
    enter(2, { key: "k" })
    clock.advance(1000)
    expect(times()).toEqual([0, 500, 1000])
  })

  it("L1 strict: a key stays for a grant before a change of the rate that has not begun", () => {
    const { clock, enter, limiter, times, waiter } = setup(Gcra.rate(1, 10_000_000, 1, true))
    const first = waiter("first")
    expect(limiter.takeUnsafe("k", 1, 0, first)).toBe(true)
    limiter.setQuotas([Gcra.rate(1, 20_000_000, 1, true)])
    clock.advance(1000)
    limiter.beginUnsafe(first)
    enter(0, { key: "k" })
    clock.advance(1000)
    expect(times()).toEqual([1020])
    expect(limiter.size).toBe(0)
  })

  it("L1 strict: a longer window holds the starts before the change", () => {
    const { clock, limiter } = setup(perSecond(3, 3, true))
    expect(limiter.takeUnsafe("k", 1, 0)).toBe(true)
    limiter.setQuotas([Gcra.rate(3, 10 * second, 3, true)])
    clock.advance(9999)
    expect(limiter.takeUnsafe("k", 3, limiter.now())).toBe(false)
    clock.advance(1)
    expect(limiter.takeUnsafe("k", 3, limiter.now())).toBe(true)
  })

  it("L1 strict: a grant that begins calls nobody back: that would delay its effect", () => {
    const { clock, enter, limiter, starts, waiter } = setup(perSecond(2, 2, true))
    const late = waiter("late", { key: "a" })
    expect(limiter.takeUnsafe("a", 1, 0, late)).toBe(true)
    enter("next", { key: "a", tokens: 2 })
    enter("full", { key: "b", tokens: 2 })
    enter("due", { key: "b" })
    clock.block(1500)
    limiter.beginUnsafe(late)
    expect(starts).toEqual([[0, "full"]])
    clock.fire()
    clock.advance(2000)
    expect(starts).toEqual([[0, "full"], [1500, "due"], [2500, "next"]])
  })

  it("a waiter that becomes due while others start in the same step starts in the next one", () => {
    const { clock, enter, times } = setup(perSecond(1000))
    enter(0)
    for (let i = 1; i < 5; i++) enter(i, { andThen: () => clock.block(10) })
    clock.block(1)
    clock.fire()
    expect(times()).toEqual([0, 1])
  })
})

describe("order", () => {
  // What a caller throws is thrown in a turn that does not come.
  const { scheduler } = makeManualScheduler()
  placeLaws("in memory", (rate) => setupIn(Context.make(FiberScheduler.Scheduler, scheduler), rate))

  it("L2 retryAfter counts the tokens of a waiter in another's place, and no longer those of the other", () => {
    const { enter, limiter, waiter } = setup(perSecond(10, 2))
    enter("rest", { tokens: 2 })
    const waiting = ["a", "b", "c"].map((name) => enter(name))
    limiter.waitUnsafe(waiter("new", { tokens: 2 }), { insteadOf: waiting[1] })
    expect(limiter.retryAfterUnsafe(undefined, 1, limiter.now())).toBe(5 * 100_000_000)
  })

  it("a waiter that is called back may take, wait and cancel", () => {
    const { clock, enter, limiter, starts } = setup(perSecond(10))
    enter("a")
    enter("b", {
      andThen: () => {
        limiter.cancelUnsafe(c)
        enter("e")
      }
    })
    const c = enter("c")
    enter("d")
    clock.advance(1000)
    expect(starts).toEqual([[0, "a"], [100, "b"], [200, "d"], [300, "e"]])
  })
})

describe("timer", () => {
  it.effect("L5 one timer serves all waiters, and one all keys at rest", () =>
    Effect.gen(function*() {
      const { clock, enter, starts } = setup(perSecond(10))
      for (let i = 0; i < 3000; i++) enter(i, { key: `${i % 1000}` })
      expect(clock.pending).toBe(2)
      expect(clock.set).toBe(2)
      for (let i = 0; i < 3; i++) {
        clock.advance(100)
        yield* turns
      }
      expect(starts.length).toBe(3000)
      clock.advance(1000)
      expect(clock.pending).toBe(0)
    }))

  it("a timer is set once for each start, to the ceiling of the millisecond", () => {
    const { clock, enter, times } = setup(perSecond(3))
    for (let i = 0; i < 4; i++) enter(i)
    clock.advance(2000)
    expect(times()).toEqual([0, 334, 667, 1001])
    expect(clock.set).toBe(3)
  })

  it.effect("a step calls back 256 waiters at most, the next turn the others, and a newcomer queues behind all", () =>
    Effect.gen(function*() {
      const { clock, enter, limiter, starts, waiter } = setup(perSecond(1_000_000))
      for (let i = 0; i < 30_000; i++) enter(i, { andThen: () => limiter.settle() })
      clock.block(40)
      clock.fire()
      expect(starts.length).toBe(257)
      expect(limiter.takeUnsafe(undefined, 1, limiter.now())).toBe(false)
      limiter.waitUnsafe(waiter("new"))
      limiter.settle()
      expect(starts.length).toBe(257)
      yield* turns
      expect(starts.length).toBe(30_001)
      expect(starts.every(([, name], i) => name === (i === 30_000 ? "new" : i))).toBe(true)
    }))

  it.effect("waiters whose tokens exceed the new burst are refused in slices, in order, unless they have left", () =>
    Effect.gen(function*() {
      const { enter, limiter, refused } = setup(perSecond(10, 2))
      enter("a", { tokens: 2 })
      const waiters = Array.from({ length: 3000 }, (_, i) => enter(i, { tokens: 2 }))
      limiter.setQuotas([perSecond(10)])
      expect(refused.length).toBe(256)
      for (const i of [256, 2000]) limiter.cancelUnsafe(waiters[i]!)
      yield* turns
      expect(refused).toEqual(Array.from({ length: 3000 }, (_, i) => i).filter((i) => i !== 256 && i !== 2000))
    }))

  it.effect("a call that is refused when its quota has grown again is told what it asked for, and what there is", () =>
    Effect.gen(function*() {
      const handle = yield* RateLimiter.make({ limit: 10, window: "1 second", burst: 10 })
      const limiter = limiterOf(handle)
      assert(limiter instanceof LimiterMemory)
      yield* handle.consume({ tokens: 10 })
      const call = Effect.flip(handle.consume({ tokens: 10 }))
      const calls = yield* Effect.forEach(Array.from({ length: 300 }), () => fork(call))
      limiter.setQuotas([perSecond(10, 5)])
      limiter.setQuotas([perSecond(10, 20)])
      yield* turns
      const told = (yield* Effect.forEach(calls, Fiber.join)).map(({ reason }) =>
        reason._tag === "InsufficientCapacity" && [reason.what, reason.asked, reason.most]
      )
      expect(told).toEqual(calls.map((_, i) => ["tokens", 10, i < 256 ? 5 : 20]))
    }))

  it.effect("a waiter in the place of one that is still to be refused goes to the end, and both are called back", () =>
    Effect.gen(function*() {
      const { clock, enter, limiter, refused, starts, waiter } = setup(perSecond(10, 2))
      enter("a", { tokens: 2 })
      const waiters = Array.from({ length: 300 }, (_, i) => enter(i, { tokens: 2 }))
      enter("b")
      limiter.setQuotas([perSecond(10)])
      limiter.waitUnsafe(waiter("new"), { insteadOf: waiters[299] })
      yield* turns
      expect(refused.length).toBe(300)
      clock.advance(1000)
      expect(starts.map(([, name]) => name)).toEqual(["a", "b", "new"])
    }))

  it("a caller that throws as it is refused hurts neither the others nor who changes the quotas", () => {
    const turnByTurn = makeManualScheduler()
    const { limiter, refused, waiter } = setupIn(
      Context.make(FiberScheduler.Scheduler, turnByTurn.scheduler),
      perSecond(10, 2)
    )
    limiter.takeUnsafe(undefined, 2, 0)
    const throws = () => {
      throw new Error("not ours")
    }
    limiter.waitUnsafe({ ...waiter("b", { tokens: 2 }), onTooLarge: throws })
    limiter.waitUnsafe(waiter("c", { tokens: 2 }))
    limiter.setQuotas([perSecond(10)])
    expect(refused).toEqual(["c"])
    const flush = () => {
      while (turnByTurn.waiting > 0) turnByTurn.turn()
    }
    expect(flush).toThrow("not ours")
  })

  it.effect("a waiter that leaves after a change of the quotas, before its key is converted, lets those behind it start by the new ones", () =>
    Effect.gen(function*() {
      const { clock, enter, limiter, starts } = setup(perSecond(1), perSecond(5, 5), perSecond(9, 9))
      const keys = Array.from({ length: 600 }, (_, i) => `${i}`)
      for (const key of keys) enter("first", { key })
      const leaving = keys.map((key) => enter("leaves", { key }))
      for (const key of keys.slice(0, 300)) enter("stays", { key })
      starts.length = 0
      limiter.setQuotas([perSecond(1), perSecond(5, 5)])
      for (const waiter of leaving) limiter.cancelUnsafe(waiter)
      yield* turns
      clock.advance(999)
      expect(starts).toEqual([])
      clock.advance(1)
      yield* turns
      expect(starts).toEqual(Array.from({ length: 300 }, () => [1000, "stays"]))
      clock.advance(10_000)
      for (const key of keys.toReversed()) enter("later", { key })
      expect(starts.slice(300)).toEqual(keys.map(() => [11_000, "later"]))
    }))

  it.effect("a limiter that is closed calls nobody back in a later turn", () =>
    Effect.gen(function*() {
      const { clock, enter, limiter, starts } = setup(perSecond(1_000_000))
      for (let i = 0; i < 1000; i++) enter(i)
      clock.block(1)
      clock.fire()
      yield* limiter.close
      yield* turns
      expect(starts.length).toBe(257)
    }))

  it("an earlier due time moves the timer, a later one does not", () => {
    const { clock, enter, starts } = setup(perSecond(1, 5))
    enter("a", { key: "slow", tokens: 5 })
    enter("b", { key: "slow", tokens: 5 })
    enter("c", { key: "fast", tokens: 5 })
    enter("d", { key: "fast" })
    expect(clock.pending).toBe(2)
    clock.advance(10_000)
    expect(starts).toEqual([[0, "a"], [0, "c"], [1000, "d"], [5000, "b"]])
  })

  it("L5 no timer runs when nobody waits and every key has gone", () => {
    const { clock, enter, limiter } = setup(perSecond(1))
    enter("a")
    expect(clock.pending).toBe(0)
    const waiters = ["b", "c", "d"].map((name) => enter(name))
    expect(clock.pending).toBe(1)
    const other = enter("x", { key: "x" })
    const behind = enter("y", { key: "x" })
    expect(clock.pending).toBe(2)
    for (const waiter of waiters) limiter.cancelUnsafe(waiter)
    limiter.cancelUnsafe(other)
    limiter.cancelUnsafe(behind)
    expect(clock.pending).toBe(1)
    clock.advance(3000)
    expect(clock.pending).toBe(0)
  })

  it.effect("close ends the timer and leaves waiters to their owners", () =>
    Effect.gen(function*() {
      const { clock, enter, limiter, starts } = setup(perSecond(1))
      enter("a")
      const waiting = enter("b")
      // One for those who wait, one for keys at rest.
      enter("x", { key: "x" })
      expect(clock.pending).toBe(2)
      yield* limiter.close
      expect(clock.pending).toBe(0)
      // The last of a key to leave clears the timer, which is not set anew either.
      limiter.cancelUnsafe(waiting)
      clock.advance(5000)
      enter("c")
      enter("waits")
      enter("y", { key: "y" })
      expect(clock.pending).toBe(0)
      expect(starts).toEqual([[0, "a"], [0, "x"], [5000, "c"], [5000, "y"]])
    }))
})

describe("keys at rest", () => {
  it("L5 a million keys come and go, and nothing stays", () => {
    const { clock, limiter } = setup(perSecond(10))
    for (let i = 0; i < 1_000_000; i++) {
      limiter.takeUnsafe(`${i}`, 1, limiter.now())
      clock.block(0.001)
    }
    // 100 ms of keys are not at rest, and some more wait to be looked at.
    expect(limiter.size).toBeLessThan(400_000)
    clock.block(1000)
    for (let i = 0; limiter.size > 1 && i < 200_000; i++) limiter.takeUnsafe("last", 1, clock.now)
    expect(limiter.size).toBe(1)
  })

  it("L5 keys at rest are dropped without a call, 50 ms and one more rest after they came to rest at the latest", () => {
    for (const [limit, burst] of [[1, 1], [3, 1], [10, 10], [1000, 1], [1, 60]] as const) {
      const { clock, limiter } = setup(perSecond(limit, burst))
      for (let i = 0; i < 20; i++) {
        clock.advance(i % 7)
        for (let tokens = 1 + i % burst; tokens > 0; tokens--) limiter.takeUnsafe(`${i}`, 1, limiter.now())
      }
      const from = limiter.now()
      // A millisecond more: what a host's timer can tell.
      clock.advance((2 * (limiter.restAt() - from)) / 1e6 + 51)
      expect([limit, burst, limiter.size]).toEqual([limit, burst, 0])
      expect(clock.pending).toBe(0)
    }
  })

  it("L5 a hundred thousand keys at rest are dropped in slices", () => {
    const { clock, limiter } = setup(perSecond(10))
    for (let i = 0; i < 100_000; i++) limiter.takeUnsafe(`${i}`, 1, limiter.now())
    clock.block(178)
    clock.fire()
    expect(limiter.size).toBe(100_000 - 4096)
    clock.advance(1)
    expect(limiter.size).toBe(100_000 - 2 * 4096)
    clock.advance(30)
    expect(limiter.size).toBe(0)
    expect(clock.pending).toBe(0)
  })

  it("L5 strict: a key stays while a window holds a start of it or a grant has not begun", () => {
    const { clock, limiter, waiter } = setup(perSecond(10, 10, true))
    const late = waiter("late")
    limiter.takeUnsafe("begun", 1, limiter.now())
    limiter.takeUnsafe("late", 1, limiter.now(), late)
    clock.advance(999)
    expect(limiter.size).toBe(2)
    clock.advance(10_000)
    expect(limiter.size).toBe(1)
    limiter.beginUnsafe(late)
    expect(limiter.restAt()).toBe(limiter.now() + second)
    clock.advance(2100)
    expect(limiter.size).toBe(0)
  })

  it("L1 strict: calls that give all their tokens back push no start out of its window, however many they are", () => {
    const clock = new ManualClock()
    const limiter = new LimiterMemory([perSecond(2, 2, true)], Context.empty(), clock)
    const start = () => limiter.takeUnsafe("k", 1, Infinity, undefined)
    assert.isTrue(start())
    for (let i = 0; i < 100; i++) {
      const granted = { link: undefined }
      assert.isTrue(limiter.takeUnsafe("k", 1, Infinity, granted))
      const charge = limiter.chargeUnsafe("k", 1, granted)
      limiter.beginUnsafe(granted)
      limiter.settleUnsafe(charge, 0)
    }
    clock.block(500)
    assert.isTrue(start())
    for (const wait of [499, 499]) {
      clock.block(wait)
      assert.isFalse(start())
      clock.block(1)
      assert.isTrue(start())
    }
  })

  it("L5 strict: a key in use keeps the starts of a window, also where calls take nothing of the quota or give it back", () => {
    for (const gives of [false, true]) {
      const { clock, limiter, waiter } = setup(perSecond(10, 10, true), perSecond(1000, 1000))
      for (let i = 0; i < 10_000; i++) {
        const granted = waiter(i)
        expect(limiter.takeUnsafe("k", gives ? 1 : [0, 1], limiter.now(), granted)).toBe(true)
        if (gives) limiter.refundUnsafe(granted)
        else limiter.beginUnsafe(granted)
        clock.block(10)
      }
      const log = limiter.entries.get("k")!.rare?.log
      const arrays = Object.values(log ?? {}).filter((field) => field instanceof Float64Array)
      expect(arrays.reduce((bytes, { byteLength }) => bytes + byteLength, 0)).toBeLessThanOrEqual(16 * 128)
    }
  })

  it("L5 a call drops a few other keys at rest", () => {
    const { clock, limiter } = setup(perSecond(10, 2))
    for (let i = 0; i < 100; i++) limiter.takeUnsafe(`${i}`, 1, limiter.now())
    clock.block(10_000)
    limiter.takeUnsafe("x", 1, limiter.now())
    expect(limiter.size).toBe(101 - 8)
    for (let i = 0; i < 20; i++) {
      clock.block(10)
      limiter.takeUnsafe("x", 1, limiter.now())
    }
    expect(limiter.size).toBe(1)
  })

  it("L5 a key that is not at rest keeps its state", () => {
    const { clock, limiter } = setup(perSecond(1))
    limiter.takeUnsafe("a", 1, limiter.now())
    limiter.penalizeUnsafe("b", 3_600_000_000_000)
    for (let i = 0; i < 999; i++) {
      clock.block(1)
      limiter.takeUnsafe("x", 1, limiter.now())
    }
    expect(limiter.takeUnsafe("a", 1, limiter.now())).toBe(false)
    clock.block(1)
    expect(limiter.takeUnsafe("a", 1, limiter.now())).toBe(true)
    expect(limiter.takeUnsafe("b", 1, limiter.now())).toBe(false)
    clock.block(3_598_999)
    for (let i = 0; i < 100; i++) limiter.takeUnsafe("x", 1, limiter.now())
    expect(limiter.takeUnsafe("b", 1, limiter.now())).toBe(false)
    clock.block(1)
    expect(limiter.takeUnsafe("b", 1, limiter.now())).toBe(true)
  })

  it("L5 a key that is used once is checked once", () => {
    const { clock, limiter } = setup(perSecond(10))
    limiter.takeUnsafe("k", 1, 0)
    clock.advance(10_000)
    expect([limiter.size, clock.set]).toEqual([0, 1])
  })

  it("L5 a key stays while a call waits for it, and goes when the last one leaves", () => {
    const { clock, enter, limiter } = setup(perSecond(1))
    enter("a", { key: "a" })
    const waiter = enter("b", { key: "a" })
    clock.block(900)
    limiter.takeUnsafe("x", 1, limiter.now())
    expect(limiter.size).toBe(2)
    limiter.cancelUnsafe(waiter)
    clock.block(5000)
    limiter.takeUnsafe("x", 1, limiter.now())
    clock.block(5000)
    limiter.takeUnsafe("x", 1, limiter.now())
    expect(limiter.size).toBe(1)
  })

  it("L5 a key that was in use at each check is checked again when its last waiter leaves", () => {
    const { clock, enter, limiter } = setup(perSecond(1))
    enter("a", { key: "a" })
    const waiters = ["b", "c", "d"].map((name) => enter(name, { key: "a" }))
    clock.advance(1500)
    for (const waiter of waiters) limiter.cancelUnsafe(waiter)
    clock.advance(10_000)
    expect(limiter.size).toBe(0)
  })

  it("L5 a key stays while a grant has not begun, and goes once it has begun or is refunded", () => {
    for (const end of ["begins", "is refunded"]) {
      const { clock, limiter, waiter } = setup(perSecond(1))
      const late = waiter("late", { key: "k" })
      expect(limiter.takeUnsafe("k", 1, 0, late)).toBe(true)
      clock.advance(10_000)
      expect(limiter.size).toBe(1)
      if (end === "begins") limiter.beginUnsafe(late)
      else limiter.refundUnsafe(late)
      clock.advance(10_000)
      expect(limiter.size).toBe(0)
    }
  })

  it("a key that was dropped starts over once, not twice", () => {
    const { limiter } = setup(perSecond(1))
    const take = (key: string) => limiter.takeUnsafe(key, 1, limiter.now())
    take("k")
    limiter.resetUnsafe("k")
    expect([take("k"), take("x"), take("k")]).toEqual([true, true, false])
  })

  it("restAt is the time at which all keys are at rest", () => {
    const { clock, enter, limiter } = setup(perSecond(10, 3))
    const restAt = () => limiter.restAt() / 1e6
    expect(restAt()).toBe(0)
    for (let i = 0; i < 3; i++) enter(i)
    enter("other", { key: "k" })
    expect(restAt()).toBe(300)
    clock.block(100)
    limiter.penalizeUnsafe("p", second)
    expect(restAt()).toBe(1300)
    limiter.setQuotas([perSecond(1, 3)])
    expect(restAt()).toBe(3100)
  })

  it("strict: restAt counts from the time at which each start begins", () => {
    const { clock, limiter, waiter } = setup(perSecond(10, 1, true))
    const restAt = () => limiter.restAt() / 1e6
    const late = waiter("late")
    limiter.takeUnsafe("a", 1, 0)
    expect(restAt()).toBe(1000)
    limiter.takeUnsafe("b", 1, 0, late)
    clock.block(500)
    limiter.beginUnsafe(late)
    expect(restAt()).toBe(1500)
    limiter.setQuotas([Gcra.rate(10, 3 * second, 1, true)])
    expect(restAt()).toBe(3500)
  })
})

describe("refusals", () => {
  /** How many of the waiters are looked at. */
  const looks = (rates: ReadonlyArray<Gcra.Rate>, late: number, ask: (limiter: LimiterMemory) => unknown) => {
    const { clock, enter, limiter, waiter } = setup(...rates)
    let count = 0
    enter("first", { key: "k" })
    for (let i = 0; i < 2000; i++) {
      limiter.waitUnsafe(Object.defineProperty(waiter(i, { key: "k" }), "tokens", { get: () => (count++, 1) }))
    }
    clock.block(late)
    count = 0
    ask(limiter)
    return count
  }

  it("L2 a call is refused without a look at all who wait, also while some of them are late", () => {
    const quota = perSecond(1000)
    expect(looks([quota], 0, (limiter) => limiter.refusalUnsafe("k", 1, limiter.now()))).toBe(0)
    expect(looks([quota], 10, (limiter) => limiter.refusalUnsafe("k", 1, limiter.now()))).toBeLessThan(100)
  })

  it("O1 with several quotas, or a strict one, a call with a maxWait is refused by a look at 256 of those who wait", () => {
    for (const rates of [[perSecond(1000, 1, true)], [perSecond(1000), Gcra.rate(30_000, 60 * second, 5, false)]]) {
      expect(looks(rates, 0, (limiter) => limiter.refusalUnsafe("k", 1, limiter.now()))).toBe(256)
    }
  })
})

describe("changed quotas", () => {
  it("a key at rest has the new burst, whether it was dropped or not", () => {
    const { clock, limiter } = setup(perSecond(10, 2))
    limiter.takeUnsafe("k", 2, 0)
    clock.block(1000)
    limiter.setQuotas([perSecond(10, 10)])
    expect(limiter.standingUnsafe("k", limiter.now()).remaining).toBe(10)
    expect(limiter.takeUnsafe("k", 10, limiter.now())).toBe(true)
  })

  it("L5 a quota that replaces two takes over the larger debt", () => {
    for (const rates of [[perSecond(100, 100), perSecond(10, 100)], [perSecond(10, 100), perSecond(100, 100)]]) {
      const { limiter } = setup(...rates)
      expect(limiter.takeUnsafe("k", 100, 0)).toBe(true)
      limiter.setQuotas([perSecond(20, 100)])
      // A hundred tokens are owed whatever they were charged to; they come back at the new pace.
      expect(limiter.standingUnsafe("k", 0)).toEqual({ limit: 20, remaining: 0, resetAfter: 5 * second })
      expect(limiter.retryAfterUnsafe("k", 1, 0)).toBe(second / 20)
    }
    for (const rates of [[perSecond(100, 100), perSecond(10, 100)], [perSecond(10, 100), perSecond(100, 100)]]) {
      const { clock, limiter } = setup(...rates)
      limiter.takeUnsafe("k", 100, 0)
      clock.block(1000)
      // Of the fast one nothing is owed any more, of the slow one ninety tokens.
      limiter.setQuotas([perSecond(20, 100)])
      expect(limiter.standingUnsafe("k", limiter.now()).resetAfter).toBe(4.5 * second)
    }
  })

  it("L1 strict: tokens owed without a log count as started when the quota becomes strict", () => {
    const { clock, limiter } = setup(perSecond(10, 10))
    limiter.takeUnsafe("k", 10, 0)
    clock.block(200)
    limiter.setQuotas([perSecond(10, 10, true)])
    expect(limiter.standingUnsafe("k", limiter.now())).toEqual({ limit: 10, remaining: 2, resetAfter: second })
    clock.block(999)
    expect(limiter.standingUnsafe("k", limiter.now()).remaining).toBe(2)
    clock.block(1)
    expect(limiter.standingUnsafe("k", limiter.now()).remaining).toBe(10)
  })

  it("L1 strict: a change of the quotas adds nothing to a penalty that is over, of a key that has not started", () => {
    const rates = [perSecond(10, 10, true), perSecond(100, 100)]
    const [same, changed] = [setup(...rates), setup(...rates)].map(({ clock, limiter }) => {
      limiter.penalizeUnsafe("k", second)
      clock.block(1000)
      return { clock, limiter }
    })
    changed!.limiter.setQuotas(rates)
    for (let i = 0; i < 15; i++) {
      const [a, b] = [same!, changed!].map(({ clock, limiter }) => {
        clock.block(100)
        return [limiter.standingUnsafe("k", limiter.now()), limiter.takeUnsafe("k", 1, limiter.now())]
      })
      expect(b).toEqual(a)
    }
  })

  it("L1 strict: a hundred thousand starts of a key cost the same each: those before its window are forgotten", () => {
    const { clock, limiter } = setup(perSecond(10, 10, true))
    let started = 0
    for (let i = 0; i < 100_000; i++) {
      clock.block(100)
      if (limiter.takeUnsafe("k", 1, limiter.now())) started++
    }
    expect(started).toBe(100_000)
  })

  it("L1 strict: no window across a change of the burst or the limit holds more than the larger limit", () => {
    for (
      const [from, to] of [
        [perSecond(10, 10, true), perSecond(10, 1, true)],
        [perSecond(10, 1, true), perSecond(10, 5, true)],
        [perSecond(10, 10, true), perSecond(9, 1, true)],
        [perSecond(10, 1, true), perSecond(5, 1, true)]
      ] as const
    ) {
      for (const at of [10, 500]) {
        const { clock, enter, limiter, times } = setup(from)
        for (let i = 0; i < 60; i++) enter(i)
        clock.advance(at)
        limiter.setQuotas([to])
        clock.advance(15_000)
        const starts = times()
        expect(starts.length).toBe(60)
        for (let i = 0; i + 10 < starts.length; i++) expect(starts[i + 10]! - starts[i]!).toBeGreaterThanOrEqual(1000)
      }
    }
  })

  it("L1 strict: two quotas of the same limit and window admit what one of them does, after a change too", () => {
    const quota = perSecond(4, 4, true)
    const { clock, enter, limiter, times } = setup(quota, quota)
    enter(0)
    limiter.setQuotas([quota, quota])
    for (let i = 1; i < 12; i++) enter(i)
    clock.advance(2000)
    expect(times()).toEqual([0, 0, 0, 0, 1000, 1000, 1000, 1000, 2000, 2000, 2000, 2000])
  })

  it("L6 waiters whose tokens exceed the new burst are refused, and the waiters behind them move up", () => {
    const { clock, enter, limiter, refused, starts } = setup(perSecond(10, 5))
    enter("a", { tokens: 5 })
    enter("heavy", { tokens: 4 })
    enter("light", { tokens: 2 })
    limiter.setQuotas([perSecond(10, 2)])
    expect(refused).toEqual(["heavy"])
    clock.advance(1000)
    expect(starts).toEqual([[0, "a"], [500, "light"]])
    limiter.waitUnsafe(enter("later", { tokens: 3 }))
    expect(refused).toEqual(["heavy", "later", "later"])
  })
})

describe("quotas changed with many keys", () => {
  it.effect("L5 a change of the quotas reaches keys in slices, keys with waiters first", () =>
    Effect.gen(function*() {
      const { clock, limiter, starts, waiter } = setup(perSecond(1))
      for (let i = 0; i < 50_000; i++) limiter.takeUnsafe(`${i}`, 1, limiter.now())
      limiter.takeUnsafe("last", 1, limiter.now())
      clock.block(900)
      limiter.waitUnsafe(waiter("waits", { key: "last" }))
      clock.block(2000)
      limiter.setQuotas([perSecond(10)])
      expect(starts).toEqual([[2900, "waits"]])
      expect(limiter.size).toBeGreaterThan(48_900)
      expect(limiter.restAt()).toBe(Infinity)
      yield* turns
      expect(limiter.size).toBe(1)
      expect(limiter.restAt()).toBe(2950 * 1e6)
    }))

  it("L5 a waiter has the new pace at once, however many keys are still to be converted", () => {
    const { clock, limiter, starts, waiter } = setup(perSecond(1))
    for (let i = 0; i < 5000; i++) limiter.takeUnsafe(`${i}`, 1, limiter.now())
    limiter.takeUnsafe("last", 1, limiter.now())
    limiter.waitUnsafe(waiter("waits", { key: "last" }))
    clock.block(950)
    limiter.setQuotas([perSecond(10)])
    clock.advance(5)
    expect(starts).toEqual([[955, "waits"]])
  })

  it.effect("L5 a second change that comes before the first has reached all keys reaches all", () =>
    Effect.gen(function*() {
      const { clock, limiter } = setup(perSecond(1, 5))
      for (let i = 0; i < 10_000; i++) limiter.takeUnsafe(`${i}`, 5, limiter.now())
      limiter.setQuotas([perSecond(10, 5)])
      yield* Effect.yieldNow
      limiter.setQuotas([perSecond(100, 5)])
      yield* turns
      expect(limiter.restAt()).toBe(50 * 1e6)
      clock.advance(200)
      expect(limiter.size).toBe(0)
    }))

  it.effect("L5 a key that changes reach late is judged as if each had reached it at once", () =>
    Effect.gen(function*() {
      for (let seed = 1; seed <= 60; seed++) {
        const next = random(seed)
        const quota = (): Gcra.Rate => {
          const limit = 1 + next(20)
          return perSecond(limit, 1 + next(limit), next(3) === 0)
        }
        const quotas = () => Array.from({ length: 1 + next(2) }, quota)
        const from = quotas()
        const soon = setup(...from)
        const late = setup(...from)
        const both = [soon, late]
        // More than one step tells of a change.
        for (let i = 0; i < 1100; i++) late.limiter.penalizeUnsafe(`before ${i}`, 1e6 * second)
        const open: Array<ReadonlyArray<Waiter>> = []
        const agree = (key: string) => {
          const [one, other] = both.map(({ limiter }) => [
            limiter.standingUnsafe(key, limiter.now()),
            limiter.retryAfterUnsafe(key, 1, limiter.now())
          ])
          expect(other, `seed ${seed}`).toEqual(one)
        }
        for (let op = 0; op < 80; op++) {
          const key = "abcd"[next(4)]!
          const tokens = 1 + next(3)
          const one = open.length === 0 ? undefined : open[next(open.length)]!
          const kind = next(12)
          const millis = next(400)
          const to = kind < 3 ? quotas() : []
          const waiters = both.map(({ waiter }) => waiter(op, { key, tokens, begins: false }))
          const taken = both.map(({ clock, limiter }, i) => {
            const own = waiters[i]!
            if (kind < 3) limiter.setQuotas(to)
            else if (kind < 5) return limiter.takeUnsafe(key, tokens, limiter.now(), kind === 3 ? own : undefined)
            else if (kind === 5) limiter.waitUnsafe(own)
            else if (kind === 6 && one !== undefined) limiter.beginUnsafe(one[i]!)
            else if (kind === 7 && one !== undefined) limiter.refundUnsafe(one[i]!)
            else if (kind === 8 && one !== undefined) limiter.cancelUnsafe(one[i]!)
            else if (kind === 9) limiter.penalizeUnsafe(key, millis * 1e6)
            else if (kind === 10 && tokens === 1) limiter.resetUnsafe(key)
            else clock.advance(millis)
            return undefined
          })
          expect(taken[1], `seed ${seed}`).toBe(taken[0])
          if (kind === 3 || kind === 5) open.push(waiters)
          if (next(3) === 0) agree(key)
        }
        yield* turns
        expect(late.starts, `seed ${seed}`).toEqual(soon.starts)
        expect(late.refused.toSorted(), `seed ${seed}`).toEqual(soon.refused.toSorted())
        for (const key of "abcd") agree(key)
      }
    }))

  it("L6 waiters are refused also when a granted waiter changes the quotas", () => {
    const { clock, enter, limiter, refused, starts } = setup(perSecond(10, 5))
    enter("full", { key: "a", tokens: 5 })
    enter("full", { key: "b", tokens: 5 })
    enter("heavy", { key: "b", tokens: 4 })
    enter("light", { key: "a", andThen: () => limiter.setQuotas([perSecond(10, 2)]) })
    clock.advance(150)
    expect(starts.at(-1)).toEqual([100, "light"])
    expect(refused).toEqual(["heavy"])
  })
})

describe("penalty and reset", () => {
  it("a penalty is exact to the nanosecond, also where the burst takes decades to come back", () => {
    const { clock, limiter } = setup(perSecond(100, 2.8e11))
    limiter.penalizeUnsafe("k", second + 1)
    clock.block(1000)
    expect(limiter.takeUnsafe("k", 1, limiter.now())).toBe(false)
    expect(limiter.retryAfterUnsafe("k", 1, limiter.now())).toBe(1)
    clock.block(0.000001)
    expect(limiter.takeUnsafe("k", 1, limiter.now())).toBe(true)
  })

  it("a reset forgets a penalty and, if nobody waits, the key", () => {
    const { limiter } = setup(perSecond(1))
    limiter.penalizeUnsafe("k", 3600 * second)
    limiter.resetUnsafe("k")
    limiter.resetUnsafe("never seen")
    expect(limiter.size).toBe(0)
    expect(limiter.takeUnsafe("k", 1, 0)).toBe(true)
  })
})

describe("standing and retryAfter", () => {
  it("L2 retryAfter counts those who wait, in one quota and in several", () => {
    for (const rates of [[perSecond(10, 2)], [perSecond(10, 2), Gcra.rate(1000, second, 50, false)]]) {
      const { clock, enter, limiter } = setup(...rates)
      for (let i = 0; i < 5; i++) enter(i)
      const retryAfter = limiter.retryAfterUnsafe(undefined, 1, limiter.now())
      expect(retryAfter).toBe(400_000_000)
      clock.advance(399.999999)
      expect(limiter.takeUnsafe(undefined, 1, limiter.now())).toBe(false)
      clock.advance(0.000001)
      expect(limiter.takeUnsafe(undefined, 1, limiter.now())).toBe(true)
    }
  })

  it.prop(
    "L2 retryAfter is exact, whatever was granted, waits, is penalized and began in another order",
    {
      quotas: Schema.Array(Schema.Struct({
        limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
        millis: Schema.Int.check(Schema.isBetween({ minimum: 20, maximum: 400 })),
        burst: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
        strict: Schema.Boolean
      })).check(Schema.isMinLength(1), Schema.isMaxLength(3)),
      steps: Schema.Array(Schema.Struct({
        gap: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 150 })),
        what: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 11 })),
        tokens: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 }))
      })).check(Schema.isMaxLength(14))
    },
    ({ quotas, steps }) => {
      // In whole milliseconds, so that no timer is late.
      const rates = quotas.map(({ burst, limit, millis, strict }) =>
        Gcra.rate(limit, limit * millis * 1e6, strict ? Math.min(burst, limit) : burst, strict)
      )
      const { clock, enter, limiter, waiter } = setup(...rates)
      const within = (tokens: number) => Math.min(tokens, limiter.burst)
      const granted: Array<Waiter> = []
      for (const { gap, tokens, what } of steps) {
        clock.advance(gap)
        if (what < 5) enter("w", { tokens: within(tokens) })
        else if (what < 9) {
          const later = waiter("later")
          if (limiter.takeUnsafe(undefined, within(tokens), limiter.now(), later)) granted.push(later)
        } else if (what < 11 && granted.length > 0) limiter.beginUnsafe(granted.pop()!)
        else limiter.penalizeUnsafe(undefined, tokens * 50e6)
      }
      for (const each of granted.reverse()) limiter.beginUnsafe(each)
      const asked = within(steps.length % 3 + 1)
      const retryAfter = limiter.retryAfterUnsafe(undefined, asked, limiter.now())
      // Asking changes nothing.
      expect(limiter.retryAfterUnsafe(undefined, asked, limiter.now())).toBe(retryAfter)
      if (retryAfter > 0) {
        clock.advance((retryAfter - 1) / 1e6)
        expect(limiter.takeUnsafe(undefined, asked, limiter.now())).toBe(false)
        clock.advance(1e-6)
      } else {
        clock.fire()
      }
      expect(limiter.takeUnsafe(undefined, asked, limiter.now())).toBe(true)
    },
    { arbitrary: { runs: 500 } }
  )

  it("remaining is the number of tokens for another call: 0 while others wait", () => {
    const { enter, limiter } = setup(perSecond(10, 4))
    enter("a", { tokens: 2 })
    expect(limiter.standingUnsafe(undefined, 0)).toEqual({ limit: 10, remaining: 2, resetAfter: 200_000_000 })
    const heavy = enter("b", { tokens: 3 })
    expect(limiter.standingUnsafe(undefined, 0).remaining).toBe(0)
    limiter.cancelUnsafe(heavy)
    expect(limiter.standingUnsafe(undefined, 0).remaining).toBe(2)
    expect(limiter.standingUnsafe("other", 0)).toEqual({ limit: 10, remaining: 4, resetAfter: 0 })
    limiter.penalizeUnsafe("other", second)
    expect(limiter.standingUnsafe("other", 0).remaining).toBe(0)
    const two = setup(perSecond(10, 4), perSecond(5, 3))
    two.enter("a", { tokens: 2 })
    expect(two.limiter.standingUnsafe(undefined, 0)).toEqual({ limit: 5, remaining: 1, resetAfter: 400_000_000 })
    two.enter("b", { tokens: 3 })
    expect(two.limiter.standingUnsafe(undefined, 0).remaining).toBe(0)
  })

  it("a handle of another maker has no limiter", () => {
    expect(limiterOf({})).toBe(undefined)
  })
})

describe("the axis of time", () => {
  it("no state is lost when the axis starts over, after 52 days", () => {
    for (const strict of [false, true]) {
      const { clock, enter, limiter, starts, waiter } = setup(perSecond(2, 2, strict))
      const began = 53 * 86_400_000
      clock.block(began)
      const take = (key: string, tokens: number, later?: Waiter) => limiter.takeUnsafe(key, tokens, Infinity, later)
      const granted = waiter("granted", { since: Infinity })
      const never = waiter("never", { since: Infinity })
      for (const key of ["a", "a", "b", "b", "c", "d"]) expect(take(key, 1)).toBe(true)
      expect([take("c", 1, granted), take("d", 1, never), take("untouched", 1)]).toEqual([true, true, true])
      limiter.penalizeUnsafe("p", 1200 * 1e6)
      limiter.waitUnsafe(waiter("first", { key: "a", since: Infinity }))
      clock.block(100)
      // The axis begins anew.
      expect(limiter.now()).toBe(0)
      expect(limiter.standingUnsafe("p", 0).resetAfter / 1e6).toBe(1600)
      const timers = clock.set
      enter("second", { key: "b", tokens: 2 })
      enter("penalized", { key: "p" })
      expect(take("later", 1)).toBe(true)
      // The timers that are set are earlier.
      expect(clock.set).toBe(timers)
      limiter.beginUnsafe(granted)
      limiter.refundUnsafe(never)
      expect([take("c", 1), take("d", 1)]).toEqual([false, true])
      clock.advance(10_000)
      expect(starts.map(([at, name]) => [at - began, name])).toEqual(
        strict
          ? [[1000, "first"], [1000, "second"], [1200, "penalized"]]
          : [[500, "first"], [1000, "second"], [1200, "penalized"]]
      )
      expect([limiter.size, clock.pending]).toEqual([0, 0])
    }
  })
})

describe("many", () => {
  it("a hundred thousand waiters that leave in any order are cheap", () => {
    const { clock, enter, limiter, starts } = setup(perSecond(1000))
    const waiters = Array.from({ length: 100_000 }, (_, i) => enter(i))
    // Every second one leaves, from the middle outwards.
    for (let i = 0; i < 25_000; i++) {
      limiter.cancelUnsafe(waiters[50_000 + 2 * i]!)
      limiter.cancelUnsafe(waiters[50_000 - 2 * i]!)
    }
    clock.advance(60_000)
    expect(starts.length).toBeGreaterThan(50_000)
    expect(starts.slice(1).every(([, name], i) => i === 0 || Number(name) > Number(starts[i]![1]))).toBe(true)
  })
})
