/**
 * The runs of one reducer: finds or starts the run of a call, forgets keys, lists the runs, closes.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { hashKey, KeyMap } from "../data/keyMap.js"
import { append } from "../data/list.js"
import { stepsOf } from "../waits/cycle.js"
import { above, closes, cycleOf, Edge, type Node, nodeOf } from "../waits/waits.js"
import { ReducerCycle } from "./error.js"
import { callHook } from "./hooks.js"
import { Caller, eventOf, type Flights, type Origin, type Resume, Run, type Space } from "./run.js"

type AnyFiber = Origin["fiber"]

export const makeSpace = (flights: Flights, name?: string): Space => ({ flights, name, map: new KeyMap() })

/** The effect of a call: joins the run of the key or starts one. */
export const call = <A, E, R>(space: Space, key: unknown, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  // Sound: equal keys promise equal types.
  Effect.callback<unknown, unknown, unknown>((resume) => enter(space, key, effect, resume)) as Effect.Effect<A, E, R>

/** Registers the caller in the step in which the run is found or started, so that neither can end in between. */
const enter = (
  space: Space,
  key: unknown,
  effect: Origin["effect"],
  resume: Resume
): Effect.Effect<void> | undefined => {
  const fiber = Fiber.getCurrent()!
  const { hooks } = space.flights
  if (hooks !== undefined) callHook("onCall", hooks.onCall, eventOf(space, key, 0, fiber.context))
  const hash = hashKey(key)
  const found = space.map.get(key, hash)
  // The hook, or a key that implements its comparison, may have closed the reducer.
  if (space.flights.closed) {
    resume(Exit.interrupt())
    return undefined
  }
  if (found !== undefined) return join(found, key, fiber, effect, resume)
  const owner = nodeOf(fiber.context)
  const run = new Run(space, key, hash, undefined)
  run.callers = 1
  const edge = owner === undefined ? undefined : new Edge(owner, run)
  const exit = run.start(fiber, effect)
  if (exit !== undefined) {
    resume(exit)
    return undefined
  }
  const caller = new Caller(run, resume, edge, undefined)
  append(run, caller)
  return caller
}

const join = (
  found: Run,
  key: unknown,
  fiber: AnyFiber,
  effect: Origin["effect"],
  resume: Resume
): Effect.Effect<void> | undefined => {
  const { hooks, watch } = found.space.flights
  const owner = nodeOf(fiber.context)
  let run = found
  if (run.phase === "ending") {
    run = run.successor ?? new Run(run.space, key, run.hash, run)
    run.since ??= fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
  }
  if (owner !== undefined && closes(owner, run)) {
    resume(Exit.die(cycle(owner, run)))
    if (run.callers === 0) run.interrupt(undefined)
    return undefined
  }
  const origin = run.phase === "pending" ? { fiber, effect } : undefined
  const caller = new Caller(run, resume, owner === undefined ? undefined : new Edge(owner, run), origin)
  run.callers++
  append(run, caller)
  const joins = run.phase !== "pending" || run.callers > 1
  if (watch !== undefined && joins) watch.joined()
  // The tracer and the hook come last: foreign code may end the run.
  if (origin === undefined) run.link(fiber)
  if (hooks !== undefined && joins) {
    callHook("onJoin", hooks.onJoin, eventOf(run.space, run.key, run.callers, fiber.context))
  }
  return caller
}

// A pending run is named together with the run of the same key that it waits behind.
const cycle = (owner: Node, run: Run): ReducerCycle =>
  new ReducerCycle({
    path: stepsOf(cycleOf(owner, run), (node, next) => !(node instanceof Run) || node.predecessor !== next)
  })

export const forget = (space: Space, key: unknown): void => space.map.get(key, hashKey(key))?.unmap()

export const forgetAll = (space: Space): void => {
  for (const run of space.map.values()) run.unmap()
}

/**
 * A run in flight, as `inFlight` lists it.
 *
 * **Details**
 *
 * - `name`: the name of the function that `fn` made.
 * - `key`: the key; for a function its arguments (a single primitive one by itself), or the result of its `key` option.
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

/** The runs in flight, the oldest first. */
export const inFlight = (flights: Flights, now: number): ReadonlyArray<InFlight> =>
  Array.from(flights.runs(), ({ callers, key, name, phase, since = now }) => ({
    name,
    key,
    callers,
    age: Duration.millis(Math.max(0, now - since)),
    // Sound: a run that is over has ended.
    phase: phase as InFlight["phase"]
  }))

/**
 * Interrupts all runs, in slices, and waits until they are over, except for those that would wait for the closing fiber in
 * turn.
 */
export const close = (flights: Flights): Effect.Effect<void> =>
  Effect.callback((resume) => {
    flights.closed = true
    const fiber = Fiber.getCurrent()!
    const own = nodeOf(fiber.context)
    const around = new Set<Node>()
    if (own !== undefined) above(own, (node) => around.add(node))
    // How many runs are not over, and one more until all are interrupted.
    let left = 1
    const release = () => {
      if (--left === 0) resume(Exit.void)
    }
    const runs: Array<Run> = []
    for (let run = flights.live.first; run !== undefined; run = run.after) {
      runs.push(run)
      if (around.has(run)) continue
      left++
      run.whenOver(release)
      // Scopes close uninterruptibly, so the wait ends with the run, and its edge too.
      if (own !== undefined && !run.ended) void new Edge(own, run)
    }
    // The youngest first: a pending run ends before the run in front of it, or it would start.
    flights.slices.tellEach(runs.reverse(), (run) => run.interrupt(fiber.id))
    release()
  })
