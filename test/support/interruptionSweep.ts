/**
 * Interrupts an effect at every one of its operations, one run each, and checks after each that nothing leaked.
 *
 * A scheduler that counts is asked before every operation of every fiber that inherits it, so the operations of
 * the fibers that the subject starts are swept as well. Each operation is tried in two ways: interrupted while the
 * operation runs, and interrupted while the fiber has yielded in front of it.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"

/** What a step of the sweep reports when it hangs, or when `check` fails. */
export class SweepError extends Data.TaggedError("SweepError")<{
  readonly step: number
  readonly way: "running" | "yielded" | "left alone"
  readonly problem: string
  readonly cause?: unknown
}> {
  override get message() {
    return `interrupted at operation ${this.step} (${this.way}): ${this.problem}`
  }
}

export interface SweepOptions<S, A, E, E2, R> {
  /** What a run works on, made anew for every step; its scope closes after `check`. */
  readonly make: Effect.Effect<S, never, R | Scope.Scope>
  /** The effect that is interrupted. */
  readonly subject: (fixture: S) => Effect.Effect<A, E, R>
  /** Runs beside the subject once that is suspended, ended or swept: open the gates here, so that it can end by itself. */
  readonly meanwhile?: ((fixture: S, subject: Fiber.Fiber<A, E>) => Effect.Effect<unknown, E2, R>) | undefined
  /** Fails, or dies as an assertion does, if something leaked. */
  readonly check: (fixture: S, exit: Exit.Exit<A, E>) => Effect.Effect<unknown, E2, R>
  /** How many turns of the scheduler a run has to end in, 50 by default. */
  readonly turns?: number | undefined
}

class CountingScheduler extends Scheduler.MixedScheduler {
  count = 0
  readonly at: number
  readonly way: "running" | "yielded" | "left alone"
  target: Fiber.Fiber<unknown, unknown> | undefined = undefined
  reached = false

  constructor(at: number, way: "running" | "yielded" | "left alone") {
    super()
    this.at = at
    this.way = way
  }

  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    if (++this.count !== this.at) return super.shouldYield(fiber)
    this.reached = true
    if (this.way === "running") {
      // The subject's very first operation is asked about before its fiber is known here.
      const target = this.target ?? fiber
      target.interruptUnsafe()
      return super.shouldYield(fiber)
    }
    fiber.currentDispatcher.scheduleTask(() => (this.target ?? fiber).interruptUnsafe(), 0)
    return true
  }
}

const once = <S, A, E, E2, R>(options: SweepOptions<S, A, E, E2, R>, scheduler: CountingScheduler) =>
  Effect.scoped(Effect.gen(function*() {
    const failed = (problem: string, cause?: unknown) =>
      new SweepError({ step: scheduler.at, way: scheduler.way, problem, cause })
    const fixture = yield* options.make
    const context = yield* Effect.context<R>()
    const fiber = Effect.runForkWith(context)(
      Effect.withFiber<A, E, R>((self) => {
        scheduler.target = self
        return options.subject(fixture)
      }),
      { scheduler }
    )
    if (options.meanwhile !== undefined) {
      yield* options.meanwhile(fixture, fiber)
    }
    const turns = options.turns ?? 50
    for (let i = 0; i < turns && fiber.pollUnsafe() === undefined; i++) {
      yield* Effect.yieldNow
    }
    const exit = fiber.pollUnsafe()
    if (exit === undefined) {
      return yield* failed("the subject hangs")
    }
    yield* options.check(fixture, exit).pipe(
      Effect.catchCause((cause) => failed("the check failed", cause))
    )
  }))

/**
 * Runs the subject once without interrupting it to count its operations, then twice for each of them, interrupting there.
 * Succeeds with the number of operations, so that a test can assert that there was something to sweep.
 */
export const interruptionSweep = <S, A, E, E2, R>(
  options: SweepOptions<S, A, E, E2, R>
): Effect.Effect<number, SweepError | E2, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    const counter = new CountingScheduler(0, "left alone")
    yield* once(options, counter)
    // An interrupted run may take more operations than one that is left alone: go on until an operation is not reached.
    let step = 1
    for (let reached = true; reached && step < 10_000; step++) {
      reached = false
      for (const way of ["running", "yielded"] as const) {
        const scheduler = new CountingScheduler(step, way)
        yield* once(options, scheduler)
        reached = reached || scheduler.reached
      }
    }
    return counter.count
  })
