/**
 * The handle of a scheduler.
 */
import * as Effect from "effect/Effect"
import * as Pipeable from "effect/Pipeable"
import type * as Stream from "effect/Stream"
import * as Build from "./build.js"
import type { Engine } from "./engine.js"
import type { SchedulerError } from "./error.js"
import { many } from "./many/brought.js"
import { effectFirstOrLast, type Operations } from "./operations.js"
import {
  type AllOptions,
  checkDrain,
  checkPenalty,
  checkRate,
  checkWidth,
  type ForEachOptions,
  type Items,
  type JobOptions,
  type StreamOptions
} from "./options.js"
import { schedule } from "./schedule.js"
import { statsOf } from "./stats.js"

/**
 * Identifies scheduler handles at run time.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~effect-funnel/Scheduler"

/**
 * Identifies scheduler handles in types.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~effect-funnel/Scheduler"

/** How a handle reaches its engine, for each run of an operation. */
export interface Access {
  readonly effect: <A, E, R>(f: (engine: Engine) => Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly stream: <A, E, R>(f: (engine: Engine) => Stream.Stream<A, E, R>) => Stream.Stream<A, E, R>
  /** As `effect`, for an effect that changes the engine's options. */
  readonly change: (f: (engine: Engine) => Effect.Effect<void>) => Effect.Effect<void>
}

/** What only an accessor calls: it has checked the options already. */
export interface Direct {
  readonly scheduleChecked: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    options: JobOptions
  ) => Effect.Effect<A, E | SchedulerError, R>
}

/** All handles. To ask for their class instead would bring it into programs that batch without a scheduler. */
const handles = /*#__PURE__*/ new WeakSet<object>()

// The casts are sound: the implementations return results of these types by construction. `many` is there: a program that
// has a handle has got it by one of the values that bring it.
export class Handle extends Pipeable.Class implements Operations<never>, Direct {
  // A computed field would keep the class, and so the engine, in programs that only call a scheduler.
  declare readonly [TypeId]: TypeId
  readonly name: string
  /** `undefined` for the scheduler of a key. */
  readonly engine: Engine | undefined
  readonly access: Access

  constructor(name: string, access: Access, engine?: Engine) {
    super()
    handles.add(this)
    this[TypeId] = TypeId
    this.name = name
    this.access = access
    this.engine = engine
  }

  toJSON(): unknown {
    return {
      _id: "effect-funnel/Scheduler",
      name: this.name,
      ...this.engine === undefined ? undefined : statsOf(this.engine)
    }
  }

  readonly scheduleChecked: Direct["scheduleChecked"] = (effect, options) =>
    this.access.effect((engine) => schedule(engine, effect, options))

  readonly schedule = effectFirstOrLast<never>(this.scheduleChecked)

  readonly resize: Operations<never>["resize"] = (concurrency) => {
    const width = checkWidth("Scheduler.resize", concurrency)
    return this.access.change((engine) => Effect.sync(() => engine.resizeUnsafe(width)))
  }

  readonly setRate: Operations<never>["setRate"] = (quotas) => {
    const rates = checkRate(quotas)
    return this.access.change((engine) => Build.setRate(engine, rates))
  }

  readonly penalize: Operations<never>["penalize"] = (options) => {
    const nanos = checkPenalty(options)
    return this.access.effect((engine) => Build.penalize(engine, nanos))
  }

  readonly drain: Operations<never>["drain"] = (options) => {
    const nanos = checkDrain(options)
    return this.access.change((engine) => Build.drain(engine, nanos))
  }

  readonly pause = this.run((engine) => Effect.sync(() => engine.pauseUnsafe()))
  readonly resume = this.run((engine) => Effect.sync(() => engine.resumeUnsafe()))
  readonly awaitIdle = this.run(Build.awaitIdle)
  readonly stats = this.run((engine) => Effect.sync(() => statsOf(engine)))

  readonly forEach =
    ((items: Items, f: never, options?: ForEachOptions<unknown, boolean, unknown>) =>
      this.access.effect((engine) => many!.forEach(engine, items, f, options))) as Operations<never>["forEach"]

  readonly all =
    ((arg: Iterable<never>, options?: AllOptions) =>
      this.access.effect((engine) => many!.all(engine, arg, options))) as Operations<never>["all"]

  readonly stream =
    ((items: Items, f: never, options?: StreamOptions<unknown, unknown>) =>
      this.access.stream((engine) => many!.stream(engine, items, f, options))) as Operations<never>["stream"]

  readonly mapEffect =
    ((f: never, options?: StreamOptions<unknown, unknown>) => (self: Stream.Stream<unknown>) =>
      this.access.stream((engine) => many!.stream(engine, self, f, options, "Scheduler.mapEffect"))) as Operations<
        never
      >["mapEffect"]

  readonly firstSuccess: Operations<never>["firstSuccess"] = (effects) =>
    this.access.effect((engine) => many!.firstSuccess(engine, effects))

  private run<A>(f: (engine: Engine) => Effect.Effect<A>): Effect.Effect<A> {
    return Effect.suspend(() => this.access.effect(f))
  }
}

/** The handle of one engine. */
export const handleOf = (engine: Engine): Handle =>
  new Handle(engine.name, { effect: (f) => f(engine), stream: (f) => f(engine), change: (f) => f(engine) }, engine)

/** The engine behind a handle; `undefined` for a foreign handle, such as a mock. */
export const engineOf = (handle: object): Engine | undefined =>
  // Sound: only the class adds to them.
  handles.has(handle) ? (handle as Handle).engine : undefined

/** An operation that checks its argument and does nothing. */
const onlyChecks = <A>(operation: (arg: A) => unknown) => (arg: A): Effect.Effect<void> => {
  operation(arg)
  return Effect.void
}

/** Changes a handle so that no operation makes a job wait. */
export const limitless = (handle: Handle): Handle =>
  Object.assign(handle, {
    resize: onlyChecks(handle.resize),
    setRate: onlyChecks(handle.setRate),
    penalize: onlyChecks(handle.penalize),
    pause: Effect.void,
    resume: Effect.void
  })
