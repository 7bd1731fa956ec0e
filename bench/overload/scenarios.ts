/** The scenarios of the lab, each with its table. */
import { type Backend, offers, serve, type Summary, summary, virtual } from "./callers.ts"
import * as Protectors from "./protectors.ts"
import type { Protector } from "./protectors.ts"
import { limitedOnce, penalized, penalizers, type Send } from "./penalty.ts"
import * as Stall from "./stall.ts"
import { type Crowd, fairness, largeAndSmall } from "./tenants.ts"
import { estimates, quotaUse } from "./tokens.ts"
import * as Width from "./width.ts"

export type Row = Readonly<Record<string, string | number>>

export interface Scenario {
  readonly id: string
  readonly title: string
  readonly measure: (seed: number) => Promise<ReadonlyArray<Row>>
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`
const millis = (value: number) =>
  Number.isNaN(value) ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US")} ms`

const others = [Protectors.pLimit, Protectors.pQueue, Protectors.semaphore]

const funnels = [Protectors.funnel, Protectors.maxWait, Protectors.shed, Protectors.shedAndMaxWait]

interface Goodput {
  readonly backend?: Backend
  readonly load: number
  readonly seconds?: number
  readonly burst?: number
  readonly protectors: ReadonlyArray<Protector>
}

const patience = 1000

export const goodput = async (
  { backend = virtual, burst = 1, load, protectors, seconds = 10 }: Goodput,
  seed: number
): Promise<ReadonlyArray<Row>> => {
  const length = seconds * 1000
  const calls = offers({ backend, load, millis: length, seed, burst })
  const rows: Array<Row> = []
  for (const protector of protectors) {
    const row = ({ answered, goodput, refused, served, waits }: Summary, leaves: boolean): Row => ({
      protector: leaves ? `${protector.name}, callers interrupt` : protector.name,
      "answered in time, of capacity": percent(goodput),
      "of what was asked": percent(served),
      refused: percent(refused),
      "wait, median": millis(waits.median),
      "wait, p99": millis(waits.p99),
      "longest wait": millis(waits.longest),
      "answer, p99": millis(answered.p99)
    })
    for (const leaves of protector === Protectors.funnel ? [false, true] : [false]) {
      const outcomes = await serve({ backend, protector, offers: calls, until: length, patience, leaves })
      rows.push(row(summary(outcomes, patience, length, backend), leaves))
    }
  }
  return rows
}

/** Goodput over the load, for a plot. */
export const goodputs = async (seed: number) => {
  const points: Array<{ readonly series: string; readonly x: number; readonly y: number }> = []
  for (const protector of [Protectors.pLimit, Protectors.funnel, Protectors.maxWait, Protectors.shed]) {
    for (const load of [0.5, 0.8, 1, 1.25, 1.5, 2, 3, 5]) {
      const calls = offers({ load, millis: 10_000, seed })
      const outcomes = await serve({ protector, offers: calls, until: 10_000, patience, leaves: false })
      points.push({ series: protector.name, x: load, y: summary(outcomes, patience, 10_000).goodput })
    }
  }
  return points
}

export const tenants = async (
  protectors: ReadonlyArray<Protector>,
  seed: number,
  crowd: Crowd = largeAndSmall
): Promise<ReadonlyArray<Row>> => {
  const rows: Array<Row> = []
  for (const protector of protectors) {
    const { small, throughput } = await fairness(protector, seed, crowd)
    rows.push({
      protector: protector.name,
      "wait of the nine, median": millis(small.median),
      "p99": millis(small.p99),
      throughput: percent(throughput)
    })
  }
  return rows
}

/** `send` makes the requests of one run. */
export const penalty = async (seed: number, backend: Backend, send: () => Send): Promise<ReadonlyArray<Row>> => {
  const rows: Array<Row> = []
  for (const penalizer of penalizers) {
    const { refused, timedOut, wait } = await penalized(penalizer, seed, backend, send())
    rows.push({
      protector: penalizer.name,
      "callers that wait in vain": timedOut,
      "refused": refused,
      "wait of the refused, median": millis(wait)
    })
  }
  return rows
}

export interface Measured {
  readonly title: string
  readonly rows: ReadonlyArray<Row>
}

export const scenarios: ReadonlyArray<Scenario> = [
  ...[0.8, 1, 2, 10].map((load): Scenario => ({
    id: `load-${load}`,
    title: `${load} × the capacity is asked for, and callers give up after 1 s`,
    measure: (seed) => goodput({ load, protectors: [...load > 2 ? others.slice(0, 2) : others, ...funnels] }, seed)
  })),
  {
    id: "bursts",
    title: "Half of the capacity is asked for, in bursts of 50",
    measure: (seed) => goodput({ load: 0.5, burst: 50, protectors: [Protectors.pQueue, ...funnels] }, seed)
  },
  {
    id: "tenants",
    title: "One tenant brings 10,000 jobs at once, nine others bring ten a second each",
    measure: (seed) => tenants([Protectors.pLimit, Protectors.pQueue, Protectors.funnel, Protectors.share], seed)
  },
  {
    id: "stall",
    title: "A backend at 80 % of its capacity stands still for 5 s, and callers retry",
    measure: async (seed) => {
      const rows: Array<Row> = []
      for (const retries of [Stall.none, Stall.unlimited, Stall.finagle, Stall.budget]) {
        for (const protector of [undefined, Protectors.funnel, Protectors.shed, Protectors.shedAndMaxWait]) {
          const { attempts, seconds } = await Stall.recovery(retries, protector, seed)
          rows.push({
            retries: retries.name,
            protector: protector?.name ?? "none",
            "recovered after": `${seconds} s`,
            "requests a call": attempts.toFixed(2)
          })
        }
      }
      return rows
    }
  },
  {
    id: "penalty",
    title: "A backend asks for a second of silence, and callers give up after half a second",
    measure: (seed) => penalty(seed, virtual, () => limitedOnce(virtual))
  },
  {
    id: "tokens",
    title: "Calls cost tokens, log-normal, of a quota of 100,000 a minute; twice as many come as it pays for",
    measure: async (seed) => {
      const rows: Array<Row> = []
      for (const each of estimates) {
        const { most, used } = await quotaUse(each, seed)
        rows.push({
          "charged at the start": each.name,
          "used, of the quota": percent(used),
          "most in a minute, of the quota": percent(most)
        })
      }
      return rows
    }
  },
  {
    id: "width",
    title: "The backend's workers fall from 20 to 5 and come back, while more jobs wait than can run",
    measure: async (seed) => {
      const rows: Array<Row> = []
      for (const controller of [Width.fixed(20), Width.vegas, Width.gradient2, Width.aimd, Width.funnel]) {
        const { p99, throughput, widths } = await Width.follow(controller, seed)
        rows.push({
          width: controller.name,
          "mean width at 20 / 5 / 20": widths.map((width) => width.toFixed(1)).join(" / "),
          "p99 in the backend at 5": millis(p99),
          "least throughput, of the capacity": percent(throughput)
        })
      }
      return rows
    }
  }
]
