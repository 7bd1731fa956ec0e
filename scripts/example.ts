/** Runs an example against the built package: `npm run example -- reduce`. */
import { spawnSync } from "node:child_process"
import { existsSync, globSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { buildWhenStale } from "./build.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const [name = "", ...args] = process.argv.slice(2)
const file = join(root, "examples", `${basename(name, ".ts")}.ts`)
if (name === "" || !existsSync(file)) {
  const names = globSync("examples/*.ts", { cwd: root }).map((_) => basename(_, ".ts")).toSorted()
  console.error(`npm run example -- <name>, where <name> is one of ${names.join(", ")}`)
  process.exitCode = 1
} else {
  await buildWhenStale()
  process.exitCode = spawnSync(process.execPath, [file, ...args], { stdio: "inherit" }).status ?? 1
}
