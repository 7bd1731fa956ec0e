/**
 * What the page says of frames that are given as data: its headline, its cards, its lists and its plots.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Frame, Point } from "../src/internal/dashboard/frame.ts"
import type { Card, Plot } from "../src/internal/dashboard/page/cards.ts"
import { clock, compact, count, decimal, millis, percent, perSecond } from "../src/internal/dashboard/page/format.ts"
import { Series } from "../src/internal/dashboard/page/series.ts"
import { type View, Viewer } from "../src/internal/dashboard/page/view.ts"

type Snapshot = Frame["snapshot"]
type Service = Frame["services"][number]
type Scheduler = Snapshot["schedulers"]["first"][number]
type Job = Scheduler["queued"]["first"][number]

const some = <A>(...first: ReadonlyArray<A>) => ({ total: first.length, first })

/** A page, and the frames that it gets. */
const page = () => {
  const viewer = new Viewer()
  return (
    at: number,
    { points = [], services = [], ...parts }: Partial<Snapshot & Pick<Frame, "points" | "services">>
  ): View =>
    viewer.see({
      since: 5000,
      every: 1000,
      services,
      points,
      snapshot: {
        at,
        schedulers: some(),
        limiters: [],
        reducers: [],
        batchers: [],
        retryBudgets: [],
        waits: some(),
        ...parts
      }
    })
}

const point = (id: string, name: string, label: string, count: number, sum?: number): Point => ({
  id,
  name,
  label,
  count,
  ...sum === undefined ? {} : { sum }
})

const service = (parts: Partial<Service>): Service => ({
  name: "jobs",
  schedulers: 1,
  running: 0,
  queued: 0,
  paused: false,
  draining: false,
  waitingFor: "nothing",
  oldestWaitMillis: 0,
  oldestRunMillis: 0,
  penaltyMillis: 0,
  stuckMillis: 0,
  ...parts
})

const scheduler = (parts: Partial<Scheduler>): Scheduler => ({
  name: "jobs",
  weight: 0,
  paused: false,
  draining: false,
  waitingFor: "width",
  oldestWaitMillis: 0,
  penaltyMillis: 0,
  running: some(),
  queued: some(),
  byPriority: [],
  byShare: [],
  refused: {},
  ...parts
})

const job = (id: number, millis: number, parts: Partial<Job> = {}): Job => ({
  id: `job ${id}`,
  millis,
  weight: 1,
  priority: 0,
  ...parts
})

const only = ({ cards }: View): Card => {
  assert.lengthOf(cards, 1)
  return cards[0]!
}

const says = ({ level, state }: Card) => `${level}: ${state}`
const headline = (view: View) => view.headline.map(([text]) => text).join("")
const plotted = ({ lines }: Plot) => lines.map(({ color, label, text, value }) => [label, color, value, text])

it("numbers and times are short", () => {
  assert.deepStrictEqual([0, 1.4, 1234567].map(count), ["0", "1", "1,234,567"])
  assert.deepStrictEqual([0, 9.96, 999, 12_345].map(compact), ["0", "10", "999", "12.3K"])
  assert.deepStrictEqual([0, 2.04, 1234.56].map(decimal), ["0", "2", "1,234.6"])
  assert.deepStrictEqual([null, 0, 0.25, 12_345].map(perSecond), ["–", "0/s", "0.3/s", "12.3K/s"])
  assert.strictEqual(percent(1, 8), "12.5 %")
  const [second, minute, hour] = [1000, 60_000, 3_600_000]
  assert.deepStrictEqual(
    [0, 999, second, 1260, minute - 100, minute, 61_999, hour - 1, hour, hour + minute, 25.5 * hour].map(millis),
    ["0 ms", "999 ms", "1 s", "1.3 s", "59.9 s", "1 min 0 s", "1 min 1 s", "59 min 59 s", "1 h 0 min", "1 h 1 min"]
      .concat("25 h 30 min")
  )
})

