/** Every table by its name, and how one run of it is taken. */
import { heapEach, measure, type Settings } from "../harness.ts"
import type { Parts } from "../report.ts"
import * as Crowd from "./crowd.ts"
import * as Decision from "./decision.ts"
import * as Growth from "./growth.ts"
import * as Limit from "./limit.ts"
import * as LookUps from "./lookups.ts"
import * as Memory from "./memory.ts"
import * as Pace from "./pace.ts"
import * as SingleFlight from "./singleFlight.ts"
import * as Size from "./size.ts"

const timed = [...SingleFlight.tables, ...Limit.tables, ...Decision.tables, ...LookUps.tables]

/** What one run of a table finds. */
type Take = (settings: Settings) => Promise<Parts>

const heaps = [["single-flight", SingleFlight.heap], ["limit-100", Limit.heap]] as const

const takeHeap: Take = async () => {
  const heap: Array<Parts["heap"][number]> = []
  for (const [table, contenders] of heaps) {
    for (const contender of contenders) {
      heap.push({ table, contender: contender.name, bytes: await heapEach(contender, 20_000) })
    }
  }
  return { ...none, heap }
}

export const none: Parts = { tables: [], heap: [], pace: [], growth: [], memory: [], sizes: [], crowd: undefined }

export const takes: ReadonlyMap<string, Take> = new Map<string, Take>([
  ...timed.map(({ id, sizes, title, ...table }): [string, Take] => [
    id,
    async (settings) => {
      const within = sizes.filter((n) => n <= settings.largest)
      return {
        ...none,
        tables: [{ id, title, figures: await measure({ id, title, ...table, sizes: within }, settings) }]
      }
    }
  ]),
  ["heap", takeHeap],
  ...Pace.tables.map((
    { id, take }
  ): [string, Take] => [id, async (settings) => ({ ...none, pace: [await take(settings)] })]),
  ["growth", async (settings) => ({ ...none, growth: await Growth.run(settings.largest, false) })],
  ["growth-roomy", async (settings) => ({ ...none, growth: await Growth.run(settings.largest, true) })],
  ["memory", async (settings) => ({ ...none, memory: await Memory.run(settings.largest * 10) })],
  ["size", async () => ({ ...none, sizes: await Size.run() })],
  ["crowd", async (settings) => ({ ...none, crowd: await Crowd.run(settings.largest > 100_000 ? 50_000 : 10_000) })]
])

/** How the process is started that takes the table; heap figures need the collector at hand. */
export const execArgv = (name: string): Array<string> => [
  "--expose-gc",
  ...(name === "growth-roomy" ? Growth.roomyHeap : [])
]
