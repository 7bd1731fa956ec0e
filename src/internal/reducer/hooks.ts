/**
 * The hooks of a reducer, the events that they are called with, and how they are called; `Hooks` makes the types public.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { isPromiseLike } from "effect/Predicate"

/**
 * The call or the run that a hook observes.
 *
 * **Details**
 *
 * - `reducer`: the id of the reducer's tag, or the `name` in its options.
 * - `name`: the name of the function that `Reducer.fn` made.
 * - `key`: the key; for a function its arguments, or the result of its `key` option.
 * - `callers`: how many callers of the run wait at this moment, the one that fires the hook included. It is 0 in `onCall`, which
 *   comes before the run is known.
 * - `context`: the services and references of the call or of the run, for hooks that run effects.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  readonly reducer: string
  readonly name: string | undefined
  readonly key: unknown
  readonly callers: number
  readonly context: Context.Context<never>
}

/**
 * A run that has succeeded.
 *
 * @category models
 * @since 0.1.0
 */
export interface SuccessEvent extends Event {
  readonly value: unknown
}

/**
 * A run that has failed, with a typed error or a defect, or that was interrupted.
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
 * @see `combine` for several at once
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

/**
 * Calls a hook so that it cannot hurt the caller: an error of the hook is logged in the context of the event, and ignored.
 */
export const callHook = <E extends { readonly context: Context.Context<never> }>(
  name: string,
  hook: ((event: E) => unknown) | undefined,
  event: E
): void => {
  if (hook === undefined) return
  // The hook is the user's and runs in the middle of our bookkeeping, so nothing may escape from it.
  try {
    const result = hook(event)
    // An async function is a `() => void` to the compiler.
    if (isPromiseLike(result)) {
      result.then(undefined, (error: unknown) => report(name, event, error))
    }
  } catch (error) {
    report(name, event, error)
  }
}

const report = (name: string, event: { readonly context: Context.Context<never> }, error: unknown): void => {
  Effect.runForkWith(event.context)(Effect.logError(`A hook failed and was ignored: ${name}`, Cause.die(error)))
}
