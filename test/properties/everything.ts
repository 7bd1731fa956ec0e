/**
 * All services inside each other, by a seed: random programs of random callers, under random orders of tasks and random
 * yields, on a clock that goes on when nothing else can.
 *
 * What is checked: nobody hangs; each call ends with its own value, an error that it may end with, or the interruption of
 * its own fiber; a call dies of a cycle only where those that it would wait for wait for it; in the end nothing is left.
 *
 * Two schedulers that cross wait for *any* permit of each other, which no graph decides. So what runs on the inner one
 * never asks the outer one, directly or through a run or a batch: keys and resolvers are of one level each.
 */
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { leftIn } from "../support/leftInResolver.ts"
import { isCached } from "../support/lookups.ts"
import { random } from "../support/random.ts"
import { simulate } from "../support/simulation.ts"

class Broken extends Data.TaggedError("Broken")<{}> {}
class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
class Get extends Request.TaggedClass("Get")<{ readonly id: number }, string, Broken, Tenant> {}

/** Where an effect runs: what waits for it, by name, and the schedulers that it may ask. */
interface Place {
  /** Runs and batches are known by their keys, so one name may stand for several of them. */
  readonly names: ReadonlyArray<string>
  /** Around a job: what it leaves behind when it ends belongs to these. */
  readonly around: ReadonlyArray<string>
  /** `outer`: both schedulers; `inner`: the inner one alone. */
  readonly level: "outer" | "inner"
  readonly depth: number
}

export interface Seen {
  calls: number
  batches: number
  cycles: number
  refused: number
  interrupted: number
  operations: number
}

type Work = Effect.Effect<unknown, unknown>

const bug = new Error("bug")

/** A wait, from when it began until it ended, by a counter of events. */
interface Wait {
  readonly to: string
  until: number
}

class Waits {
  private now = 0
  private readonly from = new Map<string, Array<Wait>>()

  begin(
    names: ReadonlyArray<string>,
    targets: ReadonlyArray<string>
  ): { readonly since: number; readonly end: () => void } {
    const since = ++this.now
    const waits: Array<Wait> = []
    for (const name of names) {
      let list = this.from.get(name)
      if (list === undefined) this.from.set(name, list = [])
      for (const to of targets) {
        const wait = { to, until: Infinity }
        list.push(wait)
        waits.push(wait)
      }
    }
    return {
      since,
      end: () => {
        for (const wait of waits) wait.until = this.now
      }
    }
  }

  /** Whether one of the targets has waited for one of the names at some time since. */
  lead(targets: ReadonlyArray<string>, names: ReadonlyArray<string>, since: number): boolean {
    const been = new Set(targets)
    for (const at of been) {
      if (names.includes(at)) return true
      for (const { to, until } of this.from.get(at) ?? []) {
        if (until >= since) been.add(to)
      }
    }
    return false
  }
}

const isCycle = (defect: unknown): boolean =>
  defect instanceof Reducer.ReducerCycle ||
  (defect instanceof Batcher.BatcherError && defect.reason._tag === "LookupCycle")

const isNonsense = (defect: unknown): boolean =>
  defect instanceof RangeError && defect.message.endsWith("what settle returns must be a number >= 0, got NaN")

