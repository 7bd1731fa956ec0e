/**
 * Admits calls at the pace the other side can take.
 *
 * **When to use**
 *
 * Use it in front of anything with a quota: requests a minute of an API, tokens a minute of a model, log-in attempts an
 * account. To bound how many calls run at once as well, use a `Scheduler`, which takes a rate.
 *
 * **Details**
 *
 * The algorithm is GCRA in its virtual scheduling form (ITU-T I.371), on the monotonic clock of the `Clock` that the limiter
 * was made with. A token comes back every `window / limit`. All waiting calls share one timer and are admitted in order of
 * arrival for each key. The limiter makes up for a late timer, by 50 milliseconds at most. It forgets a key that has its full
 * burst. `docs/rate-limiter.md` is the guide.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Pipeable } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type { RateLimiterError } from "./internal/limiter/error.js"
import type { Rate } from "./internal/limiter/gcra.js"
import * as Handle from "./internal/limiter/handle.js"
import { type Backend, unlimited } from "./internal/limiter/limiter.js"
import * as LimiterMemory from "./internal/limiter/memory.js"
import * as Quotas from "./internal/limiter/quota.js"
import type { Settled } from "./internal/limiter/settling.js"
import { enrolled } from "./internal/seen/seen.js"
import { logOf, Tracing } from "./internal/seen/tell.js"

export { InsufficientCapacity } from "./internal/data/insufficientCapacity.js"
export { RateLimiterError, type RateLimiterErrorReason, RateLimitExceeded } from "./internal/limiter/error.js"
export { StoreError } from "./internal/store/storeError.js"

/**
 * Identifies a `RateLimiter` at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = Handle.TypeId

/**
 * Identifies a `RateLimiter` in types.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/RateLimiter"

/**
 * How many tokens may be consumed in how much time.
 *
 * **Details**
 *
 * In any interval of length Δ at most `burst + Δ · limit / window` tokens are due. Where a timer is late, the calls that were
 * due in the last 50 milliseconds start together; `strict` counts actual starts. A burst that takes more than a hundred years to
 * come back is refused.
 *
 * **Gotchas**
 *
 * A strict start counts from after the first step of the effect. A late one delays the start `limit` places behind it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Quota {
  /** Tokens in each window, an integer >= 1. */
  readonly limit: number
  /** A finite duration, at least a nanosecond for each token of `limit`. */
  readonly window: Duration.Input
  /** How many tokens may go at once after a rest, an integer >= 1. The default of 1 spaces starts evenly. */
  readonly burst?: number | undefined
  /**
   * When true, no half-open window of that length ever holds more than `limit` tokens, the burst included, by actual starts.
   * The limiter keeps the last `limit` starts of a key, 16 bytes each.
   */
  readonly strict?: boolean | undefined
}

/**
 * The pace of a limiter: one quota, or several that all have to conform.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = Quota | ReadonlyArray<Quota>

/**
 * Names a limiter.
 *
 * @category models
 * @since 0.1.0
 */
export interface NameOptions {
  /** The name of the limiter in errors, metrics and logs; the id of its tag by default. */
  readonly name?: string | undefined
}

/**
 * Options of a call.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeOptions {
  /** Every key has a quota of its own. The calls without a key share one. */
  readonly key?: string | undefined
  /**
   * An integer >= 1, 1 by default. With several quotas, also a list with an integer >= 0 for each: of one it takes none of,
   * the call is not delayed. In memory only.
   */
  readonly tokens?: number | ReadonlyArray<number> | undefined
  /**
   * `"delay"`, the default, waits in order of arrival. `"fail"` fails with `RateLimitExceeded` if there are not enough tokens
   * right now, and consumes nothing.
   */
  readonly onExceeded?: "delay" | "fail" | undefined
  /**
   * How long the call may wait; no bound by default. It fails with `RateLimitExceeded`, at once where it is certain that it
   * would wait longer, else when the time is over. With 0 it is admitted now or not at all.
   */
  readonly maxWait?: Duration.Input | undefined
}

/**
 * Options of `withLimit`.
 *
 * @category models
 * @since 0.1.0
 */
export interface LimitOptions<in A> extends ConsumeOptions {
  /**
   * Tells what a success has cost, a number from 0, or a list of such numbers, one a quota; part of a token counts as one.
   * Until then the call counts as `tokens`. If it cost less, the difference is given back; if it cost more, it is owed. A failure
   * or an interruption costs `tokens`. In memory only.
   */
  readonly settle?: ((value: A) => number | ReadonlyArray<number>) | undefined
}

/**
 * The state of a key after an admission.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeResult {
  /** How long the call waited. */
  readonly waited: Duration.Duration
  /** The limit of the quota with the fewest tokens left. */
  readonly limit: number
  /** How many tokens another call for this key could have had at that moment. */
  readonly remaining: number
  /** How long until the key has its full burst again, if nobody consumes. */
  readonly resetAfter: Duration.Duration
}

