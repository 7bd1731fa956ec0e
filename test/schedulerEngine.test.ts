import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Scheduler as FiberScheduler } from "effect"
import { dispatcherIn } from "../src/internal/data/dispatcher.js"
import { piecesPerTurn } from "../src/internal/data/slices.js"
import * as Gcra from "../src/internal/limiter/gcra.js"
import type { Limiter, Waiter } from "../src/internal/limiter/limiter.js"
import { LimiterMemory } from "../src/internal/limiter/memory.js"
import { Engine } from "../src/internal/scheduler/engine.js"
import { Job } from "../src/internal/scheduler/job.js"
import { oneJob, unbounded } from "../src/internal/scheduler/options.js"
import type { SchedulerError } from "../src/internal/scheduler/error.js"
import { StoreError } from "../src/internal/store/storeError.js"
import { ManualClock } from "./support/manualClock.js"
import { makeManualScheduler } from "./support/manualScheduler.js"
import { ownLane } from "./support/ownLane.js"
import { place } from "./support/place.js"
import { random } from "./support/random.js"

interface Options {
  readonly weight?: number
  readonly priority?: number
  readonly outer?: Job | undefined
  readonly patient?: boolean
  readonly tokens?: number
  readonly maxWait?: number
  readonly onStart?: (job: TestJob) => void
  readonly onFailure?: (job: TestJob) => void
}

class TestJob extends Job {
  readonly id: number
  readonly log: Array<string>
  readonly start: ((job: TestJob) => void) | undefined
  readonly fail: ((job: TestJob) => void) | undefined
  error: SchedulerError | undefined
  closed = false
  constructor(id: number, log: Array<string>, options: Options = {}) {
    const { maxWait = Infinity, outer, patient = false, priority = 0, tokens = 1, weight = 1 } = options
    super({ ...oneJob, weight, tokens, priority, maxWait }, outer, patient)
    this.id = id
    this.log = log
    this.start = options.onStart
    this.fail = options.onFailure
  }
  onStart() {
    this.log.push(`start ${this.id}`)
    this.start?.(this)
  }
  onFailure(error: SchedulerError) {
    this.log.push(`fail ${this.id} ${error.reason._tag}`)
    this.error = error
    this.fail?.(this)
  }
  onClose() {
    this.log.push(`close ${this.id}`)
    this.closed = true
  }
}

const setup = (concurrency: number, maxQueued = Infinity, limiter?: Limiter<StoreError>) => {
  const turns = makeManualScheduler()
  const dispatcher = dispatcherIn(Context.make(FiberScheduler.Scheduler, turns.scheduler))
  const engine = new Engine({ ...unbounded("test"), concurrency, maxQueued }, { ...place, dispatcher }, limiter)
  const log: Array<string> = []
  let id = 0
  const job = (options?: Options) => new TestJob(id++, log, options)
  const submit = (options?: Options) => {
    const made = job(options)
    engine.submitUnsafe(made)
    return made
  }
  /** Runs turn after turn, until nothing waits for one. */
  const flush = () => {
    while (turns.waiting > 0) turns.turn()
  }
  return { engine, log, job, submit, flush }
}

class Consumer implements Waiter<StoreError> {
  readonly key = undefined
  readonly tokens = 1
  readonly since = 0
  link: unknown = undefined
  onDue() {}
  onTooLarge() {}
  onFailure() {}
}

const expectRest = (engine: Engine) => {
  expect({ running: engine.running, queued: engine.queued, used: engine.main.used, idle: engine.idle }).toEqual({
    running: 0,
    queued: 0,
    used: 0,
    idle: true
  })
}

