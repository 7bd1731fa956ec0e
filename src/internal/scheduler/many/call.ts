/**
 * One call over many items. It pulls an item, submits it to the engine in the same step, and runs it on a fiber of its own
 * once it is admitted.
 *
 * At most `concurrency` items of a call run, wait, or are results that the consumer has not taken. With an unbounded
 * concurrency, at most `lookahead` items wait.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"
import { forEachInSlices } from "../../data/slices.js"
import { CurrentNode, isAbove, liveNode, type Node, nodeOf } from "../../waits/waits.js"
import { Job } from "../job.js"
import type { Engine } from "../engine.js"
import type { CallInProgress } from "../site.js"
import type { SchedulerError } from "../error.js"
import type { JobOptions } from "../options.js"
import { effectOf } from "../schedule.js"
import { ended, type Listener, pending, type Source } from "./source.js"

/** With an unbounded concurrency: how many items may wait, and how many results may be held. */
const lookahead = 1024

/** How many items one step pulls before it gives the event loop a turn. */
const maxPullsPerStep = 1024

/** Handle the exits of the items. A handler that returns an exit ends the call with it. */
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
  fiber: Fiber.Fiber<B, E | SchedulerError> | undefined = undefined
  /** Its place among the items of its call. */
  slot: number

  constructor(call: Call<A, B, E, R, X, XE>, value: A, index: number, options: JobOptions) {
    super(options, call.outer, true)
    this.call = call
    this.value = value
    this.index = index
    this.slot = call.items.push(this) - 1
  }
  override get isLate(): boolean {
    return this.call?.isLate === true
  }
  onStart(): void {
    this.call?.onStart(this)
  }
  onFailure(error: SchedulerError): void {
    this.call?.onRefused(this, error)
  }
  onClose(): void {
    this.call?.interruptUnsafe()
  }
}

/** Observes one item after another: a closure an item would cost 6 % of it. */
class Observer<A, B, E, R, X, XE> {
  job: Item<A, B, E, R, X, XE> | undefined = undefined
  readonly onExit: (exit: Exit.Exit<B, E | SchedulerError>) => void

  constructor(onExit: (observer: Observer<A, B, E, R, X, XE>, exit: Exit.Exit<B, E | SchedulerError>) => void) {
    this.onExit = (exit) => onExit(this, exit)
  }
}

export interface CallOptions<A, B, E, R, X, XE> {
  readonly engine: Engine
  /** The items run in its context, and are interrupted by it. */
  readonly parent: Fiber.Fiber<unknown, unknown>
  readonly f: (item: A, index: number) => Effect.Effect<B, E, R>
  readonly optionsOf: (item: A, index: number) => JobOptions
  readonly handlers: Handlers<B, E, X, XE>
  /** Called when an item has ended and its permit is free. */
  readonly onFreed?: (() => void) | undefined
}

export class Call<A, B, E, R, X, XE> implements Listener<XE>, CallInProgress {
  running = 0
  queued = 0
  done = 0
  failed = 0
  /** Results that the consumer has not taken. */
  held = 0
  readonly outer: Node | undefined
  /** It came when its scheduler was draining already. */
  isLate = false
  settled = false

  private readonly options: CallOptions<A, B, E, R, X, XE>
  private readonly context: Context.Context<never>
  private readonly run: { readonly uninterruptible: boolean }
  private source: Source<A, XE> | undefined = undefined
  private exit: Exit.Exit<X, XE> | undefined = undefined
  private onSettled: ((exit: Exit.Exit<X, XE>) => void) | undefined = undefined
  private pulled = 0
  private exhausted = false
  private filling = false
  private deferred = false
  /** The items that wait or run, in no order: a `Set` would cost each of them more. */
  readonly items: Array<Item<A, B, E, R, X, XE>> = []
  /** The observers of items that have ended. */
  private readonly observers: Array<Observer<A, B, E, R, X, XE>> = []

  constructor(options: CallOptions<A, B, E, R, X, XE>) {
    this.options = options
    const parent = options.parent
    this.context = parent.context
    this.outer = nodeOf(parent.context)
    this.run = { uninterruptible: hasProperty(parent, "interruptible") && parent.interruptible === false }
  }

