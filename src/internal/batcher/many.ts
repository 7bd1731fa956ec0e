/**
 * Many look-ups in one fiber.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import { guarded } from "../data/guarded.js"
import { loaderOf } from "./loader.js"

type Result<Req extends Request.Any> = Exit.Exit<Request.Success<Req>, Request.Error<Req>>

/**
 * Asks for every request and puts its exit where it belongs with `set`. It fails with the first exit for which `set` is
 * false; then, and when it is interrupted, it leaves all that are still waited for.
 */
export const each = <Req extends Request.Any>(
  requests: ReadonlyArray<Req>,
  resolver: RequestResolver<Req>,
  set: (index: number, exit: Result<Req>) => boolean
): Effect.Effect<void, Request.Error<Req>, Request.Services<Req>> =>
  Effect.contextWith((context: Context.Context<Request.Services<Req>>) => {
    const leave: Array<() => void> = []
    return Effect.onExit(
      Effect.callback<void, Request.Error<Req>>((resume) => {
        let waiting = requests.length
        let failed = false
        const tell = (index: number, exit: Result<Req>): void => {
          waiting--
          if (failed) return
          if (!set(index, exit)) {
            failed = true
            resume(Effect.asVoid(exit))
          } else if (waiting === 0) {
            resume(Effect.void)
          }
        }
        const ask = (index: number, onExit: (exit: Result<Req>) => void): void => {
          leave.push(Effect.requestUnsafe(requests[index]!, { resolver, context, onExit }))
        }
        const loader = loaderOf(resolver)
        let others: ReadonlyArray<number> | undefined
        const gathered = loader === undefined || requests.length === 0 ? undefined : loader.gather(requests, context)
        if (loader !== undefined && gathered !== undefined) {
          const [bulk, rest] = gathered
          const { indices, items } = bulk
          const size = bulk.requests.length
          if (size > 0) {
            const onExit = (exit: Result<Req>) => {
              // It ended without having run: for all of them alike.
              for (let i = 0; i < size; i++) tell(indices === undefined ? i : indices[i]!, items[i]?.exit ?? exit)
            }
            loader.carry(bulk, () => ask(indices === undefined ? 0 : indices[0]!, onExit))
          }
          others = rest
        }
        const count = others === undefined ? requests.length : others.length
        for (let i = 0; i < count; i++) {
          if (failed) break
          const index = others === undefined ? i : others[i]!
          ask(index, (exit) => tell(index, exit))
        }
        if (waiting === 0) resume(Effect.void)
      }),
      (exit) => {
        if (exit._tag === "Failure") { for (const go of leave) guarded(go, constVoid) }
        return Effect.void
      }
    )
  })
