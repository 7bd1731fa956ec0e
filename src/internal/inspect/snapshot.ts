/**
 * Reads all services in one step, as plain data.
 */
import { format } from "effect/Formatter"
import { identity } from "effect/Function"
import type * as Request from "effect/Request"
import type { Collector } from "../batcher/collector.js"
import type { Batch } from "../batcher/parts.js"
import type { Flights, Run } from "../reducer/run.js"
import type { Engine } from "../scheduler/engine.js"
import type { Job } from "../scheduler/job.js"
import { penaltyOf, waited, waitingFor } from "../scheduler/watching.js"
import { type Held, heldIn } from "../seen/held.js"
import type { Keys } from "../seen/seen.js"
import { liveNode, type Node, visitBelow } from "../waits/waits.js"
import type {
  BatcherSnapshot,
  BudgetSnapshot,
  JobSnapshot,
  LimiterSnapshot,
  NodeSnapshot,
  ReducerSnapshot,
  SchedulerSnapshot,
  Snapshot,
  Some,
  Wait
} from "./models.js"
import type { Member } from "./roll.js"

/** See `Inspector.Options`. */
export interface Settings {
  readonly showKeys: boolean
  readonly most: number
}

/** Keeps the first items of a list, and counts all. */
class First<A> {
  total = 0
  readonly first: Array<A> = []
  private readonly most: number
  private readonly rank: (item: A) => number

  /** With a rank, the items with the least come first. */
  constructor(most: number, rank: (item: A) => number = () => 0) {
    this.most = most
    this.rank = rank
  }

  add(item: A): void {
    const { first, most, rank } = this
    this.total++
    const own = rank(item)
    let at = first.length
    while (at > 0 && rank(first[at - 1]!) > own) at--
    if (at === most) return
    first.splice(at, 0, item)
    if (first.length > most) first.pop()
  }

  map<B>(f: (item: A) => B): Some<B> {
    return { total: this.total, first: this.first.map(f) }
  }
}

const longestText = 120

/** The beginning of a text of any length. */
export const shortened = (text: string): string => text.length > longestText ? `${text.slice(0, longestText)}…` : text

class Reader {
  private readonly settings: Settings
  private readonly at: number
  private readonly ids = new Map<Node, string>()
  private readonly counts = { run: 0, job: 0, batch: 0 }
  /** The services of nodes. */
  private readonly names = new Map<Node, string>()
  private readonly waits: First<Wait>
  /** Keys are foreign code: they become text once all is read. */
  private readonly keys: Array<{ readonly target: object; readonly field: string; readonly key: unknown }> = []

  constructor(settings: Settings, at: number) {
    this.settings = settings
    this.at = at
    this.waits = new First(settings.most)
  }

  read(members: Iterable<Member>): Snapshot {
    const schedulers = new First<SchedulerSnapshot>(this.settings.most, (_) => -_.queued.total - _.running.total)
    let worst: SchedulerSnapshot | undefined
    const limiters: Array<LimiterSnapshot> = []
    const reducers: Array<ReducerSnapshot> = []
    const batchers: Array<BatcherSnapshot> = []
    const retryBudgets: Array<BudgetSnapshot> = []
    const all = Array.from(members)
    // First all names, so that a wait finds those of its two ends.
    for (const { name, source } of all) for (const node of nodesOf(source)) this.names.set(node, name)
    for (const { kind, name, source } of all) {
      switch (kind) {
        case "scheduler": {
          const keyed = source.keyed?.() ?? Array.from(source.engines(), (engine) => ({ key: undefined, engine }))
          for (const { engine, key } of keyed) {
            const scheduler = this.scheduler(name, key, asEngine(engine))
            schedulers.add(scheduler)
            if (scheduler.oldestWaitMillis > (worst?.oldestWaitMillis ?? 0)) worst = scheduler
          }
          break
        }
        case "limiter":
          limiters.push(this.limiter(name, source))
          break
        case "reducer":
          reducers.push(this.reducer(name, flightsOf(source)))
          break
        case "batcher":
          if (source.collector !== undefined) batchers.push(this.batcher(name, collectorOf(source.collector)))
          break
        case "retryBudget": {
          const { denied, limit, tokens } = source.read()
          retryBudgets.push({ name, tokens, limit, denied })
        }
      }
    }
    for (const node of this.names.keys()) {
      visitBelow(node, (below) => {
        this.waits.add({ from: this.node(node), to: this.node(below) })
        return false
      })
    }
    for (const node of this.names.keys()) {
      // A job that is queued is in no list of the node that waits for it.
      const outer = isJob(node) && node.state === "Queued" ? liveNode(node.outer) : undefined
      if (outer !== undefined) this.waits.add({ from: this.node(outer), to: this.node(node) })
    }
    const { first } = schedulers
    if (worst !== undefined && !first.includes(worst)) first[first.length - 1] = worst
    this.tellKeys()
    return {
      at: this.at,
      schedulers: schedulers.map(identity),
      limiters,
      reducers,
      batchers,
      retryBudgets,
      waits: this.waits.map(identity)
    }
  }

