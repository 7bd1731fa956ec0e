/**
 * Admits calls at the pace the other side can take.
 *
 * **When to use**
 *
 * Use it in front of anything with a quota: an API with so many requests a minute, a model with so many tokens a minute,
 * a login form with so many attempts for an account. To bound how many run at once as well, use a `Scheduler`, which
 * takes a rate; give it a `RateLimiter` tag to share one rate between several.
 *
 * **Details**
 *
 * The algorithm is GCRA in its virtual scheduling form (ITU-T I.371): each key is one number, the time at which it is at
 * rest, and a token comes back every `window / limit`. With a burst of 1, the default, starts are evenly spaced; a larger
 * burst lets so many go at once after a rest. Time is the monotonic clock of the `Clock` that the limiter was made with, in
 * integer nanoseconds. All who wait share one timer and are admitted in order of arrival for each key; what a late timer
 * held up is made up, up to 50 milliseconds of it. Keys are forgotten when they are at rest, a few of them with each call.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Fiber } from "effect/Fiber"
import * as Layer from "effect/Layer"
import { firstStep } from "./internal/limiter/firstStep.js"
import type { Rate } from "./internal/limiter/gcra.js"
import { InsufficientCapacity } from "./internal/data/insufficientCapacity.js"
import { register, unlimited } from "./internal/limiter/limiter.js"
import type { Granted, Waiter } from "./internal/limiter/limiter.js"
import * as LimiterMemory from "./internal/limiter/memory.js"
import * as Quotas from "./internal/limiter/quota.js"
import { check, dataFirstOrLast as withLimitOf, penalty } from "./internal/limiter/calls.js"
import { StacklessError } from "./internal/data/stacklessError.js"
import type { StoreError } from "./internal/store/failure.js"

export { InsufficientCapacity } from "./internal/data/insufficientCapacity.js"
export { StoreError } from "./internal/store/failure.js"

/**
 * Identifies a `RateLimiter` at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/RateLimiter"

/**
 * Identifies a `RateLimiter` in types.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/RateLimiter"

/**
 * Says how many tokens may be consumed in how much time.
 *
 * **Details**
 *
 * - `limit`: tokens in each `window`, an integer of at least 1.
 * - `window`: a finite duration, at least a nanosecond for each token of `limit`.
 * - `burst`: how many tokens may go at once after a rest, an integer of at least 1; 1 by default, which spaces them
 *   evenly. In any interval of length Δ at most `burst + Δ · limit / window` tokens pass.
 * - `strict`: when true no half-open window of that length ever holds more than `limit` tokens, the burst included, by when
 *   each call starts in fact. A full burst and the full pace go together: ten a second with a burst of 10 start ten at
 *   once, ten more a second later, and so on. The times of the last `limit` starts of a key are kept, 16 bytes each.
 *
 * A quota whose burst takes more than a hundred years to come back is refused.
 *
 * **Gotchas**
 *
 * A strict start that a timer made late pushes the start `limit` places behind it: with a limit of 1 each start is pushed.
 * It counts from after the first step of the effect: what stops the process there, such as the collector or another process,
 * makes a window longer, never shorter. What the effect does in later steps is not seen.
 *
 * @category models
 * @since 0.1.0
 */
export interface Quota {
  readonly limit: number
  readonly window: Duration.Input
  readonly burst?: number | undefined
  readonly strict?: boolean | undefined
}

/**
 * The pace of a limiter: one quota, or several that have to conform all at once.
 *
 * **Details**
 *
 * It stands by itself where it is all that a function is told: in `make`, `layer` and `Service`, and in `setRate` of a
 * scheduler. Beside other options it is the option `rate`: of a scheduler, and of the layers over Redis.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = Quota | ReadonlyArray<Quota>

/**
 * Names a limiter.
 *
 * **Details**
 *
 * - `name`: what the errors of the limiter call it, the id of its tag by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface NameOptions {
  readonly name?: string | undefined
}

/**
 * Says what is asked of a limiter.
 *
 * **Details**
 *
 * - `key`: whose quota; every key has its own, and so have the calls without one.
 * - `tokens`: how many, an integer of at least 1; 1 by default.
 * - `onExceeded`: "delay", the default, waits its turn; "fail" fails with `RateLimitExceeded` when the tokens cannot be
 *   had at once, and consumes nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeOptions {
  readonly key?: string | undefined
  readonly tokens?: number | undefined
  readonly onExceeded?: "delay" | "fail" | undefined
}

/**
 * Tells what an admission left.
 *
 * **Details**
 *
 * - `waited`: how long the call waited.
 * - `limit`: the limit of the quota with the fewest tokens left.
 * - `remaining`: how many tokens another call for this key could have had at that moment.
 * - `resetAfter`: how long until the key has its full burst again, if nobody consumes.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeResult {
  readonly waited: Duration.Duration
  readonly limit: number
  readonly remaining: number
  readonly resetAfter: Duration.Duration
}

/**
 * Says for how long nothing of a key passes.
 *
 * @category models
 * @since 0.1.0
 */
