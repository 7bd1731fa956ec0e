import { rmSync } from "node:fs"
import { dirname } from "node:path"
import { afterAll, assert, describe, it } from "vitest"
import { hasPostgres } from "../support/postgresServer.js"
import { hasRedis } from "../support/redisServer.js"
import { check, type Promised } from "./chaos/checker.js"
import { plan, stores } from "./chaos/plan.js"
import type { Event } from "./chaos/record.js"
import { run } from "./chaos/run.js"
import { cleanUp } from "./faults/harness.js"

const promised: Promised = {
  leaseMillis: 1000,
  storeTimeoutMillis: 400,
  outageBudgetMillis: 1000,
  longestRunMillis: 2000,
  concurrency: 3,
  rate: { limit: 20, burst: 5 }
}

/** Two processes with a beat every 20 ms, and no fault. A stall has no beats. */
const beats = (stalls: Readonly<Record<string, readonly [from: number, to: number]>> = {}): ReadonlyArray<Event> =>
  ["a", "b"].flatMap((w) =>
    Array.from({ length: 1501 }, (_, i): Event => ({ t: i * 20, w, e: "beat" })).filter(({ t }) =>
      stalls[w] === undefined || t <= stalls[w][0] || t >= stalls[w][1]
    )
  )

const record = (events: ReadonlyArray<Event>, rest = beats()) => [...rest, ...events].toSorted((a, b) => a.t - b.t)
const rules = (
  events: ReadonlyArray<Event>,
  rest = beats()
) => [...new Set(check(record(events, rest), promised).map((_) => _.rule))]

let ids = 0
/** A call that got an answer. */
const call = (
  w: string,
  kind: "flight" | "token" | "job",
  [from, to]: readonly [number, number | undefined],
  answer: { readonly ok?: string; readonly error?: string },
  leaves = false
): ReadonlyArray<Event> => {
  const id = `call${++ids}`
  return [
    { t: from, w, e: "call", id, kind, key: "k", leaves },
    ...(to === undefined ? [] : [{ t: to, w, e: "answer", id, ...answer } as const])
  ]
}
const flight = (w: string, id: string, [from, to]: readonly [number, number], fence: number): ReadonlyArray<Event> => [
  { t: from, w, e: "run", id, kind: "flight", key: "k", fence, weight: 1 },
  { t: to, w, e: "ran", id, how: "Success" }
]
const job = (w: string, id: string, [from, to]: readonly [number, number], weight = 1): ReadonlyArray<Event> => [
  { t: from, w, e: "run", id, kind: "job", key: "k", fence: 0, weight },
  { t: to, w, e: "ran", id, how: "Success" }
]
const slots = (t: number, at: number, debt: number, server = "s1"): Event => ({
  t,
  w: "director",
  e: "slots",
  server,
  key: "k",
  at,
  debt
})
const director = "director"

