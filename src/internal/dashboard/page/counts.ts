/**
 * The counts of the last minute, from frames that have the counts since the start.
 */
import type { Frame, Point } from "../frame.js"

interface Reading {
  readonly at: number
  readonly counts: ReadonlyMap<string, number>
}

const keepMillis = 60_000

/** What a sum takes: a metric, of one service or of all, with one label or with all. */
export interface Query {
  readonly id: string
  readonly name?: string
  readonly label?: string
}

const keyOf = ({ id, label, name }: Pick<Point, "id" | "name" | "label">, part: string): string =>
  JSON.stringify([id, name, label, part])

/** There is a frame before anything is asked. */
export class Counts {
  private readings: Array<Reading> = []
  private points: ReadonlyArray<Point> = []

  push({ points, snapshot: { at } }: Frame): void {
    const counts = new Map<string, number>()
    for (const point of points) {
      counts.set(keyOf(point, "count"), point.count)
      counts.set(keyOf(point, "sum"), point.sum ?? 0)
    }
    this.points = points
    this.readings.push({ at, counts })
    while ((this.readings[1]?.at ?? at) <= at - keepMillis) this.readings.shift()
  }

  /** The program is another one. */
  clear(): void {
    this.readings = []
  }

  /** The seconds that `lately` covers: 60 after a minute. */
  get seconds(): number {
    return this.over(this.readings[0]!)
  }

  get isEmpty(): boolean {
    return this.points.length === 0
  }

  private over(first: Reading): number {
    return (this.readings.at(-1)!.at - first.at) / 1000
  }

  private *matching({ id, label, name }: Query): Generator<Point> {
    for (const point of this.points) {
      if (point.id !== id || (name !== undefined && point.name !== name)) continue
      if (label === undefined || point.label === label) yield point
    }
  }

  private since(first: Reading, query: Query, part: "count" | "sum"): number {
    let total = 0
    for (const point of this.matching(query)) {
      const now = point[part] ?? 0
      const before = first.counts.get(keyOf(point, part)) ?? 0
      // A count that fell began anew.
      total += now >= before ? now - before : now
    }
    return total
  }

  /** Since the program started. */
  total(query: Query): number {
    let total = 0
    for (const { count } of this.matching(query)) total += count
    return total
  }

  /** In the last minute, or since the page looks. */
  lately(query: Query, part: "count" | "sum" = "count"): number {
    return this.since(this.readings[0]!, query, part)
  }

  /** In the last so many milliseconds. */
  within(millis: number, query: Query): number {
    const since = this.readings.at(-1)!.at - millis
    const first = this.readings.findIndex(({ at }) => at >= since)
    return this.since(this.readings[Math.max(0, first - 1)]!, query, "count")
  }

  /** A second, since the frame before, if there is one. */
  rate(...queries: ReadonlyArray<Query>): number | null {
    const before = this.readings.at(-2) ?? this.readings[0]!
    const seconds = this.over(before)
    return seconds === 0 ? null : queries.reduce((sum, query) => sum + this.since(before, query, "count"), 0) / seconds
  }

  /** The mean of a histogram in the last minute. */
  mean(query: Query): number | undefined {
    const count = this.lately(query)
    return count === 0 ? undefined : this.lately(query, "sum") / count
  }

  labels(query: Query): ReadonlyArray<string> {
    return Array.from(new Set(Array.from(this.matching(query), (_) => _.label)))
  }

  names(ids: ReadonlyArray<string>): ReadonlyArray<string> {
    return Array.from(new Set(this.points.filter(({ id }) => ids.includes(id)).map(({ name }) => name)))
  }

  /** How many values there were up to each bound, since the start. */
  buckets(query: Query): ReadonlyArray<readonly [bound: number, count: number]> {
    return Array.from(this.matching(query), ({ buckets = [] }) => buckets).flat()
  }
}
