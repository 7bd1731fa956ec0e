/**
 * Who runs, who waits and who is in front: the widths of a scheduler and of the jobs that lend theirs. Nothing starts here.
 */
import type * as Effect from "effect/Effect"
import type { SchedulerError } from "./schedulerError.js"
import { Job, Lane, Place, type Seat } from "./schedulerJob.js"
import { above, Edge, liveNode } from "./waits/waits.js"
import type { Node } from "./waits/waits.js"

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
  /** How many of the queued have a place inside a job. */
  protected inside = 0
  private mainReady = false
  private firstReady: Lane | undefined = undefined
  private lastReady: Lane | undefined = undefined
  protected firstRunning: Seat | undefined = undefined
  permits: Permits | undefined = undefined

  constructor(concurrency: number, maxQueued: number) {
    this.main = new Lane(concurrency, undefined, 0)
    this.maxQueued = maxQueued
  }

  /** Others wait for a queued job than before. */
  abstract rehouseUnsafe(job: Job): void

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

  /** Whether a job of this engine runs that does not wait for `inner`. */
  runsOthersThan(inner: Node | undefined): boolean {
    let around = 0
    if (inner !== undefined) {
      above(inner, (node) => {
        if (node instanceof Job && node.engine === this && node.state === "Running") around++
        return true
      })
    }
    return this.running > around
  }

  protected begin(job: Job, lane: Lane): void {
    const width = lane === this.main ? job.weight : this.widthIn(lane, job)
    lane.used += width
    job.width = width
    job.lane = lane
    this.adopt(job)
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
    job.outer = liveNode(job.outer)
    const lane = resolve(job.lane!)
    const own = job.own
    lane.used -= job.width
    if (own !== undefined) {
      // What it lent and still runs is no longer lent: it counts where the lender counted.
      lane.used += own.used
      own.forward = lane
      if (own.ready) this.unready(own)
      // Those who waited for it keep their other places.
      own.queue.forEach(({ job }) => {
        this.dropPlace(job, own)
        if (job.places === undefined) this.inside--
      })
    }
    return lane
  }

  private lends(node: Node): node is Job {
    return node instanceof Job && node.engine === this && node.state === "Running"
  }

  /** Those of this engine's running jobs that wait for a job, the nearest of them on each path. */
  private lenders(job: Job): ReadonlyArray<Job> {
    const outer = job.outer = liveNode(job.outer)
    if (outer === undefined) return none
    if (this.lends(outer)) return [outer]
    if (outer.waiters === undefined) return none
    const lenders: Array<Job> = []
    above(outer, (node) => {
      if (!this.lends(node)) return true
      lenders.push(node)
      return false
    })
    return lenders
  }

  private lentBy(job: Job): Lane {
    return job.own ??= new Lane(job.width, job, this.now())
  }

  /** Where a job could start now but for the rate: in what is lent to it, so that free width is left to others, or in free width. */
  protected roomFor(job: Job): Lane | undefined {
    if (job.outer !== undefined) {
      for (const lender of this.lenders(job)) {
        const lane = this.lentBy(lender)
        if (lane.head === undefined && this.fits(lane, job)) return lane
      }
    }
    return this.main.head === undefined && this.fits(this.main, job) ? this.main : undefined
  }

  /** How many wait where it would have to, if nobody else may. Those inside a job count in that job's width only. */
  protected full(job: Job): number | undefined {
    let least = this.queued - this.inside
    if (least >= this.maxQueued && job.outer !== undefined) {
      for (const lender of this.lenders(job)) least = Math.min(least, lender.own?.queue.size ?? 0)
    }
    return least < this.maxQueued ? undefined : least
  }

  private adopt(job: Job): void {
    job.engine = this
    const outer = job.outer
    if (outer !== undefined && job.edge === undefined && !outer.ended) job.edge = new Edge(outer, job)
  }

  protected widthIn(lane: Lane, job: Job): number {
    return lane === this.main || this.unbounded ? job.weight : Math.min(job.weight, lane.capacity)
  }

  protected fits(lane: Lane, job: Job): boolean {
    if (lane === this.main) return lane.used + job.weight <= lane.capacity
    return this.unbounded || lane.used + Math.min(job.weight, lane.capacity) <= lane.capacity
  }

  protected enter(job: Job): void {
    this.adopt(job)
    job.lane = this.main
    job.state = "Queued"
    this.main.queue.enqueue(job)
    this.queued++
    if (job.outer === undefined) return
    this.givePlaces(job)
    if (job.places !== undefined) this.inside++
  }

  /** It has a place in the width of each job that waits for it, as of now. */
  protected givePlaces(job: Job): void {
    const lenders = this.lenders(job)
    const known = job.places === undefined ? undefined : new Set<Job>()
    const wanted = known === undefined ? undefined : new Set(lenders)
    for (let place = job.places; place !== undefined; place = place.more) {
      const { lane } = place
      known!.add(lane.lender!)
      if (wanted!.has(lane.lender!)) continue
      this.dropPlace(job, lane)
      this.refresh(lane)
    }
    for (const lender of lenders) {
      if (known?.has(lender)) continue
      const lane = this.lentBy(lender)
      lane.queue.enqueue(new Place(job, lane))
      this.refresh(lane)
    }
  }

  private dropPlace(job: Job, lane: Lane): void {
    let before: Place | undefined = undefined
    for (let place = job.places; place !== undefined; before = place, place = place.more) {
      if (place.lane !== lane) continue
      lane.queue.remove(place)
      if (before === undefined) job.places = place.more
      else before.more = place.more
      return
    }
  }

  /** Out of all queues; the lanes it leaves are refreshed afterwards, `refreshAll`, when its width is charged. */
  protected leave(job: Job): Place | undefined {
    this.queued--
    this.main.queue.remove(job)
    const places = job.places
    if (places !== undefined) this.inside--
    job.places = undefined
    for (let place = places; place !== undefined; place = place.more) place.lane.queue.remove(place)
    return places
  }

  protected refreshAll(places: Place | undefined): void {
    this.refresh(this.main)
    for (let place = places; place !== undefined; place = place.more) this.refresh(place.lane)
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
    for (let seat = this.firstRunning; seat !== undefined; seat = seat.next) {
      if (seat.job.own !== undefined) lanes.push(seat.job.own)
    }
    return lanes
  }

  protected waiting(): Array<Job> {
    const jobs: Array<Job> = []
    this.main.queue.forEach((seat) => jobs.push(seat.job))
    return jobs
  }
}

const none: ReadonlyArray<Job> = []

/** Where a width is charged today: lenders that ended hand on what they lent. */
const resolve = (lane: Lane): Lane => {
  let end = lane
  while (end.forward !== undefined) end = end.forward
  if (lane !== end) lane.forward = end
  return end
}
