/**
 * Every public export has a docblock with @category and @since; a value has an example that is run as well, and each
 * module says at its top what it is for.
 */
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

/** What a module lacks. */
export const judge = (file: string, text: string) => {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const problems: Array<string> = []
  let count = 0
  const seen = new Set<string>()
  const lacks = (node: ts.Node, name: string, what: string) => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart())
    problems.push(`${file}:${line + 1} ${name} lacks ${what}`)
  }
  if (!/^\/\*\*[^]*?@since[^]*?\*\//.test(text)) problems.push(`${file}:1 the module lacks a docblock with @since`)
  for (const node of source.statements) {
    const modifiers = ts.canHaveModifiers(node) ? ts.getModifiers(node) ?? [] : []
    if (!modifiers.some((_) => _.kind === ts.SyntaxKind.ExportKeyword)) continue
    const isValue = ts.isVariableStatement(node) || ts.isFunctionDeclaration(node)
    const name = ts.isVariableStatement(node)
      ? node.declarationList.declarations[0]!.name.getText()
      : (node as ts.DeclarationStatement).name!.getText()
    // Of overloads, and of a type and a value of one name, the first carries the docs.
    const first = !seen.has(name)
    seen.add(name)
    const docs = text.slice(node.getFullStart(), node.getStart()).match(/\/\*\*[^]*?\*\//g)?.at(-1)
    if (docs?.includes("@internal") || (!first && ts.isFunctionDeclaration(node))) continue
    count++
    if (docs === undefined) {
      lacks(node, name, "a docblock")
      continue
    }
    if (!/@category \w/.test(docs)) lacks(node, name, "@category")
    if (!/@since \d+\.\d+\.\d+/.test(docs)) lacks(node, name, "@since")
    if (isValue && !name.endsWith("TypeId") && !docs.includes("```ts import.meta.vitest")) {
      lacks(node, name, "an example")
    }
  }
  return { count, problems }
}

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const files = globSync("src/**/*.ts", { cwd: root, exclude: (_) => _ === "internal" || _ === "index.ts" }).toSorted()
  const results = files.map((file) => judge(file, readFileSync(join(root, file), "utf8")))
  const problems = results.flatMap((_) => _.problems)
  for (const problem of problems) console.error(problem)
  const count = results.reduce((sum, _) => sum + _.count, 0)
  console.log(`${count} public exports in ${files.length} modules, ${problems.length} problems`)
  if (problems.length > 0) process.exitCode = 1
}
