import { spawn } from "node:child_process"
import { once } from "node:events"
import { Agent, get } from "node:http"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildWhenStale } from "../scripts/build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

beforeAll(buildWhenStale, 60_000)

interface Answer {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly text: string
}

/** The answer to a request, or the code of the error with which its connection ended. */
const ask = (url: string, agent: Agent, key: string): Promise<Answer | string> =>
  new Promise((resolve) => {
    get(url, { agent, headers: { "x-api-key": key } }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (part) => text += part).on("error", (error) => resolve(error.message))
        .on("end", () => resolve({ status: response.statusCode!, retryAfter: response.headers["retry-after"], text }))
    }).on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })

describe("examples/overload-server.ts", () => {
  it(
    "SIGTERM under load loses no accepted request: each that began is answered, newcomers get 503, and the process exits with 0",
    async () => {
      const server = spawn(process.execPath, ["examples/overload-server.ts", "0"], {
        cwd: root,
        stdio: ["ignore", "pipe", "inherit"]
      })
      const ended = once(server, "exit")
      try {
        const lines = createInterface(server.stdout)[Symbol.asyncIterator]()
        const url = `${/^Listening on (http:\S+)$/.exec(String((await lines.next()).value))?.[1]}/report`

        const over = new AbortController()
        let answered = 0
        const answers: Array<Answer | string> = []
        let afterwards = 0
        const client = async (n: number) => {
          const agent = new Agent({ keepAlive: true, maxSockets: 1 })
          for (let i = 0; !over.signal.aborted; i++) {
            const answer = await ask(url, agent, `${n}:${i}`)
            answers.push(answer)
            if (typeof answer === "string") break
            if (answer.status === 200 && server.killed) afterwards++
            if (++answered === 200) server.kill("SIGTERM")
          }
          agent.destroy()
        }
        const clients = Promise.all(Array.from({ length: 30 }, (_, n) => client(n)))

        expect(await ended).toEqual([0, null])
        over.abort()
        await clients

        const served = answers.filter((_) => typeof _ === "object" && _.status === 200)
        expect(String((await lines.next()).value)).toBe(`Served ${served.length}`)
        expect(new Set(served.map((_) => typeof _ === "object" && _.text)).size).toBe(served.length)
        // Those that ran and waited at the signal.
        expect(afterwards).toBeGreaterThanOrEqual(20)
        const refused = answers.filter((_) => typeof _ === "object" && _.status !== 200)
        expect(refused.length).toBeGreaterThan(0)
        for (const answer of refused) expect(answer).toEqual({ status: 503, retryAfter: "1", text: "" })
        // A connection that is refused, or was closed before its next request came.
        for (const code of answers.filter((_) => typeof _ === "string")) {
          expect(["ECONNREFUSED", "ECONNRESET"]).toContain(code)
        }
      } finally {
        server.kill("SIGKILL")
      }
    },
    30_000
  )

  it("a client that asks for more than its share gets 429 with the fields, and others do not notice", async () => {
    const server = spawn(process.execPath, ["examples/overload-server.ts", "0"], {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"]
    })
    try {
      const lines = createInterface(server.stdout)[Symbol.asyncIterator]()
      const url = `${/^Listening on (http:\S+)$/.exec(String((await lines.next()).value))?.[1]}/report`
      const agent = new Agent({ keepAlive: true, maxSockets: 10 })
      const greedy = await Promise.all(Array.from({ length: 90 }, () => ask(url, agent, "greedy")))
      const refused = greedy.filter((_) => typeof _ === "object" && _.status === 429).length
      // Of 60 a minute one more comes back each second.
      expect(refused).toBeLessThanOrEqual(30)
      expect(refused).toBeGreaterThan(0)
      expect(await ask(url, agent, "modest")).toMatchObject({ status: 200 })
      agent.destroy()
      server.kill("SIGTERM")
      expect(await once(server, "exit")).toEqual([0, null])
    } finally {
      server.kill("SIGKILL")
    }
  }, 30_000)
})
