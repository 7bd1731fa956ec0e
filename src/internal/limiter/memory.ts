/**
 * A limiter whose state is in this process.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { dispatcherIn } from "../data/dispatcher.js"
import * as DueHeap from "../data/dueHeap.js"
import * as Timers from "../data/timers.js"
import * as Entry from "./entry.js"
import { DueLine, Grant } from "./entry.js"
import * as Gcra from "./gcra.js"
import type { Backend, Granted, Standing, Waiter } from "./limiter.js"
import { Place } from "./line.js"
import * as RestList from "./restList.js"

/** How many callers one step calls back before it gives the event loop a turn. */
const callbacksPerStep = 256

// A call adds at most one entry, so any number above one shrinks what is held.
const sweepPerCall = 8
const sweepPerTick = 4096

/** How many keys one step converts to other quotas before it gives the event loop a turn. */
const renewalsPerStep = 1024

/** Beyond this, after 52 days, the axis begins anew: a number no longer tells each nanosecond. */
const axisEnd = 2 ** 52

/**
 * Makes a limiter on the clock of the running fiber.
 */
export const make = (rates: ReadonlyArray<Gcra.Rate>): Effect.Effect<LimiterMemory> =>
  Effect.withFiber((fiber) => Effect.succeed(makeUnsafe(rates, fiber)))

/** Makes a limiter on the clock of a fiber, in this very step. */
export const makeUnsafe = (rates: ReadonlyArray<Gcra.Rate>, fiber: Fiber.Fiber<unknown, unknown>): LimiterMemory =>
  new LimiterMemory(rates, fiber.context, fiber.getRef(Clock.Clock))

/**
 * The state of all keys, and one timer for them.
 */
export class LimiterMemory implements Backend {
  private readonly entries = new Map<string | undefined, Entry.Entry>()
  /** The entry looked up last: calls for one key come in a row. */
  private recent: Entry.Entry | undefined
  private readonly rests = new RestList.RestList<Entry.Entry>()
  /** By when the first of each line is due. */
  private readonly due: Array<DueLine> = []
  /** Those who can never pass and are not told yet. */
  private readonly refusing = new Set<Waiter>()
  private granting = false
  /** More is due than one step does: the rest follows in the next turn. */
  private deferred = false
  private dispatcher: SchedulerDispatcher | undefined
  private readonly alarm: Timers.Alarm
  private readonly restAlarm: Timers.Alarm
  private closed = false
  private latestTat = 0
  private readonly place: Timers.Place
  epoch: bigint
  private version: Entry.Version
  /** Those that have not heard of the quotas of now, and others. */
  private renewals: Iterator<Entry.Entry> | undefined
  /** Of these those that come next, the last one first: somebody waits there. */
  private urgent: Array<DueLine> = []
  private renewing = false
  private rates: ReadonlyArray<Gcra.Rate> = []
  private longestWindow = 0
  strict = false
  burst = Infinity

  constructor(rates: ReadonlyArray<Gcra.Rate>, context: Context.Context<never>, clock: Clock.Clock) {
    this.place = { context, clock }
    this.alarm = new Timers.Alarm(Timers.after, () => this.settle(), this.place)
    this.restAlarm = new Timers.Alarm(Timers.idleAfter, () => {
      const now = this.time()
      this.sweep(now, sweepPerTick)
      this.restAlarm.set(this.rests.nextCheck, now)
    }, this.place)
    this.epoch = clock.monotonicTimeNanosUnsafe()
    this.version = { rates, next: undefined }
    this.quote(rates)
  }

  private quote(rates: ReadonlyArray<Gcra.Rate>): void {
    this.rates = rates
    this.strict = rates.some((rate) => rate.strict)
    this.burst = rates.reduce((least, rate) => Math.min(least, rate.burst), Infinity)
    this.longestWindow = rates.reduce((most, rate) => rate.strict ? Math.max(most, rate.window) : most, 0)
  }

  get size(): number {
    return this.entries.size
  }

  now(): number {
    const now = this.time()
    return now > axisEnd && !this.granting && this.renewals === undefined ? this.moveEpoch(now) : now
  }

