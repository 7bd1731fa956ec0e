/**
 * A limiter whose state is in a store that several processes share.
 *
 * Who waits, waits here: for each key one command at a time asks the store on behalf of those in front, and what it grants
 * are slots, due now or in a moment. A slot belongs to the queue, not to who was in front when it was asked for: one who
 * leaves costs nothing as long as somebody is behind.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Cell, GcraStore, Taken } from "../store/gcraStore.js"
import { intervalWithoutLog, maxCatchUp, type Rate } from "../limiter/gcra.js"
import type { Backend, Granted, Refusal, Standing, StoreError, Waiter } from "../limiter/limiter.js"
import * as LimiterMemory from "../limiter/memory.js"
import type * as Failure from "../store/failure.js"
import { SlotStock } from "./slotStock.js"
import type { Guard } from "../store/guard.js"
import * as WaiterList from "../limiter/waiterList.js"

/** A slot that nobody took is void after this, in nanoseconds: the past is not saved up. */
const catchUpOf = (rates: ReadonlyArray<Rate>): number => rates.some((rate) => rate.strict) ? 10_000_000 : maxCatchUp

/**
 * How far ahead slots are asked for, in milliseconds, beside the time that an answer takes. As far as lateness is made up:
 * a process that stalls finds the slots it slept through, and loses no more pace than one whose rate is in memory.
 */
const lookaheadMillis = 50

/** Beyond this an answer is late, and not what answers take. */
const longestAnswerMillis = 1000

/** How soon more is asked for while slots are at hand: many in one command, and long before they run out. */
const refillNanos = 10_000_000

/** For how many waiters one command asks at most. */
const mostPerCommand = 512

/** For how long slots are kept when nobody waits any more: the next one may come in the same breath. */
const keepNanos = 2_000_000

const nanosPerMilli = 1_000_000

interface Node extends WaiterList.Node<Node> {
  readonly waiter: Waiter<StoreError>
  readonly entry: Entry
}

interface Entry extends WaiterList.List<Node> {
  readonly key: string | undefined
  readonly slots: SlotStock
  /** Since when nobody waits. */
  idleAt: number | undefined
  asking: Fiber.Fiber<void> | undefined
  /** Not worth asking before, for as many tokens as were refused. */
  retryAt: number
  refused: number
  timer: Fiber.Fiber<void> | undefined
  timerAt: number
  last_: Taken | undefined
}

/** A waiter of the shared rate in the queue of the local one, whose time axis is another. */
class StandIn implements Waiter {
  readonly key: string | undefined
  readonly tokens: number
  readonly since: number
  link: unknown = undefined
  private readonly local: LimiterMemory.LimiterMemory
  private readonly waiter: Waiter<StoreError>
  constructor(local: LimiterMemory.LimiterMemory, waiter: Waiter<StoreError>) {
    this.local = local
    this.waiter = waiter
    this.key = waiter.key
    this.tokens = waiter.tokens
    this.since = local.now()
  }
  onDue(): void {
    this.local.beginUnsafe(this)
    this.waiter.link = undefined
    this.waiter.onDue()
  }
  onTooLarge(burst: number): void {
    this.waiter.link = undefined
    this.waiter.onTooLarge(burst)
  }
  onFailure(): void {}
}

export interface Options {
  readonly store: (cells: ReadonlyArray<Cell>) => GcraStore
  readonly guard: Guard
  readonly onStoreError: "fail" | "local" | "allow"
  readonly expectedProcesses: number
}

/** Makes a limiter on the clock of the running fiber. */
export const make = (rates: ReadonlyArray<Rate>, options: Options): Effect.Effect<LimiterRedis> =>
  Effect.withFiber((fiber) =>
    Effect.succeed(new LimiterRedis(rates, options, fiber.context, fiber.getRef(Clock.Clock)))
  )

const cells = (rates: ReadonlyArray<Rate>): ReadonlyArray<Cell> =>
  rates.map((rate) => ({ burst: rate.burst, intervalMicros: intervalWithoutLog(rate) / 1000 }))

/** The name of a key in the store: no key at all is a key as well. */
const nameOf = (key: string | undefined): string => key === undefined ? "" : `=${key}`

export class LimiterRedis implements Backend {
  private readonly options: Options
  private readonly context: Context.Context<never>
  private readonly clock: Clock.Clock
  readonly epoch: bigint
  private readonly entries = new Map<string | undefined, Entry>()
  /** What an answer takes: follows at once when it falls and step by step when it rises, so that a stall is not one. */
  private answerMillis = 0
  private closed = false
  private rates: ReadonlyArray<Rate>
  private store: GcraStore
  burst: number
  private catchUp: number
  /** This process' share, for when the store is away. */
  private readonly local: LimiterMemory.LimiterMemory

