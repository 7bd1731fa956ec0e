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
import * as Context from "effect/Context"
import type * as Exit from "effect/Exit"
import { throwIn } from "../data/dispatcher.js"
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { Slices } from "../data/slices.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import type { Load, SchedulerWatch } from "../seen/seen.js"
import { type Account, type Log, logOf, Tracing } from "../seen/tell.js"
import { endUnsafe, type Node } from "../waits/waits.js"
import { type Client, ClientJob } from "./clientJob.js"
import { tellClosed } from "./closing.js"
import { Draining, QueueFull, type SchedulerErrorReason } from "./error.js"
import { type Job, type Lane, Terms } from "./job.js"
import { Lanes } from "./lanes.js"
import type { Limits } from "./options.js"
import { Overload } from "./overload.js"
import { Penalty } from "./penalty.js"
import { type Claim, type Claimant, Rate } from "./rate.js"
import { type Core, impossibleOf, refuseEach, refuseImpossible, refuseJob } from "./refusal.js"
import type { CallInProgress, Permits, Site } from "./site.js"
import { adapt, waited, waitingFor } from "./watching.js"
import type { Adaptation } from "./width.js"

/** How many jobs one step starts before it gives the event loop a turn. */
const maxStartsPerStep = 256

export class Engine implements Core, Claimant, Load {
  readonly limits: Limits
  readonly site: Site
  readonly lanes: Lanes
  readonly slices: Slices
  permits: Permits | undefined = undefined
  /** Hears of the jobs, where something observes them. */
  watch: SchedulerWatch | undefined = undefined
  /** When the last job ended, by the time of the watch. */
  endedAt = 0
  /** Adds up what the queue waits for, where callers are traced. */
  readonly account: Account | undefined
  readonly log: Log | undefined
  readonly refused: Core["refused"] = {}
  private readonly rate: Rate
  limiter: Limiter<StoreError> | undefined
  /** Whether every job has terms. */
  private readonly hasTerms: boolean
  private readonly madeAt: number
  private epoch: bigint | undefined
  private penalty: Penalty | undefined
  /** Decides about the width, until `resize` does. */
  adaptive: Adaptation | undefined
  /** Made with the first job that needs it. */
  overload: Overload | undefined
  paused = false
  /** Jobs that come now are refused. */
  draining = false
  closed = false
  readonly calls = new Set<CallInProgress>()

  private resumedAt = 0
  /** It looks at the front already, or does so in a turn to come. */
  private pumping = false
  private again = false
  private soon = false
  /** The time, once it was read in a step that has called nobody since. */
  private instant: number | undefined = undefined
  /** It is closed, and some jobs have not been told yet. */
  telling = false
  private starts = 0
  /** Called when a job has left and no job waits, and, once it is closed, after each end of a job. */
  readonly watchers = new Set<() => void>()

  constructor(limits: Limits, site: Site, limiter?: Limiter<StoreError>) {
    this.limits = limits
    this.site = site
    this.hasTerms = limits.maxWait !== Infinity || limits.shed !== undefined
    this.madeAt = site.clock.currentTimeMillisUnsafe()
    this.rate = new Rate(this)
    this.limiter = limiter
    this.account = Context.get(site.context, Tracing)?.account(this, site, () => waitingFor(this))
    this.log = logOf(this.name, site)
    this.slices = new Slices(site.dispatcher)
    this.lanes = new Lanes(this, limits.concurrency)
    if (this.hasTerms) this.overload = new Overload(this, limits, site)
    if (limits.adaptive === undefined) return
    this.adaptive = limits.adaptive.make(this.name, site)
    this.main.capacity = this.adaptive.limit
  }

  get name(): string {
    return this.limits.name
  }

