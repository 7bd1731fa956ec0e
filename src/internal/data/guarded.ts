/**
 * Calls foreign code in a step that many callers depend on: an error of one of them must not end the step.
 */

/** The result of `f`, or of `otherwise` if `f` throws. */
export const guarded = <A>(f: () => A, otherwise: (error: unknown) => A): A => {
  try {
    return f()
  } catch (error) {
    return otherwise(error)
  }
}

/** Calls `f` with all of them, whichever throws; the first error is thrown then. */
export const forEachGuarded = <A>(all: ReadonlyArray<A>, f: (each: A, i: number) => void): void => {
  let thrown: { readonly error: unknown } | undefined
  all.forEach((each, i) => guarded(() => f(each, i), (error) => void (thrown ??= { error })))
  if (thrown !== undefined) throw thrown.error
}
