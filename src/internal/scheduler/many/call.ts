/**
 * One call over many items: pulls them lazily, submits each to the engine in the step in which it was pulled, and runs each
 * on a fiber of its own once it is admitted.
 *
 * At any time at most `concurrency` items of a call are pulled and not done with, whether they run, wait, or are results
 * that nobody has taken yet. Without a bound, as many may run as the engine admits; no more than `lookahead` wait.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"
import { CurrentNode, type Node, nodeOf } from "../../waits/waits.js"
import { Job } from "../engine.js"
import type { Engine } from "../engine.js"
import type { SchedulerError } from "../error.js"
import { beginning } from "../schedule.js"
import { ended, pending } from "./source.js"
import type { Listener, Source } from "./source.js"

/** How many items of a call may wait, or be results that nobody has taken, where the width has no bound. */
const lookahead = 1024

/** How many items one step pulls before it gives the event loop a turn. */
const maxPullsPerStep = 1024

/**
 * What an item costs, checked.
 */
export interface Costs<in A> {
  readonly weight: (item: A, index: number) => number
  readonly tokens: (item: A, index: number) => number
  readonly priority: (item: A, index: number) => number
}

/**
 * What becomes of the exits: each returns how the call ends, if it does.
 */
export interface Handlers<B, E, X, XE> {
  onSuccess(value: B, index: number): Exit.Exit<X, XE> | undefined
  onFailure(cause: Cause.Cause<E | SchedulerError>, index: number): Exit.Exit<X, XE> | undefined
  /** All items have ended and none of them ended the call. */
  onEnd(): Exit.Exit<X, XE>
}

class Item<A, B, E, R, X, XE> extends Job {
  // Cleared at the end: fibers that the item left behind keep it in their context.
  call: Call<A, B, E, R, X, XE> | undefined
  value: A | undefined
  readonly index: number
  fiber: Fiber.Fiber<B, E> | undefined = undefined

  constructor(
    call: Call<A, B, E, R, X, XE>,
    value: A,
    index: number,
    weight: number,
    tokens: number,
    priority: number
  ) {
    super(weight, tokens, priority, call.outer, true)
    this.call = call
    this.value = value
    this.index = index
  }
  onStart(): void {
    this.call?.onStart(this)
  }
  onFailure(error: SchedulerError): void {
    this.call?.onRefused(this, error)
  }
  onClose(): void {
    this.call?.onClose(this)
  }
}

/**
 * Observes one item after another, so that an item needs no closure of its own. It drops an item that has ended.
 */
class Observer<A, B, E, R, X, XE> {
  job: Item<A, B, E, R, X, XE> | undefined = undefined
  readonly onExit: (exit: Exit.Exit<B, E>) => void

  constructor(onExit: (observer: Observer<A, B, E, R, X, XE>, exit: Exit.Exit<B, E>) => void) {
    this.onExit = (exit) => onExit(this, exit)
  }
}

export interface CallOptions<A, B, E, R, X, XE> {
  readonly engine: Engine
  /** Whose context the items run in, and who interrupts them. */
  readonly parent: Fiber.Fiber<unknown, unknown>
  readonly f: (item: A, index: number) => Effect.Effect<B, E, R>
  readonly costs: Costs<A>
  readonly handlers: Handlers<B, E, X, XE>
  /** Called once, when nothing of the call runs any more. */
  readonly onSettled: (exit: Exit.Exit<X, XE>) => void
  /** Called whenever a count has changed. */
  readonly onChange?: (() => void) | undefined
}

export class Call<A, B, E, R, X, XE> implements Listener<XE> {
  running = 0
  queued = 0
  done = 0
  failed = 0
  /** Results that nobody has taken yet. */
  held = 0
  readonly outer: Node | undefined
  settled = false

