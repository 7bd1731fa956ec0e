/**
 * Schedulers of several processes over one store of permits, checked against the laws of width.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import { LimiterMemory } from "../../src/internal/limiter/memory.js"
import { SharedLimiter } from "../../src/internal/shared/limiter.js"
import { PermitPool } from "../../src/internal/shared/permitPool.js"
import { Pulse } from "../../src/internal/shared/pulse.js"
import { Engine } from "../../src/internal/scheduler/engine.js"
import type { Job } from "../../src/internal/scheduler/job.js"
import { unbounded } from "../../src/internal/scheduler/options.js"
import * as Guard from "../../src/internal/store/guard.js"
import { GcraStoreModel } from "../support/gcraStoreModel.js"
import { ManualClock } from "../support/manualClock.js"
import { ownLane } from "../support/ownLane.js"
import { PermitStoreModel } from "../support/permitStoreModel.js"
import { eachSeed, random } from "../support/random.js"
import { TestJob } from "../support/testJob.js"

const simulate = (seed: number) => {
  const next = random(seed)
  const clock = new ManualClock()
  const context = Effect.runSync(
    Effect.provideContext(Effect.provide(Effect.context<never>(), Logger.layer([])), clock.context)
  )
  // A lease that ends while its process is frozen, and a store that is away, let more run than the limit, as the docs say.
  const strict = next(2) === 0
  const model = new PermitStoreModel(clock, strict ? 10_000 : 300)
  const rates = new GcraStoreModel(clock)
  rates.answerMillis = model.answerMillis = next(3) * 4
  const rated = next(2) === 0
  const policy = strict ? "fail" : "local"
  const guard = () => Guard.make({ service: "test", storeTimeoutMillis: 1000, outageBudgetMillis: 0 })
  const lossy = next(2) === 0
  model.loses = () => lossy && next(3) === 0
  const tasks: Array<() => void> = []
  const dispatcher = { scheduleTask: (task: () => void) => void tasks.push(task), flush() {} }
  const site = { context, clock, dispatcher }
  let limit = 1 + next(5)
  const processes = [0, 1, 2].map((n) => {
    const engine = new Engine({ ...unbounded("test"), concurrency: limit }, site)
    const pool: PermitPool = new PermitPool({
      engine,
      store: model.of(`node${n}`, () => tasks.push(() => pool.wake())),
      guard: guard(),
      pulse: new Pulse(site),
      limiterOf: (rates) => new LimiterMemory(rates, context, clock),
      onStoreError: policy,
      expectedProcesses: 3
    })
    if (rated) {
      const options = { store: rates.of, guard: guard(), onStoreError: policy, expectedProcesses: 3 } as const
      engine.adoptLimiterUnsafe(new SharedLimiter([Gcra.rate(200, 1e9, 3, false)], options, context, clock))
    }
    return { engine, pool }
  })
  const jobs: Array<TestJob> = []
  const engineOf = new Map<Job, Engine>()
  const problems: Array<string> = []
  let starts = 0
  /** The largest limit so far: what was held before it shrank ends by itself. */
  let most = limit
  /** Where a child outlived its node and counts anew, which may be more than the width for a while. */
  const crowded = new Set<Engine>()
  const onStart = (job: TestJob) => {
    const engine = engineOf.get(job)!
    starts++
    if (job.starts > 1 || job.state !== "Running") problems.push("S3 a job starts once, and not once it has left")
    if (engine.paused) problems.push("S8 nothing starts while paused")
    engine.startedUnsafe(job)
    if (!strict) return
    const held = processes.reduce((sum, { pool }) => sum + pool.size, 0)
    if (held > most) problems.push(`S1 the processes hold ${held} of ${most}`)
    if (engine.main.used > engine.main.capacity && !crowded.has(engine)) problems.push("S1 never more than is held")
  }
  const submit = () => {
    if (jobs.length >= 150) return
    const { engine } = processes[next(3)]!
    const running = jobs.filter((job) => job.state === "Running")
    const outer = next(4) === 0 ? running[next(running.length + 1)] : undefined
    const job = new TestJob(jobs.length, { weight: 1 + next(3), tokens: next(4), priority: next(3) }, outer, onStart)
    jobs.push(job)
    engineOf.set(job, engine)
    engine.submitUnsafe(job)
  }
  const release = (job: Job | undefined) => {
    if (job === undefined) return
    if (ownLane(job) !== undefined) crowded.add(engineOf.get(job)!)
    engineOf.get(job)!.releaseUnsafe(job)
  }
  const settle = () => {
    clock.fire()
    while (tasks.length > 0) tasks.shift()!()
  }
  for (let step = 0; step < 120; step++) {
    const what = next(24)
    const { engine, pool } = processes[next(3)]!
    if (what < 7) submit()
    else if (what < 13) release(jobs.filter((job) => job.state === "Running" || job.state === "Queued")[next(6)])
    else if (what === 13) engine.pauseUnsafe()
    else if (what === 14) { for (const { engine } of processes) engine.resumeUnsafe() }
    else if (what === 15 && next(3) === 0) {
      limit = 1 + next(6)
      most = Math.max(most, limit)
      for (const { engine } of processes) engine.resizeUnsafe(limit)
    } else if (what === 16 && next(3) === 0) {
      Effect.runForkWith(context)(Effect.ignore(pool.penalize((5 + next(100)) * 1e6)))
    } else if (what === 17) clock.block(next(strict ? 60 : 500))
    else if (what === 18 && next(4) === 0) rates.away = model.away = !model.away
    else clock.advance(next(40), next(2) === 0 ? undefined : () => next(5))
    settle()
    expect(problems.join("; ")).toBe("")
  }
  rates.away = model.away = false
  limit = Math.max(limit, 3)
  most = Math.max(most, limit)
  for (const { engine } of processes) {
    engine.resizeUnsafe(limit)
    engine.resumeUnsafe()
  }
  // What is in the queue has been told of an outage, or starts.
  for (let round = 0; round < 150; round++) {
    for (const job of jobs) if (job.state === "Running") release(job)
    clock.advance(400)
    settle()
  }
  expect(problems.join("; ")).toBe("")
  expect(jobs.filter((job) => job.state !== "Done").map((job) => job.number), "nobody hangs").toEqual([])
  for (const { engine } of processes) expect([engine.running, engine.queued, engine.main.used]).toEqual([0, 0, 0])
  model.expire()
  expect([[...model.held], model.waiting.map(({ node }) => node)], "nothing is held or waited for").toEqual([[], []])
  expect(clock.pending, "no timer is left").toBe(0)
  return starts
}

describe("schedulers of several processes that share permits", () => {
  it("S1, S3 and S8 hold for random jobs; nobody hangs, though wake-ups, answers and leases are lost; all is given back", () => {
    expect(eachSeed(200, simulate).reduce((sum, starts) => sum + starts)).toBeGreaterThan(2000)
  })
})
