/**
 * A primary and its replica, which change places, and the witness of what the primary writes.
 */
import { rmSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { join } from "node:path"
import type { RedisServer } from "../../support/redisServer.ts"
import { clock, pause, type Stage, type SteppedClock } from "../faults/harness.ts"
import type { Step } from "./plan.ts"
import type { Recorder } from "./record.ts"

/** What the servers of a store are made in. */
export interface Scene {
  readonly stage: Stage
  readonly recorder: Recorder
  readonly withClocks: boolean
  /** Is told the port of the primary, or that there is none. */
  readonly onPrimary: (port: number | undefined) => void
  /** Lets no more replies through. */
  readonly silence: () => void
}

/** Moves the clock of a server to so many seconds from the right time. */
export const stepClock = async ({ note }: Recorder, clock: SteppedClock, from: number, to: number): Promise<void> => {
  const event = to > from ? { e: "lost", what: "clock" } as const : { e: "back" } as const
  note(event)
  clock.step(to)
  // The shim looks every few milliseconds.
  await pause(20)
  note(event)
}

/** The servers of a store, to which processes connect. */
export interface Servers {
  readonly urlAt: (port: number) => string
  /** Does what a step of the plan says. */
  readonly harm: (step: Step) => unknown
  /** How many connections the processes have. */
  readonly connections: () => Promise<number>
  /** What should not be there at the end. */
  readonly leftovers: () => Promise<ReadonlyArray<string>>
  /** The most that a process has. */
  readonly mostConnections: number
  /** Ends the witness. */
  readonly end: () => Promise<unknown>
}

/** Reads the monitor of a server, and records each state of a rate that it writes. Its user is not that of the processes. */
class Witness {
  private readonly socket: Socket
  private rest = ""
  readonly attached: Promise<void>
  constructor(port: number, server: string, { note }: Recorder) {
    this.socket = connect(port, "127.0.0.1", () => this.socket.write("AUTH witness -\r\nMONITOR\r\n"))
    this.socket.on("error", () => {})
    this.attached = new Promise((resolve) => {
      this.socket.once("close", () => resolve())
      this.socket.on("data", (data) => {
        const t = clock()
        const lines = (this.rest + data.toString("latin1")).split("\r\n")
        this.rest = lines.pop()!
        for (const line of lines) {
          if (line.startsWith("+OK")) resolve()
          else if (line.includes("\"FLUSHALL\"")) note({ e: "forgot", server }, t)
          else {
            const state = / lua\] "SET" "\{effect-funnel:1:r:[^"]*:=(\w+)\}:r" "(\d+) ([\d.e+-]+)"/.exec(line)
            if (state !== null) {
              note({ e: "slots", server, key: state[1]!, at: Number(state[2]), debt: Number(state[3]) }, t)
            }
          }
        }
      })
    })
  }
  /** Ends once it has read what the server had written by now. */
  async end(): Promise<void> {
    await pause(20)
    this.socket.destroy()
  }
}

interface Node {
  readonly name: string
  readonly server: RedisServer
  readonly clock: SteppedClock | undefined
  offset: number
  /** How often it has lost its data. */
  lives: number
}

export class RedisServers implements Servers {
  readonly mostConnections = 2
  private readonly scene: Scene
  private readonly recorder: Recorder
  private primary: Node
  private replica: Node
  private witness: Witness | undefined

  private constructor(scene: Scene, nodes: readonly [Node, Node]) {
    this.scene = scene
    this.recorder = scene.recorder
    ;[this.primary, this.replica] = nodes
  }

  static async make(scene: Scene): Promise<RedisServers> {
    const { stage, withClocks } = scene
    const node = async (name: string): Promise<Node> => {
      const stepped = withClocks ? stage.clock() : undefined
      const server = await stage.redis(stepped?.environment, [
        "--repl-diskless-sync-delay",
        "0",
        ..."--user witness on nopass ~* &* +@all".split(" ")
      ])
      return { name, server, clock: stepped, offset: 0, lives: 1 }
    }
    const servers = new RedisServers(scene, await Promise.all([node("a"), node("b")]))
    await servers.follow()
    await servers.open()
    return servers
  }

  urlAt(port: number): string {
    return `redis://127.0.0.1:${port}`
  }

