/**
 * A limiter whose state is in a store that several processes share.
 *
 * Callers wait in their process. For each key one command at a time asks the store for slots, for the first waiters
 * together. A slot is due now or soon, and belongs to the queue: when a waiter leaves, the next one takes its slot.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dispatcherIn } from "../data/dispatcher.js"
import * as Slices from "../data/slices.js"
import type * as Timers from "../data/timers.js"
import { intervalWithoutLog, maxCatchUp, type Rate, type Tokens } from "../limiter/gcra.js"
import type { Backend, Granted, Peek, Refusal, Standing, StoreError, Waiter } from "../limiter/limiter.js"
import { Line, Place } from "../limiter/line.js"
import * as LimiterMemory from "../limiter/memory.js"
import type { LimiterWatch } from "../seen/seen.js"
import type { LimiterSpans, Log } from "../seen/tell.js"
import { keyName } from "../store/bounds.js"
import type { Cell, DirectGcraStore, Taken } from "../store/gcraStore.js"
import type { Guard } from "../store/guard.js"
import { count, Entry, nanosPerMilli, standingOf } from "./entry.js"

/** How late a slot may be taken, in nanoseconds: unused slots are not saved up. */
const catchUpOf = (rates: ReadonlyArray<Rate>): number => rates.some((rate) => rate.strict) ? 10_000_000 : maxCatchUp

/**
 * How far ahead slots are asked for, in milliseconds, plus the time an answer takes. It is `maxCatchUp`, so that a process
 * that stalls finds the slots of the stall, and keeps the pace of a limiter in memory.
 */
const lookaheadMillis = 50

/** The longest answer that is counted as typical. A longer one was held up. */
const longestAnswerMillis = 1000

/** How long unused slots are kept for the next arrival. */
const keepNanos = 2_000_000

/** Waiters to which a policy applies. */
class Told extends Line {}

export interface Options {
  readonly store: (cells: ReadonlyArray<Cell>) => DirectGcraStore
  readonly guard: Guard
  readonly onStoreError: "fail" | "local" | "allow"
  readonly expectedProcesses: number
}

/** Makes a limiter on the clock of the running fiber. */
export const make = (rates: ReadonlyArray<Rate>, options: Options): Effect.Effect<SharedLimiter> =>
  Effect.withFiber((fiber) =>
    Effect.succeed(new SharedLimiter(rates, options, fiber.context, fiber.getRef(Clock.Clock)))
  )

const cells = (rates: ReadonlyArray<Rate>): ReadonlyArray<Cell> =>
  rates.map((rate) => ({ burst: rate.burst, intervalMicros: intervalWithoutLog(rate) / 1000 }))

export class SharedLimiter implements Backend {
  private readonly options: Options
  readonly place: Timers.Place
  readonly epoch: bigint
  readonly entries = new Map<string | undefined, Entry>()
  private readonly slices: Slices.Slices
  /** The time of an answer. It falls at once and rises step by step, so that one late answer counts little. */
  private answerMillis = 0
  private closed = false
  /** The keys whose waiters hear that they are due. Their code may use any key. */
  private readonly serving = new Set<Entry>()
  private rates: ReadonlyArray<Rate> = []
  // `adopt` sets it in the constructor.
  private store!: DirectGcraStore
  private catchUp = 0
  /** The share of this process while the store is away. */
  readonly local: LimiterMemory.LimiterMemory

  constructor(rates: ReadonlyArray<Rate>, options: Options, context: Context.Context<never>, clock: Clock.Clock) {
    this.options = options
    this.place = { context, clock }
    this.slices = new Slices.Slices(dispatcherIn(context))
    this.epoch = clock.monotonicTimeNanosUnsafe()
    this.adopt(rates)
    this.local = new LimiterMemory.LimiterMemory(this.share(rates), context, clock)
  }

