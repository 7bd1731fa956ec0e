/**
 * A limiter whose state is in this process.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { dispatcherIn, throwIn } from "../data/dispatcher.js"
import * as DueHeap from "../data/dueHeap.js"
import * as Timers from "../data/timers.js"
import type { LimiterWatch } from "../seen/seen.js"
import type { LimiterSpans, Log } from "../seen/tell.js"
import { Charge } from "./charge.js"
import * as Entry from "./entry.js"
import { DueLine } from "./entry.js"
import * as Gcra from "./gcra.js"
import { type Backend, excessOf, type Granted, type Peek, type Refusal, type Standing, type Waiter } from "./limiter.js"
import { Line, Place } from "./line.js"
import * as RestList from "./restList.js"

/** How many callers one step calls back, and how many entries it converts. The next turn does the rest. */
const piecesPerStep = 256

/** How many waiters with several quotas, or strict ones, are tried out for a call with a `maxWait`: many may be refused in one turn. */
const waitersTried = 256

// A call adds at most one entry, so any number above one shrinks the map.
const sweepPerCall = 8
const sweepPerTick = 4096

/** Beyond this, after 52 days, the axis starts over: a number no longer holds each nanosecond. */
const axisEnd = 2 ** 52

/** Makes a limiter on the clock of the running fiber. */
export const make = (rates: ReadonlyArray<Gcra.Rate>): Effect.Effect<LimiterMemory> =>
  Effect.withFiber((fiber) => Effect.succeed(new LimiterMemory(rates, fiber.context, fiber.getRef(Clock.Clock))))

