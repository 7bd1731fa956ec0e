/**
 * A single flight across processes: the part of it that each process plays.
 *
 * It runs inside a local flight of its key, so that a process is one party whatever its callers. A party leads, follows,
 * or finds the result; it changes from one to the other until it has a result or an error of its own.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import { type Guard, monotonicMillis } from "../store/guard.js"
import type { Party, ReducerStore, Signal } from "../store/reducerStore.js"
import type { StoreError } from "../store/storeError.js"
import type { Codec } from "./codec.js"
import { unencodable } from "./codec.js"
import { ReducerError } from "./error.js"

/** How often one who waits for a wake-up looks for itself, in milliseconds. */
const pollMillis = 1000

/** Beyond the end of a lease, so that who comes to take over is not a fraction early. */
const slackMillis = 2

/**
 * The right to run an effect for all processes, while it lasts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  /**
   * Larger in each later run of the key: what the run writes elsewhere can be refused there once a larger one was seen.
   * It is 0 where no store gave it, because the store was away and `onStoreError` is `"local"`.
   */
  readonly fence: number
}

/** What the parties of one Reducer share. */
export interface Coordination {
  readonly store: ReducerStore
  readonly guard: Guard
  readonly onStoreError: "local" | "fail"
}

/** Runs, or waits for, the flight of a key on behalf of this process. */
export const flight = <A, E, R, S>(
  coordination: Coordination,
  codec: Codec<A, E, S>,
  key: string,
  f: (lease: Lease) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | ReducerError, R | S> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => new Flight(coordination, codec, key, f, fiber.getRef(Clock.Clock)).run(restore))
  )

class Flight<A, E, R, S> {
  readonly coordination: Coordination
  readonly codec: Codec<A, E, S>
  readonly key: string
  readonly f: (lease: Lease) => Effect.Effect<A, E, R>
  readonly clock: Clock.Clock
  readonly party: Party
  /** Whether the store may think that this party leads. */
  holds = false
  signal: Signal | undefined
  wake: (() => void) | undefined

  constructor(
    coordination: Coordination,
    codec: Codec<A, E, S>,
    key: string,
    f: (lease: Lease) => Effect.Effect<A, E, R>,
    clock: Clock.Clock
  ) {
    this.coordination = coordination
    this.codec = codec
    this.key = key
    this.f = f
    this.clock = clock
    this.party = coordination.store.open((signal) => {
      // A result is not displaced by the advice to ask for one.
      if (this.signal?._tag !== "Done" || signal._tag === "Done") this.signal = signal
      this.wake?.()
    })
  }

