/**
 * A Redis that may be away when the program starts.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Scope from "effect/Scope"

/**
 * Provides a `Redis` at once and connects in the background.
 *
 * **When to use**
 *
 * Use it around `NodeRedis.layer(…)` if a program has to start while Redis is away. Without it the client's layer fails with
 * its first attempt to connect.
 *
 * **Details**
 *
 * Until there is a connection, every command fails with a `RedisError` that tells why, and subscriptions wait. Attempts are
 * 50 milliseconds apart at first, and 2 seconds at most. Once connected, the client reconnects by itself.
 *
 * **Example** (Starting while Redis is away)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer, Schema } from "effect"
 * import { Persistable, Redis } from "effect/persistence"
 * import * as RedisLayer from "effect-funnel/redis/Redis"
 * import * as RedisReducer from "effect-funnel/redis/Reducer"
 * import { reduceShared } from "effect-funnel/SharedReducer"
 *
 * // In an application: NodeRedis.layer({ url, disableOfflineQueue: true, commandOptions: { timeout: 0 } })
 * const unreachable = Layer.effect(Redis.Redis, Effect.fail(new Redis.RedisError({ cause: "connection refused" })))
 *
 * class GetReport extends Persistable.Class<{ payload: { readonly month: string } }>()("GetReport", {
 *   primaryKey: (_) => _.month,
 *   success: Schema.Number
 * }) {}
 *
 * const program = reduceShared(new GetReport({ month: "2026-01" }), () => Effect.succeed(42)).pipe(
 *   Effect.catchReason("ReducerError", "StoreError", ({ operation }) => Effect.succeed(`no answer to ${operation}`))
 * )
 *
 * const ReducerLive = RedisReducer.layer({ onStoreError: "fail", outageBudget: 0 }).pipe(
 *   Layer.provide(RedisLayer.layerBackground(unreachable))
 * )
 *
 * await Effect.runPromise(Effect.provide(program, ReducerLive)) // => "no answer to join"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerBackground = <E, R>(
  client: Layer.Layer<Redis.Redis, E, R>
): Layer.Layer<Redis.Redis, never, R> => Layer.effect(Redis.Redis, make(client))

const make = Effect.fnUntraced(function*<E, R>(client: Layer.Layer<Redis.Redis, E, R>) {
  const connected = yield* Deferred.make<Redis.Redis["Service"]>()
  let redis: Redis.Redis["Service"] | undefined
  let cause: unknown = new Error("not connected yet")

  const scope = yield* Effect.scope
  const attempt = Effect.gen(function*() {
    const child = yield* Scope.fork(scope)
    // Each attempt builds a new client.
    const exit = yield* Effect.exit(Layer.buildWithScope(Layer.fresh(client), child))
    if (Exit.isSuccess(exit)) {
      redis = yield* Effect.provideContext(Redis.Redis, exit.value)
      yield* Deferred.succeed(connected, redis)
      return true
    }
    cause = exit.cause
    yield* Scope.close(child, exit)
    return false
  })
  yield* Effect.gen(function*() {
    for (let wait = 50; !(yield* attempt); wait = Math.min(wait * 2, 2000)) yield* Effect.sleep(wait)
  }).pipe(Effect.forkScoped)

  const use = <A, E, R>(f: (redis: Redis.Redis["Service"]) => Effect.Effect<A, E, R>) =>
    Effect.suspend((): Effect.Effect<A, E | Redis.RedisError, R> =>
      redis === undefined ? Effect.fail(new Redis.RedisError({ cause })) : f(redis)
    )

  return Redis.Redis.of({
    send: <A = unknown>(command: string, ...args: ReadonlyArray<string>) => use((_) => _.send<A>(command, ...args)),
    eval: (script) => (...params) => use((_) => _.eval(script)(...params)),
    subscribe: (channel) => Effect.flatMap(Deferred.await(connected), (_) => _.subscribe(channel)),
    reserve: use((_) => _.reserve)
  })
})
