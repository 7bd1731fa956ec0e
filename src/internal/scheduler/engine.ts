/**
 * The engine under every scheduler: synchronous, without fibers of its own.
 *
 * A submitter makes a `Job` (a subclass: one object is queue node, permit and token) and calls
 *
 *     engine.submitUnsafe(job)       calls `onStart`, now or later, in the step in which permit and rate are taken; or
 *                                    `onFailure` (refused, nothing taken); or `onClose`
 *     engine.startUnsafe(job)        true: the job runs (`onStart` is not called); false: nothing happened, submit it
 *     engine.startedUnsafe(job)      to be called in the step in which the effect begins, after its first operation. A
 *                                    strict rate counts from here. A job that is released before costs no rate
 *     engine.releaseUnsafe(job)      ends a running job, whose permit goes to the next; takes a waiting job out of the
 *                                    queue at no cost; keeps an idle job from starting. Idempotent
 *
 * The effect of a job must run with `CurrentNode` set to the job, and a job must be made with the node of its caller: so a
 * job finds the weight that is lent to it. In a full queue a `patient` job waits where another fails with `QueueFull`.
 *
 * The engine calls `onStart`, `onFailure` and `onClose` in its own step. They may submit and release, and must not throw.
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { begin, Slices } from "../data/slices.js"
import { after, Alarm, type Place } from "../data/timers.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import { endUnsafe } from "../waits/waits.js"
import { Draining, QueueFull, SchedulerError } from "./error.js"
import type { SchedulerErrorReason } from "./error.js"
import { type Job, type Lane, Terms } from "./job.js"
import { type Host, Lanes } from "./lanes.js"
import type { Limits } from "./options.js"
import { type Host as OverloadHost, Overload } from "./overload.js"
import { type Claim, type Claimant, Rate } from "./rate.js"
import type { WidthController } from "./width.js"

export { Job } from "./job.js"

/** How many jobs one step starts before it gives the event loop a turn. */
const maxStartsPerStep = 256

/** Permits from a store. The width of the main lane is then the number of permits held, and changes all the time. */
export interface Permits {
  /** The most that there can ever be. */
  limit: number
  /** Demand may have changed. */
  changed(): void
  /** A job has ended: its permits may be given back before the next job takes them. */
  freed(): void
  /** Settles when its permits are lost; never, as long as it holds them. */
  guard<A, E, R>(job: Job, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SchedulerError, R>
}

/** What keeps the job in front from starting. */
export type Hold = "nothing" | "width" | "rate" | "pause" | "penalty"

/** The context, the clock and the dispatcher of the layer that an engine belongs to. */
export interface Site<in I = never> extends Place {
  readonly context: Context.Context<I>
  readonly dispatcher: SchedulerDispatcher
}

export class Engine implements Host, Claimant, OverloadHost {
  readonly limits: Limits
  readonly site: Site
  readonly lanes: Lanes
  readonly slices: Slices
  permits: Permits | undefined = undefined
  private readonly rate: Rate
  private epoch: bigint | undefined
  /** 0 when there is none. */
  private penaltyUntil = 0
  private penaltyAlarm: Alarm | undefined
  /** Decides about the width, until `resize` does. */
  private adaptive: WidthController | undefined
  /** Made with the first job that needs it. */
  private overload: Overload | undefined
  paused = false
  /** How many jobs were refused, by the reason. */
  readonly refused: { [Reason in SchedulerErrorReason["_tag"]]?: number } = {}
  /** Jobs that come now are refused. */
  draining = false
  closed = false

  /** Called after the width has changed. */
  readonly resized = new Set<() => void>()

  private resumedAt = 0
  private pumping = false
  private again = false
  private deferred = false
  private soon = false
  /** It is closed, and some jobs have not been told yet. */
  telling = false
  private starts = 0
  /** Called when a job has left and no job waits, and, once it is closed, after each end of a job. */
  readonly watchers = new Set<() => void>()

