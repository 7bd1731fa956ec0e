/**
 * Who runs, who waits and who is in front: the widths of a scheduler and of the jobs that lend theirs. Nothing starts here.
 *
 * A queued job stands in the scheduler's queue. If it was made in a job, it has a place in that one's lane as well, or else
 * in that of the run or batch that it was made in. A lender, which is a running job with width that nobody uses, pulls
 * from below: from its own lane, and from those of runs and batches that it waits for, as far as no other lender is
 * nearer to them. So who joins a run costs the same whatever waits in it.
 *
 * Lenders that may find something are candidates, and are looked at only when somebody could start. At any time, of those
 * that are none, who has width left has nothing below; or has something that does not fit, and is then `blocked`.
 *
 * Who runs in the width of a job that he was made in is waited for by it. A stranger in a width was made elsewhere, in what
 * its owner waited for then; that may be over, and the stranger may come to wait for the owner in turn. So while there are
 * strangers, lenders pull from beyond those that are nearer. Without, that is never needed: of jobs that all wait, one that
 * lends nothing yet is the nearest above somebody.
 */
import type * as Effect from "effect/Effect"
import type { SchedulerError } from "./error.js"
import { type Job, Lane, type Owner, Place, type Seat } from "./job.js"
import { above, changes, findAbove, liveNode, newMark } from "../waits/waits.js"
import type { Node } from "../waits/waits.js"

/** How far to look for a lender above the first of all, before its lane is searched for who is the first below. */
const glance = 8

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
export abstract class Lanes implements Owner {
  abstract readonly name: string
  readonly maxQueued: number
  readonly main: Lane
  running = 0
  queued = 0
  /** How many of the queued were made inside a job. */
  protected inside = 0
  private arrivals = 0
  private mainReady = false
  private mainBlocked = false
  private firstCandidate: Lane | undefined = undefined
  private lastCandidate: Lane | undefined = undefined
  private readonly blocked = new Map<Lane, Place>()
  /** With this mark, a node has nothing below that waits. Taken anew when that may have changed. */
  private dry = 0
  private dryAt = -1
  /** How often a lender may have come to have room for what is made below it from then on. */
  private rooms = 0
  /** How many run in the width of a job that they were not made in. */
  private strangers = 0
  /** Changes whenever somebody else may be in front. */
  private version = 0
  private frontVersion = -1
  private frontChanges = -1
  private frontLane: Lane | undefined = undefined
  private frontJob: Job | undefined = undefined
  protected firstRunning: Seat | undefined = undefined
  permits: Permits | undefined = undefined

  constructor(concurrency: number, maxQueued: number) {
    this.main = new Lane(this, undefined, concurrency)
    this.maxQueued = maxQueued
  }

  /** The time on the axis of the rate. */
  protected abstract now(): number