  /** The time within a step, whose axis must not move. */
  private time(): number {
    return Number(this.place.clock.monotonicTimeNanosUnsafe() - this.epoch)
  }

  restAt(): number {
    return this.renewals === undefined ? this.latestTat : Infinity
  }

  takeUnsafe(key: string | undefined, tokens: number, since: number, later?: Granted): boolean {
    return this.takeAtUnsafe(key, tokens, since, this.time(), later)
  }

  takeAtUnsafe(key: string | undefined, tokens: number, since: number, now: number, later?: Granted): boolean {
    if (tokens > this.burst) return false
    const entry = this.lookup(key) ?? this.enter(key)
    const taken = entry.line === undefined && Entry.dueAt(this.rates, entry, tokens) <= now
    if (taken) this.take(entry, tokens, since, now, later)
    if (now >= this.rests.nextCheck) this.sweep(now, sweepPerCall)
    return taken
  }

  readonly attempt: Backend["attempt"] = (key, tokens, now, granted, answer) => {
    // Those whose timer is late go first, so that what an earlier refusal promised holds to the nanosecond.
    if (this.settle() && this.takeAtUnsafe(key, tokens, now, now, granted)) return answer()
    const { limit, remaining } = this.standingUnsafe(key, now)
    return answer({ limit, remaining, retryAfter: this.retryAfterUnsafe(key, tokens, now) })
  }

  beginUnsafe(granted: Granted): void {
    const grant = granted.link
    if (!(grant instanceof Grant)) return
    granted.link = undefined
    const { entry } = grant
    const now = this.time()
    this.renew(entry)
    Entry.begin(this.rates, grant, now)
    this.refile(entry, now)
    if (grant.log === undefined) return
    this.noteRest(now + this.longestWindow)
    // It was in the way of those who need its place, for a time that was not known. None of them is due now, and nobody is
    // called back: the effect that has begun would be late by that.
    if (entry.line !== undefined && this.reconsider(entry.line) && !this.granting) this.arm()
  }

  refundUnsafe(granted: Granted): void {
    const grant = granted.link
    if (!(grant instanceof Grant)) return
    granted.link = undefined
    const { entry } = grant
    this.renew(entry)
    Entry.refund(this.rates, grant)
    this.refile(entry, this.time())
    if (entry.line !== undefined && this.reconsider(entry.line)) this.settle()
  }

  waitUnsafe(waiter: Waiter, options?: { readonly insteadOf?: Waiter | undefined }): void {
    const former = options?.insteadOf
    if (waiter.tokens > this.burst) {
      if (former !== undefined) this.cancelUnsafe(former)
      return waiter.onTooLarge(this.burst)
    }
    const entry = this.lookup(waiter.key) ?? this.enter(waiter.key)
    const line = entry.line ??= new DueLine(entry)
    line.add(waiter, former?.link instanceof Place ? former.link : undefined)
    if (line.first!.waiter !== waiter) return
    this.reconsider(line)
    this.settle()
  }

  cancelUnsafe(waiter: Waiter): void {
    const place = waiter.link
    if (place === undefined) this.refusing.delete(waiter)
    if (!(place instanceof Place)) return
    // A waiter of this limiter waits in a line of its own kind.
    const line = place.line as DueLine
    const wasFirst = line.first === place
    line.remove(place)
    if (wasFirst && this.reconsider(line)) this.settle()
  }

  setQuotas(rates: ReadonlyArray<Gcra.Rate>): void {
    const now = this.time()
    const to: Entry.Version = { rates, next: undefined }
    this.version.next = { to, sources: Gcra.sources(this.rates, rates), at: now }
    this.version = to
    this.quote(rates)
    this.recent = undefined
    this.latestTat = now
    this.urgent = this.due.slice().reverse()
    this.renewals ??= this.outdated()
    this.renewSome()
    this.settle()
  }

  private *outdated(): Generator<Entry.Entry> {
    let version: Entry.Version
    do {
      version = this.version
      for (const entry of this.entries.values()) {
        for (let line = this.urgent.pop(); line !== undefined; line = this.urgent.pop()) yield line.entry
        yield entry
      }
    } while (version !== this.version)
  }

