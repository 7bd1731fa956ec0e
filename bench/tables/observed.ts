/** A job of a scheduler that something observes, beside one that nothing does. */
import { Effect, Layer } from "effect"
import * as Inspector from "../../dist/Inspector.js"
import * as Metrics from "../../dist/Metrics.js"
import { build, Scheduler } from "../funnel.ts"
import { type Contender, sequentially, type Table } from "../harness.ts"

const one = Effect.sync(() => 1)

const layer = Scheduler.layer({ concurrency: 100 })

const contender = async (name: string, layer: Layer.Layer<Scheduler.Scheduler>): Promise<Contender> => {
  const scheduler = await build(Scheduler.Scheduler, layer)
  return { name, run: (n) => sequentially(n, () => scheduler.schedule(one)) }
}

export const tables: ReadonlyArray<Table> = [
  {
    id: "observed",
    title: "A job that something observes, one call after the other",
    sizes: [50_000],
    judged: [50_000],
    expected: (n) => n,
    contenders: [
      await contender("nothing", layer),
      await contender("Metrics.layer", layer.pipe(Layer.provide(Metrics.layer))),
      await contender("Inspector.layer()", layer.pipe(Layer.provide(Inspector.layer())))
    ]
  }
]
