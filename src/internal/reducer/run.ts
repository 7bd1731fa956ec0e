/**
 * One run of a reducer: an effect in a fiber of its own, the callers that share it, and the runs that it waits for.
 *
 * A run is `pending` while the run of the same key in front of it ends, `running` while its callers wait for it, and
 * `ending` from the step that interrupts it, as its last caller leaves, until its finalizers are done. It is `over` when it
 * has ended and all callers that still waited have its exit.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { hasInterruptsOnly } from "effect/Cause"
import type { SchedulerDispatcher } from "effect/Scheduler"
import type * as Tracer from "effect/Tracer"
import type { Keyed, KeyMap } from "../data/keyMap.js"
import * as List from "../data/list.js"
import { begin, Slices, type Work } from "../data/slices.js"
import type { ReducerWatch } from "../seen/seen.js"
import { CurrentNode, Edge, endUnsafe, type Inside, type Node } from "../waits/waits.js"
import { callHook, type Event, type Hooks } from "./hooks.js"

type AnyFiber = Fiber.Fiber<unknown, unknown>
type AnyExit = Exit.Exit<unknown, unknown>

/** The runs of one reducer, and what they have in common. */
export class Flights {
  readonly name: string
  readonly hooks: Hooks | undefined
  readonly slices: Slices
  /** The runs that are not over, the oldest first; runs of a forgotten key are among them. */
  readonly live: List.List<Run> = { first: undefined, last: undefined }
  /** Hears of calls and runs, where something observes them. */
  watch: ReducerWatch | undefined = undefined
  /** The name of the spans of runs, where each has one of its own that links to its callers. */
  traced: string | undefined = undefined
  closed = false

  constructor(name: string, hooks: Hooks | undefined, dispatcher: SchedulerDispatcher) {
    this.name = name
    this.hooks = hooks
    this.slices = new Slices(dispatcher)
  }

  /** The runs in flight, the oldest first. One that has ended is live until all of its callers have the exit. */
  *runs(): Generator<Run> {
    for (let run = this.live.first; run !== undefined; run = run.after) if (!run.ended) yield run
  }

  get inFlight(): number {
    return Array.from(this.runs()).length
  }
}

/** Keys of one kind: the plain ones, or the arguments of one function. */
export interface Space {
  readonly flights: Flights
  readonly name: string | undefined
  readonly map: KeyMap<Run>
}

export const eventOf = (space: Space, key: unknown, callers: number, context: Context.Context<never>): Event => ({
  reducer: space.flights.name,
  name: space.name,
  key,
  callers,
  context
})

/** An effect and the fiber whose context it runs in. */
export interface Origin {
  readonly fiber: AnyFiber
  readonly effect: Effect.Effect<unknown, unknown, unknown>
}

/** Resumes a suspended caller; `Effect.callback` passes it to its register function. */
export type Resume = (exit: AnyExit) => void

/**
 * A suspended caller of a run. As an effect, it leaves: return it from the register function of `Effect.callback`. So a
 * caller costs one object beyond those of `Effect.callback`.
 */
export class Caller extends Effectable.Class<void> implements List.Member<Caller> {
  before: Caller | undefined = undefined
  after: Caller | undefined = undefined
  /** The run; undefined once the caller has its exit or has left. */
  run: Run | undefined
  readonly resume: Resume
  /** The wait of the node that the caller is in, if it is in one. */
  readonly edge: Edge | undefined
  /** Only for a pending run: the run takes it over if this caller is the first one left. */
  readonly origin: Origin | undefined

  constructor(run: Run, resume: Resume, edge: Edge | undefined, origin: Origin | undefined) {
    super()
    this.run = run
    this.resume = resume
    this.edge = edge
    this.origin = origin
  }

  // Core also runs the cancel effect of a caller that was resumed with an interruption, which is no departure.
  asEffect(): Effect.Effect<void> {
    return this.run === undefined ? Effect.void : this.run.leave(this)
  }
}