describe("the headline", () => {
  const calls = (reduced: number, ran: number, asked: number, batches: number) => [
    point("reducer.calls", "users", "started", ran),
    point("reducer.calls", "users", "joined", reduced - ran),
    point("batcher.requests", "pages", "fetched", asked),
    point("batcher.batch_size", "pages", "", batches, asked),
    point("scheduler.wait_time", "jobs", "started", 1000)
  ]

  it("sums the calls of Reducers and the look-ups of Batchers, and has no less than nothing saved", () => {
    const see = page()
    const first = see(10_000, { points: calls(100, 50, 100, 50) })
    assert.strictEqual(headline(first), "Waiting for the second frame.")
    assert.deepStrictEqual(plotted(first.flow), [["calls in", "in", null, "–"], ["calls out", "out", null, "–"]])
    const second = see(12_000, { points: calls(1104, 52, 104, 51) })
    assert.deepStrictEqual(second.headline, [
      ["In the last 2 seconds, "],
      ["1,008 calls", "in"],
      [" became "],
      ["3", "out"],
      [": 1,005 saved, 99.7 %."]
    ])
    assert.strictEqual(
      second.since,
      `Since ${
        clock(5000)
      }: 1,208 calls in, 103 out. Calls of Reducers and look-ups of Batchers against the runs and ` +
        "batches they became."
    )
    assert.strictEqual(second.flow.title, `calls in and out, a second, at ${clock(12_000)}`)
    assert.deepStrictEqual(plotted(second.flow), [
      ["calls in", "in", 504, "504/s"],
      ["calls out", "out", 1.5, "1.5/s"]
    ])
    const more = page()
    more(0, { points: calls(0, 0, 0, 0) })
    assert.match(headline(more(1000, { points: calls(1, 4, 0, 0) })), /1 call became 4: 0 saved, 0 %/)
  })

  it("counts the jobs where there are no calls", () => {
    const see = page()
    const jobs = (started: number, gone: number) => [
      point("scheduler.wait_time", "jobs", "started", started),
      point("scheduler.wait_time", "jobs", "interrupted", gone)
    ]
    see(0, { points: jobs(5, 0) })
    const view = see(1000, { points: jobs(1005, 3) })
    assert.deepStrictEqual(view.headline, [
      ["In the last 1 second, "],
      ["1,003 jobs", "in"],
      [" came and "],
      ["1,000", "out"],
      [" started."]
    ])
    assert.match(view.since, /^Since \S+: 1,008 jobs in, 1,005 out\. Jobs of all schedulers\.$/)
    assert.deepStrictEqual(plotted(view.flow), [["jobs in", "in", 1003, "1K/s"], ["started", "out", 1000, "1K/s"]])
    assert.match(view.flow.title, /^jobs in and out/)
  })

  it("is of the last minute from 59 seconds on, and of no more where frames go on", () => {
    const see = page()
    const each = (at: number) => headline(see(at * 1000, { points: calls(at * at, 0, 0, 0) }))
    for (let at = 0; at < 58; at++) each(at)
    assert.match(each(58), /^In the last 58 seconds, 3,364 calls/)
    assert.match(each(59), /^In the last minute, 3,481 calls/)
    assert.match(each(60), /^In the last minute, 3,600 calls/)
    assert.match(each(61), /^In the last minute, 3,720 calls/)
    // Two frames far from each other have what lies between them.
    assert.match(each(200), /^In the last minute, 36,279 calls/)
  })

  it("a count that began anew counts from zero, and so does one that is new", () => {
    const see = page()
    see(0, { points: calls(10, 10, 0, 0).slice(0, 2) })
    assert.match(headline(see(1000, { points: calls(4, 4, 3, 1) })), /7 calls became 5/)
  })

  it("says where there are no metrics, and then of nothing since when", () => {
    const see = page()
    see(0, {})
    const view = see(1000, {})
    assert.match(headline(view), /^Provide Metrics\.layer/)
    assert.strictEqual(view.since, "")
  })

  it("the same frame twice, as after a new connection, has no rates", () => {
    const see = page()
    see(0, { points: calls(0, 0, 0, 0) })
    see(1000, { points: calls(1, 1, 0, 0) })
    assert.deepStrictEqual(see(1000, { points: calls(1, 1, 0, 0) }).flow.lines.map(({ text }) => text), ["–", "–"])
  })
})

