/**
 * The metrics of all services. Services of one name share their series: gauges are summed, and counts go on when one of
 * them leaves. With the last of them the series go.
 */
import { hasInterruptsOnly } from "effect/Cause"
import * as Context from "effect/Context"
import type * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
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
import type { Place } from "./tell.js"
import { type Histogram, seconds, Series, sizes } from "./series.js"
import { Time } from "./time.js"

/** The series of the services of one kind and name. */
interface Family<Source> {
  enter(source: Source): void
  /** Returns whether it was the last. */
  leave(source: Source): boolean
}

abstract class Members<Source> implements Family<Source> {
  protected readonly members = new Set<Source>()
  protected readonly series: Series

  constructor(series: Series) {
    this.series = series
  }

  enter(source: Source): void {
    this.members.add(source)
  }

  leave(source: Source): boolean {
    this.members.delete(source)
    if (this.members.size > 0) return false
    this.series.end()
    return true
  }

  protected sum(read: (source: Source) => number): number {
    let sum = 0
    for (const member of this.members) sum += read(member)
    return sum
  }
}

const outcomeOf = (exit: Exit.Exit<unknown, unknown> | undefined): "success" | "failure" | "interrupt" =>
  exit === undefined
    ? "interrupt"
    : exit._tag === "Success"
    ? "success"
    : hasInterruptsOnly(exit.cause)
    ? "interrupt"
    : "failure"

/** Counts by outcome, each a series. */
class Tally<Outcome extends string> {
  private readonly counts: Record<Outcome, number>

  constructor(
    series: Series,
    id: string,
    description: string,
    outcomes: ReadonlyArray<Outcome>,
    attribute: "outcome" | "reason" = "outcome"
  ) {
    // Sound: the loop sets a count for each outcome.
    const counts = this.counts = {} as Record<Outcome, number>
    for (const outcome of outcomes) {
      counts[outcome] = 0
      series.counter(id, description, () => counts[outcome], { [attribute]: outcome })
    }
  }

  add(outcome: Outcome, n = 1): void {
    this.counts[outcome] += n
  }
}

/** A histogram of seconds for each outcome. */
const timesBy = <Outcome extends string>(
  series: Series,
  id: string,
  description: string,
  outcomes: ReadonlyArray<Outcome>
): Record<Outcome, Histogram> => {
  // Sound: the loop sets one for each outcome.
  const times = {} as Record<Outcome, Histogram>
  for (const outcome of outcomes) times[outcome] = series.histogram(id, description, seconds, { outcome })
  return times
}

const runOutcomes = ["success", "failure", "interrupt"] as const

/** The values of `reason`, by the tags of the refusals. */
const reasons: { readonly [Tag in Refusal]: string } = {
  QueueFull: "queue_full",
  WaitExceeded: "wait_exceeded",
  Overloaded: "overloaded",
  Draining: "draining",
  InsufficientCapacity: "capacity",
  StoreError: "store"
}

class SchedulerFamily extends Members<Kinds["scheduler"][0]> implements SchedulerWatch {
  private readonly time: Time
  private readonly waits: Record<"started" | "refused" | "interrupt", Histogram>
  private readonly uses: Record<"success" | "failure" | "interrupt", Histogram>
  private readonly refusals: Tally<string>
  private limited: Metric.Registration | undefined
  private penalties = 0

  constructor(series: Series, time: Time) {
    super(series)
    this.time = time
    series.gauge("scheduler.running", "How many jobs run", () => this.total("running"))
    series.gauge("scheduler.weight", "How much weight runs", () => this.total("weight"))
    series.gauge("scheduler.queued", "How many jobs wait", () => this.total("queued"))
    series.gauge("scheduler.oldest_wait", "For how many seconds the oldest waiting job has waited", () => {
      let most = 0
      for (const { oldestWait } of this.loads()) most = Math.max(most, oldestWait)
      return most / 1000
    })
    this.waits = timesBy(series, "scheduler.wait_time", "The seconds that jobs waited", [
      "started",
      "refused",
      "interrupt"
    ])
    this.uses = timesBy(series, "scheduler.use_time", "The seconds that jobs ran", runOutcomes)
    this.refusals = new Tally(series, "scheduler.refused", "Jobs that were refused", Object.values(reasons), "reason")
    series.counter("scheduler.penalties", "Penalties that lengthened a pause", () => this.penalties)
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
    if (!isLast) this.resized()
    return isLast
  }

  resized(): void {
    if (Array.from(this.loads()).some(isBounded)) this.showLimit()
    else if (this.limited !== undefined) {
      this.series.remove(this.limited)
      this.limited = undefined
    }
  }

  penalized(): void {
    this.penalties++
  }

  added(load: Load): void {
    if (isBounded(load)) this.showLimit()
  }

  /** A scheduler without a bound has no limit: OTLP has no number for it. */
  private showLimit(): void {
    this.limited ??= this.series.gauge("scheduler.limit", "The most weight that may run", () => this.total("width"))
  }

  now(): Millis {
    return this.time.now()
  }

  started(since: Millis | undefined, now = this.time.now()): Millis {
    this.waits.started.add(since === undefined || since >= now ? 0 : (now - since) / 1000)
    return now
  }

  left(waited: Millis): void {
    this.waits.interrupt.add(waited / 1000)
  }

  refused(reason: Refusal, waited: Millis): void {
    this.waits.refused.add(waited / 1000)
    this.refusals.add(reasons[reason])
  }

  ended(exit: Exit.Exit<unknown, unknown> | undefined, since: Millis): Millis {
    const now = this.time.now()
    const used = now - since
    const { failure, interrupt, success } = this.uses
    const outcome = outcomeOf(exit)
    const times = outcome === "success" ? success : outcome === "failure" ? failure : interrupt
    times.add(used > 0 ? used / 1000 : 0)
    return now
  }
}