  private adopt(rates: ReadonlyArray<Rate>): void {
    // The store knows a quota by its place: given in another order, each one would take over the debt of another.
    const sorted = rates.toSorted((a, b) => intervalWithoutLog(a) - intervalWithoutLog(b) || a.burst - b.burst)
    // First: it may be the code of a user, and throw.
    this.store = this.options.store(cells(sorted))
    this.rates = sorted
    this.catchUp = catchUpOf(rates)
  }

  private share(rates: ReadonlyArray<Rate>): ReadonlyArray<Rate> {
    const processes = this.options.expectedProcesses
    return rates.map((rate) => ({
      ...rate,
      window: rate.window * processes,
      interval: intervalWithoutLog(rate) * processes
    }))
  }

  get burst(): number {
    return this.local.burst
  }

  get size(): number {
    return this.entries.size
  }

  now(): number {
    return Number(this.place.clock.monotonicTimeNanosUnsafe() - this.epoch)
  }

  /** What the store has of a key outlasts the limiter; what this process has of it does not. */
  restAt(): number {
    return this.now() + Math.max(this.entries.size === 0 ? 0 : keepNanos, this.local.restAt() - this.local.now())
  }

  /** No process knows the starts of the others, so strict quotas hold by due times. */
  readonly strict = false

  watch: LimiterWatch | undefined = undefined
  log: Log | undefined = undefined

  // The local limiter hears of the penalties that this process gives.
  get spans(): LimiterSpans | undefined {
    return this.local.spans
  }
  set spans(spans: LimiterSpans | undefined) {
    this.local.spans = spans
  }

  /** Of the penalties that this process has given. */
  penaltyUnsafe(key: string | undefined): number {
    return this.local.penaltyUnsafe(key)
  }

  /** A slot of the store is spent when it is granted. Only grants of the local limiter begin later, or are refunded. */
  beginUnsafe(granted: Granted): void {
    this.local.beginUnsafe(granted)
  }

  refundUnsafe(granted: Granted): void {
    for (const entry of this.serving) {
      const { granting } = entry
      if (granting === undefined || granting !== granted) continue
      entry.granting = undefined
      return entry.slots.putBack(count(granting.tokens))
    }
    this.local.refundUnsafe(granted)
  }

  takeUnsafe(
    key: string | undefined,
    tokens: Tokens,
    _since?: number,
    _later?: Granted,
    now: number = this.now()
  ): boolean {
    const entry = this.entries.get(key)
    if (entry === undefined || entry.first !== undefined || count(tokens) > this.burst) return false
    entry.slots.expire(now - this.catchUp, now, false)
    return this.spend(entry, count(tokens), now)
  }

  waitUnsafe(
    waiter: Waiter<StoreError>,
    options?: { readonly insteadOf?: Waiter<StoreError> | undefined }
  ): void {
    if (this.closed) return waiter.onClose?.()
    const former = options?.insteadOf
    if (count(waiter.tokens) > this.burst) {
      if (former !== undefined) this.cancelUnsafe(former)
      return waiter.onTooLarge(this.burst)
    }
    let place = former?.link instanceof Place ? former.link : undefined
    if (place?.line instanceof Told) {
      place.line.remove(place)
      place = undefined
    }
    if (place !== undefined && !(place.line instanceof Entry)) return this.waitHere(waiter, former)
    const entry = this.entries.get(waiter.key) ?? this.enter(waiter.key)
    entry.add(waiter, place)
    // While a command asks for the waiters in front, one behind the first changes nothing.
    if (entry.asking === undefined || entry.first!.waiter === waiter) this.serve(entry)
  }

  cancelUnsafe(waiter: Waiter<StoreError>): void {
    const place = waiter.link
    if (!(place instanceof Place)) return
    const { line } = place
    if (!(line instanceof Entry)) return this.local.cancelUnsafe(waiter)
    line.remove(place)
    this.serve(line)
  }

