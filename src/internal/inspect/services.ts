/**
 * The figures of the schedulers of each name together: the lists of a snapshot end somewhere.
 */
import type { Engine } from "../scheduler/engine.js"
import type { Job } from "../scheduler/job.js"
import { penaltyOf, waitingFor } from "../scheduler/watching.js"
import type { SchedulerSnapshot } from "./models.js"
import type { Member } from "./roll.js"
import { asEngine } from "./snapshot.js"

/** The schedulers of one name, those of all keys included. */
export interface Service {
  readonly name: string
  /** How many there are: of a keyed one, the keys. */
  readonly schedulers: number
  readonly running: number
  readonly queued: number
  /** Absent where one has no bound, and while there is none. */
  readonly limit?: number
  /** Whether one of them is. */
  readonly paused: boolean
  readonly draining: boolean
  /** What the one with the oldest wait waits for. */
  readonly waitingFor: SchedulerSnapshot["waitingFor"]
  readonly oldestWaitMillis: number
  readonly oldestRunMillis: number
  readonly penaltyMillis: number
  /** For how long no job has begun or ended although one waits for width, or all places of the only one are taken. */
  readonly stuckMillis: number
}

/** See `stuckMillis`. `last` is the job that was the last to begin. */
const stuck = (engine: Engine, last: Job, isOnly: boolean): number => {
  const hold = waitingFor(engine)
  const isFull = isOnly && hold === "nothing" && engine.weight >= engine.width
  return hold === "width" || isFull ? engine.millis() - Math.max(engine.endedAt, last.since) : 0
}

export const services = (members: Iterable<Member>): ReadonlyArray<Service> => {
  const found = new Map<string, Array<Engine>>()
  for (const { kind, name, source } of members) {
    if (kind !== "scheduler") continue
    const all = found.get(name) ?? []
    found.set(name, all)
    for (const engine of source.engines()) all.push(asEngine(engine))
  }
  return Array.from(found, ([name, all]) => {
    let [running, queued, limit, oldestWait, oldestRun, penalty, stuckMillis] = [0, 0, 0, 0, 0, 0, 0]
    let worst = all[0]
    for (const engine of all) {
      running += engine.running
      queued += engine.queued
      limit += engine.width
      const wait = engine.oldestWait
      if (wait > oldestWait || worst!.queued === 0) worst = engine
      oldestWait = Math.max(oldestWait, wait)
      const { started } = engine.lanes
      if (started.length > 0) {
        oldestRun = Math.max(oldestRun, engine.millis() - started.at(-1)!.since)
        stuckMillis = Math.max(stuckMillis, stuck(engine, started[0]!, all.length === 1))
      }
      penalty = Math.max(penalty, penaltyOf(engine))
    }
    return {
      name,
      schedulers: all.length,
      running,
      queued,
      ...all.length === 0 || limit === Infinity ? {} : { limit },
      paused: all.some((engine) => engine.paused),
      draining: all.some((engine) => engine.draining),
      waitingFor: worst === undefined ? "nothing" : waitingFor(worst),
      oldestWaitMillis: oldestWait,
      oldestRunMillis: Math.round(oldestRun),
      penaltyMillis: Math.ceil(penalty / 1e6),
      stuckMillis: Math.round(stuckMillis)
    }
  })
}