  harm({ action, amount = 0 }: Step): unknown {
    switch (action) {
      default:
        throw new Error(`${action} is not done to Redis`)
      case "freezeServer":
        return this.primary.server.signal("SIGSTOP")
      case "thawServer":
        return this.primary.server.signal("SIGCONT")
      case "killServer":
        return this.kill()
      case "startEmpty":
        return this.startEmpty()
      case "shutDown":
        return this.shutDown()
      case "startKept":
        return this.startKept()
      case "failOver":
        return this.failOver(false)
      case "failOverDead":
        return this.failOver(true)
      case "flushAll":
        return this.flushAll()
      case "flushScripts":
        return this.command("SCRIPT", "FLUSH")
      case "killClients":
        return this.command("CLIENT", "KILL", "TYPE", "normal", "USER", "default", "SKIPME", "yes")
      case "killSubscribers":
        return this.command("CLIENT", "KILL", "TYPE", "pubsub")
      case "pause":
        return this.command("CLIENT", "PAUSE", String(amount), "ALL").then(() => pause(amount))
      case "stepClock":
        return this.stepClock(amount)
    }
  }

  /** Makes the replica follow the primary. */
  private async follow(): Promise<void> {
    await this.replica.server.command("REPLICAOF", "127.0.0.1", String(this.primary.server.port))
  }

  /** Lets the processes come, once the witness is there. */
  private async open(): Promise<void> {
    const { lives, name, server } = this.primary
    this.witness = new Witness(server.port, name + lives, this.recorder)
    await this.witness.attached
    this.scene.onPrimary(server.port)
  }

  /** A server may die between a reply and what it tells the witness. So nobody gets a reply that the witness may miss. */
  private async beforeDeath(): Promise<void> {
    this.scene.silence()
    await this.command("PING")
    await pause(20)
  }

  private async kill(): Promise<void> {
    this.scene.onPrimary(undefined)
    await this.beforeDeath()
    await this.primary.server.stop()
  }

  private async startEmpty(): Promise<void> {
    this.recorder.note({ e: "lost", what: "restart" })
    this.primary.lives++
    rmSync(join(this.primary.server.directory, "dump.rdb"), { force: true })
    await this.primary.server.start()
    await this.open()
  }

  private async shutDown(): Promise<void> {
    const { server } = this.primary
    this.scene.onPrimary(undefined)
    await this.beforeDeath()
    const ended = new Promise<void>((resolve) => server.process!.once("exit", () => resolve()))
    server.command("SHUTDOWN", "SAVE").catch(() => {})
    await ended
  }

  private async startKept(): Promise<void> {
    await this.primary.server.start()
    await this.open()
  }

  private async failOver(dead: boolean): Promise<void> {
    const former = this.primary
    const formerWitness = this.witness
    const { note } = this.recorder
    note({ e: "lost", what: "fail-over begins" })
    if (dead) {
      this.scene.onPrimary(undefined)
      await this.beforeDeath()
      await former.server.stop()
    }
    ;[this.primary, this.replica] = [this.replica, former]
    this.primary.lives++
    await this.primary.server.command("REPLICAOF", "NO", "ONE")
    // Connections to the former primary stay, and it is written to until it is a replica.
    await this.open()
    if (dead) {
      rmSync(join(former.server.directory, "dump.rdb"), { force: true })
      await former.server.start()
    }
    await this.follow()
    await formerWitness?.end()
    note({ e: "lost", what: "fail-over" })
    note({ e: "back" })
  }

  private async flushAll(): Promise<void> {
    await this.command("FLUSHALL")
    this.recorder.note({ e: "lost", what: "FLUSHALL" })
  }

  private async stepClock(seconds: number): Promise<void> {
    const { clock: stepped, offset } = this.primary
    if (stepped === undefined) return
    this.primary.offset += seconds
    await stepClock(this.recorder, stepped, offset, this.primary.offset)
  }

  private command(...words: ReadonlyArray<string>): Promise<string> {
    return this.primary.server.command(...words)
  }

  /** The keys that have no time to live. */
  async leftovers(): Promise<ReadonlyArray<string>> {
    const lua = "local found = {} for _, key in ipairs(redis.call('KEYS', '*')) do "
      + "if redis.call('PTTL', key) == -1 then found[#found + 1] = key end end return table.concat(found, '\\n')"
    const answer = await this.command("EVAL", lua, "0")
    return answer.split("\r\n").slice(1).join("\n").split("\n").filter((_) => _ !== "").map((_) =>
      `the key ${_}, for ever`
    )
  }

  async end(): Promise<void> {
    await this.witness?.end()
  }

  /** A subscription may be at the replica, which gets what is published. */
  async connections(): Promise<number> {
    const lists = await Promise.all([this.primary, this.replica].map((_) => _.server.command("CLIENT", "LIST")))
    // The connection that asks is one of them.
    return lists.join("").split("\n").filter((_) => /user=default/.test(_) && !/flags=[MS]/.test(_)).length - 2
  }
}
