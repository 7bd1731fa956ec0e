/**
 * Worker processes that can be harmed, and an observer in the parent that counts the runs they report.
 */
import { build } from "esbuild"
import { type ChildProcess, execFileSync, fork } from "node:child_process"
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer, type Server, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { type PostgresServer, start as startPostgres } from "../../support/postgresServer.ts"
import { freePort, RedisServer } from "../../support/redisServer.ts"

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, "../../..")

export interface WorkerOptions {
  readonly url: string
  readonly reducer?: object
  readonly limiter?: object
  readonly scheduler?: object
  readonly keyed?: object
}

export interface Share {
  readonly key: string
  readonly millis: number
  readonly callers?: number
  readonly name?: string
  readonly numeric?: boolean
  readonly size?: number
}

export interface Shared {
  readonly ok: number
  readonly values: ReadonlyArray<string>
  readonly errors: ReadonlyArray<string>
}

export const pause = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))
export const clock = () => Number(process.hrtime.bigint()) / 1e6

const bundles = new Map<string, Promise<string>>()
/** Bundles a program of this directory's parent into one file below the root, where it finds its packages. */
const bundled = (program: string): Promise<string> => {
  const made = bundles.get(program) ?? (async () => {
    const outfile = join(root, ".tmp", `faults-${process.pid}`, program.replace(/\.ts$/, ".mjs"))
    mkdirSync(dirname(outfile), { recursive: true })
    await build({
      entryPoints: [join(here, "..", program)],
      outfile,
      bundle: true,
      platform: "node",
      format: "esm",
      packages: "external",
      logLevel: "error"
    })
    return outfile
  })()
  bundles.set(program, made)
  return made
}

export const cleanUp = () => rmSync(join(root, ".tmp", `faults-${process.pid}`), { recursive: true, force: true })

interface Run {
  readonly id: string
  readonly pid: number
  readonly key: string
  readonly fence: number
  readonly at: number
}

/** The runs of all workers, as the parent saw them. */
export class Observer {
  readonly runs: Array<Run> = []
  readonly running = new Map<string, Run>()
  most = 0
  private readonly waiting: Array<() => void> = []
  start(run: Run): void {
    this.runs.push(run)
    this.running.set(run.id, run)
    this.most = Math.max(this.most, this.running.size)
    for (const wake of this.waiting.splice(0)) wake()
  }
  end(id: string): void {
    this.running.delete(id)
  }
  gone(pid: number): void {
    for (const [id, run] of this.running) if (run.pid === pid) this.running.delete(id)
  }
  /** Waits until so many runs have begun. */
  async began(count: number, millis = 10_000): Promise<Run> {
    const until = clock() + millis
    while (this.runs.length < count) {
      const left = until - clock()
      if (left <= 0) throw new Error(`${this.runs.length} runs began within ${millis} ms, not ${count}`)
      await Promise.race([new Promise<void>((resolve) => this.waiting.push(resolve)), pause(left)])
    }
    return this.runs[count - 1]!
  }
}

export class Worker {
  readonly child: ChildProcess
  private readonly calls = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  private ids = 0
  constructor(child: ChildProcess, observer: Observer) {
    this.child = child
    child.on("message", (message: Record<string, never>) => {
      if (message.event === "start") observer.start({ ...(message as object as Run), pid: child.pid!, at: clock() })
      else if (message.event === "end") observer.end(message.id!)
      else {
        const call = this.calls.get(message.id!)
        this.calls.delete(message.id!)
        if (message.error !== undefined) call?.reject(new Error(message.error))
        else call?.resolve(message.result!)
      }
    })
    child.on("exit", () => {
      observer.gone(child.pid!)
      for (const { reject } of this.calls.values()) reject(new Error("the worker is gone"))
      this.calls.clear()
    })
  }
  call<A>(op: string, args: object = {}): Promise<A> {
    const id = ++this.ids
    return new Promise<A>((resolve, reject) => {
      this.calls.set(id, { resolve, reject })
      this.child.send({ id, op, args })
    })
  }
  share(args: Share): Promise<Shared> {
    return this.call("share", args)
  }
  /** `share` in a worker that will be killed: its failure is ignored. */
  doomed(args: Share): void {
    this.share(args).catch(() => {})
  }
  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = new Promise<void>((resolve) => this.child.once("exit", () => resolve()))
    this.child.kill("SIGKILL")
    await ended
  }
}