describe("the card of a scheduler", () => {
  const times = (started: number, seconds: number, ended: number) => [
    point("scheduler.wait_time", "jobs", "started", started, seconds),
    point("scheduler.wait_time", "jobs", "interrupted", started, 1000),
    point("scheduler.use_time", "jobs", "success", ended, 10),
    point("scheduler.use_time", "others", "success", 7 * ended, 10)
  ]

  it("has its figures, and plots what waits and runs", () => {
    const see = page()
    const parts = { running: 1000, queued: 2000, oldestWaitMillis: 1500, penaltyMillis: 250 }
    const services = [service({ ...parts, limit: 4000, waitingFor: "rate" })]
    see(0, { services, points: times(0, 0, 0) })
    const { id, kind, name, notes, plots, figures } = only(see(2000, { services, points: times(4, 2, 3) }))
    assert.deepStrictEqual([id, kind, name], ["scheduler jobs", "Scheduler", "jobs"])
    assert.deepStrictEqual(figures, [
      ["running", "1,000 of 4,000"],
      ["waiting", "2,000"],
      ["oldest wait", "1.5 s"],
      ["jobs in", "4/s"],
      ["jobs ended", "1.5/s"],
      ["mean wait", "500 ms"]
    ])
    assert.deepStrictEqual(notes, [])
    assert.deepStrictEqual(plots.map(({ title, unit }) => [title, unit]), [
      ["Jobs that wait and run in jobs", undefined],
      ["The oldest wait and the penalty in jobs, in seconds", "s"]
    ])
    assert.deepStrictEqual(plots.map(plotted), [
      [["waiting", "in", 2000, "2,000"], ["running", "out", 1000, "1,000"]],
      [["oldest wait", "in", 1.5, "1.5 s"], ["penalty", "bad", 0.25, "250 ms"]]
    ])
    const idle = only(page()(0, { services: [service({ running: 1000 })] }))
    assert.deepStrictEqual(idle.figures, [
      ["running", "1,000"],
      ["waiting", "0"],
      ["oldest wait", "0 ms"],
      ["jobs in", "–"],
      ["jobs ended", "–"],
      ["mean wait", "0 ms"]
    ])
  })

  it("cards are in the order of their names, whatever the order of the services", () => {
    const services = ["b", "c", "a"].map((name) => service({ name }))
    assert.deepStrictEqual(page()(0, { services }).cards.map(({ name }) => name), ["a", "b", "c"])
  })

  it("says first what is worst: draining, penalty, overload, refusals, pause, waiting", () => {
    const see = page()
    const refused = (n: number) => [point("scheduler.refused", "jobs", "queue_full", n)]
    const state = (at: number, parts: Partial<Service>, points: ReadonlyArray<Point>) =>
      says(only(see(at, { services: [service(parts)], points })))
    const waits = { running: 1, queued: 2, waitingFor: "pause" } as const
    state(0, waits, refused(1))
    assert.strictEqual(state(1000, waits, refused(1)), "wait: waiting for pause")
    assert.strictEqual(state(2000, { paused: true, ...waits }, refused(1)), "wait: paused")
    assert.strictEqual(state(3000, { paused: true, ...waits }, refused(2)), "bad: refusing: queue_full")
    const overloaded = [...refused(2), point("scheduler.refused", "jobs", "overloaded", 1)]
    assert.strictEqual(state(4000, waits, overloaded), "bad: overloaded")
    const penalty = { ...waits, penaltyMillis: 9000 }
    assert.strictEqual(state(5000, penalty, overloaded), `bad: penalty until ${clock(14_000)}`)
    assert.strictEqual(state(6000, { ...penalty, draining: true }, overloaded), "wait: draining, 3 left")
    assert.strictEqual(state(12_000, {}, overloaded), "bad: overloaded")
    assert.strictEqual(state(15_000, {}, overloaded), "fine: fine")
    const { notes } = only(see(16_000, { services: [service({})], points: overloaded }))
    assert.deepStrictEqual(notes, ["Refused in the last minute: queue_full 1 (2 in all), overloaded 1 (1 in all)"])
  })

  it("has its refusals as news for ten seconds", () => {
    for (const [millis, told] of [[11_000, "bad: refusing: queue_full"], [11_500, "fine: fine"]] as const) {
      const see = page()
      const at = (millis: number, n: number) =>
        says(
          only(see(millis, { services: [service({})], points: [point("scheduler.refused", "jobs", "queue_full", n)] }))
        )
      at(0, 0)
      at(1000, 1)
      assert.strictEqual(at(millis, 1), told)
    }
  })

  it("is stuck after five seconds in which no job begins or ends although others want its places", () => {
    const card = (parts: Partial<Service>, refused = "") => {
      const see = page()
      const services = [service({ running: 3, waitingFor: "width", oldestRunMillis: 90_000, ...parts })]
      const points = (n: number) => refused === "" ? [] : [point("scheduler.refused", "jobs", refused, n)]
      see(0, { services, points: points(0) })
      return only(see(1000, { services, points: points(1) }))
    }
    assert.strictEqual(says(card({ queued: 1, stuckMillis: 5000 })), "wait: waiting for width")
    const { notes, ...stuck } = card({ queued: 1, stuckMillis: 5500 })
    assert.strictEqual(says({ ...stuck, notes }), "bad: stuck: no job ended for 5.5 s")
    assert.deepStrictEqual(notes[0], "3 jobs at work, the oldest for 1 min 30 s; none ended for 5.5 s.")
    const full = { waitingFor: "nothing", stuckMillis: 6000 } as const
    for (const reason of ["queue_full", "wait_exceeded"]) {
      assert.strictEqual(says(card(full, reason)), "bad: stuck: no job ended for 6 s")
    }
    assert.strictEqual(says(card(full, "draining")), "bad: refusing: draining")
  })

  it("a job starves when it waits for over three seconds, and for over ten times as long as others", () => {
    const after = (oldestWaitMillis: number, seconds: number, started = 2) => {
      const see = page()
      const services = [
        service({ name: "jobs", running: 1, queued: 2, waitingFor: "rate", oldestWaitMillis })
      ]
      const listed = scheduler({
        oldestWaitMillis,
        queued: some(
          job(1, 10),
          job(2, oldestWaitMillis, { priority: 4, share: "share 1", weight: 2 }),
          job(3, oldestWaitMillis)
        )
      })
      see(0, { services, points: times(1, 1, 0) })
      return only(see(1000, {
        services,
        schedulers: some(scheduler({ oldestWaitMillis: 5 }), listed),
        points: times(1 + started, 1 + seconds, 1)
      }))
    }
    assert.strictEqual(says(after(3000, 0.2)), "wait: waiting for rate")
    const { notes, ...card } = after(3100, 0.2)
    assert.strictEqual(says({ ...card, notes }), "bad: a job starves, 3.1 s")
    assert.deepStrictEqual(notes, [
      "The oldest job waits for 3.1 s; those that started waited 100 ms on average. It has priority 4, share 1, weight 2."
    ])
    assert.strictEqual(says(after(10_000, 2)), "wait: waiting for rate")
    assert.strictEqual(says(after(10_100, 2)), "bad: a job starves, 10.1 s")
    assert.strictEqual(says(after(10_100, 0, 0)), "wait: waiting for rate")
  })

  it("callers give up when one of a hundred leaves, or when they wait over ten times as long as others", () => {
    const after = (left: number, meanLeft: number, started: number, meanStarted: number) => {
      const see = page()
      const points = (n: number) => [
        point("scheduler.wait_time", "jobs", "interrupt", n * left, n * left * meanLeft),
        point("scheduler.wait_time", "jobs", "started", n * started, n * started * meanStarted)
      ]
      see(0, { services: [service({})], points: points(0) })
      const schedulers = some(scheduler({ queued: some(job(1, 10)) }))
      return only(see(1000, { services: [service({})], schedulers, points: points(1) }))
    }
    const { notes, ...card } = after(1, 1, 99, 0.5)
    assert.strictEqual(says({ ...card, notes }), "bad: callers give up")
    assert.deepStrictEqual(notes, [
      "1 caller gave up in the last minute, after 1 s on average; the jobs that started had waited 500 ms."
    ])
    assert.strictEqual(says(after(1, 1, 100, 0.5)), "fine: fine")
    assert.lengthOf(after(1, 1, 100, 0.5).notes, 1)
    assert.strictEqual(says(after(1, 1, 1000, 0.125)), "fine: fine")
    assert.strictEqual(says(after(1, 1.375, 1000, 0.125)), "bad: callers give up")
    assert.strictEqual(says(after(1, 0.0625, 0, 0)), "fine: fine")
    assert.strictEqual(says(after(1, 0.125, 0, 0)), "bad: callers give up")
    assert.strictEqual(says(after(0, 0, 5, 0)), "fine: fine")
  })

  it("a starving job that no list has is told without its traits, and one that is stuck does not starve", () => {
    const see = page()
    const parts = { running: 1, queued: 1, oldestWaitMillis: 9000, oldestRunMillis: 9000, stuckMillis: 0 }
    see(0, { services: [service({ ...parts, waitingFor: "rate" })], points: times(0, 0, 0) })
    const starves = see(1000, { services: [service({ ...parts, waitingFor: "rate" })], points: times(1, 0, 0) })
    assert.deepStrictEqual(only(starves).notes, [
      "The oldest job waits for 9 s; those that started waited 0 ms on average."
    ])
    const services = [service({ ...parts, waitingFor: "width", stuckMillis: 7000 })]
    const stuck = only(see(7000, { services, points: times(1, 0, 0) }))
    assert.strictEqual(says(stuck), "bad: stuck: no job ended for 7 s")
    assert.lengthOf(stuck.notes, 1)
  })

  it("names its keys, and what waits by share and by priority if there are several", () => {
    const notes = (schedulers: number, parts: Partial<Scheduler>) =>
      only(
        page()(0, {
          services: [service({ schedulers, oldestWaitMillis: 50 })],
          schedulers: some(
            scheduler({ oldestWaitMillis: 7, byShare: [] }),
            scheduler({ oldestWaitMillis: 50, ...parts }),
            scheduler({})
          )
        })
      ).notes
    const [ada, grace] = [{ share: "ada", queued: 1000 }, { share: "grace", queued: 1 }] as const
    const [high, low] = [{ priority: 5, queued: 1000 }, { priority: 0, queued: 2 }] as const
    assert.deepStrictEqual(notes(1, { byShare: [ada], byPriority: [low] }), [])
    assert.deepStrictEqual(notes(1, { key: "host" }), ["1 key, the longest wait at host"])
    assert.deepStrictEqual(notes(1000, { byShare: [ada, grace], byPriority: [high, low] }), [
      "1,000 keys",
      "Waiting by share: ada 1,000, grace 1",
      "Waiting by priority: 5: 1,000, 0: 2"
    ])
  })

  it("remembers its penalties and its refusals of the last minute", () => {
    const see = page()
    const at = (millis: number, n: number) =>
      only(see(millis, {
        services: [service({})],
        points: [point("scheduler.penalties", "jobs", "", n), point("scheduler.refused", "jobs", "closed", n)]
      })).notes
    assert.deepStrictEqual(at(0, 0), [])
    assert.deepStrictEqual(at(1000, 1000), [
      "Refused in the last minute: closed 1,000 (1,000 in all)",
      "Penalized 1,000 times, 1,000 in the last minute: its backend asked to wait. Lower the rate."
    ])
    at(61_000, 1000)
    assert.deepStrictEqual(at(62_000, 1001)[0], "Refused in the last minute: closed 1 (1,001 in all)")
  })
})