// A run that starts in the synchronous part of another is nested in its stack. Deeper than this it starts one turn later.
const maxDepth = 64
let depth = 0

/** As many links as OpenTelemetry keeps of a span. */
const mostLinks = 128

/** See the module. It is a member of the live runs, and the list of its callers. */
export class Run implements Keyed<Run>, List.Member<Run>, List.List<Caller>, Node, Work {
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
  before: Run | undefined = undefined
  after: Run | undefined = undefined
  first: Caller | undefined = undefined
  last: Caller | undefined = undefined
  /** How many callers wait. The caller that starts the run counts before it is suspended. */
  callers = 0
  phase: "pending" | "running" | "ending" | "over"
  exit: AnyExit | undefined = undefined
  /** Whether a call with this key finds the run. */
  mapped = true
  /** The run that is pending until this one has ended. */
  successor: Run | undefined = undefined
  /** When it began to wait, by the clock of the call that started it. */
  since: number | undefined = undefined
  /** The span that joining callers link to. */
  span: Tracer.AnySpan | undefined = undefined
  private fiber: AnyFiber | undefined = undefined
  private onOver: (() => void) | undefined = undefined

  constructor(space: Space, key: unknown, hash: number, predecessor: Run | undefined) {
    this.space = space
    this.key = key
    this.hash = hash
    List.append(space.flights.live, this)
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
    // Sound: a pending run has no fibers, so it waits for the run in front and nothing else.
    return this.phase === "pending" ? this.waits?.to as Run | undefined : undefined
  }

  get ended(): boolean {
    return this.exit !== undefined
  }

  /**
   * Runs the effect in a fiber of its own, at once. Returns the exit of a run that ends in the same step. The starting
   * caller has to be counted already, because others may join and leave before this returns.
   */
  start(fiber: AnyFiber, effect: Origin["effect"]): AnyExit | undefined {
    this.phase = "running"
    this.span = fiber.cache.span
    const { hooks, watch } = this.space.flights
    if (watch !== undefined) watch.started()
    // When it began to wait for the run in front.
    this.since = undefined
    // Read before foreign code is called: a fiber that ends forgets its context.
    const context = Context.add(fiber.context, CurrentNode, this)
    if (hooks !== undefined) {
      callHook("onStart", hooks.onStart, eventOf(this.space, this.key, this.callers, fiber.context))
    }
    let started: AnyFiber
    depth++
    // The runtime may throw, for example a stack overflow: the key must not stay taken.
    try {
      // Sound: the fiber that calls with an effect has what the effect requires.
      const provided = effect as Effect.Effect<unknown, unknown>
      started = Effect.runForkWith(context)(depth > maxDepth ? Effect.andThen(Effect.yieldNow, provided) : provided)
    } catch (error) {
      const exit = Exit.die(error)
      this.end(exit, context)
      return exit
    } finally {
      depth--
    }
    const exit = started.pollUnsafe()
    if (exit !== undefined) {
      this.end(exit, context)
      return exit
    }
    this.since = Context.get(context, Clock.Clock).currentTimeMillisUnsafe()
    this.fiber = started
    started.addObserver((exit) => this.end(exit, started.context))
    // Sound: while it began, its last caller may have left, or its reducer closed. The compiler does not look into calls.
    if ((this.phase as Run["phase"]) === "ending") started.interruptUnsafe()
    return started.pollUnsafe()
  }

  /** Has the span of a caller link to the span of the run. A tracer that throws is ignored, as a hook that throws is. */
  link(fiber: AnyFiber): void {
    const own = fiber.cache.span
    const span = this.span
    if (span === undefined || own === undefined || own === span || own._tag !== "Span") return
    callHook("addLinks of the tracer", () => {
      if (own.links[own.links.length - 1]?.span !== span) own.addLinks([{ span, attributes: {} }])
      if (this.space.flights.traced === undefined || span._tag !== "Span" || span.links.length >= mostLinks) return
      span.addLinks([{ span: own, attributes: {} }])
    }, fiber)
  }

