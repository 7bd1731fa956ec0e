/** Writes docs/overload.md: the guide, then the tables and plots of the lab. */
import { existsSync } from "node:fs"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { cpus } from "node:os"
import { fileURLToPath } from "node:url"
import { curves } from "../plot.ts"
import { table } from "../report.ts"
import { goodputs, type Measured } from "./scenarios.ts"

const docs = new URL("../../docs/", import.meta.url)

const opening = `## The lab

\`npm run overload -- --docs\` runs each scenario below in virtual time, from a seed, and writes this page. Ten jobs run at once
and take 10 ms on average (exponential), so the backend can do 1,000 jobs a second. Callers come independently of each other, for
10 s. A job does not learn that its caller has given up, unless the row says that callers interrupt. All contenders get the same
calls. The jobs of a run may happen to be short or long, so a figure can be up to 2 % above or below what it should be.

\`shed\` notices an overload after an interval: 100 ms, or 500 ms beside this \`maxWait\`. Until then jobs start late, and these
are the longest waits below. Median and p99 are those of the callers that came after the first second. At 2 × and 10 × the
capacity, 99 of 100 jobs that start have then waited for at most twice the target.

A backend that stood still has recovered when no later second has less than 99 % of its calls answered. At 80 % of the capacity
\`shed: true\` alone refuses one call in a thousand, a few of them in the same second by chance: its rows count that as not
recovered. Beside \`maxWait\` it refuses none of them.

What a call costs more than its estimate is known when it ends, and is owed then. So a minute can hold more than the quota, by
what its calls came to owe: over eight seeds the most was 99.4 to 106.9 % with the estimate p95, and 97.0 to 102.1 % with p99,
which leaves a tenth of the quota unused.
`

const page = new URL("overload.md", docs)
const kept = new URL("./real.json", import.meta.url)

interface Real {
  readonly node: string
  readonly cpu: string
  readonly measured: ReadonlyArray<Measured>
}

const sections = (measured: ReadonlyArray<Measured>) =>
  measured.map(({ rows, title }) => `### ${title}\n\n${table(rows)}\n`)

const heading = "## On a real server\n"

const onServer = ({ cpu, measured, node }: Real): ReadonlyArray<string> => [
  `${heading}

\`npm run overload -- --real --docs\` measures the same on the real clock: an HTTP server of Effect in a process of its own, with
ten workers of 40 ms on average and a queue without end, and callers with Effect's HTTP client in another process. The capacity
is the pace of ten callers that always have a request there, measured once, before the loads. A load lasts for 5 s. Node
${node}, ${cpu}, both processes on one machine. Other programs that use the machine change the capacity: only large
differences count.

Some waits of those that started are longer than twice the target, for two reasons. First, \`shed\` does not count a stall of the
callers' own event loop, but this table does: with a load average of 12 on two cores, the p99 was 34 ms above twice the target
in a run whose longest stall was 42 ms, and 151 ms above it in one whose longest stall was 143 ms. Second, 5 ms are little
beside runs of 40 ms, ten at a time: a job starts every 4 ms, so at twice the capacity the queue is often empty by chance. An
empty queue ends the overload, and the next one is noticed an interval later. In virtual time such runs give a p99 of 73 ms with
a target of 5 ms, and of 40 ms with a target of 20 ms.
`,
  ...sections(measured)
]

export const write = async (measured: ReadonlyArray<Measured>, seed: number): Promise<void> => {
  await mkdir(new URL("overload/", docs), { recursive: true })
  const plot = fileURLToPath(new URL("overload/goodput.svg", docs))
  await curves(
    "Answered in time, for callers that wait for 1 s",
    { x: "asked for, in parts of the capacity", y: "answered in time, in parts of the capacity", scale: "linear" },
    await goodputs(seed),
    plot
  )
  const parts = [
    await readFile(new URL("guide.md", import.meta.url), "utf8"),
    opening,
    "![Answers in time over the load: without shed they fall with the load, with shed they stay at the capacity.](overload/goodput.svg)\n",
    ...sections(measured),
    ...existsSync(kept) ? onServer(JSON.parse(await readFile(kept, "utf8"))) : []
  ]
  await writeFile(page, parts.join("\n"))
}

/** Writes the part of the real server anew, and keeps its figures for the next `write`. */
export const writeReal = async (measured: ReadonlyArray<Measured>): Promise<void> => {
  const report: Real = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", measured }
  await writeFile(kept, `${JSON.stringify(report, null, 2)}\n`)
  const [virtual] = (await readFile(page, "utf8")).split(heading)
  await writeFile(page, virtual + onServer(report).join("\n"))
}
