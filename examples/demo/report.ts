/**
 * The table at the end, and the verdict below it.
 */
import Table from "cli-table3"
import { countOf, percentile } from "./demo.ts"
import type { Run, Verdict } from "./demo.ts"
import { windowMillis } from "./funnel.ts"
import type { judge, SharedRun } from "./processes.ts"

const tableOf = (heads: ReadonlyArray<string>) =>
  new Table({
    head: [...heads],
    colAligns: heads.map((_, i) => i === 0 ? "left" : "right"),
    style: { head: [], border: [], compact: true }
  })

export const renderTable = (runs: ReadonlyArray<Run>): string => {
  const requests = runs[0]!.outcomes.length
  const table = tableOf([`${count(requests)} requests`, ...runs.map((run) => run.title)])
  const row = (title: string, cell: (run: Run) => string) => table.push([title, ...runs.map(cell)])
  row("answered in time", (run) => share(countOf(run, "answered"), requests))
  row("timeouts, after 1 s", (run) => count(countOf(run, "gave up")))
  row("refused, at once", (run) => count(countOf(run, "refused")))
  if (runs.some((run) => countOf(run, "failed") > 0)) row("failed", (run) => count(countOf(run, "failed")))
  row("p50", (run) => latency(run, 50))
  row("p99", (run) => latency(run, 99))
  row("SQL queries", (run) => count(run.server.queries))
  row("queries an answer", (run) => perAnswer(run.server.queries, countOf(run, "answered")))
  row("most queries at once", (run) => count(run.server.mostQueriesAtOnce))
  return table.toString()
}

const share = (n: number, all: number) =>
  `${count(n)} (${n === all ? 100 : (Math.floor(1000 * n / all) / 10).toFixed(1)} %)`

const perAnswer = (queries: number, answers: number) => answers === 0 ? "-" : (queries / answers).toFixed(2)

const latency = (run: Pick<Run, "outcomes">, p: number): string => {
  const millis = percentile(run, p)
  return millis === Infinity ? "no answer" : `${millis.toFixed(0)} ms`
}

export const renderVerdict = ({ answered, failed, p50, queries, wrong }: Verdict): string => {
  const [without, withFunnel] = answered
  const fewer = (queries[0] / without) / (queries[1] / withFunnel)
  const later = p50[1] - p50[0]
  return [
    `Answered in time: ${count(withFunnel)} with Funnel, ${count(without)} without${
      withFunnel >= 1.05 * without && without > 0 ? `: ${times(withFunnel / without)} as many` : ""
    }.`,
    ...(Number.isFinite(fewer) ? [`Queries an answer: ${times(fewer)} fewer.`] : []),
    ...(Number.isFinite(later) && later > 0
      ? [
        `The median answer comes ${
          later.toFixed(0)
        } ms later: a look-up waits up to ${windowMillis} ms for others to share a query.`
      ]
      : []),
    wrong === 0
      ? `All ${count(without + withFunnel)} answers are the right ones.`
      : `Wrong answers: ${count(wrong)} of ${count(without + withFunnel)}.`,
    ...(failed === 0 ? [] : [`Failed requests: ${count(failed)}.`])
  ].join("\n")
}

const times = (factor: number) => `${factor < 10 ? factor.toFixed(1) : count(Math.round(factor))} times`

/** The figures of each process in the two runs over several processes, and their totals. */
export const renderShared = (runs: readonly [SharedRun, SharedRun]): string => {
  const table = tableOf([`${count(runs[0].outcomes.length)} requests`, ...runs.map((run) => run.title)])
  const row = (title: string, cell: (run: SharedRun) => string) => table.push([title, ...runs.map(cell)])
  const sum = (run: SharedRun, field: "effects" | "queries") =>
    count(run.servers.reduce((sum, server) => sum + server[field], 0))
  row("answered in time", (run) => share(countOf(run, "answered"), run.outcomes.length))
  row("timeouts, after 1 s", (run) => count(countOf(run, "gave up")))
  row("refused, at once", (run) => count(countOf(run, "refused")))
  row("p50", (run) => latency(run, 50))
  row("p99", (run) => latency(run, 99))
  for (const field of ["effects", "queries"] as const) {
    const what = field === "effects" ? "effects run" : "SQL queries"
    runs[0].servers.forEach((_, i) => row(`${what}, process ${i + 1}`, (run) => count(run.servers[i]![field])))
    row(`${what}, all`, (run) => sum(run, field))
  }
  return table.toString()
}

export const renderSharedVerdict = (verdict: ReturnType<typeof judge>): string =>
  [
    verdict.sameAnswers === verdict.bothAnswered
      ? "Every request that was answered in both runs got the same answer."
      : `Only ${count(verdict.sameAnswers)} of ${
        count(verdict.bothAnswered)
      } requests got the same answer in both runs.`,
    ...(verdict.failed === 0 ? [] : [`Failed requests: ${count(verdict.failed)}.`]),
    `${count(verdict.effects[1])} effects instead of ${count(verdict.effects[0])}, ${
      count(verdict.queries[1])
    } queries instead of ${count(verdict.queries[0])}.`,
    ...(verdict.effects[1] < verdict.effects[0]
      ? []
      : ["Nothing was shared. The more requests are under way at once, the more they share."])
  ].join("\n")

export const count = (n: number): string => n.toLocaleString("en")
