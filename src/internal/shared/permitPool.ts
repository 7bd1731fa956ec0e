/**
 * The permits of a scheduler that several processes share. Its engine is as wide as the permits that this process holds.
 *
 * The process holds permits for its jobs and none in reserve. A permit goes from job to job here for a moment only, then
 * back to the store, which serves the processes in order of arrival. A permit is a lease. It is renewed while it is held;
 * if renewing fails for too long, the jobs that ran on it are ended.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { guarded } from "../data/guarded.js"
import { forEachInSlices } from "../data/slices.js"
import type { Rate } from "../limiter/gcra.js"
import type { Limiter } from "../limiter/limiter.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import type { Job } from "../scheduler/job.js"
import { errorOf, refuseEach } from "../scheduler/refusal.js"
import type { Permits } from "../scheduler/site.js"
import { type Guard, monotonicMillis } from "../store/guard.js"
import type { Held, PermitStore } from "../store/permitStore.js"
import { StoreError } from "../store/storeError.js"
import type { Beating, Pulse } from "./pulse.js"

/** How long a permit goes from job to job before it is given back. */
const keepMillis = 50

/** How often a waiting process asks without a wake-up. */
const pollMillis = 1000

/** The polls of different schedulers meet at multiples of this, and go as one command. So do their renewals. */
const pollGridMillis = 250
const beatsOfLease = 12

/** The store's clock and this one may differ so much about the end of the same penalty. */
const penaltySlackMillis = 500

/** The most jobs that one command asks for. */
const mostPerCommand = 64

/** How long a scheduler of a key stays after its last command. */
const lingerNanos = 1e9

/** How long a scheduler of a key stays to leave a place that it may have. */
const strayMillis = 5000

interface Permit {
  readonly id: string
  weight: number
  readonly since: number
  deadline: number
}

/** A question that is on its way. */
interface Asked {
  readonly permits: ReadonlyArray<Held>
  fiber: Fiber.Fiber<void> | undefined
}

interface Sent {
  readonly remaining: ReadonlyArray<Held>
  fiber: Fiber.Fiber<void> | undefined
  hasFailed: boolean
}

/** Nothing of it remains. */
const none = ({ id }: Held): Held => ({ id, weight: 0 })

export interface Options {
  readonly engine: Engine
  readonly store: PermitStore
  readonly guard: Guard
  readonly pulse: Pulse
  /** Makes a limiter for a rate that is set at run time. */
  readonly limiterOf: (rates: ReadonlyArray<Rate>) => Limiter<StoreError>
  readonly onStoreError: "fail" | "local"
  readonly expectedProcesses: number
}

/** Puts an engine under shared permits. `close` gives them back. */
export class PermitPool implements Permits, Beating {
  private readonly options: Options
  private permits: Array<Permit> = []
  /** The weight of all permits. */
  size = 0
  private limit_: number
  private ids = 0
  private asking: Asked | undefined
  private again = false
  /** What is given back and has no answer yet. Closing waits for an attempt of it, or it might never be sent. */
  private readonly sending = new Set<Sent>()
  /** The weight for which this process waits in the store's queue; 0 if it does not wait. */
  private place = 0
  /**
   * Until when the store may hold a place that it told nobody of: the lease of a place whose command failed. Unless somebody
   * waits here, it is left as soon as the store answers, since it holds up the other processes.
   */
  private strayUntil = 0
  /** When to ask again. */
  private pollAt = Infinity
  /** How many jobs had come when the store failed. Those that are left of them run in lent width too, so they wait for the poll. */
  private failedAt = -1
  /** When to renew, `Infinity` without permits. */
  private renewAt = Infinity
  private renewal: Fiber.Fiber<void> | undefined
  due = Infinity
  index = -1
  /** The store is away, and the policy `"local"` applies. */
  private alone = false
  private recovery: Fiber.Fiber<void> | undefined
  private closed = false
  /** Fails for each running job when its permits are lost. */
  private readonly lost = new WeakMap<Job, Deferred.Deferred<never, SchedulerError>>()
  /** The limiter that was made here, for the rate of the engine. */
  private limiter: Limiter<StoreError> | undefined

  constructor(options: Options) {
    this.options = options
    this.limit_ = options.engine.limits.concurrency
    options.engine.main.capacity = 0
    options.engine.permits = this
  }

  get limit(): number {
    return this.limit_
  }
  set limit(limit: number) {
    this.limit_ = limit
    this.wake()
  }

  /** Whether no job may start. */
  private get held(): boolean {
    const { engine } = this.options
    return engine.paused || engine.penaltyLeft > 0
  }

