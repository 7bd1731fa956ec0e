/** Draws a table's figures as SVG with vega-lite, readable on light and dark pages. */
import { writeFile } from "node:fs/promises"
import * as vega from "vega"
import * as vegaLite from "vega-lite"

export interface Bar {
  readonly contender: string
  readonly group: string
  readonly value: number
}

// A grey in the middle is readable on white and on black; the background stays the page's.
const ink = "#808a94"

const config: vegaLite.Config = {
  background: "transparent",
  font: "system-ui, sans-serif",
  axis: { labelColor: ink, titleColor: ink, gridColor: "#80808040", domainColor: ink, tickColor: ink, labelLimit: 280 },
  title: { color: ink, anchor: "start" },
  legend: { labelColor: ink, titleColor: ink, labelLimit: 280 },
  header: { labelColor: ink, titleColor: ink },
  view: { stroke: null }
}

const write = async (spec: vegaLite.TopLevelSpec, file: string): Promise<void> => {
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "none" })
  await writeFile(file, await view.toSVG())
  view.finalize()
}

const ours = { condition: { test: "indexof(datum.contender, 'Funnel') >= 0", value: "#e8590c" }, value: "#5c7cfa" }

/** One bar a contender, a panel a group, on a logarithmic scale. */
export const bars = (title: string, unit: string, values: ReadonlyArray<Bar>, file: string): Promise<void> =>
  write({
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    config,
    data: { values: [...values] },
    facet: {
      row: { field: "group", type: "nominal", title: null, sort: null, header: { labelAngle: 0, labelAlign: "left" } }
    },
    spec: {
      width: 460,
      height: { step: 18 },
      mark: { type: "bar", cornerRadiusEnd: 2 },
      encoding: {
        y: { field: "contender", type: "nominal", title: null, sort: null },
        x: { field: "value", type: "quantitative", title: unit, scale: { type: "log", nice: true } },
        color: ours
      }
    },
    resolve: { scale: { y: "independent" } }
  }, file)

/** One line a contender over a growing number, both axes logarithmic. */
export const lines = (
  title: string,
  unit: string,
  values: ReadonlyArray<{ readonly contender: string; readonly n: number; readonly value: number }>,
  file: string
): Promise<void> =>
  write({
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    config,
    width: 460,
    height: 280,
    data: { values: [...values] },
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "n", type: "quantitative", title: "n", scale: { type: "log" } },
      y: { field: "value", type: "quantitative", title: unit, scale: { type: "log" } },
      color: { field: "contender", type: "nominal", title: null, sort: null }
    }
  }, file)
