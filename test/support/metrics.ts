import { Effect, Metric } from "effect"

/** Runs a test with a registry of its own. */
export const withRegistry = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

/** The value of a counter or gauge, the count of a histogram; `undefined` if there is no such series. */
export const read = (id: string, attributes: Record<string, string>): Effect.Effect<number | undefined> =>
  Effect.map(states(id, attributes), ([state]) => state)

/** How many series there are. */
export const countOf = (id: string, attributes: Record<string, string>): Effect.Effect<number> =>
  Effect.map(states(id, attributes), ({ length }) => length)

/** The state of a histogram. */
export const histogram = (id: string, attributes: Record<string, string>): Effect.Effect<Metric.HistogramState> =>
  Effect.map(Metric.snapshot, (all) => {
    const found = all.find((_) => _.id === `effect_funnel.${id}` && has(_.attributes, attributes))
    if (found?.type !== "Histogram") throw new Error(`no histogram ${id}`)
    return found.state
  })

/** The ids of all series of ours. */
export const ids: Effect.Effect<ReadonlyArray<string>> = Effect.map(
  Metric.snapshot,
  (all) => Array.from(new Set(all.map((_) => _.id).filter((id) => id.startsWith("effect_funnel.")))).sort()
)

const states = (id: string, attributes: Record<string, string>) =>
  Effect.map(
    Metric.snapshot,
    (all) =>
      all.filter((_) => _.id === `effect_funnel.${id}` && has(_.attributes, attributes)).map((_) => {
        switch (_.type) {
          case "Counter":
            return Number(_.state.count)
          case "Gauge":
            return Number(_.state.value)
          case "Histogram":
            return _.state.count
          default:
            throw new Error(`unexpected ${_.type}`)
        }
      })
  )

const has = (all: Metric.Metric.AttributeSet | undefined, wanted: Record<string, string>): boolean =>
  Object.entries(wanted).every(([key, value]) => all?.[key] === value)
