/**
 * The widths of a scheduler and the jobs in them: running jobs, queued jobs, and where a job fits. It starts no job.
 *
 * A queued job is in the scheduler's queue. A job that was made in a job, run or batch also has a place in the lane of the
 * job around it, or else of the outermost run or batch. So joining a run costs the same however many jobs wait in it.
 */
import { type Pile, pull, push } from "../data/list.js"
import { above, changes, isAbove, liveNode, type Node } from "../waits/waits.js"
import { type Job, Lane, type Owner, Place, type Seat } from "./job.js"
import { Lenders } from "./lenders.js"

/** The part of an engine that its lanes use. */
export interface Host extends Owner {
  /** If set, the width follows the other side: a job that is heavier than it starts alone. */
  readonly adaptive: object | undefined
  /** The time on the axis of the rate. */
  now(): number
  /** Some job may start, but not in this step. */
  pumpSoon(): void
  /** A job may have come to wait for those that wait until the scheduler is idle, but not in this step. */
  notifySoon(): void
}

export class Lanes {
  readonly main: Lane
  readonly lenders: Lenders
  /** The jobs that run. */
  private readonly runs: Pile<Seat> = { last: undefined }
  running = 0
  queued = 0
  /** How many of the queued jobs were made inside a job. */
  private inside = 0
  /** How many jobs have ever come to wait. */
  arrivals = 0
  private readonly host: Host

  constructor(host: Host, concurrency: number) {
    this.host = host
    this.main = new Lane(this, undefined, concurrency)
    this.lenders = new Lenders(this)
  }

  get unbounded(): boolean {
    return this.main.capacity === Infinity
  }

  now(): number {
    return this.host.now()
  }

  /** Whether a job of this scheduler runs that does not wait for `inner`. */
  runsOthersThan(inner: Node | undefined): boolean {
    let around = 0
    if (inner !== undefined) {
      above(inner, (node) => {
        if (this.lends(node)) around++
      })
    }
    return this.running > around
  }

  /** The running jobs, the last to begin first. */
  get started(): Array<Job> {
    const jobs: Array<Job> = []
    for (let { last } = this.runs; last !== undefined; last = last.before) jobs.push(last.job)
    return jobs
  }

  begin(job: Job, lane: Lane): void {
    job.engine = this.host
    const width = this.widthIn(lane, job)
    lane.used += width
    job.width = width
    job.lane = lane
    job.state = "Running"
    this.running++
    push<Seat>(this.runs, job)
    const outer = job.outer = liveNode(job.outer)
    if (outer !== undefined) this.laneOf(outer).link(job, lane === this.main)
    if (lane !== this.main && lane !== job.ties?.home) this.lenders.admit(job)
  }

  /** Gives back the width of a job, and returns the lane that gets it. */
  end(job: Job): Lane {
    job.state = "Done"
    this.running--
    pull<Seat>(this.runs, job)
    if (job.ties?.stranger) this.lenders.dismiss(job)
    const home = job.ties?.home
    if (home !== undefined) {
      home.unlink(job)
      if (home.first === undefined) this.forget(home)
    }
    // Contexts may keep the job for long: it must not keep the dead ones before it.
    job.outer = liveNode(job.outer)
    const lane = resolve(job.lane!)
    job.lane = undefined
    lane.used -= job.width
    if (lane !== this.main) this.lenders.rooms++
    const own = job.inside === undefined ? undefined : this.known(job)
    if (own !== undefined) {
      // Jobs that still run in the width it lent count from now on where the lender counted.
      lane.used += own.used
      own.forward = lane
      this.lenders.drop(own)
    }
    return lane
  }

  // --------------------------------------------------------------------------------------------------- jobs in nodes

  lends(node: Node): node is Job {
    // Sound: of all nodes, jobs alone have an engine.
    return (node as Job).engine === this.host && (node as Job).state === "Running"
  }

  /** The nearest job of this scheduler around a node, or else the outermost run or batch around it. */
  private rootOf(inner: Node | undefined): Node | undefined {
    for (let node = inner; node !== undefined;) {
      if (this.lends(node)) return node
      const outer = liveNode(node.outer)
      if (outer === undefined) return node.kind === "job" ? undefined : node
      node = outer
    }
    return undefined
  }

  known(node: Node): Lane | undefined {
    for (let lane = node.inside; lane !== undefined; lane = lane.sibling) {
      // Sound: `inside` of a node holds lanes.
      if ((lane as Lane).lanes === this) return lane as Lane
    }
    return undefined
  }

  laneOf(node: Node): Lane {
    const known = this.known(node)
    if (known !== undefined) return known
    const lane = new Lane(this, node, this.lends(node) ? node.width : 0)
    // Sound: `inside` of a node holds lanes.
    lane.sibling = node.inside as Lane | undefined
    node.inside = lane
    return lane
  }

  /** Drops an empty lane: a node that lasts must not keep every scheduler that was used in it. */
  private forget(lane: Lane): void {
    const node = lane.node!
    if ((node.inside === lane && lane.sibling === undefined) || lane.size > 0 || this.lends(node)) return
    if (node.inside === lane) {
      node.inside = lane.sibling
      return
    }
    // Sound: `inside` of a node holds lanes.
    let before = node.inside as Lane
    while (before.sibling !== lane) before = before.sibling!
    before.sibling = lane.sibling
  }

  // --------------------------------------------------------------------------------------------------------------- room

  hasRoom(lane: Lane): boolean {
    return lane.used < lane.capacity || this.unbounded
  }

  private widthIn(lane: Lane, job: Job): number {
    return lane === this.main || this.unbounded ? job.weight : Math.min(job.weight, lane.capacity)
  }

