/**
 * The bounds of all services at once, by a seed: random programs change widths and rates while jobs of every weight, cost,
 * priority and tenant wait and run, nested in each other and in runs, under random orders of tasks and random yields.
 *
 * `everything.ts` judges how calls end. Here each step is judged: a model beside each scheduler (`engineModel.ts`) and each
 * rate (`startsModel.ts`), and simpler ones of runs, cached look-ups and retry budgets.
 *
 * Schedulers are entered in one order, `a` before `b` before `hosts`, because two that cross may wait for each other. A job of
 * `b` or `a` that runs inside a job of `a` may go back to `a`: that job lends it its width.
 */
import { Batcher, RateLimiter, Reducer, Scheduler } from "effect-funnel"
import * as Adaptive from "effect-funnel/Adaptive"
import * as RetryBudget from "effect-funnel/RetryBudget"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Request from "effect/Request"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { limiterOf } from "../../src/internal/limiter/limiter.ts"
import { LimiterMemory } from "../../src/internal/limiter/memory.ts"
import { Engine } from "../../src/internal/scheduler/engine.ts"
import { type Observer, Roll } from "../../src/internal/seen/seen.ts"
import { CurrentNode, type Node } from "../../src/internal/waits/waits.ts"
import { EngineModel, type World } from "../support/engineModel.ts"
import { leftIn } from "../support/leftInResolver.ts"
import { random } from "../support/random.ts"
import { simulate, type TurnClock } from "../support/simulation.ts"
import { type ModelQuota, type Start, Starts } from "../support/startsModel.ts"

class Broken extends Data.TaggedError("Broken")<{}> {}
class Tenant extends Context.Service<Tenant, string>()("test/Tenant") {}
interface Row {
  readonly of: string
  /** The version of the backend that it was read from. */
  readonly version: number
  /** Until when it may be kept. */
  until: number
}
class Get extends Request.TaggedClass("Get")<{ readonly id: number }, Row, Broken, Tenant> {}

type Work = Effect.Effect<unknown, unknown>
type Name = "a" | "b" | "hosts"

/** Where an effect runs: the schedulers that it may ask, and whether it may start runs and look-ups. */
interface Place {
  readonly may: ReadonlyArray<Name>
  readonly shares: boolean
  readonly depth: number
  /** Whether it is in a job. */
  readonly inJob: boolean
}

export interface Seen {
  calls: number
  jobs: number
  waited: number
  lent: number
  heavy: number
  resized: number
  unbounded: number
  adaptive: number
  costs: number
  settled: number
  shed: number
  late: number
  full: number
  impossible: number
  drained: number
  draining: number
  idle: number
  turns: number
  keys: number
  limited: number
  resets: number
  penalties: number
  runs: number
  joins: number
  cached: number
  cleared: number
  primed: number
  retries: number
  denied: number
  interrupted: number
  blocked: number
  audits: number
}

export const nothingSeen = (): Seen => ({
  calls: 0,
  jobs: 0,
  waited: 0,
  lent: 0,
  heavy: 0,
  resized: 0,
  unbounded: 0,
  adaptive: 0,
  costs: 0,
  settled: 0,
  shed: 0,
  late: 0,
  full: 0,
  impossible: 0,
  drained: 0,
  draining: 0,
  idle: 0,
  turns: 0,
  keys: 0,
  limited: 0,
  resets: 0,
  penalties: 0,
  runs: 0,
  joins: 0,
  cached: 0,
  cleared: 0,
  primed: 0,
  retries: 0,
  denied: 0,
  interrupted: 0,
  blocked: 0,
  audits: 0
})

/** What a call knows of its job. */
interface Job {
  bodies: number
  start: Start | undefined
  starts: Starts | undefined
}

interface Run {
  readonly key: string
  /** When its effect had ended. */
  ended: number
  forgotten: boolean
}

const ms = 1e6
const mostWidth = 4

