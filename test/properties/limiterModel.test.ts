/**
 * The limiter in memory beside the simplest one that could be written: lists, and arithmetic straight from the laws.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Gcra from "../../src/internal/gcra.js"
import type { Waiter } from "../../src/internal/limiter.js"
import { LimiterMemory } from "../../src/internal/limiterMemory.js"
import { ManualClock } from "../support/manualClock.js"
import { random } from "../support/random.js"

const ms = 1_000_000

interface Quota {
  readonly limit: number
  readonly window: number
  readonly burst: number
  readonly strict: boolean
}

class Waits implements Waiter {
  link: unknown = undefined
  state: "waits" | "started" | "left" | "refused" = "waits"
  readonly key: string
  readonly tokens: number
  readonly since: number
  private readonly started: (self: Waits) => void
  constructor(key: string, tokens: number, since: number, started: (self: Waits) => void) {
    this.key = key
    this.tokens = tokens
    this.since = since
    this.started = started
  }
  onDue(): void {
    this.state = "started"
    this.started(this)
  }
  onTooLarge(): void {
    this.state = "refused"
  }
  onFailure(): void {}
}

/** What a key has spent and who waits for it. */
class Model {
  readonly queue: Array<Waits> = []
  readonly starts: Array<readonly [at: number, tokens: number]> = []
  private readonly full: Array<number>
  private readonly quotas: ReadonlyArray<Quota>
  constructor(quotas: ReadonlyArray<Quota>) {
    this.quotas = quotas
    this.full = quotas.map(() => -Infinity)
  }
  private interval({ burst, limit, strict, window }: Quota): number {
    return Math.ceil(window / (strict ? limit - burst + 1 : limit))
  }
  /** When so many tokens are there. */
  dueAt(tokens: number): number {
    return Math.max(...this.quotas.map((quota, i) => this.full[i]! - (quota.burst - tokens) * this.interval(quota)))
  }
  take(tokens: number, since: number, now: number): void {
    this.starts.push([now, tokens])
    this.quotas.forEach((quota, i) => {
      const came = quota.strict ? now : Math.min(now, Math.max(since, now - 50 * ms))
      this.full[i] = Math.max(this.full[i]!, came) + tokens * this.interval(quota)
    })
  }
  penalize(until: number): void {
    this.quotas.forEach((quota, i) => {
      this.full[i] = Math.max(this.full[i]!, until + (quota.burst - 1) * this.interval(quota))
    })
  }
  reset(now: number): void {
    this.full.fill(this.queue.length === 0 ? -Infinity : now)
    // What was spent before is forgotten, so it is not held against what follows.
    this.starts.length = 0
  }
  /** Judges the starts themselves, whatever the arithmetic. */
  checkStarts(): void {
    for (const quota of this.quotas) {
      const { burst, limit, strict, window } = quota
      for (let i = 0; i < this.starts.length; i++) {
        let tokens = 0
        for (let j = i; j < this.starts.length; j++) {
          const length = this.starts[j]![0] - this.starts[i]![0]
          tokens += this.starts[j]![1]
          if (strict && length < window) expect(tokens, "strict: no window holds more").toBeLessThanOrEqual(limit)
          // Lateness carries up to 50 ms into an interval.
          const allowed = burst + (length + 50 * ms) / this.interval(quota)
          expect(tokens, "L1 burst + length / interval").toBeLessThanOrEqual(allowed)
        }
      }
    }
  }
}

