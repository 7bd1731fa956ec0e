/** Every table by name, with the code for one run. A process loads only the modules of the table it measures. */
import { heapEach, measure, type Settings, type Table } from "../harness.ts"
import type { Parts } from "../report.ts"

export const none: Parts = {
  tables: [],
  heap: [],
  pace: [],
  growth: [],
  memory: [],
  sizes: [],
  crowd: undefined,
  stalls: [],
  imports: []
}

export interface Plan {
  /** The result of one run of the table. */
  readonly take: (settings: Settings) => Promise<Partial<Parts>>
  /**
   * The most runs that the figure needs. Timing ratios vary between processes. Counts, and figures far below their
   * bounds, do not.
   */
  readonly runs: number
  readonly execArgv: ReadonlyArray<string>
}

const plan = (take: Plan["take"], runs: number, execArgv: ReadonlyArray<string> = []): Plan => ({
  take,
  runs,
  execArgv
})

const timed = (
  id: string,
  load: () => Promise<{ readonly tables: ReadonlyArray<Table> }>,
  runs = 5
): [string, Plan] => [
  id,
  plan(async (settings) => {
    const { tables } = await load()
    const table = tables.find((table) => table.id === id)
    if (table === undefined) throw new Error(`no table is called ${id}`)
    return { tables: [{ id, title: table.title, figures: await measure(table, settings) }] }
  }, runs)
]

const singleFlight = () => import("./singleFlight.ts")
const limit = () => import("./limit.ts")
const decision = () => import("./decision.ts")
const observed = () => import("./observed.ts")
const lookUps = () => import("./lookups.ts")

const collector = ["--expose-gc"]

const heap: Plan["take"] = async ({ largest }) => {
  const figures: Array<Parts["heap"][number]> = []
  for (const [table, load] of [["single-flight", singleFlight], ["limit-100", limit]] as const) {
    for (const contender of (await load()).heap) {
      figures.push({ table, contender: contender.name, bytes: await heapEach(contender, Math.min(20_000, largest)) })
    }
  }
  return { heap: figures }
}

const pace = (id: string): [string, Plan] => [
  id,
  plan(async (settings) => {
    const { tables } = await import("./pace.ts")
    return { pace: [await tables.get(id)!.take(settings)] }
  }, 3)
]

const growth = (roomy: boolean) => async (settings: Settings) => ({
  growth: await (await import("./growth.ts")).run(settings, roomy)
})

/** Makes the young generation large enough for all turns of any linear contender. The process uses up to 3 GB. */
const roomyHeap = ["--min-semi-space-size=1024", "--max-semi-space-size=1024"]

const stalls = ["bare", "deferred", "completed", "run-closed", "closed", "interrupted", "refused", "granted", "resumed"]

export const plans: ReadonlyMap<string, Plan> = new Map<string, Plan>([
  timed("single-flight-one-key", singleFlight),
  timed("single-flight-many-keys", singleFlight),
  timed("single-flight-synchronous", singleFlight),
  timed("keys", singleFlight),
  timed("composed", singleFlight),
  timed("limit-100", limit),
  timed("free-permit", limit),
  timed("observed", observed),
  timed("decision", decision, 3),
  timed("refusal", decision, 3),
  timed("look-ups", lookUps),
  timed("load-many", lookUps),
  ["heap", plan(heap, 3, collector)],
  [
    "rate-keys",
    plan(
      async ({ largest }) => ({
        heap: (await (await import("./rateKeys.ts")).run(Math.min(200_000, largest)))
          .map((row) => ({ table: "rate-keys", ...row }))
      }),
      3,
      collector
    )
  ],
  pace("pace-100"),
  pace("pace-late-crowd"),
  pace("pace-3"),
  pace("pace-10000"),
  pace("pace-50000"),
  ["growth", plan(growth(false), 5)],
  ["growth-roomy", plan(growth(true), 5, [...collector, ...roomyHeap])],
  ...stalls.map((name): [string, Plan] => [
    `stall-${name}`,
    plan(async ({ largest }) => ({
      stalls: await (await import("./stalls.ts")).run(name, Math.min(200_000, largest))
    }), 3)
  ]),
  ...(["forEach", "stream"] as const).map((contender): [string, Plan] => [
    `memory-${contender}`,
    plan(async ({ largest }) => ({
      memory: [await (await import("./memory.ts")).run(contender, largest * 10)]
    }), 3)
  ]),
  ["size", plan(async () => ({ sizes: await (await import("./size.ts")).run() }), 1)],
  [
    "import",
    plan(async ({ largest }) => ({ imports: (await import("./imports.ts")).run(largest < 1_000_000 ? 1 : 5) }), 1)
  ],
  // Semaphore takes more than a minute, and the figure is far from its bar: one run is enough.
  [
    "crowd",
    plan(async ({ largest }) => ({
      crowd: await (await import("./crowd.ts")).run(largest < 1_000_000 ? 5_000 : 50_000)
    }), 1)
  ]
])
