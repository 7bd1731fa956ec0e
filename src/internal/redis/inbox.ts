/**
 * The one subscription of a process to Redis.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Inbox from "../shared/inbox.js"

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

type Layers = Map<string, Layer.Layer<RedisInbox, never, Redis.Redis>>

const layers = /*#__PURE__*/ new WeakMap<Redis.Redis["Service"], Layers>()

/** One inbox for all services of a program with this client and prefix: a layer is built once. */
export const layer = (prefix: string): Layer.Layer<RedisInbox, never, Redis.Redis> =>
  Layer.unwrap(Effect.map(Redis.Redis, (redis) => {
    const ofClient: Layers = layers.get(redis) ?? new Map()
    layers.set(redis, ofClient)
    const made = ofClient.get(prefix) ?? Layer.effect(RedisInbox)(make(prefix))
    ofClient.set(prefix, made)
    return made
  }))
