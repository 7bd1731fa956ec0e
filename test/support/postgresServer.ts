/**
 * A real PostgreSQL for tests: on a free port of the loopback, in a directory of its own, ended by its own id.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { chownSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { freePort } from "./redisServer.ts"
import { type Hooks, serverOfFile } from "./serverOfFile.ts"

// Debian keeps the programs of each version out of the PATH.
const bin = [
  ...(process.env.PATH ?? "").split(delimiter),
  ...globSync("/usr/lib/postgresql/*/bin").toSorted().toReversed()
].find((folder) => existsSync(join(folder, "initdb")) && existsSync(join(folder, "postgres")))

if (bin === undefined) {
  const advice = "PostgreSQL is not installed: apt-get install -y postgresql (Debian), brew install postgresql (macOS)"
  if (process.env.CI !== undefined) throw new Error(advice)
  console.warn(`\nSKIPPED, the tests over PostgreSQL: ${advice}\n`)
}

/** Whether there is a PostgreSQL to test with. In CI a missing one is a failure, not a skip. */
export const hasPostgres = bin !== undefined

/** PostgreSQL refuses to run as root. */
const user = (() => {
  if (bin === undefined || process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }))
  return { uid: id("-u"), gid: id("-g") }
})()

const pause = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

const startup = Buffer.from("\0\0\0\0\0\x03\0\0user\0postgres\0database\0postgres\0\0", "latin1")
startup.writeInt32BE(startup.length)

/** Whether it takes sessions: it answers "R", and an error while it starts. */
const answers = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(startup))
    const end = (ok: boolean) => {
      socket.destroy()
      resolve(ok)
    }
    socket.once("error", () => end(false))
    socket.once("data", (data) => end(data[0] === 0x52))
    socket.setTimeout(1000, () => end(false))
  })

export class PostgresServer {
  readonly port: number
  readonly directory: string
  process: ChildProcess | undefined
  private readonly environment: Record<string, string>
  constructor(port: number, directory: string, environment: Record<string, string> = {}) {
    this.port = port
    this.directory = directory
    this.environment = environment
  }
  get url() {
    return Redacted.make(`postgres://postgres@127.0.0.1:${this.port}/postgres`)
  }
  initialize(): void {
    execFileSync(
      join(bin!, "initdb"),
      ["-D", join(this.directory, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
      { ...user, cwd: this.directory, stdio: "ignore" }
    )
  }
  /** Starts it with its data and returns when it answers. */
  async start(): Promise<void> {
    const place = ["-D", join(this.directory, "data"), "-p", String(this.port), "-h", "127.0.0.1", "-k", this.directory]
    const settings = ["fsync=off", "max_connections=200", "shared_buffers=16MB", "autovacuum=off"]
    const child = spawn(
      join(bin!, "postgres"),
      place.concat(settings.flatMap((setting) => ["-c", setting])),
      { ...user, cwd: this.directory, stdio: "ignore", env: { ...process.env, ...this.environment } }
    )
    this.process = child
    for (let i = 0; i < 500; i++) {
      if (child.exitCode !== null) throw new Error(`postgres ended with ${child.exitCode} on port ${this.port}`)
      if (await answers(this.port)) return
      await pause(20)
    }
    throw new Error("postgres does not answer")
  }
  /** Ends it at once, as a crash does: the next start recovers. Or cuts its sessions and writes all it has, with SIGINT. */
  async stop(signal: "SIGQUIT" | "SIGINT" = "SIGQUIT"): Promise<void> {
    const child = this.process
    this.process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
    child.kill(signal)
    await ended
  }
  /** Stops or continues it with its sessions. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    const { pid } = this.process!
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter((_) => _ !== "")
    for (const id of [pid!, ...children.map(Number)]) {
      try {
        process.kill(id, name)
      } catch (error) {
        // A session may have ended meanwhile.
        if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error
      }
    }
  }
}

/** Makes a server in a directory of its own, and starts it. */
export const start = async (environment: Record<string, string> = {}): Promise<PostgresServer> => {
  const directory = mkdtempSync(join(tmpdir(), "funnel-postgres-"))
  if (user.uid !== undefined) chownSync(directory, user.uid, user.gid)
  const server = new PostgresServer(await freePort(), directory, environment)
  server.initialize()
  await server.start()
  return server
}

/** Starts a server that ends with the scope. */
export const postgresServer: Effect.Effect<PostgresServer, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() => start()),
  (server) =>
    Effect.promise(async () => {
      await server.stop()
      rmSync(server.directory, { recursive: true, force: true })
    })
)

/** One server for all tests of a file. */
export const postgresServerOfFile = (hooks: Hooks): Effect.Effect<PostgresServer> =>
  serverOfFile(hooks, hasPostgres, postgresServer)
