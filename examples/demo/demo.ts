/**
 * The two runs, and what they have to show: the same answers from at most a tenth of the queries.
 */
import { Duration, Effect, Layer } from "effect"
import { HttpServer } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { Api } from "./api.ts"
import type { Statistics } from "./api.ts"
import type { Catalog } from "./catalog.ts"
import * as Client from "./client.ts"
import type { Outcome } from "./client.ts"
import { Database } from "./database.ts"
import type { Installed } from "./packages.ts"
import type * as Progress from "./progress.ts"
import * as Server from "./server.ts"

export interface Run {
  readonly title: string
  readonly outcomes: ReadonlyArray<Outcome>
  readonly millis: number
  readonly server: Statistics
}

/** Serves the catalog over a database of its own, sends the requests to it, and takes both down again. */
export const measure = (options: {
  readonly title: string
  readonly catalog: Layer.Layer<Catalog, never, Database>
  readonly installed: ReadonlyArray<Installed>
  readonly paths: ReadonlyArray<string>
  readonly limits: Client.Limits
  readonly progress: Progress.Make
}) =>
  HttpServer.addressFormattedWith((url) =>
    Effect.gen(function*() {
      const api = yield* HttpApiClient.make(Api, { baseUrl: url })
      const [duration, outcomes] = yield* Effect.scoped(
        Effect.flatMap(
          options.progress(options.title, options.paths.length),
          (progress) => Effect.timed(Client.send({ url, paths: options.paths, limits: options.limits, progress }))
        )
      )
      const measured: Run = {
        title: options.title,
        outcomes,
        millis: Duration.toMillis(duration),
        server: yield* api.statistics()
      }
      return measured
    }).pipe(Effect.provide(Client.layerHttp(options.limits)))
  ).pipe(
    Effect.provide(Server.layer.pipe(
      Layer.provide(options.catalog),
      Layer.provide(Database.layer(options.installed))
    ))
  )

export interface Verdict {
  readonly sameAnswers: number
  readonly requests: number
  readonly queriesWithout: number
  readonly queriesWith: number
  readonly errors: number
  readonly passed: boolean
}

/** Compares the answers request by request, and the queries. */
export const judge = (without: Run, withFunnel: Run): Verdict => {
  const sameAnswers = without.outcomes.filter((outcome, i) => outcome.hash === withFunnel.outcomes[i]?.hash).length
  const requests = without.outcomes.length
  const errors = [without, withFunnel].flatMap((run) => run.outcomes).filter((outcome) => outcome.status !== 200).length
  return {
    sameAnswers,
    requests,
    queriesWithout: without.server.queries,
    queriesWith: withFunnel.server.queries,
    errors,
    passed: sameAnswers === requests && errors === 0 && withFunnel.server.queries * 10 <= without.server.queries
  }
}