  fits(lane: Lane, job: Job): boolean {
    if (lane.used + this.widthIn(lane, job) <= lane.capacity) return true
    return lane === this.main ? lane.used === 0 && this.host.adaptive !== undefined : this.unbounded
  }

  /** Where a new job could start now but for the rate: in lent width first, so that free width is left to others. */
  roomFor(job: Job): Lane | undefined {
    if (job.outer !== undefined) {
      const root = this.rootOf(job.outer = liveNode(job.outer))
      if (root !== undefined) {
        const lane = this.lenders.roomFor(root, job)
        if (lane !== undefined) return lane
      }
    }
    return this.queued === 0 && this.fits(this.main, job) ? this.main : undefined
  }

  /** Whether a job was made inside a running job. */
  isNested(job: Job): boolean {
    return this.rootOf(liveNode(job.outer))?.kind === "job"
  }

  /** Whether a running job would wait for a new one, directly or through runs and batches. */
  isAwaited(job: Job): boolean {
    const outer = liveNode(job.outer)
    return outer !== undefined && isAbove(outer, (node) => this.lends(node))
  }

  /** Whether a running job waits for a queued one, directly or through runs and batches. */
  isLent(job: Job): boolean {
    const lane = job.ties?.place?.lane
    return lane !== undefined && isAbove(lane.node!, (node) => this.lends(node))
  }

  /** How many jobs wait in the queue of a job. Those inside a job count in that job's queue only. */
  waitingBefore(job: Job): number {
    const root = this.rootOf(liveNode(job.outer))
    return root?.kind === "job" ? this.laneOf(root).size : this.queued - this.inside
  }

  // -------------------------------------------------------------------------------------------------- coming and leaving

  enter(job: Job): void {
    job.engine = this.host
    job.lane = this.main
    job.state = "Queued"
    job.order = ++this.arrivals
    this.main.queue.enqueue(job, job.options.share)
    this.queued++
    this.refresh()
    if (job.outer === undefined) return
    const root = this.rootOf(job.outer = liveNode(job.outer))
    if (root === undefined) return
    const place = job.tied.place = new Place(job, this.laneOf(root))
    place.lane.queue.enqueue(place)
    this.count(place.lane, 1)
    this.lenders.call(place)
    this.lenders.outrank(place)
  }

  private count(lane: Lane, by: number): void {
    if (lane.node!.kind === "job") this.inside += by
    else changes.listeners += by
  }

  /** Takes a job out of all queues. `refresh` has to follow. */
  leave(job: Job): void {
    this.queued--
    this.main.queue.remove(job)
    const place = job.ties?.place
    if (place === undefined) return
    job.tied.place = undefined
    const { lane } = place
    lane.queue.remove(place)
    this.count(lane, -1)
    this.lenders.unblock(place)
    if (lane.first === undefined) this.forget(lane)
  }

  /** Passes the jobs of a node that has ended on to its heir. */
  inheritUnsafe(lane: Lane, heir: Node | undefined): void {
    // A lane that holds nothing makes none in its heir: nobody would drop that one.
    const home = heir === undefined ? undefined : lane.first === undefined ? this.known(heir) : this.laneOf(heir)
    for (let job = lane.first; job !== undefined; job = lane.first) {
      lane.unlink(job)
      job.outer = heir
      job.lane = resolve(job.lane!)
      home?.link(job, job.lane === this.main)
      if (!job.tied.stranger && job.lane !== this.main && job.lane !== home) this.lenders.admit(job)
    }
    if (home?.first !== undefined && home.capacity > 0) {
      this.lenders.freed(home)
      this.host.pumpSoon()
    }
    if (lane.size > 0) {
      const root = this.rootOf(heir)
      const to = root === undefined ? undefined : this.laneOf(root)
      lane.queue.forEach(({ job }) => {
        const place = job.tied.place!
        this.count(lane, -1)
        job.outer = liveNode(job.outer)
        if (to === undefined) {
          job.tied.place = undefined
        } else {
          place.lane = to
          this.count(to, 1)
        }
      })
      // Those above hear of it as the node leaves the graph.
      to?.queue.absorb(lane.queue)
    }
    lane.node = undefined
  }

  /** A fiber of a node waits until the scheduler is idle. The jobs that come to wait for the node are heard of until the end. */
  attend(node: Node): () => void {
    const lane = this.laneOf(node)
    changes.listeners++
    return () => {
      changes.listeners--
      if (lane.first === undefined && this.known(node) === lane) this.forget(lane)
    }
  }

  stirUnsafe(job: Job): void {
    this.host.notifySoon()
    if (this.queued === 0 || job.state !== "Running") return
    this.lenders.note(this.laneOf(job))
    if (this.lenders.any) this.host.pumpSoon()
  }

  // ------------------------------------------------------------------------------------------------------------- front

  /** Notes whether the first job in the queue fits. Called after every change of that job or of the width. */
  refresh(): void {
    const { main } = this
    const { head, state } = main
    this.lenders.changed()
    if (head === undefined) {
      main.state = "none"
    } else if (!this.fits(main, head)) {
      main.state = "blocked"
    } else {
      if (state === "blocked") main.freeAt = this.now()
      main.state = "candidate"
    }
  }

  /** The lane whose first job is the next to start: that of a lender before the scheduler's own. */
  get front(): Lane | undefined {
    return this.lenders.front ?? (this.main.state === "candidate" ? this.main : undefined)
  }

  headOf(lane: Lane): Job {
    return lane === this.main ? lane.head! : this.lenders.job!
  }
}

/** The lane that a width is charged to now: a lender that has ended hands it on. */
const resolve = (lane: Lane): Lane => {
  let end = lane
  while (end.forward !== undefined) end = end.forward
  if (lane !== end) lane.forward = end
  return end
}
