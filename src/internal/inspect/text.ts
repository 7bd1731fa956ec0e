/**
 * A snapshot as text for a terminal.
 */
import type { Snapshot, Some } from "./models.js"

const time = (millis: number): string => millis < 1000 ? `${Math.round(millis)} ms` : `${(millis / 1000).toFixed(1)} s`

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`

/** Parts of a line; those that are missing are left out. */
const line = (...parts: ReadonlyArray<string | false | undefined>): string =>
  parts.filter((part) => typeof part === "string").join(", ")

const listed = <A>(some: Some<A>, f: (item: A) => string): ReadonlyArray<string> => {
  const more = some.total - some.first.length
  return [...some.first.map((item) => `  ${f(item)}`), ...more > 0 ? [`  and ${more} more`] : []]
}

const titled = (title: string, key?: string): string => key === undefined ? title : `${title} ${key}`

export const render = (snapshot: Snapshot): string => {
  const { batchers, limiters, reducers, retryBudgets, schedulers, waits } = snapshot
  const lines = [`effect-funnel at ${new Date(snapshot.at).toISOString()}`]
  for (const _ of schedulers.first) {
    const refused = Object.entries(_.refused).map(([reason, n]) => `${n} ${reason}`)
    const shares = _.byShare.map(({ queued, share }) => `${share}: ${queued}`)
    const priorities = _.byPriority.map(({ priority, queued }) => `${priority}: ${queued}`)
    const job = (word: string) => (job: (typeof _.running.first)[number]): string =>
      line(
        `${word} ${job.id}`,
        time(job.millis),
        job.weight !== 1 && `weight ${job.weight}`,
        job.priority !== 0 && `priority ${job.priority}`,
        job.share !== undefined && `share ${job.share}`,
        job.inside !== undefined && `inside ${job.inside}`
      )
    lines.push(
      "",
      titled(`Scheduler ${_.name}`, _.key) + ": " + line(
        `${_.running.total} running`,
        `weight ${_.weight}${_.limit === undefined ? "" : ` of ${_.limit}`}`,
        `${_.queued.total} waiting${
          _.queued.total === 0 ? "" : ` for ${_.waitingFor}, the oldest for ${time(_.oldestWaitMillis)}`
        }`,
        _.paused && "paused",
        _.draining && "draining"
      )
    )
    if (refused.length > 0) lines.push(`  refused: ${refused.join(", ")}`)
    if (priorities.length > 1) lines.push(`  waiting by priority: ${priorities.join(", ")}`)
    if (shares.length > 0) lines.push(`  waiting by share: ${shares.join(", ")}`)
    lines.push(...listed(_.running, job("running")), ...listed(_.queued, job("waiting")))
  }
  if (schedulers.total > schedulers.first.length) {
    lines.push("", `and ${count(schedulers.total - schedulers.first.length, "more scheduler")}`)
  }
  for (const { held, name } of limiters) {
    lines.push(
      "",
      `RateLimiter ${name}: ${count(held.total, "key")} held back`,
      ...listed(held, (_) =>
        line(
          titled("key", _.key),
          `${_.waiting} waiting${_.waiting === 0 ? "" : `, the oldest for ${time(_.oldestWaitMillis)}`}`,
          _.penaltyMillis > 0 && `penalty of ${time(_.penaltyMillis)}`
        ))
    )
  }
  for (const { inFlight, name } of reducers) {
    lines.push(
      "",
      `Reducer ${name}: ${inFlight.total} in flight`,
      ...listed(
        inFlight,
        (_) =>
          line(
            [_.id, _.name, _.key].filter((part) => part !== undefined).join(" "),
            _.phase,
            time(_.millis),
            count(_.callers, "caller")
          )
      )
    )
  }
  for (const { batches, collecting, name, queued, running } of batchers) {
    lines.push(
      "",
      `Batcher ${name}: ${collecting} collecting, ${queued} queued, ${running} running`,
      ...listed(
        batches,
        (_) =>
          line(titled(_.id, _.keys), _.state, time(_.millis), count(_.requests, "request"), count(_.callers, "caller"))
      )
    )
  }
  for (const { denied, limit, name, tokens } of retryBudgets) {
    lines.push("", `RetryBudget ${name}: ${tokens} of ${limit} tokens, ${denied} denied`)
  }
  if (waits.total > 0) {
    lines.push(
      "",
      "Who waits for whom",
      ...listed(waits, ({ from, to }) => `${from.id} (${from.name}) -> ${to.id} (${to.name})`)
    )
  }
  return lines.join("\n") + "\n"
}
