/**
 * Guards the commands to a store: a timeout for each, a bound for how many are on their way, a retry budget for an outage,
 * and one warning when a policy applies.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as List from "../data/list.js"
import type { StoreWatch } from "../seen/seen.js"
import { StoreError } from "./storeError.js"

/** How many commands are on their way at most. The time of a command that waits for its turn has not begun. */
const mostAtOnce = 256

/** How often `onStoreError` took the place of the store, by service and policy. */
const policies = /*#__PURE__*/ Metric.counter("effect_funnel.store.policy", {
  description: "How often onStoreError took the place of the store",
  incremental: true
})

export interface Guard {
  /** One attempt. The sender repeats the command or gives it up. */
  readonly once: <A>(operation: string, command: Effect.Effect<A, StoreError>) => Effect.Effect<A, StoreError>
  /**
   * Attempts until the outage has lasted for its budget. From then on one call at a time finds out whether the store is
   * back, and the others fail at once. The first attempt may have been sent `agoMillis` ago.
   */
  readonly run: <A>(
    operation: string,
    command: Effect.Effect<A, StoreError>,
    agoMillis?: number
  ) => Effect.Effect<A, StoreError>
  /** The same. If it fails, a policy applies in its place and there is no answer, unless the policy is `"fail"`. */
  readonly runOrApply: <A>(
    policy: string,
    operation: string,
    command: Effect.Effect<A, StoreError>
  ) => Effect.Effect<A | void, StoreError>
  /** Whether a command may be sent without `run`, which is for the rest if it fails. */
  readonly isFree: () => boolean
  /** A command that was sent without `run` has an answer. */
  readonly answered: (operation: string, agoMillis: number) => void
  /** Logs that a policy applies, once an outage, and counts the calls to which it does: 1 by default. */
  readonly applied: (policy: string, failure: StoreError, calls?: number) => Effect.Effect<void>
  /** Counts calls to which a policy applies. */
  readonly counted: (policy: string, calls: number) => Effect.Effect<void>
}

/** Milliseconds of the monotonic clock. */
export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Fails a command that takes longer. */
export const within = <A, E>(
  command: Effect.Effect<A, E>,
  millis: number,
  error: (cause: Error) => E
): Effect.Effect<A, E> =>
  Effect.raceFirst(
    command,
    // A turn of the event loop that is too long spends one quarter at most. After it timers fire before the answers are read
    // that have been there for long.
    Effect.flatMap(
      Effect.andThen(Effect.repeat(Effect.sleep(millis / 4), { times: 3 }), Effect.yieldNow),
      () => Effect.fail(error(new Error(`no answer within ${millis} ms`)))
    )
  )

interface Turn extends List.Member<Turn> {
  readonly begin: () => void
}

/** Lets so many effects run at once, the others in order of arrival. */
export const turns = (most: number) => {
  const waiting: List.List<Turn> = { first: undefined, last: undefined }
  let free = most
  let passing = false
  const leave = () => {
    free++
    // What begins may end at once: this is a loop, not a recursion.
    if (passing) return
    passing = true
    try {
      while (free > 0 && waiting.first !== undefined) {
        const next = waiting.first
        List.remove(waiting, next)
        free--
        next.begin()
      }
    } finally {
      passing = false
    }
  }
  return <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.uninterruptibleMask((restore) =>
      // A fiber that is interrupted at the mask itself takes no turn.
      Effect.suspend(() => {
        if (free > 0) {
          free--
          return Effect.ensuring(restore(effect), Effect.sync(leave))
        }
        let begun = false
        const turn = Effect.callback<void>((resume) => {
          const self: Turn = {
            before: undefined,
            after: undefined,
            begin: () => {
              begun = true
              resume(Effect.void)
            }
          }
          List.append(waiting, self)
          return Effect.sync(() => {
            if (!begun) List.remove(waiting, self)
          })
        })
        return Effect.ensuring(restore(Effect.andThen(turn, effect)), Effect.sync(() => begun && leave()))
      })
    )
}

interface Outage {
  readonly since: number
  /** When the last command failed. */
  readonly at: number
  readonly last: StoreError
}

