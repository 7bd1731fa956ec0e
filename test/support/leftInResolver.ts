/**
 * What a resolver still holds on to.
 */
import type * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import { loaderOf } from "../../src/internal/batcher/loader.ts"

/** Names what is left in the maps of a resolver that nobody waits for; "" is nothing. */
export const leftIn = <Req extends Request.Any>(resolver: RequestResolver<Req>): string => {
  const loader = loaderOf(resolver)!
  const left: Array<string> = []
  const count = (what: string, n: number) => {
    if (n !== 0) left.push(`${n} ${what}`)
  }
  count("batches that run", loader["running"].size)
  count("batches that go on collecting", loader["waiting"].size)
  const groups = loader["groups"]
  if (groups.all === undefined) count("groups", groups.values().length)
  for (const group of groups.values()) {
    count("windows", group.open)
    count("requests that are collected", group.collected)
    count("batches of a group", group.running)
    count("requests in flight", group.inFlight.values().length)
  }
  return left.join(", ")
}
