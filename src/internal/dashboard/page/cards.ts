/**
 * The cards that show the counts and the snapshot alone, and the parts of which every card is made.
 */
import type { Frame } from "../frame.js"
import type { Counts } from "./counts.js"
import { count, decimal, millis, perSecond, plural, told } from "./format.js"

type Level = "fine" | "wait" | "bad"

export interface Line {
  readonly label: string
  readonly color: "in" | "out" | "bad"
  readonly value: number | null
  readonly text: string
}

export interface Plot {
  /** What it plots, for those who do not see it. */
  readonly title: string
  readonly lines: ReadonlyArray<Line>
  readonly unit?: "s"
}

export interface Card {
  readonly id: string
  readonly kind: string
  readonly name: string
  readonly level: Level
  readonly state: string
  readonly figures: ReadonlyArray<readonly [label: string, value: string]>
  readonly notes: ReadonlyArray<string>
  readonly plots: ReadonlyArray<Plot>
}

/** The state of a service, and how bad it is. */
export type Verdict = readonly [level: Level, state: string]

type Snapshot = Frame["snapshot"]

export const line = (label: string, color: Line["color"], value: number | null, text: string): Line => ({
  label,
  color,
  value,
  text
})

/** A line of what comes in or goes out in a second. */
export const flow = (label: string, color: Line["color"], rate: number | null): Line =>
  line(label, color, rate, perSecond(rate))

/** A wait or a run is one to name when it lasts for so long, and so many times as long as others. */
export const long = { millis: 3000, times: 10 }

export const isLong = (millis: number, mean: number): boolean => millis > long.millis && millis > long.times * mean

/** `runs` has those that are listed, `mean` the seconds that others took. */
const lasts = (runs: ReadonlyArray<{ readonly millis: number }>, mean: number | undefined): number | undefined => {
  const oldest = Math.max(0, ...runs.map((_) => _.millis))
  return isLong(oldest, 1000 * (mean ?? 0)) ? oldest : undefined
}

const orDash = (value: number | undefined, text: (value: number) => string): string =>
  value === undefined ? "–" : text(value)

const time = (seconds: number): string => millis(seconds * 1000)

/** How many batches there were of each size, by the bounds of the sizes. */
const sizesOf = (
  buckets: ReadonlyArray<readonly [bound: number, count: number]>,
  all: number
): ReadonlyArray<string> => {
  const parts: Array<string> = []
  let [below, before] = [0, 0]
  for (const [bound, n] of buckets) {
    if (n > before) parts.push(`${bound - below === 1 ? bound : `${below + 1}–${bound}`}: ${count(n - before)}`)
    ;[below, before] = [bound, n]
  }
  if (all > before) parts.push(`over ${below}: ${count(all - before)}`)
  return told(parts.length > 0 && `Batches by size, since the start: ${parts.join(", ")}`)
}

export const reducer = (counts: Counts, { inFlight, name }: Snapshot["reducers"][number], i: number): Card => {
  const calls = { id: "reducer.calls", name }
  const started = { ...calls, label: "started" }
  const times = { id: "reducer.run_time", name }
  const ran = counts.lately(started)
  const failed = counts.lately({ ...times, label: "failure" })
  const mean = counts.mean(times)
  const oldest = lasts(inFlight.first, mean)
  const [level, state]: Verdict = oldest === undefined ? ["fine", "fine"] : ["wait", `a run lasts ${millis(oldest)}`]
  return {
    id: `reducer ${i} ${name}`,
    kind: "Reducer",
    name,
    level,
    state,
    figures: [
      ["in flight", count(inFlight.total)],
      ["calls a run", ran === 0 ? "–" : decimal(counts.lately(calls) / ran)],
      ["mean run", orDash(mean, time)]
    ],
    notes: told(failed > 0 && `${plural(failed, "run")} failed in the last minute`),
    plots: [{
      title: `Calls and runs of ${name}, a second`,
      lines: [flow("calls in", "in", counts.rate(calls)), flow("runs out", "out", counts.rate(started))]
    }]
  }
}

export const batcher = (counts: Counts, _: Snapshot["batchers"][number], i: number): Card => {
  const { batches, collecting, longestQueuedMillis: waited, name, queued, running } = _
  const asked = { id: "batcher.requests", name }
  const sizes = { id: "batcher.batch_size", name }
  const answered = counts.labels(asked).map((label) => `${label} ${count(counts.lately({ ...asked, label }))}`)
  const mean = counts.mean({ id: "batcher.run_time", name })
  const oldest = lasts(batches.first.filter((batch) => batch.state === "running"), mean)
  const [level, state]: Verdict = oldest !== undefined
    ? ["wait", `a batch runs for ${millis(oldest)}`]
    : waited > 1000
    ? ["wait", `a batch waits for its scheduler, ${millis(waited)}`]
    : ["fine", "fine"]
  return {
    id: `batcher ${i} ${name}`,
    kind: "Batcher",
    name,
    level,
    state,
    figures: [
      ["mean batch", orDash(counts.mean(sizes), decimal)],
      ["running", count(running)],
      ["mean run", orDash(mean, time)],
      ["collecting", count(collecting)],
      ["queued", count(queued)],
      ["longest in queue", millis(waited)]
    ],
    notes: [
      ...told(answered.length > 0 && `Look-ups in the last minute: ${answered.join(", ")}`),
      ...sizesOf(counts.buckets(sizes), counts.total(sizes))
    ],
    plots: [{
      title: `Look-ups and batches of ${name}, a second`,
      lines: [flow("look-ups in", "in", counts.rate(asked)), flow("batches out", "out", counts.rate(sizes))]
    }]
  }
}

export const budget = (
  counts: Counts,
  { denied, limit, name, tokens }: Snapshot["retryBudgets"][number],
  i: number
): Card => {
  const lately = counts.lately({ id: "retry_budget.denied", name })
  const [level, state]: Verdict = lately > 0
    ? ["bad", "denying retries"]
    : tokens < limit / 2
    ? ["wait", "half spent"]
    : ["fine", "fine"]
  return {
    id: `budget ${i} ${name}`,
    kind: "RetryBudget",
    name,
    level,
    state,
    figures: [
      ["tokens", `${decimal(tokens)} of ${count(limit)}`],
      ["denied", count(denied)],
      ["in the last minute", count(lately)]
    ],
    notes: [],
    plots: [{ title: `Tokens of ${name}`, lines: [line("tokens", "in", tokens, decimal(tokens))] }]
  }
}

/** What a store answers is in the metrics alone. */
export const stores = (counts: Counts): ReadonlyArray<Card> =>
  counts.names(["store.commands", "store.policy"]).map((name) => {
    const [commands, errors] = [{ id: "store.commands", name }, { id: "store.errors", name }]
    const policies = counts.labels({ id: "store.policy", name }).map((label) =>
      `${label} ${count(counts.lately({ id: "store.policy", name, label }))}`
    )
    const failed = counts.lately(errors)
    return {
      id: `store ${name}`,
      kind: "Store",
      name,
      level: failed > 0 ? "bad" : "fine",
      state: failed > 0 ? "commands fail" : "fine",
      figures: [
        ["commands", perSecond(counts.rate(commands))],
        ["failed", count(failed)],
        ["mean time", orDash(counts.mean(commands), time)]
      ],
      notes: told(policies.length > 0 && `Answered without it in the last minute: ${policies.join(", ")}`),
      plots: [{
        title: `Commands to the store of ${name}, a second`,
        lines: [flow("commands", "in", counts.rate(commands)), flow("failed", "out", counts.rate(errors))]
      }]
    } satisfies Card
  })
