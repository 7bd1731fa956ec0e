/**
 * The server in several processes, asked in turn: first each of them with Funnel for itself, then all over one Redis.
 */
import { Effect } from "effect"
import { HttpApiClient } from "effect/http-api"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Api } from "./api.ts"
import type { Statistics } from "./api.ts"
import * as Client from "./client.ts"
import type { Outcome } from "./client.ts"
import type { Connections } from "./database.ts"
import { countOf } from "./demo.ts"
import { patienceMillis } from "./funnel.ts"
import type * as Progress from "./progress.ts"

export interface SharedRun {
  readonly title: string
  readonly outcomes: ReadonlyArray<Outcome>
  readonly servers: ReadonlyArray<Statistics>
}

const ended = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGTERM")
  })

/** Starts a server process and returns its address; it ends with the scope. */
export const server = (environment: Record<string, string>) =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() =>
        fork(fileURLToPath(new URL("process.ts", import.meta.url)), {
          env: { ...process.env, ...environment },
          stdio: ["ignore", "ignore", "inherit", "ipc"]
        })
      ),
      (child) =>
        Effect.timeoutOrElse(ended(child), {
          duration: "5 seconds",
          orElse: () => Effect.sync(() => void child.kill("SIGKILL"))
        })
    ),
    (child) =>
      Effect.callback<string>((resume) => {
        child.once("message", (address) => resume(Effect.succeed(String(address))))
        child.once("exit", (code) => resume(Effect.die(new Error(`A server process ended with ${code}.`))))
      })
  )

/** Sends request i to process i mod n. */
export const measure = Effect.fn("measure")(function*(options: {
  readonly title: string
  readonly processes: number
  readonly redis: string | undefined
  readonly connections: Connections
  readonly paths: ReadonlyArray<string>
  readonly warmUp: ReadonlyArray<string>
  readonly rate: number
  readonly progress: Progress.Make
}) {
  const { rate, redis, title } = options
  const environment: Record<string, string> = {
    DEMO_PROCESSES: String(options.processes),
    DEMO_CONNECTIONS: String(options.connections),
    ...(redis === undefined ? {} : { DEMO_REDIS: redis, DEMO_PREFIX: `effect-funnel-demo:${process.pid}` })
  }
  const urls = yield* Effect.all(Array.from({ length: options.processes }, () => server(environment)), {
    concurrency: "unbounded"
  })
  const spread = (paths: ReadonlyArray<string>) => paths.map((path, i) => urls[i % urls.length]! + path)
  return yield* Effect.gen(function*() {
    const statistics = Effect.forEach(
      urls,
      (baseUrl) => Effect.flatMap(HttpApiClient.make(Api, { baseUrl }), (api) => api.statistics())
    )
    // Warm-up, not counted: the first requests of a process are slow.
    yield* Effect.scoped(
      Client.send({ urls: spread(options.warmUp), rate, patience: 60_000, progress: { update: () => {} } })
    )
    const before = yield* statistics
    const outcomes = yield* Effect.scoped(
      Effect.flatMap(
        options.progress(title, options.paths.length),
        (progress) => Client.send({ urls: spread(options.paths), rate, patience: patienceMillis, progress })
      )
    )
    const after = yield* statistics
    const run: SharedRun = {
      title,
      outcomes,
      servers: after.map((server, i) => ({
        ...server,
        effects: server.effects - before[i]!.effects,
        queries: server.queries - before[i]!.queries
      }))
    }
    return run
  }).pipe(Effect.provide(Client.layerHttp))
}, Effect.scoped)

export const judge = (alone: SharedRun, shared: SharedRun) => {
  const sum = (run: SharedRun, of: "effects" | "queries") => run.servers.reduce((sum, server) => sum + server[of], 0)
  const both = alone.outcomes.flatMap((outcome, i) => {
    const other = shared.outcomes[i]!
    return outcome.end === "answered" && other.end === "answered" ? [outcome.hash === other.hash] : []
  })
  const sameAnswers = both.filter((same) => same).length
  const failed = countOf(alone, "failed") + countOf(shared, "failed")
  return {
    bothAnswered: both.length,
    sameAnswers,
    failed,
    effects: [sum(alone, "effects"), sum(shared, "effects")] as const,
    queries: [sum(alone, "queries"), sum(shared, "queries")] as const,
    passed: sameAnswers === both.length && both.length > 0 && failed === 0
  }
}
