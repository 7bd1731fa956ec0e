/**
 * Bundles the page of the dashboard into one module, src/internal/dashboard/bundle.ts, if a part of it is newer. The build, the
 * tests and the checks call it first.
 */
import { build } from "esbuild"
import { createHash } from "node:crypto"
import { globSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const folder = join(root, "src/internal/dashboard")
const target = join(folder, "bundle.ts")
const plots = join(root, "node_modules/uplot")

const hashOf = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

/** The directives of the page: its own script and style, its own server, and nothing else. */
const policyOf = (script: string, style: string) =>
  [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'"
  ].join("; ")

export const writePage = async (): Promise<void> => {
  const sources = globSync(["src/internal/dashboard/page/*", "scripts/page.ts", "package.json"], { cwd: root })
  const written = statSync(target, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (sources.every((file) => statSync(join(root, file)).mtimeMs <= written)) return
  const options = { bundle: true, minify: true, write: false, target: "es2022", logLevel: "silent" } as const
  const [script, style] = await Promise.all([
    build({ ...options, entryPoints: [join(folder, "page/main.ts")], format: "iife", charset: "utf8" }),
    build({
      ...options,
      stdin: {
        contents: `@import "uplot/dist/uPlot.min.css"; @import "./style.css";`,
        loader: "css",
        resolveDir: join(folder, "page")
      }
    })
  ])
  const license = readFileSync(join(plots, "LICENSE"), "utf8").trim()
  const { version } = JSON.parse(readFileSync(join(plots, "package.json"), "utf8")) as { version: string }
  const code = `/*! With uPlot ${version}, https://github.com/leeoniya/uPlot\n\n${license}\n*/\n${
    script.outputFiles[0]!.text.trim()
  }`
  const css = style.outputFiles[0]!.text.trim()
  const html = readFileSync(join(folder, "page/index.html"), "utf8")
    .replace("/*style*/", () => css)
    .replace("/*script*/", () => code)
  if (code.includes("</script") || css.includes("</style")) throw new Error("the page would end within its own text")
  writeFileSync(
    target,
    [
      "/** Written by scripts/page.ts from the folder page. */",
      `export const csp: string = ${JSON.stringify(policyOf(code, css))}`,
      `export const html: string = ${JSON.stringify(html)}`,
      ""
    ].join("\n")
  )
}

if (import.meta.main) await writePage()
