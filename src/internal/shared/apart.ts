/**
 * Work in fibers of their own, which nobody waits for where it does not end: a client of a server that is gone without a
 * word may wait for it as long as the system does.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"

/** How long it may take to connect. The other end may accept the connection, and be gone before it answers. */
const handshake = "10 seconds"

/** How long the end of a scope waits for the end of a connection. */
const farewell = "1 second"

/**
 * Runs a command whose end its caller does not wait for once it is interrupted. `onFiber` gets the fiber of it when it is
 * interrupted, or from the start if it `isEarly`.
 */
export const run = <A, E>(
  command: Effect.Effect<A, E>,
  onFiber?: (fiber: Fiber.Fiber<unknown, unknown>) => void,
  isEarly = false
): Effect.Effect<A, E> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.callback<A, E>((resume) => {
      const fiber = Effect.runForkWith(context)(command)
      if (isEarly) onFiber?.(fiber)
      fiber.addObserver(resume)
      return Effect.sync(() => {
        fiber.interruptUnsafe()
        if (!isEarly) onFiber?.(fiber)
      })
    })
  )

const detach = Effect.forkDetach({ startImmediately: true })

/** Connects in a scope of its own. What comes too late is released, and so it is at the end of this scope. */
export const connect = <A, E, R>(
  connection: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Error, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const connecting = yield* detach(Effect.interruptible(Scope.provide(connection, scope)))
      yield* Effect.addFinalizer(() => {
        const end = Effect.andThen(Fiber.interrupt(connecting), Scope.close(scope, Exit.void))
        return detach(end).pipe(
          // In a fiber of its own as well: the one that closes may be interrupted.
          Effect.flatMap((ending) => detach(Effect.interruptible(Effect.timeoutOption(Fiber.await(ending), farewell)))),
          Effect.flatMap(Fiber.await),
          Effect.asVoid
        )
      })
      return yield* restore(Effect.timeoutOrElse(Fiber.join(connecting), {
        duration: handshake,
        orElse: () => Effect.fail(new Error(`not connected within ${handshake}`))
      }))
    })
  )
