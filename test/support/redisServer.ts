/**
 * A real `redis-server` for tests: on a free port of the loopback, in a directory of its own, ended by its own id.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Hooks, serverOfFile } from "./serverOfFile.ts"

/** The program of the server: `REDIS_SERVER=valkey-server npm test` runs the tests over Valkey. */
const program = process.env.REDIS_SERVER ?? "redis-server"

const installed = (() => {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

if (!installed) {
  const advice = "redis-server is not installed: apt-get install -y redis-server (Debian), brew install redis (macOS)"
  if (process.env.CI !== undefined) throw new Error(advice)
  console.warn(`\nSKIPPED, the tests over Redis: ${advice}\n`)
}

/** Whether there is a `redis-server` to test with. In CI a missing one is a failure, not a skip. */
export const hasRedis = installed

export const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

const answers = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1")
    const end = (ok: boolean) => {
      socket.destroy()
      resolve(ok)
    }
    socket.once("error", () => end(false))
    socket.once("connect", () => socket.write("PING\r\n"))
    socket.once("data", (data) => end(data.toString().startsWith("+PONG")))
    socket.setTimeout(500, () => end(false))
  })

const pause = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

export class RedisServer {
  readonly port: number
  readonly directory: string
  readonly environment: Record<string, string>
  readonly more: ReadonlyArray<string>
  process: ChildProcess | undefined
  constructor(
    port: number,
    directory: string,
    environment: Record<string, string>,
    more: ReadonlyArray<string> = []
  ) {
    this.more = more
    this.port = port
    this.directory = directory
    this.environment = environment
  }
  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }
  /** Starts it empty and returns when it answers. */
  async start(): Promise<void> {
    const child = spawn(
      program,
      [
        "--port",
        String(this.port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        this.directory,
        "--maxmemory-policy",
        "noeviction",
        "--enable-debug-command",
        "yes",
        ...this.more
      ],
      { stdio: "ignore", env: { ...process.env, ...this.environment } }
    )
    this.process = child
    for (let i = 0; i < 250; i++) {
      if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode} on port ${this.port}`)
      if (await answers(this.port)) return
      await pause(20)
    }
    throw new Error("redis-server does not answer")
  }
  signal(name: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    this.process?.kill(name)
  }
  async stop(): Promise<void> {
    const child = this.process
    this.process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
    child.kill("SIGKILL")
    await ended
  }
  /** Sends one command over a connection of its own and returns the raw answer. */
  command(...words: ReadonlyArray<string>): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.port, "127.0.0.1")
      let text = ""
      socket.setTimeout(5000, () => socket.destroy(new Error(`no answer to ${words.join(" ")}`)))
      socket.once("error", reject)
      socket.on("data", (data) => {
        text += data.toString()
        if (text.endsWith("\r\n")) {
          socket.destroy()
          resolve(text)
        }
      })
      socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(""))
    })
  }
}

/** Starts a server that ends with the scope. */
export const redisServer = (
  environment: Record<string, string> = {},
  more: ReadonlyArray<string> = []
): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = new RedisServer(await freePort(), mkdtempSync(join(tmpdir(), "funnel-redis-")), environment, more)
      await server.start()
      return server
    }),
    (server) =>
      Effect.promise(async () => {
        await server.stop()
        rmSync(server.directory, { recursive: true, force: true })
      })
  )

/** One server for all tests of a file, emptied at each use. */
export const redisServerOfFile = (
  hooks: Hooks,
  options?: { readonly keepsData: boolean }
): Effect.Effect<RedisServer> =>
  Effect.tap(serverOfFile(hooks, hasRedis, redisServer()), (server) =>
    Effect.promise(async () => {
      if (options?.keepsData === true) return
      await server.command("FLUSHALL")
      await server.command("SCRIPT", "FLUSH")
    }))
