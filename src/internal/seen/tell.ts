/**
 * What a service tells on spans and in logs: nothing, unless a layer switched that on.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type { Effect } from "effect/Effect"
import type { Fiber } from "effect/Fiber"

/** Where a service is built. */
export interface Place {
  readonly context: Context.Context<never>
  readonly clock: Clock.Clock
}

type AnyFiber = Fiber<unknown, unknown>

/** What the first job of a queue waits for. */
export type Hold = "nothing" | "width" | "rate" | "pause" | "penalty"

/** Adds up what the queue of a scheduler waits for. */
export interface Account {
  /** What the queue waits for may have changed. */
  turn(): void
  /** A caller begins to wait. Returns what resumes it and puts an event on its span. */
  enter<A>(fiber: AnyFiber, resume: (value: A) => void): (value: A) => void
}

/** Puts events on the spans of the callers of a limiter. Times in nanoseconds. */
export interface LimiterSpans {
  /** A penalty holds a key from now on. */
  penalized(key: string | undefined, nanos: number): void
  /** The penalties of a key are over. */
  reset(key: string | undefined): void
  /** For how much of the last time a penalty has held a key. */
  held(key: string | undefined, nanos: number): number
  /** A caller begins to wait. */
  enter(fiber: AnyFiber, key: string | undefined): LimiterWait
}

/** Puts the event of a wait on a span when it ends. */
export interface LimiterWait {
  admitted(): void
  /** Also if the wait fails. An admission takes no step of the fiber more. */
  refused<A, E>(wait: Effect<A, E>): Effect<A, E>
}

/** The queue of a scheduler. Its limiter knows the penalties that others give to it. */
export interface Queue {
  readonly name: string
  readonly limiter: { readonly spans?: LimiterSpans | undefined } | undefined
}

/** Puts events on the spans of callers. */
export interface Spans {
  account(queue: Queue, place: Place, holdOf: () => Hold): Account
  limiter(name: string, place: Place): LimiterSpans
}

/** Logs in the context of a service. */
export interface Log {
  /** Keys may be secrets: none is told. */
  penalized(hasKey: boolean, nanos: number): void
  overloaded(is: boolean): void
}

export interface Logs {
  of(name: string, place: Place): Log
}

export const Tracing: Context.Reference<Spans | undefined> = /*#__PURE__*/ Context.Reference<Spans | undefined>(
  "effect-funnel/Tracing",
  { defaultValue: () => undefined }
)

export const Logging: Context.Reference<Logs | undefined> = /*#__PURE__*/ Context.Reference<Logs | undefined>(
  "effect-funnel/Logging",
  { defaultValue: () => undefined }
)

/** What logs for a service that is built at a place. */
export const logOf = (name: string, place: Place): Log | undefined =>
  Context.get(place.context, Logging)?.of(name, place)
