/**
 * Runs a program from bench against the built package: `npm run bench`, `npm run soak`.
 *
 * The peers that bench compares with are in a package.json of bench, so `npm ci` in the root does not install them.
 */
import { spawnSync } from "node:child_process"
import { statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { buildWhenStale } from "./build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const bench = join(root, "bench")
const [program = "run", ...args] = process.argv.slice(2)
const writtenAt = (file: string) => statSync(join(bench, file), { throwIfNoEntry: false })?.mtimeMs ?? 0

const run = (command: string, args: ReadonlyArray<string>) => {
  const { status } = spawnSync(command, args, { stdio: "inherit" })
  if (status !== 0) process.exit(status ?? 1)
}

await buildWhenStale()
if (writtenAt("node_modules/.package-lock.json") < writtenAt("package-lock.json")) run("npm", ["--prefix", bench, "ci"])
run(process.execPath, [join(bench, `${program}.ts`), ...args])