/** Carries bytes between workers and Redis, and can lose the reply to a script. */
export class Proxy {
  private readonly sockets = new Set<Socket>()
  /** Connections go dead: they stay open, and carry nothing any more. */
  private readonly pairs = new Set<{ dead: boolean; subscribes: boolean; readonly down: Socket }>()
  readonly port: number
  private readonly server: Server
  /** After so many scripts Redis runs the last one, and its reply is lost with the connection. */
  cutAfter = Infinity
  cuts = 0
  /** How many bytes a second a connection carries in each direction. */
  bytesPerSecond = Infinity
  /** The port of the server to which new connections lead; none lead anywhere without it. */
  target: number | undefined
  constructor(port: number, target: number | undefined) {
    this.port = port
    this.target = target
    this.server = createServer((down) => {
      if (this.target === undefined) return void down.on("error", () => {}).destroy()
      const up = connect(this.target, "127.0.0.1")
      let deaf = false
      const pair = { dead: false, subscribes: false, down }
      this.pairs.add(pair)
      for (const socket of [down, up]) {
        this.sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => {
          this.sockets.delete(socket)
          this.pairs.delete(pair)
          down.destroy()
          up.destroy()
        })
      }
      down.on("data", (data) => {
        if (data.includes("subscribe")) pair.subscribes = true
        if (pair.dead) return
        this.cutAfter -= data.toString("latin1").split("EVALSHA").length - 1
        if (this.cutAfter <= 0) {
          this.cutAfter = Infinity
          this.cuts++
          deaf = true
        }
        this.carry(down, up, data)
      })
      up.on("data", (data) => {
        if (pair.dead) return
        if (deaf) down.destroy()
        else this.carry(up, down, data)
      })
    })
  }
  private carry(from: Socket, to: Socket, data: Buffer): void {
    to.write(data)
    if (this.bytesPerSecond === Infinity) return
    from.pause()
    setTimeout(() => from.resume(), data.length / this.bytesPerSecond * 1000)
  }
  /** Kills the present connections without a word: all of them, or those of subscriptions. */
  deaden(which: "all" | "subscriptions"): number {
    const chosen = [...this.pairs].filter(({ subscribes }) => which === "all" || subscribes)
    for (const pair of chosen) pair.dead = true
    return chosen.length
  }
  /** Ends the dead connections, as the system does after a quarter of an hour without an answer. */
  giveUpDead(): void {
    for (const { dead, down } of this.pairs) if (dead) down.destroy()
  }
  /** Ends the present connections. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy()
  }
  listen(): Promise<void> {
    return new Promise((resolve) => this.server.listen(this.port, "127.0.0.1", () => resolve()))
  }
  async stop(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.server.close(resolve))
  }
}

const shimSource = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_day)(struct timeval *, void *);
static long offset(void) {
  static struct timespec last;
  static long value;
  struct timespec now;
  if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
  real_clock(CLOCK_MONOTONIC, &now);
  if (last.tv_sec && (now.tv_sec - last.tv_sec) * 1000 + (now.tv_nsec - last.tv_nsec) / 1000000 < 5) return value;
  last = now;
  FILE *file = fopen(getenv("FAULTS_CLOCK"), "r");
  if (file) {
    if (fscanf(file, "%ld", &value) != 1) value = 0;
    fclose(file);
  }
  return value;
}
int gettimeofday(struct timeval *tv, void *tz) {
  if (!real_day) real_day = dlsym(RTLD_NEXT, "gettimeofday");
  int result = real_day(tv, tz);
  if (tv) tv->tv_sec += offset();
  return result;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
  if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real_clock(id, ts);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) ts->tv_sec += offset();
  return result;
}
time_t time(time_t *out) {
  struct timeval tv;
  gettimeofday(&tv, 0);
  if (out) *out = tv.tv_sec;
  return tv.tv_sec;
}
`

let shim: string | undefined
const shimmed = (): string => {
  if (shim !== undefined) return shim
  const directory = join(root, ".tmp", `faults-${process.pid}`)
  const source = join(directory, "shim.c")
  shim = join(directory, "shim.so")
  mkdirSync(directory, { recursive: true })
  writeFileSync(source, shimSource)
  execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"])
  return shim
}

/** A wall clock that can be stepped, for processes that are started with its environment. */
export class SteppedClock {
  readonly directory = mkdtempSync(join(tmpdir(), "funnel-clock-"))
  readonly environment: Record<string, string>
  constructor(seconds = 0) {
    const library = shimmed()
    // A server may have a user of its own.
    chmodSync(this.directory, 0o755)
    this.environment = { LD_PRELOAD: library, FAULTS_CLOCK: join(this.directory, "offset") }
    this.step(seconds)
  }
  step(seconds: number): void {
    writeFileSync(join(this.directory, "offset"), String(seconds))
  }
}

