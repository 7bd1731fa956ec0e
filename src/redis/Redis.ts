/**
 * A Redis that may be away when the program starts, and whose connection heals; and a Redis Cluster.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redis from "effect/persistence/Redis"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import * as Apart from "../internal/shared/apart.js"

/**
 * Provides a `Redis` at once and connects in the background.
 *
 * **When to use**
 *
 * Use it around `NodeRedis.layer(…)`. Without it the client's layer fails with its first attempt to connect, and a dead
 * connection stays dead for as long as the operating system keeps it open.
 *
 * **Details**
 *
 * Until there is a connection, every command fails with a `RedisError` that tells why, and subscriptions wait. Attempts are
 * 50 milliseconds apart at first, and 2 seconds at most. Once connected, the client reconnects by itself.
 *
 * It makes a new client in three cases that a client does not notice: a connection whose other end is gone without a word
 * (a command was given up, and a `PING` after it has no answer for 2 seconds), one that is stuck while it reconnects (a
 * command has failed, and so do a `PING` a second for 5 seconds), and a server that a fail-over has demoted (`READONLY`). The
 * old client serves until the new one is connected. It is closed once it answers a `PING`, or after 10 seconds, and keeps its
 * socket until the answers that it is owed have come, or the system gives its connection up. An attempt to connect ends after
 * 10 seconds.
 *
 * The layer ends with its clients, or a second later: a client that is closed while it connects may never end.
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

/** How long a command may wait for an answer before the connection counts as dead, once others were given up. */
const silence = "2 seconds"

/** How often a client whose commands fail is asked, once a second, until it counts as lost. */
const mostPings = 5

/** A server that a fail-over has demoted refuses to write. The address may lead to another one by now. */
const isDemoted = ({ cause }: Redis.RedisError): boolean =>
  Predicate.hasProperty(cause, "message") && String(cause.message).startsWith("READONLY")

/** How long a client that is replaced may take to connect again before it is closed. */
const mostConnecting = "10 seconds"

