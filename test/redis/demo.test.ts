import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildWhenStale } from "../../scripts/build.ts"
import { hasRedis } from "../support/redisServer.js"

const main = fileURLToPath(new URL("../../examples/demo/main.ts", import.meta.url))

const run = (...args: ReadonlyArray<string>) =>
  new Promise<{ code: number | null; output: string }>((resolve) => {
    const child = execFile(process.execPath, [main, ...args], (_, stdout, stderr) => {
      resolve({ code: child.exitCode, output: stdout + stderr })
    })
  })

describe("the demo over several processes", () => {
  // The server processes run the built package.
  beforeAll(buildWhenStale)

  it.skipIf(!hasRedis)(
    "starts a Redis, shares runs over it, and gives the same answers",
    async () => {
      const { code, output } = await run("--processes", "2", "--requests", "300", "--rate", "300")
      expect(output).toContain("Every request that was answered in both runs got the same answer.")
      expect(output).toMatch(/effects run, process 2 │ +\d+ │ +\d+ │/)
      expect(code).toBe(0)
    },
    60_000
  )

  it("names the address at which no Redis answers", async () => {
    const { code, output } = await run("--processes", "2", "--redis", "redis://127.0.0.1:1")
    expect(output.trim()).toBe("No Redis answers at redis://127.0.0.1:1.")
    expect(code).toBe(1)
  }, 60_000)
})
