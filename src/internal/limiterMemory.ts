/**
 * A limiter whose state is in this process.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as DueHeap from "./dueHeap.js"
import * as Gcra from "./gcra.js"
import type { Limiter, Waiter } from "./limiter.js"
import * as RestList from "./restList.js"
import * as WaiterList from "./waiterList.js"

const nanosPerMilli = 1_000_000

interface Node extends WaiterList.Node<Node> {
  readonly waiter: Waiter
  readonly entry: Entry
  /** The state of the entry that its grant left, -1 before. */
  version: number
}

/**
 * The state of a key: one theoretical arrival time a quota, and those who wait, first come first.
 */
interface Entry extends WaiterList.List<Node>, DueHeap.Member, RestList.Member<Entry> {
  readonly key: string | undefined
  tats: Array<number>
  penaltyUntil: number
  /** The tokens of all who wait. */
  queued: number
  /** Counts the changes of `tats`. */
  version: number
}

/**
 * What stands in the way of a key, read in the step in which it is asked for.
 */
export interface Standing {
  readonly limit: number
  readonly remaining: number
  /** Nanoseconds until the key has its full burst. */
  readonly resetAfter: number
}

/** What was taken last, and the times from before: what is strict counts from when it begins. */
interface Granted {
  readonly entry: Entry
  readonly version: number
  readonly tokens: number
  readonly tats: ReadonlyArray<number>
}

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
export class LimiterMemory implements Limiter {
  private readonly entries = new Map<string | undefined, Entry>()
  /** The entry looked up last: calls for one key come in a row. */
  private recent: Entry | undefined
  private readonly rests = new RestList.RestList<Entry>()
  /** Entries that have waiters, by when the first of them is due. */
  private readonly due: Array<Entry> = []
  private granting = false
  private timer: Fiber.Fiber<void> | undefined
  private timerAt = Infinity
  private closed = false
  private latestTat = 0
  private readonly context: Context.Context<never>
  private readonly clock: Clock.Clock
  private readonly epoch: bigint
  private rates: ReadonlyArray<Gcra.Rate>
  strict: boolean
  /** Where strict: what has not begun yet. */
  private granted: Granted | undefined
  burst: number

  constructor(rates: ReadonlyArray<Gcra.Rate>, context: Context.Context<never>, clock: Clock.Clock) {
    this.context = context
    this.clock = clock
    this.epoch = clock.monotonicTimeNanosUnsafe()
    this.rates = rates
    this.strict = rates.some((rate) => rate.strict)
    this.burst = smallestBurst(rates)
  }

