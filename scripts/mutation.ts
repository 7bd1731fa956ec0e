/**
 * Mutation testing of `src`: makes one small change to the code at a time and checks that a test fails.
 *
 *     npm run test:mutation
 *     npm run test:mutation -- --room waits --sample 300 --seed 2
 *     npm run test:mutation -- --file internal/gcra.ts --all
 *
 * It draws a sample from each room and measures which tests reach which mutant. Then it runs those tests, the fastest
 * first, until one fails. It tries each survivor once more in a process of its own. It works on a copy of the repository
 * in a temporary directory. It prints the surviving mutants and writes all results to .tmp/mutation.json.
 * scripts/mutation/equivalents.json lists mutants that no test can kill.
 */
import Table from "cli-table3"
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { dirname, join, normalize } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import ts from "typescript"
import { type Identity, instrument, type Mutant, sitesOf } from "./mutation/mutants.ts"
import type { Baseline, Job, Outcome, Verdict } from "./mutation/protocol.ts"
import { type Room, roomOf, rooms } from "./mutation/rooms.ts"
import { writePage } from "./page.ts"

interface Equivalent extends Identity {
  readonly reason: string
}

interface Drawn {
  readonly room: Room
  readonly mutant: Mutant
}

const root = fileURLToPath(new URL("..", import.meta.url))
const lists = "scripts/mutation/equivalents.json"

/** Excluded test files: they test whole processes or documents, or nothing in `src`. */
const leftOut =
  /^test\/(redis\/(faults|chaos|demo)|demo|progress|examples|hovers|docs|quotes|architecture|compared)[^/]*\.test\.ts$/

/**
 * Excluded files of `src`: the first is a build, the others run only in a browser or in a process with a terminal. What a
 * chart shows is data, in series.ts: chart.ts draws it.
 */
const untested = new Set([
  "internal/dashboard/bundle.ts",
  "internal/dashboard/page/chart.ts",
  "internal/dashboard/page/dom.ts",
  "internal/dashboard/page/main.ts",
  "progress.ts"
])

/** One vitest process with one worker. The process ends when its worker ends. */
const runVitest = async () => {
  const { startVitest } = await import("vitest/node")
  const src = join(process.cwd(), "src/")
  await startVitest([], {
    config: false,
    root: process.cwd(),
    include: ["scripts/mutation/worker.ts"],
    watch: false,
    pool: "forks",
    execArgv: ["--expose-gc"],
    isolate: false,
    fileParallelism: false,
    reporters: ["dot"],
    silent: true,
    testTimeout: 0,
    hookTimeout: 0
  }, {
    cacheDir: join(process.cwd(), ".cache"),
    resolve: {
      alias: [
        { find: /^effect-funnel$/, replacement: `${src}index.ts` },
        { find: /^effect-funnel\/(.*)$/, replacement: `${src}$1.ts` }
      ]
    }
  })
}

const keyOf = ({ code, file, mutation, within }: Identity): string => JSON.stringify([file, within, code, mutation])

/** Draws mutants by hash, so that a change of one line does not change the draw elsewhere. */
const draw = (mutants: ReadonlyArray<Mutant>, seed: string, count: number): ReadonlyArray<Mutant> => {
  const seen = new Map<string, number>()
  return mutants.map((mutant) => {
    const key = keyOf(mutant)
    const nth = (seen.get(key) ?? 0) + 1
    seen.set(key, nth)
    return { mutant, rank: createHash("sha256").update(`${seed} ${nth} ${key}`).digest("hex") }
  }).toSorted((a, b) => a.rank < b.rank ? -1 : 1).slice(0, count).map(({ mutant }) => mutant)
}

