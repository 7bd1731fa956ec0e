/**
 * What the page shows of a frame, as data: no element is made here.
 */
import type { Frame } from "../frame.js"
import {
  batcher,
  budget,
  type Card,
  flow,
  isLong,
  line,
  long,
  type Plot,
  reducer,
  stores,
  type Verdict
} from "./cards.js"
import { Counts, type Query } from "./counts.js"
import { clock, count, millis, percent, perSecond, plural, told } from "./format.js"
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

/** A backend is stuck when no job began or ended for so long although others want its places. */
const stuckMillis = 5000
/** How long a refusal counts as news, and a caller that gave up. */
const newsMillis = 10_000
/** What callers that give up have waited for at least, and which part of all they are, unless they waited longer than others. */
const patience = { millis: 100, part: 0.01 }

export class Viewer {
  private readonly counts = new Counts()
  private started: number | undefined
  private at = 0

  see(frame: Frame): View {
    // Where its clock was set back, what was remembered lies in the future.
    if (frame.since !== this.started || frame.snapshot.at < this.at) {
      this.counts.clear()
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
    const sum = (queries: ReadonlyArray<Query>, of: "total" | "lately") =>
      queries.reduce((sum, query) => sum + counts[of](query), 0)
    const calls = [{ id: "reducer.calls" }, { id: "batcher.requests" }]
    const jobs = sum(calls, "total") === 0
    const ins = jobs ? [{ id: "scheduler.wait_time" }] : calls
    const outs = jobs
      ? [{ id: "scheduler.wait_time", label: "started" }]
      : [{ id: "reducer.calls", label: "started" }, { id: "batcher.batch_size" }]
    const [entered, left] = [sum(ins, "lately"), sum(outs, "lately")]
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
      : `Since ${clock(this.started!)}: ${plural(sum(ins, "total"), noun)} in, ${count(sum(outs, "total"))} out. ` +
        (jobs
          ? "Jobs of all schedulers."
          : "Calls of Reducers and look-ups of Batchers against the runs and batches they became.")
    return {
      headline,
      since,
      flow: {
        title: `${noun}s in and out, a second, at ${clock(at)}`,
        lines: [
          flow(`${noun}s in`, "in", counts.rate(...ins)),
          flow(jobs ? "started" : "calls out", "out", counts.rate(...outs))
        ]
      }
    }
  }

  private penalties(query: Query): ReadonlyArray<string> {
    const [total, lately] = [this.counts.total(query), count(this.counts.lately(query))]
    return told(
      total > 0 &&
        `Penalized ${plural(total, "time")}, ${lately} in the last minute: its backend asked to wait. Lower the rate.`
    )
  }

  /** The reasons that refused something in the last seconds, and a note of those of the last minute. */
  private refusals(id: string, name: string) {
    const news: Array<string> = []
    const notes: Array<string> = []
    for (const label of this.counts.labels({ id, name })) {
      if (id === "ratelimiter.decisions" && label !== "refused") continue
      const query = { id, name, label }
      if (this.counts.within(newsMillis, query) > 0) news.push(label)
      const [lately, total] = [this.counts.lately(query), this.counts.total(query)]
      if (total > 0) notes.push(`${label} ${count(lately)} (${count(total)} in all)`)
    }
    return { news, notes: told(notes.length > 0 && `Refused in the last minute: ${notes.join(", ")}`) }
  }

  private schedulers({ services, snapshot: { at, schedulers } }: Frame): ReadonlyArray<Card> {
    // The keys of one service share a card: they come and go.
    return services.toSorted((a, b) => a.name < b.name ? -1 : 1)
      .map((service) => this.scheduler(at, service, schedulers.first.filter(({ name }) => name === service.name)))
  }

  /** `group` has those that are listed. */
  private scheduler(at: number, service: Service, group: ReadonlyArray<Scheduler>): Card {
    const { counts } = this
    const { limit, name, oldestRunMillis, penaltyMillis: penalty, queued, running, schedulers, waitingFor } = service
    const { stuckMillis: quiet } = service
    const oldest = service.oldestWaitMillis
    const worst = group.find((_) => _.oldestWaitMillis === oldest)

    const meanWait = (counts.mean({ id: "scheduler.wait_time", name, label: "started" }) ?? 0) * 1000
    const started = counts.lately({ id: "scheduler.wait_time", name, label: "started" })
    const { news, notes: refusals } = this.refusals("scheduler.refused", name)
    const isWanted = queued > 0 || news.includes("queue_full") || news.includes("wait_exceeded")
    const isStuck = isWanted && quiet > stuckMillis
    const starves = started > 0 && isLong(oldest, meanWait) && !isStuck
    const left = { id: "scheduler.wait_time", name, label: "interrupt" }
    const leftLately = counts.lately(left)
    const meanLeft = (counts.mean(left) ?? 0) * 1000
    const someStarve = meanLeft > long.times * meanWait
    const giveUp = counts.within(newsMillis, left) > 0 && meanLeft >= patience.millis &&
      (someStarve || leftLately >= patience.part * (started + leftLately))

    const [level, state]: Verdict = service.draining
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
      : giveUp
      ? ["bad", "callers give up"]
      : service.paused
      ? ["wait", "paused"]
      : waitingFor === "nothing"
      ? ["fine", "fine"]
      : ["wait", `waiting for ${waitingFor}`]

    const waits = worst?.queued.first ?? []
    const front = waits.length === 0 ? undefined : waits.reduce((a, b) => b.millis > a.millis ? b : a)
    const { byPriority = [], byShare = [], key } = worst ?? {}
    const notes = told(
      (schedulers !== 1 || key !== undefined) &&
        `${plural(schedulers, "key")}${key === undefined ? "" : `, the longest wait at ${key}`}`,
      starves &&
        `The oldest job waits for ${millis(oldest)}; those that started waited ${millis(meanWait)} on average.${
          front === undefined ? "" : ` It has ${traits(front)}.`
        }`,
      isStuck &&
        `${plural(running, "job")} at work, the oldest for ${millis(oldestRunMillis)}; none ended for ${
          millis(quiet)
        }.`,
      leftLately > 0 &&
        `${plural(leftLately, "caller")} gave up in the last minute, after ${
          millis(meanLeft)
        } on average; the jobs that started had waited ${millis(meanWait)}.${
          someStarve && front !== undefined ? ` The oldest that waits has ${traits(front)}.` : ""
        }`,
      byShare.length > 1 && `Waiting by share: ${byShare.map((_) => `${_.share} ${count(_.queued)}`).join(", ")}`,
      byPriority.length > 1 &&
        `Waiting by priority: ${byPriority.map((_) => `${_.priority}: ${count(_.queued)}`).join(", ")}`,
      ...refusals,
      ...this.penalties({ id: "scheduler.penalties", name })
    )
    return {
      id: `scheduler ${name}`,
      kind: "Scheduler",
      name,
      level,
      state,
      figures: [
        ["running", limit === undefined ? count(running) : `${count(running)} of ${count(limit)}`],
        ["waiting", count(queued)],
        ["oldest wait", millis(oldest)],
        ["jobs in", perSecond(counts.rate({ id: "scheduler.wait_time", name }))],
        ["jobs ended", perSecond(counts.rate({ id: "scheduler.use_time", name }))],
        ["mean wait", millis(meanWait)]
      ],
      notes,
      plots: [
        {
          title: `Jobs that wait and run in ${name}`,
          lines: [
            line("waiting", "in", queued, count(queued)),
            line("running", "out", running, count(running))
          ]
        },
        {
          title: `The oldest wait and the penalty in ${name}, in seconds`,
          unit: "s",
          lines: [
            line("oldest wait", "in", oldest / 1000, millis(oldest)),
            line("penalty", "bad", penalty / 1000, millis(penalty))
          ]
        }
      ]
    }
  }

  private limiter({ at }: Snapshot, limiter: Snapshot["limiters"][number], i: number): Card {
    const { held, name, oldestWaitMillis: oldest, penaltyMillis: penalty, waiting } = limiter
    const { news, notes } = this.refusals("ratelimiter.decisions", name)
    const [level, state]: Verdict = penalty > 0
      ? ["bad", `penalty until ${clock(at + penalty)}`]
      : news.length > 0
      ? ["wait", "refusing"]
      : waiting > 0
      ? ["wait", "waiting for rate"]
      : ["fine", "fine"]
    const rate = (label: string) => this.counts.rate({ id: "ratelimiter.decisions", name, label })
    return {
      id: `limiter ${i} ${name}`,
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
        lines: [
          flow("admitted", "in", rate("admitted")),
          flow("delayed", "out", rate("delayed")),
          flow("refused", "bad", rate("refused"))
        ]
      }]
    }
  }
}
