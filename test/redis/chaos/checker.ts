/**
 * Judges the record of a chaos run by what docs/distributed.md promises.
 *
 * A process that shows no beats is taken for frozen, whatever the reason. So the machine may be as slow as it likes: what
 * is excused is what the processes lived through, not what the plan had in mind.
 */
import type { Event, Kind } from "./record.ts"

/** What the processes were promised. Times are in milliseconds. */
export interface Promised {
  readonly leaseMillis: number
  readonly storeTimeoutMillis: number
  readonly outageBudgetMillis: number
  readonly longestRunMillis: number
  readonly concurrency: number
  readonly rate: { readonly limit: number; readonly burst: number }
}

export interface Violation {
  readonly rule: string
  readonly what: string
  readonly at: number
  readonly key?: string | undefined
}

/** Without a beat for so long a process counts as frozen. */
const stallMillis = 150
/** What a process that was frozen may take to end its runs. */
const wakingMillis = 400
/** What a trip through the proxy and the processes may take. */
const tripMillis = 300
/** What the machine may add to a bound. */
const noiseMillis = 1500
/** For how long after a fault calls may fail: a client connects anew with a delay of up to 2 s. */
const healingMillis = 5000
/** By how much the clocks of record and server are known apart. */
const clockMillis = 1
/** Between the end of an effect and the step that seals its flight. */
const sealMillis = 20

interface Span {
  readonly from: number
  readonly to: number
}

interface Run extends Span {
  readonly id: string
  readonly w: string
  readonly kind: Kind
  readonly key: string
  readonly fence: number
  readonly weight: number
  readonly how: "Success" | "Failure" | undefined
}

interface Call {
  readonly id: string
  readonly w: string
  readonly kind: Kind
  readonly key: string
  readonly leaves: boolean
  readonly at: number
  readonly answer: Extract<Event, { readonly e: "answer" }> | undefined
}

/** What is left of some spans without others. */
const without = (spans: ReadonlyArray<Span>, excused: ReadonlyArray<Span>): ReadonlyArray<Span> =>
  excused.reduce(
    (left, { from, to }) =>
      left.flatMap((span) =>
        span.to <= from || span.from >= to
          ? [span]
          : [{ from: span.from, to: from }, { from: to, to: span.to }].filter((_) => _.to > _.from)
      ),
    spans
  )

const lengthOf = (spans: ReadonlyArray<Span>) => spans.reduce((sum, { from, to }) => sum + to - from, 0)

const within = (spans: ReadonlyArray<Span>, from: number, to: number) =>
  lengthOf(
    spans.map((span) => ({ from: Math.max(span.from, from), to: Math.min(span.to, to) })).filter((_) => _.to > _.from)
  )

const groupBy = <A>(all: Iterable<A>, key: (a: A) => string): Map<string, Array<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const each of all) {
    const group = groups.get(key(each))
    if (group === undefined) groups.set(key(each), [each])
    else group.push(each)
  }
  return groups
}

/** What happened, by process and by call. */
class History {
  readonly runs = new Map<string, Run>()
  readonly calls = new Map<string, Call>()
  /** When a process was frozen. */
  readonly stalls = new Map<string, Array<Span>>()
  readonly gone = new Map<string, number>()
  readonly ending = new Map<string, number>()
  readonly troubles: ReadonlyArray<number>
  readonly lost: ReadonlyArray<number>
  readonly back: ReadonlyArray<number>
  readonly end: number

