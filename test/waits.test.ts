/** The graph beside brute force, and an engine whose lenders come and go by random edges. */
import { describe, expect, it } from "@effect/vitest"
import { Scheduler as FiberScheduler } from "effect"
import { Engine, Job } from "../src/internal/scheduler.js"
import { closes, cycleOf, Edge, endUnsafe, type Node, reviewBelow } from "../src/internal/waits/waits.js"
import { random } from "./support/random.js"

class Plain implements Node {
  readonly kind = "run"
  readonly outer = undefined
  ended = false
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  mark = 0
}
class TestJob extends Job {
  onStart() {}
  onFailure() {}
  onClose() {}
}

describe("waits", () => {
  it("R7 a path is found exactly when there is one", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const next = random(seed)
      const nodes = Array.from({ length: 3 + next(12) }, () => new Plain())
      const edges: Array<Edge> = []
      let found = 0
      for (let step = 0; step < 120; step++) {
        const from = nodes[next(nodes.length)]!
        const to = nodes[next(nodes.length)]!
        if (next(4) === 0 && edges.length > 0) edges.splice(next(edges.length), 1)[0]!.remove()
        else {
          const live = edges.filter((edge) => edge.from !== undefined)
          const seen = new Set<Node>([to])
          for (const one of seen) for (const edge of live) if (edge.from === one) seen.add(edge.to)
          expect(closes(from, to)).toBe(seen.has(from))
          if (seen.has(from)) {
            found++
            const path = cycleOf(from, to)
            expect([path[0], path[1], path.at(-1)]).toEqual([from, to, from])
            for (let i = 1; i + 1 < path.length; i++) {
              expect(live.some((edge) => edge.from === path[i] && edge.to === path[i + 1])).toBe(true)
            }
          } else edges.push(new Edge(from, to))
        }
        if (next(30) === 0) endUnsafe(nodes[next(nodes.length)]!)
      }
      expect(found).toBeGreaterThan(0)
    }
  })

  it("S1 S5 H6 a queued job has a place exactly in the nearest running jobs that wait for it, and nobody is left behind", () => {
    let late = 0
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed)
      const dispatcher = new FiberScheduler.MixedScheduler().makeDispatcher()
      const engines = [1, 2].map(() =>
        new Engine({ concurrency: 1 + next(4), maxQueued: Infinity, limiter: undefined, dispatcher })
      )
      const runs = Array.from({ length: 5 }, () => new Plain())
      const jobs: Array<TestJob> = []
      const edges: Array<Edge> = []
      const engineOf = new Map<Job, Engine>()
      const live = (): Array<Node> => [...runs, ...jobs.filter((job) => job.state === "Running")]
      for (let step = 0; step < 120; step++) {
        const what = next(12)
        if (what < 5) {
          const all = live()
          const job = new TestJob(1 + next(2), 1, next(2), next(3) === 0 ? undefined : all[next(all.length)]!, true)
          const engine = engines[next(2)]!
          jobs.push(job)
          engineOf.set(job, engine)
          engine.submitUnsafe(job)
        } else if (what < 8 && jobs.length > 0) {
          const job = jobs[next(jobs.length)]!
          engineOf.get(job)!.releaseUnsafe(job)
        } else if (what < 10) {
          const all = live()
          const from = all[next(all.length)]!
          const to = runs[next(runs.length)]!
          if (!closes(from, to)) {
            edges.push(new Edge(from, to))
            reviewBelow(to)
            late++
          }
        } else if (what === 10 && edges.length > 0) {
          const edge = edges.splice(next(edges.length), 1)[0]!
          if (edge.remove()) reviewBelow(edge.to)
        } else engines[next(2)]!.resizeUnsafe(2 + next(3))
        for (const engine of engines) {
          const own = jobs.filter((job) => engineOf.get(job) === engine)
          const queued = own.filter((job) => job.state === "Queued")
          const running = own.filter((job) => job.state === "Running")
          expect([engine.queued, engine.running]).toEqual([queued.length, running.length])
          expect(engine.main.queue.size).toBe(queued.length)
          const lent = new Map<Job | undefined, number>()
          for (const job of running) {
            let lane = job.lane!
            while (lane.forward !== undefined) lane = lane.forward
            lent.set(lane.lender, (lent.get(lane.lender) ?? 0) + job.width)
          }
          expect(engine.main.used).toBe(lent.get(undefined) ?? 0)
          for (const job of running) {
            expect(job.own?.used ?? 0).toBe(lent.get(job) ?? 0)
            expect(job.own?.used ?? 0).toBeLessThanOrEqual(job.width)
          }
          for (const job of queued) {
            const lenders = new Set<Node>()
            const seen = new Set<Node>([job])
            for (const node of seen) {
              for (let edge = node.waiters; edge !== undefined; edge = edge.nextIn) {
                const from = edge.from!
                if (from instanceof Job && from.state === "Running" && engineOf.get(from) === engine) lenders.add(from)
                else seen.add(from)
              }
            }
            const places = new Set<Node>()
            for (let place = job.places; place !== undefined; place = place.more) places.add(place.lane.lender!)
            expect(places).toEqual(lenders)
          }
          for (const lane of [engine.main, ...running.flatMap((job) => job.own ?? [])]) {
            const head = lane.head
            if (head === undefined) continue
            const asks = lane === engine.main ? head.weight : Math.min(head.weight, lane.capacity)
            expect(lane.used + asks).toBeGreaterThan(lane.capacity)
          }
        }
      }
      for (const engine of engines) engine.resizeUnsafe(9)
      for (const job of jobs) engineOf.get(job)!.releaseUnsafe(job)
      for (const engine of engines) {
        expect([engine.queued, engine.running, engine.main.used]).toEqual([0, 0, 0])
        expect(engine["inside"]).toBe(0)
      }
    }
    expect(late).toBeGreaterThan(500)
  })
})
