/**
 * The mappings of docs/coming-from.md, measured: the cases of other libraries at their own pace, and here.
 *
 *     npm run pace               prints the table
 *     npm run pace -- --write    writes it into docs/coming-from.md
 */
import Bottleneck from "bottleneck"
import { Effect } from "effect"
import { readFile, writeFile } from "node:fs/promises"
import PQueue from "p-queue"
import pThrottle from "p-throttle"
import { Scheduler } from "./funnel.ts"
import { median } from "./harness.ts"
import { table } from "./report.ts"

type Job = () => Promise<void>

interface Case {
  readonly theirs: string
  readonly here: string
  readonly jobs: number
  /** How long a job takes, in milliseconds. */
  readonly takes?: number
  readonly peer: () => (job: Job) => Promise<unknown>
  readonly options: Omit<Scheduler.Options, "concurrency"> & { readonly concurrency?: number }
  readonly tokens?: number
}

const throttle = (options: { readonly limit: number; readonly interval: number; readonly strict?: boolean }) => () =>
  pThrottle(options)((job: Job) => job())
const heavy = (strict: boolean) => () =>
  pThrottle({ limit: 10, interval: 1000, strict, weight: () => 6 })((job: Job) => job())
const queue = (options: ConstructorParameters<typeof PQueue>[0]) => () => {
  const queue = new PQueue(options)
  return (job: Job) => queue.add(job)
}
const bottleneck = (options: Bottleneck.ConstructorOptions) => () => {
  const limiter = new Bottleneck(options)
  return (job: Job) => limiter.schedule(job)
}
const rate = (limit: number, window: number, burst: number, strict = false) => ({
  rate: { limit, window, burst, strict }
})

const cases: ReadonlyArray<Case> = [
  {
    theirs: "p-throttle `limit: 10, interval: 1000`",
    here: "`limit: 10, window: \"1 second\", burst: 10`",
    jobs: 40,
    peer: throttle({ limit: 10, interval: 1000 }),
    options: rate(10, 1000, 10)
  },
  {
    theirs: "p-throttle the same, `strict: true`",
    here: "`limit: 10, strict: true`",
    jobs: 40,
    peer: throttle({ limit: 10, interval: 1000, strict: true }),
    options: rate(10, 1000, 1, true)
  },
  {
    theirs: "p-throttle the same, `weight: () => 6`",
    here: "`limit: 10, burst: 10, strict: true`, `tokens: 6`",
    jobs: 5,
    peer: heavy(false),
    options: rate(10, 1000, 10, true),
    tokens: 6
  },
  {
    theirs: "p-throttle, `weight: () => 6, strict: true`",
    here: "`limit: 10, burst: 10, strict: true`, `tokens: 6`",
    jobs: 5,
    peer: heavy(true),
    options: rate(10, 1000, 10, true),
    tokens: 6
  },
  {
    theirs: "p-queue `intervalCap: 1000, interval: 1000`",
    here: "`limit: 1000, window: \"1 second\", burst: 1000`",
    jobs: 4000,
    peer: queue({ intervalCap: 1000, interval: 1000 }),
    options: rate(1000, 1000, 1000)
  },
  {
    theirs: "p-queue the same, `strict: true`",
    here: "`limit: 1000, burst: 1000, strict: true`",
    jobs: 4000,
    peer: queue({ intervalCap: 1000, interval: 1000, strict: true }),
    options: rate(1000, 1000, 1000, true)
  },
  {
    theirs: "p-queue `intervalCap: 1, interval: 500, carryoverIntervalCount: true`, jobs of 600 ms",
    here: "`limit: 1, window: \"1 second\"`",
    jobs: 5,
    takes: 600,
    peer: queue({ intervalCap: 1, interval: 500, carryoverIntervalCount: true }),
    options: rate(1, 1000, 1)
  },
  {
    theirs: "Bottleneck `minTime: 100`",
    here: "`limit: 1, window: \"100 millis\"`",
    jobs: 40,
    peer: bottleneck({ minTime: 100 }),
    options: rate(1, 100, 1)
  },
  {
    theirs: "Bottleneck `reservoir: 10, reservoirRefreshAmount: 10, reservoirRefreshInterval: 1000`",
    here: "`limit: 10, window: \"1 second\", burst: 10`",
    jobs: 40,
    peer: bottleneck({ reservoir: 10, reservoirRefreshAmount: 10, reservoirRefreshInterval: 1000 }),
    options: rate(10, 1000, 10)
  },
  {
    theirs:
      "Bottleneck `reservoir: 40, reservoirIncreaseAmount: 2, reservoirIncreaseInterval: 1000, reservoirIncreaseMaximum: 40`",
    here: "`limit: 2, window: \"1 second\", burst: 40`",
    jobs: 48,
    peer: bottleneck({
      reservoir: 40,
      reservoirIncreaseAmount: 2,
      reservoirIncreaseInterval: 1000,
      reservoirIncreaseMaximum: 40
    }),
    options: rate(2, 1000, 40)
  }
]

const last = (starts: ReadonlyArray<number>) => Math.max(...starts) - Math.min(...starts)

const there = async ({ jobs, peer, takes = 0 }: Case): Promise<number> => {
  const starts: Array<number> = []
  const submit = peer()
  await Promise.all(Array.from({ length: jobs }, () =>
    submit(() => {
      starts.push(performance.now())
      return new Promise((resolve) => setTimeout(resolve, takes))
    })))
  return last(starts)
}

const here = ({ jobs, options, takes = 0, tokens = 1 }: Case): Promise<number> => {
  const starts: Array<number> = []
  const program = Effect.gen(function*() {
    const { schedule } = yield* Scheduler.make({ concurrency: "unbounded", ...options })
    const job = schedule(Effect.andThen(Effect.sync(() => void starts.push(performance.now())), Effect.sleep(takes)), {
      tokens
    })
    yield* Effect.forEach(Array.from({ length: jobs }), () => job, { concurrency: "unbounded", discard: true })
    return last(starts)
  })
  return Effect.runPromise(Effect.scoped(program))
}

const seconds = (millis: number) => `${(millis / 1000).toFixed(2)} s`

/** All cases at once: they hardly disturb each other. The first round compiles the code. */
const round = () => Promise.all(cases.map((each) => Promise.all([there(each), here(each)])))
await round()
const rounds = [await round(), await round(), await round()]
const rows = cases.map((each, i) => {
  const theirs = median(rounds.map((round) => round[i]![0]))
  const ours = median(rounds.map((round) => round[i]![1]))
  return {
    theirs: each.theirs,
    here: each.here,
    starts: each.jobs,
    "in, there": seconds(theirs),
    "in, here": seconds(ours),
    difference: `${(100 * (ours / theirs - 1)).toFixed(1)} %`
  }
})
console.table(rows)

if (process.argv.includes("--write")) {
  const page = new URL("../docs/coming-from.md", import.meta.url)
  const [before, rest] = (await readFile(page, "utf8")).split("<!-- npm run pace -->\n")
  const after = rest!.slice(rest!.indexOf("<!-- end -->"))
  await writeFile(page, `${before}<!-- npm run pace -->\n\n${table(rows)}\n\n${after}`)
}
