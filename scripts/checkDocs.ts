/**
 * Checks that every public export has a docblock with @category and @since, that every value has an example that runs,
 * that the page of every other export has one to show, that every module begins with a docblock, and that links lead
 * somewhere. An export from another module is checked in that module.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { checkLinks } from "./checkLinks.ts"
import { collect } from "./docExamples.ts"

const nameOf = (node: ts.Statement) =>
  ts.isVariableStatement(node)
    ? node.declarationList.declarations[0]!.name.getText()
    : (node as ts.DeclarationStatement).name!.getText()

const isExported = (node: ts.Statement) =>
  ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((_) => _.kind === ts.SyntaxKind.ExportKeyword)

/** Returns the text of a member of an interface that a file declares or imports. */
const memberOf = (file: string, read: (file: string) => string, of: string, member: string): string => {
  for (const node of ts.createSourceFile(file, read(file), ts.ScriptTarget.Latest, true).statements) {
    if (ts.isInterfaceDeclaration(node) && node.name.text === of) {
      return node.members.filter((_) => _.name?.getText() === member).map((_) => _.getText()).join("\n")
    }
    if (!ts.isImportDeclaration(node) || !new RegExp(`\\b${of}\\b`).test(node.importClause?.getText() ?? "")) continue
    const from = (node.moduleSpecifier as ts.StringLiteral).text
    if (from.startsWith(".")) return memberOf(join(dirname(file), from).replace(/\.js$/, ".ts"), read, of, member)
  }
  return ""
}

export interface Export {
  readonly name: string
  readonly file: string
  readonly line: number
  readonly docs: string | undefined
  readonly isValue: boolean
  /** The declaration, without its docblock. */
  readonly text: string
  /** The member of an interface that is its type, or "". */
  readonly signature: string
}

/** Returns the exports of a file, or only the named ones. An export from another module is read there. */
export const exportsOf = (
  file: string,
  read: (file: string) => string,
  only?: ReadonlyArray<string>
): ReadonlyArray<Export> => {
  const text = read(file)
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const found: Array<Export> = []
  const functions = new Set<string>()
  for (const node of source.statements) {
    if (
      ts.isExportDeclaration(node) && node.moduleSpecifier && node.exportClause && ts.isNamedExports(node.exportClause)
    ) {
      const names = node.exportClause.elements.map((_) => (_.propertyName ?? _.name).getText())
      const from = join(dirname(file), (node.moduleSpecifier as ts.StringLiteral).text).replace(/\.js$/, ".ts")
      found.push(...exportsOf(from, read, only === undefined ? names : names.filter((_) => only.includes(_))))
    }
    if (!isExported(node) || (only !== undefined && !only.includes(nameOf(node)))) continue
    const name = nameOf(node)
    const docs = text.slice(node.getFullStart(), node.getStart()).match(/\/\*\*[^]*?\*\//g)?.at(-1)
    // The first overload carries the docs.
    const again = ts.isFunctionDeclaration(node) && functions.has(name)
    if (again || docs?.includes("@internal")) continue
    if (ts.isFunctionDeclaration(node)) functions.add(name)
    const { line } = source.getLineAndCharacterOfPosition(node.getStart())
    const isValue = ts.isVariableStatement(node) || ts.isFunctionDeclaration(node)
    const declaration = node.getText()
    const [, of, member] = /^[^=]*?: (\w+)(?:<[^=]*?>)?\["(\w+)"\]/.exec(declaration) ?? []
    const signature = of === undefined ? "" : memberOf(file, read, of, member!)
    found.push({ name, file, line: line + 1, docs, isValue, text: declaration, signature })
  }
  return found
}

/**
 * Returns the example that the page of an export shows: its own, or that of a neighbour in its module. The neighbour is an
 * export whose example names it, or else one whose declaration does.
 */
export const exampleOf = (wanted: Export, all: ReadonlyArray<Export>): string | undefined => {
  const ownOf = ({ docs }: Export) => docs === undefined ? undefined : collect(docs)[0]?.code
  const own = ownOf(wanted)
  if (own !== undefined) return own
  const met = new Set([wanted])
  for (const one of met) {
    const word = new RegExp(`\\b${one.name}\\b`)
    const examples = all.map(ownOf).filter((code) => code !== undefined)
    const example = examples.find((code) => word.test(code)) ?? ownOf(one)
    if (example !== undefined) return example
    for (const other of all) if (word.test(other.text) || word.test(other.signature)) met.add(other)
  }
  return undefined
}

/** Returns the problems of a public module. */
export const judge = (file: string, read: (file: string) => string) => {
  const all = exportsOf(file, read)
  const problems: Array<string> = []
  if (!/^\/\*\*(?:[^*]|\*(?!\/))*@since/.test(read(file))) {
    problems.push(`${file}:1 the module lacks a docblock with @since`)
  }
  for (const one of all) {
    const lacks = (what: string) => problems.push(`${one.file}:${one.line} ${one.name} lacks ${what}`)
    if (one.docs === undefined) {
      lacks("a docblock")
      continue
    }
    if (!/@category \w/.test(one.docs)) lacks("@category")
    if (!/@since \d+\.\d+\.\d+/.test(one.docs)) lacks("@since")
    const needsOwn = one.isValue && !one.name.endsWith("TypeId")
    if (needsOwn ? !one.docs.includes("```ts import.meta.vitest") : exampleOf(one, all) === undefined) {
      lacks("an example")
    }
  }
  return { count: all.length, problems }
}

/** Returns the public modules in src, but for the index. */
export const publicModules = (root: string): ReadonlyArray<string> =>
  globSync("**/*.ts", { cwd: join(root, "src"), exclude: (_) => _ === "internal" || _ === "index.ts" }).toSorted()

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const read = (file: string) => readFileSync(join(root, file), "utf8")
  const modules = publicModules(root)
  const results = modules.map((module) => judge(join("src", module), read))
  const links = checkLinks(root)
  const problems = [...results.flatMap((_) => _.problems), ...links.problems]
  for (const problem of problems) console.error(problem)
  const count = results.reduce((sum, _) => sum + _.count, 0)
  console.log(`${count} public exports in ${modules.length} modules, ${links.count} links, ${problems.length} problems`)
  if (problems.length > 0) process.exitCode = 1
}
