/**
 * The ways in: core's hooks, and many look-ups in one fiber.
 *
 * Where nobody has wrapped our resolver, `preCheck` hands each look-up to the collector and core batches nothing; core
 * still asks `batchKey` when its caller leaves, and only then. Whoever wraps a resolver reads what it is made of first. From
 * then on core collects for its window, for ours and for those that wrap it, and `runAll` hands over what it collected.
 */
import type { NonEmptyArray } from "effect/Array"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { constTrue, constVoid } from "effect/Function"
import type * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import { guarded } from "../data/guarded.js"
import type { Collector } from "./collector.js"
import { ValueMap } from "./key.js"
import { Bulk, Caller } from "./parts.js"
import type { Batch, Group, Result } from "./parts.js"
import { andThen, most } from "./turns.js"

/** A look-up that core collects, for our resolver itself or for one that wraps it. */
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

export const makeHooks = <Req extends Request.Any, R>(
  collector: Collector<Req, R>
): RequestResolver.RequestResolver<Req> => {
  const { maxBatchSize, turns, window } = collector.options
  let wrapped = false
  /** The group of the look-up that core was asking about last: it opens the window that core asks for next. */
  let opening: Group<Req> | undefined

  // Where we keep what we know of an entry: core hands the same object to every hook, and a resolver made of two to both.
  const known = Symbol("effect-funnel/Batcher/known")
  interface Entry extends Request.Entry<Req> {
    [known]?: Caller<Req> | Held<Req>
  }

  /** Asks for what core has collected, and lasts until the last of it has ended. */
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
        const target = {
          completeUnsafe: (exit: Result<Req>) => {
            try {
              entry.completeUnsafe(exit)
            } finally {
              ended()
            }
          }
        }
        const held = entry[known]
        // It left between two steps of core, which no longer finds the batch to take it out of.
        if (held instanceof Held && held.left) {
          target.completeUnsafe(Exit.interrupt())
          continue
        }
        const caller = entry[known] = new Caller<Req>(target, entry.context)
        callers.push(caller)
        guarded<unknown>(
          () => collector.ask(entry.request, caller, { batches, direct: held instanceof Held && held.direct }),
          (error) => caller.answer(Exit.die(error))
        )
      }
      for (const batch of batches) collector.launch(batch, context)
      return Effect.sync(() => callers.forEach((caller) => guarded(() => collector.leave(caller), constVoid)))
    })

  /** At which size of a set of core's its distinct requests may have become too many, since they were counted. */
  let full = new WeakMap<object, number>()

  /** Counts distinct requests: core's set holds all of them. */
  const collectWhile = (entries: ReadonlySet<Entry>): boolean => {
    // Core uses its sets again.
    if (entries.size < maxBatchSize) full.delete(entries)
    if (entries.size < Math.max(maxBatchSize, full.get(entries) ?? 0)) return true
    const seen = new ValueMap<true>()
    let room = maxBatchSize
    for (const entry of entries) {
      const held = entry[known]
      if (held instanceof Held) {
        if (seen.get(held.key) !== undefined) continue
        seen.set(held.key, true)
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
        const group = opening ?? collector.groups.all
        opening = undefined
        if (turns === undefined || group === undefined) return Effect.void
        group.windows++
        return Effect.onExit(
          restore(
            window === "idle"
              ? Effect.callback<void>((resume) => turns.watch(group, () => resume(Effect.void)))
              : Effect.raceFirst(collector.clock.sleep(window), Deferred.await(collector.closing))
          ),
          () => {
            group.windows--
            // It may be that we do not come to hear of the batch.
            group.checkRest()
            return Effect.void
          }
        )
      })
    ),
    collectWhile: (entries: ReadonlySet<Entry>) => guarded(() => collectWhile(entries), constTrue),
    runAll: handOver
  }

  const resolver = RequestResolver.makeWith<Req>({
    ...parts,
    // Core calls it on the resolver that the look-up was made with: this one, or one that wraps it.
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
      // It was answered, and does not leave: core need not ask.
      if (!taken) entry.uninterruptible = true
      return false
    },
    /** Says who may share. Asked about an entry that we know, its caller is leaving. */
    batchKey(this: unknown, entry: Entry) {
      const state = entry[known]
      if (state instanceof Caller) {
        collector.leave(state)
        // No batch of core's has this key.
        return state
      }
      if (state === undefined) {
        const key = collector.keys.of(entry.request)
        const group = opening = collector.look(entry.context)
        group.joins++
        entry[known] = new Held(group, key, this === resolver)
        return group
      }
      if (!state.left) {
        state.left = true
        full = new WeakMap()
        // Before anything else, or core's `withCache` serves a defect to the next caller.
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

/** The collector of a resolver that is one of ours, as it was made. */
export const collectorOf = <Req extends Request.Any>(
  resolver: RequestResolver.RequestResolver<Req>
): Collector<Req, never> | undefined =>
  // Sound: `makeHooks` puts there what belongs to the resolver's requests.
  collectors.get(resolver) as Collector<Req, never> | undefined

/** How many turns it takes at most to ask for what one call brings: fewer than a window lasts. */
const mostSlices = 12

/**
 * Asks for every request and puts its exit where it belongs with `set`. It fails with the first exit for which `set` is
 * false; then, and when it is interrupted, it leaves all that are still waited for.
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
    const finish = (exit: Effect.Effect<void, Request.Error<Req>>): void => {
      end = exit
      resume?.(exit)
    }
    const target = {
      completeUnsafe(exit: Result<Req>, index: number) {
        waiting--
        if (end !== undefined) return
        if (!set(index, exit)) finish(Effect.asVoid(exit))
        else if (waiting === 0) finish(Effect.void)
      }
    }
    const ask = (index: number): void => {
      if (end !== undefined) return
      if (collector === undefined) {
        const onExit = (exit: Result<Req>) => target.completeUnsafe(exit, index)
        leave.push(Effect.requestUnsafe(all[index]!, { resolver, context, onExit }))
      } else {
        const caller = new Caller<Req>(target, context, index)
        if (collector.ask(all[index]!, caller)) leave.push(() => collector.leave(caller))
      }
    }
    const together = collector?.options.turns !== undefined && collector.options.maxBatchSize === Infinity
    const size = together ? Math.max(most, Math.ceil(all.length / mostSlices)) : 1
    let bulk: Bulk<Req> | undefined
    const askAll = (from: number): Effect.Effect<void> => {
      if (end !== undefined || from >= all.length) return Effect.void
      if (!together) {
        for (let i = from; i < all.length; i++) ask(i)
        return Effect.void
      }
      const to = Math.min(all.length, from + size)
      // What comes after its batch was sent travels in another.
      if (bulk === undefined || bulk.batch?.hasRoom(Infinity) === false) {
        const next = bulk = new Bulk<Req>(target, context)
        leave.push(() => collector!.leaveAll(next))
      }
      for (const index of collector!.askMany(all, from, to, bulk)) ask(index)
      return to === all.length ? Effect.void : Effect.flatMap(Effect.yieldNow, () => askAll(to))
    }
    return Effect.onExit(
      Effect.suspend(() =>
        andThen(askAll(0), () =>
          Effect.callback<void, Request.Error<Req>>((wake) => {
            if (end === undefined) resume = wake
            else wake(end)
          }))
      ),
      (exit) => {
        if (exit._tag === "Success") return Effect.void
        end ??= exit
        for (const go of leave) guarded(go, constVoid)
        return Effect.void
      }
    )
  })