  private readonly options: CallOptions<A, B, E, R, X, XE>
  private readonly context: Context.Context<never>
  private readonly run: { readonly uninterruptible: boolean }
  private source: Source<A, XE> | undefined = undefined
  private exit: Exit.Exit<X, XE> | undefined = undefined
  private pulled = 0
  private exhausted = false
  private filling = false
  private deferred = false
  /** Those that wait or run. */
  private readonly items = new Set<Item<A, B, E, R, X, XE>>()
  /** Those of items that have ended. */
  private readonly observers: Array<Observer<A, B, E, R, X, XE>> = []

  constructor(options: CallOptions<A, B, E, R, X, XE>) {
    this.options = options
    const parent = options.parent
    this.context = parent.context
    this.outer = nodeOf(parent.context)
    this.run = { uninterruptible: hasProperty(parent, "interruptible") && parent.interruptible === false }
  }

  startUnsafe(source: Source<A, XE>): void {
    this.source = source
    this.options.engine.resized.add(this.fill)
    source.open(this)
    this.fill()
  }

  private hasRoom(): boolean {
    const capacity = this.options.engine.limit
    return capacity === Infinity
      ? this.queued < lookahead && this.held < lookahead
      : this.running + this.queued + this.held < capacity
  }

  /** Pulls and submits while there is room: called whenever there may be. */
  readonly fill = (): void => {
    if (this.filling) return
    this.filling = true
    let pulls = 0
    // A submission may start jobs of others, and what runs in these is not ours: if it throws, this call still goes on.
    try {
      while (this.exit === undefined && !this.exhausted && !this.deferred && this.hasRoom()) {
        if (++pulls > maxPullsPerStep) {
          this.defer()
          break
        }
        if (!this.pull()) break
      }
    } catch (error) {
      this.defer()
      throw error
    } finally {
      this.filling = false
      this.settle()
    }
  }

  private defer(): void {
    this.deferred = true
    this.options.parent.currentDispatcher.scheduleTask(() => {
      this.deferred = false
      this.fill()
    }, 0)
  }

  private pull(): boolean {
    let job: Item<A, B, E, R, X, XE>
    // The iterator and the functions of an item's cost are the caller's: what they throw is the call's defect.
    try {
      const item = this.source!.next()
      if (item === pending) return false
      if (item === ended) {
        this.exhausted = true
        return false
      }
      const index = this.pulled++
      const { priority, tokens, weight } = this.options.costs
      job = new Item(this, item, index, weight(item, index), tokens(item, index), priority(item, index))
    } catch (defect) {
      this.failUnsafe(Cause.die(defect))
      return false
    }
    if (this.exit !== undefined) {
      // What it ran to give this item has ended the call.
      this.close()
      return false
    }
    this.items.add(job)
    this.queued++
    this.options.onChange?.()
    this.options.engine.submitUnsafe(job)
    return true
  }

  onStart(job: Item<A, B, E, R, X, XE>): void {
    if (this.exit !== undefined) return this.withdraw(job)
    this.queued--
    this.running++
    this.options.onChange?.()
    let effect: Effect.Effect<B, E, R>
    try {
      // Sound: it has not ended.
      effect = this.options.f(job.value as A, job.index)
    } catch (defect) {
      effect = Effect.die(defect)
    }
    const { engine } = this.options
    effect = beginning(engine, job, effect)
    const permits = engine.permits
    // The errors of a call include those of its scheduler.
    if (permits !== undefined) effect = permits.guard(job, effect) as typeof effect
    // The call has R: the context is the one of the fiber that made it.
    const context = Context.add(this.context, CurrentNode, job) as Context.Context<R>
    const fiber = Effect.runForkWith(context)(effect, this.run)
    // Those without are not interrupted by a call that has ended, but here.
    if (this.exit === undefined) job.fiber = fiber
    const observer = this.observers.pop() ?? new Observer(this.observed)
    observer.job = job
    fiber.addObserver(observer.onExit)
    // It may have ended the call itself, before it could be found among those who run.
    if (this.exit !== undefined) fiber.interruptUnsafe(this.options.parent.id)
  }

