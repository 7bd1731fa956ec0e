/** What importing one service costs a program, minified and compressed, with the part of Effect that it needs. */
import { build } from "esbuild"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

export interface Size {
  readonly contender: string
  readonly kilobytes: number
}

const programs: ReadonlyArray<readonly [string, string]> = [
  ["effect alone", `import * as Effect from "effect/Effect"; Effect.runFork(Effect.void)`],
  ...["Reducer", "RateLimiter", "Scheduler", "Batcher"].map((name) =>
    [
      `effect-funnel/${name}`,
      `import * as Effect from "effect/Effect"; import * as it from "./dist/${name}.js"; ` +
      `Effect.runFork(Effect.scoped(it.make({})))`
    ] as const
  )
]

export const run = async (): Promise<ReadonlyArray<Size>> => {
  const sizes: Array<Size> = []
  for (const [contender, contents] of programs) {
    const result = await build({
      stdin: { contents, resolveDir: fileURLToPath(new URL("../..", import.meta.url)) },
      bundle: true,
      minify: true,
      format: "esm",
      platform: "neutral",
      mainFields: ["module", "main"],
      write: false
    })
    sizes.push({ contender, kilobytes: gzipSync(result.outputFiles[0]!.contents, { level: 9 }).length / 1_000 })
  }
  return sizes
}