  /** Somebody may start, and this step is not ours. */
  protected abstract pumpSoon(): void

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
        if (this.lends(node)) around++
        return true
      })
    }
    return this.running > around
  }

  protected begin(job: Job, lane: Lane): void {
    job.engine = this
    const width = lane === this.main ? job.weight : this.widthIn(lane, job)
    lane.used += width
    job.width = width
    job.lane = lane
    job.state = "Running"
    this.running++
    const first = this.firstRunning
    job.next = first
    if (first !== undefined) first.prev = job
    this.firstRunning = job
    if (job.outer !== undefined) {
      const outer = job.outer = liveNode(job.outer)
      if (outer !== undefined) this.laneOf(outer).link(job, lane === this.main)
      if (lane !== this.main && lane !== job.home) this.admit(job)
    }
  }

  /** Gives back what the job is charged with, and says to whom. */
  protected end(job: Job): Lane {
    job.state = "Done"
    this.running--
    if (job.prev === undefined) this.firstRunning = job.next
    else job.prev.next = job.next
    if (job.next !== undefined) job.next.prev = job.prev
    job.prev = job.next = undefined
    if (job.stranger) this.dismiss(job)
    const { home } = job
    if (home !== undefined) {
      home.unlink(job)
      if (home.first === undefined) this.forget(home)
    }
    // Contexts may keep the job for long: it must not keep the dead ones before it.
    job.outer = liveNode(job.outer)
    const lane = resolve(job.lane!)
    job.lane = undefined
    lane.used -= job.width
    if (lane !== this.main) this.rooms++
    const own = job.inside === undefined ? undefined : this.known(job)
    if (own !== undefined) {
      // What it lent and still runs is no longer lent: it counts where the lender counted.
      lane.used += own.used
      own.forward = lane
      this.drop(own)
    }
    return lane
  }

  /** It runs as a stranger. */
  private admit(job: Job): void {
    job.stranger = true
    changes.strangers++
    if (this.strangers++ > 0) return
    // Until now nobody looked beyond those that are nearer.
    this.dryAt = -1
    this.rooms++
    this.version++
  }

  private dismiss(job: Job): void {
    job.stranger = false
    changes.strangers--
    if (--this.strangers > 0) return
    for (const lane of this.blocked.keys()) this.note(lane)
  }

  // --------------------------------------------------------------------------------------------------- who is in whom

  private lends(node: Node): node is Job {
    // Sound: of all nodes, jobs alone have an engine.
    return (node as Job).engine === this && (node as Job).state === "Running"
  }

  /** Of a node and what is around it: the nearest job of this engine, or else the run or batch that is around all. */
  private rootOf(inner: Node | undefined): Node | undefined {
    for (let node = inner; node !== undefined;) {
      if (this.lends(node)) return node
      const outer = liveNode(node.outer)
      if (outer === undefined) return node.kind === "job" ? undefined : node
      node = outer
    }
    return undefined
  }

  private known(node: Node): Lane | undefined {
    for (let lane = node.inside; lane !== undefined; lane = lane.next) {
      // Sound: lanes of an engine are made by it.
      if (lane.engine === this) return lane as Lane
    }
    return undefined
  }

  private laneOf(node: Node): Lane {
    const known = this.known(node)
    if (known !== undefined) return known
    const lane = new Lane(this, node, this.lends(node) ? node.width : 0)
    // Sound: what is inside a node are lanes.
    lane.next = node.inside as Lane | undefined
    node.inside = lane
    return lane
  }

  /** A node that lasts must not keep all the schedulers that were used in it. */
  private forget(lane: Lane): void {
    const node = lane.node!
    if ((node.inside === lane && lane.next === undefined) || lane.size > 0 || this.lends(node)) return
    if (node.inside === lane) {
      node.inside = lane.next
      return
    }
    // Sound: what is inside a node are lanes.
    let before = node.inside as Lane
    while (before.next !== lane) before = before.next!
    before.next = lane.next
  }

  private hasRoom(lane: Lane): boolean {
    return lane.used < lane.capacity || this.unbounded
  }

  /** Where a job that is not queued could start now but for the rate: in what is lent to it, so that free width is left to others, or in free width. */
  protected roomFor(job: Job): Lane | undefined {
    if (job.outer !== undefined) {
      const root = this.rootOf(job.outer = liveNode(job.outer))
      if (root !== undefined) {
        const lane = this.lenderFor(root, job)
        if (lane !== undefined) return lane
      }
    }
    return this.queued === 0 && this.fits(this.main, job) ? this.main : undefined
  }

  /** A lender above that has room for the job, and nobody to whom that belongs before. */
  private lenderFor(root: Node, job: Job): Lane | undefined {
    if (this.lends(root)) {
      const lane = this.laneOf(root)
      if (!this.fits(lane, job)) return undefined
      return this.isFree(lane) || (lane.state === "candidate" && this.firstBelow(lane) === undefined) ? lane : undefined
    }
    if (root.waiters === undefined || this.known(root)?.fullAt === this.pathsAndRooms) return undefined
    let found: Lane | undefined = undefined
    findAbove(root, (node) => {
      if (!this.lends(node)) return false
      const lane = this.laneOf(node)
      if (!this.isFree(lane) || !this.fits(lane, job)) return undefined
      found = lane
      return true
    })
    return found
  }

  /** As long as it is the same, those that were full are, and nobody else came to be above anybody. */
  private get pathsAndRooms(): number {
    return changes.added + this.rooms
  }

  private isFree(lane: Lane): boolean {
    return this.queued === 0 || lane.state === "none"
  }

  /** How many wait where it would have to, if nobody else may. Those inside a job count in that job's queue only. */
  protected full(job: Job): number | undefined {
    const root = job.outer === undefined ? undefined : this.rootOf(liveNode(job.outer))
    const waiting = root?.kind === "job" ? this.laneOf(root).size : this.queued - this.inside
    return waiting < this.maxQueued ? undefined : waiting
  }

  protected widthIn(lane: Lane, job: Job): number {
    return lane === this.main || this.unbounded ? job.weight : Math.min(job.weight, lane.capacity)
  }

  protected fits(lane: Lane, job: Job): boolean {
    if (lane === this.main) return lane.used + job.weight <= lane.capacity
    return this.unbounded || lane.used + Math.min(job.weight, lane.capacity) <= lane.capacity
  }

  // -------------------------------------------------------------------------------------------------- coming and leaving

  protected enter(job: Job): void {
    job.engine = this
    job.lane = this.main
    job.state = "Queued"
    job.order = ++this.arrivals
    this.main.queue.enqueue(job)
    this.queued++
    this.version++
    if (job.outer === undefined) return
    const root = this.rootOf(job.outer = liveNode(job.outer))
    if (root !== undefined) this.seat(new Place(job, this.laneOf(root)))
  }

  private seat(place: Place): void {
    const { job, lane } = place
    job.place = place
    lane.queue.enqueue(place)
    this.count(lane, 1)
    this.call(place)
    for (const [other, first] of this.blocked) if (place.priority > first.priority) this.note(other)
  }

  private count(lane: Lane, by: number): void {
    if (lane.node!.kind === "job") this.inside += by
    else changes.seats += by
  }

  /** Out of all queues. */
  protected leave(job: Job): void {
    this.queued--
    this.version++
    this.main.queue.remove(job)
    const { place } = job
    if (place === undefined) return
    job.place = undefined
    place.lane.queue.remove(place)
    this.count(place.lane, -1)
    if (place.blocks) this.unblock(place)
  }

  /** What a node left behind when it ended. */
  inheritUnsafe(lane: Lane, heir: Node | undefined): void {
    const home = heir === undefined ? undefined : this.laneOf(heir)
    for (let job = lane.first; job !== undefined; job = lane.first) {
      lane.unlink(job)
      job.outer = heir
      job.lane = resolve(job.lane!)
      home?.link(job, job.lane === this.main)
      if (!job.stranger && job.lane !== this.main && job.lane !== home) this.admit(job)
    }
    if (home?.first !== undefined && home.capacity > 0) this.freed(home)
    if (lane.size > 0) {
      const root = this.rootOf(heir)
      const to = root === undefined ? undefined : this.laneOf(root)
      lane.queue.forEach(({ job }) => {
        const place = job.place!
        this.count(lane, -1)
        job.outer = liveNode(job.outer)
        if (place.blocks) this.unblock(place)
        if (to === undefined) {
          job.place = undefined
        } else {
          place.lane = to
          this.count(to, 1)
        }
      })
      if (to !== undefined) {
        to.queue.absorb(lane.queue)
        this.callAll(to)
      }
      this.pumpSoon()
    }
    lane.node = undefined
  }

  // --------------------------------------------------------------------------------------------------------- candidates

  /** One of the lenders above that have room for a place becomes a candidate, unless all that have are. */
  private call(place: Place): void {
    this.version++
    this.dryAt = -1
    const { job, lane } = place
    const node = lane.node!
    if (node.kind === "job") {
      if (!this.lends(node)) return
      const asked = lane.state !== "none"
      this.note(lane)
      if (this.strangers === 0) return
      if (!asked && this.fits(lane, job)) {
        lane.notedFor = place
        return
      }
    }
    const beyond = this.strangers === 0 ? undefined : false
    if (lane.fullAt === this.pathsAndRooms) return
    let room = false
    const found = findAbove(node, (node) => {
      if (!this.lends(node)) return false
      const lender = this.laneOf(node)
      if (lender.state !== "none") return beyond
      if (!this.fits(lender, job)) {
        room ||= this.hasRoom(lender)
        return beyond
      }
      this.note(lender)
      lender.notedFor = place
      return true
    })
    if (!found && !room) lane.fullAt = this.pathsAndRooms
  }

  /** All of the lenders above that have room become candidates. */
  private callAll(lane: Lane): void {
    this.version++
    this.dryAt = -1
    above(lane.node!, (node) => {
      if (!this.lends(node)) return true
      this.note(this.laneOf(node))
      return this.strangers > 0
    })
  }

  /** More may wait below the job than before, or something else. */
  stirUnsafe(job: Job): void {
    if (this.queued === 0 || job.state !== "Running") return
    this.note(this.laneOf(job))
    if (this.firstCandidate !== undefined) this.pumpSoon()
  }

  protected note(lane: Lane): void {
    if (lane.state === "candidate") return
    if (lane.state === "blocked") this.drop(lane)
    if (!this.hasRoom(lane)) return
    this.version++
    lane.state = "candidate"
    lane.freeAt = this.now()
    this.append(lane)
  }

  private append(lane: Lane): void {
    lane.prev = this.lastCandidate
    if (this.lastCandidate === undefined) this.firstCandidate = lane
    else this.lastCandidate.after = lane
    this.lastCandidate = lane
  }

  private detach(lane: Lane): void {
    if (lane.prev === undefined) this.firstCandidate = lane.after
    else lane.prev.after = lane.after
    if (lane.after === undefined) this.lastCandidate = lane.prev
    else lane.after.prev = lane.prev
    lane.prev = lane.after = undefined
  }

  /** It is no candidate any more. With a place, that one keeps the others from its width. */
  private drop(lane: Lane, place?: Place): void {
    if (lane.state === "none") return
    this.version++
    if (lane.state === "blocked") {
      this.blocked.get(lane)!.blocks = false
      this.blocked.delete(lane)
      changes.blocked--
    } else {
      this.detach(lane)
    }
    if (place === undefined) {
      lane.state = "none"
      if (this.hasRoom(lane)) this.rooms++
    } else {
      lane.state = "blocked"
      place.blocks = true
      this.blocked.set(lane, place)
      changes.blocked++
    }
    // Others that have room were not asked, for it was to serve this one.
    const { notedFor } = lane
    if (notedFor === undefined) return
    lane.notedFor = undefined
    if (notedFor.job.place === notedFor) this.call(notedFor)
  }

  private unblock(place: Place): void {
    for (const [lane, first] of this.blocked) if (first === place) this.note(lane)
  }

  /** Of the jobs that lend, each has its turn: one with many inside does not keep the others from the rate. */
  protected yieldTurn(lane: Lane): void {
    if (lane.state !== "candidate") return
    if (!this.hasRoom(lane)) return this.drop(lane)
    this.version++
    this.detach(lane)
    this.append(lane)
  }

  /** A lender's width is less used than before: who waits below may have it, or who runs below in free width. */
  protected freed(lane: Lane): void {
    const { node } = lane
    if (
      this.queued > 0 &&
      (lane.size > 0 || node!.waits !== undefined || node!.inside !== lane || lane.next !== undefined ||
        (this.strangers > 0 && lane.first !== undefined))
    ) {
      this.note(lane)
    } else {
      this.recharge(lane)
    }
  }

  /** What runs in free width, and was made in a lender that nobody needs, is charged to that: free width is for all. */
  private recharge(lane: Lane): void {
    let job = lane.first
    if (job === undefined || job.lane !== this.main || this.unbounded) return
    for (; job !== undefined && job.lane === this.main; job = lane.first) {
      if (lane.used + job.width > lane.capacity) break
      this.main.used -= job.width
      lane.used += job.width
      job.lane = lane
      lane.first = job.right
    }
    this.refreshMain()
  }

  /** The first of those that a lender waits for and, without strangers, that no other lender is nearer to. */
  private firstBelow(lane: Lane): Place | undefined {
    const head = this.main.head
    if (head === undefined) return undefined
    if (head.place !== undefined && this.reaches(lane, head.place.lane)) return head.place
    if (this.dryAt !== changes.added) {
      this.dry = newMark()
      this.dryAt = changes.added
    }
    const mark = this.dry
    // Sound: lanes of nodes hold places.
    let best = lane.size === 0 ? undefined : lane.queue.head as Place
    const nodes: Array<Node> = [lane.node!]
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i]!
      for (let edge = node.waits; edge !== undefined; edge = edge.nextOut) {
        if (edge.to.mark === mark) continue
        edge.to.mark = mark
        nodes.push(edge.to)
      }
      for (let inside = node.inside; inside !== undefined; inside = inside.next) {
        if (inside.engine === this) {
          // Sound: see `known`.
          const found = inside as Lane
          if (i > 0 && found.size > 0) {
            const first = found.queue.head as Place
            if (best === undefined || isBefore(first, best)) best = first
          }
          if (this.strangers === 0) continue
        }
        const first = inside.first
        let job = first
        while (job !== undefined) {
          if (job.mark !== mark) {
            job.mark = mark
            nodes.push(job)
          }
          job = job.right
          if (job === first) break
        }
      }
    }
    // What it looked at is not empty.
    if (best !== undefined) this.dryAt = -1
    return best
  }

  /** Whether a lender is seen to be the nearest above a lane at a glance. */
  private reaches(lender: Lane, lane: Lane): boolean {
    if (lender === lane) return true
    if (lane.node!.kind === "job" && this.strangers === 0) return false
    let left = glance
    let found = false
    findAbove(lane.node!, (node) => {
      found = node === lender.node
      if (found || --left === 0) return true
      return this.lends(node) && this.strangers === 0 ? undefined : false
    })
    return found
  }

  // ----------------------------------------------------------------------------------------------------- who is in front

  /** Keeps whether the first of all could start but for the rate. Called after every change of it or of the width. */
  protected refreshMain(): void {
    const { main } = this
    const { head } = main
    this.version++
    this.mainReady = head !== undefined && this.fits(main, head)
    if (this.mainReady) {
      if (this.mainBlocked) main.freeAt = this.now()
      this.mainBlocked = false
    } else {
      this.mainBlocked = head !== undefined
    }
  }

  /** The lane whose first job may be the next to start: of a job that lends before the scheduler's own. */
  protected get inFront(): Lane | undefined {
    if (this.firstCandidate === undefined) return this.mainReady ? this.main : undefined
    const seen = changes.added + changes.removed
    if (this.frontVersion === this.version && this.frontChanges === seen) return this.frontLane
    const lender = this.lenderInFront()
    this.frontLane = lender ?? (this.mainReady ? this.main : undefined)
    this.frontVersion = this.version
    this.frontChanges = seen
    return this.frontLane
  }

  protected get mainIsReady(): boolean {
    return this.mainReady
  }

  protected headOf(lane: Lane): Job {
    return lane === this.main ? lane.head! : this.frontJob!
  }

  protected get anyLenderReady(): boolean {
    const lane = this.inFront
    return lane !== undefined && lane !== this.main
  }

  private lenderInFront(): Lane | undefined {
    for (let lane = this.firstCandidate; lane !== undefined; lane = this.firstCandidate) {
      const place = this.firstBelow(lane)
      if (place === undefined) {
        this.drop(lane)
        this.recharge(lane)
      } else if (this.fits(lane, place.job)) {
        this.frontJob = place.job
        return lane
      } else if (this.hasRoom(lane)) {
        this.drop(lane, place)
      } else {
        this.drop(lane)
      }
    }
    this.frontJob = undefined
    return undefined
  }

  protected waiting(): Array<Job> {
    const jobs: Array<Job> = []
    this.main.queue.forEach((seat) => jobs.push(seat.job))
    return jobs
  }
}

const isBefore = (self: Place, that: Place): boolean =>
  self.priority > that.priority || (self.priority === that.priority && self.order < that.order)

/** Where a width is charged today: lenders that ended hand on what they lent. */
const resolve = (lane: Lane): Lane => {
  let end = lane
  while (end.forward !== undefined) end = end.forward
  if (lane !== end) lane.forward = end
  return end
}
