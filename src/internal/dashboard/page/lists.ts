/**
 * The lists of the page: the longest waits and runs, and who waits for whom.
 */
import type { Frame } from "../frame.js"
import { millis, plural, told } from "./format.js"

export interface Row {
  readonly what: string
  readonly where: string
  readonly millis: number
  readonly details: string
}

export interface Lists {
  readonly waits: ReadonlyArray<Row>
  readonly runs: ReadonlyArray<Row>
  readonly edges: { readonly total: number; readonly rows: ReadonlyArray<readonly [from: string, to: string]> }
}

type Snapshot = Frame["snapshot"]
type Job = Snapshot["schedulers"]["first"][number]["queued"]["first"][number]

const rowsShown = 20

export const traits = ({ inside, priority, share, weight }: Job): string =>
  told(
    `priority ${priority}`,
    share ?? false,
    weight !== 1 && `weight ${weight}`,
    inside !== undefined && `inside ${inside}`
  ).join(", ")

export const lists = (snapshot: Snapshot): Lists => {
  const waits: Array<Row> = []
  const runs: Array<Row> = []
  for (const { key, name, queued, running, waitingFor } of snapshot.schedulers.first) {
    const where = key === undefined ? name : `${name} ${key}`
    for (const job of queued.first) {
      waits.push({ what: job.id, where, millis: job.millis, details: `for ${waitingFor}, ${traits(job)}` })
    }
    for (const job of running.first) {
      runs.push({ what: job.id, where, millis: job.millis, details: traits(job) })
    }
  }
  for (const { held, name } of snapshot.limiters) {
    for (const { key, oldestWaitMillis, penaltyMillis, waiting } of held.first) {
      if (waiting === 0) continue
      const details = `for rate, ${plural(waiting, "call")}${
        penaltyMillis > 0 ? `, penalty of ${millis(penaltyMillis)}` : ""
      }`
      waits.push({ what: key === undefined ? "a key" : `key ${key}`, where: name, millis: oldestWaitMillis, details })
    }
  }
  for (const { batches, name } of snapshot.batchers) {
    for (const { callers, id, keys, millis, requests, state } of batches.first) {
      const row = {
        what: id,
        where: name,
        millis,
        details: `${state}, ${plural(requests, "request")} of ${plural(callers, "caller")}${keys ? `, ${keys}` : ""}`
      }
      if (state === "running") runs.push(row)
      else waits.push(row)
    }
  }
  for (const { inFlight, name } of snapshot.reducers) {
    for (const run of inFlight.first) {
      runs.push({
        what: run.id,
        where: run.name === undefined ? name : `${name}, ${run.name}`,
        millis: run.millis,
        details: `${run.phase}, ${plural(run.callers, "caller")}${run.key === undefined ? "" : `, key ${run.key}`}`
      })
    }
  }
  const longest = (rows: Array<Row>) => rows.sort((a, b) => b.millis - a.millis).slice(0, rowsShown)
  const { first, total } = snapshot.waits
  return {
    waits: longest(waits),
    runs: longest(runs),
    edges: {
      total,
      rows: first.map(({ from, to }) => [`${from.id} (${from.name})`, `${to.id} (${to.name})`])
    }
  }
}
