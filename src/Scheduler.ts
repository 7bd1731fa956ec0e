import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Internal from "./internal/schedule.js"
import { CurrentJob, Engine } from "./internal/scheduler.js"
import { register } from "./internal/schedulerHandle.js"
import type { SchedulerError } from "./internal/schedulerError.js"

export { InsufficientCapacity, QueueFull, SchedulerError, StoreError } from "./internal/schedulerError.js"

export type TypeId = "~effect-funnel/Scheduler"
export const TypeId: TypeId = "~effect-funnel/Scheduler"

export interface Options {
  readonly concurrency: number | "unbounded"
  readonly maxQueued?: number | undefined
}

export interface ScheduleOptions {
  readonly weight?: number | undefined
  readonly tokens?: number | undefined
  readonly priority?: number | undefined
}

export interface Stats {
  readonly concurrency: number
  readonly running: number
  readonly weight: number
  readonly queued: number
  readonly paused: boolean
}

export interface Operations<Self> {
  readonly schedule: <
    Arg extends Effect.Effect<any, any, any> | ScheduleOptions | undefined = ScheduleOptions
  >(
    effectOrOptions?: Arg,
    options?: ScheduleOptions | undefined
  ) => [Arg] extends [Effect.Effect<infer A, infer E, infer R>] ? Effect.Effect<A, E | SchedulerError, R | Self>
    : <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SchedulerError, R | Self>
  readonly resize: (concurrency: number | "unbounded") => Effect.Effect<void, never, Self>
  readonly pause: Effect.Effect<void, never, Self>
  readonly resume: Effect.Effect<void, never, Self>
  readonly awaitIdle: Effect.Effect<void, never, Self>
  readonly stats: Effect.Effect<Stats, never, Self>
}

export interface Scheduler extends Operations<never> {
  readonly [TypeId]: TypeId
}

export const Scheduler: Context.Service<Scheduler, Scheduler> = /*#__PURE__*/ Context.Service<Scheduler>(
  "effect-funnel/Scheduler"
)

const width = (name: string, concurrency: number | "unbounded"): number =>
  concurrency === "unbounded" ? Infinity : Internal.checkCount(name, "concurrency", concurrency, 1)

const fromEngine = (engine: Engine): Scheduler => {
  const schedule = (first?: unknown, second?: ScheduleOptions) => {
    if (Effect.isEffect(first)) {
      return Internal.schedule(engine, first, Internal.jobOptions("Scheduler.schedule", second))
    }
    const options = Internal.jobOptions("Scheduler.schedule", first as ScheduleOptions | undefined)
    return (self: Effect.Effect<unknown, unknown, unknown>) => Internal.schedule(engine, self, options)
  }
  return register({
    [TypeId]: TypeId,
    schedule: schedule as Scheduler["schedule"],
    resize: (concurrency) => {
      const capacity = width("Scheduler.resize", concurrency)
      return Effect.sync(() => engine.resizeUnsafe(capacity))
    },
    pause: Effect.sync(() => engine.pauseUnsafe()),
    resume: Effect.sync(() => engine.resumeUnsafe()),
    awaitIdle: Effect.callback<void>((resume) => {
      if (engine.idle) return resume(Effect.void)
      const watcher = () => {
        if (!engine.idle) return
        engine.unwatch(watcher)
        resume(Effect.void)
      }
      engine.watch(watcher)
      return Effect.sync(() => engine.unwatch(watcher))
    }),
    stats: Effect.sync(() => ({
      concurrency: engine.main.capacity,
      running: engine.running,
      weight: engine.main.used,
      queued: engine.queued,
      paused: engine.paused
    }))
  }, engine)
}

const close = (engine: Engine): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    engine.closeUnsafe()
    const around = fiber.getRef(CurrentJob)
    return Effect.callback<void>((resume) => {
      if (!engine.runsOthersThan(around)) return resume(Effect.void)
      const watcher = () => {
        if (engine.runsOthersThan(around)) return
        engine.unwatch(watcher)
        resume(Effect.void)
      }
      engine.watch(watcher)
      return Effect.sync(() => engine.unwatch(watcher))
    })
  })

export const make = (options: Options): Effect.Effect<Scheduler, never, Scope.Scope> => {
  const concurrency = width("Scheduler.make", options.concurrency)
  const maxQueued = options.maxQueued === undefined
    ? Infinity
    : Internal.checkCount("Scheduler.make", "maxQueued", options.maxQueued, 0)
  return Effect.acquireRelease(
    Effect.withFiber((fiber) =>
      Effect.succeed(
        new Engine({ concurrency, maxQueued, limiter: undefined, dispatcher: fiber.cache.scheduler.makeDispatcher() })
      )
    ),
    close
  ).pipe(Effect.map(fromEngine))
}

export const layer = (options: Options): Layer.Layer<Scheduler> => Layer.effect(Scheduler, make(options))

export const operations = <Self>(tag: Context.Service<Self, Scheduler>): Operations<Self> => {
  const schedule = (first?: unknown, second?: ScheduleOptions) => {
    if (Effect.isEffect(first)) {
      const options = Internal.jobOptions("Scheduler.schedule", second)
      return tag.use((_) => _.schedule(first, options))
    }
    const options = Internal.jobOptions("Scheduler.schedule", first as ScheduleOptions | undefined)
    return (self: Effect.Effect<unknown, unknown, unknown>) => tag.use((_) => _.schedule(self, options))
  }
  return {
    schedule: schedule as Operations<Self>["schedule"],
    resize: (concurrency) => tag.use((_) => _.resize(concurrency)),
    pause: tag.use((_) => _.pause),
    resume: tag.use((_) => _.resume),
    awaitIdle: tag.use((_) => _.awaitIdle),
    stats: tag.use((_) => _.stats)
  }
}

const ops: Operations<Scheduler> = /*#__PURE__*/ operations(Scheduler)

export const schedule: Operations<Scheduler>["schedule"] = ops.schedule
export const resize: Operations<Scheduler>["resize"] = ops.resize
export const pause: Operations<Scheduler>["pause"] = ops.pause
export const resume: Operations<Scheduler>["resume"] = ops.resume
export const awaitIdle: Operations<Scheduler>["awaitIdle"] = ops.awaitIdle
export const stats: Operations<Scheduler>["stats"] = ops.stats
