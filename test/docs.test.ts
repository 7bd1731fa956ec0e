import { readFileSync } from "node:fs"
import { basename } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { judge } from "../scripts/checkDocs.ts"
import { collect, pages, transform } from "../scripts/docExamples.ts"
import { run } from "./support/docExample.ts"

const fence = "```"

/** Runs the code of one example as its generated module does. */
const execute = async (code: string, output?: string) => {
  const [example] = collect(`${fence}ts import.meta.vitest\n${code}\n${fence}\n${output ?? ""}`)
  const body = transform(example!).replace(/export default async \(check: Check\): Promise<void> => /, "")
  const load = async () => ({
    default: async (check: unknown) => {
      await new Function("check", `return (async () => ${body})()`)(check)
    }
  })
  await run(load, example!.output)()
}

describe("examples of the documentation", () => {
  it("are found in docblocks and in pages, with their title and line", () => {
    const text = [
      "/**",
      " * **Example** (Adding two)",
      " *",
      ` * ${fence}ts import.meta.vitest`,
      " * const a = {",
      " *   b: 1",
      " * }",
      ` * ${fence}`,
      " */",
      "## Heading",
      `${fence}ts`,
      "not run",
      fence,
      `${fence}ts import.meta.vitest`,
      "1 // => 1",
      fence,
      "Text between.",
      `${fence}output`,
      "printed",
      "twice",
      fence
    ]
    expect(collect(text.join("\n"))).toEqual([
      { title: "Adding two", line: 5, code: "const a = {\n  b: 1\n}", output: undefined },
      { title: "Heading", line: 15, code: "1 // => 1", output: "printed\ntwice" }
    ])
  })

  it("pass if each value equals the value in its comment", async () => {
    await execute("1 + 1 // => 2")
    await execute("const a = [1]\nconst b = [...a, 2] // => [1, 2]\nawait Promise.resolve(b) // => [1, 2]")
    await execute("const f = () => {\n  return { a: 1 } // => { a: 1 }\n}\nf()")
    await execute("[1, 2].map((n) => {\n  n > 0 // => true\n  return n\n}) // => [1, 2]")
    await execute("const f = (n) =>\n  [\n    n\n  ]\nf(1) // => [\n// 1\n// ]\n// and a remark")
    await execute("console.log('a', 1)\nconsole.log({ b: [1] })", `${fence}output\na 1\n{ b: [ 1 ] }\n${fence}`)
  })

  it("fail if a value differs, and name the line", async () => {
    await expect(execute("const a = 1\n\na + 1 // => 3")).rejects.toThrow(/line 4/)
    await expect(execute("const a = 1 // => 2")).rejects.toThrow(/line 2/)
    await expect(execute("const f = () => {\n  return 1 // => 2\n}\nf()")).rejects.toThrow(/line 3/)
    await expect(execute("console.log(1)", `${fence}output\n2\n${fence}`)).rejects.toThrow(/2/)
  })

  it("fail if they assert nothing", async () => {
    await expect(execute("const a = 1")).rejects.toThrow(/asserts nothing/)
  })

  it("fail if an assertion cannot be parsed", async () => {
    await expect(execute("1 // => one two")).rejects.toThrow(/not followed by an expression/)
    await expect(execute("const { a } = { a: 1 } // => 1")).rejects.toThrow(/line 2/)
    await expect(execute("if (1) { // => 1\n}")).rejects.toThrow(/line 2/)
    await expect(execute("const = 1 // => 1")).rejects.toThrow(/expected/)
    expect(() => collect(`${fence}ts import.meta.vitest\n1 // => 1`)).toThrow(/not closed/)
  })
})

describe("the check of docblocks", () => {
  const problems = (files: Record<string, string>) => judge("src/A.ts", (file) => files[file]!).problems
  const about = "/** About.\n * @since 0.1.0 */\nimport type * as B from './B.js'\n"
  const good =
    `/** Does.\n * ${fence}ts import.meta.vitest\n * a // => 1\n * ${fence}\n * @category a\n * @since 0.1.0 */\n`
  const brief = "/** Is.\n * @category a\n * @since 0.1.0 */\n"

  it("accepts documented and internal exports", () => {
    const text = `${good}export const a: B = 1\n${brief}export interface B {}\n/** @internal */\nexport const c = 1`
    expect(problems({ "src/A.ts": `${about}${text}` })).toEqual([])
    const overloads = `${good}export function f(a: 1): 1\nexport function f(a: 2): 2\nexport function f(a: any) {}`
    expect(problems({ "src/A.ts": `${about}${overloads}` })).toEqual([])
  })

  it("names each missing part and its line", () => {
    expect(problems({ "src/A.ts": "export const a = 1" })).toEqual([
      "src/A.ts:1 the module lacks a docblock with @since",
      "src/A.ts:1 a lacks a docblock"
    ])
    expect(problems({ "src/A.ts": `${about}${brief}export const a = 1` })).toEqual(["src/A.ts:7 a lacks an example"])
    expect(problems({ "src/A.ts": `${about}/** Is. */\nexport interface A {}` })).toEqual([
      "src/A.ts:5 A lacks @category",
      "src/A.ts:5 A lacks @since",
      "src/A.ts:5 A lacks an example"
    ])
  })

  it("finds the example of a type in an export that names it, also by a member of its type", () => {
    const named =
      `${brief}export interface B {}\n${brief}export interface C { b: B }\n${good}export const a = (c: C) => 1`
    expect(problems({ "src/A.ts": `${about}${named}` })).toEqual([])
    const member =
      `interface All { a: (b: B) => 1 }\n${brief}export interface B {}\n${good}export const a: All["a"] = f`
    expect(problems({ "src/A.ts": `${about}${member}` })).toEqual([])
    const alone = `${brief}export interface B {}\n${good}export const a = 1`
    expect(problems({ "src/A.ts": `${about}${alone}` })).toEqual(["src/A.ts:7 B lacks an example"])
  })

  it("follows an export to its declaration", () => {
    const from = `${about}export { b } from "./internal/b.js"`
    expect(problems({ "src/A.ts": from, "src/internal/b.ts": "export const b = 1\nexport const c = 1" })).toEqual([
      "src/internal/b.ts:1 b lacks a docblock"
    ])
  })
})

describe("README.md and docs", () => {
  const read = (page: string) => readFileSync(fileURLToPath(new URL(`../${page}`, import.meta.url)), "utf8")
  const guides = pages().filter((page) => page.endsWith(".md"))

  it("run every example that they show", () => {
    const notRun = guides.filter((page) => /^```(ts|tsx|js|typescript|javascript)\s*$/m.test(read(page)))
    expect(notRun).toEqual([])
  })

  it("keep the guide of an overload as the lab would write it", () => {
    const guide = read("bench/overload/guide.md")
    expect(read("docs/overload.md").slice(0, guide.length)).toBe(guide)
  })

  it("are read in five minutes: the README has at most 250 lines and links to every page", () => {
    const readme = read("README.md")
    expect(readme.trimEnd().split("\n").length).toBeLessThanOrEqual(250)
    expect(guides.filter((page) => page !== "README.md" && !readme.includes(`](${page})`)).map((_) => basename(_)))
      .toEqual([])
  })
})
