/**
 * Both servers at the same time, each a process of its own, under the same load until ctrl-C, and the dashboard of the one with
 * Funnel.
 */
import { Console, Duration, Effect, Stream } from "effect"
import * as Client from "./client.ts"
import type { Connections } from "./database.ts"
import { patienceMillis } from "./funnel.ts"
import { server } from "./processes.ts"
import * as Report from "./report.ts"

/** How often the figures of both are printed. */
const period = Duration.seconds(5)

/** The figures of the last seconds. */
const figures = (title: string, outcomes: ReadonlyArray<Client.Outcome>): string => {
  const perSecond = (end: Client.Outcome["end"]) =>
    Report.count(Math.round(outcomes.filter((outcome) => outcome.end === end).length / Duration.toSeconds(period)))
  return `${title}: ${perSecond("answered")} answered in time a second, ${perSecond("gave up")} timeouts, ${
    perSecond("refused")
  } refused`
}

export const run = Effect.fn("sideBySide")(
  function*(options: {
    readonly connections: Connections
    readonly paths: ReadonlyArray<string>
    readonly rate: number
    /** Gets the address of the dashboard. */
    readonly opened?: (url: string) => Effect.Effect<void>
  }) {
    const { opened = () => Effect.void, paths, rate } = options
    const common = { DEMO_CONNECTIONS: String(options.connections) }
    const [without, withFunnel] = yield* Effect.all([
      server({ ...common, DEMO_CATALOG: "direct" }),
      server({ ...common, DEMO_CATALOG: "watched" })
    ], { concurrency: 2 })
    yield* Console.log([
      `The dashboard of the server with Funnel: ${withFunnel}/funnel`,
      `Both servers get ${Report.count(rate)} requests a second until you press ctrl-C.`,
      ""
    ].join("\n"))
    yield* opened(`${withFunnel}/funnel`)

    const underLoad = (title: string, url: string) =>
      Effect.suspend(() => {
        const ended: Array<Client.Outcome> = []
        const tell = Effect.suspend(() => Console.log(figures(title, ended.splice(0))))
        return Client.load({ urls: paths.map((path) => url + path), rate, patience: patienceMillis }).pipe(
          Stream.runForEach((outcome) => Effect.sync(() => ended.push(outcome))),
          Effect.raceFirst(Effect.forever(Effect.delay(tell, period)))
        )
      })
    const both = [underLoad("without Funnel", without), underLoad("with Funnel   ", withFunnel)]
    yield* Effect.all(both, { concurrency: 2, discard: true })
  },
  Effect.provide(Client.layerHttp),
  Effect.scoped
)
