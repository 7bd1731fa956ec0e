/**
 * Many items through the engine: all results in order, results as they come, or the first that succeeds.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { hasProperty, isIterable } from "effect/Predicate"
import * as Stream from "effect/Stream"
import type { Engine } from "../engine.js"
import type { SchedulerError } from "../error.js"
import { checkCount, checkPriority } from "../schedule.js"
import { Call } from "./call.js"
import type { Costs, Handlers } from "./call.js"
import { track } from "./progress.js"
import type { Progress, ProgressServices } from "./progress.js"
import { IterableSource, StreamSource } from "./source.js"

/** What `forEach` and `stream` take items from. */
export type Items = Iterable<unknown> | Stream.Stream<unknown, unknown, unknown>

/** Types of the items of an iterable or a stream. */
export declare namespace Items {
  /** What an item is. */
  export type Item<S> = S extends Stream.Stream<infer A, any, any> ? A
    : S extends ReadonlyArray<infer A> ? A
    : S extends Iterable<infer A> ? A
    : never
  /** What pulling the items can fail with. */
  export type Error<S> = S extends Stream.Stream<any, infer E, any> ? E : never
  /** What pulling the items needs. */
  export type Services<S> = S extends Stream.Stream<any, any, infer R> ? R : never
  /** The array of a result an item: not empty if the items are not. */
  export type Results<S, B> = S extends Arr.NonEmptyReadonlyArray<unknown> ? Arr.NonEmptyArray<B> : Array<B>
}

/** What each item of a call costs, given for all of them or for each. */
export interface ItemOptions<in A> {
  /** How many permits an item takes while it runs; 1 by default. */
  readonly weight?: number | ((item: A, index: number) => number) | undefined
  /** How many tokens of the rate an item takes; 1 by default, 0 for none. */
  readonly tokens?: number | ((item: A, index: number) => number) | undefined
  /** A larger number goes first; 0 by default. */
  readonly priority?: number | ((item: A, index: number) => number) | undefined
}

/** Asks to be told how far a call is. */
export interface ProgressOptions<out X> {
  /**
   * Gets the counts of this call at most every 100 ms, and once at its end, however it ends. An effect that it returns is
   * run. If it throws or fails, this is logged and the call goes on.
   */
  readonly onProgress?: ((progress: Progress) => X) | undefined
  /** The number of items, where it is not known: of a stream, or of an iterable without `length` or `size`. */
  readonly total?: number | undefined
}

/**
 * Options of `forEach`.
 *
 * @category options
 * @since 0.1.0
 */
export interface ForEachOptions<in A, out Discard extends boolean, out X> extends ItemOptions<A>, ProgressOptions<X> {
  /** Keeps no results: the call takes the memory of as many items as run at once. */
  readonly discard?: Discard | undefined
}

/**
 * Options of `stream` and `mapEffect`.
 *
 * @category options
 * @since 0.1.0
 */
export interface StreamOptions<in A, out X> extends ItemOptions<A>, ProgressOptions<X> {
  /**
   * `"completion"`, the default, emits results as they complete. `"input"` emits them in the order of the items: an early
   * result counts as pulled until those before it have come.
   */
  readonly order?: "completion" | "input" | undefined
}

/**
 * Options of `all`.
 *
 * @category options
 * @since 0.1.0
 */
export interface AllOptions {
  readonly discard?: boolean | undefined
  /** `"result"` runs every effect and collects a `Result` of each. */
  readonly mode?: "default" | "result" | undefined
  readonly onProgress?: ((progress: Progress) => unknown) | undefined
  readonly weight?: number | undefined
  readonly tokens?: number | undefined
  readonly priority?: number | undefined
}

/** What `all` returns: the shape of its argument, as `Effect.all` does. */
export type AllReturn<
  Arg extends Iterable<Effect.Effect<any, any, any>> | Record<string, Effect.Effect<any, any, any>>,
  O extends AllOptions,
  Self
> = Effect.All.Return<Arg, O> extends Effect.Effect<infer A, infer E, infer R> ? Effect.Effect<
    A,
    E | SchedulerError,
    R | Self | (O extends { readonly onProgress: (progress: Progress) => infer X } ? ProgressServices<X> : never)
  >
  : never

