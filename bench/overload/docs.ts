/** Writes docs/overload.md: the guide, then the tables and plots of the lab. */
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import { curves } from "../plot.ts"
import { table } from "../report.ts"
import { goodputs, type Measured } from "./scenarios.ts"

const docs = new URL("../../docs/", import.meta.url)

const opening = `## The lab

\`npm run overload -- --docs\` runs each scenario below in virtual time, from a seed, and writes this page. Ten jobs run at once
and take 10 ms on average (exponential), so the backend can do 1,000 jobs a second. Callers come independently of each other. A
job does not learn that its caller has given up, unless the row says that callers interrupt. All contenders get the same calls.
A figure above 100 % of the capacity means that the jobs of that run happened to be short.
`

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
    ...measured.map(({ rows, title }) => `### ${title}\n\n${table(rows)}\n`)
  ]
  await writeFile(new URL("overload.md", docs), parts.join("\n"))
}