const program = (seed: number, seen: Seen, open: Set<string>) =>
  Effect.gen(function*() {
    const next = random(seed)
    const chance = (oneIn: number) => next(oneIn) === 0
    const pick = <A>(of: ReadonlyArray<A>): A => of[next(of.length)]!
    const problems: Array<string> = []
    const waits = new Waits()
    const justified = new Set<unknown>()
    let active = 0
    let budget = 60
    let jobs = 0
    let closing = false

    // ------------------------------------------------------------------------------------------------------- services
    const scope = yield* Scope.make()
    const bounded = chance(3)
    let resized = false
    let draining = false
    const impatient = chance(2)
    const maxWait = () => impatient && chance(2) ? { maxWait: next(30) } : {}
    /** What a call says that it has cost; rarely that is nonsense, of which it dies. */
    const settle = () =>
      chance(3) ? { settle: () => chance(30) ? NaN : several && chance(2) ? [next(5), next(5)] : next(5) } : {}
    const quota = () => ({ limit: 50 + next(100), window: "1 second", burst: 3, strict: chance(4) } as const)
    /** Several quotas, where calls and jobs take another number of each. */
    const several = chance(3)
    const rate = () => several ? [quota(), quota()] : quota()
    const tokens = (least: 0 | 1) => several && chance(2) ? [1, next(3)] : least + next(3)
    const provide = Effect.provideService(Scope.Scope, scope)
    const limiter = yield* RateLimiter.make(rate())
    const shared = chance(3) ? RateLimiter.RateLimiter : undefined
    const makeScheduler = (widths: number) =>
      Scheduler.make({
        concurrency: 1 + next(widths),
        ...(chance(3) && { rate: shared ?? rate() }),
        ...(bounded && { maxQueued: next(3) }),
        ...maxWait(),
        ...(impatient && chance(3) && { shed: { target: 1 + next(3), interval: 5 } }),
        ...(chance(4) && { drain: next(20) })
      }).pipe(Effect.provideService(RateLimiter.RateLimiter, limiter), provide)
    const outer = yield* makeScheduler(3)
    const inner = yield* makeScheduler(2)
    const free = yield* provide(Scheduler.make({ concurrency: "unbounded" }))
    const reducer = yield* provide(Reducer.make())
    const rowOf = (tenant: string, id: number) => `${tenant}${id}`
    const cached = chance(3)
    const makeResolver = (name: string, scheduler: Scheduler.Scheduler, level: Place["level"]) =>
      Effect.gen(function*() {
        const batcher = yield* Batcher.make({
          scheduler: Scheduler.Scheduler,
          ...(chance(3) && { window: "2 millis" }),
          ...(chance(3) && { maxBatchSize: 2 })
        })
        return yield* batcher.ordered(Get, {
          isolate: [Tenant],
          ...(cached && { cache: { capacity: 3, timeToLive: () => "5 millis" } }),
          execute: (requests) =>
            Effect.gen(function*() {
              seen.batches++
              const tenant = yield* Tenant
              const names = requests.map(({ id }) => `${name} ${rowOf(tenant, id)}`)
              yield* Effect.mapError(body({ names, around: [], level, depth: 2 }), () => new Broken())
              if (chance(10)) return yield* new Broken()
              return requests.map(({ id }) => rowOf(tenant, id))
            })
        })
      }).pipe(Effect.provideService(Scheduler.Scheduler, scheduler), provide)
    const resolvers = {
      outer: [yield* makeResolver("outer", outer, "outer"), yield* makeResolver("free", free, "outer")],
      inner: [yield* makeResolver("inner", inner, "inner")]
    }
    const nameOf = (resolver: RequestResolver<Get>) =>
      resolver === resolvers.inner[0] ? "inner" : resolver === resolvers.outer[0] ? "outer" : "free"

    // ------------------------------------------------------------------------------------------------ what is checked
    const judge = (exit: Exit.Exit<unknown, unknown>, right: (value: unknown) => boolean, what: string) => {
      if (exit._tag === "Success") {
        if (!right(exit.value)) problems.push(`${what} gives ${JSON.stringify(exit.value)}`)
        return
      }
      for (const reason of exit.cause.reasons) {
        if (Cause.isFailReason(reason)) {
          if (!mayFail(reason.error)) problems.push(`${what} fails with ${String(reason.error)}`)
        } else if (Cause.isDieReason(reason)) {
          const { defect } = reason
          if (defect !== bug && !justified.has(defect) && !isNonsense(defect)) {
            problems.push(`${what} dies of ${String(defect)}`)
          }
        }
      }
    }
    const mayFail = (error: unknown): boolean => {
      if (error === "no" || error instanceof Broken || Cause.isTimeoutError(error)) return true
      if (error instanceof Scheduler.FirstSuccessError) {
        return error.reason._tag === "NothingToTry" || error.reason.errors.every(mayFail)
      }
      if (error instanceof RateLimiter.RateLimiterError) return error.reason._tag === "RateLimitExceeded"
      if (!(error instanceof Scheduler.SchedulerError)) return false
      seen.refused++
      switch (error.reason._tag) {
        case "QueueFull":
          return bounded
        case "InsufficientCapacity":
          return resized
        case "WaitExceeded":
        case "Overloaded":
          return impatient
        case "Draining":
          return draining || closing
        case "StoreError":
          return false
      }
    }

    /** A call that waits for the targets, made from a place. */
    const call = (
      place: Place,
      targets: ReadonlyArray<string>,
      effect: Work,
      right: (value: unknown) => boolean,
      what: string
    ): Work =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          seen.calls++
          const around = place.names.concat(place.around)
          const { end, since } = waits.begin(around, targets)
          const told = `${what} of ${place.names.join(" and ") || "a caller"} since ${since}`
          open.add(told)
          return { around, end, since, told }
        }),
        () => effect,
        ({ around, end, since, told }, exit) =>
          Effect.sync(() => {
            if (exit._tag === "Failure") {
              for (const reason of exit.cause.reasons) {
                if (!Cause.isDieReason(reason) || !isCycle(reason.defect) || justified.has(reason.defect)) continue
                seen.cycles++
                justified.add(reason.defect)
                if (waits.lead(targets, around, since)) continue
                problems.push(`${told} dies of no cycle: ${String(reason.defect)}`)
              }
            }
            judge(exit, right, what)
            end()
            open.delete(told)
          })
      )

    // ----------------------------------------------------------------------------------------------------------- work
    /** What an effect does before it gives its value. */
    const body = (place: Place): Effect.Effect<void, unknown> =>
      Effect.acquireUseRelease(
        Effect.sync(() => active++),
        () => {
          const end = chance(14) ? Effect.fail("no") : chance(20) ? Effect.die(bug) : Effect.void
          let work: Work = Effect.void
          for (let steps = next(3); steps > 0; steps--) work = Effect.andThen(work, oneStep(place))
          return Effect.andThen(work, end)
        },
        () => {
          const gone = Effect.sync(() => void active--)
          return chance(4) ? Effect.andThen(chance(2) ? Effect.yieldNow : Effect.sleep(1), gone) : gone
        }
      )

    const oneStep = (place: Place): Work => {
      switch (next(8)) {
        case 0:
          return Effect.yieldNow
        case 1:
          return Effect.sleep(1 + next(5))
        case 2: {
          const work = chance(3)
            ? Reducer.detached(Effect.exit(oneCall({ ...place, names: [], around: [] })))
            : Effect.exit(oneCall(place))
          return Effect.forkDetach(work, { startImmediately: chance(2) })
        }
        case 3: {
          const child = oneCall(place)
          return Effect.flatMap(Effect.forkChild(child, { startImmediately: chance(2) }), (fiber) =>
            chance(3) ? Effect.exit(Fiber.join(fiber)) : Fiber.join(fiber))
        }
        default:
          return chance(3) ? oneCall(place) : Effect.exit(oneCall(place))
      }
    }

    const inJob = (place: Place, name: string, level: Place["level"]): Place => ({
      names: [name],
      around: place.names.concat(place.around),
      level,
      depth: place.depth + 1
    })
    const keyOf = (level: Place["level"]) =>
      level === "inner" || chance(2) ? `low ${next(2)}` : `high ${next(2)}`
    const levelOf = (key: string): Place["level"] => key.startsWith("low") ? "inner" : "outer"

    /** Notes an effect that starts later than it may. */
    const onTime = (
      name: string,
      maxWait: number | undefined,
      work: Work,
      through: (work: Work) => Work
    ): Work =>
      Effect.flatMap(Clock.currentTimeMillis, (came) =>
        through(Effect.andThen(
          Effect.map(Clock.currentTimeMillis, (now) => {
            if (maxWait !== undefined && now - came > maxWait) {
              problems.push(`${name} starts after ${now - came} of ${maxWait} ms`)
            }
          }),
          work
        )))

    /** The effect of an item, or of a job: it gives the item. */
    const item = (place: Place, level: Place["level"]) => (value: number): Work => {
      const name = `job ${++jobs}`
      return call(
        place,
        [name],
        Effect.as(body(inJob(place, name, level)), value),
        (_) => _ === value,
        name
      )
    }

    const oneCall = (place: Place): Work => {
      if (place.depth > 4 || --budget < 0) return Effect.yieldNow
      const onOuter = place.level === "outer" && chance(2)
      const scheduler = onOuter ? outer : inner
      const level = onOuter ? "outer" : "inner"
      const items = [1, 2, 3].slice(next(2))
      const through = item(place, level)
      switch (next(14)) {
        case 0:
        case 1:
        case 2:
        case 3: {
          const key = keyOf(place.level)
          const work = Effect.as(body({ names: [key], around: [], level: levelOf(key), depth: place.depth + 1 }), key)
          return call(place, [key], reducer.reduce(key, work), (_) => _ === key, `reduce ${key}`)
        }
        case 4:
        case 5: {
          const name = `job ${++jobs}`
          const options = {
            tokens: tokens(0),
            priority: next(2),
            ...maxWait(),
            ...settle(),
            ...(chance(2) && { share: { key: next(3), weight: 1 + next(2) } })
          }
          const work = Effect.as(body(inJob(place, name, level)), name)
          const timed = onTime(name, options.maxWait, work, (work) => scheduler.schedule(work, options))
          return call(place, [name], timed, (_) => _ === name, name)
        }
        case 6:
          return call(
            place,
            [],
            scheduler.forEach(items, through, {
              discard: chance(2),
              priority: next(2),
              ...maxWait(),
              ...(chance(3) && { share: next(3) })
            }),
            (_) => _ === undefined || (Array.isArray(_) && _.join() === items.join()),
            "forEach"
          )
        case 7: {
          const take = chance(2) ? next(3) : 9
          const results = Stream.runCollect(Stream.take(scheduler.stream(items, through, { order: "input" }), take))
          const expected = items.slice(0, take).join()
          return call(place, [], results, (_) => Array.isArray(_) && _.join() === expected, "stream")
        }
        case 8:
          return call(
            place,
            [],
            scheduler.forEach(Stream.rechunk(Stream.fromIterable(items), 1), through),
            (_) => Array.isArray(_) && _.join() === items.join(),
            "forEach of a stream"
          )
        case 9:
          return chance(2)
            ? call(place, [], scheduler.firstSuccess(items.map(through)), (_) =>
              items.includes(_ as number), "firstSuccess")
            : call(
              place,
              [],
              scheduler.all({ a: through(1), b: through(2) }),
              (_) =>
                JSON.stringify(_) === `{"a":1,"b":2}`,
              "all"
            )
        case 10:
        case 11:
        case 12: {
          const resolver = pick(resolvers[place.level === "inner" ? "inner" : pick(["inner", "outer"] as const)])
          const tenant = pick(["a", "b"])
          const ids = chance(3) ? [next(3), next(3)] : [next(3)]
          const targets = ids.map((id) =>
            `${nameOf(resolver)} ${rowOf(tenant, id)}`
          )
          const look = ids.length === 1
            ? Effect.map(Effect.request(new Get({ id: ids[0]! }), resolver), (row) => [row])
            : Batcher.loadMany(
              ids.map((id) =>
                new Get({ id })
              ),
              resolver
            )
          const expected = ids.map((id) => rowOf(tenant, id)).join()
          return call(
            place,
            targets,
            Effect.provideService(look, Tenant, tenant),
            (_) => Array.isArray(_) && _.join() === expected,
            `look-up of ${targets.join(" and ")}`
          )
        }
        default: {
          if (chance(4)) return call(place, [], limiter.consume({ onExceeded: "fail" }), () => true, "consume")
          const options = { tokens: tokens(1), ...maxWait(), ...settle() }
          const work = chance(2) ? Effect.sleep(next(5)) : Effect.void
          const timed = onTime("a limited call", options.maxWait, work, (work) => limiter.withLimit(work, options))
          return call(place, [], timed, () => true, "withLimit")
        }
      }
    }

    // --------------------------------------------------------------------------------------------------------- driver
    const top: Place = { names: [], around: [], level: "outer", depth: 0 }
    const callers: Array<{ readonly fiber: Fiber.Fiber<unknown, unknown>; interrupted: boolean }> = []
    const control = (): Effect.Effect<unknown> => {
      const scheduler = chance(2) ? outer : inner
      switch (next(7)) {
        case 6:
          return Effect.orDie(scheduler.penalize({ for: next(20) }))
        case 0:
          return scheduler.pause
        case 1:
          return scheduler.resume
        case 2:
          resized = true
          return scheduler.resize(1 + next(3))
        case 3:
          resized = true
          return scheduler.setRate(rate())
        case 4:
          return Effect.orDie(limiter.penalize({ for: next(20) }))
        default:
          return reducer.forget(keyOf("outer"))
      }
    }
    for (let steps = 4 + next(16); steps > 0; steps--) {
      const what = next(9)
      if (what < 4) {
        const work = oneCall(top)
        const fiber = yield* Effect.forkDetach(chance(8) ? Effect.timeout(work, 1 + next(20)) : work, {
          startImmediately: chance(2)
        })
        callers.push({ fiber, interrupted: false })
      } else if (what < 6) {
        if (callers.length > 0) {
          const caller = pick(callers)
          caller.interrupted = true
          caller.fiber.interruptUnsafe()
          seen.interrupted++
        }
      } else if (what < 7) {
        yield* control()
      } else {
        yield* chance(2) ? Effect.sleep(next(10)) : Effect.yieldNow
      }
    }
    yield* Effect.all([outer.resume, inner.resume])
    if (chance(8)) {
      draining = true
      yield* Effect.all([outer.drain({ timeout: next(50) }), inner.drain()], { concurrency: "unbounded" })
      closing = true
    }
    if (chance(4)) {
      closing = true
      yield* Scope.close(scope, Exit.void)
    }
    for (const { fiber, interrupted } of callers) {
      const exit = yield* Fiber.await(fiber)
      judge(exit, () => true, "a caller")
      if (exit._tag === "Failure" && Cause.hasInterrupts(exit.cause) && !interrupted && !closing) {
        problems.push(`a caller that nobody interrupted ends with ${Cause.pretty(exit.cause)}`)
      }
    }
    // What was left behind ends too.
    for (let round = 0; round === 0 || (round < 1000 && active + open.size > 0); round++) yield* Effect.sleep(20)
    if (open.size > 0) problems.push(`these hang: ${[...open].join("; ")}`)
    if (!closing) yield* Effect.all([outer.awaitIdle, inner.awaitIdle])
    yield* Effect.sleep(20)
    for (const [name, scheduler] of Object.entries({ outer, inner, free })) {
      const { queued, running, weight } = yield* scheduler.stats
      if (running + weight + queued > 0) {
        problems.push(`${name} is left with ${JSON.stringify({ running, weight, queued })}`)
      }
    }
    const inFlight = yield* reducer.inFlight
    if (inFlight.length > 0) problems.push(`left in flight: ${inFlight.map((_) => String(_.key)).join(", ")}`)
    if (active > 0) problems.push(`${active} effects have not ended`)
    for (const resolver of [...resolvers.outer, ...resolvers.inner]) {
      if (isCached(resolver)) yield* resolver.clearAll
      const left = leftIn(resolver)
      if (left !== "") problems.push(`left in the resolver ${nameOf(resolver)}: ${left}`)
    }
    yield* Scope.close(scope, Exit.void)
    if (problems.length > 0) return yield* Effect.die(new Error(problems.slice(0, 5).join("\n")))
  })

export const nothingSeen = (): Seen => ({
  calls: 0,
  batches: 0,
  cycles: 0,
  refused: 0,
  interrupted: 0,
  operations: 0
})

/** Runs the program of a seed. Throws what is wrong with it. */
export const everything = (seed: number, seen: Seen = nothingSeen()): void => {
  const yieldsOnceIn = [3, 10, 50, 1000][seed % 4]!
  const open = new Set<string>()
  const { exit, scheduler, timers } = simulate(
    () => Effect.provideService(program(seed, seen, open), References.MinimumLogLevel, "None"),
    { seed, yieldsOnceIn }
  )
  seen.operations += scheduler.operations
  if (exit === undefined) throw new Error(`seed ${seed}: hangs with\n${[...open].join("\n")}`)
  if (exit._tag === "Failure") throw new Error(`seed ${seed}: ${Cause.pretty(exit.cause)}`)
  if (timers > 0) throw new Error(`seed ${seed}: leaves ${timers} timers`)
}
