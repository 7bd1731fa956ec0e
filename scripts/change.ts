/**
 * Notes a change for the next release, by changesets, which are in a package.json of scripts/change.
 *
 *     npm run change                  asks for the kind of release and a sentence
 *     npm run change -- version       moves the sentences to CHANGELOG.md and sets the version
 */
import { join } from "node:path"
import { installed, run } from "./installed.ts"

const args = process.argv.slice(2)

run(join(installed("scripts/change"), "node_modules/.bin/changeset"), args)
if (args[0] === "version") {
  run("npm", ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"])
  run("npm", ["run", "--silent", "format"])
}