/**
 * The list of effects was empty.
 *
 * @category errors
 * @since 0.1.0
 */
export class NothingToTry extends Data.TaggedError("NothingToTry")<{}> {
  override get message(): string {
    return "there were no effects to try"
  }
}

/**
 * Every effect failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class AllFailed<out E> extends Data.TaggedError("AllFailed")<{
  /** The failure of each effect, in the order of the input: none for one that was interrupted. */
  readonly errors: ReadonlyArray<unknown>
  readonly causes: ReadonlyArray<Cause.Cause<unknown>>
}> {
  declare readonly errors: ReadonlyArray<E>
  declare readonly causes: ReadonlyArray<Cause.Cause<E>>
  override get message(): string {
    return `none of ${this.causes.length} effects succeeded`
  }
}

/**
 * The error of `firstSuccess`: no effect succeeded.
 *
 * @category errors
 * @since 0.1.0
 */
export class FirstSuccessError<out E> extends Data.TaggedError("FirstSuccessError")<{
  readonly reason: NothingToTry | AllFailed<unknown>
}> {
  declare readonly reason: NothingToTry | AllFailed<E>
  override get message(): string {
    return this.reason.message
  }
}

type Cost<A> = number | ((item: A, index: number) => number) | undefined

const cost = <A>(
  given: Cost<A>,
  otherwise: number,
  check: (value: number) => number
): (item: A, index: number) => number => {
  if (typeof given === "function") return (item, index) => check(given(item, index))
  const value = given === undefined ? otherwise : check(given)
  return () => value
}

export const costs = <A>(name: string, options: ItemOptions<A> | undefined): Costs<A> => ({
  weight: cost(options?.weight, 1, (value) => checkCount(name, "weight", value, 1)),
  tokens: cost(options?.tokens, 1, (value) => checkCount(name, "tokens", value, 0)),
  priority: cost(options?.priority, 0, (value) => checkPriority(name, value))
})

/** Throws what is nonsense for all items, before anything runs. */
export const checkOptions = <A>(name: string, options: Checked<A> | undefined): void => {
  if (options === undefined) return
  costs(name, options)
  if (options.total !== undefined) checkCount(name, "total", options.total, 0)
}

type Checked<A> = ItemOptions<A> & { readonly total?: number | undefined }

/** How many there are, where that can be seen without pulling them. */
export const totalOf = (items: unknown): number | undefined =>
  hasProperty(items, "length") && typeof items.length === "number"
    ? items.length
    : hasProperty(items, "size") && typeof items.size === "number"
    ? items.size
    : undefined

interface Plan<A, B, E, R, X, XE> {
  readonly f: (item: A, index: number) => Effect.Effect<B, E, R>
  readonly costs: Costs<A>
  readonly handlers: Handlers<B, E, X, XE>
  readonly onProgress: ((progress: Progress) => unknown) | undefined
  readonly total: number | undefined
}

/** Waits for a call: interrupting it returns when all of it has ended. */
const await_ = <A, B, E, R, X, XE, SE, SR>(
  engine: Engine,
  parent: Fiber.Fiber<unknown, unknown>,
  plan: Plan<A, B, E, R, X, XE | SE>,
  items: Iterable<A> | Stream.Stream<A, SE, SR>
): Effect.Effect<X, XE | SE, R | SR> => {
  let settle: (exit: Exit.Exit<X, XE | SE>) => void
  const call = new Call<A, B, E, R, X, XE | SE>({
    engine,
    parent,
    f: plan.f,
    costs: plan.costs,
    handlers: plan.handlers,
    onSettled: (exit) => settle(exit),
    onChange: plan.onProgress === undefined ? undefined : () => tracker?.touch()
  })
  const tracker = plan.onProgress === undefined
    ? undefined
    : track(parent, call, plan.total ?? totalOf(items), plan.onProgress)
  const run = (source: IterableSource<A> | StreamSource<A, SE, SR>) =>
    Effect.callback<X, XE | SE>((resume) => {
      settle = resume
      tracker?.startUnsafe()
      call.startUnsafe(source)
      return Effect.callback<void>((resume) => {
        settle = () => resume(Effect.void)
        call.interruptUnsafe()
        if (call.settled) resume(Effect.void)
      })
    })
  const wait = Stream.isStream(items)
    ? Effect.scopedWith((scope) =>
      Effect.contextWith((context: Context.Context<SR>) => run(new StreamSource(items, scope, context)))
    )
    : run(new IterableSource(items))
  return tracker === undefined ? wait : Effect.onExit(wait, () => tracker.finish)
}