describe("the card of a rate limiter", () => {
  const decisions = (n: number, refused: number) => [
    point("ratelimiter.decisions", "api", "admitted", 4 * n),
    point("ratelimiter.decisions", "api", "delayed", 2 * n),
    point("ratelimiter.decisions", "api", "refused", refused)
  ]
  const limiter = (parts: Partial<Snapshot["limiters"][number]>): Pick<Snapshot, "limiters"> => ({
    limiters: [{ name: "api", waiting: 0, oldestWaitMillis: 0, penaltyMillis: 0, held: some(), ...parts }]
  })

  it("says first what is worst, and notes what was refused alone", () => {
    const see = page()
    const held = { total: 2000, first: [] }
    see(0, { ...limiter({}), points: decisions(0, 0) })
    const card = only(see(1000, { ...limiter({ waiting: 1000, oldestWaitMillis: 70, held }), points: decisions(1, 0) }))
    assert.deepStrictEqual([card.id, card.kind, card.name], ["limiter 0 api", "RateLimiter", "api"])
    assert.strictEqual(says(card), "wait: waiting for rate")
    assert.deepStrictEqual(card.figures, [["keys held back", "2,000"], ["waiting", "1,000"], ["oldest wait", "70 ms"]])
    assert.deepStrictEqual(card.notes, [])
    assert.deepStrictEqual(card.plots.map(({ title }) => title), ["Decisions of api, a second"])
    assert.deepStrictEqual(plotted(card.plots[0]!), [
      ["admitted", "in", 4, "4/s"],
      ["delayed", "out", 2, "2/s"],
      ["refused", "bad", 0, "0/s"]
    ])
    const refusing = only(see(2000, { ...limiter({ waiting: 1 }), points: decisions(1, 3) }))
    assert.strictEqual(says(refusing), "wait: refusing")
    assert.deepStrictEqual(refusing.notes, ["Refused in the last minute: refused 3 (3 in all)"])
    const penalized = only(see(3000, { ...limiter({ waiting: 1, penaltyMillis: 4000 }), points: decisions(1, 4) }))
    assert.strictEqual(says(penalized), `bad: penalty until ${clock(7000)}`)
    const later = see(14_000, {
      ...limiter({}),
      points: [...decisions(1, 4), point("ratelimiter.penalties", "api", "", 1)]
    })
    assert.strictEqual(says(only(later)), "fine: fine")
    assert.match(only(later).notes[1]!, /^Penalized 1 time, 1 in the last minute/)
  })
})

