/**
 * Foreign code in the steps of a batch: many callers depend on them, so that what one of them throws must not end them.
 */

/** What `f` returns, or what `otherwise` makes of the error that it throws. */
export const guarded = <A>(f: () => A, otherwise: (error: unknown) => A): A => {
  try {
    return f()
  } catch (error) {
    return otherwise(error)
  }
}
