/**
 * What a resolver still holds on to.
 */
import type * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import { collectorOf } from "../../src/internal/batcher/resolver.ts"

/** Names what is left in the maps of a resolver that nobody waits for; "" is nothing. */
export const leftIn = <Req extends Request.Any>(resolver: RequestResolver<Req>): string => {
  const collector = collectorOf(resolver)!
  const left: Array<string> = []
  const count = (what: string, n: number) => {
    if (n !== 0) left.push(`${n} ${what}`)
  }
  count("batches that run", collector.runner.running.size)
  count("ends of windows", collector.runner.onClose.size)
  const { groups } = collector
  count("last callers", groups.seenNode === undefined ? 0 : 1)
  if (groups.all === undefined) count("groups", groups.values().length)
  for (const group of groups.values()) {
    count("windows", group.windows)
    count("batches of a group", group.batches)
    count("batches that collect", [group.main, group.inner].filter((slot) => slot.batch !== undefined).length)
    count("requests in flight", group.inFlight.values().length)
  }
  return left.join(", ")
}
