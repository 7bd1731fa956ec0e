/** What one run of the benchmarks found, and how it is written. */
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
  /** The same of the CPU of the main thread, where the figure is one of time. */
  readonly cpu?: number | undefined
  readonly bar: number
  readonly beyond?: number | undefined
  /** The figure has to be as large as the bar, not as small. */
  readonly atLeast?: boolean
  readonly unit: string
}

/** What was measured. */
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
  stalls: "The longest way from one turn of the event loop to the next, while all of them are told",
  imports: "CPU of a process that imports a module, beyond that of node alone",
  sizes: "What a program weighs, minified + gzip, Effect's part included"
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

/** The figures of another commit, by what they say. */
export type Baseline = ReadonlyMap<string, number>

/** One run says little: from how many on the bars are judged. */
export const runsToJudge = 3

const verdict = ({ atLeast = false, bar, beyond, value }: Bar): string => {
  const reaches = (bound: number) => atLeast ? value >= bound : value <= bound
  return beyond !== undefined && reaches(beyond) ? "beyond" : reaches(bar) ? "met" : "MISSED"
}

/** How much larger a ratio of two contenders may be than before: what differs from run to run is in it. */
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
