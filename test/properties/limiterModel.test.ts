/**
 * The limiter in memory beside a simple model: lists, and arithmetic straight from the laws.
 */
import { describe, expect, it } from "@effect/vitest"
import { Charge } from "../../src/internal/limiter/charge.js"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import type { Waiter } from "../../src/internal/limiter/limiter.js"
import { LimiterMemory } from "../../src/internal/limiter/memory.js"
import { arrivalOf } from "../support/arrival.js"
import { ManualClock } from "../support/manualClock.js"
import { eachSeed, random } from "../support/random.js"

const ms = 1_000_000

interface Quota {
  readonly limit: number
  readonly window: number
  readonly burst: number
  readonly strict: boolean
}

class Waits implements Waiter {
  link: unknown = undefined
  state: "waits" | "granted" | "begun" | "left" | "refused" = "waits"
  readonly key: string
  readonly tokens: number
  readonly since: number
  private readonly granted: (self: Waits) => void
  constructor(key: string, tokens: number, since: number, granted: (self: Waits) => void) {
    this.key = key
    this.tokens = tokens
    this.since = since
    this.granted = granted
  }
  onDue(): void {
    this.state = "granted"
    this.granted(this)
  }
  onTooLarge(): void {
    this.state = "refused"
  }
  onFailure(): void {}
}

interface Taken {
  readonly by: Waits
  readonly tokens: number
  readonly arrival: number
  /** `Infinity` until it begins. */
  at: number
}

/** A start, or a penalty that puts each quota off until a time. */
type Event = Pick<Taken, "tokens"> & { readonly by: Waits | undefined; readonly until: (i: number) => number }