  constructor(limits: Limits, site: Site, limiter?: Limiter<StoreError>) {
    this.limits = limits
    this.site = site
    this.rate = new Rate(this, limiter)
    this.slices = new Slices(site.dispatcher)
    this.lanes = new Lanes(this, limits.concurrency)
    if (this.hasTerms) this.overload = new Overload(this, limits, site)
    if (limits.adaptive === undefined) return
    this.adaptive = limits.adaptive.make()
    this.main.capacity = this.adaptive.limit
    this.lanes.elastic = true
  }

  /** Whether every job has terms. */
  private get hasTerms(): boolean {
    return this.limits.maxWait !== Infinity || this.limits.shed !== undefined
  }

  get name(): string {
    return this.limits.name
  }

  get limiter(): Limiter<StoreError> | undefined {
    return this.rate.limiter
  }

  now(): number {
    return this.rate.now()
  }

  get main(): Lane {
    return this.lanes.main
  }

  get running(): number {
    return this.lanes.running
  }

  get queued(): number {
    return this.lanes.queued
  }

  get idle(): boolean {
    return this.running === 0 && this.queued === 0
  }

  /** The most weight that may run at one time. */
  get limit(): number {
    if (this.permits !== undefined) return this.permits.limit
    return this.adaptive === undefined ? this.main.capacity : this.limits.concurrency
  }

  // ---------------------------------------------------------------------------------------------- a job's way through

  /** `later` is the job itself when its effect does not begin in this very step. */
  startUnsafe(job: Job, later?: Job): boolean {
    if (this.paused || this.closed || job.state !== "Idle" || this.penalized || this.refusesNew(job)) return false
    if (job.weight > this.limit) return false
    const lane = this.lanes.roomFor(job)
    if (lane === undefined) return false
    const limiter = this.limiter
    if (limiter !== undefined && job.tokens > 0) {
      if (this.rate.claimed || this.lanes.lenders.front !== undefined) return false
      // The job comes now: there is no lateness to make up.
      if (!limiter.takeUnsafe(undefined, job.tokens, Infinity, later)) return false
    }
    this.overload?.startedAtOnce()
    if (this.adaptive !== undefined) job.startedAt = this.time()
    this.lanes.begin(job, lane)
    return true
  }

  /** A scheduler that drains takes only the jobs of those that it has taken already. */
  private refusesNew(job: Job): boolean {
    return this.draining && !job.patient && !this.lanes.isNested(job)
  }

  submitUnsafe(job: Job): void {
    if (this.startUnsafe(job, this.limiter?.strict === true ? job : undefined)) job.onStart()
    else this.enqueueUnsafe(job)
  }

  enqueueUnsafe(job: Job): void {
    if (job.state !== "Idle") return
    if (this.closed) {
      job.state = "Done"
      return job.onClose()
    }
    if (this.refusesNew(job)) return this.refuse(job, this.error(new Draining()))
    const error = this.impossible(job, this.limit, this.rate.burst)
    if (error !== undefined) return this.refuse(job, error)
    job.arrived = this.now()
    job.queuedAt = this.site.clock.currentTimeMillisUnsafe()
    const { maxQueued } = this.limits
    const queued = job.patient ? -1 : this.lanes.waitingBefore(job)
    if (queued >= maxQueued) {
      // Its fiber may have yielded since it could not start.
      if (this.startUnsafe(job, job)) return job.onStart()
      return this.refuse(job, this.error(new QueueFull({ queued, maxQueued })))
    }
    if (this.hasTerms && !job.patient) job.terms ??= new Terms(job, Infinity, undefined)
    const { terms } = job
    if (terms === undefined) {
      this.lanes.enter(job)
    } else {
      this.overload ??= new Overload(this, this.limits, this.site)
      const reason = this.overload.refusesNew(terms, this.expectedWait(job))
      if (reason !== undefined) return this.refuse(job, this.error(reason))
      this.lanes.enter(job)
      this.overload.entered(terms)
    }
    if (this.penaltyUntil > 0) this.holdUntil(this.penaltyUntil)
    this.pump()
  }

