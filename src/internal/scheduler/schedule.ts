/**
 * One effect through the engine, in the fiber that called for it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Fiber } from "effect/Fiber"
import { firstStep } from "../limiter/firstStep.js"
import type { Charge } from "../limiter/limiter.js"
import { checkList } from "../limiter/quota.js"
import { checkSettles, settleBy } from "../limiter/settling.js"
import { CurrentNode, nodeOf } from "../waits/waits.js"
import { Job } from "./job.js"
import type { Engine } from "./engine.js"
import type { SchedulerError } from "./error.js"
import type { JobOptions } from "./options.js"

/** The effect of a started job: it tells the rate that it begins, and ends if its permits are lost. */
export const effectOf = <A, E, R>(
  engine: Engine,
  job: Job,
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SchedulerError, R> => {
  const begun = job.link === undefined
    ? self
    : Effect.withFiber((fiber) => job.firstStep(() => self, fiber))
  return engine.permits === undefined ? begun : engine.permits.guard(job, begun)
}

/** The job of an effect that runs in its caller's fiber. */
class EffectJob<A, E, R> extends Job {
  declare readonly engine: Engine
  // Cleared at the end: fibers that the job left behind keep it in their context.
  private self: Effect.Effect<A, E, R> | undefined
  private fiber: Fiber<unknown, unknown> | undefined
  private context: Context.Context<never> | undefined
  private resume: ((effect: Effect.Effect<A, E | SchedulerError, R>) => void) | undefined = undefined

  constructor(engine: Engine, self: Effect.Effect<A, E, R>, options: JobOptions, fiber: Fiber<unknown, unknown>) {
    super(options, nodeOf(fiber.context), false)
    this.engine = engine
    this.self = self
    this.fiber = fiber
    this.context = fiber.context
  }

  enter(): Effect.Effect<A, E | SchedulerError, R> {
    // Begins in the step in which permit and rate were taken: no other step comes in between.
    if (this.engine.startUnsafe(this)) return firstStep(this.body(), this.fiber!)
    return Effect.callback<A, E | SchedulerError, R>((resume) => {
      const { account } = this.engine
      this.resume = resume
      this.engine.enqueueUnsafe(this)
      // One that is refused or started in this step has not waited.
      if (account !== undefined && this.state === "Queued") this.resume = account.enter(this.fiber!, resume)
    })
  }

  /** Returns `undefined`, as `onExitPrimitive` expects of a finalizer without an effect, or what the caller dies of. */
  leave(exit: Exit.Exit<unknown, unknown>): Effect.Effect<never> | undefined {
    this.fiber!.setContext(this.context!)
    this.engine.releaseUnsafe(this, exit)
    this.self =
      this.fiber =
      this.context =
      this.resume =
        undefined
    return undefined
  }

  protected body(): Effect.Effect<A, E | SchedulerError, R> {
    this.fiber!.setContext(Context.add(this.context!, CurrentNode, this))
    return effectOf(this.engine, this, this.self!)
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

/** A job whose success says what it has cost of the rate. */
class SettledJob<A, E, R> extends EffectJob<A, E, R> {
  private paid: Charge | undefined = undefined

  /** In the step in which the rate was taken. */
  protected override body(): Effect.Effect<A, E | SchedulerError, R> {
    this.paid = this.engine.limiter?.chargeUnsafe?.(undefined, this.cost, this)
    return super.body()
  }

  override leave(exit: Exit.Exit<unknown, unknown>): Effect.Effect<never> | undefined {
    const { paid } = this
    this.paid = undefined
    try {
      return settleBy("Scheduler.schedule", this.engine.limiter, paid, this.options.settle!, exit)
    } finally {
      super.leave(exit)
    }
  }
}

/**
 * Runs an effect as a job. The frame that releases is there before anything is taken. So an interruption at any point
 * gives back everything, or takes the waiting job out of the queue, without a mask.
 */
export const schedule = <A, E, R>(
  engine: Engine,
  self: Effect.Effect<A, E, R>,
  options: JobOptions
): Effect.Effect<A, E | SchedulerError, R> => {
  const { settle } = options
  if (settle !== undefined) checkSettles("Scheduler.schedule", engine.limiter)
  checkList("Scheduler.schedule", options.list, engine.limiter)
  return Effect.withFiber((fiber) => {
    const job = settle === undefined
      ? new EffectJob(engine, self, options, fiber)
      : new SettledJob(engine, self, options, fiber)
    return Effect.onExitPrimitive(Effect.suspend(() => job.enter()), (exit) => job.leave(exit))
  })
}
