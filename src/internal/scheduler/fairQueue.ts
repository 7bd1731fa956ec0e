/**
 * Fair turns within one priority: a line for each key of `share`, served by start-time fair queueing (Goyal, Vin and Cheng,
 * 1996).
 *
 * A job costs its weight times its duration. The start tag S of the first job in a line is the finish tag of the job before
 * it, or the least start tag of all lines, if that is larger; its finish tag is S + cost / weight of the line. The line with
 * the least start tag is next. A duration is estimated by the moving mean of its line and corrected when the job ends.
 */
import * as DueHeap from "../data/dueHeap.js"
import { append, type List, type Member, remove } from "../data/list.js"

/** A waiting job. */
interface Node<T extends Node<T>> extends Member<T> {
  readonly tokens: number
  /** Its order of arrival. */
  readonly order: number
  line: Line<T> | undefined
}

/** The account of a job: jobs with an equal key share a line, which gets turns in proportion to its weight. */
export interface Share {
  readonly key: unknown
  readonly weight: number
}

/** `due` is the start tag of the first job or, while no job waits, the finish tag of the last one that started. */
export interface Line<T extends Node<T>> extends List<T>, DueHeap.Member {
  readonly fair: FairQueue<T>
  readonly key: unknown
  size: number
  tokens: number
  weight: number
  running: number
  /** The order of the job that came last to a line without jobs, and how far that raised the start tag. */
  wokenBy: number
  raised: number
  /** The moving mean of its durations, 0 while it is unknown. */
  mean: number
}

/** The moving mean of all durations, for lines that have none yet. */
export interface Durations {
  mean: number
}

/** How much a duration counts in a moving mean. */
const smoothing = 1 / 8

const next = (mean: number, duration: number): number => mean === 0 ? duration : mean + (duration - mean) * smoothing

export class FairQueue<T extends Node<T>> {
  private readonly lines = new Map<unknown, Line<T>>()
  /** A heap of the lines with waiting jobs. */
  private readonly waiting: Array<Line<T>> = []
  /** A heap of the lines without jobs whose finish tag is still ahead. */
  private readonly resting: Array<Line<T>> = []
  /** Moves with the cost of all lines: a line whose finish tag it has passed is forgotten. */
  private time = 0
  /** The weights of the lines with waiting jobs. */
  private weights = 0
  private readonly durations: Durations

  /** `plain` are the waiting jobs without a share. */
  constructor(plain: List<T>, durations: Durations) {
    this.durations = durations
    const line = this.lineOf(undefined)
    for (let node = plain.first; node !== undefined; node = node.after) {
      node.line = line
      line.size++
      line.tokens += node.tokens
    }
    line.first = plain.first
    line.last = plain.last
    plain.first = plain.last = undefined
    if (line.first !== undefined) this.wake(line, line.first)
  }

  get head(): T | undefined {
    return this.waiting[0]?.first
  }

  get empty(): boolean {
    return this.waiting.length === 0
  }

  get linesWaiting(): ReadonlyArray<Line<T>> {
    return Array.from(this.waiting)
  }

  /** The tokens of the waiting jobs of one key. */
  tokensOf(share: Share | undefined): number {
    return this.lines.get(share?.key)?.tokens ?? 0
  }

  private lineOf(share: Share | undefined): Line<T> {
    const key = share?.key
    let line = this.lines.get(key)
    if (line === undefined) {
      line = {
        fair: this,
        key,
        first: undefined,
        last: undefined,
        size: 0,
        tokens: 0,
        weight: 1,
        running: 0,
        wokenBy: 0,
        raised: 0,
        mean: 0,
        due: 0,
        index: -1
      }
      this.lines.set(key, line)
    }
    if (share !== undefined && share.weight !== line.weight) {
      if (line.first !== undefined) this.weights += share.weight - line.weight
      line.weight = share.weight
    }
    return line
  }

  enqueue(node: T, share: Share | undefined): void {
    const line = this.lineOf(share)
    node.line = line
    append(line, node)
    line.size++
    line.tokens += node.tokens
    if (line.first === node) this.wake(line, node)
  }

  remove(node: T): void {
    // Sound: a node of this queue is in one of its lines.
    const line = node.line as Line<T>
    remove(line, node)
    node.line = undefined
    line.size--
    line.tokens -= node.tokens
    if (line.first !== undefined) return
    DueHeap.remove(this.waiting, line)
    this.weights -= line.weight
    if (line.running === 0) this.rest(line)
  }

  /** The turn of a line without jobs comes when the others have had theirs. */
  private wake(line: Line<T>, { order }: T): void {
    DueHeap.remove(this.resting, line)
    this.weights += line.weight
    const least = this.waiting.length === 0 ? 0 : this.waiting[0]!.due
    line.wokenBy = order
    line.raised = least - line.due
    // The last of those with an equal tag: it does not overtake a heavy job.
    DueHeap.set(this.waiting, line, Math.max(line.due, least))
  }

  private rest(line: Line<T>): void {
    if (line.due > this.time) DueHeap.set(this.resting, line, line.due)
    else this.lines.delete(line.key)
  }

  /** The first job of a line is about to start. Returns what its line is charged with: the cost by the weight of the line. */
  charge(line: Line<T>, weight: number): number {
    const cost = Math.max(1, weight * (line.mean || this.durations.mean))
    this.time = Math.max(this.time, line.due) + cost / this.weights
    line.running++
    const charged = cost / line.weight
    DueHeap.set(this.waiting, line, line.due + charged)
    for (let first = this.resting[0]; first !== undefined && first.due <= this.time; first = this.resting[0]) {
      DueHeap.remove(this.resting, first)
      this.lines.delete(first.key)
    }
    return charged
  }

  /** A job that was charged with `charged` has run for `duration`. `order` is that of its arrival. */
  settle(line: Line<T>, order: number, charged: number, weight: number, duration: number): void {
    line.mean = next(line.mean, duration)
    this.durations.mean = next(this.durations.mean, duration)
    line.running--
    // The weight of the line may be another now.
    let late = weight * duration / line.weight - charged
    if (order < line.wokenBy) {
      // The start tag of the jobs that came since is the larger one of two. The correction moves the other one first.
      const { raised } = line
      line.raised = raised - late
      late += Math.max(0, line.raised) - Math.max(0, raised)
    }
    const due = line.due + late
    if (line.first !== undefined) {
      DueHeap.set(this.waiting, line, due)
    } else {
      line.due = due
      if (line.running === 0) this.rest(line)
    }
  }
}
