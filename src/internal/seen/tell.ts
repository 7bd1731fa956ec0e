/**
 * What a service tells on spans and in logs: nothing, unless a layer switched that on.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
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
  /** A caller begins to wait. To be called at the end of the wait: it puts an event on the span of the caller. */
  enter(fiber: AnyFiber): () => void
}

/** The last penalties of a limiter. Times in its nanoseconds. */
export interface Penalties {
  note(key: string | undefined, from: number, until: number): void
  /** The penalties of a key are over. */
  end(key: string | undefined, now: number): void
  /** For how long a penalty held a key in a time. */
  within(key: string | undefined, from: number, to: number): number
  /** The axis begins so many nanoseconds later. */
  shift(nanos: number): void
}

/** Puts events on the spans of callers. */
export interface Spans {
  /** `penalized` tells for how many of the last nanoseconds a penalty has held the queue, as far as the limiter knows. */
  account(name: string, place: Place, holdOf: () => Hold, penalized: (nanos: number) => number): Account
  penalties(): Penalties
  /** A caller has waited for a limiter; `penalty` is the part of it for a penalty. In nanoseconds. */
  limited(name: string, fiber: AnyFiber, waited: number, penalty: number): void
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
