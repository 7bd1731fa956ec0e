/**
 * The metrics of all services. Services of one name share their series: gauges are summed, and counts go on when one of
 * them leaves. With the last of them the series go.
 */
import { hasInterruptsOnly } from "effect/Cause"
import type { Clock } from "effect/Clock"
import * as Context from "effect/Context"
import type * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import type { Place } from "../data/timers.js"
import { longestPenaltyIn } from "./held.js"
import type {
  BatcherWatch,
  Budget,
  Enrolment,
  Kinds,
  LimiterWatch,
  Load,
  Millis,
  Observer,
  ReducerWatch,
  Refusal,
  SchedulerWatch,
  StoreWatch
} from "./seen.js"
import { type Count, type Histogram, seconds, Series, sizes } from "./series.js"
import { Time } from "./time.js"

/** The services of one kind and name, and their series. */
abstract class Family<Source> {
  protected readonly members = new Set<Source>()
  protected readonly series: Series
  protected readonly time: Time
  /** The same services by the times of other clocks. */
  private readonly others = new WeakMap<Clock, this>()

  constructor(series: Series, time: Time) {
    this.series = series
    this.time = time
  }

  /** What hears of the services of a clock: a test, say, has one of its own. */
  on(clock: Clock): this {
    if (clock === this.time.clock) return this
    let other = this.others.get(clock)
    if (other === undefined) {
      // Sound: it is the family itself, but for its time.
      other = Object.create(this, { time: { value: new Time(clock) } }) as this
      this.others.set(clock, other)
    }
    return other
  }

  enter(source: Source): void {
    this.members.add(source)
  }

  /** Returns whether it was the last. */
  leave(source: Source): boolean {
    this.members.delete(source)
    if (this.members.size > 0) return false
    this.series.end()
    return true
  }

  now(): Millis {
    return this.time.now()
  }

  protected sum(read: (source: Source) => number): number {
    let sum = 0
    for (const member of this.members) sum += read(member)
    return sum
  }
}

const runOutcomes = ["success", "failure", "interrupt"] as const
type RunOutcome = typeof runOutcomes[number]

const outcomeOf = (exit: Exit.Exit<unknown, unknown> | undefined): RunOutcome =>
  exit === undefined
    ? "interrupt"
    : exit._tag === "Success"
    ? "success"
    : hasInterruptsOnly(exit.cause)
    ? "interrupt"
    : "failure"

/** A series for each outcome. */
const by = <Outcome extends string, A>(
  outcomes: ReadonlyArray<Outcome>,
  make: (outcome: Outcome) => A
): Readonly<Record<Outcome, A>> =>
  // Sound: there is an entry for each outcome.
  Object.fromEntries(outcomes.map((outcome) => [outcome, make(outcome)])) as Record<Outcome, A>

/** The values of `reason`, by the tags of the refusals. */
const reasons: { readonly [Tag in Refusal]: string } = {
  QueueFull: "queue_full",
  WaitExceeded: "wait_exceeded",
  Overloaded: "overloaded",
  Draining: "draining",
  InsufficientCapacity: "capacity",
  StoreError: "store"
}

// Sound: these are the keys of `reasons`.
const refusals = /*#__PURE__*/ Object.keys(reasons) as ReadonlyArray<Refusal>

class SchedulerFamily extends Family<Kinds["scheduler"][0]> implements SchedulerWatch {
  private readonly waits = by(
    ["started", "refused", "interrupt"],
    (outcome) => this.series.histogram("scheduler.wait_time", "The seconds that jobs waited", seconds, { outcome })
  )
  private readonly uses = by(
    runOutcomes,
    (outcome) => this.series.histogram("scheduler.use_time", "The seconds that jobs ran", seconds, { outcome })
  )
  private readonly refusals = by(
    refusals,
    (tag) => this.series.count("scheduler.refused", "Jobs that were refused", { reason: reasons[tag] })
  )
  private readonly penalties = this.series.count("scheduler.penalties", "Penalties that lengthened a pause")
  private readonly limit: { shown?: Metric.Registration } = {}

