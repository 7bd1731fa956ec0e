/**
 * What a resolver remembers: which exits it keeps, and until when.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { ExitCache } from "./cache.js"
import { resultOf } from "./run.js"
import type { Run } from "./run.js"
import type { Item, Result } from "./state.js"
import { forEachInTurns } from "./turns.js"

export interface MemoryOptions<Req extends Request.Any> {
  readonly capacity: number
  readonly timeToLive: (exit: Result<Req>, request: Req) => Duration.Input
}

export class Memory<Req extends Request.Any> extends ExitCache<Request.Success<Req>, Request.Error<Req>> {
  private readonly timeToLive: MemoryOptions<Req>["timeToLive"]
  private readonly clock: Clock.Clock

  constructor(options: MemoryOptions<Req>, clock: Clock.Clock) {
    super(options.capacity)
    this.timeToLive = options.timeToLive
    this.clock = clock
  }

  get now(): number {
    return this.clock.currentTimeMillisUnsafe()
  }

  /**
   * Keeps what a batch that has ended came to, and returns its exit: another one where `timeToLive` throws, which is asked
   * about all before any is kept. Nothing is kept of what something else than `execute` made of its answer.
   */
  remember(
    run: Run<Req>,
    exit: Exit.Exit<void, Request.Error<Req>>
  ): Effect.Effect<Exit.Exit<void, Request.Error<Req>>> {
    const { answer, group, items } = run
    if (answer === undefined || !isSame(exit, answer)) return Effect.succeed(exit)
    const times = new Float64Array(items.length)
    const date = (now: number) => (item: Item<Req>, i: number): void => {
      const result = resultOf(item, exit)
      if (result !== undefined) times[i] = this.expires(result, item.request, now)
    }
    const keep = (item: Item<Req>, i: number): void => {
      const result = resultOf(item, exit)
      const expires = times[i]!
      if (result !== undefined && expires > 0 && !item.stale) this.set(group, item.key, item.hash, result, expires)
    }
    return Effect.matchCause(Effect.suspend(() => forEachInTurns(items, date(this.now))), {
      onFailure: Exit.failCause,
      onSuccess: () => exit
    }).pipe(Effect.tap((final) => final === exit ? Effect.suspend(() => forEachInTurns(items, keep)) : Effect.void))
  }

  expires(result: Result<Req>, request: Req, now: number): number {
    if (Exit.hasInterrupts(result)) return 0
    const millis = Duration.toMillis(Duration.fromInputUnsafe(this.timeToLive(result, request)))
    return millis > 0 ? now + millis : 0
  }
}

/** Whether nothing was added to an exit: what is added to a failure is one more reason. */
const isSame = (exit: Exit.Exit<void, unknown>, answer: Exit.Exit<void, unknown>): boolean =>
  Exit.isSuccess(exit)
    ? Exit.isSuccess(answer)
    : Exit.isFailure(answer) && exit.cause.reasons.length === answer.cause.reasons.length
