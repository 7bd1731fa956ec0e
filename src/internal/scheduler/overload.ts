/**
 * The jobs that a scheduler refuses because they wait too long: those with a `maxWait`, and those that it sheds.
 *
 * A scheduler without these options has no such object. Times are nanoseconds of its clock.
 */
import * as DueHeap from "../data/dueHeap.js"
import { duration } from "../data/duration.js"
import { forEachInSlices } from "../data/slices.js"
import * as Timers from "../data/timers.js"
import { behind } from "../limiter/gcra.js"
import { Codel } from "./codel.js"
import { Overloaded, WaitExceeded } from "./error.js"
import type { Job, Terms } from "./job.js"
import type { Limits } from "./options.js"
import type { Core } from "./refusal.js"

/** An event loop that calls back this much later than it should has stood still; how often that is looked at. */
const stallNanos = 10_000_000

/** So many jobs that have left stay, however few wait. */
const mostLeft = 32

export class Overload {
  private readonly engine: Core
  private readonly limits: Limits
  private readonly codel: Codel | undefined
  /** A heap of the waiting jobs that have a `maxWait`, by the end of it, and of some that have left: those cost nothing there. */
  private readonly impatient: Array<Terms> = []
  /** How many of them wait. */
  private waiting = 0
  private readonly alarm: Timers.Alarm
  /** Rings regularly while there are jobs, to notice when the event loop stands still. */
  private readonly pulse: Timers.Alarm | undefined
  private pulseAt = Infinity
  /** How long the event loop has stood still, in all. */
  private stalled = 0
  /** How long the first job has waited for width, in all. */
  private widthTime = 0
  private blockedSince: number | undefined = undefined

  constructor(engine: Core, limits: Limits, place: Timers.Place) {
    this.engine = engine
    this.limits = limits
    this.alarm = new Timers.Alarm(Timers.after, () => this.ring(), place)
    const { shed } = limits
    if (shed === undefined) return
    this.codel = new Codel(shed.target, shed.interval)
    this.pulse = new Timers.Alarm(Timers.idleAfter, () => this.beat(), place)
  }

  // ------------------------------------------------------------------------------------------------------------- maxWait

  /** A job is about to wait. Returns why it is refused at once. */
  refusesNew(terms: Terms, now: number): WaitExceeded | undefined {
    const { job } = terms
    const maxWait = this.longestWait(job)
    if (this.codel !== undefined) terms.widthAt = this.widthAt(this.live(now))
    if (maxWait === Infinity) return undefined
    terms.due = now + maxWait
    const { lanes, limiter } = this.engine
    const before = limiter === undefined ? 0 : lanes.main.queue.tokensBefore(job.priority, job.options.share)
    const expected = this.expectedWait(job, before)
    if (maxWait > 0 && expected <= maxWait) return undefined
    return this.exceeded(terms, now, expected > maxWait ? expected : undefined)
  }

  private longestWait({ options, patient }: Job): number {
    return patient ? options.maxWait : Math.min(options.maxWait, this.limits.maxWait)
  }

  /** The job has joined the queue. */
  entered(terms: Terms, now: number): void {
    if (terms.due === Infinity) return
    this.waiting++
    DueHeap.set(this.impatient, terms, terms.due)
    this.alarm.set(this.impatient[0]!.due, now)
  }

  /** A job has left the queue: one without terms may be the last. */
  left(terms: Terms | undefined): void {
    if (this.engine.lanes.queued === 0) this.codel?.reset()
    if (terms === undefined || terms.due === Infinity) return
    this.waiting--
    // `disarm` follows: it ends a fiber, whose code may use the scheduler, and here the job is between two states.
    if (this.waiting === 0) {
      this.impatient.length = 0
    } else if (this.impatient.length > 2 * this.waiting + mostLeft) {
      this.sweep()
    }
  }

  /** Ends the timer once no job needs it. */
  disarm(): void {
    if (this.waiting === 0) this.alarm.clear()
  }

  /** Forgets the jobs that have left. */
  private sweep(): void {
    const all = this.impatient.splice(0)
    for (const terms of all) {
      terms.index = -1
      if (terms.job.state === "Queued") DueHeap.set(this.impatient, terms, terms.due)
    }
  }

  /** How long the rate, or a penalty, keeps a job from its start at least, with so many tokens in front of it. */
  private expectedWait(job: Job, before: number): number {
    const { lanes, limiter, paused, penaltyLeft } = this.engine
    if (limiter?.dueInUnsafe === undefined || job.tokens === 0) return penaltyLeft
    // The jobs in front that wait for width may have left before their turn. A nested job does not wait for them.
    const alone = paused || lanes.main.state === "blocked" || lanes.isNested(job)
    return Math.max(penaltyLeft, limiter.dueInUnsafe(undefined, behind(alone ? 0 : before, job.cost)))
  }