  startedUnsafe(job: Job): void {
    if (job.link !== undefined) this.limiter!.beginUnsafe(job)
  }

  /** `exit` is that of the effect, for a width that follows it. */
  releaseUnsafe(job: Job, exit?: Exit.Exit<unknown, unknown> | undefined): void {
    switch (job.state) {
      case "Running":
        return this.finish(job, exit)
      case "Queued": {
        this.withdrawJob(job)
        this.pump()
        return this.notify()
      }
      case "Idle":
      case "Done":
        job.state = "Done"
    }
  }

  private withdrawJob(job: Job): void {
    this.lanes.leave(job)
    job.state = "Done"
    this.lanes.refresh()
  }

  private finish(job: Job, exit: Exit.Exit<unknown, unknown> | undefined): void {
    if (job.link !== undefined) this.limiter!.refundUnsafe(job)
    const lane = this.lanes.end(job)
    if (job.terms?.line !== undefined) this.settleCharge(job.terms)
    if (this.adaptive !== undefined && exit !== undefined) this.adapt(this.adaptive, job, exit)
    if (job.waits !== undefined || job.inside !== undefined) endUnsafe(job)
    if (lane !== this.main) this.lanes.lenders.freed(lane)
    if (this.permits !== undefined) {
      this.lanes.refresh()
      this.recheckClaim()
      this.permits.freed()
    }
    if (this.queued > 0) {
      this.lanes.refresh()
      this.pump()
    }
    this.notify()
  }

  // ------------------------------------------------------------------------------------------------------------- pump

  private get front(): Lane | undefined {
    return this.paused || this.closed || this.penalized ? undefined : this.lanes.front
  }

  /**
   * Starts every job that can start. If the job in front lacks only the rate, one claim waits for it. A job that starts runs
   * in this loop until it first waits. If it ends there, its release sets `again` instead of recursing.
   */
  private pump(granted?: Lane, link?: unknown): void {
    if (this.pumping || this.deferred) {
      this.again = true
      return
    }
    this.pumping = true
    this.starts = 0
    let settled = false
    try {
      if (granted !== undefined) this.startHead(granted, link)
      do {
        this.again = false
        let lane = this.front
        while (lane !== undefined && this.starts < maxStartsPerStep) {
          if (!this.refusesHead(lane)) {
            if (!this.pays(lane)) break
            this.startHead(lane)
          }
          lane = this.front
        }
        if (lane === undefined) this.rate.withdraw()
      } while (this.again && this.starts < maxStartsPerStep)
      settled = this.starts < maxStartsPerStep
    } finally {
      this.pumping = false
      if (!settled) this.defer()
    }
    if (this.permits !== undefined) this.permits.changed()
  }

  pumpSoon(): void {
    this.again = true
    if (this.soon || this.pumping || this.deferred) return
    this.soon = true
    this.site.dispatcher.scheduleTask(() => {
      this.soon = false
      this.pump()
    }, 0)
  }

  private defer(): void {
    this.deferred = true
    this.site.dispatcher.scheduleTask(() => {
      this.deferred = false
      this.pump()
    }, 0)
  }

  private pays(lane: Lane): boolean {
    const job = this.lanes.headOf(lane)
    return this.rate.take(job, Math.max(job.arrived, lane.freeAt, this.resumedAt))
  }

  /** Withdraws the claim in the step in which it no longer fits the job in front. */
  private recheckClaim(): void {
    if (!this.rate.claimed) return
    const lane = this.front
    this.rate.recheck(lane === undefined ? undefined : this.lanes.headOf(lane))
  }

  behindClaim(): number {
    return Math.max(0, Math.min(this.queued, this.main.capacity - this.main.used) - 1)
  }

