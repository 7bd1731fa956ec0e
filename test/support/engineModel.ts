/**
 * A scheduler beside a simple model of it: lists and sums, which follow each job from step to step. Whatever the order of the
 * steps, the model judges each of them by the laws: who may start, in which width, when, and what `stats` tells then.
 *
 * The model listens to the engine, because an effect may learn of its start only after others have taken a turn.
 */
import { excessOf } from "../../src/internal/limiter/limiter.ts"
import type { LimiterMemory } from "../../src/internal/limiter/memory.ts"
import type { Engine } from "../../src/internal/scheduler/engine.ts"
import type { SchedulerErrorReason } from "../../src/internal/scheduler/error.ts"
import type { Job, Lane } from "../../src/internal/scheduler/job.ts"
import { statsOf } from "../../src/internal/scheduler/stats.ts"
import { liveNode, type Node } from "../../src/internal/waits/waits.ts"
import * as Duration from "effect/Duration"
import type { Start, Starts } from "./startsModel.ts"

/** What a model shares with those of other schedulers. */
export interface World {
  /** How long the event loop has stood still in all: timers are late by so much at most. */
  readonly blocked: () => number
  /** Nanoseconds. */
  readonly now: () => number
  readonly problem: (told: string) => void
  /** Counts the steps of all schedulers. */
  steps: number
}

export interface Record {
  readonly job: Job
  /** The key of its share. */
  readonly tenant: unknown
  readonly order: number
  readonly came: number
  /** Why it was not its turn when it left the queue. */
  overtakes: string | undefined
  /** How much of the width of `lender`, or else of the scheduler, it counts as. */
  /** When its scheduler was certainly not overloaded, before it left the queue. */
  calmAt: number
  charge: number
  lender: Record | undefined
  start: Start | undefined
  bodies: number
}

export class EngineModel {
  readonly engine: Engine
  readonly world: World
  readonly queue: Array<Record> = []
  readonly running = new Map<Node, Record>()
  /** Out of the queue: each of them starts in this step, or never. */
  private readonly gone = new Map<Job, Record>()
  /** Where the starts are noted, if it has a rate. */
  starts: Starts | undefined
  /** When it was idle, by the steps of the world. */
  idleAt = 0
  begun = 0
  ended = 0
  /** Jobs that left the queue without a start. */
  left = 0
  refused = 0
  private orders = 0
  private width: number
  private paused = false
  closed = false
  private penaltyUntil = -Infinity
  /** The last time at which it was certainly not overloaded. */
  private calmAt: number
  /** The starts of each tenant while the first job of another one waits. */
  private readonly passed = new Map<unknown, Map<unknown, number>>()
  /** With equal jobs of equal tenants: how many more turns than one another they may get at most. */
  fairWithin: number | undefined

  constructor(engine: Engine, world: World, starts: Starts | undefined) {
    this.engine = engine
    this.world = world
    this.starts = starts
    this.width = engine.limits.concurrency
    this.calmAt = world.now()
    this.listen()
  }

  private problem(told: string): void {
    this.world.problem(`${this.engine.name}: ${told}`)
  }

  private step(): void {
    this.look()
    this.world.steps++
  }

  get idle(): boolean {
    return this.queue.length === 0 && this.running.size === 0
  }

  /** Notes whether it is idle, and returns the step. */
  look(): number {
    if (this.idle) this.idleAt = this.world.steps
    return this.world.steps
  }

