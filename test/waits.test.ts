/** Compares the wait graph with brute force, and runs an engine whose lenders change by random edges. */
import { describe, expect, it } from "@effect/vitest"
import type { Scheduler as FiberScheduler } from "effect"
import { Engine } from "../src/internal/scheduler/engine.js"
import { Job } from "../src/internal/scheduler/job.js"
import { oneJob, unbounded } from "../src/internal/scheduler/options.js"
import {
  changes,
  closes,
  cycleOf,
  Edge,
  endUnsafe,
  findAbove,
  type Inside,
  isAbove,
  type Node
} from "../src/internal/waits/waits.js"
import { ownLane } from "./support/ownLane.js"
import { place } from "./support/place.js"
import { random } from "./support/random.js"

/** Counts the visits to a node. */
let visits = 0

class Plain implements Node {
  readonly kind = "run"
  readonly outer = undefined
  ended = false
  waiters: Edge | undefined = undefined
  inside: Inside | undefined = undefined
  mark = 0
  private edges: Edge | undefined = undefined
  get waits(): Edge | undefined {
    visits++
    return this.edges
  }
  set waits(edge: Edge | undefined) {
    this.edges = edge
  }
}
class TestJob extends Job {
  readonly begin: (job: TestJob) => void
  constructor(
    options: { weight?: number; priority?: number; outer?: Node | undefined; tokens?: number } = {},
    begin: (job: TestJob) => void = () => {}
  ) {
    const { outer, priority = 0, tokens = 1, weight = 1 } = options
    super({ ...oneJob, weight, tokens, priority }, outer, true)
    this.begin = begin
  }
  onStart() {
    this.begin(this)
  }
  onFailure() {}
  onClose() {}
}

const makeEngine = (concurrency: number) => {
  const tasks: Array<() => void> = []
  const dispatcher: FiberScheduler.SchedulerDispatcher = {
    scheduleTask: (task) => void tasks.push(task),
    flush: () => {
      for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) task()
    }
  }
  const engine = new Engine({ ...unbounded("test"), concurrency }, { ...place, dispatcher })
  return { engine, settle: dispatcher.flush }
}

/** The process counts them: tests of other files may have left some. */
const counted = () => [changes.listeners, changes.blocked]

/** The texts of what does not hold. */
const broken = (claims: Record<string, boolean>): ReadonlyArray<string> =>
  Object.keys(claims).filter((claim) => claims[claim] !== true)

/** The nodes that wait for a node, by brute force. */
const aboveOf = (node: Node, edges: ReadonlyArray<Edge>): Set<Node> => {
  const found = new Set<Node>()
  if (node.outer !== undefined) found.add(live(node.outer))
  for (const { from, to } of edges) if (from !== undefined && to === node) found.add(from)
  found.delete(nobody)
  return found
}
const nobody = new Plain()
const live = (node: Node): Node => {
  let at: Node | undefined = node
  while (at?.ended === true) at = at.outer
  return at ?? nobody
}