  /** The rate was taken for the job that is in front now. */
  onDue(claim: Claim): void {
    const lane = this.paidBy(claim)
    if (lane === undefined || this.refusesHead(lane)) {
      this.limiter!.refundUnsafe(claim)
      return this.pump()
    }
    if (this.pumping || this.deferred) {
      this.startHead(lane, claim.link)
      this.again = true
    } else {
      this.pump(lane, claim.link)
    }
  }

  /** The lane whose first job a claim pays for. A job with other tokens may have come in front since the claim was made. */
  private paidBy(claim: Claim): Lane | undefined {
    const lane = this.front
    if (lane === undefined || this.lanes.headOf(lane).tokens === claim.tokens) return lane
    const { main } = this
    return main.state === "candidate" && main.head!.tokens === claim.tokens ? main : undefined
  }

  onTooLarge(): void {
    this.reviewUnsafe()
  }

  onStoreFailure(error: StoreError): void {
    const lane = this.front
    if (lane === undefined) return
    const job = this.lanes.headOf(lane)
    this.withdrawJob(job)
    this.refuse(job, this.error(error))
    this.pump()
    this.notify()
  }

  /** `link` is the grant of a claim; it now belongs to the job. */
  private startHead(lane: Lane, link?: unknown): void {
    const job = this.lanes.headOf(lane)
    if (link !== undefined) job.link = link
    this.starts++
    if (job.line !== undefined && lane === this.main) this.charge(job)
    if (this.adaptive !== undefined) job.startedAt = this.time()
    this.lanes.leave(job)
    this.lanes.begin(job, lane)
    this.lanes.refresh()
    if (lane !== this.main) this.lanes.lenders.yieldTurn(lane)
    this.recheckClaim()
    job.onStart()
  }

  // ---------------------------------------------------------------------------------------------------------- overload

  /** Nanoseconds of the monotonic clock since the first call. */
  time(): number {
    const now = this.site.clock.monotonicTimeNanosUnsafe()
    return Number(now - (this.epoch ??= now))
  }

  get hold(): Hold {
    if (this.queued === 0) return "nothing"
    if (this.paused) return "pause"
    if (this.penalized || (this.limiter?.penaltyUnsafe?.(undefined) ?? 0) > 0) return "penalty"
    return this.lanes.front === undefined ? "width" : "rate"
  }

  /** How many milliseconds the job in front has waited. */
  get waitOfFirst(): number {
    const { head } = this.main
    return head === undefined ? 0 : Math.max(0, this.site.clock.currentTimeMillisUnsafe() - head.queuedAt)
  }

  /** Nanoseconds until the job in front can start, where the rate or a penalty decides. */
  get nextStart(): number | undefined {
    const { hold, limiter } = this
    const { head } = this.main
    if (this.penalized) return this.penaltyUntil - this.time()
    if (head === undefined || (hold !== "rate" && hold !== "penalty")) return undefined
    return limiter?.dueInUnsafe?.(undefined, head.tokens)
  }

  /** How long the rate, or a penalty, keeps a job from its start at least. */
  private expectedWait(job: Job): number {
    const penalty = this.penaltyUntil === 0 ? 0 : this.penaltyUntil - this.time()
    const { limiter, main } = this
    if (limiter?.dueInUnsafe === undefined || job.tokens === 0) return penalty
    // The jobs in front that wait for width may have left before their turn. A nested job does not wait for them.
    const alone = this.paused || main.state === "blocked" || this.lanes.isNested(job)
    const before = alone ? 0 : main.queue.tokensBefore(job.priority, job.terms?.share)
    return Math.max(penalty, limiter.dueInUnsafe(undefined, before + job.tokens))
  }

  /** Refuses the job in front if it has waited too long. */
  private refusesHead(lane: Lane): boolean {
    const job = this.lanes.headOf(lane)
    if (job.terms === undefined) return false
    const reason = this.overload!.refusesFirst(job.terms, lane === this.main && !job.patient)
    if (reason === undefined) return false
    this.starts++
    this.refuseQueued(job, reason)
    this.notify()
    return true
  }

