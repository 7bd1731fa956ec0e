/**
 * The engine under every scheduler: synchronous, without fibers of its own, for whatever can say what to do when it starts.
 *
 * A submitter makes a `Job` (a subclass: one object is queue node, permit and token) and calls
 *
 *     engine.submitUnsafe(job)       `onStart` is called, in this step or in a later one, in the very step in which permit
 *                                    and rate were taken; or `onFailure` (refused, nothing taken); or `onClose`
 *     engine.startUnsafe(job)        true: it runs (`onStart` is not called); false: nothing happened, submit it
 *     engine.releaseUnsafe(job)      whatever its state: a job that runs ends and its permit goes to the next, one that
 *                                    waits leaves the queue at no cost, one not yet submitted never starts. Idempotent
 *
 * A job's effect must run with `CurrentJob` set to the job (`withJob`), and a job must be made with the `CurrentJob` of
 * the place it is submitted from: this is how a nested job finds the weight that is lent to it. A `patient` job waits for room in a
 * full queue where another fails with `QueueFull`.
 *
 * `onStart`, `onFailure` and `onClose` are called inside the engine's step: they may submit and release, and must not throw.
 */
import * as Context from "effect/Context"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { JobQueue, QueueNode } from "./jobQueue.js"
import type { Limiter, StoreFailure, Waiter } from "./limiter.js"
import { InsufficientCapacity, QueueFull, SchedulerError, StoreError } from "./schedulerError.js"

/** How many jobs one step starts before it gives the event loop a turn. */
const maxStartsPerStep = 256

type State = "Idle" | "Queued" | "Overflow" | "Running" | "Done"

export abstract class Job extends QueueNode<Job> {
  readonly weight: number
  readonly tokens: number
  readonly priority: number
  readonly patient: boolean
  /** The job in whose context this one was made, of any engine; dead ones are skipped and dropped. */
  outer: Job | undefined
  state: State = "Idle"
  engine: Engine | undefined = undefined
  /** Where it waits, and what its width is charged to. */
  lane: Lane | undefined = undefined
  /** What it lends to the jobs inside it, made when the first of them comes. */
  own: Lane | undefined = undefined
  width = 0
  arrived = 0

  constructor(weight: number, tokens: number, priority: number, outer: Job | undefined, patient: boolean) {
    super()
    this.weight = weight
    this.tokens = tokens
    this.priority = priority
    this.outer = outer
    this.patient = patient
  }

  /** Permit and rate were taken in this step. */
  abstract onStart(): void
  /** Refused: it will not start, and holds nothing. */
  abstract onFailure(error: SchedulerError): void
  /** The scheduler closed while it waited or ran. One that waited is out of the queue, one that runs still holds its permit. */
  abstract onClose(): void
}

/**
 * The innermost job that the current fiber, or the fiber it was forked from, runs in. It may have ended.
 */
export const CurrentJob: Context.Reference<Job | undefined> = /*#__PURE__*/ Context.Reference<Job | undefined>(
  "effect-funnel/Scheduler/CurrentJob",
  { defaultValue: () => undefined }
)

/**
 * A width and those who wait for it: the scheduler's own, or the weight that a running job lends.
 */
class Lane {
  capacity: number
  used = 0
  readonly queue = new JobQueue<Job>()
  /** Patient jobs that found the queue full. */
  overflow: JobQueue<Job> | undefined = undefined
  /** Its head does not fit: once it does, the cells that fell meanwhile are not made up. */
  blocked = false
  freeAt = 0
  /** Set once the lender has ended: whose width its jobs are charged to since. */
  forward: Lane | undefined = undefined
  ready = false
  prevReady: Lane | undefined = undefined
  nextReady: Lane | undefined = undefined

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get head(): Job | undefined {
    return this.queue.head ?? this.overflow?.head
  }
}

/** A place in the limiter's queue, for whoever is in front when it is due. */
class Claim implements Waiter<StoreFailure> {
  readonly key: string | undefined = undefined
  link: unknown = undefined
  readonly tokens: number
  since: number
  readonly engine: Engine

