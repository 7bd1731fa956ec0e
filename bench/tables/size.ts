/** The size of a program that uses one service, minified and compressed, with the part of Effect that it needs. */
import { build } from "esbuild"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

export interface Size {
  readonly contender: string
  readonly kilobytes: number
}

/** Code that takes the service from its context, and the layer of a program that provides it. */
const services: ReadonlyArray<readonly [name: string, calls: string, layer: string]> = [
  ["Reducer", `M.reduce("key", Effect.succeed(1))`, `M.layer()`],
  ["RateLimiter", `M.consume()`, `M.layer({ limit: 10, window: "1 second" })`],
  [
    "Scheduler",
    `M.schedule(Effect.succeed(1))`,
    `M.layer({ concurrency: 10, rate: { limit: 10, window: "1 second" } })`
  ],
  [
    "Batcher",
    `Effect.scoped(M.ordered(Get, { execute: (requests) => Effect.succeed(requests) }))`,
    `Layer.provide(M.layer(), Scheduler.layer({ concurrency: 10 }))`
  ]
]

const preface = `
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import * as Scheduler from "./dist/Scheduler.js"
const Get = Request.tagged("Get")
`

const programs: ReadonlyArray<readonly [string, string]> = [
  ["does nothing with Effect", `Effect.runFork(Effect.void)`],
  ["provides an empty layer", `Effect.runFork(Effect.provide(Effect.void, Layer.effectDiscard(Effect.void)))`],
  ...services.flatMap(([name, calls, layer]) => {
    const from = `import * as M from "./dist/${name}.js";`
    return [
      [`calls ${name}`, `${from} Effect.runFork(${calls})`],
      [`calls ${name} and brings its layer`, `${from} Effect.runFork(Effect.provide(${calls}, ${layer}))`]
    ] as const
  })
]

export const run = async (): Promise<ReadonlyArray<Size>> => {
  const sizes: Array<Size> = []
  for (const [contender, contents] of programs) {
    const result = await build({
      stdin: { contents: preface + contents, resolveDir: fileURLToPath(new URL("../..", import.meta.url)) },
      bundle: true,
      minify: true,
      format: "esm",
      platform: "neutral",
      mainFields: ["module", "main"],
      target: "es2022",
      write: false
    })
    sizes.push({ contender, kilobytes: gzipSync(result.outputFiles[0]!.contents, { level: 9 }).length / 1_000 })
  }
  return sizes
}
