/**
 * Checks the imports of src against the rules in CONTRIBUTING.md: dependencies point one way.
 *
 * The table below lists the public modules that each public module may reach. The check follows imports through
 * internal modules, so an indirect dependency counts too.
 */
import { globSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join, normalize, relative } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

/** The public modules that each public module may reach. */
const allowed: Readonly<Record<string, ReadonlyArray<string>>> = {
  Metrics: [],
  Inspector: [],
  dashboard: ["Inspector"],
  RateLimiter: [],
  Hooks: [],
  Reducer: ["Hooks"],
  SharedReducer: ["Hooks", "Reducer"],
  RetryBudget: [],
  Adaptive: [],
  Scheduler: ["RateLimiter"],
  Batcher: ["RateLimiter", "Scheduler"],
  http: ["Hooks", "RateLimiter", "Reducer", "RetryBudget", "Scheduler"],
  progress: ["RateLimiter", "Scheduler"],
  stores: ["Hooks", "RateLimiter", "Reducer", "Scheduler"],
  "stores/*": [],
  "redis/*": ["Hooks", "RateLimiter", "Reducer", "Scheduler", "stores"],
  "postgres/*": ["Hooks", "RateLimiter", "Reducer", "Scheduler", "stores"],
  index: ["Batcher", "Hooks", "RateLimiter", "Reducer", "Scheduler"]
}

/** The rooms of `internal`, each with the rooms it may import. A room only imports rooms listed above it. */
const rooms: Readonly<Record<string, ReadonlyArray<string>>> = {
  data: [],
  seen: ["data"],
  waits: ["data"],
  store: ["data", "seen"],
  limiter: ["data", "seen", "store"],
  reducer: ["data", "seen", "waits", "store"],
  scheduler: ["data", "seen", "waits", "store", "limiter"],
  batcher: ["data", "seen", "waits", "scheduler"],
  shared: ["data", "seen", "store", "limiter", "scheduler"],
  redis: ["data", "store", "shared"],
  postgres: ["data", "store", "shared"],
  inspect: ["data", "seen", "waits", "limiter", "reducer", "scheduler", "batcher"],
  http: ["limiter", "scheduler"],
  dashboard: ["inspect"]
}

/** Returns the room of a module of `internal`. */
const roomOf = (name: string): string | undefined => /^internal\/([^/]+)\//.exec(name)?.[1]

/**
 * Packages besides effect that a module or folder may import: optional peer dependencies, and what is bundled into the page of
 * the dashboard.
 */
const packages: Readonly<Record<string, ReadonlyArray<string>>> = {
  progress: ["cli-progress"],
  "postgres/*": ["@effect/sql-pg"],
  "internal/postgres/*": ["@effect/sql-pg"],
  "internal/dashboard/page/*": ["uplot"]
}

interface Import {
  readonly from: string
  readonly specifier: string
  readonly line: number
}

export const importsOf = (name: string, text: string): ReadonlyArray<Import> => {
  const found: Array<Import> = []
  const note = (node: ts.Node | undefined) => {
    if (node === undefined || !ts.isStringLiteral(node)) return
    found.push({ from: name, specifier: node.text, line: text.slice(0, node.pos).split("\n").length })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) note(node.moduleSpecifier)
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) note(node.argument.literal)
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) note(node.arguments[0])
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(name, text, ts.ScriptTarget.Latest))
  return found
}

/** A rule's pattern: a name, or a folder and a star. */
export const matches = (name: string, pattern: string) =>
  pattern === name || (pattern.endsWith("/*") && name.startsWith(pattern.slice(0, -1)))

