/**
 * One run of a reducer: an effect in a fiber of its own, the callers that share it, and the runs that it waits for.
 *
 * A run is `pending` while the run of the same key in front of it ends, `running` while its callers wait for it, and
 * `ending` from the step in which its last caller has left until its finalizers are done. It is `over` once it has ended
 * and all who still waited were told.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { hasInterruptsOnly } from "effect/Cause"
import type * as Tracer from "effect/Tracer"
import type { Keyed, KeyMap } from "../data/keyMap.js"
import type { Slices } from "../data/slices.js"
import { CurrentNode, Edge, endUnsafe, type Inside, type Node } from "../waits/waits.js"
import { callHook } from "./hookCall.js"
import type { Event, Hooks } from "./hooks.js"
import { type Resume, SharedDeferred, Waiter } from "./sharedDeferred.js"

type AnyFiber = Fiber.Fiber<unknown, unknown>

/** What the runs of one reducer have in common. */
export interface Flights {
  readonly name: string | undefined
  readonly hooks: Hooks | undefined
  /** The first of all runs that are not over, those behind a forgotten key included. */
  live: Run | undefined
  closed: boolean
  readonly slices: Slices
  /** All callers of a run that has ended were told. */
  over(run: Run): void
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
  get kind(): "run" {
    return "run"
  }
  get outer(): undefined {
    return undefined
  }
  waits: Edge | undefined = undefined
  waiters: Edge | undefined = undefined
  inside: Inside | undefined = undefined
  mark = 0
  readonly space: Space
  readonly key: unknown
  readonly hash: number
  chain: Run | undefined = undefined
  phase: "pending" | "running" | "ending" | "over"
  /** Whether a call with this key finds the run. */
  mapped = true
  /** The run that is pending until this one has ended. */
  successor: Run | undefined = undefined
  /** Neighbours among the live runs. */
  liveBefore: Run | undefined = undefined
  liveAfter: Run | undefined = undefined
  /** When it began to wait, by the clock of the call that started it. */
  since: number | undefined = undefined
  /** The span that those who join link to. */
  span: Tracer.AnySpan | undefined = undefined
  private fiber: AnyFiber | undefined = undefined
  private interrupted = false
  /** The last caller to leave, which goes on when the run is over. */
  private leaver: (() => void) | undefined = undefined

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
      predecessor.successor = this
      void new Edge(this, predecessor)
    }
  }

  get name(): string | undefined {
    return this.space.name
  }

  get slices(): Slices {
    return this.space.flights.slices
  }

  /** The run in front of this one, while it is pending. */
  get predecessor(): Run | undefined {
    // Sound: a pending run has no fibers, so the run in front is all that it waits for.
    return this.phase === "pending" ? this.waits?.to as Run | undefined : undefined
  }

  get ended(): boolean {
    return this.exit !== undefined
  }

  get over(): boolean {
    return this.phase === "over"
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
    this.since = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
    started.addObserver((exit) => this.end(exit, started.context))
    if (this.interrupted) started.interruptUnsafe()
    if (this.exit === undefined) this.fiber = started
  }

  /** Whoever was in the run may outlive it, and is not to keep its result. */
  forgetResult(): void {
    if (this.phase === "over") this.exit = Exit.void
  }

  /** Interrupts the run; it ends when its finalizers are done. */
  interrupt(fiberId: number | undefined): void {
    if (this.phase === "pending") {
      this.discard(fiberId)
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

  // The run has ended for everybody before anything foreign is called: a caller that is not told yet may still leave, and
  // nobody joins.
  private end(exit: Exit.Exit<unknown, unknown>, context: Context.Context<never>): void {
    this.exit = exit
    const { mapped, successor } = this
    this.unmap()
    if (successor !== undefined) {
      successor.mapped = mapped
      if (mapped) this.space.map.add(successor)
    }
    const hooks = this.space.flights.hooks
    if (hooks === undefined && this.waits === undefined) {
      endUnsafe(this)
      this.deliver()
      return
    }
    // A hook may reduce in turn, and then is called by the end of what it started: that is nested as well.
    depth++
    try {
      endUnsafe(this)
      if (hooks !== undefined) this.report(hooks, exit, context)
    } finally {
      depth--
      this.deliver()
    }
  }

  override done(): void {
    this.phase = "over"
    this.unlink()
    if (this.fiber !== undefined) {
      this.forgetResult()
      this.fiber = undefined
    }
    this.span = undefined
    if (this.successor !== undefined || this.leaver !== undefined) return this.goOn()
    this.space.flights.over(this)
  }

  /** Starts the run behind this one, and lets the last caller to leave go on. */
  private goOn(): void {
    const { leaver, successor } = this
    this.successor = this.leaver = undefined
    try {
      successor?.begin()
    } finally {
      try {
        leaver?.()
      } finally {
        this.space.flights.over(this)
      }
    }
  }

  /** Starts a pending run with the effect and in the context of the first caller that is still there. */
  private begin(): void {
    const first = this.head as Caller | undefined
    const origin = first?.origin
    // Its callers are interrupted together with the scope, or by what ran since the run in front has ended.
    if (origin === undefined || this.exit !== undefined) return
    this.start(origin.fiber, origin.effect)
    this.forgetResult()
    for (let caller = this.head?.next as Caller | undefined; caller !== undefined; caller = caller.next as Caller) {
      if (caller.origin !== undefined) this.link(caller.origin.fiber)
    }
  }

  /** Has the span of a caller link to the span of the run. A tracer that throws is ignored, as a hook that throws is. */
  link(fiber: AnyFiber): void {
    const own = fiber.cache.span
    const span = this.span
    if (span === undefined || own === undefined || own === span || own._tag !== "Span") return
    callHook("addLinks of the tracer", () => {
      if (own.links[own.links.length - 1]?.span !== span) own.addLinks([{ span, attributes: {} }])
    }, fiber)
  }

  protected override abandoned(): Effect.Effect<void> {
    if (this.phase === "pending") {
      this.discard(Fiber.getCurrent()?.id)
      return Effect.void
    }
    // From this step on a call with the key does not join the run: it waits behind it.
    this.phase = "ending"
    this.interrupt(Fiber.getCurrent()?.id)
    return this.over ? Effect.void : Effect.callback((resume) => {
      if (this.over) return resume(Effect.void)
      this.leaver = () => resume(Effect.void)
    })
  }

  protected override released(caller: Waiter<unknown, unknown>): void {
    const edge = (caller as Caller).edge
    // The last to leave goes on waiting, for the finalizers. Nobody waits for a run that has ended.
    if (edge === undefined || this.exit !== undefined || (this.callers === 0 && this.phase === "running")) return
    edge.remove()
  }

  /** Ends a pending run, which will not start. */
  private discard(fiberId: number | undefined): void {
    this.exit = Exit.interrupt(fiberId)
    this.unmap()
    const { predecessor } = this
    if (predecessor !== undefined) predecessor.successor = undefined
    try {
      endUnsafe(this)
    } finally {
      this.deliver()
    }
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