  private tellKeys(): void {
    const texts = new Map<unknown, string>()
    for (const { field, key, target } of this.keys) {
      let text = texts.get(key)
      if (text === undefined) texts.set(key, text = textOf(key))
      Object.assign(target, { [field]: text })
    }
  }

  private id(node: Node): string {
    let id = this.ids.get(node)
    if (id === undefined) this.ids.set(node, id = `${node.kind} ${++this.counts[node.kind]}`)
    return id
  }

  private node(node: Node): NodeSnapshot {
    return { id: this.id(node), name: this.names.get(node) ?? node.name ?? node.kind }
  }

  /** Adds the text of a key to what is told, if keys are shown. */
  private withKey<A extends object>(field: keyof A & string, key: unknown, target: A): A {
    if (this.settings.showKeys && key !== undefined) this.keys.push({ target, field, key })
    return target
  }

  private scheduler(name: string, key: unknown, engine: Engine): SchedulerSnapshot {
    const shares = new Map<unknown, string>()
    const shareOf = (key: unknown): string => {
      let share = shares.get(key)
      if (share === undefined) shares.set(key, share = `share ${shares.size + 1}`)
      return share
    }
    const job = (job: Job, millis: number): JobSnapshot => {
      const { priority, weight } = job
      const share = job.options.share
      const outer = liveNode(job.outer)
      return this.withKey<JobSnapshot>("share", share?.key, {
        id: this.id(job),
        millis: Math.round(millis),
        weight,
        priority,
        ...share === undefined ? {} : { share: shareOf(share.key) },
        ...outer === undefined ? {} : { inside: this.id(outer) }
      })
    }
    const running = new First<Job>(this.settings.most)
    for (const job of engine.lanes.started.reverse()) running.add(job)
    const queued = new First<Job>(this.settings.most, (job) => job.order)
    engine.main.queue.forEach(({ job }) => queued.add(job))
    const byShare = engine.main.queue.byShare().filter(({ key }) => key !== undefined)
    byShare.sort((a, b) => b.queued - a.queued)
    return this.withKey<SchedulerSnapshot>("key", key, {
      name,
      ...engine.width === Infinity ? {} : { limit: engine.width },
      weight: engine.weight,
      paused: engine.paused,
      draining: engine.draining,
      waitingFor: waitingFor(engine),
      oldestWaitMillis: engine.oldestWait,
      penaltyMillis: Math.ceil(penaltyOf(engine) / 1e6),
      running: running.map((_) => job(_, Math.max(0, engine.millis() - _.since))),
      queued: queued.map((_) => job(_, waited(engine, _))),
      byPriority: engine.main.queue.byPriority(),
      byShare: byShare.slice(0, this.settings.most).map(({ key, queued }) =>
        this.withKey("share", key, { share: shareOf(key), queued })
      ),
      refused: { ...engine.refused }
    })
  }

