/**
 * A queue of intrusive nodes: first come first served within a priority, a larger priority first.
 *
 * A node is its own list link, so that enqueue and removal allocate nothing. The levels, one for each priority, form an
 * indexed binary heap (Williams, 1964): a level that empties leaves it at once, from wherever it is, and so priorities
 * that came and went cost nothing. Head O(1); enqueue and removal O(1) within a level and O(log p) when one appears or
 * goes, with p priorities in use.
 */

import * as DueHeap from "../data/dueHeap.js"
import { append, insert, type List, type Member, remove } from "../data/list.js"

/** A member of a queue, with the links of the queue. It is in one queue at a time. */
export abstract class QueueNode<T extends QueueNode<T>> implements Member<T> {
  abstract readonly priority: number
  /** Its order of arrival, for queues that are merged. */
  order = 0
  level: Level<T> | undefined = undefined
  before: T | undefined = undefined
  after: T | undefined = undefined
}

interface Level<T> extends List<T>, DueHeap.Member {
  readonly priority: number
}

export class JobQueue<T extends QueueNode<T>> {
  size = 0
  private readonly heap: Array<Level<T>> = []
  private readonly levels = new Map<number, Level<T>>()
  /** The level used last: nearly every queue has one priority. */
  private recent: Level<T> | undefined = undefined

  get head(): T | undefined {
    return this.size === 0 ? undefined : this.heap[0]!.first
  }

  enqueue(node: T): void {
    const level = this.levelOf(node.priority)
    node.level = level
    append(level, node)
    this.size++
  }

  remove(node: T): void {
    const level = node.level!
    remove(level, node)
    node.level = undefined
    this.size--
    // The last level stays, or it would come and go with each job.
    if (level.first === undefined && this.heap.length > 1) this.drop(level)
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
        insert(level, at, node)
        this.size++
        node = next
      }
    }
  }

  /** In the order in which they would leave within each priority; the visitor may remove the node it is given. */
  forEach(visit: (node: T) => void): void {
    for (const level of Array.from(this.heap)) {
      let node = level.first
      while (node !== undefined) {
        const next: T | undefined = node.after
        visit(node)
        node = next
      }
    }
  }

  private levelOf(priority: number): Level<T> {
    const recent = this.recent
    if (recent !== undefined && recent.priority === priority && recent.index >= 0) return recent
    let level = this.levels.get(priority)
    if (level === undefined) {
      // The one level kept although empty must not stay on top of the others.
      if (this.size === 0 && this.heap.length === 1) this.drop(this.heap[0]!)
      level = { priority, first: undefined, last: undefined, due: 0, index: -1 }
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