  run(restore: <X, Y, Z>(effect: Effect.Effect<X, Y, Z>) => Effect.Effect<X, Y, Z>) {
    return Effect.onExit(restore(this.loop()), (exit) => {
      this.party.close()
      if (!this.holds) return Effect.void
      // Who is interrupted may be about to end its process: the others are told first.
      return Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)
        ? this.release
        : Effect.asVoid(Effect.forkDetach(this.release))
    })
  }

  private readonly release: Effect.Effect<void> = Effect.suspend(() =>
    Effect.ignore(this.coordination.guard.once("release", this.coordination.store.release(this.key, this.party)))
  )

  private readonly loop = Effect.fnUntraced(function*(this: Flight<A, E, R, S>) {
    const { guard, store } = this.coordination
    let after: number | undefined
    while (true) {
      let sentAt = 0
      this.holds = true
      const joined = yield* Effect.result(guard.run(
        "join",
        Effect.suspend(() => {
          sentAt = monotonicMillis(this.clock)
          return store.join(this.key, this.party, after)
        })
      ))
      if (Result.isFailure(joined)) {
        // It may have been heard all the same, and nobody is to wait for a leader that does not know that it leads.
        yield* Effect.forkDetach(this.release)
        this.holds = false
        return yield* this.away(joined.failure)
      }
      const answer = joined.success
      switch (answer._tag) {
        case "Done": {
          this.holds = false
          return yield* yield* this.codec.decode(answer.payload)
        }
        case "Lead": {
          // An answer that took longer than the lease is no lease any more.
          if (monotonicMillis(this.clock) >= sentAt + store.leaseMillis) break
          const led = yield* this.lead(answer.fence, sentAt)
          if (led !== undefined) return yield* led
          after = answer.fence
          break
        }
        case "Follow": {
          this.holds = false
          after = answer.fence
          const payload = yield* this.follow(answer.fence, answer.restMillis)
          if (payload !== undefined) return yield* yield* this.codec.decode(payload)
        }
      }
    }
  })

  /** Runs the effect while the lease lasts; nothing when it did not last long enough. */
  private readonly lead = Effect.fnUntraced(function*(this: Flight<A, E, R, S>, fence: number, sentAt: number) {
    const { guard, onStoreError, store } = this.coordination
    const lease = { fence, deadline: sentAt + store.leaseMillis }
    const exit = yield* Effect.raceFirst(
      Effect.exit(Effect.suspend(() => this.f({ fence }))),
      this.heartbeat(lease)
    )
    // A process that was frozen may find its effect done before its timer: too late all the same.
    if (exit === undefined || monotonicMillis(this.clock) >= lease.deadline) {
      yield* Effect.logDebug(`effect-funnel: lost the lease of ${this.key}, joining again`)
      return undefined
    }
    if (Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)) return exit
    const encoded = yield* Effect.result(this.codec.encode(exit))
    const payload = Result.isSuccess(encoded) ? encoded.success : unencodable(encoded.failure)
    const completed = yield* Effect.result(
      guard.run("complete", store.complete(this.key, this.party, fence, payload))
    )
    if (Result.isFailure(completed)) {
      if (onStoreError === "fail") return Exit.fail(new ReducerError({ reason: completed.failure }))
      yield* guard.applied(onStoreError, completed.failure)
    } else {
      this.holds = false
      if (!completed.success) return undefined
    }
    if (Result.isFailure(encoded)) return Exit.fail(encoded.failure)
    return exit
  })

  /** Keeps the lease, and ends when it is lost: another has it, or the store was away for too long to know. */
  private readonly heartbeat = Effect.fnUntraced(
    function*(this: Flight<A, E, R, S>, lease: { readonly fence: number; deadline: number }) {
      const { guard, store } = this.coordination
      let wait = store.leaseMillis / 3
      while (true) {
        const now = monotonicMillis(this.clock)
        if (now >= lease.deadline) return undefined
        yield* Effect.sleep(Math.min(wait, lease.deadline - now))
        const sentAt = monotonicMillis(this.clock)
        if (sentAt >= lease.deadline) return undefined
        const renewed = yield* guard.once("renew", store.renew(this.key, this.party, lease.fence)).pipe(
          Effect.timeout(lease.deadline - sentAt),
          Effect.result
        )
        if (Result.isFailure(renewed)) {
          wait = Math.min(store.leaseMillis / 10, 500)
        } else if (renewed.success) {
          lease.deadline = sentAt + store.leaseMillis
          wait = store.leaseMillis / 3
        } else {
          this.holds = false
          return undefined
        }
      }
    }
  )

  /** Waits for a wake-up, or until it is time to look: the result if it came along. */
  private follow(fence: number, restMillis: number): Effect.Effect<string | undefined> {
    return Effect.map(
      Effect.timeoutOption(this.woken, Math.max(1, Math.min(pollMillis, Math.ceil(restMillis) + slackMillis))),
      () => {
        const signal = this.signal
        this.signal = undefined
        return signal?._tag === "Done" && signal.fence >= fence ? signal.payload : undefined
      }
    )
  }

  private readonly woken: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.signal !== undefined) return resume(Effect.void)
    this.wake = () => resume(Effect.void)
    return Effect.sync(() => {
      this.wake = undefined
    })
  })

  /** The store is away for longer than its budget allows. */
  private away(failure: StoreError): Effect.Effect<A, E | ReducerError, R> {
    const { guard, onStoreError } = this.coordination
    return onStoreError === "fail"
      ? Effect.fail(new ReducerError({ reason: failure }))
      : Effect.andThen(guard.applied(onStoreError, failure), Effect.suspend(() => this.f({ fence: 0 })))
  }
}
