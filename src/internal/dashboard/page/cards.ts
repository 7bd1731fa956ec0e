/**
 * The cards that show the counts and the snapshot alone, and the parts of which every card is made.
 */
import type { Frame } from "../frame.js"
import type { Counts } from "./counts.js"
import { count, decimal, millis, perSecond, plural } from "./format.js"

export type Level = "fine" | "wait" | "bad"

export interface Line {
  readonly label: string
  readonly color: "in" | "out" | "other" | "bad"
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

type Snapshot = Frame["snapshot"]

const flow = (
  title: string,
  [inLabel, rateIn]: readonly [string, number | null],
  [outLabel, rateOut]: readonly [string, number | null]
): Plot => ({
  title,
  lines: [
    { label: inLabel, color: "in", value: rateIn, text: perSecond(rateIn) },
    { label: outLabel, color: "out", value: rateOut, text: perSecond(rateOut) }
  ]
})

/** The most common sizes of batches, by their bounds. */
const sizesOf = (buckets: ReadonlyArray<readonly [bound: number, count: number]>): ReadonlyArray<string> => {
  const parts: Array<string> = []
  let [below, before] = [0, 0]
  for (const [bound, n] of buckets) {
    if (n > before) parts.push(`${bound - below === 1 ? bound : `${below + 1}–${bound}`}: ${count(n - before)}`)
    ;[below, before] = [bound, n]
  }
  return parts.length === 0 ? [] : [`Batches by size, since the start: ${parts.join(", ")}`]
}

export const reducer = (counts: Counts, { inFlight, name }: Snapshot["reducers"][number], i: number): Card => {
  const calls = { id: "reducer.calls", name }
  const [made, ran] = [counts.lately(calls), counts.lately({ ...calls, label: "started" })]
  const run = counts.mean({ id: "reducer.run_time", name })
  const failed = counts.lately({ id: "reducer.run_time", name, label: "failure" })
  const [rateIn, rateOut] = [counts.rate(calls), counts.rate({ ...calls, label: "started" })]
  return {
    id: `reducer ${i} ${name}`,
    kind: "Reducer",
    name,
    level: "fine",
    state: "fine",
    figures: [
      ["in flight", count(inFlight.total)],
      ["calls a run", ran === 0 ? "–" : decimal(made / ran)],
      ["mean run", run === undefined ? "–" : millis(run * 1000)]
    ],
    notes: failed === 0 ? [] : [`${plural(failed, "run")} failed in the last minute`],
    plots: [flow(`Calls and runs of ${name}, a second`, ["calls in", rateIn], ["runs out", rateOut])]
  }
}

export const batcher = (counts: Counts, _: Snapshot["batchers"][number], i: number): Card => {
  const { collecting, longestQueuedMillis: waited, name, queued, running } = _
  const asked = { id: "batcher.requests", name }
  const sizes = { id: "batcher.batch_size", name }
  const mean = counts.mean(sizes)
  const run = counts.mean({ id: "batcher.run_time", name })
  const answered = counts.labels(asked).map((label) => `${label} ${count(counts.lately({ ...asked, label }))}`)
  return {
    id: `batcher ${i} ${name}`,
    kind: "Batcher",
    name,
    level: queued > 0 && waited > 1000 ? "wait" : "fine",
    state: queued > 0 && waited > 1000 ? `a batch waits for its scheduler, ${millis(waited)}` : "fine",
    figures: [
      ["mean batch", mean === undefined ? "–" : decimal(mean)],
      ["running", count(running)],
      ["mean run", run === undefined ? "–" : millis(run * 1000)],
      ["collecting", count(collecting)],
      ["queued", count(queued)],
      ["longest in queue", millis(waited)]
    ],
    notes: [
      ...answered.length === 0 ? [] : [`Look-ups in the last minute: ${answered.join(", ")}`],
      ...sizesOf(counts.buckets(sizes))
    ],
    plots: [
      flow(`Look-ups and batches of ${name}, a second`, ["look-ups in", counts.rate(asked)], [
        "batches out",
        counts.rate(sizes)
      ])
    ]
  }
}

export const budget = (
  counts: Counts,
  { denied, limit, name, tokens }: Snapshot["retryBudgets"][number],
  i: number
): Card => {
  const lately = counts.lately({ id: "retry_budget.denied", name })
  return {
    id: `budget ${i} ${name}`,
    kind: "RetryBudget",
    name,
    level: lately > 0 ? "bad" : tokens < limit / 2 ? "wait" : "fine",
    state: lately > 0 ? "denying retries" : tokens < limit / 2 ? "half spent" : "fine",
    figures: [["tokens", `${decimal(tokens)} of ${count(limit)}`], ["denied", count(denied)], [
      "in the last minute",
      count(lately)
    ]],
    notes: [],
    plots: [{
      title: `Tokens of ${name}`,
      lines: [{ label: "tokens", color: "in", value: tokens, text: decimal(tokens) }]
    }]
  }
}

/** What a store answers is in the metrics alone. */
export const stores = (counts: Counts): ReadonlyArray<Card> =>
  counts.names(["store.commands", "store.policy"]).map((name) => {
    const [commands, errors] = [{ id: "store.commands", name }, { id: "store.errors", name }]
    const policies = counts.labels({ id: "store.policy", name }).map((label) =>
      `${label} ${count(counts.lately({ id: "store.policy", name, label }))}`
    )
    const mean = counts.mean(commands)
    const failed = counts.lately(errors)
    const took = mean === undefined ? null : mean
    return {
      id: `store ${name}`,
      kind: "Store",
      name,
      level: failed > 0 ? "bad" : "fine",
      state: failed > 0 ? "commands fail" : "fine",
      figures: [
        ["commands", perSecond(counts.rate(commands))],
        ["failed", count(failed)],
        ["mean time", took === null ? "–" : millis(took * 1000)]
      ],
      notes: policies.length === 0 ? [] : [`Answered without it in the last minute: ${policies.join(", ")}`],
      plots: [flow(`Commands to the store of ${name}, a second`, ["commands", counts.rate(commands)], [
        "failed",
        counts.rate(errors)
      ])]
    } satisfies Card
  })
