/** The scenarios of the lab, each with its table. */
import { offers, serve, type Summary, summary } from "./callers.ts"
import * as Protectors from "./protectors.ts"
import type { Protector } from "./protectors.ts"
import * as Stall from "./stall.ts"
import { fairness } from "./tenants.ts"

export type Row = Readonly<Record<string, string | number>>

export interface Scenario {
  readonly id: string
  readonly title: string
  readonly measure: (seed: number) => Promise<ReadonlyArray<Row>>
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`
const millis = (value: number) => `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US")} ms`

const others = [Protectors.pLimit, Protectors.pQueue, Protectors.semaphore]

const funnels = [Protectors.funnel, Protectors.maxWait, Protectors.shed, Protectors.shedAndMaxWait]

interface Goodput {
  readonly load: number
  readonly burst?: number
  readonly protectors: ReadonlyArray<Protector>
}

const patience = 1000
const length = 10_000

const goodput = async ({ burst = 1, load, protectors }: Goodput, seed: number): Promise<ReadonlyArray<Row>> => {
  const calls = offers({ load, millis: length, seed, burst })
  const rows: Array<Row> = []
  for (const protector of protectors) {
    const row = ({ answered, goodput, refused, waits }: Summary, leaves: boolean): Row => ({
      protector: leaves ? `${protector.name}, callers interrupt` : protector.name,
      "answered in time, of capacity": percent(goodput),
      "of what was asked": percent(goodput / load),
      refused: percent(refused),
      "wait, median": millis(waits.median),
      "wait, p99": millis(waits.p99),
      "answer, p99": millis(answered.p99)
    })
    for (const leaves of protector.promises ? [false] : [false, true]) {
      const outcomes = await serve({ protector, offers: calls, until: length, patience, leaves })
      rows.push(row(summary(outcomes, patience, length), leaves))
    }
  }
  return rows
}

export const scenarios: ReadonlyArray<Scenario> = [
  ...[0.8, 1, 2, 10].map((load): Scenario => ({
    id: `load-${load}`,
    title: `${load} × the capacity is asked for, and callers give up after 1 s`,
    measure: (seed) =>
      goodput({ load, protectors: [...load > 2 ? others.slice(0, 2) : others, ...funnels] }, seed)
  })),
  {
    id: "bursts",
    title: "Half of the capacity is asked for, in bursts of 50",
    measure: (seed) => goodput({ load: 0.5, burst: 50, protectors: [Protectors.pQueue, ...funnels] }, seed)
  },
  {
    id: "tenants",
    title: "One tenant brings 10,000 jobs at once, nine others bring ten a second each",
    measure: async (seed) => {
      const rows: Array<Row> = []
      for (const protector of [Protectors.pLimit, Protectors.pQueue, Protectors.funnel, Protectors.share]) {
        const { small, throughput } = await fairness(protector, seed)
        rows.push({
          protector: protector.name,
          "wait of the nine, median": millis(small.median),
          "p99": millis(small.p99),
          throughput: percent(throughput)
        })
      }
      return rows
    }
  },
  {
    id: "stall",
    title: "A backend at 80 % of its capacity stands still for 5 s, and callers retry",
    measure: async (seed) => {
      const rows: Array<Row> = []
      for (const retries of [Stall.none, Stall.unlimited, Stall.finagle, Stall.grpc]) {
        for (const protector of [undefined, Protectors.funnel, Protectors.shed]) {
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
  }
]
