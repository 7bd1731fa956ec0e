/**
 * Checks the table of SECURITY.md: what each entry point may touch. A cell is "none" exactly if no import of the entry
 * point, of its own or through other modules, can reach the network, the disk or the environment.
 */
import { readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { fileURLToPath } from "node:url"
import { importsOf, matches } from "./checkArchitecture.ts"
import { publicModules } from "./checkDocs.ts"

/** The imports by which a module can touch something outside. */
const reaches = {
  network:
    /^(effect\/(http|persistence\/Redis|sql|rpc|socket|cluster|observability)(\/|$)|node:(http|https|http2|net|tls|dgram|dns)|@effect\/(sql|platform)|redis$|pg$)/,
  disk: /^(effect\/FileSystem$|node:fs)/,
  environment: /^effect\/Config(Provider)?$/
}
const columns = ["network", "disk", "environment"] as const

/** Returns what a module can touch, each with the path of imports that leads there. */
const touched = (module: string, read: (module: string) => string): ReadonlyMap<typeof columns[number], string> => {
  const paths = new Map([[module, module]])
  const found = new Map<typeof columns[number], string>()
  for (const [name, path] of paths) {
    const text = read(name)
    for (const { specifier } of importsOf(name, text)) {
      for (const column of columns) if (reaches[column].test(specifier)) found.set(column, `${path} → ${specifier}`)
      if (!specifier.startsWith(".")) continue
      const next = normalize(join(dirname(name), specifier)).replace(/\.js$/, "")
      if (!paths.has(next)) paths.set(next, `${path} → ${next}`)
    }
    const code = text.replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "")
    if (/\b(process|import\.meta)\.env\b/.test(code)) found.set("environment", path)
    if (/\b(fetch|WebSocket|EventSource)\(/.test(code)) found.set("network", path)
  }
  return found
}

/** Returns the problems of the table in a page. */
export const judgeTouches = (
  page: string,
  modules: ReadonlyArray<string>,
  read: (module: string) => string
): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const rows = Array.from(page.matchAll(/^\| (`.+?) *\|(.*)\|$/gm), ([, names, cells]) => ({
    patterns: Array.from(names!.matchAll(/`([^`]+)`/g), ([, name]) => name!).map((_) =>
      _ === "effect-funnel" ? "index" : _
    ),
    cells: cells!.split("|").map((_) => _.trim())
  }))
  for (const module of modules) {
    const row = rows.find(({ patterns }) => patterns.some((pattern) => matches(module, pattern)))
    if (row === undefined) {
      problems.push(`${module} is in no row: say there what it may touch`)
      continue
    }
    const found = touched(module, read)
    for (const [i, column] of columns.entries()) {
      const path = found.get(column)
      if (row.cells[i] === "none" && path !== undefined) problems.push(`${module} can touch the ${column}: ${path}`)
      if (row.cells[i] !== "none" && path === undefined) problems.push(`${module} cannot touch the ${column}`)
    }
  }
  for (const pattern of rows.flatMap((_) => _.patterns)) {
    if (!modules.some((module) => matches(module, pattern))) problems.push(`there is no ${pattern}`)
  }
  return problems.map((problem) => `SECURITY.md: ${problem}`)
}

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const modules = [...publicModules(root).map((file) => file.replace(/\.ts$/, "")), "index"]
  const read = (module: string) => readFileSync(join(root, "src", `${module}.ts`), "utf8")
  const problems = judgeTouches(readFileSync(join(root, "SECURITY.md"), "utf8"), modules, read)
  for (const problem of problems) console.error(problem)
  console.log(`${modules.length} entry points, ${problems.length} problems in what they may touch`)
  if (problems.length > 0) process.exitCode = 1
}