  constructor(engine: Engine, tokens: number, since: number) {
    this.engine = engine
    this.tokens = tokens
    this.since = since
  }
  onDue(): void {
    this.engine.onDue(this)
  }
  onTooLarge(): void {
    this.engine.onBurstChanged(this)
  }
  onFailure(error: StoreFailure): void {
    this.engine.onStoreFailure(this, error)
  }
}

export interface EngineOptions {
  readonly concurrency: number
  readonly maxQueued: number
  readonly limiter: Limiter<StoreFailure> | undefined
  readonly dispatcher: SchedulerDispatcher
}

export class Engine {
  readonly maxQueued: number
  readonly main: Lane
  limiter: Limiter<StoreFailure> | undefined
  running = 0
  queued = 0
  paused = false
  closed = false

  /** Called after the width has changed. */
  readonly resized = new Set<() => void>()

  private readonly dispatcher: SchedulerDispatcher
  private resumedAt = 0
  private pumping = false
  private again = false
  private deferred = false
  private claim: Claim | undefined = undefined
  private starts = 0
  private mainReady = false
  private firstReady: Lane | undefined = undefined
  private lastReady: Lane | undefined = undefined
  private firstRunning: Job | undefined = undefined
  readonly watchers = new Set<() => void>()

  constructor(options: EngineOptions) {
    this.main = new Lane(options.concurrency)
    this.maxQueued = options.maxQueued
    this.limiter = options.limiter
    this.dispatcher = options.dispatcher
  }

  get unbounded(): boolean {
    return this.main.capacity === Infinity
  }

  // ---------------------------------------------------------------------------------------------- a job's way through

  startUnsafe(job: Job): boolean {
    if (this.paused || this.closed || job.state !== "Idle") return false
    const lane = job.outer === undefined ? this.main : this.laneOf(job)
    if (lane.head !== undefined || !this.fits(lane, job)) return false
    const limiter = this.limiter
    if (limiter !== undefined && job.tokens > 0) {
      if (this.claim !== undefined || this.firstReady !== undefined) return false
      // It comes this very moment: there is no lateness that could be made up.
      if (!limiter.takeUnsafe(undefined, job.tokens, Infinity)) return false
    }
    this.begin(job, lane)
    return true
  }

  submitUnsafe(job: Job): void {
    if (this.startUnsafe(job)) job.onStart()
    else this.enqueueUnsafe(job)
  }

  enqueueUnsafe(job: Job): void {
    if (job.state !== "Idle") return
    if (this.closed) {
      job.state = "Done"
      return job.onClose()
    }
    const lane = this.laneOf(job)
    const error = this.impossible(job, lane)
    if (error !== undefined) return this.refuse(job, error)
    const limiter = this.limiter
    if (limiter !== undefined) job.arrived = limiter.now()
    if (lane.queue.size < this.maxQueued) {
      this.enter(job, lane)
    } else if (this.startUnsafe(job)) {
      return job.onStart()
    } else if (job.patient) {
      this.overflow(job, lane)
    } else {
      return this.refuse(
        job,
        new SchedulerError({ reason: new QueueFull({ queued: lane.queue.size, maxQueued: this.maxQueued }) })
      )
    }
    this.refresh(lane)
    this.pump()
  }

  releaseUnsafe(job: Job): void {
    switch (job.state) {
      case "Running":
        return this.finish(job)
      case "Queued":
      case "Overflow": {
        const lane = job.lane!
        this.leave(job, lane)
        job.state = "Done"
        this.refresh(lane)
        this.pump()
        return this.notify()
      }
      case "Idle":
      case "Done":
        job.state = "Done"
    }
  }

  private begin(job: Job, lane: Lane): void {
    const width = lane === this.main ? job.weight : this.widthIn(lane, job)
    lane.used += width
    job.width = width
    job.lane = lane
    job.engine = this
    job.state = "Running"
    this.running++
    const first = this.firstRunning
    job.next = first
    if (first !== undefined) first.prev = job
    this.firstRunning = job
  }

