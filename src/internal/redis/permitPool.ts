/**
 * The permits of a scheduler that several processes share. Its engine is as wide as the permits that this process holds.
 *
 * The process holds permits for its jobs and none in reserve. A permit goes from job to job here for a moment only, then
 * back to the store, which serves the processes in order of arrival. A permit is a lease. It is renewed while it is held;
 * if renewing fails for too long, the jobs that ran on it are ended.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Timers from "../data/timers.js"
import { refuseWaitingUnsafe } from "../scheduler/build.js"
import type { Engine } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import type { Job } from "../scheduler/job.js"
import type { Permits } from "../scheduler/site.js"
import { type Guard, monotonicMillis } from "../store/guard.js"
import type { PermitStore } from "../store/permitStore.js"
import { StoreError } from "../store/storeError.js"

/** How long a permit goes from job to job before it is given back. */
const keepMillis = 50

/** How often a waiting process asks without a wake-up. */
const pollMillis = 1000
/** The most jobs that one command asks for. */
const mostPerCommand = 64

interface Permit {
  readonly id: string
  readonly since: number
  deadline: number
}

export interface Options {
  readonly limit: number
  readonly engine: Engine
  readonly store: PermitStore
  readonly guard: Guard
  readonly onStoreError: "fail" | "local"
  readonly expectedProcesses: number
}

/** Puts an engine under shared permits. `close` gives them back. */
export const make = (options: Options): Effect.Effect<PermitPool> =>
  Effect.withFiber((fiber) => Effect.succeed(new PermitPool(options, fiber.context, fiber.getRef(Clock.Clock))))

export class PermitPool implements Permits {
  private readonly options: Options
  private readonly context: Context.Context<never>
  private readonly clock: Clock.Clock
  private permits: Array<Permit> = []
  private limit_: number
  private ids = 0
  private asking: Fiber.Fiber<void> | undefined
  private asked: ReadonlyArray<string> = []
  private again = false
  /** Commands without an answer yet. Closing waits for them, or they might never be sent. */
  private readonly sending = new Set<Fiber.Fiber<void>>()
  /** The weight for which this process waits in the store's queue; 0 if it does not wait. */
  private place = 0
  private readonly poll: Timers.Alarm
  private beat: Fiber.Fiber<void> | undefined
  /** The store is away, and the policy `"local"` applies. */
  private alone = false
  private recovery: Fiber.Fiber<void> | undefined
  private closed = false
  /** Fails for each running job when its permits are lost. */
  private readonly lost = new WeakMap<Job, Deferred.Deferred<never, SchedulerError>>()

