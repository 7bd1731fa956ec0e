/**
 * The handle of a rate limiter, in memory or over a store.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Fiber, getCurrent } from "effect/Fiber"
import { constVoid } from "effect/Function"
import * as Inspectable from "effect/Inspectable"
import * as Pipeable from "effect/Pipeable"
import { duration } from "../data/duration.js"
import { InsufficientCapacity } from "../data/insufficientCapacity.js"
import { refuse as refuseOption } from "../data/refuse.js"
import { StoreError } from "../store/storeError.js"
import { RateLimiterError, type RateLimiterErrorReason, RateLimitExceeded } from "./error.js"
import { firstStep, untraced } from "./firstStep.js"
import { leastOf, type Tokens } from "./gcra.js"
import { type Backend, type Charge, excessOf, type Granted, type Refusal, register, type Standing } from "./limiter.js"
import { type Call, Patience } from "./patience.js"
import * as Quotas from "./quota.js"
import * as Settling from "./settling.js"

export const TypeId = "~effect-funnel/RateLimiter"

interface ConsumeOptions {
  readonly key?: string | undefined
  readonly tokens?: Tokens | undefined
  readonly onExceeded?: "delay" | "fail" | undefined
  readonly maxWait?: Duration.Input | undefined
}

interface LimitOptions extends ConsumeOptions {
  readonly settle?: Settling.Settle | undefined
}

/** A call that was admitted, the charge that it settles, and what was left of its key, if it goes on later. */
interface Admitted extends Granted {
  charge?: Charge | undefined
  standing?: Standing | undefined
}

/** A call that waits, maybe for a time only. */
interface Waiting extends Call, Admitted {
  readonly resume: (effect: Effect.Effect<never, RateLimiterError>) => void
}

/** The checked options of a call. A list of tokens is a copy, which nobody changes any more. */
export const check = <O extends ConsumeOptions>(caller: string, options: O | undefined): O | undefined => {
  if (options === undefined) return undefined
  const tokens = options.tokens === undefined ? undefined : Quotas.tokens(caller, options.tokens, 1)
  if (options.maxWait !== undefined) Quotas.nanos(caller, "maxWait", options.maxWait, 0)
  const onExceeded = options.onExceeded
  if (onExceeded !== undefined && onExceeded !== "delay" && onExceeded !== "fail") {
    refuseOption(caller, "onExceeded", `"delay" or "fail"`, onExceeded)
  }
  return typeof tokens === "object" ? { ...options, tokens } : options
}

const checkLimit = (options: LimitOptions | undefined): LimitOptions | undefined => {
  if (options?.settle !== undefined) Settling.checkSettle("RateLimiter.withLimit", options.settle)
  return check("RateLimiter.withLimit", options)
}

/** How long a call may wait, in nanoseconds. */
const longestWait = (options: ConsumeOptions | undefined): number =>
  options?.onExceeded === "fail"
    ? 0
    : options?.maxWait === undefined
    ? Infinity
    : Quotas.nanos("RateLimiter.consume", "maxWait", options.maxWait, 0)

/** The nanoseconds of a penalty. */
export const penalty = (options: { readonly for: Duration.Input }): number =>
  Quotas.nanos("RateLimiter.penalize", "for", options.for, 0)

/** `withLimit`, data first and data last: the two branches of its conditional type, which TypeScript cannot check. */
export const dataFirstOrLast = <Error, Self>(
  f: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: LimitOptions | undefined
  ) => Effect.Effect<A, E | Error, R | Self>
): unknown =>
(first?: Effect.Effect<unknown, unknown, unknown> | LimitOptions, options?: LimitOptions) => {
  if (Effect.isEffect(first)) return f(first, checkLimit(options))
  const checked = checkLimit(first)
  return <A, E, R>(effect: Effect.Effect<A, E, R>) => f(effect, checked)
}

/** What a call does once it is admitted, in the operation that uses its tokens. */
type Then<A, E, R> = (
  waited: number,
  now: number,
  standing: Standing | undefined,
  granted: Admitted | undefined,
  fiber: Fiber<unknown, unknown>
) => Effect.Effect<A, E, R>

