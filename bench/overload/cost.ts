/** What the options cost: CPU of the main thread for a job that waits, in turns. */
import { Effect } from "effect"
import { Scheduler } from "../funnel.ts"
import { cpuMillis, median } from "../harness.ts"
import { width } from "./callers.ts"

const jobs = 10_000
const waiting = 1000
const rounds = 25
const keys = 10

interface Contender {
  readonly name: string
  readonly options: Omit<Scheduler.Options, "concurrency">
  readonly shared: boolean
}

const contenders: ReadonlyArray<Contender> = [
  { name: "without options", options: {}, shared: false },
  { name: "maxWait", options: { maxWait: 60_000 }, shared: false },
  { name: "shed", options: { shed: { target: 60_000 } }, shared: false },
  { name: "share, ten keys", options: {}, shared: true },
  { name: "maxWait, shed and share", options: { maxWait: 60_000, shed: true }, shared: true }
]

const microseconds = async ({ options, shared }: Contender): Promise<number> => {
  const began = cpuMillis()
  const program = Effect.gen(function*() {
    const scheduler = yield* Scheduler.make({ concurrency: width, ...options })
    const job = (i: number) => scheduler.schedule(Effect.yieldNow, shared ? { share: i % keys } : undefined)
    yield* Effect.forEach(Array.from({ length: jobs }, (_, i) => i), job, { concurrency: waiting, discard: true })
  })
  await Effect.runPromise(Effect.scoped(program))
  return (cpuMillis() - began) / jobs * 1000
}

export interface Cost {
  readonly name: string
  /** CPU for a job, in microseconds. */
  readonly micros: number
  /** How much more that is than without options, in parts of it. */
  readonly more: number
}

export const costs = async (): Promise<ReadonlyArray<Cost>> => {
  const samples = contenders.map((): Array<number> => [])
  for (let round = 0; round <= rounds; round++) {
    // Every second round goes backwards, and the first one compiles the code.
    const order = round % 2 === 0 ? contenders : [...contenders].reverse()
    for (const each of order) {
      const micros = await microseconds(each)
      if (round > 0) samples[contenders.indexOf(each)]!.push(micros)
    }
  }
  const plain = median(samples[0]!)
  return contenders.map(({ name }, i) => ({ name, micros: median(samples[i]!), more: median(samples[i]!) / plain - 1 }))
}
