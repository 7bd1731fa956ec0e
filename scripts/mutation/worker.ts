/**
 * Runs inside vitest, in a copy of the repository whose modules have mutants compiled in.
 *
 * It loads the given test files once, as suites of its own, and then runs single tests of them, one mutant after
 * another.
 *
 * A mutant may leave fibers behind that disturb later tests. So the worker repeats the test that killed a mutant,
 * without the mutant. If the test fails again, this process ends and another one continues. A watchdog thread kills
 * this process if a test does not return, for example because of an endless loop.
 */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { describe, it, type RunnerTestCase, type RunnerTestSuite, TestRunner } from "vitest"
import type { Baseline, Job, Outcome, Verdict } from "./protocol.ts"

const job: Job = JSON.parse(readFileSync(process.env["MUTATION_JOB"]!, "utf8"))
const results = openSync(job.results, "a")
const report = (outcome: Outcome | Baseline) => writeSync(results, `${JSON.stringify(outcome)}\n`)

/** The active mutant, and the mutants reached since `hits` was cleared. */
let active = job.activeFromLoad ?? -1
const hits = new Uint8Array(job.mutants)
Object.assign(globalThis, {
  $mutant: (mutant: number) => {
    hits[mutant] = 1
    return mutant === active
  }
})
const taken = (): Array<number> => [...hits.keys()].filter((mutant) => hits[mutant] === 1)

// The time at which the watchdog kills this process, in milliseconds since the process started.
const deadline = new BigInt64Array(new SharedArrayBuffer(8))
const allow = (millis: number) => Atomics.store(deadline, 0, BigInt(Math.ceil(performance.now() + millis)))
allow(120_000)
new Worker(
  `const { workerData } = require("node:worker_threads")
   setInterval(() => {
     const now = performance.timeOrigin + performance.now() - workerData.origin
     if (now > Number(Atomics.load(workerData.deadline, 0))) process.kill(process.pid, "SIGKILL")
   }, 100)`,
  { eval: true, workerData: { deadline, origin: performance.timeOrigin } }
).unref()

interface Test {
  readonly id: string
  readonly suites: ReadonlyArray<RunnerTestSuite>
  readonly run: () => unknown
}

const begun = new Set<RunnerTestSuite>()
const runHooks = async (suite: RunnerTestSuite, name: "beforeAll" | "afterAll") => {
  const hooks = TestRunner.getSuiteHooks(suite)
  if (hooks.beforeEach.length + hooks.afterEach.length > 0) throw new Error("beforeEach and afterEach are not run here")
  for (const hook of hooks[name]) await hook(suite)
}

/** Why the last test failed. */
let reason = ""

/** Runs one test. Returns `undefined` if it passes. */
const attempt = async (test: Test, millis: number): Promise<"failed" | "timeout" | undefined> => {
  allow(millis + 3_000)
  for (const suite of test.suites) {
    if (begun.has(suite)) continue
    begun.add(suite)
    allow(millis + 30_000)
    await runHooks(suite, "beforeAll")
    allow(millis + 3_000)
  }
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<"timeout">((resolve) => {
    timer = setTimeout(() => resolve("timeout"), millis)
  })
  const body = async () => {
    try {
      await test.run()
      return undefined
    } catch (error) {
      reason = String(error)
      return "failed" as const
    }
  }
  const outcome = await Promise.race([body(), late])
  clearTimeout(timer)
  return outcome
}

/** Long enough for a slow test on a busy machine, short enough for a test that never ends. */
const patience = (millis: number) => Math.max(1_500, 6 * millis)

const measure = async (tests: ReadonlyMap<string, Test>) => {
  report({ loaded: taken() })
  for (const test of tests.values()) {
    hits.fill(0)
    const began = performance.now()
    // A test that computes for seconds may take minutes while others use the machine.
    const outcome = await attempt(test, 240_000)
    report({ test: test.id, millis: performance.now() - began, outcome, reason, hits: taken() })
  }
}

