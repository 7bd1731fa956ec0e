/**
 * Bounds the retries of all callers of a backend together.
 *
 * **When to use**
 *
 * Use it where calls are retried. A bound for each call (`times: 3`) multiplies the load of a backend that is failing, and the
 * retries keep an outage alive after its cause has gone. A budget lets callers retry the occasional failure of a healthy
 * backend, and stops all retries while most calls fail.
 *
 * **Details**
 *
 * The algorithm is the retry throttling of gRPC (proposal A6). A budget holds at most `tokens`, and starts full. A failed
 * attempt takes one token, a successful one gives `ratio` back. A call is retried only while more than half of the tokens are
 * there. So in a lasting outage the retries are at most `ratio` for each success.
 *
 * Only a failure that the call would retry takes a token: `while` decides. Defects and interruptions take none. The budget
 * never waits, and costs an attempt a few steps.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Pipeable from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import { refuse } from "./internal/data/refuse.js"
import { enrolled } from "./internal/seen/seen.js"

/**
 * Identifies a `RetryBudget` at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/RetryBudget"

/**
 * Identifies a `RetryBudget` in types.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/RetryBudget"

/**
 * The size of a budget.
 *
 * **Details**
 *
 * - `tokens`: the most tokens, a number above 0; 10 by default. Calls are retried while more than half of them are there.
 * - `ratio`: the tokens that a success gives back, a number of at least 0; 0.1 by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly tokens?: number | undefined
  readonly ratio?: number | undefined
}

/**
 * When and how often a call is retried.
 *
 * **Details**
 *
 * - `while`: which failures are retried; all of them by default.
 * - `times`: the most retries of a call; by default the budget is the only bound.
 * - `schedule`: the delays between the attempts; none by default. The schedule may end the retries, too.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryOptions<in E, out E2 = never, out R2 = never> {
  readonly while?: ((error: E) => boolean) | undefined
  readonly times?: number | undefined
  readonly schedule?: Schedule.Schedule<unknown, NoInfer<E>, E2, R2> | undefined
}

/**
 * The state of a budget at one moment.
 *
 * **Details**
 *
 * - `tokens`: the tokens that are there.
 * - `limit`: the most tokens.
 * - `denied`: how many retries the budget has denied so far.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  readonly tokens: number
  readonly limit: number
  readonly denied: number
}

/**
 * The operations of a budget. `Self` is what each one requires: nothing on a handle, the tag on an accessor.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operations<Self> {
  /** Retries an effect for as long as its own options and the budget allow it. */
  readonly retry: {
    <E, E2 = never, R2 = never>(
      options: RetryOptions<E, E2, R2>
    ): <A, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | E2, R | R2 | Self>
    <A, E, R, E2 = never, R2 = never>(
      effect: Effect.Effect<A, E, R>,
      options?: RetryOptions<E, E2, R2> | undefined
    ): Effect.Effect<A, E | E2, R | R2 | Self>
  }
  /** The state of the budget at this moment. */
  readonly stats: Effect.Effect<Stats, never, Self>
}

/**
 * A budget that the retries of many callers share.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryBudget extends Operations<never>, Pipeable.Pipeable {
  readonly [TypeId]: TypeId
}

/**
 * The tag of the default budget.
 *
 * **When to use**
 *
 * Use it in a program with one backend. A program with several backends names the budget of each with {@link Service}.
 *
 * **Example** (Using the handle)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * const program = Effect.gen(function*() {
 *   const budget = yield* RetryBudget.RetryBudget
 *   yield* Effect.exit(budget.retry(Effect.fail("busy"), { times: 2 }))
 *   return yield* budget.stats
 * })
 *
 * await Effect.runPromise(Effect.provide(program, RetryBudget.layer())) // => { tokens: 7, limit: 10, denied: 0 }
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const RetryBudget: Context.Service<RetryBudget, RetryBudget> = /*#__PURE__*/ Context.Service<RetryBudget>(
  "effect-funnel/RetryBudget"
)

/**
 * Tells whether a value is a retry budget.
 *
 * **Example** (Telling a budget from another value)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * RetryBudget.isRetryBudget(Effect.runSync(RetryBudget.make())) // => true
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isRetryBudget = (u: unknown): u is RetryBudget => Predicate.hasProperty(u, TypeId)

/** Tokens are counted in millionths, so that ten tenths make exactly one. */
const unit = 1_000_000

interface Size {
  readonly most: number
  readonly gain: number
}

const units = (n: number): number => Math.min(Number.MAX_VALUE, Math.round(n))

const size = (caller: string, { ratio = 0.1, tokens = 10 }: Options = {}): Size => {
  if (!(tokens > 0 && tokens < Infinity)) refuse(caller, "tokens", "a finite number > 0", tokens)
  if (!(ratio >= 0 && ratio < Infinity)) refuse(caller, "ratio", "a finite number >= 0", ratio)
  return { most: units(Math.max(1, tokens * unit)), gain: units(ratio * unit) }
}

