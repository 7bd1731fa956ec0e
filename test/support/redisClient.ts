/**
 * A connection of its own to a server under test, as another process would have it.
 */
import * as NodeRedis from "@effect/platform-node/NodeRedis"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as RedisInbox from "../../src/internal/redis/inbox.js"

/** The client as the documentation advises it: commands fail at once while there is no connection. */
export const layerClient = (url: string) =>
  NodeRedis.layer({ url, disableOfflineQueue: true, commandOptions: { timeout: 0 } })

/** Connects anew at each use: client and inbox share nothing with those of other uses. */
export const connected = (url: string, prefix = "effect-funnel:1:inbox:") =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      Layer.fresh(RedisInbox.layer(prefix)).pipe(Layer.provideMerge(Layer.fresh(layerClient(url))))
    )
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        return { redis: yield* Redis.Redis, inbox: yield* RedisInbox.RedisInbox, client: yield* NodeRedis.NodeRedis }
      }),
      context
    )
  })
