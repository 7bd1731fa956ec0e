/**
 * Runs a program of bench against the package as it is built, with the peers it is compared with: `npm run bench`,
 * `npm run soak`. They have a package.json of their own, so that nobody else installs them.
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