describe("the card of a reducer", () => {
  it("has its figures and plots, and notes runs that failed", () => {
    const see = page()
    const parts = { reducers: [{ name: "users", inFlight: { total: 1000, first: [] } }] }
    const points = (n: number, failed: number) => [
      point("reducer.calls", "users", "started", 2 * n),
      point("reducer.calls", "users", "joined", 3 * n),
      point("reducer.calls", "others", "started", 50 * n),
      point("reducer.run_time", "users", "success", n, 0.5 * n),
      point("reducer.run_time", "users", "failure", failed, 0)
    ]
    const first = only(see(0, { ...parts, points: points(0, 0) }))
    assert.deepStrictEqual(first.figures, [["in flight", "1,000"], ["calls a run", "–"], ["mean run", "–"]])
    const card = only(see(1000, { ...parts, points: points(2, 0) }))
    assert.deepStrictEqual([card.id, card.kind, card.name, says(card)], [
      "reducer 0 users",
      "Reducer",
      "users",
      "fine: fine"
    ])
    assert.deepStrictEqual(card.figures, [["in flight", "1,000"], ["calls a run", "2.5"], ["mean run", "500 ms"]])
    assert.deepStrictEqual(card.notes, [])
    assert.deepStrictEqual(card.plots.map(({ title }) => title), ["Calls and runs of users, a second"])
    assert.deepStrictEqual(plotted(card.plots[0]!), [["calls in", "in", 10, "10/s"], ["runs out", "out", 4, "4/s"]])
    assert.deepStrictEqual(only(see(2000, { ...parts, points: points(2, 1) })).notes, [
      "1 run failed in the last minute"
    ])
    assert.deepStrictEqual(only(see(3000, { ...parts, points: points(2, 4) })).notes, [
      "4 runs failed in the last minute"
    ])
  })
})

