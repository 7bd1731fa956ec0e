/**
 * Many items through the engine: all results in order, results as they come, or the first that succeeds.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import { isIterable } from "effect/Predicate"
import type * as Stream from "effect/Stream"
import { isStream } from "../../data/streams.js"
import type { Engine } from "../engine.js"
import type { SchedulerError } from "../error.js"
import { type AllOptions, type ForEachOptions, itemOptions, type ProgressOptions } from "../options.js"
import { Call, type CallOptions, type Handlers } from "./call.js"
import { type Progress, type ProgressServices, track } from "./progress.js"
import { IterableSource, StreamSource } from "./source.js"

/** The result of `all`: the shape of its argument, as with `Effect.all`. */
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
export class NothingToTry extends /*#__PURE__*/ Data.TaggedError("NothingToTry")<{}> {
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
export class AllFailed<out E> extends /*#__PURE__*/ Data.TaggedError("AllFailed")<{
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
export class FirstSuccessError<out E> extends /*#__PURE__*/ Data.TaggedError("FirstSuccessError")<{
  readonly reason: NothingToTry | AllFailed<unknown>
}> {
  declare readonly reason: NothingToTry | AllFailed<E>
  override get message(): string {
    return this.reason.message
  }
}

/** Waits for a call: interrupting it returns when all of it has ended. */
const await_ = <A, B, E, R, X, XE, SE, SR>(
  options: CallOptions<A, B, E, R, X, XE | SE>,
  items: Iterable<A> | Stream.Stream<A, SE, SR>,
  progress?: ProgressOptions<unknown>
): Effect.Effect<X, XE | SE, R | SR> => {
  const call = new Call(options)
  const tracker = track(options.parent, call, items, progress)
  const run = (source: IterableSource<A> | StreamSource<A, SE, SR>) =>
    Effect.callback<X, XE | SE>((resume) => {
      tracker?.startUnsafe()
      call.startUnsafe(source, resume)
      return call.stop
    })
  const wait = isStream(items)
    ? Effect.scopedWith((scope) =>
      Effect.contextWith((context: Context.Context<SR>) => run(new StreamSource(items, scope, context)))
    )
    : run(new IterableSource(items))
  return tracker === undefined ? wait : Effect.onExit(wait, () => tracker.finish)
}

/** Runs every item and gives the results in the order of the items, or none when `discard` is set. */
export const forEach = <A, B, E, R, SE, SR>(
  engine: Engine,
  items: Iterable<A> | Stream.Stream<A, SE, SR>,
  f: (item: A, index: number) => Effect.Effect<B, E, R>,
  options: ForEachOptions<A, boolean, unknown> | undefined,
  name = "Scheduler.forEach"
): Effect.Effect<Array<B> | void, E | SE | SchedulerError, R | SR> => {
  const optionsOf = itemOptions(name, options, engine.limiter)
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
    return await_({ engine, parent, f, optionsOf, handlers }, items, options)
  })
}

type AnyEffect = Effect.Effect<unknown, unknown, unknown>

/** Runs every effect of a tuple, an iterable or a record, and gives the results in the same shape. */
export const all = (
  engine: Engine,
  arg: Iterable<AnyEffect> | Record<string, AnyEffect>,
  options: AllOptions | undefined
): AnyEffect => {
  const f: (effect: AnyEffect) => AnyEffect = options?.mode === "result" ? Effect.result : identity
  if (isIterable(arg)) return forEach(engine, arg, f, options, "Scheduler.all")
  const keys = Object.keys(arg)
  return Effect.map(forEach(engine, keys, (key) => f(arg[key]!), options, "Scheduler.all"), (results) =>
    // As an own property whatever its name, `__proto__` included.
    results === undefined ? undefined : Object.fromEntries(keys.map((key, index) => [key, results[index]])))
}

/** Gives the value of the first effect to succeed. */
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
    return await_({ engine, parent, f: identity, optionsOf: itemOptions("Scheduler.firstSuccess"), handlers }, effects)
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