  private ring(): void {
    const { engine } = this
    // First the jobs that can start: the timer of the rate may be set for the same time.
    engine.slices.apart(() => engine.limiter?.settle?.())
    engine.pump()
    this.refuseEach(this.expired(), (terms) => this.exceeded(terms, engine.time()))
  }

  /** The rate was held up: refuses the jobs that would now wait for longer than they may. */
  refuseHopeless(): void {
    if (this.waiting === 0) return
    const now = this.engine.time()
    const waits = new Map<Terms, number>()
    this.engine.lanes.main.queue.forEachBehind(({ job }, before) => {
      const { terms } = job
      if (terms === undefined || terms.due === Infinity) return false
      const wait = this.expectedWait(job, before)
      if (now + wait <= terms.due) return false
      waits.set(terms, wait)
      return true
    })
    this.refuseEach(waits.keys(), (terms) => this.exceeded(terms, now, waits.get(terms)))
  }

  private refuseEach(all: Iterable<Terms>, reasonOf: (terms: Terms) => WaitExceeded): void {
    const { engine } = this
    forEachInSlices(engine.slices, all, (terms) => {
      if (terms.job.state === "Queued") engine.refuseQueued(terms.job, reasonOf(terms))
    }, () => {
      engine.pump()
      engine.notifyUnsafe()
    })
  }

  /** Takes out the jobs whose `maxWait` is over, and sets the alarm for the next one. */
  private *expired(): Generator<Terms> {
    const now = this.engine.time()
    for (let terms = this.impatient[0]; terms !== undefined; terms = this.impatient[0]) {
      if (terms.due > now) return this.alarm.set(terms.due, this.engine.time())
      DueHeap.remove(this.impatient, terms)
      yield terms
    }
  }

  private exceeded({ due, job }: Terms, now: number, expected?: number): WaitExceeded {
    const maxWait = this.longestWait(job)
    return new WaitExceeded({
      waited: duration(Math.max(0, now - due + maxWait)),
      maxWait: duration(maxWait),
      expected: expected === undefined ? undefined : duration(expected)
    })
  }

  // ---------------------------------------------------------------------------------------------------------------- shed

  /** All jobs have started that can. The first one now waits for width and for nothing else, or does not. */
  pumped(blocked: boolean): void {
    if (this.codel !== undefined && blocked !== (this.blockedSince !== undefined)) {
      const live = this.live(this.engine.time())
      this.widthTime = this.widthAt(live)
      this.blockedSince = blocked ? live : undefined
    }
    this.disarm()
    if (this.pulseAt < Infinity && this.pulse!.at === Infinity) this.pulse!.set(this.pulseAt, this.engine.time())
  }

  private widthAt(live: number): number {
    return this.blockedSince === undefined ? this.widthTime : this.widthTime + live - this.blockedSince
  }

  /** The time without that in which the event loop stood still, which says nothing about the other side. */
  private live(now: number): number {
    if (this.pulseAt + stallNanos < now) {
      this.stalled += now - this.pulseAt
      this.pulseAt = now
    }
    return now - this.stalled
  }

  /** Whether the jobs start late. */
  get isLate(): boolean {
    return this.codel?.isLate === true
  }

  private beat(): void {
    const now = this.engine.time()
    if (this.engine.idle) this.engine.log?.overloaded(false)
    this.live(now)
    this.pulseAt = Infinity
    if (!this.engine.idle) this.startPulse(now)
  }

  private startPulse(now: number): void {
    this.pulseAt = now + stallNanos
    this.pulse!.set(this.pulseAt, now)
  }

  /** A job started without a wait. This may end it, or start others: it runs the code of a clock. */
  startedAtOnce(): void {
    const { codel } = this
    if (codel === undefined) return
    codel.reset()
    this.engine.log?.overloaded(false)
    if (this.pulseAt === Infinity) this.startPulse(this.engine.time())
  }

  /** The turn of a job has come. Returns why it is refused instead of started. */
  refusesFirst(terms: Terms, sheds: boolean, now: number): WaitExceeded | Overloaded | undefined {
    const { codel } = this
    if (now > terms.due) return this.exceeded(terms, now)
    if (codel === undefined || !sheds) return undefined
    const live = this.live(now)
    // `pumped` sets the alarm: that runs the code of a clock, and here the job is between two states.
    if (this.pulseAt === Infinity) this.pulseAt = now + stallNanos
    const waited = this.widthAt(live) - terms.widthAt
    if (!codel.refuses(waited, live)) return undefined
    return new Overloaded({ waited: duration(waited), target: duration(codel.target) })
  }

  close(): void {
    this.alarm.close()
    this.pulse?.close()
  }
}
