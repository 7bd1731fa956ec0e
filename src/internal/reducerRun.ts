/**
 * One run of a reducer: an effect in a fiber of its own, the callers that share it, and the runs that it waits for.
 *
 * A run is `pending` while the run of the same key in front of it ends, `running` while its callers wait for it, and
 * `ending` from the step in which its last caller has left until its finalizers are done.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { hasInterruptsOnly } from "effect/Cause"
import type * as Tracer from "effect/Tracer"
import type { Event, Hooks } from "../Hooks.js"
import { callHook } from "./hookCall.js"
import type { Keyed, KeyMap } from "./keyMap.js"
import { type Resume, SharedDeferred, Waiter } from "./sharedDeferred.js"
import { CurrentNode, Edge, endUnsafe, type Inside, type Node } from "./waits/waits.js"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** What the runs of one reducer have in common. */
export interface Flights {
  readonly name: string | undefined
  readonly hooks: Hooks | undefined
  /** The first of all runs that have not ended, those behind a forgotten key included. */
  live: Run | undefined
  closed: boolean
}

/** Keys of one kind: the plain ones, or the arguments of one function. */
export interface Space {
  readonly flights: Flights
  readonly name: string | undefined
  readonly map: KeyMap<Run>
}

/** An effect and the fiber whose context it runs in. */
export interface Origin {
  readonly fiber: AnyFiber
  readonly effect: Effect.Effect<unknown, unknown, never>
}

/** A suspended caller of a run. */
export class Caller extends Waiter<unknown, unknown> {
  /** That the node it belongs to waits for the run, if it is inside of one. */
  readonly edge: Edge | undefined
  /** Only for a pending run: what it becomes if this caller is the first one left. */
  readonly origin: Origin | undefined

  constructor(
    run: Run,
    resume: Resume<unknown, unknown>,
    edge: Edge | undefined,
    origin: Origin | undefined
  ) {
    super(run, resume)
    this.edge = edge
    this.origin = origin
  }
}

// A run that starts in the synchronous part of another is nested in its stack. Deeper than this it starts one turn later.
const maxDepth = 64
let depth = 0

/** See the module. */
export class Run extends SharedDeferred<unknown, unknown> implements Keyed<Run>, Node {
  readonly kind = "run"
  readonly outer = undefined
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  inside: Inside | undefined = undefined
  mark = 0
  readonly space: Space
  readonly key: unknown
  readonly hash: number
  chain: Run | undefined = undefined
  phase: "pending" | "running" | "ending"
  /** Whether a call with this key finds the run. */
  mapped = true
  /** The run that is pending until this one has ended. */
  successor: Run | undefined = undefined
  /** The run in front of this one, while it is pending. */
  predecessor: Run | undefined = undefined
  /** Neighbours among the live runs. */
  liveBefore: Run | undefined = undefined
  liveAfter: Run | undefined = undefined
  /** When it began to wait, by the clock of the call that started it. */
  since: number | undefined = undefined
  /** The span that those who join link to. */
  span: Tracer.AnySpan | undefined = undefined
  private fiber: AnyFiber | undefined = undefined
  private interrupted = false
  private observers: Array<() => void> | undefined = undefined

  constructor(space: Space, key: unknown, hash: number, predecessor: Run | undefined) {
    super()
    this.space = space
    this.key = key
    this.hash = hash
    const flights = space.flights
    if (flights.live !== undefined) {
      flights.live.liveBefore = this
      this.liveAfter = flights.live
    }
    flights.live = this
    if (predecessor === undefined) {
      this.phase = "running"
      space.map.add(this)
    } else {
      this.phase = "pending"
      this.mapped = false
      this.predecessor = predecessor
      predecessor.successor = this
      new Edge(this, predecessor)
    }
  }

  get ended(): boolean {
    return this.exit !== undefined
  }

  /**
   * Runs the effect in a fiber of its own, at once. The caller whose fiber this is has to be counted already, because
   * others may join and leave before this returns.
   */
  start(fiber: AnyFiber, effect: Effect.Effect<unknown, unknown, never>): void {
    this.phase = "running"
    this.span = fiber.cache.span
    const hooks = this.space.flights.hooks
    if (hooks !== undefined) {
      callHook("onStart", hooks.onStart, this.event(fiber.context))
    }
    const context = Context.add(fiber.context, CurrentNode, this)
    let started: AnyFiber
    depth++
    // Whatever the runtime throws, such as a stack overflow: the key must not stay taken.
    try {
      started = Effect.runForkWith(context)(depth > maxDepth ? Effect.andThen(Effect.yieldNow, effect) : effect)
    } catch (error) {
      this.end(Exit.die(error), context)
      return
    } finally {
      depth--
    }
    const exit = started.pollUnsafe()
    if (exit !== undefined) {
      this.end(exit, context)
      return
    }
    this.fiber = started
    this.since = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
    started.addObserver((exit) => this.end(exit, started.context))
    if (this.interrupted) {
      started.interruptUnsafe()
    }
  }

