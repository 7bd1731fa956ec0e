/**
 * Calls a hook so that it cannot hurt the caller: what it throws is logged where the event came from, and ignored.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** An event says in whose context its log line belongs. */
export interface Observed {
  readonly context: Context.Context<never>
}

export const callHook = <E extends Observed>(
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

const report = (name: string, event: Observed, error: unknown): void => {
  Effect.runForkWith(event.context)(Effect.logError(`A hook failed and was ignored: ${name}`, Cause.die(error)))
}

const isPromiseLike = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"
