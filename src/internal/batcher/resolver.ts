/**
 * Makes a resolver of core that hands its look-ups to a collector, and looks up many requests in one fiber.
 *
 * Core calls `preCheck` for each look-up. It hands the look-up to the collector, so core batches nothing, and asks
 * `batchKey` only when the caller leaves. A resolver that wraps ours reads its fields first. From then on core collects, for
 * our resolver and for the one that wraps it, and `runAll` hands over what it collected.
 */
import type { NonEmptyArray } from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { constTrue, constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import { guarded } from "../data/guarded.js"
import { enrolled } from "../seen/seen.js"
import { Tracing } from "../seen/tell.js"
import { Collector } from "./collector.js"
import { ValueMap } from "./key.js"
import type { CachedResolver, Checked, Result, Settings } from "./options.js"
import { type Batch, Caller, type Group, Many } from "./parts.js"
import { type Plan, toResult } from "./plan.js"
import { most } from "./turns.js"

/** The service that a resolver is made for. */
export const ServiceName: Context.Reference<string | undefined> = /*#__PURE__*/ Context.Reference<string | undefined>(
  "effect-funnel/Batcher/ServiceName",
  { defaultValue: () => undefined }
)

export const makeResolver = <Req extends Request.Any, R>(
  settings: Settings,
  plan: Plan<Req, R>,
  options: Checked<Req>
): Effect.Effect<RequestResolver.RequestResolver<Req> | CachedResolver<Req>, never, Scope.Scope | R> =>
  Effect.contextWith((context: Context.Context<Scope.Scope | R>) => {
    const { maxBatchSize = settings.maxBatchSize, window = settings.window, ...rest } = options
    const service = Context.get(context, ServiceName)
    // It makes itself known before it exists, for its recipe holds what hears of it.
    const source: { collector: object | undefined } = { collector: undefined }
    const known = enrolled("batcher", rest.name ?? service ?? "effect-funnel/Batcher", source)
    const traced = Context.get(Context.merge(context, settings.observers), Tracing) !== undefined
    return Effect.flatMap(Effect.provideContext(known, settings.observers), (watch) => {
      const collector = source.collector = new Collector<Req, R>({
        ...settings,
        ...rest,
        maxBatchSize: settings.batches ? maxBatchSize : 1,
        window,
        plan,
        service,
        watch,
        spanName: rest.name ?? (traced ? service ?? "effect-funnel/Batcher" : undefined),
        context
      })
      const resolver = makeHooks(collector)
      return Effect.as(
        Scope.addFinalizer(Context.get(context, Scope.Scope), collector.runner.close),
        options.cache === undefined ? resolver : Object.assign(resolver, cacheOperations(collector))
      )
    })
  })

const cacheOperations = <Req extends Request.Any, R>(
  collector: Collector<Req, R>
): Pick<CachedResolver<Req>, "prime" | "clear" | "clearAll"> => ({
  prime: (request, result) =>
    Effect.contextWith((context: Context.Context<Request.Services<Req>>) =>
      Effect.sync(() => collector.primeUnsafe(request, toResult<Req>(result), context))
    ),
  clear: (request) =>
    Effect.contextWith((context: Context.Context<Request.Services<Req>>) =>
      Effect.sync(() => collector.clearUnsafe(request, context))
    ),
  clearAll: Effect.sync(() => collector.clearAllUnsafe())
})

/** A look-up that core collects. */
class Held<Req extends Request.Any> {
  readonly group: Group<Req>
  readonly key: unknown
  readonly direct: boolean
  left = false
  constructor(group: Group<Req>, key: unknown, direct: boolean) {
    this.group = group
    this.key = key
    this.direct = direct
  }
}

const makeHooks = <Req extends Request.Any, R>(
  collector: Collector<Req, R>
): RequestResolver.RequestResolver<Req> => {
  const { groups, runner } = collector
  const { batches: collects, maxBatchSize } = collector.recipe
  let wrapped = false
  /** The group of the look-up that core asked about last. Core asks for its window next. */
  let opening: Group<Req> | undefined

  // Core hands the same entry to every hook, and a resolver made of two resolvers hands it to both.
  const known = Symbol("effect-funnel/Batcher/known")
  interface Entry extends Request.Entry<Req> {
    [known]?: Caller<Req> | Held<Req>
  }

  /** Asks for the entries that core has collected, and lasts until all of them have ended. */
  const handOver = (entries: NonEmptyArray<Entry>): Effect.Effect<void, Request.Error<Req>> =>
    Effect.callback((resume) => {
      const { context } = Fiber.getCurrent()!
      const callers: Array<Caller<Req>> = []
      const batches: Array<Batch<Req>> = []
      let waiting = entries.length
      const ended = (): void => {
        if (--waiting > 0) return
        resume(batches.find((batch) => batch.failure !== undefined)?.failure ?? Effect.void)
      }
      for (const entry of entries) {
        const completeUnsafe = (exit: Result<Req>) => {
          try {
            entry.completeUnsafe(exit)
          } finally {
            ended()
          }
        }
        const held = entry[known]
        // It left when core had already taken its batch out of the map.
        if (held instanceof Held && held.left) {
          completeUnsafe(Exit.interrupt())
          continue
        }
        const caller = entry[known] = new Caller<Req>({ completeUnsafe }, entry.context)
        callers.push(caller)
        guarded<unknown>(
          () => collector.ask(entry.request, caller, { batches, direct: held instanceof Held && held.direct }),
          (error) => caller.answer(Exit.die(error))
        )
      }
      for (const batch of batches) runner.launch(batch, context)
      return Effect.sync(() => callers.forEach((caller) => guarded(() => collector.leave(caller), constVoid)))
    })

  /** For each set of core's: the size at which its distinct requests have to be counted again. */
  let full = new WeakMap<object, number>()

  /** Counts distinct requests: core's set also holds equal ones. */
  const collectWhile = (entries: ReadonlySet<Entry>): boolean => {
    // Core reuses its sets.
    if (entries.size < maxBatchSize) full.delete(entries)
    if (entries.size < Math.max(maxBatchSize, full.get(entries) ?? 0)) return true
    const seen = new ValueMap<true>()
    let room = maxBatchSize
    for (const entry of entries) {
      const held = entry[known]
      if (held instanceof Held) {
        if (seen.get(held.key) !== undefined) continue
        seen.add(held.key, true)
      }
      room--
    }
    full.set(entries, entries.size + room)
    return room > 0
  }

  const parts = {
    /** How long core collects. */
    delay: Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const group = opening ?? groups.all
        opening = undefined
        if (!collects || group === undefined) return Effect.void
        group.windows++
        let end = constVoid
        const window = runner.window(group, (_) => {
          runner.onClose.add(end = _)
        })
        return Effect.onExit(restore(window), () => {
          runner.onClose.delete(end)
          group.windows--
          // A wrapper may answer the entries itself, and then there is no batch.
          group.checkRest()
          return Effect.void
        })
      })
    ),
    collectWhile: (entries: ReadonlySet<Entry>) => guarded(() => collectWhile(entries), constTrue),
    runAll: handOver
  }

  const resolver = RequestResolver.makeWith<Req>({
    ...parts,
    // `this` is the resolver that the look-up was made with: this one, or one that wraps it.
    preCheck(this: unknown, entry: Entry) {
      const direct = this === resolver
      const caller = new Caller<Req>(entry, entry.context)
      const taken = collector.ask(
        entry.request,
        caller,
        wrapped || !direct ? { batches: undefined, direct } : undefined
      )
      if (taken === undefined) return true
      entry[known] = caller
      // It was answered and cannot leave: core need not ask.
      if (!taken) entry.uninterruptible = true
      return false
    },
    /** Returns the group of a new entry. If it is asked about an entry again, the caller is leaving. */
    batchKey(this: unknown, entry: Entry) {
      const state = entry[known]
      if (state instanceof Caller) {
        collector.leave(state)
        // Core has no batch with this key.
        return state
      }
      if (state === undefined) {
        const key = collector.keys.of(entry.request)
        const group = opening = groups.look(entry.context)
        group.joins++
        entry[known] = new Held(group, key, this === resolver)
        return group
      }
      if (!state.left) {
        state.left = true
        full = new WeakMap()
        // First of all, or core's `withCache` serves a defect to the next caller.
        entry.completeUnsafe(Exit.interrupt())
        state.group.checkRest()
      }
      return state.group
    }
  })
  for (const name of ["delay", "collectWhile", "runAll"] as const) {
    Object.defineProperty(resolver, name, {
      enumerable: true,
      get: () => {
        wrapped = true
        return parts[name]
      }
    })
  }
  collectors.set(resolver, collector)
  return resolver
}

