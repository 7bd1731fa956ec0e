/**
 * The laws of a width that follows the other side (O6).
 */
import { assert, describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Logger } from "effect"
import { Scheduler } from "effect-funnel"
import * as Adaptive from "effect-funnel/Adaptive"
import { TestClock } from "effect/testing"
import { LatencyWidth } from "../src/internal/scheduler/width.js"
import { fork } from "./support/fibers.ts"
import { random } from "./support/random.js"
import { simulate } from "./support/simulation.js"

const millis = 1_000_000

/** A backend of so many workers, and the jobs that a scheduler sends to it in so many milliseconds of virtual time. */
const drive = (options: {
  readonly policy: Adaptive.Adaptive
  readonly workers: () => number
  readonly takes: (now: number) => number
  readonly callers: number
  readonly millis: number
  readonly fails?: (waiting: number) => boolean
}) => {
  const widths: Array<number> = []
  let now = 0
  const result = simulate((_, clock) =>
    Effect.scoped(Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: options.policy })
      const waiting: Array<() => void> = []
      let busy = 0
      const next = () => {
        while (busy < options.workers() && waiting.length > 0) {
          busy++
          waiting.shift()!()
        }
      }
      const job = Effect.suspend(() => {
        if (options.fails?.(waiting.length) === true) return Effect.fail(new Cause.TimeoutError())
        return Effect.callback<void>((resume) => {
          waiting.push(() => resume(Effect.void))
          next()
        }).pipe(
          Effect.andThen(Effect.suspend(() => Effect.sleep(options.takes(Number(clock.now) / millis)))),
          Effect.andThen(Effect.sync(() => {
            busy--
            next()
          }))
        )
      })
      const caller = Effect.forever(Effect.andThen(Effect.exit(scheduler.schedule(job)), Effect.sleep(1)))
      for (let i = 0; i < options.callers; i++) yield* Effect.forkChild(caller)
      for (now = 0; now < options.millis; now += 100) {
        yield* Effect.sleep(100)
        widths.push((yield* scheduler.stats).concurrency)
      }
    }))
  )
  assert.isTrue(result.exit !== undefined && Exit.isSuccess(result.exit))
  return widths
}

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Durations around a mean of 10 ms, most of them between 4 and 20 ms. */
const durations = (seed: number) => {
  const next = random(seed)
  const uniform = () => (next(2 ** 30) + 0.5) / 2 ** 30
  return () => 10 * Math.exp(0.5 * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()) - 0.125)
}