  constructor(options: Options, context: Context.Context<never>, clock: Clock.Clock) {
    this.options = options
    this.limit_ = options.limit
    this.context = context
    this.clock = clock
    this.poll = new Timers.Alarm(Timers.after, this.wake, { context, clock })
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

  get held(): number {
    return this.permits.length
  }

  private now(): number {
    return monotonicMillis(this.clock)
  }

  private fork(effect: Effect.Effect<void>): Fiber.Fiber<void> | undefined {
    const fiber = Effect.runForkWith(this.context)(effect)
    return fiber.pollUnsafe() === undefined ? fiber : undefined
  }

  changed(): void {
    if (this.closed) return
    const { engine } = this.options
    const { main } = engine
    const head = engine.paused ? undefined : main.head
    if (this.alone) {
      // A job that is heavier than the share runs alone.
      const share = Math.max(1, Math.floor(this.limit_ / this.options.expectedProcesses))
      const width = head !== undefined && main.used === 0 ? Math.max(share, head.weight) : share
      if (main.capacity !== width) engine.grantUnsafe(width)
      return
    }
    const idle = this.permits.length - main.used
    const need = head === undefined ? 0 : head.weight
    if (need > 0 && idle >= need) return
    // Two processes that each hold a part and wait for the rest would block each other.
    if (idle > 0) this.giveBack(this.permits.slice(0, idle))
    if (this.place !== need) this.ask()
  }

  freed(): void {
    if (this.alone || this.closed) return
    const { main } = this.options.engine
    const idle = this.permits.length - main.used
    const since = main.head === undefined ? Infinity : this.now() - keepMillis
    const old = this.permits.filter((permit) => permit.since <= since).slice(0, Math.max(0, idle))
    if (old.length > 0) this.giveBack(old)
  }

  guard<A, E, R>(job: Job, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SchedulerError, R> {
    // A job within the weight of another one ends with it.
    if (job.lane !== this.options.engine.main) return effect
    const lost = Deferred.makeUnsafe<never, SchedulerError>()
    this.lost.set(job, lost)
    return Effect.raceFirst(effect, Deferred.await(lost))
  }

  /** Asks again: another process gave a permit back, or the poll is due. */
  readonly wake = (): void => {
    if (this.place > 0) this.ask()
  }

  private ask(): void {
    if (this.closed || this.alone) return
    if (this.asking !== undefined) {
      this.again = true
      return
    }
    const { engine, guard, store } = this.options
    const groups: Array<ReadonlyArray<string>> = []
    let weight = 0
    if (!engine.paused) {
      engine.main.queue.forEach(({ job }) => {
        weight += job.weight
        if (groups.length < mostPerCommand && (weight <= this.limit_ || groups.length === 0)) {
          groups.push(Array.from({ length: job.weight }, () => `${store.node}.${++this.ids}`))
        }
      })
    }
    this.poll.clear()
    this.asked = groups.flat()
    let sentAt = 0
    const command = Effect.suspend(() => {
      sentAt = this.now()
      return store.acquire(groups, this.limit_)
    })
    this.asking = this.fork(Effect.matchEager(guard.run("acquire", command), {
      onFailure: (failure) => {
        this.asking = undefined
        this.place = 0
        // The store may have run the command although it did not answer.
        this.send("release", store.release(this.asked))
        this.away(failure)
      },
      onSuccess: ({ granted, pollMillis: due }) => {
        this.asking = undefined
        const since = this.now()
        for (const group of groups.slice(0, granted)) {
          for (const id of group) this.permits.push({ id, since, deadline: sentAt + store.leaseMillis })
        }
        this.place = groups[granted]?.length ?? 0
        if (this.place > 0) this.poll.set((since + Math.min(pollMillis, Math.ceil(due) + 2)) * 1e6, since * 1e6)
        if (granted > 0) {
          this.beatWhileHeld()
          engine.grantUnsafe(this.permits.length)
        } else {
          this.changed()
        }
        if (this.again) {
          this.again = false
          this.wake()
        }
      }
    }))
  }

  private giveBack(permits: ReadonlyArray<Permit>): void {
    this.permits = this.permits.filter((permit) => !permits.includes(permit))
    this.options.engine.main.capacity = this.permits.length
    this.send("release", this.options.store.release(permits.map((permit) => permit.id)))
  }

  /** Sends a command without waiting. If it is lost, the lease ends by itself. */
  private send(operation: string, command: Effect.Effect<unknown, StoreError>): void {
    const fiber = this.fork(Effect.ignore(this.options.guard.once(operation, command)))
    if (fiber === undefined) return
    this.sending.add(fiber)
    fiber.addObserver(() => void this.sending.delete(fiber))
  }

  private beatWhileHeld(): void {
    if (this.beat === undefined) this.beat = this.fork(this.beats())
  }

  private readonly beats = Effect.fnUntraced(function*(this: PermitPool) {
    const { guard, store } = this.options
    let wait = store.leaseMillis / 3
    while (this.permits.length > 0) {
      const next = this.permits.reduce((least, { deadline }) => Math.min(least, deadline), Infinity)
      yield* Effect.sleep(Math.max(0, Math.min(wait, next - this.now())))
      const sentAt = this.now()
      const expired = this.permits.filter((permit) => permit.deadline <= sentAt)
      if (expired.length > 0) this.lose(expired, new StoreError({ operation: "renew", cause: new Error("too late") }))
      if (this.permits.length === 0) break
      const asked = this.permits
      const left = Math.max(1, asked.reduce((least, { deadline }) => Math.min(least, deadline), Infinity) - sentAt)
      wait = yield* Effect.matchEager(
        Effect.timeout(guard.once("renew", store.renew(asked.map((permit) => permit.id), this.limit_)), left),
        {
          onFailure: () => Math.min(store.leaseMillis / 10, 500),
          onSuccess: (lost) => {
            for (const permit of asked) if (!lost.includes(permit.id)) permit.deadline = sentAt + store.leaseMillis
            const gone = this.permits.filter((permit) => lost.includes(permit.id))
            if (gone.length > 0) {
              this.lose(gone, new StoreError({ operation: "renew", cause: new Error("others hold the permit") }))
            }
            return store.leaseMillis / 3
          }
        }
      )
    }
    this.beat = undefined
  })

  /** Ends the jobs that began last, as many as ran on lost permits. */
  private lose(lost: ReadonlyArray<Permit>, failure: StoreError): void {
    const { engine } = this.options
    this.permits = this.permits.filter((permit) => !lost.includes(permit))
    if (this.alone) return
    engine.main.capacity = this.permits.length
    let over = engine.main.used - this.permits.length
    for (const job of engine.runs()) {
      if (over <= 0) break
      const end = this.lost.get(job)
      if (end === undefined || job.lane !== engine.main) continue
      over -= job.width
      Deferred.doneUnsafe(end, Effect.fail(engine.refusals.error(failure)))
    }
    this.changed()
  }

  private away(failure: StoreError): void {
    const { engine, guard, onStoreError, store } = this.options
    if (this.closed) return
    if (onStoreError === "fail") return refuseWaitingUnsafe(engine, failure)
    if (this.alone) return
    this.alone = true
    const back = Effect.suspend(() => Effect.isSuccess(guard.run("acquire", store.acquire([], this.limit_)))).pipe(
      Effect.delay(pollMillis),
      Effect.repeat({ until: (back) => back })
    )
    this.recovery = this.fork(
      Effect.andThen(
        guard.applied(onStoreError, failure),
        Effect.flatMap(back, () =>
          Effect.sync(() => {
            // Jobs that began meanwhile run to their end. No job starts beyond the held permits.
            this.alone = false
            engine.grantUnsafe(this.permits.length)
          }))
      )
    )
    this.changed()
  }

  readonly close: Effect.Effect<unknown> = Effect.suspend(() => {
    const { guard, store } = this.options
    this.closed = true
    const ids = this.permits.map((permit) => permit.id).concat(this.asking === undefined ? [] : this.asked)
    const leave = this.place > 0 || this.asking !== undefined ? store.acquire([], this.limit_) : Effect.void
    const give = ids.length > 0 ? store.release(ids) : Effect.void
    this.poll.close()
    for (const fiber of [this.asking, this.beat, this.recovery]) fiber?.interruptUnsafe()
    store.close()
    return Effect.andThen(
      Effect.ignore(guard.once("release", Effect.andThen(leave, give))),
      Effect.suspend(() => Fiber.awaitAll([...this.sending]))
    )
  })
}
