/**
 * The laws of fair turns (O3), on the queue itself: durations are known, and nothing waits.
 */
import { describe, expect, it } from "@effect/vitest"
import type { Share } from "../src/internal/scheduler/fairQueue.js"
import { FairQueue } from "../src/internal/scheduler/fairQueue.js"

let arrivals = 0

class Job {
  readonly tokens = 1
  readonly order = ++arrivals
  readonly key: unknown
  readonly duration: number
  line: Parameters<FairQueue<Job>["charge"]>[0] | undefined = undefined
  before: Job | undefined = undefined
  after: Job | undefined = undefined
  constructor(key: unknown, duration: number) {
    this.key = key
    this.duration = duration
  }
}

const setup = (mean = 0) => {
  const fair = new FairQueue<Job>({ first: undefined, last: undefined }, { mean })
  const add = (key: unknown, duration: number, weight = 1) => {
    const share: Share = { key, weight }
    fair.enqueue(new Job(key, duration), share)
  }
  /** Starts the job in front. */
  const start = () => {
    const job = fair.head!
    const line = job.line!
    const charged = fair.charge(line, 1)
    fair.remove(job)
    return { job, end: () => fair.settle(line, job.order, charged, 1, job.duration) }
  }
  /** Runs the job in front to its end, and returns it. */
  const next = (): Job => {
    const { end, job } = start()
    end()
    return job
  }
  /** The keys that are remembered. */
  const known = (): number => (Reflect.get(fair, "lines") as Map<unknown, unknown>).size
  return { add, fair, known, next, start }
}

