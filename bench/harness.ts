/**
 * Interleaved measurement: the contenders of one table take turns in one process, round after round.
 *
 * If the machine slows down, all contenders slow down. The reports compare the medians as ratios.
 */
import { Effect } from "effect"

export interface Contender {
  readonly name: string
  /** Does the work for `n` operations and returns the amount of work done, which must equal `expected(n)`. */
  readonly run: (n: number) => Promise<number>
  /** The most operations for this contender: some contenders are quadratic. */
  readonly most?: number
}

export interface Table {
  readonly id: string
  readonly title: string
  readonly sizes: ReadonlyArray<number>
  /** The sizes that a target uses. Other sizes are measured in the first run only. */
  readonly judged: ReadonlyArray<number>
  /** The expected work for `n` operations. It may depend on the contender, if its work differs by design. */
  readonly expected: (n: number, contender: string) => number
  readonly contenders: ReadonlyArray<Contender>
}

export interface Figure {
  readonly contender: string
  readonly n: number
  /** Nanoseconds per operation. */
  readonly median: number
  /** Main-thread CPU in nanoseconds per operation, as a median. It excludes the collector's own threads. */
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
  /** The number of the run: each run uses another order of contenders. */
  readonly run: number
}

// A sample must contain several collections, or its garbage slows down the next contender. The state of the compiler
// and the collector varies more between processes than between rounds, so runs matter more than rounds.
export const full: Settings = { rounds: 2, sampleMillis: 400, largest: 1_000_000, run: 1 }
/** Checks that every table can be measured. The figures are too noisy to judge. */
export const quick: Settings = { rounds: 1, sampleMillis: 10, largest: 10_000, run: 1 }

/** CPU time of the main thread in milliseconds. */
export const cpuMillis = (): number => {
  const { system, user } = process.threadCpuUsage()
  return (user + system) / 1_000
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** A seeded shuffle, so that no contender always follows the same one and pays for its garbage. */
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
  // If a table has large sizes only, the smallest of them is measured.
  const sizes = within.length === 0 ? [table.sizes[0]!] : within
  const wanted = sizes.filter((n) => settings.run === 1 || table.judged.includes(n))
  for (const [index, n] of wanted.entries()) {
    const present = table.contenders.filter((contender) => n <= (contender.most ?? Number.POSITIVE_INFINITY))
    const samples = new Map<string, Array<Sample>>(present.map((contender) => [contender.name, []]))
    const take = (contender: Contender, millis: number) =>
      sample(contender, n, table.expected(n, contender.name), millis)
    // A million operations make one sample: the code is warm by then, and the heap must be in the state that the target
    // judges.
    const large = n >= 1_000_000
    if (!large || index === 0 || table.judged.includes(n)) {
      // The first size must be compiled too.
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
  /** Starts `n` operations, waits until all of them are suspended, and returns the function that releases them. */
  readonly hold: (n: number) => Promise<() => Promise<void>>
}

/** Bytes of heap after a full collection. It needs `--expose-gc`, and never runs between timed samples. */
export const settledHeap = async (): Promise<number> => {
  const collect = globalThis.gc
  if (collect === undefined) throw new Error("heap figures need node --expose-gc")
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
  return process.memoryUsage().heapUsed
}

/** Bytes of heap per waiting operation. */
export const heapEach = async (contender: HeapContender, n: number): Promise<number> => {
  await (await contender.hold(1_000))()
  const before = await settledHeap()
  const release = await contender.hold(n)
  const after = await settledHeap()
  await release()
  return (after - before) / n
}

/** A job for the promise contenders that ends in the next turn of the event loop. */
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
