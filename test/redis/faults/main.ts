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

/** What a fact was in all repetitions: one number, or from which to which. */
const show = (all: ReadonlyArray<number | undefined>): string => {
  const seen = all.filter((value) => value !== undefined).map(Math.round)
  if (seen.length === 0) return ""
  const [least, most] = [Math.min(...seen), Math.max(...seen)]
  return least === most ? String(least) : `${least} to ${most}`
}

let failed = 0
let passed = 0
if (hasRedis) {
  for (const { id, name, run } of chosen) {
    const seen: Array<Facts> = []
    let broken = 0
    for (let i = 1; i <= repeat; i++) {
      const stage = new Stage()
      try {
        seen.push(await run(stage))
      } catch (error) {
        broken++
        const note = String(error).split("\n")[0]!
        seen.push({ runs: stage.observer.runs.length, most: stage.observer.most, note })
        console.error(`${id} ${name}, ${i} of ${repeat}\n`, error)
      } finally {
        await stage.end()
      }
    }
    failed += broken
    passed += repeat - broken
    const verdict = broken > 0
      ? `BROKEN ${broken} of ${repeat}`
      : repeat === 1
      ? "holds"
      : `holds ${repeat} of ${repeat}`
    if (process.stderr.isTTY) console.error(`${id} ${name}: ${verdict}`)
    table.push([
      id,
      name,
      show(seen.map((facts) => facts.runs)),
      show(seen.map((facts) => facts.most)),
      show(seen.map((facts) => facts.results)),
      show(seen.map((facts) => facts.failures)),
      show(seen.map((facts) => facts.delay)),
      seen.findLast((facts) => facts.note !== undefined)?.note ?? "",
      verdict
    ])
  }
  console.log(table.toString())
}
cleanUp()
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