  /** How many keys are held. */
  get size(): number {
    return this.entries.size
  }

  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() - this.epoch)
  }

  restAt(): number {
    return this.latestTat
  }

  takeUnsafe(key: string | undefined, tokens: number, since: number): boolean {
    return this.takeAtUnsafe(key, tokens, since, this.now())
  }

  /** `takeUnsafe` for one who has just read the time. */
  takeAtUnsafe(key: string | undefined, tokens: number, since: number, now: number): boolean {
    if (tokens > this.burst) return false
    const entry = this.lookup(key) ?? this.enter(key)
    const taken = entry.first === undefined && this.dueAt(entry, tokens) <= now
    if (taken) this.take(entry, tokens, since, now)
    if (now >= this.rests.nextCheck) this.sweep(now, sweepPerCall)
    return taken
  }

  waitUnsafe(waiter: Waiter, options?: { readonly insteadOf?: Waiter | undefined }): void {
    const former = options?.insteadOf
    if (waiter.tokens > this.burst) {
      if (former !== undefined) this.cancelUnsafe(former)
      return waiter.onTooLarge(this.burst)
    }
    const entry = this.lookup(waiter.key) ?? this.enter(waiter.key)
    const node: Node = { waiter, entry, before: undefined, after: undefined, version: -1 }
    waiter.link = node
    // Only this class sets the link, and always to a node of its own.
    const place = former?.link as Node | undefined
    if (former !== undefined && place !== undefined && place.version === -1) {
      this.replace(place, node)
      former.link = undefined
    } else {
      this.append(node)
    }
    if (entry.first !== node) return
    this.reconsider(entry)
    this.settle()
  }

  cancelUnsafe(waiter: Waiter): void {
    // Only this class sets the link, and always to a node of its own.
    const node = waiter.link as Node | undefined
    if (node === undefined || node.version !== -1) return
    const entry = node.entry
    const wasFirst = entry.first === node
    this.unlink(node)
    waiter.link = undefined
    if (wasFirst && this.reconsider(entry)) this.settle()
  }

  /**
   * Gives back what was granted to a waiter that could not start. What others have taken since was judged with it and
   * stays as it is: then it is spent.
   */
  refundUnsafe(waiter: Waiter): void {
    const node = waiter.link as Node | undefined
    if (node === undefined || node.version !== node.entry.version) return
    waiter.link = undefined
    const entry = node.entry
    for (let i = 0; i < entry.tats.length; i++) entry.tats[i]! -= waiter.tokens * this.rates[i]!.interval
    entry.version++
    if (entry.first !== undefined && this.reconsider(entry)) this.settle()
  }

  setQuotas(rates: ReadonlyArray<Gcra.Rate>): void {
    const now = this.now()
    const before = this.rates
    this.rates = rates
    this.strict = rates.some((rate) => rate.strict)
    this.burst = smallestBurst(rates)
    this.latestTat = now
    const tooLarge: Array<Waiter> = []
    for (const entry of this.entries.values()) {
      // At rest it is as good as forgotten, also where it is still here.
      if (entry.first === undefined && forgottenAt(entry) <= now) {
        this.drop(entry)
        continue
      }
      entry.tats = rates.map((to, i) => {
        const tat = i < before.length
          ? Gcra.convert(before[i]!, to, entry.tats[i]!, now)
          // A quota that was not there before knows of what the others still hold against this key.
          : before.reduce(
            (most, from, j) => Math.max(most, Gcra.convert({ ...from, burst: to.burst }, to, entry.tats[j]!, now)),
            now
          )
        return entry.penaltyUntil > now ? Math.max(tat, Gcra.blockedUntil(to, entry.penaltyUntil)) : tat
      })
      entry.version++
      this.noteTats(entry)
      this.rests.remove(entry)
      this.rests.file(entry, forgottenAt(entry), now)
      for (let node = entry.first; node !== undefined; node = node.after) {
        if (node.waiter.tokens > this.burst) {
          tooLarge.push(node.waiter)
          node.waiter.link = undefined
          this.unlink(node)
        }
      }
      this.reconsider(entry)
    }
    for (const waiter of tooLarge) waiter.onTooLarge(this.burst)
    this.settle()
  }

  /** Lets nothing of this key pass before `until`, and after it one token first. */
  penalizeUnsafe(key: string | undefined, nanos: number): void {
    const now = this.now()
    const until = now + nanos
    const entry = this.lookup(key) ?? this.enter(key)
    entry.penaltyUntil = Math.max(entry.penaltyUntil, until)
    for (let i = 0; i < this.rates.length; i++) {
      entry.tats[i] = Math.max(entry.tats[i]!, Gcra.blockedUntil(this.rates[i]!, until))
    }
    entry.version++
    this.noteTats(entry)
    this.reconsider(entry)
    this.settle()
  }

  /** Forgets what this key has consumed. */
  resetUnsafe(key: string | undefined): void {
    const entry = this.lookup(key)
    if (entry === undefined) return
    const now = this.now()
    entry.penaltyUntil = now
    entry.tats.fill(now)
    entry.version++
    if (entry.first === undefined) return this.drop(entry)
    this.reconsider(entry)
    this.settle()
  }

  /** The most constrained quota of a key. */
  standingUnsafe(key: string | undefined, now: number): Standing {
    const entry = this.lookup(key)
    if (entry !== undefined && this.rates.length === 1) {
      const rate = this.rates[0]!
      const tat = entry.tats[0]!
      return {
        limit: rate.limit,
        remaining: entry.first === undefined ? Gcra.remaining(rate, tat, now) : 0,
        resetAfter: tat > now ? tat - now : 0
      }
    }
    let limit = 0
    let remaining = Infinity
    let resetAfter = 0
    for (let i = 0; i < this.rates.length; i++) {
      const rate = this.rates[i]!
      const tat = entry === undefined ? now : entry.tats[i]!
      const left = Gcra.remaining(rate, tat, now)
      if (left < remaining) {
        remaining = left
        limit = rate.limit
      }
      if (tat - now > resetAfter) resetAfter = tat - now
    }
    return { limit, remaining: entry?.first === undefined ? remaining : 0, resetAfter }
  }

  /** Nanoseconds until `tokens` pass if all who wait now go first and nobody else comes. */
  retryAfterUnsafe(key: string | undefined, tokens: number, now: number): number {
    const entry = this.lookup(key)
    if (entry === undefined) return 0
    if (this.rates.length === 1) {
      return Math.max(0, Gcra.dueAt(this.rates[0]!, entry.tats[0]!, entry.queued + tokens) - now)
    }
    // With several quotas the one that holds back can change on the way: walk it.
    const tats = entry.tats.slice()
    let at = now
    for (let node = entry.first; node !== undefined; node = node.after) {
      at = Math.max(at, this.dueOf(tats, node.waiter.tokens))
      for (let i = 0; i < tats.length; i++) tats[i] = Gcra.take(this.rates[i]!, tats[i]!, at, node.waiter.tokens)
    }
    return Math.max(at, this.dueOf(tats, tokens)) - now
  }

  /** Grants what is due and sets the timer for what is next. */
  settle(): void {
    if (this.granting) return
    const now = this.now()
    this.granting = true
    // What runs in a caller is not ours: if it throws, such as an observer of its fiber, the others still have their turn.
    try {
      // A grant runs its caller on the spot, so time passes: only what was due to begin with is granted in one go.
      for (let entry = this.due[0]; entry !== undefined && entry.due <= now; entry = this.due[0]) this.grant(entry, now)
    } finally {
      this.granting = false
      this.arm()
    }
  }

  readonly close: Effect.Effect<void> = Effect.sync(() => {
    this.closed = true
    this.disarm()
  })

  private lookup(key: string | undefined): Entry | undefined {
    const recent = this.recent
    if (recent !== undefined && recent.key === key) return recent
    const entry = this.entries.get(key)
    if (entry !== undefined) this.recent = entry
    return entry
  }

  private enter(key: string | undefined): Entry {
    const entry: Entry = {
      key,
      tats: this.rates.length === 1 ? [-Infinity] : this.rates.map(() => -Infinity),
      penaltyUntil: 0,
      first: undefined,
      last: undefined,
      queued: 0,
      version: 0,
      due: 0,
      index: -1,
      checkAt: 0,
      level: -1,
      before: undefined,
      after: undefined
    }
    this.entries.set(key, entry)
    this.recent = entry
    return entry
  }

  private drop(entry: Entry): void {
    this.entries.delete(entry.key)
    this.rests.remove(entry)
    if (this.recent === entry) this.recent = undefined
  }

  private take(entry: Entry, tokens: number, since: number, now: number): void {
    const { tats } = entry
    if (this.strict) this.granted = { entry, version: entry.version + 1, tokens, tats: tats.slice() }
    for (let i = 0; i < tats.length; i++) {
      const rate = this.rates[i]!
      const tat = Gcra.take(rate, tats[i]!, Gcra.arrival(rate, since, now), tokens)
      tats[i] = tat
      if (tat > this.latestTat) this.latestTat = tat
    }
    entry.version++
    if (entry.level === -1) this.rests.file(entry, forgottenAt(entry), now)
  }

  startedUnsafe(): void {
    const granted = this.granted
    this.granted = undefined
    if (granted === undefined || granted.version !== granted.entry.version) return
    const { entry, tats, tokens } = granted
    const now = this.now()
    for (let i = 0; i < tats.length; i++) {
      const rate = this.rates[i]!
      if (rate.strict) entry.tats[i] = Gcra.take(rate, tats[i]!, now, tokens)
    }
    this.noteTats(entry)
    if (entry.first !== undefined) this.reconsider(entry)
  }

  private dueAt(entry: Entry, tokens: number): number {
    return this.rates.length === 1
      ? Gcra.dueAt(this.rates[0]!, entry.tats[0]!, tokens)
      : this.dueOf(entry.tats, tokens)
  }

  private dueOf(tats: ReadonlyArray<number>, tokens: number): number {
    let due = -Infinity
    for (let i = 0; i < tats.length; i++) due = Math.max(due, Gcra.dueAt(this.rates[i]!, tats[i]!, tokens))
    return due
  }

  private noteTats(entry: Entry): void {
    this.latestTat = Math.max(this.latestTat, latest(entry))
  }

  /** Brings the place of an entry up to date after a change; whether its first is due earlier than it was. */
  private reconsider(entry: Entry): boolean {
    const first = entry.first
    if (first === undefined) {
      DueHeap.remove(this.due, entry)
      if (this.due.length === 0) this.disarm()
      if (entry.level === -1) this.rests.file(entry, forgottenAt(entry), this.now())
      return false
    }
    const before = entry.index === -1 ? Infinity : entry.due
    DueHeap.set(this.due, entry, this.dueAt(entry, first.waiter.tokens))
    return entry.due < before
  }

  private append(node: Node): void {
    WaiterList.append(node.entry, node)
    node.entry.queued += node.waiter.tokens
  }

  private replace(node: Node, by: Node): void {
    WaiterList.replace(node.entry, node, by)
    node.entry.queued += by.waiter.tokens - node.waiter.tokens
  }

  private unlink(node: Node): void {
    WaiterList.unlink(node.entry, node)
    node.entry.queued -= node.waiter.tokens
  }

  private grant(entry: Entry, now: number): void {
    const node = entry.first!
    const { waiter } = node
    this.unlink(node)
    // Those granted before it in the same go may have run for a while: strict quotas need the time of the very start.
    this.take(entry, waiter.tokens, waiter.since, this.strict ? this.now() : now)
    node.version = entry.version
    this.reconsider(entry)
    waiter.onDue()
  }

  private arm(): void {
    const entry = this.due[0]
    if (entry === undefined || this.closed) return
    const now = this.now()
    // The ceiling: the timers of a host drop fractions, and a cell is never early.
    const millis = Math.max(1, Math.ceil((entry.due - now) / nanosPerMilli))
    const at = now + millis * nanosPerMilli
    if (at >= this.timerAt) return
    this.disarm()
    this.timerAt = at
    const timer = Effect.runForkWith(this.context)(
      Effect.flatMap(this.clock.sleep(Duration.millis(millis)), () => this.tick)
    )
    if (timer.pollUnsafe() === undefined) this.timer = timer
  }

  private readonly tick: Effect.Effect<void> = Effect.sync(() => {
    this.timer = undefined
    this.timerAt = Infinity
    this.sweep(this.now(), sweepPerTick)
    this.settle()
  })

  private disarm(): void {
    const timer = this.timer
    this.timer = undefined
    this.timerAt = Infinity
    timer?.interruptUnsafe()
  }

  private sweep(now: number, budget: number): void {
    this.rests.sweep(now, budget, (entry) => {
      const at = forgottenAt(entry)
      if (entry.first === undefined && at <= now) this.drop(entry)
      else this.rests.file(entry, at, now)
    })
  }
}

// A call adds at most one entry, so any number above one shrinks what is held.
const sweepPerCall = 8
const sweepPerTick = 256

const smallestBurst = (rates: ReadonlyArray<Gcra.Rate>): number =>
  rates.reduce((least, rate) => Math.min(least, rate.burst), Infinity)

// Not yet when it is at rest: one who waited meanwhile counts as an arrival of up to `maxCatchUp` ago, and what was
// granted since must be known then, or it would be granted again.
const forgottenAt = (entry: Entry): number => latest(entry) + Gcra.maxCatchUp

const latest = (entry: Entry): number => {
  const { tats } = entry
  let tat = tats[0]!
  for (let i = 1; i < tats.length; i++) if (tats[i]! > tat) tat = tats[i]!
  return tat
}
