/**
 * Builds the documentation as one static site, in site/dist: the README, the guides, the examples and the API reference.
 *
 *     npm run docs
 *     npm run docs -- --serve 8080      and serves it on this machine
 *     npm run docs -- --check           and opens it in Chromium
 *
 * TypeDoc turns the docblocks into pages, and VitePress the pages into the site. The two are in a package.json of site.
 * The site loads nothing from elsewhere.
 */
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join, normalize, relative } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { serve } from "./browser.ts"
import { exampleOf, exportsOf, publicModules } from "./checkDocs.ts"
import { checkSite } from "./checkSite.ts"
import { installed, run } from "./installed.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const site = join(root, "site")
const pages = join(site, ".tmp/pages")
const read = (file: string) => readFileSync(join(root, file), "utf8")
const write = (page: string, text: string) => {
  mkdirSync(dirname(join(pages, page)), { recursive: true })
  writeFileSync(join(pages, page), text)
}

/** The guides that come first in the sidebar. The others follow by name. */
const order = ["reducer", "rate-limiter", "scheduler", "batcher", "http", "layers", "interruption", "overload"]
const others = ["CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "CHANGELOG.md"]

const titleOf = (text: string) => /^# (.+)$/m.exec(text)![1]!.replaceAll("`", "")

/** The page of the site for a file of the repository, if it has one. */
const pageOf = (file: string): string | undefined => {
  if (file === "README.md") return "index.md"
  if (file === "examples" || file === "examples/") return "examples/index.md"
  if (file === "LICENSE") return "LICENSE.md"
  if (/^examples\/[^/]+\.ts$/.test(file)) return file.replace(/\.ts$/, ".md")
  return file.endsWith(".md") ? file : undefined
}

/** The fence of an example, and of its output, for a reader. */
const plain = (text: string) =>
  text.replaceAll(/^```ts import\.meta\.vitest$/gm, "```ts").replaceAll(/^```output$/gm, "```txt")

/** Points the links of a page at pages of the site. The text of a link to another file stays. */
const linked = (file: string, text: string) =>
  text.split(/(^```[^]*?^```)/m).map((part) =>
    part.startsWith("```")
      ? plain(part)
      : part.replaceAll(
        /(!?)\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g,
        (all, image: string, label: string, to: string) => {
          if (image !== "" || /^(\w+:|#)/.test(to)) return all
          const [path, anchor] = to.split("#")
          const page = pageOf(normalize(join(dirname(file), path!)))
          if (page === undefined) return label
          const from = dirname(pageOf(file)!)
          return `[${label}](./${relative(from, page)}${anchor === undefined ? "" : `#${anchor}`})`
        }
      )
  ).join("")

/** Draws the diagrams of a page, so that a browser has to load nothing for them. */
const drawn = async (page: string, text: string): Promise<string> => {
  // Sound: the package is in the lockfile of `site`, so it is one version, whose types the root does not have.
  const { renderMermaidSVG } = await import(
    pathToFileURL(join(site, "node_modules/beautiful-mermaid/dist/index.js")).href
  ) as { readonly renderMermaidSVG: (diagram: string, options: { readonly font: string }) => string }
  let number = 0
  return text.replaceAll(/^```mermaid\n([^]*?)^```/gm, (_, diagram: string) => {
    const picture = `${page.replace(/\.md$/, "")}-${++number}.svg`
    // The picture wants its font from a server.
    write(picture, renderMermaidSVG(diagram, { font: "sans-serif" }).replaceAll(/@import [^\n]*\n/g, ""))
    return `![A diagram](./${basename(picture)})`
  })
}

const writePages = async () => {
  const guides = globSync("docs/*.md", { cwd: root }).toSorted((a, b) => {
    const place = (file: string) => (order.indexOf(basename(file, ".md")) + order.length + 1) % (order.length + 1)
    return place(a) - place(b) || a.localeCompare(b)
  })
  for (const file of ["README.md", ...guides, ...others]) {
    const page = pageOf(file)!
    write(page, await drawn(page, linked(file, read(file))))
  }
  write("LICENSE.md", `# License\n\n${read("LICENSE")}`)
  for (const folder of globSync("docs/*/", { cwd: root })) {
    cpSync(join(root, folder), join(pages, folder), { recursive: true })
  }
  const examples = globSync("examples/*.ts", { cwd: root }).toSorted()
  for (const file of examples) write(pageOf(file)!, `# ${basename(file, ".ts")}\n\n\`\`\`ts\n${read(file)}\`\`\`\n`)
  const list = examples.map((file) => `- [${basename(file, ".ts")}](./${basename(pageOf(file)!)})`)
  write("examples/index.md", `# Examples\n\n\`npm run example -- gateway\` runs one.\n\n${list.join("\n")}\n`)
  return { guides, examples }
}

/** The pages of the exports of a module. A page without an example of its own shows the example of a neighbour. */
const pagesOf = (module: string) => {
  const folder = join("api", module.replace(/\.ts$/, ""))
  const found = globSync(`${folder}/*/*.md`, { cwd: pages })
  const all = exportsOf(`src/${module}`, read)
  const missing: Array<string> = []
  for (const one of all) {
    const own = found.filter((page) => basename(page, ".md") === one.name)
    if (own.length === 0 && !readFileSync(join(pages, folder, "index.md"), "utf8").includes(one.name)) {
      missing.push(`${folder}: no page of ${one.name}`)
    }
    const example = exampleOf(one, all)
    for (const page of own) {
      let text = readFileSync(join(pages, page), "utf8")
      if (one.signature !== "") {
        text = text.replace(/(?<=^```ts\n)const (\w+): [^]*?(?=\n```)/m, () => undented(one.signature))
        write(page, text)
      }
      if (text.includes("import.meta.vitest")) continue
      if (example === undefined) missing.push(`${page}: no example`)
      else write(page, `${text}\n## Example\n\n\`\`\`ts import.meta.vitest\n${example}\n\`\`\`\n`)
    }
  }
  // TypeDoc leaves out the docblock of a module.
  const about = /^\/\*\*([^]*?)\*\//.exec(read(`src/${module}`))![1]!
    .replaceAll(/^ \* ?/gm, "").replaceAll(/^@\w+.*$/gm, "").replaceAll(/\{@link (\w+)\}/g, "`$1`").trim()
  const name = `effect-funnel/${module.replace(/\.ts$/, "")}`
  const index = readFileSync(join(pages, folder, "index.md"), "utf8")
  write(join(folder, "index.md"), index.replace(/\n/, () => `\n\n\`import … from "${name}"\`\n\n${about}\n`))
  return { found, missing }
}

/** A member of an interface as a declaration of its own. */
const undented = (member: string) => member.replaceAll(/^ {2}/gm, "").replace(/^(readonly )?/, "")

const writeReference = (modules: ReadonlyArray<string>) => {
  run(join(site, "node_modules/.bin/typedoc"), [
    "--options",
    join(site, "typedoc.json"),
    ...modules.flatMap((module) => ["--entryPoints", join(root, "src", module)])
  ])
  const results = modules.map((module) => ({ module, ...pagesOf(module) }))
  for (const page of globSync("api/**/*.md", { cwd: pages })) {
    const guide = (_: string, file: string) => `[\`${file}\`](${relative(dirname(page), file)})`
    const text = plain(readFileSync(join(pages, page), "utf8"))
    write(page, text.replaceAll(/`(docs\/[\w-]+\.md)`/g, guide))
  }
  return results
}

const build = async () => {
  installed("site")
  rmSync(join(site, ".tmp"), { recursive: true, force: true })
  rmSync(join(site, "dist"), { recursive: true, force: true })
  const { examples, guides } = await writePages()
  const reference = writeReference(publicModules(root))
  const link = (page: string) => `/${page.replace(/(^|\/)index\.md$/, "$1").replace(/\.md$/, "")}`
  const item = (page: string, text = titleOf(readFileSync(join(pages, page), "utf8"))) => ({ text, link: link(page) })
  const { description, version } = JSON.parse(read("package.json"))
  const api = reference.map(({ found, module }) => {
    const name = module.replace(/\.ts$/, "")
    const items = found.map((page) => item(page, basename(page, ".md"))).toSorted((a, b) =>
      a.text.localeCompare(b.text)
    )
    return { ...item(`api/${name}/index.md`, name), collapsed: true, items }
  })
  const sidebar = [
    { text: "Guides", items: [item("index.md", "Overview"), ...guides.map((page) => item(page))] },
    { text: "API", items: api },
    {
      text: "Examples",
      collapsed: true,
      items: examples.map((file) => item(pageOf(file)!))
    },
    { text: "Project", collapsed: true, items: others.map((page) => item(page)) }
  ]
  writeFileSync(join(site, ".tmp/site.json"), JSON.stringify({ description, sidebar, version }))
  run(join(site, "node_modules/.bin/vitepress"), ["build", site])
  const missing = reference.flatMap((_) => _.missing)
  for (const problem of missing) console.error(problem)
  return missing
}

const { values } = parseArgs({
  options: { check: { type: "boolean" }, only: { type: "boolean" }, serve: { type: "string" } }
})
const problems = values.only === true ? [] : await build()
if (values.check === true) problems.push(...await checkSite(join(site, "dist")))
if (problems.length > 0) process.exitCode = 1
else if (values.serve !== undefined) {
  const { origin } = await serve(join(site, "dist"), Number(values.serve))
  console.log(origin)
}
