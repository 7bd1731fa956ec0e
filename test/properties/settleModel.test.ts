/**
 * Calls that say at their end what they have cost, beside the arithmetic of the laws: what the times would be if each call had
 * taken that from the start, and what they would be if nothing were ever given back.
 */
import { describe, expect, it } from "@effect/vitest"
import { Charge } from "../../src/internal/limiter/charge.js"
import type { Entry } from "../../src/internal/limiter/entry.js"
import * as Gcra from "../../src/internal/limiter/gcra.js"
import type { Waiter } from "../../src/internal/limiter/limiter.js"
import { LimiterMemory } from "../../src/internal/limiter/memory.js"
import { ManualClock } from "../support/manualClock.js"
import { arrivalOf } from "../support/arrival.js"
import { eachSeed, random } from "../support/random.js"

const ms = 1_000_000

class Call implements Waiter {
  link: unknown = undefined
  readonly key = "k"
  readonly tokens: Gcra.Tokens
  readonly since: number
  charge: Charge<Entry> | undefined = undefined
  state: "new" | "granted" | "running" | "ended" | "gone" = "new"
  arrival = 0
  /** When it began, for strict quotas. */
  began = Infinity
  actual: Gcra.Tokens
  private readonly granted: (self: Call) => void
  constructor(tokens: Gcra.Tokens, since: number, granted: (self: Call) => void) {
    this.tokens = tokens
    this.actual = tokens
    this.since = since
    this.granted = granted
  }
  onDue(): void {
    this.granted(this)
  }
  onTooLarge(): void {}
  onFailure(): void {}
}

