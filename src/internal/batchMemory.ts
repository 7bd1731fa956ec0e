/**
 * What a resolver remembers: which exits it keeps, and until when.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { ExitCache } from "./batchCache.js"
import { resultOf } from "./batchRun.js"
import type { Group, Item, Result } from "./batchState.js"

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
   * Says until when each exit of a batch that has ended is kept, and returns its exit. Apart from `keep`, because it calls
   * what may throw. Nothing is kept of what something else than `execute` made of its answer.
   */
  date(
    items: ReadonlyArray<Item<Req>>,
    exit: Exit.Exit<void, Request.Error<Req>>,
    answer: Exit.Exit<void, Request.Error<Req>> | undefined
  ): Exit.Exit<void, Request.Error<Req>> {
    if (answer === undefined || !isSame(exit, answer)) return exit
    const now = this.now
    for (const item of items) {
      const result = resultOf(item, exit)
      if (result !== undefined) item.expires = this.expires(result, item.request, now)
    }
    return exit
  }

  keep(group: Group<Req>, items: ReadonlyArray<Item<Req>>, exit: Exit.Exit<void, Request.Error<Req>>): void {
    for (const item of items) {
      const result = resultOf(item, exit)
      if (result !== undefined && item.expires > 0 && !item.stale) {
        this.set(group, item.key, item.hash, result, item.expires)
      }
    }
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
