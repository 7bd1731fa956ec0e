/**
 * An effect whose true cost is known at its end.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { refuse } from "../data/refuse.js"
import type { Tokens } from "./gcra.js"
import type { Charge, Limiter, StoreError } from "./limiter.js"
import { checkList, isList } from "./quota.js"

/** What a success has cost, by the function of a user. */
export type Settle = (value: never) => Tokens

/** The value that an option `settle` takes; anything without one. Of several options all have to take it. */
export type Settled<Arg> = Takes<Arg> extends (value: infer A) => void ? A : unknown

type Takes<Arg> = Arg extends { readonly settle?: infer F }
  ? [NonNullable<F>] extends [(value: infer A) => unknown] ? (value: A) => void : (value: unknown) => void
  : (value: unknown) => void

export const checkSettle = (caller: string, settle: Settle): void => {
  if (typeof settle !== "function") refuse(caller, "settle", "a function", settle)
}

/** Refuses the option where tokens are counted in a store. */
export const checkSettles = (caller: string, limiter: Limiter<StoreError> | undefined): void => {
  if (limiter === undefined || limiter.chargeUnsafe !== undefined) return
  refuse(caller, "settle", "left out where the rate is in a store", "a function")
}

/** Settles a charge by an exit. An effect that does not succeed has cost its tokens. Returns what the caller dies of. */
export const settleBy = (
  caller: string,
  limiter: Limiter<StoreError> | undefined,
  charge: Charge | undefined,
  settle: Settle,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<never> | undefined => {
  let actual: Tokens | undefined
  try {
    // Sound: the type of the option says that it takes the value of this effect.
    if (exit._tag === "Success") actual = costOf(caller, limiter, settle(exit.value as never))
    return undefined
  } catch (error) {
    return Effect.die(error)
  } finally {
    if (charge !== undefined) limiter!.settleUnsafe!(charge, actual)
  }
}

/** Part of a token counts as one. */
const costOf = (caller: string, limiter: Limiter<StoreError> | undefined, actual: Tokens): Tokens => {
  const one = (n: number): number =>
    typeof n === "number" && n >= 0 && n <= Number.MAX_SAFE_INTEGER
      ? Math.ceil(n)
      : refuse(caller, field, "a number >= 0", n)
  if (!isList(actual)) return one(actual)
  // Of a hole in a list there would be no check.
  const list = Array.from(actual)
  checkList(caller, list, limiter, field)
  return list.map(one)
}

const field = "what settle returns"
