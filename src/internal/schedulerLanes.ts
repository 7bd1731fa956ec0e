/**
 * Who runs, who waits and who is in front: the widths of a scheduler and of the jobs that lend theirs. Nothing starts here.
 */
import type * as Effect from "effect/Effect"
import { JobQueue } from "./jobQueue.js"
import type { SchedulerError } from "./schedulerError.js"
import { Lane } from "./schedulerJob.js"
import type { Job } from "./schedulerJob.js"

/**
 * Permits that come from elsewhere: the width of the main lane is then what is held of them, and changes all the time.
 */
export interface Permits {
  /** The most that there can ever be. */
  limit: number
  /** Demand may have changed. */
  changed(): void
  /** A job has ended: what it held may be given back before the next one takes it. */
  freed(): void
  /** Settles when its permits are lost; never, as long as it holds them. */
  guard<A, E, R>(job: Job, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SchedulerError, R>
}

/**
 * The lanes of one engine, with the jobs in them.
 */
export abstract class Lanes {
  readonly maxQueued: number
  readonly main: Lane
  running = 0
  queued = 0
  private mainReady = false
  private firstReady: Lane | undefined = undefined
  private lastReady: Lane | undefined = undefined
  protected firstRunning: Job | undefined = undefined
  permits: Permits | undefined = undefined

  constructor(concurrency: number, maxQueued: number) {
    this.main = new Lane(concurrency)
    this.maxQueued = maxQueued
  }

  /** The time on the axis of the rate. */
  protected abstract now(): number

  /** The most weight that may ever run at one time. */
  get limit(): number {
    return this.permits === undefined ? this.main.capacity : this.permits.limit
  }

  get unbounded(): boolean {
    return this.main.capacity === Infinity
  }

  get idle(): boolean {
    return this.running === 0 && this.queued === 0
  }

  /** Whether a job of this engine runs that is not around `inner`. */
  runsOthersThan(inner: Job | undefined): boolean {
    let around = 0
    for (let job = inner; job !== undefined; job = job.outer) {
      if (job.engine === this && job.state === "Running") around++
    }
    return this.running > around
  }

  protected begin(job: Job, lane: Lane): void {
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

  /** Gives back what the job is charged with, and says to whom. */
  protected end(job: Job): Lane {
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
    lane.used -= job.width
    if (own !== undefined) {
      // What it lent and still runs is no longer lent: it counts where the lender counted.
      lane.used += own.used
      own.forward = lane
      if (own.ready) this.unready(own)
    }
    return lane
  }

  /** The width that a job made here may use: the one lent by the innermost job of this engine that still runs, or all. */
  protected laneOf(job: Job): Lane {
    let link = job
    let outer = job.outer
    while (outer !== undefined) {
      if (outer.state === "Done") {
        outer = link.outer = outer.outer
      } else if (outer.engine === this && outer.state === "Running") {
        return outer.own ??= new Lane(outer.width)
      } else {
        link = outer
        outer = outer.outer
      }
    }
    return this.main
  }

  protected widthIn(lane: Lane, job: Job): number {
    return lane === this.main || this.unbounded ? job.weight : Math.min(job.weight, lane.capacity)
  }

  protected fits(lane: Lane, job: Job): boolean {
    if (lane === this.main) return lane.used + job.weight <= lane.capacity
    return this.unbounded || lane.used + Math.min(job.weight, lane.capacity) <= lane.capacity
  }

  protected enter(job: Job, lane: Lane): void {
    job.engine = this
    job.lane = lane
    job.state = "Queued"
    lane.queue.enqueue(job)
    this.queued++
  }

  protected overflow(job: Job, lane: Lane): void {
    job.engine = this
    job.lane = lane
    job.state = "Overflow"
    ;(lane.overflow ??= new JobQueue()).enqueue(job)
    this.queued++
  }

  protected leave(job: Job, lane: Lane): void {
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

  /** Keeps whether the lane's head could start but for the rate. Called after every change of its head or width. */
  protected refresh(lane: Lane): void {
    const head = lane.head
    const ready = head !== undefined && this.fits(lane, head)
    if (ready) {
      if (lane.blocked) {
        lane.blocked = false
        lane.freeAt = this.now()
      }
    } else {
      lane.blocked = head !== undefined
    }
    if (lane === this.main) {
      this.mainReady = ready
    } else if (ready !== lane.ready) {
      if (ready) this.readyLast(lane)
      else this.unready(lane)
    }
  }

  /** Of the jobs that lend, each has its turn: one with many inside does not keep the others from the rate. */
  protected yieldTurn(lane: Lane): void {
    if (!lane.ready || lane === this.lastReady) return
    this.unready(lane)
    this.readyLast(lane)
  }

  private readyLast(lane: Lane): void {
    lane.ready = true
    lane.prevReady = this.lastReady
    if (this.lastReady === undefined) this.firstReady = lane
    else this.lastReady.nextReady = lane
    this.lastReady = lane
  }

  protected unready(lane: Lane): void {
    lane.ready = false
    if (lane.prevReady === undefined) this.firstReady = lane.nextReady
    else lane.prevReady.nextReady = lane.nextReady
    if (lane.nextReady === undefined) this.lastReady = lane.prevReady
    else lane.nextReady.prevReady = lane.prevReady
    lane.prevReady = lane.nextReady = undefined
  }

  /** The lane whose head may be the next to start: of a job that lends before the scheduler's own. */
  protected get inFront(): Lane | undefined {
    return this.firstReady ?? (this.mainReady ? this.main : undefined)
  }

  protected get anyLenderReady(): boolean {
    return this.firstReady !== undefined
  }

  protected lanes(): Array<Lane> {
    const lanes = [this.main]
    for (let job = this.firstRunning; job !== undefined; job = job.next) {
      if (job.own !== undefined) lanes.push(job.own)
    }
    return lanes
  }

  protected waiting(lane: Lane): Array<Job> {
    const jobs: Array<Job> = []
    lane.queue.forEach((job) => jobs.push(job))
    lane.overflow?.forEach((job) => jobs.push(job))
    return jobs
  }
}

/** Where a width is charged today: lenders that ended hand on what they lent. */
const resolve = (lane: Lane): Lane => {
  let end = lane
  while (end.forward !== undefined) end = end.forward
  if (lane !== end) lane.forward = end
  return end
}