  /** Interrupts the run; it ends when its finalizers are done. */
  interrupt(fiberId: number | undefined): void {
    if (this.phase === "pending") {
      this.discard()
      this.complete(Exit.interrupt(fiberId))
    } else if (this.fiber === undefined) {
      this.interrupted = true
    } else {
      this.fiber.interruptUnsafe(fiberId)
    }
  }

  /** Takes the run out of the map: the next call with its key starts another one. */
  unmap(): void {
    if (this.mapped) {
      this.mapped = false
      this.space.map.remove(this)
    }
  }

  /** Calls the function in the step in which the run has ended. */
  onEnd(f: () => void): void {
    if (this.exit !== undefined) return f()
    this.observers ??= []
    this.observers.push(f)
  }

  private end(exit: Exit.Exit<unknown, unknown>, context: Context.Context<never>): void {
    const successor = this.successor
    const mapped = this.mapped
    this.unmap()
    this.unlink()
    if (successor !== undefined) {
      successor.predecessor = undefined
      successor.mapped = mapped
      if (mapped) this.space.map.add(successor)
    }
    const hooks = this.space.flights.hooks
    if (hooks !== undefined) {
      // A hook may reduce in turn, and then is called by the end of what it started: that is nested as well.
      depth++
      try {
        this.report(hooks, exit, context)
      } finally {
        depth--
      }
    }
    // What runs in a resumed caller is not ours: if it throws, those behind it and those who wait for the end go on.
    try {
      this.complete(exit)
    } finally {
      endUnsafe(this)
      try {
        successor?.begin()
      } finally {
        this.tellOfEnd()
      }
    }
  }

  private tellOfEnd(): void {
    const observer = this.observers?.shift()
    if (observer === undefined) return
    try {
      observer()
    } finally {
      this.tellOfEnd()
    }
  }

  /** Starts a pending run with the effect and in the context of the first caller that is still there. */
  private begin(): void {
    const first = this.head as Caller | undefined
    const origin = first?.origin
    // Its callers are interrupted together with the scope, or by what ran since the run in front has ended.
    if (origin === undefined || this.exit !== undefined) return
    this.start(origin.fiber, origin.effect)
    for (let caller = this.head?.next as Caller | undefined; caller !== undefined; caller = caller.next as Caller) {
      if (caller.origin !== undefined) this.link(caller.origin.fiber)
    }
  }

  /** Has the span of a caller link to the span of the run. */
  link(fiber: AnyFiber): void {
    const own = fiber.cache.span
    const span = this.span
    if (span === undefined || own === undefined || own === span || own._tag !== "Span") return
    if (own.links[own.links.length - 1]?.span !== span) {
      own.addLinks([{ span, attributes: {} }])
    }
  }

  protected override abandoned(): Effect.Effect<void> {
    if (this.phase === "pending") {
      this.discard()
      return Effect.void
    }
    // From this step on a call with the key does not join the run: it waits behind it.
    this.phase = "ending"
    this.interrupt(Fiber.getCurrent()?.id)
    return this.exit !== undefined ? Effect.void : Effect.callback((resume) => this.onEnd(() => resume(Effect.void)))
  }

  protected override released(caller: Waiter<unknown, unknown>): void {
    const edge = (caller as Caller).edge
    // The last to leave goes on waiting, for the finalizers.
    if (edge === undefined || (this.callers === 0 && this.exit === undefined && this.phase === "running")) return
    edge.remove()
  }

  /** A pending run that will not start. */
  private discard(): void {
    this.unmap()
    if (this.predecessor !== undefined) {
      this.predecessor.successor = undefined
      this.predecessor = undefined
    }
    this.unlink()
    endUnsafe(this)
  }

  private unlink(): void {
    if (this.liveBefore !== undefined) {
      this.liveBefore.liveAfter = this.liveAfter
    } else if (this.space.flights.live === this) {
      this.space.flights.live = this.liveAfter
    }
    if (this.liveAfter !== undefined) {
      this.liveAfter.liveBefore = this.liveBefore
    }
    this.liveBefore = this.liveAfter = undefined
  }

  // ----------------------------------------------------------------------------------------------------------- hooks

  event(context: Context.Context<never>): Event {
    return {
      reducer: this.space.flights.name,
      name: this.space.name,
      key: this.key,
      callers: this.callers,
      context
    }
  }

  private report(hooks: Hooks, exit: Exit.Exit<unknown, unknown>, context: Context.Context<never>): void {
    const event = this.event(context)
    if (Exit.isSuccess(exit)) {
      callHook("onSuccess", hooks.onSuccess, { ...event, value: exit.value })
    } else if (hasInterruptsOnly(exit.cause)) {
      callHook("onInterrupt", hooks.onInterrupt, { ...event, cause: exit.cause })
    } else {
      callHook("onFailure", hooks.onFailure, { ...event, cause: exit.cause })
    }
  }
}
