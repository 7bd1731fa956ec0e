/** One server for all tests of a file. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

export interface Hooks {
  readonly beforeAll: (f: () => Promise<void>) => void
  readonly afterAll: (f: () => Promise<void>) => void
}

/** Starts it before the first test if it is installed, and ends it after the last one. */
export const serverOfFile = <A>(
  hooks: Hooks,
  isInstalled: boolean,
  start: Effect.Effect<A, never, Scope.Scope>
): Effect.Effect<A> => {
  const scope = Scope.makeUnsafe()
  let server: A | undefined
  if (isInstalled) {
    hooks.beforeAll(async () => {
      server = await Effect.runPromise(Scope.provide(start, scope))
    })
    hooks.afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  }
  return Effect.sync(() => {
    if (server === undefined) throw new Error("the server was not started")
    return server
  })
}
