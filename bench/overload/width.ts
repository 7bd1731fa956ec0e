/** The capacity of a backend falls from 20 to 5 at once and comes back: which width follows it? */
import { Effect } from "effect"
import { LatencyWidth } from "../../src/internal/scheduler/width.ts"
import { dice, now, quantile, run } from "./world.ts"

/** Decides how many jobs may run, told of each that ends. */
export interface Width {
  readonly limit: number
  /** `started` is how many ran when the job started, itself included, `running` how many are left. */
  readonly ended: (latency: number, started: number, at: number, running: number) => void
}

export interface Controller {
  readonly name: string
  readonly make: () => Width
}

const most = 200

export const fixed = (limit: number): Controller => ({
  name: `fixed at ${limit}`,
  make: () => ({ limit, ended: () => {} })
})

/** Vegas as in Netflix' concurrency-limits: grows while fewer than alpha jobs queue, shrinks when more than beta do. */
export const vegas: Controller = {
  name: "Vegas",
  make: () => {
    let limit = 20
    let least = Infinity
    let probe = 0
    return {
      get limit() {
        return Math.floor(limit)
      },
      ended(latency, running) {
        // The baseline is measured anew now and then.
        if (++probe > 30 * limit) {
          probe = 0
          least = latency
          return
        }
        if (latency < least) {
          least = latency
          return
        }
        if (running * 2 < limit) return
        const queued = Math.ceil(limit * (1 - least / latency))
        const log = Math.max(1, Math.log10(limit))
        if (queued <= log) limit += 6 * log
        else if (queued < 3 * log) limit += log
        else if (queued > 6 * log) limit -= log
        limit = Math.max(1, Math.min(most, limit))
      }
    }
  }
}

/** Gradient2 as in Netflix' concurrency-limits: the long-term mean of latencies over the short-term one. */
export const gradient2: Controller = {
  name: "Gradient2",
  make: () => {
    let limit = 20
    let long = 0
    let samples = 0
    return {
      get limit() {
        return Math.floor(limit)
      },
      ended(latency, running) {
        samples++
        long = samples <= 10 ? (long * (samples - 1) + latency) / samples : long + (latency - long) * 2 / 601
        if (long / latency > 2) long *= 0.95
        if (running < limit / 2) return
        const gradient = Math.max(0.5, Math.min(1, 1.5 * long / latency))
        const next = limit * gradient + 4
        limit = Math.max(1, Math.min(most, limit * 0.8 + next * 0.2))
      }
    }
  }
}

export const funnel: Controller = {
  name: "Funnel, Adaptive.latency",
  make: () => {
    const controller = new LatencyWidth(1, most, 20)
    return {
      get limit() {
        return controller.limit
      },
      ended: (latency, _, at, running) =>
        void controller.succeeded({ startedAt: at - latency, now: at, running, saturated: true })
    }
  }
}

/** Additive increase, multiplicative decrease, where latency beyond a bound counts as overload. */
export const aimd: Controller = {
  name: "AIMD on timeouts of 50 ms",
  make: () => {
    let limit = 20
    let heldUntil = 0
    return {
      get limit() {
        return Math.floor(limit)
      },
      ended(latency, running, at) {
        if (latency > 50) {
          if (at < heldUntil) return
          heldUntil = at + latency
          limit = Math.max(1, limit * 0.9)
        } else if (running >= limit - 1) {
          limit = Math.min(most, limit + 1 / limit)
        }
      }
    }
  }
}

const phase = 20_000
const capacities = [20, 5, 20]
const meanRun = 10

export interface Followed {
  readonly widths: ReadonlyArray<number>
  /** The latency of jobs, their time in the queue excluded, in the second phase. */
  readonly p99: number
  /** Jobs done, in parts of the capacity, the least of the phases. */
  readonly throughput: number
}

/** More jobs wait at any time than may run. */
export const follow = ({ make }: Controller, seed: number, dist = "lognormal"): Promise<Followed> => {
  const width = make()
  const { exponential, normal, uniform } = dice(seed)
  // Log-normal around a mean of 10 ms, most of them between 4 and 20 ms.
  const takes = () =>
    dist === "lognormal"
      ? meanRun * Math.exp(0.5 * normal() - 0.125)
      : dist === "exponential"
      ? exponential(meanRun)
      : dist === "constant"
      ? meanRun
      : meanRun * (0.5 + uniform())
  const latencies: Array<Array<number>> = [[], [], []]
  const done = [0, 0, 0]
  const widths = [0, 0, 0]
  const program = Effect.gen(function*() {
    let running = 0
    let busy = 0
    const queue: Array<() => void> = []
    let next = 0
    const at = () => now
    const phaseOf = (millis: number) => Math.min(2, Math.floor(millis / phase))
    const work = Effect.gen(function*() {
      const came = yield* at()
      const ran = running
      yield* Effect.callback<void>((resume) => {
        queue.push(() => resume(Effect.void))
        serve(phaseOf(came))
      })
      yield* Effect.sleep(takes())
      busy--
      running--
      const end = yield* at()
      serve(phaseOf(end))
      latencies[phaseOf(end)]!.push(end - came)
      done[phaseOf(end)]!++
      width.ended(end - came, ran, end, running)
      yield* fill
    })
    const serve = (phase: number) => {
      while (next < queue.length && busy < capacities[phase]!) {
        busy++
        queue[next++]!()
      }
    }
    const fill: Effect.Effect<void> = Effect.suspend(() => {
      if (running >= width.limit) return Effect.void
      running++
      return Effect.andThen(Effect.forkDetach(work, { startImmediately: true }), fill)
    })
    yield* fill
    let samples = 0
    for (let millis = 0; millis < phase * capacities.length; millis += 100) {
      widths[phaseOf(millis)]! += width.limit
      samples++
      yield* Effect.sleep(100)
    }
  })
  return run(program, { promises: false }).then(() => ({
    widths: widths.map((sum) => sum / (phase / 100)),
    p99: quantile(latencies[1]!.sort((a, b) => a - b), 0.99),
    throughput: Math.min(...done.map((n, i) => n / (capacities[i]! * phase / meanRun)))
  }))
}