  private refuseQueued(job: Job, reason: SchedulerErrorReason): void {
    this.withdrawJob(job)
    this.recheckClaim()
    this.refuse(job, this.error(reason))
  }

  widthTurned(blocked: boolean): void {
    this.overload?.width(blocked && !this.paused)
  }

  leftUnsafe(terms: Terms): void {
    this.overload!.left(terms)
  }

  /** Some jobs may have waited too long. */
  ringUnsafe(): void {
    // First the jobs that can start: the timer of the rate may be set for the same time.
    this.limiter?.settle?.()
    this.pump()
    const overload = this.overload!
    this.refuseEach(overload.expired(), (terms) => overload.exceeded(terms))
  }

  private refuseEach(all: Iterable<Terms>, reasonOf: (terms: Terms) => SchedulerErrorReason): void {
    this.each(all, (terms) => {
      if (terms.job.state === "Queued") this.refuseQueued(terms.job, reasonOf(terms))
    }, () => {
      this.pump()
      this.notify()
    })
  }

  /** Lets no job start for a time, where no limiter does that. */
  penalizeUnsafe(nanos: number): void {
    const until = this.time() + nanos
    if (nanos > 0 && until > this.penaltyUntil) {
      this.penaltyUntil = until
      if (this.queued > 0) this.holdUntil(until)
    }
    this.refuseHopelessUnsafe()
  }

  private get penalized(): boolean {
    if (this.penaltyUntil === 0) return false
    if (this.time() < this.penaltyUntil) return true
    this.penaltyUntil = 0
    return false
  }

  private holdUntil(until: number): void {
    this.penaltyAlarm ??= new Alarm(after, () => {
      if (this.penalized) this.holdUntil(this.penaltyUntil)
      else this.pump()
    }, this.site)
    this.penaltyAlarm.set(until, this.time())
  }

  /** The rate was held up: refuses the jobs that would now wait for longer than they may. */
  refuseHopelessUnsafe(): void {
    const { overload } = this
    if (overload === undefined) return
    const reasons = new Map(overload.hopeless((terms) => this.expectedWait(terms.job)))
    this.refuseEach(reasons.keys(), (terms) => reasons.get(terms)!)
  }

  private adapt(adaptive: WidthController, { startedAt }: Job, exit: Exit.Exit<unknown, unknown>): void {
    const { main, running } = this
    const ended = { startedAt, now: this.time(), running, saturated: main.state === "blocked" }
    const changed = this.limits.adaptive!.isOverload(exit)
      ? adaptive.overloaded(ended)
      : exit._tag === "Success" && adaptive.succeeded(ended)
    if (!changed) return
    main.capacity = adaptive.limit
    this.lanes.refresh()
  }

  private charge(job: Job): void {
    const terms = job.terms ??= new Terms(job, Infinity, undefined)
    const line = terms.line = job.line!
    terms.charged = line.fair.charge(line, job.weight)
    terms.startedAt = this.time()
  }

  private settleCharge(terms: Terms): void {
    const line = terms.line!
    line.fair.settle(line, terms.charged, terms.job.weight, this.time() - terms.startedAt)
  }

  // ---------------------------------------------------------------------------------------------------------- refusal

  error(reason: SchedulerErrorReason): SchedulerError {
    return new SchedulerError({ scheduler: this.name, reason })
  }

  private impossible(job: Job, limit: number, burst: number): SchedulerError | undefined {
    if (job.weight > limit) {
      return this.error(new InsufficientCapacity({ what: "weight", asked: job.weight, most: limit }))
    }
    if (job.tokens > burst) {
      return this.error(new InsufficientCapacity({ what: "tokens", asked: job.tokens, most: burst }))
    }
    return undefined
  }

