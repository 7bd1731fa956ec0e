/**
 * The jobs of an engine, and the lanes they run in.
 */
import type { Effect } from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import type * as DueHeap from "../data/dueHeap.js"
import { join, leave, type Member } from "../data/list.js"
import { firstStep } from "../limiter/firstStep.js"
import type { Tokens } from "../limiter/gcra.js"
import type { Edge, Inner, Inside, Node } from "../waits/waits.js"
import type { SchedulerError } from "./error.js"
import type { Line } from "./fairQueue.js"
import { JobQueue, QueueNode } from "./jobQueue.js"
import type { JobOptions } from "./options.js"

type State = "Idle" | "Queued" | "Running" | "Done"

/** An entry of a queue: the job itself in the queue of the scheduler, a `Place` in that of a node. */
export abstract class Seat extends QueueNode<Seat> {
  abstract readonly job: Job
}

/** A queued job's place in the lane of a node around it. */
export class Place extends Seat {
  readonly job: Job
  readonly priority: number
  readonly tokens: number
  lane: Lane

  constructor(job: Job, lane: Lane) {
    super()
    this.job = job
    this.priority = job.priority
    this.tokens = job.tokens
    this.order = job.order
    this.lane = lane
  }
}

/** The lanes of a scheduler, as each of them and the jobs see them. */
interface AllLanes {
  stirUnsafe(job: Job): void
  inheritUnsafe(lane: Lane, heir: Node | undefined): void
}

/** The part of an engine that its jobs use. */
export interface Owner {
  readonly name: string
  readonly lanes: AllLanes
  startedUnsafe(job: Job): void
}

/** The terms of a job that most jobs do not have. Times in nanoseconds of the clock of `Overload`. */
export class Terms implements DueHeap.Member {
  readonly job: Job
  /** When the job is refused, and its place among those with such a time. */
  due = Infinity
  index = -1
  /** How long the first job had waited for width when this one came. */
  widthAt = 0

  constructor(job: Job) {
    this.job = job
  }
}

/** What ties a job to the nodes around it and in it. */
class Ties {
  /** While it is queued: its place in the lane of a node. */
  place: Place | undefined = undefined
  /** Whether its width is charged to a job that this one was not made in. */
  stranger = false
  /** While it runs: the lane of the node that it runs in, and its neighbours there. */
  home: Lane | undefined = undefined
  left: Job | undefined = undefined
  right: Job | undefined = undefined
  waits: Edge | undefined = undefined
  inside: Lane | undefined = undefined
  mark = 0
}

// Many jobs may wait or run at once, so a job is kept small: what most of them do not have is in objects of its own.
export abstract class Job extends Seat implements Inner {
  readonly options: JobOptions
  readonly patient: boolean
  /** The node in whose context the job was made, or the first one around that has not ended. */
  outer: Node | undefined
  state: State = "Idle"
  /** Set at the latest when it waits or runs. */
  engine: Owner | undefined = undefined
  /** The lane that its width is charged to. */
  lane: Lane | undefined = undefined
  width = 0
  /**
   * While it waits: since when, on the axis of the rate. While it runs: since when, in nanoseconds of the engine, where the
   * width or a share follows that.
   */
  arrived = 0
  /** Since when it waits or, where something observes the engine, runs. In whole milliseconds of the engine. */
  since = 0
  /** While it runs with a share: what its line was charged with. */
  charged = 0
  terms: Terms | undefined = undefined
  ties: Ties | undefined = undefined
  /** The grant of its limiter, until its effect begins. */
  link: unknown = undefined

  constructor(options: JobOptions, outer: Node | undefined, patient: boolean) {
    super()
    this.options = options
    this.outer = outer
    this.patient = patient
  }

  get job(): Job {
    return this
  }

  /** It is about to start. Its line pays for it until it ends. */
  chargeLine(line: Line<Seat>, now: number): void {
    this.charged = line.fair.charge(line, this.weight)
    this.arrived = now
  }

  /** It has ended. */
  settleLine(line: Line<Seat>, now: number): void {
    // Contexts may keep the job for long: it must not keep the queue.
    this.line = undefined
    line.fair.settle(line, this.order, this.charged, this.weight, now - this.arrived)
  }

  get weight(): number {
    return this.options.weight
  }
  get tokens(): number {
    return this.options.tokens
  }
  /** What it takes of the rate: the tokens of each quota. */
  get cost(): Tokens {
    return this.options.list ?? this.options.tokens
  }
  get priority(): number {
    return this.options.priority
  }

