/**
 * Foreign code in the steps of a batch: many callers depend on them, so that the `Equal` of one must not end them.
 */
import type { Keyed, KeyMap } from "./keyMap.js"

/** What `f` returns, or what `otherwise` makes of the error that it throws. */
export const guarded = <A>(f: () => A, otherwise: (error: unknown) => A): A => {
  try {
    return f()
  } catch (error) {
    return otherwise(error)
  }
}

/** Finds the equal of a key. Keys whose comparison throws are not equal, as the map sees to: each is asked for by itself. */
export const find = <V extends Keyed<V>>(map: KeyMap<V>, key: unknown, hash: number): V | undefined =>
  map.get(key, hash)
