/**
 * Measures the pace of four saturated processes that share one rate, on a server on the loopback interface: `npm run redis:pace`.
 *
 * The witness is Redis itself: its monitor tells each state of the key, and from these follows when each token was due by
 * the clock of the server. Neither may tokens be due faster than the quota says, nor a start come before it is due.
 */
import Table from "cli-table3"
import { connect, type Socket } from "node:net"
import { parseArgs } from "node:util"
import { cleanUp, clock, pause, Stage } from "./faults/harness.ts"

const { values: { repeat } } = parseArgs({ options: { repeat: { type: "string", default: "3" } } })

interface Pace {
  readonly limit: number
  readonly burst: number
  /** Starts of each process. */
  readonly count: number
  /** Warm-up starts, so that the measurement does not include compilation. */
  readonly warmUp: number
}

const paces: ReadonlyArray<Pace> = [
  { limit: 1000, burst: 1, count: 500, warmUp: 250 },
  { limit: 10_000, burst: 100, count: 5000, warmUp: 2500 },
  { limit: 30_000, burst: 300, count: 12_000, warmUp: 6000 }
]

/** Reads the server's monitor. */
class Monitor {
  private readonly socket: Socket
  private text = ""
  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1", () => this.socket.write("MONITOR\r\n"))
    this.socket.on("data", (data) => this.text += data.toString())
  }
  /** The times at which tokens were due, in milliseconds of the server's clock from `origin`, which is in microseconds. */
  dues({ burst, limit }: Pace, origin: number): Array<number> {
    this.socket.destroy()
    const interval = 1e6 / limit
    const dues: Array<number> = []
    let at = 0
    let debt = 0
    for (const [, anchor, after] of this.text.matchAll(/ lua\] "SET" "[^"]*" "(\d+) ([\d.e+-]+)"/g)) {
      const now = Number(anchor) - origin
      debt = Math.max(0, debt - (now - at))
      at = now
      const granted = Math.round((Number(after) - debt) / interval)
      for (let i = 0; i < granted; i++, debt += interval) {
        dues.push((now + Math.max(0, debt + (1 - burst) * interval)) / 1000)
      }
      if (granted < 0) dues.splice(granted)
      debt = Number(after)
    }
    return dues
  }
}

/** The most tokens by which any interval holds more than burst + its length / interval. */
const excess = (times: ReadonlyArray<number>, { burst, limit }: Pace): number => {
  let level = 0
  let most = -Infinity
  times.forEach((time, i) => {
    level = Math.max(0, level - ((time - (times[i - 1] ?? time)) * limit) / 1000) + 1
    most = Math.max(most, level - burst)
  })
  return most
}

const run = async (pace: Pace) => {
  const stage = new Stage()
  try {
    const server = await stage.redis()
    const { burst, count, limit, warmUp } = pace
    const workers = await stage.workersOf(4, {
      url: server.url,
      limiter: { rate: { limit, window: "1 second", burst } }
    })
    const consume = (count: number) =>
      Promise.all(
        workers.map((_) =>
          _.call<{ times: Array<number>; errors: Array<string> }>("consume", { count, millis: 60_000 })
        )
      )
    await consume(warmUp)
    await pause(300)
    const figure = async (section: string, name: string) =>
      Number(new RegExp(`${name}:([0-9.]+)`).exec(await server.command("INFO", section))![1])
    const usage = async () => await figure("cpu", "used_cpu_user") + await figure("cpu", "used_cpu_sys")
    // The reading that took least says best how far the clocks are apart: no start is made earlier by it than it was.
    let apart = { took: Infinity, sent: 0, origin: 0 }
    for (let i = 0; i < 20; i++) {
      const sent = clock()
      const [, seconds, , micros] = (await server.command("TIME")).split("\r\n").slice(1)
      const took = clock() - sent
      if (took < apart.took) apart = { took, sent, origin: Number(seconds) * 1e6 + Number(micros) }
    }
    const commands = await figure("stats", "total_commands_processed")
    const cpu = await usage()
    const monitor = new Monitor(server.port)
    await pause(100)
    const all = await consume(count)
    await pause(100)
    const dues = monitor.dues(pace, apart.origin)
    const starts = all.flatMap((_) => _.times).map((time) => time - apart.sent).toSorted((a, b) => a - b)
    const lost = all.flatMap((_) => _.errors).length + 4 * count - starts.length
    if (lost > 0 || dues.length < starts.length) {
      throw new Error(`${lost} calls were not admitted, and ${dues.length} tokens taken`)
    }
    const ideal = ((starts.length - burst) * 1000) / limit
    const took = starts.at(-1)! - starts[0]!
    return {
      limit,
      starts: starts.length,
      rate: ((starts.length - burst) * 1000) / took,
      deviation: (took / ideal - 1) * 100,
      byDue: excess(dues, pace),
      // Each due time serves at most one start, so the sorted ones compare one by one.
      early: starts.reduce((most, at, i) => Math.max(most, dues[i]! - at), -Infinity),
      byStart: excess(starts, pace),
      unused: dues.length - starts.length,
      commands: await figure("stats", "total_commands_processed") - commands,
      cpu: (await usage() - cpu) * 1000
    }
  } finally {
    await stage.end()
  }
}

const table = new Table({
  head: [
    "limit/s",
    "starts",
    "rate/s",
    "deviation",
    "worst excess",
    "earliest, ms",
    "by starts",
    "unused",
    "commands",
    "server's CPU, ms"
  ],
  colAligns: Array.from({ length: 10 }, () => "right"),
  style: { head: [], border: [], compact: true }
})
let broken = 0
for (const pace of paces) {
  for (let i = 0; i < Number(repeat); i++) {
    const seen = await run(pace)
    // A sum of fractions is exact to a millionth of a token.
    const holds = Math.abs(seen.deviation) <= 1 && seen.byDue <= 1e-6 && seen.early <= 0
    if (!holds) broken++
    table.push([
      seen.limit,
      seen.starts,
      seen.rate.toFixed(0),
      `${seen.deviation.toFixed(2)} %`,
      seen.byDue.toFixed(3),
      seen.early.toFixed(2),
      seen.byStart.toFixed(1),
      seen.unused,
      seen.commands,
      seen.cpu.toFixed(0)
    ])
  }
}
console.log(table.toString())
console.log(`
worst excess   tokens that were due in any interval, beyond burst + its length / interval, by the clock of the server
earliest       by how much a start came before it was due: below 0, none did
by starts      the same excess by when effects started: what lateness carried into an interval
unused         tokens that nobody took, or that were taken ahead and not given back`)
cleanUp()
console.log(broken === 0 ? "\nthe rate is kept within 1 %" : `\n${broken} runs were off by more than 1 %, or early`)
process.exitCode = broken === 0 ? 0 : 1
