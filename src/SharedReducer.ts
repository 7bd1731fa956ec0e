/**
 * Single flight across processes: one run for all equal requests under way in the processes that share a store.
 *
 * It is a module of its own because it brings the schemas of `effect`: programs that only `reduce` do not load them.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Persistable from "effect/persistence/Persistable"
import { type NoScope, Reducer } from "./Reducer.js"
import type { ReducerError } from "./internal/reducer/error.js"
import type { Lease } from "./internal/reducer/reduceShared.js"
import * as Shared from "./internal/reducer/reduceShared.js"

export { CodecError, ReducerError } from "./internal/reducer/error.js"
export type { Lease } from "./internal/reducer/reduceShared.js"
export { StoreError } from "./internal/store/storeError.js"

/**
 * Runs an effect once for all equal requests that are under way, in this process and in all that share its store.
 *
 * **Details**
 *
 * - The request is a `Persistable`. Its tag and primary key are the key. Its schemas carry the result between processes.
 * - Calls of one process share a local run first, as those of `Reducer.reduce` do.
 * - The layer of the reducer says which processes share. `Reducer.layer` keeps to this process, and passes each result
 *   through the schemas all the same, so that a wrong schema shows. `layer` of `effect-funnel/redis/Reducer` coordinates
 *   through Redis.
 * - Success, typed failure and defect are results. When a leader is interrupted, another process leads.
 * - To use a reducer of your own, provide it: `Effect.provideServiceEffect(call, Reducer.Reducer, Prices)` for a tag,
 *   `Effect.provideService(call, Reducer.Reducer, reducer)` for a handle.
 *
 * **Gotchas**
 *
 * - At least once: a leader that was frozen for longer than its lease, or a store that lost its state, causes a second run.
 *   Make the effect idempotent, or send `lease.fence` with each write and refuse smaller fences there.
 * - When a lease is lost, the run is interrupted, and the call takes the result of the next leader.
 * - Requests share a run if their two schemas are the same objects: keep schemas in constants.
 * - A defect arrives in other processes as its message.
 * - Cycles are found within a process only: a run that calls for its own key through another process hangs.
 *
 * **Example** (Sharing a report among processes)
 *
 * ```ts import.meta.vitest
 * import { Effect, Schema } from "effect"
 * import { Persistable } from "effect/persistence"
 * import { Reducer } from "effect-funnel"
 * import { reduceShared } from "effect-funnel/SharedReducer"
 *
 * class GetReport extends Persistable.Class<{ payload: { readonly month: string } }>()("GetReport", {
 *   primaryKey: (_) => _.month,
 *   success: Schema.Struct({ total: Schema.Number })
 * }) {}
 *
 * let runs = 0
 * const report = (month: string) =>
 *   reduceShared(new GetReport({ month }), () =>
 *     Effect.gen(function*() {
 *       runs++
 *       yield* Effect.yieldNow
 *       return { total: 42 }
 *     }))
 *
 * const program = Effect.all([report("2026-01"), report("2026-01")], { concurrency: "unbounded" })
 *
 * await Effect.runPromise(Effect.provide(program, Reducer.layer())) // => [{ total: 42 }, { total: 42 }]
 * runs // => 1
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const reduceShared = <Req extends Persistable.Any, R>(
  request: Req,
  f: (lease: Lease) => Effect.Effect<Persistable.Success<Req>, Persistable.Error<Req>, R> & NoScope<R>
): Effect.Effect<
  Persistable.Success<Req>,
  Persistable.Error<Req> | ReducerError,
  R | Persistable.Services<Req> | Reducer
> => Reducer.use((reducer) => Shared.reduceShared(reducer, request, f))