  private finish(job: Job): void {
    job.state = "Done"
    this.running--
    if (job.prev === undefined) this.firstRunning = job.next
    else job.prev.next = job.next
    if (job.next !== undefined) job.next.prev = job.prev
    job.prev = job.next = undefined
    // Contexts may keep the job for long: it must not keep the dead ones before it.
    while (job.outer !== undefined && job.outer.state === "Done") job.outer = job.outer.outer
    const lane = resolve(job.lane!)
    const own = job.own
    if (own === undefined) {
      lane.used -= job.width
    } else {
      // What it lent and still runs is no longer lent: it counts where the lender counted.
      lane.used += own.used - job.width
      this.retire(own, lane)
    }
    if (lane.queue.size > 0 || lane.overflow !== undefined) {
      this.refresh(lane)
      this.pump()
    }
    this.notify()
  }

  // ------------------------------------------------------------------------------------------------------------ lanes

  /** The width that a job made here may use: the one lent by the innermost job of this engine that still runs, or all. */
  private laneOf(job: Job): Lane {
    let link = job
    let outer = job.outer
    while (outer !== undefined) {
      if (outer.state === "Done") {
        outer = link.outer = outer.outer
      } else if (outer.engine === this) {
        return outer.own ??= new Lane(outer.width)
      } else {
        link = outer
        outer = outer.outer
      }
    }
    return this.main
  }

  private widthIn(lane: Lane, job: Job): number {
    return lane === this.main || this.unbounded ? job.weight : Math.min(job.weight, lane.capacity)
  }

  private fits(lane: Lane, job: Job): boolean {
    if (lane === this.main) return lane.used + job.weight <= lane.capacity
    return this.unbounded || lane.used + Math.min(job.weight, lane.capacity) <= lane.capacity
  }

  private enter(job: Job, lane: Lane): void {
    job.engine = this
    job.lane = lane
    job.state = "Queued"
    lane.queue.enqueue(job)
    this.queued++
  }

  private overflow(job: Job, lane: Lane): void {
    job.engine = this
    job.lane = lane
    job.state = "Overflow"
    ;(lane.overflow ??= new JobQueue()).enqueue(job)
    this.queued++
  }

  private leave(job: Job, lane: Lane): void {
    this.queued--
    const overflow = lane.overflow
    if (job.state === "Overflow") {
      overflow!.remove(job)
    } else {
      lane.queue.remove(job)
      if (overflow !== undefined && overflow.size > 0 && lane.queue.size < this.maxQueued) {
        const next = overflow.head!
        overflow.remove(next)
        this.queued--
        this.enter(next, lane)
      }
    }
    if (overflow !== undefined && overflow.size === 0) lane.overflow = undefined
  }

  /** The lender has ended: those who waited inside it queue where it counted, like any other. */
  private retire(own: Lane, lane: Lane): void {
    own.forward = lane
    if (own.ready) this.unready(own)
    const refused: Array<[Job, SchedulerError]> = []
    for (const job of Engine.waiting(own)) {
      this.leave(job, own)
      const error = this.impossible(job, lane)
      if (error !== undefined) refused.push([job, error])
      else if (job.patient && lane.queue.size >= this.maxQueued) this.overflow(job, lane)
      else this.enter(job, lane)
    }
    this.refresh(lane)
    for (const [job, error] of refused) this.refuse(job, error)
    this.pump()
  }

  /** Keeps whether the lane's head could start but for the rate. Called after every change of its head or width. */
  private refresh(lane: Lane): void {
    const head = lane.head
    const ready = head !== undefined && this.fits(lane, head)
    if (ready) {
      if (lane.blocked) {
        lane.blocked = false
        if (this.limiter !== undefined) lane.freeAt = this.limiter.now()
      }
    } else {
      lane.blocked = head !== undefined
    }
    if (lane === this.main) {
      this.mainReady = ready
    } else if (ready !== lane.ready) {
      if (!ready) return this.unready(lane)
      lane.ready = true
      lane.prevReady = this.lastReady
      if (this.lastReady === undefined) this.firstReady = lane
      else this.lastReady.nextReady = lane
      this.lastReady = lane
    }
  }

  private unready(lane: Lane): void {
    lane.ready = false
    if (lane.prevReady === undefined) this.firstReady = lane.nextReady
    else lane.prevReady.nextReady = lane.nextReady
    if (lane.nextReady === undefined) this.lastReady = lane.prevReady
    else lane.nextReady.prevReady = lane.prevReady
    lane.prevReady = lane.nextReady = undefined
  }

