/**
 * The source of a call's items: an iterable, or a stream that a fiber pulls once the call has room.
 */
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { pullIn } from "../../data/streams.js"

export const pending: unique symbol = /*#__PURE__*/ Symbol()
export const ended: unique symbol = /*#__PURE__*/ Symbol()

/** Hears of items that come after the call has asked. */
export interface Listener<in E> {
  /** There are items now, or there will be no more. */
  fill(): void
  failUnsafe(cause: Cause.Cause<E>): void
}

/** A call takes its items from here. */
export interface Source<out A, in E> {
  /** Called once, before anything else. */
  open(call: Listener<E>): void
  /** The next item; `ended` without one; `pending` if the listener will hear of it. An error that it throws is a defect. */
  next(): A | typeof pending | typeof ended
  /** Called by a call that stops. A source that has ended, or was closed, ignores it. */
  close(): void
  /** Whether its fiber still runs. */
  readonly active: boolean
}

export class IterableSource<A> implements Source<A, unknown> {
  private readonly iterable: Iterable<A>
  private iterator: Iterator<A> | undefined = undefined
  readonly active = false

  constructor(iterable: Iterable<A>) {
    this.iterable = iterable
  }

  open(): void {}

  next(): A | typeof ended {
    const iterator = this.iterator ?? this.iterable[Symbol.iterator]()
    // An iterator that throws is not closed, as in a for loop.
    this.iterator = undefined
    const result = iterator.next()
    // As a for loop does: an iterator that is not typed may give any value.
    if (result.done) return ended
    this.iterator = iterator
    return result.value
  }

  close(): void {
    const iterator = this.iterator
    this.iterator = undefined
    iterator?.return?.()
  }
}

export class StreamSource<A, E, R> implements Source<A, E> {
  private readonly stream: Stream.Stream<A, E, R>
  private readonly scope: Scope.Scope
  private readonly context: Context.Context<R>
  private call: Listener<E> | undefined = undefined
  private chunk: ReadonlyArray<A> = []
  private at = 0
  private wanted = false
  private wake: (() => void) | undefined = undefined
  private fiber: Fiber.Fiber<void, E | Cause.Done> | undefined = undefined
  private closed = false
  active = true

  constructor(stream: Stream.Stream<A, E, R>, scope: Scope.Scope, context: Context.Context<R>) {
    this.stream = stream
    this.scope = scope
    this.context = context
  }

  open(call: Listener<E>): void {
    this.call = call
    const pulls = Effect.flatMap(pullIn(this.stream, this.scope), (pull) => this.loop(pull))
    this.fiber = Effect.runForkWith(this.context)(pulls)
    // The code that starts the stream may have ended the call.
    if (this.closed) this.fiber.interruptUnsafe()
    this.fiber.addObserver((exit) => {
      this.active = false
      this.chunk = []
      this.at = 0
      const end = exit._tag === "Failure" ? Pull.doneExitFromCause(exit.cause) : exit
      if (end._tag === "Failure") call.failUnsafe(end.cause)
      call.fill()
    })
  }

  private loop(pull: Pull.Pull<Arr.NonEmptyReadonlyArray<A>, E, void, R>): Effect.Effect<void, E | Cause.Done, R> {
    const waiting = Effect.callback<void>((resume) => {
      if (this.wanted) return resume(Effect.void)
      this.wake = () => resume(Effect.void)
    })
    const afterWaiting = Effect.flatMap(waiting, () => pull)
    return Effect.whileLoop({
      while: () => true,
      body: () => afterWaiting,
      step: (chunk) => {
        this.chunk = chunk
        this.at = 0
        this.wanted = false
        this.call!.fill()
      }
    })
  }

  next(): A | typeof pending | typeof ended {
    if (this.at === this.chunk.length && this.active) {
      this.chunk = []
      this.at = 0
      this.wanted = true
      const wake = this.wake
      this.wake = undefined
      wake?.()
    }
    // The pull may have given its items, or ended, in this step.
    if (this.at < this.chunk.length) return this.chunk[this.at++]!
    return this.active ? pending : ended
  }

  close(): void {
    this.closed = true
    this.fiber?.interruptUnsafe()
  }
}