/** A key: its starts since it was last at rest or reset, and its waiters. */
class Model {
  readonly queue: Array<Waits> = []
  private readonly starts: Array<Taken> = []
  /** What happened since the last change of the quotas: these starts can still be taken back. */
  private recent: Array<Event> = []
  private penaltyUntil = -Infinity
  private base: Array<number>
  private quotas: ReadonlyArray<Quota>
  /** Quotas that were there all the time, with the largest burst that each has had. */
  private lasting: Array<Quota>
  constructor(quotas: ReadonlyArray<Quota>) {
    this.quotas = quotas
    this.lasting = quotas.slice()
    this.base = quotas.map(() => -Infinity)
  }
  private interval({ limit, window }: Quota): number {
    return Math.ceil(window / limit)
  }
  private full(i: number): number {
    return this.recent.reduce(
      (full, { tokens, until }) => Math.max(full, until(i)) + tokens * this.interval(this.quotas[i]!),
      this.base[i]!
    )
  }
  private fix(base: Array<number>): void {
    this.base = base
    this.recent = []
  }
  /** When so many tokens are free. */
  dueAt(tokens: number): number {
    return Math.max(...this.quotas.map((quota, i) => {
      const interval = this.interval(quota)
      const paced = Math.max(
        this.full(i) - (quota.burst - tokens) * interval,
        this.penaltyUntil + (tokens - 1) * interval
      )
      if (!quota.strict) return paced
      let held = tokens
      for (let j = this.starts.length - 1; j >= 0; j--) {
        held += this.starts[j]!.tokens
        if (held > quota.limit) {
          return Math.max(paced, ...this.starts.slice(0, j + 1).map(({ at }) => at + quota.window))
        }
      }
      return paced
    }))
  }
  /** Several grants of one step count from its beginning, `early`, however long the calls of those before them take. */
  take(by: Waits, now: number, begins: boolean, early = now): void {
    const { since, tokens } = by
    this.absorb()
    // One that a quota has held back arrives late at the others, too.
    const due = this.quotas.length === 1
      ? []
      : this.quotas.map((quota, i) => this.full(i) - (quota.burst - tokens) * this.interval(quota))
    const arrivalAt = (now: number) => Math.min(now, Math.max(since, ...due, now - 50 * ms))
    const told = by.link instanceof Charge
      ? arrivalOf(by.link, this.interval(this.quotas[0]!))
      : NaN
    const arrival = told >= arrivalAt(early) && told <= arrivalAt(now) ? told : arrivalAt(now)
    const taken = { by, tokens, arrival, at: begins ? now : Infinity }
    this.starts.push(taken)
    this.recent.push({ by, tokens, until: () => taken.arrival })
  }
  private absorb(): void {
    const end = this.penaltyUntil
    this.recent.push({
      by: undefined,
      tokens: 0,
      until: (i) => end + (this.quotas[i]!.burst - 1) * this.interval(this.quotas[i]!)
    })
    this.penaltyUntil = -Infinity
  }
  begin(by: Waits, now: number): void {
    const taken = this.starts.find((each) => each.by === by)
    if (taken !== undefined) taken.at = now
  }
  refund(by: Waits): void {
    for (const list of [this.starts, this.recent]) {
      const at = list.findIndex((each) => each.by === by)
      if (at !== -1) list.splice(at, 1)
    }
  }
  penalize(until: number): void {
    this.penaltyUntil = Math.max(this.penaltyUntil, until)
  }
  reset(now: number): void {
    this.penaltyUntil = -Infinity
    this.fix(this.quotas.map(() => this.queue.length === 0 ? -Infinity : now))
    // Earlier starts are forgotten, so they do not count from here on.
    this.starts.length = 0
  }
  /** A quota keeps its debt wherever it stands. A new one begins with the debt of the quotas that are gone, or of all. */
  requote(quotas: ReadonlyArray<Quota>, now: number): void {
    if (this.penaltyUntil <= now) this.absorb()
    const before = this.quotas
    const same = (a: Quota, b: Quota) => a.limit === b.limit && a.window === b.window
    const gone = before.filter((each) => !quotas.some((other) => same(each, other)))
    this.fix(quotas.map((quota) => {
      const known = before.find((each) => same(each, quota))
      const sources = known !== undefined ? [known] : gone.length > 0 ? gone : before
      return Math.max(...sources.map((each) => {
        const full = this.full(before.indexOf(each))
        if (full <= now || this.interval(each) === this.interval(quota)) return full
        return now + Math.ceil((full - now) * (this.interval(quota) / this.interval(each)))
      }))
    }))
    this.quotas = quotas
    this.lasting = this.lasting.flatMap((each) => {
      const found = quotas.find((quota) => same(each, quota))
      return found === undefined ? [] : [{ ...each, burst: Math.max(each.burst, found.burst) }]
    })
  }
  /** Judges the starts, independently of the arithmetic. */
  checkStarts(): void {
    const starts = this.starts.toSorted((a, b) => a.at - b.at)
    for (const quota of this.lasting) {
      const { burst, limit, strict, window } = quota
      for (let i = 0; i < starts.length; i++) {
        let tokens = 0
        for (let j = i; j < starts.length; j++) {
          const length = starts[j]!.at - starts[i]!.at
          tokens += starts[j]!.tokens
          if (strict && length < window) expect(tokens, "strict: no window holds more").toBeLessThanOrEqual(limit)
        }
      }
      for (let i = 0; i < starts.length; i++) {
        let tokens = 0
        for (let j = i; j < this.starts.length; j++) {
          const length = this.starts[j]!.arrival - this.starts[i]!.arrival
          tokens += this.starts[j]!.tokens
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
  const quota = (strict: boolean): Quota => {
    const limit = 1 + next(next(2) === 0 ? 5 : 200)
    return { limit, window: (1 + next(1000)) * ms + next(3), burst: 1 + next(strict ? limit : 8), strict }
  }
  let quotas: Array<Quota> = Array.from({ length: 1 + next(3) }, () => quota(next(2) === 0))
  const ratesOf = () => quotas.map(({ burst, limit, strict, window }) => Gcra.rate(limit, window, burst, strict))
  const clock = new ManualClock()
  // Made past the whole numbers of a double, as on a host that has been up for months.
  if (next(2) === 0) clock.block(2 ** 53 / ms + 12_345)
  const limiter = new LimiterMemory(ratesOf(), clock.context, clock)
  const keys = ["a", "b", "c"]
  const models = new Map(keys.map((key) => [key, new Model(quotas)]))
  const all: Array<Waits> = []
  // An assertion that fails inside a timer would be a defect of that timer.
  const problems: Array<string> = []
  let slow = 0
  let busyUntil = 0
  let freeAt = 0
  // Some programs begin each start in the step of its grant.
  const lateBegins = next(2) === 0
  const onGrant = (self: Waits) => {
    const model = models.get(self.key)!
    if (model.queue.shift() !== self) problems.push("L3 the first to come is the first to start")
    const due = model.dueAt(self.tokens)
    if (due > limiter.now()) problems.push(`L1 granted at ${limiter.now()}, due at ${due}`)
    const later = lateBegins && next(3) === 0
    if (limiter.now() !== busyUntil) freeAt = limiter.now()
    model.take(self, limiter.now(), !later, freeAt)
    if (!later) {
      self.state = "begun"
      limiter.beginUnsafe(self)
    }
    if (slow === 0) return
    clock.block(slow)
    busyUntil = limiter.now()
  }
  const end = (self: Waits, begins: boolean) => {
    const model = models.get(self.key)!
    if (begins) {
      self.state = "begun"
      model.begin(self, limiter.now())
      limiter.beginUnsafe(self)
    } else {
      self.state = "left"
      model.refund(self)
      limiter.refundUnsafe(self)
    }
    expect(self.link).toBe(undefined)
    limiter.refundUnsafe(self)
    limiter.beginUnsafe(self)
  }
  const submit = (insteadOf: Waits | undefined) => {
    const key = insteadOf?.key ?? keys[next(3)]!
    const model = models.get(key)!
    const now = limiter.now()
    const self = new Waits(
      key,
      1 + next(limiter.burst),
      next(3) === 0 ? Math.max(0, now - next(80) * ms) : now,
      onGrant
    )
    all.push(self)
    if (insteadOf === undefined) {
      const free = model.queue.length === 0 && model.dueAt(self.tokens) <= now
      const later = lateBegins && next(3) === 0
      const taken = limiter.takeUnsafe(key, self.tokens, self.since, later ? self : undefined)
      expect(taken, "L3 L1 taken at once if nobody waits and it is due").toBe(free)
      if (taken) {
        self.state = later ? "granted" : "begun"
        return model.take(self, now, !later)
      }
      model.queue.push(self)
      limiter.waitUnsafe(self)
    } else {
      model.queue[model.queue.indexOf(insteadOf)] = self
      insteadOf.state = "left"
      limiter.waitUnsafe(self, { insteadOf })
    }
  }
  const setQuotas = () => {
    // A strict quota is strict from the beginning, because the model does not know a log that begins later.
    const stay = quotas.filter(() => next(4) > 0)
    const bursts = stay.map((each) => next(3) === 0 ? { ...each, burst: 1 + next(each.strict ? each.limit : 8) } : each)
    const more = next(3) === 0 || bursts.length === 0 ? [quota(false)] : []
    quotas = [...more, ...bursts].toSorted(() => next(3) - 1)
    const burst = Math.min(...quotas.map((each) => each.burst))
    for (const model of models.values()) {
      model.requote(quotas, limiter.now())
      for (const one of model.queue.filter((each) => each.tokens > burst)) {
        model.queue.splice(model.queue.indexOf(one), 1)
      }
    }
    limiter.setQuotas(ratesOf())
  }
  for (let step = 0; step < 150; step++) {
    const what = next(22)
    const waiting = all.filter((one) => one.state === "waits")
    const granted = all.filter((one) => one.state === "granted")
    // Quotas that are not strict are judged by due times, which do not depend on how long a step takes.
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
    } else if (what === 15 && next(3) === 0) setQuotas()
    else if (what < 18 && granted.length > 0) end(granted[next(granted.length)]!, next(2) === 0)
    else if (what > 15) {
      clock.advance(next(100), next(2) === 0 ? undefined : () => next(30))
    }
    expect(problems.join("; ")).toBe("")
    // Once the timers have fired, no waiter has been due for a millisecond.
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
  while (true) {
    for (const one of all) if (one.state === "granted") end(one, next(2) === 0)
    if (all.every((one) => one.state !== "granted" && one.state !== "waits")) break
    if (clock.now > 1e17) break
    clock.advance(3_600_000)
  }
  for (const model of models.values()) model.checkStarts()
  expect(problems.join("; ")).toBe("")
  expect(all.filter((one) => one.state === "waits"), "nobody hangs").toEqual([])
  clock.advance(24 * 3_600_000)
  expect(limiter.size, "L5 a key at rest takes no memory").toBe(0)
  expect(clock.pending, "no timer is left").toBe(0)
}

describe("the limiter beside its model", () => {
  it("L1 L3 L4 L5 hold for random quotas and changes of them, starts that begin late or never, waiters that leave or change places, penalties, resets, late timers and blocked loops", () => {
    eachSeed(200, simulate)
  })
})