export interface PenalizeOptions {
  readonly key?: string | undefined
  readonly for: Duration.Input
}

/**
 * Says whose consumption is forgotten.
 *
 * **Details**
 *
 * - `key`: whose quota; the calls without a key are one as well.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResetOptions {
  readonly key?: string | undefined
}

/**
 * Lists what a limiter does. `Self` is what each operation requires: nothing on a handle, the tag on an accessor.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> {
  /** Consumes tokens of a key and returns once they are admitted. */
  readonly consume: (options?: ConsumeOptions | undefined) => Effect.Effect<ConsumeResult, RateLimiterError, Self>
  /** Runs an effect once its tokens are admitted. */
  readonly withLimit: <
    Arg extends Effect.Effect<any, any, any> | ConsumeOptions | undefined = ConsumeOptions
  >(
    effectOrOptions?: Arg,
    options?: ConsumeOptions | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | RateLimiterError, R | Self>
    : <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RateLimiterError, R | Self>
  /** Lets nothing of a key pass for a time. */
  readonly penalize: (options: PenalizeOptions) => Effect.Effect<void, RateLimiterError, Self>
  /** Forgets what a key has consumed, and its penalty. */
  readonly reset: (options?: ResetOptions | undefined) => Effect.Effect<void, RateLimiterError, Self>
}

/**
 * Describes a limiter: keyed quotas and those who wait for them.
 *
 * @category models
 * @since 0.1.0
 */
export interface RateLimiter extends Operations<never> {
  readonly [TypeId]: TypeId
}

/**
 * Serves as the tag of the default limiter.
 *
 * **When to use**
 *
 * Use it in a program with one rate. A program with several backends names each with {@link Service}.
 *
 * **Example** (Using the handle)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const limiter = yield* RateLimiter.RateLimiter
 *   const { remaining } = yield* limiter.consume()
 *   return remaining
 * })
 *
 * const limit = RateLimiter.layer({ limit: 100, window: "1 minute", burst: 10 })
 * await Effect.runPromise(Effect.provide(program, limit)) // => 9
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const RateLimiter: Context.Service<RateLimiter, RateLimiter> = /*#__PURE__*/ Context.Service<RateLimiter>(
  "effect-funnel/RateLimiter"
)

const dataFirstOrLast = <Self>(
  f: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: ConsumeOptions | undefined
  ) => Effect.Effect<A, E | RateLimiterError, R | Self>
): Operations<Self>["withLimit"] =>
  // An implementation is not checked against a conditional type; the two branches of withLimitOf are its two cases.
  withLimitOf(f) as Operations<Self>["withLimit"]

