/**
 * Brings the operations on many items to the handles.
 */
import { bring } from "./brought.js"
import { all, firstSuccess, forEach } from "./collect.js"
import { stream } from "./stream.js"

/**
 * Returns the value, by which a program may get a handle. Where a bundler drops the value, because nothing uses it, it drops
 * the operations too.
 */
export const withMany = <A>(value: A): A => {
  bring({ all, firstSuccess, forEach, stream })
  return value
}