  /** Nanoseconds until nothing is left to be done for an idle engine, as far as that is known. */
  get rest(): number {
    const busy = this.permits.length > 0 || this.place > 0 || this.lingers || this.asking !== undefined ||
      this.sending.size > 0
    return busy ? lingerNanos : 0
  }

  private get strays(): boolean {
    return this.strayUntil > 0 && this.now() < this.strayUntil
  }

  /** Whether a key is worth keeping for its stray place. In a long outage there may be many keys. */
  private get lingers(): boolean {
    const { leaseMillis } = this.options.store
    return this.strays && !this.alone && this.now() < this.strayUntil - leaseMillis + strayMillis
  }

  private now(): number {
    return monotonicMillis(this.options.engine.site.clock)
  }

  private fork(effect: Effect.Effect<void>): Fiber.Fiber<void> | undefined {
    const fiber = Effect.runForkWith(this.options.engine.site.context)(effect)
    return fiber.pollUnsafe() === undefined ? fiber : undefined
  }

  changed(): void {
    if (this.closed) return
    const { engine } = this.options
    const { main } = engine
    const head = this.held ? undefined : main.head
    if (this.alone) {
      // A job that is heavier than the share runs alone.
      const share = Math.max(1, Math.floor(this.limit_ / this.options.expectedProcesses))
      const width = head !== undefined && main.used === 0 ? Math.max(share, head.weight) : share
      if (main.capacity !== width) engine.grantUnsafe(width)
      return
    }
    const idle = this.size - main.used
    const need = head === undefined ? 0 : head.weight
    if (need > 0 && idle >= need) return
    // Two processes that each hold a part and wait for the rest would block each other.
    if (idle > 0) this.giveBack(idle, Infinity)
    if ((this.place !== need || this.strays) && this.failedAt !== engine.lanes.arrivals) this.ask()
  }

  freed(): void {
    if (this.alone || this.closed) return
    const { main } = this.options.engine
    const idle = this.size - main.used
    const keeps = main.head !== undefined && this.size <= this.limit_
    if (idle > 0) this.giveBack(idle, keeps ? this.now() - keepMillis : Infinity)
  }