describe("a run or a batch that lasts for over three seconds, and for over ten times as long as others", () => {
  it("is named on the card of its reducer", () => {
    const after = (millis: number, ended: number) => {
      const see = page()
      const run = { id: "run 1", callers: 2, millis, phase: "running" } as const
      const reducers = [{ name: "users", inFlight: some(run, { ...run, millis: 5 }) }]
      const points = (n: number) => [point("reducer.run_time", "users", "success", n, 0.4 * n)]
      see(0, { reducers, points: points(0) })
      return says(only(see(1000, { reducers, points: points(ended) })))
    }
    assert.strictEqual(after(3000, 0), "fine: fine")
    assert.strictEqual(after(3100, 0), "wait: a run lasts 3.1 s")
    assert.strictEqual(after(4000, 2), "fine: fine")
    assert.strictEqual(after(4100, 2), "wait: a run lasts 4.1 s")
  })

  it("is named on the card of its resolver, if it runs", () => {
    const after = (millis: number, ended: number, state: "running" | "collecting" = "running") => {
      const see = page()
      const batch = { id: "batch 1", state, requests: 1, callers: 1, millis }
      const counts = { collecting: 0, queued: 0, running: 1, longestQueuedMillis: 2000 }
      const batchers = [{ name: "pages", ...counts, batches: some(batch) }]
      const points = (n: number) => [point("batcher.run_time", "pages", "", n, 0.4 * n)]
      see(0, { batchers, points: points(0) })
      return says(only(see(1000, { batchers, points: points(ended) })))
    }
    const waits = "wait: a batch waits for its scheduler, 2 s"
    assert.strictEqual(after(3100, 0), "wait: a batch runs for 3.1 s")
    assert.strictEqual(after(3100, 0, "collecting"), waits)
    assert.strictEqual(after(3900, 2), waits)
    assert.strictEqual(after(4100, 2), "wait: a batch runs for 4.1 s")
  })
})

describe("the card of a batcher", () => {
  const batcher = (longestQueuedMillis: number): Pick<Snapshot, "batchers"> => ({
    batchers: [{ name: "pages", collecting: 1000, queued: 2000, running: 3000, longestQueuedMillis, batches: some() }]
  })

  it("has its figures and plots, the outcome of look-ups, and the sizes of batches", () => {
    const see = page()
    const buckets = [[1, 1000], [2, 1002], [5, 1002], [10, 1005], [20, 1006]] as const
    const points = (n: number) => [
      point("batcher.requests", "pages", "fetched", 1500 * n),
      point("batcher.requests", "pages", "cached", n),
      { ...point("batcher.batch_size", "pages", "", 2 * n, 5 * n), buckets },
      point("batcher.run_time", "pages", "", n, 0.25 * n)
    ]
    const empty = only(see(0, batcher(0)))
    assert.deepStrictEqual(empty.notes, [])
    assert.deepStrictEqual(empty.figures[0], ["mean batch", "–"])
    see(1000, { ...batcher(0), points: points(0) })
    const card = only(see(2000, { ...batcher(70), points: points(1) }))
    assert.deepStrictEqual([card.id, card.kind, card.name], ["batcher 0 pages", "Batcher", "pages"])
    assert.deepStrictEqual(card.figures, [
      ["mean batch", "2.5"],
      ["running", "3,000"],
      ["mean run", "250 ms"],
      ["collecting", "1,000"],
      ["queued", "2,000"],
      ["longest in queue", "70 ms"]
    ])
    assert.deepStrictEqual(card.notes, [
      "Look-ups in the last minute: fetched 1,500, cached 1",
      "Batches by size, since the start: 1: 1,000, 2: 2, 6–10: 3, 11–20: 1"
    ])
    assert.deepStrictEqual(card.plots.map(({ title }) => title), ["Look-ups and batches of pages, a second"])
    assert.deepStrictEqual(plotted(card.plots[0]!), [
      ["look-ups in", "in", 1501, "1.5K/s"],
      ["batches out", "out", 2, "2/s"]
    ])
  })

  it("waits when a batch has been in the queue for over a second", () => {
    assert.strictEqual(says(only(page()(0, batcher(1000)))), "fine: fine")
    assert.strictEqual(says(only(page()(0, batcher(1100)))), "wait: a batch waits for its scheduler, 1.1 s")
  })
})