/** Returns the files of `src` that a test file loads, as paths below `src`. */
const loadedBy = (test: string): ReadonlySet<string> => {
  const reached = new Set<string>()
  const visit = (path: string) => {
    if (reached.has(path) || !existsSync(join(root, path))) return
    reached.add(path)
    // The compiler's own list of imports lacks `export * as`.
    for (const [, fileName] of readFileSync(join(root, path), "utf8").matchAll(/\b(?:from|import)[ (]*"([^"]+)"/g)) {
      if (fileName === undefined) continue
      if (fileName === "effect-funnel") visit("src/index.ts")
      else if (fileName.startsWith("effect-funnel/")) visit(`src/${fileName.slice("effect-funnel/".length)}.ts`)
      else if (fileName.startsWith(".")) visit(normalize(join(dirname(path), fileName)).replace(/\.js$/, ".ts"))
    }
  }
  visit(test)
  return new Set([...reached].filter((_) => _.startsWith("src/")).map((_) => _.slice("src/".length)))
}

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      "sample": { type: "string", default: "100" },
      "all": { type: "boolean", default: false },
      "seed": { type: "string", default: "1" },
      "room": { type: "string", multiple: true },
      "file": { type: "string", multiple: true },
      "at-least": { type: "string", default: "85" },
      "workers": { type: "string", default: String(availableParallelism()) }
    }
  })
  for (const room of values.room ?? []) {
    if (!rooms.some((_) => _ === room)) throw new Error(`no room "${room}"; there are ${rooms.join(", ")}`)
  }
  const began = performance.now()
  const say = (text: string) => console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${text}`)

  const equivalents: ReadonlyArray<Equivalent> = JSON.parse(readFileSync(join(root, lists), "utf8"))
  const known = new Set(equivalents.map(keyOf))
  await writePage()
  const files = globSync("**/*.ts", { cwd: join(root, "src") }).filter((_) => !untested.has(_)).toSorted()
  const modules = new Map(files.map((file) => {
    const text = readFileSync(join(root, "src", file), "utf8")
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
    return [file, { source, sites: sitesOf(file, source) }]
  }))
  const every = [...modules.values()].flatMap(({ sites }) => sites.map(({ mutant }) => mutant))
  const there = new Set(every.map(keyOf))
  const stale = equivalents.filter((_) => !there.has(keyOf(_)))
  for (const { code, file, mutation } of stale) console.error(`${lists}: src/${file} has no "${code}" → "${mutation}"`)

  const drawn: Array<Drawn> = []
  for (const room of rooms) {
    if (values.room !== undefined && !values.room.includes(room)) continue
    const candidates = every.filter(({ file }) =>
      roomOf(file) === room && (values.file === undefined || values.file.some((_) => file === _ || `src/${file}` === _))
    ).filter((mutant) => !known.has(keyOf(mutant)))
    for (const mutant of draw(candidates, values.seed, values.all ? Infinity : Number(values.sample))) {
      drawn.push({ room, mutant })
    }
  }
  if (drawn.length === 0) throw new Error("there is nothing to mutate")

  // Copy the repository, with the sampled mutants compiled in.
  const copy = mkdtempSync(join(tmpdir(), "effect-funnel-mutation-"))
  // PostgreSQL runs as another user where this one is root, and its directory is in here.
  chmodSync(copy, 0o711)
  const children = new Set<ChildProcess>()
  const end = () => {
    for (const { pid } of children) {
      try {
        process.kill(-pid!, "SIGKILL")
      } catch {
        // The process has already ended.
      }
    }
    rmSync(copy, { recursive: true, force: true, maxRetries: 3 })
  }
  process.on("exit", end)
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))
  for (const path of ["src", "test", "scripts", "examples", "docs", "README.md", "package.json", "tsconfig.json"]) {
    cpSync(join(root, path), join(copy, path), { recursive: true })
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
  for (const folder of ["claims", "tmp"]) mkdirSync(join(copy, folder))
  const numbers = new Map(drawn.map(({ mutant }, number) => [mutant, number]))
  for (const [file, { sites, source }] of modules) {
    writeFileSync(join(copy, "src", file), instrument(source, sites, ({ mutant }) => numbers.get(mutant)))
  }
  const tests = globSync("test/**/*.test.ts", { cwd: root }).filter((_) => !leftOut.test(_)).toSorted()

  let jobs = 0
  /** Runs one process to its end and returns its messages, and the end of what it printed. */
  const run = async (
    job: Pick<Job, "files" | "work" | "activeFromLoad">
  ): Promise<{ readonly lines: ReadonlyArray<Baseline | Outcome>; readonly errors: string }> => {
    const results = join(copy, `results-${++jobs}`)
    const path = join(copy, `job-${jobs}.json`)
    const whole: Job = {
      ...job,
      root: copy,
      mutants: drawn.length,
      claims: join(copy, "claims"),
      results,
      maxMillis: 900_000
    }
    writeFileSync(path, JSON.stringify(whole))
    writeFileSync(results, "")
    const child = spawn(process.execPath, [join(copy, "scripts/mutation.ts")], {
      cwd: copy,
      detached: true,
      env: { ...process.env, MUTATION_JOB: path, TMPDIR: join(copy, "tmp"), NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let errors = ""
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on("data", (chunk: Buffer) => {
        errors = (errors + chunk).slice(-4000)
      })
    }
    children.add(child)
    const kill = () => {
      try {
        process.kill(-child.pid!, "SIGKILL")
      } catch {
        // All of it has ended.
      }
    }
    // Vitest itself may wait for what its worker left behind, and so may a redis-server.
    let told = 0
    let silent = 0
    const watch = setInterval(() => {
      const { size } = statSync(results)
      silent = size === told ? silent + 1 : 0
      told = size
      if (silent >= (readFileSync(results, "utf8").endsWith("{\"ended\":true}\n") ? 15 : 300)) kill()
    }, 1_000)
    await new Promise((resolve) => child.on("exit", resolve))
    clearInterval(watch)
    children.delete(child)
    kill()
    const lines: ReadonlyArray<Baseline | Outcome> = readFileSync(results, "utf8").split("\n").filter((_) => _ !== "")
      .map((_) => JSON.parse(_))
    return { lines, errors }
  }
  const workers = Math.max(1, Number(values.workers))
  const inParallel = (task: (worker: number) => Promise<void>) =>
    Promise.all(Array.from({ length: workers }, (_, worker) => task(worker)))

  // Measure which test reaches which mutant, and how long it takes.
  say(`${drawn.length} mutants of ${every.length}; measuring ${tests.length} test files`)
  const reaching = drawn.map((): Array<{ readonly id: string; readonly millis: number }> => [])
  const millisOf = new Map<string, number>()
  const atLoad = new Set<number>()
  const reach = new Map(tests.map((test) => [test, loadedBy(test)]))
  const measured = tests.filter((test) => drawn.some(({ mutant }) => reach.get(test)!.has(mutant.file)))
  await inParallel(async (worker) => {
    const { errors, lines } = await run({ files: measured.filter((_, i) => i % workers === worker), work: [] })
    for (const line of lines) {
      if ("broken" in line) throw new Error(`${line.broken} cannot be loaded: ${line.error}`)
      if ("loaded" in line) { for (const mutant of line.loaded) atLoad.add(mutant) }
      if (!("test" in line)) continue
      if (line.outcome !== undefined) say(`skipped, because it fails without a mutant: ${line.test} (${line.reason})`)
      else {
        millisOf.set(line.test, line.millis)
        for (const mutant of line.hits) reaching[mutant]!.push({ id: line.test, millis: line.millis })
      }
    }
    if (!lines.some((_) => "ended" in _)) {
      throw new Error(`measuring ended early: ${JSON.stringify(lines.at(-1))}\n${errors}`)
    }
  })
  const fileOf = (id: string) => id.slice(0, id.indexOf(" > "))
  const suspects = drawn.map((): Array<string> => [])
  const work = drawn.map(({ mutant: { file } }, mutant) => ({
    mutant,
    file,
    suspects: suspects[mutant]!,
    tests: reaching[mutant]!
  }))
  const total = [...millisOf.values()].reduce((sum, _) => sum + _, 0)
  say(`${millisOf.size} tests take ${(total / 1000).toFixed(0)} s`)

  // Try one mutant after another, in one process per core.
  const verdicts = new Map<number, Verdict>()
  const settle = (verdict: Verdict) => {
    const before = verdicts.size
    verdicts.set(verdict.mutant, verdict)
    if (verdicts.size > before && verdicts.size % 25 === 0) say(`${verdicts.size} of ${drawn.length}`)
    if (verdict.outcome !== "survived") return
    const { code, file, line, mutation } = drawn[verdict.mutant]!.mutant
    say(`survived: src/${file}:${line}  ${code} → ${mutation}`)
  }
  for (const { mutant, tests } of work) if (tests.length === 0) settle({ mutant, outcome: "survived", millis: 0 })
  await inParallel(async (worker) => {
    while (true) {
      const open = work.filter(({ mutant }) =>
        !verdicts.has(mutant) && !existsSync(join(copy, "claims", String(mutant)))
      )
      if (open.length === 0) return
      const files = measured.filter((file) => open.some(({ tests }) => tests.some(({ id }) => fileOf(id) === file)))
      const { errors, lines } = await run({ files, work: worker % 2 === 0 ? open : open.toReversed() })
      const begun = new Set<number>()
      for (const line of lines) {
        if (!("mutant" in line)) continue
        if ("began" in line) begun.add(line.mutant)
        else if ("again" in line) {
          begun.delete(line.mutant)
          suspects[line.mutant]!.push(line.again)
        } else {
          begun.delete(line.mutant)
          settle(line)
        }
      }
      // The watchdog thread has ended the process.
      for (const mutant of begun) settle({ mutant, outcome: "timeout", millis: 0 })
      if (begun.size === 0 && !lines.some((_) => "ended" in _)) {
        throw new Error(`a worker ended without a reason:\n${errors}`)
      }
    }
  })

  // What ran before in a process, a cache that is filled for one, may hide what a mutant does: each survivor is tried
  // once more, in a process of its own. If loading the modules reaches it, it is active from then on.
  const left = work.filter(({ mutant, tests }) =>
    verdicts.get(mutant)!.outcome === "survived" && (tests.length > 0 || atLoad.has(mutant))
  )
  if (left.length > 0) say(`${left.length} mutants are tried alone`)
  await inParallel(async () => {
    for (let task = left.pop(); task !== undefined; task = left.pop()) {
      const { file, mutant } = task
      const fromLoad = atLoad.has(mutant)
      const tests = !fromLoad
        ? task.tests
        : [...millisOf].filter(([id]) => reach.get(fileOf(id))!.has(file)).map(([id, millis]) => ({ id, millis }))
      const files = measured.filter((name) => tests.some(({ id }) => fileOf(id) === name))
      let verdict: Verdict | undefined
      while (verdict === undefined) {
        rmSync(join(copy, "claims", String(mutant)), { force: true })
        const { errors, lines } = await run({
          files,
          activeFromLoad: fromLoad ? mutant : undefined,
          work: [{ mutant, file, suspects: task.suspects, tests }]
        })
        verdict = lines.find((_): _ is Verdict => "outcome" in _ && "mutant" in _)
        if (lines.length === 0) {
          // The body of a `describe` has thrown, and vitest runs nothing.
          if (!fromLoad || !errors.includes("no tests")) throw new Error(`a worker ended before it began:\n${errors}`)
          verdict = { mutant, outcome: "failed", by: "a test file cannot be loaded", millis: 0 }
        }
        const again = lines.find((_) => "again" in _)
        if (again !== undefined) task.suspects.push(again.again)
        else verdict ??= { mutant, outcome: "timeout", millis: 0 }
      }
      settle(verdict)
    }
  })

  const table = new Table({
    head: ["room", "mutants", "tried", "killed", "timeouts", "survived", "score"],
    colAligns: ["left", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true }
  })
  const atLeast = Number(values["at-least"])
  const low: Array<Room> = []
  for (const room of rooms) {
    const own = [...drawn.keys()].filter((_) => drawn[_]!.room === room)
    if (own.length === 0) continue
    const count = (outcome: Verdict["outcome"]) => own.filter((_) => verdicts.get(_)!.outcome === outcome).length
    const score = 100 * (1 - count("survived") / own.length)
    if (score < atLeast) low.push(room)
    const mutants = every.filter(({ file }) => roomOf(file) === room).length
    table.push([
      room,
      mutants,
      own.length,
      count("failed"),
      count("timeout"),
      count("survived"),
      `${score.toFixed(1)} %`
    ])
    for (const number of own) {
      if (verdicts.get(number)!.outcome !== "survived") continue
      const { code, file, line, mutation, within } = drawn[number]!.mutant
      const none = reaching[number]!.length === 0 && !atLoad.has(number) ? "  (no test reaches it)" : ""
      console.log(`src/${file}:${line}  ${within}\n    ${code}\n  → ${mutation}${none}`)
    }
  }
  mkdirSync(join(root, ".tmp"), { recursive: true })
  const outcomes = drawn.map(({ mutant, room }, number) => ({
    room,
    ...mutant,
    ...verdicts.get(number)!,
    reachedBy: reaching[number]!.length
  }))
  writeFileSync(join(root, ".tmp/mutation.json"), JSON.stringify(outcomes, undefined, 2))
  console.log(`\n${table}`)
  say(`seed ${values.seed}, ${drawn.length} mutants, ${equivalents.length} known to be equivalent`)
  if (low.length > 0) console.error(`below ${atLeast} %: ${low.join(", ")}`)
  if (low.length > 0 || stale.length > 0) process.exitCode = 1
}

if (process.env["MUTATION_JOB"] === undefined) await main()
else {
  await runVitest()
  process.exit()
}
