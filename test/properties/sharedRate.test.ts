/**
 * Two schedulers and direct consumers on one limiter, checked against the laws of starts.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import type { Waiter } from "../../src/internal/limiter/limiter.js"
import { LimiterMemory } from "../../src/internal/limiter/memory.js"
import { Engine } from "../../src/internal/scheduler/engine.js"
import { Job } from "../../src/internal/scheduler/job.js"
import { unbounded } from "../../src/internal/scheduler/options.js"
import { ManualClock } from "../support/manualClock.js"
import { ownLane } from "../support/ownLane.js"
import { eachSeed, random } from "../support/random.js"
import { TestJob } from "../support/testJob.js"

const ms = 1_000_000

class Consumer implements Waiter {
  readonly key = undefined
  link: unknown = undefined
  readonly tokens: number
  readonly since: number
  private readonly started: (self: Consumer) => void
  constructor(tokens: number, since: number, started: (self: Consumer) => void) {
    this.tokens = tokens
    this.since = since
    this.started = started
  }
  onDue(): void {
    this.started(this)
  }
  onTooLarge(): void {}
  onFailure(): void {}
}

const simulate = (seed: number) => {
  const next = random(seed)
  const clock = new ManualClock()
  const burst = 1 + next(3)
  const limit = burst + next(20)
  const window = (10 + next(500)) * ms
  const interval = Math.ceil(window / limit)
  const limiter = new LimiterMemory([Gcra.rate(limit, window, burst, true)], clock.context, clock)
  const tasks: Array<() => void> = []
  const dispatcher = { scheduleTask: (task: () => void) => void tasks.push(task), flush() {} }
  const engines = [1, 2].map(() =>
    new Engine(
      { ...unbounded("test"), concurrency: 1 + next(5), maxQueued: next(3) === 0 ? next(6) : Infinity },
      { context: clock.context, clock, dispatcher },
      limiter
    )
  )
  const jobs: Array<TestJob> = []
  const engineFor = new Map<TestJob, Engine>()
  const consumers: Array<Consumer> = []
  // An assertion that fails inside a timer would be a defect of that timer.
  const problems: Array<string> = []
  const starts: Array<readonly [number, number]> = []
  const reentrant = next(2) === 0
  /** When the whole burst is free: if all lateness is made up, and if none is. */
  let soonest = -Infinity
  let latest = -Infinity

  /** When the window has room for so many tokens. */
  const windowDue = (tokens: number) => {
    let held = tokens
    for (let i = starts.length - 1; i >= 0; i--) {
      held += starts[i]![1]
      if (held > limit) return starts[i]![0] + window
    }
    return -Infinity
  }
  const spend = (tokens: number) => {
    if (tokens === 0) return
    const now = limiter.now()
    const due = Math.max(soonest - (burst - tokens) * interval, windowDue(tokens))
    if (now < due) problems.push(`S1 started at ${now}, due at ${due}`)
    soonest = Math.max(soonest, now - 50 * ms) + tokens * interval
    latest = Math.max(latest, now) + tokens * interval
    starts.push([now, tokens])
  }
  const waits = (job: TestJob) => job.state === "Queued"
  const lenderOf = (job: Job, engine: Engine): Job | undefined => {
    for (let outer = job.outer; outer !== undefined; outer = outer.outer) {
      if (outer instanceof Job && outer.state === "Running" && outer.engine === engine) return outer
    }
    return undefined
  }
  const onStart = (job: TestJob) => {
    const engine = engineFor.get(job)!
    if (job.starts > 1 || job.state !== "Running") problems.push("S3 a job starts once, and not once it has left")
    if (engine.paused || engine.closed) problems.push("S8 nothing starts while paused or closed")
    if (engine.main.used > engine.main.capacity && !shrunk.has(engine)) problems.push("S1 never more than the width")
    const lender = lenderOf(job, engine)
    // A job that waited for room may have entered the queue in this step.
    const before = jobs.find((other) =>
      other !== job && other.state === "Queued" && !(other.patient && engine.limits.maxQueued < Infinity) &&
      engineFor.get(other) === engine &&
      lenderOf(other, engine) === lender && (other.priority > job.priority ||
        (other.priority === job.priority && order.get(other)! < order.get(job)!))
    )
    if (before !== undefined) problems.push(`S2 job ${job.number} overtook job ${before.number}`)
    engine.startedUnsafe(job)
    spend(job.tokens)
    if (reentrant) act(next(9), job)
  }
  // An outliving child counts anew, which may be more than the width for a while, as after a resize.
  const shrunk = new Set<Engine>()
  const order = new Map<TestJob, number>()
  let arrivals = 0

  const submit = () => {
    if (jobs.length >= 250) return
    const engine = engines[next(2)]!
    const cost = { weight: 1 + next(3), tokens: next(burst + 1), priority: next(3) }
    // The outer job runs or has ended: a waiting job submits nothing.
    const begun = jobs.filter((job) => job.state === "Running" || job.starts > 0)
    const outer = next(3) === 0 && begun.length > 0 ? begun[next(begun.length)] : undefined
    const job = new TestJob(jobs.length, cost, outer, onStart)
    jobs.push(job)
    engineFor.set(job, engine)
    order.set(job, arrivals++)
    engine.submitUnsafe(job)
  }
  const release = (job: TestJob | undefined) => {
    if (job === undefined) return
    const engine = engineFor.get(job)!
    if (ownLane(job) !== undefined) shrunk.add(engine)
    engine.releaseUnsafe(job)
  }
  const consume = () => {
    const self: Consumer = new Consumer(1 + next(burst), limiter.now(), () => {
      if (consumers.shift() !== self) problems.push("L3 consumers go in order of arrival")
      limiter.beginUnsafe(self)
      spend(self.tokens)
    })
    if (limiter.takeUnsafe(undefined, self.tokens, self.since)) return spend(self.tokens)
    consumers.push(self)
    limiter.waitUnsafe(self)
  }
  const act = (what: number, self: TestJob | undefined) => {
    if (what === 0) release(self)
    else if (what === 1) release(jobs[next(Math.max(1, jobs.length))])
    else if (what === 2) submit()
    else if (what === 3 && consumers.length > 0) {
      limiter.cancelUnsafe(consumers.splice(next(consumers.length), 1)[0]!)
    } else if (what === 4) consume()
  }
  const settle = () => {
    clock.fire()
    while (tasks.length > 0) tasks.shift()!()
  }

  for (let step = 0; step < 160; step++) {
    const what = next(24)
    const engine = engines[next(2)]!
    if (what < 7) submit()
    else if (what < 12) release(jobs.filter((job) => job.state === "Running" || waits(job))[next(6)])
    else if (what < 14) act(3 + next(2), undefined)
    else if (what === 14) engine.pauseUnsafe()
    else if (what === 15) engines.forEach((each) => each.resumeUnsafe())
    else if (what === 16 && next(3) === 0) {
      shrunk.add(engine)
      engine.resizeUnsafe(1 + next(6))
    } else if (what === 17) clock.block(next(60))
    else clock.advance(next(40), next(2) === 0 ? undefined : () => next(5))
    settle()
    expect(problems.join("; ")).toBe("")
    for (const each of engines) {
      const own = jobs.filter((job) => engineFor.get(job) === each)
      expect(each.running).toBe(own.filter((job) => job.state === "Running").length)
      expect(each.queued).toBe(own.filter(waits).length)
      for (const job of own) {
        if (job.state === "Running") {
          expect(ownLane(job)?.used ?? 0, "S5 what a job lends").toBeLessThanOrEqual(job.width)
        }
      }
      // A job that only the rate holds back starts when the whole burst is free at the latest.
      const ready = each.paused ? [] : [each.main, ...own.flatMap((job) => ownLane(job) ?? [])].filter((lane) => {
        const head = lane.head
        if (head === undefined) return false
        const width = lane === each.main ? head.weight : Math.min(head.weight, lane.capacity)
        return lane.used + width <= lane.capacity
      })
      if (ready.length > 0 || consumers.length > 0) {
        const full = Math.max(latest, windowDue(burst))
        expect(full, "S1 no permit idles while the rate is there").toBeGreaterThan(limiter.now() - 1.1 * ms)
      }
    }
  }
  for (let i = 0; i < starts.length; i++) {
    let tokens = 0
    for (let j = i; j < starts.length && starts[j]![0] - starts[i]![0] < window; j++) tokens += starts[j]![1]
    expect(tokens, "no window holds more than the limit").toBeLessThanOrEqual(limit)
  }
  const closing = next(2) === 0
  for (const engine of engines) {
    if (closing) engine.closeUnsafe()
    else engine.resumeUnsafe()
  }
  for (let round = 0; round < 400; round++) {
    for (const job of jobs) if (job.state === "Running") release(job)
    clock.advance(200)
    settle()
  }
  expect(problems.join("; ")).toBe("")
  expect(jobs.filter((job) => job.state !== "Done").map((job) => job.number), "nobody hangs").toEqual([])
  expect(consumers, "nobody hangs").toEqual([])
  for (const engine of engines) expect([engine.running, engine.queued, engine.main.used]).toEqual([0, 0, 0])
  expect(clock.pending, "no timer is left").toBe(0)
  return starts.length
}

describe("a limiter that schedulers and others share", () => {
  it("S1 to S5 and L3 hold for random jobs, nested and not, of two schedulers and consumers beside them", () => {
    expect(eachSeed(200, simulate).reduce((sum, starts) => sum + starts)).toBeGreaterThan(2000)
  })
})
