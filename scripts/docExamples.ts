/**
 * Turns the examples of the documentation into tests.
 *
 * An example is a fence that begins with ```ts import.meta.vitest, in a docblock under src or in a page. It becomes a
 * module under .tmp/doc-examples: imports are hoisted, the rest is the body of an async function, and a trailing `// =>
 * value` becomes an assertion. An ```output fence after an example holds the lines that the example prints. An example
 * without an assertion fails, and so does one that does not parse. An example that imports vitest becomes a test file.
 *
 * The modules are ordinary TypeScript: vitest runs them, `npm run check:types` type-checks them.
 */
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("..", import.meta.url))
const target = join(root, ".tmp/doc-examples")

interface Example {
  readonly title: string
  readonly line: number
  readonly code: string
  readonly output: string | undefined
}

/** Returns the examples of one file, each with the line where its code starts. */
export const collect = (text: string): ReadonlyArray<Example> => {
  const examples: Array<{ title: string; line: number; code: string; output: string | undefined }> = []
  const lines = text.split("\n")
  let title = "example"
  let previous: typeof examples[number] | undefined
  for (let i = 0; i < lines.length; i++) {
    const heading = /^\s*\*?\s*\*\*Example\*\* \((.+)\)|^#+ (.+)/.exec(lines[i]!)
    if (heading) title = heading[1] ?? heading[2]!
    const open = /^(\s*\* ?|\s*)```(\S*)(.*)$/.exec(lines[i]!)
    if (!open) continue
    const body: Array<string> = []
    const line = i + 2
    while (++i < lines.length && !/^\s*(\*\s*)?```\s*$/.test(lines[i]!)) {
      const text = lines[i]!
      body.push(text.startsWith(open[1]!) ? text.slice(open[1]!.length) : text.replace(/^\s*\* ?/, ""))
    }
    if (i === lines.length) throw new Error(`line ${line - 1}: the fence is not closed`)
    if (open[2] === "output" && previous) previous.output = body.join("\n").trimEnd()
    const runs = open[2] === "ts" && open[3]!.trim() === "import.meta.vitest"
    previous = runs ? { title, line, code: body.join("\n"), output: undefined } : undefined
    if (previous) examples.push(previous)
  }
  return examples
}

const parse = (code: string) => {
  const source = ts.createSourceFile("example.ts", code, ts.ScriptTarget.Latest, true)
  const [error] = ts.transpileModule(code, { reportDiagnostics: true, compilerOptions: { target: 99, module: 99 } })
    .diagnostics!
  if (error) throw new Error(ts.flattenDiagnosticMessageText(error.messageText, "\n"))
  return source
}

const isExpression = (text: string) => {
  try {
    const [statement, ...rest] = parse(`async function* f() { return (${text}\n) }`).statements
    return ts.isFunctionDeclaration(statement!) && rest.length === 0
  } catch {
    return false
  }
}

