/**
 * What the engine runs, the widths it runs in, and how what runs inside a job finds it.
 */
import * as Context from "effect/Context"
import { JobQueue, QueueNode } from "./jobQueue.js"
import type { SchedulerError } from "./schedulerError.js"

type State = "Idle" | "Queued" | "Overflow" | "Running" | "Done"

export abstract class Job extends QueueNode<Job> {
  readonly weight: number
  readonly tokens: number
  readonly priority: number
  readonly patient: boolean
  /** The job in whose context this one was made, of any engine; dead ones are skipped and dropped. */
  outer: Job | undefined
  state: State = "Idle"
  /** Compared only: whose job it is. */
  engine: object | undefined = undefined
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
 * A width and those who wait for it: the scheduler's own, or the weight that a running job lends.
 */
export class Lane {
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

/**
 * The innermost job that the current fiber, or the fiber it was forked from, runs in. It may have ended.
 */
export const CurrentJob: Context.Reference<Job | undefined> = /*#__PURE__*/ Context.Reference<Job | undefined>(
  "effect-funnel/Scheduler/CurrentJob",
  { defaultValue: () => undefined }
)
