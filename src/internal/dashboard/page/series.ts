/**
 * The last frames of a plot, as data: what it draws, and what it says below.
 */
import type { Line, Plot } from "./cards.js"
import { compact } from "./format.js"

const framesKept = 300

export interface Caption {
  readonly label: string
  readonly text: string
  readonly most: string
}

export class Series {
  private readonly times: Array<number> = []
  private readonly values: ReadonlyArray<Array<number | null>>
  private readonly span: number
  private plot: Plot

  constructor(plot: Plot, every: number) {
    this.plot = plot
    this.values = plot.lines.map(() => [])
    this.span = framesKept * every / 1000
  }

  /** The last frames, or at least a fifth of the width for the few of the beginning. */
  get range(): [from: number, to: number] {
    const to = this.times.at(-1) ?? 0
    return [Math.min(this.times[0] ?? 0, to - this.span / 5), to]
  }

  /** The seconds, and the values of each line. */
  get data(): [times: Array<number>, ...values: Array<Array<number | null>>] {
    return [this.times, ...this.values]
  }

  /** Its figures as text. */
  get captions(): ReadonlyArray<Caption> {
    const { lines, unit } = this.plot
    return lines.map(({ label, text }, i) => {
      const highest = this.values[i]!.reduce<number>((most, value) => Math.max(most, value ?? 0), 0)
      return { label, text, most: `at most ${compact(highest)}${unit === undefined ? "" : ` ${unit}`}` }
    })
  }

  /** All that it shows, for those who do not see it. */
  get title(): string {
    return `${this.plot.title}: ${this.captions.map((_) => `${_.label} ${_.text}, ${_.most}`).join("; ")}`
  }

  push(at: number, plot: Plot): void {
    // What is counted may change, from jobs to calls: they have no line together.
    if (plot.lines.some(({ label }, i) => label !== this.plot.lines[i]!.label)) this.clear()
    this.plot = plot
    this.add(at, plot.lines.map((_) => _.value))
  }

  /** A time without frames is a gap. */
  gap(at: number): void {
    this.add(at, this.values.map(() => null))
  }

  /** Times only grow: where the clock was set back the plot begins anew. */
  private add(at: number, values: ReadonlyArray<Line["value"]>): void {
    if (at / 1000 < this.range[1]) this.clear()
    this.times.push(at / 1000)
    this.values.forEach((list, i) => list.push(values[i]!))
    if (this.times.length > framesKept) { for (const list of this.data) list.shift() }
  }

  private clear(): void {
    for (const list of this.data) list.length = 0
  }
}