describe("FairQueue", () => {
  it("O3 keys that always wait get time in proportion to their weights, whatever their jobs take", () => {
    const { add, next } = setup()
    const durations: Record<string, ReadonlyArray<number>> = { a: [10], b: [70], c: [5, 5, 200] }
    const used: Record<string, number> = { a: 0, b: 0, c: 0 }
    let jobs = 0
    const refill = (key: string) => add(key, durations[key]![jobs++ % durations[key]!.length]!, key === "c" ? 2 : 1)
    for (const key of ["a", "b", "c"]) for (let i = 0; i < 3; i++) refill(key)
    for (let i = 0; i < 6000; i++) {
      const { duration, key } = next()
      used[key as string]! += duration
      refill(key as string)
    }
    const total = used["a"]! + used["b"]! + used["c"]!
    expect(used["a"]! / total).toBeCloseTo(0.25, 2)
    expect(used["b"]! / total).toBeCloseTo(0.25, 2)
    expect(used["c"]! / total).toBeCloseTo(0.5, 2)
  })

  it("O3 a key that comes back at once after a long job waits until the others have had as much, by their weights", () => {
    for (const weight of [1, 2]) {
      const { add, next } = setup()
      for (const key of ["b", "c"]) for (let i = 0; i < 200; i++) add(key, 10)
      for (let i = 0; i < 20; i++) next()
      add("a", 500, weight)
      let turns = 0
      while (next().key !== "a") turns++
      expect(turns).toBeLessThan(4)
      add("a", 10, weight)
      const before: Record<string, number> = { b: 0, c: 0 }
      for (let job = next(); job.key !== "a"; job = next()) before[job.key as string]! += job.duration
      for (const key of ["b", "c"]) {
        expect(before[key]! * weight).toBeGreaterThan(440)
        expect(before[key]! * weight).toBeLessThan(560)
      }
    }
  })

  it("O3 a start is charged by the mean duration of its key before the job has ended", () => {
    const { add, fair, next } = setup()
    for (let i = 0; i < 40; i++) add("long", 100)
    for (let i = 0; i < 400; i++) add("short", 10)
    for (let i = 0; i < 200; i++) next()
    // Many jobs start, and none of them ends.
    const keys = Array.from({ length: 66 }, () => {
      const job = fair.head!
      fair.charge(job.line!, 1)
      fair.remove(job)
      return job.key
    })
    const long = keys.filter((key) => key === "long").length
    expect(long).toBeGreaterThan(3)
    expect(long).toBeLessThan(9)
  })

  it("O3 a key that was away has no credit for the time without jobs", () => {
    const { add, next } = setup()
    for (const key of ["b", "c"]) for (let i = 0; i < 300; i++) add(key, 10)
    add("a", 10)
    for (let i = 0; i < 200; i++) next()
    for (let i = 0; i < 20; i++) add("a", 10)
    const keys = Array.from({ length: 30 }, () => next().key)
    expect(keys.filter((key) => key === "a").length).toBeLessThanOrEqual(11)
  })

  it("O3 a key that comes back while its long jobs run waits no longer than one that comes back when they have ended", () => {
    const turnsOfOthers = (comesEarly: boolean, takes: number) => {
      const { add, next, start } = setup()
      for (let i = 0; i < 50; i++) add("b", 10)
      for (let i = 0; i < 40; i++) next()
      for (let i = 0; i < 3_000; i++) add("b", 10)
      for (let i = 0; i < 10; i++) add("a", takes)
      const long: Array<() => void> = []
      while (long.length < 10) {
        const { end, job } = start()
        if (job.key === "a") long.push(end)
        else end()
      }
      // The others have as much meanwhile as those that run.
      for (let i = 0; i < 1_000; i++) next()
      if (comesEarly) add("a", 10)
      for (const end of long) end()
      if (!comesEarly) add("a", 10)
      let turns = 0
      while (next().key !== "a") turns++
      return turns
    }
    for (const takes of [1, 10, 100, 1_000, 2_000]) {
      expect(Math.abs(turnsOfOthers(true, takes) - turnsOfOthers(false, takes))).toBeLessThanOrEqual(1)
    }
  })

  it("O3 keys that come once are forgotten while others go on to wait", () => {
    const { add, known, next } = setup()
    let most = 0
    for (const key of ["x", "y"]) for (let i = 0; i < 3; i++) add(key, 10)
    for (let i = 0; i < 10_000; i++) {
      add(i, 5 + i % 20, 1 + i % 3)
      for (let turns = 0; turns < 3; turns++) {
        const { key } = next()
        if (typeof key === "string") add(key, 10)
      }
      most = Math.max(most, known())
    }
    expect(most).toBeLessThan(50)
  })

  it("O3 a change of weight holds for the jobs that wait already", () => {
    const { add, next } = setup()
    for (const key of ["a", "b"]) for (let i = 0; i < 300; i++) add(key, 10)
    add("b", 10, 3)
    const keys = Array.from({ length: 200 }, () => next().key)
    expect(keys.filter((key) => key === "b").length).toBeGreaterThan(140)
    expect(keys.filter((key) => key === "b").length).toBeLessThan(160)
  })

  it("O3 a job that runs while the weight of its key changes costs its time, and not what it was thought to take", () => {
    const { add, next, start } = setup(100)
    add("a", 1)
    for (let i = 0; i < 200; i++) add("b", 1)
    const { end, job } = start()
    expect(job.key).toBe("a")
    add("a", 1, 100)
    end()
    let turns = 0
    while (next().key !== "a") turns++
    expect(turns).toBeLessThan(5)
  })

  it("O3 a start is charged by a moving mean: one short job changes little", () => {
    const { add, fair, next } = setup()
    for (const duration of [80, 80, 8, 8]) add("a", duration)
    next()
    expect(fair.charge(fair.head!.line!, 1)).toBe(80)
    const { add: another, fair: other, next: run } = setup()
    for (const duration of [80, 8, 8]) another("a", duration)
    run()
    run()
    expect(other.charge(other.head!.line!, 2)).toBe(2 * (80 - 72 / 8))
  })

  it("O3 keys that come once are forgotten, also where jobs leave unserved and weights change", () => {
    const { add, fair, known, next } = setup()
    let most = 0
    for (const key of ["x", "y"]) for (let i = 0; i < 3; i++) add(key, 10)
    for (let i = 0; i < 5000; i++) {
      // Of a key whose jobs wait, and of one that has none but is remembered.
      add(i % 2 === 0 ? "x" : i - 1, 10, 1 + i % 7)
      add(i, 5 + i % 20, 1 + i % 3)
      for (let turns = 0; turns < 3; turns++) {
        const { key } = next()
        if (typeof key === "string") add(key, 10)
      }
      add(`leaves ${i}`, 10, 5)
      const leaves = fair.linesWaiting.find(({ key }) => key === `leaves ${i}`)!
      fair.remove(leaves.first!)
      most = Math.max(most, known())
    }
    expect(most).toBeLessThan(100)
  })
})