/** Claims a mutant that no other process has claimed. */
const claim = (mutant: number): boolean => {
  try {
    closeSync(openSync(join(job.claims, String(mutant)), "wx"))
    return true
  } catch {
    return false
  }
}

const tryMutants = async (tests: ReadonlyMap<string, Test>) => {
  /** How often a test killed a mutant of a file. Such a test is tried earlier. */
  const kills = new Map<string, number>()
  const last = performance.now() + job.maxMillis
  let first = true
  for (const { file, mutant, suspects, tests: reaching } of job.work) {
    if (!claim(mutant)) continue
    report({ mutant, began: true })
    const rank = ({ id, millis }: { readonly id: string; readonly millis: number }) =>
      millis / (1 + 4 * (kills.get(`${file} ${id}`) ?? 0))
    const began = performance.now()
    let outcome: Verdict = { mutant, outcome: "survived", millis: 0 }
    let again: string | undefined
    const sound = new Set<string>()
    const unsound = new Set<string>()
    for (const { id, millis } of first ? reaching : []) {
      const test = suspects.includes(id) ? tests.get(id) : undefined
      if (test !== undefined) (await attempt(test, patience(millis)) === undefined ? sound : unsound).add(id)
    }
    for (const { id, millis } of reaching.toSorted((a, b) => rank(a) - rank(b))) {
      const test = tests.get(id)
      if (test === undefined) continue
      if (unsound.has(id)) continue
      active = mutant
      const failure = await attempt(test, patience(millis))
      active = job.activeFromLoad ?? -1
      if (failure === undefined) continue
      kills.set(`${file} ${id}`, (kills.get(`${file} ${id}`) ?? 0) + 1)
      outcome = { mutant, outcome: failure, by: id, millis: 0 }
      if (job.activeFromLoad !== undefined) break
      const start = performance.now()
      const disturbed = await attempt(test, patience(millis))
      if (disturbed !== undefined && !sound.has(id)) again = id
      if (disturbed !== undefined || performance.now() - start > 100 + 3 * millis) {
        outcome = { ...outcome, disturbed: true }
      }
      break
    }
    if (again !== undefined) {
      // Another mutant or test may be to blame. A new process begins with this mutant, and tries the test without it first.
      rmSync(join(job.claims, String(mutant)))
      report({ mutant, again })
      return
    }
    first = false
    report({ ...outcome, millis: performance.now() - began })
    // Another process continues with fresh memory.
    if (outcome.disturbed === true || process.memoryUsage.rss() > 2e9 || performance.now() > last) return
  }
}

// This is the first and the last test: the process ends before vitest runs the imported tests itself.
it("mutation", async ({ task }) => {
  const tests = new Map<string, Test>()
  const collect = (suite: RunnerTestSuite, path: string, suites: ReadonlyArray<RunnerTestSuite>) => {
    for (const child of suite.tasks) {
      // Titles repeat if a loop defines the tests.
      let id = `${path} > ${child.name}`
      if (child.type === "suite") collect(child as RunnerTestSuite, id, [...suites, child as RunnerTestSuite])
      else if (child.mode === "run" || child.mode === "queued") {
        for (let n = 2; tests.has(id); n++) id = `${path} > ${child.name} (${n})`
        tests.set(id, { id, suites, run: () => TestRunner.getTestFn(child as RunnerTestCase)() })
      }
    }
  }
  for (const child of task.file.tasks) {
    if (child.type === "suite") collect(child as RunnerTestSuite, child.name, [child as RunnerTestSuite])
  }
  await (job.work.length === 0 ? measure(tests) : tryMutants(tests))
  report({ ended: true })
  allow(10_000)
  for (const suite of begun) await runHooks(suite, "afterAll")
  process.kill(process.pid, "SIGKILL")
}, 0)

for (const file of job.files) {
  describe(`${file}`, async () => {
    try {
      await import(join(job.root, file))
    } catch (error) {
      if (job.activeFromLoad === undefined) report({ broken: file, error: String(error) })
      else report({ mutant: job.activeFromLoad, outcome: "failed", by: `${file} cannot be loaded`, millis: 0 })
    }
  })
}