/** Makes the handle of a limiter. Its operations are properties, so that they can be destructured. */
export const make = (limiter: Backend, name: string) => {
  const errorOf = (reason: RateLimiterErrorReason) => new RateLimiterError({ limiter: name, reason })

  const refuse = (reason: RateLimiterErrorReason): Exit.Exit<never, RateLimiterError> => {
    limiter.watch?.refused()
    return Exit.fail(errorOf(reason))
  }

  const tooLarge = (tokens: Tokens) => {
    // A change of the quotas that comes after the one that refuses it may have made room.
    const { asked, most } = excessOf(tokens, limiter) ?? { asked: leastOf(tokens), most: limiter.burst }
    return refuse(new InsufficientCapacity({ what: "tokens", asked, most }))
  }

  const exceeded = (key: string | undefined, { limit, remaining, retryAfter }: Refusal) =>
    refuse(new RateLimitExceeded({ key, limit, remaining, retryAfter: duration(retryAfter) }))

  let patience: Patience<Waiting> | undefined

  const late = ({ key, resume }: Waiting, refusal: Refusal) => resume(exceeded(key, refusal))

  const charge = (granted: Admitted, key: string | undefined, tokens: Tokens): void => {
    granted.charge = limiter.chargeUnsafe!(key, tokens, granted)
  }

  /** Waits for tokens, for `maxWait` nanoseconds at most. */
  const wait = (
    key: string | undefined,
    tokens: Tokens,
    since: number,
    maxWait: number,
    settles: boolean
  ): Effect.Effect<Admitted, RateLimiterError> => {
    let leave = constVoid
    const waits = Effect.callback<Admitted, RateLimiterError>((resume) => {
      // Sound: the limiters without a place let no call wait.
      const timed = maxWait === Infinity ? undefined : patience ??= new Patience(limiter, limiter.place!, late)
      const { currentDispatcher } = getCurrent()!
      let suspended = false
      const end = (effect: Effect.Effect<never, RateLimiterError>) => {
        timed?.remove(call)
        resume(effect)
      }
      const call: Waiting = {
        key,
        tokens,
        since,
        link: undefined,
        due: timed === undefined ? 0 : timed.now() + maxWait,
        index: -1,
        resume,
        onDue: () => {
          if (timed !== undefined && !timed.isInTime(call)) return
          // It may have left, and got its tokens refunded, since they were taken.
          if (settles && call.link !== undefined) charge(call, key, tokens)
          const exit = Exit.succeed(call)
          // A callback that is resumed while it registers is never suspended, and core would not run its cancel effect if the
          // call were interrupted before it begins.
          if (suspended) return resume(exit)
          // A limiter over a store forgets a key for which nobody waits.
          call.standing = limiter.standingUnsafe(key, limiter.now())
          currentDispatcher.scheduleTask(() => resume(exit), 0)
        },
        onTooLarge: () => end(tooLarge(tokens)),
        onFailure: (failure) => end(refuse(failure)),
        onClose: () => end(Effect.interrupt)
      }
      leave = () => {
        // It waits no more or, between its grant and its next step, it has not started.
        timed?.remove(call)
        limiter.cancelUnsafe(call)
        limiter.refundUnsafe(call)
        const { charge } = call
        call.charge = undefined
        if (charge !== undefined) limiter.settleUnsafe!(charge, undefined)
      }
      timed?.add(call)
      limiter.waitUnsafe(call)
      suspended = true
      return Effect.sync(leave)
    })
    // In the step that resumes a granted call, its tracer may throw.
    return Effect.catchCause(waits, (cause) => {
      leave()
      return Exit.failCause(cause)
    })
  }

  /**
   * Begins an admitted effect. Its start counts from after its first step: if the process stops in that step, a strict
   * window becomes longer and not shorter.
   */
  const start = <A, E, R>(
    then: Then<A, E, R>,
    waited: number,
    now: number,
    standing: Standing | undefined,
    granted: Admitted | undefined,
    fiber: Fiber<unknown, unknown>
  ): Effect.Effect<A, E, R> => {
    try {
      return firstStep(then(waited, now, standing, granted, fiber), fiber)
    } finally {
      if (granted !== undefined) limiter.beginUnsafe(granted)
    }
  }

  /** `begins` tells whether an effect starts with the admission: a strict limiter has to hear when. */
  const admit = <A, E, R>(
    options: ConsumeOptions | undefined,
    begins: boolean,
    settles: boolean,
    then: Then<A, E, R>
  ): Effect.Effect<A, E | RateLimiterError, R> => {
    const key = options?.key
    const tokens = options?.tokens ?? 1
    if (typeof tokens !== "number") {
      Quotas.checkList(`RateLimiter.${begins ? "withLimit" : "consume"}`, tokens, limiter)
    }
    // The tokens are used in the operation that takes them: between two operations a fiber may yield and be interrupted.
    return Effect.withFiber((fiber) => {
      const now = limiter.now()
      const granted: Admitted | undefined = begins && limiter.strict ? { link: undefined } : undefined
      if (limiter.takeUnsafe(key, tokens, now, granted, now)) {
        limiter.watch?.admitted()
        return start(then, 0, now, undefined, granted, fiber)
      }
      return otherwise(options, now, granted, settles, fiber, then)
    })
  }

  /** Waits for tokens, or asks once more and fails. */
  const otherwise = <A, E, R>(
    options: ConsumeOptions | undefined,
    now: number,
    granted: Admitted | undefined,
    settles: boolean,
    fiber: Fiber<unknown, unknown>,
    then: Then<A, E, R>
  ): Effect.Effect<A, E | RateLimiterError, R> => {
    const key = options?.key
    const tokens = options?.tokens ?? 1
    if (excessOf(tokens, limiter) !== undefined) return tooLarge(tokens)
    const maxWait = longestWait(options)
    if (maxWait > 0) {
      const { epoch } = limiter
      if (maxWait < Infinity && limiter.leastWaitUnsafe(key, tokens, now) > maxWait) {
        return exceeded(key, limiter.refusalUnsafe(key, tokens, now))
      }
      const waits = wait(key, tokens, now, maxWait, settles)
      const told = limiter.spans?.enter(fiber, key)
      return Effect.flatMap(told?.refused(waits) ?? waits, (waiter) => {
        const at = limiter.now()
        // The axis may have started over meanwhile.
        const waited = at - now + Number(limiter.epoch - epoch)
        limiter.watch?.delayed(waited / 1e6)
        told?.admitted()
        return start(then, waited, at, waiter.standing, waiter, fiber)
      })
    }
    return limiter.attempt<A, E | RateLimiterError, R>(key, tokens, now, granted, (refusal, standing) => {
      if (refusal === undefined) {
        limiter.watch?.admitted()
        return start(then, 0, now, standing, granted, fiber)
      }
      return refusal instanceof StoreError ? refuse(refusal) : exceeded(key, refusal)
    })
  }

  /** The tokens are settled by the exit of the effect, whose frame is there before it begins. */
  const admitSettling = <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    settle: Settling.Settle,
    options: LimitOptions | undefined
  ): Effect.Effect<A, E | RateLimiterError, R> => {
    const caller = "RateLimiter.withLimit"
    Settling.checkSettles(caller, limiter)
    return admit(options, true, true, (_waited, _now, _standing, granted = {}, fiber) => {
      if (granted.charge === undefined) charge(granted, options?.key, options?.tokens ?? 1)
      const settled = Effect.onExitPrimitive(
        effect,
        (exit) => Settling.settleBy(caller, limiter, granted.charge, settle, exit)
      )
      return untraced(settled, fiber)
    })
  }

  const handle = Object.assign(Object.create(proto) as typeof proto, {
    [TypeId]: TypeId,
    consume: (given?: ConsumeOptions) => {
      const options = check("RateLimiter.consume", given)
      return admit(options, false, false, (waited, now, standing) => {
        const { limit, remaining, resetAfter } = standing ?? limiter.standingUnsafe(options?.key, now)
        return Exit.succeed({ waited: duration(waited), limit, remaining, resetAfter: duration(resetAfter) })
      })
    },
    withLimit: dataFirstOrLast((effect, options) => {
      const settle = options?.settle
      return settle === undefined
        ? admit(options, true, false, () => effect)
        : admitSettling(effect, settle, options)
    }),
    peek: (options?: { readonly key?: string | undefined }) =>
      Effect.mapBoth(limiter.peek(options?.key), {
        onFailure: errorOf,
        onSuccess: ({ resetAfter, retryAfter, ...left }) => ({
          ...left,
          resetAfter: duration(resetAfter),
          retryAfter: duration(retryAfter)
        })
      }),
    penalize: (options: { readonly key?: string | undefined; readonly for: Duration.Input }) => {
      const nanos = penalty(options)
      // The end of a penalty leaves one token of the burst. One of no length changes nothing.
      if (nanos === 0) return Effect.void
      return Effect.mapBoth(limiter.penalize(options.key, nanos), {
        onFailure: errorOf,
        onSuccess: () => limiter.log?.penalized(options.key !== undefined, nanos)
      })
    },
    reset: (options?: { readonly key?: string | undefined }) => Effect.mapError(limiter.reset(options?.key), errorOf),
    toJSON: () => ({ _id: "effect-funnel/RateLimiter", name, keys: limiter.size })
  })
  return register(handle, limiter)
}

const proto: Pipeable.Pipeable & Inspectable.Inspectable = /*#__PURE__*/ Object.assign(
  {},
  Inspectable.BaseProto,
  Pipeable.Prototype
)
