/**
 * Installs the packages of a folder that has a package.json and a lockfile of its own, such as bench. `npm ci` in the
 * root does not install them, so it stays quick.
 */
import { spawnSync } from "node:child_process"
import { statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const writtenAt = (file: string) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0

/** Runs a program and ends with its status if it fails. */
export const run = (command: string, args: ReadonlyArray<string>): void => {
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" })
  if (status !== 0) process.exit(status ?? 1)
}

/** Returns the path of a folder, given from the root, with what its lockfile names installed. */
export const installed = (name: string): string => {
  const folder = join(root, name)
  const isOld =
    writtenAt(join(folder, "node_modules/.package-lock.json")) < writtenAt(join(folder, "package-lock.json"))
  if (isOld) run("npm", ["--prefix", folder, "ci", "--no-audit", "--no-fund"])
  return folder
}
