/**
 * Flights in PostgreSQL: a row a key, with the lease and the result, and a row for each party that waits.
 *
 * A wake-up has no result in it: it is fetched by the next join, for a notification holds less than 8000 bytes.
 */
import { constVoid } from "effect/Function"
import * as Inbox from "../shared/inbox.js"
import { joinedOf, type Party, type ReducerStore } from "../store/reducerStore.js"
import { type Database, decode, encode } from "./database.js"

interface Answer {
  readonly tag: "L" | "F" | "D"
  readonly fence: number
  readonly rest: number
  readonly payload?: string
}

/** Makes the store. */
export const make = ({ call, inbox }: Database, options: {
  readonly prefix: string
  readonly leaseMillis: number
  readonly retainMillis: number
}): ReducerStore => {
  const { leaseMillis, prefix } = options
  const lease = Math.ceil(leaseMillis * 1000)
  const retain = Math.ceil(options.retainMillis * 1000)
  const at = (key: string, { owner }: Party) => ({ key: encode(prefix + key), owner })
  const inboxOf = ({ owner }: Party) => Inbox.addressOf(inbox, owner)

  return {
    leaseMillis,
    open: (onSignal) => Inbox.openParty(inbox, onSignal),
    join: (key, party, after) =>
      call(
        "join",
        "join_flight",
        { ...at(key, party), party: inboxOf(party), lease, after },
        (answer) => {
          // Sound: the function returns it.
          const { fence, payload = "=", rest, tag } = answer as Answer
          return joinedOf(tag, fence, rest, decode(payload))
        }
      ),
    renew: (key, party, fence) =>
      call("renew", "renew_flight", { ...at(key, party), lease, fence }, (answer) => answer === true, "renewal"),
    complete: (key, party, fence, payload) =>
      call(
        "complete",
        "complete_flight",
        { ...at(key, party), fence, retain, payload: encode(payload) },
        (answer) => answer === true,
        "back"
      ),
    release: (key, party) =>
      call("release", "release_flight", { ...at(key, party), party: inboxOf(party) }, constVoid, "back")
  }
}
