/**
 * Measures the services against comparable libraries and prints one table per question.
 *
 * `--json` writes the figures, `--docs` writes docs/benchmarks.md with a plot for each table. `--quick` takes one run
 * of short samples: it checks that every table can be measured, but its figures are too noisy to judge.
 *
 * Every run of every table has its own process, in which the contenders take turns. Each run measures all tables once,
 * and the figures are medians over the runs. `tables/all.ts` lists the tables that need fewer runs.
 *
 * `--baseline` prints the bars next to those of another commit. To get these, check that commit out into another
 * folder, copy this folder into it, and run it there with `--json`. Both commits then use the same harness on the same
 * machine.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { fork } from "node:child_process"
import { readFileSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { cpus } from "node:os"
import { judge } from "./bars.ts"
import { write } from "./docs.ts"
import { merge } from "./merge.ts"
import {
  type Bar,
  barRow,
  type Baseline,
  growthTitle,
  headings,
  number,
  type Parts,
  type Report,
  runsToJudge,
  stallRow
} from "./report.ts"
import { plans } from "./tables/all.ts"

const names = [...plans.keys()]

const versions = (): Readonly<Record<string, string>> => {
  const read = (url: URL): { readonly version: string; readonly devDependencies?: Readonly<Record<string, string>> } =>
    JSON.parse(readFileSync(url, "utf8"))
  const own = read(new URL("./package.json", import.meta.url))
  const found: Record<string, string> = {
    effect: read(new URL("../node_modules/effect/package.json", import.meta.url)).version
  }
  for (const name of Object.keys(own.devDependencies ?? {})) {
    found[name] = read(new URL(`./node_modules/${name}/package.json`, import.meta.url)).version
  }
  return found
}

const print = (title: string, rows: ReadonlyArray<Readonly<Record<string, string | number>>>) =>
  Effect.sync(() => {
    if (rows.length === 0) return
    const columns = Object.keys(rows[0]!)
    const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => String(row[column]).length)))
    const line = (cells: ReadonlyArray<string>) =>
      cells.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  ")
    console.log(`\n${title}`)
    console.log(line(columns))
    for (const row of rows) console.log(line(columns.map((column) => String(row[column]))))
  })

/** Takes one run of a table in its own process. */
const take = (name: string, quick: boolean, run: number): Effect.Effect<Parts, Error> =>
  Effect.callback((resume) => {
    const child = fork(new URL("./take.ts", import.meta.url), [name, quick ? "quick" : "full", String(run)], {
      execArgv: [...plans.get(name)!.execArgv]
    })
    // The child sends the parts that `take.ts` has typed. The process boundary loses only the type.
    child.once("message", (parts) => resume(Effect.succeed(parts as Parts)))
    child.once("error", (error) => resume(Effect.fail(error)))
    child.once("exit", (code, signal) => resume(Effect.fail(new Error(`${name} ended by ${signal ?? `code ${code}`}`))))
    return Effect.sync(() => void child.kill())
  })

const printAll = (parts: Parts) =>
  Effect.gen(function*() {
    for (const { figures, title } of parts.tables) {
      yield* print(
        `${title} (ns an operation)`,
        figures.map((figure) => ({
          contender: figure.contender,
          n: number(figure.n),
          median: number(figure.median),
          CPU: number(figure.cpu),
          low: number(figure.low),
          high: number(figure.high)
        }))
      )
    }
    yield* print(
      "Heap a waiting operation (bytes, its own fiber or promise included)",
      parts.heap.map((row) => ({ table: row.table, contender: row.contender, bytes: number(row.bytes) }))
    )
    for (const table of parts.pace) {
      yield* print(
        table.ideal === undefined ? table.title : `${table.title} (ideal span ${number(table.ideal)} ms)`,
        table.rows.map((row) => ({
          contender: row.contender,
          "span ms": number(row.span),
          "most in any 1 s": row.most,
          "least gap ms": number(row.gap)
        }))
      )
    }
    for (const roomy of [false, true]) {
      yield* print(
        `${growthTitle(roomy)} (µs each)`,
        parts.growth.filter((row) => row.roomy === roomy)
          .map((row) => ({
            contender: row.contender,
            n: number(row.n),
            "µs": number(row.micros),
            CPU: number(row.cpu)
          }))
      )
    }
    yield* print(headings.stalls, parts.stalls.map(stallRow))
    yield* print(
      headings.imports,
      parts.imports.map((row) => ({ import: row.contender, ms: number(row.millis) }))
    )
    yield* print(
      "Items through the scheduler (spread of resident memory)",
      parts.memory.map((row) => ({ contender: row.contender, items: number(row.items), MB: number(row.spread) }))
    )
    yield* print(
      headings.sizes,
      parts.sizes.map((row) => ({ "a program that": row.contender, kB: number(row.kilobytes) }))
    )
    if (parts.crowd !== undefined) {
      yield* print(`${number(parts.crowd.jobs)} jobs waiting on ten permits`, [
        { contender: "Semaphore.withPermit", seconds: number(parts.crowd.semaphore) },
        { contender: "Funnel Scheduler.schedule", seconds: number(parts.crowd.schedule) }
      ])
    }
  })

