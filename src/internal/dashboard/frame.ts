/**
 * What the server sends to the page once a second: the services at one moment, and the metrics that are kept of them.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import type { Snapshot } from "../inspect/models.js"
import type { Member } from "../inspect/roll.js"
import { read, type Settings } from "../inspect/snapshot.js"

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

const sum = (a: Point, b: Point): Point => ({
  ...a,
  count: a.count + b.count,
  ...a.sum === undefined ? {} : { sum: a.sum + (b.sum ?? 0) },
  ...a.buckets === undefined
    ? {}
    : { buckets: a.buckets.map(([bound, n], i) => [bound, n + (b.buckets?.[i]?.[1] ?? 0)]) }
})

/** Reads the series of all services in the registry of a place. Those of services of one name in several places are one. */
export const points = (context: Context.Context<never>): ReadonlyArray<Point> => {
  const found = new Map<string, Point>()
  for (const { attributes = {}, hooks, id: metric, type } of Context.get(context, Metric.MetricRegistry).values()) {
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
    const known = found.get(key)
    found.set(key, known === undefined ? point : sum(known, point))
  }
  return Array.from(found.values())
}

/** Names are of any length: the frame of a hundred services must not be of any size. */
const longestText = 120

const shorten = (_: string, value: unknown): unknown =>
  typeof value === "string" && value.length > longestText ? `${value.slice(0, longestText)}…` : value

/** Makes the text of a frame. It costs time in the number of jobs, runs and keys, as a snapshot does. */
export const encode = (
  members: Iterable<Member>,
  context: Context.Context<never>,
  options: Settings & { readonly since: number; readonly every: number },
  now: number
): string => {
  const { every, since } = options
  const frame: Frame = { since, every, snapshot: read(members, options, now), points: points(context) }
  return JSON.stringify(frame, shorten)
}