  private readonly observed = (observer: Observer<A, B, E, R, X, XE>, exit: Exit.Exit<B, E>): void => {
    const job = observer.job!
    observer.job = undefined
    // Free before the next item starts, which is in this step.
    this.observers.push(observer)
    this.onExit(job, exit)
  }

  private onExit(job: Item<A, B, E, R, X, XE>, exit: Exit.Exit<B, E>): void {
    this.unlink(job)
    const handlers = this.options.handlers
    let end: Exit.Exit<X, XE> | undefined
    if (exit._tag === "Success") {
      this.done++
      if (this.exit === undefined) end = handlers.onSuccess(exit.value, job.index)
    } else {
      this.failed++
      if (this.exit === undefined) end = handlers.onFailure(exit.cause, job.index)
      else if (Cause.hasDies(exit.cause)) this.log(exit.cause)
    }
    // Before the permit goes on: those of this call that wait must not get it.
    if (end !== undefined) this.stopUnsafe(end)
    try {
      this.options.engine.releaseUnsafe(job)
    } finally {
      this.running--
      this.options.onChange?.()
      this.fill()
    }
  }

  onRefused(job: Item<A, B, E, R, X, XE>, error: SchedulerError): void {
    this.queued--
    this.failed++
    this.unlink(job)
    this.options.onChange?.()
    if (this.exit === undefined) {
      const end = this.options.handlers.onFailure(Cause.fail(error), job.index)
      if (end !== undefined) this.stopUnsafe(end)
    }
    this.fill()
  }

  onClose(job: Item<A, B, E, R, X, XE>): void {
    if (job.state !== "Running") {
      this.queued--
      this.unlink(job)
    }
    this.interruptUnsafe()
    this.settle()
  }

  failUnsafe(cause: Cause.Cause<XE>): void {
    if (this.exit === undefined) this.stopUnsafe(Exit.failCause(cause))
    else if (Cause.hasDies(cause)) this.log(cause)
  }

  interruptUnsafe(): void {
    this.stopUnsafe(Exit.failCause(Cause.interrupt(this.options.parent.id)))
  }

  /**
   * Withdraws the waiting items and interrupts the running ones, in slices. The call ends with `exit` once they have ended.
   * A waiting item that is admitted before its turn is withdrawn then: it has not begun, and costs nothing.
   */
  stopUnsafe(exit: Exit.Exit<X, XE>): void {
    if (this.exit !== undefined) return
    this.exit = exit
    if (!this.exhausted) this.close()
    this.options.engine.each(this.left(), (job) => {
      if (job.fiber !== undefined) job.fiber.interruptUnsafe(this.options.parent.id)
      else if (job.call !== undefined) this.withdraw(job)
    }, () => {
      this.options.onChange?.()
      this.settle()
    })
  }

  /** First those that wait: they must not be admitted to the width that the others leave. */
  private *left(): Generator<Item<A, B, E, R, X, XE>, void> {
    for (const job of this.items) {
      if (this.queued === 0) break
      if (job.state !== "Running") yield job
    }
    for (const job of this.items) if (job.fiber !== undefined) yield job
  }

  private withdraw(job: Item<A, B, E, R, X, XE>): void {
    this.queued--
    this.unlink(job)
    this.options.engine.releaseUnsafe(job)
  }

  private close(): void {
    try {
      this.source?.close()
    } catch (defect) {
      this.log(Cause.die(defect))
    }
  }

  /** What must not be lost and is not the call's exit. */
  private log(cause: Cause.Cause<unknown>): void {
    Effect.runForkWith(this.context)(Effect.logError("a job died after its call had ended", cause))
  }

  private settle(): void {
    if (this.settled || this.filling || this.running > 0 || this.queued > 0 || this.source?.active) return
    if (this.exit === undefined) {
      if (!this.exhausted) return
      this.exit = this.options.handlers.onEnd()
    }
    this.settled = true
    this.options.engine.resized.delete(this.fill)
    this.options.onSettled(this.exit)
  }

  private unlink(job: Item<A, B, E, R, X, XE>): void {
    this.items.delete(job)
    job.fiber = job.call = job.value = undefined
  }
}