/** The bars of another commit. */
const read = (file: string): Effect.Effect<Baseline, Error> =>
  Effect.try({
    try: () => {
      const { bars }: { readonly bars: ReadonlyArray<Pick<Bar, "what" | "value">> } = JSON.parse(
        readFileSync(file, "utf8")
      )
      return new Map(bars.map(({ value, what }) => [what, value]))
    },
    catch: (cause) => new Error(`${file} is no report of this program`, { cause })
  })

const program = (options: {
  readonly quick: boolean
  readonly runs: Option.Option<number>
  readonly only: ReadonlyArray<string>
  readonly json: boolean
  readonly docs: boolean
  readonly baseline: Option.Option<string>
}) =>
  Effect.gen(function*() {
    const wrong = options.only.filter((name) => !names.some((known) => known.startsWith(name)))
    if (wrong.length > 0) {
      return yield* Effect.fail(new Error(`no table is called ${wrong.join(", ")}; there are ${names.join(", ")}`))
    }
    const runs = Option.getOrElse(options.runs, () => options.quick ? 1 : 3)
    if (runs < 1) return yield* Effect.fail(new Error(`--runs must be at least 1, got ${runs}`))
    const wanted = names.filter((name) =>
      options.only.length === 0 || options.only.some((only) => name.startsWith(only))
    )
    if (options.docs && (options.quick || runs < runsToJudge)) {
      return yield* Effect.fail(new Error(`the page is written from at least ${runsToJudge} full runs`))
    }
    const baseline = Option.isNone(options.baseline) ? undefined : yield* read(options.baseline.value)
    const taken: Array<Parts> = []
    const failed: Array<string> = []
    for (let run = 1; run <= runs; run++) {
      for (const name of wanted.filter((name) => run <= plans.get(name)!.runs)) {
        const start = performance.now()
        // If one table fails, the results of the others are still reported.
        const parts = yield* Effect.catch(
          take(name, options.quick, run),
          (error) => Effect.as(Console.error(error), undefined)
        )
        if (parts === undefined) failed.push(name)
        else taken.push(parts)
        yield* Console.error(`run ${run} of ${runs}: ${name}, ${number((performance.now() - start) / 1_000)} s`)
      }
    }
    const parts = merge(taken)
    yield* printAll(parts)
    const report: Report = {
      ...parts,
      when: new Date().toISOString().slice(0, 10),
      runs,
      node: process.version,
      cpu: `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores`,
      versions: versions(),
      bars: judge(parts)
    }
    if (!options.quick) {
      yield* print(
        runs < runsToJudge ? `To reach, of which ${runs} run${runs === 1 ? "" : "s"} cannot judge` : "To reach",
        report.bars.map((bar) => barRow(bar, runs, baseline))
      )
    }
    if (options.json) {
      const file = new URL("./results.json", import.meta.url)
      yield* Effect.promise(() => writeFile(file, JSON.stringify(report, null, 2) + "\n"))
      yield* Console.log("\nwritten: bench/results.json")
    }
    if (options.docs) {
      yield* Effect.promise(() => write(report, new URL("../docs/", import.meta.url), baseline))
      yield* Console.log("\nwritten: docs/benchmarks.md and its plots")
    }
    if (failed.length > 0) return yield* Effect.fail(new Error(`not taken: ${failed.join(", ")}`))
  })

const command = Command.make(
  "bench",
  {
    quick: Flag.Boolean("quick").pipe(
      Flag.withDefault(false),
      Flag.withDescription(
        "one run of short samples, to see that every table can be taken: no verdict, under two minutes"
      )
    ),
    runs: Flag.Int("runs").pipe(
      Flag.optional,
      Flag.withDescription("how many runs the figures are medians of: 3, with --quick 1")
    ),
    only: Flag.String("only").pipe(
      Flag.withDescription(`a table by the beginning of its name: ${names.join(", ")}`),
      Flag.between(0, names.length)
    ),
    baseline: Flag.String("baseline").pipe(
      Flag.optional,
      Flag.withDescription("the results.json of another commit, to put the bars beside")
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDefault(false),
      Flag.withDescription("write the figures to bench/results.json")
    ),
    docs: Flag.Boolean("docs").pipe(
      Flag.withDefault(false),
      Flag.withDescription("write docs/benchmarks.md and its plots")
    )
  },
  program
)

NodeRuntime.runMain(Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer)))
