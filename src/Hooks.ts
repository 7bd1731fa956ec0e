/**
 * Observers of a `Reducer`: synchronous functions that are called for each call and each run.
 *
 * **Details**
 *
 * A call fires `onCall`. It then starts a run (`onStart`) or joins one (`onJoin`). When the run ends, exactly one of
 * `onSuccess`, `onFailure` and `onInterrupt` fires, however many callers it had.
 *
 * **Gotchas**
 *
 * Hooks run inside the call, so a slow one slows every call down. If a hook throws, or returns a promise that rejects, the
 * error is logged and ignored.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { format } from "effect/Formatter"
import { hashKey, type Keyed, KeyMap } from "./internal/data/keyMap.js"
import { callHook, type Event, type Hooks } from "./internal/reducer/hooks.js"

export type { Event, FailureEvent, Hooks, SuccessEvent } from "./internal/reducer/hooks.js"

/**
 * Combines hooks into one that calls them in the order given. One that throws does not keep the others from being called.
 *
 * **Example** (Counting and logging)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Hooks, Reducer } from "effect-funnel"
 *
 * const seen: Array<string> = []
 * const statistics = Hooks.statistics()
 * const hooks = Hooks.combine(statistics, {
 *   onStart: (event) => seen.push(`start ${event.key}`)
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* Reducer.reduce("rates", Effect.succeed(1))
 *   return yield* statistics.overall
 * })
 *
 * const counts = await Effect.runPromise(Effect.provide(program, Reducer.layer({ hooks })))
 * counts.started // => 1
 * seen // => ["start rates"]
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const combine = (...hooks: ReadonlyArray<Hooks>): Hooks => ({
  onCall: each("onCall", hooks.map((_) => _.onCall)),
  onStart: each("onStart", hooks.map((_) => _.onStart)),
  onJoin: each("onJoin", hooks.map((_) => _.onJoin)),
  onSuccess: each("onSuccess", hooks.map((_) => _.onSuccess)),
  onFailure: each("onFailure", hooks.map((_) => _.onFailure)),
  onInterrupt: each("onInterrupt", hooks.map((_) => _.onInterrupt))
})

const each = <E extends Event>(
  name: string,
  hooks: ReadonlyArray<((event: E) => void) | undefined>
): ((event: E) => void) | undefined => {
  const present = hooks.filter((hook) => hook !== undefined)
  if (present.length === 0) return undefined
  return (event) => {
    for (const hook of present) {
      callHook(name, hook, event)
    }
  }
}

const log = (what: string) => (event: Event): void => {
  const call = event.name === undefined ? format(event.key) : `${event.name} ${format(event.key)}`
  Effect.runForkWith(event.context)(
    Effect.logDebug(`${event.reducer}: ${what} ${call}, callers ${event.callers}`)
  )
}

/**
 * Logs every event at debug level, with the loggers, the level and the annotations of the call that it belongs to.
 *
 * **Gotchas**
 *
 * The default minimum log level is `Info`, which hides these lines: provide `References.MinimumLogLevel` with `"Debug"`.
 * The lines contain the keys, so do not use it where keys are secrets.
 *
 * **Example** (Watching a reducer)
 *
 * ```ts import.meta.vitest
 * import { Effect, Logger, References } from "effect"
 * import { Hooks, Reducer } from "effect-funnel"
 *
 * const lines: Array<unknown> = []
 * const logger = Logger.make<unknown, void>(({ message }) => void lines.push(message))
 *
 * class Prices extends Reducer.Service<Prices>()("app/Prices", { hooks: Hooks.debug }) {}
 *
 * const program = Prices.reduce("EUR", Effect.succeed(1)).pipe(
 *   Effect.provide(Prices.layer),
 *   Effect.provide(Logger.layer([logger])),
 *   Effect.provideService(References.MinimumLogLevel, "Debug")
 * )
 *
 * await Effect.runPromise(program) // => 1
 * lines.flat() // => ["app/Prices: call \"EUR\", callers 0", "app/Prices: start \"EUR\", callers 1", "app/Prices: success \"EUR\", callers 1"]
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const debug: Hooks = {
  onCall: /*#__PURE__*/ log("call"),
  onStart: /*#__PURE__*/ log("start"),
  onJoin: /*#__PURE__*/ log("join"),
  onSuccess: /*#__PURE__*/ log("success"),
  onFailure: /*#__PURE__*/ log("failure"),
  onInterrupt: /*#__PURE__*/ log("interrupt")
}