  private listen(): void {
    const { engine, world } = this
    const { lanes } = engine
    const watched = <Args extends Array<unknown>, A>(
      f: (...args: Args) => A,
      self: object,
      listener: (...args: Args) => void,
      after = false
    ) =>
    (...args: Args): A => {
      this.step()
      if (!after) listener(...args)
      const answer = f.apply(self, args)
      if (after) listener(...args)
      return answer
    }
    lanes.enter = watched(lanes.enter, lanes, (job) => this.enters(job))
    lanes.leave = watched(lanes.leave, lanes, (job) => this.leaves(job))
    lanes.begin = watched(lanes.begin, lanes, (job, lane) => this.begins(job, lane))
    lanes.end = watched(lanes.end, lanes, (job) => this.ends(job), true)
    engine.enqueueUnsafe = watched(engine.enqueueUnsafe, engine, (job) => {
      job.onFailure = watched(job.onFailure, job, ({ reason }) => this.refuses(job, reason))
    })
    engine.resizeUnsafe = watched(engine.resizeUnsafe, engine, (width) => void (this.width = width))
    engine.pauseUnsafe = watched(engine.pauseUnsafe, engine, () => void (this.paused = true))
    engine.resumeUnsafe = watched(engine.resumeUnsafe, engine, () => void (this.paused = false))
    engine.closeUnsafe = watched(engine.closeUnsafe, engine, () => void (this.closed = true))
    engine.penalizeUnsafe = watched(engine.penalizeUnsafe, engine, (nanos) => {
      this.penaltyUntil = Math.max(this.penaltyUntil, world.now() + nanos)
    })
  }

  /** How much weight may run now. */
  private get bound(): number {
    const { adaptive, limits } = this.engine
    if (adaptive === undefined) return this.width
    const { limit } = adaptive
    if (!(limit >= 1 && limit <= limits.concurrency)) this.problem(`an adaptive width of ${limit}`)
    return limit
  }

  private get penalized(): boolean {
    return this.world.now() < this.penaltyUntil
  }

  private maxWaitOf({ options, patient }: Job): number {
    return patient ? options.maxWait : Math.min(options.maxWait, this.engine.limits.maxWait)
  }

  // -------------------------------------------------------------------------------------------------------------- steps

  private make(job: Job): Record {
    return {
      job,
      tenant: job.options.share?.key,
      order: ++this.orders,
      came: this.world.now(),
      overtakes: undefined,
      calmAt: 0,
      charge: 0,
      lender: undefined,
      start: undefined,
      bodies: 0
    }
  }

  private enters(job: Job): void {
    const told = `a job of priority ${job.priority}`
    if (job.state !== "Idle") this.problem(`${told} comes a second time`)
    if (this.closed) this.problem(`${told} is queued though the scheduler is closed`)
    const outer = liveNode(job.outer)
    if (this.engine.draining && job.isLate && outer === undefined) this.problem(`${told} is queued though it drains`)
    const others = this.queue.filter((each) => liveNode(each.job.outer) === undefined)
    if (!job.patient && outer === undefined && others.length >= this.engine.limits.maxQueued) {
      this.problem(`${told} is queued behind ${others.length} others`)
    }
    if (this.maxWaitOf(job) <= 0) this.problem(`${told} is queued though it may not wait`)
    this.queue.push(this.make(job))
  }

  private leaves(job: Job): void {
    const at = this.queue.findIndex((each) => each.job === job)
    const [record] = at === -1 ? [] : this.queue.splice(at, 1)
    if (record === undefined) return this.problem("a job leaves that is not in the queue")
    const first = this.queue.find((each) => this.isBefore(each, record))
    record.overtakes = first &&
      `priority ${job.priority} starts before ${first.job.priority}, which came earlier or is higher`
    this.gone.set(job, record)
    record.calmAt = this.calmAt
    if (this.queue.length === 0) this.calmAt = this.world.now()
  }

  /** Whether one certainly has its turn before another. */
  private isBefore(self: Record, that: Record): boolean {
    if (self.job.priority !== that.job.priority) return self.job.priority > that.job.priority
    return self.tenant === that.tenant && self.order < that.order
  }

