/** Takes one run of one table in its own process, so that no table runs on a heap that another table has grown. */
import { full, quick } from "./harness.ts"
import { none, plans } from "./tables/all.ts"

const [name = "", speed, run] = process.argv.slice(2)
const plan = plans.get(name)
if (plan === undefined || process.send === undefined) {
  throw new Error(`bench/take.ts is started by bench/run.ts with the name of a table, not with ${JSON.stringify(name)}`)
}
const parts = await plan.take({ ...(speed === "quick" ? quick : full), run: Number(run) })
// Exit without waiting: a contender may have left a timer behind.
process.send({ ...none, ...parts }, () => process.exit(0))
