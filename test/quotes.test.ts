import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildWhenStale } from "../scripts/build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const start = (...args: ReadonlyArray<string>) =>
  spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] })

beforeAll(buildWhenStale, 60_000)

describe("examples/quotes-server.ts and examples/quotes-client.ts", () => {
  it("the client gets 2,000 quotes, and the server never sees more than 100 requests at once", async () => {
    const server = start("examples/quotes-server.ts", "0")
    const ended = once(server, "exit")
    try {
      const lines = createInterface(server.stdout)[Symbol.asyncIterator]()
      const url = /^Listening on (http:\S+)$/.exec(String((await lines.next()).value))?.[1]
      expect(url).toBeDefined()

      const client = start("examples/quotes-client.ts", url!)
      const [printed, [code]] = await Promise.all([text(client.stdout), once(client, "exit")])
      expect(code).toBe(0)
      const counts = printed.trim().split("\n").map((line) => Number(/^\w+: (\d+)$/.exec(line)?.[1]))
      expect(counts).toHaveLength(6)
      expect(counts.reduce((sum, n) => sum + n, 0)).toBe(2000)

      server.kill("SIGINT")
      const [, given, most] = /^(\d+) quotes, at most (\d+) at once$/.exec(String((await lines.next()).value)) ?? []
      expect(Number(given)).toBe(2000)
      expect(Number(most)).toBeGreaterThan(10)
      expect(Number(most)).toBeLessThanOrEqual(100)
      expect(await ended).toEqual([130, null])
    } finally {
      server.kill("SIGKILL")
    }
  }, 60_000)
})