  constructor(record: ReadonlyArray<Event>) {
    this.end = record.at(-1)?.t ?? 0
    const of = <E extends Event["e"]>(e: E) =>
      record.filter((event): event is Extract<Event, { readonly e: E }> => event.e === e)
    for (const { t, w } of of("gone")) this.gone.set(w, t)
    for (const { t, w } of of("ending")) this.ending.set(w, t)
    for (const [w, beats] of groupBy(of("beat"), (_) => _.w)) {
      const times = [...beats.map((_) => _.t), this.gone.get(w) ?? this.end]
      this.stalls.set(
        w,
        times.flatMap((to, i) => i > 0 && to - times[i - 1]! > stallMillis ? [{ from: times[i - 1]!, to }] : [])
      )
    }
    const ended = new Map(of("ran").map((_) => [_.id, _]))
    for (const { fence, id, key, kind, t, w, weight } of of("run")) {
      const ran = ended.get(id)
      const to = ran?.t ?? this.gone.get(w) ?? Infinity
      this.runs.set(id, { id, w, kind, key, fence, weight, from: t, to, how: ran?.how })
    }
    const answers = new Map(of("answer").map((_) => [_.id, _]))
    for (const { id, key, kind, leaves, t, w } of of("call")) {
      this.calls.set(id, { id, w, kind, key, leaves, at: t, answer: answers.get(id) })
    }
    this.lost = of("lost").map((_) => _.t)
    this.back = of("back").map((_) => _.t)
    this.troubles = [
      ...of("trouble").map((_) => _.t),
      ...this.lost,
      ...this.back,
      ...this.gone.values(),
      ...this.ending.values(),
      ...[...this.stalls.values()].flat().flatMap(({ from, to }) => [from, to])
    ].toSorted((a, b) => a - b)
  }
  isTroubled(from: number, to: number): boolean {
    return this.troubles.some((t) => t >= from && t <= to)
  }
  /** For how long a process was frozen in a time. */
  stalled(w: string, from: number, to: number): number {
    return within(this.stalls.get(w) ?? [], from, to)
  }
}

/** More than `limit` at once, where no frozen process and no loss of data excuses it. */
const tooMany = (history: History, runs: ReadonlyArray<Run>, limit: number, promised: Promised) => {
  const { leaseMillis } = promised
  const excusedForAll = history.lost.map((t) => ({ from: t, to: t + 2 * leaseMillis + wakingMillis }))
  const edges = runs.flatMap((run) => {
    const excused = (history.stalls.get(run.w) ?? []).map(({ from, to }) => ({ from, to: to + wakingMillis }))
    return without([run], [...excused, ...excusedForAll]).flatMap(({ from, to }) => [
      { at: from, run, begins: true },
      { at: to, run, begins: false }
    ])
  }).toSorted((a, b) => a.at - b.at || Number(a.begins) - Number(b.begins))
  const running = new Set<Run>()
  const found: Array<Violation> = []
  let since: { readonly at: number; readonly runs: ReadonlyArray<Run> } | undefined
  for (const { at, begins, run } of edges) {
    if (begins) running.add(run)
    else running.delete(run)
    const weight = [...running].reduce((sum, { weight }) => sum + weight, 0)
    if (weight > limit) since ??= { at, runs: [...running] }
    else if (since !== undefined) {
      // The timer that ends a run with its lease may be late. A run that is younger than its lease has it for sure.
      const isLate = at - since.at < stallMillis
        && since.runs.some((run) => since!.at - run.from > leaseMillis - stallMillis)
      if (!isLate) {
        found.push({
          rule: `at most ${limit} at once`,
          what: `${since.runs.map((_) => _.id).join(", ")} ran together for ${(at - since.at).toFixed(1)} ms`,
          at: since.at,
          key: run.key
        })
      }
      since = undefined
    }
  }
  return found
}

/** Each result is of a run that was alive while its caller waited, or was as long ago as the answer took. */
const results = (history: History, promised: Promised): ReadonlyArray<Violation> =>
  [...history.calls.values()].flatMap((call) => {
    if (call.kind !== "flight" || call.answer?.ok === undefined) return []
    const { at, key, w } = call
    const run = history.runs.get(call.answer.ok)
    const rule = "a result comes from a run that was alive while its caller waited"
    const wrong = (
      what: string
    ) => [{ rule, what: `${call.id} got ${call.answer!.ok}, ${what}`, at: call.answer!.t, key }]
    if (run === undefined || run.key !== key) return wrong("which is no run of its key")
    if (run.how !== "Success" || run.to > call.answer.t) return wrong("which had not succeeded")
    const stalled = history.stalled(w, run.to, at) + history.stalled(run.w, run.to, at)
    const late = at - run.to - stalled
    if (run.w === w) return late > sealMillis ? wrong(`which had ended here ${late.toFixed(1)} ms before`) : []
    const { leaseMillis, outageBudgetMillis, storeTimeoutMillis } = promised
    const travels = history.isTroubled(run.to - healingMillis, at)
      ? Math.min(leaseMillis, outageBudgetMillis) + storeTimeoutMillis + tripMillis
      : tripMillis
    return late > travels ? wrong(`which had ended ${late.toFixed(1)} ms before`) : []
  })

