/**
 * What the engine runs, the widths it runs in, and how what runs inside a job finds it.
 */
import { JobQueue, QueueNode } from "./jobQueue.js"
import type { SchedulerError } from "./schedulerError.js"
import type { Edge, Node } from "./waits/waits.js"

type State = "Idle" | "Queued" | "Running" | "Done"

/** A place in a queue: of the scheduler's own width, where it is the job itself, or of the width that a job lends. */
export abstract class Seat extends QueueNode<Seat> {
  abstract readonly job: Job
}

/** A queued job's place in the width that a job which waits for it lends. */
export class Place extends Seat {
  readonly job: Job
  readonly priority: number
  readonly lane: Lane
  /** The next place of the same job. */
  more: Place | undefined

  constructor(job: Job, lane: Lane) {
    super()
    this.job = job
    this.priority = job.priority
    this.lane = lane
    this.more = job.places
    job.places = this
  }
}

export abstract class Job extends Seat implements Node {
  readonly kind = "job"
  readonly weight: number
  readonly tokens: number
  readonly priority: number
  readonly patient: boolean
  /** The node in whose context this one was made; ended ones are skipped and dropped. */
  outer: Node | undefined
  state: State = "Idle"
  /** Whose job it is. */
  engine: { rehouseUnsafe(job: Job): void } | undefined = undefined
  /** What its width is charged to. */
  lane: Lane | undefined = undefined
  /** What it lends to those it waits for, made when the first of them comes. */
  own: Lane | undefined = undefined
  /** While it is queued: its places besides that in the scheduler's own width. */
  places: Place | undefined = undefined
  width = 0
  arrived = 0
  edge: Edge | undefined = undefined
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  mark = 0

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

  get ended(): boolean {
    return this.state === "Done"
  }

  reviewUnsafe(): void {
    if (this.state === "Queued") this.engine!.rehouseUnsafe(this)
  }

  /** Permit and rate were taken in this step. */
  abstract onStart(): void
  /** Refused: it will not start, and holds nothing. */
  abstract onFailure(error: SchedulerError): void
  /** The scheduler closed while it waited or ran. One that waited is out of the queue, one that runs still holds its permit. */
  abstract onClose(): void
}

/**
 * A width and those who wait for it: the scheduler's own, or the weight that a running job lends.
 */
export class Lane {
  capacity: number
  used = 0
  readonly queue = new JobQueue<Seat>()
  readonly lender: Job | undefined
  /** Its head does not fit: once it does, the cells that fell meanwhile are not made up. */
  blocked = false
  freeAt: number
  /** Set once the lender has ended: whose width its jobs are charged to since. */
  forward: Lane | undefined = undefined
  ready = false
  prevReady: Lane | undefined = undefined
  nextReady: Lane | undefined = undefined

  constructor(capacity: number, lender: Job | undefined, now: number) {
    this.capacity = capacity
    this.lender = lender
    this.freeAt = now
  }

  get head(): Job | undefined {
    return this.queue.head?.job
  }
}
