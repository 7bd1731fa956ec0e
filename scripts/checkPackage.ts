/**
 * Checks the package as its users get it.
 *
 * It packs the package, lints the tarball, follows the links in its documents, and unpacks it into an empty project.
 * There it compiles the README's first example under both module resolutions and runs it.
 */
import { execFileSync, spawnSync } from "node:child_process"
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, normalize } from "node:path"
import { fileURLToPath } from "node:url"
import { judgeLink, linksOf } from "./checkLinks.ts"
import { collect } from "./docExamples.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const project = mkdtempSync(join(tmpdir(), "effect-funnel-"))
const problems: Array<string> = []

const bin = (name: string) => join(root, "node_modules/.bin", name)
const run = (what: string, command: string, args: ReadonlyArray<string>) => {
  const { status, stderr, stdout } = spawnSync(command, args, { cwd: project, encoding: "utf8", timeout: 120_000 })
  const good = status === 0
  console.log(`${good ? "ok    " : "FAILED"} ${what}`)
  if (!good) {
    problems.push(what)
    console.error(`${stdout}${stderr}`)
  }
  return stdout
}

/** The sources of the page, which are bundled into a module. */
const page = "src/internal/dashboard/page/*"
const modules = globSync("src/**/*.ts", { cwd: root, exclude: [page] })
  .map((file) => file.slice("src/".length, -".ts".length))
/** Its text is in the package once, in the module of the dashboard. */
const bundled = "internal/dashboard/bundle"
const open = modules.filter((name) => !name.startsWith("internal/") && name !== "index").toSorted()

/** Links to tests only work in the repository: the package contains no tests. */
const forTheRepository = /^test\//

/** Returns the links of a packed document that lead nowhere in the package. */
const deadLinks = (document: string, packed: string) =>
  linksOf(readFileSync(join(packed, document), "utf8"))
    .filter(({ to }) => document === "README.md" || !forTheRepository.test(normalize(join(dirname(document), to))))
    .filter(({ to }) => judgeLink(packed, document, to) !== undefined)
    .map(({ to }) => `${to} in ${document}`)

/** The most bytes of the tarball. Without a limit it grows by each picture. */
const mostBytes = 950_000

const check = () => {
  run("npm pack", "npm", ["pack", "--silent", "--pack-destination", project, root])
  const [tarball] = globSync("*.tgz", { cwd: project })
  if (tarball === undefined) return
  const bytes = statSync(join(project, tarball)).size
  const size = `the tarball has ${Math.round(bytes / 1000)} kB, of ${mostBytes / 1000} kB at most`
  console.log(`${bytes <= mostBytes ? "ok    " : "FAILED"} ${size}`)
  if (bytes > mostBytes) problems.push(size)
  const packed = join(project, "node_modules/effect-funnel")
  mkdirSync(packed, { recursive: true })
  execFileSync("tar", ["xzf", join(project, tarball), "--strip-components=1", "-C", packed])

  const files = globSync("**/*", { cwd: packed, withFileTypes: true }).filter((_) => _.isFile())
    .map((_) => join(_.parentPath, _.name).slice(packed.length + 1))
  const wanted = [
    "package.json",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ...globSync(["docs/**/*.{md,svg,png,json}", "examples/**/*.{ts,json}", page], { cwd: root }),
    ...["index", ...open].map((name) => `dist/${name}.js`),
    ...open.map((name) => `dist/${name}.js.map`),
    ...globSync("dist/internal/chunk-*.js{,.map}", { cwd: root }),
    ...modules.flatMap((name) => [
      `dist/${name}.d.ts`,
      ...name === bundled ? [] : [`src/${name}.ts`, `dist/${name}.d.ts.map`]
    ])
  ]
  const list = (what: string, names: ReadonlyArray<string>) => {
    console.log(`${names.length === 0 ? "ok    " : "FAILED"} ${what}`)
    if (names.length > 0) problems.push(`${what}: ${names.join(", ")}`)
  }
  list("nothing is missing from the tarball", wanted.filter((name) => !files.includes(name)))
  list("nothing else is in the tarball", files.filter((name) => !wanted.includes(name)))

  list(
    "no link leads out of the package",
    files.filter((name) => name.endsWith(".md")).flatMap((name) => deadLinks(name, packed))
  )

  run("publint", bin("publint"), ["run", join(project, tarball), "--strict"])
  const entrypoints = [".", ...open.map((name) => `./${name}`)]
  run("attw", bin("attw"), [join(project, tarball), "--profile", "esm-only", "--entrypoints", ...entrypoints])

  // The dependency and the optional ones are linked, so nothing is downloaded. Node resolves their own dependencies from their
  // real paths.
  mkdirSync(join(project, "node_modules/@effect"))
  for (const name of ["effect", "cli-progress", "@effect/sql-pg"]) {
    symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name), "dir")
  }
  const readme = existsSync(join(root, "README.md")) ? readFileSync(join(root, "README.md"), "utf8") : ""
  const [first] = collect(readme)
  if (first === undefined) problems.push("the README has no example")
  // The declarations of this client need those of Node, which are not there.
  const isPostgres = (name: string) => name.startsWith("postgres/")
  const importing = (names: ReadonlyArray<string>) =>
    `${names.map((name, i) => `import * as M${i} from "effect-funnel/${name}"`).join("\n")}
export default [${names.map((_, i) => `M${i}`)}]\n`
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(project, name)), { recursive: true })
    writeFileSync(join(project, name), text)
  }
  write("package.json", JSON.stringify({ type: "module" }))
  write("first.ts", first?.code ?? "export {}\n")
  write("modules.ts", importing(open.filter((name) => !isPostgres(name))))
  write("postgres.ts", importing(open.filter(isPostgres)))
  write("closed.ts", `// @ts-expect-error: internal modules are closed\nimport "effect-funnel/internal/limiter/gcra"\n`)
  for (const [module, moduleResolution] of [["NodeNext", "NodeNext"], ["ESNext", "Bundler"]] as const) {
    const compilerOptions = { module, moduleResolution, target: "ES2022", strict: true, types: [], outDir: module }
    // The declarations must compile without skipLibCheck. Checking them once is enough.
    const options = {
      skipLibCheck: module !== "NodeNext",
      ...compilerOptions,
      exactOptionalPropertyTypes: true,
      rootDir: "."
    }
    const files = ["first.ts", "modules.ts", "closed.ts", ...(options.skipLibCheck ? ["postgres.ts"] : [])]
    write(
      `tsconfig.${module}.json`,
      JSON.stringify({ compilerOptions: options, files })
    )
    run(`tsc with ${moduleResolution} resolution`, bin("tsc"), ["-p", `tsconfig.${module}.json`])
  }
  const printed = run("the README's first example runs", process.execPath, ["NodeNext/first.js"])
  if (first?.output !== undefined && printed.trimEnd() !== first.output) {
    problems.push(`the README's first example prints\n${printed}and not\n${first.output}`)
  }
  run("every module loads", process.execPath, ["NodeNext/modules.js"])
  run("every module over PostgreSQL loads", process.execPath, ["ESNext/postgres.js"])
}

try {
  check()
} finally {
  rmSync(project, { recursive: true, force: true })
}
for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