/** Returns an ES module whose default export runs the code and checks its assertions. */
export const transform = (example: Example): string => {
  const source = parse(example.code)
  const imports: Array<string> = []
  const edits: Array<{ readonly from: number; readonly to: number; readonly text: string }> = []
  const statements: Array<ts.Statement> = []
  const visit = (node: ts.Node): void => {
    if (ts.isStatement(node) && !ts.isBlock(node)) statements.push(node)
    ts.forEachChild(node, visit)
  }
  visit(source)
  for (const statement of source.statements) {
    if (ts.isImportDeclaration(statement)) {
      imports.push(statement.getText())
      edits.push({ from: statement.getStart(), to: statement.end, text: "" })
    } else if (ts.canHaveModifiers(statement)) {
      const keyword = ts.getModifiers(statement)?.find((_) => _.kind === ts.SyntaxKind.ExportKeyword)
      if (keyword) edits.push({ from: keyword.getStart(), to: keyword.end, text: "" })
    }
  }

  let assertions = 0
  for (const comment of example.code.matchAll(/\/\/ =>(.*(?:\n[ \t]*\/\/(?! =>).*)*)/g)) {
    const before = example.code.slice(0, comment.index)
    const line = example.line + before.split("\n").length - 1
    // A value may continue on the following comment lines, until it is a complete expression.
    const parts = comment[1]!.split("\n").map((part, i) => i === 0 ? part : part.replace(/^\s*\/\//, ""))
    let taken = 1
    while (taken < parts.length && !isExpression(parts.slice(0, taken).join("\n"))) taken++
    const expected = parts.slice(0, taken).join("\n").trim()
    if (!isExpression(expected)) throw new Error(`line ${line}: "// => ${expected}" is not followed by an expression`)
    const end = before.trimEnd().length
    const asserted = statements.findLast((_) => _.end === end && !before.slice(end).includes("\n"))
    const rest = `(${expected}), ${JSON.stringify(`line ${line}`)})`
    const declarations = asserted && ts.isVariableStatement(asserted) ? asserted.declarationList.declarations : []
    if (asserted && (ts.isExpressionStatement(asserted) || ts.isReturnStatement(asserted)) && asserted.expression) {
      const { end } = asserted.expression
      const from = asserted.expression.getStart()
      edits.push({ from, to: from, text: "check((" }, { from: end, to: end, text: `), ${rest}` })
    } else if (declarations.length === 1 && ts.isIdentifier(declarations[0]!.name)) {
      edits.push({ from: end, to: end, text: `; check(${declarations[0]!.name.text}, ${rest}` })
    } else {
      throw new Error(
        `line ${line}: "// =>" must follow an expression, a return or the declaration of a name`
      )
    }
    assertions++
  }
  if (assertions === 0 && example.output === undefined) {
    throw new Error(
      `line ${example.line}: the example asserts nothing; write "// => value" or an output fence after it`
    )
  }

  let code = example.code
  for (const edit of edits.toSorted((a, b) => b.from - a.from)) {
    code = code.slice(0, edit.from) + edit.text + code.slice(edit.to)
  }
  return [...imports, "", "export default async (check: Check): Promise<void> => {", code, "}", ""].join("\n")
}

/** Lists the files that may hold examples. */
export const pages = (): ReadonlyArray<string> =>
  globSync(["src/**/*.ts", "README.md", "CONTRIBUTING.md", "docs/**/*.md"], { cwd: root })

/** Writes changed modules only and removes stale ones, so that parallel runs do not disturb each other. */
export const write = (files: ReadonlyArray<string> = pages()): number => {
  const wanted = new Map<string, string>()
  let count = 0
  for (const file of files.toSorted()) {
    const stem = file.replace(/\.\w+$/, "")
    const support = relative(dirname(join(target, stem)), join(root, "test/support/docExample.ts"))
    const tests: Array<string> = []
    let index = 0
    const fail = (title: string, error: unknown) => {
      tests.push(`it(${title}, () => { throw new Error(${JSON.stringify(`${file}: ${(error as Error).message}`)}) })`)
    }
    try {
      for (const example of collect(readFileSync(join(root, file), "utf8"))) {
        count++
        const name = `${stem}.${++index}`
        if (/ from "(@effect\/)?vitest"/.test(example.code)) {
          // An example that imports vitest is already a test file.
          wanted.set(`${name}.test.ts`, example.code)
          continue
        }
        const title = JSON.stringify(`${example.title} (${file}:${example.line})`)
        try {
          wanted.set(`${name}.ts`, `import type { Check } from "${support}"\n${transform(example)}`)
          tests.push(`it(${title}, run(() => import("./${basename(name)}.ts"), ${JSON.stringify(example.output)}))`)
        } catch (error) {
          fail(title, error)
        }
      }
    } catch (error) {
      fail(JSON.stringify(file), error)
    }
    if (tests.length === 0) continue
    const head = `import { it } from "vitest"\nimport { run } from "${support}"\n\nvoid run\n`
    wanted.set(`${stem}.test.ts`, `${head}${tests.join("\n")}\n`)
  }
  for (const old of globSync("**/*.ts", { cwd: target })) if (!wanted.has(old)) rmSync(join(target, old))
  for (const [name, text] of wanted) {
    const path = join(target, name)
    if (existsSync(path) && readFileSync(path, "utf8") === text) continue
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
  }
  return count
}

if (import.meta.main) console.log(`${write()} examples`)
