/**
 * Reports the progress of a call: every 100 ms if a count has changed, and once at the end.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"

/**
 * The progress of a call.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  /** How many items there are in all, where that is known before they are pulled. */
  readonly total: number | undefined
  /** Items that have succeeded. */
  readonly done: number
  /** Items that have failed or were interrupted. */
  readonly failed: number
  /** Items that run. */
  readonly running: number
  /** Items that were pulled and wait for their turn. */
  readonly queued: number
  /** Items that ended a second, on average since the call began. */
  readonly rate: number
  /** How long the rest takes at that rate; `undefined` without a total, or while none has ended. */
  readonly eta: Duration.Duration | undefined
}

/** The services that a callback needs which may return an effect. */
export type ProgressServices<X> = 0 extends 1 & X ? never
  : X extends Effect.Effect<any, any, infer R> ? R
  : never

/** The counts of a call. */
export type Counts = Pick<Progress, "done" | "failed" | "running" | "queued">

const interval = 100

/** How many items there are, where that can be seen without pulling them. */
const totalOf = (items: unknown): number | undefined =>
  hasProperty(items, "length") && typeof items.length === "number"
    ? items.length
    : hasProperty(items, "size") && typeof items.size === "number"
    ? items.size
    : undefined

export const track = (
  parent: Fiber.Fiber<unknown, unknown>,
  counts: Counts,
  items: unknown,
  options: {
    readonly onProgress?: ((progress: Progress) => unknown) | undefined
    readonly total?: number | undefined
  } = {}
) => {
  const { onProgress, total = totalOf(items) } = options
  if (onProgress === undefined) return undefined
  const context = parent.context
  const clock = parent.getRef(Clock.Clock)
  const start = clock.monotonicTimeNanosUnsafe()

  const state = () => `${counts.done} ${counts.failed} ${counts.running} ${counts.queued}`
  let told = state()

  const snapshot = (): Progress => {
    const { done, failed, queued, running } = counts
    const ended = done + failed
    const elapsed = Number(clock.monotonicTimeNanosUnsafe() - start) / 1e9
    const rate = ended === 0 || elapsed === 0 ? 0 : ended / elapsed
    const eta = total === undefined || rate === 0 ? undefined : Duration.seconds(Math.max(0, total - ended) / rate)
    return { total, done, failed, running, queued, rate, eta }
  }

  const tell = Effect.suspend(() => {
    told = state()
    const result = onProgress(snapshot())
    return Effect.isEffect(result) ? result : Effect.void
  }).pipe(
    // Sound: the type of the call requires the services of the callback.
    Effect.provideContext(context),
    Effect.catchCause((cause) => Effect.logError("onProgress failed", cause)),
    Effect.asVoid
  ) as Effect.Effect<void>

  let ticker: Fiber.Fiber<void> | undefined
  return {
    /** Starts the ticks. */
    startUnsafe: () => {
      ticker = Effect.runForkWith(context)(
        Effect.forever(Effect.flatMap(Effect.sleep(interval), () => state() === told ? Effect.void : tell))
      )
    },
    /** Ends the ticks and reports for the last time. */
    finish: Effect.suspend(() => ticker === undefined ? tell : Effect.andThen(Fiber.interrupt(ticker), tell))
  }
}
