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
import type { Cell, GcraStore, Taken } from "./gcraStore.js"
import type { Rate } from "./gcra.js"
import type { Limiter, StoreFailure, Waiter } from "./limiter.js"
import * as LimiterMemory from "./limiterMemory.js"
import type * as Failure from "./storeFailure.js"
import type { Guard } from "./storeGuard.js"

/** How far ahead slots are asked for, in milliseconds: longer than an answer takes, so that the pace is not its. */
const lookaheadMillis = 20

/** How soon more is asked for while slots are at hand: several of them in one command, and long before they run out. */
const refillNanos = 5_000_000

/** For how many waiters one command asks at most. */
const mostPerCommand = 256

/** A slot that nobody took is void after this, in nanoseconds: the past is not saved up. */
const maxCatchUp = 50_000_000

const nanosPerMilli = 1_000_000

interface Slot {
  readonly due: number
  readonly tokens: number
}

interface Node {
  readonly waiter: Waiter<StoreFailure>
  readonly entry: Entry
  before: Node | undefined
  after: Node | undefined
}

interface Entry {
  readonly key: string | undefined
  first: Node | undefined
  last: Node | undefined
  /** What was granted and not yet taken, in order of time, and the tokens in it. */
  readonly slots: Array<Slot>
  reserved: number
  asking: Fiber.Fiber<void> | undefined
  /** Not worth asking before. */
  retryAt: number
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
  private readonly waiter: Waiter<StoreFailure>
  constructor(waiter: Waiter<StoreFailure>, since: number) {
    this.waiter = waiter
    this.key = waiter.key
    this.tokens = waiter.tokens
    this.since = since
  }
  onDue(): void {
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

export const make = (rates: ReadonlyArray<Rate>, options: Options): Effect.Effect<LimiterRedis> =>
  Effect.withFiber((fiber) =>
    Effect.succeed(new LimiterRedis(rates, options, fiber.context, fiber.getRef(Clock.Clock)))
  )

const cells = (rates: ReadonlyArray<Rate>): ReadonlyArray<Cell> =>
  rates.map(({ burst, interval }) => ({ burst, intervalMicros: interval / 1000 }))

/** The name of a key in the store: no key at all is a key as well. */
export const nameOf = (key: string | undefined): string => key === undefined ? "" : `=${key}`

export class LimiterRedis implements Limiter<StoreFailure> {
  readonly guard: Guard
  readonly onStoreError: Options["onStoreError"]
  private readonly options: Options
  private readonly context: Context.Context<never>
  private readonly clock: Clock.Clock
  private readonly epoch: bigint
  private readonly entries = new Map<string | undefined, Entry>()
  private closed = false
  rates: ReadonlyArray<Rate>
  store: GcraStore
  burst: number
  /** This process' share, for when the store is away. */
  readonly local: LimiterMemory.LimiterMemory

  constructor(rates: ReadonlyArray<Rate>, options: Options, context: Context.Context<never>, clock: Clock.Clock) {
    this.options = options
    this.guard = options.guard
    this.onStoreError = options.onStoreError
    this.context = context
    this.clock = clock
    this.epoch = clock.monotonicTimeNanosUnsafe()
    this.rates = rates
    this.store = options.store(cells(rates))
    this.burst = Math.min(...rates.map((rate) => rate.burst))
    this.local = new LimiterMemory.LimiterMemory(this.share(rates), context, clock)
  }

  private share(rates: ReadonlyArray<Rate>): ReadonlyArray<Rate> {
    return rates.map((rate) => ({ ...rate, interval: rate.interval * this.options.expectedProcesses }))
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

  takeUnsafe(key: string | undefined, tokens: number): boolean {
    const entry = this.entries.get(key)
    if (entry === undefined || entry.first !== undefined) return false
    return this.spend(entry, tokens, this.now())
  }

  waitUnsafe(
    waiter: Waiter<StoreFailure>,
    options?: { readonly insteadOf?: Waiter<StoreFailure> | undefined }
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
      const standIn = new StandIn(waiter, this.local.now())
      waiter.link = standIn
      return this.local.waitUnsafe(standIn, { insteadOf: place })
    }
    const entry = place?.entry ?? this.entries.get(waiter.key) ?? this.enter(waiter.key)
    const node: Node = { waiter, entry, before: undefined, after: undefined }
    waiter.link = node
    if (place !== undefined) {
      this.replace(place, node)
    } else if (entry.first === undefined || entry.last === undefined) {
      entry.first = entry.last = node
    } else {
      node.before = entry.last
      entry.last.after = node
      entry.last = node
      // Those in front are being asked for; whoever is behind them is next in turn.
      if (entry.asking !== undefined) return
    }
    this.settle(entry)
  }

  cancelUnsafe(waiter: Waiter<StoreFailure>): void {
    const node = waiter.link
    if (node === undefined) return
    // Only this class sets the link: to a place in its own queue, or to who stands in for the waiter in the local one.
    const link = node as Node | StandIn
    waiter.link = undefined
    if (link instanceof StandIn) return this.local.cancelUnsafe(link)
    this.unlink(link)
    this.settle(link.entry)
  }

  setQuotas(rates: ReadonlyArray<Rate>): void {
    this.rates = rates
    this.store = this.options.store(cells(rates))
    this.burst = Math.min(...rates.map((rate) => rate.burst))
    this.local.setQuotas(this.share(rates))
    const tooLarge: Array<Waiter<StoreFailure>> = []
    for (const entry of this.entries.values()) {
      entry.retryAt = 0
      for (let node = entry.first; node !== undefined; node = node.after) {
        if (node.waiter.tokens > this.burst) {
          this.unlink(node)
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

  /** What the store last said of a key. */
  standing(key: string | undefined): Taken | undefined {
    return this.entries.get(key)?.last_
  }

  /** Gives up what is reserved for a key here, and asks anew. */
  forfeit(key: string | undefined): void {
    const entry = this.entries.get(key)
    if (entry === undefined) return
    entry.slots.length = 0
    entry.reserved = 0
    entry.retryAt = 0
    this.settle(entry)
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    for (const entry of this.entries.values()) {
      entry.timer?.interruptUnsafe()
      entry.asking?.interruptUnsafe()
    }
    return this.local.close
  })

  private enter(key: string | undefined): Entry {
    const entry: Entry = {
      key,
      first: undefined,
      last: undefined,
      slots: [],
      reserved: 0,
      asking: undefined,
      retryAt: 0,
      timer: undefined,
      timerAt: Infinity,
      last_: undefined
    }
    this.entries.set(key, entry)
    return entry
  }

  private replace(node: Node, by: Node): void {
    const { after, before, entry } = node
    by.before = before
    by.after = after
    if (before === undefined) entry.first = by
    else before.after = by
    if (after === undefined) entry.last = by
    else after.before = by
  }

  private unlink(node: Node): void {
    const { after, before, entry } = node
    if (before === undefined) entry.first = after
    else before.after = after
    if (after === undefined) entry.last = before
    else after.before = before
  }

  /** Takes tokens out of slots that are due, if there are as many. */
  private spend(entry: Entry, tokens: number, now: number): boolean {
    const { slots } = entry
    let due = 0
    let used = 0
    while (due < tokens && used < slots.length && slots[used]!.due <= now) due += slots[used++]!.tokens
    if (due < tokens) return false
    const last = slots[used - 1]!
    slots.splice(0, used)
    if (due > tokens) slots.unshift({ due: last.due, tokens: due - tokens })
    entry.reserved -= tokens
    return true
  }

  /** Hands out what is due, asks for more, and sets the timer for what comes next. */
  private settle(entry: Entry): void {
    if (this.closed) return
    const now = this.now()
    while (entry.slots.length > 0 && entry.slots[0]!.due < now - maxCatchUp) {
      entry.reserved -= entry.slots.shift()!.tokens
    }
    while (entry.first !== undefined && this.spend(entry, entry.first.waiter.tokens, now)) {
      const { waiter } = entry.first
      this.unlink(entry.first)
      waiter.link = undefined
      waiter.onDue()
    }
    if (entry.first !== undefined && entry.asking === undefined && now >= entry.retryAt) this.ask(entry)
    const next = entry.slots.length > 0 ? entry.slots[0]!.due : Infinity
    const at = entry.first === undefined || entry.asking !== undefined ? Infinity : entry.retryAt
    if (entry.first === undefined) {
      // What is left over goes to who comes while it is fresh.
      if (entry.slots.length === 0 && entry.asking === undefined) this.drop(entry)
      else this.arm(entry, (entry.slots.at(-1)?.due ?? now) + maxCatchUp + nanosPerMilli, now)
    } else {
      this.arm(entry, Math.min(next > now ? next : Infinity, at > now ? at : Infinity), now)
    }
  }

  private drop(entry: Entry): void {
    this.disarm(entry)
    if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key)
  }

  /** Asks for those in front, and those behind them, whom no slot serves yet. */
  private ask(entry: Entry): void {
    let covered = entry.reserved
    const tokens: Array<number> = []
    for (let node = entry.first; node !== undefined && tokens.length < mostPerCommand; node = node.after) {
      const { waiter } = node
      for (let n = 1 + (waiter.behind?.() ?? 0); n > 0 && tokens.length < mostPerCommand; n--) {
        if (covered >= waiter.tokens) covered -= waiter.tokens
        else tokens.push(waiter.tokens)
      }
    }
    if (tokens.length === 0) return
    const command = Effect.matchEager(
      this.guard.run("take", Effect.suspend(() => this.store.take(nameOf(entry.key), tokens, lookaheadMillis))),
      {
        onFailure: (failure) => {
          entry.asking = undefined
          this.away(entry, failure)
        },
        onSuccess: (taken) => {
          entry.asking = undefined
          this.onTaken(entry, tokens, taken)
        }
      }
    )
    const fiber = Effect.runForkWith(this.context)(command)
    if (fiber.pollUnsafe() === undefined) entry.asking = fiber
  }

  private onTaken(entry: Entry, tokens: ReadonlyArray<number>, taken: Taken): void {
    // The store decided before its answer arrived, so from here a slot may be late, and never early.
    const now = this.now()
    entry.last_ = taken
    taken.waits.forEach((wait, i) => {
      entry.slots.push({ due: now + Math.ceil(wait * nanosPerMilli), tokens: tokens[i]! })
      entry.reserved += tokens[i]!
    })
    const retry = Math.ceil(taken.retryMillis * nanosPerMilli)
    entry.retryAt = retry > 0 ? now + (entry.reserved > 0 ? Math.max(retry, refillNanos) : retry) : 0
    this.settle(entry)
  }

  /** The store is away: those who wait get what the policy says. */
  private away(entry: Entry, failure: Failure.StoreFailure): void {
    const waiters: Array<Waiter<StoreFailure>> = []
    while (entry.first !== undefined) {
      const { waiter } = entry.first
      this.unlink(entry.first)
      waiter.link = undefined
      waiters.push(waiter)
    }
    if (entry.slots.length === 0) this.drop(entry)
    if (this.onStoreError !== "fail") Effect.runForkWith(this.context)(this.guard.applied(this.onStoreError, failure))
    for (const waiter of waiters) {
      switch (this.onStoreError) {
        case "fail":
          waiter.onFailure(failure)
          break
        case "allow":
          waiter.onDue()
          break
        case "local":
          this.local.waitUnsafe(waiter.link = new StandIn(waiter, this.local.now()))
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