/**
 * The key to look at.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeekOptions {
  readonly key?: string | undefined
}

/**
 * The state of a key: what the fields `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` and `Retry-After` of HTTP
 * tell.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeekResult {
  /** The limit of the quota with the fewest tokens left. */
  readonly limit: number
  /** How many tokens a call could have now; 0 while others wait for the key. */
  readonly remaining: number
  /** How long until the key has its full burst again, if nobody consumes. */
  readonly resetAfter: Duration.Duration
  /** How long until a call for one token passes, if nobody else comes; zero if it passes now. */
  readonly retryAfter: Duration.Duration
}

/**
 * The key to hold up, and the time.
 *
 * @category models
 * @since 0.1.0
 */
export interface PenalizeOptions {
  readonly key?: string | undefined
  readonly for: Duration.Input
}

/**
 * The key to start over.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResetOptions {
  readonly key?: string | undefined
}

/**
 * The operations of a limiter. `Self` is their requirement: nothing on a handle, the tag on an accessor.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> {
  /** Consumes tokens of a key and returns once they are admitted. */
  readonly consume: (options?: ConsumeOptions | undefined) => Effect.Effect<ConsumeResult, RateLimiterError, Self>
  /** Runs an effect once its tokens are admitted. */
  readonly withLimit: <
    Arg extends Effect.Effect<any, any, any> | LimitOptions<never> | undefined = ConsumeOptions
  >(
    effectOrOptions?: Arg,
    options?: LimitOptions<[Arg] extends [Effect.Effect<infer A, any, any>] ? A : never> | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | RateLimiterError, R | Self>
    : <A extends Settled<Arg>, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RateLimiterError, R | Self>
  /** Tells what a key has left, and takes nothing. */
  readonly peek: (options?: PeekOptions | undefined) => Effect.Effect<PeekResult, RateLimiterError, Self>
  /** Lets nothing of a key pass for a time. */
  readonly penalize: (options: PenalizeOptions) => Effect.Effect<void, RateLimiterError, Self>
  /** Forgets the tokens that a key has consumed, and its penalty. */
  readonly reset: (options?: ResetOptions | undefined) => Effect.Effect<void, RateLimiterError, Self>
}

/**
 * A limiter: keyed quotas and the calls that wait for them. `toJSON` has its name and the number of its keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface RateLimiter extends Operations<never>, Pipeable {
  readonly [TypeId]: TypeId
}

/**
 * The tag of the default limiter.
 *
 * A program with several rates names each with {@link Service}.
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

/**
 * Tells whether a value is a rate limiter.
 *
 * **Example** (Telling a limiter from another value)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const limiter = Effect.runSync(RateLimiter.make({ limit: 1, window: "1 second" }))
 * RateLimiter.isRateLimiter(limiter) // => true
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isRateLimiter = (u: unknown): u is RateLimiter => Predicate.hasProperty(u, TypeId)

/**
 * Makes a limiter.
 *
 * **Details**
 *
 * Invalid options throw a `RangeError` when `make` is called. A decision costs some hundred nanoseconds. A waiting call costs
 * O(1) however many wait, and O(log n) with a `maxWait`. There is nothing to close: the timer of the waiting calls runs only while
 * there are some, and the one that forgets keys keeps no process alive.
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
  Effect.flatMap(LimiterMemory.make(rates), (limiter) => seenLimiter(limiter, name))

/** @internal */
export const seenLimiter = (limiter: Backend, name: string): Effect.Effect<RateLimiter> =>
  Effect.flatMap(enrolled("limiter", name, limiter), (watch) =>
    Effect.withFiber((fiber) => {
      const place = { context: fiber.context, clock: fiber.getRef(Clock.Clock) }
      limiter.watch = watch
      limiter.spans = fiber.getRef(Tracing)?.limiter(name, place)
      limiter.log = logOf(name, place)
      return Effect.succeed(fromLimiter(limiter, name))
    }))

/** @internal */
export const fromLimiter = (limiter: Backend, name: string): RateLimiter =>
  // Sound: `withLimit` has the two branches of its conditional type, which TypeScript cannot check.
  Handle.make(limiter, name) as RateLimiter

const layerOf = <Self>(tag: Context.Key<Self, RateLimiter>, rates: ReadonlyArray<Rate>, name = tag.key) =>
  Layer.effect(tag, fromRates(rates, name))

const noop = <Self>(tag: Context.Key<Self, RateLimiter>): Layer.Layer<Self> =>
  Layer.sync(tag, () => fromLimiter(unlimited, tag.key))

/**
 * Provides a limiter under the default tag.
 *
 * **Gotchas**
 *
 * Invalid options throw a `RangeError` when `layer` is called. A layer is built once where it is provided: written out twice,
 * or provided around each call, it is a limiter each time, and limits nothing. Two layers of one tag merge to the last.
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
  layerOf(RateLimiter, Quotas.rates("RateLimiter.layer", "", quota), options?.name)

/**
 * Provides a limiter that admits everything at once, under the default tag, for tests.
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
export const layerNoop: Layer.Layer<RateLimiter> = /*#__PURE__*/ noop(RateLimiter)

