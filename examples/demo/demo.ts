/**
 * The two runs: the same callers ask a server without Funnel and one with it, over the same database.
 */
import { Array, Effect, Layer } from "effect"
import { HttpServer } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { Api } from "./api.ts"
import type { Statistics } from "./api.ts"
import type { Catalog } from "./catalog.ts"
import * as Client from "./client.ts"
import type { Outcome } from "./client.ts"
import { Database } from "./database.ts"
import type { Connections } from "./database.ts"
import type { Installed } from "./packages.ts"
import type * as Progress from "./progress.ts"
import * as Server from "./server.ts"

/** How many requests come in a second, unless the command says otherwise. It is the last load of the README's picture. */
export const usualRate = 300

export interface Run {
  readonly title: string
  readonly paths: ReadonlyArray<string>
  /** One for each path. */
  readonly outcomes: ReadonlyArray<Outcome>
  readonly server: Statistics
}

/** Serves the catalog over a database of its own, sends the requests to it, and takes both down again. */
export const measure = (options: {
  readonly title: string
  readonly catalog: Layer.Layer<Catalog, never, Database>
  readonly installed: ReadonlyArray<Installed>
  readonly connections: Connections
  readonly paths: ReadonlyArray<string>
  readonly rate: number
  readonly patience: number
  readonly progress: Progress.Make
}) =>
  HttpServer.addressFormattedWith((url) =>
    Effect.gen(function*() {
      const { paths, patience, rate, title } = options
      const outcomes = yield* Effect.scoped(
        Effect.flatMap(
          options.progress(title, paths.length),
          (progress) => Client.send({ urls: paths.map((path) => url + path), rate, patience, progress })
        )
      )
      const api = yield* HttpApiClient.make(Api, { baseUrl: url })
      const run: Run = { title, paths, outcomes, server: yield* api.statistics() }
      return run
    }).pipe(Effect.provide(Client.layerHttp))
  ).pipe(
    Effect.provide(Server.layer.pipe(
      Layer.provide(options.catalog),
      Layer.provide(Database.layer(options))
    ))
  )

/** The right answer to each path, as a hash: that of a server which has all the time it wants. */
export type RightAnswers = ReadonlyMap<string, string>

export const rightAnswers = (options: {
  readonly catalog: Layer.Layer<Catalog, never, Database>
  readonly installed: ReadonlyArray<Installed>
  readonly paths: ReadonlyArray<string>
  readonly progress: Progress.Make
}) =>
  measure({
    ...options,
    title: "right answers",
    paths: Array.dedupe(options.paths),
    connections: "unbounded",
    rate: usualRate,
    patience: 60_000
  }).pipe(
    Effect.map(({ outcomes, paths }): RightAnswers => new Map(paths.map((path, i) => [path, outcomes[i]!.hash])))
  )

export interface Verdict {
  /** How many requests were answered in time, without Funnel and with it. */
  readonly answered: readonly [number, number]
  readonly queries: readonly [number, number]
  /** Infinity if fewer than half of the requests were answered. */
  readonly p50: readonly [number, number]
  readonly wrong: number
  readonly failed: number
  /** The demo works: the figures may be what they are. */
  readonly passed: boolean
}

export const countOf = (run: Pick<Run, "outcomes">, end: Outcome["end"]): number =>
  run.outcomes.filter((outcome) => outcome.end === end).length

/**
 * The nearest rank: the smallest latency that this share of the requests did not exceed. A request without an answer is slower
 * than all that have one.
 */
export const percentile = ({ outcomes }: Pick<Run, "outcomes">, p: number): number => {
  const sorted = outcomes
    .map(({ end, millis }) => end === "answered" ? millis : Infinity)
    .toSorted((a, b) => a < b ? -1 : a > b ? 1 : 0)
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? Infinity
}

/** Compares every answer with the right one. */
export const judge = (without: Run, withFunnel: Run, right: RightAnswers): Verdict => {
  const wrongOf = ({ outcomes, paths }: Run) =>
    outcomes.filter(({ end, hash }, i) => end === "answered" && hash !== right.get(paths[i]!)).length
  const wrong = wrongOf(without) + wrongOf(withFunnel)
  const failed = countOf(without, "failed") + countOf(withFunnel, "failed")
  return {
    answered: [countOf(without, "answered"), countOf(withFunnel, "answered")],
    queries: [without.server.queries, withFunnel.server.queries],
    p50: [percentile(without, 50), percentile(withFunnel, 50)],
    wrong,
    failed,
    passed: wrong === 0 && failed === 0
  }
}
