/**
 * The programs that serve a dashboard: examples/dashboard.ts, and the demo with `--dashboard`.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildWhenStale } from "../scripts/build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

beforeAll(buildWhenStale, 60_000)

describe("a program with a dashboard", () => {
  it.each([
    ["the example", ["examples/dashboard.ts", "0"], /^The dashboard: (\S+)\n/],
    ["the demo", ["examples/demo/main.ts", "--dashboard", "--rate", "50"], /^The dashboard of .*: (\S+)\n/]
  ])("%s prints its address, serves it, and ends at ctrl-C", { timeout: 60_000 }, async (_, args, pattern) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] })
    const ended = once(child, "exit")
    try {
      let [printed, errors] = ["", ""]
      child.stderr.on("data", (text) => errors += String(text))
      for await (const text of child.stdout.iterator({ destroyOnReturn: false })) {
        printed += String(text)
        if (pattern.test(printed)) break
      }
      child.stdout.resume()
      const url = pattern.exec(printed)![1]!
      const response = await fetch(url)
      expect(response.status).toBe(200)
      expect(await response.text()).toContain("<title>Funnel</title>")
      const frames = await fetch(`${url}/events`)
      const { value } = await frames.body!.getReader().read()
      expect(new TextDecoder().decode(value)).toMatch(/^data: \{"since":/)
      child.kill("SIGINT")
      const [code] = await ended
      expect(errors).toBe("")
      expect(code).toBe(130)
    } finally {
      child.kill("SIGKILL")
    }
  })
})
