/**
 * Measures what it costs to import a module: CPU of a process that only imports it, minus that of an empty one, against
 * `effect/Effect`. The goal for one service is 1.5 times as much. A Batcher also loads `effect/RequestResolver`, which alone
 * costs more. Build the package first.
 *
 *     npm run imports -- --times 21
 */
import Table from "cli-table3"
import { parseArgs } from "node:util"
import { run } from "../bench/tables/imports.ts"

const { values } = parseArgs({ options: { times: { type: "string", default: "11" } } })
const times = Number(values.times)
if (!Number.isSafeInteger(times) || times < 1) throw new RangeError(`imports: --times must be an integer >= 1`)

const table = new Table({
  head: ["import", "CPU", "of effect/Effect"],
  colAligns: ["left", "right", "right"],
  style: { head: [], border: [], compact: true }
})
const imports = run(times)
const effect = imports.find(({ contender }) => contender === "effect/Effect")!.millis
for (const { contender, millis } of imports) {
  const ratio = contender === "node alone" ? "" : (millis / effect).toFixed(2)
  table.push([contender, `${millis.toFixed(0)} ms`, ratio])
}
console.log(table.toString())
