/** What the figures have to reach, each judged from the same run. */
import type { Figure } from "./harness.ts"
import type { Bar, Parts } from "./report.ts"

const figureOf = (report: Parts, table: string, contender: string, n: number): number => {
  const found = report.tables
    .find((candidate) => candidate.id === table)?.figures
    .find((figure: Figure) => figure.contender === contender && figure.n === n)
  return found === undefined ? Number.NaN : found.median
}

const heapOf = (report: Parts, table: string, contender: string): number =>
  report.heap.find((row) => row.table === table && row.contender === contender)?.bytes ?? Number.NaN

export const judge = (report: Parts): ReadonlyArray<Bar> => {
  const ratio = (table: string, n: number, ours: string, theirs: string) =>
    figureOf(report, table, ours, n) / figureOf(report, table, theirs, n)
  const reduce = "Funnel Reducer.reduce"
  const schedule = "fibers + Funnel Scheduler.schedule"
  const forEach = "Funnel Scheduler.forEach"
  const cache = "Effect Cache, timeToLive 0"
  const none = "Effect.forEach, no dedup"
  const paceOf = (table: string, contender: string) =>
    report.pace.find((candidate) => candidate.id === table)?.rows.find((row) => row.contender === contender)
  const off = (table: string, contender: string, ideal: number) => {
    const pace = paceOf(table, contender)
    return pace === undefined ? Number.NaN : (Math.abs(pace.span - ideal) / ideal) * 100
  }
  const growth = (contender: string, roomy: boolean) => {
    const at = (n: number) =>
      report.growth.find((row) => row.contender === contender && row.n === n && row.roomy === roomy)?.micros ??
        Number.NaN
    return (at(100_000) * 100_000) / (at(10_000) * 10_000)
  }
  const spread = (contender: string) => report.memory.find((row) => row.contender === contender)?.spread ?? Number.NaN
  const times = "×"
  const bars: ReadonlyArray<Bar> = [
    {
      what: "joined call, one key, against Cache(0)",
      value: ratio("single-flight-one-key", 10_000, reduce, cache),
      bar: 0.6,
      beyond: undefined,
      unit: times
    },
    {
      what: "joined call, one key, against no dedup in Effect",
      value: ratio("single-flight-one-key", 10_000, reduce, none),
      bar: 1.35,
      beyond: 1.1,
      unit: times
    },
    {
      what: "distinct keys, against Cache(0)",
      value: ratio("single-flight-many-keys", 10_000, reduce, cache),
      bar: 0.8,
      beyond: undefined,
      unit: times
    },
    {
      what: "distinct keys, against no dedup in Effect",
      value: ratio("single-flight-many-keys", 10_000, reduce, none),
      bar: 3.5,
      beyond: 2.5,
      unit: times
    },
    {
      what: "heap a waiting caller",
      value: heapOf(report, "single-flight", reduce),
      bar: 1_200,
      beyond: 800,
      unit: "B"
    },
    ...[false, true].flatMap((roomy) => {
      const where = roomy ? ", in a young generation that holds them" : ""
      return [
        {
          what: `interrupting 100,000 callers of one key against 10,000${where}`,
          value: growth(reduce, roomy),
          bar: 15,
          beyond: undefined,
          unit: times
        },
        {
          what: `interrupting 100,000 queued jobs against 10,000${where}`,
          value: growth("Funnel Scheduler.schedule, queued", roomy),
          bar: 15,
          beyond: undefined,
          unit: times
        },
        {
          what: `the same for fibers that wait for nothing${where}`,
          value: growth("a bare callback, the fibers alone", roomy),
          bar: Number.NaN,
          beyond: undefined,
          unit: times
        }
      ]
    }),
    {
      what: "Scheduler.forEach, 100,000 jobs, against p-limit",
      value: ratio("limit-100", 100_000, forEach, "p-limit"),
      bar: 0.8,
      beyond: undefined,
      unit: times
    },
    {
      what: "Scheduler.forEach, 100,000 jobs, against p-queue",
      value: ratio("limit-100", 100_000, forEach, "p-queue"),
      bar: 0.4,
      beyond: undefined,
      unit: times
    },
    {
      what: "Scheduler.forEach, 100,000 jobs, against Effect.forEach",
      value: ratio("limit-100", 100_000, forEach, "Effect.forEach({ concurrency: 100 })"),
      bar: Number.NaN,
      beyond: 1.1,
      unit: times
    },
    {
      what: "schedule from 100,000 fibers, against p-limit",
      value: ratio("limit-100", 100_000, schedule, "p-limit"),
      bar: 2.5,
      beyond: 1.7,
      unit: times
    },
    {
      what: "schedule from 100,000 fibers, against PartitionedSemaphore",
      value: ratio("limit-100", 100_000, schedule, "fibers + PartitionedSemaphore"),
      bar: 0.35,
      beyond: undefined,
      unit: times
    },
    {
      what: "schedule from 1,000,000 fibers, against 100,000",
      value: (figureOf(report, "limit-100", schedule, 1_000_000) / figureOf(report, "limit-100", schedule, 100_000)) *
        10,
      bar: 12,
      beyond: undefined,
      unit: times
    },
    {
      what: "a free permit and a conforming cell, against Semaphore.withPermit",
      value: ratio("free-permit", 50_000, "Funnel Scheduler.schedule, width and rate", "Semaphore.withPermit"),
      bar: 1.75,
      beyond: 1.4,
      unit: times
    },
    {
      what: "a synchronous effect, distinct keys, against a raw promise map",
      value: ratio("single-flight-synchronous", 10_000, reduce, "raw Map<key, Promise>"),
      bar: 0.9,
      beyond: 0.6,
      unit: times
    },
    {
      what: "10 permits, 50,000 waiting jobs: Semaphore against schedule (at least)",
      value: report.crowd?.jobs !== 50_000 ? Number.NaN : -report.crowd.semaphore / report.crowd.schedule,
      bar: -300,
      beyond: undefined,
      unit: times
    },
    {
      what: "a rate decision",
      value: figureOf(report, "decision", "Funnel RateLimiter.consume", 20_000),
      bar: 500,
      beyond: 350,
      unit: "ns"
    },
    {
      what: "a rate decision, against Effect's token bucket",
      value: ratio("decision", 20_000, "Funnel RateLimiter.consume", "Effect RateLimiter, token bucket"),
      bar: 1 / 3,
      beyond: undefined,
      unit: times
    },
    {
      what: "200 jobs at 100/s: off the ideal span",
      value: off("pace-100", "Funnel Scheduler", 1_990),
      bar: 1,
      beyond: undefined,
      unit: "%"
    },
    {
      what: "200 jobs at 100/s, strict, burst 2: off the ideal span",
      value: off("pace-100", "Funnel Scheduler, strict, burst 2", 1_990),
      bar: 2,
      beyond: 1,
      unit: "%"
    },
    {
      what: "200 jobs at 100/s, strict, burst 2: most in any second",
      value: paceOf("pace-100", "Funnel Scheduler, strict, burst 2")?.most ?? Number.NaN,
      bar: 100,
      beyond: undefined,
      unit: ""
    },
    {
      what: "1 job at 0 s and 199 at 0.9 s, strict: most in any second",
      value: paceOf("pace-late-crowd", "Funnel Scheduler, strict, burst 2")?.most ?? Number.NaN,
      bar: 100,
      beyond: undefined,
      unit: ""
    },
    ...[3, 10_000, 50_000].map((limit) => {
      const table = report.pace.find((candidate) => candidate.id === `pace-${limit}`)
      return {
        what: `the pace at ${limit}/s: off the ideal span`,
        value: table?.ideal === undefined ? Number.NaN : off(table.id, "Funnel Scheduler.forEach", table.ideal),
        bar: 1,
        beyond: undefined,
        unit: "%"
      }
    }),
    {
      what: "one fiber a look-up, against Effect.request merged in the resolver",
      value: ratio("look-ups", 10_000, "Funnel Batcher.ordered", "Effect.request, merged in the resolver"),
      bar: 1,
      beyond: 0.85,
      unit: times
    },
    {
      what: "one fiber a look-up, against DataLoader",
      value: ratio("look-ups", 10_000, "Funnel Batcher.ordered", "DataLoader"),
      bar: 4.5,
      beyond: 3,
      unit: times
    },
    {
      what: "loadMany of many keys in one fiber, against DataLoader.loadMany",
      value: ratio("load-many", 10_000, "Funnel Batcher.loadMany", "DataLoader.loadMany"),
      bar: 1,
      beyond: 0.5,
      unit: times
    },
    ...report.sizes.filter((size) => size.contender.startsWith("effect-funnel/")).map((size) => ({
      what: `import of ${size.contender}, minified + gzip`,
      value: size.kilobytes,
      bar: 12,
      beyond: undefined,
      unit: "kB"
    })),
    ...["Funnel Scheduler.forEach, discard", "Funnel Scheduler.stream"].map((contender) => ({
      what: `${contender}: spread of resident memory`,
      value: spread(contender),
      bar: 60,
      beyond: undefined,
      unit: "MB"
    }))
  ]
  return bars.filter((bar) => !Number.isNaN(bar.value))
}