  constructor(series: Series, time: Time) {
    super(series, time)
    series.gauge("scheduler.running", "How many jobs run", () => this.total("running"))
    series.gauge("scheduler.weight", "How much weight runs", () => this.total("weight"))
    series.gauge("scheduler.queued", "How many jobs wait", () => this.total("queued"))
    series.gauge("scheduler.oldest_wait", "For how many seconds the oldest waiting job has waited", () => {
      let most = 0
      for (const { oldestWait } of this.loads()) most = Math.max(most, oldestWait)
      return most / 1000
    })
  }

  private *loads(): Generator<Load> {
    for (const { engines } of this.members) yield* engines()
  }

  private total(field: "width" | "running" | "weight" | "queued"): number {
    let sum = 0
    for (const load of this.loads()) if (load[field] !== Infinity) sum += load[field]
    return sum
  }

  override enter(source: Kinds["scheduler"][0]): void {
    super.enter(source)
    this.resized()
  }

  override leave(source: Kinds["scheduler"][0]): boolean {
    const isLast = super.leave(source)
    this.resized()
    return isLast
  }

  resized(): void {
    if (Array.from(this.loads()).some(isBounded)) this.showLimit()
    else if (this.limit.shown !== undefined) {
      this.series.remove(this.limit.shown)
      delete this.limit.shown
    }
  }

  penalized(): void {
    this.penalties.add()
  }

  added(load: Load): void {
    if (isBounded(load)) this.showLimit()
  }

  /** A scheduler without a bound has no limit: OTLP has no number for it. */
  private showLimit(): void {
    this.limit.shown ??= this.series.gauge("scheduler.limit", "The most weight that may run", () => this.total("width"))
  }

  started(since: Millis | undefined): Millis {
    const now = this.time.now()
    this.waits.started.add(since === undefined ? 0 : (now - since) / 1000)
    return now
  }

  left(waited: Millis): void {
    this.waits.interrupt.add(waited / 1000)
  }

  refused(reason: Refusal, waited: Millis): void {
    this.waits.refused.add(waited / 1000)
    this.refusals[reason].add()
  }

  ended(exit: Exit.Exit<unknown, unknown> | undefined, since: Millis): Millis {
    const now = this.time.now()
    const { failure, interrupt, success } = this.uses
    const outcome = outcomeOf(exit)
    const times = outcome === "success" ? success : outcome === "failure" ? failure : interrupt
    times.add((now - since) / 1000)
    return now
  }
}

const isBounded = ({ width }: Load): boolean => width !== Infinity

class LimiterFamily extends Family<Kinds["limiter"][0]> implements LimiterWatch {
  private readonly decisions = by(
    ["admitted", "delayed", "refused"],
    (outcome) => this.series.count("ratelimiter.decisions", "How calls were answered", { outcome })
  )
  private readonly waits = this.series.histogram(
    "ratelimiter.wait_time",
    "The seconds that delayed calls waited",
    seconds
  )
  private readonly penalties = this.series.count(
    "ratelimiter.penalties",
    "Penalties that lengthened the pause of a key"
  )

  constructor(series: Series, time: Time) {
    super(series, time)
    series.gauge("ratelimiter.penalty", "The seconds until the last penalty ends", () => {
      let most = 0
      for (const limiter of this.members) most = Math.max(most, longestPenaltyIn(limiter))
      return most / 1e9
    })
  }

  admitted(): void {
    this.decisions.admitted.add()
  }

  delayed(waited: Millis): void {
    this.decisions.delayed.add()
    this.waits.add(waited / 1000)
  }

  refused(): void {
    this.decisions.refused.add()
  }

  penalized(): void {
    this.penalties.add()
  }
}

class ReducerFamily extends Family<Kinds["reducer"][0]> implements ReducerWatch {
  private readonly calls = by(
    ["started", "joined"],
    (outcome) => this.series.count("reducer.calls", "Calls that started a run, and calls that joined one", { outcome })
  )
  private readonly runs = by(
    runOutcomes,
    (outcome) => this.series.histogram("reducer.run_time", "The seconds that runs took", seconds, { outcome })
  )

  constructor(series: Series, time: Time) {
    super(series, time)
    series.gauge("reducer.in_flight", "How many runs are in flight", () => this.sum(({ inFlight }) => inFlight))
  }

  started(): void {
    this.calls.started.add()
  }

  joined(): void {
    this.calls.joined.add()
  }

