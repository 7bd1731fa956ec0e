/**
 * The running jobs that lend: which of them may have a job below that could start in their width.
 *
 * A lender is a running job with unused width. It pulls jobs from below: from its own lane, and from the lanes of runs and
 * batches that it waits for, unless another lender is nearer to them.
 *
 * A lender that may find a job is a candidate. Candidates are searched only when a job could start. A lender with unused
 * width that is no candidate has nothing below, or its first job does not fit: then it is `blocked`.
 *
 * Most jobs run in the width of a job that they were made in, and that job waits for them. A stranger was made elsewhere, in
 * something that the lender waited for then. That wait may be over, and the stranger may come to wait for the lender. So
 * while strangers run, lenders also pull jobs to which another lender is nearer. Without strangers this is never needed: of
 * jobs that all wait, one that lends nothing yet is the nearest above a queued job.
 */
import { append, type List, remove } from "../data/list.js"
import { changes, findAbove, newMark, type Node, visitBelow } from "../waits/waits.js"
import type { Job, Lane, Place } from "./job.js"

/** How far to look from the first job in the queue up to a lender, before the lender is searched downwards. */
const glance = 8

/** The widths, as the lenders see them. */
interface Widths {
  readonly main: Lane
  readonly queued: number
  now(): number
  lends(node: Node): node is Job
  known(node: Node): Lane | undefined
  laneOf(node: Node): Lane
  hasRoom(lane: Lane): boolean
  fits(lane: Lane, job: Job): boolean
  refresh(): void
}

export class Lenders {
  /** Counts each time that a lender may have got room for a job that is made below it later. */
  rooms = 0
  /** The job in front of the lender in front. */
  job: Job | undefined = undefined
  private readonly lanes: Widths
  /** Each in its turn. */
  private readonly candidates: List<Lane> = { first: undefined, last: undefined }
  private readonly blocked = new Map<Lane, Place>()
  /** Nodes with this mark have no queued job below. A new mark is taken when that may have changed. */
  private dry = 0
  private dryAt: number | undefined = undefined
  /** How many jobs run in the width of a job that they were not made in. */
  private strangers = 0
  /** Grows whenever another lender may be in front. */
  private version = 0
  private seen = -1
  private found: Lane | undefined = undefined

  constructor(lanes: Widths) {
    this.lanes = lanes
  }

  get any(): boolean {
    return this.candidates.first !== undefined
  }

  /** A job came or left, or a width has changed. */
  changed(): void {
    this.version++
  }

  /** The lender in front, if there is one; its `job` then is the one to start. */
  get front(): Lane | undefined {
    if (!this.any) return undefined
    if (this.seen !== this.state) {
      this.found = this.search()
      this.seen = this.state
    }
    return this.found
  }

  /** While this is the same, the same lender is in front. */
  private get state(): number {
    return this.version + changes.added + changes.removed
  }

  private search(): Lane | undefined {
    const { lanes } = this
    for (let lane = this.candidates.first; lane !== undefined; lane = this.candidates.first) {
      const place = this.firstBelow(lane)
      if (place === undefined) {
        this.drop(lane)
        this.recharge(lane)
      } else if (lanes.fits(lane, place.job)) {
        this.job = place.job
        return lane
      } else {
        this.drop(lane, lanes.hasRoom(lane) ? place : undefined)
      }
    }
    this.job = undefined
    return undefined
  }

  // ---------------------------------------------------------------------------------------------------------- strangers

  /** The job runs as a stranger. */
  admit(job: Job): void {
    job.tied.stranger = true
    changes.listeners++
    if (this.strangers++ > 0) return
    // Until now no lender looked beyond those that are nearer.
    this.dryAt = undefined
    this.rooms++
    this.version++
  }

  dismiss(job: Job): void {
    job.tied.stranger = false
    changes.listeners--
    if (--this.strangers > 0) return
    for (const lane of this.blocked.keys()) this.note(lane)
  }

  // --------------------------------------------------------------------------------------------------------------- room

  /** The lane of a lender above that has room for the job, and no queued job before it. */
  roomFor(root: Node, job: Job): Lane | undefined {
    const { lanes } = this
    if (lanes.lends(root)) {
      const lane = lanes.laneOf(root)
      if (!lanes.fits(lane, job)) return undefined
      return this.isFree(lane) || (lane.state === "candidate" && this.firstBelow(lane) === undefined) ? lane : undefined
    }
    if (root.waiters === undefined || lanes.known(root)?.fullAt === this.pathsAndRooms) return undefined
    let found: Lane | undefined = undefined
    findAbove(root, (node) => {
      if (!lanes.lends(node)) return false
      const lane = lanes.laneOf(node)
      if (!this.isFree(lane) || !lanes.fits(lane, job)) return undefined
      found = lane
      return true
    })
    return found
  }

  /** While this is the same, no lender above a node got room, and no node got a new one above it. */
  private get pathsAndRooms(): number {
    return changes.added + this.rooms
  }

  private isFree(lane: Lane): boolean {
    return this.lanes.queued === 0 || lane.state === "none"
  }

  // --------------------------------------------------------------------------------------------------------- candidates

