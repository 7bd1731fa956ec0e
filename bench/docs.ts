/** Writes docs/benchmarks.md and its plots from the figures of one run. */
import { mkdir, writeFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import { bars, lines } from "./plot.ts"
import { barRow, type Baseline, growthTitle, headings, number, type Report, stallRow } from "./report.ts"

const table = (rows: ReadonlyArray<Readonly<Record<string, string | number>>>): string => {
  const columns = Object.keys(rows[0] ?? {})
  const line = (cells: ReadonlyArray<string | number>) => `| ${cells.join(" | ")} |`
  return [
    line(columns),
    line(columns.map((_, i) => i === 0 ? "---" : "---:")),
    ...rows.map((row) => line(columns.map((column) => row[column] ?? "")))
  ].join("\n")
}

interface Cell {
  readonly contender: string
  readonly n: number
  readonly value: number
  readonly cpu: number
}

/** Contenders down, sizes across: wall, and what of it the main thread worked. */
const pivot = (figures: ReadonlyArray<Cell>) => {
  const sizes = [...new Set(figures.map((figure) => figure.n))]
  const contenders = [...new Set(figures.map((figure) => figure.contender))]
  return table(contenders.map((contender) => ({
    contender,
    ...Object.fromEntries(sizes.map((n) => {
      const found = figures.find((figure) => figure.contender === contender && figure.n === n)
      return [
        `n = ${n.toLocaleString("en-US")}`,
        found === undefined ? "–" : `${number(found.value)} (${number(found.cpu)})`
      ]
    }))
  })))
}

const opening = `# Benchmarks

\`npm run bench -- --runs 5 --docs\` measures every table below and writes this page; \`npm run bench\` only prints. Every run
of every table has a process of its own, in which the contenders take turns after a warm-up, and each has to prove that it did
the same work. What is quoted is the median over the runs. Tables whose figures hardly differ from run to run are taken fewer
times: what a process weighs and the crowd once, pace, stalls, memory, heap and single decisions three times; sizes that no
bar is drawn from once. Absolute times differ by machine and by the hour; compare the ratios. What crowds of fibers cost also
differs from process to process, by a third and sometimes more, whoever the contender is: one run alone says little.
`

/** What the bars are measured against. */
const floors =
  `Bars of crowds are set against fibers that do nothing but wait, since the collector moves them from one generation to the
next whatever they wait for. A stall that the caller makes by interrupting fibers in a loop of its own is set against the same
loop over such fibers. The CPU beside a figure is that of the main thread; what the collector does in its own threads is not
in it. Stalls are judged by it, collections on the main thread included.
`

/** Which bars are missed, and why. */
const missed =
  `What is missed, and why. An item of \`Scheduler.forEach\` has a place in a queue that all callers share and in the graph of
waits, which those of \`Effect.forEach\` have not. A permit with a rate looks at a queue, a clock and the graph, where
\`withPermit\` counts. A run has a node in the graph and an end that can go in slices, which a promise in a map has not. A
structural key is hashed field by field, and whether a value may be compared so is found out anew for each object. The bars of
programs with a layer are those that are wanted, not held: the limits that are held are in \`npm run check:size\`.
`

/** What the figures of a table mean, and where others are ahead. */
const notes: Readonly<Record<string, string>> = {
  "single-flight-one-key":
    "Promises are ahead of every fiber: a caller that joins gets the promise that is there already, and cannot leave. Beside " +
    "other Effect code a joined call costs little more than a call that shares nothing.",
  "single-flight-many-keys":
    "Promises are ahead. Nobody shares here, so this is what the protection costs when it does nothing: a second fiber a call, " +
    "which is there so that a caller can leave without ending the run.",
  "single-flight-synchronous": "What ends at once never suspends its caller.",
  keys: "Built for every call, as callers write them.",
  composed: "Twenty runs in a queue with room for a hundred; all others join them.",
  refusal: "What it takes to say no: the failure is taken note of and the next call made.",
  "limit-100":
    "`Effect.forEach` with a limit of its own is ahead of `Scheduler.forEach`, whose limit is shared by all who call it. " +
    "`p-limit` is ahead of `schedule` where every job is a fiber of its own that waits; asked for the same jobs through " +
    "`forEach`, it is behind.",
  "free-permit": "`Semaphore.withPermit` is ahead: it counts, and knows neither a rate nor a queue to look at.",
  decision: "A limiter that is called as a plain function is ahead of one that is an Effect by what an Effect costs.",
  "look-ups":
    "DataLoader is ahead: a promise a look-up against a fiber a look-up. `load-many` is the same work asked for by one fiber.",
  "pace-10000":
    "Where every job is a fiber and all of them are forked at once, forking keeps the event loop for longer than the 50 ms of " +
    "stall that a limiter makes up; the rest is lost on purpose, or a stall would end in a burst. `forEach` takes the jobs as " +
    "there is room for them.",
  "pace-50000": "As above.",
  growth: "The fibers alone are what nobody can be faster than.",
  "growth-roomy":
    "With a young generation of a gigabyte the collector has nothing to move, and what is left is what the queues themselves " +
    "cost: the same for each, however many wait. A thousand are over before all of it is compiled."
}

export const write = async (report: Report, folder: URL, baseline: Baseline | undefined): Promise<void> => {
  const plots = new URL("benchmarks/", folder)
  await mkdir(plots, { recursive: true })
  const at = (id: string) => fileURLToPath(new URL(`${id}.svg`, plots))
  const parts: Array<string> = [
    opening,
    `Measured on ${report.when}, ${report.runs} runs: ${report.cpu}; Node ${report.node}; ` +
    Object.entries(report.versions).map(([name, version]) => `${name} ${version}`).join(", ") + ".\n",
    "## What was to be reached\n",
    table(report.bars.map((bar) => ({ ...barRow(bar, report.runs, baseline) }))) + "\n",
    floors,
    missed
  ]
  const section = (id: string, title: string, body: string) => {
    const note = notes[id]
    parts.push(
      `## ${title}\n\n![${title}](./benchmarks/${id}.svg)\n\n${note === undefined ? "" : `${note}\n\n`}${body}\n`
    )
  }

  for (const { figures, id, title } of report.tables) {
    const values = figures.map((figure) => ({
      contender: figure.contender,
      n: figure.n,
      value: figure.median,
      cpu: figure.cpu
    }))
    const group = (n: number) => `n = ${n.toLocaleString("en-US")}`
    await bars(title, "ns an operation", values.map((value) => ({ ...value, group: group(value.n) })), at(id))
    section(id, title, `Nanoseconds an operation, median; in brackets the CPU of the main thread.\n\n${pivot(values)}`)
  }
  if (report.heap.length > 0) {
    const title = "Heap a waiting operation"
    await bars(
      title,
      "bytes",
      // A key at rest holds nothing, which a logarithmic scale does not show.
      report.heap.filter(({ bytes }) => bytes >= 1)
        .map((row) => ({ contender: row.contender, group: row.table, value: row.bytes })),
      at("heap")
    )
    section(
      "heap",
      title,
      "Bytes, the operation's own fiber or promise included.\n\n" +
        table(report.heap.map((row) => ({ contender: row.contender, table: row.table, bytes: number(row.bytes) }))) +
        "\n\nOf a waiting caller or job, a fiber that waits on a callback with a cancel effect is the floor. `rate-keys` is what a key " +
        "of a limiter holds besides its string: while it has something to pay back, and 5 s after the last call."
    )
  }
  for (const pace of report.pace) {
    await bars(
      pace.title,
      "most starts in any half-open second",
      pace.rows.map((row) => ({ contender: row.contender, group: "", value: row.most })),
      at(pace.id)
    )
    section(
      pace.id,
      pace.title,
      (pace.ideal === undefined ? "" : `An ideal pacer takes ${number(pace.ideal)} ms.\n\n`) +
        table(pace.rows.map((row) => ({
          contender: row.contender,
          "span, ms": number(row.span),
          "most in any 1 s": row.most,
          "least gap, ms": number(row.gap)
        })))
    )
  }
  for (const roomy of [false, true]) {
    const rows = report.growth.filter((row) => row.roomy === roomy)
    if (rows.length === 0) continue
    const id = roomy ? "growth-roomy" : "growth"
    const title = growthTitle(roomy)
    const values = rows.map((row) => ({ contender: row.contender, n: row.n, value: row.micros, cpu: row.cpu }))
    await lines(title, "µs each", values, at(id))
    section(
      id,
      title,
      `Microseconds a caller: waiting, leaving and its fiber. A line that rises is not linear; in brackets the CPU of the main thread.\n\n${
        pivot(values)
      }`
    )
  }
  if (report.crowd !== undefined) {
    const { jobs, schedule, semaphore } = report.crowd
    parts.push(
      `## ${number(jobs)} jobs waiting on ten permits\n`,
      table([
        { contender: "Semaphore.withPermit", seconds: number(semaphore) },
        { contender: "Funnel Scheduler.schedule", seconds: number(schedule) }
      ]) + "\n"
    )
  }
  if (report.memory.length > 0) {
    parts.push(
      "## Items through the scheduler\n",
      "Megabytes between the least and the most resident memory after the first tenth, in a process that does nothing else.\n",
      table(report.memory.map((row) => ({
        contender: row.contender,
        items: number(row.items),
        "spread, MB": number(row.spread)
      }))) + "\n"
    )
  }
  if (report.stalls.length > 0) {
    parts.push(`## Stalls\n\n${headings.stalls}.\n`, table(report.stalls.map(stallRow)) + "\n")
  }
  if (report.imports.length > 0) {
    parts.push(
      `## What an import costs\n\n${headings.imports}.\n`,
      table(report.imports.map((row) => ({ import: row.contender, "CPU, ms": number(row.millis) }))) + "\n"
    )
  }
  if (report.sizes.length > 0) {
    parts.push(
      `## What a program weighs\n\n${headings.sizes}, in kilobytes.\n`,
      table(report.sizes.map((row) => ({ "a program that": row.contender, kB: number(row.kilobytes) }))) + "\n"
    )
  }
  await writeFile(new URL("benchmarks.md", folder), parts.join("\n"))
}
