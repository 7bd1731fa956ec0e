/**
 * A queue of intrusive nodes: first come first served within a priority, a larger priority first.
 *
 * A node is its own list link, so that enqueue and removal allocate nothing. The levels, one for each priority, form an
 * indexed binary heap (Williams, 1964): a level that empties leaves it at once, from wherever it is, and so priorities
 * that came and went cost nothing. Head O(1); enqueue and removal O(1) within a level and O(log p) when one appears or
 * goes, with p priorities in use.
 *
 * As long as jobs with a share wait, a level has a line for each key instead of one list.
 */

import * as DueHeap from "../data/dueHeap.js"
import { append, insert, type List, type Member, remove } from "../data/list.js"
import { type Durations, FairQueue, type Line, type Share } from "./fairQueue.js"

/** A member of a queue, with the links of the queue. It is in one queue at a time. */
export abstract class QueueNode<T extends QueueNode<T>> implements Member<T> {
  abstract readonly priority: number
  abstract readonly tokens: number
  /** Its order of arrival, for queues that are merged. */
  order = 0
  level: Level<T> | undefined = undefined
  /** Its line, where its level has lines. */
  line: Line<T> | undefined = undefined
  before: T | undefined = undefined
  after: T | undefined = undefined
}

/** A list while no job has a share; then `fair` has a line for each key. */
interface Level<T extends QueueNode<T>> extends List<T>, DueHeap.Member {
  readonly priority: number
  size: number
  /** The tokens of its jobs. */
  tokens: number
  fair: FairQueue<T> | undefined
}

/** Of how many higher priorities a job that comes counts the tokens: each job might have one of its own. */
const higherCounted = 256

/** The lists of a level with jobs, in no order. */
const linesOf = <T extends QueueNode<T>>(level: Level<T>): ReadonlyArray<Level<T> | Line<T>> =>
  level.fair === undefined ? [level] : level.fair.linesWaiting

export class JobQueue<T extends QueueNode<T>> {
  size = 0
  private readonly heap: Array<Level<T>> = []
  private readonly levels = new Map<number, Level<T>>()
  /** The level used last: nearly every queue has one priority. */
  private recent: Level<T> | undefined = undefined
  private durations: Durations | undefined = undefined

  get head(): T | undefined {
    if (this.size === 0) return undefined
    const level = this.heap[0]!
    return level.fair === undefined ? level.first : level.fair.head
  }

  enqueue(node: T, share?: Share | undefined): void {
    const level = this.levelOf(node.priority)
    node.level = level
    level.tokens += node.tokens
    level.size++
    this.size++
    if (share !== undefined) level.fair ??= new FairQueue(level, this.durations ??= { mean: 0 })
    if (level.fair === undefined) append(level, node)
    else level.fair.enqueue(node, share)
  }

  remove(node: T): void {
    const level = node.level!
    node.level = undefined
    level.tokens -= node.tokens
    level.size--
    this.size--
    if (level.fair === undefined) {
      remove(level, node)
    } else {
      level.fair.remove(node)
      if (!level.fair.empty) return
      // Nobody waits for anybody: the cost of the lines is forgotten.
      level.fair = undefined
    }
    // The last level stays, or it would come and go with each job.
    if (level.first === undefined && this.heap.length > 1) this.drop(level)
  }

  /** The tokens of the jobs that start before one that comes now, as far as that is certain. */
  tokensBefore(priority: number, share: Share | undefined): number {
    const own = this.levels.get(priority)
    let tokens = 0
    if (own?.fair !== undefined) tokens = own.fair.tokensOf(share)
    // The first share makes the level one with lines.
    else if (own !== undefined && share === undefined) tokens = own.tokens
    for (const level of DueHeap.dueBefore(this.heap, -priority, higherCounted)) tokens += level.tokens
    return tokens
  }

  /** Visits each node with the tokens of those before it, as `tokensBefore` counts them. One that leaves does not count. */
  forEachBehind(leaves: (node: T, before: number) => boolean): void {
    let above = 0
    for (const level of this.heap.toSorted((a, b) => b.priority - a.priority)) {
      let all = above
      for (const { first } of linesOf(level)) {
        let before = above
        for (let node = first; node !== undefined; node = node.after) {
          if (!leaves(node, before)) before += node.tokens
        }
        all += before - above
      }
      above = all
    }
  }

  /** Takes over the members of another queue, in their order of arrival. The other queue is not used again. */
  absorb(that: JobQueue<T>): void {
    for (const { last } of that.heap) {
      if (last === undefined) continue
      const level = this.levelOf(last.priority)
      let at = level.last
      for (let node: T | undefined = last; node !== undefined;) {
        const next: T | undefined = node.before
        while (at !== undefined && at.order > node.order) at = at.before
        node.level = level
        level.tokens += node.tokens
        level.size++
        insert(level, at, node)
        this.size++
        node = next
      }
    }
  }

  /** In the order in which they would leave within each priority; the visitor may remove the node it is given. */
  forEach(visit: (node: T) => void): void {
    for (const { first } of this.heap.flatMap(linesOf)) {
      for (let node = first; node !== undefined;) {
        const next: T | undefined = node.after
        visit(node)
        node = next
      }
    }
  }

  /** The node that came first, whenever its turn is. */
  get oldest(): T | undefined {
    let oldest: T | undefined
    for (const { first } of this.heap.flatMap(linesOf)) {
      if (first !== undefined && (oldest === undefined || first.order < oldest.order)) oldest = first
    }
    return oldest
  }

  /** The number of jobs of each priority, the highest first. */
  byPriority(): Array<{ readonly priority: number; readonly queued: number }> {
    return this.heap.filter((level) => level.size > 0)
      .map((level) => ({ priority: level.priority, queued: level.size }))
      .sort((a, b) => b.priority - a.priority)
  }

  /** The number of jobs of each key of a share; those without one are `undefined`. */
  byShare(): Array<{ readonly key: unknown; readonly queued: number }> {
    const sizes = new Map<unknown, number>()
    for (const line of this.heap.flatMap(linesOf)) {
      const key = "key" in line ? line.key : undefined
      if (line.size > 0) sizes.set(key, (sizes.get(key) ?? 0) + line.size)
    }
    return Array.from(sizes, ([key, queued]) => ({ key, queued }))
  }

  private levelOf(priority: number): Level<T> {
    const recent = this.recent
    if (recent !== undefined && recent.priority === priority && recent.index >= 0) return recent
    let level = this.levels.get(priority)
    if (level === undefined) {
      // The one level kept although empty must not stay on top of the others.
      if (this.size === 0 && this.heap.length === 1) this.drop(this.heap[0]!)
      level = { priority, first: undefined, last: undefined, size: 0, tokens: 0, fair: undefined, due: 0, index: -1 }
      this.levels.set(priority, level)
      DueHeap.set(this.heap, level, -priority)
    }
    this.recent = level
    return level
  }

  private drop(level: Level<T>): void {
    DueHeap.remove(this.heap, level)
    this.levels.delete(level.priority)
  }
}
