/**
 * The overload lab: what is left of a backend's capacity when more is asked than it can do.
 *
 *     npm run overload                      prints the table of each scenario
 *     npm run overload -- --only tenants    one scenario
 *     npm run overload -- --seed 7          other arrivals
 *     npm run overload -- --real            the main scenarios on a real HTTP server, in two minutes
 *     npm run overload -- --docs            writes docs/overload.md and its plot; with `--real` the part of the server alone
 */
import { parseArgs } from "node:util"
import { write, writeReal } from "./overload/docs.ts"
import { real } from "./overload/real.ts"
import { type Measured, scenarios } from "./overload/scenarios.ts"

const { values } = parseArgs({
  options: {
    docs: { type: "boolean" },
    only: { type: "string", multiple: true },
    real: { type: "boolean" },
    seed: { type: "string" }
  }
})
const seed = Number(values.seed ?? 1)
if (!Number.isSafeInteger(seed)) throw new RangeError(`overload: --seed must be an integer, got ${values.seed}`)

const print = ({ rows, title }: Measured) => {
  console.log(`\n${title}\n`)
  console.table(rows)
}

if (values.real === true) {
  const measured = await real(seed, print)
  if (values.docs === true) await writeReal(measured)
} else {
  const measured: Array<Measured> = []
  for (const { id, measure, title } of scenarios) {
    if (values.only !== undefined && !values.only.includes(id)) continue
    measured.push({ title, rows: await measure(seed) })
    print(measured.at(-1)!)
  }
  if (values.docs === true) await write(measured, seed)
}
