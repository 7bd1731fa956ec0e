/**
 * The overload lab: what is left of a backend's capacity when more is asked than it can do.
 *
 *     npm run overload                      prints the table of each scenario
 *     npm run overload -- --only tenants    one scenario
 *     npm run overload -- --seed 7          other arrivals
 *     npm run overload -- --docs            writes docs/overload.md and its plot
 */
import { parseArgs } from "node:util"
import { write } from "./overload/docs.ts"
import { type Measured, scenarios } from "./overload/scenarios.ts"

const { values } = parseArgs({
  options: { docs: { type: "boolean" }, only: { type: "string", multiple: true }, seed: { type: "string" } }
})
const seed = Number(values.seed ?? 1)
if (!Number.isSafeInteger(seed)) throw new RangeError(`overload: --seed must be an integer, got ${values.seed}`)

const measured: Array<Measured> = []
for (const { id, measure, title } of scenarios) {
  if (values.only !== undefined && !values.only.includes(id)) continue
  const rows = await measure(seed)
  measured.push({ title, rows })
  console.log(`\n${title}\n`)
  console.table(rows)
}
if (values.docs === true) await write(measured, seed)
