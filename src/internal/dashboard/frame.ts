/**
 * What the server sends to the page once a second: the services at one moment, and the metrics that are kept of them.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import type { Snapshot } from "../inspect/models.js"
import type { Member } from "../inspect/roll.js"
import { type Service, services } from "../inspect/services.js"
import { read, type Settings, shortened } from "../inspect/snapshot.js"

/** One series of a service: a counter, or a histogram with its sum and its buckets. Gauges are in the snapshot. */
export interface Point {
  /** The name of the metric, without its prefix. */
  readonly id: string
  /** The service. */
  readonly name: string
  /** Its outcome, reason, operation or policy. */
  readonly label: string
  readonly count: number
  readonly sum?: number
  /** The bounds, with the count up to each. */
  readonly buckets?: ReadonlyArray<readonly [bound: number, count: number]>
}

export interface Frame {
  /** When the dashboard was built: another one is another program, whose counts begin anew. */
  readonly since: number
  /** Milliseconds between two frames. */
  readonly every: number
  readonly snapshot: Snapshot
  /** The lists of the snapshot end somewhere: these are the figures of all. */
  readonly services: ReadonlyArray<Service>
  readonly points: ReadonlyArray<Point>
}

const prefix = "effect_funnel."

/** The attributes that tell the series of a service apart. The place of a service may have some of the same names. */
const labels: Readonly<Record<string, string>> = {
  "scheduler.wait_time": "outcome",
  "scheduler.use_time": "outcome",
  "scheduler.refused": "reason",
  "ratelimiter.decisions": "outcome",
  "reducer.calls": "outcome",
  "reducer.run_time": "outcome",
  "batcher.requests": "outcome",
  "store.commands": "operation",
  "store.errors": "operation",
  "store.policy": "policy"
}

/** Two of one metric have the same parts. */
const sum = (a: Point, b: Point): Point => ({
  ...a,
  count: a.count + b.count,
  ...a.sum === undefined ? {} : { sum: a.sum + b.sum! },
  ...a.buckets === undefined ? {} : { buckets: a.buckets.map(([bound, n], i) => [bound, n + b.buckets![i]![1]]) }
})

/** What was last read of the series of a registry, and the counts of those that have gone while others of their name stay. */
interface Known {
  live: ReadonlyMap<object, readonly [key: string, point: Point]>
  readonly gone: Map<string, Point>
}

const registries = /*#__PURE__*/ new WeakMap<object, Known>()

/** What stands for a series: what was read of one must not keep the service that it is of. */
const tokens = /*#__PURE__*/ new WeakMap<object, object>()

const tokenOf = (series: object): object => {
  let token = tokens.get(series)
  if (token === undefined) tokens.set(series, token = {})
  return token
}

/**
 * Reads the series of all services in the registry of a place. Those of services of one name in several places are one: it
 * counts on when one of the places goes.
 */
export const points = (context: Context.Context<never>): ReadonlyArray<Point> => {
  const registry = Context.get(context, Metric.MetricRegistry)
  let known = registries.get(registry)
  if (known === undefined) registries.set(registry, known = { live: new Map(), gone: new Map() })
  const { gone } = known
  const live = new Map<object, readonly [key: string, point: Point]>()
  const found = new Map<string, Point>()
  const add = (to: Map<string, Point>, key: string, point: Point): void => {
    const other = to.get(key)
    to.set(key, other === undefined ? point : sum(other, point))
  }
  for (const series of registry.values()) {
    const { attributes = {}, hooks, id: metric, type } = series
    if (!metric.startsWith(prefix) || (type !== "Counter" && type !== "Histogram")) continue
    const id = metric.slice(prefix.length)
    const name = attributes[id.startsWith("store.") ? "service" : "name"] ?? ""
    const label = attributes[labels[id] ?? ""] ?? ""
    // Sound: the type of a metric tells its state.
    const state = hooks.get(context) as Metric.CounterState<number | bigint> | Metric.HistogramState
    const point: Point = "sum" in state
      ? {
        id,
        name,
        label,
        count: state.count,
        sum: state.sum,
        // Others are not shown.
        ...id === "batcher.batch_size" ? { buckets: state.buckets } : {}
      }
      : { id, name, label, count: Number(state.count) }
    const key = JSON.stringify([id, name, label])
    live.set(tokenOf(series), [key, point])
    add(found, key, point)
  }
  for (const [token, [key, point]] of known.live) if (!live.has(token)) add(gone, key, point)
  known.live = live
  for (const [key, point] of gone) {
    if (found.has(key)) add(found, key, point)
    else gone.delete(key)
  }
  return Array.from(found.values())
}

/** Names are of any length: the frame of a hundred services must not be of any size. */
const shorten = (_: string, value: unknown): unknown => typeof value === "string" ? shortened(value) : value

/** Makes the text of a frame. It costs time in the number of jobs, runs and keys, as a snapshot does. */
export const encode = (
  members: Iterable<Member>,
  context: Context.Context<never>,
  options: Settings & { readonly since: number; readonly every: number },
  now: number
): string => {
  const { every, since } = options
  const snapshot = read(members, options, now)
  const frame: Frame = { since, every, snapshot, services: services(members), points: points(context) }
  return JSON.stringify(frame, shorten)
}
