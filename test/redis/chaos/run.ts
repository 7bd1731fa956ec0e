/**
 * Carries out the plan of a chaos run: real processes over a real server, each behind a proxy of its own.
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  clock,
  pause,
  type Proxy,
  Stage,
  type SteppedClock,
  type Worker,
  type WorkerOptions
} from "../faults/harness.ts"
import { check, type Promised, type Violation } from "./checker.ts"
import { leaseMillis, type Plan, show, type Step } from "./plan.ts"
import { type Event, type Kind, readRecord, Recorder } from "./record.ts"
import { PostgresServers } from "./postgres.ts"
import { RedisServers, type Servers } from "./servers.ts"

/** What a worker does. */
export interface Load {
  readonly record: string
  readonly w: string
  readonly seed: number
  /** Callers of each kind. */
  readonly callers: number
  readonly keys: Readonly<Record<Kind, number>>
  readonly leaseMillis: number
  readonly longestRunMillis: number
}

export const promised: Promised = {
  leaseMillis,
  storeTimeoutMillis: 400,
  outageBudgetMillis: 1200,
  longestRunMillis: 1800,
  concurrency: 3,
  rate: { limit: 20, burst: 5 }
}

const keys: Load["keys"] = { flight: 25, token: 10, job: 15 }

/** The clock of a process or a server is stepped by a library that a C compiler makes. */
const hasCompiler = (() => {
  try {
    execFileSync("cc", ["--version"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

/** The timers of a process at rest: those of the clients, and of the inbox. */
const timersAtRest = 5

/** A process that is told to end does so in this time. */
const endingMillis = 5000

interface Left {
  readonly sockets: number
  readonly timers: number
  readonly flights: number
  readonly keys: number
}

/** Where a process is, was, or will be. */
interface Place {
  readonly proxy: Proxy
  readonly clock: SteppedClock | undefined
  worker: Worker | undefined
  name: string
  /** How many processes there were. */
  lives: number
  isCut: boolean
}

export interface Outcome {
  /** The file of the record. */
  readonly path: string
  readonly record: ReadonlyArray<Event>
  readonly violations: ReadonlyArray<Violation>
  /** Steps that could not be taken. */
  readonly failed: ReadonlyArray<string>
}

class Director {
  private readonly plan: Plan
  private readonly stage: Stage
  readonly recorder: Recorder
  private readonly path: string
  private places: ReadonlyArray<Place> = []
  private servers!: Servers
  private port: number | undefined
  readonly failed: Array<string> = []

  constructor(plan: Plan, stage: Stage, path: string) {
    this.plan = plan
    this.stage = stage
    this.path = path
    this.recorder = new Recorder(path, "director")
  }

  async run(): Promise<void> {
    const { plan, recorder, stage } = this
    const make = plan.store === "redis" ? RedisServers.make : PostgresServers.make
    this.servers = await make({
      stage,
      recorder,
      withClocks: hasCompiler,
      onPrimary: (port) => this.lead(port),
      silence: () => {
        for (const { proxy } of this.places) proxy.deaden("all")
      }
    })
    this.places = await Promise.all(Array.from({ length: plan.places }, async (): Promise<Place> => ({
      proxy: await stage.proxy(this.port),
      clock: hasCompiler ? stage.clock() : undefined,
      worker: undefined,
      name: "",
      lives: 0,
      isCut: false
    })))
    // The proxies and the witness are here: if this process is stalled, all are.
    const beats = setInterval(() => recorder.note({ e: "beat" }), 20)
    try {
      await Promise.all(this.places.map((_, i) => this.start(i)))
      await this.carryOut()
      await this.calm()
      await this.takeStock()
    } finally {
      clearInterval(beats)
      // A server that is frozen does not answer.
      await Promise.race([this.servers.end(), pause(1000)])
    }
  }

  private lead(port: number | undefined): void {
    this.port = port
    for (const { isCut, proxy } of this.places) {
      proxy.target = isCut ? undefined : port
    }
  }

  private async start(index: number): Promise<void> {
    const { path, plan, recorder, stage } = this
    const place = this.places[index]!
    const w = place.name = `w${index}.${++place.lives}`
    const store = {
      lease: leaseMillis,
      storeTimeout: promised.storeTimeoutMillis,
      outageBudget: promised.outageBudgetMillis
    }
    const options: WorkerOptions = {
      url: this.servers.urlAt(place.proxy.port),
      reducer: { ...store, retain: "2 seconds", onStoreError: plan.onStoreError },
      limiter: {
        storeTimeout: store.storeTimeout,
        outageBudget: store.outageBudget,
        rate: { limit: promised.rate.limit, window: "1 second", burst: promised.rate.burst }
      },
      scheduler: store,
      keyed: { ...store, concurrency: promised.concurrency }
    }
    const load: Load = {
      record: path,
      w,
      seed: plan.seed * 1000 + index * 100 + place.lives,
      callers: 5,
      keys,
      leaseMillis,
      longestRunMillis: promised.longestRunMillis
    }
    const environment = { ...place.clock?.environment, CHAOS_LOAD: JSON.stringify(load) }
    const worker = await stage.worker(options, environment, "chaos/worker.ts")
    worker.child.once("exit", () => recorder.note({ e: "gone" }, clock(), w))
    place.worker = worker
    await worker.call("begin")
  }

  /** Takes the steps of the plan at their times. Those of one process wait for each other, and those of the server. */
  private async carryOut(): Promise<void> {
    const began = clock()
    const last = new Map<number | undefined, Promise<void>>()
    for (const step of this.plan.steps) {
      await pause(Math.max(0, began + step.at - clock()))
      last.set(
        step.place,
        (last.get(step.place) ?? Promise.resolve()).then(() => this.take(step)).catch((error: unknown) => {
          this.failed.push(`${show(step)}: ${String(error)}`)
        })
      )
    }
    await pause(Math.max(0, began + this.plan.millis - clock()))
    await Promise.all(last.values())
  }

  private async take(step: Step): Promise<void> {
    const { recorder: { note } } = this
    const what = show(step).trim()
    note({ e: "trouble", what })
    await (step.place === undefined ? this.servers.harm(step) : this.harmProcess(step, step.place))
    // What takes time is a trouble until it is done, and a pause of the server until it is over.
    note({ e: "trouble", what: `${what}: done` })
  }

  private async harmProcess({ action, amount = 0 }: Step, index: number): Promise<void> {
    const place = this.places[index]!
    const { proxy, worker } = place
    switch (action) {
      case "start":
        return this.start(index)
      case "kill":
        this.recorder.note({ e: "gone" }, clock(), place.name)
        return worker?.stop()
      case "end": {
        // The client of PostgreSQL waits for what a connection owes it, for as long as that is there.
        if (this.plan.store === "postgres") proxy.giveUpDead()
        const ended = new Promise<void>((resolve) => worker!.child.once("exit", () => resolve()))
        worker!.kill("SIGTERM")
        const hasEnded = await Promise.race([ended.then(() => true), pause(endingMillis).then(() => false)])
        if (hasEnded) return
        this.recorder.note({ e: "leftover", what: `${place.name}, which was told to end` })
        return worker!.stop()
      }
      case "freeze":
        return worker?.kill("SIGSTOP")
      case "thaw":
        return worker?.kill("SIGCONT")
      case "cut":
        place.isCut = true
        proxy.target = undefined
        return proxy.cut()
      case "mend":
        place.isCut = false
        proxy.target = this.port
        return
      case "deaden":
        return void proxy.deaden("all")
      case "loseReply":
        proxy.cutAfter = amount
        return
      case "setClock":
        return place.clock?.step(amount)
    }
  }

  private get alive(): ReadonlyArray<{ readonly name: string; readonly worker: Worker }> {
    return this.places.flatMap(({ name, worker }) =>
      worker !== undefined && worker.child.exitCode === null && worker.child.signalCode === null
        ? [{ name, worker }]
        : []
    )
  }

  /** No more callers come. All that wait have their answers in time. */
  private async calm(): Promise<void> {
    // Late replies are not lost any more.
    for (const { proxy } of this.places) proxy.cutAfter = Infinity
    await pause(300)
    const { longestRunMillis, outageBudgetMillis, storeTimeoutMillis } = promised
    const millis = 3 * longestRunMillis + leaseMillis + 1000 + outageBudgetMillis + storeTimeoutMillis + 5000
    await Promise.all(this.alive.map(async ({ name, worker }) => {
      const open = await worker.call<number>("finish", { millis })
      if (open > 0) this.recorder.note({ e: "leftover", what: `${open} calls of ${name} wait for ever` })
    }))
  }

  /** Processes and server are back to where they began. */
  private async takeStock(): Promise<void> {
    const { alive, recorder, servers } = this
    // A client that was replaced waits until then for the answers that its connection owes it.
    for (const { proxy } of this.places) proxy.giveUpDead()
    const missing = async (): Promise<ReadonlyArray<string>> => {
      const all = await Promise.all(alive.map(async ({ name, worker }) => {
        const left = await worker.call<Left>("left")
        return [
          left.flights === 0 ? "" : `${left.flights} flights of ${name}`,
          left.keys === 0 ? "" : `${left.keys} keys of ${name}`,
          left.timers <= timersAtRest ? "" : `${left.timers} timers of ${name}`,
          left.sockets <= servers.mostConnections ? "" : `${left.sockets} sockets of ${name}`
        ]
      }))
      const connections = await servers.connections()
      return [
        ...all.flat().filter((_) => _ !== ""),
        ...(connections <= servers.mostConnections * alive.length
          ? []
          : [`${connections} connections of ${alive.length} processes`]),
        ...await servers.leftovers()
      ]
    }
    // A scheduler of a key stays for up to two seconds, and a client that was replaced while it connects for up to ten.
    const until = clock() + 12_000
    let left = await missing()
    while (left.length > 0 && clock() < until) {
      await pause(200)
      left = await missing()
    }
    for (const what of left) recorder.note({ e: "leftover", what })
  }
}

/** Runs a plan and judges its record, which is kept where the outcome says. */
export const run = async (plan: Plan): Promise<Outcome> => {
  const path = join(mkdtempSync(join(tmpdir(), "funnel-chaos-")), "record.ndjson")
  const stage = new Stage()
  const director = new Director(plan, stage, path)
  try {
    await director.run()
  } finally {
    await stage.end()
    director.recorder.close()
  }
  const record = readRecord(path)
  return { path, record, violations: check(record, promised), failed: director.failed }
}
