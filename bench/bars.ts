/** The targets of the benchmarks, each judged by figures of the same run. */
import type { Figure } from "./harness.ts"
import type { Bar, Parts } from "./report.ts"

const schedule = "fibers + Funnel Scheduler.schedule"
const reduce = "Funnel Reducer.reduce"
const forEach = "Funnel Scheduler.forEach"
const bare = "a bare callback, the fibers alone"

export const judge = (report: Parts): ReadonlyArray<Bar> => {
  const figureOf = (table: string, contender: string, n: number): Figure | undefined =>
    report.tables
      .find((candidate) => candidate.id === table)?.figures
      .find((figure) => figure.contender === contender && figure.n === n)
  /** The ratio of ours to theirs, by wall time and by CPU. */
  const ratio = (table: string, n: number, ours: string, theirs: string, ofOurs = n) => {
    const [a, b] = [figureOf(table, ours, ofOurs), figureOf(table, theirs, n)]
    return {
      value: (a?.median ?? Number.NaN) / (b?.median ?? Number.NaN),
      cpu: (a?.cpu ?? NaN) / (b?.cpu ?? NaN),
      unit: "×"
    }
  }
  const nanos = (table: string, n: number, ours: string, unit: "ns" | "µs") => {
    const figure = figureOf(table, ours, n)
    const scale = unit === "µs" ? 1_000 : 1
    return { value: (figure?.median ?? Number.NaN) / scale, cpu: (figure?.cpu ?? Number.NaN) / scale, unit }
  }
  const heap = (table: string, contender: string) => ({
    value: report.heap.find((row) => row.table === table && row.contender === contender)?.bytes ?? Number.NaN,
    unit: "B"
  })
  const paceOf = (table: string, contender: string) =>
    report.pace.find((candidate) => candidate.id === table)?.rows.find((row) => row.contender === contender)
  const off = (table: string, contender: string, ideal: number | undefined) => {
    const pace = paceOf(table, contender)
    return {
      value: pace === undefined || ideal === undefined ? Number.NaN : (Math.abs(pace.span - ideal) / ideal) * 100,
      unit: "%"
    }
  }
  const most = (table: string) => ({
    value: paceOf(table, "Funnel Scheduler, strict, burst 2")?.most ?? Number.NaN,
    unit: ""
  })
  /** How much the cost per waiter grows when a hundred thousand leave, relative to fibers that wait for nothing. */
  const growth = (contender: string, roomy: boolean) => {
    const grown = (of: string, what: "micros" | "cpu") => {
      const at = (n: number) =>
        report.growth.find((row) => row.contender === of && row.n === n && row.roomy === roomy)?.[what] ?? Number.NaN
      return at(100_000) / at(10_000)
    }
    return {
      value: grown(contender, "micros") / grown(bare, "micros"),
      cpu: grown(contender, "cpu") / grown(bare, "cpu"),
      unit: "×"
    }
  }
  const size = (contender: string) => ({
    value: report.sizes.find((row) => row.contender === contender)?.kilobytes ?? Number.NaN,
    unit: "kB"
  })
  const stalls = report.stalls.filter((stall) => stall.layers !== "none")
  // A caller that interrupts in its own loop blocks the event loop for that long even without Funnel.
  const alone = report.stalls.find((stall) => stall.what === "fibers alone, interrupted")
  const bars: ReadonlyArray<Bar> = [
    {
      what: "joined call, one key, against no dedup in Effect",
      ...ratio("single-flight-one-key", 10_000, reduce, "Effect.forEach, no dedup"),
      bar: 1.35,
      beyond: 1.1
    },
    {
      what: "distinct keys, against no dedup in Effect",
      ...ratio("single-flight-many-keys", 10_000, reduce, "Effect.forEach, no dedup"),
      bar: 3.5,
      beyond: 2.5
    },
    { what: "heap a waiting caller", ...heap("single-flight", reduce), bar: 1_200, beyond: 1_000 },
    ...[false, true].flatMap((roomy) => {
      const where = roomy ? ", in a young generation that holds them" : ""
      const row = (what: string, contender: string) => ({
        what: `interrupting 100,000 ${what} against 10,000, beside bare fibers${where}`,
        ...growth(contender, roomy),
        bar: 1.4,
        beyond: 1.1
      })
      return [row("callers of one key", reduce), row("queued jobs", "Funnel Scheduler.schedule, queued")]
    }),
    {
      what: "Scheduler.forEach, 100,000 jobs, against p-limit",
      ...ratio("limit-100", 100_000, forEach, "p-limit"),
      bar: 0.5
    },
    {
      what: "Scheduler.forEach, 100,000 jobs, against Effect.forEach",
      ...ratio("limit-100", 100_000, forEach, "Effect.forEach({ concurrency: 100 })"),
      bar: 1.25,
      beyond: 1.1
    },
    {
      what: "schedule from 100,000 fibers, against p-limit",
      ...ratio("limit-100", 100_000, schedule, "p-limit"),
      bar: 1.6,
      beyond: 1.3
    },
    {
      what: "schedule from 100,000 fibers, against PartitionedSemaphore",
      ...ratio("limit-100", 100_000, schedule, "fibers + PartitionedSemaphore"),
      bar: 0.25
    },
    (() => {
      const { cpu, unit, value } = ratio("limit-100", 100_000, schedule, schedule, 1_000_000)
      return {
        what: "schedule from 1,000,000 fibers, against 100,000",
        value: value * 10,
        cpu: cpu * 10,
        unit,
        bar: 12.5
      }
    })(),
    {
      what: "a free permit and a conforming cell, against Semaphore.withPermit",
      ...ratio("free-permit", 50_000, "Funnel Scheduler.schedule, width and rate", "Semaphore.withPermit"),
      bar: 1.4,
      beyond: 1.2
    },
    (() => {
      const [on, off] = [nanos("observed", 50_000, "Metrics.layer", "ns"), nanos("observed", 50_000, "nothing", "ns")]
      const what = "a job with Metrics.layer, beyond one without"
      return { what, value: on.value - off.value, cpu: on.cpu - off.cpu, unit: "ns", bar: 60 }
    })(),
    {
      what: "a synchronous effect, distinct keys, against a raw promise map",
      ...ratio("single-flight-synchronous", 10_000, reduce, "raw Map<key, Promise>"),
      bar: 0.9,
      beyond: 0.6
    },
    { what: `a key ["user", id], against a number`, ...ratio("keys", 20_000, `["user", id]`, "a number"), bar: 1.2 },
    {
      what: "a key { tenant, id }, against a number",
      ...ratio("keys", 20_000, "{ tenant, id }", "a number"),
      bar: 1.4
    },
    {
      what: "10 permits, 50,000 waiting jobs: Semaphore against schedule",
      value: report.crowd?.jobs === 50_000 ? report.crowd.semaphore / report.crowd.schedule : Number.NaN,
      unit: "×",
      bar: 300,
      atLeast: true
    },
    { what: "a rate decision, built once", ...nanos("decision", 20_000, "Funnel RateLimiter.consume", "ns"), bar: 350 },
    {
      what: "a rate decision, built per call with one of 1,000 keys",
      ...nanos("decision", 20_000, "Funnel RateLimiter.consume, built per call with one of 1,000 keys", "ns"),
      bar: 350
    },
    ...["Funnel RateLimiter.consume, RateLimitExceeded", "Funnel Scheduler.schedule, QueueFull"].map((contender) => ({
      what: `a refusal, ${contender.split(", ")[1]!}`,
      ...nanos("refusal", 5_000, contender, "µs"),
      bar: 3.5,
      beyond: 1.8
    })),
    {
      what: "200 jobs at 100/s: off the ideal span",
      ...off("pace-100", "Funnel Scheduler", 1_990),
      bar: 1
    },
    {
      what: "200 jobs at 100/s, strict, burst 2: off the ideal span",
      ...off("pace-100", "Funnel Scheduler, strict, burst 2", 1_990),
      bar: 1
    },
    { what: "200 jobs at 100/s, strict, burst 2: most in any second", ...most("pace-100"), bar: 100 },
    { what: "1 job at 0 s and 199 at 0.9 s, strict: most in any second", ...most("pace-late-crowd"), bar: 100 },
    ...[3, 10_000, 50_000].map((limit) => ({
      what: `the pace at ${limit}/s: off the ideal span`,
      ...off(`pace-${limit}`, forEach, report.pace.find((table) => table.id === `pace-${limit}`)?.ideal),
      bar: 1
    })),
    {
      what: "one fiber a look-up, against Effect.request merged in the resolver",
      ...ratio("look-ups", 10_000, "Funnel Batcher.ordered", "Effect.request, merged in the resolver"),
      bar: 1,
      beyond: 0.8
    },
    {
      what: "one fiber a look-up, against the fibers alone",
      ...ratio("look-ups", 10_000, "Funnel Batcher.ordered", "Effect.forEach that only yields"),
      bar: 1.25,
      beyond: 1.1
    },
    {
      what: "loadMany of many keys in one fiber, against DataLoader.loadMany",
      ...ratio("load-many", 10_000, "Funnel Batcher.loadMany", "DataLoader.loadMany"),
      bar: 0.8,
      beyond: 0.5
    },
    ...["Reducer", "RateLimiter", "Scheduler", "Batcher"].map((service) => ({
      what: `code that calls ${service}, minified + gzip`,
      ...size(`calls ${service}`),
      bar: 12
    })),
    {
      what: "a program that calls Reducer and brings its layer",
      ...size("calls Reducer and brings its layer"),
      bar: 20,
      beyond: 17
    },
    {
      what: "a program that calls Scheduler and brings its layer",
      ...size("calls Scheduler and brings its layer"),
      bar: 25,
      beyond: 21
    },
    ...["Funnel Scheduler.forEach, discard", "Funnel Scheduler.stream"].map((contender) => ({
      what: `${contender}, ten million items: spread of resident memory`,
      value: report.memory.find((row) => row.contender === contender)?.spread ?? Number.NaN,
      unit: "MB",
      bar: 30
    })),
    ...stalls.map((stall) => {
      const over = stall.what === "queued jobs, interrupted" ? alone : undefined
      return {
        what: `longest stall, ${stall.jobs.toLocaleString("en-US")} ${stall.what}` +
          (over === undefined ? "" : ", beyond that of bare fibers") + `, layer by ${stall.layers}`,
        // Main thread only: other processes on the machine do not count as a stall.
        value: Math.max(0, stall.cpu - (over?.cpu ?? 0)),
        unit: "ms",
        bar: 50,
        beyond: 16
      }
    }),
    { what: "heap a rate key, live", ...heap("rate-keys", "Funnel RateLimiter, live"), bar: 230 },
    { what: "heap a rate key, at rest", ...heap("rate-keys", "Funnel RateLimiter, at rest"), bar: 0.5 },
    {
      what: "reduce(20 keys, schedule) from 10,000 fibers, against the fibers alone",
      ...ratio("composed", 10_000, "Funnel reduce of schedule", "the fibers alone"),
      bar: 1.6
    }
  ]
  return bars.filter((bar) => !Number.isNaN(bar.value))
}
