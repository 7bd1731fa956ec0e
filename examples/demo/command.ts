/**
 * The command line: what is asked for, the two runs, the report.
 */
import { Array, Console, Data, Effect, Runtime } from "effect"
import { Command, Flag } from "effect/cli"
import { fileURLToPath } from "node:url"
import * as Client from "./client.ts"
import * as Database from "./database.ts"
import { judge, measure } from "./demo.ts"
import * as Direct from "./direct.ts"
import * as Funnel from "./funnel.ts"
import { readInstalled } from "./packages.ts"
import * as Progress from "./progress.ts"
import * as Report from "./report.ts"

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

export const command = Command.make(
  "demo",
  {
    requests: count("requests", 2000, "How many requests to send in each run"),
    concurrency: count("concurrency", 100, "How many requests the client has under way at most"),
    rate: count("rate", 1000, "How many requests the client starts in a second at most"),
    seed: Flag.Int("seed").pipe(
      Flag.withMetavar("n"),
      Flag.withDescription("Which packages are asked for, and in which order (1)"),
      Flag.withDefault(1)
    )
  },
  Effect.fn(function*({ requests, seed, ...limits }) {
    const installed = yield* readInstalled(root)
    if (!Array.isReadonlyArrayNonEmpty(installed)) {
      yield* Console.error(`No packages under ${root}: run npm ci first.`)
      return yield* new DemoFailed()
    }
    const names = Array.dedupe(Array.map(installed, (pkg) => pkg.name))
    const paths = yield* Client.draw(names, { requests, seed })

    yield* Console.log([
      `${Report.count(installed.length)} packages are installed here. A server answers questions about them from`,
      `SQLite; each query takes ${Database.delayMillis} ms longer than it has to. A client asks`,
      `${Report.count(requests)} times, at most ${Report.count(limits.concurrency)} at once and ${
        Report.count(limits.rate)
      } a second, the same`,
      "questions in the same order in both runs, after a short warm-up of both.",
      "",
      "  without Funnel  every look-up is a query of its own",
      "  with Funnel     equal requests in flight share one run (Reducer),",
      "                  look-ups travel together (Batcher),",
      `                  at most ${Funnel.queriesAtOnce} queries run at once (Scheduler)`,
      ""
    ].join("\n"))

    const without = {
      title: "without Funnel",
      catalog: Direct.layer,
      installed,
      paths,
      limits,
      progress: Progress.auto
    }
    const withFunnel = { ...without, title: "with Funnel", catalog: Funnel.layer }
    // Not counted: the first requests of a process are slow, whichever run they belong to.
    const warmUp = yield* Client.draw(names, { requests: 300, seed: seed + 1 })
    for (const run of [without, withFunnel]) {
      yield* measure({ ...run, paths: warmUp, limits: { concurrency: 50, rate: 1000 }, progress: Progress.none })
    }
    const runs = [yield* measure(without), yield* measure(withFunnel)] as const
    const verdict = judge(...runs)

    yield* Console.log(`\n${Report.renderTable(runs)}\n${Report.renderVerdict(verdict)}`)
    if (!verdict.passed) {
      return yield* new DemoFailed()
    }
  })
).pipe(
  Command.withDescription("Ask a server about the packages installed here, without Funnel and with it")
)