describe("waits", () => {
  it("R7 The graph finds a path exactly if one exists, also through running jobs", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const next = random(seed)
      const { engine } = makeEngine(Infinity)
      const nodes: Array<Node> = Array.from({ length: 3 + next(8) }, () => new Plain())
      const edges: Array<Edge> = []
      let found = 0
      let wrong = 0
      for (let step = 0; step < 120; step++) {
        const alive = nodes.filter((node) => !node.ended)
        if (next(10) === 0) {
          const job = new TestJob({ outer: alive[next(alive.length)]! })
          engine.submitUnsafe(job)
          nodes.push(job)
          continue
        }
        const from = alive[next(alive.length)]!
        const to = alive[next(alive.length)]!
        if (next(4) === 0 && edges.length > 0) edges.splice(next(edges.length), 1)[0]!.remove()
        else {
          const seen = new Set<Node>([from])
          for (const one of seen) for (const over of aboveOf(one, edges)) seen.add(over)
          if (closes(from, to) !== seen.has(to)) wrong++
          if (seen.has(to)) {
            found++
            const path = cycleOf(from, to)
            const ends = path[0] === from && path[1] === to && path.at(-1) === from
            const steps = path.slice(2).every((node, i) => aboveOf(node, edges).has(path[i + 1]!))
            if (!ends || !steps) wrong++
          } else if (to.kind === "run") edges.push(new Edge(from, to))
        }
        const job = nodes[next(nodes.length)]!
        if (next(10) === 0 && job instanceof TestJob) engine.releaseUnsafe(job)
      }
      expect(wrong).toBe(0)
      expect(found).toBeGreaterThan(0)
      for (const node of nodes) if (node instanceof TestJob) engine.releaseUnsafe(node)
      for (const node of nodes) if (node instanceof Plain) endUnsafe(node)
    }
  })

  it(
    "S1 S2 S5 who starts is the first of all in free width, or the first below a job that waits for it in the width of that one; nobody who could start is left behind",
    () => {
      const before = counted()
      const counts = { late: 0, lent: 0, recharged: 0, blocked: 0, strangers: 0 }
      for (let seed = 1; seed <= 120; seed++) {
        const next = random(seed)
        const made = [1, 2].map(() => makeEngine(1 + next(4)))
        const engines = made.map(({ engine }) => engine)
        const runs = Array.from({ length: 5 }, () => new Plain())
        const jobs: Array<TestJob> = []
        const edges: Array<Edge> = []
        const engineOf = new Map<Job, Engine>()
        const problems: Array<string> = []
        const heaviest = 1 + next(3)
        const alive = (): Array<Node> => [
          ...runs.filter((run) => !run.ended),
          ...jobs.filter((job) => job.state === "Running")
        ]
        /** The running jobs of an engine that wait for a job: all of them, or the nearest on each path. */
        const lendersOf = (job: Job, all: boolean): Set<Node> => {
          const lenders = new Set<Node>()
          const seen = new Set<Node>([job])
          for (const node of seen) {
            for (const over of aboveOf(node, edges)) {
              const lends = over instanceof TestJob && over.state === "Running" &&
                engineOf.get(over) === engineOf.get(job)
              if (lends) lenders.add(over)
              if (!lends || all) seen.add(over)
            }
          }
          return lenders
        }
        const queuedOf = (engine: Engine) =>
          jobs.filter((job) => job.state === "Queued" && engineOf.get(job) === engine)
        const firstOf = (queued: ReadonlyArray<TestJob>): TestJob | undefined =>
          queued.toSorted((x, y) => y.priority - x.priority || x.order - y.order)[0]
        const belowOf = (lender: Job, all = false) =>
          queuedOf(engineOf.get(lender)!).filter((job) => lendersOf(job, all).has(lender))
        const onStart = (job: TestJob) => {
          const engine = engineOf.get(job)!
          const lane = job.lane!
          if (lane !== engine.main) {
            counts.lent++
            if (!lendersOf(job, true).has(lane.node!)) {
              problems.push("S5 it runs in the width of one that does not wait for it")
            }
            if (lane.used > lane.capacity) problems.push("S5 more than is lent")
            const strangers = engine.lanes.lenders["strangers"] - Number(job.tied.stranger)
            if (strangers === 0 && !lendersOf(job, false).has(lane.node!)) problems.push("S5 another lends to it")
          }
          const rivals = lane === engine.main ? queuedOf(engine) : belowOf(lane.node as Job)
          const first = firstOf([job, ...rivals])
          if (job.order > 0 && first !== job) problems.push("S2 it overtook another")
        }
        for (let step = 0; step < 100; step++) {
          const what = next(13)
          const all = alive()
          if (what < 5) {
            const outer = next(3) === 0 ? undefined : all[next(all.length)]!
            const job = new TestJob({ weight: 1 + next(heaviest), priority: next(2), outer }, onStart)
            jobs.push(job)
            const engine = engines[next(2)]!
            engineOf.set(job, engine)
            engine.submitUnsafe(job)
          } else if (what < 8 && jobs.length > 0) {
            const job = jobs[next(jobs.length)]!
            engineOf.get(job)!.releaseUnsafe(job)
          } else if (what < 10) {
            const from = all[next(all.length)]!
            const to = runs[next(runs.length)]!
            if (!to.ended && !closes(from, to)) {
              edges.push(new Edge(from, to))
              counts.late++
            }
          } else if (what === 10 && edges.length > 0) {
            edges.splice(next(edges.length), 1)[0]!.remove()
          } else if (what === 11 && next(4) === 0) {
            const at = next(runs.length)
            runs[at]!.ended = true
            endUnsafe(runs[at]!)
            runs[at] = new Plain()
          } else if (what === 12) engines[next(2)]!.resizeUnsafe(2 + next(3))
          for (const { settle } of made) settle()
          expect(problems, `seed ${seed} step ${step}`).toEqual([])
          counts.blocked += changes.blocked
          for (const engine of engines) {
            const own = jobs.filter((job) => engineOf.get(job) === engine)
            const queued = queuedOf(engine)
            const running = own.filter((job) => job.state === "Running")
            expect([engine.queued, engine.running]).toEqual([queued.length, running.length])
            expect(engine.main.queue.size).toBe(queued.length)
            const charged = new Map<Node | undefined, number>()
            for (const job of running) {
              let lane = job.lane!
              while (lane.forward !== undefined) lane = lane.forward
              charged.set(lane.node, (charged.get(lane.node) ?? 0) + job.width)
            }
            expect(engine.main.used).toBe(charged.get(undefined) ?? 0)
            const first = firstOf(queued)
            const { capacity, head, used } = engine.main
            expect(head).toBe(first)
            const strangers = engine.lanes.lenders["strangers"] > 0
            if (strangers) counts.strangers++
            const claims = {
              "S1 who is the first of all does not fit": first === undefined || used + first.weight > capacity
            }
            expect(broken(claims), `seed ${seed} step ${step}`).toEqual([])
            for (const job of running) {
              const lane = ownLane(job)
              expect(lane?.used ?? 0).toBe(charged.get(job) ?? 0)
              const room = job.width - (lane?.used ?? 0)
              const below = firstOf(belowOf(job))
              const first = strangers ? firstOf(belowOf(job, true)) : below
              const fits = (inner: TestJob | undefined) =>
                inner !== undefined && Math.min(inner.weight, job.width) <= room
              const free = running.some((inner) => inner.outer === job && inner.lane === engine.main)
              if (free && below === undefined) counts.recharged++
              const inner = lane?.first
              const lends = {
                "S5 no more than it has": room >= 0,
                "S5 who is the first below does not fit": !fits(below) || !fits(first),
                "S5 who runs in free width does not fit": !free || below !== undefined ||
                  (inner?.lane === engine.main && inner.width > room)
              }
              expect(broken(lends), `seed ${seed} step ${step}`).toEqual([])
            }
          }
        }
        for (const engine of engines) engine.resizeUnsafe(9)
        for (const job of jobs) engineOf.get(job)!.releaseUnsafe(job)
        for (const { engine, settle } of made) {
          settle()
          expect([engine.queued, engine.running, engine.main.used, engine.lanes["inside"]]).toEqual([0, 0, 0, 0])
        }
        for (const run of runs) endUnsafe(run)
        expect(counted()).toEqual(before)
      }
      expect(counts.late).toBeGreaterThan(500)
      expect(counts.lent).toBeGreaterThan(500)
      expect(counts.recharged).toBeGreaterThan(50)
      expect(counts.blocked).toBeGreaterThan(50)
      expect(counts.strangers).toBeGreaterThan(50)
    },
    60_000
  )

  it("S5 if every job that waits for nothing ends, all jobs end", () => {
    const before = counted()
    let lent = 0
    for (let seed = 1; seed <= 20_000; seed++) {
      const next = random(seed)
      const { engine, settle } = makeEngine(next(4) === 0 ? 2 : 1)
      const heaviest = 1 + next(2)
      // In every second seed, all paths exist before most of the jobs.
      const settled = seed % 2 === 0
      const runs: Array<Plain> = []
      const jobs: Array<TestJob> = []
      const edges: Array<Edge> = []
      const pick = <A>(of: ReadonlyArray<A>): A | undefined => of[next(of.length)]
      const there = (state: Job["state"]) => jobs.filter((job) => job.state === state)
      const end = (run: Plain) => {
        run.ended = true
        endUnsafe(run)
      }
      for (let steps = 10 + next(40); steps > 0; steps--) {
        const open = runs.filter((run) => !run.ended)
        const alive = [...open, ...there("Running")]
        const what = settled && steps < 25 ? pick([0, 0, 8, 8, 9, 9])! : next(12)
        if (what < 4) {
          const outer = next(6) === 0 ? undefined : pick(alive)
          const job = new TestJob({ weight: 1 + next(heaviest), priority: next(2), outer }, (job) => {
            if (job.lane !== engine.main) lent++
          })
          jobs.push(job)
          engine.submitUnsafe(job)
        } else if (what < 8) {
          const from = pick(alive)
          let to = pick(open)
          if (to === undefined || (open.length < 3 && next(3) === 0)) runs.push(to = new Plain())
          if (from !== undefined && !closes(from, to)) edges.push(new Edge(from, to))
        } else if (what < 10) {
          const job = pick(there(what === 8 ? "Queued" : "Running"))
          if (job !== undefined) engine.releaseUnsafe(job)
        } else if (what === 10) pick(edges)?.remove()
        else if (open.length > 0) end(pick(open)!)
        settle()
      }
      for (let again = true; again;) {
        again = false
        const rests = (node: Node) =>
          edges.every(({ from }) => from !== node) &&
          jobs.every((job) => job.state === "Done" || job.outer === undefined || live(job.outer) !== node)
        for (const run of runs) {
          if (run.ended || !rests(run)) continue
          end(run)
          again = true
        }
        for (const job of there("Running")) {
          if (!rests(job)) continue
          engine.releaseUnsafe(job)
          again = true
        }
        settle()
      }
      expect([engine.queued, engine.running, engine.main.used, engine.lanes["inside"]], `seed ${seed}`).toEqual([
        0,
        0,
        0,
        0
      ])
      expect(counted()).toEqual(before)
      expect(runs.every((run) => run.ended)).toBe(true)
    }
    expect(lent).toBeGreaterThan(20_000)
  })

  it("R7 the node that a job was made in is above the job", () => {
    const [run, other] = [new Plain(), new Plain()]
    const job = new TestJob({ outer: run })
    expect([run, other].map((node) => isAbove(job, (above) => above === node))).toEqual([true, false])
  })

  it("R7 A search upwards does not go on beyond a node at which it is told to stop", () => {
    const [first, second, third] = [new Plain(), new Plain(), new Plain()]
    void [new Edge(second, first), new Edge(third, second)]
    const seen: Array<Node> = []
    findAbove(first, (node) => {
      seen.push(node)
      return node === second ? undefined : false
    })
    expect(seen).toEqual([second])
  })

  it("R7 of several ways that close a cycle, the shortest is told", () => {
    const [from, to, short, long] = [new Plain(), new Plain(), new Plain(), new Plain()]
    const edges = [new Edge(to, long), new Edge(long, short), new Edge(short, from), new Edge(to, short)]
    expect(cycleOf(from, to)).toEqual([from, to, short, from])
    for (const edge of edges) edge.remove()
  })

  it("S5 A job that has lent all its width and got it back lends to the next job made in a run it waits for, whether or not others are queued", () => {
    for (const others of [0, 1]) {
      const { engine, settle } = makeEngine(1)
      const lender = new TestJob()
      const run = new Plain()
      engine.submitUnsafe(lender)
      const edge = new Edge(lender, run)
      const queued = Array.from({ length: others }, () => new TestJob())
      for (const job of queued) engine.submitUnsafe(job)
      const [first, gaveUp, next] = [
        new TestJob({ outer: run }),
        new TestJob({ outer: run }),
        new TestJob({ outer: run })
      ]
      engine.submitUnsafe(first)
      engine.submitUnsafe(gaveUp)
      expect([first.state, gaveUp.state]).toEqual(["Running", "Queued"])
      engine.releaseUnsafe(gaveUp)
      engine.releaseUnsafe(first)
      engine.submitUnsafe(next)
      settle()
      expect(next.state).toBe("Running")
      for (const job of [next, lender, ...queued]) engine.releaseUnsafe(job)
      endUnsafe(run)
      expect(edge.remove()).toBe(false)
    }
  })

  it("S2 a job of higher priority starts in a lender's width although a heavier job blocks that width", () => {
    const { engine, settle } = makeEngine(2)
    const [lender, run] = [new TestJob({ weight: 2 }), new Plain()]
    engine.submitUnsafe(lender)
    const edge = new Edge(lender, run)
    const [light, heavy] = [new TestJob({ outer: lender }), new TestJob({ weight: 2, outer: lender })]
    const [equal, urgent] = [new TestJob({ outer: run }), new TestJob({ outer: run, priority: 1 })]
    for (const job of [light, heavy, equal, urgent]) engine.submitUnsafe(job)
    settle()
    expect([light, heavy, equal, urgent].map((job) => job.state)).toEqual(["Running", "Queued", "Queued", "Running"])
    for (const job of [heavy, equal, light, urgent, lender]) engine.releaseUnsafe(job)
    endUnsafe(run)
    expect(edge.remove()).toBe(false)
  })

  it("S5 a job whose width is held by a job that waits for it goes on in the width that this job lends", () => {
    const before = counted()
    const { engine, settle } = makeEngine(1)
    const [batch, run] = [new Plain(), new Plain()]
    const lender = new TestJob({ outer: batch })
    engine.submitUnsafe(lender)
    const edge = new Edge(lender, run)
    const stranger = new TestJob({ outer: run })
    engine.submitUnsafe(stranger)
    expect(stranger.lane).toBe(ownLane(lender))
    run.ended = true
    endUnsafe(run)
    expect(edge.remove()).toBe(false)
    const back = new Edge(stranger, batch)
    const inner = new TestJob({ outer: lender })
    engine.submitUnsafe(inner)
    settle()
    expect(inner.lane).toBe(ownLane(stranger))
    for (const job of [inner, lender]) engine.releaseUnsafe(job)
    expect([stranger.lane?.forward, engine.main.used]).toEqual([engine.main, 1])
    expect(back.remove()).toBe(true)
    engine.releaseUnsafe(stranger)
    endUnsafe(batch)
    expect([engine.running, engine.main.used]).toEqual([0, 0])
    expect(counted()).toEqual(before)
  })

  it("S5 jobs that a job leaves behind in free width are charged to the job around it, which had room for them", () => {
    const before = counted()
    const { engine } = makeEngine(3)
    const outer = new TestJob({ weight: 2 })
    const middle = new TestJob({ outer })
    const [lent, free] = [new TestJob({ outer: middle }), new TestJob({ outer: middle })]
    for (const job of [outer, middle, lent, free]) engine.submitUnsafe(job)
    expect([middle.lane, lent.lane, free.lane]).toEqual([ownLane(outer), ownLane(middle), engine.main])
    // A job in free width is no stranger.
    expect(counted()).toEqual(before)
    engine.releaseUnsafe(middle)
    expect([engine.main.used, free.lane]).toEqual([2, ownLane(outer)])
    for (const job of [lent, free, outer]) engine.releaseUnsafe(job)
    expect([engine.running, engine.main.used]).toEqual([0, 0])
  })

  it("S5 a job lends no width to what is made in a job inside it: that one lends to it", () => {
    const { engine, settle } = makeEngine(3)
    const [outer, run] = [new TestJob({ weight: 2 }), new Plain()]
    engine.submitUnsafe(outer)
    const edge = new Edge(outer, run)
    const [middle, brief] = [new TestJob({ outer }), new TestJob({ outer })]
    const [first, next] = [new TestJob({ outer: middle }), new TestJob({ outer: middle })]
    for (const job of [middle, brief, first, new TestJob(), next]) engine.submitUnsafe(job)
    expect([middle.lane, brief.lane, first.lane]).toEqual([ownLane(outer), ownLane(outer), ownLane(middle)])
    engine.releaseUnsafe(brief)
    settle()
    expect([next.state, ownLane(outer)?.used]).toEqual(["Queued", 1])
    engine.releaseUnsafe(first)
    expect(next.lane).toBe(ownLane(middle))
    for (const job of [next, middle, outer]) engine.releaseUnsafe(job)
    endUnsafe(run)
    expect(edge.remove()).toBe(false)
  })

  it("S5 while a job runs in the width of one that it was not made in, width that gets free goes to all below", () => {
    const before = counted()
    const { engine, settle } = makeEngine(3)
    const [waits, run] = [new TestJob(), new Plain()]
    engine.submitUnsafe(waits)
    const edge = new Edge(waits, run)
    const stranger = new TestJob({ outer: run })
    const outer = new TestJob({ weight: 2 })
    const [middle, brief] = [new TestJob({ outer }), new TestJob({ outer })]
    const [first, next] = [new TestJob({ outer: middle }), new TestJob({ outer: middle })]
    for (const job of [stranger, outer, middle, brief, first, next]) engine.submitUnsafe(job)
    expect([stranger.lane, next.state]).toEqual([ownLane(waits), "Queued"])
    engine.releaseUnsafe(brief)
    settle()
    expect(next.lane).toBe(ownLane(outer))
    for (const job of [next, first, middle, outer, stranger, waits]) engine.releaseUnsafe(job)
    endUnsafe(run)
    expect(edge.remove()).toBe(false)
    expect([engine.running, ...counted()]).toEqual([0, ...before])
  })

  it("S1 S5 a job inside that ends makes room in free width: one that ran there is charged to the job around it", () => {
    const { engine } = makeEngine(3)
    const outer = new TestJob({ weight: 2 })
    const [brief, lent, free] = [new TestJob({ outer }), new TestJob({ outer }), new TestJob({ outer })]
    const waits = new TestJob()
    for (const job of [outer, brief, lent, free, waits]) engine.submitUnsafe(job)
    expect([lent.lane, brief.lane, free.lane]).toEqual([ownLane(outer), ownLane(outer), engine.main])
    expect(waits.state).toBe("Queued")
    engine.releaseUnsafe(brief)
    expect([free.lane, waits.lane]).toEqual([ownLane(outer), engine.main])
    for (const job of [lent, free, waits, outer]) engine.releaseUnsafe(job)
    expect([engine.running, engine.main.used]).toEqual([0, 0])
  })

  it("S5 once a job has ended, those around it lend to what is made in what it waited for, though none had room before", () => {
    const before = counted()
    const { engine, settle } = makeEngine(2)
    const [around, joined] = [new Plain(), new Plain()]
    const lender = new TestJob()
    const ends = new TestJob({ outer: around })
    for (const job of [lender, ends]) engine.submitUnsafe(job)
    const edges = [new Edge(lender, around), new Edge(ends, joined)]
    const inner = new TestJob({ outer: ends })
    const [gaveUp, next] = [new TestJob({ outer: joined }), new TestJob({ outer: joined })]
    for (const job of [inner, gaveUp]) engine.submitUnsafe(job)
    expect([inner.lane, gaveUp.state]).toEqual([ownLane(ends), "Queued"])
    engine.releaseUnsafe(gaveUp)
    engine.releaseUnsafe(ends)
    engine.submitUnsafe(next)
    settle()
    expect(next.lane).toBe(ownLane(lender))
    for (const job of [inner, next, lender]) engine.releaseUnsafe(job)
    for (const run of [around, joined]) endUnsafe(run)
    expect(edges.every((edge) => !edge.remove())).toBe(true)
    expect([engine.running, engine.queued, ...counted()]).toEqual([0, 0, ...before])
  })

  const crowd = 2_000

  it("R10 S4 Jobs that join a run with equally many waiters visit only a few nodes each, and all waiters start", () => {
    const { engine, settle } = makeEngine(crowd)
    const lenders = Array.from({ length: crowd }, () => new TestJob())
    for (const job of lenders) engine.submitUnsafe(job)
    const run = new Plain()
    const inner = Array.from({ length: crowd }, () => new TestJob({ outer: run }))
    for (const job of inner) engine.submitUnsafe(job)
    expect(engine.queued).toBe(crowd)
    visits = 0
    const edges: Array<Edge> = []
    for (const job of lenders) {
      expect(closes(job, run)).toBe(false)
      edges.push(new Edge(job, run))
      settle()
    }
    expect(inner.every((job) => job.state === "Running")).toBe(true)
    expect(visits).toBeLessThan(20 * crowd)
    for (const job of [...inner, ...lenders]) engine.releaseUnsafe(job)
    settle()
    expect([engine.queued, engine.running, engine.main.used]).toEqual([0, 0, 0])
    endUnsafe(run)
    expect(edges.every((edge) => !edge.remove())).toBe(true)
  })

  it("R10 S4 A job scheduled in a run that many jobs wait for searches for a lender with room, without visiting all of them", () => {
    const { engine, settle } = makeEngine(crowd)
    const lenders = Array.from({ length: crowd }, () => new TestJob())
    const run = new Plain()
    let looks = 0
    const edges: Array<Edge> = []
    for (const job of lenders) {
      engine.submitUnsafe(job)
      edges.push(new Edge(job, run))
      let mark = 0
      Object.defineProperty(job, "mark", { get: () => (looks++, mark), set: (to: number) => void (mark = to) })
    }
    const inner = Array.from({ length: 2 * crowd }, () => new TestJob({ outer: run }))
    for (const job of inner) engine.submitUnsafe(job)
    expect([engine.running, engine.queued]).toEqual([2 * crowd, crowd])
    for (const job of inner) engine.releaseUnsafe(job)
    settle()
    expect([engine.running, engine.queued]).toEqual([crowd, 0])
    expect(looks).toBeLessThan(50 * crowd)
    for (const job of lenders) engine.releaseUnsafe(job)
    endUnsafe(run)
    expect(edges.every((edge) => !edge.remove())).toBe(true)
  })
})
