/**
 * Records what both servers do under one load after another, for the picture of README.md. It takes two minutes, and the figures
 * mean something on a quiet machine only.
 *
 *     npm run demo:record       writes examples/demo/recorded.json
 *     npm run pictures          draws it
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Array, Effect, FileSystem } from "effect"
import { fileURLToPath } from "node:url"
import * as Client from "./client.ts"
import { poolSize } from "./database.ts"
import { countOf, measure, percentile, rightAnswers, usualRate } from "./demo.ts"
import type { Run } from "./demo.ts"
import * as Direct from "./direct.ts"
import * as Funnel from "./funnel.ts"
import { readInstalled } from "./packages.ts"
import * as Progress from "./progress.ts"

/** What is asked for, in requests a second. The last one is what `npm run demo` sends. */
const loads = [25, 50, 75, 100, 150, 200, usualRate]
const seconds = 6

const figures = (run: Run) => ({
  answeredPerSecond: Math.round(countOf(run, "answered") / seconds),
  timeouts: countOf(run, "gave up"),
  refused: countOf(run, "refused"),
  // null stands for "no answer".
  p50: finite(percentile(run, 50)),
  p99: finite(percentile(run, 99)),
  queries: run.server.queries
})

const finite = (millis: number) => millis === Infinity ? null : Math.round(millis)

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const installed = yield* readInstalled(fileURLToPath(new URL("../../node_modules", import.meta.url)))
  const names = installed.map((pkg) => pkg.name)
  if (!Array.isReadonlyArrayNonEmpty(names)) return yield* Effect.die(new Error("Run npm ci first."))
  const warmUp = yield* Client.draw(names, { requests: 300, seed: 2 })
  for (const catalog of [Direct.layer, Funnel.layer]) {
    yield* rightAnswers({ catalog, installed, paths: warmUp, progress: Progress.none })
  }

  const recorded = yield* Effect.forEach(loads, (load) =>
    Effect.gen(function*() {
      const common = {
        installed,
        connections: poolSize,
        paths: yield* Client.draw(names, { requests: load * seconds, seed: load }),
        rate: load,
        patience: Funnel.patienceMillis,
        progress: Progress.auto
      }
      return {
        load,
        without: figures(yield* measure({ ...common, title: `${load}/s without`, catalog: Direct.layer })),
        with: figures(yield* measure({ ...common, title: `${load}/s with`, catalog: Funnel.layer }))
      }
    }))
  const target = fileURLToPath(new URL("recorded.json", import.meta.url))
  yield* fs.writeFileString(target, `${JSON.stringify(recorded, null, 2)}\n`)
})

program.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
