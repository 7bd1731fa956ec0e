/**
 * Runs the random model of all nested services for many seeds, with one process per core:
 *
 *     npm run test:models -- --seeds 100000 --from 1 --workers 4
 *
 * It prints each seed that fails, with the reason. A seed reproduces its failure: `--from <seed> --seeds 1`.
 */
import { build } from "esbuild"
import { fork } from "node:child_process"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { parseArgs } from "node:util"

const root = fileURLToPath(new URL("..", import.meta.url))
const bundle = join(root, ".tmp/everything.mjs")

/** The number of seeds a process takes at a time, and the maximum number of failures to print. */
const portion = 500
const mostFailures = 20

interface Answer {
  readonly failures: ReadonlyArray<string>
  readonly seen: Readonly<Record<string, number>>
}

const worker = async (): Promise<void> => {
  const { everything, nothingSeen } = await import(pathToFileURL(bundle).href)
  process.on("message", ({ from, to }: { readonly from: number; readonly to: number }) => {
    const failures: Array<string> = []
    const seen = nothingSeen()
    for (let seed = from; seed < to; seed++) {
      try {
        everything(seed, seen)
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error))
      }
    }
    process.send!({ failures, seen } satisfies Answer)
  })
}

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: { seeds: { type: "string" }, from: { type: "string" }, workers: { type: "string" } }
  })
  const from = Number(values.from ?? 1)
  const end = from + Number(values.seeds ?? 100_000)
  await build({
    entryPoints: [join(root, "test/properties/everything.ts")],
    outfile: bundle,
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    alias: { "effect-funnel": join(root, "src/index.ts") }
  })
  let next = from
  let failed = 0
  const seen: Record<string, number> = {}
  const began = performance.now()
  const run = (): Promise<void> =>
    new Promise((resolve) => {
      const child = fork(fileURLToPath(import.meta.url), { env: { ...process.env, MODELS_WORKER: "1" } })
      const more = () => {
        if (next >= end || failed >= mostFailures) return child.disconnect()
        const to = Math.min(end, next + portion)
        child.send({ from: next, to })
        next = to
      }
      child.on("message", (answer: Answer) => {
        for (const [what, n] of Object.entries(answer.seen)) seen[what] = (seen[what] ?? 0) + n
        for (const failure of answer.failures) {
          if (failed++ < mostFailures) console.log(failure)
        }
        more()
      })
      child.on("exit", () => resolve())
      more()
    })
  await Promise.all(Array.from({ length: Number(values.workers ?? availableParallelism()) }, run))
  console.log(seen)
  console.log(`${next - from} seeds, ${failed} failed, ${((performance.now() - began) / 1000).toFixed(0)} s`)
  if (failed > 0) process.exitCode = 1
}

await (process.env["MODELS_WORKER"] === undefined ? main() : worker())