const make = Effect.fnUntraced(function*<E, R>(client: Layer.Layer<Redis.Redis, E, R>) {
  const connected = yield* Deferred.make<Redis.Redis["Service"]>()
  let current: { readonly redis: Redis.Redis["Service"]; readonly scope: Scope.Closeable } | undefined
  let cause: unknown = new Error("not connected yet")

  const scope = yield* Effect.scope
  // A client waits for the answers that a dead connection owes it, and for ever if it was still connecting.
  const clients = yield* Effect.acquireRelease(Scope.make("parallel"), Scope.close)
  const end = (client: Scope.Closeable) => Effect.forkDetach(Scope.close(client, Exit.void), { startImmediately: true })
  const context = yield* Effect.context<R>()
  // Each attempt builds a new client, whose scope is its own.
  const build = Effect.flatMap(
    Effect.scope,
    (scope) => Effect.provideContext(Layer.buildWithScope(Layer.fresh(client), scope), context)
  )
  // Waits until a client answers, which it does not while it connects: one that is closed meanwhile connects all the same, and
  // keeps that connection for ever.
  const settled = (redis: Redis.Redis["Service"]) =>
    redis.send("PING").pipe(
      Effect.tapError(() => Effect.sleep(100)),
      Effect.eventually,
      Effect.timeoutOption(mostConnecting)
    )
  const attempt = Effect.gen(function*() {
    const own = yield* Scope.fork(clients)
    const exit = yield* Effect.exit(Scope.provide(Apart.connect(build), own))
    if (Exit.isFailure(exit)) {
      cause = exit.cause
      yield* end(own)
      return false
    }
    const former = current
    current = { redis: Context.get(exit.value, Redis.Redis), scope: own }
    yield* Deferred.succeed(connected, current.redis)
    if (former !== undefined) yield* Effect.forkIn(Effect.andThen(settled(former.redis), end(former.scope)), scope)
    return true
  })
  const connect = Effect.gen(function*() {
    for (let wait = 50; !(yield* attempt); wait = Math.min(wait * 2, 2000)) yield* Effect.sleep(wait)
  })
  yield* Effect.forkIn(connect, scope)

  let doubted = false
  // One check at a time, in the background. It begins in its own fiber: the one that doubts may be interrupted.
  const doubt = (check: Effect.Effect<boolean>) => {
    const checked = Effect.suspend(() => {
      if (doubted) return Effect.void
      doubted = true
      return check.pipe(
        Effect.flatMap((isDead) => isDead ? connect : Effect.void),
        Effect.ensuring(Effect.sync(() => void (doubted = false)))
      )
    })
    return Effect.suspend(() => doubted ? Effect.void : Effect.forkIn(checked, scope))
  }
  // A connection whose other end is gone without a word takes commands, and never answers: then there is none.
  const ping = (redis: Redis.Redis["Service"]) => Effect.timeoutOption(Effect.exit(redis.send("PING")), silence)

  // A client that reconnects by itself may be stuck in it: then all its commands fail at once, and for ever.
  const isLost = Effect.fnUntraced(function*(redis: Redis.Redis["Service"]) {
    for (let i = 0; i < mostPings; i++) {
      yield* Effect.sleep("1 second")
      const answer = yield* ping(redis)
      if (Option.isNone(answer)) return true
      if (Exit.isSuccess(answer.value)) return false
    }
    return true
  })

  const use = <A, E, R>(f: (redis: Redis.Redis["Service"]) => Effect.Effect<A, E | Redis.RedisError, R>) =>
    Effect.suspend((): Effect.Effect<A, E | Redis.RedisError, R> => {
      if (current === undefined) return Effect.fail(new Redis.RedisError({ cause }))
      const { redis } = current
      return f(redis).pipe(
        Effect.onInterrupt(() => doubt(Effect.map(ping(redis), Option.isNone))),
        Effect.tapError((error) =>
          error instanceof Redis.RedisError
            ? doubt(isDemoted(error) ? Effect.as(Effect.sleep(1000), true) : isLost(redis))
            : Effect.void
        )
      )
    })

  return Redis.Redis.of({
    send: <A = unknown>(command: string, ...args: ReadonlyArray<string>) => use((_) => _.send<A>(command, ...args)),
    eval: (script) => (...params) => use((_) => _.eval(script)(...params)),
    subscribe: (channel) =>
      Effect.flatMap(Deferred.await(connected), (first) => (current?.redis ?? first).subscribe(channel)),
    reserve: use((_) => _.reserve)
  })
})

/**
 * The part of a cluster's client that `layerCluster` uses. `createCluster` of node-redis makes one.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClusterClient {
  readonly connect: () => Promise<unknown>
  readonly destroy: () => unknown
  readonly on: (event: "error", listener: (error: unknown) => void) => unknown
  /** Sends a command to the node of the key, or to any node, and follows `MOVED` and `ASK`. */
  readonly sendCommand: (firstKey: string | undefined, isReadonly: boolean, args: Array<string>) => Promise<unknown>
  readonly subscribe: (channel: string, listener: (message: unknown) => void) => Promise<unknown>
  readonly unsubscribe: (channel: string, listener: (message: unknown) => void) => Promise<unknown>
}