describe("the card of a retry budget", () => {
  it("is half spent below a half, and denies while it has denied one in the last minute", () => {
    const see = page()
    const budget = (at: number, tokens: number, denied: number) =>
      only(see(at, {
        retryBudgets: [{ name: "retries", tokens, limit: 2000, denied }],
        points: [point("retry_budget.denied", "retries", "", denied)]
      }))
    assert.strictEqual(says(budget(0, 1000, 1)), "fine: fine")
    assert.strictEqual(says(budget(1000, 999.5, 1)), "wait: half spent")
    const card = budget(2000, 1000.5, 1001)
    assert.strictEqual(says(card), "bad: denying retries")
    assert.deepStrictEqual([card.id, card.kind, card.name], ["budget 0 retries", "RetryBudget", "retries"])
    assert.deepStrictEqual(card.figures, [
      ["tokens", "1,000.5 of 2,000"],
      ["denied", "1,001"],
      ["in the last minute", "1,000"]
    ])
    assert.deepStrictEqual(card.notes, [])
    assert.deepStrictEqual(card.plots.map(({ title }) => title), ["Tokens of retries"])
    assert.deepStrictEqual(plotted(card.plots[0]!), [["tokens", "in", 1000.5, "1,000.5"]])
  })
})

describe("the card of a store", () => {
  it("is there once for each service that uses a store, and tells its failures and what was answered without it", () => {
    const see = page()
    const points = (n: number, failed: number) => [
      point("store.commands", "api", "take", 2 * n, 0.25 * n),
      point("store.commands", "api", "give", 2 * n, 0.25 * n),
      point("store.errors", "api", "take", failed),
      point("scheduler.use_time", "jobs", "success", 7),
      point("store.policy", "api", "local", 1500 * failed),
      point("store.policy", "api", "allow", failed),
      point("store.policy", "other", "deny", failed)
    ]
    see(0, { points: points(0, 0).slice(0, 4) })
    const card = only(see(1000, { points: points(1, 0).slice(0, 4) }))
    assert.deepStrictEqual([card.id, card.kind, card.name, says(card)], ["store api", "Store", "api", "fine: fine"])
    assert.deepStrictEqual(card.figures, [["commands", "4/s"], ["failed", "0"], ["mean time", "125 ms"]])
    assert.deepStrictEqual(card.notes, [])
    const { cards } = see(2000, { points: points(2, 1000) })
    assert.deepStrictEqual(cards.map(({ name }) => name), ["api", "other"])
    assert.deepStrictEqual(cards.map(says), ["bad: commands fail", "fine: fine"])
    const { figures, notes, plots } = cards[0]!
    assert.deepStrictEqual(figures[1], ["failed", "1,000"])
    assert.deepStrictEqual(notes, ["Answered without it in the last minute: local 1,500,000, allow 1,000"])
    assert.deepStrictEqual(plots.map(({ title }) => title), ["Commands to the store of api, a second"])
    assert.deepStrictEqual(plotted(plots[0]!), [["commands", "in", 4, "4/s"], ["failed", "out", 1000, "1K/s"]])
    assert.deepStrictEqual(cards[1]!.figures, [["commands", "0/s"], ["failed", "0"], ["mean time", "–"]])
  })
})

