/** Draws a table's figures as SVG with vega-lite, readable on light and dark pages. */
import { writeFile } from "node:fs/promises"
import * as vega from "vega"
import * as vegaLite from "vega-lite"
import { number } from "./report.ts"

export interface Bar {
  readonly contender: string
  readonly group: string
  readonly value: number
}

// A medium grey is readable on white and on black. The background stays the page's.
const ink = "#808a94"

const config: vegaLite.Config = {
  background: "transparent",
  font: "system-ui, sans-serif",
  axis: { labelColor: ink, titleColor: ink, gridColor: "#80808040", domainColor: ink, tickColor: ink, labelLimit: 0 },
  title: { color: ink, anchor: "start" },
  legend: { labelColor: ink, titleColor: ink, labelLimit: 0 },
  header: { labelColor: ink, titleColor: ink },
  view: { stroke: null }
}

/** Takes out what shows nothing, and digits that no screen shows: the package contains the plots, and is to stay small. */
const slim = (svg: string): string =>
  svg
    .replaceAll(/<path class="(?:fore|back)ground"[^>]* d="(?:M0,0h0v0h0Z)?"[^>]*\/>/g, "")
    .replaceAll(/-?\d+\.\d{3,}/g, (digits) => `${Number(Number(digits).toFixed(2))}`)

const write = async (spec: vegaLite.TopLevelSpec, file: string): Promise<void> => {
  // Vega-lite warns about panels with different contenders, which is intended here.
  const { spec: compiled } = vegaLite.compile(spec, { logger: vega.logger(vega.Error) })
  const view = new vega.View(vega.parse(compiled), { renderer: "none" })
  await writeFile(file, slim(await view.toSVG()))
  view.finalize()
}

const color = { condition: { test: "indexof(datum.contender, 'Funnel') >= 0", value: "#e8590c" }, value: "#5c7cfa" }

/** One bar per contender and one panel per group, on a logarithmic scale. */
export const bars = (title: string, unit: string, values: ReadonlyArray<Bar>, file: string): Promise<void> => {
  // A logarithmic scale has no zero for a bar to begin at.
  const least = 10 ** Math.floor(Math.log10(Math.min(...values.map((bar) => bar.value)) * 0.999))
  const most = Math.max(...values.map((bar) => bar.value))
  return write({
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    config,
    data: { values: values.map((bar) => ({ ...bar, label: number(bar.value), least })) },
    facet: {
      row: {
        field: "group",
        type: "nominal",
        title: null,
        sort: [...new Set(values.map((bar) => bar.group))],
        header: { labelAngle: 0, labelAlign: "left" }
      }
    },
    spec: {
      width: 460,
      height: { step: 18 },
      encoding: {
        y: { field: "contender", type: "nominal", title: null, sort: null },
        x: {
          field: "value",
          type: "quantitative",
          title: unit,
          scale: { type: "log", domain: [least, most * 2], nice: false }
        }
      },
      layer: [
        { mark: { type: "bar", cornerRadiusEnd: 2 }, encoding: { x2: { field: "least" }, color } },
        {
          mark: { type: "text", align: "left", dx: 4, color: ink },
          encoding: { text: { field: "label", type: "nominal" } }
        }
      ]
    },
    resolve: { scale: { y: "independent" } }
  }, file)
}

interface Point {
  readonly series: string
  readonly x: number
  readonly y: number
}

interface Axes {
  readonly x: string
  readonly y: string
  readonly scale: "linear" | "log"
}

/** One line per series. */
export const curves = (title: string, axes: Axes, values: ReadonlyArray<Point>, file: string): Promise<void> =>
  write({
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    config,
    width: 460,
    height: 280,
    data: { values: [...values] },
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "x", type: "quantitative", title: axes.x, scale: { type: axes.scale } },
      y: { field: "y", type: "quantitative", title: axes.y, scale: { type: axes.scale } },
      color: { field: "series", type: "nominal", title: null, sort: null }
    }
  }, file)

/** One line per contender over a growing number, both axes logarithmic. */
export const lines = (
  title: string,
  unit: string,
  values: ReadonlyArray<{ readonly contender: string; readonly n: number; readonly value: number }>,
  file: string
): Promise<void> =>
  curves(
    title,
    { x: "n", y: unit, scale: "log" },
    values.map(({ contender, n, value }) => ({ series: contender, x: n, y: value })),
    file
  )
