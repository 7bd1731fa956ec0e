/**
 * Chaos at random, from a seed: `npm run test:chaos -- [--minutes 10] [--seed 1] [--seconds 15] [--store redis] [--plan]`.
 *
 * Without `--minutes` it runs one seed; with it, one seed after the other until the time is over. `--plan` prints the plan
 * of the seed, and `--check <file>` judges a record that was kept.
 */
import { rmSync } from "node:fs"
import { dirname } from "node:path"
import { parseArgs } from "node:util"
import { hasPostgres } from "../../support/postgresServer.ts"
import { hasRedis } from "../../support/redisServer.ts"
import { cleanUp, clock } from "../faults/harness.ts"
import { around, check } from "./checker.ts"
import { plan, show, stores } from "./plan.ts"
import { readRecord } from "./record.ts"
import { promised, run } from "./run.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
    seconds: { type: "string", default: "15" },
    places: { type: "string", default: "4" },
    store: { type: "string", default: "redis" },
    plan: { type: "boolean", default: false },
    check: { type: "string" }
  }
})
const number = (name: "minutes" | "seed" | "seconds" | "places", least: number): number => {
  const value = Number(values[name])
  if (!(value >= least) || (name !== "minutes" && !Number.isInteger(value))) {
    throw new RangeError(`--${name} must be a number >= ${least}, got ${values[name]}`)
  }
  return value
}
const first = number("seed", 1)
const millis = number("seconds", 1) * 1000
const places = number("places", 1)
const store = stores.find((_) => _ === values.store)
if (store === undefined) throw new RangeError(`--store must be ${stores.join(" or ")}, got ${values.store}`)
const until = clock() + number("minutes", 0) * 60_000

let seeds = 0
let broken = 0
if (values.plan) {
  console.log(plan(first, millis, places, store).steps.map(show).join("\n"))
} else if (values.check !== undefined) {
  const violations = check(readRecord(values.check), promised)
  broken = violations.length
  for (const { at, key, rule, what } of violations) console.log(`${at.toFixed(1)} ${rule}: ${key ?? ""} ${what}`)
  console.log(`${broken} violations`)
} else if (store === "redis" ? hasRedis : hasPostgres) {
  do {
    const seed = first + seeds++
    const drawn = plan(seed, millis, places, store)
    const { failed, path, record, violations } = await run(drawn)
    const count = (e: string) => record.filter((_) => _.e === e).length
    const steps = drawn.steps.length
    console.log(
      `seed ${seed}: ${steps} steps, ${count("call")} calls, ${count("run")} runs, ${violations.length} violations`
    )
    for (const what of failed) console.log(`  not done: ${what}`)
    if (violations.length === 0) {
      rmSync(dirname(path), { recursive: true, force: true })
      continue
    }
    broken++
    const [violation] = violations
    for (const { key, rule, what } of violations.slice(0, 10)) console.log(`  ${rule}: ${key ?? ""} ${what}`)
    console.log(`\nThe plan:\n${drawn.steps.map(show).join("\n")}`)
    console.log(`\nThe record around the first violation, at ${violation!.at.toFixed(1)}:`)
    for (const event of around(record, violation!)) console.log(JSON.stringify(event))
    console.log(`\nThe record: ${path}`)
    console.log(
      `The same plan again: npm run test:chaos -- --seed ${seed} --seconds ${
        millis / 1000
      } --places ${places} --store ${store}\n`
    )
  } while (clock() < until)
  console.log(`${seeds - broken} of ${seeds} seeds hold`)
}
cleanUp()
process.exitCode = broken === 0 ? 0 : 1