  /** Queues on the local limiter. It does not make up for the time spent waiting for the store. */
  private waitHere(waiter: Waiter<StoreError>, insteadOf?: Waiter<StoreError> | undefined): void {
    if (this.closed) return waiter.onClose?.()
    waiter.since = this.local.now()
    this.local.waitUnsafe(waiter, { insteadOf })
  }

  setQuotas(rates: ReadonlyArray<Rate>): void {
    this.adopt(rates)
    this.local.setQuotas(this.share(rates))
    const tooLarge: Array<Waiter<StoreError>> = []
    for (const entry of this.entries.values()) {
      entry.version++
      entry.forget()
      entry.slots.keep()
      tooLarge.push(...entry.removeLarger((tokens) => count(tokens) > this.burst))
    }
    this.slices.tellEach(tooLarge, (waiter) => waiter.onTooLarge(this.burst))
    this.slices.tellEach(this.entries.values(), (entry) => this.serve(entry))
  }

  readonly attempt: Backend["attempt"] = (key, tokens, _now, _granted, answer) => {
    const { guard, onStoreError } = this.options
    const sent = Effect.suspend(() => this.store.take(keyName(key), [count(tokens)], 0))
    return Effect.matchEffect(guard.runOrApply(onStoreError, "take", sent), {
      onFailure: (failure) => answer(failure),
      onSuccess: (taken) => {
        const standing = standingOf(this.rates, taken)
        if (taken !== undefined) {
          return taken.waits.length === 1
            ? answer(undefined, standing)
            : answer({ ...standing, retryAfter: Math.ceil(taken.retryMillis * nanosPerMilli) })
        }
        const { local } = this
        const now = local.now()
        return onStoreError === "allow" || local.takeUnsafe(key, tokens, now)
          ? answer(undefined, standing)
          : answer({ ...standing, retryAfter: local.retryAfterUnsafe(key, tokens, now) })
      }
    })
  }

  standingUnsafe(key: string | undefined): Standing {
    return standingOf(this.rates, this.entries.get(key)?.told)
  }

  leastWaitUnsafe(key: string | undefined, tokens: Tokens, now: number): number {
    const entry = this.entries.get(key)
    // The next slot is later than the one that the store refused, and the slots that are there are for others.
    return entry === undefined || count(tokens) < entry.refused || entry.queued < entry.slots.tokens
      ? 0
      : entry.refusedDue - now
  }

  refusalUnsafe(key: string | undefined, tokens: Tokens, now: number): Refusal {
    const entry = this.entries.get(key)
    if (entry === undefined) return this.local.refusalUnsafe(key, tokens, this.local.now())
    return this.refusalOf(entry, now)
  }

  refuseUnsafe(waiter: Waiter<StoreError>): Refusal {
    const entry = this.entries.get(waiter.key)
    this.cancelUnsafe(waiter)
    this.refundUnsafe(waiter)
    if (entry === undefined) return this.local.refuseUnsafe(waiter)
    return this.refusalOf(entry, this.now())
  }

  /** An estimate, by the last answer and the waiters of this process. */
  private refusalOf(entry: Entry, now: number): Refusal {
    const ahead = Math.max(0, entry.queued - entry.slots.tokens)
    const pace = this.rates.reduce((most, rate) => Math.max(most, intervalWithoutLog(rate)), 0)
    const retryAfter = Math.max(0, entry.refusedDue - now) + ahead * pace
    return { limit: standingOf(this.rates, entry.told).limit, remaining: 0, retryAfter }
  }

  peek(key: string | undefined): Effect.Effect<Peek, StoreError> {
    const { guard, onStoreError } = this.options
    // Nothing waits for less than no time, so the store refuses and says how long.
    const look = Effect.suspend(() => this.store.take(keyName(key), [1], -1))
    return Effect.flatMap(guard.runOrApply(onStoreError, "peek", look), (taken) => {
      if (taken === undefined) return this.local.peek(key)
      const retryAfter = Math.max(0, Math.ceil((taken.retryMillis - 1) * nanosPerMilli))
      return Effect.succeed({ ...standingOf(this.rates, taken), retryAfter })
    })
  }

