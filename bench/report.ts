/** What one run of the benchmarks found, and how it is written. */
import type { Figure } from "./harness.ts"
import type * as Crowd from "./tables/crowd.ts"
import type * as Growth from "./tables/growth.ts"
import type * as Memory from "./tables/memory.ts"
import type * as Pace from "./tables/pace.ts"
import type * as Size from "./tables/size.ts"

export interface Bar {
  readonly what: string
  readonly value: number
  readonly bar: number
  readonly beyond: number | undefined
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

export const number = (value: number) =>
  value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 })

export const barRow = (bar: Bar) => {
  const least = bar.bar < 0
  const bound = (value: number | undefined) =>
    value === undefined || Number.isNaN(value) ? "" : `${least ? "≥" : "≤"} ${number(Math.abs(value))}${bar.unit}`
  const judged = !Number.isNaN(bar.bar)
  const beyond = bar.beyond !== undefined && bar.value <= bar.beyond
  return {
    what: bar.what,
    measured: `${number(Math.abs(bar.value))}${bar.unit}`,
    bar: bound(bar.bar),
    beyond: bound(bar.beyond),
    met: beyond
      ? "beyond"
      : !judged
      ? (bar.beyond === undefined ? "" : "not yet beyond")
      : bar.value <= bar.bar
      ? "met"
      : "MISSED"
  }
}
