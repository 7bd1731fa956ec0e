/**
 * Interleaved measurement: contenders of one table take turns in one process, round after round, so that a machine
 * that slows down slows all of them, and what is quoted is the ratio of their medians.
 */
import { Effect } from "effect"

export interface Contender {
  readonly name: string
  /** Does the work once for `n` operations and answers with how much work it did, which must equal `expected(n)`. */
  readonly run: (n: number) => Promise<number>
  /** The most operations that this contender is asked for: some are quadratic. */
  readonly most?: number
}

export interface Table {
  readonly id: string
  readonly title: string
  readonly sizes: ReadonlyArray<number>
  /** The sizes that a bar is drawn from. The others are taken in the first run alone. */
  readonly judged: ReadonlyArray<number>
  /** What every contender has to answer for `n` operations; a function a contender where the work differs by design. */
  readonly expected: (n: number, contender: string) => number
  readonly contenders: ReadonlyArray<Contender>
}

export interface Figure {
  readonly contender: string
  readonly n: number
  /** Nanoseconds an operation. */
  readonly median: number
  /** Nanoseconds of the main thread an operation, the median as well: what its collector does elsewhere is not in it. */
  readonly cpu: number
  readonly low: number
  readonly high: number
  readonly samples: number
}

export interface Settings {
  readonly rounds: number
  readonly sampleMillis: number
  /** The most operations at once. */
  readonly largest: number
  /** Which run it is: the contenders take turns in another order in each. */
  readonly run: number
}

// A sample sees several collections, or it leaves its garbage to whoever comes next. What the compiler and the collector
// have settled for differs more from process to process than from round to round: rather one more run than one more round.
export const full: Settings = { rounds: 2, sampleMillis: 400, largest: 1_000_000, run: 1 }
/** To see that every table can be taken: its figures are no verdict. */
export const quick: Settings = { rounds: 1, sampleMillis: 10, largest: 10_000, run: 1 }

/** Milliseconds that the main thread has worked. */
export const cpuMillis = (): number => {
  const { system, user } = process.threadCpuUsage()
  return (user + system) / 1_000
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** A seeded shuffle: nobody always comes after the same one, whose garbage it would pay for. */
export const shuffled = <A>(values: ReadonlyArray<A>, seed: number): ReadonlyArray<A> => {
  const out = [...values]
  let state = Math.imul(seed, 0x2545f491) | 1
  for (let i = out.length - 1; i > 0; i--) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    const j = (state >>> 0) % (i + 1)
    const value = out[i]!
    out[i] = out[j]!
    out[j] = value
  }
  return out
}

interface Sample {
  readonly wall: number
  readonly cpu: number
}

const sample = async (contender: Contender, n: number, expected: number, millis: number): Promise<Sample> => {
  const start = performance.now()
  const worked = cpuMillis()
  let elapsed = 0
  let operations = 0
  while (elapsed < millis) {
    const work = await contender.run(n)
    if (work !== expected) {
      throw new Error(`${contender.name}: ${n} operations did ${work} pieces of work, not ${expected}`)
    }
    operations += n
    elapsed = performance.now() - start
  }
  return { wall: (elapsed * 1e6) / operations, cpu: ((cpuMillis() - worked) * 1e6) / operations }
}

export const measure = async (table: Table, settings: Settings): Promise<ReadonlyArray<Figure>> => {
  const figures: Array<Figure> = []
  const within = table.sizes.filter((n) => n <= settings.largest)
  // A table of large sizes alone is still taken, at the least of them.
  const sizes = within.length === 0 ? [table.sizes[0]!] : within
  const wanted = sizes.filter((n) => settings.run === 1 || table.judged.includes(n))
  for (const [index, n] of wanted.entries()) {
    const present = table.contenders.filter((contender) => n <= (contender.most ?? Number.POSITIVE_INFINITY))
    const samples = new Map<string, Array<Sample>>(present.map((contender) => [contender.name, []]))
    const take = (contender: Contender, millis: number) =>
      sample(contender, n, table.expected(n, contender.name), millis)
    // A million is a sample of its own. Code is warm by then, and the heap has to be where a bar is drawn from it.
    const large = n >= 1_000_000
    if (!large || index === 0 || table.judged.includes(n)) {
      // The first size has to be compiled as well.
      for (const contender of present) await take(contender, settings.sampleMillis * (index === 0 ? 3 : 1))
    }
    for (let round = 0; round < (large ? 1 : settings.rounds); round++) {
      for (const contender of shuffled(present, settings.run * 100 + round)) {
        samples.get(contender.name)!.push(await take(contender, settings.sampleMillis))
      }
    }
    for (const [name, values] of samples) {
      const walls = values.map(({ wall }) => wall)
      figures.push({
        contender: name,
        n,
        median: median(walls),
        cpu: median(values.map(({ cpu }) => cpu)),
        low: Math.min(...walls),
        high: Math.max(...walls),
        samples: values.length
      })
    }
  }
  return figures
}

export interface HeapContender {
  readonly name: string
  /** Brings `n` operations to where they wait and answers with what lets them go. */
  readonly hold: (n: number) => Promise<() => Promise<void>>
}

/** Bytes of heap when all that can be collected has been: needs `--expose-gc`, and is never taken between timed samples. */
export const settledHeap = async (): Promise<number> => {
  const collect = globalThis.gc
  if (collect === undefined) throw new Error("heap figures need node --expose-gc")
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
  return process.memoryUsage().heapUsed
}

/** Bytes of heap an operation that waits. */
export const heapEach = async (contender: HeapContender, n: number): Promise<number> => {
  await (await contender.hold(1_000))()
  const before = await settledHeap()
  const release = await contender.hold(n)
  const after = await settledHeap()
  await release()
  return (after - before) / n
}

/** A job that ends in the next turn of the event loop, for the promise contenders. */
export const promiseJob = (): Promise<number> => new Promise((resolve) => void setImmediate(() => resolve(1)))

/** One fiber that makes `n` calls in a row. */
export const sequentially = async <E>(
  n: number,
  call: (index: number) => Effect.Effect<unknown, E>
): Promise<number> => {
  let index = 0
  let done = 0
  await Effect.runPromise(
    Effect.whileLoop({
      while: () => index < n,
      body: () => call(index++),
      step: () => {
        done++
      }
    })
  )
  return done
}
