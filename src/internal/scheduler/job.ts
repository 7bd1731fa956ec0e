/**
 * What the engine runs, the widths it runs in, and how what runs inside a job finds it.
 */
import type { Member } from "../data/list.js"
import type { Edge, Inner, Inside, Node } from "../waits/waits.js"
import type { SchedulerError } from "./error.js"
import { JobQueue, QueueNode } from "./jobQueue.js"

type State = "Idle" | "Queued" | "Running" | "Done"

/** A place in a queue: of the scheduler's own width, where it is the job itself, or of what was made in a node. */
export abstract class Seat extends QueueNode<Seat> {
  abstract readonly job: Job
}

/** A queued job's place in the node around it: in that of the job around it, or else of the run or batch. */
export class Place extends Seat {
  readonly job: Job
  readonly priority: number
  lane: Lane
  /** A lender's width has no room for it, and keeps it in front. */
  blocks = false

  constructor(job: Job, lane: Lane) {
    super()
    this.job = job
    this.priority = job.priority
    this.order = job.order
    this.lane = lane
  }
}

/** What a job and a lane know of their scheduler. */
export interface Owner {
  readonly name: string
  stirUnsafe(job: Job): void
  inheritUnsafe(lane: Lane, heir: Node | undefined): void
}

export abstract class Job extends Seat implements Inner {
  readonly weight: number
  readonly tokens: number
  readonly priority: number
  readonly patient: boolean
  /** The node in whose context this one was made; ended ones are skipped and dropped. */
  outer: Node | undefined
  state: State = "Idle"
  /** Whose job it is. */
  engine: Owner | undefined = undefined
  /** What its width is charged to. */
  lane: Lane | undefined = undefined
  /** Whether that is the width of a job that it was not made in. */
  stranger = false
  /** While it is queued: its place besides that in the scheduler's own width. */
  place: Place | undefined = undefined
  width = 0
  arrived = 0
  /** While it runs: among those that run in the same node. */
  home: Lane | undefined = undefined
  left: Job | undefined = undefined
  right: Job | undefined = undefined
  waits: Edge | undefined = undefined
  inside: Lane | undefined = undefined
  mark = 0
  /** What its limiter granted, until its effect begins. */
  link: unknown = undefined

  constructor(weight: number, tokens: number, priority: number, outer: Node | undefined, patient: boolean) {
    super()
    this.weight = weight
    this.tokens = tokens
    this.priority = priority
    this.outer = outer
    this.patient = patient
  }

  get job(): Job {
    return this
  }

  get name(): string | undefined {
    return this.engine?.name
  }

  get kind(): "job" {
    return "job"
  }

  /** What it was made in, and no other. */
  get waiters(): undefined {
    return undefined
  }

  get ended(): boolean {
    return this.state === "Done"
  }

  stirUnsafe(): void {
    this.engine?.stirUnsafe(this)
  }

  /** Permit and rate were taken in this step. */
  abstract onStart(): void
  /** Refused: it will not start, and holds nothing. */
  abstract onFailure(error: SchedulerError): void
  /** The scheduler closed while it waited or ran. One that waited is out of the queue, one that runs still holds its permit. */
  abstract onClose(): void
}

/**
 * A width and those who wait for it: the scheduler's own, or the weight that a running job lends. Of a run, a batch or a
 * job of another scheduler, which lend nothing: those of this scheduler that were made in it.
 */
export class Lane implements Inside, Member<Lane> {
  readonly engine: Owner
  /** `undefined` for the scheduler's own, and once the node has ended. */
  node: Node | undefined
  sibling: Lane | undefined = undefined
  /** Those made in the node that run: a ring, in front those that run in the scheduler's own width. */
  first: Job | undefined = undefined
  capacity: number
  used = 0
  private waiting: JobQueue<Seat> | undefined = undefined
  /** Since when its first job may start: the cells that fell before are not made up. */
  freeAt = 0
  /** Set once the lender has ended: whose width its jobs are charged to since. */
  forward: Lane | undefined = undefined
  /** Whether some of those below a lender might start in its width; of the scheduler's own, whether its first job fits. */
  state: "none" | "candidate" | "blocked" = "none"
  before: Lane | undefined = undefined
  after: Lane | undefined = undefined
  /** The place for which it became a candidate: others that could serve it were not asked. */
  notedFor: Place | undefined = undefined
  /** Of a run or a batch: as of which change nobody above has room and is no candidate. */
  fullAt = -1

  constructor(engine: Owner, node: Node | undefined, capacity: number) {
    this.engine = engine
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
    this.engine.inheritUnsafe(this, heir)
  }

  link(job: Job, front: boolean): void {
    job.home = this
    const { first } = this
    if (first === undefined) {
      this.first = job.left = job.right = job
      return
    }
    const last = first.left!
    job.left = last
    job.right = first
    last.right = first.left = job
    if (front) this.first = job
  }

  unlink(job: Job): void {
    const { left, right } = job
    if (right === job) {
      this.first = undefined
    } else {
      left!.right = right
      right!.left = left
      if (this.first === job) this.first = right
    }
    job.home = job.left = job.right = undefined
  }
}
