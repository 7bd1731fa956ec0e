import { describe, expect, it } from "@effect/vitest"
import { JobQueue, QueueNode } from "../src/internal/scheduler/jobQueue.js"
import { random } from "./support/random.js"

class Node extends QueueNode<Node> {
  readonly priority: number
  readonly tokens = 1
  readonly id: number
  constructor(id: number, priority: number) {
    super()
    this.id = id
    this.priority = priority
  }
}

const drain = (queue: JobQueue<Node>) => {
  const ids: Array<number> = []
  for (let head = queue.head; head !== undefined; head = queue.head) {
    ids.push(head.id)
    queue.remove(head)
  }
  return ids
}

describe("JobQueue", () => {
  it("S2 S3 keeps the order of a plain sorted list under random arrivals and removals from anywhere", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const next = random(seed)
      const queue = new JobQueue<Node>()
      const model: Array<Node> = []
      for (let id = 0; id < 400; id++) {
        if (model.length > 0 && next(5) < 2) {
          const [gone] = model.splice(next(model.length), 1)
          queue.remove(gone!)
        } else {
          const node = new Node(id, next(1 + seed) - 3)
          let at = model.length
          while (at > 0 && model[at - 1]!.priority < node.priority) at--
          model.splice(at, 0, node)
          queue.enqueue(node)
        }
        expect(queue.size).toBe(model.length)
        expect(queue.head).toBe(model[0])
      }
      expect(drain(queue)).toEqual(model.map((node) => node.id))
    }
  })

  it("O1 S4 counts the tokens in front of a job, where they have 256 priorities at most; else those of twice as many at most", () => {
    const queue = new JobQueue<Node>()
    for (let id = 0; id < 6000; id++) queue.enqueue(new Node(id, (7 * id) % 3000))
    const before = (priority: number) => queue.tokensBefore(priority, undefined)
    expect([3000, 2999, 2998, 2743, 2998.5].map(before)).toEqual([0, 2, 4, 2 * 257, 2])
    for (const priority of [2500, 1000, 0, -1]) {
      expect(before(priority)).toBeGreaterThan(2 * 256)
      expect(before(priority)).toBeLessThanOrEqual(2 * 514)
    }
  })

  it("S2 S3 queues that are merged keep the order of arrival within each priority", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const next = random(seed)
      const [queue, other] = [new JobQueue<Node>(), new JobQueue<Node>()]
      const nodes = Array.from({ length: 50 }, (_, id) => new Node(id, next(3)))
      for (const node of nodes) {
        node.order = node.id
        ;(next(2) === 0 ? queue : other).enqueue(node)
      }
      queue.absorb(other)
      expect(queue.size).toBe(50)
      expect(drain(queue)).toEqual(
        [2, 1, 0].flatMap((priority) => nodes.filter((node) => node.priority === priority).map((node) => node.id))
      )
    }
  })

  it("visits everything, and what it visits may be removed on the way", () => {
    const queue = new JobQueue<Node>()
    for (let id = 0; id < 30; id++) queue.enqueue(new Node(id, id % 5))
    const seen: Array<number> = []
    queue.forEach((node) => {
      seen.push(node.id)
      if (node.id % 2 === 0 || node.priority === 3) queue.remove(node)
    })
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, id) => id))
    expect(drain(queue)).toEqual([9, 19, 29, 7, 17, 27, 1, 11, 21, 5, 15, 25])
  })
})
