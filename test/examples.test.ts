import { execFile } from "node:child_process"
import { globSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildWhenStale } from "../scripts/build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const tests = globSync("test/**/*.test.ts", { cwd: root }).map((file) => readFileSync(join(root, file), "utf8"))
const examples = globSync("examples/*.ts", { cwd: root }).toSorted().map((file) => {
  const text = readFileSync(join(root, file), "utf8")
  const header = /^\/\*\*\n([^]*?)\n \*\//.exec(text)?.[1]?.replace(/^ \* ?/gm, "") ?? ""
  const prints = /^.*\bprints:\n\n((?: {4}.*\n?|\n)+)/m.exec(header)?.[1]
  return { file, prints: prints?.replace(/^ {4}/gm, "").trimEnd() }
})

/** What a header says, as a pattern: "…" stands for what differs from run to run. */
const pattern = (prints: string) => {
  const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  return new RegExp(`^${prints.split("…").map(literal).join(".*")}$`)
}

beforeAll(buildWhenStale, 60_000)

/** Runs a file to its end. Most of the time it waits, so the examples run side by side. */
const run = (file: string) =>
  new Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }>((resolve) => {
    execFile(process.execPath, [file], { cwd: root, timeout: 30_000 }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? error?.signal ?? 0, stdout, stderr })
    })
  })

describe("examples", () => {
  it("each says in its header what it prints, or a test names it", () => {
    const named = (file: string) => tests.some((test) => test.includes(basename(file)))
    expect(examples.filter(({ file, prints }) => prints === undefined && !named(file))).toEqual([])
  })

  it.concurrent.for(examples.filter((_) => _.prints !== undefined))(
    "$file prints what its header says",
    { timeout: 40_000 },
    async ({ file, prints }, { expect }) => {
      const { code, stderr, stdout } = await run(file)
      expect(stderr).toBe("")
      expect(stdout.trimEnd()).toMatch(pattern(prints!))
      expect(code).toBe(0)
    }
  )
})
