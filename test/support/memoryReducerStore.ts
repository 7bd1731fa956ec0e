import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Joined, Party, ReducerStore, Signal } from "../../src/internal/store/reducerStore.js"

interface Flight {
  owner: Party | undefined
  fence: number
  until: number
  /** Whose lease ended may come back, with callers who wait for a result: the next one is kept for it. */
  taken: boolean
  result: { readonly fence: number; readonly payload: string; readonly until: number } | undefined
  readonly waiting: Map<Party, (signal: Signal) => void>
}

/**
 * Makes a store whose flights live in this process, on the clock of whoever calls it. Parties of several Reducers may
 * share it: that is how several processes are tested without a network.
 */
export const makeMemory = (options: {
  readonly leaseMillis: number
  readonly retainMillis: number
}): ReducerStore & { readonly size: () => number } => {
  const { leaseMillis, retainMillis } = options
  const flights = new Map<string, Flight>()
  const listeners = new Map<Party, (signal: Signal) => void>()
  let parties = 0
  let lastFence = 0

  const at = <A>(f: (now: number) => A): Effect.Effect<A> =>
    Clock.clockWith((clock) => Effect.sync(() => f(clock.currentTimeMillisUnsafe())))

  const wakeAll = (flight: Flight, signal: Signal) => {
    const waiting = [...flight.waiting.values()]
    flight.waiting.clear()
    for (const wake of waiting) wake(signal)
  }

  return {
    leaseMillis,
    size: () => flights.size,
    open: (onSignal) => {
      const party: Party = { owner: `memory.${++parties}`, close: () => void listeners.delete(party) }
      listeners.set(party, onSignal)
      return party
    },
    join: (key, party, after) =>
      at((now): Joined => {
        let flight = flights.get(key)
        if (flight === undefined) {
          flight = { owner: undefined, fence: 0, until: 0, taken: false, result: undefined, waiting: new Map() }
          flights.set(key, flight)
        }
        if (flight.result !== undefined && flight.result.until <= now) flight.result = undefined
        if (after !== undefined && flight.result !== undefined && flight.result.fence >= after) {
          flight.waiting.delete(party)
          return { _tag: "Done", fence: flight.result.fence, payload: flight.result.payload }
        }
        if (flight.until - now > leaseMillis) flight.until = now + leaseMillis
        if (flight.owner === party && flight.until > 0) {
          // It has run with this fence, so the next run gets another.
          if (after !== undefined && flight.fence <= after) flight.fence = lastFence = lastFence + 1
          flight.until = now + leaseMillis
          return { _tag: "Lead", fence: flight.fence }
        }
        if (flight.until > now) {
          const wake = listeners.get(party)
          if (wake !== undefined) flight.waiting.set(party, wake)
          return { _tag: "Follow", fence: flight.fence, restMillis: flight.until - now }
        }
        flight.fence = lastFence = Math.max(lastFence + 1, flight.fence + 1, now * 1000)
        if (flight.owner !== undefined) flight.taken = true
        flight.owner = party
        flight.until = now + leaseMillis
        flight.waiting.delete(party)
        return { _tag: "Lead", fence: flight.fence }
      }),
    renew: (key, party, fence) =>
      at((now) => {
        const flight = flights.get(key)
        if (flight === undefined) {
          flights.set(key, {
            owner: party,
            fence,
            until: now + leaseMillis,
            taken: false,
            result: undefined,
            waiting: new Map()
          })
          return true
        }
        if (flight.owner !== party || flight.fence !== fence) return false
        flight.until = now + leaseMillis
        return true
      }),
    complete: (key, party, fence, payload) =>
      at((now) => {
        const flight = flights.get(key)
        if (flight === undefined) return true
        if (flight.result?.fence === fence) return true
        if (flight.owner !== party || flight.fence !== fence) return false
        let until = now + retainMillis
        if (flight.waiting.size === 0 && !flight.taken) {
          // Who waited for a former run may still come for its result. A later one is as good.
          until = flight.result?.until ?? 0
          if (until <= now) {
            flights.delete(key)
            return true
          }
        }
        flight.owner = undefined
        flight.until = 0
        flight.taken = false
        flight.result = { fence, payload, until }
        wakeAll(flight, { _tag: "Done", fence, payload })
        return true
      }),
    release: (key, party) =>
      at((now) => {
        const flight = flights.get(key)
        if (flight === undefined) return
        flight.waiting.delete(party)
        if (flight.owner !== party) return
        flight.owner = undefined
        flight.until = 0
        if (flight.waiting.size > 0) wakeAll(flight, { _tag: "Retry" })
        else if (flight.result === undefined || flight.result.until <= now) flights.delete(key)
      })
  }
}