  constructor(rates: ReadonlyArray<Rate>, options: Options, context: Context.Context<never>, clock: Clock.Clock) {
    this.options = options
    this.context = context
    this.clock = clock
    this.epoch = clock.monotonicTimeNanosUnsafe()
    this.rates = rates
    this.store = options.store(cells(rates))
    this.burst = Math.min(...rates.map((rate) => rate.burst))
    this.catchUp = catchUpOf(rates)
    this.local = new LimiterMemory.LimiterMemory(this.share(rates), context, clock)
  }

  private share(rates: ReadonlyArray<Rate>): ReadonlyArray<Rate> {
    const processes = this.options.expectedProcesses
    return rates.map((rate) => ({
      ...rate,
      window: rate.window * processes,
      interval: intervalWithoutLog(rate) * processes
    }))
  }

  get size(): number {
    return this.entries.size
  }

  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() - this.epoch)
  }

  restAt(): number {
    return 0
  }

  /** No process knows of the starts of another: what is strict is so by due times. */
  readonly strict = false

  /** Who is granted a slot here has nothing left to tell: `link` is empty by then. */
  beginUnsafe(): void {}

  refundUnsafe(): void {}

  takeUnsafe(key: string | undefined, tokens: number): boolean {
    return this.takeAtUnsafe(key, tokens, 0, this.now())
  }

  takeAtUnsafe(key: string | undefined, tokens: number, _since: number, now: number): boolean {
    const entry = this.entries.get(key)
    if (entry === undefined || entry.first !== undefined || tokens > this.burst) return false
    entry.slots.expire(now - this.catchUp, now, false)
    return this.spend(entry, tokens, now)
  }

  waitUnsafe(
    waiter: Waiter<StoreError>,
    options?: { readonly insteadOf?: Waiter<StoreError> | undefined }
  ): void {
    const former = options?.insteadOf
    if (waiter.tokens > this.burst) {
      if (former !== undefined) this.cancelUnsafe(former)
      return waiter.onTooLarge(this.burst)
    }
    // As in `cancelUnsafe`.
    const place = former?.link as Node | StandIn | undefined
    if (former !== undefined) former.link = undefined
    if (place instanceof StandIn) {
      const standIn = new StandIn(this.local, waiter)
      waiter.link = standIn
      return this.local.waitUnsafe(standIn, { insteadOf: place })
    }
    const entry = place?.entry ?? this.entries.get(waiter.key) ?? this.enter(waiter.key)
    const node: Node = { waiter, entry, before: undefined, after: undefined }
    waiter.link = node
    if (place !== undefined) {
      WaiterList.replace(entry, place, node)
    } else {
      WaiterList.append(entry, node)
      // Those in front are being asked for; whoever is behind them is next in turn.
      if (entry.asking !== undefined && entry.first !== node) return
    }
    this.settle(entry)
  }

  cancelUnsafe(waiter: Waiter<StoreError>): void {
    const node = waiter.link
    if (node === undefined) return
    // Only this class sets the link: to a place in its own queue, or to who stands in for the waiter in the local one.
    const link = node as Node | StandIn
    waiter.link = undefined
    if (link instanceof StandIn) return this.local.cancelUnsafe(link)
    WaiterList.unlink(link.entry, link)
    this.settle(link.entry)
  }

  setQuotas(rates: ReadonlyArray<Rate>): void {
    this.rates = rates
    this.store = this.options.store(cells(rates))
    this.burst = Math.min(...rates.map((rate) => rate.burst))
    this.catchUp = catchUpOf(rates)
    this.local.setQuotas(this.share(rates))
    const tooLarge: Array<Waiter<StoreError>> = []
    for (const entry of this.entries.values()) {
      entry.retryAt = 0
      entry.slots.keep()
      for (let node = entry.first; node !== undefined; node = node.after) {
        if (node.waiter.tokens > this.burst) {
          WaiterList.unlink(entry, node)
          tooLarge.push(node.waiter)
        }
      }
    }
    for (const waiter of tooLarge) {
      waiter.link = undefined
      waiter.onTooLarge(this.burst)
    }
    for (const entry of Array.from(this.entries.values())) this.settle(entry)
  }

  attempt<A, E, R>(
    key: string | undefined,
    tokens: number,
    _now: number,
    _granted: Granted | undefined,
    answer: (refusal?: Refusal | StoreError, standing?: Standing) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> {
    const { guard, onStoreError } = this.options
    return Effect.matchEffect(guard.run("take", Effect.suspend(() => this.store.take(nameOf(key), [tokens], 0))), {
      onSuccess: (taken) => {
        const standing = this.standingOf(taken)
        return taken.waits.length === 1
          ? answer(undefined, standing)
          : answer({ ...standing, retryAfter: Math.ceil(taken.retryMillis * nanosPerMilli) })
      },
      onFailure: (failure) =>
        onStoreError === "fail" ? answer(failure) : Effect.flatMap(guard.applied(onStoreError, failure), () => {
          const { local } = this
          const now = local.now()
          const standing = this.standingOf(undefined)
          return onStoreError === "allow" || local.takeUnsafe(key, tokens, now)
            ? answer(undefined, standing)
            : answer({ ...standing, retryAfter: local.retryAfterUnsafe(key, tokens, now) })
        })
    })
  }

  standingUnsafe(key: string | undefined): Standing {
    return this.standingOf(this.entries.get(key)?.last_)
  }

  private standingOf(taken: Taken | undefined): Standing {
    return {
      limit: this.rates[taken?.tightest ?? 0]!.limit,
      remaining: taken?.remaining ?? 0,
      resetAfter: Math.ceil((taken?.resetMillis ?? 0) * nanosPerMilli)
    }
  }

  penalize(key: string | undefined, nanos: number): Effect.Effect<void, StoreError> {
    return this.command(
      "penalize",
      key,
      () => this.store.penalize(nameOf(key), nanos / nanosPerMilli),
      () => this.local.penalizeUnsafe(key, nanos)
    )
  }

  reset(key: string | undefined): Effect.Effect<void, StoreError> {
    return this.command("reset", key, () => this.store.reset(nameOf(key)), () => this.local.resetUnsafe(key))
  }

  /** A command without an answer: when the store is away it fails, or is done here alone. */
  private command(
    operation: string,
    key: string | undefined,
    send: () => Effect.Effect<void, StoreError>,
    here: () => void
  ): Effect.Effect<void, StoreError> {
    const { guard, onStoreError } = this.options
    const sent = Effect.catch(
      guard.run(operation, Effect.suspend(send)),
      (failure) => onStoreError === "fail" ? Effect.fail(failure) : guard.applied(onStoreError, failure)
    )
    return Effect.map(sent, () => {
      here()
      const entry = this.entries.get(key)
      if (entry === undefined) return
      // What is reserved here was granted before: ask anew.
      entry.slots.clear()
      entry.retryAt = 0
      this.settle(entry)
    })
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const left: Array<Effect.Effect<void>> = []
    for (const entry of this.entries.values()) {
      entry.timer?.interruptUnsafe()
      entry.asking?.interruptUnsafe()
      left.push(this.giveBack(entry))
    }
    return Effect.andThen(Effect.all(left, { concurrency: "unbounded", discard: true }), this.local.close)
  })

  private enter(key: string | undefined): Entry {
    const entry: Entry = {
      key,
      first: undefined,
      last: undefined,
      slots: new SlotStock(),
      idleAt: undefined,
      asking: undefined,
      retryAt: 0,
      refused: 0,
      timer: undefined,
      timerAt: Infinity,
      last_: undefined
    }
    this.entries.set(key, entry)
    return entry
  }

  private spend(entry: Entry, tokens: number, now: number): boolean {
    if (!entry.slots.spend(tokens, now)) return false
    entry.idleAt = undefined
    return true
  }

  /** Hands out what is due, asks for more, and sets the timer for what comes next. */
  private settle(entry: Entry): void {
    if (this.closed) return
    const now = this.now()
    // Those who wait have the last one, however late: a process whose timers are all too late goes on.
    entry.slots.expire(now - this.catchUp, now, entry.first !== undefined)
    // What runs in a caller is not ours: if it throws, such as an observer of its fiber, the others still have their turn.
    try {
      while (entry.first !== undefined && this.spend(entry, entry.first.waiter.tokens, now)) {
        const { waiter } = entry.first
        WaiterList.unlink(entry, entry.first)
        waiter.link = undefined
        waiter.onDue()
      }
    } finally {
      if (entry.first === undefined) this.rest(entry, now)
      else this.proceed(entry, entry.first.waiter, now)
    }
  }

  private proceed(entry: Entry, first: Waiter<StoreError>, now: number): void {
    entry.idleAt = undefined
    // Who was refused has left, and whoever moved up asks for less.
    if (entry.slots.empty && first.tokens < entry.refused) entry.retryAt = 0
    if (entry.asking === undefined && now >= entry.retryAt) this.ask(entry)
    const next = entry.slots.firstDue
    const at = entry.asking === undefined ? entry.retryAt : Infinity
    this.arm(entry, Math.min(next > now ? next : Infinity, at > now ? at : Infinity), now)
  }

  /** Nobody waits: what is left goes to who comes in a moment, or back. */
  private rest(entry: Entry, now: number): void {
    if (entry.asking !== undefined) return
    if (entry.slots.empty) return this.drop(entry)
    entry.idleAt ??= now
    const until = entry.idleAt + keepNanos
    if (now < until) return this.arm(entry, until, now)
    Effect.runForkWith(this.context)(this.giveBack(entry))
    // What others came after stays for who comes while it is fresh.
    if (entry.slots.empty) this.drop(entry)
    else this.arm(entry, entry.slots.lastDue + this.catchUp + nanosPerMilli, now)
  }

  private giveBack(entry: Entry): Effect.Effect<void> {
    const { state, tokens } = entry.slots.giveBack()
    if (tokens === 0) return Effect.void
    return Effect.ignore(this.options.guard.once("giveBack", this.store.giveBack(nameOf(entry.key), tokens, state)))
  }

  private drop(entry: Entry): void {
    this.disarm(entry)
    if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key)
  }

  /** Asks for those in front, and those behind them, whom no slot serves yet. */
  private ask(entry: Entry): void {
    let covered = entry.slots.tokens
    const tokens: Array<number> = []
    for (let node = entry.first; node !== undefined && tokens.length < mostPerCommand; node = node.after) {
      const { waiter } = node
      for (let n = 1 + (waiter.behind?.() ?? 0); n > 0 && tokens.length < mostPerCommand; n--) {
        if (covered >= waiter.tokens) covered -= waiter.tokens
        else tokens.push(waiter.tokens)
      }
    }
    if (tokens.length === 0) return
    const ahead = lookaheadMillis + this.answerMillis
    const askedAt = this.now()
    const command = Effect.matchEager(
      this.options.guard.run("take", Effect.suspend(() => this.store.take(nameOf(entry.key), tokens, ahead))),
      {
        onFailure: (failure) => {
          entry.asking = undefined
          this.away(entry, failure)
        },
        onSuccess: (taken) => {
          entry.asking = undefined
          this.onTaken(entry, tokens, taken, askedAt)
        }
      }
    )
    const fiber = Effect.runForkWith(this.context)(command)
    if (fiber.pollUnsafe() === undefined) entry.asking = fiber
  }

  private onTaken(entry: Entry, tokens: ReadonlyArray<number>, taken: Taken, askedAt: number): void {
    // The store decided before its answer arrived, so from here a slot may be late, and never early.
    const now = this.now()
    this.answerMillis = Math.min((now - askedAt) / nanosPerMilli, 2 * this.answerMillis + 1, longestAnswerMillis)
    entry.last_ = taken
    entry.slots.add(tokens, taken, now)
    const retry = Math.ceil(taken.retryMillis * nanosPerMilli)
    entry.refused = tokens[taken.waits.length] ?? 0
    entry.retryAt = retry > 0 ? now + (entry.slots.tokens > 0 ? Math.max(retry, refillNanos) : retry) : 0
    this.settle(entry)
  }

  /** The store is away: those who wait get what the policy says. */
  private away(entry: Entry, failure: Failure.StoreError): void {
    const waiters: Array<Waiter<StoreError>> = []
    while (entry.first !== undefined) {
      const { waiter } = entry.first
      WaiterList.unlink(entry, entry.first)
      waiter.link = undefined
      waiters.push(waiter)
    }
    this.rest(entry, this.now())
    if (this.options.onStoreError !== "fail") {
      Effect.runForkWith(this.context)(this.options.guard.applied(this.options.onStoreError, failure))
    }
    for (const waiter of waiters) {
      switch (this.options.onStoreError) {
        case "fail":
          waiter.onFailure(failure)
          break
        case "allow":
          waiter.onDue()
          break
        case "local":
          this.local.waitUnsafe(waiter.link = new StandIn(this.local, waiter))
      }
    }
  }

  private arm(entry: Entry, due: number, now: number): void {
    if (due === Infinity) return
    // The ceiling: the timers of a host drop fractions, and a slot is never early.
    const millis = Math.max(1, Math.ceil((due - now) / nanosPerMilli))
    const at = now + millis * nanosPerMilli
    if (at >= entry.timerAt && entry.timerAt > now) return
    this.disarm(entry)
    entry.timerAt = at
    const timer = Effect.runForkWith(this.context)(
      Effect.flatMap(this.clock.sleep(Duration.millis(millis)), () =>
        Effect.sync(() => {
          entry.timer = undefined
          entry.timerAt = Infinity
          this.settle(entry)
        }))
    )
    if (timer.pollUnsafe() === undefined) entry.timer = timer
  }

  private disarm(entry: Entry): void {
    const timer = entry.timer
    entry.timer = undefined
    entry.timerAt = Infinity
    timer?.interruptUnsafe()
  }
}
