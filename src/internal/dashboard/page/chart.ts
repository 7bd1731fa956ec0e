/**
 * A plot of the last frames, drawn by uPlot, with its figures as text below.
 */
import uPlot from "uplot"
import type { Line, Plot } from "./cards.js"
import { element } from "./dom.js"
import { clock, compact } from "./format.js"
import { Series } from "./series.js"

/** Jobs and calls are whole. */
const steps = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].flatMap((n) => [n, 2 * n, 5 * n])

const colorOf = (name: Line["color"] | "soft" | "line"): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()

export class Chart {
  readonly element: HTMLElement
  private readonly captions: ReadonlyArray<HTMLElement>
  private readonly plot: uPlot
  private readonly series: Series

  constructor(plot: Plot, every: number, height = 76) {
    this.series = new Series(plot, every)
    this.captions = plot.lines.map(({ color }) => element("span", color, "", element("b"), ""))
    const box = element("div", "plot")
    this.element = element("figure", "", box, element("figcaption", "", ...this.captions))
    this.element.setAttribute("role", "img")
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
          x: { time: true, range: () => this.series.range },
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
      this.series.data,
      box
    )
    new ResizeObserver(() => {
      if (box.clientWidth > 0) this.plot.setSize({ width: box.clientWidth, height })
    }).observe(box)
  }

  push(at: number, plot: Plot): void {
    this.series.push(at, plot)
    this.plot.setData(this.series.data)
    this.series.captions.forEach(({ label, most, text }, i) => {
      const [before, value, after] = this.captions[i]!.childNodes
      before!.textContent = `${label} `
      value!.textContent = text
      after!.textContent = ` · ${most}`
    })
    this.element.setAttribute("aria-label", this.series.title)
  }

  /** The colours of the page have changed. */
  redraw(): void {
    this.plot.redraw(false)
  }

  gap(at: number): void {
    this.series.gap(at)
  }

  end(): void {
    this.plot.destroy()
  }
}
