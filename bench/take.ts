/** One run of one table, in a process of its own, so that no table is measured on a heap that another has grown. */
import { full, quick } from "./harness.ts"
import { none, plans } from "./tables/all.ts"

const [name = "", speed, run] = process.argv.slice(2)
const plan = plans.get(name)
if (plan === undefined || process.send === undefined) {
  throw new Error(`bench/take.ts is started by bench/run.ts with the name of a table, not with ${JSON.stringify(name)}`)
}
const parts = await plan.take({ ...(speed === "quick" ? quick : full), run: Number(run) })
// A contender may have left a timer behind, and is not waited for.
process.send({ ...none, ...parts }, () => process.exit(0))