  /** A caller leaves. The last one goes on when the run is over. */
  leave(caller: Caller): Effect.Effect<void> {
    List.remove(this, caller)
    caller.run = undefined
    this.callers--
    if (this.exit !== undefined) return Effect.void
    if (this.callers > 0) {
      caller.edge?.remove()
      return Effect.void
    }
    // The last caller waits for the finalizers, so its edge stays until the run ends.
    this.interrupt(Fiber.getCurrent()!.id)
    return Effect.callback((resume) => {
      if (this.phase === "over") return resume(Effect.void)
      this.whenOver(() => resume(Effect.void))
    })
  }

  /**
   * Interrupts the run. It ends when its finalizers are done, and until then a call with its key waits behind it. A pending
   * one ends at once, and no hook is called.
   */
  interrupt(fiberId: number | undefined): void {
    if (this.phase === "pending") {
      const { predecessor } = this
      if (predecessor !== undefined) predecessor.successor = undefined
      this.end(Exit.interrupt(fiberId))
    } else {
      if (this.phase === "running") this.phase = "ending"
      this.fiber?.interruptUnsafe(fiberId)
    }
  }

  /** Takes the run out of the map: the next call with its key starts another one. */
  unmap(): void {
    if (this.mapped) {
      this.mapped = false
      this.space.map.remove(this)
    }
  }

  // The run has ended for all callers before any foreign code is called: a caller that has no exit yet may leave, and no
  // call joins.
  private end(exit: AnyExit, context?: Context.Context<never>): void {
    this.exit = exit
    const { mapped, successor } = this
    const { watch } = this.space.flights
    if (watch !== undefined && context !== undefined) watch.ended(exit, this.since)
    this.unmap()
    if (successor !== undefined) {
      successor.mapped = mapped
      if (mapped) this.space.map.add(successor)
    }
    // A hook may reduce too. The end of that run calls the hook again, one level deeper.
    depth++
    try {
      endUnsafe(this)
      if (context !== undefined) this.report(exit, context)
    } finally {
      depth--
      if (this.first === undefined) this.done()
      else begin(this)
    }
  }

  private report(exit: AnyExit, context: Context.Context<never>): void {
    const hooks = this.space.flights.hooks
    if (hooks === undefined) return
    const event = eventOf(this.space, this.key, this.callers, context)
    if (Exit.isSuccess(exit)) return callHook("onSuccess", hooks.onSuccess, { ...event, value: exit.value })
    const name = hasInterruptsOnly(exit.cause) ? "onInterrupt" : "onFailure"
    callHook(name, hooks[name], { ...event, cause: exit.cause })
  }

  get pending(): boolean {
    return this.first !== undefined
  }

  // A resumed caller may interrupt others, which then leave the list: take the first one each time.
  step(): void {
    const caller = this.first!
    List.remove(this, caller)
    caller.run = undefined
    this.callers--
    caller.resume(this.exit!)
  }

  /** All callers have their exit, or have left. Fibers that outlive the run keep neither its result nor the other runs. */
  done(): void {
    this.phase = "over"
    List.remove(this.space.flights.live, this)
    this.exit = Exit.void
    this.fiber = this.span = undefined
    const { onOver, successor } = this
    this.successor = this.onOver = undefined
    try {
      successor?.startPending()
    } finally {
      onOver?.()
    }
  }

  /** Calls `f` once the run is over, which it is not yet. */
  whenOver(f: () => void): void {
    const { onOver } = this
    this.onOver = onOver === undefined ? f : () => {
      try {
        onOver()
      } finally {
        f()
      }
    }
  }

  /** Starts a pending run with the effect and in the context of the first caller that is still there. */
  private startPending(): void {
    const origin = this.first?.origin
    // The scope, or a caller that was resumed since the run in front has ended, may have interrupted its callers.
    if (origin === undefined || this.exit !== undefined) return
    this.start(origin.fiber, origin.effect)
    for (let caller = this.first?.after; caller !== undefined; caller = caller.after) {
      if (caller.origin !== undefined) this.link(caller.origin.fiber)
    }
  }
}
