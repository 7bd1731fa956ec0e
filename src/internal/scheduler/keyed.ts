/**
 * One scheduler a key, kept while it is used or its rate is not at rest.
 *
 * Each use of a key holds its entry. An entry without holders is dropped at once if its rate is at rest. Otherwise it is
 * filed by the time at which the rate will be, and dropped by a later call or by one timer for all entries.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Pipeable from "effect/Pipeable"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { hashKey, type Keyed, KeyMap } from "../data/keyMap.js"
import { unwrap } from "../data/streams.js"
import { Alarm, idleAfter } from "../data/timers.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import { type Member, RestList } from "../limiter/restList.js"
import { enrolled, type SchedulerWatch } from "../seen/seen.js"
import type { Engine } from "./engine.js"
import type { Site } from "./site.js"
import { end, engineUnsafe, type Share, site } from "./build.js"
import { Handle } from "./handle.js"
import { withMany } from "./many/many.js"
import type { Checked } from "./options.js"

/** The least time between two looks of the timer. */
const tickNanos = 1e9

const sweepPerCall = 8
const sweepPerTick = 1024

/** The scheduler of a key. */
export class Entry implements Keyed<Entry>, Member<Entry> {
  readonly key: unknown
  readonly hash: number
  readonly engine: Engine
  /** `undefined` if the scheduler has none, or shares one. */
  private readonly limiter: Limiter<StoreError> | undefined
  chain: Entry | undefined = undefined
  checkAt = 0
  level = -1
  before: Entry | undefined = undefined
  after: Entry | undefined = undefined
  holders = 0
  /** Its options were changed, so it stays: a new entry would not have the change. */
  changed = false

  constructor(key: unknown, hash: number, engine: Engine, limiter: Limiter<StoreError> | undefined) {
    this.key = key
    this.hash = hash
    this.engine = engine
    this.limiter = limiter
  }

  /** Nanoseconds until the rate is at rest and no penalty holds, at most 0 if that is so. */
  get rest(): number {
    const { permits, penaltyLeft } = this.engine
    const rest = permits === undefined ? penaltyLeft : Math.max(penaltyLeft, permits.rest)
    return this.limiter === undefined ? rest : Math.max(rest, this.limiter.restAt() - this.limiter.now())
  }

  /** Whether dropping the entry would lose something. */
  get pinned(): boolean {
    return this.changed || this.engine.paused || !this.engine.idle
  }
}

export class Registry<K, I> {
  private readonly lookup: (key: K) => Checked<I>
  private readonly share: ((key: K) => Share) | undefined
  private readonly site: Site<I>
  private readonly entries = new KeyMap<Entry>()
  private readonly resting = new RestList<Entry>()
  private readonly alarm: Alarm
  private closed = false
  /** It is closed, and jobs of some keys may still go on. */
  private draining = false
  /** Hears of the jobs of all keys. */
  watch: SchedulerWatch | undefined = undefined
  size = 0

  /** `lookup` and `share` may throw. */
  constructor(lookup: (key: K) => Checked<I>, site: Site<I>, share: ((key: K) => Share) | undefined) {
    this.lookup = lookup
    this.share = share
    this.site = site
    this.alarm = new Alarm(idleAfter, () => {
      const now = this.now()
      this.sweep(now, sweepPerTick)
      this.arm(now)
    }, site)
  }

  readonly keyed = (): ReadonlyArray<Entry> => this.entries.values()

  readonly engines = (): ReadonlyArray<Engine> => this.keyed().map(({ engine }) => engine)

  /** The entry of a key, made if there is none; held until it is released. */
  acquire(key: K): Entry {
    const hash = hashKey(key)
    const found = this.entries.get(key, hash)
    if (found !== undefined) {
      this.resting.remove(found)
      found.holders++
      return found
    }
    const checked = this.lookup(key)
    // It is the code of a user, which may have used this key.
    if (this.entries.get(key, hash) !== undefined) return this.acquire(key)
    const engine = engineUnsafe(checked, this.site, this.share?.(key))
    engine.watch = this.watch
    const entry = new Entry(key, hash, engine, Context.isKey(checked.rate) ? undefined : engine.limiter)
    entry.holders = 1
    if (this.closed) {
      // A new scheduler answers as the others do.
      if (this.draining && engine.limits.drain > 0) engine.draining = true
      else engine.closeUnsafe()
      engine.permits?.dropUnsafe()
      return entry
    }
    this.entries.add(entry)
    this.size++
    this.watch?.added(engine)
    const now = this.now()
    if (now >= this.resting.nextCheck) this.sweep(now, sweepPerCall)
    return entry
  }

  release(entry: Entry): void {
    if (--entry.holders === 0 && !this.closed) this.settle(entry, this.now())
  }

  /** Drops or files an entry without holders that is not filed. */
  private settle(entry: Entry, now: number): void {
    if (entry.pinned) return
    const rest = entry.rest
    if (rest <= 0) {
      this.entries.remove(entry)
      this.size--
      entry.engine.permits?.dropUnsafe()
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
    const due = this.resting.nextCheck
    // If it is behind already, there were more entries than one tick takes.
    this.alarm.set(due <= now ? due : Math.max(due, now + tickNanos), now)
  }

  /** Ends the timer, and all the schedulers. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.closed = this.draining = true
      this.alarm.close()
      const ended = Effect.forEach(this.entries.values(), ({ engine }) => end(engine), {
        concurrency: "unbounded",
        discard: true
      })
      return Effect.ensuring(ended, Effect.sync(() => this.draining = false))
    })
  }

  /** Runs the effect of `f` while the key's entry is held. If it changes the options, the entry stays from then on. */
  use<A, E, R>(key: K, f: (engine: Engine) => Effect.Effect<A, E, R>, changes = false): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      let entry: Entry | undefined
      return Effect.onExit(
        Effect.suspend(() => {
          entry = this.acquire(key)
          if (changes) entry.changed = true
          return f(entry.engine)
        }),
        () => {
          if (entry !== undefined) this.release(entry)
          return Effect.void
        }
      )
    })
  }

  /** The stream of `f`, which holds the key's entry until it has ended. */
  stream<A, E, R>(key: K, f: (engine: Engine) => Stream.Stream<A, E, R>): Stream.Stream<A, E, R> {
    const entry = Effect.acquireRelease(
      Effect.sync(() => this.acquire(key)),
      (entry) => Effect.sync(() => this.release(entry))
    )
    return unwrap(Effect.map(entry, (entry) => f(entry.engine)))
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
          effect: (f) => registry.use(key, f),
          stream: (f) => registry.stream(key, f),
          change: (f) => registry.use(key, f, true)
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
  lookup: (key: K) => Checked<I>,
  change: (handle: Handle) => Handle,
  share?: (key: K) => Share
): Effect.Effect<KeyedHandle<K, I>, never, I | Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.flatMap(site<I>(), (site) => {
        const registry = new Registry(lookup, site, share)
        return Effect.map(enrolled("scheduler", id, registry), (watch) => {
          registry.watch = watch
          return registry
        })
      }),
      (registry) => registry.close
    ),
    (registry) => new (withMany(KeyedHandle))(id, registry, change)
  )
