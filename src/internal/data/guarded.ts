/**
 * Foreign code in the steps of what many callers depend on: what one of them throws must not end the steps.
 */

/** What `f` returns, or what `otherwise` makes of the error that it throws. */
export const guarded = <A>(f: () => A, otherwise: (error: unknown) => A): A => {
  try {
    return f()
  } catch (error) {
    return otherwise(error)
  }
}