  private renewSome(): void {
    const now = this.time()
    for (let left = renewalsPerStep; left > 0 && this.renewals !== undefined; left--) {
      const next = this.renewals.next()
      if (next.done === true) {
        this.renewals = undefined
        return
      }
      const entry = next.value
      this.renew(entry)
      // It may have gone since it was listed.
      if (Entry.atRest(this.rates, entry, now) && this.entries.get(entry.key) === entry) this.drop(entry)
    }
    if (this.renewing || this.renewals === undefined) return
    this.renewing = true
    this.nextTurn(() => {
      this.renewing = false
      this.renewSome()
      this.settle()
    })
  }

  /** Lets an entry know of the quotas of now. */
  private renew(entry: Entry.Entry): void {
    if (entry.version === this.version) return
    Entry.renew(entry)
    const rest = Entry.restOf(this.rates, entry)
    this.noteRest(rest === Infinity ? this.time() + this.longestWindow : rest)
    this.rests.remove(entry)
    this.refile(entry, this.time())
    const { line } = entry
    if (line === undefined) return
    for (const waiter of line.removeLarger(this.burst)) this.refusing.add(waiter)
    this.reconsider(line)
  }

  penalize(key: string | undefined, nanos: number): Effect.Effect<void> {
    return Effect.sync(() => this.penalizeUnsafe(key, nanos))
  }

  penalizeUnsafe(key: string | undefined, nanos: number): void {
    const now = this.time()
    const entry = this.lookup(key) ?? this.enter(key)
    Entry.penalize(entry, now + nanos)
    for (const rate of this.rates) this.noteRest(Gcra.blockedUntil(rate, now + nanos))
    if (entry.level === -1) this.file(entry, now)
    if (entry.line === undefined) return
    this.reconsider(entry.line)
    this.settle()
  }

  reset(key: string | undefined): Effect.Effect<void> {
    return Effect.sync(() => this.resetUnsafe(key))
  }

  resetUnsafe(key: string | undefined): void {
    const entry = this.lookup(key)
    if (entry === undefined) return
    const now = this.time()
    Entry.settleGrants(entry)
    entry.rare = undefined
    entry.tats.fill(now)
    if (entry.line === undefined) return this.drop(entry)
    this.reconsider(entry.line)
    this.settle()
  }

  standingUnsafe(key: string | undefined, now: number): Standing {
    return Entry.standing(this.rates, this.lookup(key), now)
  }

  /** Nanoseconds until `tokens` pass if all who wait now go first and nobody else comes. */
  retryAfterUnsafe(key: string | undefined, tokens: number, now: number): number {
    const entry = this.lookup(key)
    return entry === undefined ? 0 : Entry.retryAfter(this.rates, entry, tokens, now)
  }

  /** Grants what is due and sets the timer for what is next. Returns whether it called anybody back. */
  settle(): boolean {
    if (this.granting || this.deferred) return false
    const now = this.time()
    let left = callbacksPerStep
    this.granting = true
    // What runs in a caller is not ours: if it throws, such as an observer of its fiber, the others still have their turn.
    try {
      do {
        for (const waiter of this.refusing) {
          if (--left < 0) return true
          this.refusing.delete(waiter)
          waiter.onTooLarge(this.burst)
        }
        // A grant runs its caller on the spot, so time passes: only what was due to begin with is granted in one go.
        for (let line = this.due[0]; line !== undefined && line.due <= now; line = this.due[0]) {
          if (--left < 0) return true
          if (line.entry.version === this.version) this.grant(line, now)
          else this.renew(line.entry)
        }
        // Who is called back may have changed the quotas.
      } while (this.refusing.size > 0)
      return left < callbacksPerStep
    } finally {
      this.granting = false
      if (left < 0 || this.refusing.size > 0) this.defer()
      else this.arm()
    }
  }

  readonly close: Effect.Effect<void> = Effect.sync(() => {
    this.closed = true
    this.alarm.close()
    this.restAlarm.close()
  })

