/** Writes docs/benchmarks.md and its plots from the figures of one report. */
import { mkdir, writeFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import { bars, lines } from "./plot.ts"
import { barRow, type Baseline, growthTitle, headings, number, type Report, stallRow, table } from "./report.ts"

interface Cell {
  readonly contender: string
  readonly n: number
  readonly value: number
  readonly cpu: number
}

/** Contenders as rows, sizes as columns: wall time, with the main thread's CPU in brackets. */
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
of every table has its own process. In it the contenders take turns after a warm-up, and each must prove that it did the
same work. The figures are medians over the runs. Some tables hardly vary between runs and are measured less often:
program sizes and the crowd once; pace, stalls, memory, heap and single decisions three times; sizes without a target
once. Absolute times depend on the machine and its load, so compare the ratios. For any contender, the cost of a crowd of
fibers varies between processes by a third or more, so one run alone says little.
`

/** How the targets account for the cost of bare fibers and for the collector. */
const floors =
  `Targets for crowds compare with fibers that only wait, because the collector moves waiting fibers between generations in
any case. If the caller causes a stall by interrupting fibers in its own loop, the target compares with the same loop over
bare fibers. The CPU next to a figure is that of the main thread. It excludes the collector's own threads, but includes
collections on the main thread. Stalls are judged by that CPU.
`

/** Explains the missed targets. */
const missed =
  `Reasons for the missed targets: An item of \`Scheduler.forEach\` has a place in a queue that all callers share, and a node
in the wait graph; an item of \`Effect.forEach\` has neither. A permit with a rate checks a queue, a clock and the graph,
where \`withPermit\` only counts. A run has a node in the graph, and it can notify its callers in slices; a promise in a map
has neither. The targets in nanoseconds and microseconds are for a machine on which an Effect alone takes 70 ns: compare it in
the table of decisions. For programs with a layer, the targets are goals that are not reached yet; \`npm run check:size\`
enforces the actual limits.
`

/** Explains the tables, and where other libraries are faster. */
const notes: Readonly<Record<string, string>> = {
  "single-flight-one-key":
    "Promises are faster than fibers: a caller that joins gets the existing promise, and cannot leave. Compared with " +
    "other Effect code, a joined call costs little more than a call that shares nothing.",
  "single-flight-many-keys":
    "Promises are faster. No call shares a run here, so the figure is the cost of protection alone: a second fiber " +
    "per call, which lets a caller leave without ending the run.",
  "single-flight-synchronous": "A run that ends at once never suspends its caller.",
  keys: "Each call builds its key, as in typical code.",
  composed: "Twenty runs enter a scheduler with concurrency 100; all other calls join them.",
  refusal: "The cost of a refusal: the caller handles the failure and makes the next call.",
  "limit-100":
    "`Effect.forEach` with its own limit is faster than `Scheduler.forEach`, whose limit all callers share. `p-limit`" +
    " is faster than `schedule` if every job is a waiting fiber of its own. For the same jobs, `forEach` is faster " +
    "than `p-limit`.",
  "free-permit": "`Semaphore.withPermit` is faster: it only counts, and has neither a rate nor a queue to check.",
  observed: "A program that does not provide these layers does not pay for them.",
  decision: "A limiter that is a plain function is faster than one that is an Effect, by the cost of an Effect.",
  "look-ups":
    "DataLoader is faster: it needs a promise per look-up instead of a fiber. The next table, `load-many`, does the " +
    "same work in one fiber.",
  "pace-10000":
    "If every job is a fiber and all of them are forked at once, forking blocks the event loop for longer than the 50" +
    " ms of stall that a limiter makes up. The limiter drops the rest on purpose, because otherwise a stall would end" +
    " in a burst. `forEach` pulls jobs as permits become free.",
  "pace-50000": "As above.",
  growth: "The bare fibers are the lower bound for every contender.",
  "growth-roomy":
    "With a young generation of a gigabyte the collector has nothing to move, so the figure is the cost of the queues" +
    " themselves. It is the same per waiter for any crowd. A crowd of a thousand ends before all code is compiled."
}

export const write = async (report: Report, folder: URL, baseline: Baseline | undefined): Promise<void> => {
  const plots = new URL("benchmarks/", folder)
  await mkdir(plots, { recursive: true })
  const at = (id: string) => fileURLToPath(new URL(`${id}.svg`, plots))
  const parts: Array<string> = [
    opening,
    `Measured on ${report.when}, ${report.runs} runs: ${report.cpu}; Node ${report.node}; ` +
    Object.entries(report.versions).map(([name, version]) => `${name} ${version}`).join(", ") + ".\n",
    "## Targets\n",
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
    section(id, title, `Nanoseconds per operation, median; in brackets the CPU of the main thread.\n\n${pivot(values)}`)
  }
  if (report.heap.length > 0) {
    const title = "Heap a waiting operation"
    await bars(
      title,
      "bytes",
      // A key at rest holds nothing, and a logarithmic scale cannot show zero.
      report.heap.filter(({ bytes }) => bytes >= 1)
        .map((row) => ({ contender: row.contender, group: row.table, value: row.bytes })),
      at("heap")
    )
    section(
      "heap",
      title,
      "Bytes, including the operation's own fiber or promise.\n\n" +
        table(report.heap.map((row) => ({ contender: row.contender, table: row.table, bytes: number(row.bytes) }))) +
        "\n\nThe lower bound of a waiting caller or job is a fiber that waits on a callback with a cancel effect. `rate-keys` is " +
        "the memory of a limiter's key besides its string: while it has debt, and 5 s after the last call."
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
      `Microseconds per caller, for waiting, leaving and its fiber. A rising line means worse than linear; in brackets the CPU of the main thread.\n\n${
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
      "The spread of resident memory in megabytes after the first tenth, in a process that does nothing else.\n",
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
      `## Import cost\n\n${headings.imports}.\n`,
      table(report.imports.map((row) => ({ import: row.contender, "CPU, ms": number(row.millis) }))) + "\n"
    )
  }
  if (report.sizes.length > 0) {
    parts.push(
      `## Program size\n\n${headings.sizes}, in kilobytes.\n`,
      table(report.sizes.map((row) => ({ "a program that": row.contender, kB: number(row.kilobytes) }))) + "\n"
    )
  }
  await writeFile(new URL("benchmarks.md", folder), parts.join("\n"))
}