/**
 * Provides a `Redis` whose commands go to the nodes of a Redis Cluster.
 *
 * **When to use**
 *
 * Use it in place of `NodeRedis.layer(…)`, whose client talks to one node and gets a `MOVED` for the keys of the others. Wrap
 * it in `layerBackground` if the program may start while the cluster is away.
 *
 * **Details**
 *
 * A command goes to the node of its first key. A node that does not know a script gets its text. While a slot moves, a command
 * may fail for a moment, and `outageBudget` repeats it. During a fail-over the keys of one master are away.
 *
 * **Gotchas**
 *
 * `reserve` fails: no connection reaches all keys. Set `disableOfflineQueue` in `defaults`.
 *
 * **Example** (Connecting to a cluster)
 *
 * ```ts import.meta.vitest
 * import { Layer } from "effect"
 * import * as RedisLayer from "effect-funnel/redis/Redis"
 * import * as RedisReducer from "effect-funnel/redis/Reducer"
 * import { createCluster } from "redis"
 *
 * const RedisLive = RedisLayer.layerCluster(() =>
 *   createCluster({
 *     rootNodes: [{ url: "redis://10.0.0.1:6379" }, { url: "redis://10.0.0.2:6379" }],
 *     defaults: { disableOfflineQueue: true },
 *     commandOptions: { timeout: 0 }
 *   })
 * )
 *
 * const ReducerLive = RedisReducer.layer().pipe(Layer.provide(RedisLayer.layerBackground(RedisLive)))
 *
 * Layer.isLayer(ReducerLive) // => true
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCluster = (create: () => ClusterClient): Layer.Layer<Redis.Redis, Redis.RedisError> =>
  Layer.effect(Redis.Redis, makeCluster(create))

/** Commands whose first word is no key. Any node answers them; what is published reaches all nodes. */
const keyless = new Set(["PING", "PUBLISH", "SCRIPT", "INFO", "TIME"])

const makeCluster = Effect.fnUntraced(function*(create: () => ClusterClient) {
  const attempt = <A>(f: () => Promise<A>) =>
    Effect.tryPromise({ try: f, catch: (cause) => new Redis.RedisError({ cause }) })
  let connecting: Promise<unknown> | undefined
  const cluster = yield* Effect.acquireRelease(
    Effect.sync(create),
    (cluster) => {
      const destroy = Effect.ignoreCause(Effect.sync(() => cluster.destroy()))
      const pending = connecting
      if (pending === undefined) return destroy
      // One that is destroyed while it connects goes on all the same, and has its connections then. Nobody waits for that.
      const later = Effect.andThen(Effect.exit(attempt(() => pending)), destroy)
      return Effect.andThen(destroy, Effect.forkDetach(later))
    }
  )
  // Without a listener they would end the process. The commands fail all the same.
  cluster.on("error", () => {})
  yield* attempt(() => connecting = cluster.connect())
  connecting = undefined

  const texts = new Map<string, string>()
  const send = (command: string, ...args: ReadonlyArray<string>): Effect.Effect<unknown, Redis.RedisError> => {
    if (command === "EVALSHA") {
      const [sha, ...rest] = args
      const text = texts.get(sha!)
      const firstKey = Number(rest[0]) > 0 ? rest[1] : undefined
      const run = attempt(() => cluster.sendCommand(firstKey, false, [command, ...args]))
      return text === undefined ? run : Effect.catchIf(
        run,
        ({ cause }) => String(cause).includes("NOSCRIPT"),
        // It loads the script on this node.
        () => attempt(() => cluster.sendCommand(firstKey, false, ["EVAL", text, ...rest]))
      )
    }
    const sent = attempt(() =>
      cluster.sendCommand(keyless.has(command) ? undefined : args[0], false, [command, ...args])
    )
    return command === "SCRIPT" && args[0] === "LOAD"
      ? Effect.tap(sent, (sha) => Effect.sync(() => void texts.set(String(sha), args[1]!)))
      : sent
  }

  return yield* Redis.make({
    // Sound: the caller knows the type of the reply, as with any client.
    send: send as Redis.Redis["Service"]["send"],
    connect: Effect.fail(new Redis.RedisError({ cause: new Error("a cluster has no connection to reserve") })),
    subscribe: (channel, onMessage) => {
      const listener = (message: unknown) => onMessage({ channel, message: String(message) })
      return Effect.as(
        Effect.acquireRelease(
          attempt(() => cluster.subscribe(channel, listener)),
          // Not awaited: the node may be gone.
          () => Effect.forkDetach(Effect.ignoreCause(attempt(() => cluster.unsubscribe(channel, listener))))
        ),
        Effect.never
      )
    }
  })
})