const checkOptions = (options: RetryOptions<never, unknown, unknown> | undefined): void => {
  const times = options?.times
  if (times === undefined || times === Infinity || (Number.isInteger(times) && times >= 0)) return
  refuse("RetryBudget.retry", "times", "an integer >= 0", times)
}

/** The options with which `effect-funnel/http` asks. */
interface WatchedOptions<in E, out E2, out R2> extends RetryOptions<E, E2, R2> {
  /** Runs before the delay, once it is certain that another attempt follows. */
  readonly onRetry?: ((error: E) => Effect.Effect<unknown>) | undefined
}

/** `retry` in its two spellings. */
const dataFirstOrLast = <Self>(
  f: <A, E, R, E2, R2>(
    effect: Effect.Effect<A, E, R>,
    options: RetryOptions<E, E2, R2> | undefined
  ) => Effect.Effect<A, E | E2, R | R2 | Self>
): Operations<Self>["retry"] =>
<A, E, R, E2, R2>(first: Effect.Effect<A, E, R> | RetryOptions<E, E2, R2>, second?: RetryOptions<E, E2, R2>) => {
  const options = Effect.isEffect(first) ? second : first
  checkOptions(options)
  // Sound: the two branches are the two signatures, which no implementation can be checked against.
  return (Effect.isEffect(first) ? f(first, options) : (effect: Effect.Effect<A, E, R>) => f(effect, options)) as never
}

class Budget extends Pipeable.Class implements RetryBudget {
  // A computed field would keep the class in programs that only call a budget.
  declare readonly [TypeId]: TypeId
  private readonly size: Size
  private tokens: number
  private denied = 0

  constructor(size: Size) {
    super()
    this[TypeId] = TypeId
    this.size = size
    this.tokens = size.most
  }

  readonly retry = dataFirstOrLast<never>(<A, E, R, E2, R2>(
    effect: Effect.Effect<A, E, R>,
    options: WatchedOptions<E, E2, R2> | undefined
  ) =>
    Effect.suspend(() => {
      const { onRetry, schedule, times = Infinity, while: isWorth } = options ?? {}
      let retries = 0
      let wanted = false
      let allowed = false
      const attempt = effect.pipe(
        Effect.tap(() => Effect.sync(() => this.succeeded())),
        Effect.tapError((error) =>
          Effect.sync(() => {
            wanted = isWorth === undefined || isWorth(error)
            if (!wanted) return
            allowed = this.failed()
            wanted = retries++ < times
          })
        )
      )
      // Core asks this last, of a failure after which the schedule goes on.
      const goesOn = (error: E) => {
        if (!wanted) return false
        if (!allowed) {
          this.denied++
          return false
        }
        return onRetry === undefined ? true : Effect.as(onRetry(error), true)
      }
      return Effect.retry(attempt, { schedule, while: goesOn })
    })
  )

  private succeeded(): void {
    this.tokens = Math.min(this.size.most, this.tokens + this.size.gain)
  }

  /** Takes the token of a failure, and returns whether a call that wants to retry may. */
  private failed(): boolean {
    this.tokens = Math.max(0, this.tokens - unit)
    return this.tokens === Infinity || 2 * this.tokens > this.size.most
  }

  readonly read = (): Stats => ({ tokens: this.tokens / unit, limit: this.size.most / unit, denied: this.denied })

  readonly stats = Effect.sync(this.read)

  toJSON(): unknown {
    return { _id: "effect-funnel/RetryBudget", ...this.read() }
  }
}

/** A budget that allows every retry, and counts nothing. */
const unlimited = (): RetryBudget => new Budget({ most: Infinity, gain: 0 })

/**
 * Makes a budget.
 *
 * **Details**
 *
 * Invalid options throw a `RangeError` when `make` is called. A budget holds no resource.
 *
 * **Example** (Retrying until the budget is spent)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * let attempts = 0
 * const send = Effect.suspend(() => Effect.fail(`attempt ${++attempts}`))
 *
 * const program = Effect.gen(function*() {
 *   const budget = yield* RetryBudget.make({ tokens: 4, ratio: 0.1 })
 *   return yield* Effect.flip(budget.retry(send, { times: 10 }))
 * })
 *
 * await Effect.runPromise(program) // => "attempt 2"
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options?: Options | undefined): Effect.Effect<RetryBudget> =>
  fromSize(RetryBudget.key, size("RetryBudget.make", options))

const fromSize = (id: string, size: Size): Effect.Effect<RetryBudget> =>
  Effect.suspend(() => {
    const budget = new Budget(size)
    return Effect.as(enrolled("retryBudget", id, budget), budget)
  })

const noop = <Self>(tag: Context.Key<Self, RetryBudget>): Layer.Layer<Self> => Layer.sync(tag, unlimited)

/**
 * Provides a budget under the default tag.
 *
 * **Details**
 *
 * Invalid options throw a `RangeError` when `layer` is called.
 *
 * **Example** (Sharing a budget)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * let attempts = 0
 * const call = RetryBudget.retry(Effect.suspend(() => Effect.fail(++attempts)), { times: 3 })
 * const program = Effect.all(Array.from({ length: 10 }, () => Effect.exit(call)))
 *
 * await Effect.runPromise(Effect.provide(program, RetryBudget.layer())) // 10 calls and 3 retries
 * attempts // => 13
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options | undefined): Layer.Layer<RetryBudget> =>
  Layer.effect(RetryBudget, fromSize(RetryBudget.key, size("RetryBudget.layer", options)))

/**
 * Provides a budget that allows every retry, under the default tag, for tests.
 *
 * **Example** (Taking the budget away)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * let attempts = 0
 * const call = RetryBudget.retry(Effect.suspend(() => Effect.fail(++attempts)), { times: 20 })
 *
 * await Effect.runPromise(Effect.provide(Effect.exit(call), RetryBudget.layerNoop))
 * attempts // => 21
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<RetryBudget> = /*#__PURE__*/ noop(RetryBudget)