  private begins(job: Job, lane: Lane): void {
    const { engine, world } = this
    const waited = this.gone.get(job)
    const record = waited ?? this.make(job)
    this.gone.delete(job)
    const told = `a job of weight ${job.weight}${waited === undefined ? "" : ", which waited,"}`
    if (job.state === "Done" || this.running.has(job)) this.problem(`${told} starts a second time`)
    if (this.paused) this.problem(`${told} starts in a pause`)
    if (this.closed) this.problem(`${told} starts though the scheduler is closed`)
    if (this.penalized) this.problem(`${told} starts in a penalty`)
    if (engine.draining && job.isLate && liveNode(job.outer) === undefined && waited === undefined) {
      this.problem(`${told} comes and starts though the scheduler drains`)
    }
    const late = world.now() - record.came - this.maxWaitOf(job)
    if (late > 0) this.problem(`${told} starts ${late / 1e6} ms too late`)
    this.follow()
    const isMain = lane === engine.main
    if (isMain) this.beginsInMain(record, waited !== undefined, told)
    else this.beginsInLent(record, lane, told)
    this.running.set(job, record)
    this.begun++
    if (this.starts !== undefined && job.tokens > 0) record.start = this.starts.begin(job.cost)
  }

  private beginsInMain(record: Record, waited: boolean, told: string): void {
    const { job } = record
    if (waited && record.overtakes !== undefined) this.problem(record.overtakes)
    if (!waited && this.queue.length > 0) this.problem(`${told} comes and overtakes ${this.queue.length} in the queue`)
    const used = this.used(undefined)
    record.charge = job.weight
    const isAlone = this.engine.adaptive !== undefined && used === 0
    if (used + job.weight > this.bound && !isAlone) this.problem(`${told} starts beside ${used} of ${this.bound}`)
    if (!waited) this.calmAt = this.world.now()
    const { shed } = this.engine.limits
    const now = this.world.now()
    const inTime = shed !== undefined && !job.patient && now - record.came <= shed.target
    // Once there is an overload, a job that is in time does not end it.
    if (inTime && now - this.calmAt <= shed.interval) this.calmAt = now
    this.takesTurn(record)
  }

  private takesTurn({ job, tenant }: Record): void {
    if (this.fairWithin === undefined) return
    if (this.bound === Infinity) return this.passed.clear()
    this.passed.delete(tenant)
    for (const other of new Set(this.queue.filter((_) => _.job.priority === job.priority).map((_) => _.tenant))) {
      if (other === tenant) continue
      let turns = this.passed.get(other)
      if (turns === undefined) this.passed.set(other, turns = new Map())
      const n = (turns.get(tenant) ?? 0) + 1
      turns.set(tenant, n)
      if (n > this.fairWithin) {
        this.problem(`${String(tenant)} has ${n} turns while the first job of ${String(other)} waits`)
      }
    }
    // Of tenants that have no job now nothing is known.
    for (const other of this.passed.keys()) {
      if (!this.queue.some((each) => each.tenant === other)) this.passed.delete(other)
    }
  }

  private beginsInLent(record: Record, lane: Lane, told: string): void {
    const { job } = record
    const lender = lane.node === undefined ? undefined : this.running.get(lane.node)
    if (lender === undefined) return this.problem(`${told} starts in the width of no job that runs`)
    record.lender = lender
    record.charge = this.bound === Infinity ? job.weight : Math.min(job.weight, lender.charge)
    const used = this.used(lender)
    if (used + record.charge > lender.charge && this.bound < Infinity) {
      this.problem(`${told} starts beside ${used} of ${lender.charge} that are lent`)
    }
  }

  private ends(job: Job): void {
    const record = this.running.get(job)
    if (record === undefined) return this.problem("a job ends that does not run")
    this.running.delete(job)
    this.ended++
    // It never began: its rate is given back.
    if (record.bodies === 0 && record.start !== undefined) this.starts?.forget(record.start)
    for (const each of this.running.values()) if (each.lender === record) each.lender = record.lender
  }

