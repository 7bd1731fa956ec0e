/**
 * Refreshes an expired token once for twenty requests that need it at the same time. The first request gives up while it
 * waits, and the others still get the token.
 *
 *     npm run example -- reduce
 *
 * prints:
 *
 *     POST /oauth/token
 *     19 requests answered with token-1, 1 gave up, 1 refresh
 *     POST /oauth/token
 *     the next one with token-2, 2 refreshes
 */
import { Console, Effect, Exit, Fiber } from "effect"
import { Reducer } from "effect-funnel"

let refreshes = 0

/** A fake identity provider: an answer takes 50 ms. */
const refresh = Effect.gen(function*() {
  yield* Console.log("POST /oauth/token")
  yield* Effect.sleep("50 millis")
  return `token-${++refreshes}`
})

/** A caller that needs a token joins a refresh in flight. */
const token = refresh.pipe(Reducer.reduce("token"))

const request = (path: string) => Effect.map(token, (bearer) => ({ path, bearer }))

const program = Effect.gen(function*() {
  const fibers = yield* Effect.forEach(
    Array.from({ length: 20 }, (_, n) => `/orders/${n}`),
    (path) => Effect.forkChild(request(path))
  )
  yield* Effect.sleep("10 millis")
  yield* Fiber.interrupt(fibers[0]!)

  const exits = yield* Fiber.awaitAll(fibers)
  const answered = exits.filter(Exit.isSuccess)
  const bearers = new Set(answered.map((exit) => exit.value.bearer))
  yield* Console.log(
    `${answered.length} requests answered with ${[...bearers].join()}, ${exits.length - answered.length} gave up, ` +
      `${refreshes} refresh`
  )

  // A Reducer keeps no result. To reuse a token until it expires, add a cache.
  const { bearer } = yield* request("/orders/20")
  yield* Console.log(`the next one with ${bearer}, ${refreshes} refreshes`)
})

await Effect.runPromise(Effect.provide(program, Reducer.layer()))
