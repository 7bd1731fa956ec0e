/**
 * The permits of a scheduler that several processes share: what this process holds of them is the width of its engine.
 *
 * It holds what its jobs need and nothing in reserve. A permit goes from job to job here for a moment only, then back to
 * the store, where those who have waited longer are served first. A permit is a lease: it is renewed while it is held, and
 * when that fails for too long the jobs that ran on it are ended.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Engine, Permits } from "../scheduler/engine.js"
import type { SchedulerError } from "../scheduler/error.js"
import type { Job } from "../scheduler/job.js"
import { type Guard, monotonicMillis } from "../store/guard.js"
import type { PermitStore } from "../store/permitStore.js"
import { StoreError } from "../store/storeError.js"

/** For how long a permit goes from one job to the next here before others are asked. */
const keepMillis = 50

/** How often one who waits asks although nobody called, and for how many jobs at most. */
const pollMillis = 1000
const mostPerCommand = 64

interface Permit {
  readonly id: string
  readonly since: number
  deadline: number
}

export interface Options {
  readonly limit: number
  readonly engine: Engine
  readonly store: PermitStore & { readonly node: string; readonly close: () => void }
  readonly guard: Guard
  readonly onStoreError: "fail" | "local"
  readonly expectedProcesses: number
}

/** Puts permits under an engine that has none of its own. They are given back when the scope closes. */
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
  /** What was sent and not answered: closing waits for it, or it might never leave. */
  private readonly sending = new Set<Fiber.Fiber<void>>()
  /** The weight that this process has a place in the store's queue for; 0 without a place. */
  private place = 0
  private poll: Fiber.Fiber<void> | undefined
  private beat: Fiber.Fiber<void> | undefined
  /** The store is away and the policy is to go on with a share. */
  private alone = false
  private recovery: Fiber.Fiber<void> | undefined
  private closed = false
  private readonly losers = new WeakMap<Job, (error: SchedulerError) => void>()

  constructor(options: Options, context: Context.Context<never>, clock: Clock.Clock) {
    this.options = options
    this.limit_ = options.limit
    this.context = context
    this.clock = clock
    options.engine.main.capacity = 0
    options.engine.permits = this
  }

  get limit(): number {
    return this.limit_
  }
  set limit(limit: number) {
    this.limit_ = limit
    if (this.place > 0) this.ask()
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

  // ------------------------------------------------------------------------------------------------ what the engine says

  changed(): void {
    if (this.closed) return
    const { engine } = this.options
    const { main } = engine
    const head = engine.paused ? undefined : main.head
    if (this.alone) {
      // A job that is heavier than the share goes alone.
      const share = Math.max(1, Math.floor(this.limit_ / this.options.expectedProcesses))
      const width = head !== undefined && main.used === 0 ? Math.max(share, head.weight) : share
      if (main.capacity !== width) engine.grantUnsafe(width)
      return
    }
    const idle = this.permits.length - main.used
    if (head === undefined) {
      if (idle > 0) this.giveBack(this.permits.slice(0, idle))
      if (this.place > 0) this.ask()
    } else if (idle < head.weight) {
      // Holding a part while waiting for the rest is how two processes block each other.
      if (idle > 0) this.giveBack(this.permits.slice(0, idle))
      if (this.place !== head.weight) this.ask()
    }
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
    // What runs within the weight of another job is ended with it.
    if (job.lane !== this.options.engine.main) return effect
    // This is the step in which the job starts; its fiber may yield before it waits below.
    let lost: SchedulerError | undefined
    this.losers.set(job, (error) => {
      lost = error
    })
    return Effect.raceFirst(
      effect,
      Effect.callback<never, SchedulerError>((resume) => {
        if (lost !== undefined) return resume(Effect.fail(lost))
        this.losers.set(job, (error) => resume(Effect.fail(error)))
        return Effect.sync(() => void this.losers.delete(job))
      })
    )
  }

  /** Somebody gave a permit back, or it is time to look. */
  readonly wake = (): void => {
    if (this.place > 0) this.ask()
  }

  // -------------------------------------------------------------------------------------------------- asking and giving

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
    this.poll?.interruptUnsafe()
    this.poll = undefined
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
        // It may have been heard all the same.
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
        if (this.place > 0) this.arm(Math.min(pollMillis, Math.max(1, Math.ceil(due) + 2)))
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

  private arm(millis: number): void {
    this.poll = this.fork(Effect.flatMap(Effect.sleep(millis), () =>
      Effect.sync(() => {
        this.poll = undefined
        this.wake()
      })))
  }

  private giveBack(permits: ReadonlyArray<Permit>): void {
    this.permits = this.permits.filter((permit) => !permits.includes(permit))
    this.options.engine.main.capacity = this.permits.length
    this.send("release", this.options.store.release(permits.map((permit) => permit.id)))
  }

  /** Sends what nobody waits for; a lease ends by itself where it does not arrive. */
  private send(operation: string, command: Effect.Effect<unknown, StoreError>): void {
    const fiber = this.fork(Effect.ignore(this.options.guard.once(operation, command)))
    if (fiber === undefined) return
    this.sending.add(fiber)
    fiber.addObserver(() => void this.sending.delete(fiber))
  }

  // -------------------------------------------------------------------------------------------------------------- leases

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

  /** Permits are gone: ends the jobs that began last, as many as run on them. */
  private lose(lost: ReadonlyArray<Permit>, failure: StoreError): void {
    const { engine } = this.options
    this.permits = this.permits.filter((permit) => !lost.includes(permit))
    if (this.alone) return
    engine.main.capacity = this.permits.length
    let over = engine.main.used - this.permits.length
    for (const job of engine.runs()) {
      if (over <= 0) break
      const end = job.lane === engine.main ? this.losers.get(job) : undefined
      if (end === undefined) continue
      over -= job.width
      end(engine.error(failure))
    }
    this.changed()
  }

  // ------------------------------------------------------------------------------------------------------------- outages

  private away(failure: StoreError): void {
    const { engine, guard, onStoreError, store } = this.options
    if (this.closed) return
    if (onStoreError === "fail") return engine.refuseWaitingUnsafe(engine.error(failure))
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
            // What began meanwhile runs to its end; nothing starts beyond what is held.
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
    for (const fiber of [this.asking, this.poll, this.beat, this.recovery]) fiber?.interruptUnsafe()
    store.close()
    return Effect.andThen(
      Effect.ignore(guard.once("release", Effect.andThen(leave, give))),
      Effect.suspend(() => Fiber.awaitAll([...this.sending]))
    )
  })
}
