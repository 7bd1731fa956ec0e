/**
 * Guards the commands to a store: a timeout for each, a retry budget for an outage, and one warning when a policy applies.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import type { StoreWatch } from "../seen/seen.js"
import { StoreError } from "./storeError.js"

/** How often `onStoreError` took the place of the store, by service and policy. */
const policies = /*#__PURE__*/ Metric.counter("effect_funnel.store.policy", {
  description: "How often onStoreError took the place of the store",
  incremental: true
})

export interface Guard {
  /** One attempt. The sender repeats the command or gives it up. Its time is not bounded if the command's own is. */
  readonly once: <A>(
    operation: string,
    command: Effect.Effect<A, StoreError>,
    isBounded?: boolean
  ) => Effect.Effect<A, StoreError>
  /**
   * Attempts until the outage has lasted for its budget. From then on one call at a time finds out whether the store is
   * back, and the others fail at once.
   */
  readonly run: <A>(
    operation: string,
    command: Effect.Effect<A, StoreError>,
    isBounded?: boolean
  ) => Effect.Effect<A, StoreError>
  /** Counts that a policy applies, and logs it once an outage. */
  readonly applied: (policy: string, failure: StoreError) => Effect.Effect<void>
}

/** Milliseconds of the monotonic clock. */
export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Fails a command that takes longer. */
export const within = <A, E>(
  command: Effect.Effect<A, E>,
  millis: number,
  error: (cause: Error) => E
): Effect.Effect<A, E> =>
  Effect.timeoutOrElse(command, {
    duration: millis,
    orElse: () => Effect.fail(error(new Error(`no answer within ${millis} ms`)))
  })

export const make = (options: {
  readonly service: string
  readonly storeTimeoutMillis: number
  readonly outageBudgetMillis: number
  readonly watch?: StoreWatch | undefined
}): Guard => {
  const { outageBudgetMillis, service, storeTimeoutMillis, watch } = options
  let outage: { readonly since: number; readonly last: StoreError; readonly logged: boolean } | undefined
  let probing = false

  /** Tells what observes the service how long a command took. */
  const timed = <A>(operation: string, clock: Clock.Clock, command: Effect.Effect<A, StoreError>) => {
    if (watch === undefined) return command
    return Effect.suspend(() => {
      const sentAt = monotonicMillis(clock)
      return Effect.onExit(
        command,
        (exit) => Effect.sync(() => watch.commanded(operation, monotonicMillis(clock) - sentAt, Exit.isFailure(exit)))
      )
    })
  }

  const once: Guard["once"] = (operation, command, isBounded = false) =>
    Effect.clockWith((clock) =>
      timed(
        operation,
        clock,
        isBounded ? command : within(command, storeTimeoutMillis, (cause) => new StoreError({ operation, cause }))
      ).pipe(
        Effect.tap(() => Effect.sync(() => void (outage = undefined))),
        Effect.tapError((last) =>
          Effect.sync(() => {
            outage = { since: outage?.since ?? monotonicMillis(clock), last, logged: outage?.logged ?? false }
          })
        )
      )
    )

  const run: Guard["run"] = <A>(operation: string, command: Effect.Effect<A, StoreError>, isBounded?: boolean) =>
    Effect.clockWith((clock) => {
      const calledAt = monotonicMillis(clock)
      const isOver = (since: number) => monotonicMillis(clock) - since >= outageBudgetMillis
      // The last failure of an outage that is over its budget.
      const overBudget = (): StoreError | undefined => {
        if (outage === undefined || !isOver(outage.since)) return undefined
        const { last } = outage
        return last.operation === operation ? last : new StoreError({ operation, cause: last.cause })
      }
      const attempt = (wait: number): Effect.Effect<A, StoreError> =>
        Effect.catch(
          once(operation, command, isBounded),
          (failure) =>
            // What fails for one key alone has no outage: the answers to others end it.
            overBudget() === undefined && !isOver(calledAt)
              ? Effect.andThen(Effect.sleep(wait), attempt(Math.min(wait * 2, 250)))
              : Effect.fail(failure)
        )
      const last = overBudget()
      if (last === undefined) return attempt(25)
      if (probing) return Effect.fail(last)
      probing = true
      return Effect.ensuring(once(operation, command, isBounded), Effect.sync(() => void (probing = false)))
    })

  const applied: Guard["applied"] = (policy, failure) =>
    Effect.suspend(() => {
      const count = Metric.update(Metric.withAttributes(policies, { service, policy }), 1)
      if (outage?.logged === true) return count
      if (outage !== undefined) outage = { ...outage, logged: true }
      return Effect.andThen(
        count,
        Effect.logWarning(`${service}: the store is away, "${policy}" applies until it answers`, failure)
      )
    })

  return { once, run, applied }
}