/** The servers and workers of a case. `end` stops all of them. */
export class Stage {
  readonly observer = new Observer()
  private readonly workers: Array<Worker> = []
  private readonly endings: Array<() => Promise<void> | void> = []

  async redis(
    environment: Record<string, string> = {},
    more: ReadonlyArray<string> = []
  ): Promise<RedisServer> {
    const directory = mkdtempSync(join(tmpdir(), "funnel-redis-"))
    const server = new RedisServer(await freePort(), directory, environment, more)
    this.endings.push(async () => {
      await server.stop()
      rmSync(directory, { recursive: true, force: true })
    })
    await server.start()
    return server
  }
  async postgres(environment: Record<string, string> = {}): Promise<PostgresServer> {
    const server = await startPostgres(environment)
    this.endings.push(async () => {
      // A frozen one does not hear that it is to end.
      if (server.process !== undefined) server.signal("SIGCONT")
      await server.stop()
      rmSync(server.directory, { recursive: true, force: true })
    })
    return server
  }
  async nowhere(): Promise<string> {
    return `redis://127.0.0.1:${await freePort()}`
  }
  async proxy(target: number | undefined): Promise<Proxy> {
    const proxy = new Proxy(await freePort(), target)
    await proxy.listen()
    this.endings.push(() => proxy.stop())
    return proxy
  }
  clock(seconds = 0): SteppedClock {
    const stepped = new SteppedClock(seconds)
    this.endings.push(() => rmSync(stepped.directory, { recursive: true, force: true }))
    return stepped
  }
  async worker(
    options: WorkerOptions,
    environment: Record<string, string> = {},
    program = "faults/worker.ts"
  ): Promise<Worker> {
    const child = fork(await bundled(program), [], {
      execArgv: ["--expose-gc"],
      env: { ...process.env, ...environment, FAULTS_WORKER: JSON.stringify(options) },
      stdio: ["ignore", "ignore", process.env.FAULTS_DEBUG === undefined ? "ignore" : "inherit", "ipc"]
    })
    const self = new Worker(child, this.observer)
    this.workers.push(self)
    await self.call("ready")
    // The subscription begins shortly after the connection.
    await pause(150)
    return self
  }
  workersOf(count: number, options: WorkerOptions): Promise<ReadonlyArray<Worker>> {
    return Promise.all(Array.from({ length: count }, () => this.worker(options)))
  }
  async end(): Promise<void> {
    for (const worker of this.workers) {
      worker.kill("SIGCONT")
      await worker.stop()
    }
    for (const ending of this.endings.toReversed()) await ending()
  }
}
