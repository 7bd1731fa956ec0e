/**
 * Series of metrics in core's registry: gauges and counters that are read when they are exported, and histograms.
 */
import * as Context from "effect/Context"
import { constVoid } from "effect/Function"
import * as Metric from "effect/Metric"

type Attributes = Readonly<Record<string, string>>

/** The bounds that OpenTelemetry advises for seconds. */
export const seconds: ReadonlyArray<number> = [
  0.005,
  0.01,
  0.025,
  0.05,
  0.075,
  0.1,
  0.25,
  0.5,
  0.75,
  1,
  2.5,
  5,
  7.5,
  10
]

export const sizes: ReadonlyArray<number> = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]

export class Histogram {
  private readonly bounds: ReadonlyArray<number>
  private readonly counts: Float64Array
  private count = 0
  private sum = 0
  private min = Infinity
  private max = -Infinity

  constructor(bounds: ReadonlyArray<number>) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  add(value: number): void {
    const { bounds, counts } = this
    this.count++
    // A time is negative where the clock was set back meanwhile.
    if (!(value > 0)) {
      counts[0]!++
      this.min = 0
      this.max = Math.max(this.max, 0)
      return
    }
    let i = 0
    // No value is above what is beyond the last bound.
    while (value > bounds[i]!) i++
    counts[i]!++
    this.sum += value
    this.min = Math.min(this.min, value)
    this.max = Math.max(this.max, value)
  }

  get state(): Metric.HistogramState {
    const { bounds, count, counts, max, min, sum } = this
    let before = 0
    const buckets = bounds.map((bound, i): [number, number] => [bound, before += counts[i]!])
    return count === 0 ? { buckets, count, sum, min: 0, max: 0 } : { buckets, count, sum, min, max }
  }
}

export class Count {
  total = 0

  add(): void {
    this.total++
  }
}

/** The series of one service, in the registry of its place. */
export class Series {
  private readonly context: Context.Context<never>
  private readonly attributes: Attributes
  private readonly registrations = new Set<Metric.Registration>()

  constructor(context: Context.Context<never>, attributes: Attributes) {
    this.context = context
    this.attributes = attributes
  }

  gauge(id: string, description: string, read: () => number): Metric.Registration {
    return this.register(
      (attributes) => Metric.gauge(prefix(id), { description, attributes }),
      () => ({ value: read() })
    )
  }

  count(id: string, description: string, more?: Attributes): Count {
    const count = new Count()
    this.counter(id, description, () => count.total, more)
    return count
  }

  counter(id: string, description: string, read: () => number, more?: Attributes): void {
    this.register(
      (attributes) => Metric.counter(prefix(id), { description, attributes, incremental: true }),
      () => ({ count: read(), incremental: true }),
      more
    )
  }

  histogram(id: string, description: string, bounds: ReadonlyArray<number>, more?: Attributes): Histogram {
    const histogram = new Histogram(bounds)
    this.register(
      (attributes) => Metric.histogram(prefix(id), { description, attributes, boundaries: bounds }),
      () => histogram.state,
      more
    )
    return histogram
  }

  private register<Input, State>(
    make: (attributes: Attributes) => Metric.Metric<Input, State>,
    get: () => State,
    more?: Attributes
  ): Metric.Registration {
    const attributes = { ...this.attributes, ...more }
    // Core lets those of the place win over those of the metric: two series of ours would be one.
    const around = Context.get(this.context, Metric.CurrentMetricAttributes)
    const context = Context.add(this.context, Metric.CurrentMetricAttributes, { ...around, ...attributes })
    const registration = Metric.registerUnsafe(make(attributes), context, { get, update: constVoid, modify: constVoid })
    this.registrations.add(registration)
    return registration
  }

  remove(registration: Metric.Registration): void {
    registration.remove()
    this.registrations.delete(registration)
  }

  /** Ends all of them. */
  end(): void {
    for (const registration of this.registrations) registration.remove()
  }
}

const prefix = (id: string): string => `effect_funnel.${id}`