/**
 * A tag made by {@link Service}: the tag, its layers and its accessors.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceClass<in out Self, in out Id extends string>
  extends Context.ServiceClass<Self, Id, RetryBudget>, Operations<Self>
{
  /** Provides the budget under this tag, with the options of the class. */
  readonly layer: Layer.Layer<Self>
  /** Provides one that allows every retry, for tests. */
  readonly layerNoop: Layer.Layer<Self>
}

/**
 * Makes a tag of your own, with its layers and accessors.
 *
 * **When to use**
 *
 * Use it in a program with several backends: the failures of one must not stop the retries of another.
 *
 * **Example** (Naming the budget of a backend)
 *
 * ```ts import.meta.vitest
 * import { Effect, Schedule } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * class GitHubRetries extends RetryBudget.Service<GitHubRetries>()("app/GitHubRetries", { ratio: 0.1 }) {}
 *
 * let attempts = 0
 * const fetchUser = Effect.suspend(() => ++attempts < 3 ? Effect.fail("busy") : Effect.succeed(`attempt ${attempts}`))
 *
 * const program = fetchUser.pipe(
 *   GitHubRetries.retry({ while: (error) => error === "busy", times: 3, schedule: Schedule.spaced("1 millis") })
 * )
 *
 * await Effect.runPromise(Effect.provide(program, GitHubRetries.layer)) // => "attempt 3"
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Service =
  <Self>() => <const Id extends string>(id: Id, options?: Options | undefined): ServiceClass<Self, Id> => {
    const checked = size("RetryBudget.Service", options)
    const Tag = Context.Service<Self, RetryBudget>()(id)
    return Object.assign(Tag, operations(Tag), {
      layer: Layer.effect(Tag, fromSize(id, checked)),
      layerNoop: noop(Tag)
    })
  }

/** The accessors of a tag. */
const operations = <Self>(tag: Context.Service<Self, RetryBudget>): Operations<Self> => ({
  retry: dataFirstOrLast((effect, options) => tag.use((_) => _.retry(effect, options))),
  stats: tag.use((_) => _.stats)
})

const ops: Operations<RetryBudget> = /*#__PURE__*/ operations(RetryBudget)

/**
 * Retries an effect for as long as its own options and the budget allow it.
 *
 * **Details**
 *
 * `retry(effect)`, `retry(effect, options)` and `effect.pipe(retry(options))` are the same. When no retry is left, the call
 * fails with the last failure. The budget itself never waits and adds no error.
 *
 * **Gotchas**
 *
 * Each attempt is interrupted as the effect alone is, and an interrupted one counts neither as a failure nor as a success.
 * Put `schedule` or `withLimit` inside: `RetryBudget.retry(Scheduler.schedule(effect), { times: 3 })` queues each attempt. A
 * refusal by the Scheduler is a failure, too: exclude it with `while` if it has to be final.
 *
 * **Example** (Retrying what is worth it)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * let attempts = 0
 * const call = Effect.suspend(() => Effect.fail(++attempts < 3 ? "busy" : "not found"))
 * const program = Effect.flip(RetryBudget.retry(call, { while: (error) => error === "busy" }))
 *
 * await Effect.runPromise(Effect.provide(program, RetryBudget.layer())) // => "not found"
 * attempts // => 3
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const retry: Operations<RetryBudget>["retry"] = ops.retry

/**
 * The state of the budget at this moment.
 *
 * **Example** (Watching a budget)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import * as RetryBudget from "effect-funnel/RetryBudget"
 *
 * const budget = RetryBudget.layer({ tokens: 100 })
 *
 * await Effect.runPromise(Effect.provide(RetryBudget.stats, budget)) // => { tokens: 100, limit: 100, denied: 0 }
 * ```
 *
 * @category accessors
 * @since 0.1.0
 */
export const stats: Operations<RetryBudget>["stats"] = ops.stats
