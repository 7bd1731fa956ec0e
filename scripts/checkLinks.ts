/**
 * Checks the links of pages and docblocks: files, headings and pictures are there, `{@link}` names an export, and an
 * external link has the shape of an address. Nothing is asked of the network.
 */
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"

/** Returns the anchors that GitHub and npm give to the headings of a page. */
export const anchorsOf = (text: string): ReadonlySet<string> => {
  const anchors = new Set<string>()
  for (const [, heading] of withoutCode(text).matchAll(/^#+ (.*)$/gm)) {
    const words = heading!.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase()
    const anchor = words.replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(" ", "-")
    let count = 0
    while (anchors.has(count === 0 ? anchor : `${anchor}-${count}`)) count++
    anchors.add(count === 0 ? anchor : `${anchor}-${count}`)
  }
  return anchors
}

/** Blanks fences, so that lines keep their numbers. */
const withoutCode = (text: string) =>
  text.replaceAll(/^([ \t]*\*?[ \t]*)```[^]*?^\1```/gm, (code) => code.replaceAll(/[^\n]/g, ""))

export interface Link {
  readonly to: string
  readonly line: number
}

/** Returns the links of a page or of docblocks, pictures included. */
export const linksOf = (text: string): ReadonlyArray<Link> => {
  const bare = withoutCode(text).replaceAll(/`[^`\n]*`/g, (code) => "`".repeat(code.length))
  const shapes = /\]\(([^)\s]*)(?: "[^"]*")?\)|^ *\[[^\]]+\]:\s*(\S+)|(?:href|src)="([^"]*)"|<(https?:[^>\s]*)>/gm
  return Array.from(bare.matchAll(shapes), ({ 1: a, 2: b, 3: c, 4: d, index }) => ({
    to: a ?? b ?? c ?? d ?? "",
    line: bare.slice(0, index).split("\n").length
  }))
}

const isAddress = (to: string) => {
  const url = URL.parse(to)
  return url !== null &&
    (url.protocol === "mailto:" || (/^https?:$/.test(url.protocol) && /[^.]\.[^.]/.test(url.hostname)))
}

/** Returns what is wrong with a link of a page in a folder, or `undefined`. */
export const judgeLink = (root: string, page: string, to: string): string | undefined => {
  if (/^[a-z]+:/.test(to)) return isAddress(to) ? undefined : "is no address"
  const [path, anchor] = to.split("#")
  const target = path === "" ? page : normalize(join(dirname(page), decodeURIComponent(path!)))
  if (to === "" || target.startsWith("..") || !existsSync(join(root, target))) return "leads nowhere"
  if (anchor === undefined) return undefined
  return target.endsWith(".md") && anchorsOf(readFileSync(join(root, target), "utf8")).has(anchor)
    ? undefined
    : "leads to no heading"
}

/** Returns the names that the `{@link}`s of a module may have. */
const declared = (text: string) =>
  new Set(
    Array.from(
      text.matchAll(
        /\b(?:const|function|class|interface|type|namespace) (\w+)|export \* as (\w+)|export (?:type )?\{([^}]*)\}/g
      ),
      ([, name, as, list]) =>
        list?.split(",").map((_) => _.trim().replace(/^type /, "").replace(/^.* as /, "")) ?? name ?? as!
    ).flat()
  )

/** Checks all pages at the root and in docs, and all docblocks in src. */
export const checkLinks = (root: string): { readonly count: number; readonly problems: ReadonlyArray<string> } => {
  const problems: Array<string> = []
  let count = 0
  const pages = globSync(["*.md", "docs/**/*.md", ".changeset/*.md"], { cwd: root }).toSorted()
  for (const page of pages) {
    for (const { line, to } of linksOf(readFileSync(join(root, page), "utf8"))) {
      count++
      const wrong = judgeLink(root, page, to)
      if (wrong !== undefined) problems.push(`${page}:${line} "${to}" ${wrong}`)
    }
  }
  for (const file of globSync("src/**/*.ts", { cwd: root }).toSorted()) {
    const text = readFileSync(join(root, file), "utf8")
    const names = declared(text)
    const docs = text.replaceAll(/\/\*\*[^]*?\*\/|[^\n]/g, (part) => part.startsWith("/**") ? part : "")
    const note = (index: number, to: string, wrong: string | undefined) => {
      count++
      if (wrong !== undefined) problems.push(`${file}:${text.slice(0, index).split("\n").length} "${to}" ${wrong}`)
    }
    for (const { index, 1: to } of text.matchAll(/\{@link(?:code|plain)? ([^}|\s]+)[^}]*\}/g)) {
      const [name] = to!.split(/[.#]/)
      note(
        index,
        to!,
        /^https?:/.test(to!) ? judgeLink(root, file, to!) : names.has(name!) ? undefined : "names no export"
      )
    }
    for (const { index, 1: to } of text.matchAll(/`((?:docs|examples)\/[\w/-]+\.\w+)`/g)) {
      note(index, to!, judgeLink(root, "", to!))
    }
    // Links in Markdown, of docblocks alone: code has indexes and calls that look like them.
    for (const { line, to } of linksOf(docs)) {
      count++
      const wrong = judgeLink(root, file, to)
      if (wrong !== undefined) problems.push(`${file}:${line} "${to}" ${wrong}`)
    }
  }
  return { count, problems }
}