  // ------------------------------------------------------------------------------------------------------------- pump

  private get front(): Lane | undefined {
    if (this.paused || this.closed) return undefined
    return this.firstReady ?? (this.mainReady ? this.main : undefined)
  }

  /**
   * Starts what can start, and leaves one claim on the rate for the job in front if that is all it lacks. A job that starts
   * runs inside this loop until it first waits, and may end there: its release comes back through `again`, not by recursion.
   */
  private pump(granted?: Lane): void {
    if (this.pumping || this.deferred) {
      this.again = true
      // What runs inside this step may change who is in front while a claim is out.
      this.recheckClaim()
      return
    }
    this.pumping = true
    this.starts = 0
    let settled = false
    try {
      if (granted !== undefined) this.startHead(granted)
      do {
        this.again = false
        let lane = this.front
        while (lane !== undefined && this.starts < maxStartsPerStep && this.takeRate(lane)) {
          this.startHead(lane)
          lane = this.front
        }
        if (lane === undefined) this.withdraw()
      } while (this.again && this.starts < maxStartsPerStep)
      settled = this.starts < maxStartsPerStep
    } finally {
      this.pumping = false
      if (!settled) this.defer()
    }
  }

  private defer(): void {
    this.deferred = true
    this.dispatcher.scheduleTask(() => {
      this.deferred = false
      this.pump()
    }, 0)
  }

  /** Takes the rate for the lane's head in this step, or sees to it that one claim waits for it. */
  private takeRate(lane: Lane): boolean {
    const limiter = this.limiter
    if (limiter === undefined) return true
    const job = lane.head!
    if (job.tokens === 0) return true
    const since = Math.max(job.arrived, lane.freeAt, this.resumedAt)
    const claim = this.claim
    if (claim !== undefined) {
      // The place is kept for whoever is in front when it is due; only another price needs another claim.
      if (claim.tokens === job.tokens) {
        claim.since = since
        return false
      }
      this.withdraw()
    } else if (limiter.takeUnsafe(undefined, job.tokens, since)) {
      return true
    }
    this.claim = new Claim(this, job.tokens, since)
    limiter.waitUnsafe(this.claim, claim === undefined ? undefined : { front: true })
    return false
  }

  /** Withdraws a claim in the step in which it would no longer fit who is in front. */
  private recheckClaim(): void {
    if (this.claim === undefined) return
    const lane = this.front
    if (lane === undefined || lane.head!.tokens !== this.claim.tokens) this.withdraw()
  }

  private withdraw(): void {
    const claim = this.claim
    if (claim === undefined) return
    this.claim = undefined
    this.limiter!.cancelUnsafe(claim)
  }

  /** The rate was taken for whoever is in front now. */
  onDue(claim: Claim): void {
    if (this.claim !== claim) return
    this.claim = undefined
    const lane = this.front
    if (lane === undefined) return
    if (this.pumping || this.deferred) {
      this.startHead(lane)
      this.again = true
    } else {
      this.pump(lane)
    }
  }

  /** Somebody made a shared limiter's burst smaller. */
  onBurstChanged(claim: Claim): void {
    if (this.claim !== claim) return
    this.claim = undefined
    this.reviewUnsafe()
  }

  onStoreFailure(claim: Claim, error: StoreFailure): void {
    if (this.claim !== claim) return
    this.claim = undefined
    const lane = this.front
    if (lane === undefined) return
    const job = lane.head!
    this.leave(job, lane)
    this.refresh(lane)
    this.refuse(job, new SchedulerError({ reason: new StoreError({ operation: error.operation, cause: error.cause }) }))
    this.pump()
    this.notify()
  }

  private startHead(lane: Lane): void {
    const job = lane.head!
    this.starts++
    this.leave(job, lane)
    this.begin(job, lane)
    this.refresh(lane)
    this.recheckClaim()
    job.onStart()
  }

  // ---------------------------------------------------------------------------------------------------------- refusal

