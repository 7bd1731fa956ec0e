/**
 * What a scheduler needs of core's streams. To import `effect/Stream` costs half as much as to import all of `effect/Effect`,
 * which a program without streams should not pay. A test compares these with core's.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import { pipeArguments } from "effect/Pipeable"
import { hasProperty } from "effect/Predicate"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/** Chunks of values, of a stream. */
export type Chunks<A, E, R> = Pull.Pull<Arr.NonEmptyReadonlyArray<A>, E, void, R>

type Transform<A, E, R> = (upstream: Pull.Pull<unknown, unknown, unknown>, scope: Scope.Scope) => Effect.Effect<
  Chunks<A, E, R>,
  never,
  R
>

interface Pipe {
  pipe(): unknown
}

const pipe: Pipe = {
  pipe() {
    return pipeArguments(this, arguments)
  }
}

export const isStream = (u: unknown): u is Stream.Stream<unknown, unknown, unknown> => hasProperty(u, "~effect/Stream")

/** Starts a stream in a scope. */
export const pullIn = <A, E, R>(
  self: Stream.Stream<A, E, R>,
  scope: Scope.Scope
): Effect.Effect<Chunks<A, E, R>, never, R> =>
  // Sound: core's `Channel.toTransform` reads this property.
  (self.channel as unknown as { readonly transform: Transform<A, E, R> }).transform(Cause.done(), scope)

/** A stream whose chunks `start` begins to produce in the scope of the stream. */
export const fromPull = <A, E, R>(
  start: (scope: Scope.Scope) => Effect.Effect<Chunks<A, E, R>, never, R>
): Stream.Stream<A, E, R> => {
  const transform: Transform<A, E, R> = (_, scope) =>
    Effect.catchCause(start(scope), (cause) => Effect.succeed(Effect.failCause(cause)))
  const types = { _A: identity, _E: identity, _R: identity }
  const channelTypes = { _Env: identity, _InErr: identity, _InElem: identity, _OutErr: identity, _OutElem: identity }
  const channel = { ...pipe, "~effect/Channel": channelTypes, transform }
  // Sound: it has the properties that core's streams have.
  return { ...pipe, "~effect/Stream": types, channel } as unknown as Stream.Stream<A, E, R>
}

/** The stream that an effect gives. */
export const unwrap = <A, E, R, R2>(
  self: Effect.Effect<Stream.Stream<A, E, R>, never, R2>
): Stream.Stream<A, E, R | Exclude<R2, Scope.Scope>> =>
  fromPull((scope) => {
    let pull: Chunks<A, E, R> | undefined
    return Effect.succeed(Effect.suspend(() =>
      pull ?? Effect.flatMap(
        Effect.flatMap(Scope.provide(self, scope), (stream) => pullIn(stream, scope)),
        (started) => pull = started
      )
    ))
  })