describe("the checker of chaos", () => {
  it("finds nothing in a record in which all is well", () => {
    const events = [
      ...call("a", "flight", [100, 210], { ok: "r1" }),
      ...call("b", "flight", [150, 215], { ok: "r1" }),
      ...flight("a", "r1", [105, 205], 7),
      ...flight("b", "r2", [300, 400], 9),
      ...call("b", "flight", [290, 401], { ok: "r2" }),
      ...call("a", "flight", [290, 350], { error: "interrupted" }, true),
      ...job("a", "j1", [100, 300], 2),
      ...job("b", "j2", [100, 300], 1),
      ...job("b", "j3", [300, 400], 3),
      slots(500, 1_000_000, 50_000),
      ...call("a", "token", [500, 501], { ok: "" })
    ]
    assert.deepEqual(rules(events), [])
  })

  it("finds a result of a run that had ended before its caller came, in its process and in another one", () => {
    const rule = ["a result comes from a run that was alive while its caller waited"]
    const old = flight("a", "r1", [100, 200], 7)
    assert.deepEqual(rules([...old, ...call("a", "flight", [230, 240], { ok: "r1" })]), rule)
    assert.deepEqual(rules([...old, ...call("b", "flight", [450, 460], { ok: "r1" })]), [])
    assert.deepEqual(rules([...old, ...call("b", "flight", [520, 540], { ok: "r1" })]), rule)
    // Where replies are lost, a result takes longer, and not for ever.
    const cut: Event = { t: 150, w: director, e: "trouble", what: "cut" }
    assert.deepEqual(rules([...old, cut, ...call("b", "flight", [520, 540], { ok: "r1" })]), [])
    assert.deepEqual(rules([...old, cut, ...call("b", "flight", [2000, 2010], { ok: "r1" })]), rule)
  })

  it("finds a result of no run, of a run of another key, and of one that did not succeed", () => {
    const rule = ["a result comes from a run that was alive while its caller waited"]
    const asked = call("a", "flight", [100, 200], { ok: "r1" })
    assert.deepEqual(rules(asked), rule)
    const other = flight("a", "r1", [110, 190], 7).map((_) => _.e === "run" ? { ..._, key: "other" } : _)
    assert.deepEqual(rules([...asked, ...other]), rule)
    const failed = flight("a", "r1", [110, 190], 7).map((_) => _.e === "ran" ? { ..._, how: "Failure" as const } : _)
    assert.deepEqual(rules([...asked, ...failed]), rule)
    assert.deepEqual(rules([...asked, ...flight("a", "r1", [110, 250], 7)]), rule)
  })

  it("finds two runs of a key at once, in one process and in two, also behind a fault that excuses neither", () => {
    assert.deepEqual(rules([...flight("a", "r1", [100, 200], 0), ...flight("a", "r2", [150, 250], 0)]), [
      "one run a key and process"
    ])
    const overlap = [...flight("a", "r1", [1000, 1600], 7), ...flight("b", "r2", [1500, 2000], 9)]
    assert.deepEqual(rules(overlap), ["at most 1 at once"])
    assert.deepEqual(rules([...overlap, { t: 900, w: director, e: "trouble", what: "cut" }]), ["at most 1 at once"])
  })

  it("excuses runs at once by a frozen process until it wakes, and by lost data for two leases", () => {
    const overlap = (to: number) => [...flight("a", "r1", [1000, to], 7), ...flight("b", "r2", [2500, 9000], 9)]
    const frozen = beats({ a: [1100, 3000] })
    assert.deepEqual(rules(overlap(3200), frozen), [])
    assert.deepEqual(rules(overlap(3900), frozen), ["at most 1 at once"])
    const lost: Event = { t: 1900, w: director, e: "lost", what: "FLUSHALL" }
    assert.deepEqual(rules([...overlap(3000), lost]), [])
    assert.deepEqual(rules([...overlap(5000), lost]), ["at most 1 at once"])
  })

  it("excuses a late timer at the end of a lease, and no overlap of a run that is younger", () => {
    const overlap = (from: number) => [...flight("a", "r1", [from, 3050], 7), ...flight("b", "r2", [3000, 3100], 9)]
    assert.deepEqual(rules(overlap(1900)), [])
    assert.deepEqual(rules(overlap(2900)), ["at most 1 at once"])
  })

  it("finds more jobs than the concurrency, by weight", () => {
    const jobs = [...job("a", "j1", [100, 300], 2), ...job("b", "j2", [200, 400], 1)]
    assert.deepEqual(rules(jobs), [])
    assert.deepEqual(rules([...jobs, ...job("b", "j3", [299, 301])]), ["at most 3 at once"])
    assert.deepEqual(rules([...jobs, ...job("b", "j3", [300, 301])]), [])
  })

  it("counts no job of a process that was killed", () => {
    const [begun] = job("a", "j1", [100, 300], 3)
    const next = job("b", "j2", [250, 400])
    assert.deepEqual(rules([begun!, ...next]), ["at most 3 at once"])
    assert.deepEqual(rules([begun!, { t: 200, w: "a", e: "gone" }, ...next]), [])
  })

  it("finds a fence that two runs have, and one that shrinks unless a clock stepped back", () => {
    const next = (fence: number) => [...flight("a", "r1", [100, 200], 7), ...flight("b", "r2", [300, 400], fence)]
    assert.deepEqual(rules(next(8)), [])
    assert.deepEqual(rules(next(7)), ["a fence has one run"])
    assert.deepEqual(rules(next(6)), ["fences grow"])
    assert.deepEqual(rules([...next(6), { t: 250, w: director, e: "back" }]), [])
    assert.deepEqual(rules([...next(7), { t: 250, w: director, e: "back" }]), [])
    assert.deepEqual(rules([...next(7), { t: 350, w: director, e: "back" }]), ["a fence has one run"])
  })

  it("finds a served result of a run that had a successor, unless data was lost", () => {
    const stale = [
      ...flight("a", "r1", [100, 3010], 7),
      ...flight("b", "r2", [2000, 2100], 9),
      ...call("a", "flight", [100, 3020], { ok: "r1" })
    ]
    const frozen = beats({ a: [200, 3000] })
    assert.deepEqual(rules(stale, frozen), ["a run whose lease another has taken serves nobody"])
    const lost = (t: number) => rules([...stale, { t, w: director, e: "lost", what: "FLUSHALL" }], frozen)
    assert.deepEqual(lost(1900), [])
    // The fence was given before that, and the answer was late.
    assert.deepEqual(lost(90), [])
    assert.deepEqual(lost(90 - promised.leaseMillis), ["a run whose lease another has taken serves nobody"])
    // A run that had ended before is no successor, whatever its fence.
    const former = [...flight("a", "r1", [100, 200], 9), ...flight("b", "r2", [300, 400], 7)]
    const served = call("b", "flight", [300, 400], { ok: "r2" })
    assert.deepEqual(rules([...former, ...served, { t: 250, w: director, e: "back" }]), [])
    // Nor is one that began before the data was lost, which a clock that steps back may leave with the larger fence.
    const older = [
      ...flight("a", "r1", [100, 3010], 9),
      ...flight("b", "r2", [2000, 2500], 7),
      ...call("b", "flight", [1990, 2500], { ok: "r2" })
    ]
    assert.deepEqual(rules(older, frozen), ["a run whose lease another has taken serves nobody"])
    assert.deepEqual(rules([...older, { t: 500, w: director, e: "lost", what: "restart" }], frozen), [])
  })

  it("finds a token without a slot, and one before its slot is due", () => {
    const use = (...times: ReadonlyArray<number>) => times.flatMap((t) => call("a", "token", [400, t], { ok: "" }))
    // Six slots at 500: five at once, the sixth 50 ms later.
    const six = slots(500, 1_000_000, 300_000)
    assert.deepEqual(rules([six, ...use(500, 500, 500, 500, 500, 550)]), [])
    assert.deepEqual(rules([six, ...use(500, 500, 500, 500, 500, 540)]), ["the rate is kept"])
    assert.deepEqual(rules([six, ...use(500, 500, 500, 500, 500, 550, 600)]), ["the rate is kept"])
    // What is given back cannot be used.
    assert.deepEqual(rules([six, slots(510, 1_010_000, 240_000), ...use(500, 500, 500, 500, 500, 550)]), [
      "the rate is kept"
    ])
  })

  it("finds a debt that was forgiven, unless the server has lost its data", () => {
    const use = Array.from({ length: 10 }, () => call("a", "token", [400, 600], { ok: "" })).flat()
    const twice = [slots(500, 1_000_000, 250_000), slots(550, 1_050_000, 250_000)]
    assert.deepEqual(rules([...twice, ...use]), ["the rate is kept"])
    assert.deepEqual(rules([twice[0]!, { t: 520, w: director, e: "forgot", server: "s2" }, twice[1]!, ...use]), [
      "the rate is kept"
    ])
    assert.deepEqual(rules([twice[0]!, { t: 520, w: director, e: "forgot", server: "s1" }, twice[1]!, ...use]), [])
    assert.deepEqual(rules([twice[0]!, slots(550, 1_050_000, 250_000, "s2"), ...use]), [])
  })

  it("judges a rate by the server's clock, also when it steps", () => {
    const use = (...times: ReadonlyArray<number>) => times.flatMap((t) => call("a", "token", [400, t], { ok: "" }))
    const five = slots(500, 100_000_000, 250_000)
    // 10 s later by its clock, and 100 ms by ours: the debt is over.
    const ahead = [five, slots(600, 110_100_000, 250_000), ...use(500, 500, 500, 500, 500, 600, 600, 600, 600, 600)]
    assert.deepEqual(rules(ahead), [])
    // Back by 10 s: the debt stays, so that the sixth is 50 ms later.
    const behind = (sixth: number) => [five, slots(600, 90_100_000, 300_000), ...use(500, 500, 500, 500, 500, sixth)]
    assert.deepEqual(rules(behind(650)), [])
    assert.deepEqual(rules(behind(640)), ["the rate is kept"])
    // A key that was gone by then owes nothing.
    const later = (t: number) => [five, slots(t, 90_000_000 + t * 1000, 250_000), ...use(500, 500, 500, 500, 500, t)]
    assert.deepEqual(rules(later(1800)), [])
    assert.deepEqual(rules(later(1700)), ["the rate is kept"])
  })

  it("finds a call without an answer, unless its process is gone", () => {
    for (const kind of ["flight", "token", "job"] as const) {
      const asked = call("a", kind, [100, undefined], {})
      assert.deepEqual(rules(asked), ["every call has an answer"])
      assert.deepEqual(rules([...asked, { t: 200, w: "a", e: "gone" }]), [])
    }
  })

  it("finds an answer that came late, counted from the last fault", () => {
    const asked = call("a", "job", [100, 12_000], { ok: "" })
    assert.deepEqual(rules(asked), ["every call has an answer in time"])
    assert.deepEqual(rules([...asked, { t: 6000, w: director, e: "trouble", what: "cut" }]), [])
    assert.deepEqual(rules([...asked, { t: 500, w: director, e: "trouble", what: "cut" }]), [
      "every call has an answer in time"
    ])
  })

  it("finds an error without a reason", () => {
    const trouble: Event = { t: 5000, w: director, e: "trouble", what: "cut" }
    const failed = (error: string, leaves = false) => call("a", "flight", [6000, 6100], { error }, leaves)
    const rule = ["errors have a reason"]
    assert.deepEqual(rules(failed("StoreError")), rule)
    assert.deepEqual(rules([...failed("StoreError"), trouble]), [])
    assert.deepEqual(rules([...failed("CodecError"), trouble]), rule)
    assert.deepEqual(rules([...failed("interrupted"), trouble]), rule)
    assert.deepEqual(rules(failed("interrupted", true)), [])
    assert.deepEqual(rules([...failed("interrupted"), { t: 6050, w: "a", e: "ending" }]), [])
  })

  it("finds what is left at the end", () => {
    assert.deepEqual(rules([{ t: 9000, w: director, e: "leftover", what: "a key, for ever" }]), ["nothing is left"])
  })
})

