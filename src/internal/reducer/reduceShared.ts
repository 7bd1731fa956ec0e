/**
 * A single flight across processes: the part of it that each process plays.
 *
 * It runs inside a local flight of its key, so that a process is one party whatever its callers. A party leads, follows,
 * or finds the result; it changes from one to the other until it has a result or an error of its own.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import * as Latch from "effect/Latch"
import type * as Persistable from "effect/persistence/Persistable"
import * as PrimaryKey from "effect/PrimaryKey"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { type Guard, monotonicMillis } from "../store/guard.js"
import type { ReducerStore, Signal } from "../store/reducerStore.js"
import type { StoreError } from "../store/storeError.js"
import { bounded, type Codec, codecOf, unencodable } from "./codec.js"
import { ReducerError } from "./error.js"
import type { Handle } from "./operations.js"

/** How often a party that waits for a signal looks for itself, in milliseconds. */
const pollMillis = 1000

/** Beyond the end of a lease, so that a party does not come a fraction too early to take over. */
const slackMillis = 2

/**
 * The right to run an effect for all processes, while it lasts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  /**
   * Larger in each later run of the key: send it with each write, and refuse the write there once a larger one was seen.
   * It is 0 where no store gave it, because the store was away and `onStoreError` is `"local"`.
   */
  readonly fence: number
}

/** What the parties of one Reducer share. */
export interface Coordination {
  readonly store: ReducerStore
  readonly guard: Guard
  readonly onStoreError: "local" | "fail"
  /** The most bytes of a result. */
  readonly maxResultBytes?: number | undefined
  /** The fences of runs that have ended here while the store is still to hear of it. A call that comes now wants a later run. */
  readonly ended: Map<string, number>
  /** The life of the reducer: once it is over, nothing is sent again. */
  readonly scope?: Scope.Scope | undefined
}

const coordinations = /*#__PURE__*/ new WeakMap<object, Coordination>()

/** Lets the shared calls of a reducer's handle go through a store. */
export const attach = <A extends object>(handle: A, coordination: Coordination): A => {
  coordinations.set(handle, coordination)
  return handle
}

type Shared<Req extends Persistable.Any, R> = Effect.Effect<
  Persistable.Success<Req>,
  Persistable.Error<Req> | ReducerError,
  R | Persistable.Services<Req>
>

/** Runs an effect once for all equal requests that are under way, here and wherever the same store is used. */
export const reduceShared = <Req extends Persistable.Any, R>(
  handle: Handle,
  request: Req,
  f: (lease: Lease) => Effect.Effect<Persistable.Success<Req>, Persistable.Error<Req>, R>
): Shared<Req, R> =>
  Effect.suspend(() => {
    const coordination = coordinations.get(handle)
    const codec = codecOf(request)
    const key = keyOf(request)
    const local = new SharedKey(key, codec)
    const shared: Shared<Req, R> = coordination === undefined
      ? alone(codec, f)
      : flight(coordination, codec, key, f, { seal: handle.forget(local), again: Effect.suspend(() => call) })
    // Sound: calls of an equal key have one codec and so one type of result, and a run has no other requirements than
    // those of its effect and its codec.
    const call = handle.reduce(local, shared as Effect.Effect<unknown>) as Shared<Req, R>
    return call
  })

/** The key of the local flight. Requests with other schemas are other flights, whatever their primary keys. */
class SharedKey implements Equal.Equal {
  readonly key: string
  readonly codec: object
  constructor(key: string, codec: object) {
    this.key = key
    this.codec = codec
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof SharedKey && that.key === this.key && that.codec === this.codec
  }
  [Hash.symbol](): number {
    return Hash.string(this.key)
  }
  toString(): string {
    return this.key
  }
}

/** Text that no other request has: its tag, if that is a string, and its primary key. */
const keyOf = (request: Persistable.Any): string => {
  const tag = "_tag" in request && typeof request._tag === "string" ? request._tag : ""
  return JSON.stringify([tag, PrimaryKey.value(request)])
}

