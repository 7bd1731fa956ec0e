/**
 * The hooks of a reducer and the events that they are called with; `Hooks` makes them public.
 */
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"

/**
 * Describes the call or the run that a hook is told of.
 *
 * **Details**
 *
 * - `reducer`: the `name` option of the reducer.
 * - `name`: the name of the function, for what was made with `Reducer.fn`.
 * - `key`: the key; of a function its arguments, or what its `key` option made of them.
 * - `callers`: how many callers of the run wait at this moment, the one that fires the hook included.
 * - `context`: the services and references of the call or of the run, for hooks that run effects.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  readonly reducer: string | undefined
  readonly name: string | undefined
  readonly key: unknown
  readonly callers: number
  readonly context: Context.Context<never>
}

/**
 * Describes a run that has succeeded.
 *
 * @category models
 * @since 0.1.0
 */
export interface SuccessEvent extends Event {
  readonly value: unknown
}

/**
 * Describes a run that has failed, with a typed error or a defect, or that was interrupted.
 *
 * @category models
 * @since 0.1.0
 */
export interface FailureEvent extends Event {
  readonly cause: Cause.Cause<unknown>
}

/**
 * Observes a reducer; every function is optional.
 *
 * @see {@link combine} for several at once
 * @category models
 * @since 0.1.0
 */
export interface Hooks {
  /** A call was made, before anything is decided about it. */
  readonly onCall?: ((event: Event) => void) | undefined
  /** A call starts a run; its effect has not begun yet. */
  readonly onStart?: ((event: Event) => void) | undefined
  /** A call joins a run that is in flight, or the pending one behind a run that is being interrupted. */
  readonly onJoin?: ((event: Event) => void) | undefined
  /** A run has succeeded; its callers are resumed after the hook. */
  readonly onSuccess?: ((event: SuccessEvent) => void) | undefined
  /** A run has failed or died; its callers are resumed after the hook. */
  readonly onFailure?: ((event: FailureEvent) => void) | undefined
  /** A run was interrupted: its last caller left, its scope closed, or it interrupted itself. */
  readonly onInterrupt?: ((event: FailureEvent) => void) | undefined
}