/** Fences: one run each, growing, and no result of a run that had a successor. */
const fences = (
  history: History,
  runs: ReadonlyArray<Run>,
  served: ReadonlyMap<string, number>,
  { leaseMillis }: Promised
) => {
  const found: Array<Violation> = []
  const fenced = runs.filter(({ fence }) => fence > 0).toSorted((a, b) => a.from - b.from)
  for (const [fence, same] of groupBy(fenced, (_) => String(_.fence))) {
    if (same.length > 1 && !history.back.some((t) => t <= same[1]!.from)) {
      found.push({
        rule: "a fence has one run",
        what: `${same.map((_) => _.id).join(", ")} have the fence ${fence}`,
        at: same[1]!.from,
        key: same[1]!.key
      })
    }
  }
  let highest: Run | undefined
  for (const run of fenced) {
    if (highest !== undefined && run.fence < highest.fence && run.from > highest.to) {
      const before = highest
      if (!history.back.some((t) => t <= run.from)) {
        found.push({
          rule: "fences grow",
          what: `${run.id} has a smaller fence than ${before.id}, which had ended`,
          at: run.from,
          key: run.key
        })
      }
    }
    if (highest === undefined || run.fence > highest.fence) highest = run
  }
  for (const run of fenced) {
    const at = served.get(run.id)
    if (at === undefined) continue
    const next = fenced.find((_) => _.fence > run.fence && _.from < run.to && _.to > run.from)
    if (next === undefined) continue
    // Its fence may have been given up to a lease before the run began, if the answer was late. One that began before the loss
    // followed nobody, though the clock of the server stepped back since and its fence is the larger one.
    const since = Math.min(next.from, run.from - leaseMillis)
    if (!history.lost.some((t) => t >= since && t <= at)) {
      found.push({
        rule: "a run whose lease another has taken serves nobody",
        what: `${run.id} was served although ${next.id} had followed it`,
        at,
        key: run.key
      })
    }
  }
  return found
}

/** In its own process a key has one run, always. */
const oneHere = (runs: ReadonlyArray<Run>): ReadonlyArray<Violation> =>
  [...groupBy(runs, (_) => _.w).values()].flatMap((runs) =>
    runs.toSorted((a, b) => a.from - b.from).flatMap((run, i, sorted) => {
      const before = sorted[i - 1]
      return before !== undefined && run.from < before.to
        ? [{
          rule: "one run a key and process",
          what: `${run.id} began before the end of ${before.id}`,
          at: run.from,
          key: run.key
        }]
        : []
    })
  )

/** Every call has an answer in time, and an error only if something was wrong. */
const answers = (history: History, promised: Promised): ReadonlyArray<Violation> => {
  const { leaseMillis, longestRunMillis, outageBudgetMillis, storeTimeoutMillis } = promised
  // A job waits for those before it.
  const ahead = { flight: 2 * longestRunMillis, token: 2000, job: 3 * longestRunMillis }
  return [...history.calls.values()].flatMap((call): ReadonlyArray<Violation> => {
    const { answer, at, id, key, kind, w } = call
    const gone = history.gone.get(w)
    if (answer === undefined) {
      return gone === undefined
        ? [{ rule: "every call has an answer", what: `${id}, a ${kind}, has none`, at, key }]
        : []
    }
    const found: Array<Violation> = []
    const lastTrouble = history.troubles.findLast((t) => t < answer.t) ?? 0
    const waited = answer.t - Math.max(at, lastTrouble)
    const most = ahead[kind] + leaseMillis + 1000 + outageBudgetMillis + storeTimeoutMillis + noiseMillis
    if (waited > most) {
      const what = `${id}, a ${kind}, waited for ${waited.toFixed(0)} ms without a fault, more than ${most}`
      found.push({ rule: "every call has an answer in time", what, at: answer.t, key })
    }
    if (answer.error === undefined) return found
    const ending = history.ending.get(w)
    const isExpected = answer.error === "interrupted"
      ? call.leaves || (ending !== undefined && ending <= answer.t)
      : answer.error === "StoreError" && history.isTroubled(at - healingMillis, answer.t)
    if (!isExpected) {
      found.push({ rule: "errors have a reason", what: `${id}, a ${kind}, failed: ${answer.error}`, at: answer.t, key })
    }
    return found
  })
}