const program = (seed: number, seen: Seen, clock: TurnClock, open: Set<string>) =>
  Effect.gen(function*() {
    const next = random(seed)
    const chance = (oneIn: number) => next(oneIn) === 0
    const pick = <A>(of: ReadonlyArray<A>): A => of[next(of.length)]!
    const problems: Array<string> = []
    const problem = (told: string) => void problems.push(`${told} (at ${clock.currentTimeMillisUnsafe()} ms)`)
    let events = 0
    let blocked = 0
    let active = 0
    let budget = 50
    let closing = false
    const world: World = {
      now: () => Number(clock.now),
      problem,
      blocked: () => blocked,
      steps: 0
    }

    // ------------------------------------------------------------------------------------------------------- services
    const calm = chance(4)
    /** Equal jobs of equal tenants take turns. A stall would make some of them longer. */
    const fair = chance(4)
    const stalls = !fair && chance(4)
    const several = chance(4)
    const quota = () => {
      const limit = 20 + next(100)
      return { limit, window: chance(4) ? "200 millis" : "1 second", burst: 1 + next(4), strict: chance(3) } as const
    }
    const quotas = () => several ? [quota(), quota()] : [quota()]
    const inNanos = (all: ReadonlyArray<ReturnType<typeof quota>>): ReadonlyArray<ModelQuota> =>
      all.map((each) => ({ ...each, window: (each.window === "1 second" ? 1000 : 200) * ms }))
    const tokens = (least: 0 | 1) => several && chance(2) ? [1, next(3)] : chance(3) ? least + next(4) : 1

    const models = new Map<unknown, EngineModel>()
    const all: Array<EngineModel> = []
    const startsOf = new Map<unknown, Map<string | undefined, Starts>>()
    /** Hears what happens to a limiter in memory, and judges its starts key by key. */
    const watchLimiter = (name: string, limiter: LimiterMemory, first: ReadonlyArray<ModelQuota>) => {
      const keys = new Map<string | undefined, Starts>()
      startsOf.set(limiter, keys)
      let current = first
      const of = (key: string | undefined): Starts => {
        let starts = keys.get(key)
        if (starts === undefined) keys.set(key, starts = new Starts(`${name} ${key ?? ""}`, world, current))
        return starts
      }
      const { penalizeUnsafe, resetUnsafe, setQuotas } = limiter
      limiter.setQuotas = (rates) => {
        current = rates
        for (const starts of keys.values()) starts.requote(rates)
        setQuotas.call(limiter, rates)
      }
      limiter.penalizeUnsafe = (key, nanos) => {
        of(key).penalize(nanos)
        return penalizeUnsafe.call(limiter, key, nanos)
      }
      limiter.resetUnsafe = (key) => {
        of(key).reset()
        resetUnsafe.call(limiter, key)
      }
      return of
    }
    const rememberedHosts = new Map<string, Starts>()
    const watch = (engine: Engine, first: ReadonlyArray<ModelQuota> | undefined) => {
      const { limiter } = engine
      const known = limiter === undefined ? undefined : startsOf.get(limiter)
      const isHost = engine.name.startsWith("host")
      let starts = known?.get(undefined)
      if (starts === undefined && limiter instanceof LimiterMemory && first !== undefined) {
        starts = watchLimiter(engine.name, limiter, first)(undefined)
        // A key that comes back starts no more than one that had stayed.
        if (isHost) {
          const before = rememberedHosts.get(engine.name)
          if (before === undefined) rememberedHosts.set(engine.name, starts)
          else startsOf.get(limiter)!.set(undefined, starts = before)
        }
      }
      const model = new EngineModel(engine, world, starts)
      const { adoptLimiterUnsafe } = engine
      engine.adoptLimiterUnsafe = (limiter) => {
        // Sound: the schedulers of a model have no store.
        const memory = limiter as LimiterMemory
        // Sound: these are its quotas.
        const rates = Reflect.get(memory, "rates") as ReadonlyArray<ModelQuota>
        model.starts = watchLimiter(engine.name, memory, rates)(undefined)
        adoptLimiterUnsafe.call(engine, limiter)
      }
      models.set(engine, model)
      all.push(model)
      return model
    }

    const counts = { started: 0, ended: 0, left: 0, refused: 0 }
    const enrolled = new Set<object>()
    let firstOfEngine: ReadonlyArray<ModelQuota> | undefined
    const time = () => clock.currentTimeMillisUnsafe()
    const nothing = () => {}
    const observer: Observer = {
      enrol: (kind, _name, source) => {
        enrolled.add(source)
        const isScheduler = kind === "scheduler"
        const watching = {
          now: time,
          started: (_since: unknown, now?: number) => {
            if (isScheduler) counts.started++
            return now ?? time()
          },
          ended: () => {
            if (isScheduler) counts.ended++
            return time()
          },
          left: () => void counts.left++,
          refused: () => {
            if (isScheduler) counts.refused++
          },
          resized: nothing,
          penalized: nothing,
          added: (engine: unknown) => {
            if (engine instanceof Engine) {
              seen.keys++
              watch(engine, hostQuotas.get(engine.name))
            }
          },
          admitted: nothing,
          delayed: nothing,
          joined: nothing,
          asked: nothing,
          executes: nothing,
          commanded: nothing
        }
        if ("engines" in source) {
          for (const engine of source.engines()) if (engine instanceof Engine) watch(engine, firstOfEngine)
        }
        // Sound: it hears of everything.
        return { watch: watching as never, leave: () => void enrolled.delete(source) }
      }
    }

    const scope = yield* Scope.make()
    const inScope = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(Effect.provideService(Scope.Scope, scope), Effect.provideService(Roll, observer))
    const limiterQuotas = quotas()
    const limiter = yield* inScope(RateLimiter.make(limiterQuotas))
    const limiterMemory = limiterOf(limiter)
    if (!(limiterMemory instanceof LimiterMemory)) return yield* Effect.die("a limiter in memory")
    const limiterStarts = watchLimiter("limiter", limiterMemory, inNanos(limiterQuotas))
    limiterStarts(undefined)
    const impatient = chance(2)
    const maxWait = () => impatient && chance(2) ? { maxWait: next(40) } : {}
    const width = (): number | "unbounded" => chance(5) ? "unbounded" : 1 + next(mostWidth)
    const optionsOf = (name: string, isFair: boolean): Scheduler.Options<RateLimiter.RateLimiter> => {
      const own = quotas()
      const isShared = !isFair && chance(4)
      const adaptive = !isFair && chance(5)
      if (adaptive) seen.adaptive++
      firstOfEngine = inNanos(own)
      return {
        name,
        concurrency: adaptive
          ? Adaptive.latency({ min: 1, max: 8, initial: 1 + next(8), overload: Exit.isFailure })
          : width(),
        ...(isShared ? { rate: RateLimiter.RateLimiter } : !isFair && chance(2) && { rate: own }),
        ...(!isFair && chance(3) && { maxQueued: next(4) }),
        ...(isFair ? {} : maxWait()),
        ...(!isFair && chance(3) && { shed: { target: 1 + next(4), interval: 5 + next(10) } }),
        ...(chance(4) && { drain: next(20) })
      }
    }
    const withLimiter = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provideService(effect, RateLimiter.RateLimiter, limiter)
    const a = yield* withLimiter(inScope(Scheduler.make(optionsOf("a", fair))))
    const b = yield* withLimiter(inScope(Scheduler.make(optionsOf("b", false))))
    const [modelA, modelB] = all
    if (fair) modelA!.fairWithin = mostWidth + 2

    const hostQuotas = new Map<string, ReadonlyArray<ModelQuota>>()
    const hostOptions = new Map<string, Scheduler.Options<RateLimiter.RateLimiter>>()
    for (const host of ["x", "y", "z"]) {
      const options = { ...optionsOf(`host ${host}`, false), drain: 0 }
      hostQuotas.set(`host ${host}`, firstOfEngine!)
      hostOptions.set(host, options)
    }
    class Hosts extends Scheduler.Keyed<Hosts>()("hosts", { lookup: (host: string) => hostOptions.get(host)! }) {}
    const hosts = Context.get(yield* withLimiter(inScope(Layer.build(Hosts.layer))), Hosts)

    const reducer = yield* inScope(Reducer.make())
    const budgetOptions = { tokens: 2 + next(6), ratio: pick([0, 0, 0.1, 0.5, 1]) }
    const retryBudget = yield* inScope(RetryBudget.make(budgetOptions))

    const versions = new Map<string, number>()
    /** The least version that a look-up may give that begins now. */
    const fresh = new Map<string, number>()
    const timeToLive = 1 + next(30)
    const batcher = yield* inScope(Batcher.make({
      scheduler: Scheduler.Scheduler,
      ...(chance(3) && { window: "2 millis" }),
      ...(chance(3) && { maxBatchSize: 2 })
    })).pipe(Effect.provideService(Scheduler.Scheduler, b))
    const resolver = yield* inScope(batcher.ordered(Get, {
      isolate: [Tenant],
      cache: { capacity: 1 + next(4), timeToLive: () => timeToLive },
      execute: (requests) =>
        Effect.gen(function*() {
          const tenant = yield* Tenant
          const rows = requests.map(({ id }): Row => {
            const of = `${tenant}${id}`
            return { of, version: versions.get(of) ?? 0, until: Infinity }
          })
          if (chance(2)) yield* Effect.sleep(next(5))
          if (chance(4)) yield* Effect.yieldNow
          if (chance(10)) return yield* new Broken()
          for (const row of rows) row.until = world.now() + timeToLive * ms
          return rows
        })
    }))

    // ------------------------------------------------------------------------------------------------- what is checked
    const audit = () => {
      if (clock.nextAt !== undefined && clock.nextAt <= clock.now) return
      seen.audits++
      for (const model of all) model.audit()
    }
    const fireNext = clock.fireNext.bind(clock)
    clock.fireNext = () => {
      audit()
      return fireNext()
    }

    const mayFail = (error: unknown): boolean => {
      if (error === "no" || error instanceof Broken || Cause.isTimeoutError(error)) return true
      if (error instanceof Scheduler.FirstSuccessError) {
        return error.reason._tag === "NothingToTry" || error.reason.errors.every(mayFail)
      }
      if (error instanceof RateLimiter.RateLimiterError) {
        return error.reason._tag === "RateLimitExceeded" || error.reason._tag === "InsufficientCapacity"
      }
      if (!(error instanceof Scheduler.SchedulerError)) return false
      switch (error.reason._tag) {
        case "QueueFull":
          seen.full++
          return true
        case "WaitExceeded":
          seen.late++
          return impatient
        case "Overloaded":
          seen.shed++
          return true
        case "InsufficientCapacity":
          seen.impossible++
          return error.reason.asked > error.reason.most
        case "Draining":
          seen.draining++
          return true
        case "StoreError":
          return false
      }
    }

    /** A call that ends once, as it may. */
    const call = (what: string, effect: Work, right: (value: unknown) => boolean): Work =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          seen.calls++
          const told = `${what} ${++events}`
          open.add(told)
          return told
        }),
        () => effect,
        (told, exit) =>
          Effect.sync(() => {
            if (!open.delete(told)) problem(`${told} ends twice`)
            if (exit._tag === "Success") {
              if (!right(exit.value)) problem(`${told} gives ${JSON.stringify(exit.value)}`)
              return
            }
            for (const reason of exit.cause.reasons) {
              if (Cause.isFailReason(reason) && !mayFail(reason.error)) {
                problem(`${told} fails with ${String(reason.error)}`)
              }
              if (Cause.isDieReason(reason)) problem(`${told} dies of ${String(reason.defect)}`)
            }
          })
      )

    /** The first step of a job's effect: its permit is its own. */
    const noted = (job: Job, what: { readonly weight: number; readonly priority: number }, work: Work): Work =>
      Effect.withFiber((fiber) => {
        job.bodies++
        const node: Node | undefined = fiber.getRef(CurrentNode)
        // Sound: of all nodes, jobs alone have an engine.
        const model = models.get((node as { readonly engine?: object } | undefined)?.engine)
        const record = node === undefined ? undefined : model?.running.get(node)
        if (record === undefined || model === undefined) {
          problem("the effect of a job runs without a permit")
          return work
        }
        if (++record.bodies > 1) problem("the effect of a job runs twice")
        if (record.job.weight !== what.weight) problem(`a job weighs ${record.job.weight}, and not ${what.weight}`)
        if (record.job.priority !== what.priority) problem(`the priority of a job is ${record.job.priority}`)
        seen.jobs++
        if (record.job.order > 0) seen.waited++
        if (record.lender !== undefined) seen.lent++
        if (what.weight > 1) seen.heavy++
        if (record.start !== undefined) model.starts?.runs(record.start)
        job.start = record.start
        job.starts = model.starts
        return work
      })

    // ------------------------------------------------------------------------------------------------------------ work
    const body = (place: Place): Work =>
      Effect.acquireUseRelease(
        Effect.sync(() => active++),
        () => {
          const end: Work = chance(14) ? Effect.fail("no") : Effect.void
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
        case 2:
          return Effect.sleep(1 + next(8))
        case 3: {
          // What is left behind holds no width of another scheduler.
          const left = { ...place, may: place.may.filter((name) => name === "hosts") }
          return Effect.forkDetach(Effect.exit(oneCall(left)), { startImmediately: chance(2) })
        }
        case 4: {
          const child = oneCall(place)
          return Effect.flatMap(Effect.forkChild(child, { startImmediately: chance(2) }), (fiber) =>
            chance(3) ? Effect.exit(Fiber.join(fiber)) : Fiber.join(fiber))
        }
        case 5:
          if (!stalls) {
            return Effect.yieldNow
          }
          return Effect.sync(() => {
            const nanos = (1 + next(20)) * ms
            seen.blocked++
            blocked += nanos
            clock.now += BigInt(nanos)
          })
        default:
          return chance(3) ? oneCall(place) : Effect.exit(oneCall(place))
      }
    }

    /** What may be asked from a job of a scheduler. */
    const inside = (place: Place, name: Name): Place => ({
      may: name === "a" || (place.may.includes("a") && place.inJob)
        ? ["a", "b", "hosts"]
        : name === "b"
        ? ["b", "hosts"]
        : [],
      shares: name !== "hosts" && place.shares,
      depth: place.depth + 1,
      inJob: true
    })

    const cost = () => (chance(2) ? 1 : 1 + next(3))
    const newJob = (): Job => ({ bodies: 0, start: undefined, starts: undefined })

    const scheduled = (place: Place, name: Name, scheduler: Scheduler.Scheduler): Work => {
      const job = newJob()
      const weight = cost()
      const priority = chance(3) ? next(3) - 1 : 0
      const taken = tokens(0)
      if (taken !== 1) {
        seen.costs++
      }
      const settles = chance(3)
      const actual = several && chance(2) ? [next(5), next(5)] : next(6)
      const options = {
        weight,
        priority,
        tokens: taken,
        ...maxWait(),
        ...(settles && {
          settle: () => {
            seen.settled++
            if (job.start !== undefined) {
              job.starts?.settles(job.start, actual)
            }
            return actual
          }
        }),
        ...(chance(2) && { share: chance(2) ? next(3) : { key: next(3), weight: 1 + next(3) } })
      }
      const value = ++events
      const work = noted(job, options, Effect.as(body(inside(place, name)), value))
      return call(`job of ${name}`, scheduler.schedule(work, options), (_) =>
        _ === value && job.bodies === 1).pipe(
          Effect.tapError((error) =>
            Effect.sync(() => {
              if (error instanceof Scheduler.SchedulerError && error.scheduler === name && job.bodies > 0) {
                // One that it got from another job inside it names the same scheduler.
                if (job.bodies > 1) problem(`a job that was refused ran ${job.bodies} times`)
              }
            })
          )
        )
    }

    /** Weight, tokens and priority of an item, by its value and its index. */
    const weightOf = (item: number, index: number) => 1 + (item + index) % 2
    const priorityOf = (item: number) => item % 2
    const itemOptions = () => ({
      ...(chance(2) ? { weight: weightOf, priority: priorityOf } : { weight: 1, priority: 0 }),
      ...(chance(2) && { tokens: (item: number, index: number) => (item * index) % 3 }),
      ...maxWait(),
      ...(chance(3) && { share: next(3) })
    })
    const itemBody = (place: Place, name: Name, options: ReturnType<typeof itemOptions>, jobs: Array<Job>) => {
      const at = inside(place, name)
      return (item: number, index: number): Work => {
        const job = jobs[index] ??= newJob()
        const of = (cost: number | ((item: number, index: number) => number)) =>
          typeof cost === "number" ? cost : cost(item, index)
        return noted(
          job,
          { weight: of(options.weight), priority: of(options.priority) },
          Effect.as(body(at), item)
        )
      }
    }

    const schedulerOf = (name: Name): Scheduler.Scheduler =>
      name === "a" ? a : name === "b" ? b : hosts.get(pick(["x", "y", "z"]))

    const oneCall = (place: Place): Work => {
      if (place.depth > 4 || --budget < 0) return Effect.yieldNow
      const name = place.may.length === 0 ? undefined : pick(place.may)
      if (name === undefined) return place.shares ? lookUp() : limited()
      const scheduler = schedulerOf(name)
      const items = [4, 7, 2, 9].slice(next(4))
      switch (next(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
          return scheduled(place, name, scheduler)
        case 6: {
          const options = itemOptions()
          const jobs: Array<Job> = []
          let last: { done: number; failed: number; queued: number; running: number } | undefined
          return call(
            "forEach",
            scheduler.forEach(items, itemBody(place, name, options, jobs), {
              ...options,
              discard: chance(2),
              onProgress: (progress) => {
                if (last !== undefined && progress.done + progress.failed < last.done + last.failed) {
                  problem("the progress goes back")
                }
                last = progress
              }
            }),
            (_) =>
              (_ === undefined || (Array.isArray(_) && _.join() === items.join())) &&
              jobs.length === items.length && jobs.every(({ bodies }) => bodies === 1) &&
              last?.done === items.length && last.running + last.queued === 0
          )
        }
        case 7: {
          const options = itemOptions()
          const jobs: Array<Job> = []
          const take = chance(2) ? next(3) : 9
          const stream = Stream.rechunk(Stream.fromIterable(items), 1).pipe(
            scheduler.mapEffect(itemBody(place, name, options, jobs), { ...options, order: "input" }),
            Stream.take(take),
            Stream.runCollect
          )
          return call("mapEffect", stream, (_) => Array.isArray(_) && _.join() === items.slice(0, take).join())
        }
        case 8: {
          const options = { weight: 1, priority: 0 }
          const of = itemBody(place, name, options, [])
          return chance(2)
            ? call("firstSuccess", scheduler.firstSuccess(items.map(of)), (_) => items.some((item) => item === _))
            : call("all", scheduler.all(items.map(of)), (_) => Array.isArray(_) && _.join() === items.join())
        }
        case 9:
        case 10:
        case 11:
          return place.shares ? chance(2) ? reduced(place) : lookUp() : limited()
        case 12:
          return retried(place)
        case 13:
          return limited()
        case 14: {
          if (place.inJob) return Effect.timeoutOption(scheduler.awaitIdle, 1 + next(10))
          return name === "hosts" ? Effect.yieldNow : idle(name)
        }
        default:
          return chance(3) ? control(place.inJob) : Effect.yieldNow
      }
    }

    const idle = (name: "a" | "b"): Work =>
      Effect.suspend(() => {
        const model = name === "a" ? modelA! : modelB!
        const since = model.look()
        return Effect.timeoutOption(schedulerOf(name).awaitIdle, 1 + next(100)).pipe(
          Effect.map((ended) => {
            if (ended._tag === "None") return
            seen.idle++
            if (!model.idle && model.idleAt < since) problem(`awaitIdle of ${name} returns, and it was never idle`)
          })
        )
      })

    const runs = new Map<string, Set<Run>>()
    const forgottenAt = new Map<string, number>()
    const reduced = (place: Place): Work => {
      const key = `key ${next(3)}`
      // Runs may be joined from everywhere, so they ask the inner scheduler alone.
      const within: Place = { may: ["b"], shares: true, depth: place.depth + 1, inJob: true }
      const of = () => {
        let set = runs.get(key)
        if (set === undefined) runs.set(key, set = new Set())
        return set
      }
      const work = (since: number) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            // It may have waited for the end of another one when its key was forgotten.
            const forgotten = since < (forgottenAt.get(key) ?? 0)
            for (const other of of()) if (!other.forgotten && !forgotten) problem(`two runs of ${key}`)
            const run: Run = { key, ended: Infinity, forgotten }
            of().add(run)
            seen.runs++
            return run
          }),
          (run) => Effect.as(withoutCycle(key, within), run),
          (run) =>
            Effect.sync(() => {
              run.ended = world.now()
              of().delete(run)
            })
        )
      return Effect.suspend(() => {
        const since = ++events
        const began = world.now()
        let own = 0
        const started = Effect.suspend(() => {
          own++
          return work(since)
        })
        return call(`reduce ${key}`, reducer.reduce(key, started), (value) => {
          // Sound: that is what runs of this reducer give.
          const run = value as Run
          if (own === 0) seen.joins++
          // Its end comes after the last step of its effect, in the same moment.
          return run.key === key && run.ended + blocked >= began && own <= 1
        })
      })
    }
    /** A run asks for runs of a larger key only, and for no look-ups: no cycle. */
    const withoutCycle = (key: string, place: Place): Work =>
      key === "key 2" ? body({ ...place, shares: false }) : body({ ...place, shares: false, depth: place.depth })

    const lookUp = (): Work => {
      const tenant = pick(["s", "t"])
      const id = next(3)
      const of = `${tenant}${id}`
      return Effect.suspend(() => {
        const least = fresh.get(of) ?? 0
        const since = world.now()
        const look = Effect.provideService(Effect.request(new Get({ id }), resolver), Tenant, tenant)
        return call(`look-up of ${of}`, look, (value) => {
          // Sound: that is what this resolver gives.
          const row = value as Row
          if (row.version < least) problem(`a look-up of ${of} gives version ${row.version}, after ${least} was told`)
          // A result is dated when its batch has ended.
          if (since >= row.until + blocked) {
            problem(`a look-up of ${of} gives a result that is ${since - row.until} ns too old`)
          }
          if (row.until < Infinity && row.until - timeToLive * ms < since) seen.cached++
          return row.of === of
        })
      })
    }

    const limited = (): Work => {
      const key = pick([undefined, "k", "l"])
      const taken = tokens(1)
      const actual = several && chance(2) ? [next(5), next(5)] : next(6)
      return Effect.suspend(() => {
        const starts = limiterStarts(key)
        const { eras } = starts
        const penaltyAt = starts.penaltyUntil
        let start: Start | undefined
        const work = Effect.suspend(() => {
          seen.limited++
          if (starts.eras === eras) start = starts.begin(taken, starts.penaltyUntil === penaltyAt)
          return chance(2) ? Effect.sleep(next(5)) : Effect.void
        })
        const options = {
          key,
          tokens: taken,
          ...maxWait(),
          ...(chance(4) && { onExceeded: "fail" } as const),
          ...(chance(3) && {
            settle: () => {
              seen.settled++
              if (start !== undefined) starts.settles(start, actual)
              return actual
            }
          })
        }
        return call("withLimit", limiter.withLimit(work, options), () => true)
      })
    }

    const retrying = { failures: 0, successes: 0, retries: 0, denied: 0 }
    const retried = (place: Place): Work => {
      const times = chance(2) ? next(4) : undefined
      const isWorth = chance(4) ? () => false : () => true
      return Effect.suspend(() => {
        let attempts = 0
        let worth = false
        const attempt: Work = Effect.suspend((): Work => {
          if (attempts++ > 0) {
            seen.retries++
            retrying.retries++
            const most = budgetOptions.tokens / 2 + budgetOptions.ratio * retrying.successes
            if (retrying.retries >= most) {
              problem(`${retrying.retries} retries of a budget that allows less than ${most}`)
            }
          }
          const work = chance(3) ? oneCall(place) : Effect.void
          return Effect.andThen(work, chance(2) ? Effect.fail("no") : Effect.sync(() => void retrying.successes++))
        })
        const told = retryBudget.retry(attempt, {
          times,
          while: () => {
            worth = isWorth()
            if (worth) retrying.failures++
            return worth
          }
        })
        return Effect.tapError(told, () =>
          Effect.sync(() => {
            if (!worth || attempts > (times ?? Infinity)) return
            retrying.denied++
            seen.denied++
          }))
      })
    }

    // --------------------------------------------------------------------------------------------------------- driver
    const changedHosts = new Set<string>()
    const pausedHosts = new Set<string>()
    /** A job that waits for its own scheduler without an end may keep the width that those behind it need. */
    const control = (inJob = false): Work => {
      const host = pick(["x", "y", "z"])
      const name = pick(["a", "b", "hosts"] as const)
      const scheduler = name === "hosts" ? hosts.get(host) : schedulerOf(name)
      const changes = () => {
        if (name === "hosts") changedHosts.add(host)
      }
      switch (next(14)) {
        case 0:
          if (name === "hosts") pausedHosts.add(host)
          return scheduler.pause
        case 1:
          return scheduler.resume
        case 2:
        case 3:
        case 4: {
          const to = width()
          return Effect.suspend(() => {
            changes()
            seen.resized++
            if (to === "unbounded") seen.unbounded++
            return scheduler.resize(to)
          })
        }
        case 5: {
          if (fair && name === "a") return Effect.yieldNow
          const to = quotas()
          return Effect.suspend(() => {
            changes()
            return scheduler.setRate(to)
          })
        }
        case 6:
          return Effect.suspend(() => {
            seen.penalties++
            return Effect.orDie(scheduler.penalize({ for: next(20) }))
          })
        case 7:
          return Effect.suspend(() => {
            seen.penalties++
            return Effect.orDie(limiter.penalize({ key: pick([undefined, "k", "l"]), for: next(20) }))
          })
        case 8:
          return Effect.suspend(() => {
            seen.resets++
            return Effect.orDie(limiter.reset({ key: pick([undefined, "k", "l"]) }))
          })
        case 9: {
          const key = `key ${next(3)}`
          const forgets = Effect.sync(() => {
            for (const run of runs.get(key) ?? []) run.forgotten = true
            forgottenAt.set(key, ++events)
          })
          return Effect.andThen(Effect.andThen(forgets, reducer.forget(key)), forgets)
        }
        case 10:
        case 11:
        case 12: {
          const tenant = pick(["s", "t"])
          const id = next(3)
          const of = `${tenant}${id}`
          const primes = chance(2)
          return Effect.suspend(() => {
            const version = (versions.get(of) ?? 0) + 1
            versions.set(of, version)
            const told = primes
              ? resolver.prime(new Get({ id }), { of, version, until: world.now() + timeToLive * ms })
              : resolver.clear(new Get({ id }))
            return Effect.map(Effect.provideService(told, Tenant, tenant), () => {
              if (primes) seen.primed++
              else seen.cleared++
              fresh.set(of, Math.max(version, fresh.get(of) ?? 0))
            })
          })
        }
        default:
          if (!chance(4)) return Effect.yieldNow
          return Effect.suspend(() => {
            changes()
            const model = name === "a" ? modelA : name === "b" ? modelB : undefined
            const since = model?.look() ?? 0
            return Effect.map(scheduler.drain(inJob || chance(2) ? { timeout: next(40) } : undefined), () => {
              seen.drained++
              if (inJob || model === undefined || model.idle || model.idleAt >= since) return
              problem(`drain of ${name} returns, and it was never idle`)
            })
          })
      }
    }

    // Nothing else disturbs the turns of equal jobs.
    const top: Place = { may: fair ? ["b", "hosts"] : ["a", "b", "hosts"], shares: true, depth: 0, inJob: false }
    const callers: Array<{ readonly fiber: Fiber.Fiber<unknown, unknown>; interrupted: boolean }> = []
    const fork = (work: Work) =>
      Effect.map(Effect.forkDetach(work, { startImmediately: chance(2) }), (fiber) => {
        const caller = { fiber, interrupted: false }
        callers.push(caller)
        return caller
      })
    /** Equal jobs of equal tenants, one of which has brought many. */
    const flood = Effect.gen(function*() {
      for (let i = 0; i < 20; i++) {
        const job = newJob()
        const share = i < 14 ? "many" : pick(["one", "two"])
        seen.turns++
        const work = noted(job, { weight: 1, priority: 7 }, Effect.sleep(3))
        yield* Effect.forkDetach(
          call("a fair job", Effect.exit(a.schedule(work, { share, priority: 7 })), () => true),
          { startImmediately: true }
        )
      }
    })
    for (let steps = 6 + next(20); steps > 0; steps--) {
      const what = next(10)
      if (what < 5) {
        const work = oneCall(top)
        const whole = chance(8) ? Effect.timeout(work, 1 + next(20)) : chance(10) ? Effect.uninterruptible(work) : work
        yield* fork(whole)
      } else if (what < 7) {
        if (callers.length > 0 && !calm) {
          const caller = pick(callers)
          caller.interrupted = true
          caller.fiber.interruptUnsafe()
          seen.interrupted++
        }
      } else if (what < 8) {
        yield* Effect.forkDetach(control(), { startImmediately: true })
      } else {
        yield* chance(2) ? Effect.sleep(next(10)) : Effect.yieldNow
      }
      if (fair && chance(8)) yield* flood
    }
    if (chance(5)) {
      closing = true
      yield* Scope.close(scope, Exit.void)
    }
    const resume = Effect.suspend(() =>
      Effect.all([a.resume, b.resume, ...Array.from(pausedHosts, (host) => hosts.get(host).resume)])
    )
    yield* resume
    const isOver = () => active + open.size === 0 && callers.every(({ fiber }) => fiber.pollUnsafe() !== undefined)
    for (let round = 0; round === 0 || (round < 500 && !isOver()); round++) {
      yield* Effect.sleep(20)
      // What was left behind may pause them again.
      if (!closing) yield* resume
    }
    if (open.size > 0) problem(`these hang: ${[...open].slice(0, 5).join("; ")}`)
    if (active > 0) problem(`${active} effects have not ended`)
    for (const { fiber, interrupted } of callers) {
      const exit = fiber.pollUnsafe()
      if (exit === undefined) problem("a caller hangs")
      else if (
        exit._tag === "Failure" && Cause.hasInterrupts(exit.cause) && !interrupted && !all.some(({ closed }) => closed)
      ) {
        problem(`a caller that nobody interrupted ends with ${Cause.pretty(exit.cause)}`)
      }
    }
    if (!closing) yield* Effect.all([a.awaitIdle, b.awaitIdle])
    // Every rate is at rest.
    yield* Effect.sleep("100 seconds")
    audit()
    for (const model of all) {
      if (!model.idle) problem(`${model.engine.name} is left with ${model.running.size} and ${model.queue.length} jobs`)
      model.starts?.judge()
    }
    for (const keys of startsOf.values()) for (const starts of keys.values()) starts.judge()
    const counted = {
      started: all.reduce((n, model) => n + model.begun, 0),
      ended: all.reduce((n, model) => n + model.ended, 0),
      left: all.reduce((n, model) => n + model.left, 0),
      refused: all.reduce((n, model) => n + model.refused, 0)
    }
    if (JSON.stringify(counts) !== JSON.stringify(counted)) {
      problem(`observers hear of ${JSON.stringify(counts)}, there were ${JSON.stringify(counted)}`)
    }
    const { denied, limit, tokens: left } = yield* retryBudget.stats
    if (left < 0 || left > limit || limit !== budgetOptions.tokens) problem(`a budget of ${left} in ${limit} tokens`)
    const least = Math.max(0, budgetOptions.tokens - retrying.failures)
    if (budgetOptions.ratio === 0 ? left !== least : left < least) {
      problem(`${left} tokens are left of a budget after ${retrying.failures} failures`)
    }
    if (denied < retrying.denied) {
      problem(`a budget counts ${denied} retries that it denied, and not ${retrying.denied}`)
    }
    if ((yield* reducer.inFlight).length > 0) problem("runs are left in flight")
    yield* resolver.clearAll
    if (leftIn(resolver) !== "") problem(`left in the resolver: ${leftIn(resolver)}`)
    const size = yield* hosts.size
    // A change may have been interrupted before it was made.
    if (!closing && size > changedHosts.size) problem(`${size} keys are left, and ${changedHosts.size} were changed`)
    const keys = Array.from(limiterMemory.entries.keys()).filter((key) => key !== undefined)
    if (keys.length > 0) problem(`the limiter keeps ${keys.join()}`)
    if (clock.pending > 0) problem(`${clock.pending} timers are left`)
    yield* Scope.close(scope, Exit.void)
    clock.fireNext = fireNext
    if (enrolled.size > 0) problem(`${enrolled.size} services are still registered`)
    if (problems.length > 0) {
      return yield* Effect.die(new Error(Array.from(new Set(problems)).slice(0, 5).join("\n")))
    }
  })

/** Runs the program of a seed. Throws what is wrong with it. */
export const bounds = (seed: number, seen: Seen = nothingSeen()): void => {
  const yieldsOnceIn = [3, 10, 50, 1000][seed % 4]!
  const open = new Set<string>()
  const { exit, timers } = simulate(
    (_, clock) => Effect.provideService(program(seed, seen, clock, open), References.MinimumLogLevel, "None"),
    { seed, yieldsOnceIn }
  )
  if (exit === undefined) throw new Error(`seed ${seed}: hangs with\n${[...open].slice(0, 5).join("\n")}`)
  if (exit._tag === "Failure") throw new Error(`seed ${seed}: ${Cause.pretty(exit.cause)}`)
  if (timers > 0) throw new Error(`seed ${seed}: leaves ${timers} timers`)
}
