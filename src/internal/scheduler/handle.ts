/**
 * From a scheduler's options to its engine, and from its handle back to it.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { dispatcherIn } from "../data/dispatcher.js"
import type { Rate } from "../limiter/gcra.js"
import { limiterOf } from "../limiter/limiter.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import * as LimiterMemory from "../limiter/memory.js"
import * as Quota from "../limiter/quota.js"
import { checkCount } from "./schedule.js"
import { Engine } from "./engine.js"
import { nodeOf } from "../waits/waits.js"

const engines = /*#__PURE__*/ new WeakMap<object, Engine>()

export const register = <A extends object>(handle: A, engine: Engine): A => {
  engines.set(handle, engine)
  return handle
}

/**
 * The engine behind a handle; `undefined` for a handle that somebody else made, such as a mock.
 */
export const engineOf = (handle: object): Engine | undefined => engines.get(handle)

interface QuotaInput {
  readonly limit: number
  readonly window: Duration.Input
  readonly burst?: number | undefined
  readonly strict?: boolean | undefined
}

type Quotas = QuotaInput | ReadonlyArray<QuotaInput>

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

const isTag = <I>(rate: Quotas | Context.Key<I, object>): rate is Context.Key<I, object> => Context.isKey(rate)

/** An engine that closes with the scope. */
export const build = <I>(
  { concurrency, maxQueued, name, rate }: Plan<I>
): Effect.Effect<Engine, never, I | Scope.Scope> =>
  Effect.flatMap(limiter(rate), (limiter) =>
    Effect.acquireRelease(
      Effect.withFiber((fiber) => {
        const dispatcher = dispatcherIn(fiber.context)
        return Effect.succeed(new Engine({ name, concurrency, maxQueued, limiter, dispatcher }))
      }),
      close
    ))

const limiter = <I>(rate: Plan<I>["rate"]): Effect.Effect<Limiter<StoreError> | undefined, never, I> => {
  if (rate === undefined) return Effect.undefined
  if (isRates(rate)) return LimiterMemory.make(rate)
  return Effect.flatMap(rate, (handle) => {
    const limiter = limiterOf(handle)
    // A scheduler queues inside the limiter, not in front of it: what has none inside cannot be shared.
    return limiter === undefined
      ? Effect.die(new TypeError(`Scheduler: the service ${rate.key} given as rate was not made by RateLimiter`))
      : Effect.succeed(limiter)
  })
}

const isRates = <I>(rate: ReadonlyArray<Rate> | Context.Key<I, object>): rate is ReadonlyArray<Rate> =>
  Array.isArray(rate)

export const checkRate = (name: string, quotas: Quotas): ReadonlyArray<Rate> => Quota.rates(name, "", quotas)

export const setRate = (engine: Engine, quotas: Quotas): Effect.Effect<void> => {
  const rates = checkRate("Scheduler.setRate", quotas)
  // Looked for, made and adopted in one step: of two that overlap the second finds what the first has made.
  return Effect.withFiber((fiber) => {
    const limiter = engine.limiter
    if (limiter === undefined) {
      engine.adoptLimiterUnsafe(LimiterMemory.makeUnsafe(rates, fiber))
    } else {
      limiter.setQuotas(rates)
      engine.reviewUnsafe()
    }
    return Effect.void
  })
}

/** Waits until `done`, which is asked after each end of a job, or of a wait, that leaves nobody waiting. */
const waitUntil = (engine: Engine, done: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (done()) return resume(Effect.void)
    const watcher = () => {
      if (!done()) return
      engine.unwatch(watcher)
      resume(Effect.void)
    }
    engine.watch(watcher)
    return Effect.sync(() => engine.unwatch(watcher))
  })

/** Waits until nothing waits, and nothing runs but the jobs that this is called from. */
export const awaitIdle = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    return waitUntil(engine, () => engine.queued === 0 && !engine.runsOthersThan(around))
  })

/** Interrupts what waits and what runs, and waits for the end of all but the jobs that this is called from. */
export const close = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    engine.closeUnsafe()
    return waitUntil(engine, () => !engine.telling && !engine.runsOthersThan(around))
  })