export const make = (options: {
  readonly service: string
  readonly storeTimeoutMillis: number
  readonly outageBudgetMillis: number
  /** Whether the store itself bounds the time of its commands, and how many are on their way. */
  readonly isBounded?: boolean | undefined
  readonly watch?: StoreWatch | undefined
}): Guard => {
  const { isBounded = false, outageBudgetMillis, service, storeTimeoutMillis, watch } = options
  let outage: Outage | undefined
  let probing = false
  /** When a command failed or a policy applied last, since that was logged. */
  let toldAt = -Infinity
  const inTurn = turns(mostAtOnce)
  // A failure that is longer ago tells nothing of now: an outage in use has had another one since.
  const memory = outageBudgetMillis + storeTimeoutMillis
  const current = (clock: Clock.Clock): Outage | undefined =>
    outage !== undefined && monotonicMillis(clock) - outage.at <= memory ? outage : undefined
  // The answers to other keys end an outage. What goes on failing beside them is told once all the same.
  const isTold = (at: number): boolean => at - toldAt <= memory

  /** Tells what observes the service how long a command took. */
  const timed = <A>(
    operation: string,
    clock: Clock.Clock,
    command: Effect.Effect<A, StoreError>,
    agoMillis: number
  ) => {
    if (watch === undefined) return command
    return Effect.suspend(() => {
      const sentAt = monotonicMillis(clock) - agoMillis
      return Effect.onExit(
        command,
        (exit) => Effect.sync(() => watch.commanded(operation, monotonicMillis(clock) - sentAt, Exit.isFailure(exit)))
      )
    })
  }

  const attemptOnce = <A>(
    clock: Clock.Clock,
    operation: string,
    command: Effect.Effect<A, StoreError>,
    agoMillis = 0,
    hopeless?: () => StoreError | undefined
  ): Effect.Effect<A, StoreError> => {
    const bounded = isBounded
      ? command
      : within(command, storeTimeoutMillis, (cause) => new StoreError({ operation, cause }))
    const answered = Effect.map(timed(operation, clock, bounded, agoMillis), (answer) => {
      outage = undefined
      return answer
    })
    const counted = Effect.mapError(answered, (last) => {
      const at = monotonicMillis(clock)
      outage = { since: current(clock)?.since ?? at, at, last }
      if (isTold(at)) toldAt = at
      return last
    })
    if (isBounded) return counted
    return inTurn(Effect.suspend(() => {
      const last = hopeless?.()
      return last === undefined ? counted : Effect.fail(last)
    }))
  }

  const once: Guard["once"] = (operation, command) =>
    Effect.clockWith((clock) => attemptOnce(clock, operation, command))

  const run: Guard["run"] = <A>(operation: string, command: Effect.Effect<A, StoreError>, agoMillis = 0) =>
    Effect.clockWith((clock) => {
      const calledAt = monotonicMillis(clock) - agoMillis
      const isOver = (since: number) => monotonicMillis(clock) - since >= outageBudgetMillis
      // The last failure of an outage that is over its budget.
      const overBudget = (): StoreError | undefined => {
        const outage = current(clock)
        if (outage === undefined || !isOver(outage.since)) return undefined
        const { last } = outage
        return last.operation === operation ? last : new StoreError({ operation, cause: last.cause })
      }
      const attempt = (wait: number, agoMillis?: number): Effect.Effect<A, StoreError> =>
        Effect.catch(
          attemptOnce(clock, operation, command, agoMillis, overBudget),
          (failure) =>
            // What fails for one key alone has no outage: the answers to others end it.
            overBudget() === undefined && !isOver(calledAt)
              ? Effect.andThen(Effect.sleep(wait), attempt(Math.min(wait * 2, 250)))
              : Effect.fail(failure)
        )
      const last = overBudget()
      if (last === undefined) return attempt(25, agoMillis)
      let probes = false
      return Effect.ensuring(
        Effect.suspend(() => {
          if (probing) return Effect.fail(last)
          probing = probes = true
          return attemptOnce(clock, operation, command, agoMillis)
        }),
        Effect.sync(() => {
          if (probes) probing = false
        })
      )
    })

  const counted: Guard["counted"] = (policy, calls) =>
    Metric.update(Metric.withAttributes(policies, { service, policy }), calls)

  const applied: Guard["applied"] = (policy, failure, calls = 1) =>
    Effect.clockWith((clock) => {
      const count = counted(policy, calls)
      const at = monotonicMillis(clock)
      const wasTold = isTold(at)
      toldAt = at
      return wasTold ? count : Effect.andThen(
        count,
        Effect.logWarning(`${service}: the store is away, "${policy}" applies until it answers`, failure)
      )
    })

  const runOrApply: Guard["runOrApply"] = (policy, operation, command) =>
    Effect.catch(
      run(operation, command),
      (failure) => policy === "fail" ? Effect.fail(failure) : applied(policy, failure)
    )

  const isFree = () => isBounded && outage === undefined

  const answered: Guard["answered"] = (operation, agoMillis) => {
    outage = undefined
    watch?.commanded(operation, agoMillis, false)
  }

  return { once, run, runOrApply, isFree, answered, applied, counted }
}
