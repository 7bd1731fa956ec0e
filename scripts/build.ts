/** Builds the JavaScript if a source is newer than the build. `npm run example` and `npm run demo` need it. */
import { globSync, mkdirSync, statSync, utimesSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "tsup"

const root = fileURLToPath(new URL("..", import.meta.url))
const stamp = join(root, ".tmp/built")
const writtenAt = (file: string) => statSync(join(root, file), { throwIfNoEntry: false })?.mtimeMs ?? 0

/** Brings dist/*.js up to date, without declarations: `npm run build` writes both. */
export const buildWhenStale = async (): Promise<void> => {
  const sources = globSync(["src", "src/**/*", "tsup.config.ts", "package.json"], { cwd: root })
  const built = writtenAt("dist/index.js") === 0 ? 0 : writtenAt(".tmp/built")
  if (sources.every((file) => writtenAt(file) <= built)) return
  const started = new Date()
  await build({ silent: true })
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, "")
  // A file saved during the build is newer than the stamp, so the next call builds again.
  utimesSync(stamp, started, started)
}

if (import.meta.main) await buildWhenStale()
