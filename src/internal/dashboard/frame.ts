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

/** Reads the series of all services in the registry of a place. */
export const points = (context: Context.Context<never>): ReadonlyArray<Point> => {
  const found: Array<Point> = []
  for (const { attributes = {}, hooks, id, type } of Context.get(context, Metric.MetricRegistry).values()) {
    if (!id.startsWith(prefix) || (type !== "Counter" && type !== "Histogram")) continue
    const { name, operation, outcome, policy, reason, service } = attributes
    const known = {
      id: id.slice(prefix.length),
      name: name ?? service ?? "",
      label: outcome ?? reason ?? operation ?? policy ?? ""
    }
    // Sound: the type of a metric tells its state.
    const state = hooks.get(context) as Metric.CounterState<number | bigint> | Metric.HistogramState
    found.push(
      "sum" in state
        ? {
          ...known,
          count: state.count,
          sum: state.sum,
          // Others are not shown.
          ...known.id === "batcher.batch_size" ? { buckets: state.buckets } : {}
        }
        : { ...known, count: Number(state.count) }
    )
  }
  return found
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
