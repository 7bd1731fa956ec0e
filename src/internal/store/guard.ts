/**
 * What stands between a service and its store: a limit on how long a command may take, patience with an outage, and one
 * place that says when a policy took over.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { StoreError } from "./storeError.js"

/** How often `onStoreError` took the place of the store, by service and policy. */
const policies = /*#__PURE__*/ Metric.counter("effect_funnel_store_policy", {
  description: "How often onStoreError took the place of the store",
  incremental: true
})

export interface Guard {
  /** One attempt, for a command that is repeated or given up by who sends it. */
  readonly once: <A>(operation: string, command: Effect.Effect<A, StoreError>) => Effect.Effect<A, StoreError>
  /**
   * Attempts until the store has been away for the outage's budget. From then on only one call at a time finds out
   * whether it is back, and the others fail at once.
   */
  readonly run: <A>(operation: string, command: Effect.Effect<A, StoreError>) => Effect.Effect<A, StoreError>
  /** Logs, once an outage, and counts that a policy applies. */
  readonly applied: (policy: string, failure: StoreError) => Effect.Effect<void>
}

/** Milliseconds that only ever pass, whatever is done to the clock on the wall. */
export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

export const make = (options: {
  readonly service: string
  readonly storeTimeoutMillis: number
  readonly outageBudgetMillis: number
}): Guard => {
  const { outageBudgetMillis, service, storeTimeoutMillis } = options
  // When the outage that lasts began; undefined while the store answers.
  let since: number | undefined
  let probing = false
  let logged = false
  let last: StoreError | undefined

  const once: Guard["once"] = (operation, command) =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      return command.pipe(
        Effect.timeoutOrElse({
          duration: storeTimeoutMillis,
          orElse: () =>
            Effect.fail(
              new StoreError({ operation, cause: new Error(`no answer within ${storeTimeoutMillis} ms`) })
            )
        }),
        Effect.tap(() =>
          Effect.sync(() => {
            since = undefined
            logged = false
          })
        ),
        Effect.tapError((failure) =>
          Effect.sync(() => {
            last = failure
            since ??= monotonicMillis(clock)
          })
        )
      )
    })

  const run: Guard["run"] = <A>(operation: string, command: Effect.Effect<A, StoreError>) =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const isOut = () => since !== undefined && monotonicMillis(clock) - since >= outageBudgetMillis
      const attempt = (wait: number): Effect.Effect<A, StoreError> =>
        Effect.catch(
          once(operation, command),
          (failure) =>
            isOut() ? Effect.fail(failure) : Effect.andThen(Effect.sleep(wait), attempt(Math.min(wait * 2, 250)))
        )
      if (!isOut()) return attempt(25)
      if (probing && last !== undefined) return Effect.fail(last)
      probing = true
      return Effect.ensuring(once(operation, command), Effect.sync(() => void (probing = false)))
    })

  return {
    once,
    run,
    applied: (policy, failure) =>
      Effect.suspend(() => {
        const count = Metric.update(Metric.withAttributes(policies, { service, policy }), 1)
        if (logged) return count
        logged = true
        return Effect.andThen(
          count,
          Effect.logWarning(`${service}: the store is away, "${policy}" applies until it answers`, failure)
        )
      })
  }
}
