/**
 * Measures the services beside their peers and prints a table for each question. `--json` writes the figures,
 * `--docs` writes docs/benchmarks.md with a plot for each table, `--quick` takes fewer and shorter samples.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { cpus } from "node:os"
import { judge } from "./bars.ts"
import { write } from "./docs.ts"
import { full, heapEach, measure, quick, type Settings } from "./harness.ts"
import { barRow, number, type Report } from "./report.ts"
import * as Crowd from "./tables/crowd.ts"
import * as Decision from "./tables/decision.ts"
import * as Growth from "./tables/growth.ts"
import * as Limit from "./tables/limit.ts"
import * as LookUps from "./tables/lookups.ts"
import * as Memory from "./tables/memory.ts"
import * as Pace from "./tables/pace.ts"
import * as SingleFlight from "./tables/singleFlight.ts"
import * as Size from "./tables/size.ts"

const timed = [...SingleFlight.tables, ...Limit.tables, ...Decision.tables, ...LookUps.tables]
const heaps = [["single-flight", SingleFlight.heap], ["limit-100", Limit.heap]] as const
const others = ["heap", "pace", "growth", "memory", "size", "crowd"]
export const names = [...timed.map((table) => table.id), ...others]

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

const program = (options: {
  readonly quick: boolean
  readonly only: ReadonlyArray<string>
  readonly json: boolean
  readonly docs: boolean
}) =>
  Effect.gen(function*() {
    const wrong = options.only.filter((name) => !names.some((known) => known.startsWith(name)))
    if (wrong.length > 0) {
      return yield* Effect.fail(new Error(`no table is called ${wrong.join(", ")}; there are ${names.join(", ")}`))
    }
    const wanted = (name: string) => options.only.length === 0 || options.only.some((only) => name.startsWith(only))
    const settings: Settings = options.quick ? quick : full
    const limit = options.quick ? 100_000 : 1_000_000
    const tables: Array<Report["tables"][number]> = []
    for (const table of timed) {
      if (!wanted(table.id)) continue
      const sizes = table.sizes.filter((n) => n <= limit)
      const figures = yield* Effect.promise(() => measure({ ...table, sizes }, settings))
      tables.push({ id: table.id, title: table.title, figures })
      yield* print(
        `${table.title} (ns an operation)`,
        figures.map((figure) => ({
          contender: figure.contender,
          n: number(figure.n),
          median: number(figure.median),
          low: number(figure.low),
          high: number(figure.high)
        }))
      )
    }
    const heap: Array<Report["heap"][number]> = []
    if (wanted("heap")) {
      for (const [table, contenders] of heaps) {
        for (const contender of contenders) {
          heap.push({
            table,
            contender: contender.name,
            bytes: yield* Effect.promise(() => heapEach(contender, 20_000))
          })
        }
      }
      yield* print(
        "Heap a waiting operation (bytes, its own fiber or promise included)",
        heap.map((row) => ({ table: row.table, contender: row.contender, bytes: number(row.bytes) }))
      )
    }
    const rounds = options.quick ? 1 : 3
    const pace = wanted("pace") ? yield* Effect.promise(() => Pace.run(options.quick ? 1 : 2)) : []
    for (const table of pace) {
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
    const growth = wanted("growth")
      ? yield* Effect.promise(() => Growth.run(rounds, Growth.sizes.filter((n) => n <= limit)))
      : []
    yield* print(
      "n wait and all leave in random order (µs each)",
      growth.map((row) => ({ contender: row.contender, n: number(row.n), "µs": number(row.micros) }))
    )
    const memory = wanted("memory")
      ? yield* Effect.promise(() => Memory.run(options.quick ? 1_000_000 : 10_000_000))
      : []
    yield* print(
      "Items through the scheduler (spread of resident memory)",
      memory.map((row) => ({ contender: row.contender, items: number(row.items), MB: number(row.spread) }))
    )
    const sizes = wanted("size") ? yield* Effect.promise(() => Size.run()) : []
    yield* print(
      "Import of one service, minified + gzip, Effect's part included",
      sizes.map((row) => ({ contender: row.contender, kB: number(row.kilobytes) }))
    )
    const crowd = wanted("crowd")
      ? yield* Effect.promise(() => Crowd.run(options.quick ? 10_000 : 50_000))
      : undefined
    if (crowd !== undefined) {
      yield* print(`${number(crowd.jobs)} jobs waiting on ten permits`, [
        { contender: "Semaphore.withPermit", seconds: number(crowd.semaphore) },
        { contender: "Funnel Scheduler.schedule", seconds: number(crowd.schedule) }
      ])
    }
    const measured = {
      when: new Date().toISOString().slice(0, 10),
      node: process.version,
      cpu: `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores`,
      versions: versions(),
      tables,
      heap,
      pace,
      growth,
      memory,
      sizes,
      crowd,
      bars: []
    }
    const report: Report = { ...measured, bars: judge(measured) }
    yield* print("To reach", report.bars.map(barRow))
    if (options.json) {
      const file = new URL("./results.json", import.meta.url)
      yield* Effect.promise(() => writeFile(file, JSON.stringify(report, null, 2) + "\n"))
      yield* Console.log("\nwritten: bench/results.json")
    }
    if (options.docs) {
      yield* Effect.promise(() => write(report, new URL("../docs/", import.meta.url)))
      yield* Console.log("\nwritten: docs/benchmarks.md and its plots")
    }
  })

const command = Command.make(
  "bench",
  {
    quick: Flag.Boolean("quick").pipe(
      Flag.withDefault(false),
      Flag.withDescription("fewer, shorter samples: under two minutes")
    ),
    only: Flag.String("only").pipe(
      Flag.withDescription(`a table by the beginning of its name: ${names.join(", ")}`),
      Flag.between(0, names.length)
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

// Heap figures need the collector at hand: the process starts itself again with it.
if (globalThis.gc === undefined) {
  try {
    execFileSync(process.execPath, ["--expose-gc", ...process.argv.slice(1)], { stdio: "inherit" })
  } catch {
    process.exitCode = 1
  }
} else {
  NodeRuntime.runMain(Command.run(command, { version: "1" }).pipe(Effect.provide(NodeServices.layer)))
}