  /** Its ties, made where they are first written. */
  get tied(): Ties {
    return this.ties ??= new Ties()
  }

  get left(): Job | undefined {
    return this.ties?.left
  }
  set left(job: Job | undefined) {
    this.tied.left = job
  }
  get right(): Job | undefined {
    return this.ties?.right
  }
  set right(job: Job | undefined) {
    this.tied.right = job
  }
  get waits(): Edge | undefined {
    return this.ties?.waits
  }
  set waits(edge: Edge | undefined) {
    this.tied.waits = edge
  }
  get inside(): Lane | undefined {
    return this.ties?.inside
  }
  set inside(lane: Lane | undefined) {
    this.tied.inside = lane
  }
  get mark(): number {
    return this.ties === undefined ? 0 : this.ties.mark
  }
  set mark(mark: number) {
    this.tied.mark = mark
  }

  get name(): string | undefined {
    return this.engine?.name
  }

  get kind(): "job" {
    return "job"
  }

  /** Only its outer node waits for it, and that takes no edge. */
  get waiters(): undefined {
    return undefined
  }

  get ended(): boolean {
    return this.state === "Done"
  }

  stirUnsafe(): void {
    this.engine!.lanes.stirUnsafe(this)
  }

  /** Whether a scheduler that drains refuses it, although it is patient: the call that it is of came too late. */
  get isLate(): boolean {
    return !this.patient
  }

  /**
   * The first step of its effect. The engine is told after it, not before: if the process stops between the two, for a garbage
   * collection say, a strict window gets longer and not shorter.
   */
  firstStep<A, E, R>(self: () => Effect<A, E, R>, fiber: Fiber<unknown, unknown>): Effect<A, E, R> {
    const { link } = this
    // A job that ends in its first step is released in it, and has begun all the same: nothing is given back.
    this.link = undefined
    try {
      return firstStep(self(), fiber)
    } finally {
      this.link = link
      this.engine!.startedUnsafe(this)
    }
  }

  /** Called in the step in which permit and rate were taken. */
  abstract onStart(): void
  /** Refused: it will not start, and holds nothing. */
  abstract onFailure(error: SchedulerError): void
  /** The scheduler closed while it waited or ran. One that waited is out of the queue, one that runs still holds its permit. */
  abstract onClose(): void
}

/**
 * A width and its queue. The main lane has the width of the scheduler; the lane of a running job has the weight that the
 * job lends. The lane of any other node has no width: it holds the jobs of this scheduler that were made in the node.
 */
export class Lane implements Inside, Member<Lane> {
  readonly lanes: AllLanes
  /** `undefined` for the main lane, and once the node has ended. */
  node: Node | undefined
  sibling: Lane | undefined = undefined
  /** The running jobs that were made in the node: a ring, in front those that run in the main lane. */
  first: Job | undefined = undefined
  capacity: number
  used = 0
  private waiting: JobQueue<Seat> | undefined = undefined
  /** Since when its first job may start: slots of the rate before that are not made up. */
  freeAt = 0
  /** Set once the lender has ended: the lane that its jobs are charged to since then. */
  forward: Lane | undefined = undefined
  /** Whether a job below the lender might start in its width; in the main lane, whether the first job fits. */
  state: "none" | "candidate" | "blocked" = "none"
  before: Lane | undefined = undefined
  after: Lane | undefined = undefined
  /** The place for which it became a candidate: other lenders that could serve the place were not asked. */
  notedFor: Place | undefined = undefined
  /** Of a run or a batch: the change since which no lender above has room, unless it is a candidate. */
  fullAt = -1

  constructor(lanes: AllLanes, node: Node | undefined, capacity: number) {
    this.lanes = lanes
    this.node = node
    this.capacity = capacity
  }

  get queue(): JobQueue<Seat> {
    return this.waiting ??= new JobQueue()
  }

  get size(): number {
    return this.waiting === undefined ? 0 : this.waiting.size
  }

  get head(): Job | undefined {
    return this.waiting?.head?.job
  }

  passUnsafe(heir: Node | undefined): void {
    this.lanes.inheritUnsafe(this, heir)
  }

  link(job: Job, front: boolean): void {
    job.tied.home = this
    const first = join(this.first, job)
    this.first = front ? job : first
  }

  unlink(job: Job): void {
    this.first = leave(this.first, job)
    job.tied.home = undefined
  }
}