/**
 * Runs every item and gives the results in the order of the items, or none when `discard` is set.
 */
export const forEach = <A, B, E, R, SE, SR>(
  engine: Engine,
  items: Iterable<A> | Stream.Stream<A, SE, SR>,
  f: (item: A, index: number) => Effect.Effect<B, E, R>,
  options: ForEachOptions<A, boolean, unknown> | undefined,
  name = "Scheduler.forEach"
): Effect.Effect<Array<B> | void, E | SE | SchedulerError, R | SR> => {
  const costs_ = costs(name, options)
  checkOptions(name, options)
  return Effect.withFiber((parent) => {
    const out: Array<B> | undefined = options?.discard === true ? undefined : []
    const handlers: Handlers<B, E, Array<B> | void, E | SchedulerError> = {
      onSuccess: (value, index) => {
        if (out !== undefined) out[index] = value
        return undefined
      },
      onFailure: (cause) => Exit.failCause(cause),
      onEnd: () => Exit.succeed(out)
    }
    const plan = { f, costs: costs_, handlers, onProgress: options?.onProgress, total: options?.total }
    return await_(engine, parent, plan, items)
  })
}

/**
 * Runs every effect of a tuple, an iterable or a record, and gives the results in the same shape.
 */
export const all = (
  engine: Engine,
  arg: Iterable<Effect.Effect<unknown, unknown, unknown>> | Record<string, Effect.Effect<unknown, unknown, unknown>>,
  options: AllOptions | undefined
): Effect.Effect<unknown, unknown, unknown> => {
  const f = options?.mode === "result"
    ? (effect: Effect.Effect<unknown, unknown, unknown>) => Effect.result(effect)
    : (effect: Effect.Effect<unknown, unknown, unknown>) => effect
  if (isIterable(arg)) return forEach(engine, arg, f, options, "Scheduler.all")
  const keys = Object.keys(arg)
  return Effect.map(forEach(engine, keys, (key) => f(arg[key]!), options, "Scheduler.all"), (results) =>
    // As an own property whatever its name, `__proto__` included.
    results === undefined ? undefined : Object.fromEntries(keys.map((key, index) => [key, results[index]])))
}

/**
 * Gives the value of the first effect to succeed.
 */
export const firstSuccess = <A, E, R>(
  engine: Engine,
  effects: Iterable<Effect.Effect<A, E, R>>
): Effect.Effect<A, FirstSuccessError<E | SchedulerError>, R> =>
  Effect.withFiber((parent) => {
    const causes: Array<Cause.Cause<E | SchedulerError>> = []
    const handlers: Handlers<A, E, A, FirstSuccessError<E | SchedulerError>> = {
      onSuccess: (value) => Exit.succeed(value),
      onFailure: (cause, index) => {
        causes[index] = cause
        return undefined
      },
      onEnd: () => noSuccess(causes)
    }
    const plan = {
      f: (effect: Effect.Effect<A, E, R>) => effect,
      costs: costs<unknown>("Scheduler.firstSuccess", undefined),
      handlers,
      onProgress: undefined,
      total: undefined
    }
    return await_(engine, parent, plan, effects)
  })

const noSuccess = <E>(causes: ReadonlyArray<Cause.Cause<E>>): Exit.Exit<never, FirstSuccessError<E>> => {
  if (causes.length === 0) return Exit.fail(new FirstSuccessError<E>({ reason: new NothingToTry() }))
  const reasons = causes.flatMap((cause) => cause.reasons)
  // A defect is no failure: as in Effect itself it turns the failures beside it into defects.
  const dies = reasons.filter(Cause.isDieReason)
  if (dies.length > 0) return Exit.failCause(Cause.fromReasons<never>(dies))
  const errors = reasons.filter(Cause.isFailReason).map((reason) => reason.error)
  return Exit.fail(new FirstSuccessError<E>({ reason: new AllFailed<E>({ errors, causes }) }))
}
