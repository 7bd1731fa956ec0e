/**
 * Shows what all services do at one moment: what runs, what waits, for how long, and who waits for whom.
 *
 * **When to use**
 *
 * Use it when a program hangs or is slow and you want to see why, without logging that you have to add first. For history and
 * alerts use `effect-funnel/Metrics`.
 *
 * **Details**
 *
 * Provide {@link layer} to the layers of the services. A service that is built below it is listed for as long as its scope is
 * open. Services then note when a job or a batch began; the rest is read when you ask.
 *
 * A snapshot has no values, and no keys unless you set `showKeys`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { integer } from "./internal/data/refuse.js"
import type { Snapshot } from "./internal/inspect/models.js"
import { Members } from "./internal/inspect/roll.js"
import { read } from "./internal/inspect/snapshot.js"
import { render } from "./internal/inspect/text.js"
import { Roll } from "./internal/seen/seen.js"

export type {
  BatcherSnapshot,
  BudgetSnapshot,
  JobSnapshot,
  LimiterSnapshot,
  NodeSnapshot,
  ReducerSnapshot,
  SchedulerSnapshot,
  Snapshot,
  Some,
  Wait
} from "./internal/inspect/models.js"

/**
 * The settings of a snapshot.
 *
 * **Details**
 *
 * - `showKeys`: whether keys of runs, limiters, batches, shares and keyed schedulers are told, as text of at most 120
 *   characters; `false` by default. Keys may be secrets.
 * - `most`: how many entries each list has at most, an integer above 0; 20 by default. The numbers count all of them. Of
 *   schedulers those with the most jobs are listed, and the one with the oldest wait.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly showKeys?: boolean | undefined
  readonly most?: number | undefined
}

/**
 * Reads the services that it lists.
 *
 * @category services
 * @since 0.1.0
 */
export class Inspector extends Context.Service<Inspector, {
  /** All services at this moment. It costs time in the number of jobs, runs and keys. */
  readonly snapshot: Effect.Effect<Snapshot>
  /** The same as text for a terminal. */
  readonly dump: Effect.Effect<string>
}>()("effect-funnel/Inspector") {}

/**
 * Provides the inspector, and lists the services that are built below it.
 *
 * **Example** (Seeing why a program hangs)
 *
 * ```ts import.meta.vitest
 * import { Effect, Fiber, Layer } from "effect"
 * import { Reducer, Scheduler } from "effect-funnel"
 * import * as Inspector from "effect-funnel/Inspector"
 *
 * class GitHub extends Scheduler.Service<GitHub>()("app/GitHub", { concurrency: 1 }) {}
 * class Users extends Reducer.Service<Users>()("app/Users") {}
 *
 * const program = Effect.gen(function*() {
 *   const fiber = yield* Effect.forkChild(Users.reduce(7, GitHub.schedule(Effect.never)), { startImmediately: true })
 *   const { reducers, waits } = yield* Inspector.snapshot
 *   yield* Fiber.interrupt(fiber)
 *   return [reducers[0]?.inFlight.total, ...waits.first.map(({ from, to }) => `${from.name} -> ${to.name}`)]
 * })
 *
 * const services = Layer.provideMerge(Layer.merge(GitHub.layer, Users.layer), Inspector.layer())
 * await Effect.runPromise(Effect.provide(program, services)) // => [1, "app/Users -> app/GitHub"]
 * ```
 *
 * @see {@link onSignal} for asking from outside of the program
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<Inspector> => {
  const { most = 20, showKeys = false } = options
  integer("Inspector.layer", "most", most, 1)
  return Layer.effectContext(Effect.sync(() => {
    const members = new Members()
    const snapshot = Effect.map(Clock.currentTimeMillis, (now) => read(members.all, { showKeys, most }, now))
    return Context.make(Inspector, { snapshot, dump: Effect.map(snapshot, render) }).pipe(Context.add(Roll, members))
  }))
}

/**
 * Reads all services at this moment, as plain data.
 *
 * **Details**
 *
 * All of it is read in one step, so it agrees with `stats` and `inFlight` of that step. Lists have the oldest first, and at
 * most as many entries as the option `most` says. It costs time in the number of jobs, runs and keys.
 *
 * **Example** (Counting what waits)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Inspector from "effect-funnel/Inspector"
 *
 * const program = Scheduler.schedule(Inspector.snapshot)
 * const services = Layer.provideMerge(Scheduler.layer({ concurrency: 2 }), Inspector.layer())
 *
 * const { schedulers } = await Effect.runPromise(Effect.provide(program, services))
 * schedulers.first.map((_) => [_.running.total, _.limit, _.queued.total]) // => [[1, 2, 0]]
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const snapshot: Effect.Effect<Snapshot, never, Inspector> = /*#__PURE__*/ Inspector.use((_) => _.snapshot)

/**
 * Renders all services at this moment as text for a terminal.
 *
 * **Example** (Printing it)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Reducer } from "effect-funnel"
 * import * as Inspector from "effect-funnel/Inspector"
 *
 * const program = Reducer.reduce("key", Inspector.dump)
 * const services = Layer.provideMerge(Reducer.layer(), Inspector.layer({ showKeys: true }))
 *
 * const text = await Effect.runPromise(Effect.provide(program, services))
 * text.includes(`run 1 "key", running`) // => true
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const dump: Effect.Effect<string, never, Inspector> = /*#__PURE__*/ Inspector.use((_) => _.dump)

/** The part of Node's `process` that this uses: other runtimes may not have it. */
interface Process {
  on(signal: string, listener: () => void): unknown
  off(signal: string, listener: () => void): unknown
}

/**
 * Prints the dump to standard error whenever the process gets a signal, `SIGUSR2` by default: `kill -USR2 <pid>`.
 *
 * **Details**
 *
 * It prints through `Console.error`. In a runtime without signals it does nothing.
 *
 * **Example** (A program that can be asked)
 *
 * ```ts import.meta.vitest
 * import { Effect, Layer } from "effect"
 * import { Scheduler } from "effect-funnel"
 * import * as Inspector from "effect-funnel/Inspector"
 *
 * const services = Scheduler.layer({ concurrency: 2 }).pipe(
 *   Layer.merge(Inspector.onSignal()),
 *   Layer.provide(Inspector.layer())
 * )
 *
 * await Effect.runPromise(Effect.provide(Scheduler.schedule(Effect.succeed("ran")), services)) // => "ran"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const onSignal = (signal = "SIGUSR2"): Layer.Layer<never, never, Inspector> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const print = Effect.flatMap(dump, Console.error)
    const context = yield* Effect.context<Inspector>()
    const { process } = globalThis as { readonly process?: Partial<Process> | undefined }
    if (typeof process?.on !== "function" || typeof process.off !== "function") return
    const { off, on } = process
    const listener = (): void => void Effect.runForkWith(context)(print)
    yield* Effect.acquireRelease(
      Effect.sync(() => on.call(process, signal, listener)),
      () => Effect.sync(() => off.call(process, signal, listener))
    )
  }))