describe("the lists", () => {
  it("have what waits and what is at work, the longest first", () => {
    const { edges, runs, waits } = page()(0, {
      schedulers: some(
        scheduler({ queued: some(job(1, 10)), running: some(job(2, 20)) }),
        scheduler({
          key: "host",
          waitingFor: "rate",
          queued: some(job(3, 90, { priority: 2, share: "ada", weight: 3, inside: "run 1" })),
          running: some(job(4, 100, { weight: 0 }))
        })
      ),
      limiters: [{
        name: "api",
        waiting: 3,
        oldestWaitMillis: 50,
        penaltyMillis: 2000,
        held: some(
          { waiting: 0, oldestWaitMillis: 0, penaltyMillis: 2000 },
          { waiting: 1, oldestWaitMillis: 50, penaltyMillis: 0 },
          { key: "bob", waiting: 2, oldestWaitMillis: 40, penaltyMillis: 2000 }
        )
      }],
      batchers: [{
        name: "pages",
        collecting: 1,
        queued: 1,
        running: 1,
        longestQueuedMillis: 0,
        batches: some(
          { id: "batch 1", state: "running" as const, requests: 2, callers: 1, millis: 70 },
          { id: "batch 2", state: "queued" as const, requests: 1, callers: 2, millis: 60, keys: "eu" },
          { id: "batch 3", state: "collecting" as const, requests: 1, callers: 1, millis: 30 }
        )
      }],
      reducers: [{
        name: "users",
        inFlight: some(
          { id: "run 1", callers: 2, millis: 80, phase: "running" as const },
          { id: "run 2", name: "load", key: "7", callers: 1, millis: 5, phase: "pending" as const }
        )
      }],
      waits: {
        total: 5,
        first: [{ from: { id: "run 1", name: "users" }, to: { id: "job 3", name: "jobs" } }]
      }
    })
    const cells = (rows: View["waits"]) => rows.map((_) => [_.what, _.where, _.millis, _.details])
    assert.deepStrictEqual(cells(waits), [
      ["job 3", "jobs host", 90, "for rate, priority 2, ada, weight 3, inside run 1"],
      ["batch 2", "pages", 60, "queued, 1 request of 2 callers, eu"],
      ["a key", "api", 50, "for rate, 1 call"],
      ["key bob", "api", 40, "for rate, 2 calls, penalty of 2 s"],
      ["batch 3", "pages", 30, "collecting, 1 request of 1 caller"],
      ["job 1", "jobs", 10, "for width, priority 0"]
    ])
    assert.deepStrictEqual(cells(runs), [
      ["job 4", "jobs host", 100, "priority 0, weight 0"],
      ["run 1", "users", 80, "running, 2 callers"],
      ["batch 1", "pages", 70, "running, 2 requests of 1 caller"],
      ["job 2", "jobs", 20, "priority 0"],
      ["run 2", "users, load", 5, "pending, 1 caller, key 7"]
    ])
    assert.deepStrictEqual(edges, { total: 5, rows: [["run 1 (users)", "job 3 (jobs)"]] })
  })

  it("end after twenty rows", () => {
    const { waits } = page()(0, {
      schedulers: some(scheduler({ queued: some(...Array.from({ length: 30 }, (_, i) => job(i, i))) }))
    })
    assert.deepStrictEqual([waits.length, waits[0]!.millis, waits[19]!.millis], [20, 29, 10])
  })
})

describe("a plot", () => {
  const plot = (...values: ReadonlyArray<number | null>): Plot => ({
    title: "Jobs",
    lines: values.map((value, i) => ({
      label: `line ${i + 1}`,
      color: "in",
      value,
      text: value === null ? "–" : `${value}/s`
    }))
  })

  it("says the last values and the highest that it shows, with the unit", () => {
    const series = new Series({ ...plot(null, null), unit: "s" }, 1000)
    for (const [i, n] of [null, 5000, -2].entries()) series.push(i * 1000, { ...plot(n, null), unit: "s" })
    assert.deepStrictEqual(series.data, [[0, 1, 2], [null, 5000, -2], [null, null, null]])
    assert.deepStrictEqual(series.captions, [
      { label: "line 1", text: "-2/s", most: "at most 5K s" },
      { label: "line 2", text: "–", most: "at most 0 s" }
    ])
    assert.strictEqual(series.title, "Jobs: line 1 -2/s, at most 5K s; line 2 –, at most 0 s")
    const plain = new Series(plot(1), 1000)
    plain.push(0, { ...plot(7), title: "Calls" })
    assert.strictEqual(plain.title, "Calls: line 1 7/s, at most 7")
  })

  it("shows a fifth of its width at least, and at most three hundred frames, gaps included", () => {
    const series = new Series(plot(0), 2000)
    assert.deepStrictEqual(series.range, [-120, 0])
    series.push(1_000_000, plot(9))
    series.push(1_100_000, plot(1))
    assert.deepStrictEqual(series.range, [980, 1100])
    series.push(1_130_000, plot(1))
    assert.deepStrictEqual(series.range, [1000, 1130])
    for (let i = 1; i < 300; i++) {
      series.push(1_130_000 + i * 2000, plot(2))
      series.gap(1_130_000 + i * 2000 + 1)
    }
    const [times, values] = series.data
    assert.deepStrictEqual([times.length, values!.length, times.at(-1)], [300, 300, 1728.001])
    assert.deepStrictEqual(values!.slice(-2), [2, null])
    assert.strictEqual(series.captions[0]!.most, "at most 2")
  })

  it("begins anew where the clock is set back, and where it counts something else", () => {
    const series = new Series(plot(0), 1000)
    series.push(5000, plot(3))
    series.push(5000, plot(4))
    assert.deepStrictEqual(series.data, [[5, 5], [3, 4]])
    series.push(4000, plot(1))
    assert.deepStrictEqual(series.data, [[4], [1]])
    const flow = new Series(plot(1, 1), 1000)
    flow.push(1000, plot(9, 9))
    const { lines: [first, second], title } = plot(2, 3)
    const other = { title, lines: [first!, { ...second!, label: "calls out" }] }
    flow.push(2000, other)
    flow.push(3000, other)
    assert.deepStrictEqual(flow.data, [[2, 3], [2, 2], [3, 3]])
    assert.strictEqual(flow.title, "Jobs: line 1 2/s, at most 2; calls out 3/s, at most 3")
  })
})
