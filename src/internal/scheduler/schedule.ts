/**
 * One effect through the engine, in the fiber that called for it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Fiber } from "effect/Fiber"
import { refuse } from "../data/refuse.js"
import { firstStep } from "../limiter/firstStep.js"
import { CurrentNode, nodeOf } from "../waits/waits.js"
import { Job } from "./engine.js"
import type { Engine } from "./engine.js"
import type { SchedulerError } from "./error.js"

/** What a single job may ask for, checked. */
export interface JobOptions {
  readonly weight: number
  readonly tokens: number
  readonly priority: number
}

const defaults: JobOptions = { weight: 1, tokens: 1, priority: 0 }

export const checkCount = (name: string, field: string, value: number, least: number): number => {
  if (!Number.isSafeInteger(value) || value < least) refuse(name, field, `an integer >= ${least}`, value)
  return value
}

export const checkPriority = (name: string, value: number): number => {
  if (!Number.isFinite(value)) refuse(name, "priority", "a finite number", value)
  return value
}

export const jobOptions = (
  name: string,
  options: {
    readonly weight?: number | undefined
    readonly tokens?: number | undefined
    readonly priority?: number | undefined
  } | undefined
): JobOptions => {
  if (options === undefined) return defaults
  const { priority = 0, tokens = 1, weight = 1 } = options
  checkCount(name, "weight", weight, 1)
  checkCount(name, "tokens", tokens, 0)
  checkPriority(name, priority)
  return { weight, tokens, priority }
}

/**
 * The first step of a job's effect. The engine is told after it, not before: if the process stops between the two, for a
 * garbage collection say, a strict window gets longer and not shorter.
 */
export const firstStepOf = <A, E, R>(
  engine: Engine,
  job: Job,
  self: () => Effect.Effect<A, E, R>,
  fiber: Fiber<unknown, unknown>
): Effect.Effect<A, E, R> => {
  const { link } = job
  // A job that ends in its first step is released in it, and has begun all the same: nothing is given back.
  job.link = undefined
  try {
    return firstStep(self(), fiber)
  } finally {
    job.link = link
    engine.startedUnsafe(job)
  }
}

/** The effect of a job that tells when it begins, if its rate has to know. */
export const beginning = <A, E, R>(engine: Engine, job: Job, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  job.link === undefined ? self : Effect.withFiber((fiber) => firstStepOf(engine, job, () => self, fiber))

/** The job of an effect that runs in its caller's fiber. */
class EffectJob<A, E, R> extends Job {
  private readonly engine_: Engine
  // Cleared at the end: fibers that the job left behind keep it in their context.
  private self: Effect.Effect<A, E, R> | undefined
  private fiber: Fiber<unknown, unknown> | undefined
  private context: Context.Context<never> | undefined
  private resume: ((effect: Effect.Effect<A, E | SchedulerError, R>) => void) | undefined = undefined

  constructor(engine: Engine, self: Effect.Effect<A, E, R>, options: JobOptions, fiber: Fiber<unknown, unknown>) {
    super(options.weight, options.tokens, options.priority, nodeOf(fiber.context), false)
    this.engine_ = engine
    this.self = self
    this.fiber = fiber
    this.context = fiber.context
  }

  enter(): Effect.Effect<A, E | SchedulerError, R> {
    const later = this.engine_.limiter?.strict === true ? this : undefined
    // Begun in the step in which its permit and rate were taken, so that nothing comes in between.
    if (this.engine_.startUnsafe(this, later)) return firstStep(this.body(), this.fiber!)
    return Effect.callback<A, E | SchedulerError, R>((resume) => {
      this.resume = resume
      this.engine_.enqueueUnsafe(this)
    })
  }

  /** Returns that there is nothing more to do. */
  leave(): undefined {
    this.fiber!.setContext(this.context!)
    this.engine_.releaseUnsafe(this)
    this.self =
      this.fiber =
      this.context =
      this.resume =
        undefined
    return undefined
  }

  private body(): Effect.Effect<A, E | SchedulerError, R> {
    this.fiber!.setContext(Context.add(this.context!, CurrentNode, this))
    const self = beginning(this.engine_, this, this.self!)
    const permits = this.engine_.permits
    return permits === undefined ? self : permits.guard(this, self)
  }

  onStart(): void {
    this.resume!(this.body())
  }
  onFailure(error: SchedulerError): void {
    this.resume?.(Effect.fail(error))
  }
  onClose(): void {
    // A queued job may be uninterruptible: resume it. A running one is interrupted through its fiber.
    if (this.state === "Running") this.fiber?.interruptUnsafe(this.fiber.id)
    else this.resume?.(Effect.interrupt)
  }
}

/**
 * Runs an effect as a job. The frame that releases is there before anything is taken, so an interruption at any point
 * releases what was taken until then, without a mask. It also takes a waiting job out of the queue.
 */
export const schedule = <A, E, R>(
  engine: Engine,
  self: Effect.Effect<A, E, R>,
  options: JobOptions
): Effect.Effect<A, E | SchedulerError, R> =>
  Effect.withFiber((fiber) => {
    const job = new EffectJob(engine, self, options, fiber)
    return Effect.onExitPrimitive(Effect.suspend(() => job.enter()), () => job.leave())
  })

/** Runs an effect as part of a job: what it schedules on the job's engine, and what its forks schedule, finds the job. */
export const withJob = <A, E, R>(self: Effect.Effect<A, E, R>, job: Job): Effect.Effect<A, E, R> =>
  Effect.provideService(self, CurrentNode, job)