/**
 * Makes a limiter.
 *
 * **When to use**
 *
 * Use it for a limiter that lives as long as something of yours does. For one that a program shares, use {@link layer}.
 *
 * **Details**
 *
 * Nonsense options throw a `RangeError` when `make` is called. A decision costs some hundred nanoseconds, a waiting call
 * O(1) whatever the number of those who wait. It holds no resource: there is nothing to close, its timer runs only while
 * somebody waits, and nothing keeps a process from ending.
 *
 * **Example** (Spacing calls evenly)
 *
 * ```ts import.meta.vitest
 * import { Duration, Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   const limiter = yield* RateLimiter.make({ limit: 100, window: "1 second" })
 *   const first = yield* limiter.consume()
 *   const second = yield* limiter.consume()
 *   return [Duration.isZero(first.waited), Duration.isZero(second.waited)]
 * })
 *
 * await Effect.runPromise(program) // => [true, false]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (quota: Options, options?: NameOptions | undefined): Effect.Effect<RateLimiter> =>
  fromRates(Quotas.rates("RateLimiter.make", "", quota), options?.name ?? RateLimiter.key)

const fromRates = (rates: ReadonlyArray<Rate>, name: string): Effect.Effect<RateLimiter> =>
  Effect.map(LimiterMemory.make(rates), (limiter) => {
    const handle: RateLimiter = {
      [TypeId]: TypeId,
      consume(options) {
        check("RateLimiter.consume", options)
        const key = options?.key
        const tokens = options?.tokens ?? 1
        // What is taken is used in the same operation: in between two a fiber may yield, and be interrupted then.
        return Effect.withFiber((fiber) => {
          const now = limiter.now()
          return limiter.takeAtUnsafe(key, tokens, now, now)
            ? firstStep(Exit.succeed(resultOf(limiter, key, 0, now)), fiber)
            : otherwise(
              limiter,
              name,
              options,
              now,
              fiber,
              (waited) => Exit.succeed(resultOf(limiter, key, waited, limiter.now()))
            )
        })
      },
      withLimit: dataFirstOrLast((effect, options) => {
        const key = options?.key
        const tokens = options?.tokens ?? 1
        return Effect.withFiber((fiber) => {
          const now = limiter.now()
          const granted = grantOf(limiter)
          return limiter.takeAtUnsafe(key, tokens, now, now, granted)
            ? start(limiter, granted, effect, fiber)
            : otherwise(limiter, name, options, now, fiber, () => effect)
        })
      }),
      penalize(options) {
        const nanos = penalty(options)
        return Effect.sync(() => limiter.penalizeUnsafe(options.key, nanos))
      },
      reset: (options) => Effect.sync(() => limiter.resetUnsafe(options?.key))
    }
    return register(handle, limiter)
  })

/** What is to be told of its start, where that matters. */
const grantOf = (limiter: LimiterMemory.LimiterMemory): Granted | undefined =>
  limiter.strict ? { link: undefined } : undefined

/**
 * Begins what was granted. Its start is told after its first step: whatever stops the process between the two, a collection
 * of garbage or another process, makes a strict window longer and not shorter.
 */
