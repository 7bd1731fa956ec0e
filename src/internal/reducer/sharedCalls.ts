/**
 * From a request to the flight of its key: in this process first, then among processes.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Hash from "effect/Hash"
import type * as Persistable from "effect/persistence/Persistable"
import * as PrimaryKey from "effect/PrimaryKey"
import { type Codec, codecOf } from "./codec.js"
import type { ReducerError } from "./error.js"
import { type Coordination, flight, type Lease } from "./reduceShared.js"

const coordinations = /*#__PURE__*/ new WeakMap<object, Coordination>()

/** Lets the shared calls of a reducer's handle go through a store. */
export const attach = <A extends object>(handle: A, coordination: Coordination): A => {
  coordinations.set(handle, coordination)
  return handle
}

let lastFence = 0

/** Runs the effect without a store. Its result goes through the codec all the same, so that a wrong schema shows. */
const alone = <A, E, R, S>(codec: Codec<A, E, S>, f: (lease: Lease) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(
    Effect.exit(Effect.clockWith((clock) => {
      lastFence = Math.max(lastFence + 1, clock.currentTimeMillisUnsafe() * 1000)
      return f({ fence: lastFence })
    })),
    (exit) =>
      Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)
        ? exit
        : Effect.andThen(Effect.flatMap(codec.encode(exit), codec.decode), exit)
  )

/** The key of the local flight. Requests with other schemas are other flights, whatever their primary keys. */
class SharedKey implements Equal.Equal {
  readonly key: string
  readonly codec: number
  constructor(key: string, codec: number) {
    this.key = key
    this.codec = codec
  }
  [Equal.symbol](that: Equal.Equal): boolean {
    return that instanceof SharedKey && that.key === this.key && that.codec === this.codec
  }
  [Hash.symbol](): number {
    return Hash.combine(Hash.string(this.key), this.codec)
  }
  toString(): string {
    return this.key
  }
}

/** Text that no other request has: the class's tag, where there is one, and the primary key. */
export const keyOf = (request: Persistable.Any): string => {
  const tag = "_tag" in request && typeof request._tag === "string" ? request._tag : ""
  return JSON.stringify([tag, PrimaryKey.value(request)])
}

/** Runs an effect once for all equal requests that are under way, here and wherever the same store is used. */
export const reduceShared = <Req extends Persistable.Any, R>(
  handle: object,
  reduce: (key: object, effect: Effect.Effect<unknown>) => Effect.Effect<unknown>,
  request: Req,
  f: (lease: Lease) => Effect.Effect<Persistable.Success<Req>, Persistable.Error<Req>, R>
): Effect.Effect<
  Persistable.Success<Req>,
  Persistable.Error<Req> | ReducerError,
  R | Persistable.Services<Req>
> =>
  Effect.suspend(() => {
    const coordination = coordinations.get(handle)
    const codec = codecOf(request)
    const key = keyOf(request)
    const shared = coordination === undefined
      ? alone(codec, f)
      : flight(coordination, codec, key, f)
    // Sound: calls of an equal key have one codec and so one type of result, and a run has no other requirements than
    // those of its effect and its codec.
    return reduce(new SharedKey(key, codec.id), shared as Effect.Effect<unknown>) as typeof shared
  })
