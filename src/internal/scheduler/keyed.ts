/**
 * One scheduler a key, for as long as it is used or its rate is not at rest.
 *
 * Each use of a key holds its entry. An entry without holders is dropped at once if its rate is at rest. Otherwise it is
 * filed by the time at which the rate will be, and dropped by a later call or by one timer for all entries.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Pipeable from "effect/Pipeable"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { hashKey, KeyMap } from "../data/keyMap.js"
import type { Keyed } from "../data/keyMap.js"
import { idleAfter } from "../data/timers.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import { RestList } from "../limiter/restList.js"
import type { Member } from "../limiter/restList.js"
import type { Engine } from "./engine.js"
import { Handle } from "./handle.js"
import { close, engineUnsafe, type Plan, type Site, site } from "./plan.js"

/** The least time between two looks of the timer. */
const tickMillis = 1000

const sweepPerCall = 8
const sweepPerTick = 1024

/** The scheduler of a key. */
export class Entry implements Keyed<Entry>, Member<Entry> {
  readonly key: unknown
  readonly hash: number
  readonly engine: Engine
  /** Its own, which goes with it; `undefined` if it has none or shares one. */
  private readonly limiter: Limiter<StoreError> | undefined
  chain: Entry | undefined = undefined
  checkAt = 0
  level = -1
  before: Entry | undefined = undefined
  after: Entry | undefined = undefined
  holders = 0
  /** Its options were changed. A new entry would not have the change, so this one stays. */
  changed = false

  constructor(key: unknown, hash: number, engine: Engine, limiter: Limiter<StoreError> | undefined) {
    this.key = key
    this.hash = hash
    this.engine = engine
    this.limiter = limiter
  }

  /** Nanoseconds until the rate is at rest, at most 0 if it is. */
  get rest(): number {
    return this.limiter === undefined ? 0 : this.limiter.restAt() - this.limiter.now()
  }

  /** Whether dropping the entry would lose something. */
  get pinned(): boolean {
    return this.changed || this.engine.paused || !this.engine.idle
  }
}

export class Registry<K, I> {
  private readonly plan: (key: K) => Plan<I>
  private readonly site: Site<I>
  private readonly entries = new KeyMap<Entry>()
  private readonly resting = new RestList<Entry>()
  private timer: (() => void) | undefined = undefined
  private timerAt = 0
  private closed = false
  size = 0

  /** `plan` may throw. */
  constructor(plan: (key: K) => Plan<I>, site: Site<I>) {
    this.plan = plan
    this.site = site
  }

  /** The entry of a key, made if there is none; held until it is released. */
  acquire(key: K): Entry {
    const hash = hashKey(key)
    const found = this.entries.get(key, hash)
    if (found !== undefined) {
      this.resting.remove(found)
      found.holders++
      return found
    }
    const plan = this.plan(key)
    const engine = engineUnsafe(plan, this.site)
    const entry = new Entry(key, hash, engine, Context.isKey(plan.rate) ? undefined : engine.limiter)
    entry.holders = 1
    if (this.closed) {
      // A new scheduler answers as any that is closed.
      entry.engine.closeUnsafe()
      return entry
    }
    this.entries.add(entry)
    this.size++
    const now = this.now()
    if (now >= this.resting.nextCheck) this.sweep(now, sweepPerCall)
    return entry
  }

  release(entry: Entry): void {
    if (--entry.holders === 0 && !this.closed) this.settle(entry, this.now())
  }

  /** Drops or files an entry that nobody holds and that is not filed. */
  private settle(entry: Entry, now: number): void {
    if (entry.pinned) return
    const rest = entry.rest
    if (rest <= 0) {
      this.entries.remove(entry)
      this.size--
    } else {
      this.resting.file(entry, now + rest, now)
      this.arm(now)
    }
  }

  private sweep(now: number, budget: number): void {
    this.resting.sweep(now, budget, (entry) => this.settle(entry, now))
  }

  private now(): number {
    return Number(this.site.clock.monotonicTimeNanosUnsafe())
  }

  private arm(now: number): void {
    if (this.closed || this.resting.nextCheck === Infinity) return
    // Behind already: there were more than one tick takes.
    const late = this.resting.nextCheck <= now
    const millis = late ? 1 : Math.max(tickMillis, Math.ceil((this.resting.nextCheck - now) / 1e6))
    const at = now + millis * 1e6
    if (this.timer !== undefined) {
      if (at >= this.timerAt) return
      this.timer()
    }
    this.timerAt = at
    this.timer = idleAfter(millis, () => {
      this.timer = undefined
      const now = this.now()
      this.sweep(now, sweepPerTick)
      this.arm(now)
    }, this.site)
  }

  /** Ends the timer, and all the schedulers. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.closed = true
      this.timer?.()
      this.timer = undefined
      return Effect.forEach(this.entries.values(), (entry) => close(entry.engine), {
        concurrency: "unbounded",
        discard: true
      })
    })
  }

  /** Runs what `f` gives while the key's entry is held. */
  use<A, E, R>(key: K, f: (entry: Entry) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      let entry: Entry | undefined
      return Effect.onExit(
        Effect.suspend(() => {
          entry = this.acquire(key)
          return f(entry)
        }),
        () => {
          if (entry !== undefined) this.release(entry)
          return Effect.void
        }
      )
    })
  }

  /** As `use`, and keeps the entry from then on. */
  change<A, E, R>(key: K, f: (engine: Engine) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return this.use(key, (entry) => {
      entry.changed = true
      return f(entry.engine)
    })
  }

  /** The stream that `f` gives, which holds the key's entry until it has ended. */
  stream<A, E, R>(key: K, f: (engine: Engine) => Stream.Stream<A, E, R>): Stream.Stream<A, E, R> {
    const entry = Effect.acquireRelease(
      Effect.sync(() => this.acquire(key)),
      (entry) => Effect.sync(() => this.release(entry))
    )
    return Stream.unwrap(Effect.map(entry, (entry) => f(entry.engine)))
  }
}

/** The handle of a family of schedulers. */
export class KeyedHandle<K, I> extends Pipeable.Class {
  readonly name: string
  /** Returns a handle that finds the scheduler of its key anew for each use, and holds it meanwhile. */
  readonly get: (key: K) => Handle
  readonly size: Effect.Effect<number>

  constructor(name: string, registry: Registry<K, I>, change: (handle: Handle) => Handle) {
    super()
    this.name = name
    this.get = (key) =>
      change(
        new Handle(name, {
          effect: (f) => registry.use(key, (entry) => f(entry.engine)),
          stream: (f) => registry.stream(key, f),
          change: (f) => registry.change(key, f)
        })
      )
    this.size = Effect.sync(() => registry.size)
  }

  toJSON(): unknown {
    return { _id: "effect-funnel/KeyedScheduler", name: this.name }
  }
}

export const make = <K, I>(
  id: string,
  plan: (key: K) => Plan<I>,
  change: (handle: Handle) => Handle
): Effect.Effect<KeyedHandle<K, I>, never, I | Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.map(site<I>(), (site) => new Registry(plan, site)),
      (registry) => registry.close
    ),
    (registry) => new KeyedHandle(id, registry, change)
  )