/** Returns the problems of the modules, given by name ("internal/gcra") with their text. */
export const judge = (modules: ReadonlyMap<string, string>, barrels: ReadonlySet<string>) => {
  const problems: Array<string> = []
  const graph = new Map<string, Array<string>>()
  for (const [name, text] of modules) {
    const known: Array<string> = []
    graph.set(name, known)
    for (const { line, specifier } of importsOf(name, text)) {
      const wrong = (rule: string) => problems.push(`src/${name}.ts:${line} imports ${specifier}: ${rule}`)
      if (specifier.startsWith(".")) {
        const imported = normalize(join(dirname(name), specifier)).replace(/\.js$/, "")
        if (!specifier.endsWith(".js")) wrong("a relative import ends in .js")
        else if (!modules.has(imported)) wrong("there is no such module")
        else if (imported === "index") wrong("no module imports src/index")
        else known.push(imported)
      } else if (specifier.startsWith("node:") || specifier.startsWith("@effect/platform-node")) {
        if (!/node/i.test(name)) wrong("only a module named for Node does")
      } else if (specifier === "effect-funnel" || specifier.startsWith("effect-funnel/")) {
        wrong("the package does not import itself by name")
      } else if (barrels.has(specifier)) {
        wrong("import the module, as in effect/Effect: a barrel costs its reader and its bundler")
      } else if (!specifier.startsWith("effect/")) {
        const folder = Object.keys(packages).find((_) => matches(name, _))
        const also = folder === undefined ? [] : packages[folder]!
        if (!also.some((_) => specifier === _ || specifier.startsWith(`${_}/`))) wrong("effect is the only dependency")
      }
    }
  }

  const isPublic = (name: string) => !name.startsWith("internal/")
  for (const name of graph.keys()) {
    if (!isPublic(name)) continue
    const rule = Object.keys(allowed).find((_) => matches(name, _))
    if (rule === undefined) {
      problems.push(`src/${name}.ts is public: say in scripts/checkArchitecture.ts what it may reach`)
      continue
    }
    const paths = new Map([[name, name]])
    for (const [at, path] of paths) {
      for (const next of graph.get(at)!) if (!paths.has(next)) paths.set(next, `${path} → ${next}`)
    }
    for (const [reached, path] of paths) {
      const fine = !isPublic(reached) || reached === name || allowed[rule]!.some((_) => matches(reached, _)) ||
        (rule.endsWith("/*") && matches(reached, rule))
      if (!fine) problems.push(`src/${name}.ts may not reach ${reached}: ${path}`)
    }
  }
  for (const [name, imported] of graph) {
    if (isPublic(name)) continue
    const room = roomOf(name)
    const below = room === undefined ? undefined : rooms[room]
    if (below === undefined) {
      problems.push(`src/${name}.ts is in no room: say in scripts/checkArchitecture.ts what it may import`)
      continue
    }
    for (const next of imported) {
      const other = roomOf(next)
      if (isPublic(next)) problems.push(`src/${name}.ts imports ${next}: nothing in internal imports a public module`)
      else if (other !== room && other !== undefined && !below.includes(other)) {
        problems.push(`src/${name}.ts imports ${next}: ${room} does not stand above ${other}`)
      }
    }
  }
  for (const algorithm of ["internal/limiter/gcra"]) {
    if (modules.has(algorithm) && importsOf(algorithm, modules.get(algorithm)!).length > 0) {
      problems.push(`src/${algorithm}.ts is arithmetic and imports nothing`)
    }
  }

  const state = new Map<string, "open" | "done">()
  const visit = (name: string, path: ReadonlyArray<string>): void => {
    if (state.get(name) === "done") return
    if (state.get(name) === "open") {
      problems.push(`a cycle: ${[...path.slice(path.indexOf(name)), name].join(" → ")}`)
      return
    }
    state.set(name, "open")
    for (const next of graph.get(name)!) visit(next, [...path, name])
    state.set(name, "done")
  }
  for (const name of graph.keys()) visit(name, [])
  return { problems, graph, modules: graph.size, imports: [...graph.values()].flat().length }
}

/** A module as the diagram shows it: a public module, the layers of a store as one box, or a room. */
const boxOf = (name: string): string => {
  const room = roomOf(name)
  return room === undefined ? name.replace(/^(redis|postgres)\/.*/, "$1/*") : `internal/${room}`
}

/** Draws the imports between boxes as a flowchart, without those that a longer path implies. */
export const draw = (graph: ReadonlyMap<string, ReadonlyArray<string>>): string => {
  const arrows = new Map<string, Set<string>>()
  for (const [name, imported] of graph) {
    const from = boxOf(name)
    const to = arrows.get(from) ?? new Set()
    arrows.set(from, to)
    for (const next of imported) if (boxOf(next) !== from) to.add(boxOf(next))
  }
  const reaches = (from: string, to: string): boolean => {
    const met = new Set([from])
    for (const box of met) for (const next of arrows.get(box)!) met.add(next)
    return met.has(to)
  }
  const ids = new Map([...arrows.keys()].map((box) => [box, box.replace(/\W+/g, "_")]))
  const lines = [...arrows].flatMap(([from, to]) =>
    [...to].filter((next) => ![...to].some((other) => other !== next && reaches(other, next)))
      .map((next) => `  ${ids.get(from)}["${from}"] --> ${ids.get(next)}["${next}"]`)
  )
  return ["```mermaid", "flowchart TD", ...lines.toSorted(), "```"].join("\n")
}

const picture = /(?<=<!-- drawn by `npm run check:arch -- --draw` -->\n\n)```mermaid[^]*?```/

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const src = join(root, "src")
  const files = globSync("**/*.ts", { cwd: src }).toSorted()
  const modules = new Map(
    files.map((file) => [relative(".", file).replace(/\.ts$/, ""), readFileSync(join(src, file), "utf8")])
  )
  const { exports } = JSON.parse(readFileSync(join(root, "node_modules/effect/package.json"), "utf8"))
  const barrels = Object.entries<string>(exports).filter(([, to]) => to?.endsWith("/index.js")).map(([key]) => key)
  const { graph, imports, modules: count, problems } = judge(modules, new Set(barrels.map((_) => join("effect", _))))
  const page = join(root, "CONTRIBUTING.md")
  const text = readFileSync(page, "utf8")
  const drawn = text.replace(picture, draw(graph))
  if (process.argv.includes("--draw")) writeFileSync(page, drawn)
  else if (drawn !== text || !picture.test(text)) {
    problems.push("the diagram in CONTRIBUTING.md is out of date: run npm run check:arch -- --draw")
  }
  for (const problem of problems) console.error(problem)
  console.log(`${count} modules, ${imports} imports of each other, ${problems.length} problems`)
  if (problems.length > 0) process.exitCode = 1
}