describe("Engine", () => {
  it("S3 a job released before it was submitted never starts", () => {
    const { engine, job, log } = setup(1)
    const a = job()
    engine.releaseUnsafe(a)
    engine.submitUnsafe(a)
    expect(log).toEqual([])
    expectRest(engine)
  })

  it("S1 a job that throws as it starts hurts nobody in that step, and leaves the others startable", () => {
    const { engine, flush, log, submit } = setup(1)
    const first = submit()
    const bad = submit({
      onStart: () => {
        throw new Error("boom")
      }
    })
    submit()
    engine.releaseUnsafe(first)
    engine.releaseUnsafe(bad)
    expect(flush).toThrow("boom")
    flush()
    expect(log).toEqual(["start 0", "start 1", "start 2"])
  })

  describe("S5 lent weight", () => {
    it("a waiting job that is too heavy to run alone fails when its lender ends", () => {
      const { engine, submit } = setup(2)
      const outer = submit()
      const running = submit({ outer })
      const heavy = submit({ outer, weight: 3 })
      engine.releaseUnsafe(outer)
      expect(heavy.error?.reason).toMatchObject({ _tag: "InsufficientCapacity", what: "weight", asked: 3, most: 2 })
      engine.releaseUnsafe(running)
      expectRest(engine)
    })

    it("S6 a patient one that waits when its lender ends does not overfill the queue", () => {
      const { engine, submit } = setup(1, 1)
      const outer = submit()
      const running = submit({ outer })
      const patient = submit({ outer, patient: true })
      const first = submit()
      engine.releaseUnsafe(outer)
      expect([first.state, patient.state]).toEqual(["Queued", "Queued"])
      engine.releaseUnsafe(running)
      expect([first.state, patient.state]).toEqual(["Queued", "Running"])
    })

    it("without a bound on the width nothing waits inside a job either, and what it lent is accounted for", () => {
      const { engine, log, submit } = setup(Infinity)
      const outer = submit()
      const inner = [submit({ outer }), submit({ outer, weight: 5 })]
      expect(log).toHaveLength(3)
      engine.resizeUnsafe(2)
      const waiting = submit({ outer })
      expect([waiting.state, waiting.lane === engine.main]).toEqual(["Running", true])
      engine.releaseUnsafe(outer)
      for (const job of inner) engine.releaseUnsafe(job)
      expect(waiting.state).toBe("Running")
      engine.releaseUnsafe(waiting)
      expectRest(engine)
    })

    it("S6 the bound on waiting jobs holds for each job's own queue", () => {
      const { engine, submit } = setup(1, 1)
      const outer = submit()
      submit()
      submit({ outer })
      const waits = submit({ outer })
      const refused = submit({ outer })
      expect(waits.state).toBe("Queued")
      expect(refused.error?.reason).toMatchObject({ _tag: "QueueFull", queued: 1, maxQueued: 1 })
      expect(engine.queued).toBe(2)
    })
  })

  it("S8 closing tells those who wait and those who run, and starts nothing more", () => {
    const { engine, log, submit } = setup(1)
    const outer = submit()
    const inner = submit({ outer })
    submit({ outer })
    submit()
    engine.closeUnsafe()
    expect(log.slice(2).sort()).toEqual(["close 0", "close 1", "close 2", "close 3"])
    engine.releaseUnsafe(inner)
    engine.releaseUnsafe(outer)
    expectRest(engine)
    const late = submit()
    expect(late.closed).toBe(true)
    expectRest(engine)
  })

  it("S3 a claim that was withdrawn starts nothing, though its limiter tells it that it is due, refused or failed", () => {
    const clock = new ManualClock()
    const waiters: Array<Waiter<StoreError>> = []
    const limiter = Object.assign(new LimiterMemory([Gcra.rate(1, 1_000_000_000, 1, false)], clock.context, clock), {
      takeUnsafe: () => false,
      waitUnsafe: (waiter: Waiter<StoreError>) => void waiters.push(waiter),
      cancelUnsafe() {}
    })
    const { engine, log, submit } = setup(1, Infinity, limiter)
    engine.releaseUnsafe(submit())
    const second = submit()
    expect(waiters).toHaveLength(2)
    waiters[0]!.onDue()
    waiters[0]!.onTooLarge(0)
    waiters[0]!.onFailure(new StoreError({ operation: "take", cause: "gone" }))
    expect([log, waiters.length]).toEqual([[], 2])
    waiters[1]!.onDue()
    expect(log).toEqual(["start 1"])
    engine.releaseUnsafe(second)
    expectRest(engine)
  })

  it("S6 a job that finds a permit free once it comes to queue starts, though the queue is full", () => {
    const { engine, job, log, submit } = setup(1, 0)
    const first = submit()
    const second = job()
    expect(engine.startUnsafe(second)).toBe(false)
    engine.releaseUnsafe(first)
    engine.enqueueUnsafe(second)
    expect(log).toEqual(["start 0", "start 1"])
    engine.releaseUnsafe(second)
    expectRest(engine)
  })

  it("O1 a job that finds a permit free once it comes to queue starts, though it may not wait", () => {
    const { engine, job, log, submit } = setup(1)
    const first = submit()
    const second = job({ maxWait: 0 })
    expect(engine.startUnsafe(second)).toBe(false)
    engine.releaseUnsafe(first)
    engine.enqueueUnsafe(second)
    submit({ maxWait: 0 })
    expect(log).toEqual(["start 0", "start 1", "fail 2 WaitExceeded"])
    engine.releaseUnsafe(second)
    expectRest(engine)
  })

  it("S8 closing tells a bounded number in one turn; until they are told, who waits may leave, and who comes is told at once", () => {
    const { engine, flush, job, log, submit } = setup(1_000)
    const running = Array.from({ length: 1_000 }, () => submit())
    const waiting = Array.from({ length: 2_000 }, () => submit())
    log.length = 0
    engine.closeUnsafe()
    expect(log.length).toBeLessThanOrEqual(piecesPerTurn)
    expect(engine.telling).toBe(true)
    const gone = waiting.at(-1)!
    engine.releaseUnsafe(gone)
    engine.releaseUnsafe(running[0]!)
    const late = job()
    engine.submitUnsafe(late)
    expect(late.closed).toBe(true)
    flush()
    expect(engine.telling).toBe(false)
    expect([gone.closed, running[0]!.closed]).toEqual([false, false])
    expect([...running, ...waiting].filter((one) => one.closed)).toHaveLength(2_998)
    for (const one of running) engine.releaseUnsafe(one)
    expectRest(engine)
  })

  it("S8 closing tells all others if one of them throws", () => {
    const { engine, flush, submit } = setup(1)
    submit()
    const waiting = Array.from({ length: 3 }, () => submit())
    const more = Array.from({ length: 2_000 }, () => submit())
    waiting[0]!.onClose = () => {
      throw new Error("boom")
    }
    engine.closeUnsafe()
    expect(flush).toThrow("boom")
    flush()
    expect([...waiting.slice(1), ...more].every((one) => one.closed)).toBe(true)
  })

  it("S8 jobs that a smaller width refuses leave the queue at once, and one turn tells a bounded number of them", () => {
    const { engine, flush, log, submit } = setup(2)
    engine.pauseUnsafe()
    const heavy = Array.from({ length: 2_000 }, () => submit({ weight: 2 }))
    const light = submit()
    engine.resumeUnsafe()
    log.length = 0
    engine.resizeUnsafe(1)
    expect(engine.queued).toBe(1)
    engine.releaseUnsafe(heavy[0]!)
    expect(light.state).toBe("Running")
    expect(log.length).toBeLessThanOrEqual(piecesPerTurn + 1)
    flush()
    expect(heavy.slice(1).every((one) => one.error?.reason._tag === "InsufficientCapacity")).toBe(true)
  })

  it("S1 a refused job may use the rate: no other job starts on the claim that was made for it", () => {
    const clock = new ManualClock()
    const limiter = new LimiterMemory([Gcra.rate(10, 1_000_000_000, 3, false)], clock.context, clock)
    const { engine, log, submit } = setup(5, Infinity, limiter)
    limiter.takeUnsafe(undefined, 3, limiter.now())
    submit({ weight: 3, tokens: 1, onFailure: () => limiter.waitUnsafe(new Consumer()) })
    submit({ tokens: 3 })
    clock.block(130)
    engine.resizeUnsafe(2)
    expect(log).toEqual(["fail 0 InsufficientCapacity"])
    clock.advance(100)
    expect(log).toEqual(["fail 0 InsufficientCapacity"])
    clock.advance(100)
    expect(log).toEqual(["fail 0 InsufficientCapacity", "start 1"])
  })

  it("S3 a job that never begins gives its permit back though the caller throws who gets its rate", () => {
    const clock = new ManualClock()
    const turns = makeManualScheduler()
    const context = Context.add(clock.context, FiberScheduler.Scheduler, turns.scheduler)
    const { engine, job } = setup(1, Infinity, new LimiterMemory([Gcra.rate(1, 1e9, 1, true)], context, clock))
    const { limiter } = engine
    const leaves = job()
    const next = new Consumer()
    next.onDue = () => {
      throw new Error("of the next one")
    }
    leaves.onStart = () => {
      limiter!.waitUnsafe(next)
      engine.releaseUnsafe(leaves)
    }
    engine.submitUnsafe(leaves)
    expectRest(engine)
    expect(() => {
      while (turns.waiting > 0) turns.turn()
    }).toThrow("of the next one")
  })

  it("S3 a head that leaves while the limiter calls others back is not granted in its absence, nor the next one at its price", () => {
    const clock = new ManualClock()
    const limiter = new LimiterMemory([Gcra.rate(100, 1e9, 2, true)], clock.context, clock)
    const { engine, log, submit } = setup(10, Infinity, limiter)
    limiter.takeUnsafe("other key", 2, 0)
    submit({ tokens: 2 })
    submit()
    const dear = new TestJob(9, log, { tokens: 2, priority: 1 })
    limiter.waitUnsafe({
      key: "other key",
      tokens: 1,
      since: 0,
      onDue: () => engine.releaseUnsafe(dear),
      onTooLarge: () => {},
      onFailure: () => {}
    })
    clock.block(20)
    engine.submitUnsafe(dear)
    expect(log).toEqual(["start 0", "start 1"])
    expect(limiter.standingUnsafe(undefined, limiter.now()).remaining).toBe(1)
  })

  it("S3 the jobs that wait for the rate fail with its store, those of no tokens start, and the next one that comes asks", () => {
    const clock = new ManualClock()
    const waiters: Array<Waiter<StoreError>> = []
    const elsewhere: Limiter<StoreError> = {
      burst: 1,
      now: clock.currentTimeMillisUnsafe,
      takeUnsafe: () => false,
      strict: false,
      penalize: () => Effect.succeed(false),
      penaltyUnsafe: () => 0,
      beginUnsafe() {},
      refundUnsafe() {},
      waitUnsafe: (waiter) => void waiters.push(waiter),
      cancelUnsafe: (waiter) => void waiters.splice(waiters.indexOf(waiter), 1),
      setQuotas: () => {},
      restAt: () => 0,
      close: Effect.void
    }
    const { engine, log, submit } = setup(10, Infinity, elsewhere)
    const first = submit()
    submit()
    submit({ tokens: 0 })
    submit()
    expect(waiters).toHaveLength(1)
    waiters.shift()!.onFailure(new StoreError({ operation: "take", cause: "gone" }))
    expect(first.error?.reason).toMatchObject({ _tag: "StoreError", operation: "take", cause: "gone" })
    expect(first.error?.message).toBe("test: store command `take` failed: gone")
    expect(log).toEqual(["start 2", "fail 0 StoreError", "fail 1 StoreError", "fail 3 StoreError"])
    submit()
    submit()
    waiters.shift()!.onDue()
    expect(log.slice(4)).toEqual(["start 4"])
    expect(waiters).toHaveLength(1)
    engine.closeUnsafe()
    expect(waiters).toHaveLength(0)
  })

  it("S3 a store that fails in the very step in which it is asked fails each job once", () => {
    const failing: Limiter<StoreError> = {
      burst: 1,
      now: () => 0,
      takeUnsafe: () => false,
      strict: false,
      penalize: () => Effect.succeed(false),
      penaltyUnsafe: () => 0,
      beginUnsafe() {},
      refundUnsafe() {},
      waitUnsafe: (waiter) => waiter.onFailure(new StoreError({ operation: "take", cause: "gone" })),
      cancelUnsafe: () => {},
      setQuotas: () => {},
      restAt: () => 0,
      close: Effect.void
    }
    const { engine, log, submit } = setup(10, Infinity, failing)
    engine.pauseUnsafe()
    submit()
    submit()
    engine.resumeUnsafe()
    submit()
    expect(log).toEqual(["fail 0 StoreError", "fail 1 StoreError", "fail 2 StoreError"])
    expectRest(engine)
  })

  it("S5 a job submitted while another starts takes no cell ahead of the jobs inside a job", () => {
    const clock = new ManualClock()
    const limiter = new LimiterMemory([Gcra.rate(10, 1_000_000_000, 2, false)], clock.context, clock)
    const { engine, log, submit } = setup(10, Infinity, limiter)
    const outer = submit({ weight: 2, tokens: 0 })
    engine.pauseUnsafe()
    const first = submit({ outer, onStart: () => void submit() })
    const second = submit({ outer })
    engine.resumeUnsafe()
    expect([first.state, second.state]).toEqual(["Running", "Running"])
    expect(log).toEqual(["start 0", "start 1", "start 2"])
    clock.advance(100)
    expect(log).toEqual(["start 0", "start 1", "start 2", "start 3"])
  })

  it("S5 a job made in another one while a job starts takes no cell ahead of the jobs inside a job that came before", () => {
    const clock = new ManualClock()
    const limiter = new LimiterMemory([Gcra.rate(10, 1_000_000_000, 2, false)], clock.context, clock)
    const { engine, log, submit } = setup(10, Infinity, limiter)
    const [outer, other] = [submit({ weight: 2, tokens: 0 }), submit({ tokens: 0 })]
    engine.pauseUnsafe()
    const first = submit({ outer, onStart: () => void submit({ outer: other }) })
    const second = submit({ outer })
    engine.resumeUnsafe()
    expect([first.state, second.state]).toEqual(["Running", "Running"])
    expect(log).toEqual(["start 0", "start 1", "start 2", "start 3"])
    clock.advance(100)
    expect(log).toEqual(["start 0", "start 1", "start 2", "start 3", "start 4"])
  })

  it("S1 to S5 hold under random submissions, nested ones, releases, pauses and resizes", () => {
    for (let seed = 1; seed <= 75; seed++) {
      const next = random(seed)
      const { engine, job } = setup(1 + next(5), seed % 3 === 0 ? next(6) : Infinity)
      const jobs: Array<TestJob> = []
      const reentrant = next(2) === 0
      const submit = () => {
        const begun = jobs.filter((one) => one.state !== "Queued")
        const made: TestJob = job({
          weight: 1 + next(5),
          priority: next(3),
          patient: next(3) === 0,
          // Nothing is submitted from inside one that waits.
          outer: next(2) === 0 && begun.length > 0 ? begun[next(begun.length)] : undefined,
          onStart: () => {
            if (!reentrant) return
            const what = next(8)
            if (what === 0) engine.releaseUnsafe(made)
            if (what === 1 && jobs.length > 0) engine.releaseUnsafe(jobs[next(jobs.length)]!)
            if (what === 2 && jobs.length < 300) submit()
          }
        })
        jobs.push(made)
        engine.submitUnsafe(made)
      }
      const check = () => {
        const running = jobs.filter((_) => _.state === "Running")
        const waiting = jobs.filter((_) => _.state === "Queued")
        expect(engine.running).toBe(running.length)
        expect(engine.queued).toBe(waiting.length)
        // What is not lent by a job that still runs is what counts; what is lent adds up to no more than the lender has.
        const owners = new Map(running.flatMap((one) => {
          const lane = ownLane(one)
          return lane === undefined ? [] : [[lane, one] as const]
        }))
        const lent = new Map<Job | undefined, number>()
        for (const one of running) {
          let lane = one.lane!
          while (lane.forward !== undefined) lane = lane.forward
          const lender = owners.get(lane)
          lent.set(lender, (lent.get(lender) ?? 0) + one.width)
        }
        expect(engine.main.used).toBe(lent.get(undefined) ?? 0)
        const wrong = running.filter((one) => {
          const used = ownLane(one)?.used ?? 0
          return used !== (lent.get(one) ?? 0) || used > one.width
        })
        expect(wrong).toEqual([])
        // Nobody is left behind: where somebody waits, the first of them does not fit.
        if (engine.paused) return
        const leftBehind = [engine.main, ...owners.keys()].filter((lane) => {
          const { head } = lane
          if (head === undefined) return false
          const asks = lane === engine.main ? head.weight : Math.min(head.weight, lane.capacity)
          return lane.used + asks <= lane.capacity || head.state !== "Queued"
        })
        expect(leftBehind).toEqual([])
        expect(waiting.filter(({ lane }) => lane !== engine.main && !owners.has(lane!))).toEqual([])
      }
      for (let step = 0; step < 120; step++) {
        const what = next(20)
        const before = engine.main.used
        if (what < 10) submit()
        else if (what < 17 && jobs.length > 0) engine.releaseUnsafe(jobs[next(jobs.length)]!)
        else if (what === 17) engine.pauseUnsafe()
        else if (what === 18) engine.resumeUnsafe()
        else engine.resizeUnsafe(1 + next(6))
        expect(engine.main.used).toBeLessThanOrEqual(Math.max(before, engine.main.capacity))
        check()
      }
      engine.resumeUnsafe()
      for (let i = 0; i < jobs.length; i++) engine.releaseUnsafe(jobs[i]!)
      for (const one of jobs) expect(one.state).toBe("Done")
      expectRest(engine)
    }
  })
})
