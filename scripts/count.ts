/**
 * Counts the results that `npm test` and `npm run check` left in .tmp, and prints "N passed, N failed".
 */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Result } from "./check.ts"

interface VitestReport {
  readonly success: boolean
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly testResults: ReadonlyArray<{
    readonly status: string
    readonly assertionResults: ReadonlyArray<{ readonly status: string }>
  }>
}

const root = fileURLToPath(new URL("..", import.meta.url))
const read = <A>(name: string): A | undefined => {
  const path = join(root, ".tmp", name)
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined
}

let passed = 0
let failed = 0

const report = read<VitestReport>("vitest.json")
if (report === undefined) failed++
else {
  // A file that fails to load has no tests to count, so the file itself counts as a failure.
  const broken = report.testResults.filter((file) =>
    file.status === "failed" && !file.assertionResults.some((_) =>
      _.status === "failed"
    )
  ).length
  const unhandled = !report.success && report.numFailedTests + broken === 0 ? 1 : 0
  passed += report.numPassedTests
  failed += report.numFailedTests + broken + unhandled
}

const steps = read<ReadonlyArray<Result>>("check.json")
if (steps === undefined) failed++
for (const { passed: good, step, tests } of steps ?? []) {
  // The step "test" is not counted: its tests are counted above.
  if (step === "test") continue
  passed += tests?.passed ?? 0
  failed += tests?.failed ?? 0
  if (good && tests === undefined) passed++
  if (!good && (tests === undefined || tests.failed === 0)) failed++
}

console.log(`${passed} passed, ${failed} failed`)
if (failed > 0) process.exitCode = 1
