/**
 * Compares Funnel with the closest parts of effect by running both.
 *
 *     npm run compare
 *     npm run compare -- --write     also writes docs/compared-with-effect.md
 *
 * Every row is a small program. The script runs it once with a part of effect and once with Funnel, and the table shows
 * the results. The script exits with 1 if Funnel does not do what it promises. It only reports effect's behaviour: if a
 * later effect behaves like Funnel, the row shows it.
 */
import Table from "cli-table3"
import { execFileSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { buildWhenStale } from "./build.ts"
import type { Row } from "./compare/row.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const { values: flags } = parseArgs({ options: { write: { type: "boolean", default: false } } })

await buildWhenStale()
const behaviours = [
  ...(await import("./compare/behaviours.ts")).rows,
  ...(await import("./compare/requests.ts")).rows
]
const figures = (await import("./compare/figures.ts")).rows

interface Compared {
  readonly row: Row
  readonly effect: string
  readonly funnel: string
}

const broken: Array<string> = []
const compare = async (rows: ReadonlyArray<Row>): Promise<ReadonlyArray<Compared>> => {
  const compared: Array<Compared> = []
  for (const row of rows) {
    const effect = await row.effect()
    const { holds, seen } = await row.funnel()
    if (!holds) broken.push(`${row.part}, ${row.what}: Funnel: ${seen}`)
    compared.push({ row, effect, funnel: seen })
  }
  return compared
}

const plain = (text: string) => text.replaceAll("`", "")
const print = (title: string, rows: ReadonlyArray<Compared>) => {
  const table = new Table({
    head: [title, "", "effect", "Funnel"],
    style: { head: [], border: [], compact: true },
    colWidths: [22, 44, 28, 28],
    wordWrap: true
  })
  for (const { effect, funnel, row } of rows) {
    table.push([plain(row.part), plain(row.what), plain(effect), plain(funnel)])
  }
  console.log(table.toString())
}

const markdown = (rows: ReadonlyArray<Compared>, tests: boolean) => {
  const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  const head = ["part of `effect`", "scenario", "`effect`", "Funnel", ...tests ? ["verified by"] : []]
  return [
    line(head),
    line(head.map(() => "---")),
    ...rows.map(({ effect, funnel, row }) =>
      line([row.part, row.what, effect, funnel, ...tests ? [`[${row.test}](../${row.test})`] : []])
    )
  ].join("\n")
}

const did = await compare(behaviours)
print("behaviour", did)
const took = await compare(figures)
print("cost", took)

if (flags.write) {
  const { version } = JSON.parse(readFileSync(join(root, "node_modules/effect/package.json"), "utf8"))
  const page = `# Compared with effect's own parts

Effect has good parts of its own, and effect-funnel is built on some of them. Use \`Effect.forEach\` with \`concurrency\` for a
list, a \`Semaphore\` for a few permits, a \`Cache\` to keep results, and a \`RequestResolver\` to batch. effect-funnel differs in
three situations: many callers wait, callers are interrupted, or the input is nonsense.

\`npm run compare -- --write\` runs every row below and writes this page. Each row runs once with the closest part of effect and
once with effect-funnel (Funnel in the tables). This page was written with effect ${version} and Node ${process.version}.

## Behaviour

"Waits for ever" means that the call had not ended when nothing was left to run. The tests in the last column verify Funnel's
side with many more cases.

${markdown(did, true)}

Three differences do not fit into a table:

- \`Effect.request\` takes an effect of a resolver. A resolver that is made for each call batches nothing. A resolver of a Batcher
  has \`Scope\` in its requirements, which shows that mistake where you run the program.
- The look-up of a \`Cache\` is fixed when you make the cache. \`Reducer.reduce\` takes the effect with the call.
- A \`Cache\` keeps results. It can do single flight with \`timeToLive: 0\`, but you have to guess a capacity.

## Cost

On ${cpus()[0]?.model.trim() ?? "one machine"}: compare the columns, not the figures with those of another machine.

${markdown(took, false)}
`
  const file = join(root, "docs/compared-with-effect.md")
  writeFileSync(file, page)
  execFileSync(join(root, "node_modules/.bin/dprint"), ["fmt", file], { cwd: root, stdio: "ignore" })
  console.log("wrote docs/compared-with-effect.md")
}

for (const problem of broken) console.error(problem)
process.exitCode = broken.length > 0 ? 1 : 0
