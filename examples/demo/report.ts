/**
 * The table at the end, and the verdict below it.
 */
import Table from "cli-table3"
import type { Run, Verdict } from "./demo.ts"
import { windowMillis } from "./funnel.ts"
import type { judge, SharedRun } from "./processes.ts"

export const renderTable = (runs: ReadonlyArray<Run>): string => {
  const table = new Table({
    head: ["", ...runs.map((run) => run.title)],
    colAligns: ["left", ...runs.map(() => "right" as const)],
    style: { head: [], border: [], compact: true }
  })
  const row = (title: string, cell: (run: Run) => string) => table.push([title, ...runs.map(cell)])
  row("requests", (run) => count(run.outcomes.length))
  row("effects run", (run) => count(run.server.effects))
  row("SQL queries", (run) => count(run.server.queries))
  row("most SQL queries at once", (run) => count(run.server.mostQueriesAtOnce))
  row("wall time", (run) => `${(run.millis / 1000).toFixed(2)} s`)
  row("p50", (run) => `${percentile(run, 50).toFixed(1)} ms`)
  row("p99", (run) => `${percentile(run, 99).toFixed(1)} ms`)
  row("errors", (run) => count(run.outcomes.filter((outcome) => outcome.status !== 200).length))
  return table.toString()
}

export const renderVerdict = (verdict: Verdict): string => {
  const { errors, queriesWith, queriesWithout, requests, sameAnswers } = verdict
  const times = (queriesWithout / queriesWith).toFixed(1)
  return [
    sameAnswers === requests
      ? "Every request got the same answer in both runs."
      : `Only ${count(sameAnswers)} of ${count(requests)} requests got the same answer in both runs.`,
    ...(errors === 0 ? [] : [`Failed requests: ${count(errors)}.`]),
    `${count(queriesWith)} queries instead of ${count(queriesWithout)}: ${times} times fewer.`,
    ...(queriesWith * 10 <= queriesWithout
      ? []
      : ["The demo asks for 10 times fewer. The more requests are under way at once, the more they share."]),
    `What this saves is paid for in latency: a look-up waits up to ${windowMillis} ms for others to travel with, and for a place.`
  ].join("\n")
}

/** The figures of each process in the two runs over several processes, and their totals. */
export const renderShared = (runs: readonly [SharedRun, SharedRun]): string => {
  const table = new Table({
    head: ["", ...runs.map((run) => run.title)],
    colAligns: ["left", "right", "right"],
    style: { head: [], border: [], compact: true }
  })
  const row = (title: string, cell: (run: SharedRun) => string) => table.push([title, ...runs.map(cell)])
  const sum = (run: SharedRun, field: "effects" | "queries") =>
    count(run.servers.reduce((sum, server) => sum + server[field], 0))
  row("requests", (run) => count(run.outcomes.length))
  for (const field of ["effects", "queries"] as const) {
    const what = field === "effects" ? "effects run" : "SQL queries"
    runs[0].servers.forEach((_, i) => row(`${what}, process ${i + 1}`, (run) => count(run.servers[i]![field])))
    row(`${what}, all`, (run) => sum(run, field))
  }
  row("wall time", (run) => `${(run.millis / 1000).toFixed(2)} s`)
  row("p50", (run) => `${percentile(run, 50).toFixed(1)} ms`)
  row("p99", (run) => `${percentile(run, 99).toFixed(1)} ms`)
  row("errors", (run) => count(run.outcomes.filter((outcome) => outcome.status !== 200).length))
  return table.toString()
}

export const renderSharedVerdict = (verdict: ReturnType<typeof judge>): string =>
  [
    verdict.sameAnswers === verdict.requests
      ? "Every request got the same answer in both runs."
      : `Only ${count(verdict.sameAnswers)} of ${count(verdict.requests)} requests got the same answer in both runs.`,
    ...(verdict.errors === 0 ? [] : [`Failed requests: ${count(verdict.errors)}.`]),
    `${count(verdict.effects[1])} effects instead of ${count(verdict.effects[0])}, ${
      count(verdict.queries[1])
    } queries instead of ${count(verdict.queries[0])}.`,
    ...(verdict.effects[1] < verdict.effects[0]
      ? []
      : ["Nothing was shared. The more requests are under way at once, the more they share."])
  ].join("\n")

export const count = (n: number): string => n.toLocaleString("en")

/** The nearest rank: the smallest latency that this share of the requests did not exceed. */
const percentile = (run: Pick<Run, "outcomes">, p: number): number => {
  const sorted = run.outcomes.map((outcome) => outcome.millis).toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? 0
}
