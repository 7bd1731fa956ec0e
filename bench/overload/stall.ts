/** A backend stands still for five seconds, and callers retry: how long does it take until calls are answered again? */
import { Effect, Fiber, Option, Schedule } from "effect"
import * as RetryBudget from "../../dist/RetryBudget.js"
import { capacity, meanRun, width } from "./callers.ts"
import type { Protect, Protector } from "./protectors.ts"
import { dice, now, run } from "./world.ts"

const stall = { from: 5000, until: 10_000 }
const load = 0.8
/** How long a caller waits for one attempt, and how long a backend's answer is worth something. */
const patience = 1000
const times = 3
const observed = 90_000

type Attempt = Effect.Effect<boolean, "failed">

/** Says whether a failed attempt may be repeated. */
interface Rule {
  readonly allows: (at: number) => boolean
  readonly result: (at: number) => void
}

/** Makes calls of attempts. */
export interface Retries {
  readonly name: string
  readonly make: Effect.Effect<(attempt: Attempt) => Attempt>
}

const schedule = Schedule.exponential("100 millis")

const byRule = (name: string, make: () => Rule): Retries => ({
  name,
  make: Effect.sync(() => {
    const { allows, result } = make()
    const asked = Effect.map(now, allows)
    const tell = Effect.map(now, result)
    return (attempt) => Effect.retry(Effect.onExit(attempt, () => tell), { schedule, times, while: () => asked })
  })
})

export const none = byRule("no retries", () => ({ allows: () => false, result: () => {} }))

export const unlimited = byRule("3 retries a call", () => ({ allows: () => true, result: () => {} }))

/** A fifth of the calls of the last ten seconds, and ten a second. */
export const finagle = byRule("Finagle's default budget", () => {
  const calls: Array<number> = []
  const retries: Array<number> = []
  let [firstCall, firstRetry] = [0, 0]
  return {
    allows(at) {
      while (calls[firstCall]! <= at - 10_000) firstCall++
      while (retries[firstRetry]! <= at - 10_000) firstRetry++
      if (retries.length - firstRetry >= (calls.length - firstCall) * 0.2 + 100) return false
      retries.push(at)
      return true
    },
    result: (at) => void calls.push(at)
  }
})

export const budget: Retries = {
  name: "RetryBudget, as gRPC's",
  make: Effect.map(
    RetryBudget.make({ tokens: 10, ratio: 0.1 }),
    (budget) => (attempt) => budget.retry(attempt, { schedule, times })
  )
}

/** A pool of workers with a queue, first come first served. It does not learn that a caller has given up. */
const pool = () => {
  const waiting: Array<() => void> = []
  let [next, running] = [0, 0]
  const start = () => {
    running++
    waiting[next++]!()
  }
  return (takes: number) =>
    Effect.gen(function*() {
      yield* Effect.callback<void>((resume) => {
        waiting.push(() => resume(Effect.void))
        if (running < width) start()
      })
      const at = yield* now
      if (at >= stall.from && at < stall.until) yield* Effect.sleep(stall.until - at)
      yield* Effect.sleep(takes)
      running--
      if (next < waiting.length) start()
    })
}

export interface Recovery {
  /** Seconds from the end of the stall until, from then on, no second had less than 99 % of its calls answered. */
  readonly seconds: number
  /** Attempts that reached the backend, for each call. */
  readonly attempts: number
}

/** Without a protector each attempt goes to the backend at once. */
export const recovery = async (retries: Retries, protector: Protector | undefined, seed: number): Promise<Recovery> => {
  const seconds = observed / 1000
  const calls: Array<number> = new Array(seconds).fill(0)
  const answered: Array<number> = new Array(seconds).fill(0)
  let sent = 0
  const program = Effect.gen(function*() {
    const { exponential } = dice(seed)
    const backend = pool()
    const retrying = yield* retries.make
    const protect: Protect = protector === undefined ? (work) => work : yield* protector.make(width, patience)
    const attempt = Effect.suspend(() => {
      const takes = exponential(meanRun)
      // The backend goes on with a request that it has, whether the caller is still there or not.
      const send = Effect.suspend(() => {
        sent++
        return Effect.flatMap(Effect.forkDetach(backend(takes), { startImmediately: true }), Fiber.join)
      })
      return protect(send, { tenant: 0 }).pipe(
        Effect.timeoutOption(patience),
        Effect.map(Option.isSome),
        Effect.catch(() => Effect.succeed(false)),
        Effect.flatMap((done) => done ? Effect.succeed(true) : Effect.fail("failed" as const))
      )
    })
    const call = Effect.gen(function*() {
      const second = Math.floor((yield* now) / 1000)
      calls[second]!++
      if (yield* Effect.isSuccess(retrying(attempt))) answered[second]!++
    })
    const end = observed - (times + 1) * patience - 2000
    for (;;) {
      yield* Effect.sleep(exponential(1000 / (load * capacity)))
      if ((yield* now) >= end) break
      yield* Effect.forkDetach(call, { startImmediately: true })
    }
    yield* Effect.sleep(observed - end)
  })
  await run(Effect.scoped(program), { promises: protector?.promises ?? false })
  let last = seconds - 1
  while (last >= stall.until / 1000 && (calls[last] === 0 || answered[last]! >= 0.99 * calls[last]!)) last--
  const total = calls.reduce((sum, n) => sum + n, 0)
  return { seconds: last + 1 - stall.until / 1000, attempts: sent / total }
}
