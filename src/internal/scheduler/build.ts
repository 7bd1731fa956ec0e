/**
 * Builds an engine from checked options, and closes it; the operations on an engine as a whole.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { duration } from "../data/duration.js"
import { dispatcherIn } from "../data/dispatcher.js"
import type { Rate } from "../limiter/gcra.js"
import { type Limiter, limiterOf, type StoreError } from "../limiter/limiter.js"
import { LimiterMemory } from "../limiter/memory.js"
import { enrolled } from "../seen/seen.js"
import { type Node, nodeOf } from "../waits/waits.js"
import { Engine } from "./engine.js"
import type { SchedulerError } from "./error.js"
import type { Checked } from "./options.js"
import { errorOf } from "./refusal.js"
import type { Permits, Site } from "./site.js"

export const site = <I>(): Effect.Effect<Site<I>, never, I> =>
  Effect.contextWith((context: Context.Context<I>) =>
    Effect.withFiber((fiber) =>
      Effect.succeed({ context, clock: fiber.getRef(Clock.Clock), dispatcher: dispatcherIn(fiber.context) })
    )
  )

/** Puts an engine under permits that several processes share. */
export type Share = (engine: Engine) => Permits

/** Makes an engine in this step. */
export const engineUnsafe = <I>(checked: Checked<I>, site: Site<I>, share?: Share): Engine => {
  const { rate } = checked
  const rates = Context.isKey(rate) ? undefined : rate
  const limiter = Context.isKey(rate)
    ? sharedLimiter(rate, site.context)
    : rates === undefined || share !== undefined
    ? undefined
    : new LimiterMemory(rates, site.context, site.clock)
  const engine = new Engine(checked, site, limiter)
  const permits = share?.(engine)
  if (permits !== undefined && rates !== undefined) engine.adoptLimiterUnsafe(permits.limiterOf(rates))
  return engine
}

/** The limiter of a tag's service. A scheduler queues inside the limiter, not in front of it. */
const sharedLimiter = <I>(rate: Context.Key<I, object>, context: Context.Context<I>): Limiter<StoreError> => {
  const limiter = limiterOf(Context.get(context, rate))
  if (limiter !== undefined) return limiter
  throw new TypeError(`Scheduler: the service ${rate.key} given as rate was not made by RateLimiter`)
}

/** An engine that closes with the scope, and is seen until then. */
export const build = <I>(checked: Checked<I>, share?: Share): Effect.Effect<Engine, never, I | Scope.Scope> =>
  Effect.acquireRelease(
    Effect.flatMap(site<I>(), (site) => {
      const engine = engineUnsafe(checked, site, share)
      return Effect.map(enrolled("scheduler", engine.name, { engines: () => [engine] }), (watch) => {
        engine.watch = watch
        return engine
      })
    }),
    end
  )

export const setRate = (engine: Engine, rates: ReadonlyArray<Rate>): Effect.Effect<void> =>
  Effect.sync(() => {
    const { limiter, site } = engine
    if (limiter === undefined) {
      // In this step: of two calls that overlap, the second finds the limiter of the first.
      const limiter = engine.permits?.limiterOf(rates) ?? new LimiterMemory(rates, site.context, site.clock)
      engine.adoptLimiterUnsafe(limiter)
    } else {
      limiter.setQuotas(rates)
      engine.onTooLarge()
    }
  })

export const penalize = (engine: Engine, nanos: number): Effect.Effect<void, SchedulerError> =>
  Effect.suspend(() => {
    const { limiter, permits } = engine
    if (nanos === 0) return Effect.void
    engine.log?.penalized(false, nanos)
    const counted = (isLonger: boolean) => {
      // A penalty from before there was a rate may be the longer one.
      if (isLonger && nanos > engine.penaltyLeft) engine.watch?.penalized()
    }
    const holder = permits?.penalize(nanos) ?? (limiter && Effect.map(limiter.penalize(undefined, nanos), counted))
    if (holder === undefined) return Effect.sync(() => engine.penalizeUnsafe(nanos))
    const penalized = Effect.mapError(holder, (failure) => errorOf(engine, failure))
    return Effect.map(penalized, () => {
      engine.account?.turn()
      engine.overload?.refuseHopeless()
    })
  })

/**
 * Waits until `done` returns true, and no job runs except those `around`, which this is called from. It looks after each end
 * of a job or of a wait that leaves no job waiting, and after a job has come to wait for the node `around`.
 */
const waitUntil = (engine: Engine, around: Node | undefined, done: () => boolean): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const isOver = () => done() && !engine.lanes.runsOthersThan(around)
    if (isOver()) return resume(Effect.void)
    const ignore = around === undefined ? undefined : engine.lanes.attend(around)
    const leave = () => {
      if (engine.watchers.delete(watcher)) ignore?.()
    }
    const watcher = () => {
      if (!isOver()) return
      leave()
      resume(Effect.void)
    }
    engine.watchers.add(watcher)
    return Effect.sync(leave)
  })

/** Waits until no job waits, and no job runs except those that this is called from. */
export const awaitIdle = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => waitUntil(engine, nodeOf(fiber.context), () => engine.queued === 0))

/** Refuses new jobs, and waits for the others; those that are left after a time are interrupted. */
export const drain = (engine: Engine, nanos: number): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    engine.draining = true
    const around = nodeOf(fiber.context)
    // Between two items of a call nothing may run.
    const calls = () => Array.from(engine.calls).some((call) => !call.isLate && !call.isAround(around))
    const drained = waitUntil(engine, around, () => engine.queued === 0 && !calls())
    if (nanos === Infinity) return drained
    const timeout = engine.site.clock.sleep(duration(nanos))
    return Effect.raceFirst(drained, Effect.andThen(timeout, close(engine)))
  })

/** Closes an engine, after its jobs have had the time of the option `drain`, and then gives its permits back. */
export const end = (engine: Engine): Effect.Effect<unknown> => {
  const closed = engine.limits.drain === 0
    ? close(engine)
    : Effect.andThen(drain(engine, engine.limits.drain), close(engine))
  return Effect.andThen(closed, Effect.suspend(() => engine.permits?.close ?? Effect.void))
}

/** Interrupts all jobs, and waits for the end of all except those that this is called from. */
export const close = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const around = nodeOf(fiber.context)
    engine.closeUnsafe()
    return waitUntil(engine, around, () => !engine.telling)
  })
