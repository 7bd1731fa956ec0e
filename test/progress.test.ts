/** Real processes, with a terminal and without one. */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildWhenStale } from "../scripts/build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

/** `script` of Linux runs a command on a terminal of its own. */
const hasTerminal = (() => {
  try {
    return execFileSync("script", ["--version"], { encoding: "utf8" }).includes("util-linux")
  } catch {
    return false
  }
})()
if (!hasTerminal) {
  const advice = "script of util-linux is not installed: apt-get install -y bsdutils (Debian)"
  if (process.env.CI !== undefined) throw new Error(advice)
  console.warn(`\nSKIPPED, the progress bar on a terminal: ${advice}\n`)
}

const program = (total: string, end: string) => `
import { Effect, Stream } from "effect"
import { Scheduler } from "effect-funnel"
import * as Progress from "effect-funnel/progress"

const exit = await Effect.runPromise(Effect.exit(Effect.scoped(Effect.gen(function*() {
  const onProgress = yield* Progress.bar("pictures")
  const scheduler = yield* Scheduler.make({ concurrency: 2 })
  const job = (n) => Effect.andThen(Effect.sleep(40), n === 3 ? Effect.fail("damaged") : Effect.void)
  yield* Stream.runDrain(scheduler.stream(Stream.range(1, 16), (n) => Effect.exit(job(n)), { ${total} onProgress }))
})).pipe(${end})))
console.log(exit._tag)
`

/** Runs a program of its own, and returns what it wrote. */
const run = (total: string, options: { readonly terminal: boolean; readonly end?: string }) => {
  const file = join(root, ".tmp", `progress-${process.pid}.mjs`)
  mkdirSync(join(root, ".tmp"), { recursive: true })
  writeFileSync(file, program(total, options.end ?? ""))
  try {
    const command = `${process.execPath} ${file}`
    const { status, stderr, stdout } = options.terminal
      ? spawnSync("script", ["-qec", command, "/dev/null"], { cwd: root, encoding: "utf8", timeout: 15_000 })
      : spawnSync(process.execPath, [file], { cwd: root, encoding: "utf8", timeout: 15_000 })
    expect(status).toBe(0)
    return { stderr, stdout }
  } finally {
    rmSync(file)
  }
}

beforeAll(buildWhenStale, 60_000)

describe("effect-funnel/progress", () => {
  it("Without a terminal a line tells each quarter of the way, on the standard error", () => {
    const { stderr, stdout } = run("total: 16,", { terminal: false })
    expect(stdout).toBe("Success\n")
    const lines = stderr.trimEnd().split("\n")
    for (const line of lines) expect(line).toMatch(/^pictures: \d+ of 16, \d+\/s$/)
    expect(lines.length).toBeLessThanOrEqual(4)
    expect(lines.at(-1)).toMatch(/^pictures: 16 of 16/)
  })

  it("Without a terminal and without a total a short call tells nothing", () => {
    expect(run("", { terminal: false })).toEqual({ stderr: "", stdout: "Success\n" })
  })

  it.skipIf(!hasTerminal)(
    "On a terminal a bar is drawn, with the total if it is known, and the cursor is back at the end",
    () => {
      const known = run("total: 16,", { terminal: true }).stdout
      expect(known).toMatch(/pictures .*16\/16  \d+\/s/)
      const unknown = run("", { terminal: true }).stdout
      expect(unknown).toMatch(/pictures  16  \d+\/s/)
      for (const text of [known, unknown]) {
        expect(text.lastIndexOf("\u001b[?25h")).toBeGreaterThan(
          text.lastIndexOf("\u001b[?25l")
        )
      }
    }
  )

  it.skipIf(!hasTerminal)("On a terminal the time that is left is in whole seconds", () => {
    const { stdout } = run("total: 100,", { terminal: true })
    const times = Array.from(stdout.matchAll(/, (.*?) left/g), ([, time]) => time)
    expect(times.length).toBeGreaterThan(0)
    for (const time of times) expect(time).toMatch(/^\d+s$/)
  })

  it.skipIf(!hasTerminal)("An interrupted call leaves the bar where it was, and the cursor is back", () => {
    const { stdout } = run("total: 16,", { terminal: true, end: "Effect.timeout(250)" })
    expect(stdout).toContain("Failure")
    expect(stdout.lastIndexOf("\u001b[?25h")).toBeGreaterThan(stdout.lastIndexOf("\u001b[?25l"))
  })
})