/** The state of all keys, and one timer for them. */
export class LimiterMemory implements Backend {
  readonly entries = new Map<string | undefined, Entry.Entry>()
  /** The last entry looked up: calls for one key come in a row. */
  private recent: Entry.Entry | undefined
  private readonly rests = new RestList.RestList<Entry.Entry>()
  /** A heap of the lines, by the due time of their first waiter. */
  private readonly due: Array<DueLine> = []
  /** Waiters that exceed the burst and have not been called back yet. */
  readonly tooLarge = new Line()
  private settling = false
  /** The last step left callbacks to the next turn. */
  private deferred = false
  private turnIsSet = false
  private dispatcher: SchedulerDispatcher | undefined
  private readonly alarm: Timers.Alarm
  private readonly restAlarm: Timers.Alarm
  private closed = false
  readonly place: Timers.Place
  epoch: bigint
  private version: Entry.Version
  /** The entries to be converted to the present quotas. Some of them are already. */
  private renewals: Generator<Entry.Entry, undefined> | undefined
  /** The lines whose entries are converted first, the last one first. */
  private urgent: Array<DueLine> = []
  private rates: ReadonlyArray<Gcra.Rate> = []
  strict = false
  burst = Infinity
  bursts: ReadonlyArray<number> = []
  watch: LimiterWatch | undefined = undefined
  spans: LimiterSpans | undefined = undefined
  log: Log | undefined = undefined
  /** When the last penalty that was ever given ends. */
  penalizedUntil = -Infinity

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
    this.bursts = rates.map((rate) => rate.burst)
    this.burst = Math.min(...this.bursts)
  }

  private exceeds(tokens: Gcra.Tokens): boolean {
    return excessOf(tokens, this) !== undefined
  }

  get size(): number {
    return this.entries.size
  }

  now(): number {
    const now = this.time()
    return now > axisEnd && !this.settling && this.renewals === undefined ? this.moveEpoch(now) : now
  }

  /** The time within a step, whose axis must not move. */
  private time(): number {
    return Number(this.place.clock.monotonicTimeNanosUnsafe() - this.epoch)
  }

  restAt(): number {
    if (this.renewals !== undefined) return Infinity
    let rest = 0
    for (const entry of this.entries.values()) rest = Math.max(rest, Entry.restOf(this.rates, entry))
    return rest
  }

  takeUnsafe(
    key: string | undefined,
    tokens: Gcra.Tokens,
    since: number,
    later?: Granted,
    now: number = this.time()
  ): boolean {
    if (this.exceeds(tokens)) return false
    const entry = this.lookup(key) ?? this.enter(key)
    const taken = entry.line === undefined && Entry.dueAt(this.rates, entry, tokens) <= now
    if (taken) this.take(entry, tokens, since, now, later)
    if (now >= this.rests.nextCheck) this.sweep(now, sweepPerCall)
    return taken
  }

  readonly attempt: Backend["attempt"] = (key, tokens, now, granted, answer) => {
    // Waiters with a late timer go first, so that the `retryAfter` of an earlier refusal holds to the nanosecond.
    this.settle()
    if (this.takeUnsafe(key, tokens, now, granted, now)) return answer()
    return answer(this.refusalUnsafe(key, tokens, now, Infinity))
  }

  beginUnsafe(granted: Granted): void {
    const start = this.takeLink(granted)
    if (start === undefined) return
    const { entry } = start
    const now = this.time()
    Entry.begin(start, now)
    this.refile(entry, now)
    if (start.log === undefined) return
    // Waiters that need its place in the log have a due time from now on. None of them is due yet, and a callback here
    // would delay the effect that has begun.
    if (entry.line !== undefined && this.reconsider(entry.line) && !this.settling) this.arm()
  }

  refundUnsafe(granted: Granted): void {
    const start = this.takeLink(granted)
    if (start === undefined) return
    const { entry } = start
    Entry.refund(this.rates, start)
    this.refile(entry, this.time())
    if (entry.line !== undefined && this.reconsider(entry.line)) this.settle()
  }

  chargeUnsafe(key: string | undefined, tokens: Gcra.Tokens, { link }: Granted): Entry.Charge {
    const entry = this.lookup(key) ?? this.enter(key)
    const now = this.time()
    // A call of no tokens has taken none, and its debt counts from here.
    if (tokens === 0) this.take(entry, 0, now, now, undefined)
    return Entry.open(entry, tokens, link instanceof Charge ? link : undefined)
  }

  settleUnsafe(charge: Entry.Charge, actual: Gcra.Tokens | undefined): void {
    const { entry } = charge
    this.renew(entry)
    const now = this.time()
    const changed = Entry.settle(this.rates, charge, actual, now)
    this.refile(entry, now)
    if (!changed || entry.line === undefined) return
    this.reconsider(entry.line)
    this.settle()
  }

  private takeLink(granted: Granted): Entry.Charge | undefined {
    const start = granted.link
    if (!(start instanceof Charge)) return undefined
    granted.link = undefined
    this.renew(start.entry)
    return start
  }

  waitUnsafe(waiter: Waiter, options?: { readonly insteadOf?: Waiter | undefined }): void {
    const former = options?.insteadOf
    if (this.exceeds(waiter.tokens)) {
      if (former !== undefined) this.cancelUnsafe(former)
      return waiter.onTooLarge(this.burst)
    }
    const entry = this.lookup(waiter.key) ?? this.enter(waiter.key)
    const line = entry.line ??= new DueLine(entry)
    line.add(waiter, former?.link instanceof Place && former.link.line === line ? former.link : undefined)
    if (line.first!.waiter !== waiter) return
    this.reconsider(line)
    this.settle()
  }

  cancelUnsafe(waiter: Waiter): void {
    const place = waiter.link
    if (!(place instanceof Place)) return
    const { line } = place
    const wasFirst = line.first === place
    line.remove(place)
    if (!wasFirst || !(line instanceof DueLine)) return
    if (this.reconsider(line)) this.settle()
    else if (this.due.length === 0) this.alarm.clear()
  }

  setQuotas(rates: ReadonlyArray<Gcra.Rate>): void {
    const now = this.time()
    const to: Entry.Version = { rates, next: undefined }
    this.version.next = { to, sources: Gcra.sources(this.rates, rates), at: now }
    this.version = to
    this.quote(rates)
    this.recent = undefined
    this.urgent = this.due.slice().reverse()
    this.renewals ??= this.outdated()
    this.renewSome()
    this.settle()
  }

  /** All entries, from the start again if the quotas change meanwhile. */
  private *outdated(): Generator<Entry.Entry, undefined> {
    let version: Entry.Version
    do {
      version = this.version
      yield* this.entries.values()
    } while (version !== this.version)
  }

  private renewSome(): void {
    const now = this.time()
    for (let left = piecesPerStep; left > 0 && this.renewals !== undefined; left--) {
      const entry = this.urgent.pop()?.entry ?? this.renewals.next().value
      if (entry === undefined) {
        this.renewals = undefined
        return
      }
      this.renew(entry)
      // It may have been dropped since it was listed.
      if (Entry.atRest(this.rates, entry, now) && this.entries.get(entry.key) === entry) this.drop(entry)
    }
  }

  /** Converts an entry to the present quotas. */
  private renew(entry: Entry.Entry): void {
    if (entry.version === this.version) return
    Entry.renew(entry)
    this.rests.remove(entry)
    this.refile(entry, this.time())
    const { line } = entry
    if (line === undefined) return
    for (const waiter of line.removeLarger((tokens) => this.exceeds(tokens))) this.tooLarge.add(waiter)
    this.reconsider(line)
  }

  penalize(key: string | undefined, nanos: number): Effect.Effect<boolean> {
    return Effect.sync(() => this.penalizeUnsafe(key, nanos))
  }

  penalizeUnsafe(key: string | undefined, nanos: number): boolean {
    const now = this.time()
    const entry = this.lookup(key) ?? this.enter(key)
    const isLonger = Entry.penalize(entry, nanos, now)
    if (isLonger) this.watch?.penalized()
    this.spans?.penalized(key, nanos)
    this.penalizedUntil = Math.max(this.penalizedUntil, now + nanos)
    if (entry.level === -1) this.file(entry, now)
    if (entry.line !== undefined) {
      this.reconsider(entry.line)
      this.settle()
    }
    return isLonger
  }

  reset(key: string | undefined): Effect.Effect<void> {
    return Effect.sync(() => this.resetUnsafe(key))
  }

  resetUnsafe(key: string | undefined): void {
    const entry = this.lookup(key)
    if (entry === undefined) return
    this.spans?.reset(key)
    const now = this.time()
    entry.rare = undefined
    entry.tats.fill(now)
    if (entry.line === undefined) return this.drop(entry)
    this.reconsider(entry.line)
    this.settle()
  }

  standingUnsafe(key: string | undefined, now: number): Standing {
    return Entry.standing(this.rates, this.lookup(key), now)
  }

  refusalUnsafe(key: string | undefined, tokens: Gcra.Tokens, now: number, tried = waitersTried): Refusal {
    const { limit, remaining } = this.standingUnsafe(key, now)
    return { limit, remaining, retryAfter: this.retryAfterUnsafe(key, tokens, now, tried) }
  }

  refuseUnsafe(waiter: Waiter): Refusal {
    this.cancelUnsafe(waiter)
    this.refundUnsafe(waiter)
    return this.refusalUnsafe(waiter.key, waiter.tokens, this.now())
  }

  leastWaitUnsafe(key: string | undefined, tokens: Gcra.Tokens, now: number): number {
    // Waiters with a late timer go first: the call comes behind those that are left.
    this.settle()
    return this.retryAfterUnsafe(key, tokens, now, waitersTried)
  }

  peek(key: string | undefined): Effect.Effect<Peek> {
    return Effect.sync(() => {
      this.settle()
      const now = this.now()
      return { ...this.standingUnsafe(key, now), retryAfter: this.retryAfterUnsafe(key, 1, now) }
    })
  }

  /** Nanoseconds until `tokens` pass, behind the present waiters, if nobody else comes; at least so many with more than `tried`. */
  retryAfterUnsafe(key: string | undefined, tokens: Gcra.Tokens, now: number, tried = Infinity): number {
    const entry = this.lookup(key)
    return entry === undefined ? 0 : Entry.retryAfter(this.rates, entry, tokens, now, tried)
  }

  dueInUnsafe(key: string | undefined, tokens: Gcra.Tokens): number {
    const entry = this.lookup(key)
    if (entry === undefined) return 0
    const now = this.time()
    return Math.max(0, Entry.dueAt(this.rates, entry, tokens, now) - now)
  }

  penaltyUnsafe(key: string | undefined): number {
    const { rare } = this.lookup(key) ?? {}
    return rare === undefined ? 0 : Math.max(0, rare.penaltyUntil - this.time())
  }

  /** Calls back the waiters that are due or too large, and sets the timer for the next due time. */
  settle(): void {
    if (this.settling || this.deferred) return
    // A callback takes time. A waiter that becomes due meanwhile is called back in the next step.
    const now = this.time()
    let left = piecesPerStep
    this.settling = true
    let served = true
    while (left > 0 && served) {
      // A callback may throw, as an observer of its fiber does. That hurts neither the other waiters nor who is in this step.
      try {
        served = this.serveNext(now)
      } catch (error) {
        throwIn(this.tasks, error)
      }
      if (served) left--
    }
    this.settling = false
    this.deferred = left === 0 || this.tooLarge.first !== undefined
    if (this.deferred || this.renewals !== undefined) this.goOn()
    if (!this.deferred) this.arm()
  }

  private serveNext(now: number): boolean {
    const tooLarge = this.tooLarge.shift()
    if (tooLarge !== undefined) {
      tooLarge.onTooLarge(this.burst)
      return true
    }
    const line = this.due[0]
    if (line === undefined || line.due > now) return false
    if (line.entry.version === this.version) this.grant(line, now)
    else this.renew(line.entry)
    return true
  }

  private get tasks(): SchedulerDispatcher {
    return this.dispatcher ??= dispatcherIn(this.place.context)
  }

  /** Goes on in the next turn of the event loop. */
  private goOn(): void {
    if (this.turnIsSet) return
    this.turnIsSet = true
    this.tasks.scheduleTask(() => {
      this.turnIsSet = this.deferred = false
      if (this.closed) return
      this.renewSome()
      this.settle()
    }, 0)
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
      // The comparison is repeated here so that this function stays small enough to be inlined.
      if (entry.version !== this.version) this.renew(entry)
      this.recent = entry
    }
    return entry
  }

  /** All who wait. */
  *waiters(): Generator<Waiter> {
    yield* this.tooLarge.waiters()
    for (const { line } of this.entries.values()) if (line !== undefined) yield* line.waiters()
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

  private take(entry: Entry.Entry, tokens: Gcra.Tokens, since: number, now: number, later: Granted | undefined): void {
    const arrival = Entry.arrivalOf(this.rates, entry, tokens, since, now)
    if (later === undefined && entry.rare === undefined && !this.strict) {
      Entry.take(this.rates, entry.tats, arrival, tokens)
    } else {
      Entry.takeRare(this.rates, entry, arrival, tokens, { now, later, strict: this.strict })
    }
    if (entry.level === -1) this.file(entry, now)
  }

  /**
   * Updates the due time of a line after a change. Returns whether it is earlier than before. It leaves the timer as it is:
   * the end of one runs the code of a clock, and here a waiter may be between two states.
   */
  private reconsider(line: DueLine): boolean {
    const { entry, first } = line
    // After a change of the quotas it comes here again when it is converted, which a later turn does.
    if (entry.version !== this.version) return false
    if (first === undefined) {
      entry.line = undefined
      DueHeap.remove(this.due, line)
      if (entry.level === -1) this.file(entry, this.time())
      return false
    }
    const before = line.due
    DueHeap.set(this.due, line, Entry.dueAt(this.rates, entry, first.waiter.tokens))
    return line.due < before
  }

  private grant(line: DueLine, now: number): void {
    const waiter = line.shift()!
    this.take(line.entry, waiter.tokens, waiter.since, now, waiter)
    this.reconsider(line)
    waiter.onDue()
  }

  private arm(): void {
    if (this.due.length > 0) this.alarm.set(this.due[0]!.due, this.time())
    else this.alarm.clear()
  }

  private file(entry: Entry.Entry, now: number, rest = Entry.restOf(this.rates, entry)): void {
    this.rests.file(entry, rest === Infinity ? now : rest, now, Gcra.maxCatchUp)
    // The entry of the calls without a key stays as long as the limiter.
    if (entry.key !== undefined && this.rests.nextCheck < this.restAlarm.at) {
      this.restAlarm.set(this.rests.nextCheck, now)
    }
  }

  /** Files an entry that was in use at its last check, unless it still is. */
  private refile(entry: Entry.Entry, now: number): void {
    if (entry.level !== -1 || entry.line !== undefined) return
    const rest = Entry.restOf(this.rates, entry)
    if (rest < Infinity && this.entries.get(entry.key) === entry) this.file(entry, now, rest)
  }

  private sweep(now: number, budget: number): void {
    this.rests.sweep(now, budget, (entry) => {
      this.renew(entry)
      if (Entry.atRest(this.rates, entry, now)) this.drop(entry)
      else this.refile(entry, now)
    })
  }

  private moveEpoch(nanos: number): number {
    this.epoch += BigInt(nanos)
    this.penalizedUntil -= nanos
    for (const entry of this.entries.values()) Entry.shift(entry, nanos)
    this.alarm.at -= nanos
    this.restAlarm.at -= nanos
    return this.time()
  }
}
