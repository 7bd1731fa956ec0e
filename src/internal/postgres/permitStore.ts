/**
 * Permits in PostgreSQL: a row a permit, and a row for each process that waits.
 */
import { constVoid } from "effect/Function"
import * as Inbox from "../shared/inbox.js"
import { named } from "../store/bounds.js"
import type { Acquired, PermitStore, PermitStoreOptions } from "../store/permitStore.js"
import { type Database, encode } from "./database.js"

/** Makes the store of one scheduler. */
export const make = ({ call, inbox }: Database, options: PermitStoreOptions): PermitStore => {
  const { leaseMillis, name, prefix } = options
  // A scheduler without a key may have a name that goes on as the key of another one does.
  const key = encode(prefix + (options.key === undefined ? name : `{${name}}${named(":", options.key)}`))
  const lease = Math.ceil(leaseMillis * 1000)
  const { close, owner } = Inbox.open(inbox, () => options.onWake())
  const party = Inbox.addressOf(inbox, owner)

  // The casts are sound: the functions return values of these types.
  return {
    leaseMillis,
    node: owner,
    close,
    acquire: (permits, limit) =>
      call("acquire", "acquire", { key, party, lease, limit, permits }, (answer): Acquired => {
        const { granted, penalty, poll } = answer as Record<"granted" | "penalty" | "poll", number>
        return { granted, pollMillis: poll / 1000, penaltyMillis: penalty / 1000 }
        // Who asks for nothing leaves the queue.
      }, permits.length === 0 ? "back" : undefined),
    renew: (permits, limit) =>
      call(
        "renew",
        "renew_permits",
        { key, lease, limit, permits },
        (lost) => lost as ReadonlyArray<string>,
        "renewal"
      ),
    release: (permits) => call("release", "release_permits", { key, permits }, constVoid, "back"),
    penalize: (millis) => call("penalize", "penalize", { key, micros: Math.ceil(millis * 1000) }, constVoid)
  }
}