const simulate = (seed: number) => {
  const next = random(seed)
  const quotas: Array<Quota> = Array.from({ length: 1 + next(3) }, () => {
    const limit = 1 + next(next(2) === 0 ? 5 : 200)
    const strict = next(2) === 0
    return { limit, window: (1 + next(1000)) * ms + next(3), burst: 1 + next(strict ? limit : 8), strict }
  })
  const rates = quotas.map(({ burst, limit, strict, window }) => Gcra.rate(limit, window, burst, strict))
  const burst = Math.min(...quotas.map((quota) => quota.burst))
  const clock = new ManualClock()
  // Made past the whole numbers of a double, as on a host that has been up for months.
  if (next(2) === 0) clock.block(2 ** 53 / ms + 12_345)
  const limiter = new LimiterMemory(rates, clock.context, clock)
  const keys = ["a", "b", "c"]
  const models = new Map(keys.map((key) => [key, new Model(quotas)]))
  const all: Array<Waits> = []
  // Thrown inside a timer it would be that timer's defect.
  const problems: Array<string> = []
  let slow = 0
  let busyUntil = 0
  const onStart = (self: Waits) => {
    const model = models.get(self.key)!
    if (model.queue.shift() !== self) problems.push("L3 the first to come is the first to start")
    const due = model.dueAt(self.tokens)
    if (due > limiter.now()) problems.push(`L1 started at ${limiter.now()}, due at ${due}`)
    model.take(self.tokens, self.since, limiter.now())
    if (slow === 0) return
    clock.block(slow)
    busyUntil = limiter.now()
  }
  const submit = (insteadOf: Waits | undefined) => {
    const key = insteadOf?.key ?? keys[next(3)]!
    const model = models.get(key)!
    const now = limiter.now()
    const self = new Waits(key, 1 + next(burst), next(3) === 0 ? Math.max(0, now - next(80) * ms) : now, onStart)
    all.push(self)
    if (insteadOf === undefined) {
      const free = model.queue.length === 0 && model.dueAt(self.tokens) <= now
      const taken = limiter.takeUnsafe(key, self.tokens, self.since)
      expect(taken, "L3 L1 taken at once if nobody waits and it is due").toBe(free)
      if (taken) {
        self.state = "started"
        return model.take(self.tokens, self.since, now)
      }
      model.queue.push(self)
      limiter.waitUnsafe(self)
    } else {
      model.queue[model.queue.indexOf(insteadOf)] = self
      insteadOf.state = "left"
      limiter.waitUnsafe(self, { insteadOf })
    }
  }
  for (let step = 0; step < 150; step++) {
    const what = next(20)
    const waiting = all.filter((one) => one.state === "waits")
    // Those that are not strict are judged by when they were due, and so not by how long others ran in the same step.
    slow = next(6) === 0 && quotas.every((quota) => quota.strict) ? next(3) : 0
    if (what < 9) submit(undefined)
    else if (what === 9 && waiting.length > 0) submit(waiting[next(waiting.length)])
    else if (what < 12 && waiting.length > 0) {
      const one = waiting[next(waiting.length)]!
      const { queue } = models.get(one.key)!
      queue.splice(queue.indexOf(one), 1)
      one.state = "left"
      limiter.cancelUnsafe(one)
      limiter.cancelUnsafe(one)
    } else if (what === 12 && next(3) === 0) {
      const key = keys[next(3)]!
      const nanos = next(200) * ms
      models.get(key)!.penalize(limiter.now() + nanos)
      limiter.penalizeUnsafe(key, nanos)
    } else if (what === 13 && next(3) === 0) {
      const key = keys[next(3)]!
      models.get(key)!.reset(limiter.now())
      limiter.resetUnsafe(key)
    } else if (what === 14) {
      clock.block(next(300))
      clock.fire()
    } else if (what > 14) {
      clock.advance(next(100), next(2) === 0 ? undefined : () => next(30))
    }
    expect(problems.join("; ")).toBe("")
    // Nobody who was due a millisecond ago still waits, once the timers have fired.
    clock.fire()
    if (limiter.now() > busyUntil + 1.1 * ms) {
      for (const model of models.values()) {
        const [first] = model.queue
        if (first === undefined) continue
        expect(model.dueAt(first.tokens), "L4 what is due starts").toBeGreaterThan(limiter.now() - 1.1 * ms)
      }
    }
  }
  slow = 0
  for (const model of models.values()) model.checkStarts()
  clock.advance(10 * 3_600_000)
  expect(problems.join("; ")).toBe("")
  expect(all.filter((one) => one.state === "waits"), "nobody hangs").toEqual([])
  expect(clock.pending, "no timer is left").toBe(0)
  // A few calls for other keys, and nothing of those at rest is there.
  for (let i = 0; i < 5; i++) {
    limiter.takeUnsafe("other", 1, limiter.now())
    clock.block(3_600_000)
  }
  expect(limiter.size, "L5 a key at rest takes no memory").toBeLessThanOrEqual(1)
}

describe("the limiter beside its model", () => {
  it("L1 L3 L4 L5 hold for random quotas, waiters that leave or change places, penalties, late timers and blocked loops", () => {
    for (let seed = 1; seed <= 200; seed++) {
      try {
        simulate(seed)
      } catch (error) {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error })
      }
    }
  })
})