  private limiter(name: string, limiter: Keys): LimiterSnapshot {
    const held = new First<Held>(this.settings.most, (_) => -Math.max(_.waited, _.penalty))
    let [waiting, waited, penalty] = [0, 0, 0]
    for (const key of heldIn(limiter)) {
      held.add(key)
      waiting += key.waiting
      waited = Math.max(waited, key.waited)
      penalty = Math.max(penalty, key.penalty)
    }
    return {
      name,
      waiting,
      oldestWaitMillis: Math.round(waited / 1e6),
      penaltyMillis: Math.ceil(penalty / 1e6),
      held: held.map(({ key, penalty, waited, waiting }) =>
        this.withKey<LimiterSnapshot["held"]["first"][number]>("key", key, {
          waiting,
          oldestWaitMillis: Math.round(waited / 1e6),
          penaltyMillis: Math.ceil(penalty / 1e6)
        })
      )
    }
  }

  private reducer(name: string, flights: Flights): ReducerSnapshot {
    const runs = new First<Run>(this.settings.most)
    for (const run of flights.runs()) runs.add(run)
    return {
      name,
      inFlight: runs.map((run) =>
        this.withKey<ReducerSnapshot["inFlight"]["first"][number]>("key", run.key, {
          id: this.id(run),
          ...run.name === undefined ? {} : { name: run.name },
          callers: run.callers,
          millis: Math.max(0, Math.round(this.at - (run.since ?? this.at))),
          // Sound: a run that is over is not in flight.
          phase: run.phase as "pending" | "running" | "ending"
        })
      )
    }
  }

  private batcher(name: string, collector: Collector<Request.Any, unknown>): BatcherSnapshot {
    const { recipe, runner } = collector
    // It is listed, so something hears of it.
    const now = recipe.watch!.now()
    const counts = { collecting: 0, queued: 0, running: 0 }
    let longestQueuedMillis = 0
    const batches = new First<Batch<Request.Any>>(this.settings.most)
    for (const batch of runner.running) {
      const state = stateOf(batch)
      counts[state]++
      batches.add(batch)
      if (state === "queued") longestQueuedMillis = Math.max(longestQueuedMillis, now - batch.since)
    }
    return {
      name,
      ...counts,
      longestQueuedMillis,
      batches: batches.map((batch) =>
        this.withKey<BatcherSnapshot["batches"]["first"][number]>("keys", batch.key, {
          id: this.id(batch),
          state: stateOf(batch),
          requests: batch.size,
          callers: batch.callers,
          millis: Math.max(0, now - batch.since)
        })
      )
    }
  }
}

const stateOf = ({ phase }: Batch<Request.Any>): "collecting" | "queued" | "running" =>
  phase === "collecting" || phase === "queued" ? phase : "running"

// Sound: these are what services make known. No class is asked for: a program may have the inspector and not all services.
export const asEngine = (source: object): Engine => source as Engine
const flightsOf = (source: object): Flights => source as Flights
const collectorOf = (source: object): Collector<Request.Any, unknown> => source as Collector<Request.Any, unknown>
const isJob = (node: Node): node is Job => node.kind === "job"

/** The runs, jobs and batches of a service. */
const nodesOf = function*(source: Member["source"]): Generator<Node> {
  if ("engines" in source) {
    for (const load of source.engines()) {
      const engine = asEngine(load)
      yield* engine.lanes.started.reverse()
      const queued: Array<Job> = []
      engine.main.queue.forEach(({ job }) => void queued.push(job))
      yield* queued
    }
  } else if ("inFlight" in source) {
    yield* flightsOf(source).runs()
  } else if ("collector" in source && source.collector !== undefined) {
    yield* collectorOf(source.collector).runner.running
  }
}

/** A key may break a line, or tell a terminal to do something. */
const escaped = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`

/** Keys are the user's: where one throws, its text says so. */
const textOf = (key: unknown): string =>
  shortened(format(key).slice(0, longestText + 1).replace(/[\p{Cc}\u2028\u2029]/gu, escaped))

export const read = (members: Iterable<Member>, settings: Settings, at: number): Snapshot =>
  new Reader(settings, at).read(members)
