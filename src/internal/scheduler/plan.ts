/**
 * From a scheduler's options to its engine, and what is done with an engine as a whole.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SchedulerDispatcher } from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { dispatcherIn } from "../data/dispatcher.js"
import type { Rate } from "../limiter/gcra.js"
import { limiterOf } from "../limiter/limiter.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import { LimiterMemory, makeUnsafe } from "../limiter/memory.js"
import * as Quota from "../limiter/quota.js"
import { nodeOf } from "../waits/waits.js"
import { Engine } from "./engine.js"
import { checkCount } from "./schedule.js"

interface QuotaInput {
  readonly limit: number
  readonly window: Duration.Input
  readonly burst?: number | undefined
  readonly strict?: boolean | undefined
}

export type Quotas = QuotaInput | ReadonlyArray<QuotaInput>

/** Options that were checked when they were given, to be built from as often as the layer is. */
export interface Plan<out I> {
  /** What its errors call it. */
  readonly name: string
  readonly concurrency: number
  readonly maxQueued: number
  readonly rate: ReadonlyArray<Rate> | Context.Key<I, object> | undefined
}

export const checkWidth = (name: string, concurrency: number | "unbounded"): number =>
  concurrency === "unbounded" ? Infinity : checkCount(name, "concurrency", concurrency, 1)

export const checkRate = (quotas: Quotas): ReadonlyArray<Rate> => Quota.rates("Scheduler.setRate", "", quotas)

/** `caller` is the function that was given the options, `id` the tag that the scheduler is made for. */
export const plan = <I>(caller: string, id: string, options: {
  readonly name?: string | undefined
  readonly concurrency: number | "unbounded"
  readonly rate?: Quotas | Context.Key<I, object> | undefined
  readonly maxQueued?: number | undefined
}): Plan<I> => ({
  name: options.name ?? id,
  concurrency: checkWidth(caller, options.concurrency),
  maxQueued: options.maxQueued === undefined ? Infinity : checkCount(caller, "maxQueued", options.maxQueued, 0),
  rate: options.rate === undefined || isTag(options.rate) ? options.rate : Quota.rates(caller, "rate", options.rate)
})

export const unbounded = (name: string): Plan<never> => ({
  name,
  concurrency: Infinity,
  maxQueued: Infinity,
  rate: undefined
})

const isTag = <I>(rate: Quotas | ReadonlyArray<Rate> | Context.Key<I, object>): rate is Context.Key<I, object> =>
  Context.isKey(rate)

/** Where schedulers live that are made later than their layer. */
export interface Site<I> {
  readonly context: Context.Context<I>
  readonly clock: Clock.Clock
  readonly dispatcher: SchedulerDispatcher
}

export const site = <I>(): Effect.Effect<Site<I>, never, I> =>
  Effect.contextWith((context: Context.Context<I>) =>
    Effect.withFiber((fiber) =>
      Effect.succeed({ context, clock: fiber.getRef(Clock.Clock), dispatcher: dispatcherIn(fiber.context) })
    )
  )

/** A new engine, in this very step. */
export const engineUnsafe = <I>(
  { concurrency, maxQueued, name, rate }: Plan<I>,
  { clock, context, dispatcher }: Site<I>
): Engine => {
  const limiter = rate === undefined
    ? undefined
    : isTag(rate)
    ? sharedLimiter(rate, context)
    : new LimiterMemory(rate, context, clock)
  return new Engine({ name, concurrency, maxQueued, limiter, dispatcher })
}

/** The limiter of a tag's service. A scheduler queues inside the limiter, not in front of it. */
export const sharedLimiter = <I>(rate: Context.Key<I, object>, context: Context.Context<I>): Limiter<StoreError> => {
  const limiter = limiterOf(Context.get(context, rate))
  if (limiter !== undefined) return limiter
  throw new TypeError(`Scheduler: the service ${rate.key} given as rate was not made by RateLimiter`)
}

/** An engine that closes with the scope. */
export const build = <I>(plan: Plan<I>): Effect.Effect<Engine, never, I | Scope.Scope> =>
  Effect.acquireRelease(Effect.map(site<I>(), (site) => engineUnsafe(plan, site)), close)

export const setRate = (engine: Engine, rates: ReadonlyArray<Rate>): Effect.Effect<void> =>
  // Looked for, made and adopted in one step: of two that overlap the second finds what the first has made.
  Effect.withFiber((fiber) => {
    const limiter = engine.limiter
    if (limiter === undefined) {
      engine.adoptLimiterUnsafe(makeUnsafe(rates, fiber))
    } else {
      limiter.setQuotas(rates)
      engine.reviewUnsafe()
    }
    return Effect.void
  })

/** Waits until `done`, which is asked after each end of a job, or of a wait, that leaves nobody waiting. */
const waitUntil = (engine: Engine, done: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (done()) return resume(Effect.void)
    const watcher = () => {
      if (!done()) return
      engine.watchers.delete(watcher)
      resume(Effect.void)
    }
    engine.watchers.add(watcher)
    return Effect.sync(() => engine.watchers.delete(watcher))
  })

/** Waits until nothing waits, and nothing runs but the jobs that this is called from. */
export const awaitIdle = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    return waitUntil(engine, () => engine.queued === 0 && !engine.lanes.runsOthersThan(around))
  })

/** Interrupts what waits and what runs, and waits for the end of all but the jobs that this is called from. */
export const close = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    engine.closeUnsafe()
    return waitUntil(engine, () => !engine.telling && !engine.lanes.runsOthersThan(around))
  })
