/**
 * From a scheduler's handle to its engine, for what is built on it.
 */
import type { Engine } from "./scheduler.js"

const engines = /*#__PURE__*/ new WeakMap<object, Engine>()

export const register = <A extends object>(handle: A, engine: Engine): A => {
  engines.set(handle, engine)
  return handle
}

/**
 * The engine behind a handle; `undefined` for a handle that somebody else made, such as a mock.
 */
export const engineOf = (handle: object): Engine | undefined => engines.get(handle)
