/**
 * The runs of one reducer: finds the run for a call, forgets keys, takes snapshots, closes.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Hooks } from "../Hooks.js"
import { callHook } from "./hookCall.js"
import { hashKey, KeyMap } from "./keyMap.js"
import { Caller, type Flights, type Origin, Run, type Space } from "./reducerRun.js"
import type { Resume } from "./sharedDeferred.js"
import { above, closes, cycleOf, Edge, type Node, nodeOf } from "./waits/waits.js"

/** A run as a snapshot shows it. */
export interface Snapshot {
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
  /** The defect of a call that would wait for itself, given the runs from the one that makes it back to itself. */
  private readonly cycle: (path: ReadonlyArray<Node>) => unknown

  constructor(
    options: { readonly name?: string | undefined; readonly hooks?: Hooks | undefined } | undefined,
    cycle: (path: ReadonlyArray<Node>) => unknown
  ) {
    this.name = options?.name
    this.hooks = options?.hooks
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
    if (hooks !== undefined) {
      callHook("onCall", hooks.onCall, {
        reducer: this.name,
        name: space.name,
        key,
        callers: 0,
        context: fiber.context
      })
    }
    if (this.closed) {
      resume(Exit.interrupt())
      return undefined
    }
    const owner = nodeOf(fiber.context)
    const hash = hashKey(key)
    let run = space.map.get(key, hash)
    if (run === undefined) {
      run = new Run(space, key, hash, undefined)
      run.callers = 1
      const edge = owner === undefined ? undefined : new Edge(owner, run)
      run.start(fiber, effect)
      if (run.exit !== undefined) {
        resume(run.exit)
        return undefined
      }
      return run.append(new Caller(run, resume, edge, undefined))
    }
    let origin: Origin | undefined = undefined
    if (run.phase === "ending") {
      run = run.successor ?? new Run(space, key, hash, run)
      run.since ??= fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
    }
    if (owner !== undefined && closes(owner, run)) {
      resume(Exit.die(this.cycle(cycleOf(owner, run))))
      if (run.callers === 0) run.interrupt(undefined)
      return undefined
    }
    if (run.phase === "pending") {
      origin = { fiber, effect }
    } else if (fiber.cache.span !== undefined) {
      run.link(fiber)
    }
    run.callers++
    const caller = new Caller(run, resume, owner === undefined ? undefined : new Edge(owner, run), origin)
    run.append(caller)
    // The hook comes last, since it may do anything, such as ending the run.
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

  snapshot(clock: Clock.Clock): ReadonlyArray<Snapshot> {
    const now = clock.currentTimeMillisUnsafe()
    const out: Array<Snapshot> = []
    for (let run = this.live; run !== undefined; run = run.liveAfter) {
      out.push({
        name: run.space.name,
        key: run.key,
        callers: run.callers,
        age: Duration.millis(Math.max(0, now - (run.since ?? now))),
        phase: run.phase
      })
    }
    return out.reverse()
  }

  /** Interrupts all runs and waits for them, except for those that would wait for the closing fiber in turn. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const fiber = Fiber.getCurrent()!
    this.closed = true
    const runs: Array<Run> = []
    for (let run = this.live; run !== undefined; run = run.liveAfter) {
      runs.push(run)
    }
    for (const run of runs) {
      if (run.exit === undefined) run.interrupt(fiber.id)
    }
    const own = nodeOf(fiber.context)
    const around = new Set<Node>()
    if (own !== undefined) above(own, (node) => (around.add(node), true))
    const open = runs.filter((run) => run.exit === undefined && !around.has(run))
    if (open.length === 0) return Effect.void
    for (const run of open) {
      if (own !== undefined) new Edge(own, run)
    }
    return Effect.callback((resume) => {
      let left = open.length
      for (const run of open) {
        run.onEnd(() => {
          if (--left === 0) resume(Effect.void)
        })
      }
    })
  })
}
