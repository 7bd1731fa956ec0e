/**
 * How long the event loop blocks when very many waiters are notified at once.
 *
 * The result is the longest time between two turns, while a timer keeps the loop turning.
 */
import { type Context, Deferred, Effect, Exit, type Fiber, type Layer, Scope } from "effect"
import { PerformanceObserver } from "node:perf_hooks"
import { RateLimiter, Reducer, Scheduler, scoped } from "../funnel.ts"
import { cpuMillis, median } from "../harness.ts"

export interface Stall {
  readonly what: string
  /** How the layer was built; "none" for a row that uses only Effect. */
  readonly layers: "runPromise" | "runSync" | "none"
  readonly jobs: number
  /** The longest time of the main thread between two turns, in milliseconds. */
  readonly cpu: number
  readonly wall: number
  /** The longest collection in milliseconds. Part of it is included in the other figures. */
  readonly collection: number
}

interface Waiting {
  readonly fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>
  /** Notifies all waiters. */
  readonly act: () => unknown
}

type Build = <I, S>(tag: Context.Key<I, S>, layer: Layer.Layer<I>) => Promise<readonly [S, Scope.Closeable]>

const builds: Readonly<Record<"runPromise" | "runSync", Build>> = {
  runPromise: (tag, layer) => Effect.runPromise(scoped(tag, layer)),
  runSync: async (tag, layer) => Effect.runSync(scoped(tag, layer))
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Forks in slices, because the cost of forking is not measured. */
const fork = async (effect: Effect.Effect<unknown, unknown>, n: number) => {
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  while (fibers.length < n) {
    for (let i = 0; i < 2_000 && fibers.length < n; i++) fibers.push(Effect.runFork(effect))
    await turn()
  }
  return fibers
}

const one = Effect.sync(() => 1)

const interrupt = (fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>) => {
  for (const fiber of fibers) fiber.interruptUnsafe()
}

/** A scheduler with `n` jobs that wait for `resume`. */
const paused = async (build: Build, n: number, concurrency: number, weight: number) => {
  const [scheduler, scope] = await build(Scheduler.Scheduler, Scheduler.layer({ concurrency }))
  await Effect.runPromise(scheduler.pause)
  return { scheduler, scope, fibers: await fork(scheduler.schedule(one, { weight }), n) }
}

type Case = (n: number, build: Build) => Promise<Waiting>

const cases: Readonly<Record<string, readonly [what: string, make: Case, core?: true]>> = {
  bare: ["fibers alone, interrupted", async (n) => {
    const fibers = await fork(Effect.callback<never>(() => Effect.void), n)
    return { fibers, act: () => interrupt(fibers) }
  }, true],
  deferred: ["fibers that wait for a Deferred, completed", async (n) => {
    const deferred = Deferred.makeUnsafe<number>()
    return {
      fibers: await fork(Deferred.await(deferred), n),
      act: () => Deferred.doneUnsafe(deferred, Exit.succeed(1))
    }
  }, true],
  completed: ["callers of one run, completed", async (n, build) => {
    const [reducer] = await build(Reducer.Reducer, Reducer.layer())
    const deferred = Deferred.makeUnsafe<number>()
    return {
      fibers: await fork(reducer.reduce("key", Deferred.await(deferred)), n),
      act: () => Deferred.doneUnsafe(deferred, Exit.succeed(1))
    }
  }],
  "run-closed": ["callers of one run, the reducer closed", async (n, build) => {
    const [reducer, scope] = await build(Reducer.Reducer, Reducer.layer())
    const fibers = await fork(reducer.reduce("key", Effect.never), n)
    return { fibers, act: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
  }],
  closed: ["queued jobs, the scheduler closed", async (n, build) => {
    const { fibers, scope } = await paused(build, n, 10, 1)
    return { fibers, act: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
  }],
  interrupted: ["queued jobs, interrupted", async (n, build) => {
    const { fibers } = await paused(build, n, 10, 1)
    return { fibers, act: () => interrupt(fibers) }
  }],
  refused: ["queued jobs, refused by resize", async (n, build) => {
    const { fibers, scheduler } = await paused(build, n, 10, 2)
    return { fibers, act: () => Effect.runPromise(scheduler.resize(1)) }
  }],
  granted: ["callers of a rate, granted by reset", async (n, build) => {
    const [limiter] = await build(
      RateLimiter.RateLimiter,
      RateLimiter.layer({ limit: 1, window: "1 hour", burst: n })
    )
    await Effect.runPromise(limiter.consume({ tokens: n }))
    return { fibers: await fork(limiter.consume(), n), act: () => Effect.runPromise(limiter.reset()) }
  }],
  resumed: ["queued jobs, resumed, ten at once", async (n, build) => {
    const { fibers, scheduler } = await paused(build, n, 10, 1)
    return { fibers, act: () => Effect.runPromise(scheduler.resume) }
  }]
}

const watch = async ({ act, fibers }: Waiting) => {
  let open = fibers.length
  const done = new Promise<void>((resolve) => {
    for (const fiber of fibers) {
      fiber.addObserver(() => {
        if (--open === 0) resolve()
      })
    }
  })
  let collection = 0
  const collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) collection = Math.max(collection, duration)
  })
  collections.observe({ entryTypes: ["gc"] })
  let cpu = 0
  let wall = 0
  let watching = true
  let worked = cpuMillis()
  let at = performance.now()
  const look = () => {
    const now = performance.now()
    const work = cpuMillis()
    cpu = Math.max(cpu, work - worked)
    wall = Math.max(wall, now - at)
    worked = work
    at = now
    if (watching) setImmediate(look)
  }
  await turn()
  worked = cpuMillis()
  at = performance.now()
  setImmediate(look)
  await turn()
  void act()
  await done
  await turn()
  await turn()
  watching = false
  collections.disconnect()
  return { cpu, wall, collection }
}

export const run = async (name: string, jobs: number): Promise<ReadonlyArray<Stall>> => {
  const [what, make, core] = cases[name]!
  const stalls: Array<Stall> = []
  for (const layers of core === true ? ["none"] as const : ["runPromise", "runSync"] as const) {
    const build = builds[layers === "none" ? "runPromise" : layers]
    await watch(await make(Math.min(jobs, 20_000), build))
    const takes = [await watch(await make(jobs, build)), await watch(await make(jobs, build))]
    const middle = (value: (take: typeof takes[number]) => number) => median(takes.map(value))
    stalls.push({
      what,
      layers,
      jobs,
      cpu: middle((_) => _.cpu),
      wall: middle((_) => _.wall),
      collection: middle((_) => _.collection)
    })
  }
  return stalls
}
