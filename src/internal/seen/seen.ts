/**
 * How services are seen from outside: each makes itself known, under its name, to the observers of the place where it is
 * built. There are none unless a layer switched one on, and then a service has one field that is `undefined`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Place } from "../data/timers.js"
import { switched, Tracing } from "./tell.js"

/** Milliseconds from an arbitrary start. */
export type Millis = number

/** The load of a scheduler. */
export interface Load {
  /** The most weight that may run now; `Infinity` without a bound. */
  readonly width: number
  readonly running: number
  readonly weight: number
  readonly queued: number
  readonly oldestWait: Millis
}

/** The tags of the reasons for which a scheduler refuses a job. */
export type Refusal = "QueueFull" | "WaitExceeded" | "Overloaded" | "Draining" | "InsufficientCapacity" | "StoreError"

/** Hears of the jobs of a scheduler. */
export interface SchedulerWatch {
  /** A job starts, which may have waited since some time. Returns the time. */
  started(since: Millis | undefined): Millis
  /** A job left the queue. */
  left(waited: Millis): void
  refused(reason: Refusal, waited: Millis): void
  /** A job that began has ended. Returns the time. */
  ended(exit: Exit.Exit<unknown, unknown> | undefined, since: Millis): Millis
  /** The width was changed by hand. */
  resized(): void
  /** A penalty that was given to it, or of which a store told, lengthens its pause. */
  penalized(): void
  /** There is an engine for another key. */
  added(load: Load): void
  /** The time, which may stand still within a turn of the event loop. */
  now(): Millis
}

/** Hears of the calls of a limiter. */
export interface LimiterWatch {
  admitted(): void
  delayed(waited: Millis): void
  refused(): void
  /** A penalty lengthens the pause of a key. */
  penalized(): void
}

/** Hears of the calls and runs of a reducer. */
export interface ReducerWatch {
  started(): void
  joined(): void
  /** `since` is the time of the clock at which it started; `undefined` if it ended in the same step. */
  ended(exit: Exit.Exit<unknown, unknown>, since: number | undefined): void
}

/** Hears of the look-ups and batches of a resolver. */
export interface BatcherWatch {
  asked(outcome: "sent" | "merged" | "joined" | "cached"): void
  /** A batch begins to execute. */
  executes(size: number, waited: Millis): void
  ended(ran: Millis): void
  now(): Millis
}

/** Hears of the commands to a store. */
export interface StoreWatch {
  commanded(operation: string, took: Millis, failed: boolean): void
}

/** What makes itself known, by its kind: what can be read of it, and what hears of it. */
export interface Kinds {
  readonly scheduler: readonly [source: Engines, watch: SchedulerWatch]
  readonly limiter: readonly [source: Keys, watch: LimiterWatch]
  readonly reducer: readonly [source: Flights, watch: ReducerWatch]
  readonly batcher: readonly [source: { readonly collector: object | undefined }, watch: BatcherWatch]
  readonly retryBudget: readonly [source: { readonly read: () => Budget }, watch: object]
  readonly store: readonly [source: object, watch: StoreWatch]
}

/** The engines of one scheduler, or those of all keys of a keyed one. */
interface Engines {
  readonly engines: () => Iterable<Load>
  readonly keyed?: () => Iterable<{ readonly key: unknown; readonly engine: Load }>
}

/** The keys of a limiter. Times in nanoseconds. */
export interface Keys {
  readonly entries: ReadonlyMap<string | undefined, object>
  /** When the last penalty that was ever given ends. */
  readonly penalizedUntil?: number
  /** What takes the place of a store that is away, and knows the penalties that this process has given. */
  readonly local?: Keys
  now(): number
}

/** The runs of a reducer. */
interface Flights {
  readonly inFlight: number
}

/** The state of a retry budget. */
export interface Budget {
  readonly tokens: number
  readonly limit: number
  readonly denied: number
}

export interface Enrolment<K extends keyof Kinds> {
  readonly watch: Kinds[K][1]
  /** The service is gone. */
  readonly leave: () => void
}

/** Sees every service that is built where it is switched on. */
export interface Observer {
  enrol<K extends keyof Kinds>(kind: K, name: string, source: Kinds[K][0], place: Place): Enrolment<K>
}

/** Keeps the metrics. It hears of every job. */
export const Meter: Context.Reference<Observer | undefined> = /*#__PURE__*/ switched("effect-funnel/Meter")

/** Lists the services. It hears of jobs only so that they keep their times. */
export const Roll: Context.Reference<Observer | undefined> = /*#__PURE__*/ switched("effect-funnel/Roll")

/** The observers of this place, for what is built elsewhere on behalf of it. */
export const observers: Effect.Effect<Context.Context<never>> = /*#__PURE__*/ Effect.contextWith(
  (context: Context.Context<never>) => Effect.succeed(Context.pick(Meter, Roll, Tracing)(context))
)

/**
 * Makes a service known for the life of the scope around, and returns what hears of it; `undefined` where nothing observes,
 * or where there is no scope.
 */
export const enrolled = <K extends keyof Kinds>(
  kind: K,
  name: string,
  source: Kinds[K][0]
): Effect.Effect<Kinds[K][1] | undefined> =>
  Effect.withFiber((fiber) => {
    const meter = fiber.getRef(Meter)
    const roll = fiber.getRef(Roll)
    const scope = Context.getOrUndefined(fiber.context, Scope.Scope)
    if (scope === undefined || (meter === undefined && roll === undefined)) return Effect.undefined
    const place = { context: fiber.context, clock: fiber.getRef(Clock.Clock) }
    const listed = roll?.enrol(kind, name, source, place)
    const metered = meter?.enrol(kind, name, source, place)
    const leave = Effect.sync(() => {
      metered?.leave()
      listed?.leave()
    })
    return Effect.as(Scope.addFinalizer(scope, leave), (metered ?? listed)!.watch)
  })