let lastFence = 0

/** Runs the effect without a store. Its result passes through the codec all the same, so that a wrong schema shows. */
const alone = <A, E, R, S>(codec: Codec<A, E, S>, f: (lease: Lease) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(
    Effect.exit(Effect.clockWith((clock) => {
      lastFence = Math.max(lastFence + 1, clock.currentTimeMillisUnsafe() * 1000)
      return f({ fence: lastFence })
    })),
    (exit) =>
      Exit.hasInterrupts(exit)
        ? exit
        : Effect.andThen(Effect.flatMap(codec.encode(exit), codec.decode), exit)
  )

/**
 * Runs, or waits for, the flight of a key on behalf of this process. `seal` lets no more calls join it here, once its effect
 * has ended. If that run serves nobody, the flight is `again` a call of this process: others may have come since.
 */
export const flight = <A, E, R, S>(
  { ended, guard, maxResultBytes = Infinity, onStoreError, scope, store }: Coordination,
  codec: Codec<A, E, S>,
  key: string,
  f: (lease: Lease) => Effect.Effect<A, E, R>,
  here?: { readonly seal: Effect.Effect<void>; readonly again: Effect.Effect<A, E | ReducerError, R | S> }
): Effect.Effect<A, E | ReducerError, R | S> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      // Whether this party may be the leader in the store.
      let holds = false
      // Whether the store may know it as one that waits.
      let waits = false
      // The fence of its last run whose effect has ended.
      let led: number | undefined
      // The last result that a signal had. A signal to join again does not displace it.
      let done: Extract<Signal, { readonly _tag: "Done" }> | undefined
      const signalled = Latch.makeUnsafe(false)
      const party = store.open((signal) => {
        if (signal._tag === "Done") done = signal
        signalled.openUnsafe()
      })
      const released = Effect.suspend(() => store.release(key, party))
      // The caller waits for one attempt. Others must not wait for a lease because the connection was lost in that moment.
      const release = Effect.catch(
        guard.once("release", released),
        () => {
          const again = Effect.ignore(guard.run("release", released))
          return Effect.asVoid(scope === undefined ? Effect.forkDetach(again) : Effect.forkIn(again, scope))
        }
      )

      const withoutStore = (reason: StoreError): Effect.Effect<void, ReducerError> =>
        onStoreError === "fail" ? Effect.fail(new ReducerError({ reason })) : guard.applied(onStoreError, reason)

      const loop = Effect.gen(function*() {
        // The least fence of a result that will do.
        const former = ended.get(key)
        let after = former === undefined ? undefined : former + 1
        while (true) {
          let sentAt = 0
          holds = true
          const joined = yield* Effect.result(guard.run(
            "join",
            Effect.suspend(() => {
              sentAt = monotonicMillis(clock)
              return store.join(key, party, after)
            })
          ))
          if (Result.isFailure(joined)) {
            // The store may have made this party the leader all the same: others must not wait for it.
            yield* Effect.forkDetach(release)
            holds = waits = false
            yield* withoutStore(joined.failure)
            return yield* f({ fence: 0 })
          }
          const answer = joined.success
          switch (answer._tag) {
            case "Done": {
              holds = waits = false
              return yield* yield* codec.decode(answer.payload)
            }
            case "Lead": {
              waits = false
              // If the answer took longer than the lease, the lease is over.
              if (monotonicMillis(clock) >= sentAt + store.leaseMillis) break
              const exit = yield* lead(answer.fence, sentAt)
              if (exit !== undefined) return yield* exit
              if (led !== undefined && here !== undefined) {
                if (holds) yield* Effect.forkDetach(release)
                holds = false
                return yield* here.again
              }
              after = answer.fence
              break
            }
            case "Follow": {
              holds = false
              waits = true
              after = Math.max(after ?? 0, answer.fence)
              const payload = yield* follow(after, answer.restMillis)
              if (payload !== undefined) {
                waits = false
                return yield* yield* codec.decode(payload)
              }
            }
          }
        }
      })

      // Runs the effect while the lease lasts; returns nothing if the lease ended first.
      const lead = Effect.fnUntraced(function*(fence: number, sentAt: number) {
        const lease = { fence, deadline: sentAt + store.leaseMillis }
        const seal = Effect.suspend(() => {
          ended.set(key, fence)
          led = fence
          return here === undefined ? Effect.void : here.seal
        })
        const effect = Effect.onExit(
          Effect.suspend(() => f({ fence })),
          (exit) => Exit.hasInterrupts(exit) ? Effect.void : seal
        )
        const run = Effect.gen(function*() {
          const exit = yield* Effect.exit(effect)
          // A schema may take its time, too.
          const encoded = Exit.hasInterrupts(exit)
            ? undefined
            : yield* Effect.result(Effect.flatMap(codec.encode(exit), (text) => bounded(text, maxResultBytes)))
          return { exit, encoded }
        })
        const ran = yield* Effect.raceFirst(run, heartbeat(lease))
        // In a process that was frozen, the effect may end before the timer of the lease fires: too late all the same.
        if (ran === undefined || monotonicMillis(clock) >= lease.deadline) {
          // Keys may be secrets: none is told.
          yield* Effect.logDebug("effect-funnel: lost the lease of a shared run, joining again")
          return undefined
        }
        const { encoded, exit } = ran
        if (encoded === undefined) return exit
        const payload = Result.isSuccess(encoded) ? encoded.success : unencodable(encoded.failure)
        const completed = yield* Effect.result(guard.run("complete", store.complete(key, party, fence, payload)))
        if (Result.isFailure(completed)) {
          yield* withoutStore(completed.failure)
        } else {
          holds = false
          if (!completed.success) return undefined
        }
        return Result.isFailure(encoded) ? Exit.fail(encoded.failure) : exit
      })

      // Renews the lease, and ends when it is lost: another party has it, or the store did not answer in time.
      const heartbeat = Effect.fnUntraced(function*(lease: { readonly fence: number; deadline: number }) {
        // Of what is left: the answer may have taken most of the lease.
        const third = () => (lease.deadline - monotonicMillis(clock)) / 3
        let wait = third()
        while (true) {
          yield* Effect.sleep(Math.max(0, Math.min(wait, lease.deadline - monotonicMillis(clock))))
          const sentAt = monotonicMillis(clock)
          if (sentAt >= lease.deadline) return undefined
          const renewed = yield* guard.once("renew", store.renew(key, party, lease.fence)).pipe(
            Effect.timeout(lease.deadline - sentAt),
            Effect.result
          )
          if (Result.isFailure(renewed)) {
            wait = Math.min(store.leaseMillis / 10, 500)
          } else if (renewed.success) {
            lease.deadline = sentAt + store.leaseMillis
            wait = third()
          } else {
            holds = false
            return undefined
          }
        }
      })

      // Waits for a signal, or until it is time to join again; returns the result if the signal had it.
      const follow = (fence: number, restMillis: number) =>
        Effect.map(
          Effect.timeoutOption(
            signalled.await,
            Math.max(1, Math.min(pollMillis, Math.ceil(restMillis) + slackMillis))
          ),
          () => {
            const payload = done !== undefined && done.fence >= fence ? done.payload : undefined
            done = undefined
            signalled.closeUnsafe()
            return payload
          }
        )

      const leave = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
        if (led !== undefined && ended.get(key) === led) ended.delete(key)
        // An interrupted party may be about to end its process: it releases the key before it returns.
        if (holds) return Exit.hasInterrupts(exit) ? release : Effect.asVoid(Effect.forkDetach(release))
        if (!waits) return Effect.void
        // Or a result would be kept for it. The caller does not wait for that.
        return Effect.asVoid(
          Effect.forkDetach(Effect.ignore(guard.once("release", released)), { startImmediately: true })
        )
      }
      // The store may throw.
      return Effect.onExit(restore(loop), (exit) => Effect.ensuring(leave(exit), Effect.sync(() => party.close())))
    })
  )
