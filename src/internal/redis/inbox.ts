/**
 * The one subscription of a process: wake-ups from other processes arrive here and are handed to those who wait.
 *
 * A wake-up may be lost, so everybody who waits for one polls beside it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"

/** Receives the wake-ups of one who waits; `undefined` says that some may have been lost. */
export type Listener = (message: string | undefined) => void

/** Hands messages that other processes publish to the listeners of this one. */
export interface RedisInbox {
  /** A name of this process that no other has. */
  readonly node: string
  /** The channel that others publish to: `"<token> <message>"`. */
  readonly channel: string
  /** Adds a listener under a token of its own, in this very step. */
  readonly add: (listener: Listener) => string
  readonly remove: (token: string) => void
}

/** Every channel begins with this: what an ACL has to allow. */
export const channelPrefix = "effect-funnel:1:inbox:"

export const RedisInbox: Context.Service<RedisInbox, RedisInbox> = /*#__PURE__*/ Context.Service<RedisInbox>(
  "effect-funnel/internal/RedisInbox"
)

const make = Effect.gen(function*() {
  const redis = yield* Redis.Redis
  const node = globalThis.crypto.randomUUID()
  const channel = channelPrefix + node
  const listeners = new Map<string, Listener>()
  let tokens = 0

  // Whoever waits has to look for itself: what was published while nobody listened is gone.
  const wakeAll = () => {
    for (const listener of Array.from(listeners.values())) listener(undefined)
  }

  let backoff = 50
  const listen = Effect.scoped(Effect.gen(function*() {
    const queue = yield* redis.subscribe(channel)
    wakeAll()
    while (true) {
      const { message } = yield* Queue.take(queue)
      backoff = 50
      const space = message.indexOf(" ")
      listeners.get(message.slice(0, space))?.(message.slice(space + 1))
    }
  }))
  // A subscription that ends in whatever way is made anew, ever more slowly while that fails.
  const again = Effect.suspend(() => {
    wakeAll()
    const wait = backoff
    backoff = Math.min(backoff * 2, 2000)
    return Effect.sleep(wait)
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.exit(listen), again)))

  return RedisInbox.of({
    node,
    channel,
    add: (listener) => {
      const token = String(++tokens)
      listeners.set(token, listener)
      return token
    },
    remove: (token) => void listeners.delete(token)
  })
})

/** One inbox for all services that are built in one place: the same layer is built once. */
export const layer: Layer.Layer<RedisInbox, never, Redis.Redis> = /*#__PURE__*/ Layer.effect(RedisInbox)(make)
