/**
 * The overload lab: what is left of a backend's capacity when more is asked than it can do.
 *
 *     npm run overload                      prints the table of each scenario
 *     npm run overload -- --only tenants    one scenario
 *     npm run overload -- --seed 7          other arrivals
 */
import { parseArgs } from "node:util"
import { scenarios } from "./overload/scenarios.ts"

const { values } = parseArgs({ options: { only: { type: "string", multiple: true }, seed: { type: "string" } } })
const seed = Number(values.seed ?? 1)
if (!Number.isSafeInteger(seed)) throw new RangeError(`overload: --seed must be an integer, got ${values.seed}`)

for (const { id, measure, title } of scenarios) {
  if (values.only !== undefined && !values.only.includes(id)) continue
  console.log(`\n${title}\n`)
  console.table(await measure(seed))
}
