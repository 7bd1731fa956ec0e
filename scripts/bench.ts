/**
 * Runs a program from bench against the built package: `npm run bench`, `npm run soak`.
 *
 * The peers that bench compares with are in a package.json of bench.
 */
import { join } from "node:path"
import { buildWhenStale } from "./build.ts"
import { installed, run } from "./installed.ts"

const [program = "run", ...args] = process.argv.slice(2)

await buildWhenStale()
run(process.execPath, [join(installed("bench"), `${program}.ts`), ...args])