const start = <A, E, R>(
  limiter: LimiterMemory.LimiterMemory,
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

/** Waits for tokens that were not to be had at once and goes on with what `then` gives for the time waited, or fails. */
const otherwise = <A, E, R>(
  limiter: LimiterMemory.LimiterMemory,
  name: string,
  options: ConsumeOptions | undefined,
  now: number,
  fiber: Fiber<unknown, unknown>,
  then: (waited: number) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | RateLimiterError, R> => {
  const key = options?.key
  const tokens = options?.tokens ?? 1
  if (tokens > limiter.burst) return Exit.fail(tooLarge(name, tokens, limiter.burst))
  if (options?.onExceeded !== "fail") {
    return Effect.flatMap(
      wait(limiter, name, key, tokens, now),
      (waiter) => start(limiter, waiter, then(limiter.now() - now), fiber)
    )
  }
  // Those whose timer is late go first, so that what an earlier refusal promised holds to the nanosecond.
  const granted = grantOf(limiter)
  if (limiter.settle() && limiter.takeAtUnsafe(key, tokens, now, now, granted)) {
    return start(limiter, granted, then(0), fiber)
  }
  const { limit, remaining } = limiter.standingUnsafe(key, now)
  const retryAfter = duration(limiter.retryAfterUnsafe(key, tokens, now))
  const reason = new RateLimitExceeded({ key, limit, remaining, retryAfter })
  return Exit.fail(new RateLimiterError({ limiter: name, reason }))
}

const wait = (
  limiter: LimiterMemory.LimiterMemory,
  name: string,
  key: string | undefined,
  tokens: number,
  since: number
): Effect.Effect<Waiter, RateLimiterError> =>
  Effect.callback((resume) => {
    const waiter: Waiter = {
      key,
      tokens,
      since,
      link: undefined,
      onDue: () => resume(Exit.succeed(waiter)),
      onTooLarge: (burst) => resume(Exit.fail(tooLarge(name, tokens, burst))),
      onFailure() {}
    }
    limiter.waitUnsafe(waiter)
    return Effect.sync(() => {
      limiter.cancelUnsafe(waiter)
      // Interrupted between its grant and its next step: it has not started.
      limiter.refundUnsafe(waiter)
    })
  })

const tooLarge = (name: string, tokens: number, burst: number): RateLimiterError =>
  new RateLimiterError({
    limiter: name,
    reason: new InsufficientCapacity({ what: "tokens", asked: tokens, most: burst })
  })

const resultOf = (
  limiter: LimiterMemory.LimiterMemory,
  key: string | undefined,
  waited: number,
  now: number
): ConsumeResult => {
  const { limit, remaining, resetAfter } = limiter.standingUnsafe(key, now)
  return { waited: waited === 0 ? Duration.zero : duration(waited), limit, remaining, resetAfter: duration(resetAfter) }
}

const duration = (nanos: number): Duration.Duration =>
  nanos % 1_000_000 === 0 ? Duration.millis(nanos / 1_000_000) : Duration.nanos(BigInt(nanos))

const makeNoop = (): RateLimiter => {
  const result: ConsumeResult = {
    waited: Duration.zero,
    limit: Infinity,
    remaining: Infinity,
    resetAfter: Duration.zero
  }
  const consume = Effect.succeed(result)
  const handle: RateLimiter = {
    [TypeId]: TypeId,
    consume: (options) => {
      check("RateLimiter.consume", options)
      return consume
    },
    withLimit: dataFirstOrLast((effect) => effect),
    penalize: (options) => {
      penalty(options)
      return Effect.void
    },
    reset: () => Effect.void
  }
  return register(handle, unlimited)
}

/**
 * Provides a limiter under the default tag.
 *
 * **Details**
 *
 * Nonsense options throw a `RangeError` when `layer` is called.
 *
 * **Gotchas**
 *
 * A layer is built once where it is provided: written out twice, or provided around each call, it is a limiter each time,
 * and limits nothing. Two layers of one tag merge to the last.
 *
 * **Example** (Limiting an API by minute and by day)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const quotas = RateLimiter.layer([
 *   { limit: 60, window: "1 minute", burst: 10 },
 *   { limit: 5000, window: "1 day", burst: 5000 }
 * ])
 *
 * const program = Effect.map(RateLimiter.consume({ tokens: 4 }), (_) => `${_.remaining} of ${_.limit}`)
 *
 * await Effect.runPromise(Effect.provide(program, quotas)) // => "6 of 60"
 * ```
 *
 * @see {@link Service} for a tag of one's own.
 * @category layers
 * @since 0.1.0
 */
export const layer = (quota: Options, options?: NameOptions | undefined): Layer.Layer<RateLimiter> =>
  Layer.effect(RateLimiter, fromRates(Quotas.rates("RateLimiter.layer", "", quota), options?.name ?? RateLimiter.key))

/**
 * Provides a limiter that admits everything at once, under the default tag.
 *
 * **When to use**
 *
 * Use it in tests of code that is not about its rate.
 *
 * **Example** (Taking the limit away)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const calls = Effect.forEach([1, 2, 3], (n) => RateLimiter.withLimit(Effect.succeed(n)))
 *
 * await Effect.runPromise(Effect.provide(calls, RateLimiter.layerNoop)) // => [1, 2, 3]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<RateLimiter> = /*#__PURE__*/ Layer.sync(RateLimiter, makeNoop)

/**
 * Describes a tag made by {@link Service}: the tag, its layers and its accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceClass<in out Self, in out Id extends string>
  extends Context.ServiceClass<Self, Id, RateLimiter>, Operations<Self>
{
  /** Provides the limiter under this tag, with the quotas of the class. */
  readonly layer: Layer.Layer<Self>
  /** Provides one that admits everything at once, for tests. */
  readonly layerNoop: Layer.Layer<Self>
}

/**
 * Makes a tag of one's own, with its layers and accessors.
 *
 * **When to use**
 *
 * Use it in a program with several rates: each has its own requirement, so the one cannot be taken for the other.
 *
 * **Example** (Naming the limiter of a backend)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * class GitHub extends RateLimiter.Service<GitHub>()("app/GitHub", { limit: 5000, window: "1 hour", burst: 100 }) {}
 *
 * const program = GitHub.withLimit(Effect.succeed("effect-funnel"))
 *
 * await Effect.runPromise(Effect.provide(program, GitHub.layer)) // => "effect-funnel"
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Service = <Self>() => <const Id extends string>(id: Id, quota: Options): ServiceClass<Self, Id> => {
  const rates = Quotas.rates("RateLimiter.Service", "", quota)
  const Tag = Context.Service<Self, RateLimiter>()(id)
  return Object.assign(Tag, operations(Tag), {
    layer: Layer.effect(Tag, fromRates(rates, id)),
    layerNoop: Layer.sync(Tag, makeNoop)
  })
}

/**
 * Builds the accessors of a tag: each operation of the limiter under it, with the tag in its requirements.
 *
 * **When to use**
 *
 * Use it to extend a tag that {@link Service} did not make.
 *
 * **Example** (Building accessors for a tag)
 *
 * ```ts import.meta.vitest
 * import { Context, Effect, Layer } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * class Mail extends Context.Service<Mail, RateLimiter.RateLimiter>()("app/Mail") {}
 * const { consume } = RateLimiter.operations(Mail)
 *
 * const program = Effect.map(consume(), (_) => _.limit)
 * const layer = Layer.effect(Mail, RateLimiter.make({ limit: 30, window: "1 minute" }))
 *
 * await Effect.runPromise(Effect.provide(program, layer)) // => 30
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const operations = <Self>(tag: Context.Service<Self, RateLimiter>): Operations<Self> => ({
  consume: (options) => {
    check("RateLimiter.consume", options)
    return tag.use((_) => _.consume(options))
  },
  withLimit: dataFirstOrLast((effect, options) => tag.use((_) => _.withLimit(effect, options))),
  penalize: (options) => {
    penalty(options)
    return tag.use((_) => _.penalize(options))
  },
  reset: (options) => tag.use((_) => _.reset(options))
})

const ops: Operations<RateLimiter> = /*#__PURE__*/ operations(RateLimiter)

/**
 * Consumes tokens of a key and returns once they are admitted.
 *
 * **When to use**
 *
 * Use it where the admission is a step of its own, or where its result is of interest, as for `RateLimit` headers. To
 * put a limit on an effect use {@link withLimit}.
 *
 * **Details**
 *
 * Waits in order of arrival for each key unless `onExceeded` is "fail". What it returns is in {@link ConsumeResult};
 * nothing is left to sleep. Fails with `InsufficientCapacity` at once when `tokens` exceed the burst, since they can
 * never pass. A call that does not wait costs some hundred nanoseconds, a refusal about 3 µs: its error carries no stack.
 *
 * **Gotchas**
 *
 * Interrupted while it waits, or before it goes on, it has cost nothing, and those behind it move up. Once it goes on the
 * tokens are spent, whatever becomes of the caller. A heavy call is not overtaken by lighter ones behind it. While others wait for the key,
 * "fail" fails.
 *
 * **Example** (Refusing an attempt too many)
 *
 * ```ts import.meta.vitest
 * import { Duration, Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const attempt = (account: string) =>
 *   RateLimiter.consume({ key: account, onExceeded: "fail" }).pipe(
 *     Effect.as("in"),
 *     Effect.catchReason("RateLimiterError", "RateLimitExceeded", (reason) =>
 *       Effect.succeed(reason.retryAfter > Duration.zero ? "later" : "now"))
 *   )
 *
 * const program = Effect.all([attempt("ada"), attempt("ada"), attempt("ada"), attempt("bob")])
 *
 * const attempts = RateLimiter.layer({ limit: 5, window: "1 minute", burst: 2 })
 * await Effect.runPromise(Effect.provide(program, attempts)) // => ["in", "in", "later", "in"]
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const consume: Operations<RateLimiter>["consume"] = ops.consume

/**
 * Runs an effect once its tokens are admitted.
 *
 * **When to use**
 *
 * Use it around each call to what has the quota.
 *
 * **Details**
 *
 * `withLimit(effect)`, `withLimit(effect, options)`, `effect.pipe(withLimit)` and `effect.pipe(withLimit(options))` are the
 * same. The effect runs in its caller's fiber, with its caller's services; only its start is limited, not how many run.
 *
 * **Gotchas**
 *
 * Interrupted while it waits it never runs and costs nothing; interrupted while the effect runs, its tokens are spent. The
 * effect's failures are its own. Retried inside `withLimit` only the first try is limited: write
 * `Effect.retry(RateLimiter.withLimit(effect), policy)`.
 *
 * **Example** (Limiting each of many calls)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const embed = (text: string) =>
 *   Effect.succeed(text.length).pipe(RateLimiter.withLimit({ key: "embeddings", tokens: text.length }))
 *
 * const program = Effect.forEach(["a", "bb", "ccc"], embed, { concurrency: "unbounded" })
 *
 * const tokens = RateLimiter.layer({ limit: 100_000, window: "1 minute", burst: 1000 })
 * await Effect.runPromise(Effect.provide(program, tokens)) // => [1, 2, 3]
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const withLimit: Operations<RateLimiter>["withLimit"] = ops.withLimit

/**
 * Lets nothing of a key pass for a time.
 *
 * **When to use**
 *
 * Use it when the other side has spoken: a 429 with its `Retry-After`.
 *
 * **Details**
 *
 * Those who wait go on waiting. When the time is over one token passes, and the burst fills at its pace from then on. A
 * penalty never shortens a wait, and zero changes nothing. A negative, infinite or NaN time throws a `RangeError`.
 *
 * **Gotchas**
 *
 * Only the key it names is held up; without one, the calls without one.
 *
 * **Example** (Obeying Retry-After)
 *
 * ```ts import.meta.vitest
 * import { Duration, Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* RateLimiter.penalize({ for: "30 seconds" })
 *   const error = yield* Effect.flip(RateLimiter.consume({ onExceeded: "fail" }))
 *   return error.reason._tag === "RateLimitExceeded" && Duration.toSeconds(error.reason.retryAfter) > 29
 * })
 *
 * const limit = RateLimiter.layer({ limit: 100, window: "1 second" })
 * await Effect.runPromise(Effect.provide(program, limit)) // => true
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const penalize: Operations<RateLimiter>["penalize"] = ops.penalize

/**
 * Forgets what a key has consumed, and its penalty.
 *
 * **When to use**
 *
 * Use it when a reason to limit is gone: a login that succeeded after some that failed.
 *
 * **Details**
 *
 * The key has its full burst at once; those who wait for it go first.
 *
 * **Example** (Starting over)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* RateLimiter.consume({ key: "ada", tokens: 5 })
 *   yield* RateLimiter.reset({ key: "ada" })
 *   const { remaining } = yield* RateLimiter.consume({ key: "ada" })
 *   return remaining
 * })
 *
 * const attempts = RateLimiter.layer({ limit: 5, window: "1 minute", burst: 5 })
 * await Effect.runPromise(Effect.provide(program, attempts)) // => 4
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const reset: Operations<RateLimiter>["reset"] = ops.reset

/**
 * Not enough tokens right now.
 *
 * **Details**
 *
 * `limit` and `remaining` are those of the quota with the fewest tokens left. `retryAfter` is the exact time after which
 * the same call is admitted if nobody else comes: refused before it, admitted at it. Nothing was consumed.
 *
 * @category errors
 * @since 0.1.0
 */
export class RateLimitExceeded extends /*#__PURE__*/ StacklessError("RateLimitExceeded")<{
  readonly key: string | undefined
  readonly limit: number
  readonly remaining: number
  readonly retryAfter: Duration.Duration
}> {
  /**
   * Tells the wait, in whole milliseconds and never too short, and whose it is.
   *
   * @since 0.1.0
   */
  override get message(): string {
    const whose = this.key === undefined ? "" : ` for ${JSON.stringify(this.key)}`
    const wait = Duration.format(Duration.millis(Math.ceil(Duration.toMillis(this.retryAfter))))
    return `rate limit exceeded${whose}: ${this.remaining} of ${this.limit} left, retry after ${wait}`
  }
}

/**
 * Lists why a limiter fails.
 *
 * @category errors
 * @since 0.1.0
 */
export type RateLimiterErrorReason = RateLimitExceeded | InsufficientCapacity | StoreError

/**
 * The error of every limiter operation: which limiter, and why.
 *
 * **Details**
 *
 * - `RateLimitExceeded`: not yet. Try again after `retryAfter`.
 * - `InsufficientCapacity`: never, as the limiter stands. The tokens are more than its burst.
 * - `StoreError`: the state of the limiter is elsewhere, and it did not answer. A limiter in memory never fails with it.
 *
 * Read a reason back with `Effect.catchReason("RateLimiterError", "RateLimitExceeded", …)`.
 *
 * It carries no stack, and neither do its reasons, so that shedding load stays cheap: `stack` is name and message. To know
 * where a refused call was made, give the call a span: `Cause.pretty` shows it.
 *
 * @category errors
 * @since 0.1.0
 */
export class RateLimiterError extends /*#__PURE__*/ StacklessError("RateLimiterError")<{
  /** The id of the limiter's tag, or the `name` in its options. */
  readonly limiter: string
  readonly reason: RateLimiterErrorReason
}> {
  /**
   * Tells the limiter and the reason.
   *
   * @since 0.1.0
   */
  override get message(): string {
    return `${this.limiter}: ${this.reason.message}`
  }
}
