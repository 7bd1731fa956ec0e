/**
 * Runs every check, then prints a summary of the steps and their times.
 *
 *     npm run check
 *     npm run check -- --skip test,package
 *     npm run check -- --only lint,types
 *
 * Each step is an npm script. A failed step does not stop the next one. The results are written to .tmp/check.json,
 * where .ci/run counts them.
 */
import Table from "cli-table3"
import { spawn } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import { parseArgs, stripVTControlCharacters } from "node:util"

export interface Result {
  readonly step: string
  readonly milliseconds: number
  readonly passed: boolean
  /** The number of tests, if the step is a test runner that reports it. */
  readonly tests: { readonly passed: number; readonly failed: number } | undefined
}

/** The steps in order, each with its npm script. */
const steps: Readonly<Record<string, string>> = {
  format: "check:format",
  lint: "check:lint",
  lock: "check:lock",
  types: "check:types",
  arch: "check:arch",
  docs: "check:docs",
  test: "test",
  "test:types": "test:types",
  build: "build",
  package: "check:package",
  size: "check:size"
}

const root = fileURLToPath(new URL("..", import.meta.url))

/** Reads the count from a type test's summary, "Tests: 1 failed, 2 passed, 3 total". */
const countOf = (output: string): Result["tests"] => {
  const line = /^(?:Tests|Assertions): .*total$/m.exec(output)?.[0]
  const number = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(line!)?.[1] ?? 0)
  return line === undefined ? undefined : { passed: number("passed"), failed: number("failed") }
}

const run = async (step: string, script: string): Promise<Result> => {
  console.log(`\n▶ ${step}: npm run ${script}`)
  const started = performance.now()
  const child = spawn("npm", ["run", "--silent", script], {
    cwd: root,
    env: { FORCE_COLOR: process.stdout.isTTY ? "1" : "0", ...process.env },
    stdio: ["ignore", "pipe", "inherit"]
  })
  let output = ""
  child.stdout.on("data", (chunk: Buffer) => {
    process.stdout.write(chunk)
    output += chunk
  })
  const code = await new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? 1)))
  const tests = step === "test:types" ? countOf(stripVTControlCharacters(output)) : undefined
  return { step, milliseconds: performance.now() - started, passed: code === 0, tests }
}

const { values } = parseArgs({ options: { skip: { type: "string" }, only: { type: "string" } } })
const names = (list: string | undefined) => {
  const chosen = list?.split(",") ?? []
  for (const name of chosen) {
    if (!Object.hasOwn(steps, name)) throw new Error(`no step "${name}"; there are ${Object.keys(steps).join(", ")}`)
  }
  return chosen
}
const [skip, only] = [names(values.skip), names(values.only)]

const results: Array<Result> = []
for (const [step, script] of Object.entries(steps)) {
  if (!skip.includes(step) && (only.length === 0 || only.includes(step))) results.push(await run(step, script))
}

mkdirSync(join(root, ".tmp"), { recursive: true })
writeFileSync(join(root, ".tmp/check.json"), JSON.stringify(results, undefined, 2))
const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`
const table = new Table({
  head: ["step", "", "took"],
  colAligns: ["left", "left", "right"],
  style: { head: [], border: [], compact: true }
})
for (const { milliseconds, passed, step } of results) {
  table.push([step, passed ? "ok" : "FAILED", seconds(milliseconds)])
}
const failed = results.filter((_) => !_.passed)
console.log(`\n${table}`)
console.log(
  `${results.length - failed.length} steps passed, ${failed.length} failed in ` +
    seconds(results.reduce((sum, _) => sum + _.milliseconds, 0))
)
if (failed.length > 0) process.exitCode = 1
