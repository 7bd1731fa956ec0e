/**
 * The exits that a resolver keeps: bounded in number, the least recently used goes first, each with its own time to live.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Request from "effect/Request"
import { KeyMap } from "../data/keyMap.js"
import type { Batch, Cached, Group, Item, Result } from "./parts.js"
import { forEachInTurns } from "./turns.js"

export interface MemoryOptions<Req extends Request.Any> {
  readonly capacity: number
  readonly timeToLive: (exit: Result<Req>, request: Req) => Duration.Input
}

export class Memory<Req extends Request.Any> {
  private readonly options: MemoryOptions<Req>
  private readonly clock: Clock.Clock
  private size = 0
  /** Another after each time that all of it was cleared. */
  private era = {}
  private newest: Cached<Req> | undefined = undefined
  private oldest: Cached<Req> | undefined = undefined

  constructor(options: MemoryOptions<Req>, clock: Clock.Clock) {
    this.options = options
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
    batch: Batch<Req>,
    exit: Exit.Exit<void, Request.Error<Req>>
  ): Effect.Effect<Exit.Exit<void, Request.Error<Req>>> {
    const { answer, group, items } = batch
    if (answer === undefined || !isSame(exit, answer)) return Effect.succeed(exit)
    const times = new Float64Array(items.length)
    const date = (now: number) => (item: Item<Req>, i: number): void => {
      const result = item.resultOf(exit)
      if (result !== undefined) times[i] = this.expires(result, item.request, now)
    }
    const keep = (item: Item<Req>, i: number): void => {
      const result = item.resultOf(exit)
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
    const millis = Duration.toMillis(Duration.fromInputUnsafe(this.options.timeToLive(result, request)))
    return millis > 0 ? now + millis : 0
  }

  get(group: Group<Req>, key: unknown, hash: number, now: number): Result<Req> | undefined {
    const cached = group.cached.get(key, hash)
    if (cached === undefined || cached.era !== this.era) return undefined
    if (cached.expires <= now) {
      this.remove(cached)
      return undefined
    }
    if (cached !== this.newest) {
      this.unlink(cached)
      this.link(cached)
    }
    return cached.exit
  }

  set(group: Group<Req>, key: unknown, hash: number, exit: Result<Req>, expires: number): void {
    // First of all, so that the group is not empty for a moment.
    group.kept++
    this.delete(group, key, hash)
    const cached: Cached<Req> = {
      group,
      key,
      hash,
      exit,
      expires,
      era: this.era,
      chain: undefined,
      newer: undefined,
      older: undefined
    }
    group.cached.add(cached)
    this.link(cached)
    this.size++
    if (this.size > this.options.capacity) this.remove(this.oldest!)
  }

  delete(group: Group<Req>, key: unknown, hash: number): void {
    const cached = group.cached.get(key, hash)
    // What compares keys may have cleared it.
    if (cached !== undefined && cached.era === this.era) this.remove(cached)
  }

  /** Empties the cache and the groups that it has, however much they hold. */
  clear(groups: ReadonlyArray<Group<Req>>): void {
    this.era = {}
    this.size = 0
    this.newest = this.oldest = undefined
    for (const group of groups) {
      if (group.kept === 0) continue
      group.cached = new KeyMap()
      group.kept = 0
      group.checkRest()
    }
  }

  private remove(cached: Cached<Req>): void {
    cached.era = undefined
    cached.group.cached.remove(cached)
    this.unlink(cached)
    this.size--
    if (--cached.group.kept === 0) cached.group.checkRest()
  }

  private link(cached: Cached<Req>): void {
    cached.older = this.newest
    cached.newer = undefined
    if (this.newest === undefined) this.oldest = cached
    else this.newest.newer = cached
    this.newest = cached
  }

  private unlink(cached: Cached<Req>): void {
    if (cached.newer === undefined) this.newest = cached.older
    else cached.newer.older = cached.older
    if (cached.older === undefined) this.oldest = cached.newer
    else cached.older.newer = cached.newer
  }
}

/** Whether nothing was added to an exit: what is added to a failure is one more reason. */
const isSame = (exit: Exit.Exit<void, unknown>, answer: Exit.Exit<void, unknown>): boolean =>
  Exit.isSuccess(exit)
    ? Exit.isSuccess(answer)
    : Exit.isFailure(answer) && exit.cause.reasons.length === answer.cause.reasons.length