  guard<A, E, R>(job: Job, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SchedulerError, R> {
    // A job within the weight of another one ends with it.
    if (job.lane !== this.options.engine.main) return effect
    const lost = Deferred.makeUnsafe<never, SchedulerError>()
    this.lost.set(job, lost)
    const guarded = Effect.raceFirst(effect, Deferred.await(lost))
    const { guard, onStoreError } = this.options
    return this.alone ? Effect.andThen(guard.counted(onStoreError, 1), guarded) : guarded
  }

  /** Asks again: another process gave a permit back, or the poll is due. A wake-up may overtake the answer that tells of a place. */
  readonly wake = (): void => {
    if (this.place > 0 || this.asking !== undefined || this.strays) this.ask()
  }

  private ask(): void {
    if (this.closed || this.alone) return
    if (this.asking !== undefined) {
      this.again = true
      return
    }
    const { engine, guard, store } = this.options
    const permits: Array<Held> = []
    let weight = 0
    if (!this.held) {
      engine.main.queue.forEach(({ job }) => {
        weight += job.weight
        if (permits.length < mostPerCommand && (weight <= this.limit_ || permits.length === 0)) {
          permits.push({ id: `${store.node}.${++this.ids}`, weight: job.weight })
        }
      })
    }
    this.pollAt = Infinity
    this.failedAt = -1
    let sentAt = 0
    const command = Effect.suspend(() => {
      sentAt = this.now()
      return store.acquire(permits, this.limit_)
    })
    const asked: Asked = this.asking = { permits, fiber: undefined }
    asked.fiber = this.fork(Effect.matchEager(guard.run("acquire", command), {
      onFailure: (failure) => {
        this.asking = undefined
        if (this.place > 0 || permits.length > 0) this.strayUntil = this.now() + store.leaseMillis
        this.place = 0
        // The store may have run the command although it did not answer.
        this.send(permits.map(none))
        this.away(failure)
      },
      onSuccess: ({ granted, penaltyMillis, pollMillis: due }) => {
        this.asking = undefined
        this.strayUntil = 0
        const since = this.now()
        for (const { id, weight } of permits.slice(0, granted)) {
          this.permits.push({ id, weight, since, deadline: sentAt + store.leaseMillis })
          this.size += weight
        }
        // The limit may have become smaller since.
        const excess = Math.min(this.size - this.limit_, this.size - engine.main.used)
        if (excess > 0) this.giveBack(excess, Infinity)
        if (penaltyMillis > 0) {
          // Its end asks again.
          this.place = 0
          engine.penalizeUnsafe(penaltyMillis * 1e6, (since - sentAt + penaltySlackMillis) * 1e6)
        } else {
          this.place = permits[granted]?.weight ?? 0
        }
        if (this.place > 0) this.pollAt = this.pollAfter(since, Math.ceil(due) + 2)
        if (granted > 0 && this.renewAt === Infinity) this.renewAt = this.renewAfter(since)
        this.arm()
        if (granted > 0) engine.grantUnsafe(this.size)
        else this.changed()
        if (this.again) {
          this.again = false
          this.wake()
        }
      }
    }))
  }

  /** Gives back so much of the permits that have been here since then. */
  private giveBack(weight: number, since: number): void {
    const remaining: Array<Held> = []
    this.permits = this.permits.filter((permit) => {
      const given = permit.since <= since ? Math.min(permit.weight, weight) : 0
      if (given === 0) return true
      weight -= given
      this.size -= given
      permit.weight -= given
      remaining.push({ id: permit.id, weight: permit.weight })
      return permit.weight > 0
    })
    if (remaining.length === 0) return
    this.narrow()
    this.send(remaining)
  }

  /** Less is held: the first job in the queue may no longer fit. */
  private narrow(): void {
    const { lanes, main } = this.options.engine
    main.capacity = this.size
    lanes.refresh()
  }

  /** Gives back without waiting. If it is lost in an outage beyond its budget, the lease ends by itself. */
  private send(remaining: ReadonlyArray<Held>): void {
    const { guard, store } = this.options
    const sent: Sent = { remaining, fiber: undefined, hasFailed: false }
    const command = Effect.onExit(store.release(remaining), (exit) =>
      Effect.sync(() => {
        sent.hasFailed = Exit.isFailure(exit)
        // Whoever closes waits for no repetition.
        if (sent.hasFailed && this.closed) sent.fiber?.interruptUnsafe()
      }))
    sent.fiber = this.fork(Effect.ignore(guard.run("release", command)))
    if (sent.fiber === undefined) return
    this.sending.add(sent)
    sent.fiber.addObserver(() => void this.sending.delete(sent))
  }

  private pollAfter(now: number, millis: number): number {
    return millis < pollMillis ? now + millis : Math.ceil((now + pollMillis) / pollGridMillis) * pollGridMillis
  }

  private renewAfter(now: number): number {
    const { leaseMillis } = this.options.store
    const grid = leaseMillis / beatsOfLease
    // Sooner where the answer took most of a lease.
    return Math.min(Math.floor((now + leaseMillis / 3) / grid) * grid, (now + this.firstDeadline) / 2)
  }

  private arm(): void {
    if (!this.closed) this.options.pulse.set(this, Math.min(this.pollAt, this.renewAt))
  }

  beat(now: number): void {
    // The one that was told before may have closed this one.
    if (this.closed) return
    if (this.pollAt <= now) {
      this.pollAt = Infinity
      const hasFailed = this.failedAt !== -1
      this.failedAt = -1
      if (hasFailed) this.changed()
      else this.wake()
    }
    // A job that ends may have a caller who throws. The other permits are still renewed.
    try {
      if (this.renewAt <= now) this.renew(now)
    } finally {
      this.arm()
    }
  }

  private get firstDeadline(): number {
    return this.permits.reduce((least, { deadline }) => Math.min(least, deadline), Infinity)
  }

  private renew(sentAt: number): void {
    this.renewal?.interruptUnsafe()
    this.renewal = undefined
    this.lose(({ deadline }) => deadline <= sentAt, "too late")
    this.renewHeld(sentAt)
  }

  private renewHeld(sentAt: number): void {
    // What a closed one has given back would be held again.
    if (this.closed) return
    const { guard, store } = this.options
    // Without an answer until then, the first permit is lost.
    this.renewAt = this.firstDeadline
    if (this.permits.length === 0) return
    const asked = this.permits
    const command = guard.once("renew", store.renew(asked, this.limit_))
    this.renewal = this.fork(Effect.matchEager(command, {
      onFailure: () => this.renewed(this.now() + Math.min(store.leaseMillis / 10, 500)),
      onSuccess: (ids) => {
        const lost = new Set(ids)
        for (const permit of asked) if (!lost.has(permit.id)) permit.deadline = sentAt + store.leaseMillis
        this.lose(({ id }) => lost.has(id), "others hold the permit")
        this.renewed(this.renewAfter(this.now()))
      }
    }))
  }

  private renewed(next: number): void {
    this.renewal = undefined
    this.renewAt = this.permits.length > 0 ? Math.min(next, this.firstDeadline) : Infinity
    this.arm()
  }

  /** Ends the jobs that began last, as many as ran on lost permits. */
  private lose(isLost: (permit: Permit) => boolean, why: string): void {
    const { engine } = this.options
    const lost = this.permits.filter(isLost)
    if (lost.length === 0) return
    this.permits = this.permits.filter((permit) => !isLost(permit))
    for (const { weight } of lost) this.size -= weight
    if (this.alone) return
    this.narrow()
    let over = engine.main.used - this.size
    const ends: Array<Deferred.Deferred<never, SchedulerError>> = []
    for (const job of engine.lanes.started) {
      if (over <= 0) break
      const end = this.lost.get(job)
      if (end === undefined || job.lane !== engine.main) continue
      over -= job.width
      ends.push(end)
    }
    const error = errorOf(engine, new StoreError({ operation: "renew", cause: new Error(why) }))
    engine.slices.apart(() =>
      forEachInSlices(engine.slices, ends, (end) => Deferred.doneUnsafe(end, Effect.fail(error)), () => this.changed())
    )
  }

  private away(failure: StoreError): void {
    const { engine, guard, onStoreError, store } = this.options
    if (this.closed) return
    if (onStoreError === "fail") {
      this.failedAt = engine.lanes.arrivals
      // A job that a running one waits for needs no permit.
      refuseEach(engine, (job) => engine.lanes.isLent(job) ? undefined : failure)
      if (this.asking === undefined && (engine.queued > 0 || this.strays)) {
        this.pollAt = this.pollAfter(this.now(), pollMillis)
        this.arm()
      }
      return
    }
    if (this.alone) return
    this.alone = true
    const asked = Effect.suspend(() => guard.run("acquire", store.acquire([], this.limit_)))
    const back = Effect.map(Effect.eventually(Effect.delay(asked, pollMillis)), () => {
      // Jobs that began meanwhile run to their end. No job starts beyond the held permits.
      this.alone = false
      this.strayUntil = 0
      engine.grantUnsafe(this.size)
    })
    this.recovery = this.fork(Effect.andThen(guard.applied(onStoreError, failure, 0), back))
    this.changed()
  }

  /** Lets no process start a job for a time: none of this one from now on, and none of another once it asks. */
  penalize(nanos: number): Effect.Effect<void, StoreError> {
    return Effect.suspend(() => {
      const { engine, guard, onStoreError, store } = this.options
      engine.penalizeUnsafe(nanos)
      const sent = guard.runOrApply(onStoreError, "penalize", store.penalize(nanos / 1e6))
      const { limiter } = engine
      return limiter === undefined ? sent : Effect.asVoid(Effect.andThen(sent, limiter.penalize(undefined, nanos)))
    })
  }

  limiterOf(rates: ReadonlyArray<Rate>): Limiter<StoreError> {
    return this.limiter = this.options.limiterOf(rates)
  }

  /** Ends the timers and the wake-ups. */
  dropUnsafe(): void {
    const { pulse, store } = this.options
    this.closed = true
    pulse.set(this, Infinity)
    for (const fiber of [this.asking?.fiber, this.renewal, this.recovery]) fiber?.interruptUnsafe()
    store.close()
  }

  readonly close: Effect.Effect<unknown> = Effect.suspend(() => {
    const { guard, store } = this.options
    const held = [...this.permits, ...(this.asking?.permits ?? [])].map(none)
    // What has failed is tried once more, instead of for as long as an outage may take.
    for (const { fiber, hasFailed, remaining } of Array.from(this.sending)) {
      if (!hasFailed) continue
      fiber?.interruptUnsafe()
      held.push(...remaining.filter(({ weight }) => weight === 0))
    }
    const leave = this.place > 0 || this.asking !== undefined || this.strays
      ? store.acquire([], this.limit_)
      : Effect.void
    const give = held.length > 0 ? store.release(held) : Effect.void
    // The store may throw: a defect, once all is given back.
    const dropped = guarded((): Exit.Exit<void> => {
      this.dropUnsafe()
      return Exit.void
    }, Exit.die)
    const last = Effect.ignore(guard.once("release", Effect.andThen(leave, give)))
    return Effect.all([last, this.limiter?.close ?? Effect.void], { concurrency: "unbounded", discard: true }).pipe(
      Effect.andThen(Effect.suspend(() => Fiber.awaitAll(Array.from(this.sending, ({ fiber }) => fiber!)))),
      Effect.andThen(dropped)
    )
  })
}