const simulate = (seed: number) => {
  const next = random(seed)
  // Some programs charge each quota with a number of its own.
  const lists = next(2) === 0
  const rates = Array.from({ length: 1 + next(2) }, () => {
    const limit = 1 + next(20)
    const strict = next(3) === 0
    return Gcra.rate(limit, (10 + next(300)) * ms, 1 + next(strict ? limit : 12), strict)
  })
  const clock = new ManualClock()
  const limiter = new LimiterMemory(rates, clock.context, clock)
  const calls: Array<Call> = []
  let waiting: Array<Call> = []
  let debts: Array<{ readonly at: number; readonly by: Call; readonly after: number }> = []
  const problems: Array<string> = []

  /** The theoretical arrival time of a quota; `lent` leaves everything that was given back where it was. */
  const tatOf = (rate: Gcra.Rate, i: number, lent: boolean): number => {
    let tat = -Infinity
    const owe = (n: number) => {
      for (const { after, at, by } of debts) {
        const owed = Gcra.tokensOf(by.actual, i) - Gcra.tokensOf(by.tokens, i)
        if (after === n && owed > 0) tat = Math.max(at, tat + owed * rate.interval)
      }
    }
    calls.forEach(({ actual, arrival, tokens }, n) => {
      tat = Math.max(tat, arrival) + Gcra.tokensOf(lent ? tokens : actual, i) * rate.interval
      if (lent) owe(n + 1)
    })
    return tat
  }
  const dueOf = (lent: boolean, tokens: Gcra.Tokens = 1): number =>
    Math.max(...rates.map((rate, i) => {
      const n = Gcra.tokensOf(tokens, i)
      return n === 0 ? -Infinity : Gcra.dueAt(rate, tatOf(rate, i, lent), n)
    }))
  const tokens = (most: (burst: number) => number): Gcra.Tokens =>
    lists && rates.length > 1 ? rates.map(({ burst }, i) => most(burst) - i) : most(limiter.burst)

  const onGrant = (self: Call) => {
    const now = limiter.now()
    self.state = "granted"
    self.arrival = self.link instanceof Charge ? arrivalOf(self.link, rates[0]!.interval) : NaN
    // It arrives when it came, or when the last of several quotas let it in.
    const came = rates.length === 1 ? self.since : Math.max(self.since, dueOf(false, self.tokens))
    const least = Gcra.arrival(came, now)
    const isRight = rates.length === 1 ? self.arrival === least : self.arrival >= least && self.arrival <= now
    if (!isRight) problems.push(`a call that came at ${self.since} counts from ${self.arrival}, and not from ${least}`)
    waiting = waiting.filter((each) => each !== self)
    calls.push(self)
    if (next(3) > 0) self.charge = limiter.chargeUnsafe("k", self.tokens, self)
    if (next(2) === 0) begin(self)
  }
  const begin = (self: Call) => {
    self.state = "running"
    self.began = limiter.now()
    limiter.beginUnsafe(self)
  }
  const settle = (self: Call) => {
    const { charge } = self
    if (charge === undefined) return
    self.charge = undefined
    self.state = "ended"
    const now = limiter.now()
    const fails = next(4) === 0
    const cost = (n: number) => next(3) === 0 ? n + next(15) : next(n + 1)
    if (!fails) self.actual = typeof self.tokens === "number" ? cost(self.tokens) : self.tokens.map(cost)
    debts.push({ at: now, by: self, after: calls.length })
    limiter.settleUnsafe(charge, fails ? undefined : self.actual)
  }
  const leave = (self: Call) => {
    if (self.state === "new") waiting = waiting.filter((each) => each !== self)
    else calls.splice(calls.indexOf(self), 1)
    self.state = "gone"
    // A debt belongs behind the calls that were there.
    debts = debts.map((debt) => ({ ...debt, after: Math.min(debt.after, calls.length) }))
    limiter.cancelUnsafe(self)
    limiter.refundUnsafe(self)
    if (self.charge !== undefined) limiter.settleUnsafe(self.charge, undefined)
    self.charge = undefined
  }
  const pick = (of: ReadonlyArray<Call>): Call | undefined => of.length === 0 ? undefined : of[next(of.length)]

  for (let step = 0; step < 120; step++) {
    const what = next(12)
    if (what < 5) {
      const self = new Call(tokens((burst) => 1 + next(burst)), limiter.now(), onGrant)
      if (waiting.length === 0 && limiter.takeUnsafe("k", self.tokens, self.since, self)) {
        onGrant(self)
      } else {
        waiting.push(self)
        limiter.waitUnsafe(self)
      }
    } else if (what < 8) {
      const self = pick(calls.filter((each) => each.state === "running" && each.charge !== undefined))
      if (self !== undefined) settle(self)
    } else if (what === 8) {
      const self = pick(calls.filter((each) => each.state === "granted"))
      if (self !== undefined) begin(self)
    } else if (what === 9) {
      // Where debts lie between calls that go and calls that stay, the arithmetic above is no bound any more.
      if (debts.some(({ by }) => rates.some((_, i) => Gcra.tokensOf(by.actual, i) > Gcra.tokensOf(by.tokens, i)))) {
        continue
      }
      const self = pick(waiting.concat(calls.filter((each) => each.state === "granted")))
      if (self !== undefined) leave(self)
    } else {
      clock.advance(next(120))
    }
    const due = limiter.now() + limiter.dueInUnsafe("k", 1)
    const atLeast = dueOf(false)
    if (due < atLeast) problems.push(`step ${step}: due at ${due}, had all cost that from the start at ${atLeast}`)
    const atMost = Math.max(dueOf(true), limiter.now())
    if (rates.every(({ strict }) => !strict) && due > atMost) {
      problems.push(`step ${step}: due at ${due}, if nothing were given back at ${atMost}`)
    }
    expect(problems.join("; ")).toBe("")
  }
  for (let rounds = 0; rounds < 2000; rounds++) {
    for (const self of calls) {
      if (self.state === "granted") begin(self)
      if (self.state === "running") settle(self)
    }
    if (waiting.length === 0 && calls.every(({ charge }) => charge === undefined)) break
    clock.advance(100)
  }
  expect(waiting.length, "nobody hangs").toBe(0)
  rates.forEach(({ burst, interval, limit, strict, window }, quota) => {
    const counted = ({ actual, tokens }: Call) => Math.min(Gcra.tokensOf(tokens, quota), Gcra.tokensOf(actual, quota))
    const starts = calls.toSorted((a, b) => a.began - b.began)
    for (let i = 0; i < starts.length; i++) {
      let tokens = 0
      let carried = 0
      for (let j = i; j < starts.length; j++) {
        // What was owed came on top.
        tokens += counted(starts[j]!)
        if (!strict || starts[j]!.began >= starts[i]!.began + window) break
        if (tokens > limit) problems.push("strict: a window holds more than its limit and what was owed")
      }
      for (let j = i; j < calls.length; j++) {
        carried += counted(calls[j]!)
        const length = calls[j]!.arrival - calls[i]!.arrival
        if (carried > burst + (length + 50 * ms) / interval) problems.push("L1 more than burst + length / interval")
      }
    }
  })
  expect(problems.join("; ")).toBe("")
  clock.advance(24 * 3_600_000)
  expect(limiter.size, "L5 a key at rest takes no memory").toBe(0)
  expect(clock.pending, "no timer is left").toBe(0)
}

describe("settlements beside their model", () => {
  it("O4 L1 L5 no more passes than if each call had taken from the start what it has cost, and no less than if nothing were given back", () => {
    eachSeed(300, simulate)
  })
})
