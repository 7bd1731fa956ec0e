/**
 * The one subscription of a process. It receives the wake-ups from other processes and hands them to their listeners.
 *
 * A wake-up may be lost, so every listener polls as well. A listener is named by a random token, which only those hear who
 * may read the keys: a client that can do no more than publish wakes nobody, and forges no result.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { monotonicMillis } from "../store/guard.js"
import type { Party, Signal } from "../store/reducerStore.js"
import * as Apart from "./apart.js"

/** Receives a wake-up; `undefined` if some may have been lost. */
export type Listener = (message: string | undefined) => void

export interface Inbox {
  /** A unique name of this process. */
  readonly node: string
  /** The channel of this process. A message is `"<token> <message>"`. */
  readonly channel: string
  /** Adds a listener synchronously and returns its token, which nobody can guess. */
  readonly add: (listener: Listener) => string
  readonly remove: (token: string) => void
}

/** Adds a listener, and names it by what others may see. */
export const open = (inbox: Inbox, listener: Listener): Party => {
  const token = inbox.add(listener)
  return { owner: `${inbox.node}.${token}`, close: () => inbox.remove(token) }
}

/** Adds a party of a flight. It hears `R`, or `D` or `E`, the fence, and the result unless that is to be fetched. */
export const openParty = (inbox: Inbox, onSignal: (signal: Signal) => void): Party =>
  open(inbox, (message) => onSignal(signalOf(message)))

const signalOf = (message: string | undefined): Signal => {
  if (message === undefined || message === "R") return { _tag: "Retry" }
  const space = message.indexOf(" ", 2)
  return space === -1
    ? { _tag: "Done", fence: Number(message.slice(2)), payload: undefined }
    : { _tag: "Done", fence: Number(message.slice(2, space)), payload: message.slice(space + 1) }
}

/** Where the owner of a listener hears: its token, and the channel of its process. */
export const addressOf = (inbox: Inbox, owner: string): string =>
  `${owner.slice(inbox.node.length + 1)} ${inbox.channel}`

/** How a store subscribes and publishes. A subscription that is lost fails. */
export interface Wire {
  /** Returns what waits for the next message. */
  readonly subscribe: (channel: string) => Effect.Effect<Effect.Effect<string, unknown>, unknown, Scope.Scope>
  readonly publish: (channel: string, message: string) => Effect.Effect<unknown, unknown>
}

/** How often the subscription is tried, in milliseconds, and how long a message may take. */
const trialMillis = 15_000
const answerMillis = 3000

/** Makes tokens of 128 random bits, many with one call to the source of randomness. */
const makeTokens = (): () => string => {
  const numbers = new Uint32Array(4 * 256)
  let at = numbers.length
  return () => {
    if (at === numbers.length) {
      globalThis.crypto.getRandomValues(numbers)
      at = 0
    }
    at += 4
    return Array.from(numbers.subarray(at - 4, at), (number) => number.toString(36)).join("-")
  }
}

/** Listens on `prefix` and the name of this process, until the scope closes. */
export const make = Effect.fnUntraced(
  function*(prefix: string, wire: Wire): Effect.fn.Return<Inbox, never, Scope.Scope> {
    const node = globalThis.crypto.randomUUID()
    const channel = prefix + node
    const listeners = new Map<string, Listener>()
    const nextToken = makeTokens()

    // Messages published without a subscription are lost, so every listener looks for itself.
    const wakeAll = () => {
      for (const listener of Array.from(listeners.values())) listener(undefined)
    }

    let backoff = 50
    const clock = yield* Clock.Clock
    const listen = Effect.scoped(Effect.gen(function*() {
      const next = yield* Apart.connect(wire.subscribe(channel))
      wakeAll()
      // When the last message came.
      let heard = monotonicMillis(clock)
      // A connection whose other end is gone without a word stays open: a message to itself shows that it is.
      const trial = Effect.gen(function*() {
        while (true) {
          const rest = heard + trialMillis - monotonicMillis(clock)
          if (rest > 0) {
            yield* Effect.sleep(rest)
            continue
          }
          const before = heard
          const sent = yield* Effect.exit(Effect.timeout(wire.publish(channel, "trial"), answerMillis))
          if (Exit.isSuccess(sent)) yield* Effect.sleep(answerMillis)
          else heard = monotonicMillis(clock)
          if (heard === before) return
        }
      })
      const receive = Effect.gen(function*() {
        const message = yield* next
        heard = monotonicMillis(clock)
        backoff = 50
        const space = message.indexOf(" ")
        listeners.get(message.slice(0, space))?.(message.slice(space + 1))
      })
      yield* Effect.raceFirst(Effect.forever(receive), trial)
    }))
    // A subscription that ends is made again, with a growing delay while that fails.
    const again = Effect.suspend(() => {
      wakeAll()
      const wait = backoff
      backoff = Math.min(backoff * 2, 2000)
      return Effect.sleep(wait)
    })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.exit(listen), again)))

    return {
      node,
      channel,
      add: (listener) => {
        const token = nextToken()
        listeners.set(token, listener)
        return token
      },
      remove: (token) => void listeners.delete(token)
    }
  }
)
