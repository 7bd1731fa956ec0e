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