  private lookup(key: string | undefined): Entry.Entry | undefined {
    const recent = this.recent
    if (recent !== undefined && recent.key === key) return recent
    const entry = this.entries.get(key)
    if (entry !== undefined) {
      // Not left to `renew`, which is too large to be part of this.
      if (entry.version !== this.version) this.renew(entry)
      this.recent = entry
    }
    return entry
  }

  private enter(key: string | undefined): Entry.Entry {
    const entry = Entry.make(this.version, key)
    this.entries.set(key, entry)
    this.recent = entry
    return entry
  }

  private drop(entry: Entry.Entry): void {
    this.entries.delete(entry.key)
    this.rests.remove(entry)
    if (this.recent === entry) this.recent = undefined
  }

  private take(entry: Entry.Entry, tokens: number, since: number, now: number, later: Granted | undefined): void {
    const arrival = Gcra.arrival(since, now)
    if (later === undefined && entry.rare === undefined && !this.strict) {
      Entry.take(this.rates, entry, arrival, tokens)
    } else {
      const { strict } = this
      const grant = Entry.takeRare(this.rates, entry, arrival, tokens, { now, later: later !== undefined, strict })
      if (later !== undefined) later.link = grant
      if (strict) this.noteRest(now + this.longestWindow)
    }
    this.noteRest(Entry.latest(entry))
    if (entry.level === -1) this.file(entry, now)
  }

  private noteRest(at: number): void {
    if (at > this.latestTat) this.latestTat = at
  }

  /** Brings the place of a line up to date after a change; whether its first is due earlier than it was. */
  private reconsider(line: DueLine): boolean {
    const { entry, first } = line
    if (first === undefined) {
      entry.line = undefined
      DueHeap.remove(this.due, line)
      if (this.due.length === 0) this.alarm.clear()
      if (entry.level === -1) this.file(entry, this.time())
      return false
    }
    if (entry.version !== this.version) {
      this.renew(entry)
      return true
    }
    const before = line.index === -1 ? Infinity : line.due
    DueHeap.set(this.due, line, Entry.dueAt(this.rates, entry, first.waiter.tokens))
    return line.due < before
  }

  private grant(line: DueLine, now: number): void {
    const waiter = line.shift()!
    this.take(line.entry, waiter.tokens, waiter.since, now, waiter)
    this.reconsider(line)
    waiter.onDue()
  }

  private defer(): void {
    this.deferred = true
    this.nextTurn(() => {
      this.deferred = false
      this.settle()
    })
  }

  private nextTurn(f: () => void): void {
    this.dispatcher ??= dispatcherIn(this.place.context)
    this.dispatcher.scheduleTask(() => {
      if (!this.closed) f()
    }, 0)
  }

  private arm(): void {
    if (this.due.length > 0) this.alarm.set(this.due[0]!.due, this.time())
  }

  private file(entry: Entry.Entry, now: number): void {
    const rest = Entry.restOf(this.rates, entry)
    this.rests.file(entry, rest === Infinity ? now : rest, now, Gcra.maxCatchUp)
    // The calls without a key are one key, which goes with the limiter.
    if (entry.key !== undefined && this.rests.nextCheck < this.restAlarm.at) {
      this.restAlarm.set(this.rests.nextCheck, now)
    }
  }

  /** What was in use when it was looked at last is to be looked at again. */
  private refile(entry: Entry.Entry, now: number): void {
    if (entry.level === -1 && !Entry.inUse(entry) && this.entries.get(entry.key) === entry) this.file(entry, now)
  }

  private sweep(now: number, budget: number): void {
    this.rests.sweep(now, budget, (entry) => {
      this.renew(entry)
      if (Entry.atRest(this.rates, entry, now)) this.drop(entry)
      else if (entry.level === -1 && !Entry.inUse(entry)) this.file(entry, now)
    })
  }

  private moveEpoch(nanos: number): number {
    this.epoch += BigInt(nanos)
    for (const entry of this.entries.values()) Entry.shift(entry, nanos)
    this.latestTat -= nanos
    this.alarm.at -= nanos
    this.restAlarm.at -= nanos
    return this.time()
  }
}
