/**
 * The runs of one reducer: finds the run for a call, forgets keys, takes snapshots, closes.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { SchedulerDispatcher } from "effect/Scheduler"
import { hashKey, KeyMap } from "../data/keyMap.js"
import { begin, Slices, type Work } from "../data/slices.js"
import { above, closes, cycleOf, Edge, type Node, nodeOf } from "../waits/waits.js"
import { callHook } from "./hookCall.js"
import type { Hooks } from "./hooks.js"
import { Caller, type Flights, type Origin, Run, type Space } from "./run.js"
import type { Resume } from "./sharedDeferred.js"

/**
 * A run in flight, as `inFlight` lists it.
 *
 * **Details**
 *
 * - `name`: the name of the function, for what was made with `fn`.
 * - `key`: the key; of a function its arguments (a single primitive one by itself), or what its `key` option made of them.
 * - `callers`: how many callers wait for it.
 * - `age`: how long it has been in flight.
 * - `phase`: `"running"`; `"ending"` once its last caller was interrupted and its finalizers run; `"pending"` while it
 *   waits for such a run of the same key to end.
 *
 * @category models
 * @since 0.1.0
 */
export interface InFlight {
  readonly name: string | undefined
  readonly key: unknown
  readonly callers: number
  readonly age: Duration.Duration
  readonly phase: "pending" | "running" | "ending"
}

/** See the module. */
export class ReducerFlights implements Flights {
  readonly name: string | undefined
  readonly hooks: Hooks | undefined
  live: Run | undefined = undefined
  closed = false
  readonly slices: Slices
  private closing: Closing | undefined = undefined
  /** The defect of a call that would wait for itself, given the runs from the one that makes it back to itself. */
  private readonly cycle: (path: ReadonlyArray<Node>) => unknown

  constructor(
    options: { readonly name?: string | undefined; readonly hooks?: Hooks | undefined } | undefined,
    dispatcher: SchedulerDispatcher,
    cycle: (path: ReadonlyArray<Node>) => unknown
  ) {
    this.name = options?.name
    this.hooks = options?.hooks
    this.slices = new Slices(dispatcher)
    this.cycle = cycle
  }

  space(name?: string): Space {
    return { flights: this, name, map: new KeyMap() }
  }

