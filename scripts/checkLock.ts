/**
 * Checks that the lockfile names no registry, is complete for every platform (otherwise `npm ci` refuses it), and
 * agrees with package.json.
 */
import { readFileSync } from "node:fs"
import { isDeepStrictEqual } from "node:util"

interface Entry {
  readonly resolved?: string
  readonly integrity?: string
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

const read = (name: string) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), "utf8"))

const problems: Array<string> = []
for (const folder of ["", "bench/", "scripts/change/", "scripts/palette/", "site/", "test/runtimes/"]) {
  const lock: Readonly<Record<string, Entry>> = read(`${folder}package-lock.json`).packages
  const manifest: Entry = read(`${folder}package.json`)
  const wrong = (what: string) => problems.push(`${folder}package-lock.json: ${what}`)
  for (const [path, entry] of Object.entries(lock)) {
    if (entry.resolved !== undefined) wrong(`${path} names a registry: .npmrc tells npm to leave it out`)
    if (path !== "" && entry.integrity === undefined) wrong(`${path} has no integrity`)
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      const places = [`${path}/node_modules/${name}`, `node_modules/${name}`]
      if (!places.some((place) => Object.hasOwn(lock, place))) wrong(`${name}, optional for ${path}, is missing`)
    }
  }
  for (const field of ["devDependencies", "peerDependencies"] as const) {
    if (!isDeepStrictEqual(lock[""]![field], manifest[field])) wrong(`${field} differ from package.json`)
  }
}
for (const problem of problems) console.error(problem)
console.log(`${problems.length} problems in the lockfiles`)
if (problems.length > 0) process.exitCode = 1