  now(): number {
    return this.limiter === undefined ? 0 : this.limiter.now()
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

  /** How much weight runs. Lent weight counts once. */
  get weight(): number {
    return this.main.used
  }

  get oldestWait(): number {
    const oldest = this.main.queue.oldest?.job
    return oldest === undefined ? 0 : waited(this, oldest)
  }

  get idle(): boolean {
    return this.running === 0 && this.queued === 0
  }

  /** The most weight that may run now: it is less than the limit where it follows the other side. */
  get width(): number {
    return this.permits === undefined ? this.main.capacity : this.permits.limit
  }

  /** The most weight that may ever run at one time. */
  get limit(): number {
    return this.adaptive === undefined ? this.width : this.limits.concurrency
  }

  // ---------------------------------------------------------------------------------------------- a job's way through

  /** `later` is the job itself where its effect does not begin in this very step, or a strict rate counts its start. */
  startUnsafe(job: Job, later: Job | undefined = this.limiter?.strict === true ? job : undefined): boolean {
    if (this.held || job.state !== "Idle" || this.refusesNew(job)) return false
    if (job.weight > this.limit) return false
    const lane = this.lanes.roomFor(job)
    if (lane === undefined) return false
    const limiter = this.limiter
    if (limiter !== undefined && job.tokens > 0) {
      if (this.rate.claimed || this.lanes.lenders.front !== undefined) return false
      // The job comes now: there is no lateness to make up.
      if (!limiter.takeUnsafe(undefined, job.cost, Infinity, later)) return false
      limiter.watch?.admitted()
    }
    this.begins(job)
    this.lanes.begin(job, lane)
    if (lane === this.main) this.overload?.startedAtOnce()
    return true
  }

  /** A scheduler that drains takes only the jobs that those wait for which it has taken already. */
  private refusesNew(job: Job): boolean {
    return this.draining && job.isLate && !this.lanes.isAwaited(job)
  }

  /** A job for a client, which submits it. */
  jobOf(client: Client, outer: Node): ClientJob {
    return new ClientJob(client, outer)
  }

  submitUnsafe(job: Job): void {
    if (this.startUnsafe(job)) this.tellStart(job)
    else this.enqueueUnsafe(job)
  }

  enqueueUnsafe(job: Job): void {
    if (job.state !== "Idle") return
    if (this.closed) {
      job.state = "Done"
      return job.onClose()
    }
    job.since = this.millis()
    if (this.refusesNew(job)) return refuseJob(this, job, new Draining())
    const impossible = impossibleOf(job, this)
    if (impossible !== undefined) return refuseJob(this, job, new InsufficientCapacity(impossible))
    job.arrived = this.now()
    const { maxQueued } = this.limits
    const queued = job.patient ? -1 : this.lanes.waitingBefore(job)
    if (queued >= maxQueued) return this.startOrRefuse(job, new QueueFull({ queued, maxQueued }))
    if (job.options.maxWait === Infinity && (job.patient || !this.hasTerms)) {
      this.lanes.enter(job)
    } else {
      const now = this.time()
      const terms = job.terms = new Terms(job)
      this.overload ??= new Overload(this, this.limits, this.site)
      const reason = this.overload.refusesNew(terms, now)
      if (reason !== undefined) return this.startOrRefuse(job, reason)
      this.lanes.enter(job)
      this.overload.entered(terms, now)
    }
    this.penalty?.watch()
    this.pump()
  }

  /** Its fiber may have yielded since it could not start. */
  private startOrRefuse(job: Job, reason: SchedulerErrorReason): void {
    if (this.startUnsafe(job, job)) this.tellStart(job)
    else refuseJob(this, job, reason)
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
        this.watch?.left(waited(this, job))
        this.withdrawJob(job)
        this.pump()
        return this.notifyUnsafe()
      }
      case "Idle":
      case "Done":
        job.state = "Done"
    }
  }

  withdrawJob(job: Job): void {
    this.leaveQueue(job)
    job.state = "Done"
    this.lanes.refresh()
  }

  leaveQueue(job: Job): void {
    this.lanes.leave(job)
    this.overload?.left(job.terms)
  }

  private finish(job: Job, exit: Exit.Exit<unknown, unknown> | undefined): void {
    if (job.link !== undefined) this.slices.apart(() => this.limiter!.refundUnsafe(job))
    const lane = this.lanes.end(job)
    if (this.watch !== undefined) this.endedAt = this.watch.ended(exit, job.since)
    const { line } = job
    const now = line === undefined && this.adaptive === undefined ? undefined : this.time()
    if (line !== undefined) job.settleLine(line, now!)
    if (this.adaptive !== undefined && exit !== undefined) adapt(this, job, exit, now!)
    if (job.waits !== undefined || job.inside !== undefined) endUnsafe(job)
    if (lane !== this.main) this.lanes.lenders.freed(lane)
    this.permits?.freed()
    if (this.queued > 0) {
      this.lanes.refresh()
      if (!this.pumping) this.instant = now
      this.pump()
    }
    this.notifyUnsafe()
  }

  // ------------------------------------------------------------------------------------------------------------- pump

  /** Whether no job may start. */
  private get held(): boolean {
    return this.paused || this.closed || this.penaltyLeft > 0
  }

  private get front(): Lane | undefined {
    return this.held ? undefined : this.lanes.front
  }

  /**
   * Starts every job that can start. If the job in front lacks only the rate, one claim waits for it. A job that starts runs
   * in this loop until it first waits. If it ends there, its release sets `again` instead of recursing.
   */
  pump(granted?: Lane, link?: unknown): void {
    if (this.pumping) {
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
            const job = this.lanes.headOf(lane)
            if (!this.rate.take(job, Math.max(job.arrived, lane.freeAt, this.resumedAt))) break
            this.startHead(lane)
          }
          lane = this.front
        }
        if (lane === undefined) this.rate.withdraw()
      } while (this.again && this.starts < maxStartsPerStep)
      settled = this.starts < maxStartsPerStep
    } catch (error) {
      throwIn(this.site.dispatcher, error)
    }
    this.instant = undefined
    if (settled) this.pumping = false
    else this.defer()
    this.overload?.pumped(this.main.state === "blocked" && !this.paused && this.penaltyLeft <= 0)
    if (this.permits !== undefined) this.permits.changed()
    this.account?.turn()
  }

  pumpSoon(): void {
    if (this.soon) return
    this.soon = true
    this.site.dispatcher.scheduleTask(() => {
      this.soon = false
      this.pump()
    }, 0)
  }

  private defer(): void {
    this.site.dispatcher.scheduleTask(() => {
      this.pumping = false
      this.pump()
    }, 0)
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
    const lane = this.front
    // A job with other tokens may have come in front since they were asked for.
    if (lane === undefined || this.lanes.headOf(lane).cost !== claim.tokens) {
      this.limiter!.refundUnsafe(claim)
      return this.pump()
    }
    if (this.refusesHead(lane, claim)) return this.pump()
    this.limiter!.watch?.delayed(Math.max(0, this.now() - claim.since) / 1e6)
    if (this.pumping) {
      this.startHead(lane, claim.link)
      this.again = true
    } else {
      this.pump(lane, claim.link)
    }
  }

  /** After a change of width or rate: refuses the jobs that can never start now, and starts those that can. */
  onTooLarge(): void {
    refuseImpossible(this)
  }

  onStoreFailure(error: StoreError): void {
    // Not the one in front alone: each of the others might wait for as long as the store takes to fail.
    if (this.front !== undefined) refuseEach(this, (job) => job.tokens > 0 ? error : undefined)
  }

  /** `link` is the grant of a claim; it now belongs to the job. */
  private startHead(lane: Lane, link?: unknown): void {
    const job = this.lanes.headOf(lane)
    if (link !== undefined) job.link = link
    this.starts++
    this.begins(job, job.since)
    // A line pays for what runs in the width of the scheduler.
    const line = lane === this.main ? job.line : undefined
    if (line !== undefined) job.chargeLine(line, this.instant ??= this.time())
    this.leaveQueue(job)
    job.line = line
    this.lanes.begin(job, lane)
    this.lanes.refresh()
    if (lane !== this.main) this.lanes.lenders.yieldTurn(lane)
    this.recheckClaim()
    this.instant = undefined
    this.overload?.disarm()
    this.tellStart(job)
  }

  /** Since it took its permit a timer may have been set or ended, and its caller may have left in that. */
  private tellStart(job: Job): void {
    if (job.state === "Running") job.onStart()
  }

  // ---------------------------------------------------------------------------------------------------------- overload

  /** Whole milliseconds: a small integer, which a job holds without an allocation. */
  millis(): number {
    return this.watch === undefined
      ? Math.round(this.site.clock.currentTimeMillisUnsafe() - this.madeAt)
      : this.watch.now()
  }

  /** Notes when a job starts, where something asks for it. It may have waited since some time. */
  private begins(job: Job, since?: number): void {
    if (this.watch !== undefined) job.since = this.watch.started(since)
    if (this.adaptive !== undefined) job.arrived = this.instant ?? this.time()
  }

  /** Nanoseconds of the monotonic clock since the first call. */
  time(): number {
    const now = this.site.clock.monotonicTimeNanosUnsafe()
    return Number(now - (this.epoch ??= now))
  }

  /** Nanoseconds until a penalty ends that the limiter knows nothing of. */
  get penaltyLeft(): number {
    return this.penalty === undefined ? 0 : this.penalty.left
  }

  /** Refuses the job in front if it has waited too long. A claim that was granted for it is given back. */
  private refusesHead(lane: Lane, claim?: Claim): boolean {
    const job = this.lanes.headOf(lane)
    if (job.terms === undefined) return false
    const overload = this.overload!
    const reason = overload.refusesFirst(job.terms, lane === this.main && !job.patient, this.instant ??= this.time())
    if (reason?._tag === "Overloaded") this.log?.overloaded(true)
    else if (!overload.isLate) this.log?.overloaded(false)
    if (reason === undefined) return false
    this.starts++
    this.refuseQueued(job, reason, claim)
    this.notifyUnsafe()
    return true
  }

  refuseQueued(job: Job, reason: SchedulerErrorReason, claim?: Claim): void {
    this.withdrawJob(job)
    // Before the job hears of it: a scheduler of a key looks then whether its rate is at rest.
    if (claim !== undefined) this.limiter!.refundUnsafe(claim)
    this.recheckClaim()
    this.instant = undefined
    refuseJob(this, job, reason)
  }

  /** Lets no job start for a time: where no limiter does that, and over a store. */
  penalizeUnsafe(nanos: number, slack?: number): void {
    this.penalty ??= new Penalty(this, this.site)
    if (this.penalty.extend(nanos, this.queued > 0, slack)) this.watch?.penalized()
    this.account?.turn()
    this.overload?.refuseHopeless()
  }

  // ---------------------------------------------------------------------------------------------------------- control

  /** Sets how many permits are held now. */
  grantUnsafe(width: number): void {
    this.main.capacity = width
    this.lanes.refresh()
    this.pump()
  }

  resizeUnsafe(concurrency: number): void {
    this.adaptive = undefined
    if (this.permits === undefined) this.main.capacity = concurrency
    else this.permits.limit = concurrency
    this.watch?.resized()
    refuseImpossible(this)
    this.slices.tellEach(this.calls, (call) => call.fill())
  }

  /** Gives a rate to an engine that had none. */
  adoptLimiterUnsafe(limiter: Limiter<StoreError>): void {
    this.limiter = limiter
    // The arrivals of waiting jobs are not on its time axis, and none of them starts before the end of a penalty.
    this.resumedAt = limiter.now() + this.penaltyLeft
    refuseImpossible(this)
  }

  pauseUnsafe(): void {
    this.paused = true
    this.pump()
  }

  resumeUnsafe(): void {
    if (!this.paused) return
    this.paused = false
    this.resumedAt = this.now()
    this.pump()
  }

  /** A job or a call has ended. */
  notifyUnsafe(): void {
    if (this.watchers.size === 0 || !(this.queued === 0 || this.closed)) return
    this.slices.tellEach(this.watchers, (watcher) => watcher())
  }

  notifySoon(): void {
    if (this.watchers.size > 0) this.site.dispatcher.scheduleTask(() => this.notifyUnsafe(), 0)
  }

  /** Lets no job start any more, and tells the waiting and the running ones. */
  closeUnsafe(): void {
    this.closed = true
    this.rate.withdraw()
    this.overload?.close()
    this.penalty?.close()
    tellClosed(this)
  }
}
