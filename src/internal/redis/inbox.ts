/**
 * The one subscription of a process to Redis.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Inbox from "../shared/inbox.js"
import { perClient } from "../shared/perClient.js"

export type RedisInbox = Inbox.Inbox

export const RedisInbox: Context.Service<RedisInbox, RedisInbox> = /*#__PURE__*/ Context.Service<RedisInbox>(
  "effect-funnel/internal/RedisInbox"
)

const make = (prefix: string) =>
  Effect.flatMap(Redis.Redis, (redis) =>
    Inbox.make(prefix, {
      subscribe: (channel) =>
        Effect.map(redis.subscribe(channel), (queue) => Effect.map(Queue.take(queue), ({ message }) => message)),
      publish: (channel, message) => redis.send("PUBLISH", channel, message)
    }))

/** One inbox for all services of a program with this client and prefix. */
export const layer: (prefix: string) => Layer.Layer<RedisInbox, never, Redis.Redis> = /*#__PURE__*/ perClient(
  Redis.Redis,
  (prefix) => Layer.effect(RedisInbox)(make(prefix))
)