/** Each start has a slot of its own that was due by then, by the record of the server. */
const rates = (record: ReadonlyArray<Event>, history: History, { rate }: Promised): ReadonlyArray<Violation> => {
  const slots = record.filter((event) => event.e === "slots" || event.e === "forgot")
  const interval = 1e6 / rate.limit
  // The servers' clocks step by whole tens of seconds. So the record that was quickest tells how far all are off.
  const apart = ({ at, t }: { readonly at: number; readonly t: number }) => t - at / 1000
  const least = slots.reduce((least, _) => _.e === "slots" ? Math.min(least, apart(_)) : least, Infinity)
  const era = (event: { readonly at: number; readonly t: number }) => Math.floor((apart(event) - least + 1000) / 10_000)
  const base = slots.reduce(
    (least, _) => _.e === "slots" ? Math.min(least, apart(_) - 10_000 * era(_)) : least,
    Infinity
  )
  const dues = new Map<string, Array<number>>()
  const states = new Map<string, { readonly t: number; readonly at: number; readonly debt: number }>()
  for (const event of slots) {
    if (event.e === "forgot") {
      for (const name of states.keys()) if (name.startsWith(`${event.server} `)) states.delete(name)
      continue
    }
    const { at, debt, key, server, t } = event
    const before = states.get(`${server} ${key}`) ?? { t, at, debt: 0 }
    // A key that was gone when the clock stepped back, a second after its debt, has no debt to carry on with.
    const isGone = at < before.at && (t - before.t) * 1000 > before.debt + 1e6
    let level = isGone ? 0 : Math.max(0, before.debt - Math.max(0, at - before.at))
    const granted = Math.round((debt - level) / interval)
    const own = dues.get(key) ?? []
    dues.set(key, own)
    if (granted < 0) own.splice(granted)
    for (let i = 0; i < granted; i++, level += interval) {
      const wait = Math.max(0, level + (1 - rate.burst) * interval)
      own.push((at + wait) / 1000 + base + 10_000 * era(event))
    }
    states.set(`${server} ${key}`, { t, at, debt })
  }
  const starts = [...history.calls.values()].filter((_) => _.kind === "token" && _.answer?.ok !== undefined)
  return [...groupBy(starts, (_) => _.key)].flatMap(([key, calls]) => {
    const due = (dues.get(key) ?? []).toSorted((a, b) => a - b)
    const at = calls.map((_) => _.answer!.t).toSorted((a, b) => a - b)
    const i = at.findIndex((t, i) => !(t >= due[i]! - clockMillis))
    if (i === -1) return []
    const what = due[i] === undefined
      ? `${at.length} tokens were used, and ${due.length} granted`
      : `start ${i} came ${(due[i]! - at[i]!).toFixed(1)} ms before its slot`
    return [{ rule: "the rate is kept", what, at: at[i]!, key }]
  })
}

/** Everything in the record that the documentation does not allow. */
export const check = (record: ReadonlyArray<Event>, promised: Promised): ReadonlyArray<Violation> => {
  const history = new History(record)
  const byKey = (kind: Kind) => [...groupBy([...history.runs.values()].filter((_) => _.kind === kind), (_) => _.key)]
  const served = new Map<string, number>()
  for (const { answer, kind } of history.calls.values()) {
    if (kind === "flight" && answer?.ok !== undefined && !served.has(answer.ok)) served.set(answer.ok, answer.t)
  }
  return [
    ...byKey("flight").flatMap(([, runs]) => [
      ...oneHere(runs),
      ...fences(history, runs, served, promised),
      ...tooMany(history, runs.filter(({ fence }) => fence > 0), 1, promised)
    ]),
    ...byKey("job").flatMap(([, runs]) => tooMany(history, runs, promised.concurrency, promised)),
    ...results(history, promised),
    ...rates(record, history, promised),
    ...answers(history, promised),
    ...record.flatMap((event) =>
      event.e === "leftover" ? [{ rule: "nothing is left", what: event.what, at: event.t }] : []
    )
  ].toSorted((a, b) => a.at - b.at)
}

/** The part of the record that concerns a violation: its key, and the faults. */
export const around = (record: ReadonlyArray<Event>, { at, key }: Violation): ReadonlyArray<Event> => {
  const ids = new Set(record.flatMap((_) => (_.e === "call" || _.e === "run") && _.key === key ? [_.id] : []))
  return record.filter((event) => {
    if (event.t < at - 3000 || event.t > at + 300) return false
    if (event.e === "beat" || event.e === "forgot") return false
    if ("id" in event) return ids.has(event.id)
    return !("key" in event) || event.key === key
  }).slice(-60)
}
