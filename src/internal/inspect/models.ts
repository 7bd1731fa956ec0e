/**
 * The shape of a snapshot: plain data, which `effect-funnel/Inspector` exports.
 */

/**
 * The first entries of a list, and how many there are in all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Some<A> {
  readonly total: number
  readonly first: ReadonlyArray<A>
}

/**
 * A job of a scheduler.
 *
 * **Details**
 *
 * - `id`: names it in this snapshot, as in `job 3`.
 * - `millis`: for how long it has waited or run.
 * - `inside`: the run, job or batch in which it was made.
 *
 * @category models
 * @since 0.1.0
 */
export interface JobSnapshot {
  readonly id: string
  readonly millis: number
  readonly weight: number
  readonly priority: number
  readonly share?: string
  readonly inside?: string
}

/**
 * A scheduler, or that of one key. `limit` is absent without a bound. The running and the waiting jobs are listed the oldest
 * first. `penaltyMillis` is how long a penalty still lets no job start: the scheduler's own, or that of its limiter.
 *
 * @category models
 * @since 0.1.0
 */
export interface SchedulerSnapshot {
  readonly name: string
  readonly key?: string
  readonly limit?: number
  readonly weight: number
  readonly paused: boolean
  readonly draining: boolean
  readonly waitingFor: "nothing" | "width" | "rate" | "pause" | "penalty"
  readonly oldestWaitMillis: number
  readonly penaltyMillis: number
  readonly running: Some<JobSnapshot>
  readonly queued: Some<JobSnapshot>
  readonly byPriority: ReadonlyArray<{ readonly priority: number; readonly queued: number }>
  readonly byShare: ReadonlyArray<{ readonly share: string; readonly queued: number }>
  readonly refused: { readonly [reason: string]: number }
}

/**
 * A rate limiter, with the keys that wait or that a penalty holds.
 *
 * **Details**
 *
 * `waiting` is how many calls wait, `oldestWaitMillis` for how long the oldest of them has waited, and `penaltyMillis` how long
 * the last penalty still lasts: of all keys, also of those that are not listed.
 *
 * @category models
 * @since 0.1.0
 */
export interface LimiterSnapshot {
  readonly name: string
  readonly waiting: number
  readonly oldestWaitMillis: number
  readonly penaltyMillis: number
  readonly held: Some<{
    readonly key?: string
    readonly waiting: number
    readonly oldestWaitMillis: number
    readonly penaltyMillis: number
  }>
}

/**
 * A reducer, with its runs in flight, the oldest first.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReducerSnapshot {
  readonly name: string
  readonly inFlight: Some<{
    readonly id: string
    /** The name of the function that `Reducer.fn` made. */
    readonly name?: string
    readonly key?: string
    readonly callers: number
    readonly millis: number
    readonly phase: "pending" | "running" | "ending"
  }>
}

/**
 * A resolver, with its batches. `millis` is how long a batch has waited, or how long it has run. `longestQueuedMillis` is how
 * long the oldest of the queued ones has waited, whether it is listed or not.
 *
 * @category models
 * @since 0.1.0
 */
export interface BatcherSnapshot {
  readonly name: string
  readonly collecting: number
  readonly queued: number
  readonly running: number
  readonly longestQueuedMillis: number
  readonly batches: Some<{
    readonly id: string
    readonly state: "collecting" | "queued" | "running"
    readonly requests: number
    readonly callers: number
    readonly millis: number
    readonly keys?: string
  }>
}

/**
 * A retry budget.
 *
 * @category models
 * @since 0.1.0
 */
export interface BudgetSnapshot {
  readonly name: string
  readonly tokens: number
  readonly limit: number
  readonly denied: number
}

/**
 * A run, job or batch that waits for another one. The ids are those of the lists, and also name some that are not listed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wait {
  readonly from: NodeSnapshot
  readonly to: NodeSnapshot
}

/**
 * An end of a wait: its id, and the service or function that it belongs to.
 *
 * @category models
 * @since 0.1.0
 */
export interface NodeSnapshot {
  readonly id: string
  readonly name: string
}

/**
 * All services at one moment. It is plain data: `JSON.stringify` keeps all of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly schedulers: Some<SchedulerSnapshot>
  readonly limiters: ReadonlyArray<LimiterSnapshot>
  readonly reducers: ReadonlyArray<ReducerSnapshot>
  readonly batchers: ReadonlyArray<BatcherSnapshot>
  readonly retryBudgets: ReadonlyArray<BudgetSnapshot>
  readonly waits: Some<Wait>
}
