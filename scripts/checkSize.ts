/**
 * Measures how many bytes a program needs for one service: bundled with the part of effect it uses, minified and
 * compressed. Build the package first.
 *
 * The first limit is for code that calls a service and takes it from its context. Effect alone is 9 kB of that. The
 * second limit is for a program that also provides the layer. Effect with an empty layer is 12.5 kB. The third row adds
 * the parts of effect that every service uses, a span, a line of the log, the clock and a duration: no service can be
 * smaller than that.
 *
 * esbuild keeps the whole namespace of a module that comes through an index. So an import from the package's index may
 * bundle all of that service, but no other service.
 */
import Table from "cli-table3"
import { build } from "esbuild"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

const root = fileURLToPath(new URL("..", import.meta.url))
const dist = join(root, "dist")

interface Program {
  readonly name: string
  /** A program that uses the module as M. */
  readonly calls: string
  readonly whole: string
  /** The limits in bytes, and the limit for a module imported through the index. */
  readonly limits: readonly [calls: number, whole: number, index: number]
}

const programs: ReadonlyArray<Program> = [
  {
    name: "Reducer",
    calls: `const program = M.reduce("key", Effect.succeed(1))`,
    whole: `Effect.provide(program, M.layer())`,
    limits: [12_000, 25_900, 26_200]
  },
  {
    name: "RateLimiter",
    calls: `const program = M.consume()`,
    whole: `Effect.provide(program, M.layer({ limit: 10, window: "1 second" }))`,
    limits: [12_000, 26_100, 26_600]
  },
  {
    name: "Scheduler",
    // The operations on many items are bundled with what leads to them: those functions, the tag, `make`, `Service`, `Keyed`.
    calls: `const program = M.schedule(Effect.succeed(1))`,
    whole: `Effect.provide(program, M.layer({ concurrency: 10, rate: { limit: 10, window: "1 second" } }))`,
    limits: [12_000, 35_800, 46_700]
  },
  {
    name: "Batcher",
    calls: `
      const Get = Request.tagged("Get")
      const resolver = M.ordered(Get, { execute: (requests) => Effect.succeed(requests) })
      const program = Effect.scoped(resolver)`,
    whole: `Effect.provide(
      Effect.scoped(Effect.flatMap(resolver, (_) => Effect.request(Get({}), _))),
      Layer.provide(M.layer(), Scheduler.layer({ concurrency: 10 }))
    )`,
    limits: [12_000, 49_700, 58_300]
  }
]

const measure = async (name: string, index: boolean, code: string) => {
  const from = (module: string, as: string) =>
    index
      ? `import { ${module} as ${as} } from "effect-funnel/index.js"`
      : `import * as ${as} from "effect-funnel/${module}.js"`
  const { metafile, outputFiles } = await build({
    stdin: {
      contents: [
        `import * as Effect from "effect/Effect"`,
        `import * as Layer from "effect/Layer"`,
        `import * as Request from "effect/Request"`,
        ...(name === "" ? [] : [from(name, "M"), from("Scheduler", "Scheduler")]),
        code
      ].join("\n"),
      resolveDir: root,
      loader: "js"
    },
    alias: { "effect-funnel": dist },
    absWorkingDir: root,
    bundle: true,
    minify: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    target: "es2022",
    metafile: true,
    write: false,
    logLevel: "silent"
  })
  const inputs = Object.entries(Object.values(metafile.outputs)[0]!.inputs)
  if (outputFiles[0]!.text.includes("<!doctype html>")) throw new Error("it has the page of the dashboard")
  return {
    minified: outputFiles[0]!.contents.length,
    own: inputs.reduce((sum, [file, { bytesInOutput }]) => sum + (file.startsWith("dist/") ? bytesInOutput : 0), 0),
    gzip: gzipSync(outputFiles[0]!.contents, { level: 9 }).length
  }
}

const kB = (bytes: number) => `${(bytes / 1000).toFixed(1)} kB`
const table = new Table({
  head: ["a program that", "minified", "of it ours", "gzip", "by the index", "limit"],
  colAligns: ["left", "right", "right", "right", "right", "right"],
  style: { head: [], border: [], compact: true }
})
const problems: Array<string> = []
const row = async (title: string, name: string, code: string, limit?: number, most = limit) => {
  try {
    const size = await measure(name, false, code)
    const index = name === "" ? size : await measure(name, true, code)
    const bound = limit === undefined ? "" : kB(limit)
    table.push([title, kB(size.minified), kB(size.own), kB(size.gzip), kB(index.gzip), bound])
    if (limit !== undefined && size.gzip > limit) problems.push(`${title}: more than ${bound}`)
    if (most !== undefined && index.gzip > most) problems.push(`${title}, by the index: more than ${kB(most)}`)
  } catch (error) {
    problems.push(`${title}: cannot be built: ${(error as Error).message}`)
  }
}

// The row with the layer is the cost of a complete program. The other row is the cost in modules that only call.
await row("does nothing", "", `Effect.runFork(Effect.succeed(1))`)
await row(
  "provides an empty layer",
  "",
  `Effect.runFork(Effect.provide(Effect.succeed(1), Layer.effectDiscard(Effect.succeed(1))))`
)
await row(
  "also has a span, a log line and a clock",
  "",
  `
    import * as Duration from "effect/Duration"
    const program = Effect.useSpan("span", (span) => Effect.withParentSpan(Effect.logError("failed"), span))
    const age = Effect.clockWith((clock) => Effect.succeed(Duration.millis(clock.currentTimeMillisUnsafe())))
    Effect.runFork(Effect.provide(Effect.andThen(program, age), Layer.effectDiscard(Effect.succeed(1))))`
)
for (const { calls, limits: [called, brought, index], name, whole } of programs) {
  await row(`calls ${name}`, name, `${calls}\nEffect.runFork(program)`, called, index)
  await row(`calls ${name} and provides its layer`, name, `${calls}\nEffect.runFork(${whole})`, brought, index)
}
// What a program with an HTTP client pays more than for the client.
const client =
  `import * as HttpClient from "effect/http/HttpClient"\nconst client = HttpClient.make(() => Effect.never)`
await row("has an HTTP client", "", `${client}\nEffect.runFork(client.get("/"))`)
await row(
  "also schedules, retries and shares its requests",
  "",
  `${client}
    import * as Http from "effect-funnel/http.js"
    const funnel = client.pipe(Http.schedule({}), Http.retryTransient({}, { times: 3 }), Http.reduce({}))
    Effect.runFork(funnel.get("/"))`,
  29_200
)
await row(
  "batches without a Scheduler",
  "Batcher",
  `
    const select = (ids) => Effect.succeed(ids)
    const program = Effect.flatMap(M.fn("users")(select, { resultId: (_) => _ }), (user) => user(1))
    Effect.runFork(Effect.provide(Effect.scoped(program), M.layer()))`,
  30_000,
  41_000
)
await row(
  "inspects its services",
  "",
  `
    import * as Inspector from "effect-funnel/Inspector.js"
    Effect.runFork(Effect.provide(Inspector.dump, Inspector.layer()))`,
  18_800
)
// The page itself, as a browser gets it, with the plots in it.
const { html } = await import(join(root, "src/internal/dashboard/bundle.ts")) as { readonly html: string }
const page = gzipSync(html, { level: 9 }).length
const mostPage = 80_000
table.push(["is the page of the dashboard", kB(html.length), kB(html.length), kB(page), "", kB(mostPage)])
if (page > mostPage) problems.push(`the page of the dashboard: more than ${kB(mostPage)}`)
console.log(table.toString())
for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
