/**
 * A queue of intrusive nodes: first come first served within a priority, a larger priority first.
 *
 * A node is its own list link, so that enqueue and removal allocate nothing. The levels, one a priority in use, form an
 * indexed binary heap (Williams, 1964): a level that empties leaves it at once, from wherever it is, and so priorities
 * that came and went cost nothing. Head O(1); enqueue and removal O(1) within a level and O(log p) when one appears or
 * goes, with p priorities in use.
 */

/**
 * What a queue keeps in the things it queues. A node is in one queue at a time.
 */
export abstract class QueueNode<T extends QueueNode<T>> {
  abstract readonly priority: number
  /** When it came, for queues that become one. */
  order = 0
  level: Level<T> | undefined = undefined
  prev: T | undefined = undefined
  next: T | undefined = undefined
}

interface Level<T> {
  readonly priority: number
  head: T | undefined
  tail: T | undefined
  /** Its place in the heap, −1 while it is out. */
  index: number
}

export class JobQueue<T extends QueueNode<T>> {
  size = 0
  private readonly heap: Array<Level<T>> = []
  private readonly levels = new Map<number, Level<T>>()
  /** The level used last: nearly every queue has one priority. */
  private recent: Level<T> | undefined = undefined

  get head(): T | undefined {
    return this.size === 0 ? undefined : this.heap[0]!.head
  }

  enqueue(node: T): void {
    const level = this.levelOf(node.priority)
    node.level = level
    node.prev = level.tail
    node.next = undefined
    if (level.tail === undefined) level.head = node
    else level.tail.next = node
    level.tail = node
    this.size++
  }

  remove(node: T): void {
    const level = node.level!
    if (node.prev === undefined) level.head = node.next
    else node.prev.next = node.next
    if (node.next === undefined) level.tail = node.prev
    else node.next.prev = node.prev
    node.level = node.prev = node.next = undefined
    this.size--
    // The last level stays: one that is used again at once would come and go with each job.
    if (level.head === undefined && this.heap.length > 1) this.drop(level)
  }

  /** Takes over all of another queue, which is given up; what came first stays in front. */
  absorb(that: JobQueue<T>): void {
    for (const { tail } of that.heap) {
      if (tail === undefined) continue
      const level = this.levelOf(tail.priority)
      let at = level.tail
      for (let node: T | undefined = tail; node !== undefined;) {
        const before: T | undefined = node.prev
        while (at !== undefined && at.order > node.order) at = at.prev
        const after: T | undefined = at === undefined ? level.head : at.next
        node.level = level
        node.prev = at
        node.next = after
        if (at === undefined) level.head = node
        else at.next = node
        if (after === undefined) level.tail = node
        else after.prev = node
        this.size++
        node = before
      }
    }
  }

  /** In the order in which they would leave within each priority; the visitor may remove the node it is given. */
  forEach(visit: (node: T) => void): void {
    for (const level of Array.from(this.heap)) {
      let node = level.head
      while (node !== undefined) {
        const next: T | undefined = node.next
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
      level = { priority, head: undefined, tail: undefined, index: this.heap.length }
      this.levels.set(priority, level)
      this.heap.push(level)
      this.up(level)
    }
    this.recent = level
    return level
  }

  private drop(level: Level<T>): void {
    const last = this.heap.pop()!
    if (last !== level) {
      this.put(last, level.index)
      this.up(last)
      this.down(last)
    }
    level.index = -1
    this.levels.delete(level.priority)
  }

  private put(level: Level<T>, index: number): void {
    this.heap[index] = level
    level.index = index
  }

  private up(level: Level<T>): void {
    let index = level.index
    while (index > 0) {
      const parent = this.heap[(index - 1) >> 1]!
      if (parent.priority >= level.priority) break
      this.put(parent, index)
      index = (index - 1) >> 1
    }
    this.put(level, index)
  }

  private down(level: Level<T>): void {
    let index = level.index
    while (true) {
      let child = 2 * index + 1
      if (child >= this.heap.length) break
      if (child + 1 < this.heap.length && this.heap[child + 1]!.priority > this.heap[child]!.priority) child++
      if (this.heap[child]!.priority <= level.priority) break
      this.put(this.heap[child]!, index)
      index = child
    }
    this.put(level, index)
  }
}