describe("the plan of chaos", () => {
  it("follows from its seed alone, and differs by seed", () => {
    assert.deepEqual(plan(7, 10_000, 4), plan(7, 10_000, 4))
    assert.notDeepEqual(plan(7, 10_000, 4).steps, plan(8, 10_000, 4).steps)
  })

  it("undoes what it does before its end, in order", () => {
    const undone = { freeze: ["thaw", "kill"], cut: ["mend"], kill: ["start"], end: ["start"] }
    const server = { killServer: ["startEmpty", "startKept"], shutDown: ["startKept"], freezeServer: ["thawServer"] }
    for (let seed = 1; seed <= 400; seed++) {
      const { steps } = plan(seed, 8000, 3, stores[seed % 2])
      assert.isAbove(steps.length, 2)
      for (const [i, { action, at, place }] of steps.entries()) {
        assert.isAtMost(at, 8000)
        assert.isAtLeast(at, steps[i - 1]?.at ?? 0)
        const by = Object.entries({ ...undone, ...server }).find(([_]) => _ === action)?.[1]
        if (by === undefined) continue
        const next = steps.slice(i + 1).find((_) => _.place === place)
        assert.include(by, next?.action, `seed ${seed}: ${action} at ${at}`)
      }
    }
  })
})

afterAll(cleanUp)

// More seeds with `npm run test:chaos`.
for (const [store, isThere] of [["redis", hasRedis], ["postgres", hasPostgres]] as const) {
  it.skipIf(!isThere)(`three processes over ${store} keep every promise under a short plan`, async () => {
    const { failed, path, violations } = await run(plan(4, 2500, 3, store))
    assert.deepEqual([violations, failed], [[], []], `the record: ${path}`)
    rmSync(dirname(path), { recursive: true, force: true })
  }, 60_000)
}
