/**
 * Checks that every public export has a docblock with @category and @since, that every value has an example that runs,
 * and that every module begins with a docblock. An export from another module is checked in that module.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const nameOf = (node: ts.Statement) =>
  ts.isVariableStatement(node)
    ? node.declarationList.declarations[0]!.name.getText()
    : (node as ts.DeclarationStatement).name!.getText()

const isExported = (node: ts.Statement) =>
  ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((_) => _.kind === ts.SyntaxKind.ExportKeyword)

/** Returns the problems of a file's exports, or only of the named ones. */
const judgeExports = (
  file: string,
  read: (file: string) => string,
  only?: ReadonlyArray<string>
): { readonly count: number; readonly problems: ReadonlyArray<string> } => {
  const text = read(file)
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const problems: Array<string> = []
  const functions = new Set<string>()
  let count = 0
  for (const node of source.statements) {
    if (
      ts.isExportDeclaration(node) && node.moduleSpecifier && node.exportClause && ts.isNamedExports(node.exportClause)
    ) {
      const names = node.exportClause.elements.map((_) => (_.propertyName ?? _.name).getText())
      const from = join(dirname(file), (node.moduleSpecifier as ts.StringLiteral).text).replace(/\.js$/, ".ts")
      const there = judgeExports(from, read, only === undefined ? names : names.filter((_) => only.includes(_)))
      count += there.count
      problems.push(...there.problems)
    }
    if (!isExported(node) || (only !== undefined && !only.includes(nameOf(node)))) continue
    const name = nameOf(node)
    const docs = text.slice(node.getFullStart(), node.getStart()).match(/\/\*\*[^]*?\*\//g)?.at(-1)
    // The first overload carries the docs.
    const again = ts.isFunctionDeclaration(node) && functions.has(name)
    if (again || docs?.includes("@internal")) continue
    if (ts.isFunctionDeclaration(node)) functions.add(name)
    count++
    const { line } = source.getLineAndCharacterOfPosition(node.getStart())
    const lacks = (what: string) => problems.push(`${file}:${line + 1} ${name} lacks ${what}`)
    if (docs === undefined) {
      lacks("a docblock")
      continue
    }
    const isValue = ts.isVariableStatement(node) || ts.isFunctionDeclaration(node)
    if (!/@category \w/.test(docs)) lacks("@category")
    if (!/@since \d+\.\d+\.\d+/.test(docs)) lacks("@since")
    if (isValue && !name.endsWith("TypeId") && !docs.includes("```ts import.meta.vitest")) lacks("an example")
  }
  return { count, problems }
}

/** Returns the problems of a public module. */
export const judge = (file: string, read: (file: string) => string) => {
  const { count, problems } = judgeExports(file, read)
  const about = /^\/\*\*(?:[^*]|\*(?!\/))*@since/.test(read(file))
  return { count, problems: about ? problems : [`${file}:1 the module lacks a docblock with @since`, ...problems] }
}

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const files = globSync("src/**/*.ts", { cwd: root, exclude: (_) => _ === "internal" || _ === "index.ts" }).toSorted()
  const results = files.map((file) => judge(file, (_) => readFileSync(join(root, _), "utf8")))
  const problems = results.flatMap((_) => _.problems)
  for (const problem of problems) console.error(problem)
  const count = results.reduce((sum, _) => sum + _.count, 0)
  console.log(`${count} public exports in ${files.length} modules, ${problems.length} problems`)
  if (problems.length > 0) process.exitCode = 1
}
