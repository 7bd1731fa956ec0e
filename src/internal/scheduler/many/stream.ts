/**
 * Results of many items as they come: the consumer's pace is the pace of the pulling.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { fromPull, isStream } from "../../data/streams.js"
import type { Engine } from "../engine.js"
import type { SchedulerError } from "../error.js"
import { itemOptions, type StreamOptions } from "../options.js"
import { Call, type Handlers } from "./call.js"
import { track } from "./progress.js"
import { IterableSource, StreamSource } from "./source.js"

/** Emits the results as they complete, or in the order of the items. */
export const stream = <A, B, E, R, SE, SR>(
  engine: Engine,
  items: Iterable<A> | Stream.Stream<A, SE, SR>,
  f: (item: A, index: number) => Effect.Effect<B, E, R>,
  options: StreamOptions<A, unknown> | undefined,
  name = "Scheduler.stream"
): Stream.Stream<B, E | SE | SchedulerError, R | SR> => {
  const optionsOf = itemOptions(name, options, engine.limiter)
  return fromPull((scope) =>
    Effect.contextWith((context: Context.Context<R | SR>) =>
      Effect.withFiber((parent) => {
        const results = new Results<B, E | SE | SchedulerError>(options?.order === "input")
        let tracker: ReturnType<typeof track>
        const call = new Call<A, B, E, R, void, E | SE | SchedulerError>({
          engine,
          parent,
          f,
          optionsOf,
          handlers: results,
          onFreed: () => results.wakeUp()
        })
        results.call = call
        const inner = Scope.makeUnsafe()
        const source = isStream(items)
          ? new StreamSource(items, inner, context)
          : new IterableSource(items)
        const start = Effect.sync(() => {
          tracker = track(parent, call, items, options)
          tracker?.startUnsafe()
          call.startUnsafe(source, (exit) => results.end(exit))
        })
        // The stream's own finalizers run when the last job has ended.
        const finalizer = Effect.andThen(call.stop, Effect.suspend(() => tracker?.finish ?? Effect.void))
        return Effect.as(
          Scope.addFinalizerExit(scope, (exit) => Effect.andThen(finalizer, Scope.close(inner, exit))),
          results.pull(start)
        )
      })
    )
  )
}

/** The results that the consumer of a stream has not taken. */
class Results<B, E> implements Handlers<B, E, void, E> {
  call: { held: number; fill(): void } | undefined = undefined
  private readonly ordered: boolean
  private ready: Array<B> = []
  /** Results that came before their turn, by index. */
  private readonly early = new Map<number, B>()
  private turn = 0
  private exit: Exit.Exit<void, E> | undefined = undefined
  private wake: (() => void) | undefined = undefined
  private started = false

  constructor(ordered: boolean) {
    this.ordered = ordered
  }

  onSuccess(value: B, index: number): undefined {
    this.call!.held++
    if (!this.ordered) {
      this.ready.push(value)
    } else if (index !== this.turn) {
      this.early.set(index, value)
    } else {
      this.ready.push(value)
      while (this.early.has(++this.turn)) {
        this.ready.push(this.early.get(this.turn)!)
        this.early.delete(this.turn)
      }
    }
    return undefined
  }

  onFailure(cause: Cause.Cause<E>): Exit.Exit<void, E> {
    return Exit.failCause(cause)
  }

  onEnd(): Exit.Exit<void, E> {
    return Exit.void
  }

  end(exit: Exit.Exit<void, E>): void {
    this.exit = exit
    this.wakeUp()
  }

  /** Called when the permit of a completed item is free again. */
  wakeUp(): void {
    if (this.wake === undefined || (this.ready.length === 0 && this.exit === undefined)) return
    const wake = this.wake
    this.wake = undefined
    wake()
  }

  /** Takes all results so far, in one chunk. */
  pull(start: Effect.Effect<void>): Pull.Pull<Arr.NonEmptyReadonlyArray<B>, E> {
    const take: Pull.Pull<Arr.NonEmptyReadonlyArray<B>, E> = Effect.suspend(() => {
      const chunk = this.ready
      if (Arr.isArrayNonEmpty(chunk)) {
        this.ready = []
        this.call!.held -= chunk.length
        this.call!.fill()
        return Effect.succeed(chunk)
      }
      if (this.exit === undefined) return waiting
      const end: Pull.Pull<never, E> = this.exit._tag === "Failure" ? Effect.failCause(this.exit.cause) : Cause.done()
      return end
    })
    const waiting = Effect.flatMap(
      Effect.callback<void>((resume) => {
        this.wake = () => resume(Effect.void)
        // The fiber may have yielded since it looked.
        this.wakeUp()
        return Effect.sync(() => {
          this.wake = undefined
        })
      }),
      () => take
    )
    return Effect.suspend(() => {
      if (this.started) return take
      this.started = true
      return Effect.andThen(start, take)
    })
  }
}