/**
 * A tag made by {@link Service}: the tag, its layers and its accessors.
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
 * Makes a tag of one's own, with its layers and accessors, for a program with several rates.
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
  return Object.assign(Tag, operations(Tag), { layer: layerOf(Tag, rates), layerNoop: noop(Tag) })
}

/** The accessors of a tag. */
const operations = <Self>(tag: Context.Service<Self, RateLimiter>): Operations<Self> => ({
  consume: (options) => {
    const checked = Handle.check("RateLimiter.consume", options)
    return tag.use((_) => _.consume(checked))
  },
  // Sound as in `fromLimiter`: its type also binds `settle` to the value of the effect.
  withLimit: Handle.dataFirstOrLast((effect, options) =>
    tag.use((_) => _.withLimit(effect, options as LimitOptions<unknown> | undefined))
  ) as Operations<
    Self
  >["withLimit"],
  peek: (options) => tag.use((_) => _.peek(options)),
  penalize: (options) => {
    Handle.penalty(options)
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
 * Use it for its {@link ConsumeResult}, as for `RateLimit` headers. To put a limit on an effect use {@link withLimit}.
 *
 * **Details**
 *
 * The call waits in order of arrival for its key unless `onExceeded` is `"fail"`. If `tokens` exceed the burst, it fails with
 * `InsufficientCapacity` at once. A call that does not wait costs some hundred nanoseconds, a refusal about 4 µs.
 *
 * **Gotchas**
 *
 * A call that is interrupted before it is admitted costs nothing, and the calls behind it move up. Lighter calls do not
 * overtake a heavy one. While others wait for the key, `"fail"` fails. With a `maxWait`, a call behind others costs what its
 * refusal costs. A refusal behind calls that wait for several quotas, or for a strict one, takes time in their number, with a
 * `maxWait` in that of 256 at most.
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
 * **Details**
 *
 * `withLimit(effect)`, `withLimit(effect, options)`, `effect.pipe(withLimit)` and `effect.pipe(withLimit(options))` are the
 * same. The effect runs in its caller's fiber. Only its start is limited, not how many run.
 *
 * **Gotchas**
 *
 * Interrupted while it waits, the effect never runs and costs nothing; interrupted while it runs, its tokens are spent. With
 * `settle` the result tells what the call cost, and a limiter over a store throws a `RangeError`. A
 * retry inside `withLimit` is not limited: write `Effect.retry(RateLimiter.withLimit(effect), policy)`.
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
 * **Example** (Settling an estimate)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const complete = Effect.succeed({ text: "yes", used: 120 })
 *
 * const program = Effect.gen(function*() {
 *   const { text } = yield* RateLimiter.withLimit(complete, { tokens: 500, settle: ({ used }) => used })
 *   const { remaining } = yield* RateLimiter.peek()
 *   return `${text}, ${remaining} tokens left`
 * })
 *
 * const tokens = RateLimiter.layer({ limit: 100_000, window: "1 day", burst: 1000 })
 * await Effect.runPromise(Effect.provide(program, tokens)) // => "yes, 880 tokens left"
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const withLimit: Operations<RateLimiter>["withLimit"] = ops.withLimit

/**
 * Tells what a key has left, and takes nothing.
 *
 * **When to use**
 *
 * Use it for the `RateLimit` fields of a response, or to show a user what is left. To decide whether to go on, `consume` with
 * `onExceeded: "fail"`: between a look and a call another caller may take the tokens.
 *
 * **Details**
 *
 * `retryAfter` counts the calls that wait. It is exact: if nobody else comes, a call for one token is refused before it and
 * admitted at it. A look costs as much as a refusal; over a store it is one command.
 *
 * **Example** (Telling a client what is left)
 *
 * ```ts import.meta.vitest
 * import { Duration, Effect } from "effect"
 * import { RateLimiter } from "effect-funnel"
 *
 * const program = Effect.gen(function*() {
 *   yield* RateLimiter.consume({ key: "ada", tokens: 2 })
 *   const { limit, remaining, resetAfter } = yield* RateLimiter.peek({ key: "ada" })
 *   return `${remaining} of ${limit}, all of them in ${Math.ceil(Duration.toSeconds(resetAfter))} s`
 * })
 *
 * const quota = RateLimiter.layer({ limit: 60, window: "1 minute", burst: 5 })
 * await Effect.runPromise(Effect.provide(program, quota)) // => "3 of 60, all of them in 2 s"
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const peek: Operations<RateLimiter>["peek"] = ops.peek

/**
 * Lets nothing of a key pass for a time, such as the `Retry-After` of a 429.
 *
 * **Details**
 *
 * Waiting calls go on waiting. When the time is over one token passes, and the burst fills at its pace from then on. A
 * penalty never shortens a wait, and one of zero changes nothing. A negative, infinite or NaN time throws a `RangeError`. Without a
 * key, the calls without a key are held up.
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
 * Forgets the tokens that a key has consumed, and its penalty.
 *
 * **Details**
 *
 * Use it when the reason to limit is gone, as after a login that succeeds. The key has its full burst at once; calls that wait
 * for it go first.
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
