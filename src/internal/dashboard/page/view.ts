/**
 * What the page shows of a frame, as data: no element is made here.
 */
import type { Frame } from "../frame.js"
import { batcher, budget, type Card, type Level, type Line, type Plot, reducer, stores } from "./cards.js"
import { Counts, type Query } from "./counts.js"
import { clock, count, millis, percent, perSecond, plural } from "./format.js"
import { type Lists, lists, traits } from "./lists.js"

export interface View extends Lists {
  readonly headline: ReadonlyArray<readonly [text: string, mark?: "in" | "out"]>
  readonly since: string
  readonly flow: Plot
  readonly cards: ReadonlyArray<Card>
}

type Snapshot = Frame["snapshot"]
type Service = Frame["services"][number]
type Scheduler = Snapshot["schedulers"]["first"][number]

/** A wait is one to name when it lasts so long, and so many times as long as those of others. */
const longWait = { millis: 3000, times: 10 }
/** A backend is stuck when no job ended for so long although some run. */
const stuckMillis = 5000
/** How long a refusal counts as news. */
const newsMillis = 10_000

interface Memory {
  lastEnd: number | undefined
  refusedAt: Map<string, number>
}

export class Viewer {
  private readonly counts = new Counts()
  private readonly memories = new Map<string, Memory>()
  private started: number | undefined
  private at = 0

  see(frame: Frame): View {
    // Where its clock was set back, what was remembered lies in the future.
    if (frame.since !== this.started || frame.snapshot.at < this.at) {
      this.counts.clear()
      this.memories.clear()
      this.started = frame.since
    }
    this.at = frame.snapshot.at
    this.counts.push(frame)
    const { counts } = this
    const { snapshot } = frame
    const cards = [
      ...this.schedulers(frame),
      ...snapshot.limiters.map((_, i) => this.limiter(snapshot, _, i)),
      ...snapshot.reducers.map((_, i) => reducer(counts, _, i)),
      ...snapshot.batchers.map((_, i) => batcher(counts, _, i)),
      ...snapshot.retryBudgets.map((_, i) => budget(counts, _, i)),
      ...stores(counts)
    ]
    return { ...this.top(snapshot), cards, ...lists(snapshot) }
  }

  private top({ at }: Snapshot): Pick<View, "headline" | "since" | "flow"> {
    const { counts } = this
    const calls: ReadonlyArray<Ids> = ["reducer.calls", "batcher.requests"]
    const outs = [{ id: "reducer.calls", label: "started" }, { id: "batcher.batch_size" }]
    const jobs = counts.total({ id: calls[0]! }) + counts.total({ id: calls[1]! }) === 0
    const ins = jobs
      ? [{ id: "scheduler.wait_time" }]
      : calls.map((id) => ({ id }))
    const outOf = jobs ? [{ id: "scheduler.wait_time", label: "started" }] : outs
    const sum = (queries: ReadonlyArray<{ id: string; label?: string }>, of: "total" | "lately" | "rate") =>
      queries.reduce((sum, query) => sum + (counts[of](query) ?? 0), 0)
    const [entered, left] = [sum(ins, "lately"), sum(outOf, "lately")]
    const [allIn, allOut] = [sum(ins, "total"), sum(outOf, "total")]
    const seconds = Math.round(counts.seconds)
    const period = seconds >= 59 ? "In the last minute" : `In the last ${plural(seconds, "second")}`
    const noun = jobs ? "job" : "call"
    const saved = Math.max(0, entered - left)
    const headline: View["headline"] = counts.isEmpty
      ? [["Provide Metrics.layer to the services to see how many calls they save."]]
      : seconds === 0
      ? [["Waiting for the second frame."]]
      : entered === 0
      ? [[`${period} no call came.`]]
      : jobs
      ? [[`${period}, `], [plural(entered, noun), "in"], [" came and "], [count(left), "out"], [" started."]]
      : [
        [`${period}, `],
        [plural(entered, noun), "in"],
        [" became "],
        [count(left), "out"],
        [`: ${count(saved)} saved, ${percent(saved, entered)}.`]
      ]
    const since = counts.isEmpty
      ? ""
      : `Since ${clock(this.started!)}: ${plural(allIn, noun)} in, ${count(allOut)} out. ` + (jobs
        ? "Jobs of all schedulers."
        : "Calls of Reducers and look-ups of Batchers against the runs and batches they became.")
    const now = counts.seconds === 0 ? [null, null] as const : [sum(ins, "rate"), sum(outOf, "rate")] as const
    return {
      headline,
      since,
      flow: {
        title: `${noun}s in and out, a second, at ${clock(at)}`,
        lines: [
          { label: `${noun}s in`, color: "in", value: now[0], text: perSecond(now[0]) },
          { label: jobs ? "started" : "calls out", color: "out", value: now[1], text: perSecond(now[1]) }
        ]
      }
    }
  }