/**
 * Counts of calls and runs.
 *
 * **Details**
 *
 * `calls` counts calls, `started` the runs that began, `joined` the calls that shared a run of another caller.
 * `succeeded`, `failed` and `interrupted` count runs by how they ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counts {
  readonly calls: number
  readonly started: number
  readonly joined: number
  readonly succeeded: number
  readonly failed: number
  readonly interrupted: number
}

/**
 * Hooks that count, with effects to read the counts.
 *
 * @see {@link statistics} for making one
 * @category models
 * @since 0.1.0
 */
export interface Statistics extends Hooks {
  /** The counts of all calls together. A snapshot, out of date the instant after it is read. */
  readonly overall: Effect.Effect<Counts>
  /** The counts of each group that the option `by` made, in no particular order; empty without the option. */
  readonly groups: Effect.Effect<ReadonlyArray<readonly [by: unknown, counts: Counts]>>
  /** Sets everything back to zero and forgets the groups. */
  readonly reset: Effect.Effect<void>
}

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

const zero = (): Mutable<Counts> => ({ calls: 0, started: 0, joined: 0, succeeded: 0, failed: 0, interrupted: 0 })

class Group implements Keyed<Group> {
  readonly key: unknown
  readonly hash: number
  readonly counts = zero()
  chain: Group | undefined = undefined

  constructor(key: unknown, hash: number) {
    this.key = key
    this.hash = hash
  }
}

/**
 * Makes hooks that count calls and runs, overall and by key or function.
 *
 * **Details**
 *
 * - `by`: the group in which an event counts as well: `(event) => event.key` counts by key, `(event) => event.name` by
 *   function. Groups are compared as keys are. No groups by default.
 *
 * Counting costs a few additions an event, groups a look-up more. One `Statistics` may serve several reducers.
 *
 * **Gotchas**
 *
 * Each group is remembered until `reset`. With keys from an unbounded set, such as ids from requests, count by function.
 *
 * **Example** (Counting saved calls)
 *
 * ```ts import.meta.vitest
 * import { Effect } from "effect"
 * import { Hooks, Reducer } from "effect-funnel"
 *
 * const statistics = Hooks.statistics({ by: (event) => event.key })
 *
 * const program = Effect.gen(function*() {
 *   const price = Reducer.reduce("EUR", Effect.as(Effect.yieldNow, 1.08))
 *   yield* Effect.all([price, price, price], { concurrency: "unbounded" })
 *   return [yield* statistics.overall, (yield* statistics.groups).map(([key, { calls }]) => [key, calls])]
 * })
 *
 * const [overall, groups] = await Effect.runPromise(Effect.provide(program, Reducer.layer({ hooks: statistics })))
 * overall // => { calls: 3, started: 1, joined: 2, succeeded: 1, failed: 0, interrupted: 0 }
 * groups // => [["EUR", 3]]
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const statistics = (options?: {
  readonly by?: ((event: Event) => unknown) | undefined
}): Statistics => {
  const by = options?.by
  let overall = zero()
  let groups = new KeyMap<Group>()

  const groupOf = (key: unknown): Group => {
    const hash = hashKey(key)
    let group = groups.get(key, hash)
    if (group === undefined) groups.add(group = new Group(key, hash))
    return group
  }
  const count = (field: keyof Counts) => (event: Event): void => {
    overall[field]++
    if (by !== undefined) groupOf(by(event)).counts[field]++
  }

  return {
    onCall: count("calls"),
    onStart: count("started"),
    onJoin: count("joined"),
    onSuccess: count("succeeded"),
    onFailure: count("failed"),
    onInterrupt: count("interrupted"),
    overall: Effect.sync(() => ({ ...overall })),
    groups: Effect.sync(() => groups.values().map(({ counts, key }) => [key, { ...counts }] as const)),
    reset: Effect.sync(() => {
      overall = zero()
      groups = new KeyMap()
    })
  }
}
