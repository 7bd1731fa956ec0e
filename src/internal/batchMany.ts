/**
 * Many look-ups in one fiber.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"

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
        for (let i = 0; i < requests.length && !failed; i++) {
          leave.push(Effect.requestUnsafe(requests[i]!, {
            resolver,
            context,
            onExit: (exit) => {
              waiting--
              if (failed) return
              if (!set(i, exit)) {
                failed = true
                resume(Effect.asVoid(exit))
              } else if (waiting === 0) {
                resume(Effect.void)
              }
            }
          }))
        }
        if (waiting === 0) resume(Effect.void)
      }),
      (exit) => {
        if (exit._tag === "Failure") { for (const go of leave) go() }
        return Effect.void
      }
    )
  })