  private impossible(job: Job, lane: Lane): SchedulerError | undefined {
    if (lane === this.main && job.weight > lane.capacity) {
      return new SchedulerError({
        reason: new InsufficientCapacity({ what: "weight", asked: job.weight, most: lane.capacity })
      })
    }
    const limiter = this.limiter
    if (limiter !== undefined && job.tokens > limiter.burst) {
      return new SchedulerError({
        reason: new InsufficientCapacity({ what: "tokens", asked: job.tokens, most: limiter.burst })
      })
    }
    return undefined
  }

  private refuse(job: Job, error: SchedulerError): void {
    job.state = "Done"
    job.onFailure(error)
  }

  private lanes(): Array<Lane> {
    const lanes = [this.main]
    for (let job = this.firstRunning; job !== undefined; job = job.next) {
      if (job.own !== undefined) lanes.push(job.own)
    }
    return lanes
  }

  private static waiting(lane: Lane): Array<Job> {
    const jobs: Array<Job> = []
    lane.queue.forEach((job) => jobs.push(job))
    lane.overflow?.forEach((job) => jobs.push(job))
    return jobs
  }

  /** Width or rate have changed: refuses those who can never start now, and starts those who can. */
  reviewUnsafe(): void {
    const refused: Array<[Job, SchedulerError]> = []
    for (const lane of this.lanes()) {
      for (const job of Engine.waiting(lane)) {
        const error = this.impossible(job, lane)
        if (error === undefined) continue
        this.leave(job, lane)
        refused.push([job, error])
      }
      this.refresh(lane)
    }
    for (const [job, error] of refused) this.refuse(job, error)
    this.pump()
    this.notify()
  }

  // ---------------------------------------------------------------------------------------------------------- control

  resizeUnsafe(concurrency: number): void {
    this.main.capacity = concurrency
    this.reviewUnsafe()
    for (const listener of Array.from(this.resized)) listener()
  }

  /** Gives a rate to an engine that had none. */
  adoptLimiterUnsafe(limiter: Limiter<StoreFailure>): void {
    this.limiter = limiter
    // Its time axis is new to those who wait.
    this.resumedAt = limiter.now()
    this.reviewUnsafe()
  }

  pauseUnsafe(): void {
    this.paused = true
    this.pump()
  }

  resumeUnsafe(): void {
    if (!this.paused) return
    this.paused = false
    if (this.limiter !== undefined) this.resumedAt = this.limiter.now()
    this.pump()
  }

  get idle(): boolean {
    return this.running === 0 && this.queued === 0
  }

  /** Called whenever the engine becomes idle, and after each end of a job once it is closed. */
  watch(watcher: () => void): void {
    this.watchers.add(watcher)
  }

  unwatch(watcher: () => void): void {
    this.watchers.delete(watcher)
  }

  private notify(): void {
    if (this.watchers.size === 0 || !(this.idle || this.closed)) return
    for (const watcher of Array.from(this.watchers)) watcher()
  }

  /** Nothing starts any more: tells those who wait and those who run. */
  closeUnsafe(): void {
    if (this.closed) return
    this.closed = true
    this.withdraw()
    const waiting: Array<Job> = []
    for (const lane of this.lanes()) {
      for (const job of Engine.waiting(lane)) waiting.push(job)
    }
    const running: Array<Job> = []
    for (let job = this.firstRunning; job !== undefined; job = job.next) running.push(job)
    for (const job of waiting) {
      this.leave(job, job.lane!)
      job.state = "Done"
    }
    for (const lane of this.lanes()) this.refresh(lane)
    for (const job of waiting) job.onClose()
    for (const job of running) {
      if (job.state === "Running") job.onClose()
    }
    this.notify()
  }

  /** Whether a job of this engine runs that is not around `inner`. */
  runsOthersThan(inner: Job | undefined): boolean {
    let around = 0
    for (let job = inner; job !== undefined; job = job.outer) {
      if (job.engine === this && job.state === "Running") around++
    }
    return this.running > around
  }
}

/** Where a width is charged today: lenders that ended hand on what they lent. */
const resolve = (lane: Lane): Lane => {
  let end = lane
  while (end.forward !== undefined) end = end.forward
  if (lane !== end) lane.forward = end
  return end
}