  ended(exit: Exit.Exit<unknown, unknown>, since: Millis | undefined): void {
    this.runs[outcomeOf(exit)].add(since === undefined ? 0 : this.time.since(since) / 1000)
  }
}

class BatcherFamily extends Family<Kinds["batcher"][0]> implements BatcherWatch {
  private readonly requests = by(
    ["sent", "merged", "joined", "cached"],
    (outcome) => this.series.count("batcher.requests", "Look-ups by how they were answered", { outcome })
  )
  private readonly batches = this.series.histogram("batcher.batch_size", "The distinct requests of a batch", sizes)
  private readonly waits = this.series.histogram("batcher.wait_time", "The seconds that batches waited", seconds)
  private readonly runs = this.series.histogram("batcher.run_time", "The seconds that batches ran", seconds)

  asked(outcome: "sent" | "merged" | "joined" | "cached"): void {
    this.requests[outcome].add()
  }

  executes(size: number, waited: Millis): void {
    this.batches.add(size)
    this.waits.add(waited / 1000)
  }

  ended(ran: Millis): void {
    this.runs.add(ran / 1000)
  }
}

class BudgetFamily extends Family<Kinds["retryBudget"][0]> {
  /** The denied retries of those that have left. */
  private past = 0

  constructor(series: Series, time: Time) {
    super(series, time)
    series.gauge("retry_budget.tokens", "The tokens that are there", () => this.sum(({ read }) => read().tokens))
    series.counter("retry_budget.denied", "Retries that the budget denied", () => this.past + this.sum(denied))
  }

  override leave(source: Kinds["retryBudget"][0]): boolean {
    this.past += denied(source)
    return super.leave(source)
  }
}

const denied = ({ read }: { readonly read: () => Budget }): number => read().denied

class StoreFamily extends Family<Kinds["store"][0]> implements StoreWatch {
  private readonly operations = new Map<string, { readonly times: Histogram; readonly errors: Count }>()

  commanded(operation: string, took: Millis, failed: boolean): void {
    const known = this.operations.get(operation) ?? this.add(operation)
    known.times.add(took / 1000)
    if (failed) known.errors.add()
  }

  private add(operation: string) {
    const { series } = this
    const known = {
      times: series.histogram("store.commands", "The seconds that commands took", seconds, { operation }),
      errors: series.count("store.errors", "Commands that failed", { operation })
    }
    this.operations.set(operation, known)
    return known
  }
}

type Families = { readonly [K in keyof Kinds]: Family<Kinds[K][0]> & Kinds[K][1] }

const classes: { readonly [K in keyof Kinds]: new(series: Series, time: Time) => Families[K] } = {
  scheduler: SchedulerFamily,
  limiter: LimiterFamily,
  reducer: ReducerFamily,
  batcher: BatcherFamily,
  retryBudget: BudgetFamily,
  store: StoreFamily
}

/** The families of each registry. */
const registries = /*#__PURE__*/ new WeakMap<object, Map<string, unknown>>()

/** The other attributes of series. */
const ours: ReadonlySet<string> = /*#__PURE__*/ new Set(["outcome", "reason", "operation"])

/** Keeps metrics of the services in the registry of the place where each is built. */
export const meter: Observer = {
  enrol<K extends keyof Kinds>(kind: K, name: string, source: Kinds[K][0], { clock, context }: Place): Enrolment<K> {
    const registry = Context.get(context, Metric.MetricRegistry)
    let families = registries.get(registry)
    if (families === undefined) registries.set(registry, families = new Map())
    const own = kind === "store" ? "service" : "name"
    // Without ours, which win: places that differ in these alone have series in common.
    const around = Object.entries(Context.get(context, Metric.CurrentMetricAttributes))
      .filter(([attribute]) => attribute !== own && !ours.has(attribute))
      .sort(([a], [b]) => a < b ? -1 : 1)
    const id = JSON.stringify([kind, name, around])
    // Sound: the id begins with the kind.
    let family = families.get(id) as Families[K] | undefined
    if (family === undefined) {
      families.set(id, family = new classes[kind](new Series(context, { [own]: name }), new Time(clock)))
    }
    const entered = family
    entered.enter(source)
    return {
      watch: entered.on(clock),
      leave: () => {
        if (entered.leave(source)) families.delete(id)
      }
    }
  }
}
