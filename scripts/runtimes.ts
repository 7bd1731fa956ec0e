/**
 * Runs the laws of the core on other runtimes: Bun, Deno and Chromium, and on Node to compare.
 *
 *     npm run test:runtimes
 *     npm run test:runtimes -- --only bun,chromium
 *     npm run test:runtimes -- --files Reducer,Scheduler
 *
 * The laws are the test files that need no Node: neither they nor what they import reaches beyond effect, @effect/vitest
 * and vitest. They are bundled with vitest's runner. Deno runs them without any permission.
 *
 * Bun and Deno are in a package.json of test/runtimes. Chromium is the one of the machine.
 */
import Table from "cli-table3"
import { build, type BuildOptions } from "esbuild"
import { spawn } from "node:child_process"
import { globSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { mark, type Report } from "../test/runtimes/report.ts"
import { launch, serve } from "./browser.ts"
import { installed } from "./installed.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const target = join(root, ".tmp/runtimes")

/** How long a runtime may take for all laws. */
const patience = 15 * 60_000

const options: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  format: "esm",
  platform: "neutral",
  mainFields: ["module", "main"],
  target: "es2023",
  // The barrel effect/testing imports it for helpers that no law uses.
  alias: { "node:assert": "chai" },
  // What vitest bundles looks for a terminal here.
  define: { "process.env.NODE_ENV": `"test"`, process: "undefined" },
  outdir: target,
  logLevel: "error"
}

/** What a law may import, besides the sources: nothing of a runtime. */
const portable = /^(effect|@effect\/vitest|vitest)(\/|$)/

/** Returns the test files that need no Node. */
const laws = async (): Promise<ReadonlyArray<string>> => {
  const files = globSync("test/**/*.test.ts", { cwd: root }).toSorted()
  const { metafile } = await build({
    ...options,
    entryPoints: files,
    packages: "external",
    metafile: true,
    write: false
  })
  const isPortable = (file: string) => {
    const met = new Set([file])
    for (const one of met) {
      for (const { external, path } of metafile!.inputs[one]!.imports) {
        if (external !== true) met.add(path)
        else if (!portable.test(path)) return false
      }
    }
    return true
  }
  return files.filter(isPortable)
}

/**
 * A page has no `setImmediate`, so core yields by timers, which a browser makes 4 ms long: the laws would take an hour. This
 * one takes a turn of the event loop, as in Node.
 */
const immediate = `{
  const { port1, port2 } = new MessageChannel()
  const tasks = new Map()
  let count = 0
  port1.onmessage = ({ data }) => {
    const task = tasks.get(data)
    tasks.delete(data)
    task?.()
  }
  globalThis.setImmediate = (task) => {
    tasks.set(++count, task)
    port2.postMessage(count)
    return count
  }
  globalThis.clearImmediate = (id) => tasks.delete(id)
}`

const bundle = async (files: ReadonlyArray<string>) => {
  rmSync(target, { recursive: true, force: true })
  mkdirSync(target, { recursive: true })
  const list = files.map((file) => `  ${JSON.stringify(file)}: () => import(${JSON.stringify(join(root, file))})`)
  const entry = join(target, "entry.ts")
  writeFileSync(
    entry,
    `import { run } from "../../test/runtimes/run.ts"\n\nawait run({\n${list.join(",\n")}\n})\n`
  )
  await build({ ...options, entryPoints: { laws: entry }, splitting: true })
  writeFileSync(
    join(target, "index.html"),
    `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script>${immediate}</script>` +
      `<script type="module" src="laws.js"></script>\n`
  )
}

const failed = (error: string): Report => ({ passed: 0, failures: [{ title: "the run", error }], milliseconds: 0 })

const inProcess = (command: string, args: ReadonlyArray<string>) => async (): Promise<Report> => {
  const child = spawn(command, [...args, join(target, "laws.js")], { cwd: target, stdio: ["ignore", "pipe", "pipe"] })
  let output = ""
  child.stdout.on("data", (chunk: Buffer) => output += chunk)
  child.stderr.on("data", (chunk: Buffer) => output += chunk)
  const timer = setTimeout(() => child.kill("SIGKILL"), patience)
  const code = await new Promise<number | null>((resolve) => {
    child.on("error", (error) => output += error)
    child.on("close", resolve)
  })
  clearTimeout(timer)
  const line = output.split("\n").find((line) => line.startsWith(mark))
  if (code !== 0 || line === undefined) return failed(`ended with ${code}\n${output.slice(-4000)}`)
  return JSON.parse(line.slice(mark.length))
}

const inChromium = async (): Promise<Report> => {
  const [server, browser] = await Promise.all([serve(target), launch()])
  try {
    const page = await browser.newPage()
    const report = new Promise<Report>((resolve) => {
      page.on("console", (message) => {
        if (message.text().startsWith(mark)) resolve(JSON.parse(message.text().slice(mark.length)))
      })
      page.on("pageerror", (error) => resolve(failed(String(error.stack ?? error))))
      page.on("crash", () => resolve(failed("the page crashed")))
      setTimeout(() => resolve(failed(`no report after ${patience / 60_000} minutes`)), patience).unref()
    })
    await page.goto(server.origin)
    return await report
  } finally {
    await browser.close()
    await server.close()
  }
}

const { values } = parseArgs({ options: { only: { type: "string" }, files: { type: "string" } } })
const folder = installed("test/runtimes")
const bin = (name: string) => join(folder, "node_modules/.bin", name)
const runtimes: Readonly<Record<string, () => Promise<Report>>> = {
  node: inProcess(process.execPath, []),
  bun: inProcess(bin("bun"), ["run"]),
  deno: inProcess(bin("deno"), ["run", "--no-prompt", "--no-remote", "--no-npm", "--no-config"]),
  chromium: inChromium
}
const only = values.only?.split(",") ?? Object.keys(runtimes)
for (const name of only) {
  if (!Object.hasOwn(runtimes, name)) {
    throw new Error(`no runtime "${name}"; there are ${Object.keys(runtimes).join(", ")}`)
  }
}
const named = values.files?.split(",")
const files = (await laws()).filter((file) => named === undefined || named.some((part) => file.includes(part)))
await bundle(files)
console.log(`${files.length} files of laws: ${files.map((file) => relative("test", file)).join(", ")}\n`)

const table = new Table({
  head: ["runtime", "passed", "failed", "took"],
  colAligns: ["left", "right", "right", "right"],
  style: { head: [], border: [], compact: true }
})
const results: Array<readonly [name: string, Report]> = []
for (const name of only) {
  const report = await runtimes[name]!()
  results.push([name, report])
  for (const { error, title } of report.failures) console.error(`${name}: ${title}\n${error}\n`)
  console.log(`${name}: ${report.passed} passed, ${report.failures.length} failed`)
  table.push([name, report.passed, report.failures.length, `${(report.milliseconds / 1000).toFixed(1)} s`])
}
console.log(table.toString())
const counts = new Set(results.map(([, { failures, passed }]) => passed + failures.length))
if (counts.size > 1) console.error("the runtimes did not run the same number of laws")
if (counts.size > 1 || results.some(([, { failures, passed }]) => failures.length > 0 || passed === 0)) {
  process.exitCode = 1
}
