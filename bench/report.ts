/** The report of a benchmark run, and its text. */
import type { Figure } from "./harness.ts"
import type * as Crowd from "./tables/crowd.ts"
import type * as Growth from "./tables/growth.ts"
import type * as Imports from "./tables/imports.ts"
import type * as Memory from "./tables/memory.ts"
import type * as Pace from "./tables/pace.ts"
import type * as Size from "./tables/size.ts"
import type * as Stalls from "./tables/stalls.ts"

export interface Bar {
  readonly what: string
  readonly value: number
  /** The same ratio by the main thread's CPU, if the figure is a time. */
  readonly cpu?: number | undefined
  readonly bar: number
  readonly beyond?: number | undefined
  /** The value must be at least the bar, not at most. */
  readonly atLeast?: boolean
  readonly unit: string
}

/** The description of the measurement. */
export interface Parts {
  readonly tables: ReadonlyArray<
    { readonly id: string; readonly title: string; readonly figures: ReadonlyArray<Figure> }
  >
  readonly heap: ReadonlyArray<{ readonly table: string; readonly contender: string; readonly bytes: number }>
  readonly pace: ReadonlyArray<Pace.PaceTable>
  readonly growth: ReadonlyArray<Growth.Growth>
  readonly memory: ReadonlyArray<Memory.Memory>
  readonly sizes: ReadonlyArray<Size.Size>
  readonly crowd: Crowd.Crowd | undefined
  readonly stalls: ReadonlyArray<Stalls.Stall>
  readonly imports: ReadonlyArray<Imports.Import>
}

export interface Report extends Parts {
  readonly when: string
  readonly runs: number
  readonly node: string
  readonly cpu: string
  readonly versions: Readonly<Record<string, string>>
  readonly bars: ReadonlyArray<Bar>
}

export const growthTitle = (roomy: boolean) =>
  "n wait and all leave in random order" + (roomy ? ", in a young generation that holds them all" : "")

export const headings = {
  stalls: "The longest time between two turns of the event loop while all waiters are notified",
  imports: "CPU of a process that imports a module, beyond that of node alone",
  sizes: "Program size, minified + gzip, including Effect"
}

export const stallRow = (row: Stalls.Stall) => ({
  what: row.what,
  jobs: number(row.jobs),
  "layer by": row.layers === "none" ? "" : row.layers,
  "wall, ms": number(row.wall),
  "CPU, ms": number(row.cpu),
  "longest collection, ms": number(row.collection)
})

export const number = (value: number) =>
  value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 })

/** The figures of another commit, by description. */
export type Baseline = ReadonlyMap<string, number>

/** The number of runs from which on the bars are judged: one run is too noisy. */
export const runsToJudge = 3

const verdict = ({ atLeast = false, bar, beyond, value }: Bar): string => {
  const reaches = (bound: number) => atLeast ? value >= bound : value <= bound
  return beyond !== undefined && reaches(beyond) ? "beyond" : reaches(bar) ? "met" : "MISSED"
}

/** How much a ratio of two contenders may grow before it counts as worse. It covers the variation between runs. */
const tolerated = 1.1

export const barRow = (bar: Bar, runs: number, baseline: Baseline | undefined) => {
  const bound = (value: number | undefined) =>
    value === undefined ? "" : `${bar.atLeast === true ? "≥" : "≤"} ${number(value)}${bar.unit}`
  const before = baseline?.get(bar.what)
  const change = before === undefined ? undefined : bar.atLeast === true ? before / bar.value : bar.value / before
  return {
    what: bar.what,
    measured: `${number(bar.value)}${bar.unit}`,
    CPU: bar.cpu === undefined ? "" : `${number(bar.cpu)}${bar.unit}`,
    ...(baseline === undefined ? {} : {
      before: before === undefined ? "" : `${number(before)}${bar.unit}`,
      change: change === undefined || !Number.isFinite(change)
        ? ""
        : `${number(change)}${runs >= runsToJudge && bar.unit === "×" && change > tolerated ? " WORSE" : ""}`
    }),
    bar: bound(bar.bar),
    beyond: bound(bar.beyond),
    ...(runs < runsToJudge ? {} : { met: verdict(bar) })
  }
}

/** A Markdown table. */
export const table = (rows: ReadonlyArray<Readonly<Record<string, string | number>>>): string => {
  const columns = Object.keys(rows[0] ?? {})
  const line = (cells: ReadonlyArray<string | number>) => `| ${cells.join(" | ")} |`
  return [
    line(columns),
    line(columns.map((_, i) => i === 0 ? "---" : "---:")),
    ...rows.map((row) => line(columns.map((column) => row[column] ?? "")))
  ].join("\n")
}