  /**
   * The effect of a call: joins the run of the key or starts one. To have a run do more than the effect alone, wrap the
   * effect; to keep its keys apart from others, give it a space of its own.
   */
  call<A, E, R>(space: Space, key: unknown, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R>
  // Equal keys promise equal types, and what the effect requires is in the fiber of the call, from which it is started.
  call(space: Space, key: unknown, effect: Effect.Effect<unknown, unknown>): Effect.Effect<unknown, unknown> {
    return Effect.callback((resume) => this.enter(space, key, effect, resume))
  }

  /** Registers the caller in the step in which the run is found or started, so that neither can end in between. */
  enter(
    space: Space,
    key: unknown,
    effect: Effect.Effect<unknown, unknown, never>,
    resume: Resume<unknown, unknown>
  ): Effect.Effect<void> | undefined {
    const fiber = Fiber.getCurrent()!
    const hooks = this.hooks
    if (hooks !== undefined) this.called(hooks, space, key, fiber)
    const hash = hashKey(key)
    const run = space.map.get(key, hash)
    // Keys may implement their comparison, and that may close the reducer.
    if (this.closed) {
      resume(Exit.interrupt())
      return undefined
    }
    if (run !== undefined) return this.join(run, key, fiber, effect, resume)
    const owner = nodeOf(fiber.context)
    const started = new Run(space, key, hash, undefined)
    started.callers = 1
    const edge = owner === undefined ? undefined : new Edge(owner, started)
    started.start(fiber, effect)
    const exit = started.exit
    if (exit === undefined) return started.append(new Caller(started, resume, edge, undefined))
    resume(exit)
    started.forgetResult()
    return undefined
  }

  private called(hooks: Hooks, space: Space, key: unknown, fiber: Fiber.Fiber<unknown, unknown>): void {
    callHook("onCall", hooks.onCall, { reducer: this.name, name: space.name, key, callers: 0, context: fiber.context })
  }

  private join(
    found: Run,
    key: unknown,
    fiber: Fiber.Fiber<unknown, unknown>,
    effect: Effect.Effect<unknown, unknown, never>,
    resume: Resume<unknown, unknown>
  ): Effect.Effect<void> | undefined {
    const { hooks } = this
    const owner = nodeOf(fiber.context)
    let run = found
    let origin: Origin | undefined = undefined
    if (run.phase === "ending") {
      run = run.successor ?? new Run(run.space, key, run.hash, run)
      run.since ??= fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
    }
    if (owner !== undefined && closes(owner, run)) {
      resume(Exit.die(this.cycle(cycleOf(owner, run))))
      if (run.callers === 0) run.interrupt(undefined)
      return undefined
    }
    if (run.phase === "pending") origin = { fiber, effect }
    run.callers++
    const caller = new Caller(run, resume, owner === undefined ? undefined : new Edge(owner, run), origin)
    run.append(caller)
    // The tracer and the hook come last, since they may do anything, such as ending the run.
    if (origin === undefined && fiber.cache.span !== undefined) run.link(fiber)
    if (hooks !== undefined && (run.phase !== "pending" || run.callers > 1)) {
      callHook("onJoin", hooks.onJoin, run.event(fiber.context))
    }
    return caller
  }

  forget(space: Space, key: unknown): void {
    space.map.get(key, hashKey(key))?.unmap()
  }

  forgetAll(space: Space): void {
    for (const run of space.map.values()) {
      run.unmap()
    }
  }

  /** The runs in flight, the oldest first. */
  inFlight(now: number): ReadonlyArray<InFlight> {
    const out: Array<InFlight> = []
    for (let run = this.live; run !== undefined; run = run.liveAfter) {
      const { callers, exit, key, name, phase, since = now } = run
      // One that has ended is live until all of its callers are told.
      if (exit !== undefined || phase === "over") continue
      out.push({ name, key, callers, age: Duration.millis(Math.max(0, now - since)), phase })
    }
    return out.reverse()
  }

  over(run: Run): void {
    this.closing?.over(run)
  }

  /** Interrupts all runs and waits until they are over, except for those that would wait for the closing fiber in turn. */
  readonly close: Effect.Effect<void> = Effect.callback((resume) => {
    this.closed = true
    const fiber = Fiber.getCurrent()!
    this.closing = new Closing(this, fiber.id, nodeOf(fiber.context), (exit) => {
      this.closing = undefined
      resume(exit)
    })
    this.closing.start()
  })
}

/** The end of a reducer: its runs are interrupted in slices, and the fiber that closes it waits until they are over. */
class Closing implements Work {
  readonly slices: Slices
  private readonly fiberId: number
  private readonly resume: (exit: Exit.Exit<void>) => void
  /** Those that wait for the closing fiber, which does not wait for them. */
  private readonly around = new Set<Node>()
  private readonly runs: Array<Run> = []
  private at = 0
  /** How many runs are not over, and one more until it has begun. */
  private left = 1
  private exit: Exit.Exit<void> = Exit.void

  constructor(
    flights: ReducerFlights,
    fiberId: number,
    own: Node | undefined,
    resume: (exit: Exit.Exit<void>) => void
  ) {
    this.slices = flights.slices
    this.fiberId = fiberId
    this.resume = resume
    if (own !== undefined) above(own, (node) => (this.around.add(node), true))
    for (let run = flights.live; run !== undefined; run = run.liveAfter) {
      this.runs.push(run)
      if (!this.around.has(run)) this.left++
    }
    if (own === undefined) return
    // Scopes close uninterruptibly, so the wait ends with the run, and its edge too.
    for (const run of this.runs) if (!run.ended && !this.around.has(run)) void new Edge(own, run)
  }

  start(): void {
    // What a resumed caller throws is the closing fiber's defect, once all of the others are told.
    try {
      begin(this)
    } catch (error) {
      this.exit = Exit.die(error)
    }
    this.release()
  }

  over(run: Run): void {
    if (!this.around.has(run)) this.release()
  }

  private release(): void {
    if (--this.left === 0) this.resume(this.exit)
  }

  get pending(): boolean {
    return this.at < this.runs.length
  }

  step(): void {
    const run = this.runs[this.at++]!
    if (run.exit === undefined) run.interrupt(this.fiberId)
  }

  done(): void {
    this.runs.length = 0
    this.at = 0
  }
}