  private refuses(job: Job, reason: SchedulerErrorReason): void {
    const { engine, world } = this
    const record = this.gone.get(job)
    this.gone.delete(job)
    this.refused++
    const told = `a job of weight ${job.weight} and ${JSON.stringify(job.cost)} tokens is refused: ${reason.message}`
    if (this.running.has(job)) this.problem(`${told}, and runs`)
    const waited = record === undefined ? 0 : world.now() - record.came
    switch (reason._tag) {
      case "InsufficientCapacity": {
        const excess = engine.limiter === undefined ? undefined : excessOf(job.cost, engine.limiter)
        const most = reason.what === "weight" ? engine.limit : excess?.most
        // The refusals of one change may be told in later turns, after another change.
        if (record === undefined && most !== reason.most && this.queue.length === 0) this.problem(told)
        if (reason.asked <= reason.most) this.problem(told)
        return
      }
      case "QueueFull":
        if (job.patient || reason.queued < reason.maxQueued || engine.limits.maxQueued === Infinity) this.problem(told)
        return
      case "WaitExceeded": {
        const most = this.maxWaitOf(job)
        const expected = reason.expected === undefined
          ? waited
          : waited + Number(Duration.toNanosUnsafe(reason.expected))
        if (expected < most) this.problem(`${told} after ${waited / 1e6} of ${most / 1e6} ms`)
        return
      }
      case "Overloaded": {
        const { shed } = engine.limits
        if (shed === undefined || job.patient) return this.problem(told)
        if (waited <= 2 * shed.target) this.problem(`${told} after ${waited / 1e6} ms`)
        if (record === undefined || world.now() - record.calmAt <= shed.interval) {
          this.problem(
            `${told}, and ${
              (world.now() - (record?.calmAt ?? 0)) / 1e6
            } ms ago there was no queue, or a job that was in time`
          )
        }
        return
      }
      case "Draining":
        if (!engine.draining && !this.closed) this.problem(told)
        return
      case "StoreError":
        this.problem(told)
    }
  }

  // ------------------------------------------------------------------------------------------------------------- judging

  private used(lender: Record | undefined): number {
    let used = 0
    for (const each of this.running.values()) if (each.lender === lender) used += each.charge
    return used
  }

  /** Some jobs that ran in free width are now charged to the job that they were made in. */
  private follow(): void {
    for (const record of this.running.values()) {
      let lane = record.job.lane!
      while (lane.forward !== undefined) lane = lane.forward
      const lender = lane.node === undefined ? undefined : this.running.get(lane.node)
      if (lender === record.lender) continue
      if (record.lender !== undefined || lender === undefined) {
        this.problem(`a job of weight ${record.job.weight} is charged to another job`)
      } else if (this.used(lender) + record.charge > lender.charge) {
        this.problem(`a job that lends ${lender.charge} is charged with ${this.used(lender) + record.charge}`)
      }
      record.lender = lender
    }
  }

  /** Nothing can go on before the time does: whoever could start has started, and whoever waits has a reason. */
  audit(): void {
    const { engine, world } = this
    for (const job of this.gone.keys()) {
      if (job.state !== "Done") this.problem("a job has left the queue and is neither running nor done")
      this.left++
    }
    this.gone.clear()
    this.follow()
    this.compareStats()
    if (engine.adaptive !== undefined && engine.main.capacity !== this.bound) this.problem("the width does not follow")
    for (const { came, job } of this.queue) {
      const late = world.now() - came - this.maxWaitOf(job)
      if (late > world.blocked()) this.problem(`a job waits ${late / 1e6} ms longer than it may`)
    }
    if (this.closed && this.queue.length > 0) this.problem("jobs wait though it is closed")
    for (const { job } of this.queue) {
      if (job.weight > engine.limit) this.problem(`a job of weight ${job.weight} waits for a width of ${engine.limit}`)
    }
    if (this.paused || this.closed || this.penalized) return
    const mayBeLate = world.blocked() > 0 && (engine.limiter !== undefined || this.penaltyUntil > -Infinity)
    if (mayBeLate) return
    this.checkHead()
    for (const record of this.queue) this.checkLent(record)
  }

