/**
 * What a program pays for one service: a small program that uses it, bundled with the part of effect it needs,
 * minified and compressed. Run it on a fresh build.
 */
import Table from "cli-table3"
import { build } from "esbuild"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

/** The most that a program may weigh, in bytes. */
const limit = 12_000

const root = fileURLToPath(new URL("..", import.meta.url))
const dist = join(root, "dist")

const effect = `import * as Effect from "effect/Effect"\n`
const programs: Readonly<Record<string, string>> = {
  Reducer: `${effect}
    import { layer, reduce } from "effect-funnel/Reducer"
    Effect.runFork(Effect.provide(reduce("key", Effect.succeed(1)), layer()))`,
  RateLimiter: `${effect}
    import { layer, withLimit } from "effect-funnel/RateLimiter"
    Effect.runFork(Effect.provide(withLimit(Effect.succeed(1)), layer({ limit: 10, window: "1 second" })))`,
  Scheduler: `${effect}
    import { layer, schedule } from "effect-funnel/Scheduler"
    const options = { concurrency: 10, rate: { limit: 10, window: "1 second" } }
    Effect.runFork(Effect.provide(schedule(Effect.succeed(1)), layer(options)))`,
  Batcher: `${effect}
    import * as Layer from "effect/Layer"
    import * as Request from "effect/Request"
    import { layer, ordered } from "effect-funnel/Batcher"
    import * as Scheduler from "effect-funnel/Scheduler"
    const Get = Request.tagged("Get")
    const services = Layer.provideMerge(layer({}), Scheduler.layer({ concurrency: 10 }))
    const program = Effect.gen(function*() {
      const resolver = yield* ordered(Get, { execute: (requests) => Effect.succeed(requests) })
      return yield* Effect.request(Get({}), resolver)
    })
    Effect.runFork(Effect.provide(Effect.scoped(program), services))`
}

const measure = async (contents: string) => {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: root, loader: "js" },
    alias: { "effect-funnel": dist },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    target: "es2022",
    write: false,
    logLevel: "error"
  })
  const code = outputFiles[0]!.contents
  return { minified: code.length, gzip: gzipSync(code, { level: 9 }).length }
}

const kB = (bytes: number) => `${(bytes / 1000).toFixed(1)} kB`
const table = new Table({
  head: ["a program with", "minified", "gzip", "limit"],
  colAligns: ["left", "right", "right", "right"],
  style: { head: [], border: [], compact: true }
})
let failed = 0
const row = async (name: string, program: string, most?: number) => {
  const bound = most === undefined ? "" : kB(most)
  try {
    const { gzip, minified } = await measure(program)
    const over = most !== undefined && gzip > most
    if (over) failed++
    table.push([name, kB(minified), kB(gzip), over ? `${bound} EXCEEDED` : bound])
  } catch (error) {
    failed++
    console.error(`${name}: ${(error as Error).message}`)
    table.push([name, "not built", "not built", bound])
  }
}
await row("effect alone", `${effect}Effect.runFork(Effect.succeed(1))`)
for (const [service, program] of Object.entries(programs)) {
  await row(service, program, limit)
  // The same by the package's front door: a bundler has to leave out what is not used.
  const named = program.replaceAll(
    /import \{ (.+) \} from "effect-funnel\/(\w+)"/g,
    `import { $2 as Module } from "effect-funnel/index.js"\nconst { $1 } = Module`
  ).replaceAll(/import \* as (\w+) from "effect-funnel\/\w+"/g, `import { $1 } from "effect-funnel/index.js"`)
  await row(`${service}, by the index`, named, limit)
}
console.log(table.toString())
if (failed > 0) {
  console.error(`${failed} programs weigh more than ${kB(limit)} or cannot be built`)
  process.exitCode = 1
}
