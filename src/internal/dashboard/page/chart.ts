/**
 * A plot of the last frames, by uPlot, with its figures as text below.
 */
import uPlot from "uplot"
import type { Line, Plot } from "./cards.js"
import { element } from "./dom.js"
import { clock, compact } from "./format.js"

const framesKept = 300

/** Jobs and calls are whole. */
const steps = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].flatMap((n) => [n, 2 * n, 5 * n])

const colorOf = (name: Line["color"] | "soft" | "line"): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()

export class Chart {
  readonly element: HTMLElement
  private readonly texts: ReadonlyArray<{ readonly text: HTMLElement; readonly most: Text }>
  private readonly times: Array<number> = []
  private readonly values: ReadonlyArray<Array<number | null>>
  private readonly plot: uPlot
  private readonly title: string
  private readonly unit: string
  private readonly span: number

  constructor(plot: Plot, every: number, height = 76) {
    this.title = plot.title
    this.unit = plot.unit === undefined ? "" : ` ${plot.unit}`
    this.span = framesKept * every / 1000
    this.texts = plot.lines.map(() => ({ text: element("b"), most: document.createTextNode("") }))
    const captions = plot.lines.map(({ color, label }, i) => {
      const { most, text } = this.texts[i]!
      return element("span", color, `${label} `, text, most)
    })
    const box = element("div", "plot")
    this.element = element("figure", "", box, element("figcaption", "", ...captions))
    this.element.setAttribute("role", "img")
    this.values = plot.lines.map(() => [])
    const axis = { stroke: () => colorOf("soft"), font: "11px system-ui, sans-serif", ticks: { show: false } }
    const grid = { stroke: () => colorOf("line"), width: 1 }
    this.plot = new uPlot(
      {
        width: 300,
        height,
        padding: [8, 4, 0, 0],
        cursor: { show: false },
        legend: { show: false },
        scales: {
          x: { time: true, range: () => this.range },
          y: { range: (_, __, most) => [0, Math.max(1, (most || 0) * 1.1)] }
        },
        axes: [
          {
            ...axis,
            grid: { show: false },
            size: 18,
            space: 90,
            gap: 2,
            values: (_, at) => at.map((seconds) => clock(seconds * 1000))
          },
          {
            ...axis,
            grid,
            ...plot.unit === undefined ? { incrs: steps } : {},
            size: 38,
            space: 18,
            gap: 4,
            values: (_, splits) => splits.map((n) => compact(n))
          }
        ],
        series: [
          {},
          ...plot.lines.map(({ color }, i): uPlot.Series => ({
            stroke: () => colorOf(color),
            width: 1.5,
            points: { show: false },
            // The first line is the load: its area tells more than its edge.
            ...i === 0 ? { fill: () => `${colorOf(color)}22` } : {}
          }))
        ]
      },
      this.data,
      box
    )
    new ResizeObserver(() => {
      if (box.clientWidth > 0) this.plot.setSize({ width: box.clientWidth, height })
    }).observe(box)
  }

  /** The last frames, or at least a fifth of the width for the few of the beginning. */
  private get range(): [from: number, to: number] {
    const to = this.times.at(-1) ?? 0
    return [Math.min(this.times[0] ?? 0, to - this.span / 5), to]
  }

  private get data(): uPlot.AlignedData {
    return [this.times, ...this.values]
  }

  /** Times only grow: where the clock was set back the plot begins anew. */
  private add(at: number): void {
    if (at / 1000 < (this.times.at(-1) ?? 0)) { for (const list of [this.times, ...this.values]) list.length = 0 }
    this.times.push(at / 1000)
  }

  push(at: number, lines: ReadonlyArray<Line>): void {
    this.add(at)
    this.values.forEach((values, i) => values.push(lines[i]?.value ?? null))
    if (this.times.length > framesKept) { for (const list of [this.times, ...this.values]) list.shift() }
    this.plot.setData(this.data)
    const told = lines.map(({ label, text }, i) => {
      const shown = this.texts[i]!
      const highest = Math.max(0, ...this.values[i]!.filter((value) => value !== null))
      shown.text.textContent = text
      shown.most.data = ` · at most ${compact(highest)}${this.unit}`
      return `${label} ${text}, at most ${compact(highest)}${this.unit}`
    })
    this.element.setAttribute("aria-label", `${this.title}: ${told.join("; ")}`)
  }

  /** The colours of the page have changed. */
  redraw(): void {
    this.plot.redraw(false)
  }

  /** A time without frames is a gap. */
  gap(at: number): void {
    if (this.times.length === 0) return
    this.add(at)
    for (const values of this.values) values.push(null)
  }

  end(): void {
    this.plot.destroy()
  }
}