const collectors = /*#__PURE__*/ new WeakMap<object, unknown>()

/** The collector of a resolver that we made; none for a resolver that wraps it. */
export const collectorOf = <Req extends Request.Any>(
  resolver: RequestResolver.RequestResolver<Req>
): Collector<Req, never> | undefined =>
  // Sound: `makeHooks` puts there the collector of the resolver's requests.
  collectors.get(resolver) as Collector<Req, never> | undefined

/** In how many turns one call asks for its requests at most: fewer than a window lasts. */
const mostSlices = 12

/**
 * Asks for every request, and gives each exit to `set`. It fails with the first exit for which `set` returns false. Then, and
 * when it is interrupted, it leaves the requests that have not ended.
 */
export const each = <Req extends Request.Any>(
  requests: ReadonlyArray<Req>,
  resolver: RequestResolver.RequestResolver<Req>,
  set: (index: number, exit: Result<Req>) => boolean
): Effect.Effect<void, Request.Error<Req>, Request.Services<Req>> =>
  Effect.contextWith((context: Context.Context<Request.Services<Req>>) => {
    const collector = collectorOf(resolver)
    const all = requests.slice()
    const leave: Array<() => void> = []
    let waiting = all.length
    let end: Effect.Effect<void, Request.Error<Req>> | undefined = waiting === 0 ? Effect.void : undefined
    let resume: ((end: Effect.Effect<void, Request.Error<Req>>) => void) | undefined
    const onExit = (exit: Result<Req>, index: number): void => {
      waiting--
      if (end !== undefined) return
      if (!set(index, exit)) end = Effect.asVoid(exit)
      else if (waiting === 0) end = Effect.void
      if (end !== undefined) resume?.(end)
    }
    const many = new Many<Req>(context, onExit)
    const ask = (index: number): void => {
      if (end !== undefined) return
      const request = all[index]!
      if (collector === undefined) {
        leave.push(Effect.requestUnsafe(request, { resolver, context, onExit: (exit) => onExit(exit, index) }))
      } else {
        many.index = index
        collector.ask(request, many)
      }
    }
    // A resolver of core may send what it has before the next turn.
    const size = collector === undefined ? all.length : Math.max(most, Math.ceil(all.length / mostSlices))
    const askAll = (from: number): Effect.Effect<void> => {
      const to = Math.min(all.length, from + size)
      for (let i = from; i < to; i++) ask(i)
      return to === all.length || end !== undefined
        ? Effect.void
        : Effect.flatMap(Effect.yieldNow, () => askAll(to))
    }
    const ended = Effect.callback<void, Request.Error<Req>>((wake) => {
      if (end === undefined) resume = wake
      else wake(end)
    })
    return Effect.onExit(
      Effect.flatMap(Effect.suspend(() => askAll(0)), () => ended),
      (exit) => {
        if (exit._tag === "Success") return Effect.void
        for (const bulk of many.bulks.values()) leave.push(() => collector!.leaveAll(bulk))
        for (const go of leave) guarded(go, constVoid)
        return Effect.void
      }
    )
  })