  /** Makes one of the lenders above a candidate that has room for the place, unless all of them are candidates. */
  call(place: Place): void {
    this.version++
    this.dryAt = undefined
    const { lanes } = this
    const { job, lane } = place
    const node = lane.node!
    if (node.kind === "job") {
      if (!lanes.lends(node)) return
      const asked = lane.state !== "none"
      this.note(lane)
      if (this.strangers === 0) return
      if (!asked && lanes.fits(lane, job)) {
        lane.notedFor = place
        return
      }
    }
    const beyond = this.strangers === 0 ? undefined : false
    if (lane.fullAt === this.pathsAndRooms) return
    let room = false
    const found = findAbove(node, (node) => {
      if (!lanes.lends(node)) return false
      const lender = lanes.laneOf(node)
      if (lender.state !== "none") return beyond
      if (!lanes.fits(lender, job)) {
        room ||= lanes.hasRoom(lender)
        return beyond
      }
      this.note(lender)
      lender.notedFor = place
      return true
    })
    if (!found && !room) lane.fullAt = this.pathsAndRooms
  }

  /** A place goes before those of less priority, also where they block a width. */
  outrank(place: Place): void {
    for (const [lane, first] of this.blocked) if (place.priority > first.priority) this.note(lane)
  }

  unblock(place: Place): void {
    for (const [lane, first] of this.blocked) if (first === place) this.note(lane)
  }

  /** More may wait below the lender than before, or something else. */
  note(lane: Lane): void {
    if (lane.state === "candidate") return
    if (lane.state === "blocked") this.drop(lane)
    if (!this.lanes.hasRoom(lane)) return
    this.version++
    lane.state = "candidate"
    lane.freeAt = this.lanes.now()
    append(this.candidates, lane)
  }

  /** The lender is no candidate any more. With a place, that place blocks its width. */
  drop(lane: Lane, place?: Place): void {
    if (lane.state === "none") return
    this.version++
    if (lane.state === "blocked") {
      this.blocked.delete(lane)
      changes.blocked--
    } else {
      remove(this.candidates, lane)
    }
    if (place === undefined) {
      lane.state = "none"
      if (this.lanes.hasRoom(lane)) this.rooms++
    } else {
      lane.state = "blocked"
      this.blocked.set(lane, place)
      changes.blocked++
    }
    // Other lenders with room were not asked, because this one was to serve the place.
    const { notedFor } = lane
    if (notedFor === undefined) return
    lane.notedFor = undefined
    if (notedFor.job.ties?.place === notedFor) this.call(notedFor)
  }

  /** Lenders take turns: one with many jobs inside does not keep the others from the rate. */
  yieldTurn(lane: Lane): void {
    if (lane.state !== "candidate") return
    if (!this.lanes.hasRoom(lane)) return this.drop(lane)
    this.version++
    remove(this.candidates, lane)
    append(this.candidates, lane)
  }

  /** A lender has more unused width: for a job that waits below, or one that runs below in free width. */
  freed(lane: Lane): void {
    const { node } = lane
    if (
      this.lanes.queued > 0 &&
      (lane.size > 0 || node!.waits !== undefined || node!.inside !== lane || lane.sibling !== undefined ||
        (this.strangers > 0 && lane.first !== undefined))
    ) {
      this.note(lane)
    } else {
      this.recharge(lane)
    }
  }

  /** Charges jobs that run in free width to the lender they were made in: free width is for all. */
  private recharge(lane: Lane): void {
    const { main } = this.lanes
    let job = lane.first
    if (job?.lane !== main) return
    for (; job?.lane === main; job = lane.first) {
      if (lane.used + job.width > lane.capacity) break
      main.used -= job.width
      lane.used += job.width
      job.lane = lane
      lane.first = job.right
    }
    this.lanes.refresh()
  }

  /** The first queued job below a lender, without strangers only of those to which no other lender is nearer. */
  private firstBelow(lane: Lane): Place | undefined {
    const head = this.lanes.main.head
    if (head === undefined) return undefined
    const place = head.ties?.place
    if (place !== undefined && this.reaches(lane, place.lane)) return place
    if (this.dryAt !== changes.added) {
      this.dry = newMark()
      this.dryAt = changes.added
    }
    const mark = this.dry
    let best: Place | undefined
    const nodes: Array<Node> = [lane.node!]
    const look = (node: Node): boolean => {
      if (node.mark !== mark) {
        node.mark = mark
        nodes.push(node)
      }
      return false
    }
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i]!
      const known = this.lanes.known(node)
      if (known !== undefined && known.size > 0) {
        // Sound: lanes of nodes hold places.
        const first = known.queue.head as Place
        if (best === undefined || isBefore(first, best)) best = first
      }
      visitBelow(node, look, this.strangers === 0 ? known : undefined)
    }
    // The marked nodes have a queued job below.
    if (best !== undefined) this.dryAt = undefined
    return best
  }

  /** Whether a lender is found above a lane within a few steps, with no other lender nearer. */
  private reaches(lender: Lane, lane: Lane): boolean {
    if (lender === lane) return true
    if (lane.node!.kind === "job" && this.strangers === 0) return false
    let left = glance
    let found = false
    findAbove(lane.node!, (node) => {
      found = node === lender.node
      if (found || --left === 0) return true
      return this.lanes.lends(node) && this.strangers === 0 ? undefined : false
    })
    return found
  }
}

const isBefore = (self: Place, that: Place): boolean =>
  self.priority > that.priority || (self.priority === that.priority && self.order < that.order)