  penalize(key: string | undefined, nanos: number): Effect.Effect<boolean, StoreError> {
    return this.command("penalize", key, () => this.store.penalize(keyName(key), nanos / nanosPerMilli), () => {
      const isLonger = this.local.penalizeUnsafe(key, nanos)
      if (isLonger) this.watch?.penalized()
      return isLonger
    })
  }

  reset(key: string | undefined): Effect.Effect<void, StoreError> {
    return this.command("reset", key, () => this.store.reset(keyName(key)), () => this.local.resetUnsafe(key))
  }

  /** Sends a command without an answer, and applies it in this process too. */
  private command<A>(
    operation: string,
    key: string | undefined,
    send: () => Effect.Effect<void, StoreError>,
    here: () => A
  ): Effect.Effect<A, StoreError> {
    const { guard, onStoreError } = this.options
    return Effect.map(guard.runOrApply(onStoreError, operation, Effect.suspend(send)), () => {
      const done = here()
      const entry = this.entries.get(key)
      if (entry !== undefined) {
        // The slots were granted before the command: ask again.
        entry.version++
        entry.slots.clear()
        entry.forget()
        this.serve(entry)
      }
      return done
    })
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const left: Array<Effect.Effect<void>> = []
    for (const entry of this.entries.values()) {
      entry.alarm.close()
      entry.asking?.()
      left.push(this.giveBack(entry))
    }
    this.slices.tellEach(this.waiters(), (waiter) => waiter.onClose?.())
    return Effect.andThen(Effect.all(left, { concurrency: "unbounded", discard: true }), this.local.close)
  })

  private *waiters(): Generator<Waiter<StoreError>> {
    for (const entry of this.entries.values()) yield* entry.waiters()
    yield* this.local.waiters()
  }

  private enter(key: string | undefined): Entry {
    const entry = new Entry(key, this.place, (entry) => this.serve(entry))
    this.entries.set(key, entry)
    return entry
  }

  private spend(entry: Entry, tokens: number, now: number): boolean {
    if (!entry.slots.spend(tokens, now)) return false
    entry.idleAt = undefined
    return true
  }

  /** Hands out what is due, asks for more, and sets the timer for what comes next. */
  private serve(entry: Entry, now: number = this.now()): void {
    // The one that serves the key goes on with what comes meanwhile.
    const { serving } = this
    if (this.closed || serving.has(entry)) return
    // While somebody waits the last slot is kept, however late: a process whose timers are all too late goes on.
    entry.slots.expire(now - this.catchUp, now, entry.first !== undefined)
    serving.add(entry)
    while (!this.closed && entry.first !== undefined && this.spend(entry, count(entry.first.waiter.tokens), now)) {
      const waiter = entry.granting = entry.shift()!
      this.slices.apart(() => waiter.onDue())
    }
    serving.delete(entry)
    entry.granting = undefined
    if (this.closed) return
    if (entry.first === undefined) this.rest(entry, now)
    else this.proceed(entry, now)
  }

  private proceed(entry: Entry, now: number): void {
    entry.idleAt = undefined
    const tokens = count(entry.first!.waiter.tokens)
    // The waiter that was refused has left, and the next one asks for fewer tokens.
    if (entry.slots.empty && tokens < entry.refused) entry.retryAt = 0
    if (entry.asking === undefined && now >= entry.retryAt) this.ask(entry)
    const due = entry.slots.dueAt(tokens)
    const at = entry.asking === undefined && entry.retryAt > now ? entry.retryAt : Infinity
    entry.alarm.set(Math.min(due, at), now)
  }

  /** Nobody waits: the slots go to the next arrival, or back to the store after a moment. */
  private rest(entry: Entry, now: number): void {
    if (entry.asking !== undefined) return
    if (entry.slots.empty) return this.drop(entry)
    entry.idleAt ??= now
    const until = entry.idleAt + keepNanos
    if (now < until) return entry.alarm.set(until, now)
    Effect.runForkWith(this.place.context)(this.giveBack(entry))
    // Slots that cannot be given back stay for arrivals until they expire.
    if (entry.slots.empty) this.drop(entry)
    else entry.alarm.set(entry.slots.lastDue + this.catchUp + nanosPerMilli, now)
  }

  private giveBack(entry: Entry): Effect.Effect<void> {
    const { state, tokens } = entry.slots.giveBack()
    if (tokens === 0) return Effect.void
    return Effect.ignore(this.options.guard.once("giveBack", this.store.giveBack(keyName(entry.key), tokens, state)))
  }

  private drop(entry: Entry): void {
    if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key)
    // Last: the end of a timer runs the code of a clock, which may use the key.
    entry.alarm.clear()
  }

  /** Asks the store for the first waiters that have no slot yet. */
  private ask(entry: Entry): void {
    const tokens = entry.wanted()
    if (tokens.length === 0) return
    // In whole milliseconds: the store may send what many keys ask for alike once.
    const ahead = lookaheadMillis + Math.ceil(this.answerMillis)
    const askedAt = this.now()
    const { version } = entry
    const onFailure = (failure: StoreError) => {
      entry.asking = undefined
      this.away(entry, failure)
    }
    const onSuccess = (taken: Taken, now: number = this.now()) => {
      entry.asking = undefined
      const took = Math.max(0, now - askedAt) / nanosPerMilli
      this.answerMillis = Math.min(took, 2 * this.answerMillis + 1, longestAnswerMillis)
      entry.hear(tokens, taken, askedAt, ahead, now)
      if (entry.version !== version) {
        entry.slots.keep()
        entry.forget()
      }
      this.serve(entry, now)
    }
    const { store } = this
    const { guard } = this.options
    const name = keyName(entry.key)
    const run = (take: Effect.Effect<Taken, StoreError>, agoMillis?: number) => {
      const command = Effect.matchEager(guard.run("take", take, agoMillis), { onFailure, onSuccess })
      const fiber = Effect.runForkWith(this.place.context)(command)
      if (fiber.pollUnsafe() === undefined) entry.asking = () => fiber.interruptUnsafe()
    }
    const take = Effect.suspend(() => store.take(name, tokens, ahead))
    if (store.takeUnsafe === undefined || !guard.isFree()) return run(take)
    entry.asking = store.takeUnsafe(name, tokens, ahead, (exit) => {
      const now = this.now()
      const agoMillis = (now - askedAt) / nanosPerMilli
      if (Exit.isSuccess(exit)) {
        guard.answered("take", agoMillis)
        return onSuccess(exit.value, now)
      }
      // The guard decides what follows a failure, as if it had sent the first attempt.
      let first: typeof exit | undefined = exit
      run(
        Effect.suspend(() => {
          const failed = first
          first = undefined
          return failed ?? take
        }),
        agoMillis
      )
    })
  }

  /** The store is away: applies the policy to all waiters. */
  private away(entry: Entry, failure: StoreError): void {
    // In a line of their own: one that leaves meanwhile is told nothing.
    const told = new Told()
    let calls = 0
    for (let waiter = entry.shift(); waiter !== undefined; waiter = entry.shift()) {
      told.add(waiter)
      calls++
    }
    this.rest(entry, this.now())
    const { guard, onStoreError } = this.options
    if (onStoreError !== "fail") {
      Effect.runForkWith(this.place.context)(guard.applied(onStoreError, failure, calls))
    }
    const { slices } = this
    slices.apart(() =>
      Slices.begin({
        slices,
        get pending() {
          return told.first !== undefined
        },
        step: () => {
          const waiter = told.shift()!
          if (onStoreError === "fail") waiter.onFailure(failure)
          else if (onStoreError === "allow") waiter.onDue()
          else this.waitHere(waiter)
        },
        done() {}
      })
    )
  }
}
