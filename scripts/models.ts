/**
 * Runs the random models of all services for many seeds, with one process per core:
 *
 *     npm run test:models -- --seeds 100000 --from 1 --workers 4
 *
 * There are two: `everything` judges how calls end that are nested in each other, `bounds` each step of schedulers, rates,
 * caches and budgets. `--model bounds` runs the one alone.
 *
 * It prints each seed that fails, with the reason. A seed reproduces its failure: `--model <model> --from <seed> --seeds 1`.
 */
import { build } from "esbuild"
import { fork } from "node:child_process"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { parseArgs } from "node:util"

const root = fileURLToPath(new URL("..", import.meta.url))
const models = ["everything", "bounds"]
const bundleOf = (model: string): string => join(root, `.tmp/${model}.mjs`)

/** The number of seeds a process takes at a time, and the maximum number of failures to print. */
const portion = 500
const mostFailures = 20

interface Answer {
  readonly failures: ReadonlyArray<string>
  readonly seen: Readonly<Record<string, number>>
}

const worker = async (model: string): Promise<void> => {
  const { [model]: run, nothingSeen } = await import(pathToFileURL(bundleOf(model)).href)
  process.on("message", ({ from, to }: { readonly from: number; readonly to: number }) => {
    const failures: Array<string> = []
    const seen = nothingSeen()
    for (let seed = from; seed < to; seed++) {
      try {
        run(seed, seen)
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error))
      }
    }
    process.send!({ failures, seen } satisfies Answer)
  })
}

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      from: { type: "string" },
      workers: { type: "string" },
      model: { type: "string" }
    }
  })
  const chosen = values.model === undefined ? models : models.filter((model) => model === values.model)
  if (chosen.length === 0) throw new Error(`--model has to be one of ${models.join(", ")}`)
  const from = Number(values.from ?? 1)
  const end = from + Number(values.seeds ?? 100_000)
  for (const model of chosen) {
    await run(model, from, end, Number(values.workers ?? availableParallelism()))
  }
}

const run = async (model: string, from: number, end: number, workers: number): Promise<void> => {
  await build({
    entryPoints: [join(root, `test/properties/${model}.ts`)],
    outfile: bundleOf(model),
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    alias: {
      "effect-funnel": join(root, "src/index.ts"),
      "effect-funnel/Adaptive": join(root, "src/Adaptive.ts"),
      "effect-funnel/RetryBudget": join(root, "src/RetryBudget.ts")
    }
  })
  let next = from
  let failed = 0
  const seen: Record<string, number> = {}
  const began = performance.now()
  const work = (): Promise<void> =>
    new Promise((resolve) => {
      const child = fork(fileURLToPath(import.meta.url), { env: { ...process.env, MODELS_WORKER: model } })
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
  await Promise.all(Array.from({ length: workers }, work))
  console.log(seen)
  console.log(`${model}: ${next - from} seeds, ${failed} failed, ${((performance.now() - began) / 1000).toFixed(0)} s`)
  if (failed > 0) process.exitCode = 1
}

const model = process.env["MODELS_WORKER"]
await (model === undefined ? main() : worker(model))