  private memory(id: string, at: number): Memory {
    let memory = this.memories.get(id)
    if (memory === undefined) {
      memory = { lastEnd: at, refusedAt: new Map() }
      this.memories.set(id, memory)
    }
    return memory
  }

  private penalties(query: Query): ReadonlyArray<string> {
    const total = this.counts.total(query)
    return total === 0
      ? []
      : [
        `Penalized ${plural(total, "time")}, ${
          count(this.counts.lately(query))
        } in the last minute: its backend asked to wait. Lower the rate.`
      ]
  }

  /** The reasons that refused something in the last seconds, and a note of those of the last minute. */
  private refusals(memory: Memory, id: string, name: string, at: number) {
    const news: Array<string> = []
    const notes: Array<string> = []
    for (const label of this.counts.labels({ id, name })) {
      if (id === "ratelimiter.decisions" && label !== "refused") continue
      const query = { id, name, label }
      if (this.counts.now(query) > 0) memory.refusedAt.set(label, at)
      if (at - (memory.refusedAt.get(label) ?? -Infinity) <= newsMillis) news.push(label)
      const [lately, total] = [this.counts.lately(query), this.counts.total(query)]
      if (total > 0) notes.push(`${label} ${count(lately)} (${count(total)} in all)`)
    }
    return { news, notes: notes.length === 0 ? [] : [`Refused in the last minute: ${notes.join(", ")}`] }
  }

  private schedulers({ services, snapshot: { at, schedulers } }: Frame): ReadonlyArray<Card> {
    // The keys of one service share a card: they come and go.
    const groups = new Map<string, Array<Scheduler>>()
    for (const scheduler of schedulers.first) {
      const group = groups.get(scheduler.name)
      if (group === undefined) groups.set(scheduler.name, [scheduler])
      else group.push(scheduler)
    }
    return Array.from(services).sort((a, b) => a.name < b.name ? -1 : 1)
      .map((service) => this.scheduler(at, service, groups.get(service.name) ?? []))
  }

