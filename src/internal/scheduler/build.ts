/**
 * Builds an engine from checked options, and closes it; the operations on an engine as a whole.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { dispatcherIn } from "../data/dispatcher.js"
import type { Rate } from "../limiter/gcra.js"
import { limiterOf } from "../limiter/limiter.js"
import type { Limiter, StoreError } from "../limiter/limiter.js"
import { LimiterMemory } from "../limiter/memory.js"
import { nodeOf } from "../waits/waits.js"
import { Engine, type Site } from "./engine.js"
import { type Checked, isTag } from "./options.js"

export const site = <I>(): Effect.Effect<Site<I>, never, I> =>
  Effect.contextWith((context: Context.Context<I>) =>
    Effect.withFiber((fiber) =>
      Effect.succeed({ context, clock: fiber.getRef(Clock.Clock), dispatcher: dispatcherIn(fiber.context) })
    )
  )

/** Makes an engine in this step. */
export const engineUnsafe = <I>(checked: Checked<I>, site: Site<I>): Engine => {
  const { rate } = checked
  const limiter = rate === undefined
    ? undefined
    : isTag(rate)
    ? sharedLimiter(rate, site.context)
    : new LimiterMemory(rate, site.context, site.clock)
  return new Engine(checked, site, limiter)
}

/** The limiter of a tag's service. A scheduler queues inside the limiter, not in front of it. */
const sharedLimiter = <I>(rate: Context.Key<I, object>, context: Context.Context<I>): Limiter<StoreError> => {
  const limiter = limiterOf(Context.get(context, rate))
  if (limiter !== undefined) return limiter
  throw new TypeError(`Scheduler: the service ${rate.key} given as rate was not made by RateLimiter`)
}

/** An engine that closes with the scope. */
export const build = <I>(checked: Checked<I>): Effect.Effect<Engine, never, I | Scope.Scope> =>
  Effect.acquireRelease(Effect.map(site<I>(), (site) => engineUnsafe(checked, site)), close)

export const setRate = (engine: Engine, rates: ReadonlyArray<Rate>): Effect.Effect<void> =>
  Effect.sync(() => {
    const { limiter, site } = engine
    if (limiter === undefined) {
      // In this step: of two calls that overlap, the second finds the limiter of the first.
      engine.adoptLimiterUnsafe(new LimiterMemory(rates, site.context, site.clock))
    } else {
      limiter.setQuotas(rates)
      engine.reviewUnsafe()
    }
  })

/** Waits until `done` returns true. It is called after each end of a job or of a wait that leaves no job waiting. */
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

/** Waits until no job waits, and no job runs except those that this is called from. */
export const awaitIdle = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    return waitUntil(engine, () => engine.queued === 0 && !engine.lanes.runsOthersThan(around))
  })

/** Interrupts all jobs, and waits for the end of all except those that this is called from. */
export const close = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    engine.closeUnsafe()
    return waitUntil(engine, () => !engine.telling && !engine.lanes.runsOthersThan(around))
  })