describe("Adaptive.latency", () => {
  it(
    "O6 the width finds the workers of a backend, from below and from above, with little more than they can do",
    () => {
      for (const initial of [1, 100]) {
        const policy = Adaptive.latency({ max: 200, initial })
        const widths = drive({ policy, workers: () => 20, takes: durations(initial), callers: 150, millis: 40_000 })
        const settled = mean(widths.slice(-100))
        expect(settled).toBeGreaterThan(20)
        expect(settled).toBeLessThan(30)
      }
    },
    60_000
  )

  it("O6 the width follows a backend that loses workers, and gets them back", () => {
    let at = 0
    const workers = () => at >= 10_000 && at < 20_000 ? 5 : 20
    const takes = durations(3)
    const widths = drive({
      policy: Adaptive.latency({ max: 200 }),
      workers,
      takes: (now) => {
        at = now
        return takes()
      },
      callers: 300,
      millis: 30_000
    })
    expect(mean(widths.slice(120, 200))).toBeLessThan(8)
    expect(mean(widths.slice(120, 200))).toBeGreaterThan(5)
    expect(mean(widths.slice(230))).toBeGreaterThan(20)
  })

  it("O6 a backend whose jobs become slower for good is not taken for one that queues", () => {
    const takes = durations(4)
    const widths = drive({
      policy: Adaptive.latency({ max: 200 }),
      workers: () => 20,
      takes: (now) => takes() * (1 + Math.min(1, now / 20_000)),
      callers: 300,
      millis: 60_000
    })
    expect(mean(widths.slice(-200))).toBeGreaterThan(19)
    expect(mean(widths.slice(-200))).toBeLessThan(30)
  })

  it("O6 a width that is not used does not grow", () => {
    const policy = Adaptive.latency({ max: 200, initial: 20 })
    const widths = drive({ policy, workers: () => 100, takes: durations(5), callers: 5, millis: 20_000 })
    expect(Math.max(...widths)).toBeLessThanOrEqual(20)
  })

  it("O6 timeouts shrink the width to the least, and never drive it up", () => {
    const policy = Adaptive.latency({ min: 2, max: 200 })
    const widths = drive({ policy, workers: () => 0, takes: () => 0, callers: 50, millis: 1000, fails: () => true })
    expect(widths.at(-1)).toBe(2)
    expect(Math.max(...widths)).toBeLessThanOrEqual(20)
  })

  /** Ends so many jobs of a latency in milliseconds, one each millisecond. Returns when. */
  const feed = (
    width: LatencyWidth,
    from: number,
    jobs: number,
    latency: number,
    { running = width.limit, saturated = true } = {}
  ) => {
    let now = from
    for (let i = 0; i < jobs; i++) {
      width.succeeded({ startedAt: (now - latency) * millis, now: now++ * millis, running, saturated })
    }
    return now
  }

  it("O6 a window of few jobs measures the baseline, and changes no width", () => {
    const width = new LatencyWidth(1, 100, 20)
    let now = feed(width, 1000, 200, 10)
    const before = width.limit
    now = feed(width, now, 80, 30, { running: 2, saturated: false })
    expect(width.limit).toBe(before)
    feed(width, now, 200, 30)
    expect(width.limit).toBeLessThan(before)
  })

  it("O6 a window in which as many jobs ran as in a probe measures the baseline", () => {
    for (const more of [0, 1]) {
      const width = new LatencyWidth(1, 100, 20)
      const probe = width.limit
      const now = feed(width, 1000, 60, 10)
      expect([probe, width.limit]).toEqual([13, 20])
      // The first thirty began before.
      feed(width, now, 120, 30, { running: probe - 1 + more, saturated: false })
      expect(width.limit === 20).toBe(more === 0)
    }
  })

  it("O6 a width that half of its jobs do not wait for does not grow, and one that they wait for does", () => {
    for (const saturated of [false, true]) {
      const width = new LatencyWidth(1, 100, 20)
      let most = 0
      let now = 1000
      for (let i = 0; i < 600; i++) {
        now = feed(width, now, 1, 10, { saturated: saturated || i % 4 === 0 })
        most = Math.max(most, width.limit)
      }
      expect(most > 20).toBe(saturated)
    }
  })

  it("O6 jobs that began before the width changed do not count", () => {
    const width = new LatencyWidth(1, 100, 20)
    const now = feed(width, 1000, 200, 10)
    const before = width.limit
    for (let i = 0; i < 500; i++) {
      width.succeeded({ startedAt: 0, now: (now + 1) * millis, running: width.limit, saturated: true })
    }
    expect(width.limit).toBe(before)
  })

  it("O6 a wide scheduler measures more jobs in a window: four for each place", () => {
    const width = new LatencyWidth(1, 100, 100)
    let jobs = 0
    for (let now = 1000; width.limit === 65; now++) {
      feed(width, now, 1, 10)
      jobs++
    }
    expect(jobs).toBe(260)
  })

  it("O6 after a fall nothing counts until no more jobs run than the width allows", () => {
    const width = new LatencyWidth(1, 100, 40)
    let now = feed(width, 1000, 200, 10)
    now = feed(width, now, 200, 60)
    const fallen = width.limit
    expect(fallen).toBeLessThan(20)
    now = feed(width, now, 500, 90, { running: fallen + 1 })
    expect(width.limit).toBe(fallen)
    now = feed(width, now, 1, 10, { running: fallen })
    feed(width, now + 100, 300, 10)
    expect(width.limit).not.toBe(fallen)
  })

  it("O6 after a fall no job counts that began while more jobs ran than the width allows", () => {
    const width = new LatencyWidth(1, 100, 40)
    let now = feed(width, 1000, 200, 10)
    now = feed(width, now, 200, 60)
    const fallen = width.limit
    const began = now + 1
    now = feed(width, now + 100, 1, 10, { running: fallen })
    for (let i = 0; i < 500; i++) {
      width.succeeded({ startedAt: began * millis, now: (now + i) * millis, running: fallen, saturated: true })
    }
    expect(width.limit).toBe(fallen)
    feed(width, now + 600, 300, 500)
    expect(width.limit).toBeLessThan(fallen)
  })

  it("O6 jobs that run at the same time shrink the width once", () => {
    const width = new LatencyWidth(1, 100, 100)
    const before = width.limit
    expect(width.overloaded({ startedAt: 0, now: 9, running: 50, saturated: true })).toBe(true)
    expect(width.overloaded({ startedAt: 0, now: 9, running: 50, saturated: true })).toBe(false)
    width.overloaded({ startedAt: 0, now: 10, running: 50, saturated: true })
    const after = width.limit
    expect(after).toBeLessThan(before)
    width.overloaded({ startedAt: 5, now: 11, running: 49, saturated: true })
    expect(width.limit).toBe(after)
    width.overloaded({ startedAt: 12, now: 20, running: 48, saturated: true })
    expect(width.limit).toBeLessThan(after)
  })

  it.effect("O6 a job that is heavier than the width starts alone, and one heavier than max is refused", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: Adaptive.latency({ max: 10, initial: 2 }) })
      expect(yield* scheduler.schedule(Effect.succeed(1), { weight: 10 })).toBe(1)
      const error = yield* Effect.flip(scheduler.schedule(Effect.void, { weight: 11 }))
      expect(error.reason).toMatchObject({ _tag: "InsufficientCapacity", asked: 11, most: 10 })
    }))

  it("O6 jobs inside jobs do not keep the width from adapting", () => {
    let limit = 0
    simulate(() =>
      Effect.scoped(Effect.gen(function*() {
        const policy = Adaptive.latency({ max: 100, initial: 10 })
        const scheduler = yield* Scheduler.make({ concurrency: policy })
        // Thirty jobs, each inside the one before, in the width of one.
        let chain: Effect.Effect<never, Scheduler.SchedulerError> = Effect.never
        for (let depth = 0; depth < 30; depth++) chain = scheduler.schedule(chain)
        yield* Effect.forkChild(chain)
        yield* Effect.yieldNow
        const job = (millis: number) => scheduler.schedule(Effect.sleep(millis))
        const crowd = (jobs: number, millis: number) =>
          Effect.forEach(Array.from({ length: jobs }), () => job(millis), { concurrency: "unbounded", discard: true })
        yield* crowd(300, 10)
        yield* scheduler.schedule(Effect.fail(new Cause.TimeoutError())).pipe(Effect.exit)
        const { concurrency } = yield* scheduler.stats
        yield* crowd(2000, 10)
        limit = (yield* scheduler.stats).concurrency - concurrency
      }))
    )
    expect(limit).toBeGreaterThan(0)
  })

  it.effect("O6 resize ends the adaption", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: Adaptive.latency({ max: 10 }) })
      yield* scheduler.resize(3)
      expect((yield* scheduler.stats).concurrency).toBe(3)
      yield* Effect.forEach(Array.from({ length: 500 }), () => scheduler.schedule(Effect.void))
      expect((yield* scheduler.stats).concurrency).toBe(3)
    }))

  it.effect("O6 an overload that throws is logged, and is no trouble for any job", () =>
    Effect.gen(function*() {
      const messages: Array<unknown> = []
      const overload = () => {
        throw new Error("broken")
      }
      const ran = yield* Effect.scoped(Effect.gen(function*() {
        const scheduler = yield* Scheduler.make({ concurrency: Adaptive.latency({ max: 1, overload }) })
        const job = Effect.exit(scheduler.schedule(Effect.sleep(10)))
        const items = Effect.exit(scheduler.forEach([1, 2], () => Effect.sleep(10), { discard: true }))
        const fibers = yield* Effect.forEach([job, job, items], (effect) => fork(effect))
        yield* TestClock.adjust(100)
        return fibers.map((fiber) => fiber.pollUnsafe()?._tag)
      })).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void messages.push(message))])))
      expect(ran).toEqual(["Success", "Success", "Success"])
      const [first] = messages
      expect([messages.length, String(first)]).toEqual([
        4,
        "effect-funnel/Scheduler: the function \"overload\" of its concurrency failed and was ignored"
      ])
    }))

  it.effect("O6 an overload that resizes its scheduler ends the adaption", () =>
    Effect.gen(function*() {
      let resize = Effect.void
      const overload = () => (Effect.runSync(resize), true)
      const scheduler = yield* Scheduler.make({ concurrency: Adaptive.latency({ max: 10, initial: 10, overload }) })
      resize = scheduler.resize(3)
      yield* scheduler.schedule(Effect.void)
      expect((yield* scheduler.stats).concurrency).toBe(3)
    }))

  it.effect("O6 where the clock does not move while jobs run, the width stays within its bounds", () =>
    Effect.gen(function*() {
      const scheduler = yield* Scheduler.make({ concurrency: Adaptive.latency({ max: 10, initial: 2 }) })
      let [running, most] = [0, 0]
      const job = Effect.gen(function*() {
        most = Math.max(most, ++running)
        yield* Effect.yieldNow
        running--
      })
      yield* Effect.forEach(Array.from({ length: 1000 }), () => scheduler.schedule(job), { concurrency: 50 })
      expect((yield* scheduler.stats).concurrency).toBe(10)
      expect(most).toBe(10)
    }))

  it("refuses nonsense with a RangeError that names the rule", () => {
    expect(() => Adaptive.latency({ max: 0 })).toThrow(
      new RangeError("Adaptive.latency: max must be an integer >= 1, got 0")
    )
    expect(() => Adaptive.latency({ min: 5, max: 4 })).toThrow(
      new RangeError("Adaptive.latency: max must be an integer >= 5, got 4")
    )
    for (const value of [NaN, 1.5, -1, Infinity]) {
      expect(() => Adaptive.latency({ min: value, max: 4 })).toThrow(
        new RangeError(`Adaptive.latency: min must be an integer >= 1, got ${value}`)
      )
      expect(() => Adaptive.latency({ max: 4, initial: value })).toThrow(
        new RangeError(`Adaptive.latency: initial must be an integer >= 1, got ${value}`)
      )
    }
  })
})