const isBounded = ({ width }: Load): boolean => width !== Infinity

class LimiterFamily extends Members<Kinds["limiter"][0]> implements LimiterWatch {
  private readonly decisions: Tally<"admitted" | "delayed" | "refused">
  private readonly waits: Histogram
  private penalties = 0

  constructor(series: Series) {
    super(series)
    this.decisions = new Tally(series, "ratelimiter.decisions", "How calls were answered", [
      "admitted",
      "delayed",
      "refused"
    ])
    this.waits = series.histogram("ratelimiter.wait_time", "The seconds that delayed calls waited", seconds)
    series.gauge("ratelimiter.penalty", "The seconds until the last penalty ends", () => {
      let most = 0
      for (const limiter of this.members) most = Math.max(most, longestPenaltyIn(limiter))
      return most / 1e9
    })
    series.counter("ratelimiter.penalties", "Penalties that lengthened the pause of a key", () => this.penalties)
  }

  admitted(): void {
    this.decisions.add("admitted")
  }

  delayed(waited: Millis): void {
    this.decisions.add("delayed")
    this.waits.add(waited / 1000)
  }

  refused(): void {
    this.decisions.add("refused")
  }

  penalized(): void {
    this.penalties++
  }
}

class ReducerFamily extends Members<Kinds["reducer"][0]> implements ReducerWatch {
  private readonly time: Time
  private readonly calls: Tally<"started" | "joined">
  private readonly runs: Record<"success" | "failure" | "interrupt", Histogram>

  constructor(series: Series, time: Time) {
    super(series)
    this.time = time
    this.calls = new Tally(series, "reducer.calls", "Calls that started a run, and calls that joined one", [
      "started",
      "joined"
    ])
    series.gauge("reducer.in_flight", "How many runs are in flight", () => this.sum(({ inFlight }) => inFlight()))
    this.runs = timesBy(series, "reducer.run_time", "The seconds that runs took", runOutcomes)
  }

  started(): void {
    this.calls.add("started")
  }

  joined(): void {
    this.calls.add("joined")
  }

  ended(exit: Exit.Exit<unknown, unknown>, since: Millis | undefined): void {
    this.runs[outcomeOf(exit)].add(since === undefined ? 0 : this.time.since(since) / 1000)
  }
}

class BatcherFamily extends Members<Kinds["batcher"][0]> implements BatcherWatch {
  private readonly time: Time
  private readonly requests: Tally<"sent" | "merged" | "joined" | "cached">
  private readonly batches: Histogram
  private readonly waits: Histogram
  private readonly runs: Histogram

  constructor(series: Series, time: Time) {
    super(series)
    this.time = time
    this.requests = new Tally(series, "batcher.requests", "Look-ups by how they were answered", [
      "sent",
      "merged",
      "joined",
      "cached"
    ])
    this.batches = series.histogram("batcher.batch_size", "The distinct requests of a batch", sizes)
    this.waits = series.histogram("batcher.wait_time", "The seconds that batches waited", seconds)
    this.runs = series.histogram("batcher.run_time", "The seconds that batches ran", seconds)
  }

  now(): Millis {
    return this.time.now()
  }

  asked(outcome: "sent" | "merged" | "joined" | "cached"): void {
    this.requests.add(outcome)
  }

  executes(size: number, waited: Millis): void {
    this.batches.add(size)
    this.waits.add(waited / 1000)
  }

  ended(ran: Millis): void {
    this.runs.add(ran / 1000)
  }
}

class BudgetFamily extends Members<Kinds["retryBudget"][0]> {
  /** The denied retries of those that have left. */
  private past = 0

  constructor(series: Series) {
    super(series)
    series.gauge("retry_budget.tokens", "The tokens that are there", () => this.sum(({ read }) => read().tokens))
    series.counter("retry_budget.denied", "Retries that the budget denied", () => this.past + this.sum(denied))
  }

  override leave(source: Kinds["retryBudget"][0]): boolean {
    this.past += denied(source)
    return super.leave(source)
  }
}

const denied = ({ read }: { readonly read: () => Budget }): number => read().denied

class StoreFamily extends Members<Kinds["store"][0]> implements StoreWatch {
  private readonly operations = new Map<string, { readonly times: Histogram; errors: number }>()

  commanded(operation: string, took: Millis, failed: boolean): void {
    const known = this.operations.get(operation) ?? this.add(operation)
    known.times.add(took / 1000)
    if (failed) known.errors++
  }

  private add(operation: string) {
    const { series } = this
    const times = series.histogram("store.commands", "The seconds that commands took", seconds, { operation })
    const known = { times, errors: 0 }
    series.counter("store.errors", "Commands that failed", () => known.errors, { operation })
    this.operations.set(operation, known)
    return known
  }
}

type Families = { readonly [K in keyof Kinds]: Family<Kinds[K][0]> & Kinds[K][1] }

const make: { readonly [K in keyof Kinds]: (series: Series, time: Time) => Families[K] } = {
  scheduler: (series, time) => new SchedulerFamily(series, time),
  limiter: (series) => new LimiterFamily(series),
  reducer: (series, time) => new ReducerFamily(series, time),
  batcher: (series, time) => new BatcherFamily(series, time),
  retryBudget: (series) => new BudgetFamily(series),
  store: (series) => new StoreFamily(series)
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
      families.set(id, family = make[kind](new Series(context, { [own]: name }), new Time(clock)))
    }
    const entered = family
    entered.enter(source)
    return {
      watch: entered,
      leave: () => {
        if (entered.leave(source)) families.delete(id)
      }
    }
  }
}