  /** `onSettled` is called once, when no item and no source of the call runs any more. */
  startUnsafe(source: Source<A, XE>, onSettled: (exit: Exit.Exit<X, XE>) => void): void {
    this.source = source
    this.onSettled = onSettled
    // Now, not when it was made: its fiber may have yielded since, and a drain that has ended did not wait for it.
    this.isLate = this.options.engine.draining
    this.options.engine.calls.add(this)
    source.open(this)
    this.fill()
    // It may wait for its first item for ever.
    if (this.options.engine.closed && !this.settled) this.interruptUnsafe()
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
    // A submission may start or refuse jobs of other callers. If their code throws, this call goes on.
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
      this.options.engine.slices.apart(() => {
        throw error
      })
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
    // The iterator and the cost functions are the caller's. If they throw, the call dies.
    try {
      const item = this.source!.next()
      if (item === pending) return false
      if (item === ended) {
        this.exhausted = true
        return false
      }
      const index = this.pulled++
      job = new Item(this, item, index, this.options.optionsOf(item, index))
    } catch (defect) {
      this.failUnsafe(Cause.die(defect))
      return false
    }
    if (this.exit !== undefined) {
      // The iterator has ended the call.
      this.unlink(job)
      this.close()
      return false
    }
    this.queued++
    this.options.engine.submitUnsafe(job)
    return true
  }

  onStart(job: Item<A, B, E, R, X, XE>): void {
    if (this.exit !== undefined) return this.withdraw(job)
    this.queued--
    this.running++
    let effect: Effect.Effect<B, E, R>
    try {
      // Sound: it has not ended.
      effect = this.options.f(job.value as A, job.index)
    } catch (defect) {
      effect = Effect.die(defect)
    }
    // Sound: the call has R, and its context is that of the fiber that made it.
    const context = Context.add(this.context, CurrentNode, job) as Context.Context<R>
    const fiber = Effect.runForkWith(context)(effectOf(this.options.engine, job, effect), this.run)
    // Without a fiber it is interrupted here, not by the call that has ended.
    if (this.exit === undefined) job.fiber = fiber
    const observer = this.observers.pop() ?? new Observer(this.observed)
    observer.job = job
    fiber.addObserver(observer.onExit)
    // The item itself may have ended the call, before it was among the running ones.
    if (this.exit !== undefined) fiber.interruptUnsafe(this.options.parent.id)
    // It waits no more: without a width, another item may take its place.
    else if (!this.filling && !this.exhausted && !this.deferred && this.options.engine.limit === Infinity) this.defer()
  }

  private readonly observed = (observer: Observer<A, B, E, R, X, XE>, exit: Exit.Exit<B, E | SchedulerError>): void => {
    const job = observer.job!
    observer.job = undefined
    // Free before the next item starts, which is in this step.
    this.observers.push(observer)
    this.onExit(job, exit)
  }

  private onExit(job: Item<A, B, E, R, X, XE>, exit: Exit.Exit<B, E | SchedulerError>): void {
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
    // Code that observes the fiber of an item may throw.
    try {
      // Before the permit is released: a waiting item of this call must not get it.
      if (end !== undefined) this.stopUnsafe(end)
    } finally {
      try {
        this.options.engine.releaseUnsafe(job, exit)
      } finally {
        this.running--
        this.options.onFreed?.()
        this.fill()
      }
    }
  }

  onRefused(job: Item<A, B, E, R, X, XE>, error: SchedulerError): void {
    this.queued--
    this.failed++
    this.unlink(job)
    if (this.exit === undefined) {
      const end = this.options.handlers.onFailure(Cause.fail(error), job.index)
      if (end !== undefined) this.stopUnsafe(end)
    }
    this.fill()
  }

  failUnsafe(cause: Cause.Cause<XE>): void {
    if (this.exit === undefined) this.stopUnsafe(Exit.failCause(cause))
    else if (Cause.hasDies(cause)) this.log(cause)
  }

  isAround(node: Node | undefined): boolean {
    const outer = liveNode(this.outer)
    return node !== undefined &&
      isAbove(node, (node) => node === outer || (node instanceof Item && node.call === this))
  }

  /** Interrupts the call, if it has started, and waits for its end. */
  readonly stop: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.source === undefined || this.settled) return resume(Effect.void)
    const onSettled = this.onSettled!
    this.onSettled = (exit) => {
      resume(Effect.void)
      onSettled(exit)
    }
    this.interruptUnsafe()
  })

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
    this.close()
    // First the waiting items: they must not be admitted to the width that the running ones leave.
    const waiting = this.items.filter((job) => job.state !== "Running")
    const running = this.items.filter((job) => job.fiber !== undefined)
    forEachInSlices(this.options.engine.slices, waiting.concat(running), (job) => {
      if (job.fiber !== undefined) job.fiber.interruptUnsafe(this.options.parent.id)
      else if (job.call !== undefined) this.withdraw(job)
    }, () => this.settle())
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

  /** Logs a defect that is not the exit of the call. */
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
    this.options.engine.calls.delete(this)
    // Who waits for the call may throw. Others wait for the scheduler.
    try {
      this.onSettled!(this.exit)
    } finally {
      this.options.engine.notifyUnsafe()
    }
  }

  private unlink(job: Item<A, B, E, R, X, XE>): void {
    const last = this.items.pop()!
    if (last !== job) {
      this.items[job.slot] = last
      last.slot = job.slot
    }
    job.fiber = job.call = job.value = undefined
  }
}
