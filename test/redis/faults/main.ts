/**
 * Runs the faults and prints what was seen: `npm run test:faults -- [ids…] [--repeat N]`.
 */
import Table from "cli-table3"
import { parseArgs } from "node:util"
import { hasRedis } from "../../support/redisServer.ts"
import { cases, type Facts } from "./cases.ts"
import { cleanUp, Stage } from "./harness.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { repeat: { type: "string", default: "1" } }
})
const repeat = Number(values.repeat)
if (!Number.isInteger(repeat) || repeat < 1) {
  throw new RangeError(`--repeat must be an integer >= 1, got ${values.repeat}`)
}

const chosen = positionals.length === 0
  ? cases
  : cases.filter((_) => positionals.some((id) => _.id === id || _.id.replace(/[a-z]$/, "") === id))

const table = new Table({
  head: ["", "fault", "runs", "most at once", "results", "failures", "delay, ms", "", "verdict"],
  colAligns: ["right", "left", "right", "right", "right", "right", "right", "left", "left"],
  style: { head: [], border: [], compact: true }
})

const show = (value: number | undefined) => value === undefined ? "" : String(Math.round(value))
let failed = 0
let passed = 0
if (hasRedis) {
  for (const { id, name, run } of chosen) {
    for (let i = 1; i <= repeat; i++) {
      const stage = new Stage()
      let seen: Facts = {}
      let verdict = "holds"
      try {
        seen = await run(stage)
        passed++
      } catch (error) {
        failed++
        verdict = "BROKEN"
        seen = { runs: stage.observer.runs.length, most: stage.observer.most, note: String(error).split("\n")[0]! }
        console.error(`${id} ${name}\n`, error)
      } finally {
        await stage.end()
      }
      if (process.stderr.isTTY) console.error(`${id} ${name}: ${verdict}`)
      table.push([
        repeat === 1 ? id : `${id} #${i}`,
        name,
        show(seen.runs),
        show(seen.most),
        show(seen.results),
        show(seen.failures),
        show(seen.delay),
        seen.note ?? "",
        verdict
      ])
    }
  }
  console.log(table.toString())
}
cleanUp()
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
