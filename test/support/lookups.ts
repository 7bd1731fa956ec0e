/**
 * What the tests of the Batcher look up: a request, a resolver that notes its calls, and their layers.
 */
import { Batcher, Scheduler } from "effect-funnel"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Request from "effect/Request"
import type { RequestResolver } from "effect/RequestResolver"
import { fork, settle } from "./fibers.ts"

export class Broken extends Data.TaggedError("Broken")<{}> {}
export class Tenant extends Context.Service<Tenant, unknown>()("test/Tenant") {}
export class Get extends Request.TaggedClass("Get")<{ readonly id: unknown }, string, Broken, Tenant> {}

/** Whether a resolver keeps results. */
export const isCached = <Req extends Request.Any>(
  resolver: RequestResolver<Req>
): resolver is Batcher.CachedResolver<Req> => "clearAll" in resolver

export const get = (id: unknown) => new Get({ id })
export const valueOf = (id: unknown) => `value of ${String(id)}`
export const valuesOf = (...ids: ReadonlyArray<unknown>) => ids.map(valueOf)

export type StoreOptions =
  & Partial<Batcher.OrderedOptions<Get, never> & Batcher.ResolverOptions<Get, [typeof Tenant]>>
  & {
    /** Answers wait for it. */
    readonly gate?: Effect.Effect<unknown, Broken> | ((ids: ReadonlyArray<unknown>) => Effect.Effect<unknown, Broken>)
  }

/** A resolver that notes its calls, and which of them were interrupted. */
export const store = ({ gate = Effect.void, ...options }: StoreOptions = {}) =>
  Effect.gen(function*() {
    const calls: Array<ReadonlyArray<unknown>> = []
    const interrupted: Array<ReadonlyArray<unknown>> = []
    const made = yield* Batcher.ordered(Get, {
      execute: (requests) =>
        Effect.suspend(() => {
          const ids = requests.map(({ id }) => typeof id === "object" ? String(id) : id)
          calls.push(ids)
          return Effect.as(typeof gate === "function" ? gate(ids) : gate, valuesOf(...ids)).pipe(
            Effect.onInterrupt(() => Effect.sync(() => interrupted.push(ids)))
          )
        }),
      ...options
    })
    // Sound: only tests that give `cache` use its operations.
    const resolver = made as Batcher.CachedResolver<Get>
    const load = (id: unknown) => Effect.request(get(id), resolver)
    const startAll = (...ids: ReadonlyArray<unknown>) => Effect.forEach(ids, (id) => fork(load(id)))
    /** Look-ups that are collected together, and that have left their window when this returns. */
    const round = (...ids: ReadonlyArray<unknown>) => Effect.tap(startAll(...ids), () => settle)
    return { calls, interrupted, load, resolver, round, startAll }
  })

/** A Batcher whose batches are jobs of the default scheduler. */
export const live = (
  { concurrency = "unbounded", maxQueued, ...options }: Batcher.Options & {
    readonly concurrency?: number | "unbounded"
    readonly maxQueued?: number
  } = {}
) =>
  Layer.mergeAll(
    Batcher.layer({ ...options, scheduler: Scheduler.Scheduler }).pipe(
      Layer.provideMerge(Scheduler.layer({ concurrency, ...(maxQueued === undefined ? {} : { maxQueued }) }))
    ),
    Layer.succeed(Tenant, "anybody")
  )

/** How many jobs of the default scheduler run, and how many wait. */
export const jobs = Effect.map(Scheduler.stats, ({ queued, running }) => ({ running, queued }))
