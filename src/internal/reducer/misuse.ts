/**
 * What the compiler refuses, and why: types of the arguments and results of a reducer's operations.
 *
 * All are aliases, none an interface: the declarations of a program that exports a reduced function spell them out.
 */
import type * as Effect from "effect/Effect"
import type * as Request from "effect/Request"
import type * as Scope from "effect/Scope"

/** Turns a misuse into a compile error: no value has this type, and its parameter says what is wrong. */
type Misuse<out Reason extends string> = { readonly "~effect-funnel/Reducer/Misuse": Reason }

/** `unknown` for an effect that may run under the key, otherwise a `Misuse` that says why it may not. */
export type Fits<K, A, E, R> = (
  [unknown] extends [K] ? Sound<R>
    // Nothing is inferred from what is no effect.
    : [K, unknown, unknown, unknown] extends [Effect.Effect<unknown, unknown, unknown>, A, E, R]
      ? Checked<"The arguments are swapped: the key comes first, then the effect">
    : [K] extends [Request.Request<infer A0, infer E0, unknown>] ? Sound<
        R,
        [A] extends [A0]
          ? [E] extends [E0] ? Checked : Checked<"The effect fails with an error that the request does not declare">
          : Checked<"The effect succeeds with a value that is not the request's">
      >
    : Sound<R>
)["~misuse"]

/** `unknown` unless the requirements are unknown or contain `Scope`, which would close under the callers that joined. */
export type NoScope<R> = Sound<R>["~misuse"]

type Sound<R, Otherwise = Checked> = 0 extends 1 & R ? Otherwise
  : [unknown] extends [R]
    ? Checked<"This is not an effect, or its requirements are unknown: annotate what it is made from">
  : [Exclude<Scope.Scope, R>] extends [never]
    ? Checked<"The effect requires Scope, which would close under the callers that joined: write Effect.scoped inside">
  : Otherwise

// The verdict is looked up in an object, because the compiler takes such a look-up for passed as long as a type parameter
// leaves it open: a generic wrapper compiles, and the check happens where it is called. A bare conditional type would not.
type Checked<out Reason extends string = never> = {
  readonly "~misuse": [Reason] extends [never] ? unknown : Misuse<Reason>
}

/** The parameters of a reduced function: all of them are its key, so any more are a compile error. */
export type Exactly<Args extends ReadonlyArray<unknown>> = [
  ...Args,
  ...ReadonlyArray<
    Misuse<"An argument that the function does not declare would be part of the key: write (id) => f(id)">
  >
]

/** What a call under this key succeeds with: a request's own type, otherwise that of the effect. */
export type Success<K, A> = [K] extends [Request.Request<infer A0, unknown, unknown>] ? A0 : A

/** What a call under this key fails with: a request's own type, otherwise that of the effect. */
export type Failure<K, E> = [K] extends [Request.Request<unknown, infer E0, unknown>] ? E0 : E
