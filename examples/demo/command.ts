/**
 * The command line: options, the two runs, the report.
 */
import { Array, Console, Data, Effect, Option, Runtime } from "effect"
import { Command, Flag } from "effect/cli"
import { fileURLToPath } from "node:url"
import * as Client from "./client.ts"
import * as Database from "./database.ts"
import { judge, measure, rightAnswers, usualRate } from "./demo.ts"
import * as Direct from "./direct.ts"
import * as Funnel from "./funnel.ts"
import { readInstalled } from "./packages.ts"
import * as Processes from "./processes.ts"
import * as Progress from "./progress.ts"
import * as Redis from "./redis.ts"
import * as Report from "./report.ts"
import * as SideBySide from "./sideBySide.ts"

const root = fileURLToPath(new URL("../../node_modules", import.meta.url))

/** What the report says in full already, so that only the exit code is left to set. */
export class DemoFailed extends Data.TaggedError("DemoFailed") {
  override readonly [Runtime.errorReported] = false
}

const count = (name: string, byDefault: number, description: string) =>
  Flag.Int(name).pipe(
    Flag.filter(
      (n) => n >= 1 && n <= 1_000_000,
      (n) => `Expected a whole number from 1 to 1,000,000, got ${n}`
    ),
    Flag.withMetavar("n"),
    Flag.withDescription(`${description} (${byDefault})`),
    Flag.withDefault(byDefault)
  )

/** The server in several processes: each for itself, then all over one Redis. */
const several = Effect.fn(
  function*(options: {
    readonly processes: number
    readonly redis: Option.Option<string>
    readonly connections: Database.Connections
    readonly paths: ReadonlyArray<string>
    readonly warmUp: ReadonlyArray<string>
    readonly rate: number
  }) {
    const { connections, paths, processes, rate, warmUp } = options
    const url = yield* Option.match(options.redis, { onNone: () => Redis.started, onSome: Redis.given })
    yield* Console.log([
      `${Report.count(processes)} server processes are asked in turn, ${Report.count(paths.length)} times in all, ${
        Report.count(rate)
      } times a second.`,
      `Each query holds a connection for ${Database.delayMillis} ms. Callers give up after ${
        Funnel.patienceMillis / 1000
      } s.`,
      "",
      `  each for itself  every process has a Funnel of its own: ${Funnel.queriesAtOnce} queries at once in each`,
      "  over one Redis   equal requests in flight anywhere share one run, and",
      `                   ${Funnel.queriesAtOnce * processes} queries at once are shared out among all`,
      ""
    ].join("\n"))
    const measure = (title: string, redis: string | undefined) =>
      Processes.measure({ title, processes, redis, connections, paths, warmUp, rate, progress: Progress.auto })
    const runs = [yield* measure("each for itself", undefined), yield* measure("over one Redis", url)] as const
    const verdict = Processes.judge(...runs)
    yield* Console.log(`\n${Report.renderShared(runs)}\n${Report.renderSharedVerdict(verdict)}`)
    if (!verdict.passed) {
      return yield* new DemoFailed()
    }
  },
  Effect.scoped,
  Effect.catchTag("NoRedis", (error) => Effect.andThen(Console.error(error.message), new DemoFailed()))
)

export const command = Command.make(
  "demo",
  {
    requests: count("requests", 2000, "How many requests to send in each run"),
    rate: count(
      "rate",
      usualRate,
      "How many requests come in a second, whether the earlier ones have been answered or not"
    ),
    connections: Flag.ChoiceWithValue("connections", [
      [`${Database.poolSize}`, Database.poolSize],
      ["unbounded", "unbounded"]
    ]).pipe(
      Flag.withDescription("How many queries the database runs at once, in both runs (4)"),
      Flag.withDefault<Database.Connections>(Database.poolSize)
    ),
    seed: Flag.Int("seed").pipe(
      Flag.withMetavar("n"),
      Flag.withDescription("Which packages are asked for, and in which order (1)"),
      Flag.withDefault(1)
    ),
    processes: count("processes", 1, "How many server processes there are; several share one Redis"),
    redis: Flag.String("redis").pipe(
      Flag.withMetavar("url"),
      Flag.withDescription("The Redis that several processes share (one is started, where redis-server is installed)"),
      Flag.optional
    ),
    dashboard: Flag.Boolean("dashboard").pipe(
      Flag.withDescription("Keeps both servers up under load until ctrl-C, with the dashboard of the one with Funnel"),
      Flag.withDefault(false)
    )
  },
  Effect.fn(function*({ connections, dashboard, processes, rate, redis, requests, seed }) {
    const installed = yield* readInstalled(root)
    if (!Array.isReadonlyArrayNonEmpty(installed)) {
      yield* Console.error(`No packages under ${root}: run npm ci first.`)
      return yield* new DemoFailed()
    }
    const names = Array.dedupe(Array.map(installed, (pkg) => pkg.name))
    const paths = yield* Client.draw(names, { requests, seed })

    if (dashboard) return yield* SideBySide.run({ connections, paths, rate })

    // Warm-up, not counted: the first requests of a process are slow.
    const warmUp = yield* Client.draw(names, { requests: 300, seed: seed + 1 })
    if (processes > 1) {
      return yield* several({ processes, redis, connections, paths, warmUp, rate })
    }

    yield* Console.log([
      `${
        Report.count(installed.length)
      } packages are installed here. A server answers questions about them from SQLite.`,
      connections === "unbounded"
        ? "Its database runs any number of queries at once."
        : `Its database has a pool of ${connections} connections, as real ones do: further queries wait in the pool.`,
      `Each query holds a connection for ${Database.delayMillis} ms. ${
        Report.count(rate)
      } requests come in a second, the same in`,
      `both runs, and each caller gives up after ${Funnel.patienceMillis / 1000} s.`,
      "",
      "  without Funnel  every look-up is a query of its own",
      "  with Funnel     equal requests in flight share one run (Reducer),",
      "                  look-ups share queries (Batcher),",
      `                  at most ${Funnel.queriesAtOnce} queries run at once (Scheduler), and runs`,
      "                  that could not end in time are refused at once (shed)",
      ""
    ].join("\n"))

    const right = yield* rightAnswers({ catalog: Direct.layer, installed, paths, progress: Progress.auto })
    yield* rightAnswers({ catalog: Funnel.layer, installed, paths: warmUp, progress: Progress.none })
    const common = { installed, connections, paths, rate, patience: Funnel.patienceMillis, progress: Progress.auto }
    const without = yield* measure({ ...common, title: "without Funnel", catalog: Direct.layer })
    const withFunnel = yield* measure({ ...common, title: "with Funnel", catalog: Funnel.layer })
    const verdict = judge(without, withFunnel, right)

    yield* Console.log(`\n${Report.renderTable([without, withFunnel])}\n${Report.renderVerdict(verdict)}`)
    if (!verdict.passed) {
      return yield* new DemoFailed()
    }
  })
).pipe(
  Command.withDescription("Ask a server about the packages installed here, without Funnel and with it")
)
