/**
 * The handle of a rate limiter, in memory or over a store.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Fiber } from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import * as Pipeable from "effect/Pipeable"
import { duration } from "../data/duration.js"
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { refuse as refuseOption } from "../data/refuse.js"
import { StoreError } from "../store/storeError.js"
import { RateLimiterError, type RateLimiterErrorReason, RateLimitExceeded } from "./error.js"
import { firstStep } from "./firstStep.js"
import type { Backend, Granted, Standing, Waiter } from "./limiter.js"
import { register } from "./limiter.js"
import * as Quotas from "./quota.js"

export const TypeId = "~effect-funnel/RateLimiter"

interface ConsumeOptions {
  readonly key?: string | undefined
  readonly tokens?: number | undefined
  readonly onExceeded?: "delay" | "fail" | undefined
}

export const check = (caller: string, options: ConsumeOptions | undefined): void => {
  if (options === undefined) return
  if (options.tokens !== undefined) Quotas.count(caller, "tokens", options.tokens)
  const onExceeded = options.onExceeded
  if (onExceeded !== undefined && onExceeded !== "delay" && onExceeded !== "fail") {
    refuseOption(caller, "onExceeded", `"delay" or "fail"`, onExceeded)
  }
}

/** The nanoseconds of a penalty. */
export const penalty = (options: { readonly for: Duration.Input }): number =>
  Quotas.nanos("RateLimiter.penalize", "for", options.for, 0)

/** `withLimit`, data first and data last: the two branches of its conditional type, which TypeScript cannot check. */
export const dataFirstOrLast = <Error, Self>(
  f: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: ConsumeOptions | undefined
  ) => Effect.Effect<A, E | Error, R | Self>
): unknown =>
(first?: Effect.Effect<unknown, unknown, unknown> | ConsumeOptions, options?: ConsumeOptions) => {
  if (Effect.isEffect(first)) {
    check("RateLimiter.withLimit", options)
    return f(first, options)
  }
  check("RateLimiter.withLimit", first)
  return <A, E, R>(effect: Effect.Effect<A, E, R>) => f(effect, first)
}

/** Makes the handle of a limiter. Its operations are properties, so that they can be destructured. */
export const make = (limiter: Backend, name: string) => {
  const fail = (reason: RateLimiterErrorReason): Exit.Exit<never, RateLimiterError> =>
    Exit.fail(new RateLimiterError({ limiter: name, reason }))

  const refuse = (reason: RateLimiterErrorReason): Exit.Exit<never, RateLimiterError> => {
    limiter.watch?.refused()
    return fail(reason)
  }

  const tooLarge = (tokens: number, burst: number) =>
    refuse(new InsufficientCapacity({ what: "tokens", asked: tokens, most: burst }))

  const wait = (key: string | undefined, tokens: number, since: number): Effect.Effect<Granted, RateLimiterError> =>
    Effect.callback((resume) => {
      const waiter: Waiter<StoreError> = {
        key,
        tokens,
        since,
        link: undefined,
        onDue: () => resume(Exit.succeed(waiter)),
        onTooLarge: (burst) => resume(tooLarge(tokens, burst)),
        onFailure: (failure) => resume(refuse(failure))
      }
      limiter.waitUnsafe(waiter)
      return Effect.sync(() => {
        limiter.cancelUnsafe(waiter)
        // Interrupted between its grant and its next step, it has not started.
        limiter.refundUnsafe(waiter)
      })
    })

  /**
   * Begins an admitted effect. Its start counts from after its first step: if the process stops in that step, a strict
   * window becomes longer and not shorter.
   */
  const start = <A, E, R>(
    granted: Granted | undefined,
    effect: Effect.Effect<A, E, R>,
    fiber: Fiber<unknown, unknown>
  ): Effect.Effect<A, E, R> => {
    if (granted === undefined) return firstStep(effect, fiber)
    try {
      return firstStep(effect, fiber)
    } finally {
      limiter.beginUnsafe(granted)
    }
  }

  /** `begins` tells whether an effect starts with the admission: a strict limiter has to hear when. */
  const admit = <A, E, R>(
    options: ConsumeOptions | undefined,
    begins: boolean,
    then: (waited: number, now: number, standing?: Standing) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | RateLimiterError, R> => {
    const key = options?.key
    const tokens = options?.tokens ?? 1
    // The tokens are used in the operation that takes them: between two operations a fiber may yield and be interrupted.
    return Effect.withFiber((fiber) => {
      const now = limiter.now()
      const granted: Granted | undefined = begins && limiter.strict ? { link: undefined } : undefined
      if (limiter.takeUnsafe(key, tokens, now, granted, now)) {
        limiter.watch?.admitted()
        return start(granted, then(0, now), fiber)
      }
      return otherwise(options, now, granted, fiber, then)
    })
  }

  /** Waits for tokens, or asks once more and fails. */
  const otherwise = <A, E, R>(
    options: ConsumeOptions | undefined,
    now: number,
    granted: Granted | undefined,
    fiber: Fiber<unknown, unknown>,
    then: (waited: number, now: number, standing?: Standing) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | RateLimiterError, R> => {
    const key = options?.key
    const tokens = options?.tokens ?? 1
    if (tokens > limiter.burst) return tooLarge(tokens, limiter.burst)
    if (options?.onExceeded !== "fail") {
      const { epoch } = limiter
      return Effect.flatMap(wait(key, tokens, now), (waiter) => {
        const at = limiter.now()
        // The axis may have started over meanwhile.
        const waited = at - now + Number(limiter.epoch - epoch)
        limiter.watch?.delayed(waited / 1e6)
        return start(waiter, then(waited, at), fiber)
      })
    }
    return limiter.attempt<A, E | RateLimiterError, R>(key, tokens, now, granted, (refusal, standing) => {
      if (refusal === undefined) {
        limiter.watch?.admitted()
        return start(granted, then(0, now, standing), fiber)
      }
      if (refusal instanceof StoreError) return refuse(refusal)
      const { limit, remaining, retryAfter } = refusal
      return refuse(new RateLimitExceeded({ key, limit, remaining, retryAfter: duration(retryAfter) }))
    })
  }

  const handle = Object.assign(Object.create(proto) as typeof proto, {
    [TypeId]: TypeId,
    consume: (options?: ConsumeOptions) => {
      check("RateLimiter.consume", options)
      return admit(options, false, (waited, now, standing) => {
        const { limit, remaining, resetAfter } = standing ?? limiter.standingUnsafe(options?.key, now)
        return Exit.succeed({ waited: duration(waited), limit, remaining, resetAfter: duration(resetAfter) })
      })
    },
    withLimit: dataFirstOrLast((effect, options) => admit(options, true, () => effect)),
    penalize: (options: { readonly key?: string | undefined; readonly for: Duration.Input }) =>
      Effect.catch(limiter.penalize(options.key, penalty(options)), fail),
    reset: (options?: { readonly key?: string | undefined }) => Effect.catch(limiter.reset(options?.key), fail),
    toJSON: () => ({ _id: "effect-funnel/RateLimiter", name, keys: limiter.size })
  })
  return register(handle, limiter)
}

const proto: Pipeable.Pipeable & Inspectable.Inspectable = { ...Inspectable.BaseProto, ...Pipeable.Prototype }
