import * as Data from "effect/Data"
import { format } from "effect/Formatter"
import type * as Request from "effect/Request"
import { formatSteps, type Step } from "../waits/cycle.js"

/**
 * The error of a look-up without a row, in functions of `Batcher.fn`.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotFoundError<Id = unknown> extends /*#__PURE__*/ Data.TaggedError("NotFoundError")<{
  /** The name of the function. */
  readonly resolver: string
  readonly id: Id
}> {
  override get message(): string {
    return `${this.resolver}: no row with id ${format(this.id)}`
  }
}

/**
 * `execute` of an `ordered` resolver did not return one result for each request.
 *
 * @category errors
 * @since 0.1.0
 */
export class ResultLengthMismatch extends /*#__PURE__*/ Data.TaggedError("ResultLengthMismatch")<{
  /** The name of the resolver, of its service, or of its requests. */
  readonly resolver: string
  /** How many requests there were. */
  readonly expected: number
  /** How many results came back. */
  readonly actual: number
}> {
  override get message(): string {
    return `${this.resolver}: execute answered ${this.expected} requests with ${this.actual} results`
  }
}

/**
 * A batch made a look-up that waits for that batch itself.
 *
 * **Details**
 *
 * `path` leads from the batch back to itself, through resolvers with their requests and runs of a `Reducer`.
 *
 * @category errors
 * @since 0.1.0
 */
export class LookupCycle extends /*#__PURE__*/ Data.TaggedError("LookupCycle")<{
  /** The name of the resolver, of its service, or of its requests. */
  readonly resolver: string
  /** The request that would wait for ever. */
  readonly request: Request.Any
  readonly path: ReadonlyArray<Step>
}> {
  override get message(): string {
    return `${this.resolver}: the look-up of ${format(this.request)} would wait for itself: ${formatSteps(this.path)}`
  }
}

/**
 * The defect of a resolver that is wrong.
 *
 * **Details**
 *
 * - `ResultLengthMismatch`: all requests of the batch die.
 * - `LookupCycle`: a look-up that closes a cycle is asked for once more, and dies if it comes back.
 *
 * **Example** (Reading the defect of a wrong resolver)
 *
 * ```ts import.meta.vitest
 * import { Cause, Effect, Request } from "effect"
 * import { Batcher } from "effect-funnel"
 *
 * class GetUser extends Request.TaggedClass("GetUser")<{ readonly id: number }, string> {}
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* Batcher.ordered(GetUser, { execute: () => Effect.succeed([]) })
 *   const cause = yield* Effect.flip(Effect.sandbox(Effect.request(new GetUser({ id: 1 }), users)))
 *   const defect = Cause.squash(cause)
 *   return defect instanceof Batcher.BatcherError && defect.reason instanceof Batcher.ResultLengthMismatch
 *     ? [defect.reason.expected, defect.reason.actual]
 *     : []
 * })
 *
 * await Effect.runPromise(Effect.provide(Effect.scoped(program), Batcher.layer())) // => [1, 0]
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class BatcherError extends /*#__PURE__*/ Data.TaggedError("BatcherError")<{
  readonly reason: ResultLengthMismatch | LookupCycle
}> {
  override get message(): string {
    return this.reason.message
  }
}