  private compareStats(): void {
    const { engine } = this
    const stats = statsOf(engine)
    const count = <A>(all: ReadonlyArray<A>, of: A): number => all.filter((each) => each === of).length
    const priorities = this.queue.map(({ job }) => job.priority).sort((a, b) => b - a)
    const tenants = this.queue.map(({ tenant }) => tenant)
    const oldest = this.queue[0] === undefined ? 0 : (this.world.now() - this.queue[0].came) / 1e6
    const counted = {
      running: this.running.size,
      weight: this.used(undefined),
      queued: this.queue.length,
      paused: this.paused,
      concurrency: this.bound,
      refused: this.refused,
      byPriority: Array.from(new Set(priorities), (priority) => `${priority}: ${count(priorities, priority)}`).join(),
      byShare: Array.from(new Set(tenants), (key) => count(tenants, key)).sort((a, b) => b - a).slice(0, 5).join()
    }
    const told = {
      running: stats.running,
      weight: stats.weight,
      queued: stats.queued,
      paused: stats.paused,
      concurrency: stats.concurrency,
      refused: Object.values(stats.refused).reduce((sum, n) => sum + n, 0),
      byPriority: stats.byPriority.map(({ priority, queued }) => `${priority}: ${queued}`).join(),
      byShare: stats.byShare.map(({ queued }) => queued).join()
    }
    if (JSON.stringify(counted) !== JSON.stringify(told)) {
      this.problem(`stats tells ${JSON.stringify(told)}, counted are ${JSON.stringify(counted)}`)
    }
    if (stats.byShare.some(({ key, queued }) => count(tenants, key) !== queued)) this.problem("byShare miscounts")
    if (Math.abs(Duration.toMillis(stats.oldestWait) - oldest) >= 1) {
      this.problem(`the oldest wait is ${Duration.toMillis(stats.oldestWait)}, and not ${oldest} ms`)
    }
  }

  /** Whether a job has to wait for the rate. */
  private waitsForRate({ job }: Record): boolean {
    const { limiter } = this.engine
    if (limiter === undefined || job.tokens === 0) return false
    // Who waits for the same limiter may be in front.
    // Sound: the engines of a model have their limiter in memory.
    const memory = limiter as LimiterMemory
    return limiter.dueInUnsafe!(undefined, job.cost) > 0 || !memory.waiters().next().done
  }

  private checkHead(): void {
    const { engine } = this
    const head = this.queue.find((each) => each.job === engine.main.head)
    if (head === undefined) {
      if (this.queue.length > 0) this.problem(`${this.queue.length} wait, and none is in front`)
      return
    }
    if (this.queue.some((each) => this.isBefore(each, head))) this.problem("another job should be in front")
    const used = this.used(undefined)
    const fits = used + head.job.weight <= this.bound || (engine.adaptive !== undefined && used === 0)
    if (!fits || this.waitsForRate(head) || engine.lanes.lenders.front !== undefined) return
    this.problem(`a job of weight ${head.job.weight} waits though ${used} of ${this.bound} run`)
  }

  /** A job that waits for a job inside it has lent it its width. */
  private checkLent(record: Record): void {
    const { job } = record
    const outer = liveNode(job.outer)
    const lender = outer === undefined ? undefined : this.running.get(outer)
    if (lender === undefined || this.used(lender) + Math.min(job.weight, lender.charge) > lender.charge) return
    const isBehind = this.queue.some((each) =>
      each !== record && liveNode(each.job.outer) !== undefined &&
      (each.job.priority > job.priority || (each.job.priority === job.priority && each.order < record.order))
    )
    // Jobs that lend take turns at the rate.
    const { front, job: next } = this.engine.lanes.lenders
    if (isBehind || this.waitsForRate(record) || (front !== undefined && next !== job)) return
    this.problem(`a job of weight ${job.weight} waits though the job around it lends ${lender.charge}`)
  }
}