  private refuse(job: Job, error: SchedulerError): void {
    const { _tag } = error.reason
    this.refused[_tag] = (this.refused[_tag] ?? 0) + 1
    job.state = "Done"
    job.onFailure(error)
  }

  /** After a change of width or rate: refuses the jobs that can never start now, and starts those that can. */
  reviewUnsafe(): void {
    const { limit } = this
    const { burst } = this.rate
    const refused: Array<Job> = []
    this.main.queue.forEach(({ job }) => {
      if (job.weight <= limit && job.tokens <= burst) return
      this.lanes.leave(job)
      job.state = "Done"
      refused.push(job)
    })
    this.lanes.refresh()
    // Before the refused jobs hear of it: their code may use the rate.
    this.pump()
    this.each(refused, (job) => this.refuse(job, this.impossible(job, limit, burst)!))
    this.notify()
  }

  /** Calls `f` with each one, in slices. By its turn, a job may have ended by itself. */
  each<A>(all: Iterable<A>, f: (each: A) => void, done: () => void = () => {}): void {
    const rest = all[Symbol.iterator]()
    let next = rest.next()
    begin({
      slices: this.slices,
      get pending() {
        return next.done !== true
      },
      step: () => {
        const { value } = next
        next = rest.next()
        f(value)
      },
      done
    })
  }

  // ---------------------------------------------------------------------------------------------------------- control

  /** Sets how many permits are held now. */
  grantUnsafe(width: number): void {
    this.main.capacity = width
    this.lanes.refresh()
    this.pump()
  }

  /** Refuses the jobs that wait for a permit: the store of the permits does not answer. */
  refuseWaitingUnsafe(error: SchedulerError): void {
    // A job with a place inside a running job needs no permit.
    const waiting: Array<Job> = []
    this.main.queue.forEach(({ job }) => void (job.place === undefined && waiting.push(job)))
    for (const job of waiting) this.withdrawJob(job)
    this.pump()
    this.each(waiting, (job) => this.refuse(job, error))
    this.notify()
  }

  /** The running jobs, the last to begin first. */
  runs(): Array<Job> {
    const jobs: Array<Job> = []
    for (let { last } = this.lanes.runs; last !== undefined; last = last.before) jobs.push(last.job)
    return jobs
  }

  resizeUnsafe(concurrency: number): void {
    this.adaptive = undefined
    this.lanes.elastic = false
    if (this.permits === undefined) this.main.capacity = concurrency
    else this.permits.limit = concurrency
    this.reviewUnsafe()
    for (const listener of Array.from(this.resized)) listener()
  }

  /** Gives a rate to an engine that had none. */
  adoptLimiterUnsafe(limiter: Limiter<StoreError>): void {
    this.rate.limiter = limiter
    // The arrivals of waiting jobs are not on its time axis.
    this.resumedAt = limiter.now()
    this.reviewUnsafe()
  }

  pauseUnsafe(): void {
    this.paused = true
    this.widthTurned(false)
    this.pump()
  }

  resumeUnsafe(): void {
    if (!this.paused) return
    this.paused = false
    this.widthTurned(this.main.state === "blocked")
    this.resumedAt = this.now()
    this.pump()
  }

  private notify(): void {
    if (this.watchers.size === 0 || !(this.queued === 0 || this.closed)) return
    for (const watcher of Array.from(this.watchers)) watcher()
  }

  /** Lets no job start any more, and tells the waiting and the running ones. */
  closeUnsafe(): void {
    this.closed = true
    this.rate.withdraw()
    this.overload?.close()
    this.penaltyAlarm?.close()
    const jobs: Array<Job> = []
    this.main.queue.forEach(({ job }) => void jobs.push(job))
    this.telling = true
    this.each(jobs.concat(this.runs()), (job) => {
      if (job.state === "Queued") this.withdrawJob(job)
      else if (job.state !== "Running") return
      job.onClose()
    }, () => {
      this.telling = false
      this.notify()
    })
  }
}