  /** `group` has those that are listed. */
  private scheduler(at: number, service: Service, group: ReadonlyArray<Scheduler>): Card {
    const { counts } = this
    const { limit, name, oldestRunMillis, penaltyMillis: penalty, queued, running, schedulers, waitingFor } = service
    const oldest = service.oldestWaitMillis
    const id = `scheduler ${name}`
    const memory = this.memory(id, at)
    const worst = group.find((_) => _.oldestWaitMillis === oldest)

    const ended = { id: "scheduler.use_time", name }
    if (counts.now(ended) > 0 || running === 0) memory.lastEnd = at
    const quiet = Math.min(at - (memory.lastEnd ?? at), oldestRunMillis)
    const isStuck = running > 0 && queued > 0 && quiet > stuckMillis && waitingFor === "width"
    const meanWait = (counts.mean({ id: "scheduler.wait_time", name, label: "started" }) ?? 0) * 1000
    const started = counts.lately({ id: "scheduler.wait_time", name, label: "started" })
    const starves = oldest > longWait.millis && started > 0 && oldest > longWait.times * meanWait && !isStuck
    const { news, notes: refusals } = this.refusals(memory, "scheduler.refused", name, at)

    const [level, state]: readonly [Level, string] = service.draining
      ? ["wait", `draining, ${running + queued} left`]
      : penalty > 0
      ? ["bad", `penalty until ${clock(at + penalty)}`]
      : isStuck
      ? ["bad", `stuck: no job ended for ${millis(quiet)}`]
      : news.includes("overloaded")
      ? ["bad", "overloaded"]
      : starves
      ? ["bad", `a job starves, ${millis(oldest)}`]
      : news.length > 0
      ? ["bad", `refusing: ${news.join(", ")}`]
      : service.paused
      ? ["wait", "paused"]
      : waitingFor === "nothing"
      ? ["fine", "fine"]
      : ["wait", `waiting for ${waitingFor}`]

    const waits = worst?.queued.first ?? []
    const front = waits.length === 0 ? undefined : waits.reduce((a, b) => b.millis > a.millis ? b : a)
    const { byPriority = [], byShare = [], key } = worst ?? {}
    const notes = [
      ...schedulers !== 1 || key !== undefined
        ? [`${plural(schedulers, "key")}${key === undefined ? "" : `, the longest wait at ${key}`}`]
        : [],
      ...starves
        ? [
          `The oldest job waits for ${millis(oldest)}; those that started waited ${millis(meanWait)} on average.${
            front === undefined ? "" : ` It has ${traits(front)}.`
          }`
        ]
        : [],
      ...isStuck
        ? [
          `${plural(running, "job")} at work, the oldest for ${millis(oldestRunMillis)}; none ended for ${
            millis(quiet)
          }.`
        ]
        : [],
      ...byShare.length > 1
        ? [`Waiting by share: ${byShare.map((_) => `${_.share} ${count(_.queued)}`).join(", ")}`]
        : [],
      ...byPriority.length > 1
        ? [`Waiting by priority: ${byPriority.map((_) => `${_.priority}: ${count(_.queued)}`).join(", ")}`]
        : [],
      ...refusals,
      ...this.penalties({ id: "scheduler.penalties", name })
    ]
    return {
      id,
      kind: "Scheduler",
      name,
      level,
      state,
      figures: [
        ["running", limit === undefined ? count(running) : `${count(running)} of ${count(limit)}`],
        ["waiting", count(queued)],
        ["oldest wait", millis(oldest)],
        ["jobs in", perSecond(counts.rate({ id: "scheduler.wait_time", name }))],
        ["jobs ended", perSecond(counts.rate(ended))],
        ["mean wait", millis(meanWait)]
      ],
      notes,
      plots: [
        {
          title: `Jobs that wait and run in ${name}`,
          lines: [
            { label: "waiting", color: "in", value: queued, text: count(queued) },
            { label: "running", color: "out", value: running, text: count(running) }
          ]
        },
        {
          title: `The oldest wait and the penalty in ${name}, in seconds`,
          unit: "s",
          lines: [
            { label: "oldest wait", color: "in", value: oldest / 1000, text: millis(oldest) },
            { label: "penalty", color: "bad", value: penalty / 1000, text: millis(penalty) }
          ]
        }
      ]
    }
  }

  private limiter({ at }: Snapshot, limiter: Snapshot["limiters"][number], i: number): Card {
    const { counts } = this
    const { held, name, oldestWaitMillis: oldest, penaltyMillis: penalty, waiting } = limiter
    const id = `limiter ${i} ${name}`
    const memory = this.memory(id, at)
    const { news, notes } = this.refusals(memory, "ratelimiter.decisions", name, at)
    const [level, state]: readonly [Level, string] = penalty > 0
      ? ["bad", `penalty until ${clock(at + penalty)}`]
      : news.length > 0
      ? ["wait", "refusing"]
      : waiting > 0
      ? ["wait", "waiting for rate"]
      : ["fine", "fine"]
    const rate = (label: string) => counts.rate({ id: "ratelimiter.decisions", name, label })
    const line = (label: string, color: Line["color"]): Line => ({
      label,
      color,
      value: rate(label),
      text: perSecond(rate(label))
    })
    return {
      id,
      kind: "RateLimiter",
      name,
      level,
      state,
      figures: [
        ["keys held back", count(held.total)],
        ["waiting", count(waiting)],
        ["oldest wait", millis(oldest)]
      ],
      notes: [...notes, ...this.penalties({ id: "ratelimiter.penalties", name })],
      plots: [{
        title: `Decisions of ${name}, a second`,
        lines: [line("admitted", "in"), line("delayed", "out"), line("refused", "bad")]
      }]
    }
  }
}

type Ids = "reducer.calls" | "batcher.requests"
